//! What was learnt, as a version of the model that devices run.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use gloaming_model::{Additive, Steps};
use gloaming_policy::author::{Learning, LearningTerm, input_source};
use gloaming_policy::{Axis, Policy};
use gloaming_signal::hash;
use gloaming_stats::draws::Draws;
use serde_json::json;

use super::super::next;
use super::super::retrain::{Input, SESSIONS, describe};
use super::{SEED, adds, bin, groups};
use crate::files::Brought;

/// An input's axis, of a term.
fn axis(term: &LearningTerm, policy: &Policy) -> Result<Axis> {
    let source = input_source(&term.input, policy).with_context(|| format!("no device computes `{}`", term.input))?;
    Ok(Axis { source, bins: term.bins(), labels: vec![String::new(); term.values.len()] })
}

/// Writes it, proven, into a folder of its own; under another number than follows from the rounds where one is given.
pub(super) fn write(
    learning: &Learning,
    policy: &Policy,
    before: &Brought,
    site: &str,
    (out, version): (&Path, Option<u32>),
) -> Result<()> {
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
    let visits: f64 = learning.rounds.iter().map(|round| round.visits).sum();
    let rounds = learning.rounds.len();
    let from = format!("votes of {rounds} {} at {site}", if rounds == 1 { "round" } else { "rounds" });
    // Each round's version is one of its own, in whatever folder the one before lies.
    let version = version.unwrap_or(learning.version + u32::try_from(rounds)?);
    let mut said = next::said(before, &lowered, Some(version))?;
    let rows: Vec<&[f32]> = drawn.iter().map(Vec::as_slice).collect();
    describe(&mut said, (&additive, &inputs, policy), &rows, &scores);
    said["training"] = json!({ "data": from, "rows": "none: each visit voted for more or less of one input" });
    said["retrained"] = json!({
        "of": hash::hex(&before.hash()),
        "from": from,
        "until_ms": last.until_ms,
        "visits": visits.round(),
        "base_rate": learning.rate,
    });
    let proven = next::write(&said, &lowered.onnx, out)?;
    println!("{} version {}, of {from}", proven.manifest().id, proven.manifest().version);
    Ok(())
}
