//! The beginning: inputs as numbers of mean zero and deviation one, by what was released of them.

use anyhow::{Context as _, Result, anyhow, bail};
use gloaming_behavior::definitions::{DEFINITIONS, Kind};
use gloaming_model::Manifest;
use gloaming_policy::author::{Learning, LearningTerm, input_source, input_words, page_zero};
use gloaming_policy::{Axis, Bins, Metric, PageFeatureKind, Policy, Source, TERM_BINS, TERMS};
use gloaming_stats::{Cells, votes};

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
/// Standard deviations of noise that visits of either kind have to stand clear of it: a fifth of the rate may be wrong then.
const CLEAR: f64 = 5.0;

/// Something that compiles in the place of what has not begun.
pub(super) fn nothing(model: &str) -> Result<Learning> {
    let outcome = DEFINITIONS.iter().find(|known| known.name == "purchase").context("an outcome")?;
    let term = LearningTerm {
        input: "pages@1".into(),
        edges: vec![0, 1],
        zero: None,
        words: Vec::new(),
        word: None,
        values: vec![0.0],
        shares: vec![1.0],
        weight: 0.0,
        speed: 0.0,
    };
    Ok(Learning {
        format: Learning::FORMAT,
        model: model.to_owned(),
        version: 1,
        outcome: format!("outcome:purchase@{}", outcome.version),
        rate: 0.5,
        round: 1,
        level: 0.0,
        clip: 1.0,
        terms: vec![term],
        rounds: Vec::new(),
    })
}

/// What was released of a metric.
fn released(metric: &Metric, overview: &Overview) -> Option<Cells> {
    let found = overview.metrics.iter().find(|other| other.name == metric.name && other.of == metric.of)?;
    found.cells().ok().filter(|_| found.labels == metric.labels())
}

/// Whether an axis counts an input's values as they are: numbers in bins, or each word by itself and in its place.
fn counts_all(axis: &Axis, policy: &Policy) -> bool {
    match &axis.bins {
        Bins::Edges(_) => true,
        Bins::Map(map) => {
            let in_place = map.iter().enumerate().all(|(place, bin)| place == *bin as usize);
            in_place && input_words(axis.source, policy).is_some_and(|words| words == axis.labels)
        }
        Bins::Sum { .. } => false,
    }
}

/// What was released of an input by itself or with an outcome: its axis, and the share of visits in each bin.
fn shares<'p>(source: Source, policy: &'p Policy, overview: &Overview) -> Option<(&'p Axis, Vec<f64>)> {
    let of_it = |metric: &&Metric| {
        let first = metric.axes.first().is_some_and(|axis| axis.source == source && counts_all(axis, policy));
        first && (metric.axes.len() == 1 || metric.axes.len() == 2 && metric.outcome().is_some())
    };
    // The finest of those that were released.
    let mut found: Vec<(&Axis, Vec<f64>)> = policy
        .metrics
        .iter()
        .filter(of_it)
        .filter_map(|metric| {
            let (axis, cells) = (&metric.axes[0], released(metric, overview)?);
            let rows = cells.values().chunks(cells.values().len() / axis.labels.len());
            // Added up first: what is below nothing in one cell is above what is true in another.
            let counts: Vec<f64> = rows.map(|row| row.iter().sum::<f64>().max(0.0)).collect();
            let all: f64 = counts.iter().sum();
            (all > 0.0).then(|| (axis, counts.iter().map(|count| count / all).collect()))
        })
        .collect();
    found.sort_by_key(|(axis, _)| std::cmp::Reverse(axis.labels.len()));
    found.into_iter().next()
}

