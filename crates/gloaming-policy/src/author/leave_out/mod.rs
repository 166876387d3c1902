//! What to leave out of a policy that costs a device more than its budget, so that the rest fits.
//!
//! What is missed least goes first, in the order of [`part::Rung`]: what is counted of models that act on nobody, then what models are
//! learnt from, then what is seen of models that act, and only when nothing else is left what an owner wrote and experiments. Then
//! what would fit after all is put back, from what is missed most on, so that nothing is left out in vain. What must stay does: one
//! metric of the owner's, how a model that acts fares, and an experiment that decides who hears a model.
//!
//! A window's length does not matter: a device pays by the day, whatever window it names.

mod part;
mod told;

use std::fmt;

use gloaming_privacy::Rho;

use super::MOST_MICRO;
use crate::document::Policy;
use part::Parts;

/// A table of the policy's text that is changed or taken out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What kind of table, as in `monitor`.
    pub table: &'static str,
    /// Which one: its `model`, the `name` of a metric, or its `id`.
    pub of: String,
    /// What it says from then on, as keys and TOML; nothing when it is taken out.
    pub keys: Vec<(&'static str, String)>,
}

impl Change {
    fn out(table: &'static str, of: &str) -> Self {
        Self { table, of: of.to_owned(), keys: Vec::new() }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, of, keys } = self;
        if keys.is_empty() {
            // Some have names of their own, others are known by the model that they are of.
            let whose = if matches!(*table, "metric" | "experiment" | "attribute") { "" } else { "of " };
            return write!(f, "take out [[{table}]] {whose}`{of}`");
        }
        let keys: Vec<String> = keys.iter().map(|(key, value)| format!("`{key} = {value}`")).collect();
        write!(f, "in [[{table}]] of `{of}` write {}", keys.join(" and "))
    }
}

/// One thing that is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// What to change for it; all of it.
    pub changes: Vec<Change>,
    /// Ids of the metrics that go.
    pub metrics: Vec<u32>,
    /// What a device no longer pays a day.
    pub frees: Rho,
    /// What is no longer seen, as a sentence without its full stop.
    pub unseen: String,
}

/// What to leave out of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fit {
    /// What goes, what is missed least first; nothing when all fits, and all that can go when the rest does not fit.
    pub left_out: Vec<LeftOut>,
    /// What the rest costs a device a day. Above the policy's budget, no leaving out is enough.
    pub rest: Rho,
}

/// What to leave out of a policy so that the rest is within its budget a day. The same policy always gets the same answer, and
/// nothing of it could be put back while the rest fits.
#[must_use]
pub fn leave_out(policy: &Policy) -> Fit {
    fit(&Parts::of(policy))
}

fn fit(parts: &Parts<'_>) -> Fit {
    let out = parts.chosen();
    Fit { rest: parts.rest(&out), left_out: parts.told(&out) }
}

/// What to do about a policy that costs more than its budget, in words.
pub(super) fn remedy(policy: &Policy) -> String {
    let parts = Parts::of(policy);
    let fit = fit(&parts);
    let epsilon = |rho: Rho| format!("epsilon {:.2} a day", rho.epsilon(policy.delta()));
    let raise = |rho: Rho| {
        let to = format!(
            "raise `rho_per_device_day` to {} ({}, instead of {})",
            rho.as_f64(),
            epsilon(rho),
            epsilon(policy.budget)
        );
        (rho.micro() <= MOST_MICRO).then_some(to)
    };
    let line = |left: &LeftOut| {
        let changes: Vec<String> = left.changes.iter().map(ToString::to_string).collect();
        format!("\n    frees {}: {}; then {}", left.frees.as_f64(), changes.join(", and "), left.unseen)
    };
    let lines: String = fit.left_out.iter().map(line).collect();
    if fit.rest > policy.budget {
        let gone: Vec<u32> = fit.left_out.iter().flat_map(|left| left.metrics.iter().copied()).collect();
        let stays = policy.metrics.iter().filter(|metric| !gone.contains(&metric.id));
        let stays: Vec<String> = stays.map(|metric| format!("`{}`", metric.name)).collect();
        let raise = raise(fit.rest).map_or_else(String::new, |raise| format!(", or {raise}"));
        return format!(
            "leaving out is not enough: what has to stay costs rho {} by itself ({}); lower `rho` or `per_day` there{raise}, and leave out the rest:{lines}",
            fit.rest.as_f64(),
            stays.join(", ")
        );
    }
    let noise = parts.share().map_or_else(String::new, |share| {
        let wider = 100.0 * ((1_000.0 / share as f64).sqrt() - 1.0);
        format!(
            "\n  or keep all with noise {wider:.0} % wider: multiply every `rho` but the budget's by {}, rounded down to millionths",
            share as f64 / 1e3
        )
    });
    let raise = raise(policy.declared()).map_or_else(String::new, |raise| format!("\n  or {raise}"));
    format!("leave out what is missed least, and the rest costs rho {}:{lines}{noise}{raise}", fit.rest.as_f64())
}

#[cfg(test)]
mod tests;
