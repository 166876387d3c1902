//! What another policy would have earned, from the log of the one that ran.
//!
//! For training time and rows held by whoever trains; nothing here takes released sums. Formulas are those of obp
//! 0.4.1 (Saito et al. 2021, *Open Bandit Dataset and Pipeline*): inverse propensity weighting (Strehl et al. 2010),
//! self-normalised (Swaminathan and Joachims 2015), direct method and doubly robust (Dudík et al. 2014).

use super::{ExperimentError, between, rate};
use crate::Estimate;
use crate::distribution::student_quantile;
use crate::share::degrees;

/// Most rows of a log.
pub const ROWS: usize = 10_000_000;
/// Most actions to choose from.
pub const ACTIONS: usize = 10_000;
/// Fewest rows for an interval.
const FEWEST: usize = 2;

/// What a policy would have earned, and what ran did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gain {
    /// Mean reward of the policy.
    pub value: Estimate,
    /// Mean reward of what ran.
    pub logged: Estimate,
    /// The first less the second.
    pub gain: Estimate,
}

/// A log, checked: n rows of what was done, how likely that was, and what it earned.
#[derive(Clone, Copy, Debug)]
pub struct Logged<'a> {
    actions: usize,
    done: &'a [usize],
    rewards: &'a [f64],
    propensities: &'a [f64],
    policy: &'a [f64],
}

impl<'a> Logged<'a> {
    /// `done`, `rewards` and `propensities` have one entry a row; `policy` has `actions` entries a row, the
    /// probabilities of the policy to be judged, and each row of it sums to one.
    ///
    /// # Errors
    /// When lengths do not fit or exceed [`ROWS`] or [`ACTIONS`], an action is none, a propensity is not above 0 and at
    /// most 1, a reward is not finite, or a row of the policy is no distribution (to 1e-6).
    pub fn new(
        actions: usize,
        done: &'a [usize],
        rewards: &'a [f64],
        propensities: &'a [f64],
        policy: &'a [f64],
    ) -> Result<Self, ExperimentError> {
        if !(FEWEST..=ROWS).contains(&done.len()) {
            return Err(ExperimentError::Length(done.len(), "rows", format!("{FEWEST} to {ROWS}")));
        }
        if !(1..=ACTIONS).contains(&actions) {
            return Err(ExperimentError::Length(actions, "actions", format!("1 to {ACTIONS}")));
        }
        for (length, what, wanted) in [
            (rewards.len(), "rewards", done.len()),
            (propensities.len(), "propensities", done.len()),
            (policy.len(), "probabilities of the policy", done.len() * actions),
        ] {
            if length != wanted {
                return Err(ExperimentError::Length(length, what, wanted.to_string()));
            }
        }
        for (row, chosen) in policy.chunks_exact(actions).enumerate() {
            if done[row] >= actions {
                return Err(ExperimentError::Number("an action", done[row] as f64, "below the number of actions"));
            }
            between("a reward", rewards[row], f64::NEG_INFINITY, f64::INFINITY, "finite")?;
            between("a propensity", propensities[row], 0.0, 1.0 + 1e-12, "above 0 and at most 1")?;
            let sum: f64 = chosen.iter().sum();
            if !chosen.iter().all(|p| *p >= 0.0) || !(0.999_999..=1.000_001).contains(&sum) {
                return Err(ExperimentError::Number("the sum of a row of the policy", sum, "1, of parts zero or more"));
            }
        }
        Ok(Self { actions, done, rewards, propensities, policy })
    }

    fn rows(&self) -> usize {
        self.done.len()
    }

    /// What most rows earned, which is nothing in most logs.
    #[must_use]
    pub fn usual(&self) -> f64 {
        let mut sorted = self.rewards.to_vec();
        sorted.sort_by(f64::total_cmp);
        let runs = sorted.chunk_by(|one, next| one == next);
        runs.max_by_key(|run| run.len()).and_then(|run| run.first()).copied().unwrap_or(0.0)
    }

