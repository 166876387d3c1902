//! What was learnt, as a version of the model that devices run.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use gloaming_model::{Additive, INPUT, Steps};
use gloaming_policy::author::{Learning, LearningTerm, input_source};
use gloaming_policy::{Axis, Bins, Policy};
use gloaming_signal::hash;
use gloaming_stats::draws::Draws;
use serde_json::json;

use super::super::next;
use super::super::retrain::{BACKGROUND, Input, REFERENCE, SESSIONS, score_bins};
use super::{SEED, adds, bin, groups};
use crate::files::Brought;

/// An input's axis, of a term.
fn axis(term: &LearningTerm, policy: &Policy) -> Result<Axis> {
    let source = input_source(&term.input, policy).with_context(|| format!("no device computes `{}`", term.input))?;
    let bins = match term.edges.as_slice() {
        [] => Bins::Map((0..term.values.len()).map(|word| word as u32).collect()),
        edges => Bins::Edges(edges.to_vec()),
    };
    Ok(Axis { source, bins, labels: vec![String::new(); term.values.len()] })
}

/// Writes it, proven, into a folder of its own.
pub(super) fn write(learning: &Learning, policy: &Policy, before: &Brought, site: &str, out: &Path) -> Result<()> {
    let Some(last) = learning.rounds.last() else {
        bail!("nothing was voted on yet: all scores would be the same; take a round first, with --from");
    };
    let groups = groups(learning);
    let axes =
        groups.iter().map(|group| axis(&learning.terms[group.terms[0]], policy)).collect::<Result<Vec<Axis>>>()?;
    let inputs: Vec<Input<'_>> = groups
        .iter()
        .zip(&axes)
        .map(|(group, axis)| Input { name: learning.terms[group.terms[0]].input.clone(), axis })
        .collect();
    let steps = groups.iter().zip(&inputs).map(|(group, input)| Steps {
        edges: input.edges(policy),
        weights: (0..input.axis.labels.len()).map(|bin| adds(learning, group, bin)).collect(),
    });
    let additive = Additive { level: learning.level, features: steps.collect() };
    let lowered = additive.lowered()?;
    let mut draws = Draws::new(SEED);
    let mut session = || {
        let value = |(group, input): (&super::Group, &Input<'_>)| {
            let (from, to) = input.steps(bin(learning, group, &mut draws));
            input.value(policy, from + (draws.uniform() * f64::from(to - from)) as u32)
        };
        groups.iter().zip(&inputs).map(value).collect::<Vec<f32>>()
    };
    let drawn: Vec<Vec<f32>> = (0..SESSIONS).map(|_| session()).collect();
    let scores: Vec<f64> = drawn.iter().map(|row| additive.score(row)).collect();
    let (edges, means) = score_bins(&scores);
    let reference: Vec<&Vec<f32>> = drawn.iter().take(REFERENCE).collect();
    let visits: f64 = learning.rounds.iter().map(|round| round.visits).sum();
    let rounds = learning.rounds.len();
    let from = format!("votes of {rounds} {} at {site}", if rounds == 1 { "round" } else { "rounds" });
    let mut said = next::said(before, &lowered)?;
    let names: Vec<&String> = inputs.iter().map(|input| &input.name).collect();
    // Each round's version is one of its own, in whatever folder the one before lies.
    said["version"] = json!(learning.version + u32::try_from(rounds)?);
    said["input"] = json!({ "name": INPUT, "shape": [1, names.len()], "features": names });
    said["score_edges"] = json!(edges);
    said["score_means"] = json!(means);
    said["background"] = json!(drawn.iter().rev().take(BACKGROUND).collect::<Vec<_>>());
    said["reference"] = json!({
        "inputs": reference,
        "outputs": reference.iter().map(|row| additive.score(row)).collect::<Vec<_>>(),
    });
    said["training"] = json!({ "data": from, "rows": "none: each visit voted for more or less of one input" });
    said["retrained"] = json!({
        "of": hash::hex(&before.hash()),
        "from": from,
        "until_ms": last.until_ms,
        "visits": visits.round(),
        "base_rate": learning.rate,
    });
    if let Some(said) = said.as_object_mut() {
        said.remove("recalibrated");
    }
    let proven = next::write(&said, &lowered.onnx, out)?;
    println!("{} version {}, of {from}", proven.manifest().id, proven.manifest().version);
    Ok(())
}