/// The share of visits with the outcome, from the metric whose noise is the least part of what it tells.
fn rate(outcome: &str, policy: &Policy, overview: &Overview) -> Result<f64> {
    let counts = policy.metrics.iter().filter(|metric| {
        metric.axes.len() == 2 && metric.outcome().is_some() && metric.of.ends_with(&format!(", {outcome}"))
    });
    let told = counts.filter_map(|metric| released(metric, overview)).map(|cells| {
        let (no, yes) = cells.values().chunks(2).fold((0.0, 0.0), |(no, yes), row| (no + row[0], yes + row[1]));
        (no, yes, (cells.variance() * (cells.values().len() / 2) as f64).sqrt())
    });
    let clear = |(no, yes, noise): &(f64, f64, f64)| no.min(*yes) / noise.max(1e-9);
    let best = told.max_by(|one, other| clear(one).total_cmp(&clear(other)));
    let (no, yes, noise) = best.with_context(|| {
        format!("nothing was released that tells how many visits have `{outcome}`; give the model a [[monitor]] with outcome = \"{outcome}\"")
    })?;
    if no.min(yes) < CLEAR * noise || no.min(yes) < 1.0 {
        bail!(
            "about {yes:.0} visits have `{outcome}` and {no:.0} have not, give or take {noise:.0} of noise: too few of one kind to learn from; wait for more windows"
        );
    }
    Ok(yes / (no + yes))
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
    // What lies outside an author's edges was counted in the outer bins; how far it may reach the policy says.
    let mut edges = edges.to_vec();
    if let Source::Page(at) = input.axis.source
        && let Some(PageFeatureKind::Number { max_steps, .. }) = policy.page_features.get(at as usize).map(|f| &f.kind)
        && let [first, .., last] = edges.as_mut_slice()
    {
        (*first, *last) = (0, max_steps.saturating_add(1).max(*last));
    }
    let edges = edges.as_slice();
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
    let below = |step: u32| -> f64 {
        let part = |(((from, to), w), share): ((&(f64, f64), &[u32]), &f64)| {
            // A bin's last step ends where the next bin begins.
            let part = (bent(step) - from) / (bent(w[1]).max(*to) - from).max(1e-12);
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
        zero: page_zero(input.axis.source, policy),
        words: Vec::new(),
        word: None,
        values: fine.windows(2).map(stands).collect(),
        shares: fine.windows(2).map(|w| (below(w[1]) - below(w[0])).clamp(0.0, 1.0)).collect(),
        edges: fine,
        weight: 0.0,
        speed: 0.0,
    })
}

/// One bin against the others, brought to mean zero and deviation one.
fn bin(input: &Input<'_>, edges: &[u32], words: &[String], shares: &[f64], told: usize) -> LearningTerm {
    let share = shares[told];
    let deviation = (share * (1.0 - share)).sqrt();
    let stands = |bin: usize| ((f64::from(u8::from(bin == told)) - share) / deviation).clamp(-RARE, RARE);
    LearningTerm {
        input: input.name.clone(),
        edges: edges.to_vec(),
        zero: None,
        words: words.to_vec(),
        word: words.get(told).cloned(),
        values: (0..shares.len()).map(stands).collect(),
        shares: shares.to_vec(),
        weight: 0.0,
        speed: 0.0,
    }
}

/// The terms of one input; none where it says the same of everybody.
fn terms(input: &Input<'_>, shares: &[f64], policy: &Policy) -> Vec<LearningTerm> {
    let told = |at: &usize| shares.get(*at).is_some_and(|share| (LEAST..=1.0 - LEAST).contains(share));
    match &input.axis.bins {
        // No and yes, whose one word is the other's absence.
        Bins::Edges(edges) if input.axis.is_yes_or_no() => {
            Some(1).filter(told).map(|at| bin(input, edges, &[], shares, at)).into_iter().collect()
        }
        Bins::Edges(edges) => number(input, edges, shares, policy).into_iter().collect(),
        _ => {
            // Of two words one is the other's absence.
            let first = usize::from(shares.len() == 2);
            let words = &input.axis.labels;
            (first..shares.len()).filter(told).map(|at| bin(input, &[], words, shares, at)).collect()
        }
    }
}

