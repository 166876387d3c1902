//! What votes of visits on weights come to: a step of a model that is learnt where its data are.
//!
//! A visit votes for one input, more or less, by chance in proportion to its part of the gradient of the log-likelihood, clipped
//! (`gloaming_policy::Learner::vote`). Counts of votes are thus an unbiased estimate of the sum of clipped gradients, and
//! what is released of them is private as counts are. Steps follow Polyak's heavy ball (1964): few rounds, each of other visits.

use crate::cells::{Cells, CellsError};
use crate::distribution::normal_upper;

/// Steps, as a part of what curvature would permit were inputs independent: a step is `1 / (PART rate (1 - rate))`. Inputs that
/// go together, as pages and the time on them do, make the valley steeper, and small steps average noise.
const PART: f64 = 8.0;
/// How much of a step goes on in the next.
const MOMENTUM: f64 = 0.5;
/// Clip of eight terms of deviation one; others by the root of their number.
const CLIP: f64 = 2.0;

/// Largest sum of the absolute parts of one visit's gradient, for so many terms.
#[must_use]
pub fn clip(terms: usize) -> f64 {
    CLIP * (terms as f64 / 8.0).sqrt()
}

/// What a round of votes says.
#[derive(Clone, Debug, PartialEq)]
pub struct Gradient {
    /// By term, for the mean visit: the way in which more of its weight makes what came of visits likelier.
    pub parts: Vec<f64>,
    /// Visits that voted.
    pub visits: f64,
    /// Length that noise and the chance of voting have alone, in the mean.
    pub noise: f64,
}

/// Why votes say nothing.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum VotesError {
    /// Cells of another shape.
    #[error(transparent)]
    Cells(#[from] CellsError),
    /// Hardly anybody.
    #[error("about {0:.0} visits voted, give or take {1:.0} of noise; wait for more windows")]
    Few(f64, f64),
    /// A rate that is none.
    #[error("an outcome of {0} of the visits leaves nothing to learn")]
    Rate(String),
}

impl Gradient {
    /// Of released counts: more and less for each term, then none.
    ///
    /// # Errors
    /// When there is an even number of cells, or noise drowns the visits.
    pub fn new(cells: &Cells, clip: f64) -> Result<Self, VotesError> {
        let values = cells.values();
        if values.len().is_multiple_of(2) || values.len() < 3 {
            return Err(CellsError::Shape(values.len(), values.len() / 2 * 2 + 1).into());
        }
        let (visits, noise) = (cells.total(), (cells.variance() * values.len() as f64).sqrt());
        // A tenth of the visits in doubt would be a tenth of every step.
        if visits < 1.0 || visits < 10.0 * noise {
            return Err(VotesError::Few(visits, noise));
        }
        let pairs = values[..values.len() - 1].chunks_exact(2);
        let parts: Vec<f64> = pairs.clone().map(|pair| clip * (pair[0] - pair[1]) / visits).collect();
        // Which term a visit voted for is chance too: of as many votes as there are, the mean of a term is off by their root.
        let chance = |pair: &[f64]| (pair[0] + pair[1]).max(0.0) + 2.0 * cells.variance();
        let noise = pairs.map(chance).sum::<f64>().sqrt() * clip / visits;
        Ok(Self { parts, visits, noise })
    }

    /// Its length.
    #[must_use]
    pub fn length(&self) -> f64 {
        self.parts.iter().map(|part| part * part).sum::<f64>().sqrt()
    }
}

/// How far above the last edge what lies beyond it lies in the mean, were all of it normal: from the shares above the edge and
/// between it and the one before, which is `width` below. `None` where that tells no normal distribution.
#[must_use]
pub fn excess(tail: f64, before: f64, width: f64) -> Option<f64> {
    let above = tail + before;
    if !(tail > 0.0 && before > 0.0 && above < 1.0 && width > 0.0) {
        return None;
    }
    let (high, low) = (normal_upper(tail), normal_upper(above));
    let density = (-high * high / 2.0).exp() / std::f64::consts::TAU.sqrt();
    let excess = width / (high - low) * (density / tail - high);
    (excess.is_finite() && excess > 0.0).then_some(excess)
}

/// How far each term moves: from how it moved before, and what was voted for, with an outcome of `rate` of the visits.
///
/// # Errors
/// When nothing or everything has the outcome.
pub fn step(gradient: &Gradient, before: &[f64], rate: f64) -> Result<Vec<f64>, VotesError> {
    let spread = rate * (1.0 - rate);
    // A range holds nothing that is no number.
    if !(1e-4..=0.25).contains(&spread) {
        return Err(VotesError::Rate(rate.to_string()));
    }
    if before.len() != gradient.parts.len() {
        return Err(CellsError::Shape(before.len(), gradient.parts.len()).into());
    }
    // Many that go together make it steeper still.
    let part = PART.max(before.len() as f64 / 2.0);
    let long = 1.0 / (part * spread);
    Ok(before.iter().zip(&gradient.parts).map(|(speed, part)| MOMENTUM * speed + long * part).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn votes_are_told_as_a_mean_gradient() {
        let cells = Cells::new(vec![300.0, 100.0, 50.0, 150.0, 400.0], 0.0).unwrap();
        let gradient = Gradient::new(&cells, 2.0).unwrap();
        assert_eq!(gradient.parts, [0.4, -0.2]);
        assert_eq!(gradient.visits, 1_000.0);
        assert!((gradient.noise - 2.0 * 600_f64.sqrt() / 1_000.0).abs() < 1e-12);
        assert!((gradient.length() - 0.2_f64.sqrt()).abs() < 1e-12);
        let moved = step(&gradient, &[0.0, 0.1], 0.2).unwrap();
        assert!((moved[0] - 0.4 / 1.28).abs() < 1e-12 && (moved[1] - (0.05 - 0.2 / 1.28)).abs() < 1e-12);
    }

    #[test]
    fn a_tail_is_as_long_as_a_normal_one() {
        // Of a normal with mean 3 and deviation 2 cut at 1 and 4: scipy.stats.norm gives .5328 between and .3085 above, whose
        // mean is 1.2822 above 4.
        let (tail, before) = (0.308_537_538_725_986_94, 0.532_807_207_342_556_1);
        let found = excess(tail, before, 3.0).unwrap();
        assert!((found - 1.282_155_540_736_129_1).abs() < 1e-9, "{found}");
        for (tail, before) in [(0.0, 0.5), (0.5, 0.0), (0.7, 0.3), (f64::NAN, 0.1)] {
            assert_eq!(excess(tail, before, 1.0), None);
        }
    }

    #[test]
    fn what_says_nothing_is_refused() {
        let of = |values: Vec<f64>, variance| Gradient::new(&Cells::new(values, variance).unwrap(), 2.0);
        assert!(matches!(of(vec![1.0, 2.0], 0.0), Err(VotesError::Cells(CellsError::Shape(2, 3)))));
        assert!(of(vec![20.0, 20.0, 20.0], 30.0).unwrap_err().to_string().starts_with("about 60 visits voted"));
        assert!(of(vec![0.0, 0.0, 0.0], 0.0).is_err());
        let fine = of(vec![90.0, 20.0, 20.0], 1.0).unwrap();
        for rate in [0.0, 1.0, f64::NAN, -1.0] {
            assert!(matches!(step(&fine, &[0.0], rate), Err(VotesError::Rate(_))), "{rate}");
        }
        assert!(step(&fine, &[], 0.5).is_err());
    }
}
