//! A shop whose model acts, with a record of the gate that lets it, and what its visits are like: counts are drawn, noised as the
//! policy says and sealed, so that every figure of the centre can be held to what was planted.
#![allow(clippy::unwrap_used, dead_code)]

use std::path::Path;

use gloaming_central::{Arrived, Store, StoreAddress};
use gloaming_policy::author::{Key, ManifestFacts, Signed, compile_with, date_of, gate_rules, template};
use gloaming_policy::gate::{
    Action, Approval, Facts, HeldOut, Interval, Parity, Record, Rows, Runtime, Said, SplitBy, Stage, Statement,
    usual_runtimes,
};
use gloaming_policy::{Metric, Policy};
use gloaming_signal::{Release, ReleaseState, SealedBatch, hash};
use gloaming_stats::draws::Draws;

pub(crate) mod centre;

pub(crate) const SITE: &str = "shop.example";
pub(crate) const DAY: u64 = 86_400_000;
pub(crate) const WEEK: u64 = 7 * DAY;
/// Length of the model's file, as the record has it.
pub(crate) const BYTES: u64 = 1_375;
const MANIFEST: [u8; 32] = [1; 32];
const INPUTS: [&str; 3] = ["pages-product@1", "time-product@1", "returning@1"];

/// What is counted beside the template's metrics.
pub(crate) const ALL: &str = r#"
[[purpose]]
id = "fairness"
text.en = "Compare how groups of visitors fare."

[[attribute]]
id = "age-band"
values = ["under-30", "30-59", "60-plus"]
purpose = "fairness"

[[feature]]
id = "satisfaction"
kind = "category"
values = ["unhappy", "neutral", "happy"]
purpose = "prediction"

[[feature]]
id = "complaint"
kind = "category"
values = ["no", "yes"]
purpose = "prediction"

[[metric]]
id = 60
name = "opt-outs"
of = "feature:purposes-withdrawn@1"
histogram = { edges = [0, 1, 9] }
purpose = "prediction"
tier = "edge"
window = "week"
per_day = 1
rho = 0.005
k = 50

[[metric]]
id = 61
name = "complaints"
funnel = ["page_view", "complaint"]
purpose = "prediction"
tier = "edge"
window = "week"
per_day = 1
rho = 0.005
k = 50

[[fairness]]
model = "purchase-intent"
by = ["age-band"]
outcome = "outcome:purchase@1"
window = "week"
rho = 0.05
k = 100

[[experiment]]
id = "hears-it"
arms = ["as-is", "heard"]
purpose = "prediction"
model = "purchase-intent"
goal = { of = "feature:purchase-value@1", edges = [0.01, 50], worth = [0, 25, 90] }
guardrails = [
    { of = "page:satisfaction", is = ["unhappy"], permitted = 0.05 },
    { of = "feature:purposes-withdrawn@1", permitted = 0.005 },
    { of = "page:complaint", permitted = 0.02 },
    { of = "feature:errors@1", permitted = 0.01 },
]
minimum_effect = 0.5
window = "day"
rho = 0.05
k = 50
"#;

/// Figures that were planted, as the centre's view names them: kind, a part of what it is (the first line that has it), and the truth.
pub(crate) const PLANTED: [(&str, &str, f64); 16] = [
    ("value", "purchase-value", 5.85 / 4.45 - 1.0),
    ("conversion", "0.01 at least", 0.3),
    ("satisfaction", "page:satisfaction: unhappy", 0.12),
    ("satisfaction", "more than in as-is: page:satisfaction: unhappy", 0.02),
    ("calibration", "off what comes true", 0.1),
    ("gap", "who is selected, by age-band", 0.15),
    ("gap", "with the same outcome", ODDS),
    ("opt-outs", "feature:purposes-withdrawn@1, hears-it", 0.012),
    ("opt-outs", "more than in as-is: feature:purposes-withdrawn@1", 0.002),
    ("opt-outs", "another kept, opt-outs", 0.012),
    ("complaints", "page:complaint, hears-it", 0.009),
    ("complaints", "more than in as-is: page:complaint", 0.004),
    ("guardrail", "more than in as-is: feature:errors@1", 0.001),
    ("complaints", "complained, complaints", 0.006),
    ("late", "three times running", 0.03 / 0.96),
    ("failed", "given up", 0.02 / 0.98),
];
/// Of the selected half buy, of the others a tenth; 0.3 and 0.15 of groups are selected.
const ODDS: f64 = 0.15 / 0.22 - 0.075 / 0.16;

