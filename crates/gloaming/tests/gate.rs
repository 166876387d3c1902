//! The gate at the command line: one model from nothing to a signed policy that lets it act, with everything that is
//! missing said on the way; then the record is checked by somebody else.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gloaming_http::Client;
use gloaming_policy::author::Signed;
use gloaming_signal::hash;
use serde_json::Value;

mod support;
use support::{Folder, Site, until_ready};

const MODEL: &str = "models/purchase-intent";

/// A shop's policy with keys for its roles, and the shipped model beside it.
fn shop() -> Folder {
    let folder = Folder::new();
    let shipped = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../../models/purchase-intent");
    fs::create_dir_all(folder.path(MODEL)).unwrap();
    fs::copy(shipped.join("model.onnx"), folder.path(&format!("{MODEL}/model.onnx"))).unwrap();
    // Reviewed later than any day this test may run on.
    let mut manifest: Value = serde_json::from_slice(&fs::read(shipped.join("manifest.json")).unwrap()).unwrap();
    manifest["next_review"] = "2099-01-01".into();
    let manifest = serde_json::to_string_pretty(&manifest).unwrap();
    fs::write(folder.path(&format!("{MODEL}/manifest.json")), manifest).unwrap();
    folder.says(&["policy", "new", "--template", "shop", "--site", "shop.example"]);
    let mut roles = Vec::new();
    for name in ["owner", "data", "compliance"] {
        let said = folder.says(&["policy", "key", "--out", &format!("{name}.key")]);
        let key = said.lines().find_map(|line| line.strip_prefix("public key ")).unwrap().to_owned();
        fs::write(folder.path(&format!("{name}.pub")), &key).unwrap();
        if name != "owner" {
            roles.push(format!("{name} = [\"{key}\"]"));
        }
    }
    let gate = format!(
        r#"
[gate]
max_age_days = 180
model_bytes = 100000
roles = {{ {} }}
[gate.experiment]
evidence = ["held-out", "calibration", "fairness", "parity"]
approved_by = ["data", "compliance"]
auc = 0.6
calibration_error = 0.5
group_gap = 0.2
[gate.live]
evidence = ["held-out", "calibration", "fairness", "parity", "experiment"]
approved_by = ["data", "compliance"]
auc = 0.6
calibration_error = 0.5
group_gap = 0.2
lift = 0.0
"#,
        roles.join(", ")
    );
    let policy = fs::read_to_string(folder.path("policy.toml")).unwrap();
    fs::write(folder.path("policy.toml"), policy + &gate).unwrap();
    folder
}

/// Rows on which the model is as good as `luck` says: its own scores, turned into outcomes by a stream of numbers.
fn rows(folder: &Folder, name: &str, luck: f64) {
    let manifest: Value =
        serde_json::from_slice(&fs::read(folder.path(&format!("{MODEL}/manifest.json"))).unwrap()).unwrap();
    let features: Vec<&str> =
        manifest["input"]["features"].as_array().unwrap().iter().map(|f| f.as_str().unwrap()).collect();
    let mut csv = format!("{},purchase,region\n", features.join(","));
    let mut state = 7_u64;
    let mut draw = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    let (inputs, scores) = (&manifest["reference"]["inputs"], &manifest["reference"]["outputs"]);
    for at in 0..1_200 {
        let row = at % inputs.as_array().unwrap().len();
        // The model's scores lie between 0.14 and 0.24; one that is right puts the outcomes where they are high.
        let chance = (scores[row].as_f64().unwrap() - 0.19) * 25.0 * luck + 0.2;
        let outcome = u8::from(draw() < chance);
        let numbers: Vec<String> = inputs[row].as_array().unwrap().iter().map(ToString::to_string).collect();
        csv += &format!("{},{outcome},{}\n", numbers.join(","), if draw() < 0.5 { "north" } else { "south" });
    }
    fs::write(folder.path(name), csv).unwrap();
}

