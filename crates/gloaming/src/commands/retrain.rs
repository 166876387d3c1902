//! `gloaming model retrain`: a model learnt again from released counts, without anybody's rows.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use gloaming_behavior::definitions::{DEFINITIONS, Kind};
use gloaming_model::evaluate::performance;
use gloaming_model::{Additive, INPUT, Manifest, Steps};
use gloaming_policy::{Axis, Bins, Metric, PageFeatureKind, Policy, Source};
use gloaming_signal::hash;
use gloaming_stats::Cells;
use gloaming_stats::draws::Draws;
use gloaming_stats::marginals::{Counted, Joint, Pair, learn};
use serde_json::{Value, json};

use super::next;
use super::released::{self, Overview, Place};
use crate::files::{self, Brought};

/// Sessions of nobody that are drawn: bins of equal mass come from their scores.
pub(super) const SESSIONS: usize = 20_000;
/// Reference rows and usual rows of the manifest.
const REFERENCE: usize = 64;
const BACKGROUND: usize = 32;
/// Everything that is drawn follows from it.
const SEED: u64 = 20_261_127;
/// Edges of bins of scores.
const EDGES: usize = 19;
/// Scores and edges apart at least; manifests want half of it, and a device tells scores by seven digits.
const APART: f64 = 2e-6;
/// As a share of a score, how far the next one is that a device tells from it.
const DIGITS: f64 = 1e-6;

/// What to read and where to write.
pub struct Paths<'p> {
    /// The manifest of the version before; `model.onnx` lies beside it.
    pub manifest: &'p Path,
    /// The policy that declares what was counted.
    pub policy: &'p Path,
    /// Where its models lie.
    pub models: Option<&'p Path>,
    /// The centre's overview.
    pub from: &'p Path,
    /// The folder for the next version.
    pub out: &'p Path,
    /// Its number, where that is not the next.
    pub version: Option<u32>,
    /// Where to write sessions of nobody, for another learner.
    pub sessions: Option<&'p Path>,
}

/// An input, as it was counted.
pub(super) struct Input<'p> {
    pub(super) name: String,
    pub(super) axis: &'p Axis,
}

impl Input<'_> {
    /// What a device gives a model for a step of this input, by the arithmetic that it has.
    pub(super) fn value(&self, policy: &Policy, step: u32) -> f32 {
        match self.axis.source {
            Source::Feature(at) => match DEFINITIONS.get(at as usize).map(|definition| definition.kind) {
                Some(Kind::Number { scale, .. }) => (f64::from(step) / f64::from(scale)) as f32,
                _ => step as f32,
            },
            Source::Page(at) => match policy.page_features.get(at as usize).map(|feature| &feature.kind) {
                Some(PageFeatureKind::Number { min, .. }) => ((*min as f64 + f64::from(step)) / 100.0) as f32,
                _ => step as f32,
            },
            _ => step as f32,
        }
    }

    /// Steps of a bin, the last one not among them.
    pub(super) fn steps(&self, bin: usize) -> (u32, u32) {
        match &self.axis.bins {
            Bins::Edges(edges) => (edges[bin], edges[bin + 1]),
            _ => (bin as u32, bin as u32 + 1),
        }
    }

    /// Where each bin but the first begins.
    pub(super) fn edges(&self, policy: &Policy) -> Vec<f32> {
        (1..self.axis.labels.len()).map(|bin| self.value(policy, self.steps(bin).0)).collect()
    }
}

/// What the policy counts for a model to be learnt from again, and what came of it.
struct Learnt<'p> {
    inputs: Vec<Input<'p>>,
    outcome: String,
    counted: Counted,
    windows: usize,
    until_ms: u64,
}

/// The name that manifests give an input, of what a metric is of.
fn input_name(of: &str) -> &str {
    of.strip_prefix("feature:").unwrap_or(of)
}

