//! Everything that reads bytes from outside, as functions of bytes that must not panic and must keep what
//! they promise. [`TARGETS`] run under libFuzzer by `cargo xtask fuzz`, and over the corpus, with mutations
//! of a fixed stream, in every `cargo test`.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used)]

mod door;
mod learning;
mod sealed;
mod store;

use gloaming_behavior::{Config, Tracker};
use gloaming_collector::device::{Device, Setup};
use gloaming_policy::Policy;
use gloaming_policy::author::{Key, ManifestFacts, Signed, compile, template};
use gloaming_policy::gate::{Action, Envelope, Parity, Record, Runtime, Said, Statement};
use gloaming_signal::fold::ROW;
use gloaming_signal::relay::{Head, Parcel, Relayed, load, unload};
use gloaming_signal::{Contribution, Event, EventKind, Reason, Row, SealedBatch, Submission, Verdict};
use gloaming_signal::{cbor, hash};
use gloaming_worker::core::Worker;

/// A target: its name, what it does with bytes, and inputs to begin with.
pub struct Target {
    /// Name of the target and of its corpus.
    pub name: &'static str,
    /// The target.
    pub run: fn(&[u8]),
    /// First inputs; the corpus has more.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: [Target; 25] = [
    Target { name: "submission", run: submission, seeds: || vec![cbor::to_vec(&a_submission())] },
    Target { name: "parcel", run: parcel, seeds: || vec![a_load()] },
    Target { name: "policy", run: policy, seeds: policies },
    Target { name: "policy-text", run: policy_text, seeds: policy_texts },
    Target { name: "learning", run: learning::learning, seeds: learning::files },
    Target { name: "signed", run: signed, seeds: || vec![Signed::sign(&a_policy(), &[&a_key()]).to_bytes()] },
    Target { name: "fold", run: fold, seeds: || vec![a_fold()] },
    Target { name: "verdict", run: verdict, seeds: || vec![a_verdict()] },
    Target { name: "batch", run: batch, seeds: || vec![cbor::to_vec(&a_batch())] },
    Target { name: "device-state", run: device_state, seeds: || vec![a_device(&[]).prepare(TIME).sent] },
    Target { name: "manifest", run: manifest, seeds: || vec![MANIFEST.to_vec()] },
    Target { name: "onnx", run: onnx, seeds: onnx_files },
    Target { name: "gate", run: gate, seeds: gate_lines },
    Target { name: "bundle", run: sealed::bundle, seeds: sealed::bundles },
    Target { name: "delivery", run: sealed::delivery, seeds: sealed::deliveries },
    Target { name: "relayed", run: sealed::relayed, seeds: sealed::bodies },
    Target { name: "sealed", run: sealed::sealed, seeds: sealed::loads },
    Target { name: "plain", run: door::plain, seeds: door::requests },
    Target { name: "conversation", run: door::conversation, seeds: door::conversations },
    Target { name: "visitor", run: door::visitor, seeds: door::addresses },
    Target { name: "journal", run: store::journal, seeds: store::journals },
    Target { name: "keys", run: store::keys, seeds: store::slots },
    Target { name: "ledger", run: store::ledger, seeds: store::ledgers },
    Target { name: "anchor", run: store::anchor, seeds: store::anchors },
    Target { name: "stops", run: store::stops, seeds: store::stop_lists },
];

const MANIFEST: &[u8] = include_bytes!("../../../models/purchase-intent/manifest.json");
const ONNX: &[u8] = include_bytes!("../../../models/purchase-intent/model.onnx");
const FOREST: &[u8] = include_bytes!("../../exporters/fixtures/random-forest.onnx");
/// 2026-11-24, as edge time.
const TIME: u64 = 20_781 * 86_400_000 + 1_000;

/// Two experiments that share a layer.
const EXPERIMENTS: &str = r#"
[[experiment]]
id = "first"
arms = ["as-is", "short", "long"]
purpose = "measurement"
layer = "page"
traffic = 0.5
goal = { of = "feature:pages@1", at_least = 2 }
guardrails = [{ of = "feature:lcp-band@1", is = ["poor"], permitted = 0.02 }, "feature:errors@1"]
window = "day"
rho = 0.02
k = 50

[[experiment]]
id = "second"
arms = ["as-is", "other"]
purpose = "measurement"
layer = "page"
traffic = [0.5, 1.0]
better = "lower"
goal = "outcome:bounce@1"
window = "week"
rho = 0.01
k = 50
"#;

