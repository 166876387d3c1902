//! What a model learns from is what it is given: the same thousand visits as a log that the kit reads, as events natively and under
//! wasmtime, and in Chromium. Features are held together bit for bit, scores of every shipped model to 1e-6.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use axum::Router;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gloaming::commands::{rows, score};
use gloaming::runtimes::Wasm;
use gloaming::{assets, files};
use gloaming_behavior::definitions::{DEFINITIONS, Kind};
use gloaming_behavior::{MAX_PAGE_FEATURES, NONE, Tracker};
use gloaming_collector::device::{Device, Setup};
use gloaming_e2e::batches::Dice;
use gloaming_e2e::browser::Browser;
use gloaming_e2e::exported::at;
use gloaming_e2e::stage::{Setting, Stage};
use gloaming_policy::{Policy, campaign_of, group_of, referrer_class};
use gloaming_signal::{Event, EventKind, cbor};
use http::header;
use serde_json::{Value, json};

const VISITS: u64 = 1_000;
/// When the first begins: 2026-11-23, a Monday.
const START: u64 = 1_795_430_000_000;
/// The device that all of them are on: a tablet, on a Wednesday evening.
const CLASS: u32 = 1;
const WIDTH: u32 = 800;
const WEEKDAY: u32 = 2;
const HOUR: u32 = 20;

