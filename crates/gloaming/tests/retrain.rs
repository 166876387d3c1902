//! A model that is learnt again from released counts: of people who are drawn by a rule, and of a shop's real visits.
#![allow(clippy::unwrap_used)]

#[path = "support/november.rs"]
mod november;
mod support;
#[path = "support/visits.rs"]
mod visits;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use gloaming::files::compile_policy;
use gloaming_behavior::definitions::{DEFINITIONS, Kind};
use gloaming_policy::author::template;
use gloaming_policy::{Axis, Bins, Metric, Policy, Source};
use gloaming_privacy::{noised, sample};
use gloaming_signal::hash;
use november::november;
use serde_json::{Value, json};
use support::Folder;
use visits::{MANIFEST, Visit, auc, load, scored, visits};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
const DAY: u64 = 86_400_000;
/// Where the counted windows begin.
const FROM: u64 = 20_000 * DAY;

/// A shop's policy with these lines for retraining.
fn policy(folder: &Folder, retrain: &str) -> Policy {
    let text = template("shop", "shop.example", "https://shop.example", &next_year()).unwrap();
    let text = text.replacen("rho_per_device_day = 0.25", "rho_per_device_day = 2.0", 1);
    fs::write(folder.path("policy.toml"), format!("{text}\n{retrain}")).unwrap();
    compile_policy(&folder.path("policy.toml"), Some(Path::new(ROOT))).unwrap().0
}

fn next_year() -> String {
    gloaming_policy::author::date_of(gloaming::files::today() + 300)
}

/// The bin of a value among an axis's, as a device finds it.
fn bin(axis: &Axis, policy: &Policy, visit: &Visit) -> usize {
    let Source::Feature(feature) = axis.source else { panic!("{axis:?}") };
    if axis.is_yes_or_no() && !policy.models[0].inputs.contains(&feature) {
        return usize::from(visit.1);
    }
    let at = policy.models[0].inputs.iter().position(|input| *input == feature).unwrap();
    let Kind::Number { scale, .. } = DEFINITIONS[feature as usize].kind else { panic!("{axis:?}") };
    let steps = (f64::from(visit.0[at]) * f64::from(scale)).round() as u32;
    let Bins::Edges(edges) = &axis.bins else { panic!("{axis:?}") };
    edges[1..edges.len() - 1].partition_point(|edge| *edge <= steps)
}

/// Whether a metric is of those that are learnt from.
fn is_learnt_from(metric: &Metric) -> bool {
    metric.name.contains("-by-") || metric.name.contains("-pair-")
}

/// What an edge released of these visits in a window, each metric with noise by the sampler that edges use; without noise for
/// no seed.
fn release(policy: &Policy, metric: &Metric, edge: &str, visits: &[Visit], seed: Option<u8>) -> Value {
    let width = metric.axes[1].labels.len();
    let mut exact = vec![0u64; metric.cells() as usize];
    for visit in visits {
        exact[bin(&metric.axes[0], policy, visit) * width + bin(&metric.axes[1], policy, visit)] += 1;
    }
    let scales = metric.scales();
    let values: Vec<i64> = match seed {
        Some(seed) => noised(&exact, &sample(&[seed; 32], DAY, 1, metric.id, metric.mechanism, &scales)),
        None => exact.iter().map(|count| *count as i64).collect(),
    };
    let half = if seed.is_some() { scales[0].half_width_95(metric.mechanism) } else { 1e-3 };
    json!({
        "start_ms": FROM, "end_ms": FROM + 4 * DAY, "edge": edge, "policy_version": 1, "state": "released", "comparable": true,
        "half_width": vec![half; values.len()], "values": values,
    })
}