/// The metrics that [[retrain]] wrote out for a model, by their very names: with the outcome, and pairs.
fn declared<'p>(policy: &'p Policy, before: &Manifest) -> (Vec<&'p Metric>, Vec<&'p Metric>) {
    let id = &before.id;
    let (mut by_outcome, mut pairs) = (Vec::new(), Vec::new());
    for metric in policy.metrics.iter().filter(|metric| metric.is_written_out() && metric.axes.len() == 2) {
        let of: Vec<&str> = metric.of.split(", ").collect();
        let short = |of: &str| of.rsplit(':').next().and_then(|of| of.split('@').next()).unwrap_or_default().to_owned();
        let given = |at: usize| matches!(metric.axes[at].source, Source::Feature(_) | Source::Page(_));
        let &[one, other] = of.as_slice() else { continue };
        if !given(0) || !given(1) {
            continue;
        }
        if metric.name == format!("{id}-by-{}", short(one)) && metric.outcome().is_some() {
            by_outcome.push(metric);
        } else if metric.name == format!("{id}-pair-{}-{}", short(one), short(other)) {
            pairs.push(metric);
        }
    }
    // Inputs stay in the order that they had; metrics have none.
    by_outcome.sort_by_cached_key(|metric| {
        let name = input_name(metric.of.split(", ").next().unwrap_or_default()).to_owned();
        let place = before.input.features.iter().position(|feature| *feature == name);
        (place.unwrap_or(usize::MAX), name)
    });
    (by_outcome, pairs)
}

/// Whether the policy counts what this model could be learnt from again.
pub(super) fn is_declared(policy: &Policy, before: &Manifest) -> bool {
    !declared(policy, before).0.is_empty()
}

/// Sums over the releases that all of the metrics have: one that fell below the crowd in one of them alone would tell of other
/// people there. And how many windows those are, and when the last of them ended, ms.
fn together(metrics: &[(&Metric, &released::Counted)]) -> Result<(Vec<Cells>, usize, u64)> {
    let all = metrics.iter().map(|(_, counted)| counted.releases()).collect::<Result<Vec<_>>>()?;
    let everywhere = |place: &&Place| all.iter().all(|releases| releases.contains_key(*place));
    let common: Vec<&Place> = all.first().map_or_else(Vec::new, |first| first.keys().filter(everywhere).collect());
    let Some(until_ms) = common.iter().map(|place| place.1).max() else {
        let (fewest, _) = metrics
            .iter()
            .zip(&all)
            .min_by_key(|(_, releases)| releases.len())
            .map(|((metric, _), releases)| (metric.name.as_str(), releases.len()))
            .unwrap_or_default();
        bail!("there is no window of which all {} counts were released; the fewest were of `{fewest}`", metrics.len());
    };
    let windows = common.iter().map(|place| place.0).collect::<std::collections::BTreeSet<_>>().len();
    let sum = |releases: &BTreeMap<Place, Cells>| {
        let mut cells = common.iter().filter_map(|place| releases.get(*place));
        let first = cells.next().cloned().context("a release that was found")?;
        Ok(cells.try_fold(first, |sum, next| sum.plus(next))?)
    };
    Ok((all.iter().map(sum).collect::<Result<_>>()?, windows, until_ms))
}

/// How far a table may be off the others in how many visits it tells of, before it is no longer the same visits.
const UNEVEN: std::ops::RangeInclusive<f64> = 0.8..=1.25;
/// And from how many standard deviations of noise on it is off at all.
const SURE: f64 = 4.0;

