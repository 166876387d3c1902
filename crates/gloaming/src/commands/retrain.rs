//! `gloaming model retrain`: a model learnt again from released counts, without anybody's rows.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use gloaming_behavior::definitions::{DEFINITIONS, Kind};
use gloaming_model::evaluate::performance;
use gloaming_model::{Additive, Manifest, Model, Steps};
use gloaming_policy::{Axis, Bins, Metric, PageFeatureKind, Policy, Source};
use gloaming_signal::hash;
use gloaming_stats::Cells;
use gloaming_stats::draws::Draws;
use gloaming_stats::marginals::{Counted, Joint, Pair, learn};
use serde_json::json;

use super::next;
use super::released::{self, Overview};
use crate::files;

/// Sessions of nobody that are drawn: bins of equal mass come from their scores.
const SESSIONS: usize = 20_000;
/// Reference rows and usual rows of the manifest.
const REFERENCE: usize = 64;
const BACKGROUND: usize = 32;
/// Everything that is drawn follows from it.
const SEED: u64 = 20_261_127;
/// Scores apart at least, as manifests want them.
const APART: f64 = 2e-6;

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
    /// Where to write sessions of nobody, for another learner.
    pub sessions: Option<&'p Path>,
}

/// An input, as it was counted with the outcome.
struct Input<'p> {
    name: String,
    axis: &'p Axis,
}

impl Input<'_> {
    /// What a device gives a model for a step of this input, by the arithmetic that it has.
    fn value(&self, policy: &Policy, step: u32) -> f32 {
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
    fn steps(&self, bin: usize) -> (u32, u32) {
        match &self.axis.bins {
            Bins::Edges(edges) => (edges[bin], edges[bin + 1]),
            _ => (bin as u32, bin as u32 + 1),
        }
    }

    /// Where each bin but the first begins.
    fn edges(&self, policy: &Policy) -> Vec<f32> {
        (1..self.axis.labels.len()).map(|bin| self.value(policy, self.steps(bin).0)).collect()
    }
}

/// What the policy counts for a model to be learnt from again, and what came of it.
struct Learnt<'p> {
    inputs: Vec<Input<'p>>,
    outcome: String,
    counted: Counted,
    windows: usize,
    until_ms: Option<u64>,
}

/// A metric's released counts. Where a window of it fell below the crowd and others' did not, it stands for as many.
fn cells(counted: &released::Counted, windows: usize) -> Result<Cells> {
    let (cells, factor) = (counted.cells()?, windows as f64 / counted.windows() as f64);
    Ok(Cells::new(cells.values().iter().map(|value| value * factor).collect(), cells.variance() * factor * factor)?)
}

/// The name that manifests give an input, of what a metric is of.
fn input_name(of: &str) -> &str {
    of.strip_prefix("feature:").unwrap_or(of)
}

fn found<'p>(policy: &'p Policy, overview: &Overview, before: &Manifest) -> Result<Learnt<'p>> {
    let id = &before.id;
    let (by, together) = (format!("{id}-by-"), format!("{id}-pair-"));
    let of_kind =
        |prefix: &str| policy.metrics.iter().filter(|m| m.name.starts_with(prefix) && m.axes.len() == 2).collect();
    let (mut by_outcome, pairs): (Vec<&Metric>, Vec<&Metric>) = (of_kind(&by), of_kind(&together));
    if by_outcome.is_empty() {
        bail!(
            "the policy counts nothing that `{id}` could be learnt from; add [[retrain]] with model = \"{id}\", and wait for a window"
        );
    }
    // Inputs stay in the order that they had; metrics have none.
    let first = |metric: &&Metric| {
        let name = input_name(metric.of.split(", ").next().unwrap_or_default());
        let place = before.input.features.iter().position(|feature| feature == name);
        (place.unwrap_or(usize::MAX), name.to_owned())
    };
    by_outcome.sort_by_cached_key(first);
    let released = |metric: &Metric| {
        let found = overview.metrics.iter().find(|other| other.name == metric.name).with_context(|| {
            format!("{} counts no `{}` yet: was this policy signed and put?", overview.site, metric.name)
        })?;
        if found.labels != metric.labels() {
            bail!("`{}` was counted by other bins than this policy has; take the policy that is in force", metric.name);
        }
        Ok(found)
    };
    let counts: Vec<(&Metric, &released::Counted)> =
        by_outcome.iter().chain(&pairs).map(|metric| Ok((*metric, released(metric)?))).collect::<Result<_>>()?;
    let windows = counts.iter().map(|(_, counted)| counted.windows()).max().unwrap_or(0);
    let (with_outcome, with_another) = counts.split_at(by_outcome.len());
    let name = |metric: &Metric| metric.of.split(", ").map(input_name).map(str::to_owned).collect::<Vec<_>>();
    let mut inputs = Vec::new();
    let mut tables = Vec::new();
    for (metric, counted) in with_outcome {
        inputs.push(Input { name: name(metric).swap_remove(0), axis: &metric.axes[0] });
        tables.push(cells(counted, windows)?);
    }
    let place = |axis: &Axis| inputs.iter().position(|input| input.axis.source == axis.source);
    let mut pairs = Vec::new();
    for (metric, counted) in with_another {
        // A pair of something that is not learnt from tells nothing here.
        if let (Some(one), Some(other)) = (place(&metric.axes[0]), place(&metric.axes[1])) {
            pairs.push(Pair { of: (one, other), cells: cells(counted, windows)? });
        }
    }
    let outcome = with_outcome[0].0.of.rsplit("outcome:").next().unwrap_or_default().to_owned();
    let until_ms = counts.iter().filter_map(|(_, counted)| Some(counted.span_ms()?.1)).max();
    Ok(Learnt { inputs, outcome, counted: Counted::new(tables, pairs)?, windows, until_ms })
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
fn score_bins(scores: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let mut sorted = scores.to_vec();
    sorted.sort_by(f64::total_cmp);
    let mut edges: Vec<f64> = Vec::new();
    for at in 1..20 {
        let quantile = sorted[at * sorted.len() / 20].clamp(APART * at as f64, 1.0 - APART * (20 - at) as f64);
        edges.push(edges.last().map_or(quantile, |before: &f64| quantile.max(before + APART)));
    }
    let ends = [&[0.0], &edges[..], &[1.0]].concat();
    let mut means: Vec<f64> = Vec::new();
    for bin in ends.windows(2) {
        let here =
            &sorted[sorted.partition_point(|score| *score < bin[0])..sorted.partition_point(|score| *score < bin[1])];
        let middle =
            if here.is_empty() { f64::midpoint(bin[0], bin[1]) } else { here.iter().sum::<f64>() / here.len() as f64 };
        let after = means.last().map_or(middle, |before: &f64| middle.max(before + APART / 2.0));
        means.push(after.clamp(bin[0], bin[1]));
    }
    (edges, means)
}