fn evaluate(folder: &Folder, csv: &str, split: &str) -> String {
    let manifest = format!("{MODEL}/manifest.json");
    let how = ["--split", split, "--trained", "spring", "--tested", "autumn", "--group", "region"];
    folder.says(&[&["model", "evaluate", &manifest, "--rows", csv, "--outcome", "purchase"], &how[..]].concat())
}

const PROMOTE: [&str; 3] = ["model", "promote", "purchase-intent"];

#[test]
fn a_model_is_evaluated_approved_promoted_signed_for_and_withdrawn() {
    let folder = shop();
    let go = |to: &'static str| [&PROMOTE[..], &["--to", to, "--key", "owner.key"]].concat();
    let add = |files: &[&str]| {
        folder.says(&[&["model", "evidence", "--key", "owner.key", "--signer", "data.key"], files].concat())
    };
    // Asked with nothing in hand: the record begins, and says what is missing.
    let words = folder.refuses(&go("shadow"));
    assert!(words.contains("purchase-intent stays draft: 1 of 2 conditions are not met"), "{words}");
    rows(&folder, "autumn.csv", 1.0);
    let said = evaluate(&folder, "autumn.csv", "time");
    assert!(said.contains("AUC") && said.contains("selection gap by region"), "{said}");
    add(&["evidence/parity.json"]);
    let said = folder.says(&go("shadow"));
    assert!(said.contains("purchase-intent is shadow in"), "{said}");
    // A policy that says more than the record does not compile.
    let policy = fs::read_to_string(folder.path("policy.toml")).unwrap();
    let acting = policy.replace("state = \"shadow\"", "state = \"experiment\"").replace("version = 1 ", "version = 2 ");
    fs::write(folder.path("policy.toml"), &acting).unwrap();
    let words = folder.refuses(&["policy", "sign", "policy.toml", "--key", "owner.key"]);
    assert!(words.contains("purchase-intent is shadow in the record, not experiment"), "{words}");
    // Evidence by lot, then evidence that is honest.
    evaluate(&folder, "autumn.csv", "random");
    add(&["evidence/held-out.json", "evidence/calibration.json", "evidence/fairness.json"]);
    let words = folder.refuses(&go("experiment"));
    assert!(words.contains("stays shadow"), "{words}");
    evaluate(&folder, "autumn.csv", "time");
    add(&["evidence/held-out.json", "evidence/calibration.json", "evidence/fairness.json", "evidence/parity.json"]);
    for role in ["data", "compliance"] {
        let (key, out) = (format!("{role}.key"), format!("{role}.json"));
        let yes = ["model", "approve", "purchase-intent", "--to", "experiment", "--role", role];
        folder.says(&[&yes[..], &["--signer", &key, "--out", &out]].concat());
        folder.says(&["model", "evidence", &out, "--key", "owner.key"]);
    }
    folder.says(&go("experiment"));
    folder.says(&["policy", "sign", "policy.toml", "--key", "owner.key"]);
    // Somebody else checks, with nothing but the site's key.
    let key = fs::read_to_string(folder.path("owner.pub")).unwrap();
    let said = folder.says(&["verify", "policy.signed", "--key", &key]);
    assert!(said.contains("shop.example version 2: signed, and every model may do what it does"), "{said}");
    assert!(said.contains("purchase-intent: compliance approves experiment"), "{said}");
    let said = folder.says(&["verify", "gate.ndjson", "--key", &key]);
    let head = said.split("head ").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    // A second version is known as a draft: what is withdrawn is what acts.
    let manifest = fs::read_to_string(folder.path(&format!("{MODEL}/manifest.json"))).unwrap();
    fs::write(folder.path(&format!("{MODEL}/manifest.json")), manifest.replace("\"version\": 2", "\"version\": 3"))
        .unwrap();
    folder.refuses(&go("shadow"));
    fs::write(folder.path(&format!("{MODEL}/manifest.json")), manifest).unwrap();
    // Down is free; up again is not, and live has not been earned.
    let down = ["model", "withdraw", "purchase-intent", "--to", "quarantined", "--key", "owner.key"];
    folder.says(&[&down[..], &["--because", "it sends everybody to the checkout"]].concat());
    let words = folder.refuses(&["policy", "sign", "policy.toml", "--key", "owner.key", "--out", "next.signed"]);
    assert!(words.contains("quarantined in the record"), "{words}");
    let words = folder.refuses(&go("live"));
    assert!(words.contains("cannot become live; from there it goes to shadow, retired"), "{words}");
    folder.says(&["verify", "gate.ndjson", "--head", &head]);
    // A record that forgets the quarantine signs nothing where the one before was signed.
    let whole = fs::read(folder.path("gate.ndjson")).unwrap();
    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    folder.edit("policy.toml", "state = \"experiment\"", "state = \"quarantined\"");
    folder.edit("policy.toml", "version = 2 ", "version = 3 ");
    folder.says(&["policy", "sign", "policy.toml", "--key", "owner.key"]);
    fs::write(folder.path("gate.ndjson"), lines[..lines.len() - 1].concat()).unwrap();
    folder.edit("policy.toml", "state = \"quarantined\"", "state = \"experiment\"");
    folder.edit("policy.toml", "version = 3 ", "version = 4 ");
    let words = folder.refuses(&["policy", "sign", "policy.toml", "--key", "owner.key"]);
    assert!(words.contains("edges refuse a record that forgets"), "{words}");
    fs::write(folder.path("gate.ndjson"), &whole).unwrap();
    // The site's next key takes over, and signs policies and entries.
    folder.says(&["policy", "key", "--out", "next.key"]);
    folder.says(&["model", "rotate", "--key", "owner.key", "--next", "next.key"]);
    folder.edit("policy.toml", "state = \"experiment\"", "state = \"quarantined\"");
    folder.says(&["policy", "sign", "policy.toml", "--key", "owner.key", "--key", "next.key"]);
    folder.says(&["policy", "sign", "policy.toml", "--key", "next.key", "--out", "next.signed"]);
    // One byte of the past, and the record is none.
    let mut bytes = fs::read(folder.path("gate.ndjson")).unwrap();
    let at = bytes.len() / 2;
    bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
    fs::write(folder.path("gate.ndjson"), bytes).unwrap();
    let words = folder.refuses(&["verify", "gate.ndjson"]);
    assert!(words.contains("of the record: "), "{words}");
}

