//! Experiments from released, noised sums: effects, their intervals, and what to do about them.
//!
//! An [`Arm`] holds the sums one arm released and how noisy each is; [`effect`] compares two; the [`Effect`] is asked
//! for an interval, looked at once ([`Effect::fixed`]) or as often as one likes ([`Effect::always_valid`]; as a share of the control
//! [`lift`]). Around it:
//! whether people fell into the arms as intended ([`check_shares`]), several metrics ([`q_values`]) and several arms
//! ([`against_control`]), guardrails ([`guard`]), how long to run ([`Design`]), how to shift traffic ([`allocate`]),
//! and, for training time and rows rather than sums, what another policy would have earned ([`Logged`]).
//!
//! ```
//! use gloaming_stats::experiment::{Arm, Noised, Scale, TAU, effect};
//!
//! # fn main() -> Result<(), gloaming_stats::experiment::ExperimentError> {
//! // Forty daily releases, noise of variance 2 on each sum: 80 on the total.
//! let sum = |value| Noised { value, variance: 80.0 };
//! let control = Arm::proportion(sum(10_012.0), sum(1_507.0))?;
//! let treated = Arm::proportion(sum(9_985.0), sum(1_739.0))?;
//! let found = effect(&control, &treated, Scale::Absolute)?.always_valid(0.05, TAU)?;
//! assert!(found.effect.low > 0.0 && found.p < 0.05);
//! # Ok(())
//! # }
//! ```
//!
//! With no noise the figures are those of gbstats 0.8.0 (`TwoSidedTTest`, `SequentialTwoSidedTTest`, `check_srm`),
//! statsmodels (`multipletests`, `NormalIndPower`) and obp 0.4.1.

mod allocation;
mod arm;
mod effect;
mod guardrail;
mod lift;
mod logged;
mod many;
mod plan;
mod sequence;
mod shares;

pub use allocation::{ARMS, Prior, Rule, allocate, best_probabilities};
pub use arm::{Arm, CERTAINTY, Metric, Noised, Sums};
pub use effect::{BASELINE, Effect, Finding, SPREAD, Scale, effect};
pub use guardrail::{Better, Guarded, Guardrail, Verdict, guard};
pub use lift::lift;
pub use logged::{ACTIONS, Gain, Logged, ROWS};
pub use many::{COMPARISONS, Compared, against_control, q_values};
pub use plan::{Design, LONGEST, Looks};
pub use sequence::TAU;
pub use shares::{ALARM, CONCENTRATION, EXPECTED, ShareCheck, Shares, WARN, check_shares};

/// Why an experiment has no figure.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ExperimentError {
    /// Not a number, or out of its range.
    #[error("{0} is {1}; it must be {2}")]
    Number(&'static str, f64, &'static str),
    /// Lists whose lengths do not belong together, or are out of bounds.
    #[error("{0} {1}; {2} belong here")]
    Length(usize, &'static str, String),
    /// Arms of different kinds.
    #[error("an arm of kind {0:?} cannot be added to or compared with one of kind {1:?}; give both the same metric")]
    Metric(Metric, Metric),
    /// Too few for a variance.
    #[error("an arm of {0:.1} people; a variance needs two at least")]
    People(f64),
    /// Buried in noise.
    #[error(
        "{0} is {1:.1} and its noise has a standard deviation of {2:.1}; at least {CERTAINTY} times that is needed: add up more people before looking, or fewer and longer releases"
    )]
    Noise(&'static str, f64, f64),
    /// A width nobody knows.
    #[error(
        "noise moves an arm's variance by {0:.0} %, more than {limit:.0} %; wait for more people or outcomes, or release less often",
        limit = 100.0 * SPREAD
    )]
    Spread(f64),
    /// Everybody the same.
    #[error("no arm shows any difference between people; wait for both kinds of outcome")]
    NoVariance,
    /// Nothing to be relative to.
    #[error("the control's mean {0:e} cannot be told from zero; ask for the absolute effect, or wait for more people")]
    Baseline(f64),
    /// Expected counts too small for a chi-square.
    #[error("{0:.1} people expected in an arm, fewer than {EXPECTED}; wait for more")]
    Expected(f64),
    /// An endless experiment.
    #[error("more than {LONGEST} days or people without end; look for a larger effect, or spend more budget a release")]
    Endless,
}

/// `value` when it lies above `low` and below `high`.
fn between(what: &'static str, value: f64, low: f64, high: f64, must: &'static str) -> Result<f64, ExperimentError> {
    if value > low && value < high { Ok(value) } else { Err(ExperimentError::Number(what, value, must)) }
}

/// An error rate.
fn rate(alpha: f64) -> Result<f64, ExperimentError> {
    between("alpha", alpha, 0.0, 0.5, "above 0 and below 0.5")
}
