//! What a metric's noise means at a given number of visits: arithmetic for `gloaming plan`.

use crate::{Mechanism, Scale};

/// Visits in one window, given visits a day.
#[must_use]
pub fn visits_in(span_ms: u64, visits_per_day: f64) -> f64 {
    visits_per_day * span_ms as f64 / crate::DAY_MS as f64
}

/// The smallest share of visits whose cell stands out of the noise: three standard deviations.
#[must_use]
pub fn smallest_visible_share(scale: Scale, mechanism: Mechanism, visits: f64) -> f64 {
    if visits <= 0.0 { 1.0 } else { (3.0 * scale.deviation(mechanism) / visits).min(1.0) }
}

/// Visits at which a window is released with 97.7 % probability: `k` plus two standard deviations of
/// the noise of `cells` cells together.
#[must_use]
pub fn visits_for_release(k: u32, scale: Scale, mechanism: Mechanism, cells: u32) -> f64 {
    f64::from(k) + 2.0 * scale.deviation(mechanism) * libm::sqrt(f64::from(cells))
}

/// How probable it is that a window nobody visited passes `k` on noise alone: the normal tail of the
/// noise of `cells` cells together. Such a release is private all the same; it shows nothing but noise.
#[must_use]
pub fn empty_release_chance(k: u32, scale: Scale, mechanism: Mechanism, cells: u32) -> f64 {
    let deviation = scale.deviation(mechanism) * libm::sqrt(f64::from(cells));
    // The values are whole numbers: k is passed from k - 1/2 on.
    0.5 * libm::erfc((f64::from(k) - 0.5) / (deviation * core::f64::consts::SQRT_2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Rho, sample, scale};

    #[test]
    fn an_empty_window_passes_k_as_often_as_said() {
        let (scale, cells, k) = (scale(1, 1, Rho::from_micro(20_000)), 26, 20);
        let said = empty_release_chance(k, scale, Mechanism::Gaussian, cells);
        let passed = (0..4_000u64).filter(|window| {
            let noise = sample(&[9; 32], 1, *window, 7, Mechanism::Gaussian, &[scale; 26]);
            noise.iter().sum::<i64>() >= i64::from(k)
        });
        let seen = passed.count() as f64 / 4_000.0;
        // Four standard errors of a share near a fifth.
        assert!((seen - said).abs() < 0.026, "{seen} {said}");
        assert!(empty_release_chance(100, scale, Mechanism::Gaussian, 6) < 1e-12);
    }
}