#[test]
fn a_models_folder_is_signed_and_its_card_says_what_its_evidence_says() {
    let folder = shop();
    rows(&folder, "autumn.csv", 1.0);
    let manifest = format!("{MODEL}/manifest.json");
    let how = ["--split", "time", "--trained", "spring", "--tested", "autumn | 2026 <b>", "--group", "region"];
    let out = format!("{MODEL}/evidence");
    let rows = ["model", "evaluate", &manifest, "--rows", "autumn.csv", "--outcome", "purchase", "--out", &out];
    folder.says(&[&rows[..], &how].concat());
    for (name, words) in [
        (
            "card.md",
            vec![
                "# Model card: purchase-intent, version 2",
                "autumn \\| 2026 <b>",
                "selection gap by region",
                "| page | sessions | bought | AUC |",
            ],
        ),
        (
            "card.html",
            vec![
                "<h1>Model card: purchase-intent, version 2</h1>",
                "autumn | 2026 &lt;b&gt;",
                "area under the ROC curve",
                "<th scope=\"col\">page</th>",
            ],
        ),
    ] {
        folder.says(&["model", "card", &manifest, "--out", name]);
        let card = fs::read_to_string(folder.path(name)).unwrap();
        for words in words {
            assert!(card.contains(words), "{words} in {card}");
        }
        assert!(card.contains("Not for: Prices, credit, eligibility"), "{card}");
    }
    let bare = folder.path("bare");
    fs::create_dir(&bare).unwrap();
    fs::copy(folder.path(&format!("{MODEL}/model.onnx")), bare.join("model.onnx")).unwrap();
    let text = fs::read_to_string(folder.path(&manifest)).unwrap().replace("\"not_for\"", "\"notes\"");
    fs::write(bare.join("manifest.json"), text).unwrap();
    folder.says(&["model", "card", "bare/manifest.json", "--out", "bare.md"]);
    let card = fs::read_to_string(folder.path("bare.md")).unwrap();
    assert!(card.contains("Not for: not said"), "what nobody said is said to be missing");
    assert!(folder.refuses(&["model", "card", &manifest, "--out", "card.pdf"]).contains(".md or as .html"));
    let said = folder.says(&["model", "sign", MODEL, "--key", "data.key"]);
    assert!(said.contains("signed 6 files of purchase-intent"), "{said}");
    let key = |name: &str| fs::read_to_string(folder.path(&format!("{name}.pub"))).unwrap();
    let (data, owner) = (key("data"), key("owner"));
    let check = |key| ["model", "check", &manifest, "--key", key];
    assert!(folder.says(&check(&data)).contains("6 files are as they were signed"));
    assert!(folder.refuses(&check(&owner)).contains("not signed by the key"));
    fs::write(folder.path(&format!("{MODEL}/evidence/ethics.json")), "{}").unwrap();
    assert!(folder.refuses(&check(&data)).contains("evidence/ethics.json was added after signing"));
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// The way of a shipped folder to a site: no key is shipped, so whoever answers for it signs it whole; whoever is handed it checks it
/// before a policy names it. From there on the policy's hashes hold manifest and file, at edges and in browsers.
#[test]
fn a_shipped_folder_is_signed_checked_and_named_by_a_policy() {
    let folder = shop();
    let shipped = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../../models");
    let data = fs::read_to_string(folder.path("data.pub")).unwrap();
    let mut names: Vec<String> =
        fs::read_dir(&shipped).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| shipped.join(name).join("manifest.json").is_file());
    assert!(names.len() >= 7, "{names:?}");
    for name in &names {
        let (own, manifest) = (format!("models/{name}"), format!("models/{name}/manifest.json"));
        copy(&shipped.join(name), &folder.path(&own));
        let check = ["model", "check", &manifest, "--key", &data];
        assert!(folder.refuses(&check).contains("model.sig"), "nobody has signed {name} yet");
        folder.says(&["model", "sign", &own, "--key", "data.key"]);
        assert!(folder.says(&check).contains("files are as they were signed"), "{name}");
    }

    // The policy names manifest and file by the hashes that were signed.
    let policy = fs::read_to_string(folder.path("policy.toml")).unwrap();
    fs::write(folder.path("policy.toml"), policy.split("\n[gate]").next().unwrap()).unwrap();
    folder.says(&["policy", "sign", "policy.toml", "--key", "owner.key", "--out", "policy.signed"]);
    let (_, policy) = Signed::verified_before(&fs::read(folder.path("policy.signed")).unwrap()).unwrap();
    let bundle: Value = serde_json::from_slice(&fs::read(folder.path(&format!("{MODEL}/model.sig"))).unwrap()).unwrap();
    let payload = STANDARD.decode(bundle["dsseEnvelope"]["payload"].as_str().unwrap()).unwrap();
    let statement: Value = serde_json::from_slice(&payload).unwrap();
    let listed = |file: &str| {
        let all = statement["predicate"]["resources"].as_array().unwrap();
        all.iter().find(|one| one["name"] == file).unwrap()["digest"].as_str().unwrap().to_owned()
    };
    let model = &policy.models[0];
    let named = [hash::hex(&model.manifest_sha256), hash::hex(&model.onnx_sha256)];
    assert_eq!(named, ["manifest.json", "model.onnx"].map(listed));

    // A byte of the card, which no policy names: the bundle is what holds it.
    let card = folder.path(&format!("{MODEL}/card.md"));
    let mut bytes = fs::read(&card).unwrap();
    bytes[0] ^= 1;
    fs::write(card, bytes).unwrap();
    let manifest = format!("{MODEL}/manifest.json");
    let words = folder.refuses(&["model", "check", &manifest, "--key", &data]);
    assert!(words.contains("card.md was changed after signing"), "{words}");
}