/// The template of sites with funnels and the most kinds of metrics that need no model, and experiments.
fn text() -> String {
    let text = template("saas", "app.example", "https://app.example", "2027-03-01").expect("a template");
    text.replace("rho_per_device_day = 0.25", "rho_per_device_day = 0.5") + EXPERIMENTS
}

/// A model that is learnt from again, and groups that it is compared by.
const LEARNT: &str = r#"
[[retrain]]
model = "purchase-intent"
outcome = "outcome:purchase@1"
pairs = [["pages@1", "returning@1"]]
inputs = ["pages@1", "returning@1"]
window = "week"
rho = 0.03
k = 50

[[purpose]]
id = "fairness"
text.en = "Compare how groups fare."

[[attribute]]
id = "age-band"
values = ["under-30", "30-59", "60-plus"]
purpose = "fairness"

[[fairness]]
model = "purchase-intent"
by = ["age-band"]
threshold = 0.3
outcome = "outcome:purchase@1"
window = "week"
rho = 0.02
k = 50
"#;

/// A shop's, with a model of which the compiler is told.
fn learnt() -> Option<String> {
    let text = template("shop", "app.example", "https://app.example", "2027-03-01")?;
    Some(text.replace("rho_per_device_day = 0.25", "rho_per_device_day = 0.5") + LEARNT)
}

/// What the compiler is told of any manifest.
fn facts() -> ManifestFacts {
    ManifestFacts::stand_in("purchase-intent", &["pages@1", "returning@1"])
}

fn policy_texts() -> Vec<Vec<u8>> {
    ["shop", "blog", "docs", "saas"]
        .iter()
        .filter_map(|name| template(name, "app.example", "https://app.example", "2027-03-01"))
        .chain([text()])
        .chain(learnt())
        .map(String::into_bytes)
        .collect()
}

fn a_policy() -> Policy {
    compile(&text(), 20_781, &|_| Err("none".into())).expect("the template compiles")
}

fn a_key() -> Key {
    Key::from_seed(&[1; 32])
}

fn a_submission() -> Submission {
    let policy = a_policy();
    let contributions = policy
        .metrics
        .iter()
        .map(|m| Contribution { id: [m.id as u8; 16], metric: m.id, window: TIME / m.span_ms, cell: 0, value: 1 })
        .collect();
    Submission {
        site: policy.site.clone(),
        policy_version: policy.version,
        policy_hash: policy.hash(),
        check: false,
        contributions,
    }
}

fn a_fold() -> Vec<u8> {
    let mut fold = Vec::new();
    for Contribution { metric, window, cell, value, .. } in a_submission().contributions {
        Row { window, metric, cell, value, check: false }.write(&mut fold);
        Row { window, metric, cell, value, check: true }.write(&mut fold);
    }
    fold
}

fn a_load() -> Vec<u8> {
    let body = cbor::to_vec(&a_submission());
    let relayed = vec![Relayed { network: Some(7), body: body.clone() }, Relayed { network: None, body }];
    let mut all = Vec::new();
    load(&cbor::to_vec(&Parcel { site: "app.example".into(), relayed }), &mut all);
    load(&cbor::to_vec(&Parcel { site: "b.example".into(), relayed: Vec::new() }), &mut all);
    all
}

fn a_batch() -> SealedBatch {
    SealedBatch {
        site: "app.example".into(),
        edge: "edge-1".into(),
        epoch: 1,
        seq: 2,
        policy_version: 1,
        policy_hash: a_policy().hash(),
        span_ms: 86_400_000,
        window: 20_781,
        releases: Vec::new(),
    }
}

fn a_device(state: &[u8]) -> Device {
    let setup = Setup { purposes: vec!["measurement".into()], host: "app.example".into(), ..Setup::default() };
    let mut device = Device::new(&a_policy().to_bytes(), setup, state, &[7; 32]).expect("a device");
    device.page(TIME, 0, "/pricing", "www.google.com", "");
    device.push(TIME + 5, EventKind::Scroll.number().into(), 80, 0, 0);
    // Of a layer's two the device is in one at most.
    let met = ["exposure:first", "exposure:second"].map(|name| device.custom(TIME + 6, name));
    assert!(!met[0] || !met[1], "one device in two experiments of a layer");
    device
}

