//! Explanations: as `shap` has them for the same models, and adding up for all of them.
#![allow(clippy::unwrap_used)]

use std::fs;

use axum::Router;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gloaming_e2e::browser::Browser;
use gloaming_e2e::exported::{at, fixture, floats, lowered, manifest, names, others};
use gloaming_e2e::stage::{Setting, Stage};
use gloaming_model::{Explanation, Model, Scale};
use http::header;
use serde_json::{Value, json};

fn loaded(name: &str) -> Option<(Model, Value)> {
    let (onnx, said) = fixture(name, &at("tests/exporters/fixtures"));
    let lowered = lowered(&onnx, &said).ok()?;
    Some((Model::load(&manifest(&lowered, &said), &lowered.onnx).unwrap(), said))
}

/// The score that an explanation adds up to.
fn score(explained: &Explanation) -> f64 {
    let sum = explained.base + explained.values.iter().sum::<f64>();
    match explained.scale {
        Scale::Score => sum,
        Scale::LogOdds => 1.0 / (1.0 + (-sum).exp()),
    }
}

/// By how much at most an explanation misses the score.
fn missed(model: &Model, row: &[f32]) -> (f64, Explanation) {
    let (explained, given) = (model.explain(row).unwrap(), f64::from(model.score(row).unwrap()));
    ((score(&explained) - given).abs() / given.abs().max(1.0), explained)
}

#[test]
fn every_explanation_adds_up_to_its_score() {
    let (mut exact, mut sampled, mut worst) = (Vec::new(), Vec::new(), 0_f64);
    for name in names(&at("tests/exporters/fixtures")) {
        let Some((model, said)) = loaded(&name) else { continue };
        let mut is_exact = true;
        for row in others(&said) {
            let (missed, explained) = missed(&model, &row);
            assert!(missed <= 1e-6, "{name}: {missed:e}");
            assert_eq!(explained.values.len(), row.len());
            assert_eq!(model.explain(&row).unwrap(), explained, "{name}: told the same twice");
            (worst, is_exact) = (worst.max(missed), is_exact && explained.exact);
        }
        if is_exact { exact.push(name) } else { sampled.push(name) }
    }
    println!("exact: {}\nsampled: {}\nlargest miss {worst:e}", exact.join(", "), sampled.join(", "));
    for name in ["logistic-regression", "perceptron"] {
        assert_eq!(exact.iter().any(|exact| exact == name), name != "perceptron", "{name}");
    }
    assert!(exact.len() >= 18, "{}", exact.len());
}

#[test]
fn exact_ones_are_what_shap_says() {
    let mut most = 0;
    for name in names_of_golden() {
        let golden: Value =
            serde_json::from_slice(&fs::read(at(&format!("tests/exporters/shap/{name}.json"))).unwrap()).unwrap();
        let (model, _) = loaded(&name).unwrap();
        let (mut worst, mut rows) = (0_f64, 0);
        for (row, wanted) in golden["rows"].as_array().unwrap().iter().zip(golden["values"].as_array().unwrap()) {
            let row: Vec<f32> = floats(row).into_iter().map(|x| x as f32).collect();
            let explained = model.explain(&row).unwrap();
            assert!(explained.exact, "{name}");
            let off = |(found, wanted): (&f64, f64)| (found - wanted).abs();
            worst = explained.values.iter().zip(floats(wanted)).map(off).fold(worst, f64::max);
            worst = worst.max((explained.base - golden["base"].as_f64().unwrap()).abs());
            rows += 1;
        }
        println!("{name}: {rows} rows, largest difference to shap {worst:e}");
        assert!(worst <= 1e-6, "{name}: {worst:e}");
        most = most.max(rows);
    }
    assert_eq!(most, 1000, "one of them is held to it on a thousand rows");
}

fn names_of_golden() -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| {
        entry.unwrap().file_name().to_str()?.strip_suffix(".json").map(str::to_owned)
    };
    let mut names: Vec<String> = fs::read_dir(at("tests/exporters/shap")).unwrap().filter_map(name).collect();
    names.sort_unstable();
    assert!(names.len() >= 10);
    names
}

