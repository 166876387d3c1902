//! The beginning: inputs as numbers of mean zero and deviation one, by what was released of them.

use anyhow::{Context as _, Result, anyhow, bail};
use gloaming_behavior::definitions::{DEFINITIONS, Kind};
use gloaming_model::Manifest;
use gloaming_policy::author::{Learning, LearningTerm};
use gloaming_policy::{Axis, Bins, Metric, PageFeatureKind, Policy, Source, TERM_BINS, TERMS};
use gloaming_stats::votes;

use super::super::released::Overview;
use super::super::retrain::Input;

/// Bins of a number: an eighth of a deviation each, from two below the mean to two above.
const FINE: u32 = 32;
const FAR: f64 = 2.0;
/// Largest step that is looked at, and how far a last bin may reach beyond its edge: a factor of a thousand.
const STEPS: u32 = 1 << 30;
const FARTHEST: f64 = 7.0;
/// What a rare word may stand for at most.
const RARE: f64 = 4.0;
/// A word that fewer visits have says too little to be weighed.
const LEAST: f64 = 0.005;

/// Something that compiles in the place of what has not begun.
pub(super) fn nothing(model: &str) -> Result<Learning> {
    let outcome = DEFINITIONS.iter().find(|known| known.name == "purchase").context("an outcome")?;
    let term = LearningTerm {
        input: "pages@1".into(),
        edges: vec![0, 1],
        values: vec![0.0],
        shares: vec![1.0],
        weight: 0.0,
        speed: 0.0,
    };
    Ok(Learning {
        format: Learning::FORMAT,
        model: model.to_owned(),
        outcome: format!("outcome:purchase@{}", outcome.version),
        rate: 0.5,
        round: 1,
        level: 0.0,
        clip: 1.0,
        terms: vec![term],
        rounds: Vec::new(),
    })
}

/// The counts of a metric as they were released, none below nothing.
fn released(metric: &Metric, overview: &Overview) -> Option<Vec<f64>> {
    let found = overview.metrics.iter().find(|other| other.name == metric.name && other.of == metric.of)?;
    let cells = found.cells().ok().filter(|_| found.labels == metric.labels())?;
    Some(cells.values().iter().map(|value| value.max(0.0)).collect())
}

/// What was released of an input by itself or with an outcome: its axis, and the share of visits in each bin.
fn shares<'p>(source: Source, policy: &'p Policy, overview: &Overview) -> Option<(&'p Axis, Vec<f64>)> {
    let of_it = |metric: &&Metric| {
        let first =
            metric.axes.first().is_some_and(|axis| axis.source == source && !matches!(axis.bins, Bins::Sum { .. }));
        first && (metric.axes.len() == 1 || metric.axes.len() == 2 && metric.outcome().is_some())
    };
    // The finest of those that were released.
    let mut found: Vec<(&Axis, Vec<f64>)> = policy
        .metrics
        .iter()
        .filter(of_it)
        .filter_map(|metric| {
            let (axis, values) = (&metric.axes[0], released(metric, overview)?);
            let rows = values.chunks(values.len() / axis.labels.len());
            let counts: Vec<f64> = rows.map(|row| row.iter().sum()).collect();
            let all: f64 = counts.iter().sum();
            (all > 0.0).then(|| (axis, counts.iter().map(|count| count / all).collect()))
        })
        .collect();
    found.sort_by_key(|(axis, _)| std::cmp::Reverse(axis.labels.len()));
    found.into_iter().next()
}

/// The share of visits with the outcome, from the metric that tells of most visits.
fn rate(outcome: &str, policy: &Policy, overview: &Overview) -> Option<f64> {
    let counts = policy.metrics.iter().filter(|metric| {
        metric.axes.len() == 2 && metric.outcome().is_some() && metric.of.ends_with(&format!(", {outcome}"))
    });
    let found = counts.filter_map(|metric| released(metric, overview)).map(|values| {
        let yes: f64 = values.iter().skip(1).step_by(2).sum();
        (values.iter().sum::<f64>(), yes)
    });
    let (all, yes) = found.filter(|(all, _)| *all > 0.0).max_by(|one, other| one.0.total_cmp(&other.0))?;
    Some(yes / all)
}

