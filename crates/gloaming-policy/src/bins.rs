//! From features to cells: the arithmetic a device does before it contributes.

use gloaming_behavior::{Category, Features, NONE, definitions};
use gloaming_signal::{cbor_record, limits};

use crate::document::{Axis, Bins, PageFeature, PageFeatureKind, Source};
use crate::metric::Metric;

/// A score in millionths; scores are probabilities.
///
/// Not a number gives `None`: a model that answers NaN has no score.
#[must_use]
pub fn score_steps(score: f32) -> Option<u32> {
    // The cast truncates and saturates; a score is within 0..=1 after the clamp.
    (!score.is_nan()).then(|| (f64::from(score.clamp(0.0, 1.0)) * 1e6) as u32)
}

/// What is known of a visit beside its features.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beside<'a> {
    /// Its score by each of the policy's models, by index.
    pub scores: &'a [Score],
    /// The arm that it was exposed to of each of the policy's experiments, by index; [`NONE`] where it was not.
    pub arms: &'a [u32],
    /// What was known of the device when it first met each of the policy's experiments that are adjusted by it, as a bin, by index;
    /// [`NONE`] for others.
    pub before: &'a [u32],
    /// Its vote in each of the policy's learners, by index; [`NONE`] where it has none.
    pub votes: &'a [u32],
}

/// Ways to fare, by code. The lower two bits are how the model itself did: 0 nothing to score, 1 scored, 2 scored after its time,
/// 3 given up. With the third, something else than the model as it was meant to be has a score: of 0 and 3 its fallback, of 1 and 2
/// its last good version, while a newer one waits for its files.
pub const WAYS: u32 = 8;
/// The third bit of [`WAYS`].
const ELSE: u32 = 4;

/// What one model made of a visit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Score {
    /// In millionths; [`NONE`] where there is none.
    pub steps: u32,
    /// How it fared, as in [`WAYS`]; [`NONE`] before it was tried.
    pub fared: u32,
}

impl Score {
    /// Not tried yet.
    pub const NONE: Self = Self { steps: NONE, fared: NONE };

    /// Takes what one scoring came to; of a visit's several, the worst is told, and of two as bad the one in which something else
    /// had a score: nobody had one only where nobody ever had.
    pub fn take(&mut self, fared: u32) {
        let rank = |fared: u32| (fared % ELSE, fared);
        if self.fared == NONE || rank(self.fared) < rank(fared) {
            self.fared = fared;
        }
    }
}

cbor_record!(Score { steps, fared });

/// Where one contribution goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Which cell.
    pub cell: u32,
    /// How much: 1, or a sum's value.
    pub value: u32,
}

impl Axis {
    fn value(&self, features: &Features, beside: Beside<'_>) -> u32 {
        match self.source {
            Source::Feature(index) => features.value(index as usize),
            Source::Score(index) => beside.scores.get(index as usize).map_or(NONE, |score| score.steps),
            Source::Fared(index) => {
                let fared = beside.scores.get(index as usize).map_or(NONE, |score| score.fared);
                // A policy that was signed before it was told whose score it was knows how the model itself did.
                let itself = matches!(&self.bins, Bins::Map(map) if map.len() < WAYS as usize);
                if itself && fared != NONE { fared % ELSE } else { fared }
            }
            Source::Page(index) => features.page_feature(index as usize),
            Source::Funnel(index) => features.funnel(index as usize),
            Source::Arm(index) => beside.arms.get(index as usize).copied().unwrap_or(NONE),
            Source::Vote(index) => beside.votes.get(index as usize).copied().unwrap_or(NONE),
        }
    }

    /// Only a journey has a bin for "nothing happened": the last of its map.
    fn is_journey(&self) -> bool {
        let Source::Feature(index) = self.source else { return false };
        let kind = definitions::DEFINITIONS.get(index as usize).map(|d| d.kind);
        matches!(kind, Some(definitions::Kind::Category { category: Category::JourneyPair, .. }))
    }

    /// The bin of the value that the session has here, if it has one.
    #[must_use]
    pub fn bin(&self, features: &Features, beside: Beside<'_>) -> Option<u32> {
        let value = self.value(features, beside);
        match &self.bins {
            Bins::Map(map) if value == NONE => self.is_journey().then(|| map.last().copied()).flatten(),
            bins => bins.place(value),
        }
    }
}

