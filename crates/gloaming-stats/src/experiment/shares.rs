//! Whether people fell into the arms as intended.

use super::ExperimentError;
use super::arm::Noised;
use crate::distribution::chi_square_upper;

/// Below this p: look why.
pub const WARN: f64 = 0.01;
/// Below this p: trust no figure of the experiment. GrowthBook's threshold.
pub const ALARM: f64 = 0.001;
/// Fewest people expected in an arm; below, a chi-square is no chi-square (Cochran 1954).
pub const EXPECTED: f64 = 5.0;
/// Most arms.
const MOST: usize = super::ARMS;

/// What the counts say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shares {
    /// As intended, as far as can be seen.
    Fine,
    /// p below [`WARN`].
    Warn,
    /// p below [`ALARM`].
    Alarm,
}

/// The check of a sample ratio.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ShareCheck {
    /// Chi-square with one degree of freedom fewer than arms.
    pub statistic: f64,
    /// Chance of a larger one when shares are as intended.
    pub p: f64,
    /// What to make of it.
    pub verdict: Shares,
}

/// Compare counts of people with intended shares (sample-ratio mismatch; Fabijan et al. 2019). `shares` need not sum
/// to one.
///
/// With d the counts less their expectation, the statistic is dᵀ C⁻¹ d, where C is the multinomial covariance plus that
/// of the noise, both less what is lost to the total being estimated from the same counts. Without noise that is
/// Pearson's Σ (o−e)²/e. This is a test for one look; read daily it will alarm too often, about as a peeked t-test.
///
/// # Errors
/// When there are fewer than two arms or more than [`ARMS`](super::ARMS), a share is not above zero, a variance
/// negative, or fewer than [`EXPECTED`] people are expected in an arm.
pub fn check_shares(people: &[Noised], shares: &[f64]) -> Result<ShareCheck, ExperimentError> {
    let arms = people.len();
    if !(2..=MOST).contains(&arms) || shares.len() != arms {
        let wanted = format!("2 to {MOST}, as many counts as shares ({})", shares.len());
        return Err(ExperimentError::Length(arms, "counts", wanted));
    }
    let whole: f64 = shares.iter().sum();
    let total: f64 = people.iter().map(|count| count.value).sum();
    let noise: f64 = people.iter().map(|count| count.variance).sum();
    let mut deviations = Vec::with_capacity(arms);
    let mut parts = Vec::with_capacity(arms);
    for (count, share) in people.iter().zip(shares) {
        if !(*share > 0.0 && whole.is_finite()) {
            return Err(ExperimentError::Number("a share", *share, "above 0 and finite"));
        }
        if !count.value.is_finite() {
            return Err(ExperimentError::Number("a count", count.value, "finite"));
        }
        if !(count.variance >= 0.0 && count.variance.is_finite()) {
            return Err(ExperimentError::Number("a noise variance", count.variance, "finite and zero or more"));
        }
        let part = share / whole;
        if part * total < EXPECTED {
            return Err(ExperimentError::Expected(part * total));
        }
        deviations.push(count.value - part * total);
        parts.push(part);
    }
    // The last arm's deviation follows from the others'.
    let size = arms - 1;
    let mut matrix: Vec<Vec<f64>> = (0..size)
        .map(|i| {
            (0..size)
                .map(|j| {
                    let own = if i == j { total * parts[i] + people[i].variance } else { 0.0 };
                    let shared = -total * parts[i] * parts[j] + parts[i] * parts[j] * noise;
                    own + shared - parts[i] * people[j].variance - parts[j] * people[i].variance
                })
                .collect()
        })
        .collect();
    deviations.truncate(size);
    let statistic = quadratic(&mut matrix, &mut deviations);
    let p = chi_square_upper(statistic, size as f64);
    if !p.is_finite() {
        return Err(ExperimentError::Number("a chi-square", statistic, "finite; the counts are too large"));
    }
    let verdict = match p {
        p if p < ALARM => Shares::Alarm,
        p if p < WARN => Shares::Warn,
        _ => Shares::Fine,
    };
    Ok(ShareCheck { statistic, p, verdict })
}

/// dᵀ C⁻¹ d by elimination; C is positive definite, so its pivots are.
fn quadratic(matrix: &mut [Vec<f64>], d: &mut [f64]) -> f64 {
    let mut sum = 0.0;
    for pivot in 0..d.len() {
        let (done, rest) = matrix.split_at_mut(pivot + 1);
        let row = &done[pivot];
        sum += d[pivot] * d[pivot] / row[pivot];
        for (offset, below) in rest.iter_mut().enumerate() {
            let factor = below[pivot] / row[pivot];
            below.iter_mut().zip(row).skip(pivot).for_each(|(value, above)| *value -= factor * above);
            d[pivot + 1 + offset] -= factor * d[pivot];
        }
    }
    sum
}
