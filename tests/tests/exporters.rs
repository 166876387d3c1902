//! What people export, lowered and held to what onnxruntime computed: natively and in Chromium. Writes the table in
//! `docs/models.md`.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use axum::Router;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gloaming_e2e::browser::Browser;
use gloaming_e2e::exported::{at, fixture, lowered, manifest, names, others};
use gloaming_e2e::stage::{Setting, Stage};
use gloaming_model::{Choice, Model, lower};
use http::header;
use serde_json::{Value, json};

/// What was set out to be brought from scikit-learn, LightGBM and XGBoost: 34 kinds of model, each as its exporter writes it when
/// nothing is asked of it. The other files are of more classes than two, of two further scikit-learn models, and PyTorch's.
const SET_OUT: [&str; 34] = [
    "adaboost",
    "boosting-regressor",
    "calibrated",
    "decision-tree",
    "extra-trees",
    "forest-regressor",
    "gradient-boosting",
    "histogram-boosting",
    "imputer-logistic",
    "isolation-forest",
    "lightgbm",
    "lightgbm-regressor",
    "linear-regression",
    "logistic-regression",
    "minibatch-kmeans",
    "minmax-logistic",
    "naive-bayes",
    "neighbours",
    "one-class-vectors",
    "onehot-logistic",
    "perceptron",
    "polynomial-logistic",
    "random-forest",
    "sgd-logistic",
    "stacking",
    "standard-kmeans",
    "standard-logistic",
    "standard-mixture",
    "standard-pca",
    "standard-ridge",
    "support-vectors",
    "voting",
    "xgboost",
    "xgboost-regressor",
];

/// One line of the table, and whether the model runs.
fn line(name: &str, folder: &Path) -> (String, bool) {
    let (onnx, said) = fixture(name, folder);
    let (model, bytes) = (said["model"].as_str().unwrap(), onnx.len());
    let column = usize::try_from(said["column"].as_u64().unwrap()).unwrap();
    let lowered = match lowered(&onnx, &said) {
        Ok(lowered) => lowered,
        Err(error) => return (format!("| {name} | {model} | {bytes} | refused: {error} |"), false),
    };
    assert_eq!(lowered.taken, (said["output"].as_str().unwrap().to_owned(), column), "{name}");
    let again = lower(&lowered.onnx, &Choice::default()).unwrap();
    assert_eq!(again.width, lowered.width, "{name}: what was lowered is lowered again");
    match Model::load(&manifest(&lowered, &said), &lowered.onnx) {
        Err(error) => (format!("| {name} | {model} | {bytes} | NOT: {error} |"), false),
        Ok(loaded) => {
            // What it gives for rows that it was not proved on is a number, at least.
            for row in others(&said) {
                assert!(loaded.score(&row).unwrap().is_finite(), "{name}");
            }
            let rewritten = if lowered.rewritten.is_empty() { "none".into() } else { lowered.rewritten.join(", ") };
            (format!("| {name} | {model} | {bytes} | {} | {rewritten} |", lowered.onnx.len()), true)
        }
    }
}