/// Something that happened, as a page tells it.
enum Told {
    /// A page: path, referrer's host, campaign, kind of navigation.
    Page(&'static str, &'static str, &'static str, u32),
    /// What the page gives of the cart.
    Cart(f64),
    /// All else, as numbers.
    Else(EventKind, u32, u32, u32),
}

/// A visit with all that a log can tell of: every kind of event, equal times, idle halves of an hour, numbers beyond every bound.
fn visit(seed: u64) -> Vec<(u64, Told)> {
    let (mut numbers, mut at) = (Dice(seed), START + seed * 1_000);
    let kinds: Vec<EventKind> = EventKind::ALL
        .iter()
        .copied()
        .filter(|kind| !matches!(kind, EventKind::Custom | EventKind::PageFeature | EventKind::PageView))
        .collect();
    let page = |numbers: &mut Dice| {
        let path = ["/", "/p/dusk-lamp", "/c/lamps", "/account/orders", "/help", "/nowhere"];
        let from = ["", "www.google.com", "shop.example", "news.example"];
        let campaign = ["", "autumn", "nobody-knows"];
        Told::Page(path[numbers.below(6)], from[numbers.below(4)], campaign[numbers.below(3)], numbers.below(4) as u32)
    };
    let mut told = vec![(at, page(&mut numbers))];
    for _ in 0..if seed < 20 { 300 } else { 60 } {
        at += match numbers.below(40) {
            0 => 31 * 60_000,
            1..=9 => 0,
            _ => numbers.below(4_000) as u64,
        };
        let what = match numbers.below(8) {
            0 | 1 => page(&mut numbers),
            2 => Told::Cart(numbers.below(60_000) as f64 / 100.0),
            _ => {
                let kind = kinds[numbers.below(kinds.len())];
                Told::Else(kind, numbers.wild(), numbers.wild(), numbers.wild())
            }
        };
        // A page takes no value beyond what was declared of it, and a log with one is refused.
        if !matches!(what, Told::Cart(value) if value > 500.0) {
            told.push((at, what));
        }
    }
    told
}

/// As a line of a log.
fn line(device: u64, at: u64, told: &Told) -> String {
    let mut line = json!({ "device": format!("d{device}"), "at_ms": at });
    let more = match told {
        Told::Page(path, referrer, campaign, nav) => json!({ "event": "page_view", "path": path, "referrer": referrer,
            "campaign": campaign, "b": nav, "device_class": CLASS, "width": WIDTH, "weekday": WEEKDAY, "hour": HOUR }),
        Told::Cart(value) => json!({ "event": "feature", "feature": "cart-value", "value": value }),
        Told::Else(kind, a, b, c) => json!({ "event": kind.name(), "a": a, "b": b, "c": c }),
    };
    line.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    line.to_string()
}

/// As a worker's call of the collector.
fn call(at: u64, told: &Told) -> Value {
    match told {
        Told::Page(path, referrer, campaign, nav) => json!(["page", at, nav, path, referrer, campaign]),
        Told::Cart(value) => json!(["cart", at, value]),
        Told::Else(kind, a, b, c) => json!(["push", at, kind.number(), a, b, c]),
    }
}

/// To a device that runs here.
fn tell(device: &mut Device, at: u64, told: &Told) {
    match told {
        Told::Page(path, referrer, campaign, nav) => device.page(at, *nav, path, referrer, campaign),
        Told::Cart(value) => assert!(device.feature(at, "cart-value", |feature| feature.steps(*value))),
        Told::Else(kind, a, b, c) => device.push(at, u32::from(kind.number()), *a, *b, *c),
    }
}

/// As the events that a tracker is pushed.
fn events(policy: &Policy, at_ms: u64, told: &Told) -> Vec<Event> {
    let one = |kind, a, b, c| Event { at_ms, kind, a, b, c };
    match told {
        Told::Page(path, referrer, campaign, nav) => {
            let viewport = [576, 768, 992, 1200].iter().filter(|edge| WIDTH >= **edge).count() as u32;
            let when = campaign_of(policy, campaign) << 8 | WEEKDAY << 5 | HOUR;
            let visit = one(EventKind::Visit, referrer_class(referrer, &policy.site), CLASS + 16 * viewport, when);
            vec![visit, one(EventKind::PageView, group_of(policy, path), *nav, 0)]
        }
        Told::Cart(value) => {
            let at = policy.page_features.iter().position(|feature| feature.id == "cart-value").unwrap();
            vec![one(EventKind::PageFeature, at as u32, policy.page_features[at].steps(*value).unwrap(), 0)]
        }
        Told::Else(kind, a, b, c) => vec![one(*kind, *a, *b, *c)],
    }
}

/// A shipped model.
struct Shipped {
    name: String,
    manifest: Vec<u8>,
    onnx: Vec<u8>,
    model: gloaming_model::Model,
}

fn shipped() -> Vec<Shipped> {
    let folders = fs::read_dir(at("models")).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<Shipped> = folders
        .filter(|folder| folder.join("manifest.json").is_file())
        .map(|folder| {
            let files::Brought { model, manifest, onnx } = files::Brought::load(&folder.join("manifest.json")).unwrap();
            Shipped { name: model.manifest().id.clone(), manifest, onnx, model }
        })
        .collect();
    all.sort_by(|one, other| one.name.cmp(&other.name));
    all
}

/// Runs in a worker of the shop's origin: the shipped collector and scorer, called as worker.js calls them.
const WORKER: &str = r"
import initCollector, { Collector } from '/g/collector.js'
import initScorer, { Scorer } from '/g/scorer.js'
const unbase64 = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0))
onmessage = async ({ data: { policy, setup, visits, models } }) => {
  await initCollector({ module_or_path: fetch('/g/collector.wasm') })
  await initScorer({ module_or_path: fetch('/g/scorer.wasm') })
  const features = visits.map((calls) => {
    const collector = new Collector(unbase64(policy), setup, new Uint8Array())
    for (const [what, at, ...more] of calls) {
      if (what === 'page') collector.page(at, ...more)
      else if (what === 'cart') collector.feature_number(at, 'cart-value', ...more)
      else collector.push_batch(Float64Array.from([at, ...more]))
    }
    return btoa(String.fromCharCode(...collector.feature_bytes()))
  })
  const scores = models.map(({ manifest, onnx, rows }) => {
    const scorer = new Scorer(unbase64(manifest), unbase64(onnx))
    return rows.map((row) => scorer.score(row))
  })
  postMessage({ features, scores })
}";

/// The kit's table: its columns, and its rows in order.
struct Table {
    columns: BTreeMap<String, usize>,
    rows: Vec<Vec<String>>,
}

