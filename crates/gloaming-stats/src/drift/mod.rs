//! Has a distribution changed between a reference and a window, by more than chance and noise explain, and where.
//!
//! Five statistics over the same bins, defined as Evidently 0.7 defines them. A fixed limit such as "a PSI of 0.1"
//! cries wolf where people are few or noise is strong, so [`Null`] draws what the statistic does when nothing has
//! changed, with this many people and this much noise, and gives the threshold and the p-value that follow.
//! [`benjamini_hochberg`] and [`holm`] keep many features from crying wolf together, and [`finding`] says in words
//! which bins grew and which fell.
//!
//! ```
//! use gloaming_stats::Cells;
//! use gloaming_stats::drift::{Noise, Null, Reference, Setting, Statistic};
//!
//! let usual = Reference::Cells(Cells::new(vec![4_020.0, 2_960.0, 3_010.0], 2.0)?);
//! let week = Cells::new(vec![310.0, 305.0, 390.0], 2.0)?;
//! let found = Statistic::Psi.between(&usual, &week)?;
//! let null = Null::simulate(&Setting::of(&usual, &week, Noise::Laplace)?, &Statistic::Psi, 2_000, 7)?;
//! assert!(found > null.threshold(0.01)? && null.p(found) < 0.01);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **Negative cells.** Noise makes cells negative; as shares of people they count as zero, and the others are scaled to
//! sum to one ([`shares`]). The simulation does the same, so this biases no threshold. Merge categories that fewer than
//! about twenty over epsilon people fall into: below, noise decides.
//!
//! **How often it errs.** At a level of 1 % and with ten bins, 0.6 to 1.3 % of windows without drift were called
//! drifted, for any statistic on even bins and for [`Statistic::ChiSquare`] and [`Statistic::JensenShannon`] on uneven
//! ones, with 200 people and more and epsilon 0.1 and more. [`Statistic::Psi`] went from 0.5 to 1.7 % where two people are
//! expected in a bin: it hangs on whether that bin is empty. A true PSI of 0.2 was found in every window tried with
//! people times epsilon of 1,000. The tests print these figures.

mod finding;
mod many;
mod simulate;

use crate::{Cells, CellsError, distribution};
pub use finding::{Change, Finding, finding};
pub use many::{benjamini_hochberg, holm};
pub use simulate::{Noise, Null, RUNS, Sample, Setting, threshold};

/// Why two distributions cannot be compared.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DriftError {
    /// Shapes that do not belong together.
    #[error(transparent)]
    Cells(#[from] CellsError),
    /// One bin.
    #[error("{0} bin; compare two or more")]
    Bins(usize),
    /// Nobody there.
    #[error("cells that sum to {0}; fewer than one person leaves nothing to compare: take a longer window")]
    Empty(String),
    /// Shares that are none.
    #[error("shares that sum to {0}, or one below zero; shares are zero or more and sum to one")]
    Shares(String),
    /// Positions of bins.
    #[error("{0} positions for {1} bins; give one finite number a bin, in ascending order")]
    Positions(usize, usize),
    /// An expectation of nobody.
    #[error("bin {0} is empty in the reference but not in the window, which chi-square cannot weigh; merge it")]
    Unexpected(usize),
    /// How often to draw.
    #[error("{0} runs; draw {least} to {most}", least = RUNS.start(), most = RUNS.end())]
    Runs(usize),
    /// A level out of reach.
    #[error("a level of {0} from {1} runs; levels lie between 1 / (runs + 1) and 0.5: draw more, or accept more")]
    Level(String, usize),
    /// A p-value that is none.
    #[error("p-value {0} is {1}; they lie between 0 and 1")]
    Probability(usize, String),
    /// Labels.
    #[error("{0} labels for {1} bins; give each bin its own")]
    Labels(usize, usize),
}