impl Bins {
    /// How many there are; of a sum, its two cells.
    pub(crate) fn count(&self) -> usize {
        match self {
            Self::Edges(edges) => edges.len() - 1,
            Self::Map(map) => map.iter().max().map_or(0, |most| *most as usize + 1),
            Self::Sum { .. } => 2,
        }
    }

    /// The bin of a value; none for [`NONE`], for words that have none, and in sums.
    pub(crate) fn place(&self, value: u32) -> Option<u32> {
        match self {
            _ if value == NONE => None,
            Self::Map(map) => map.get(value as usize).copied(),
            Self::Edges(edges) => {
                let inner = &edges[1..edges.len() - 1];
                u32::try_from(inner.partition_point(|edge| *edge <= value)).ok()
            }
            Self::Sum { .. } => None,
        }
    }
}

impl Metric {
    /// The cell this session contributes to, or `None` when it has no value for the metric.
    #[must_use]
    pub fn cell_of(&self, features: &Features, beside: Beside<'_>) -> Option<Cell> {
        match self.axes.as_slice() {
            [axis] => match axis.bins {
                Bins::Sum { max, scale } => {
                    let steps = axis.value(features, beside);
                    (steps != NONE).then(|| Cell { cell: 1, value: (steps / scale).min(max) })
                }
                _ => axis.bin(features, beside).map(|cell| Cell { cell, value: 1 }),
            },
            [] => None,
            // The last axis is the fastest.
            axes => axes
                .iter()
                .enumerate()
                .try_fold(0, |cell, (place, axis)| {
                    let known = if place == 1 { self.known(beside) } else { NONE };
                    let bin = if known == NONE { axis.bin(features, beside)? } else { known };
                    Some(cell * u32::try_from(axis.labels.len()).ok()? + bin)
                })
                .map(|cell| Cell { cell, value: 1 }),
        }
    }

    /// The bin of what was known before, where this counts the goal of an experiment that is adjusted by it.
    fn known(&self, beside: Beside<'_>) -> u32 {
        let [Axis { source: Source::Arm(experiment), .. }, axis @ Axis { source: Source::Feature(_), .. }, _] =
            self.axes.as_slice()
        else {
            return NONE;
        };
        let known = beside.before.get(*experiment as usize).copied().unwrap_or(NONE);
        if (known as usize) < axis.labels.len() { known } else { NONE }
    }

    /// Whether a contribution to `cell` with `value` is one an honest device can make: the rule as written, which
    /// `count::Layout::admits` is held to.
    pub fn admits(&self, cell: u32, value: u32) -> Result<(), gloaming_signal::Reason> {
        use gloaming_signal::Reason;
        match self.sum_max() {
            Some(_) if cell != 1 => Err(Reason::UnknownCell),
            Some(max) if value > max.min(limits::VALUE) => Err(Reason::CapExceeded),
            Some(_) => Ok(()),
            None if cell >= self.cells() => Err(Reason::UnknownCell),
            None if value != 1 => Err(Reason::CapExceeded),
            None => Ok(()),
        }
    }
}

impl PageFeature {
    /// A number the page gave, as steps; `None` for what is not a number. Clipped to the declared range.
    #[must_use]
    pub fn steps(&self, value: f64) -> Option<u32> {
        match &self.kind {
            PageFeatureKind::Number { min, max_steps } => {
                if value.is_nan() {
                    return None;
                }
                // Half-way cases go up; `as` saturates at both ends.
                let steps = value * 100.0 - *min as f64 + 0.5;
                Some((steps as u32).min(*max_steps))
            }
            PageFeatureKind::Category(_) => None,
        }
    }

    /// A word the page gave, as an index; what was not declared is `other` where there is such a word, else `None`.
    #[must_use]
    pub fn word(&self, word: &str) -> Option<u32> {
        match &self.kind {
            PageFeatureKind::Category(words) => {
                let place = |word: &str| words.iter().position(|w| w == word);
                // Of a special category `other` is an answer too, and nobody gave it.
                let found = place(word).or_else(|| place("other").filter(|_| !self.special));
                found.and_then(|i| u32::try_from(i).ok())
            }
            PageFeatureKind::Number { .. } => None,
        }
    }
}