/// Bytes are the one encoding of what they are read as, or refused.
fn canonical<T: cbor::Cbor>(bytes: &[u8]) -> Option<T> {
    let read = cbor::from_slice::<T>(bytes).ok()?;
    assert_eq!(cbor::to_vec(&read), bytes, "another encoding was taken");
    Some(read)
}

fn submission(bytes: &[u8]) {
    let read = canonical::<Submission>(bytes);
    assert_eq!(cbor::from_plain::<Submission>(bytes).ok(), read, "two ways of reading do not agree");
    let head = Head::of(bytes).ok();
    if let Some(Submission { site, policy_version, policy_hash, check, .. }) = read {
        assert_eq!(head, Some(Head { site, policy_version, policy_hash, check }), "a relay reads another head");
    }
}

fn parcel(bytes: &[u8]) {
    let Some(parcels) = unload(bytes) else { return };
    let mut again = Vec::new();
    for bytes in parcels {
        canonical::<Parcel>(bytes);
        load(bytes, &mut again);
    }
    assert_eq!(again, bytes, "another load");
}

fn batch(bytes: &[u8]) {
    canonical::<SealedBatch>(bytes);
}

fn policy(bytes: &[u8]) {
    let Ok(read) = Policy::from_bytes(bytes) else { return };
    assert_eq!(read.to_bytes(), bytes);
    assert!(read.declared() <= read.budget);
    for metric in &read.metrics {
        assert_eq!(metric.scales().len(), metric.cells() as usize);
        let _ = metric.labels();
    }
    learning::votes(&read);
}

fn policies() -> Vec<Vec<u8>> {
    vec![a_policy().to_bytes(), learning::a_policy().to_bytes()]
}

fn policy_text(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(compiled) = compile(text, 20_781, &|_| Ok(facts())) {
        assert_eq!(Policy::from_bytes(&compiled.to_bytes()).as_ref(), Ok(&compiled));
    }
}

fn signed(bytes: &[u8]) {
    if let Ok((_, read)) = Signed::verify(bytes, &a_key().public(), 20_781) {
        assert_eq!(read, a_policy(), "another policy than the one that was ever signed");
    }
}

/// Whatever is folded, the sums are what the reasons allow.
fn fold(bytes: &[u8]) {
    let mut worker = Worker::default();
    let hash = worker.configure(&a_policy().to_bytes()).expect("a policy");
    let Ok(out) = worker.fold(&hash, TIME, bytes) else { return };
    let verdict = Verdict::from_bytes(&out, bytes.len() / ROW).expect("a verdict");
    assert_eq!(verdict.to_bytes(), out);
    let accepted = verdict.each.iter().filter(|reason| **reason == Reason::Accepted).count();
    let added: u64 = verdict.sums.iter().map(|(_, value)| value).sum();
    assert_eq!(added, accepted as u64, "this policy has no sums: one accepted contribution, one count");
}

