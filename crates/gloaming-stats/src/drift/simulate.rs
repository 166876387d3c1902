//! What a statistic does when nothing has changed.

use std::ops::RangeInclusive;

use super::{DriftError, Reference, Statistic, clamped};
use crate::Cells;
use crate::draws::Draws;

/// How often to draw. With 4,000 a 1 % threshold is exceeded by 1 % ± 0.3 of the windows without drift (two standard
/// deviations); with half as many ± 0.45, with twice as many ± 0.2.
pub const RUNS: RangeInclusive<usize> = 99..=100_000;

/// Shape of the noise on each cell. It matters where noise outweighs chance: the tails of Laplace noise are heavier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noise {
    /// Discrete Gaussian noise, or the sum of a dozen releases or more with any noise.
    Gaussian,
    /// Discrete Laplace noise of one release: variance about 2 / epsilon² a cell.
    Laplace,
}

impl Noise {
    fn draw(self, draws: &mut Draws, deviation: f64) -> f64 {
        match self {
            _ if deviation == 0.0 => 0.0,
            Self::Gaussian => deviation * draws.normal(),
            Self::Laplace => {
                let u = 2.0 * draws.uniform() - 1.0;
                -deviation / std::f64::consts::SQRT_2 * u.signum() * (1.0 - u.abs()).ln()
            }
        }
    }
}

/// How many people stand behind cells, and the variance of the noise on each.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Sum of the cells as released.
    pub total: f64,
    /// Variance of the noise on each.
    pub variance: f64,
}

impl Sample {
    fn of(cells: &Cells) -> Result<Self, DriftError> {
        Self { total: cells.total(), variance: cells.variance() }.checked()
    }

    fn checked(self) -> Result<Self, DriftError> {
        if !(self.total >= 1.0 && self.total.is_finite()) {
            return Err(DriftError::Empty(self.total.to_string()));
        }
        Cells::new(vec![self.total], self.variance)?;
        Ok(self)
    }
}

/// What the null hypothesis is: where people fall, how many there are in the window and in the reference, and how
/// strong the noise is.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    shares: Vec<f64>,
    window: Sample,
    reference: Option<Sample>,
    noise: Noise,
}

impl Setting {
    /// From shares believed in (sum 1). `reference` is `None` when the reference is exact.
    ///
    /// # Errors
    /// When the shares are none, or a sample has fewer than one person or no valid variance.
    pub fn new(shares: Vec<f64>, window: Sample, reference: Option<Sample>, noise: Noise) -> Result<Self, DriftError> {
        let shares = Reference::Shares(shares).shares()?;
        let reference = reference.map(Sample::checked).transpose()?;
        Ok(Self { shares, window: window.checked()?, reference, noise })
    }

    /// Of these cells: without drift both come from the same shares, so their best estimate is the mean of both,
    /// weighted by how sure either is. Exact shares are taken as they are.
    ///
    /// # Errors
    /// When the shapes differ or nobody is there.
    pub fn of(reference: &Reference, window: &Cells, noise: Noise) -> Result<Self, DriftError> {
        let sample = Sample::of(window)?;
        let Reference::Cells(cells) = reference else {
            return Self::new(reference.shares()?, sample, None, noise);
        };
        // Also says when the shapes differ.
        cells.plus(window)?;
        let other = Sample::of(cells)?;
        // Mean variance of a share: of p (1 - p) / n for chance, about variance / n² for noise.
        let bins = cells.values().len() as f64;
        let weight = |sample: &Sample| {
            let chance = (1.0 - 1.0 / bins) / bins / sample.total;
            1.0 / (chance + sample.variance / sample.total.powi(2)) / sample.total
        };
        let (a, b) = (weight(&other), weight(&sample));
        let mixed: Vec<f64> = cells.values().iter().zip(window.values()).map(|(r, w)| a * r + b * w).collect();
        Ok(Self { shares: clamped(&mixed), window: sample, reference: Some(other), noise })
    }
}

/// Sorted values of a statistic without drift.
#[derive(Clone, Debug, PartialEq)]
pub struct Null {
    sorted: Vec<f64>,
}

impl Null {
    /// Draws people and noise `runs` times. The totals are taken as released: each run draws the noise first and
    /// then as many people as make up the total with it, so that a window that looks small because of its noise is
    /// judged as one.
    ///
    /// # Errors
    /// When there are too few or too many runs, or the statistic does not fit the bins.
    pub fn simulate(setting: &Setting, statistic: &Statistic, runs: usize, seed: u64) -> Result<Self, DriftError> {
        if !RUNS.contains(&runs) {
            return Err(DriftError::Runs(runs));
        }
        let Setting { shares, window, reference, noise } = setting;
        statistic.check(shares, shares.len())?;
        // Noise falls into every bin, also where an exact reference expects nobody.
        let empty = shares.iter().position(|share| *share == 0.0).filter(|_| window.variance > 0.0);
        if let (Statistic::ChiSquare, None, Some(bin)) = (statistic, reference, empty) {
            return Err(DriftError::Unexpected(bin));
        }
        let mut draws = Draws::new(seed);
        let mut sorted = Vec::with_capacity(runs);
        for _ in 0..runs {
            let w = clamped(&release(&mut draws, shares, *window, *noise));
            let r = match reference {
                Some(reference) => clamped(&release(&mut draws, shares, *reference, *noise)),
                None => shares.clone(),
            };
            sorted.push(statistic.of(&r, &w, reference.map(|sample| sample.total), window.total));
        }
        sorted.sort_by(f64::total_cmp);
        Ok(Self { sorted })
    }

    /// A window without drift exceeds this with a chance of `alpha`; call drift when the statistic is greater. Where
    /// few bins and exact counts make values tie, with less.
    ///
    /// # Errors
    /// When `alpha` is above 0.5, or too small for so many runs.
    pub fn threshold(&self, alpha: f64) -> Result<f64, DriftError> {
        let runs = self.sorted.len();
        let beyond = (alpha * (runs + 1) as f64 + 1e-9).floor();
        if !(beyond >= 1.0 && alpha <= 0.5) {
            return Err(DriftError::Level(alpha.to_string(), runs));
        }
        Ok(self.sorted[runs - beyond as usize])
    }

    /// Share of runs with a value as large, the observed one counted among them (Davison and Hinkley 1997, 4.11).
    /// `p(x) <= alpha` says the same as `x > threshold(alpha)`.
    #[must_use]
    pub fn p(&self, observed: f64) -> f64 {
        let below = self.sorted.partition_point(|value| *value < observed);
        (self.sorted.len() - below + 1) as f64 / (self.sorted.len() + 1) as f64
    }
}

/// The threshold that a statistic exceeds with a chance of `alpha` without drift: [`Null::simulate`] and
/// [`Null::threshold`] in one.
///
/// # Errors
/// As both.
pub fn threshold(
    setting: &Setting,
    statistic: &Statistic,
    alpha: f64,
    runs: usize,
    seed: u64,
) -> Result<f64, DriftError> {
    Null::simulate(setting, statistic, runs, seed)?.threshold(alpha)
}

/// One release of a total as stated, without drift.
fn release(draws: &mut Draws, shares: &[f64], sample: Sample, noise: Noise) -> Vec<f64> {
    let deviation = sample.variance.sqrt();
    let mut cells: Vec<f64> = shares.iter().map(|_| noise.draw(draws, deviation)).collect();
    let people = (sample.total - cells.iter().sum::<f64>()).round().max(1.0);
    draws.spread(shares, people, &mut cells);
    cells
}
