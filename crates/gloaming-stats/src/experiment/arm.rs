//! What one arm released: sums over its people, and the noise on them.

use super::ExperimentError;
use crate::Cells;

/// A count or a sum that is divided by must be this many standard deviations of its noise.
///
/// The mean of noised sums S/N is biased by mean·(σ/N)²; at ten the bias is a tenth of the standard error at most
/// (which then is all noise), and a 95 % interval still covers 94.9 %. At five it would be a fifth, and 94.5 %.
pub const CERTAINTY: f64 = 10.0;

/// A released sum and the variance of the noise on it: that of one release times the releases added up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Noised {
    /// As released; noise can make a count negative.
    pub value: f64,
    /// Variance of the noise, zero or more.
    pub variance: f64,
}

impl Noised {
    /// A sum without noise.
    #[must_use]
    pub fn exact(value: f64) -> Self {
        Self { value, variance: 0.0 }
    }
}

/// Sum of a quantity and of its square, over an arm's people.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sums {
    /// Σ y
    pub sum: Noised,
    /// Σ y²
    pub squares: Noised,
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Share of people with the outcome.
    Proportion,
    /// Mean of a number per person.
    Mean,
    /// Sum of one number over the sum of another, people being the independent units (delta method; Deng et al. 2018,
    /// *Applying the Delta Method in Metric Analytics*, section 3).
    Ratio,
    /// Mean adjusted by what was known before the experiment (CUPED; Deng et al. 2013, section 3).
    Adjusted,
}

const PEOPLE: usize = 0;
const SUM: usize = 1;
const SQUARES: usize = 2;
const OTHER: usize = 3;
const OTHER_SQUARES: usize = 4;
const PRODUCTS: usize = 5;
/// People, Σy, Σy², Σx, Σx², Σxy.
type Vector = [f64; 6];

/// One arm's sums.
///
/// Noise is a covariance, because one released cell can enter several sums: in a table *arm × outcome* the number of
/// people is the sum of the cells that also make up the outcomes.
#[derive(Clone, Debug, PartialEq)]
pub struct Arm {
    metric: Metric,
    values: Vector,
    noise: [Vector; 6],
}

/// A mean-like figure of one arm and where its variance comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figure {
    pub(super) people: f64,
    pub(super) mean: f64,
    /// The mean without adjustment, which relative effects are relative to.
    pub(super) plain: f64,
    /// Of the mean, because people differ.
    pub(super) sampling: f64,
    /// Of the mean, because of the noise on its sums.
    pub(super) noise: f64,
    /// Standard deviation the noise gives `sampling` itself.
    pub(super) wobble: f64,
}

impl Arm {
    /// A proportion, of two independently noised sums.
    ///
    /// # Errors
    /// When a value is not finite, or a variance negative.
    pub fn proportion(people: Noised, with_outcome: Noised) -> Result<Self, ExperimentError> {
        let mut arm = Self::independent(Metric::Proportion, [(PEOPLE, people), (SUM, with_outcome)])?;
        // An indicator is its own square, noise included.
        arm.values[SQUARES] = with_outcome.value;
        for (row, column) in [(SUM, SQUARES), (SQUARES, SUM), (SQUARES, SQUARES)] {
            arm.noise[row][column] = with_outcome.variance;
        }
        Ok(arm)
    }

    /// A mean, of three independently noised sums.
    ///
    /// # Errors
    /// When a value is not finite, or a variance negative.
    pub fn mean(people: Noised, outcome: Sums) -> Result<Self, ExperimentError> {
        Self::independent(Metric::Mean, [(PEOPLE, people), (SUM, outcome.sum), (SQUARES, outcome.squares)])
    }

    /// A ratio of sums, with the sum over people of numerator times denominator.
    ///
    /// # Errors
    /// When a value is not finite, or a variance negative.
    pub fn ratio(
        people: Noised,
        numerator: Sums,
        denominator: Sums,
        products: Noised,
    ) -> Result<Self, ExperimentError> {
        Self::paired(Metric::Ratio, people, numerator, denominator, products)
    }

    /// A mean adjusted by a quantity known `before`, with the sum over people of both multiplied.
    ///
    /// # Errors
    /// When a value is not finite, or a variance negative.
    pub fn adjusted(people: Noised, outcome: Sums, before: Sums, products: Noised) -> Result<Self, ExperimentError> {
        Self::paired(Metric::Adjusted, people, outcome, before, products)
    }

    /// From the cells of one arm's row of a released table: `points[i]` is the (outcome, other quantity) that cell `i`
    /// stands for; the other quantity is the denominator or what was known before, and is ignored for a mean or a
    /// proportion. The covariance of the noise is exact. A bucket stands for one value here, so a mean is the mean of
    /// buckets, and differs from that of the values by less than a bucket's width.
    ///
    /// # Errors
    /// When points and cells differ in number, a point is not finite, or a proportion has outcomes other than 0 and 1.
    pub fn from_cells(metric: Metric, points: &[(f64, f64)], cells: &Cells) -> Result<Self, ExperimentError> {
        if points.len() != cells.values().len() {
            return Err(ExperimentError::Length(points.len(), "points", cells.values().len().to_string()));
        }
        let mut arm = Self { metric, values: [0.0; 6], noise: [[0.0; 6]; 6] };
        for (&(y, x), count) in points.iter().zip(cells.values()) {
            if metric == Metric::Proportion && y != 0.0 && y != 1.0 {
                return Err(ExperimentError::Number("a proportion's outcome", y, "0 or 1"));
            }
            let weight = [1.0, y, y * y, x, x * x, x * y];
            if !weight.iter().all(|number| number.is_finite()) {
                return Err(ExperimentError::Number(
                    "a point",
                    if y.is_finite() { x } else { y },
                    "finite, squared too",
                ));
            }
            for row in 0..6 {
                arm.values[row] += count * weight[row];
                for column in 0..6 {
                    arm.noise[row][column] += cells.variance() * weight[row] * weight[column];
                }
            }
        }
        Ok(arm)
    }

