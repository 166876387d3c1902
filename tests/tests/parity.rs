//! The same numbers everywhere: features natively, in wasm under wasmtime and in Chromium; scores in
//! Chromium and natively.
#![allow(clippy::unwrap_used)]

use axum::Router;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gloaming::assets;
use gloaming::runtimes::Wasm;
use gloaming_behavior::{Config, GroupKind, Step};
use gloaming_collector::device::{Device, Setup};
use gloaming_e2e::batches::Dice;
use gloaming_e2e::browser::Browser;
use gloaming_e2e::stage::{Setting, Stage};
use gloaming_model::Model;
use gloaming_signal::{Event, EventKind, cbor, hash};
use http::header;
use serde_json::{Value, json};

/// When the recorded visits begin: 2026-11-23, a Monday.
const START: u64 = 1_795_430_000_000;

/// A long recording with everything in it: all kinds of events, equal times, steps back, idle halves of
/// an hour, numbers beyond every bound.
fn recording(seed: u64, length: usize) -> Vec<Event> {
    let (mut numbers, mut at) = (Dice(seed), START);
    let kinds: Vec<EventKind> = (0..=u8::MAX).filter_map(EventKind::from_number).collect();
    (0..length)
        .map(|_| {
            at = match numbers.below(40) {
                0 => at + 31 * 60_000,
                1 => at.saturating_sub(5_000),
                2..=9 => at,
                _ => at + numbers.below(4_000) as u64,
            };
            let kind = kinds[numbers.below(kinds.len())];
            Event { at_ms: at, kind, a: numbers.wild(), b: numbers.wild(), c: numbers.wild() }
        })
        .collect()
}

fn config() -> Config {
    Config {
        groups: vec![GroupKind::Other, GroupKind::Product, GroupKind::Account, GroupKind::Info],
        funnels: vec![vec![
            Step::Event(EventKind::ViewItem),
            Step::Group(2),
            Step::Custom(1),
            Step::Event(EventKind::Purchase),
        ]],
    }
}

#[test]
fn features_under_wasmtime_are_bit_for_bit_the_native_ones() {
    let wasm = Wasm::of(&assets::find(None).unwrap()).unwrap();
    for seed in 0..1_000 {
        let bytes = cbor::to_vec(&(config(), recording(seed, if seed < 20 { 400 } else { 60 })));
        let native = gloaming_parity::features(&bytes).unwrap();
        assert!(native.len() > 60);
        assert_eq!(wasm.features(&bytes).unwrap(), native, "recording {seed}");
    }
}

/// Runs in a worker of the shop's origin: the shipped collector and scorer, called as worker.js calls them.
const WORKER: &str = r"
import initCollector, { Collector } from '/g/collector.js'
import initScorer, { Scorer } from '/g/scorer.js'
const unbase64 = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0))
const bytes = async (path) => new Uint8Array(await (await fetch(path)).arrayBuffer())
onmessage = async ({ data: { policy, setup, streams, rows, model } }) => {
  await initCollector({ module_or_path: fetch('/g/collector.wasm') })
  const inputs = [], features = streams.map((events) => {
    const collector = new Collector(unbase64(policy), setup, new Uint8Array())
    collector.page(events[0][0], 0, '/p/dusk-lamp', 'www.google.com', 'autumn')
    collector.push_batch(Float64Array.from(events.flat()))
    collector.custom(events[events.length - 1][0], 'no-such-event')
    collector.feature_number(events[events.length - 1][0], 'cart-value', 12.345)
    inputs.push(Array.from(collector.model_inputs(0)))
    return btoa(String.fromCharCode(...collector.feature_bytes()))
  })
  await initScorer({ module_or_path: fetch('/g/scorer.wasm') })
  const scorer = new Scorer(await bytes(`/g/models/${model[0]}`), await bytes(`/g/models/${model[1]}`))
  const refused = []
  for (const row of [[1, 2], [0, 0, 0, 0, 0, 0, 0, NaN]]) try { scorer.score(row) } catch (error) { refused.push(String(error)) }
  postMessage({ features, scores: rows.map((row) => scorer.score(row)), inputs, sessions: inputs.map((row) => scorer.score(row)), refused })
}";

fn script() -> Router {
    let headers = [(header::CONTENT_TYPE, "text/javascript")];
    Router::new().route("/parity-worker.js", get(move || async move { (headers, WORKER) }))
}