#[test]
fn rows_that_cannot_be_evaluated_are_counted_by_reason() {
    let folder = shop();
    rows(&folder, "rows.csv", 1.0);
    let csv = fs::read_to_string(folder.path("rows.csv")).unwrap();
    let manifest = format!("{MODEL}/manifest.json");
    let refuses = |text: String, outcome: &str| {
        fs::write(folder.path("bad.csv"), text).unwrap();
        let how = ["--split", "time", "--trained", "a", "--tested", "b", "--group", "region"];
        folder
            .refuses(&[&["model", "evaluate", &manifest, "--rows", "bad.csv", "--outcome", outcome], &how[..]].concat())
    };
    let words = refuses(csv.clone(), "bought");
    assert!(words.contains("bad.csv has no column `bought`; it has pages-account@1,"), "{words}");
    let words = refuses(csv.replacen("\n0.0,", "\nmany,", 3).replacen(",north\n", ",\n", 2), "purchase");
    assert!(words.contains("3 rows with no number in `pages-account@1` (the first on line 2)"), "{words}");
    assert!(words.contains("2 rows with nothing in `region`"), "{words}");
    let words = refuses(csv.lines().take(50).collect::<Vec<_>>().join("\n"), "purchase");
    assert!(words.contains("49 rows; evaluate 100 to 200000"), "{words}");
    let how = ["--split", "time", "--trained", "a", "--tested", "b", "--no-group", "none"];
    let evaluate = ["model", "evaluate", &manifest, "--rows", "rows.csv", "--outcome", "purchase"];
    let words = folder.refuses(&[&evaluate, &how[..]].concat());
    assert!(words.contains("why no groups can be compared"), "{words}");
    let words = refuses(csv.replacen(",north\n", ",west\n", 5), "purchase");
    assert!(words.contains("the group `west` has 5 rows, fewer than 30"), "{words}");
}

