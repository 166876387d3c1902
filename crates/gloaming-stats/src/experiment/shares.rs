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
/// People after whom [`ShareCheck::always_valid_p`] sees a mismatch soonest, divided by 16.5, which makes it so at a level of
/// [`ALARM`] (Howard et al. 2021, section 3.5): about 10,000. The concentration of the Dirichlet prior of Lindon and Malek.
pub const CONCENTRATION: f64 = 600.0;

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

impl Shares {
    /// What a p of [`ShareCheck`] says.
    #[must_use]
    pub fn of(p: f64) -> Self {
        match p {
            p if p < ALARM => Self::Alarm,
            p if p < WARN => Self::Warn,
            _ => Self::Fine,
        }
    }
}

/// The check of a sample ratio.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ShareCheck {
    /// Chi-square with one degree of freedom fewer than arms.
    pub statistic: f64,
    /// Chance of a larger one when shares are as intended, for a test that was planned for this look.
    pub p: f64,
    /// The same for one who looks as often as they like: with shares as intended it ever falls below x with a chance of x at
    /// most.
    pub always_valid_p: f64,
}

/// Compare counts of people with intended shares (sample-ratio mismatch; Fabijan et al. 2019). `shares` need not sum
/// to one.
///
/// With d the counts less their expectation, the statistic is dᵀ C⁻¹ d, where C is the multinomial covariance plus that
/// of the noise, both less what is lost to the total being estimated from the same counts. Without noise that is
/// Pearson's Σ (o−e)²/e, for one look.
///
/// The always-valid p is 1/E, where E is exp(λᵀd − ½ λᵀCλ) averaged over λ of a normal distribution whose precision is the
/// multinomial covariance of [`CONCENTRATION`] people. For each λ that is a martingale under the intended shares however people
/// and noise are spread over the looks, so Ville's inequality holds for the average. Without noise it is the limit for many
/// people of the multinomial test of Lindon and Malek (2022), whose Dirichlet prior has that concentration.
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
    deviations.truncate(arms - 1);
    let exact = |i: usize, j: usize| parts[i] * (if i == j { 1.0 } else { 0.0 } - parts[j]);
    // The covariance, with that of so many people more: the last arm's deviation follows from the others'.
    let quadratic = |more: f64| {
        let entry = |i: usize, j: usize| {
            let own = if i == j { people[i].variance } else { 0.0 };
            let lost = parts[i] * people[j].variance + parts[j] * people[i].variance - parts[i] * parts[j] * noise;
            (total + more) * exact(i, j) + own - lost
        };
        let row = |i| (0..arms - 1).map(|j| entry(i, j)).collect();
        quadratic((0..arms - 1).map(row).collect(), deviations.clone())
    };
    let (statistic, _) = quadratic(0.0);
    let p = chi_square_upper(statistic, (arms - 1) as f64);
    if !p.is_finite() {
        return Err(ExperimentError::Number("a chi-square", statistic, "finite; the counts are too large"));
    }
    let (heard, volume) = quadratic(CONCENTRATION);
    // The determinant of the covariance of one is the product of all shares.
    let prior = (arms - 1) as f64 * CONCENTRATION.ln() + parts.iter().map(|part| part.ln()).sum::<f64>();
    let always_valid_p = (0.5 * (volume - prior - heard)).exp().min(1.0);
    Ok(ShareCheck { statistic, p, always_valid_p })
}

/// dᵀ C⁻¹ d and the logarithm of |C|, by elimination; C is positive definite, so its pivots are.
fn quadratic(mut matrix: Vec<Vec<f64>>, mut d: Vec<f64>) -> (f64, f64) {
    let (mut sum, mut volume) = (0.0, 0.0);
    for pivot in 0..d.len() {
        let (done, rest) = matrix.split_at_mut(pivot + 1);
        let row = &done[pivot];
        sum += d[pivot] * d[pivot] / row[pivot];
        volume += row[pivot].ln();
        for (offset, below) in rest.iter_mut().enumerate() {
            let factor = below[pivot] / row[pivot];
            below.iter_mut().zip(row).skip(pivot).for_each(|(value, above)| *value -= factor * above);
            d[pivot + 1 + offset] -= factor * d[pivot];
        }
    }
    (sum, volume)
}