fn setup() -> Setup {
    let purposes = vec!["measurement".to_owned(), "prediction".to_owned()];
    let host = "shop.example".into();
    Setup { purposes, host, device_class: 1, width: 800, weekday: 2, hour: 20, now_ms: 1e15, ..Setup::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn features_and_scores_in_chromium_are_the_native_ones() {
    let stage = Stage::start(Setting { more: script(), ..Setting::default() }).await.unwrap();
    let policy = stage.demo.policy.to_bytes();
    let streams: Vec<Vec<Event>> =
        (0..1_000).map(|seed| recording(100 + seed, if seed < 20 { 300 } else { 60 })).collect();
    let assets = assets::find(None).unwrap();
    let (manifest, onnx) = (
        assets.bytes("models/purchase-intent/manifest.json").unwrap(),
        assets.bytes("models/purchase-intent/model.onnx").unwrap(),
    );
    let model = Model::load(manifest, onnx).unwrap();
    let mut numbers = Dice(7);
    let mut rows: Vec<Vec<f32>> = model.manifest().reference.inputs.clone();
    rows.extend((0..200).map(|_| {
        let mut count = || numbers.below(60) as f32;
        let mut row: Vec<f32> = (0..6).map(|i| if i % 2 == 0 { count() } else { count() * 31.7 }).collect();
        row.extend([(count() as u32 % 2) as f32, (count() as u32 % 2) as f32]);
        row
    }));

    let browser = Browser::launch().await.unwrap();
    let profile = browser.profile().await.unwrap();
    let page = profile.tab("").await.unwrap();
    page.goto(&stage.demo.shop).await.unwrap();
    let numbers = |e: &Event| json!([e.at_ms, e.kind.number(), e.a, e.b, e.c]);
    let used = &stage.demo.policy.models[0];
    let input = json!({
        "model": [hash::hex(&used.manifest_sha256), hash::hex(&used.onnx_sha256)],
        "policy": STANDARD.encode(&policy),
        "setup": { "purposes": setup().purposes, "host": setup().host, "deviceClass": setup().device_class, "width": setup().width,
            "weekday": setup().weekday, "hour": setup().hour, "check": false, "nowMs": 1e15, "stopped": [] },
        "streams": streams.iter().map(|s| s.iter().map(numbers).collect::<Vec<_>>()).collect::<Vec<_>>(),
        "rows": rows,
    });
    let answer: Value = page.ask_worker("/parity-worker.js", &input).await.unwrap();

    let mut worst = 0f64;
    for (index, events) in streams.iter().enumerate() {
        let mut device = Device::new(&policy, setup(), &[], &[1; 32]).unwrap();
        device.page(events[0].at_ms, 0, "/p/dusk-lamp", "www.google.com", "autumn");
        for e in events {
            device.push(e.at_ms, u32::from(e.kind.number()), e.a, e.b, e.c);
        }
        let last = events[events.len() - 1].at_ms;
        assert!(!device.custom(last, "no-such-event"));
        assert!(device.feature(last, "cart-value", |feature| feature.steps(12.345)));
        assert_eq!(answer["features"][index], STANDARD.encode(device.feature_bytes()), "recording {index}");
        // What the model is given, bit for bit, and what it says of it.
        let given: Vec<f32> =
            answer["inputs"][index].as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect();
        let own = device.model_inputs(0);
        assert_eq!(
            given.iter().map(|x| x.to_bits()).collect::<Vec<_>>(),
            own.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        );
        let score = f64::from(model.score(&own).unwrap());
        worst = worst.max((score - answer["sessions"][index].as_f64().unwrap()).abs());
    }
    println!("{} sessions: features bit for bit, scores differ by {worst:e} at most", streams.len());
    assert!(worst <= 1e-6, "{worst}");
    let mut worst = 0f64;
    for (row, found) in rows.iter().zip(answer["scores"].as_array().unwrap()) {
        let native = f64::from(model.score(row).unwrap());
        worst = worst.max((native - found.as_f64().unwrap()).abs());
    }
    println!("{} rows scored in Chromium and natively: largest difference {worst:e}", rows.len());
    assert!(worst <= 1e-6, "{worst}");
    let refused = answer["refused"].as_array().unwrap();
    assert_eq!(refused.len(), 2, "too short, and not a number: {refused:?}");
    assert!(refused.iter().all(|r| r.as_str().unwrap().contains("8 finite numbers")), "{refused:?}");
    stage.demo.stop().await;
}