/// Brings tables of what pages give, which some visits lack, to as many visits as the others tell of; refuses those that many
/// lack, because what they would teach is about other visits.
fn even(metrics: &[(&Metric, &released::Counted)], cells: &mut [Cells]) -> Result<()> {
    let page = |metric: &Metric| metric.axes.iter().any(|axis| matches!(axis.source, Source::Page(_)));
    let noise = |cells: &Cells| cells.variance() * cells.values().len() as f64;
    let whole = || metrics.iter().zip(cells.iter()).filter(|((metric, _), _)| !page(metric)).map(|(_, cells)| cells);
    let precision: f64 = whole().map(|cells| 1.0 / noise(cells)).sum();
    if precision <= 0.0 {
        return Ok(());
    }
    let visits = whole().map(|cells| cells.total() / noise(cells)).sum::<f64>() / precision;
    for ((metric, _), cells) in metrics.iter().zip(cells) {
        let ratio = visits / cells.total();
        if (cells.total() - visits).abs() <= SURE * (noise(cells) + 1.0 / precision).sqrt() {
            continue;
        }
        if !UNEVEN.contains(&ratio) {
            bail!(
                "`{}` tells of about {:.0} visits, and the others of {visits:.0}: what it would teach is about other visits; leave it out of `inputs`",
                metric.name,
                cells.total()
            );
        }
        println!(
            "`{}` tells of about {:.0} visits of {visits:.0}: the rest are taken to be like them",
            metric.name,
            cells.total()
        );
        let values = cells.values().iter().map(|value| value * ratio).collect();
        *cells = Cells::new(values, cells.variance() * ratio * ratio)?;
    }
    Ok(())
}

fn found<'p>(policy: &'p Policy, overview: &Overview, before: &Manifest) -> Result<Learnt<'p>> {
    let (by_outcome, pairs) = declared(policy, before);
    let Some(first) = by_outcome.first() else {
        bail!(
            "the policy counts nothing that `{0}` could be learnt from; add [[retrain]] with model = \"{0}\", and wait for a window",
            before.id
        );
    };
    let outcome = first.of.rsplit("outcome:").next().unwrap_or_default().to_owned();
    let released = |metric: &Metric| {
        let found = overview.metrics.iter().find(|other| other.name == metric.name).with_context(|| {
            format!("{} counts no `{}` yet: was this policy signed and put?", overview.site, metric.name)
        })?;
        if found.labels != metric.labels() || found.of != metric.of {
            bail!("`{}` was counted by other bins than this policy has; take the policy that is in force", metric.name);
        }
        Ok(found)
    };
    let counts: Vec<(&Metric, &released::Counted)> =
        by_outcome.iter().chain(&pairs).map(|metric| Ok((*metric, released(metric)?))).collect::<Result<_>>()?;
    let (mut cells, windows, until_ms) = together(&counts)?;
    even(&counts, &mut cells)?;
    let name = |metric: &Metric| input_name(metric.of.split(", ").next().unwrap_or_default()).to_owned();
    let inputs: Vec<Input<'p>> =
        by_outcome.iter().map(|metric| Input { name: name(metric), axis: &metric.axes[0] }).collect();
    let place = |axis: &Axis| inputs.iter().position(|input| input.axis.source == axis.source);
    let with_another = cells.split_off(by_outcome.len());
    let mut together = Vec::new();
    for (metric, cells) in pairs.iter().zip(with_another) {
        // A pair of something that is not learnt from tells nothing here.
        if let (Some(one), Some(other)) = (place(&metric.axes[0]), place(&metric.axes[1])) {
            together.push(Pair { of: (one, other), cells });
        }
    }
    Ok(Learnt { inputs, outcome, counted: Counted::new(cells, together)?, windows, until_ms })
}

/// A session of nobody: what a device would give the model, and whether the outcome happened.
fn session(learnt: &Learnt<'_>, policy: &Policy, joint: &Joint, draws: &mut Draws) -> (Vec<f32>, bool) {
    let (bins, outcome) = joint.session(draws);
    let value = |(input, bin): (&Input<'_>, usize)| {
        let (from, to) = input.steps(bin);
        input.value(policy, from + (draws.uniform() * f64::from(to - from)) as u32)
    };
    (learnt.inputs.iter().zip(bins).map(value).collect(), outcome)
}

