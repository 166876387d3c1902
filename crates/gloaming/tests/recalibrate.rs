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

/// Eight weeks, ms.
const WEEKS: u64 = 8 * 604_800_000;

/// The overview of a site where 20,000 visits fell into each bin of the shipped model, and of those with score s came true what
/// `truth` says.
fn overview(model: &Manifest, truth: impl Fn(f64) -> f64) -> Value {
    counted(model, &own(Path::new(MANIFEST)), 0, truth)
}

/// The same of any model with this manifest, in eight weeks from `start_ms` on.
fn counted(model: &Manifest, own: &str, start_ms: u64, truth: impl Fn(f64) -> f64) -> Value {
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
              "labels": labels, "manifest": own, "score_edges": ends,
              "total": { "windows": 8, "values": values, "half_width": half_width },
              "windows": [{ "start_ms": start_ms, "end_ms": start_ms + WEEKS, "state": "released", "comparable": true }] }
        ]
    })
}

/// The same, with what each of `count` windows brought told besides, in even parts.
fn in_windows(mut overview: Value, count: u64) -> Value {
    let metric = &mut overview["metrics"][1];
    let part = |list: &Value, by: f64| -> Vec<f64> {
        list.as_array().unwrap().iter().map(|number| number.as_f64().unwrap() / by).collect()
    };
    let values = part(&metric["total"]["values"], count as f64);
    let half_width = part(&metric["total"]["half_width"], (count as f64).sqrt());
    let window = |at: u64| {
        json!({ "start_ms": at * WEEKS / count, "end_ms": (at + 1) * WEEKS / count, "state": "released", "comparable": true,
                "values": values, "half_width": half_width })
    };
    metric["windows"] = (0..count).map(window).collect();
    overview
}

