//! What calls for somebody, found in what a site released.

use std::collections::BTreeMap;

use gloaming_policy::Policy;
use gloaming_signal::hash::hex;

use crate::overview::Overview;
use crate::sudden::Sudden;
use crate::trials::ExperimentView;
use crate::watch::{Figure, ModelView};

/// Days before a policy expires at which that is said.
const EXPIRY_DAYS: u64 = 14;
/// Calibration error whose lower end is above this makes a score worthless as a probability.
const CALIBRATION: f64 = 0.1;
/// Share of visits in which a model was given up, from which that is said.
const GIVEN_UP: f64 = 0.05;

/// A gap between groups whose lower end is above this is told of.
const GROUP_GAP: f64 = 0.1;

/// How long batches that conflicted are told of: the row about it stays for good.
const ALARMED_MS: u64 = 3 * 86_400_000;

/// Something that was found; the same thing has the same key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// What it is about, so that it is told once.
    pub(crate) key: String,
    /// Start of the window since which it lasts, ms: part of the key of what may end and begin again.
    pub(crate) lasts_since_ms: Option<u64>,
    /// In a word.
    pub(crate) kind: &'static str,
    /// Cause and evidence.
    pub(crate) words: String,
}

fn of(kind: &'static str, key: &[&str], words: String) -> Found {
    Found { key: [&[kind], key].concat().join("/"), lasts_since_ms: None, kind, words }
}

/// Cells that are named beside the one that grew most.
const NAMED: usize = 5;

/// A cell that grew: its metric's name and window length in ms, its label, and how.
type Grown<'m> = (&'m str, u64, &'m str, &'m Sudden);

/// What grew suddenly and alone, each window of an edge once: one crowd is in one cell of many metrics.
fn grown<'m>(cells: impl Iterator<Item = Grown<'m>>) -> Vec<Found> {
    let mut by_window: BTreeMap<(&str, u64, u64), Vec<Grown<'_>>> = BTreeMap::new();
    for cell in cells {
        by_window.entry((&cell.3.edge, cell.3.start_ms, cell.1)).or_default().push(cell);
    }
    let told = |((edge, start_ms, span_ms), mut cells): ((&str, u64, u64), Vec<Grown<'_>>)| {
        let by = |sudden: &Sudden| sudden.value as f64 - sudden.usual;
        cells.sort_by(|one, next| by(next.3).total_cmp(&by(one.3)));
        let (name, _, label, most) = cells[0];
        let more: Vec<String> = cells[1..].iter().map(|(name, _, label, _)| format!("{name}: {label}")).collect();
        let words = match more.len() {
            0 => String::new(),
            all => {
                let rest = all.saturating_sub(NAMED);
                let named = more[..all - rest].join(", ");
                let rest = if rest > 0 { format!(" and {rest} more") } else { String::new() };
                format!("; so did {named}{rest}, each by itself among its metric's cells")
            }
        };
        let words = format!(
            "{name}: {label} at {edge} was {}, usually {:.0}, while the rest stayed as it was{words}: a campaign, or somebody who posts what nobody did",
            most.value, most.usual
        );
        of("sudden", &[edge, &start_ms.to_string(), &span_ms.to_string()], words)
    };
    by_window.into_iter().map(told).collect()
}

/// What drifted, each thing once: several models may take the same feature.
fn drifts(models: &[ModelView]) -> Vec<Found> {
    let mut by_thing: BTreeMap<&str, (u64, &str, Vec<&str>)> = BTreeMap::new();
    for view in models {
        for drift in view.drift.iter().filter(|drift| drift.drifted) {
            let since_ms = drift.since_ms.unwrap_or(drift.start_ms);
            let known = by_thing.entry(&drift.of).or_insert((since_ms, &drift.words, Vec::new()));
            // Two models may count it by windows of two lengths: what is told is since when either saw it.
            if since_ms < known.0 {
                known.0 = since_ms;
                known.1 = &drift.words;
            }
            known.2.push(&view.id);
        }
    }
    let told = |(thing, (since_ms, words, ids)): (&str, (u64, &str, Vec<&str>))| {
        let words = format!("{words}; it is what {} goes by", ids.join(", "));
        Found { lasts_since_ms: Some(since_ms), ..of("drift", &[thing], words) }
    };
    by_thing.into_iter().map(told).collect()
}