/// 19 edges of 20 bins with as many scores in each, as near as scores that are few and alike allow; and the mean of each.
/// Edges lie between scores that a device tells apart: what lies on one would fall to either side by its last digit.
fn score_bins(scores: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let mut sorted = scores.to_vec();
    sorted.sort_by(f64::total_cmp);
    // What a device tells apart, by its seven digits: gaps between scores that differ.
    let gaps: Vec<usize> =
        (1..sorted.len()).filter(|&at| sorted[at] - sorted[at - 1] >= DIGITS * sorted[at].max(APART)).collect();
    let middle = |at: usize| f64::midpoint(sorted[at - 1], sorted[at]);
    let (mut edges, mut from) = (Vec::<f64>::with_capacity(EDGES), 0);
    let most = EDGES.min(gaps.len());
    for at in 1..=most {
        // Gaps that are left must do for the edges that are left, and edges stay apart.
        let clear = edges.last().map_or(APART, |last| last + 2.0 * APART);
        from = (from..gaps.len()).find(|gap| middle(gaps[*gap]) >= clear).unwrap_or(gaps.len());
        let until = (gaps.len() + at).saturating_sub(most).max(from + 1).min(gaps.len());
        let wanted = at * sorted.len() / (EDGES + 1);
        let nearest = (from..until).min_by_key(|gap| gaps[*gap].abs_diff(wanted));
        let Some(nearest) = nearest.filter(|gap| middle(gaps[*gap]) <= 1.0 - APART) else { break };
        edges.push(middle(gaps[nearest]));
        from = nearest + 1;
    }
    // Of few scores: the other bins are where nothing is.
    while edges.len() < EDGES {
        let mut points = [&[0.0, 1.0], &edges[..], &sorted[..]].concat();
        points.sort_by(f64::total_cmp);
        let widest = points.windows(2).max_by(|a, b| (a[1] - a[0]).total_cmp(&(b[1] - b[0])));
        edges.extend(widest.map(|gap| f64::midpoint(gap[0], gap[1])));
        edges.sort_by(f64::total_cmp);
    }
    let ends = [&[0.0], &edges[..], &[1.0]].concat();
    let mean = |bin: &[f64]| {
        let of = |end: f64| sorted.partition_point(|score| *score < end);
        let last = if bin[1] == 1.0 { sorted.len() } else { of(bin[1]) };
        let here = &sorted[of(bin[0])..last];
        if here.is_empty() { f64::midpoint(bin[0], bin[1]) } else { here.iter().sum::<f64>() / here.len() as f64 }
    };
    let mut means: Vec<f64> = Vec::with_capacity(EDGES + 1);
    for bin in ends.windows(2) {
        let least = means.last().map_or(0.0, |before| before + APART / 2.0);
        means.push(mean(bin).max(least).min(bin[1]));
    }
    (edges, means)
}

