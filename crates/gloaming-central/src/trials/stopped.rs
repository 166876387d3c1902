//! Experiments that end by themselves: the policy says that they may, a guardrail that breaks is why, and a row in the database says
//! that they have. Nothing but that can be said: not of another experiment, not of one arm alone, and it is not taken back.

use gloaming_policy::Policy;
use gloaming_policy::author::date_of;
use serde::Serialize;
use utoipa::ToSchema;

use super::{DAY_MS, ExperimentView};
use crate::store::Stop;

/// That an experiment ended by itself, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct StoppedView {
    /// When it was found, ms since 1970.
    pub at_ms: u64,
    /// The arm in which a guardrail broke.
    pub arm: String,
    /// What had become more frequent there.
    pub of: String,
    /// By how much, in words.
    pub reason: String,
}

/// What ends now: experiments whose policy says so, in which a guardrail is broken. It does not matter whether the arms are even: figures
/// of uneven arms are not to be trusted, and nobody loses by their end.
pub(crate) fn due(policy: &Policy, views: &[ExperimentView], now_ms: u64) -> Vec<Stop> {
    let ends = |view: &ExperimentView| {
        let rail = view.guardrails.iter().find(|rail| rail.verdict == "broken").filter(|_| view.stopped.is_none())?;
        policy.experiments.iter().find(|experiment| experiment.id == view.id && experiment.stops)?;
        Some(Stop {
            experiment: view.id.clone(),
            policy_version: policy.version,
            arm: rail.arm.clone(),
            guardrail: rail.of.clone(),
            reason: rail.reason.clone(),
            at_ms: now_ms,
        })
    };
    views.iter().filter_map(ends).collect()
}

/// Says of each that has ended that it has, whatever its figures say now: it was shown once, and an interval that holds at every look
/// is not undone by another look.
pub(crate) fn mark(policy: &Policy, views: &mut [ExperimentView], stops: &[Stop]) {
    for view in views {
        let may = policy.experiments.iter().any(|experiment| experiment.id == view.id && experiment.stops);
        let Some(stop) = stops.iter().find(|stop| may && stop.experiment == view.id) else { continue };
        let Stop { arm, guardrail: of, reason, at_ms, .. } = stop.clone();
        view.verdict = "stop";
        view.words = format!(
            "Stopped by itself on {}: in {arm}, visits with {of} were {reason}. Every arm is given what {} is given, and none is counted, until the next version of the policy.",
            date_of(at_ms / DAY_MS),
            view.arms.first().map_or("the control", |control| &*control.name)
        );
        view.arms.iter_mut().for_each(|arm| arm.next = None);
        // What the gate is told must not be that a guardrail held for which the experiment has ended.
        if !view.guardrails.iter().any(|rail| rail.arm == arm && rail.of == of && rail.verdict == "broken") {
            view.statement = None;
        }
        view.stopped = Some(StoppedView { at_ms, arm, of, reason });
    }
}