/// SHA-256 of a manifest.
fn own(manifest: &Path) -> String {
    gloaming_signal::hash::hex(&gloaming_signal::hash::sha256(&fs::read(manifest).unwrap()))
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
    assert_eq!(told["recalibrated"]["method"], "platt");
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

/// Few below a score, many above it: no sigmoid has that shape.
fn step(score: f64) -> f64 {
    if score < 0.2 { 0.05 } else { 0.25 }
}

/// What a line through points says.
fn line(scores: &[f64], probabilities: &[f64], score: f64) -> f64 {
    let above = scores.partition_point(|at| *at <= score);
    let part = (score - scores[above - 1]) / (scores[above] - scores[above - 1]);
    probabilities[above - 1] + part * (probabilities[above] - probabilities[above - 1])
}

#[test]
fn a_shape_that_no_sigmoid_has_is_put_right_by_a_line() {
    let (folder, before) = (Folder::new(), load(Path::new(MANIFEST)));
    fs::write(folder.path("overview.json"), overview(before.manifest(), step).to_string()).unwrap();
    let recalibrate = ["model", "recalibrate", MANIFEST, "--from", "overview.json", "--out", "next", "--method"];
    let said = folder.says(&[&recalibrate[..], &["isotonic"]].concat());
    assert!(said.contains("purchase-intent version 3: isotonic regression, a line through 22 points"), "{said}");
    let manifest = folder.path("next/manifest.json");
    let (after, told): (Model, Value) =
        (load(&manifest), serde_json::from_slice(&fs::read(&manifest).unwrap()).unwrap());
    let told = &told["recalibrated"];
    let list = |name: &str| -> Vec<f64> {
        told[name].as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
    };
    let (scores, probabilities) = (list("scores"), list("probabilities"));
    assert_eq!((told["method"].as_str(), scores.len(), probabilities.len()), (Some("isotonic"), 22, 22));
    // A hundredth of each is the score as it was, so that visits within a bin, and bins that were taken for one, keep their order.
    for (score, probability) in scores.iter().zip(&probabilities) {
        assert!((probability - (0.99 * step(*score) + 0.01 * score)).abs() < 1e-4, "{score}: {probability}");
    }
    let place = |edges: &[f64], score: f32| edges.partition_point(|edge| *edge <= f64::from(score));
    let mut both: Vec<(f32, f32)> = Vec::new();
    for row in &before.manifest().reference.inputs {
        let (old, new) = (before.score(row).unwrap(), after.score(row).unwrap());
        let wanted = line(&scores, &probabilities, f64::from(old));
        assert!((f64::from(new) - wanted).abs() < 1e-5, "{old} became {new}, not {wanted}");
        assert_eq!(place(&before.manifest().score_edges, old), place(&after.manifest().score_edges, new), "its bin");
        both.push((old, new));
    }
    both.sort_by(|one, other| one.0.total_cmp(&other.0));
    assert!(both.windows(2).all(|pair| pair[0].1 <= pair[1].1), "the order stays: {both:?}");

    // A sigmoid is further off, by much more than chance.
    let sigmoid = folder.says(&["model", "recalibrate", MANIFEST, "--from", "overview.json", "--out", "other"]);
    let error = |said: &str| -> f64 {
        let line = said.lines().find(|line| line.starts_with("calibration error")).unwrap();
        line.split(' ').filter_map(|word| word.parse().ok()).nth(1).unwrap()
    };
    assert!(error(&said) < 0.005 && error(&sigmoid) > 0.01, "{said}{sigmoid}");

    // Card and evidence say which it was; under wasmtime it gives the same.
    folder.says(&["model", "card", "next/manifest.json", "--out", "card.md"]);
    let card = fs::read_to_string(folder.path("card.md")).unwrap();
    assert!(card.contains("put right by isotonic regression, fitted to 8 released windows of shop.example"), "{card}");
    let later = counted(after.manifest(), &own(&manifest), WEEKS, |score| score);
    fs::write(folder.path("later.json"), later.to_string()).unwrap();
    folder.says(&["model", "evaluate", "next/manifest.json", "--released", "later.json", "--out", "evidence"]);
    let read = |name: &str| -> Value { serde_json::from_slice(&fs::read(folder.path(name)).unwrap()).unwrap() };
    let trained = &read("evidence/held-out.json")["predicate"]["on"]["trained"];
    assert_eq!(trained, "8 released windows of shop.example (isotonic regression)");
    let runtimes = read("evidence/parity.json")["predicate"]["runtimes"].clone();
    let names: Vec<&str> = runtimes.as_array().unwrap().iter().filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(names, ["native", "wasmtime"]);
    assert!(runtimes.as_array().unwrap().iter().all(|one| one["largest"].as_f64().unwrap() < 1e-5), "{runtimes}");

    // Bins that were taken for one lie a hundredth as far apart as they did, and once more they would be none.
    let flat = counted(after.manifest(), &own(&manifest), 0, step);
    fs::write(folder.path("overview.json"), flat.to_string()).unwrap();
    let again = ["model", "recalibrate", "next/manifest.json", "--from", "overview.json", "--out", "third", "--method"];
    let error = folder.refuses(&[&again[..], &["isotonic"]].concat());
    assert!(error.contains("less than a millionth apart") && error.contains("--method platt"), "{error}");
    assert!(!folder.path("third").exists());
    folder.says(&[&again[..], &["platt"]].concat());
}

/// Fitted to every other window, and judged on those between.
#[test]
fn of_both_the_line_is_taken_where_it_is_surely_better_on_other_windows() {
    let (folder, model) = (Folder::new(), load(Path::new(MANIFEST)));
    let model = model.manifest();
    let sigmoid = |score: f64| 1.0 / (1.0 + (-(2.0 * logit(score) + 1.0)).exp());
    let down = |score: f64| 0.6 - score;
    for (at, (overview, words, method)) in [
        (in_windows(overview(model, step), 4), "is sure to be better: isotonic regression", "isotonic"),
        (in_windows(overview(model, sigmoid), 5), "is not sure to be better: the sigmoid", "platt"),
        (in_windows(overview(model, step), 1), "there is one window alone): the sigmoid", "platt"),
        // Neither tells anything then, and both are the same.
        (in_windows(overview(model, down), 4), "is not sure to be better: the sigmoid", "level"),
    ]
    .into_iter()
    .enumerate()
    {
        fs::write(folder.path("overview.json"), overview.to_string()).unwrap();
        let out = format!("next-{at}");
        let arguments =
            ["model", "recalibrate", MANIFEST, "--from", "overview.json", "--out", &out, "--method", "auto"];
        let said = folder.says(&arguments);
        assert!(said.contains(words), "{words:?} is not in {said}");
        let told = fs::read(folder.path(&out).join("manifest.json")).unwrap();
        let told: Value = serde_json::from_slice(&told).unwrap();
        assert_eq!(told["recalibrated"]["method"], method, "{said}");
    }
    let wrong = ["model", "recalibrate", MANIFEST, "--from", "overview.json", "--out", "next", "--method", "spline"];
    let error = folder.refuses(&wrong);
    assert!(error.contains("use platt, isotonic or auto"), "{error}");
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