    /// Rows that earned something else than most where the policy might have done the same: what all estimates hang on.
    #[must_use]
    pub fn telling(&self) -> usize {
        let usual = self.usual();
        self.weights().zip(self.rewards).filter(|(weight, reward)| *weight > 0.0 && **reward != usual).count()
    }

    /// Mean weight, with an interval: 1 but for chance where propensities are true and nothing was impossible.
    ///
    /// # Errors
    /// When alpha is not above 0 and below 0.5.
    pub fn mean_weight(&self, alpha: f64) -> Result<Estimate, ExperimentError> {
        mean_of(&self.weights().collect::<Vec<_>>(), alpha)
    }

    /// What the policy earns more than what ran, of the same rows: doubly robust where rewards are `predicted`, else
    /// self-normalised. Rows are compared with themselves, so that what both have in common does not widen the interval.
    ///
    /// # Errors
    /// As [`Logged::doubly_robust`] and [`Logged::self_normalised`].
    pub fn gain(&self, predicted: Option<&[f64]>, alpha: f64) -> Result<Gain, ExperimentError> {
        let (value, mut terms) = match predicted {
            Some(predicted) => (self.doubly_robust(predicted, alpha)?, self.corrected(predicted)?),
            None => {
                let value = self.self_normalised(alpha)?;
                let mean = self.weights().sum::<f64>() / self.rows() as f64;
                let around = |(w, r): (f64, &f64)| value.value + w * (r - value.value) / mean;
                (value, self.weights().zip(self.rewards).map(around).collect())
            }
        };
        terms.iter_mut().zip(self.rewards).for_each(|(term, reward)| *term -= reward);
        let (logged, around) = (mean_of(self.rewards, alpha)?, mean_of(&terms, alpha)?);
        Ok(Gain { value, logged, gain: at(value.value - logged.value, around) })
    }