/// Whatever a component answers is a verdict with one encoding, or none.
fn verdict(bytes: &[u8]) {
    let Some((rows, bytes)) = bytes.split_first() else { return };
    if let Some(verdict) = Verdict::from_bytes(bytes, (*rows).into()) {
        assert_eq!(verdict.to_bytes(), bytes);
        assert!(verdict.sums.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}

fn a_verdict() -> Vec<u8> {
    let mut worker = Worker::default();
    let hash = worker.configure(&a_policy().to_bytes()).expect("a policy");
    let fold = a_fold();
    let mut bytes = vec![(fold.len() / ROW) as u8];
    bytes.extend(worker.fold(&hash, TIME, &fold).expect("a verdict"));
    bytes
}

/// A spoilt state is begun anew or gone on with; either way the device works and never overspends.
fn device_state(bytes: &[u8]) {
    if let Ok(mut tracker) = Tracker::restore(Config::default(), bytes) {
        tracker.remember();
        assert!(tracker.finished().is_empty() && tracker.session_started_ms().is_none());
    }
    let mut device = a_device(bytes);
    device.push(TIME + 10, EventKind::PageView.number().into(), 1, 0, 0);
    let prepared = device.prepare(TIME);
    if let Some(body) = prepared.submission {
        let sent = canonical::<Submission>(&body).expect("a submission");
        let policy = a_policy();
        let cost: u64 = sent.contributions.iter().filter_map(|c| policy.metric(c.metric)).map(|m| m.rho.micro()).sum();
        assert!(cost <= policy.budget.micro());
    }
    let _ = (device.status(), device.ledger(), Event::new(TIME, EventKind::PageView, 0));
}

/// A perceptron, and a forest as scikit-learn exports one.
fn onnx_files() -> Vec<Vec<u8>> {
    vec![ONNX.to_vec(), FOREST.to_vec()]
}

/// A model file from anywhere: lowered or refused; and, with a manifest that vouches for it, loaded or refused.
fn onnx(bytes: &[u8]) {
    let _ = gloaming_model::lower(bytes, &gloaming_model::Choice::default());
    let manifest = String::from_utf8_lossy(MANIFEST)
        .replace(&hash::hex(&hash::sha256(ONNX)), &hash::hex(&hash::sha256(bytes)))
        .into_bytes();
    if let Ok(model) = gloaming_model::Model::load(&manifest, bytes) {
        let row = vec![1.0; model.manifest().input.features.len()];
        let explained = model.explain(&row).expect("a reason");
        assert_eq!(explained.values.len(), row.len());
    }
}

/// What an owner of this site and two roles may write into a record, a line each.
fn gate_lines() -> Vec<Vec<u8>> {
    let [data, law] = [2, 3].map(|seed| Key::from_seed(&[seed; 32]));
    let step = |more: &str| {
        format!(
            "{{\"evidence\":[\"held-out\",\"parity\"{more}],\"approved_by\":[\"data\",\"law\"],\"auc\":0.6,\"calibration_error\":{},\"group_gap\":null,\"lift\":{}}}",
            if more.is_empty() { "null" } else { "0.1" },
            if more.is_empty() { "null" } else { "0.0" },
        )
    };
    let (data_key, law_key) = (data.public().to_text(), law.public().to_text());
    let rules = format!(
        "{{\"kind\":\"rules\",\"rules\":{{\"max_age_days\":90,\"model_bytes\":9000,\"roles\":{{\"data\":[\"{data_key}\"],\"law\":[\"{law_key}\"]}},\"experiment\":{},\"live\":{}}}}}",
        step(""),
        step(",\"calibration\",\"experiment\"")
    );
    let manifest = hash::hex(&[1; 32]);
    let model = format!(
        "{{\"kind\":\"model\",\"facts\":{{\"id\":\"m\",\"version\":1,\"manifest\":\"{manifest}\",\"onnx\":\"{manifest}\",\"bytes\":9,\"features\":[\"pages@1\"],\"owner\":\"o\",\"next_review\":\"2027-06-01\"}}}}"
    );
    let runtimes = vec![Runtime { name: "native".into(), largest: 0.0 }];
    let parity = Said::Parity(Parity { day: "2026-11-24".into(), rows: 9, runtimes });
    let envelope = Statement::of("m", &[1; 32], parity).sign(&data).to_json();
    let said = format!("{{\"kind\":\"statement\",\"envelope\":{envelope}}}");
    let go = |from: &str, to: &str| {
        format!(
            "{{\"kind\":\"move\",\"manifest\":\"{manifest}\",\"from\":\"{from}\",\"to\":\"{to}\",\"because\":\"x\"}}"
        )
    };
    let lines = [rules, model, said, go("draft", "shadow"), go("shadow", "quarantined"), go("shadow", "experiment")];
    vec![lines.join("\n").into_bytes()]
}

/// Lines that the owner tries to write: what is written reads back the same, and no model acts, for in no order of these
/// was there ever evidence of anything but parity.
fn gate(bytes: &[u8]) {
    let _ = (Record::read(bytes), Envelope::read(bytes), Statement::read(bytes));
    let mut record = Record::begin("app.example", &a_key(), 20_781).expect("a record");
    for line in bytes.split(|byte| *byte == b'\n').take(64) {
        let Ok(action) = serde_json::from_slice::<Action>(line) else { continue };
        let before = record.clone();
        if record.append(action, &a_key(), 20_781).is_err() {
            assert_eq!(record, before, "what is refused changes nothing");
        }
    }
    assert_eq!(Record::read(record.bytes()).as_ref(), Ok(&record));
    assert!(record.models().iter().all(|standing| !standing.stage.acts()));
}

fn manifest(bytes: &[u8]) {
    if let Ok(model) = gloaming_model::Model::load(bytes, ONNX) {
        let row = vec![0.0; model.manifest().input.features.len()];
        let score = model.score(&row).expect("a score");
        assert!((0.0..=1.0).contains(&score));
    }
}