/// Says of the next version what follows from its sessions of nobody and their scores: inputs, bins of scores, usual rows and rows
/// to prove it by. The edges of those bins.
pub(super) fn describe(
    said: &mut Value,
    (additive, inputs, policy): (&Additive, &[Input<'_>], &Policy),
    drawn: &[&[f32]],
    scores: &[f64],
) -> Vec<f64> {
    let names: Vec<&String> = inputs.iter().map(|input| &input.name).collect();
    let (edges, means) = score_bins(scores);
    let reference = reference(inputs, policy, drawn);
    said["input"] = json!({ "name": INPUT, "shape": [1, names.len()], "features": names });
    said["score_edges"] = json!(edges);
    said["score_means"] = json!(means);
    said["background"] = json!(drawn.iter().rev().take(BACKGROUND).collect::<Vec<_>>());
    said["reference"] = json!({
        "inputs": reference,
        "outputs": reference.iter().map(|row| additive.score(row)).collect::<Vec<_>>(),
    });
    if let Some(said) = said.as_object_mut() {
        said.remove("recalibrated");
    }
    edges
}

/// Rows to prove the model by: sessions of nobody, among them every input's least and largest values.
fn reference(inputs: &[Input<'_>], policy: &Policy, drawn: &[&[f32]]) -> Vec<Vec<f32>> {
    let mut rows: Vec<Vec<f32>> = drawn.iter().take(REFERENCE).map(|row| row.to_vec()).collect();
    let count = rows.len();
    for (at, input) in inputs.iter().enumerate() {
        let (first, last) = (input.steps(0), input.steps(input.axis.labels.len() - 1));
        rows[(2 * at) % count][at] = input.value(policy, first.0);
        rows[(2 * at + 1) % count][at] = input.value(policy, last.1);
    }
    rows
}

fn write_sessions(learnt: &Learnt<'_>, drawn: &[(Vec<f32>, bool)], path: &Path) -> Result<()> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(learnt.inputs.iter().map(|input| &input.name).chain([&learnt.outcome]))?;
    for (row, outcome) in drawn {
        let cells = row.iter().map(f32::to_string).chain([u8::from(*outcome).to_string()]);
        writer.write_record(cells.collect::<Vec<_>>())?;
    }
    let bytes = writer.into_inner().context("a table in memory")?;
    files::replace(path, &bytes).with_context(|| path.display().to_string())
}

/// What each input does, the strongest first.
fn tell(learnt: &Learnt<'_>, joint: &Joint, weights: &[Vec<f64>]) {
    let mut lines: Vec<(f64, String)> = learnt
        .inputs
        .iter()
        .zip(weights)
        .map(|(input, weights)| {
            let end = |better: fn(&f64, &f64) -> bool| {
                (1..weights.len()).fold(0, |best, at| if better(&weights[at], &weights[best]) { at } else { best })
            };
            let (low, high) = (end(|a, b| a < b), end(|a, b| a > b));
            let bin = |at: usize| format!("{:+.2} at {}", weights[at], input.axis.labels[at]);
            (weights[high] - weights[low], format!("  {:<24} {} to {}", input.name, bin(low), bin(high)))
        })
        .collect();
    lines.sort_by(|one, other| other.0.total_cmp(&one.0));
    println!("what each input adds to the log-odds:");
    lines.iter().for_each(|(_, line)| println!("{line}"));
    let pairs = joint.pairs();
    if !pairs.is_empty() {
        let names = pairs.iter().map(|(a, b)| format!("{} with {}", learnt.inputs[*a].name, learnt.inputs[*b].name));
        println!("what goes together: {}", names.collect::<Vec<_>>().join(", "));
    }
}

/// Writes the next version of a model, learnt from what the centre released.
///
/// # Errors
/// When nothing was counted for it, or too little came of it; nothing is written then.
pub fn run(paths: &Paths<'_>) -> Result<()> {
    let before = Brought::load(paths.manifest)?;
    let described = before.model.manifest();
    let (policy, _) = files::compile_policy(paths.policy, paths.models)?;
    let overview = Overview::of_site(paths.from, &policy.site)?;
    let learnt = found(&policy, &overview, described)?;
    let joint = learn(&learnt.counted)?;
    let (level, weights) = joint.weights();
    if weights.iter().flatten().all(|weight| weight.abs() < 1e-6) {
        bail!(
            "nothing that was counted tells who has the outcome, beyond what noise and chance would: no version is made of it"
        );
    }
    let steps =
        |(input, weights): (&Input<'_>, &Vec<f64>)| Steps { edges: input.edges(&policy), weights: weights.clone() };
    let additive = Additive { level, features: learnt.inputs.iter().zip(&weights).map(steps).collect() };
    let lowered = additive.lowered()?;

    let mut draws = Draws::new(SEED);
    let drawn: Vec<(Vec<f32>, bool)> = (0..SESSIONS).map(|_| session(&learnt, &policy, &joint, &mut draws)).collect();
    let (scores, outcomes): (Vec<f64>, Vec<bool>) =
        drawn.iter().map(|(row, outcome)| (additive.score(row), *outcome)).unzip();
    let pairs: Vec<[&String; 2]> =
        joint.pairs().iter().map(|(a, b)| [&learnt.inputs[*a].name, &learnt.inputs[*b].name]).collect();
    let from = format!("{} of {}", released::windows(learnt.windows), overview.site);
    let mut said = next::said(&before, &lowered, paths.version)?;
    let rows: Vec<&[f32]> = drawn.iter().map(|(row, _)| row.as_slice()).collect();
    let edges = describe(&mut said, (&additive, &learnt.inputs, &policy), &rows, &scores);
    said["training"] =
        json!({ "data": from, "rows": "none: counts of an input with the outcome, and of inputs with each other" });
    said["retrained"] = json!({
        "of": hash::hex(&before.hash()),
        "from": from,
        "until_ms": learnt.until_ms,
        "visits": joint.people().round(),
        "base_rate": joint.rate(),
        "pairs": pairs,
    });
    let proven = next::write(&said, &lowered.onnx, paths.out)?;
    println!(
        "{} version {}, learnt from {} counts of inputs with the outcome and {} of pairs, of {from}",
        described.id,
        proven.manifest().version,
        learnt.inputs.len(),
        learnt.counted.pairs(),
    );
    println!("about {:.0} visits, {:.4} of them with the outcome", joint.people(), joint.rate());
    tell(&learnt, &joint, &weights);
    let own = performance(&scores, &outcomes, &edges, SEED)?;
    println!("AUC {:.4} on sessions drawn from these counts themselves, which is no evidence", own.auc.value);
    if let Some(path) = paths.sessions {
        write_sessions(&learnt, &drawn, path)?;
        println!("{SESSIONS} sessions of nobody, for another learner: {}", path.display());
    }
    next::tell(paths.out);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn score_bins_are_those_of_a_manifest_whatever_the_scores() {
        // Many scores, nearly all of them small: none of twenty bins holds most of them.
        let mut draws = Draws::new(5);
        let rare: Vec<f64> = (0..20_000).map(|_| 0.003 * (1.5 * draws.normal()).exp()).collect();
        let (edges, _) = score_bins(&rare);
        let held = |bin: usize| {
            let (low, high) = (if bin == 0 { 0.0 } else { edges[bin - 1] }, edges.get(bin).copied().unwrap_or(1.0));
            rare.iter().filter(|score| (low..high).contains(*score)).count()
        };
        let most = (0..20).map(held).max().unwrap();
        assert!(most < 1_200, "a bin of {most} of 20000");
        let dithered = |at: u32, of: f64| of + f64::from(at) * 1e-9;
        for scores in [
            vec![0.3; 100],
            (0..100).map(|at| f64::from(at) / 99.0).collect(),
            [vec![0.0; 60], vec![1.0; 60]].concat(),
            (0..900).map(|at| dithered(at, [0.12, 0.120_01, 0.55][(at % 3) as usize])).collect(),
            rare,
        ] {
            let (edges, means) = score_bins(&scores);
            // Nobody is on an edge, and what is alike is in one bin.
            assert!(edges.iter().all(|edge| scores.iter().all(|score| (edge - score).abs() >= 1e-9)), "{edges:?}");
            let bin = |score: &f64| edges.iter().filter(|edge| *edge < score).count();
            assert!(scores.iter().zip(&scores[3..]).all(|(a, b)| (a - b).abs() > 1e-5 || bin(a) == bin(b)));
            assert!(edges.len() == 19 && edges.is_sorted_by(|a, b| b - a >= 1e-6) && edges[0] > 0.0 && edges[18] < 1.0);
            let ends = [&[0.0], &edges[..], &[1.0]].concat();
            assert!(means.len() == 20 && means.is_sorted_by(|a, b| b - a >= 1e-6 * 0.999));
            assert!(
                means.iter().zip(ends.windows(2)).all(|(mean, bin)| bin[0] <= *mean && *mean <= bin[1]),
                "{means:?}"
            );
        }
    }
}