#[test]
fn what_exporters_write_runs_or_is_refused_with_a_way_out() {
    let folder = at("tests/exporters/fixtures");
    let (mut runs, mut others, mut running) = (Vec::new(), Vec::new(), Vec::new());
    let names = names(&folder);
    for name in &names {
        match line(name, &folder) {
            (line, true) => {
                runs.push(line);
                running.push(name.as_str());
            }
            (line, false) => others.push(line),
        }
    }
    let refused: BTreeMap<String, String> =
        serde_json::from_slice(&fs::read(folder.join("refused.json")).unwrap()).unwrap();
    others
        .extend(refused.iter().map(|(name, why)| format!("| {name} | | | its exporter: {} |", why.replace('|', "/"))));
    // None of what was set out is quietly missing.
    for name in SET_OUT {
        assert!(names.iter().any(|known| known == name) || refused.contains_key(name), "{name} was not tried");
    }
    let (count, set_out) = (runs.len(), SET_OUT.iter().filter(|name| running.contains(name)).count());
    let torch = |names: &[&str]| names.iter().filter(|name| name.starts_with("torch-")).count();
    let tried = names.iter().map(String::as_str).collect::<Vec<_>>();
    let table = format!(
        "{count} of {} run: {set_out} of the {} kinds of scikit-learn, LightGBM and XGBoost that were set out to run, {} of {} networks of\nPyTorch, and {} of {} further models, of more classes than two or of other kinds.\n\n| model | what it is | exported, bytes | lowered, bytes | rewritten |\n|---|---|---:|---:|---|\n{}\n\n| does not run | what it is | exported, bytes | why |\n|---|---|---:|---|\n{}\n",
        count + others.len(),
        SET_OUT.len(),
        torch(&running),
        torch(&tried),
        count - set_out - torch(&running),
        count + others.len() - SET_OUT.len() - torch(&tried),
        runs.join("\n"),
        others.join("\n"),
    );
    println!("{table}");
    assert!(!table.contains("NOT:"), "a model computes something else here");
    assert!(set_out >= 30, "{set_out} of what was set out run");
    assert_eq!(torch(&running), torch(&tried), "every network of PyTorch runs");
    let (page, path) = (fs::read_to_string(at("docs/models.md")).unwrap_or_default(), at("docs/models.md"));
    let (begin, end) = ("<!-- exporters -->\n", "<!-- /exporters -->");
    let (before, rest) = page.split_once(begin).expect("docs/models.md has the mark");
    let (written, after) = rest.split_once(end).expect("and its end");
    if std::env::var_os("GLOAMING_GOLDEN").is_some() {
        fs::write(path, format!("{before}{begin}{table}{end}{after}")).unwrap();
    } else {
        assert_eq!(written, table, "GLOAMING_GOLDEN=1 writes the table anew");
    }
}

/// Runs in a worker of the shop's origin: the shipped scorer, which proves each model before it answers.
const WORKER: &str = r"
import initScorer, { Scorer } from '/g/scorer.js'
const unbase64 = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0))
onmessage = async ({ data }) => {
  await initScorer({ module_or_path: fetch('/g/scorer.wasm') })
  postMessage(data.map(({ manifest, onnx, rows }) => {
    try {
      const scorer = new Scorer(unbase64(manifest), unbase64(onnx))
      return rows.map((row) => scorer.score(row))
    } catch (error) { return String(error) }
  }))
}";

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_natively_runs_in_chromium_and_gives_the_same() {
    let headers = [(header::CONTENT_TYPE, "text/javascript")];
    let script = Router::new().route("/exporters-worker.js", get(move || async move { (headers, WORKER) }));
    let stage = Stage::start(Setting { more: script, ..Setting::default() }).await.unwrap();
    let folder = at("tests/exporters/fixtures");
    let (mut inputs, mut models) = (Vec::new(), Vec::new());
    for name in names(&folder) {
        let (onnx, said) = fixture(&name, &folder);
        let Ok(lowered) = lowered(&onnx, &said) else { continue };
        let (manifest, rows) = (manifest(&lowered, &said), others(&said));
        inputs.push(json!({
            "manifest": STANDARD.encode(&manifest), "onnx": STANDARD.encode(&lowered.onnx), "rows": rows,
        }));
        models.push((name, Model::load(&manifest, &lowered.onnx).unwrap(), rows));
    }
    assert!(models.len() >= 30, "{}", models.len());
    let browser = Browser::launch().await.unwrap();
    let profile = browser.profile().await.unwrap();
    let page = profile.tab("").await.unwrap();
    page.goto(&stage.demo.shop).await.unwrap();
    let answers: Value = page.ask_worker("/exporters-worker.js", &Value::from(inputs)).await.unwrap();
    let mut worst = (0_f64, "");
    for ((name, model, rows), scores) in models.iter().zip(answers.as_array().unwrap()) {
        let scores = scores.as_array().unwrap_or_else(|| panic!("{name}: {scores}"));
        for (row, score) in rows.iter().zip(scores) {
            let (native, there) = (f64::from(model.score(row).unwrap()), score.as_f64().unwrap());
            let off = (native - there).abs() / native.abs().max(1.0);
            if off > worst.0 {
                worst = (off, name);
            }
        }
    }
    println!("{} models in Chromium and natively: largest difference {:e}, {}", models.len(), worst.0, worst.1);
    assert!(worst.0 <= 1e-6, "{worst:?}");
    stage.demo.stop().await;
}
