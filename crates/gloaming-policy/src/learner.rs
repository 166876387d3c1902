//! What is being learnt on devices: a visit casts one vote on which way one input should weigh more.
//!
//! ```text
//! p        = 1 / (1 + exp(-(level + Σ weight_j x_j)))          x_j from the bin of input j
//! gradient = (outcome - p) x, scaled down to a sum of absolute values of `clip` at most
//! vote     = cell 2j (`more`) or 2j + 1 (`less`) by the sign of gradient_j, with probability |gradient_j| / clip;
//!            the last cell (`none`) with what is left
//! ```
//! `clip (more_j - less_j) / visits` is then an unbiased estimate of the clipped gradient (the cross-polytope of vqSGD, Gandikota
//! et al. 2019), while a device has said one word: the metric is a histogram like any other, noised and priced like any other.

use alloc::vec::Vec;

use gloaming_behavior::{Features, NONE};
use gloaming_signal::cbor_record;

use crate::bins::Beside;
use crate::document::{Axis, Bins, Source};

/// Terms of one learner.
pub const TERMS: usize = 64;
/// Bins of one term.
pub const TERM_BINS: usize = 64;
/// Millionths in one.
const MICRO: f64 = 1e6;
/// Largest level, weight or value, in millionths.
const LARGEST: i64 = 100_000_000;

/// One input, as a number for each of its bins, and what that weighs so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// The input, as in metrics; its words are not needed here.
    pub source: Source,
    /// How its value becomes a bin.
    pub bins: Bins,
    /// What each bin stands for, millionths: of mean zero and deviation one where it was last counted.
    pub values: Vec<i64>,
    /// Its weight so far, millionths.
    pub weight: i64,
}

cbor_record!(Term { source, bins, values, weight });

/// A model that is learnt in rounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Learner {
    /// The model whose next version it is: index into [`crate::Policy::models`].
    pub model: u32,
    /// Which round these weights are of; the first is 1.
    pub round: u32,
    /// What came of the visit, no or yes.
    pub outcome: Axis,
    /// Log-odds before any term, millionths.
    pub level: i64,
    /// Largest sum of a visit's gradient, millionths.
    pub clip: u32,
    /// What is weighed.
    pub terms: Vec<Term>,
}

cbor_record!(Learner { model, round, outcome, level, clip, terms });

impl Term {
    /// What the visit's bin stands for; nothing where the page did not say.
    fn value(&self, features: &Features) -> f64 {
        let value = match self.source {
            Source::Feature(index) => features.value(index as usize),
            Source::Page(index) => features.page_feature(index as usize),
            _ => NONE,
        };
        self.bins.place(value).and_then(|bin| self.values.get(bin as usize)).map_or(0.0, |value| *value as f64 / MICRO)
    }

    fn sound(&self) -> bool {
        matches!(self.source, Source::Feature(_) | Source::Page(_))
            && !matches!(self.bins, Bins::Sum { .. })
            && self.values.len() == self.bins.count()
            && (1..=TERM_BINS).contains(&self.values.len())
            && self.values.iter().chain([&self.weight]).all(|number| (-LARGEST..=LARGEST).contains(number))
    }
}

impl Learner {
    /// Cells of its votes: more and less for each term, and none.
    #[must_use]
    pub fn cells(&self) -> usize {
        2 * self.terms.len() + 1
    }

    /// Whether it is one: numbers within limits, an outcome of no or yes. Whether indices point at something, the policy knows.
    #[must_use]
    pub(crate) fn sound(&self) -> bool {
        (1..=TERMS).contains(&self.terms.len())
            && self.terms.iter().all(Term::sound)
            && self.outcome.is_yes_or_no()
            && (-LARGEST..=LARGEST).contains(&self.level)
            // What is told by itself is told perfectly.
            && self.terms.iter().all(|term| term.source != self.outcome.source)
            && (1..=LARGEST as u32).contains(&self.clip)
            && self.round > 0
    }

    /// The vote of a visit, by a `draw` of 64 random bits; `None` where nothing can have come of it.
    #[must_use]
    pub fn vote(&self, features: &Features, draw: u64) -> Option<u32> {
        let outcome = self.outcome.bin(features, Beside::default())?;
        let values: Vec<f64> = self.terms.iter().map(|term| term.value(features)).collect();
        let odds = self
            .terms
            .iter()
            .zip(&values)
            .fold(self.level as f64 / MICRO, |odds, (term, value)| odds + term.weight as f64 / MICRO * value);
        let missed = f64::from(outcome) - 1.0 / (1.0 + libm::exp(-odds));
        let clip = f64::from(self.clip) / MICRO;
        let size: f64 = values.iter().map(|value| (missed * value).abs()).sum();
        // Below the clip what is missing goes to `none`; above it all shares shrink alike.
        let whole = if size > clip { size } else { clip };
        let mut left = draw as f64 / 18_446_744_073_709_551_616.0 * whole;
        for (at, value) in (0u32..).zip(&values) {
            let gradient = missed * value;
            left -= gradient.abs();
            if left < 0.0 {
                return Some(2 * at + u32::from(gradient < 0.0));
            }
        }
        u32::try_from(2 * values.len()).ok()
    }
}