/// What a window is compared with.
#[derive(Clone, Debug, PartialEq)]
pub enum Reference {
    /// Earlier releases, with their noise.
    Cells(Cells),
    /// Exact shares, such as those of the data a model was trained on; sum 1 within 1e-6.
    Shares(Vec<f64>),
}

impl Reference {
    fn shares(&self) -> Result<Vec<f64>, DriftError> {
        match self {
            Self::Cells(cells) => shares(cells),
            Self::Shares(exact) => {
                let sum: f64 = exact.iter().sum();
                // Written so that a share that is no number is refused too.
                if (sum - 1.0).abs() <= 1e-6 && exact.iter().all(|share| *share >= 0.0) {
                    Ok(exact.iter().map(|share| share / sum).collect())
                } else {
                    Err(DriftError::Shares(sum.to_string()))
                }
            }
        }
    }
}

/// Shares of people by bin: negative cells count as zero, and the rest is scaled to sum to one.
///
/// # Errors
/// When the cells sum to less than one person.
pub fn shares(cells: &Cells) -> Result<Vec<f64>, DriftError> {
    if cells.total() < 1.0 {
        return Err(DriftError::Empty(cells.total().to_string()));
    }
    Ok(clamped(cells.values()))
}

/// Negative ones to zero, the rest to a sum of one; some must be above zero.
fn clamped(values: &[f64]) -> Vec<f64> {
    let sum: f64 = values.iter().map(|value| value.max(0.0)).sum();
    values.iter().map(|value| value.max(0.0) / sum).collect()
}

/// A measure of how far apart two distributions over the same bins are.
#[derive(Clone, Debug, PartialEq)]
pub enum Statistic {
    /// Population stability index: Σ (r − w) ln(r / w). Zero shares are filled as Evidently does: with 0.0001, or with
    /// a millionth of the least other share where that is 0.0001 or less; nothing is scaled afterwards.
    Psi,
    /// Jensen-Shannon distance with the natural logarithm, as Evidently calls `scipy.spatial.distance.jensenshannon`:
    /// from 0 to √ln 2 = 0.8326.
    JensenShannon,
    /// Hellinger distance √(1 − Σ √(r w)), from 0 to 1.
    Hellinger,
    /// First Wasserstein distance with each bin's people at one position, over the standard deviation of the reference
    /// (0.001 at least): Evidently's normed Wasserstein distance. Positions ascend, in the feature's unit.
    Wasserstein(Vec<f64>),
    /// Pearson's chi-square. Against cells: of homogeneity, as `scipy.stats.chi2_contingency` without correction.
    /// Against exact shares: of fit, as `scipy.stats.chisquare`. Bins empty in both are left out. Knows nothing of
    /// noise, which makes it larger: judge it by [`Null`], or, for exact counts only, by [`chi_square_p`].
    ChiSquare,
}

impl Statistic {
    /// Between a reference and a window on the same bins.
    ///
    /// # Errors
    /// When the shapes differ, there is one bin only, nobody is there, or what the statistic needs is missing.
    pub fn between(&self, reference: &Reference, window: &Cells) -> Result<f64, DriftError> {
        let (r, w) = (reference.shares()?, shares(window)?);
        self.check(&r, w.len())?;
        let total = match reference {
            Reference::Cells(cells) => Some(cells.total()),
            Reference::Shares(_) => None,
        };
        let unexpected = r.iter().zip(&w).position(|(r, w)| *r == 0.0 && *w > 0.0);
        if let (Self::ChiSquare, None, Some(bin)) = (self, total, unexpected) {
            return Err(DriftError::Unexpected(bin));
        }
        Ok(self.of(&r, &w, total, window.total()))
    }

    fn check(&self, reference: &[f64], bins: usize) -> Result<(), DriftError> {
        if reference.len() != bins {
            return Err(CellsError::Shape(bins, reference.len()).into());
        }
        if bins < 2 {
            return Err(DriftError::Bins(bins));
        }
        if let Self::Wasserstein(positions) = self {
            let ascending = positions.windows(2).all(|pair| pair[0] <= pair[1]);
            if positions.len() != bins || !ascending || !positions.iter().all(|position| position.is_finite()) {
                return Err(DriftError::Positions(positions.len(), bins));
            }
        }
        Ok(())
    }