/// Runs in a worker of the shop's origin: the shipped scorer.
const WORKER: &str = r"
import initScorer, { Scorer } from '/g/scorer.js'
const unbase64 = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0))
onmessage = async ({ data }) => {
  await initScorer({ module_or_path: fetch('/g/scorer.wasm') })
  postMessage(data.map(({ manifest, onnx, rows }) => {
    const scorer = new Scorer(unbase64(manifest), unbase64(onnx))
    rows.map((row) => scorer.explain(row))
    const explained = rows.map((row) => [...scorer.explain(row)])
    const begun = performance.now()
    const told = rows.map((row) => scorer.reasons(row, 'en', () => performance.now()))
    const ms = (performance.now() - begun) / rows.length
    // What a clock of a millisecond a look makes of it: time decides nothing here.
    const orders = rows.map((row) => { let now = 0; return scorer.reasons(row, 'en', () => now++).orders })
    return { explained, ms, most: Math.max(...told.map(({ orders }) => orders)), orders, reasons: told.map(({ reasons }) => reasons.length) }
  }))
}";

#[tokio::test(flavor = "multi_thread")]
async fn explanations_in_chromium_are_the_native_ones() {
    let headers = [(header::CONTENT_TYPE, "text/javascript")];
    let script = Router::new().route("/explain-worker.js", get(move || async move { (headers, WORKER) }));
    let stage = Stage::start(Setting { more: script, ..Setting::default() }).await.unwrap();
    let (mut inputs, mut models) = (Vec::new(), Vec::new());
    for name in names(&at("tests/exporters/fixtures")) {
        let (onnx, said) = fixture(&name, &at("tests/exporters/fixtures"));
        let Ok(lowered) = lowered(&onnx, &said) else { continue };
        let (manifest, rows) = (manifest(&lowered, &said), others(&said));
        inputs.push(json!({
            "manifest": STANDARD.encode(&manifest), "onnx": STANDARD.encode(&lowered.onnx), "rows": rows,
        }));
        models.push((name, Model::load(&manifest, &lowered.onnx).unwrap(), rows));
    }
    let browser = Browser::launch().await.unwrap();
    let profile = browser.profile().await.unwrap();
    let page = profile.tab("").await.unwrap();
    page.goto(&stage.demo.shop).await.unwrap();
    let answers: Value = page.ask_worker("/explain-worker.js", &Value::from(inputs)).await.unwrap();
    let (mut worst, mut times) = (0_f64, Vec::new());
    for ((name, model, rows), answer) in models.iter().zip(answers.as_array().unwrap()) {
        let mut exact = true;
        for (row, there) in rows.iter().zip(answer["explained"].as_array().unwrap()) {
            let (here, there) = (model.explain(row).unwrap(), floats(there));
            exact &= here.exact;
            let flags = [f64::from(u8::from(here.exact)), f64::from(u8::from(here.scale == Scale::LogOdds))];
            assert_eq!(there[..2], flags, "{name}");
            let all = [&[here.base], &here.values[..]].concat();
            worst = all.iter().zip(&there[2..]).map(|(one, other)| (one - other).abs()).fold(worst, f64::max);
        }
        let on = if exact { String::new() } else { format!(" (sampled, {} orders at most)", answer["most"]) };
        times.push(format!("{name} {:.2} ms{on}", answer["ms"].as_f64().unwrap()));
        // Kinds are told without reasons, everything else exactly or on the five orders that five milliseconds allow.
        let none = answer["reasons"].as_array().unwrap().iter().all(|count| *count == 0);
        let wanted = if exact || none { 0.0 } else { 5.0 };
        assert!(floats(&answer["orders"]).iter().all(|orders| *orders == wanted), "{name}: {}", answer["orders"]);
    }
    println!("{} models explained in Chromium: largest difference {worst:e}\n{}", models.len(), times.join("\n"));
    assert!(worst <= 1e-6, "{worst:e}");
    stage.demo.stop().await;
}