#[cfg(test)]
mod tests {
    use gloaming_behavior::{Config, Tracker};
    use gloaming_signal::{Event, EventKind, cbor};

    use super::*;

    fn index(name: &str) -> u32 {
        gloaming_behavior::Definition::find(name).unwrap() as u32
    }

    /// Two inputs: pages seen, in three bins, and whether anything was searched for.
    fn learner() -> Learner {
        let term = |name, edges: &[u32], values: &[i64], weight| Term {
            source: Source::Feature(index(name)),
            bins: Bins::Edges(edges.to_vec()),
            values: values.to_vec(),
            weight,
        };
        Learner {
            model: 0,
            round: 1,
            outcome: Axis {
                source: Source::Feature(index("purchase@1")),
                bins: Bins::Edges(alloc::vec![0, 1, 2]),
                labels: ["no", "yes"].map(Into::into).to_vec(),
            },
            level: -1_000_000,
            clip: 1_000_000,
            terms: alloc::vec![
                term("pages@1", &[0, 2, 4, 5], &[-1_000_000, 500_000, 1_500_000], 400_000),
                term("pages-product@1", &[0, 1, 2], &[-500_000, 2_000_000], -250_000),
            ],
        }
    }

    fn visit(pages: u32, bought: bool) -> Features {
        let mut tracker = Tracker::new(Config::default());
        (0..pages).for_each(|page| tracker.push(Event::new(1_000 + 10 * u64::from(page), EventKind::PageView, 0)));
        if bought {
            tracker.push(Event::new(2_000, EventKind::Purchase, 100));
        }
        tracker.features(true)
    }

    /// Many draws, evenly spread over all that there are: shares of the cells.
    fn shares(learner: &Learner, features: &Features) -> Vec<f64> {
        let mut counts = alloc::vec![0u32; learner.cells()];
        const DRAWS: u64 = 100_000;
        for at in 0..DRAWS {
            counts[learner.vote(features, u64::MAX / DRAWS * at).unwrap() as usize] += 1;
        }
        counts.iter().map(|count| f64::from(*count) / DRAWS as f64).collect()
    }

    #[test]
    fn votes_are_the_clipped_gradient_in_the_mean() {
        let learner = learner();
        for (pages, bought) in [(1, false), (1, true), (3, false), (3, true), (9, false), (9, true)] {
            let features = visit(pages, bought);
            let one: f64 = if pages < 2 {
                -1.0
            } else if pages < 4 {
                0.5
            } else {
                1.5
            };
            let values = [one, -0.5];
            let odds: f64 = -1.0 + 0.4 * values[0] - 0.25 * values[1];
            let missed = f64::from(u8::from(bought)) - 1.0 / (1.0 + (-odds).exp());
            let gradient = values.map(|value| missed * value);
            let size: f64 = gradient.iter().map(|part| part.abs()).sum();
            let scale = if size > 1.0 { 1.0 / size } else { 1.0 };
            let found = shares(&learner, &features);
            for (at, part) in gradient.iter().enumerate() {
                let (more, less) = (found[2 * at], found[2 * at + 1]);
                assert!((more - less - part * scale).abs() < 2e-5, "{pages} {bought} {at}: {found:?}");
                // A visit never votes both ways.
                assert!(more == 0.0 || less == 0.0, "{found:?}");
            }
            assert!((found[4] - (1.0 - size).max(0.0)).abs() < 2e-5, "{found:?}");
        }
    }

    #[test]
    fn learners_come_back_from_their_bytes_and_what_is_none_is_refused() {
        let learner = learner();
        assert_eq!(cbor::from_slice::<Learner>(&cbor::to_vec(&learner)).unwrap(), learner);
        assert!(learner.sound());
        let wrong: [fn(&mut Learner); 9] = [
            |l| l.terms.clear(),
            |l| l.terms[0].values.push(0),
            |l| l.terms[1].weight = LARGEST + 1,
            |l| l.terms[1].weight = i64::MIN,
            |l| l.level = i64::MIN,
            |l| l.terms[0].source = l.outcome.source,
            |l| l.clip = 0,
            |l| l.outcome.labels = ["a", "b"].map(Into::into).to_vec(),
            |l| l.terms[1].source = Source::Score(0),
        ];
        for change in wrong {
            let mut other = learner.clone();
            change(&mut other);
            assert!(!other.sound());
        }
    }
}