/// A model that is given up, or whose newer version waits for its files, in more visits than a few.
fn stand_ins(view: &ModelView, version: &str) -> Vec<Found> {
    let all: f64 = view.fared.iter().map(|fared| fared.visits.value).sum();
    let often = |low: f64| all > 0.0 && low / all > GIVEN_UP;
    let mut found = Vec::new();
    // With a fallback in its place or without.
    let given_up: Vec<Figure> =
        view.fared.iter().filter(|fared| fared.how.starts_with("failed")).map(|fared| fared.visits).collect();
    let (visits, half) = given_up
        .iter()
        .fold((0.0, 0.0f64), |(visits, half), figure| (visits + figure.value, half.hypot(figure.high - figure.value)));
    if often(visits - half) {
        let covered = view.fared.iter().find(|fared| fared.how == "failed-fallback").zip(view.fallback.as_ref());
        let covered = covered.map_or_else(String::new, |(fared, id)| {
            format!(", and {id} scored in its place in {:.0} of them", fared.visits.value.max(0.0))
        });
        let words = format!(
            "{}: given up in {visits:.0} of {all:.0} visits{covered}; see `failed` in the status of a page",
            view.id
        );
        found.push(of("failing", &[&view.id, version], words));
    }
    let last_good = view.scored_by.iter().find(|scored| scored.who == "last-good").map(|scored| scored.visits);
    if let Some(visits) = last_good.filter(|visits| often(visits.low)) {
        let words = format!(
            "{}: its last good version scored in {:.0} of {all:.0} visits, because a newer one waits for its files; the edge's log names them",
            view.id, visits.value
        );
        found.push(of("last-good", &[&view.id, version], words));
    }
    found
}

/// A model of the newest policy: how it tells, how it fares.
fn models(policy: &Policy, models: &[ModelView]) -> Vec<Found> {
    let mut found = Vec::new();
    for (model, view) in policy.models.iter().zip(models) {
        // A new version of a model is judged anew.
        let version = hex(&model.manifest_sha256[..4]);
        // Over all windows a change of late is thinned by what was before it.
        let errors = [
            view.performed.as_ref().map(|performed| performed.calibration_error),
            view.recent.as_ref().map(|recent| recent.calibration_error),
        ];
        if let Some(error) = errors.into_iter().flatten().find(|error| error.low > CALIBRATION) {
            let words = format!(
                "{}: its scores are {:.3} [{:.3}, {:.3}] off what comes true, on average; recalibrate it, or take it back",
                view.id, error.value, error.low, error.high
            );
            found.push(of("calibration", &[&view.id, &version], words));
        }
        if let Some(recent) = view.recent.as_ref().filter(|recent| recent.fell) {
            let words = format!(
                "{}: its scores tell outcomes less well. {}; see whether what people do has changed, and learn it again or take it back",
                view.id, recent.words
            );
            let found_here = of("performance", &[&view.id, &version], words);
            found.push(Found { lasts_since_ms: recent.since_ms, ..found_here });
        }
        for fair in &view.fair {
            let gaps = [("are selected", fair.selection_gap), ("with the same outcome are selected", fair.odds_gap)];
            for (how, gap) in
                gaps.into_iter().filter_map(|(how, gap)| Some((how, gap.filter(|gap| gap.low > GROUP_GAP)?)))
            {
                let words = format!(
                    "{}: groups by {} {how} by {:.1} [{:.1}, {:.1}] points more or less often; find out why, or take it back",
                    view.id,
                    fair.by,
                    100.0 * gap.value,
                    100.0 * gap.low,
                    100.0 * gap.high
                );
                found.push(of("fairness", &[&view.id, &version, &fair.by, how], words));
            }
        }
        found.extend(stand_ins(view, &version));
    }
    found
}