/// What holds at one point of visits says so, for it is no measure of any other.
#[test]
fn what_was_judged_at_one_point_of_visits_says_so() {
    let folder = shop();
    rows(&folder, "rows.csv", 1.0);
    let manifest = format!("{MODEL}/manifest.json");
    let curve = |more: &[&str]| {
        let how =
            ["--split", "time", "--trained", "a", "--tested", "b", "--no-group", "visitors say nothing of themselves"];
        let evaluate = ["model", "evaluate", &manifest, "--rows", "rows.csv", "--outcome", "purchase"];
        let said = folder.says(&[&evaluate, &how[..], more].concat());
        let held = fs::read(folder.path("evidence/held-out.json")).unwrap();
        let held: Value = serde_json::from_slice(&held).unwrap();
        (said, held["predicate"]["curve"].as_array().cloned().unwrap_or_default(), held["predicate"]["auc"].clone())
    };
    let (said, none, _) = curve(&[]);
    assert!(none.is_empty() && !said.contains("as a visit goes on"), "{said}");
    let (said, own, auc) = curve(&["--only", "region=north"]);
    assert!(own.len() == 1 && own[0]["at"] == "region north" && own[0]["auc"] == auc, "{own:?}");
    assert!(!said.contains("as a visit goes on"), "{said}");
    let (said, both, again) = curve(&["--only", "region=north", "--curve"]);
    assert_eq!((both.len(), &both[0], &again), (2, &own[0], &auc), "{both:?}");
    assert!(both[1]["at"] == "region south" && said.contains("AUC, as a visit goes on"), "{said}");
    let rows = |point: &Value| point["rows"].as_u64().unwrap();
    assert_eq!(rows(&both[0]) + rows(&both[1]), 1_200);
    // More points than a statement holds are told before anything is written.
    let csv = fs::read_to_string(folder.path("rows.csv")).unwrap();
    let (head, lines) = csv.split_once('\n').unwrap();
    let line = |(at, line): (usize, &str)| format!("{},{}\n", line.rsplit_once(',').unwrap().0, at % 65);
    let many: String = lines.lines().cycle().take(65 * 120).enumerate().map(line).collect();
    fs::write(folder.path("many.csv"), format!("{head}\n{many}")).unwrap();
    let only = ["--only", "region=3", "--curve", "--split", "time", "--trained", "a", "--tested", "b"];
    let evaluate = ["model", "evaluate", &manifest, "--rows", "many.csv", "--outcome", "purchase"];
    let words = folder.refuses(&[&evaluate, &only[..]].concat());
    assert!(words.contains("65 of 65 values of `region` can be judged, and a curve has 64 points"), "{words}");
}

