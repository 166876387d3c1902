//! What can be said of a model: the predicates of [`super::Statement`]s.
//!
//! Every figure comes with its 95 % interval, and thresholds are compared with the interval's worse end: what
//! could be luck is not evidence.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Stage;
use super::value::Value;
use gloaming_signal::hash;

/// Most sources that take turns in being held out, and most points of a curve.
pub const TURNS: usize = 64;

/// Fewest bytes of a reason for comparing no groups.
pub const REASON: usize = 20;

/// What a piece of evidence is about. Ordered as it is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Performance on rows of a later time, another source or other people than it was trained on.
    HeldOut,
    /// Whether a score of 0.3 means three in ten, on such rows.
    Calibration,
    /// What choosing as it does would have earned, from the log of another way to choose: of models that name an action.
    Value,
    /// Whether groups of people are treated alike, on such rows.
    Fairness,
    /// That the runtimes compute what the trainer computed.
    Parity,
    /// What acting on the score changed, against chance.
    Experiment,
    /// What people said who were asked whether this should be done at all.
    Ethics,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::HeldOut, Self::Calibration, Self::Value, Self::Fairness, Self::Parity, Self::Experiment, Self::Ethics];

    /// As in policies and statements.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::HeldOut => "held-out",
            Self::Calibration => "calibration",
            Self::Value => "value",
            Self::Fairness => "fairness",
            Self::Parity => "parity",
            Self::Experiment => "experiment",
            Self::Ethics => "ethics",
        }
    }
}

/// A figure with the ends of its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interval {
    /// The estimate.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.4} [{:.4}, {:.4}]", self.value, self.low, self.high)
    }
}

impl Interval {
    pub(super) fn sound(&self) -> bool {
        [self.low, self.value, self.high].iter().all(|v| v.is_finite())
            && self.low <= self.value
            && self.value <= self.high
    }
}

/// How the rows that were reported on were kept apart from those that were learnt from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SplitBy {
    /// Later ones.
    Time,
    /// Of another site, device or kind.
    Source,
    /// Of other people.
    Group,
    /// By lot: which says how well it remembers, and not how well it will do.
    Random,
}

/// The split and the data it was made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rows {
    /// What the data are called.
    pub data: String,
    /// SHA-256 of the file that was evaluated, hexadecimal.
    pub sha256: String,
    /// How they were kept apart.
    pub split: SplitBy,
    /// What was learnt from, in words.
    pub trained: String,
    /// What was evaluated, in words.
    pub tested: String,
    /// How many rows.
    pub rows: u64,
    /// How many of them had the outcome.
    pub positives: u64,
}

/// [`Kind::HeldOut`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldOut {
    /// Day it was made, `YYYY-MM-DD`.
    pub day: String,
    /// On what.
    pub on: Rows,
    /// Area under the ROC curve.
    pub auc: Interval,
    /// Average precision.
    pub average_precision: Interval,
    /// Mean squared error of the probability.
    pub brier: Interval,
    /// Where sources were held out: what came of each of the others, held out in its turn by the same training.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub turns: Vec<Turn>,
    /// Where visits were judged as they stood at some point: how the model fares at others, in words as `at 3`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub curve: Vec<Point>,
}

impl HeldOut {
    /// The area under the curve whose lower end is the least, and what was held out then.
    #[must_use]
    pub fn worst(&self) -> (&str, &Interval) {
        let turns = self.turns.iter().map(|turn| (turn.held_out.as_str(), &turn.auc));
        turns.fold(
            (self.on.tested.as_str(), &self.auc),
            |worst, turn| if turn.1.low < worst.1.low { turn } else { worst },
        )
    }
}

/// One of several sources, held out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Turn {
    /// What was held out, in words.
    pub held_out: String,
    /// How many rows that were.
    pub rows: u64,
    /// How many of them had the outcome.
    pub positives: u64,
    /// Area under the ROC curve.
    pub auc: Interval,
}

/// How good a model is at some point of visits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// At which, in words.
    pub at: String,
    /// How many rows that were.
    pub rows: u64,
    /// How many of them had the outcome.
    pub positives: u64,
    /// Area under the ROC curve.
    pub auc: Interval,
}