/// Where the owner's and the roles' keys come from.
fn key(seed: u8) -> Key {
    Key::from_seed(&[seed; 32])
}

fn gate() -> String {
    format!(
        r#"
[gate]
max_age_days = 180
model_bytes = 100000
roles = {{ data = ["{}"], compliance = ["{}"] }}
[gate.experiment]
evidence = ["held-out", "parity"]
approved_by = ["data"]
auc = 0.6
[gate.live]
evidence = ["held-out", "calibration", "parity", "experiment"]
approved_by = ["data", "compliance"]
auc = 0.6
calibration_error = 0.1
lift = 0.0
"#,
        key(11).public().to_text(),
        key(12).public().to_text()
    )
}

/// A record by which the model is in its experiment.
fn record(today: u64) -> Record {
    let owner = key(10);
    let mut record = Record::begin(SITE, &owner, today).unwrap();
    let rules = gate_rules(&gate()).unwrap().unwrap();
    record.append(Action::Rules { rules }, &owner, today).unwrap();
    let facts = Facts {
        id: "purchase-intent".into(),
        version: 1,
        manifest: hash::hex(&MANIFEST),
        onnx: hash::hex(&[2; 32]),
        bytes: BYTES,
        features: INPUTS.map(str::to_owned).to_vec(),
        kinds: 0,
        owner: "data@shop.example".into(),
        next_review: date_of(today + 300),
        oversize: None,
    };
    record.append(Action::Model { facts }, &owner, today).unwrap();
    let day = date_of(today);
    let around = |value: f64| Interval { value, low: value - 0.02, high: value + 0.02 };
    let on = Rows {
        data: "november.csv".into(),
        sha256: "ab".repeat(32),
        split: SplitBy::Time,
        trained: "February to September".into(),
        tested: "November".into(),
        rows: 2_998,
        positives: 760,
    };
    let held_out = HeldOut {
        day: day.clone(),
        on,
        auc: around(0.66),
        average_precision: around(0.34),
        brier: around(0.19),
        turns: vec![],
        curve: vec![],
    };
    let runtimes = usual_runtimes().into_iter().map(|name| Runtime { name, largest: 3e-8 }).collect();
    let parity = Parity { day: day.clone(), rows: 64, runtimes };
    let say = |record: &mut Record, said: Said| {
        let envelope = Statement::of("purchase-intent", &MANIFEST, said).sign(&key(11));
        record.add(envelope, &owner, today).unwrap();
    };
    let go = |record: &mut Record, to: Stage| record.move_to(&MANIFEST, to, "to see", &owner, today).unwrap();
    say(&mut record, Said::Parity(parity));
    go(&mut record, Stage::Shadow);
    say(&mut record, Said::HeldOut(held_out));
    let yes = Approval { day, role: "data".into(), to: Stage::Experiment, seen: record.head() };
    say(&mut record, Said::Approval(yes));
    go(&mut record, Stage::Experiment);
    record
}

/// A shop whose model acts.
pub(crate) struct Shop {
    pub(crate) policy: Policy,
    pub(crate) signed: Vec<u8>,
    pub(crate) owner: Key,
    pub(crate) today: u64,
}

/// The text of its policy: the template's with `more`, and the model in its experiment.
pub(crate) fn text(today: u64, more: &str) -> String {
    let text = template("shop", SITE, "https://shop.example", &date_of(today + 60)).unwrap();
    let text = text.replace("rho_per_device_day = 0.25", "rho_per_device_day = 1.0");
    let text = text.replace("state = \"shadow\"", "state = \"experiment\"");
    let events = if more == ALL { "events = [\"complaint\"]\n" } else { "" };
    text.replacen("origins =", &format!("{events}origins ="), 1) + more + &gate()
}

impl Shop {
    pub(crate) fn new(today: u64, text: &str) -> Self {
        let record = record(today);
        let facts = ManifestFacts {
            manifest_sha256: MANIFEST,
            onnx_sha256: [2; 32],
            ..ManifestFacts::stand_in("purchase-intent", &INPUTS)
        };
        let compiled = compile_with(text, today, &|_| Ok(facts.clone()), Some(&record));
        let policy = compiled.unwrap_or_else(|problems| panic!("{problems:?}\n{text}"));
        let owner = key(10);
        let signed = Signed::sign(&policy, &[&owner]).with_record(&record).to_bytes();
        Self { policy, signed, owner, today }
    }