    /// How much likelier the policy would have done what was done.
    fn weights(&self) -> impl Iterator<Item = f64> + '_ {
        self.done
            .iter()
            .enumerate()
            .map(|(row, action)| self.policy[row * self.actions + action] / self.propensities[row])
    }

    /// (Σw)²/Σw²: how many rows of the policy's own the log is worth. Trust no estimate when it is in the tens.
    #[must_use]
    pub fn effective_rows(&self) -> f64 {
        let (sum, squares) = self.weights().fold((0.0, 0.0), |(sum, squares), w| (sum + w, squares + w * w));
        if squares > 0.0 { sum * sum / squares } else { 0.0 }
    }

    /// Inverse propensity weighting: the mean of wr, with an interval of level 1 − alpha.
    ///
    /// # Errors
    /// When alpha is not above 0 and below 0.5.
    pub fn weighted(&self, alpha: f64) -> Result<Estimate, ExperimentError> {
        let terms: Vec<f64> = self.weights().zip(self.rewards).map(|(w, r)| r * w).collect();
        mean_of(&terms, alpha)
    }

    /// Self-normalised: Σwr / Σw, with an interval by the delta method.
    ///
    /// # Errors
    /// When alpha is not above 0 and below 0.5, or the policy never does what was done.
    pub fn self_normalised(&self, alpha: f64) -> Result<Estimate, ExperimentError> {
        let mean = self.weights().sum::<f64>() / self.rows() as f64;
        between("the mean weight", mean, 0.0, f64::INFINITY, "above 0; the policy never does what was done")?;
        let terms = self.weights().zip(self.rewards).map(|(w, r)| r * w / mean);
        let value = terms.sum::<f64>() / self.rows() as f64;
        let residuals: Vec<f64> = self.weights().zip(self.rewards).map(|(w, r)| w * (r - value) / mean).collect();
        let around = mean_of(&residuals, alpha)?;
        Ok(at(value, around))
    }

    /// Direct method: the mean of what a model predicts for the policy. `predicted` has `actions` entries a row.
    ///
    /// It has no interval: it is as wrong as the model is, and the log alone cannot say how wrong that is.
    ///
    /// # Errors
    /// When `predicted` has another shape or an entry that is not finite.
    pub fn direct(&self, predicted: &[f64]) -> Result<f64, ExperimentError> {
        Ok(self.expected(predicted)?.iter().sum::<f64>() / self.rows() as f64)
    }

    /// Doubly robust: the model, corrected by the weighted error it made where the log can tell; with an
    /// interval, which supposes that the model was not fitted to these rows (or cross-fitted).
    ///
    /// # Errors
    /// As [`Logged::direct`] and [`Logged::weighted`].
    pub fn doubly_robust(&self, predicted: &[f64], alpha: f64) -> Result<Estimate, ExperimentError> {
        mean_of(&self.corrected(predicted)?, alpha)
    }

    fn corrected(&self, predicted: &[f64]) -> Result<Vec<f64>, ExperimentError> {
        let mut terms = self.expected(predicted)?;
        for ((row, term), weight) in terms.iter_mut().enumerate().zip(self.weights()) {
            *term += weight * (self.rewards[row] - predicted[row * self.actions + self.done[row]]);
        }
        Ok(terms)
    }

    fn expected(&self, predicted: &[f64]) -> Result<Vec<f64>, ExperimentError> {
        if predicted.len() != self.policy.len() {
            return Err(ExperimentError::Length(predicted.len(), "predictions", self.policy.len().to_string()));
        }
        if let Some(wrong) = predicted.iter().find(|value| !value.is_finite()) {
            return Err(ExperimentError::Number("a prediction", *wrong, "finite"));
        }
        let rows = self.policy.chunks_exact(self.actions).zip(predicted.chunks_exact(self.actions));
        // obp divides by the row's sum as well, which is 1 to rounding.
        let expected =
            |(p, q): (&[f64], &[f64])| p.iter().zip(q).map(|(p, q)| p * q).sum::<f64>() / p.iter().sum::<f64>();
        Ok(rows.map(expected).collect())
    }
}

/// Another value with an interval that reaches as far.
fn at(value: f64, around: Estimate) -> Estimate {
    Estimate { value, low: value - (around.value - around.low), high: value + (around.high - around.value) }
}

/// Mean and interval, by Student's t of a mean whose skewness was taken out (Hall 1992, *On the removal of skewness by transformation*, JRSS B
/// 54), with as many degrees of freedom as the terms' fourth powers leave. Few rewards that weigh much make a normal interval hold in 93 of 100
/// logs, and miss above in most of the others.
fn mean_of(terms: &[f64], alpha: f64) -> Result<Estimate, ExperimentError> {
    let rows = terms.len() as f64;
    let value = terms.iter().sum::<f64>() / rows;
    let sum = |power: i32| terms.iter().map(|term| (term - value).powi(power)).sum::<f64>();
    let (squares, variance) = (sum(2), sum(2) / (rows - 1.0));
    let reach = student_quantile(rate(alpha)? / 2.0, degrees(squares, sum(4), rows).max(1.0));
    // Skewness of the mean, six times what its distribution is off by.
    let skew = if variance > 0.0 { sum(3) / rows / variance.powf(1.5) / rows.sqrt() } else { 0.0 };
    let straight = |reach: f64| {
        // Rounding would be all that is left of a smaller one.
        if skew.abs() < 1e-6 { reach } else { ((1.0 + skew * (reach - skew / 6.0)).cbrt() - 1.0) * 3.0 / skew }
    };
    let error = (variance / rows).sqrt();
    let (down, up) = (error * straight(reach), -error * straight(-reach));
    if !down.is_finite() || !up.is_finite() {
        return Err(ExperimentError::Number("a weighted reward's variance", variance, "finite"));
    }
    Ok(Estimate { value, low: value - down, high: value + up })
}
