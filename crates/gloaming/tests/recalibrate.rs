//! A model that over- or underestimates is put right from counts, and from nothing else.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::Path;

use gloaming_model::{Manifest, Model};
use serde_json::{Value, json};
use support::Folder;

const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/purchase-intent/manifest.json");

fn load(manifest: &Path) -> Model {
    let bytes = fs::read(manifest).unwrap();
    Model::load(&bytes, &fs::read(manifest.with_file_name("model.onnx")).unwrap()).unwrap()
}

/// The overview of a site where 20,000 visits fell into each bin, and of those with score s came true what `truth` says.
fn overview(model: &Manifest, truth: impl Fn(f64) -> f64) -> Value {
    let ends = [&[0.0], &model.score_edges[..], &[1.0]].concat();
    let (mut values, mut labels) = (Vec::new(), Vec::new());
    for (bin, mean) in ends.windows(2).zip(&model.score_means) {
        let bought = 20_000.0 * truth(*mean);
        values.extend([(20_000.0 - bought).round(), bought.round()]);
        labels.extend(["no", "yes"].map(|word| format!("{:.3}-{:.3} | {word}", bin[0], bin[1])));
    }
    let half_width = vec![6.0; values.len()];
    json!({
        "site": "shop.example",
        "metrics": [
            { "name": "visits", "of": "feature:visit-day@1", "rows": 1, "labels": ["first", "again"],
              "total": { "windows": 3, "values": [1, 2], "half_width": [1.0, 1.0] } },
            { "name": "purchase-calibration", "of": "score:purchase-intent, outcome:purchase@1", "rows": ends.len() - 1,
              "labels": labels, "manifest": own(), "score_edges": ends,
              "total": { "windows": 8, "values": values, "half_width": half_width },
              "windows": [{ "start_ms": 0, "end_ms": 8 * 604_800_000_u64, "state": "released", "comparable": true }] }
        ]
    })
}

/// SHA-256 of the shipped manifest.
fn own() -> String {
    gloaming_signal::hash::hex(&gloaming_signal::hash::sha256(&fs::read(MANIFEST).unwrap()))
}

fn logit(p: f64) -> f64 {
    (p / (1.0 - p)).ln()
}

#[test]
fn the_next_version_says_what_comes_true() {
    let (folder, before) = (Folder::new(), load(Path::new(MANIFEST)));
    // Scores that are too timid by half, and too high by a logit.
    let truth = |score: f64| 1.0 / (1.0 + (-(2.0 * logit(score) + 1.0)).exp());
    fs::write(folder.path("overview.json"), overview(before.manifest(), truth).to_string()).unwrap();
    let said = folder.says(&["model", "recalibrate", MANIFEST, "--from", "overview.json", "--out", "models/next"]);
    assert!(said.contains("purchase-intent version 3: slope ") && said.contains("AUC stays "), "{said}");
    let manifest = folder.path("models/next/manifest.json");
    let (after, told): (Model, Value) =
        (load(&manifest), serde_json::from_slice(&fs::read(&manifest).unwrap()).unwrap());
    let (slope, intercept) =
        (told["recalibrated"]["slope"].as_f64().unwrap(), told["recalibrated"]["intercept"].as_f64().unwrap());
    assert!((slope - 2.0).abs() < 0.02 && (intercept - 1.0).abs() < 0.03, "{said}");
    assert_eq!(told["recalibrated"]["from"], "8 released windows of shop.example");
    assert_eq!(told["evidence"], Value::Null, "what was said of the version before is no evidence");
    let place = |edges: &[f64], score: f32| edges.partition_point(|edge| *edge <= f64::from(score));
    for row in &before.manifest().reference.inputs {
        let (old, new) = (before.score(row).unwrap(), after.score(row).unwrap());
        let wanted = 1.0 / (1.0 + (-(slope * logit(f64::from(old)) + intercept)).exp());
        assert!((f64::from(new) - wanted).abs() < 1e-5, "{old} became {new}, not {wanted}");
        assert_eq!(place(&before.manifest().score_edges, old), place(&after.manifest().score_edges, new), "its bin");
    }
    let figures: Vec<f64> = said
        .lines()
        .find(|line| line.starts_with("calibration error"))
        .unwrap()
        .split(' ')
        .filter_map(|word| word.parse().ok())
        .collect();
    let [error, better] = *figures.as_slice() else { panic!("{said}") };
    assert!(error > 0.04 && better < 0.02, "{said}");
    // It is brought like any other, and as a version of its own.
    assert!(folder.says(&["model", "check", "models/next/manifest.json"]).contains("purchase-intent version 3"));
    let error = folder.refuses(&["model", "recalibrate", MANIFEST, "--from", "overview.json", "--out", "models/next"]);
    assert!(error.contains("holds a model already; give every version a folder of its own"), "{error}");
}

/// Outcomes that go down where scores go up are no reason to turn the model around: how many there are is put right.
#[test]
fn where_counts_do_not_tell_how_the_level_alone_is_put_right() {
    let (folder, before) = (Folder::new(), load(Path::new(MANIFEST)));
    fs::write(folder.path("overview.json"), overview(before.manifest(), |score| 0.6 - score).to_string()).unwrap();
    let said = folder.says(&["model", "recalibrate", MANIFEST, "--from", "overview.json", "--out", "next"]);
    assert!(
        said.contains("higher scores go with fewer outcomes") && said.contains("only the level is put right"),
        "{said}"
    );
    assert!(said.contains("slope 1.0000, intercept +0.9"), "{said}");
}

#[test]
fn what_cannot_be_put_right_is_refused_and_nothing_is_written() {
    let (folder, model) = (Folder::new(), load(Path::new(MANIFEST)));
    let model = model.manifest();
    let good = overview(model, |score| score);
    let mut none = good.clone();
    none["metrics"].as_array_mut().unwrap().remove(1);
    let mut early = good.clone();
    early["metrics"][1]["total"]["windows"] = 0.into();
    let mut other = good.clone();
    other["metrics"][1]["manifest"] = "0".repeat(64).into();
    let mut timeless = good.clone();
    timeless["metrics"][1]["windows"] = json!([]);
    let mut short = good.clone();
    short["metrics"][1]["total"]["half_width"] = json!([1.0]);
    let nobody = overview(model, |_| 0.0);
    for (text, words) in [
        ("{}".to_owned(), "is no overview"),
        (none.to_string(), "counts nothing of `score:purchase-intent` and an outcome"),
        (early.to_string(), "`purchase-calibration` was not released yet"),
        (other.to_string(), "the centre counts another version of it, or bins of an author"),
        (timeless.to_string(), "does not say when its windows were"),
        (short.to_string(), "has not a value and an interval for each of its 40 cells"),
        (nobody.to_string(), "outcome"),
    ] {
        fs::write(folder.path("overview.json"), &text).unwrap();
        let error =
            folder.refuses(&["model", "recalibrate", MANIFEST, "--from", "overview.json", "--out", "models/next"]);
        assert!(error.contains(words), "{words:?} is not in {error}");
        assert!(!folder.path("models/next").exists());
    }
}