    /// Both together, say of two releases; their noise is independent and adds up.
    ///
    /// # Errors
    /// When they are of different kinds.
    pub fn plus(&self, other: &Self) -> Result<Self, ExperimentError> {
        if self.metric != other.metric {
            return Err(ExperimentError::Metric(self.metric, other.metric));
        }
        let mut sum = self.clone();
        for row in 0..6 {
            sum.values[row] += other.values[row];
            for column in 0..6 {
                sum.noise[row][column] += other.noise[row][column];
            }
        }
        Ok(sum)
    }

    /// What is compared.
    #[must_use]
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// How many people.
    #[must_use]
    pub fn people(&self) -> Noised {
        Noised { value: self.values[PEOPLE], variance: self.noise[PEOPLE][PEOPLE] }
    }

    fn independent<const N: usize>(metric: Metric, sums: [(usize, Noised); N]) -> Result<Self, ExperimentError> {
        let mut arm = Self { metric, values: [0.0; 6], noise: [[0.0; 6]; 6] };
        for (place, sum) in sums {
            if !sum.value.is_finite() {
                return Err(ExperimentError::Number("a sum", sum.value, "finite"));
            }
            if !sum.variance.is_finite() || sum.variance < 0.0 {
                return Err(ExperimentError::Number("a noise variance", sum.variance, "finite and zero or more"));
            }
            arm.values[place] = sum.value;
            arm.noise[place][place] = sum.variance;
        }
        Ok(arm)
    }

    fn paired(
        metric: Metric,
        people: Noised,
        outcome: Sums,
        other: Sums,
        products: Noised,
    ) -> Result<Self, ExperimentError> {
        Self::independent(
            metric,
            [
                (PEOPLE, people),
                (SUM, outcome.sum),
                (SQUARES, outcome.squares),
                (OTHER, other.sum),
                (OTHER_SQUARES, other.squares),
                (PRODUCTS, products),
            ],
        )
    }

    /// Variance of a linear function of the sums' noise.
    fn noise_of(&self, gradient: Vector) -> f64 {
        let row = |row: usize| (0..6).map(|column| self.noise[row][column] * gradient[column]).sum::<f64>();
        // Rounding can take a sum of opposite terms a little below zero.
        (0..6).map(|index| gradient[index] * row(index)).sum::<f64>().max(0.0)
    }

    fn certain(&self, place: usize, what: &'static str) -> Result<f64, ExperimentError> {
        let (value, deviation) = (self.values[place], self.noise[place][place].sqrt());
        if value.abs() < CERTAINTY * deviation || value == 0.0 {
            return Err(ExperimentError::Noise(what, value, deviation));
        }
        Ok(value)
    }

    /// Mean and variances; `theta` is the slope of the adjustment and counts for [`Metric::Adjusted`] only.
    ///
    /// Every kind is the mean of u = y − θx: θ is 0 for a mean, the ratio itself for a ratio (then divided by the mean
    /// of x), the slope for an adjusted mean.
    pub(super) fn figure(&self, theta: f64) -> Result<Figure, ExperimentError> {
        let [n, y, yy, x, xx, xy] = self.values;
        if n < 2.0 {
            return Err(ExperimentError::People(n));
        }
        self.certain(PEOPLE, "the number of people")?;
        let (theta, scale) = match self.metric {
            Metric::Proportion | Metric::Mean => (0.0, 1.0),
            Metric::Adjusted => (theta, 1.0),
            Metric::Ratio => {
                let denominator = self.certain(OTHER, "the denominator's sum")?;
                (y / denominator, denominator / n)
            }
        };
        let sum = y - theta * x;
        let average = sum / n;
        let spread = yy - 2.0 * theta * xy + theta * theta * xx - sum * average;
        // gbstats divides a proportion's variance by n, that of all else by n - 1.
        let divisor = n * scale * scale * if self.metric == Metric::Proportion { n } else { n - 1.0 };
        let mut of_spread =
            [average * average, -2.0 * average, 1.0, 2.0 * theta * average, theta * theta, -2.0 * theta];
        let (mean, of_mean) = if self.metric == Metric::Ratio {
            let through_theta = 2.0 * (theta * xx - xy) / x;
            of_spread[SUM] += through_theta;
            of_spread[OTHER] -= through_theta * theta;
            (theta, [0.0, 1.0 / x, 0.0, -theta / x, 0.0, 0.0])
        } else {
            (average, [-average / n, 1.0 / n, 0.0, -theta / n, 0.0, 0.0])
        };
        Ok(Figure {
            people: n,
            mean,
            plain: if self.metric == Metric::Ratio { theta } else { y / n },
            sampling: (spread / divisor).max(0.0),
            noise: self.noise_of(of_mean),
            wobble: self.noise_of(of_spread).sqrt() / divisor,
        })
    }

    /// The slope of the outcome on what was known before, over the people of both arms (as gbstats' `compute_theta`).
    /// Zero, that is no adjustment, where noise leaves no slope to be seen.
    pub(super) fn slope(&self, other: &Self) -> f64 {
        let Ok(both) = self.plus(other) else { return 0.0 };
        let [n, y, _, x, xx, xy] = both.values;
        let mean = x / n;
        let spread = xx - x * mean;
        let deviation = both.noise_of([mean * mean, 0.0, 0.0, -2.0 * mean, 1.0, 0.0]).sqrt();
        if n > 1.0 && spread > CERTAINTY * deviation { (xy - y * mean) / spread } else { 0.0 }
    }
}
