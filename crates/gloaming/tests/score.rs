//! Scores for a source without a browser: the model's own, row by row, and why a row has none.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use gloaming::files::Brought;
use serde_json::{Value, json};

mod support;
use support::Folder;

fn manifest(model: &str) -> PathBuf {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../../models").join(model).join("manifest.json")
}

/// Reference rows of a shipped model, as objects with a name each.
fn rows(model: &str) -> (Brought, Vec<Value>) {
    let brought = Brought::load(&manifest(model)).unwrap();
    let described = brought.model.manifest();
    let row = |(at, inputs): (usize, &Vec<f32>)| {
        let values = described.input.features.iter().cloned().zip(inputs.iter().map(|number| json!(number)));
        let mut row: Value = values.collect::<serde_json::Map<_, _>>().into();
        row["device"] = format!("till-{at}").into();
        row
    };
    let rows = described.reference.inputs.iter().enumerate().map(row).collect();
    (brought, rows)
}

fn write(folder: &Folder, rows: &[Value]) {
    fs::write(folder.path("rows.ndjson"), rows.iter().map(|row| format!("{row}\n")).collect::<String>()).unwrap();
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_row_gets_the_models_score_whatever_form_it_comes_in() {
    let folder = Folder::new();
    let (brought, rows) = rows("purchase-intent");
    let described = brought.model.manifest();
    write(&folder, &rows);
    let path = manifest("purchase-intent");
    let score = ["model", "score", path.to_str().unwrap(), "--keep", "device", "--rows"];
    let objects = lines(&folder.says(&[&score[..], &["rows.ndjson"]].concat()));
    assert_eq!(objects.len(), 64);
    for (at, (line, inputs)) in objects.iter().zip(&described.reference.inputs).enumerate() {
        let own = brought.model.score(inputs).unwrap();
        assert_eq!((line["score"].as_f64().unwrap() as f32).to_bits(), own.to_bits(), "row {at}");
        assert_eq!((&line["device"], &line["line"]), (&json!(format!("till-{at}")), &json!(at + 1)));
        assert_eq!(line.as_object().unwrap().len(), 3, "and nothing else: {line}");
    }
    // The same as a table, whose header is a line of its own.
    let names: Vec<&str> = rows[0].as_object().unwrap().keys().map(String::as_str).collect();
    let cells = |row: &Value| {
        let cell = |name: &&str| row[*name].as_str().map_or_else(|| row[*name].to_string(), str::to_owned);
        names.iter().map(cell).collect::<Vec<_>>().join(",")
    };
    let table: Vec<String> = rows.iter().map(cells).collect();
    fs::write(folder.path("rows.csv"), format!("{}\n{}\n", names.join(","), table.join("\n"))).unwrap();
    folder.says(&[&score[..], &["rows.csv", "--out", "scores.ndjson"]].concat());
    for (one, other) in objects.iter().zip(lines(&fs::read_to_string(folder.path("scores.ndjson")).unwrap())) {
        assert_eq!((&one["score"], &one["device"]), (&other["score"], &other["device"]));
        assert_eq!(one["line"].as_u64().unwrap() + 1, other["line"].as_u64().unwrap());
    }
}

#[test]
fn reasons_and_kinds_are_told_where_there_are_some() {
    let folder = Folder::new();
    let (brought, all) = rows("purchase-intent");
    write(&folder, &all);
    let path = manifest("purchase-intent");
    let score = ["model", "score", path.to_str().unwrap(), "--rows", "rows.ndjson", "--reasons=de"];
    let told = lines(&folder.says(&score));
    for (line, inputs) in told.iter().zip(&brought.model.manifest().reference.inputs) {
        let explained = brought.model.explain(inputs).unwrap();
        let reasons = line["reasons"].as_array().unwrap();
        assert!(reasons.len() <= 3 && line["exact"] == explained.exact, "{line}");
        let texts = reasons.iter().map(|reason| reason["text"].as_str().unwrap());
        for text in texts {
            assert!(text.starts_with("wahrscheinlicher: ") || text.starts_with("unwahrscheinlicher: "), "{text}");
        }
    }
    assert!(told.iter().any(|line| !line["reasons"].as_array().unwrap().is_empty()));
    assert!(folder.refuses(&[&score[..5], &["--reasons=it"]].concat()).contains("use en, de, fr, es"));
    // A model that sorts visits names the kind, and has no reasons for one number among kinds.
    let (brought, all) = rows("visit-kind");
    write(&folder, &all);
    let path = manifest("visit-kind");
    let told = lines(&folder.says(&["model", "score", path.to_str().unwrap(), "--rows", "rows.ndjson", "--reasons"]));
    for (line, inputs) in told.iter().zip(&brought.model.manifest().reference.inputs) {
        let own = brought.model.score(inputs).unwrap();
        assert_eq!(line["kind"], brought.model.manifest().kind(own).unwrap());
        assert!(line.get("reasons").is_none());
    }
}

#[test]
fn a_row_without_a_score_says_why_and_the_others_have_theirs() {
    let folder = Folder::new();
    let (_, mut all) = rows("purchase-intent");
    all[3].as_object_mut().unwrap().remove("returning@1");
    all[5]["weekend@1"] = json!(null);
    all[6]["weekend@1"] = json!("yes");
    let mut text: String = all.iter().map(|row| format!("{row}\n")).collect();
    text += "{\"device\":\n";
    fs::write(folder.path("rows.ndjson"), text).unwrap();
    let path = manifest("purchase-intent");
    let score = ["model", "score", path.to_str().unwrap(), "--rows", "rows.ndjson", "--keep", "device"];
    let output = folder.run(&score);
    assert!(output.status.success());
    let told = lines(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(told.len(), 65, "a line for each row, in its place");
    assert_eq!(told[3], json!({ "device": "till-3", "line": 4, "error": "no `returning@1`" }));
    assert_eq!(told[6]["error"], "no number in `weekend@1`");
    assert!(told[4]["score"].is_number() && told[64]["error"].as_str().unwrap().starts_with("no object: EOF"));
    let words = String::from_utf8(output.stderr).unwrap();
    for expected in [
        ": 61 of 65 rows have a score",
        "1 rows with no `returning@1` (the first on line 4)",
        "2 rows with no number in `weekend@1` (the first on line 6)",
        "1 rows with no object: EOF while parsing a value (the first on line 65)",
    ] {
        assert!(words.contains(expected), "{expected:?} is not in {words}");
    }
    // Where no row has one, nothing was scored, and that is an error.
    write(&folder, &[json!({ "pages@1": 3 }), json!({ "pages@1": 4 })]);
    let words = folder.refuses(&score);
    assert!(
        words.contains("no row has a score, for\n  2 rows with no `pages-account@1` (the first on line 1)"),
        "{words}"
    );
    fs::write(folder.path("rows.ndjson"), "pages@1\n3\n").unwrap();
    assert!(folder.refuses(&score).contains("has no column `pages-account@1`; it has pages@1"));
    fs::write(folder.path("rows.ndjson"), "").unwrap();
    assert!(folder.refuses(&score).contains("has no column"));
    let words = folder.refuses(&[&score[..5], &["--keep", "score"]].concat());
    assert!(words.contains("that is what a line of scores has itself"), "{words}");
}