/// Whether most of a number's values are small and some are not, so that its logarithm is weighed.
fn is_long(source: Source, policy: &Policy) -> bool {
    match source {
        Source::Feature(at) => match DEFINITIONS.get(at as usize).map(|known| known.kind) {
            Some(Kind::Number { unit, .. }) => !matches!(unit, "percent" | "yes" | "score"),
            _ => false,
        },
        Source::Page(at) => match policy.page_features.get(at as usize).map(|feature| &feature.kind) {
            Some(PageFeatureKind::Number { min, .. }) => *min >= 0,
            _ => false,
        },
        _ => false,
    }
}

/// Where the values of each bin lie, evenly: from its first step to its last. What is in the last bin of a number that has no end
/// lies as far above its edge as that of a normal distribution which has as much above the last two edges.
fn ends(edges: &[u32], shares: &[f64], open: bool, bent: &dyn Fn(u32) -> f64) -> Vec<(f64, f64)> {
    let mut ends: Vec<(f64, f64)> = edges.windows(2).map(|w| (bent(w[0]), bent(w[1].max(w[0] + 1) - 1))).collect();
    let bins = shares.len();
    if !open || bins < 3 {
        return ends;
    }
    let (tail, before) = (shares[bins - 1], shares[bins - 2]);
    let (last, earlier) = (ends[bins - 1].0, ends[bins - 2].0);
    if let Some(excess) = votes::excess(tail, before, last - earlier) {
        // Its mean above the edge, of which an even spread has twice as much.
        ends[bins - 1].1 = last + (2.0 * excess).clamp(0.0, FARTHEST);
    }
    ends
}

/// A number's term: bins of an eighth of a deviation, of its logarithm where it is long.
fn number(input: &Input<'_>, edges: &[u32], shares: &[f64], policy: &Policy) -> Option<LearningTerm> {
    let long = is_long(input.axis.source, policy);
    let bent = |step: u32| {
        let value = f64::from(input.value(policy, step));
        if long { value.max(0.0).ln_1p() } else { value }
    };
    let open = long && matches!(input.axis.source, Source::Feature(_));
    let ends = ends(edges, shares, open, &bent);
    let mean: f64 = ends.iter().zip(shares).map(|((a, b), share)| share * f64::midpoint(*a, *b)).sum();
    let square: f64 = ends.iter().zip(shares).map(|((a, b), share)| share * (a * a + a * b + b * b) / 3.0).sum();
    let deviation = (square - mean * mean).max(0.0).sqrt();
    if deviation < 1e-9 {
        return None;
    }
    let first = edges[0];
    // The first step that has come so far; values grow with steps.
    let reached = |wanted: f64| {
        let (mut low, mut high) = (first, STEPS);
        while low < high {
            let middle = low + (high - low) / 2;
            if bent(middle) < wanted { low = middle + 1 } else { high = middle }
        }
        low
    };
    let grid = (1..FINE).map(|at| mean + deviation * FAR * (2.0 * f64::from(at) / f64::from(FINE) - 1.0));
    let last = reached(mean + deviation * FAR).max(*edges.last()?);
    let mut fine: Vec<u32> = [first].into_iter().chain(grid.map(reached)).chain([last]).collect();
    fine.sort_unstable();
    fine.dedup();
    // Of a bin in which all values are one, all lie below whatever is above it.
    let below = |step: u32| -> f64 {
        let part = |(((from, to), w), share): ((&(f64, f64), &[u32]), &f64)| {
            let part = if step <= w[0] { 0.0 } else { (bent(step) - from) / (to - from).max(1e-12) };
            part.clamp(0.0, 1.0) * share
        };
        ends.iter().zip(edges.windows(2)).zip(shares).map(part).sum()
    };
    let stands = |w: &[u32]| {
        let middle = f64::midpoint(bent(w[0]), bent(w[1].max(w[0] + 1) - 1));
        ((middle - mean) / deviation).clamp(-FAR, FAR)
    };
    Some(LearningTerm {
        input: input.name.clone(),
        values: fine.windows(2).map(stands).collect(),
        shares: fine.windows(2).map(|w| (below(w[1]) - below(w[0])).clamp(0.0, 1.0)).collect(),
        edges: fine,
        weight: 0.0,
        speed: 0.0,
    })
}