/// [`Kind::Calibration`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Day it was made.
    pub day: String,
    /// On what.
    pub on: Rows,
    /// Expected calibration error over the manifest's 20 score bins.
    pub error: Interval,
    /// Mean score.
    pub mean_score: f64,
    /// Share with the outcome.
    pub base_rate: f64,
}

/// One group of people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// How many.
    pub rows: u64,
    /// With the outcome.
    pub positives: u64,
    /// With a score above the threshold.
    pub selected: u64,
}

/// Groups by one attribute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attribute {
    /// Its name.
    pub name: String,
    /// The groups.
    pub groups: Vec<Group>,
    /// Largest difference of the share selected.
    pub selection_gap: Interval,
    /// Largest difference of true or false positive rates.
    pub odds_gap: Interval,
}

/// [`Kind::Fairness`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fairness {
    /// Day it was made.
    pub day: String,
    /// On what.
    pub on: Rows,
    /// A score from which a person counts as selected.
    pub threshold: f64,
    /// By attribute.
    #[serde(default)]
    pub by: Vec<Attribute>,
    /// Why there is no attribute, when there is none: approvers read and answer for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub none: Option<String>,
}

/// One runtime's agreement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runtime {
    /// One of [`RUNTIMES`](super::RUNTIMES).
    pub name: String,
    /// Largest difference to the trainer's output on any reference row.
    pub largest: f64,
}

/// [`Kind::Parity`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parity {
    /// Day it was made.
    pub day: String,
    /// Reference rows compared.
    pub rows: u64,
    /// Where.
    pub runtimes: Vec<Runtime>,
}

/// Something an experiment had to leave alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guardrail {
    /// Its name.
    pub name: String,
    /// Whether it held.
    pub held: bool,
}

/// [`Kind::Experiment`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// Day it was made.
    pub day: String,
    /// What was to change.
    pub metric: String,
    /// Devices without and with the score.
    pub exposed: [u64; 2],
    /// Relative change; the interval holds whenever one looks, and includes the privacy noise.
    pub lift: Interval,
    /// Chance of ever seeing arms as uneven as these, at any look, were assignment fair.
    pub sample_ratio_p: f64,
    /// What had to stay as it was.
    pub guardrails: Vec<Guardrail>,
}

/// [`Kind::Ethics`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ethics {
    /// Day it was made.
    pub day: String,
    /// Who was asked.
    pub by: String,
    /// Whether it may be done.
    pub accepted: bool,
    /// Why, and under which conditions.
    pub conclusion: String,
}

/// A role's yes to one move, having seen the record up to an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// Day it was given.
    pub day: String,
    /// In which role.
    pub role: String,
    /// The move's end.
    pub to: Stage,
    /// Hash of the last entry that was seen: what comes later was not agreed to.
    pub seen: String,
}

/// What is said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "predicateType", content = "predicate")]
pub enum Said {
    /// See [`HeldOut`].
    #[serde(rename = "urn:gloaming:held-out:1")]
    HeldOut(HeldOut),
    /// See [`Calibration`].
    #[serde(rename = "urn:gloaming:calibration:1")]
    Calibration(Calibration),
    /// See [`Value`].
    #[serde(rename = "urn:gloaming:value:1")]
    Value(Value),
    /// See [`Fairness`].
    #[serde(rename = "urn:gloaming:fairness:1")]
    Fairness(Fairness),
    /// See [`Parity`].
    #[serde(rename = "urn:gloaming:parity:1")]
    Parity(Parity),
    /// See [`Experiment`].
    #[serde(rename = "urn:gloaming:experiment:1")]
    Experiment(Experiment),
    /// See [`Ethics`].
    #[serde(rename = "urn:gloaming:ethics:1")]
    Ethics(Ethics),
    /// See [`Approval`].
    #[serde(rename = "urn:gloaming:approval:1")]
    Approval(Approval),
}