/// Everything that calls for somebody. What is in order is not told.
pub(crate) fn found(
    policy: &Policy,
    overview: &Overview,
    views: &[ModelView],
    experiments: &[ExperimentView],
    (now_ms, alarmed_ms): (u64, u64),
) -> Vec<Found> {
    let mut found = drifts(views);
    found.extend(models(policy, views));
    for experiment in experiments.iter().filter(|experiment| experiment.verdict != "open") {
        if experiment.stopped.is_some() {
            let words = format!("{}: {}", experiment.id, experiment.words);
            let version = policy.version.to_string();
            found.push(of("experiment-stopped", &[&experiment.id, &version], words));
            continue;
        }
        let stop = matches!(experiment.verdict, "uneven" | "stop");
        let kind = if stop { "experiment-stop" } else { "experiment-settled" };
        // What is said names the arm and the guardrail: another of them is another alert.
        let what = experiment.guardrails.iter().find(|rail| experiment.verdict == "stop" && rail.verdict == "broken");
        let what = what.map_or_else(String::new, |rail| format!("{} {}", rail.arm, rail.of));
        let words = format!("{}: {}", experiment.id, experiment.words);
        found.push(of(kind, &[&experiment.id, experiment.verdict, &what], words));
    }
    found.extend(grown(overview.metrics.iter().flat_map(|metric| {
        let label = |cell: usize| metric.labels.get(cell).map_or("?", String::as_str);
        metric.sudden.iter().map(move |sudden| (&*metric.name, metric.window_ms, label(sudden.cell), sudden))
    })));
    if let Some(what) = overview.last_alarm.as_ref().filter(|_| now_ms.saturating_sub(alarmed_ms) < ALARMED_MS) {
        found.push(of(
            "conflict",
            &[&overview.alarms.to_string()],
            format!("{what} ({} such so far)", overview.alarms),
        ));
    }
    let left = overview.expires_day.saturating_sub(now_ms / 86_400_000);
    if left <= EXPIRY_DAYS {
        let words = if left == 0 {
            "the policy has expired: devices count nothing any more; sign the next version".to_owned()
        } else {
            format!("the policy expires in {left} days, and devices count nothing from then on; sign the next version")
        };
        found.push(of("expiry", &[&policy.version.to_string(), if left == 0 { "over" } else { "soon" }], words));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::{Fared, ScoredBy};

    /// A model that was given up so often by itself and with a fallback, and whose last good version scored so often, of a thousand.
    fn told(failed: [f64; 2], last_good: f64) -> Vec<(&'static str, String)> {
        let visits = |value: f64| Figure { value, low: value - 15.0, high: value + 15.0 };
        let fared = |how: &str, value| Fared { how: how.to_owned(), visits: visits(value) };
        let itself = 1_000.0 - failed[0] - failed[1] - last_good;
        let view = ModelView {
            id: "buys".into(),
            state: "live",
            fallback: Some("small".into()),
            drift: Vec::new(),
            fared: vec![
                fared("scored", itself),
                fared("failed", failed[0]),
                fared("scored-last-good", last_good),
                fared("failed-fallback", failed[1]),
            ],
            scored_by: vec![ScoredBy { who: "last-good", visits: visits(last_good) }],
            fair: Vec::new(),
            performed: None,
            recent: None,
            expected: None,
            series: Vec::new(),
            unknown: Vec::new(),
        };
        stand_ins(&view, "00").into_iter().map(|found| (found.kind, found.words)).collect()
    }

    #[test]
    fn a_model_that_others_stand_in_for_is_told_of_with_who_scored() {
        assert!(told([10.0, 10.0], 10.0).is_empty());
        // Two that are too few by themselves are enough together.
        let failing = told([40.0, 50.0], 0.0);
        assert_eq!(failing.len(), 1, "{failing:?}");
        let words = "buys: given up in 90 of 1000 visits, and small scored in its place in 50 of them; see `failed` in the status of a page";
        assert_eq!(failing[0], ("failing", words.to_owned()));
        let waits = told([0.0, 0.0], 80.0);
        assert_eq!((waits.len(), waits[0].0), (1, "last-good"));
        assert!(waits[0].1.starts_with("buys: its last good version scored in 80 of 1000 visits"), "{waits:?}");
    }

    #[test]
    fn a_crowd_that_is_seen_in_many_metrics_is_told_of_once_a_window() {
        let sudden =
            |edge: &str, start_ms, value| Sudden { start_ms, edge: edge.to_owned(), cell: 0, value, usual: 10.0 };
        let (one, other) = (sudden("a", 600_000, 90), sudden("b", 600_000, 95));
        let alone = grown(
            [("source", 300, "social", &one), ("source", 300, "mail", &other), ("visits", 900, "first", &one)]
                .into_iter(),
        );
        // A day and its first hour begin together and are two windows.
        let keys: Vec<&str> = alone.iter().map(|found| &*found.key).collect();
        assert_eq!(keys, ["sudden/a/600000/300", "sudden/a/600000/900", "sudden/b/600000/300"]);
        let words = "source: social at a was 90, usually 10, while the rest stayed as it was: a campaign, or somebody who posts what nobody did";
        assert_eq!(alone[0].words, words);

        let names: Vec<String> = (0..8).map(|number| format!("m{number}")).collect();
        let cells: Vec<Sudden> = (0..8).map(|number| sudden("a", 600_000, 100 + 7 * number % 50)).collect();
        let of = |most: usize| grown(names.iter().zip(&cells).take(most).map(|(name, cell)| (&**name, 300, "x", cell)));
        let (all, two) = (of(8), of(2));
        assert_eq!((all.len(), &*all[0].key), (1, "sudden/a/600000/300"));
        assert!(all[0].words.starts_with("m7: x at a was 149, usually 10, while"), "{}", all[0].words);
        let named = "; so did m6: x, m5: x, m4: x, m3: x, m2: x and 2 more, each by itself among its metric's cells: a campaign";
        assert!(all[0].words.contains(named), "{}", all[0].words);
        assert!(two[0].words.contains("; so did m0: x, each by itself"), "{}", two[0].words);
    }
}