/// A centre's overview of what was counted of visits at one edge.
fn overview(policy: &Policy, visits: &[Visit], seed: Option<u8>) -> Value {
    let of = |metric: &Metric| {
        let window = release(policy, metric, "edge-1", visits, seed);
        json!({
            "name": metric.name, "of": metric.of, "rows": metric.axes[0].labels.len(), "labels": metric.labels(),
            "total": { "windows": 1, "half_width": window["half_width"], "values": window["values"] }, "windows": [window],
        })
    };
    let metrics: Vec<Value> = policy.metrics.iter().filter(|metric| is_learnt_from(metric)).map(of).collect();
    json!({ "site": policy.site, "metrics": metrics })
}

const RETRAIN: &str = "[[retrain]]
model = \"purchase-intent\"
outcome = \"outcome:purchase@1\"
pairs = [[\"pages-product@1\", \"time-product@1\"], [\"pages-info@1\", \"time-info@1\"], [\"pages-account@1\", \"time-account@1\"]]
window = \"day\"
rho = 0.05
k = 50
";

const LEARN: [&str; 8] = ["model", "retrain", MANIFEST, "--models", ROOT, "--from", "overview.json", "--out"];

fn learn<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    LEARN.into_iter().chain([out]).chain(more.iter().copied()).collect()
}

#[test]
fn a_rule_is_learnt_from_counts_and_proven_on_later_ones() {
    let folder = Folder::new();
    let policy = policy(&folder, RETRAIN);
    let (before, later) = (visits(6_000, 1), visits(6_000, 2));
    fs::write(folder.path("overview.json"), overview(&policy, &before, Some(1)).to_string()).unwrap();
    let said = folder.says(&learn("next", &["--sessions", "sessions.csv"]));
    println!("{said}");
    assert!(
        said.contains(
            "version 3, learnt from 8 counts of inputs with the outcome and 3 of pairs, of 1 released window"
        )
    );
    assert!(said.contains("what goes together: ") && said.contains("time-product@1 with pages-product@1"), "{said}");
    // What decides is said first; it is brought, proven and explained like any other model.
    let strongest = said.lines().find(|line| line.starts_with("  ")).unwrap();
    assert!(strongest.contains("-product@1"), "{said}");
    assert!(folder.says(&["model", "check", "next/manifest.json"]).contains("purchase-intent version 3"));
    let model = load(&folder.path("next/manifest.json"));
    assert!(model.explain(&later[0].0).unwrap().exact);
    let told: Value = serde_json::from_slice(&fs::read(folder.path("next/manifest.json")).unwrap()).unwrap();
    assert_eq!((&told["evidence"], &told["retrained"]["until_ms"]), (&Value::Null, &json!(FROM + 4 * DAY)));
    let shipped = load(Path::new(MANIFEST));
    let (old, new) = (auc(&scored(&shipped, &later)), auc(&scored(&model, &later)));
    println!("AUC on later visits: {old:.4} before, {new:.4} learnt again");
    assert!(new > 0.7 && new > old + 0.03, "{old} {new}");
    // Sessions of nobody have the columns that training reads, and buy as often as people do.
    let sessions = fs::read_to_string(folder.path("sessions.csv")).unwrap();
    let mut lines = sessions.lines();
    assert!(lines.next().unwrap().ends_with("returning@1,weekend@1,purchase@1"));
    let (count, bought) =
        lines.fold((0, 0), |(count, bought), line| (count + 1, bought + usize::from(line.ends_with(",1"))));
    let rate = before.iter().filter(|visit| visit.1).count() as f64 / before.len() as f64;
    assert!(count == 20_000 && (f64::from(bought as u32) / 20_000.0 - rate).abs() < 0.02, "{bought} {rate}");

    // Later windows in which it ran in shadow speak for it; those that it learnt from do not.
    let ends = [&[0.0], &model.manifest().score_edges[..], &[1.0]].concat();
    let labels: Vec<String> = ends
        .windows(2)
        .flat_map(|bin| ["no", "yes"].map(|word| format!("{:.3}-{:.3} | {word}", bin[0], bin[1])))
        .collect();
    let mut cells = vec![0.0; labels.len()];
    for (score, bought) in scored(&model, &later) {
        cells[2 * ends[1..20].partition_point(|edge| *edge <= score) + usize::from(bought)] += 1.0;
    }
    let own = hash::hex(&hash::sha256(&fs::read(folder.path("next/manifest.json")).unwrap()));
    let shadow = |from: u64| {
        json!({ "site": "shop.example", "metrics": [{
            "name": "purchase-calibration", "of": "score:purchase-intent, outcome:purchase@1", "rows": 20, "labels": labels,
            "manifest": own, "score_edges": ends,
            "total": { "windows": 2, "values": cells, "half_width": vec![8.0; cells.len()] },
            "windows": [{ "start_ms": from, "end_ms": from + DAY, "state": "released", "comparable": true }],
        }] })
    };
    let evaluate = ["model", "evaluate", "next/manifest.json", "--released", "shadow.json", "--out", "evidence"];
    fs::write(folder.path("shadow.json"), shadow(FROM + 3 * DAY).to_string()).unwrap();
    let error = folder.refuses(&evaluate);
    assert!(error.contains("it would be held to what it knows"), "{error}");
    fs::write(folder.path("shadow.json"), shadow(FROM + 4 * DAY).to_string()).unwrap();
    let said = folder.says(&evaluate);
    println!("{said}");
    let read = |name: &str| -> Value { serde_json::from_slice(&fs::read(folder.path(name)).unwrap()).unwrap() };
    let held_out = &read("evidence/held-out.json")["predicate"];
    assert_eq!(held_out["on"]["split"], "time");
    assert_eq!(held_out["on"]["trained"], "1 released window of shop.example");
    let (low, high) = (held_out["auc"]["low"].as_f64().unwrap(), held_out["auc"]["high"].as_f64().unwrap());
    assert!(low < new && new < high && high - low < 0.1, "{said}");
    assert!(read("evidence/calibration.json")["predicate"]["error"]["value"].as_f64().unwrap() < 0.06, "{said}");
    assert!(said.contains("no statement on fairness: the policy compares no groups"), "{said}");

    // And what visitors said of themselves, where enough did.
    let by_age = |people: f64, from: u64| {
        let mut overview = shadow(FROM + 4 * DAY);
        let words = ["under-30", "60-plus"].iter().flat_map(|word| {
            ["0.000-0.300 | no", "0.000-0.300 | yes", "0.300-1.000 | no", "0.300-1.000 | yes"]
                .map(|cell| format!("{word} | {cell}"))
        });
        let values = [0.6, 0.1, 0.15, 0.15, 0.65, 0.1, 0.125, 0.125].map(|share: f64| (share * people).round());
        overview["metrics"].as_array_mut().unwrap().push(json!({
            "name": "purchase-intent-fair-age-band", "of": "page:age-band, score:purchase-intent, outcome:purchase@1", "rows": 2,
            "labels": words.collect::<Vec<_>>(), "manifest": own, "score_edges": [0.0, 0.3, 1.0],
            "total": { "windows": 2, "values": values, "half_width": vec![12.0; 8] },
            "windows": [{ "start_ms": from, "end_ms": from + DAY, "state": "released", "comparable": true }],
        }));
        overview.to_string()
    };
    fs::write(folder.path("shadow.json"), by_age(9_000.0, FROM + 4 * DAY)).unwrap();
    let said = folder.says(&evaluate);
    println!("{said}");
    let fairness = &read("evidence/fairness.json")["predicate"];
    let found = &fairness["by"][0];
    assert_eq!((&fairness["threshold"], &found["name"]), (&json!(0.3), &json!("age-band")));
    assert_eq!(found["groups"][0], json!({ "name": "under-30", "rows": 9_000, "positives": 2_250, "selected": 2_700 }));
    let gap = &found["selection_gap"];
    assert!((gap["value"].as_f64().unwrap() - 0.05).abs() < 1e-9 && gap["high"].as_f64().unwrap() < 0.07, "{gap}");
    fs::write(folder.path("shadow.json"), by_age(300.0, FROM + 4 * DAY)).unwrap();
    let said = folder.says(&evaluate);
    assert!(said.contains("no statement on fairness by age-band: not enough people"), "{said}");
    fs::write(folder.path("shadow.json"), by_age(9_000.0, FROM)).unwrap();
    assert!(folder.refuses(&evaluate).contains("counted in windows that it was learnt from"));
    // Of another version of the model nothing is taken, however alike its bins are.
    fs::write(folder.path("shadow.json"), shadow(FROM + 4 * DAY).to_string().replace(&own, &"0".repeat(64))).unwrap();
    assert!(folder.refuses(&evaluate).contains("the centre counts another version of it"));
}

#[test]
fn what_was_not_counted_is_not_learnt_and_nothing_is_written() {
    let folder = Folder::new();
    let policy = policy(&folder, RETRAIN);
    let good = overview(&policy, &visits(3_000, 1), Some(1));
    let with = |change: fn(&mut Value)| {
        let mut other = good.clone();
        change(&mut other);
        other.to_string()
    };
    let nobody: Vec<Visit> = visits(3_000, 1).into_iter().map(|(row, _)| (row, false)).collect();
    for (text, words) in [
        (with(|o| o["site"] = "other.example".into()), "is of other.example, and the policy of shop.example"),
        (with(|o| drop(o["metrics"].as_array_mut().unwrap().remove(0))), "counts no `purchase-intent-"),
        (with(|o| o["metrics"][0]["labels"] = json!(["a"])), "was counted by other bins than this policy has"),
        (with(|o| o["metrics"][1]["windows"] = json!([])), "there is no window of which all 11 counts were released"),
        (
            with(|o| {
                let values = o["metrics"][0]["windows"][0]["values"].as_array_mut().unwrap();
                values.iter_mut().for_each(|value| *value = (value.as_f64().unwrap() / 2.0).into());
            }),
            "what it would teach is about other visits; leave it out of `inputs`",
        ),
        (with(|o| o["metrics"][1]["windows"][0]["values"] = json!([1])), "has not a value and an interval for each"),
        (overview(&policy, &nobody, Some(1)).to_string(), "people have the outcome, with noise of"),
    ] {
        fs::write(folder.path("overview.json"), text).unwrap();
        let error = folder.refuses(&learn("next", &[]));
        assert!(error.contains(words), "{words:?} is not in {error}");
        assert!(!folder.path("next").exists());
    }
    fs::write(folder.path("overview.json"), good.to_string()).unwrap();
    // An edge whose few visits fell below the crowd in one metric alone is left out of all: what is summed is of the same people.
    let mut two = good.clone();
    let few = visits(60, 9);
    for (at, metric) in policy.metrics.iter().filter(|metric| is_learnt_from(metric)).enumerate() {
        let mut window = release(&policy, metric, "edge-2", &few, Some(2));
        if at == 3 {
            window["state"] = "below-k".into();
        }
        two["metrics"][at]["windows"].as_array_mut().unwrap().push(window);
    }
    let said = folder.says(&learn("whole", &[]));
    fs::write(folder.path("overview.json"), two.to_string()).unwrap();
    let half = folder.says(&learn("half", &[]));
    assert_eq!(said.replace("whole", "half"), half);
    let error = folder.refuses(&learn("half", &[]));
    assert!(error.contains("holds a model already"), "{error}");
    // A policy that counts nothing for it says so, and what to add.
    self::policy(&folder, "");
    let error = folder.refuses(&learn("none", &[]));
    assert!(error.contains("add [[retrain]] with model = \"purchase-intent\""), "{error}");
}

/// Trains scikit-learn's models on a table, and prints their AUC on another.
const TRAIN: &str = "
import csv, sys
import numpy as np
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
def read(path):
    rows = np.array(list(csv.reader(open(path)))[1:], float)
    return np.log1p(rows[:, :-1]), rows[:, -1]
(x, y), (xt, yt) = read(sys.argv[1]), read(sys.argv[2])
for model in (LogisticRegression(max_iter=5000), GradientBoostingClassifier(n_estimators=60, random_state=1)):
    print(roc_auc_score(yt, model.fit(x, y).predict_proba(xt)[:, 1]))
";

fn trained(train: &Path, test: &Path) -> [f64; 2] {
    let mut python = Command::new(std::env::var_os("GLOAMING_KIT_PYTHON").unwrap());
    let output = python.arg("-c").arg(TRAIN).arg(train).arg(test).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let figures: Vec<f64> = said.lines().map(|line| line.parse().unwrap()).collect();
    figures.try_into().unwrap_or_else(|_| panic!("{said}{}", String::from_utf8_lossy(&output.stderr)))
}

fn table(visits: &[Visit], path: PathBuf) -> PathBuf {
    let line = |(row, bought): &Visit| {
        let cells: Vec<String> = row.iter().map(f32::to_string).collect();
        format!("{},{}", cells.join(","), u8::from(*bought))
    };
    let lines: Vec<String> = visits.iter().map(line).collect();
    fs::write(&path, format!("header\n{}\n", lines.join("\n"))).unwrap();
    path
}

/// What counts with noise are worth beside the rows themselves. The policy, the counts' noise and the command are those of a
/// site; the budget of all these counts together is epsilon a device-day, at a delta of a millionth.
#[test]
fn counts_of_a_real_month_teach_nearly_what_its_rows_do() {
    let (Some([half, other]), Some(_)) = (november(), std::env::var_os("GLOAMING_KIT_PYTHON")) else {
        println!("skipped: GLOAMING_DATA and GLOAMING_KIT_PYTHON are not both set");
        return;
    };
    let folder = Folder::new();
    let test = table(&other, folder.path("test.csv"));
    let rows = trained(&table(&half, folder.path("rows.csv")), &test);
    println!("{} visits counted, {} scored; AUC of what is learnt", half.len(), other.len());
    println!("from rows:         logistic {:.4}, boosted trees {:.4}", rows[0], rows[1]);
    println!("shipped, of February to September: {:.4}", auc(&scored(&load(Path::new(MANIFEST)), &other)));
    let mut found = Vec::new();
    for (name, rho, seeds) in [("no noise", 0.3, 0), ("epsilon 4", 0.253_935, 5), ("epsilon 1", 0.017_468, 5)] {
        let lines = format!(
            "[[retrain]]\nmodel = \"purchase-intent\"\noutcome = \"outcome:purchase@1\"\nwindow = \"day\"\nk = 50\nrho = {rho}\n"
        );
        let policy = policy(&folder, &lines);
        let mut sums = [0.0; 3];
        for seed in 0..seeds.max(1) {
            let seed = (seeds > 0).then_some(seed);
            fs::write(folder.path("overview.json"), overview(&policy, &half, seed).to_string()).unwrap();
            let out = format!("{rho}-{seed:?}");
            folder.says(&learn(&out, &["--sessions", "sessions.csv"]));
            let own = auc(&scored(&load(&folder.path(&out).join("manifest.json")), &other));
            let [line, trees] = trained(&folder.path("sessions.csv"), &test);
            [own, line, trees].iter().zip(&mut sums).for_each(|(one, sum)| *sum += one / f64::from(seeds.max(1)));
        }
        println!(
            "counts, {name:<10} additive {:.4}; of sessions of nobody: logistic {:.4}, boosted trees {:.4}",
            sums[0], sums[1], sums[2]
        );
        found.push(sums);
    }
    // What binning costs, and what noise costs.
    assert!(found[0][0] > rows[1] - 0.03 && found[1][0] > rows[1] - 0.03 && found[2][0] > rows[1] - 0.05, "{found:?}");
}