/// One bin against the others, brought to mean zero and deviation one.
fn word(input: &Input<'_>, edges: &[u32], shares: &[f64], word: usize) -> LearningTerm {
    let share = shares[word];
    let deviation = (share * (1.0 - share)).sqrt();
    let stands = |bin: usize| ((f64::from(u8::from(bin == word)) - share) / deviation).clamp(-RARE, RARE);
    LearningTerm {
        input: input.name.clone(),
        edges: edges.to_vec(),
        values: (0..shares.len()).map(stands).collect(),
        shares: shares.to_vec(),
        weight: 0.0,
        speed: 0.0,
    }
}

/// The terms of one input; none where it says the same of everybody.
fn terms(input: &Input<'_>, shares: &[f64], policy: &Policy) -> Vec<LearningTerm> {
    let told = |at: &usize| (LEAST..=1.0 - LEAST).contains(&shares[*at]);
    match &input.axis.bins {
        Bins::Edges(edges) if edges.len() > 3 => number(input, edges, shares, policy).into_iter().collect(),
        // No and yes, whose one word is the other's absence.
        Bins::Edges(edges) => Some(1).filter(told).map(|at| word(input, edges, shares, at)).into_iter().collect(),
        _ if shares.len() == 2 => Some(1).filter(told).map(|at| word(input, &[], shares, at)).into_iter().collect(),
        _ => (0..shares.len()).filter(told).map(|at| word(input, &[], shares, at)).collect(),
    }
}

/// Where learning starts: no input weighs anything, and all scores are the share of visits with the outcome.
pub(super) fn begin(described: &Manifest, policy: &Policy, overview: &Overview, outcome: &str) -> Result<Learning> {
    let rate = rate(outcome, policy, overview).with_context(|| {
        format!("nothing was released that tells how many visits have `{outcome}`; give the model a [[monitor]] with outcome = \"{outcome}\"")
    })?;
    if !(0.001..=0.999).contains(&rate) {
        bail!("{rate:.4} of the visits have `{outcome}`: too few of one kind to learn from");
    }
    let (mut all, mut silent, mut lacking) = (Vec::new(), Vec::new(), Vec::new());
    for name in &described.input.features {
        let source = match name.strip_prefix("page:") {
            Some(page) => {
                let place = policy.page_features.iter().position(|feature| feature.id == page);
                place.map(|place| Source::Page(place as u32))
            }
            None => gloaming_behavior::Definition::find(name).map(|place| Source::Feature(place as u32)),
        };
        let source = source.ok_or_else(|| anyhow!("no device computes `{name}`"))?;
        let Some((axis, shares)) = shares(source, policy, overview) else {
            lacking.push(format!("`{name}`"));
            continue;
        };
        if axis.labels.len() > TERM_BINS {
            bail!("`{name}` was counted in {} bins, and {TERM_BINS} can be learnt from", axis.labels.len());
        }
        let found = terms(&Input { name: name.clone(), axis }, &shares, policy);
        if found.is_empty() {
            silent.push(format!("`{name}`"));
        }
        all.extend(found);
    }
    if !lacking.is_empty() {
        bail!(
            "nothing was released of {} by itself, and where a value lies among others must be known; list it in `inputs` of the model's [[monitor]], and wait for a window",
            lacking.join(", ")
        );
    }
    if !silent.is_empty() {
        println!("left out, because it says the same of nearly everybody: {}", silent.join(", "));
    }
    if all.is_empty() || all.len() > TERMS {
        bail!("there are {} things to weigh; 1 to {TERMS} can be learnt at once", all.len());
    }
    Ok(Learning {
        format: Learning::FORMAT,
        model: described.id.clone(),
        outcome: outcome.to_owned(),
        rate,
        round: 1,
        level: (rate / (1.0 - rate)).ln(),
        clip: votes::clip(all.len()),
        terms: all,
        rounds: Vec::new(),
    })
}
