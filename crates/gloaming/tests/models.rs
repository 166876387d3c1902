//! A model from its exporter's file to a policy: what is taken, and what is refused with its reason.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

mod support;
use support::Folder;

const FEATURES: [&str; 8] = [
    "pages-account@1",
    "time-account@1",
    "pages-info@1",
    "time-info@1",
    "pages-product@1",
    "time-product@1",
    "returning@1",
    "weekend@1",
];

/// An exported model in the folder, and what its trainer says of it.
fn exported(folder: &Folder, name: &str) -> Value {
    let fixtures = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../../tests/exporters/fixtures");
    fs::copy(fixtures.join(format!("{name}.onnx")), folder.path("exported.onnx")).unwrap();
    let rows: Value = serde_json::from_slice(&fs::read(fixtures.join(format!("{name}.json"))).unwrap()).unwrap();
    let edges: Vec<f64> = (1..20).map(|at| f64::from(at) / 20.0).collect();
    json!({
        "id": "intent",
        "version": 1,
        "input": { "features": FEATURES },
        "output": { "meaning": "probability of a purchase" },
        "score_edges": edges,
        "reference": { "inputs": rows["inputs"], "outputs": rows["outputs"] },
        "owner": "data@shop.example",
    })
}

/// A protobuf field of bytes, and one of a number below 128.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).ok().filter(|length| *length < 128);
    let length =
        length.map_or_else(|| vec![(bytes.len() % 128) as u8 | 128, (bytes.len() / 128) as u8], |short| vec![short]);
    [&[number << 3 | 2][..], &length, bytes].concat()
}

fn small(number: u8, value: u8) -> Vec<u8> {
    vec![number << 3, value]
}

/// `y = op(x)` or `y = op(x, more)` of one number, written by hand: no exporter writes what these do.
fn tiny(op: &str, more: Option<f32>) -> Vec<u8> {
    // A row of one single-precision number, of any count of rows: see ValueInfoProto and TypeProto in onnx.proto.
    let of = |name: &str| {
        let shape = [field(1, &field(2, b"N")), field(1, &small(1, 1))].concat();
        let tensor = [small(1, 1), field(2, &shape)].concat();
        [field(1, name.as_bytes()), field(2, &field(1, &tensor))].concat()
    };
    let inputs = ["x", "more"].map(|name| field(1, name.as_bytes()));
    let inputs = inputs[..1 + usize::from(more.is_some())].concat();
    let node = [inputs, field(2, b"y"), field(3, b"node"), field(4, op.as_bytes())].concat();
    let constant = more.map(|number| {
        let tensor = [small(1, 1), small(2, 1), field(8, b"more"), field(9, &number.to_le_bytes())].concat();
        field(5, &tensor)
    });
    let graph =
        [field(1, &node), field(2, b"tiny"), constant.unwrap_or_default(), field(11, &of("x")), field(12, &of("y"))]
            .concat();
    [small(1, 8), field(8, &small(2, 17)), field(7, &graph)].concat()
}

fn arguments<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["model", "add", "exported.onnx", "--says", "says.json", "--out", "intent"], more].concat()
}

fn says(folder: &Folder, said: &Value) -> String {
    fs::write(folder.path("says.json"), said.to_string()).unwrap();
    folder.says(&arguments(&[]))
}

fn refuses(folder: &Folder, said: &Value) -> String {
    fs::write(folder.path("says.json"), said.to_string()).unwrap();
    folder.refuses(&arguments(&[]))
}

