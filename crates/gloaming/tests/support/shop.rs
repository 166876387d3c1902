//! A shop's folder, and what a centre would tell of visits whose devices run what devices run.

use std::fs;
use std::path::Path;

use gloaming::files::today;
use gloaming_behavior::{Features, GroupKind, NONE, Tracker};
use gloaming_model::Model;
use gloaming_policy::author::{date_of, template};
use gloaming_policy::{Beside, Bins, Metric, Policy, Score, Source, score_steps};
use gloaming_privacy::{noised, sample};
use gloaming_signal::{Event, EventKind, hash};
use gloaming_stats::draws::Draws;
use serde_json::{Value, json};

use crate::support::Folder;
use crate::visits::{MANIFEST, Visit, load};

pub(crate) const DAY: u64 = 86_400_000;
/// Where the first window begins.
pub(crate) const FROM: u64 = 20_000 * DAY;
pub(crate) const MODEL: &str = "models/purchase-intent";

/// A site's folder with the shop's policy, the shipped model, and these lines.
pub(crate) fn site(lines: &str) -> Folder {
    let folder = Folder::new();
    fs::create_dir_all(folder.path(MODEL)).unwrap();
    for name in ["manifest.json", "model.onnx"] {
        fs::copy(MANIFEST.replace("manifest.json", name), folder.path(MODEL).join(name)).unwrap();
    }
    says_policy(&folder, lines);
    folder
}

pub(crate) fn says_policy(folder: &Folder, lines: &str) {
    let text = template("shop", "shop.example", "https://shop.example", &date_of(today() + 300)).unwrap();
    let text = text.replacen("rho_per_device_day = 0.25", "rho_per_device_day = 2.0", 1);
    fs::write(folder.path("policy.toml"), format!("{text}\n{lines}")).unwrap();
}

/// A visit as a device's tracker sees it.
pub(crate) fn features(policy: &Policy, (row, bought): &Visit) -> Features {
    let mut tracker = Tracker::new(policy.behavior.clone());
    let at = FROM + DAY / 2;
    let group = |kind: GroupKind| policy.behavior.groups.iter().position(|group| *group == kind).unwrap() as u32;
    if row[6] > 0.0 {
        tracker.push(Event::new(at - 2 * DAY, EventKind::PageView, 0));
    }
    let weekday = if row[7] > 0.0 { 5 } else { 1 };
    tracker.push(Event { at_ms: at, kind: EventKind::Visit, a: 1, b: 2, c: weekday << 5 | 12 });
    let mut now = at;
    for (kind, pair) in [(GroupKind::Account, 0), (GroupKind::Info, 2), (GroupKind::Product, 4)] {
        for _ in 0..row[pair] as u32 {
            now += 1;
            tracker.push(Event::new(now, EventKind::PageView, group(kind)));
        }
        // What was longer than a minute a device sees as several ticks.
        let mut left = (f64::from(row[pair + 1]) * 1e3).round() as u32;
        while left > 0 {
            now += 1;
            tracker.push(Event::new(now, EventKind::EngagedTime, left.min(60_000)));
            left -= left.min(60_000);
        }
    }
    if *bought {
        tracker.push(Event::new(now + 1, EventKind::Purchase, 100));
    }
    tracker.features(true)
}

/// What an edge released of these visits on the day of a round; without noise for no seed.
pub(crate) fn overview(policy: &Policy, model: &Path, visits: &[Visit], round: u64, seed: Option<u8>) -> Value {
    overview_of(policy, &[model], visits, round, seed)
}

/// The same of devices that run several models, in the policy's order.
pub(crate) fn overview_of(policy: &Policy, models: &[&Path], visits: &[Visit], round: u64, seed: Option<u8>) -> Value {
    let scorers: Vec<Model> = models.iter().map(|model| load(model)).collect();
    let mut draws = Draws::new(round ^ u64::from(seed.unwrap_or(99)) << 8);
    let seen: Vec<(Features, Vec<Score>, Vec<u32>)> = visits
        .iter()
        .map(|visit| {
            let features = features(policy, visit);
            let steps = |scorer: &Model| score_steps(scorer.score(&visit.0).unwrap()).unwrap();
            let scores = scorers.iter().map(|scorer| Score { steps: steps(scorer), fared: 1 }).collect();
            let votes = policy.learners.iter().map(|one| one.vote(&features, draws.bits()).unwrap_or(NONE)).collect();
            (features, scores, votes)
        })
        .collect();
    let of = |metric: &Metric| {
        let mut exact = vec![0u64; metric.cells() as usize];
        for (features, scores, votes) in &seen {
            let beside = Beside { scores, votes, ..Beside::default() };
            if let Some(cell) = metric.cell_of(features, beside) {
                exact[cell.cell as usize] += 1;
            }
        }
        let (manifest, score_edges) = metric
            .axes
            .iter()
            .find_map(|axis| match (axis.source, &axis.bins) {
                (Source::Score(place), Bins::Edges(edges)) => {
                    let edges: Vec<f64> = edges.iter().map(|edge| f64::from(*edge) / 1e6).collect();
                    Some((hash::hex(&policy.models[place as usize].manifest_sha256), edges))
                }
                _ => None,
            })
            .unzip();
        let scales = metric.scales();
        let values: Vec<i64> = match seed {
            Some(seed) => noised(&exact, &sample(&[seed; 32], DAY, round, metric.id, metric.mechanism, &scales)),
            None => exact.iter().map(|count| *count as i64).collect(),
        };
        let half = if seed.is_some() { scales[0].half_width_95(metric.mechanism) } else { 1e-3 };
        let half_width = vec![half; values.len()];
        json!({
            "name": metric.name, "of": metric.of, "rows": metric.axes[0].labels.len(), "labels": metric.labels(),
            "manifest": manifest, "score_edges": score_edges.unwrap_or_default(),
            "total": { "windows": 1, "half_width": half_width, "values": values },
            "windows": [{
                "start_ms": FROM + round * DAY, "end_ms": FROM + (round + 1) * DAY, "edge": "edge-1", "policy_version": 1,
                "state": "released", "comparable": true, "half_width": half_width, "values": values,
            }],
        })
    };
    let counted = policy.metrics.iter().filter(|metric| metric.sum_max().is_none()).map(of);
    json!({ "site": policy.site, "metrics": counted.collect::<Vec<_>>() })
}