    /// Of shares, and of how many people they are (`None`: exact).
    fn of(&self, r: &[f64], w: &[f64], reference: Option<f64>, window: f64) -> f64 {
        match self {
            Self::Psi => psi(r, w),
            Self::JensenShannon => jensen_shannon(r, w),
            Self::Hellinger => hellinger(r, w),
            Self::Wasserstein(positions) => wasserstein(r, w, positions),
            Self::ChiSquare => chi_square(r, w, reference, window),
        }
    }
}

fn filled(shares: &[f64]) -> impl Iterator<Item = f64> {
    let least = shares.iter().copied().filter(|share| *share > 0.0).fold(f64::INFINITY, f64::min);
    let fill = if least <= 0.0001 { least / 1e6 } else { 0.0001 };
    shares.iter().map(move |share| if *share > 0.0 { *share } else { fill })
}

fn psi(r: &[f64], w: &[f64]) -> f64 {
    filled(r).zip(filled(w)).map(|(r, w)| (r - w) * (r / w).ln()).sum()
}

fn jensen_shannon(r: &[f64], w: &[f64]) -> f64 {
    let entropy = |x: f64, middle: f64| if x > 0.0 { x * (x / middle).ln() } else { 0.0 };
    let both = r.iter().zip(w).map(|(r, w)| {
        let middle = (r + w) / 2.0;
        entropy(*r, middle) + entropy(*w, middle)
    });
    // Rounding can leave a hair below zero where both are the same.
    (both.sum::<f64>() / 2.0).max(0.0).sqrt()
}

fn hellinger(r: &[f64], w: &[f64]) -> f64 {
    // As 1 − Σ √(r w) it would lose eight digits where both are nearly the same.
    (r.iter().zip(w).map(|(r, w)| (r.sqrt() - w.sqrt()).powi(2)).sum::<f64>() / 2.0).clamp(0.0, 1.0).sqrt()
}

fn wasserstein(r: &[f64], w: &[f64], positions: &[f64]) -> f64 {
    let mean: f64 = r.iter().zip(positions).map(|(r, x)| r * x).sum();
    let variance: f64 = r.iter().zip(positions).map(|(r, x)| r * (x - mean).powi(2)).sum();
    let (mut ahead, mut distance) = (0.0, 0.0_f64);
    for (bin, step) in positions.windows(2).enumerate() {
        ahead += r[bin] - w[bin];
        distance += f64::abs(ahead) * (step[1] - step[0]);
    }
    distance / variance.sqrt().max(0.001)
}

fn chi_square(r: &[f64], w: &[f64], reference: Option<f64>, window: f64) -> f64 {
    let bins = r.iter().zip(w).filter(|(r, w)| **r + **w > 0.0);
    match reference {
        None => bins.map(|(r, w)| window * (w - r).powi(2) / r).sum(),
        Some(reference) => {
            // Both rows of the table at once: the pooled share p expects n p and m p, and is off by (r - w).
            let all = reference + window;
            bins.map(|(r, w)| {
                let pooled = (reference * r + window * w) / all;
                reference * window / all * (r - w).powi(2) / pooled
            })
            .sum()
        }
    }
}

/// Chance of a chi-square statistic as large without drift, for exact counts: `bins` counts those not empty in both.
/// With noise it is too small; [`Null::p`] is not.
///
/// # Errors
/// With fewer than two bins.
pub fn chi_square_p(statistic: f64, bins: usize) -> Result<f64, DriftError> {
    if bins < 2 {
        return Err(DriftError::Bins(bins));
    }
    Ok(distribution::chi_square_upper(statistic, (bins - 1) as f64))
}