#[test]
fn an_exported_model_is_rewritten_proven_and_named_in_a_policy() {
    let folder = Folder::new();
    let said = exported(&folder, "gradient-boosting");
    let printed = says(&folder, &said);
    assert!(printed.contains("score: column 1 of `output_probability`"), "{printed}");
    assert!(printed.contains("rewritten: TreeEnsembleClassifier, ZipMap"), "{printed}");
    assert!(printed.contains("16 reference rows agree"), "{printed}");
    assert!(folder.says(&["model", "check", "intent/manifest.json"]).contains("intent version 1"));
    let manifest: Value = serde_json::from_slice(&fs::read(folder.path("intent/manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["owner"], "data@shop.example", "what it does not know it keeps");

    // The next version takes its place, and an older one does not.
    let refused = refuses(&folder, &said);
    assert!(refused.contains("holds version 1 already"), "{refused}");
    let next = json!({ "version": 2 });
    let mut second = said.clone();
    second.as_object_mut().unwrap().extend(next.as_object().unwrap().clone());
    assert!(says(&folder, &second).contains("intent version 2"));
    let mut other = said;
    other["id"] = json!("churn");
    assert!(refuses(&folder, &other).contains("holds the model intent"));

    // A policy names it as any other.
    folder.says(&["policy", "new", "--template", "blog", "--site", "blog.example"]);
    let model = "\n[[model]]\nid = \"intent\"\nmanifest = \"intent/manifest.json\"\nstate = \"shadow\"\npurpose = \"measurement\"\n";
    let policy = fs::read_to_string(folder.path("policy.toml")).unwrap();
    fs::write(folder.path("policy.toml"), format!("{policy}{model}")).unwrap();
    let checked = folder.says(&["policy", "check", "policy.toml"]);
    assert!(checked.contains("1 models"), "{checked}");
    // One byte of it is another.
    let mut onnx = fs::read(folder.path("intent/model.onnx")).unwrap();
    let last = onnx.len() / 2;
    onnx[last] ^= 1;
    fs::write(folder.path("intent/model.onnx"), onnx).unwrap();
    assert!(folder.refuses(&["policy", "check", "policy.toml"]).contains("one of them was changed"));
}

/// A score that is no number is no score, and neither is one without an end: whatever the trainer's row says, it differs.
#[test]
fn a_model_that_gives_no_number_on_a_reference_row_is_refused() {
    let folder = Folder::new();
    let mut said = exported(&folder, "perceptron");
    said["input"]["features"] = json!(["pages@1"]);
    for (op, more, row, good, words) in [
        ("Log", None, -1.0, [0.0, 2_f64.ln()], "reference row 5 gives NaN, the trainer had 0.5"),
        ("Div", Some(0.0), 3.0, [0.0, 0.0], "reference row 0 gives inf, the trainer had 0"),
        // It is the row that is refused, and not the op.
        ("Log", None, 2.0, [0.0, 2_f64.ln()], "reference row 5 gives 0.6931472, the trainer had 0.5"),
    ] {
        fs::write(folder.path("exported.onnx"), tiny(op, more)).unwrap();
        let mut inputs = [1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0].map(|number| vec![number]);
        inputs[5] = vec![row];
        let mut outputs: Vec<f64> = (0..8).map(|at| good[at % 2]).collect();
        outputs[5] = 0.5;
        said["reference"] = json!({ "inputs": inputs, "outputs": outputs });
        let refused = refuses(&folder, &said);
        assert!(refused.contains(words), "{op} of {row}: {refused}");
        assert!(refused.contains("the model does not compute here what it was trained to"), "{refused}");
        assert!(!folder.path("intent").exists(), "nothing of it was written");
    }
    // Where every row is one that it can compute, it is taken.
    fs::write(folder.path("exported.onnx"), tiny("Log", None)).unwrap();
    let inputs: Vec<[f64; 1]> = (1..9).map(|number| [f64::from(number)]).collect();
    let outputs: Vec<f64> = (1..9).map(|number| f64::from(number).ln()).collect();
    said["reference"] = json!({ "inputs": inputs, "outputs": outputs });
    assert!(says(&folder, &said).contains("8 reference rows agree"));
}

#[test]
fn what_must_not_be_brought_is_refused_with_the_reason() {
    let folder = Folder::new();
    let said = exported(&folder, "perceptron");
    let with = |change: &dyn Fn(&mut Value)| {
        let mut said = said.clone();
        change(&mut said);
        said
    };
    let cases: [(&str, Value, &str); 7] = [
        // Computed from purchases that come later; no device can.
        ("a feature of a server", with(&|s| s["input"]["features"][3] = json!("page-values@1")), "only a server knows"),
        ("another version", with(&|s| s["input"]["features"][0] = json!("pages-account@9")), "pages-account@1 here"),
        ("a feature too few", with(&|s| s["input"]["features"] = json!(FEATURES[1..])), "input.shape"),
        ("another answer", with(&|s| s["reference"]["outputs"][5] = json!(0.5)), "reference row 5"),
        ("no answer", with(&|s| s["reference"]["outputs"][5] = json!(null)), "invalid type: null"),
        ("rows without answers", with(&|s| s["reference"]["outputs"] = json!([])), "an output for each"),
        ("no id", with(&|s| drop(s.as_object_mut().unwrap().remove("id"))), "missing field `id`"),
    ];
    for (name, said, words) in cases {
        let refused = refuses(&folder, &said);
        assert!(refused.contains(words), "{name}: {refused}");
    }
    for (model, words) in [
        ("support-vectors", "SVMClassifier"),
        ("neighbours", "carry the training data"),
        ("three-classes-forest", "say which one is the score with --column"),
        ("standard-kmeans", "say which one is the score with --column"),
    ] {
        let said = exported(&folder, model);
        let refused = refuses(&folder, &said);
        assert!(refused.contains(words), "{model}: {refused}");
    }
    fs::write(folder.path("exported.onnx"), "no model").unwrap();
    assert!(refuses(&folder, &said).contains("is not ONNX"));
    assert!(!folder.path("intent").exists(), "nothing of it was written");
    exported(&folder, "three-classes-forest");
    fs::write(folder.path("says.json"), exported(&folder, "three-classes-forest").to_string()).unwrap();
    assert!(folder.says(&arguments(&["--column", "2"])).contains("column 2"));
}