/// Where learning starts: no input weighs anything, and all scores are the share of visits with the outcome.
pub(super) fn begin(described: &Manifest, policy: &Policy, overview: &Overview, outcome: &str) -> Result<Learning> {
    let rate = rate(outcome, policy, overview)?;
    let told = outcome.strip_prefix("outcome:").and_then(|name| input_source(name, policy));
    let told = told.with_context(|| format!("`{outcome}` is no outcome; as in outcome:purchase@1"))?;
    let (mut all, mut silent, mut lacking) = (Vec::new(), Vec::new(), Vec::new());
    for name in &described.input.features {
        let source = input_source(name, policy).ok_or_else(|| anyhow!("no device computes `{name}`"))?;
        if source == told {
            bail!("`{name}` is the outcome, and cannot be told by itself: learn a model that does not take it");
        }
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
        // Monitors count what devices compute, and authors what pages give.
        let remedy = if lacking.iter().all(|name| !name.starts_with("`page:")) {
            "let the model's [[monitor]] count it, and wait for a window"
        } else {
            "declare a [[metric]] of what the page gives, with edges over all of its values or with all of its words in their order, and wait for a window"
        };
        bail!(
            "nothing was released of {} by itself, and where a value lies among others must be known; {remedy}",
            lacking.join(", ")
        );
    }
    if !silent.is_empty() {
        println!("left out, because it says the same of nearly everybody: {}", silent.join(", "));
    }
    if all.is_empty() || all.len() > TERMS {
        bail!(
            "there are {} things to weigh, and 1 to {TERMS} can be learnt at once; learn a model that takes others",
            all.len()
        );
    }
    Ok(Learning {
        format: Learning::FORMAT,
        model: described.id.clone(),
        version: described.version,
        outcome: outcome.to_owned(),
        rate,
        round: 1,
        level: (rate / (1.0 - rate)).ln(),
        clip: votes::clip(all.len()),
        terms: all,
        rounds: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use gloaming_policy::author::{ManifestFacts, compile, template};

    use super::*;

    /// An author's words stand in an order of their own, and several may be one bin.
    #[test]
    fn words_that_are_merged_or_out_of_place_are_not_taken_for_all_of_them() {
        let text = template("shop", "shop.example", "https://shop.example", "2027-03-01").unwrap();
        let facts = ManifestFacts::stand_in("purchase-intent", &["pages@1", "landing-group@1"]);
        let policy = compile(&text, 20_781, &|_| Ok(facts.clone())).unwrap();
        let place = input_source("landing-group@1", &policy).unwrap();
        let axes: Vec<(&str, bool)> = policy
            .metrics
            .iter()
            .filter(|metric| metric.axes[0].source == place)
            .map(|metric| (metric.name.as_str(), counts_all(&metric.axes[0], &policy)))
            .collect();
        assert_eq!(axes, [("landing-page", false), ("purchase-intent-in-landing-group", true)]);
    }

    #[test]
    fn numbers_are_brought_to_mean_zero_and_deviation_one() {
        let text = template("shop", "shop.example", "https://shop.example", "2027-03-01").unwrap();
        let facts = ManifestFacts::stand_in("purchase-intent", &["pages@1", "returning@1"]);
        let policy = compile(&text, 20_781, &|_| Ok(facts.clone())).unwrap();
        let axis =
            policy.metrics.iter().find(|metric| metric.name == "purchase-intent-in-pages").unwrap().axes[0].clone();
        let input = Input { name: "pages@1".into(), axis: &axis };
        // One page, two, 3-4, 5-8, 9-16, 17-32, and more; nobody sees none.
        let [found] = &terms(&input, &[0.0, 0.3, 0.2, 0.2, 0.15, 0.1, 0.04, 0.01], &policy)[..] else { panic!() };
        let moment =
            |of: fn(f64) -> f64| found.values.iter().zip(&found.shares).map(|(v, share)| share * of(*v)).sum::<f64>();
        assert!((found.shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        assert!(moment(|v| v).abs() < 0.05 && (moment(|v| v * v) - 1.0).abs() < 0.2, "{found:?}");
        // Everybody alike says nothing; a word that hardly anybody has says too little.
        assert!(terms(&input, &[0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], &policy).is_empty());
        let yes =
            policy.metrics.iter().find(|metric| metric.name == "purchase-intent-in-returning").unwrap().axes[0].clone();
        let input = Input { name: "returning@1".into(), axis: &yes };
        assert_eq!(terms(&input, &[0.999, 0.001], &policy).len(), 0);
        let [found] = &terms(&input, &[0.8, 0.2], &policy)[..] else { panic!() };
        assert!((found.values[0] + 0.5).abs() < 1e-9 && (found.values[1] - 2.0).abs() < 1e-9, "{found:?}");
    }
}
