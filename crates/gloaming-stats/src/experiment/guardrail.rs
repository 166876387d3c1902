//! Metrics that must not get worse.

use super::effect::Effect;
use super::{ExperimentError, between, rate};

/// Which way is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// More of it, as with purchases.
    Higher,
    /// Less of it, as with latency or opting out.
    Lower,
}

/// A permitted harm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guardrail {
    /// Which way is good.
    pub better: Better,
    /// The harm one would still accept, zero or more, in the effect's unit (a share when the effect is relative).
    pub permitted: f64,
    /// Error rate of each of the two answers, over all looks.
    pub alpha: f64,
    /// People at which the bounds are tightest; [`TAU`](super::TAU) unless there is a reason.
    pub tau: f64,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The harm is below what is permitted.
    Ok,
    /// The harm is above what is permitted.
    Stop,
    /// Neither is shown.
    NotYet,
}

/// A verdict and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Guarded {
    /// What to do.
    pub verdict: Verdict,
    /// At least this harm, with error rate alpha (negative: a gain).
    pub low: f64,
    /// At most this harm, with error rate alpha.
    pub high: f64,
    /// In words.
    pub reason: String,
}

/// Hold an effect against a permitted harm, by one-sided confidence sequences: it may be asked at every look, and a
/// harmless change is stopped, or a harmful one passed, with probability `alpha` at most over all looks together.
///
/// # Errors
/// When the permitted harm is negative or not finite, or as [`Effect::one_sided`].
pub fn guard(effect: &Effect, rule: &Guardrail) -> Result<Guarded, ExperimentError> {
    let Guardrail { better, permitted, alpha, tau } = *rule;
    if permitted != 0.0 {
        between("a permitted harm", permitted, 0.0, f64::INFINITY, "zero or more, and finite")?;
    }
    let half = effect.one_sided(rate(alpha)?, tau)?;
    let harm = if better == Better::Higher { -effect.estimate } else { effect.estimate };
    let (low, high) = (harm - half, harm + half);
    let sure = 100.0 * (1.0 - alpha);
    let (verdict, reason) = if low > permitted {
        (
            Verdict::Stop,
            format!("the harm is at least {low:.6} ({sure:.1} % sure at any look), over the permitted {permitted}"),
        )
    } else if high < permitted {
        (
            Verdict::Ok,
            format!("the harm is at most {high:.6} ({sure:.1} % sure at any look), under the permitted {permitted}"),
        )
    } else {
        (
            Verdict::NotYet,
            format!("the harm is between {low:.6} and {high:.6}, and {permitted} is permitted: more people are needed"),
        )
    };
    Ok(Guarded { verdict, low, high, reason })
}