/// Rows to prove the model by: sessions of nobody, among them every input's least and largest values.
fn reference(learnt: &Learnt<'_>, policy: &Policy, drawn: &[(Vec<f32>, bool)]) -> Vec<Vec<f32>> {
    let mut rows: Vec<Vec<f32>> = drawn.iter().take(REFERENCE).map(|(row, _)| row.clone()).collect();
    let count = rows.len();
    for (at, input) in learnt.inputs.iter().enumerate() {
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
    let before = files::read(paths.manifest)?;
    let onnx = files::read(&paths.manifest.with_file_name("model.onnx"))?;
    let model = Model::load(&before, &onnx).with_context(|| paths.manifest.display().to_string())?;
    let described = model.manifest();
    let (policy, _) = files::compile_policy(paths.policy, paths.models)?;
    let (overview, _) = Overview::read(paths.from)?;
    if overview.site != policy.site {
        bail!("{} is of {}, and the policy of {}", paths.from.display(), overview.site, policy.site);
    }
    let learnt = found(&policy, &overview, described)?;
    let joint = learn(&learnt.counted)?;
    let (level, weights) = joint.weights();
    let steps =
        |(input, weights): (&Input<'_>, &Vec<f64>)| Steps { edges: input.edges(&policy), weights: weights.clone() };
    let additive = Additive { level, features: learnt.inputs.iter().zip(&weights).map(steps).collect() };
    let lowered = additive.lowered()?;

    let mut draws = Draws::new(SEED);
    let drawn: Vec<(Vec<f32>, bool)> = (0..SESSIONS).map(|_| session(&learnt, &policy, &joint, &mut draws)).collect();
    let (scores, outcomes): (Vec<f64>, Vec<bool>) =
        drawn.iter().map(|(row, outcome)| (additive.score(row), *outcome)).unzip();
    let (edges, means) = score_bins(&scores);
    let reference = reference(&learnt, &policy, &drawn);
    let names: Vec<&String> = learnt.inputs.iter().map(|input| &input.name).collect();
    let pairs: Vec<[&String; 2]> =
        joint.pairs().iter().map(|(a, b)| [&learnt.inputs[*a].name, &learnt.inputs[*b].name]).collect();
    let from = format!("{} released windows of {}", learnt.windows, overview.site);
    let mut said = next::said(&before, described, &lowered)?;
    said["input"] = json!({ "name": gloaming_model::INPUT, "shape": [1, names.len()], "features": names });
    said["score_edges"] = json!(edges);
    said["score_means"] = json!(means);
    said["background"] = json!(drawn.iter().rev().take(BACKGROUND).map(|(row, _)| row).collect::<Vec<_>>());
    said["reference"] = json!({
        "inputs": reference,
        "outputs": reference.iter().map(|row| additive.score(row)).collect::<Vec<_>>(),
    });
    said["training"] =
        json!({ "data": from, "rows": "none: counts of an input with the outcome, and of inputs with each other" });
    said["retrained"] = json!({
        "of": hash::hex(&hash::sha256(&before)),
        "from": from,
        "until_ms": learnt.until_ms,
        "visits": joint.people().round(),
        "base_rate": joint.rate(),
        "pairs": pairs,
    });
    if let Some(said) = said.as_object_mut() {
        said.remove("recalibrated");
    }
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
    println!(
        "written to {}; next: put it in shadow, `gloaming model evaluate --released` on later windows, then `gloaming model promote`",
        paths.out.display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn score_bins_are_those_of_a_manifest_whatever_the_scores() {
        for scores in
            [vec![0.3; 100], (0..100).map(|at| f64::from(at) / 99.0).collect(), [vec![0.0; 60], vec![1.0; 60]].concat()]
        {
            let (edges, means) = score_bins(&scores);
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