    /// Six weeks and fourteen days of it in a store that begins there.
    pub(crate) async fn fill(&self, folder: &Path, seed: u64) -> StoreAddress {
        let address = StoreAddress::Sqlite(folder.join("central.sqlite"));
        let (store, mut draws) = (Store::open(&address).await.unwrap(), Draws::new(seed));
        let weeks = (0..6).map(|week| (WEEK, self.today / 7 - 6 + week));
        let days = (0..14).map(|day| (DAY, self.today - 14 + day));
        for (seq, (span_ms, window)) in (0..).zip(weeks.chain(days)) {
            let here = self.policy.metrics.iter().filter(|metric| metric.span_ms == span_ms);
            let batch = SealedBatch {
                site: SITE.to_owned(),
                edge: "edge-1".to_owned(),
                epoch: 7,
                seq,
                policy_version: self.policy.version,
                policy_hash: self.policy.hash(),
                span_ms,
                window,
                releases: here.map(|metric| released(metric, seq, &mut draws)).collect(),
            };
            let digest = hash::sha256(format!("{batch:?}").as_bytes());
            store.put(&[Arrived { batch: &batch, digest }], 0).await.unwrap();
        }
        store.close().await;
        address
    }
}

/// One metric's window, noised. Of the metric that nobody watches closely the fourth window stays below k.
fn released(metric: &Metric, seq: u64, draws: &mut Draws) -> Release {
    if metric.name == "source" && seq % 4 == 3 {
        return Release { metric: metric.id, state: ReleaseState::BelowK, values: Vec::new() };
    }
    let (visits, chances) = shape(metric);
    let mut cells = vec![0.0; metric.cells() as usize];
    let whole: f64 = chances.iter().sum();
    for _ in 0..visits {
        let mut left = draws.uniform() * whole;
        let place = chances.iter().position(|chance| {
            left -= chance;
            left < 0.0
        });
        cells[place.unwrap_or(chances.len() - 1)] += 1.0;
    }
    let scales = metric.scales();
    let noised = cells
        .iter()
        .zip(&scales)
        .map(|(count, scale)| (count + scale.deviation(metric.mechanism) * draws.normal()).round() as i64);
    Release { metric: metric.id, state: ReleaseState::Released, values: noised.collect() }
}

/// How many visits a window of it has, and how likely each cell is.
fn shape(metric: &Metric) -> (usize, Vec<f64>) {
    let by_arm = |control: &[f64], heard: &[f64]| [control, heard].concat();
    match metric.name.as_str() {
        // As often as eight tenths of the score.
        "purchase-calibration" => {
            let bin = |bin: i32| 0.8 * (f64::from(bin) + 0.5) / 20.0;
            (6_000, (0..20).flat_map(|at| [1.0 - bin(at), bin(at)]).collect())
        }
        "purchase-intent-fair-age-band" => {
            let group =
                |selected: f64| [0.9 * (1.0 - selected), 0.1 * (1.0 - selected), 0.5 * selected, 0.5 * selected];
            (3_000, [0.3, 0.3, 0.15].into_iter().flat_map(group).collect())
        }
        "purchase-intent-fared" => (6_000, vec![0.02, 0.92, 0.02, 0.01, 0.0, 0.01, 0.01, 0.01]),
        "opt-outs" => (6_000, vec![0.988, 0.012]),
        "complaints" => (6_000, vec![0.0, 0.994, 0.006]),
        "hears-it-by-purchase-value" => (6_000, by_arm(&[0.90, 0.07, 0.03], &[0.87, 0.09, 0.04])),
        "hears-it-by-satisfaction-unhappy" => (1_600, by_arm(&[0.90, 0.10], &[0.88, 0.12])),
        "hears-it-by-purposes-withdrawn" => (6_000, by_arm(&[0.990, 0.010], &[0.988, 0.012])),
        "hears-it-by-complaint" => (6_000, by_arm(&[0.995, 0.005], &[0.991, 0.009])),
        "hears-it-by-errors" => (6_000, by_arm(&[0.98, 0.02], &[0.979, 0.021])),
        _ => (2_000, (0..metric.cells()).map(|cell| 1.0 / f64::from(1 + cell)).collect()),
    }
}