impl Said {
    /// The kind of evidence; an approval is none.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        match self {
            Self::HeldOut(_) => Some(Kind::HeldOut),
            Self::Calibration(_) => Some(Kind::Calibration),
            Self::Value(_) => Some(Kind::Value),
            Self::Fairness(_) => Some(Kind::Fairness),
            Self::Parity(_) => Some(Kind::Parity),
            Self::Experiment(_) => Some(Kind::Experiment),
            Self::Ethics(_) => Some(Kind::Ethics),
            Self::Approval(_) => None,
        }
    }

    /// The day it was made, as written.
    #[must_use]
    pub fn day(&self) -> &str {
        match self {
            Self::HeldOut(s) => &s.day,
            Self::Calibration(s) => &s.day,
            Self::Value(s) => &s.day,
            Self::Fairness(s) => &s.day,
            Self::Parity(s) => &s.day,
            Self::Experiment(s) => &s.day,
            Self::Ethics(s) => &s.day,
            Self::Approval(s) => &s.day,
        }
    }

    /// The rows it is about.
    #[must_use]
    pub fn rows(&self) -> Option<&Rows> {
        match self {
            Self::HeldOut(s) => Some(&s.on),
            Self::Calibration(s) => Some(&s.on),
            Self::Value(s) => Some(&s.on),
            Self::Fairness(s) => Some(&s.on),
            _ => None,
        }
    }

    /// Whether the figures can be at all.
    pub(super) fn sound(&self) -> Result<(), &'static str> {
        let share = |v: f64| (0.0..=1.0).contains(&v);
        let unit = |i: &Interval| i.sound() && share(i.low) && share(i.high);
        if self.rows().is_some_and(|on| on.rows == 0 || on.positives > on.rows || on.sha256.len() != 64) {
            return Err("`on` needs rows, no more positives than rows, and the SHA-256 of the data");
        }
        let good = match self {
            Self::HeldOut(s) => {
                let turn =
                    |t: &Turn| t.rows > 0 && t.positives <= t.rows && unit(&t.auc) && !t.held_out.trim().is_empty();
                let twice =
                    |(at, t): (usize, &Turn)| s.turns[at + 1..].iter().any(|other| other.held_out == t.held_out);
                let turns =
                    s.turns.len() <= TURNS && s.turns.iter().all(turn) && !s.turns.iter().enumerate().any(twice);
                let point =
                    |p: &Point| p.positives > 0 && p.positives < p.rows && unit(&p.auc) && !p.at.trim().is_empty();
                let curve = s.curve.len() <= TURNS && s.curve.iter().all(point);
                turns && curve && unit(&s.auc) && unit(&s.average_precision) && unit(&s.brier)
            }
            Self::Value(s) => s.sound(),
            Self::Calibration(s) => unit(&s.error) && share(s.mean_score) && share(s.base_rate),
            Self::Fairness(s) => {
                let attribute = |a: &Attribute| {
                    unit(&a.selection_gap)
                        && unit(&a.odds_gap)
                        && a.groups.len() >= 2
                        && a.groups.iter().all(|g| g.rows > 0 && g.positives <= g.rows && g.selected <= g.rows)
                };
                let reason = s.none.as_ref().is_some_and(|why| why.trim().len() >= REASON);
                // A threshold that nobody reaches, or everybody, tells groups apart by nothing.
                let selects = |a: &Attribute| {
                    let (rows, selected) = a.groups.iter().fold((0, 0), |(r, s), g| (r + g.rows, s + g.selected));
                    0 < selected && selected < rows
                };
                share(s.threshold)
                    && s.by.iter().all(attribute)
                    && s.by.iter().all(selects)
                    && (s.by.is_empty() == reason)
            }
            Self::Parity(s) => s.rows >= 8 && s.runtimes.iter().all(|r| r.largest.is_finite() && r.largest >= 0.0),
            Self::Experiment(s) => s.lift.sound() && share(s.sample_ratio_p),
            Self::Ethics(s) => !s.by.trim().is_empty() && !s.conclusion.trim().is_empty(),
            Self::Approval(s) => hash::unhex::<32>(&s.seen).is_some(),
        };
        if good { Ok(()) } else { Err("a figure that cannot be: ends out of order, beyond its range, or no reason") }
    }
}
