//! What choosing as a model does would have earned: evidence for models that name an action instead of telling a chance.

use serde::{Deserialize, Serialize};

use super::{Interval, Rows};

/// How it was estimated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Estimator {
    /// Rewards weighted by how much likelier the model does what was done, divided by the sum of the weights.
    SelfNormalised,
    /// A model of the reward, corrected by the weighted error that it made.
    DoublyRobust,
}

impl Estimator {
    /// In words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SelfNormalised => "self-normalised",
            Self::DoublyRobust => "doubly robust",
        }
    }
}

/// [`super::Kind::Value`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Value {
    /// Day it was made, `YYYY-MM-DD`.
    pub day: String,
    /// On what; its positives are the rows that earned anything.
    pub on: Rows,
    /// What was earned, in words.
    pub reward: String,
    /// How the value was estimated.
    pub estimator: Estimator,
    /// Mean reward, had the model chosen.
    pub value: Interval,
    /// Mean reward of what chose.
    pub logged: Interval,
    /// The difference of the two, of the same rows.
    pub gain: Interval,
    /// Mean of how much likelier the model does what was done: 1 but for chance where the log says how likely things truly were,
    /// and tried everything that the model would do. Its interval is one of 99.9 %.
    pub weight: Interval,
    /// How many rows of the model's own the log is worth.
    pub effective_rows: f64,
    /// Rows that earned something where the model would have done the same.
    pub telling: u64,
}

impl Value {
    pub(super) fn sound(&self) -> bool {
        let intervals = [&self.value, &self.logged, &self.gain, &self.weight].iter().all(|interval| interval.sound());
        let rows = self.on.rows as f64;
        let difference = (self.value.value - self.logged.value - self.gain.value).abs();
        intervals
            && difference <= 1e-9 * (1.0 + self.value.value.abs())
            && self.effective_rows.is_finite()
            && (0.0..=rows * (1.0 + 1e-9)).contains(&self.effective_rows)
            && self.telling <= self.on.positives
            && !self.reward.trim().is_empty()
    }
}