impl Table {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let mut lines = text.lines().map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>());
        let columns = lines.next().unwrap().into_iter().enumerate().map(|(at, name)| (name, at)).collect();
        Self { columns, rows: lines.collect() }
    }

    fn cell(&self, row: &[String], column: &str) -> Option<f32> {
        row[*self.columns.get(column)?].parse().ok()
    }
}

/// Holds a row of the kit's table to a tracker's bytes: each feature, as models are given it, and what the page gave.
fn same(table: &Table, row: &[String], bytes: &[u8], policy: &Policy) {
    let steps = |at: usize| u32::from_le_bytes(bytes[4 * at..4 * at + 4].try_into().unwrap());
    for (at, definition) in DEFINITIONS.iter().enumerate() {
        let scale = if let Kind::Number { scale, .. } = definition.kind { scale } else { 1 };
        let wanted = (f64::from(steps(at)) / f64::from(scale)) as f32;
        let found = table.cell(row, &format!("{}@{}", definition.name, definition.version)).unwrap();
        assert_eq!(found.to_bits(), wanted.to_bits(), "{} of {}", definition.name, row[0]);
    }
    // Page features come last, in places of which the policy uses the first; one that was not given is nothing in the table.
    let last = bytes.len() / 4 - MAX_PAGE_FEATURES;
    let cart = policy.page_features.iter().position(|feature| feature.id == "cart-value").unwrap();
    let wanted = Some(steps(last + cart)).filter(|steps| *steps != NONE);
    let wanted = wanted.map(|steps| (f64::from(steps) / 100.0) as f32);
    assert_eq!(table.cell(row, "page:cart-value").map(f32::to_bits), wanted.map(f32::to_bits), "{}", row[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_visits_are_the_same_to_kit_edge_and_browser() {
    let headers = [(header::CONTENT_TYPE, "text/javascript")];
    let script = Router::new().route("/skew-worker.js", get(move || async move { (headers, WORKER) }));
    let stage = Stage::start(Setting { more: script, ..Setting::default() }).await.unwrap();
    let policy = &stage.demo.policy;
    let visits: Vec<Vec<(u64, Told)>> = (0..VISITS).map(visit).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);

    // By the kit: what `gloaming model rows` makes of the log.
    stage.demo.save(folder.path()).await.unwrap();
    let log = visits.iter().zip(0..).flat_map(|(visit, id)| visit.iter().map(move |(at, told)| line(id, *at, told)));
    fs::write(path("log.ndjson"), log.collect::<Vec<_>>().join("\n")).unwrap();
    rows::run(
        &path("log.ndjson"),
        rows::Log::Gloaming,
        &path("policy.toml"),
        None,
        &rows::At::default(),
        &path("rows.csv"),
    )
    .unwrap();
    let table = Table::read(&path("rows.csv"));

    // The last session of each, natively and under wasmtime.
    let purposes = policy.purposes.iter().map(|purpose| purpose.id.clone()).collect::<Vec<_>>();
    let setup = Setup {
        purposes: purposes.clone(),
        host: policy.site.clone(),
        device_class: CLASS,
        width: WIDTH,
        weekday: WEEKDAY,
        hour: HOUR,
        now_ms: 1e15,
        ..Setup::default()
    };
    let wasm = Wasm::of(&assets::find(None).unwrap()).unwrap();
    let (mut native, mut ended) = (Vec::new(), 0);
    for (id, visit) in visits.iter().enumerate() {
        let mut device = Device::new(&policy.to_bytes(), setup.clone(), &[], &[1; 32]).unwrap();
        visit.iter().for_each(|(at, told)| tell(&mut device, *at, told));
        let bytes = device.feature_bytes();
        let recorded: Vec<Event> = visit.iter().flat_map(|(at, told)| events(policy, *at, told)).collect();
        let recording = cbor::to_vec(&(policy.behavior.clone(), recorded));
        assert_eq!(wasm.features(&recording).unwrap(), bytes, "visit {id} under wasmtime");
        let name = format!("d{id}");
        let last = table.rows.iter().rfind(|row| row[0] == name).unwrap();
        same(&table, last, &bytes, policy);
        // Those that ended before it, of which a tracker keeps four.
        let mut tracker = Tracker::new(policy.behavior.clone());
        visit.iter().flat_map(|(at, told)| events(policy, *at, told)).for_each(|event| tracker.push(event));
        for finished in tracker.finished() {
            let began = finished.started_ms.to_string();
            let row = table.rows.iter().find(|row| row[0] == name && row[1] == began).unwrap();
            same(&table, row, &finished.features.to_bytes(), policy);
            ended += 1;
        }
        native.push(bytes);
    }

    // What every shipped model is given: every session of the table, because none lacks an input.
    let models = shipped();
    let given: Vec<Vec<Vec<f32>>> = models
        .iter()
        .map(|model| {
            let input = |row: &Vec<String>| {
                let features = model.model.manifest().input.features.iter();
                features.map(|feature| table.cell(row, feature).unwrap()).collect()
            };
            table.rows.iter().map(input).collect()
        })
        .collect();
    let browser = Browser::launch().await.unwrap();
    let profile = browser.profile().await.unwrap();
    let page = profile.tab("").await.unwrap();
    page.goto(&stage.demo.shop).await.unwrap();
    let calls: Vec<Vec<Value>> =
        visits.iter().map(|visit| visit.iter().map(|(at, told)| call(*at, told)).collect()).collect();
    let asked = models.iter().zip(&given).map(|(model, rows)| {
        json!({ "manifest": STANDARD.encode(&model.manifest), "onnx": STANDARD.encode(&model.onnx), "rows": rows })
    });
    let input = json!({
        "policy": STANDARD.encode(policy.to_bytes()),
        "setup": { "purposes": purposes, "host": policy.site, "deviceClass": CLASS, "width": WIDTH, "weekday": WEEKDAY,
            "hour": HOUR, "check": false, "nowMs": 1e15, "stopped": [] },
        "visits": calls,
        "models": asked.collect::<Vec<_>>(),
    });
    let answer: Value = page.ask_worker("/skew-worker.js", &input).await.unwrap();
    for (id, bytes) in native.iter().enumerate() {
        assert_eq!(answer["features"][id], STANDARD.encode(bytes), "visit {id} in Chromium");
    }
    println!(
        "{VISITS} visits: features of each one's last session by kit, wasmtime and Chromium are the native ones bit for bit, and so \
         are the kit's of {ended} sessions before them"
    );

    for ((model, rows), there) in models.iter().zip(&given).zip(answer["scores"].as_array().unwrap()) {
        let native: Vec<f32> = rows.iter().map(|row| model.model.score(row).unwrap()).collect();
        let under_wasmtime = wasm.scores(&model.manifest, &model.onnx, rows).unwrap();
        let there: Vec<f32> = there.as_array().unwrap().iter().map(|score| score.as_f64().unwrap() as f32).collect();
        // The command, from the very table.
        let out = path("scores.ndjson");
        let told = score::Told { keep: vec!["device".into()], reasons: None };
        let manifest = at("models").join(&model.name).join("manifest.json");
        score::run(&manifest, &path("rows.csv"), &told, Some(&out)).unwrap();
        let text = fs::read_to_string(&out).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), rows.len(), "{}", model.name);
        for ((line, row), score) in lines.iter().zip(&table.rows).zip(&native) {
            assert_eq!(line["device"], row[0].as_str());
            assert_eq!((line["score"].as_f64().unwrap() as f32).to_bits(), score.to_bits(), "{}: {line}", model.name);
        }
        let off = |other: &[f32]| {
            assert_eq!(other.len(), native.len(), "{}", model.name);
            native.iter().zip(other).map(|(one, other)| (one - other).abs()).fold(0.0, f32::max)
        };
        let (wasmtime, chromium) = (off(&under_wasmtime), off(&there));
        println!(
            "{}: {} scores; the command's are the native ones bit for bit, wasmtime differs by {wasmtime:e} at most, Chromium by {chromium:e}",
            model.name,
            rows.len()
        );
        assert!(wasmtime <= 1e-6 && chromium <= 1e-6, "{}", model.name);
    }
    stage.demo.stop().await;
}