#[test]
fn a_policy_without_rules_is_told_what_to_write() {
    let folder = shop();
    let policy = fs::read_to_string(folder.path("policy.toml")).unwrap();
    fs::write(folder.path("policy.toml"), policy.split("\n[gate]").next().unwrap()).unwrap();
    let words = folder.refuses(&[&PROMOTE[..], &["--to", "shadow", "--key", "owner.key"]].concat());
    assert!(words.contains("policy.toml has no [gate]") && words.contains("[gate.live]"), "{words}");
    let words = folder.refuses(&["model", "promote", "churn", "--to", "shadow", "--key", "owner.key"]);
    assert!(words.contains("has no [gate]"), "{words}");
}

/// An operator's own model: a policy that names it is put in force when its files are there as they were signed, and what
/// was in force goes on until then.
#[tokio::test(flavor = "multi_thread")]
async fn a_policy_waits_for_the_models_that_it_names() {
    let (site, other) = (Site::new(), shop());
    site.folder.edit("gloaming.toml", "# models_folder", "models_folder");
    fs::create_dir(site.folder.path("models")).unwrap();
    let edge = site.start("edge");
    until_ready(&site.admin).await;
    let client = Client::new(Duration::from_secs(5));
    let served = async |path: String| client.get(&format!("{}/g/{path}", site.listen)).await.unwrap();
    let in_force = async || hash::sha256(&served("v1/policy/blog.example".into()).await.2);
    let first = in_force().await;

    // The policy's author has the model; the edge has it with one byte changed.
    fs::create_dir_all(site.folder.path("author/models")).unwrap();
    fs::rename(other.path(MODEL), site.folder.path(&format!("author/{MODEL}"))).unwrap();
    let policy = fs::read_to_string(site.folder.path("policy.toml")).unwrap().replace("version = 1 ", "version = 2 ");
    let model = "\n[[model]]\nid = \"purchase-intent\"\nmanifest = \"models/purchase-intent/manifest.json\"\nstate = \"shadow\"\npurpose = \"measurement\"\n";
    fs::write(site.folder.path("author/policy.toml"), policy + model).unwrap();
    site.folder.says(&["policy", "sign", "author/policy.toml", "--key", "owner.key", "--out", "policy.signed"]);
    let manifest = fs::read(site.folder.path(&format!("author/{MODEL}/manifest.json"))).unwrap();
    fs::create_dir(site.folder.path(MODEL)).unwrap();
    let mut changed = manifest.clone();
    let at = changed.len() / 2;
    changed[at] ^= 1;
    fs::write(site.folder.path(&format!("{MODEL}/manifest.json")), &changed).unwrap();
    let hangup = || assert!(Command::new("kill").args(["-HUP", &edge.0.id().to_string()]).status().unwrap().success());
    hangup();
    let name = |bytes: &[u8]| format!("models/{}", hash::hex(&hash::sha256(bytes)));
    let began = Instant::now();
    // The folder was read anew, so the policy was judged; it is the one before that is served.
    while served(name(&changed)).await.0 != 200 {
        assert!(began.elapsed() < Duration::from_secs(30));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(in_force().await, first);
    fs::write(site.folder.path(&format!("{MODEL}/manifest.json")), &manifest).unwrap();
    hangup();
    while in_force().await == first {
        assert!(began.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (status, _, bytes) = served(name(&manifest)).await;
    assert!(status == 200 && bytes == manifest);
}
