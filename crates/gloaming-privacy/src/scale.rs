//! How wide the noise must be.

use gloaming_signal::cbor_enum;

use crate::Rho;

/// Which exact discrete distribution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mechanism {
    /// Discrete Gaussian, CKS20: the default, because days compose as their roots.
    #[default]
    Gaussian,
    /// Discrete Laplace: pure differential privacy for a single release, heavier tails.
    Laplace,
}

cbor_enum!(Mechanism { Gaussian = 0, Laplace = 1 });

/// The Gaussian's sigma or the Laplace's b as an exact fraction `numerator / 2^16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    numerator: u128,
}

impl Scale {
    /// The fraction's denominator.
    pub const DENOMINATOR: u128 = 1 << 16;

    /// The fraction's numerator.
    #[must_use]
    pub fn numerator(self) -> u128 {
        self.numerator
    }

    /// Rounded, for people.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        self.numerator as f64 / Self::DENOMINATOR as f64
    }

    /// Standard deviation of the noise.
    #[must_use]
    pub fn deviation(self, mechanism: Mechanism) -> f64 {
        match mechanism {
            Mechanism::Gaussian => self.as_f64(),
            Mechanism::Laplace => self.as_f64() * core::f64::consts::SQRT_2,
        }
    }

    /// Half the width of the interval that holds 95 % of the noise.
    #[must_use]
    pub fn half_width_95(self, mechanism: Mechanism) -> f64 {
        match mechanism {
            Mechanism::Gaussian => 1.959_963_985 * self.as_f64(),
            // P(|X| > t) = exp(-t/b), so t = b ln 20.
            Mechanism::Laplace => 2.995_732_274 * self.as_f64(),
        }
    }
}

/// The scale at which a day of one cell costs at most `per_day x rho`.
///
/// A device that makes all its `per_day` contributions in one window changes one cell by
/// `per_day x sensitivity` at most. The Gaussian then costs `(per_day s)^2 / (2 sigma^2)`
/// (Bun and Steinke 2016, Proposition 1.6), which equals `per_day rho` at
/// `sigma^2 = per_day s^2 / (2 rho)`; spread over several windows the sum of squares is smaller.
/// The Laplace is `epsilon`-DP with `epsilon = per_day s / b`, hence `epsilon^2 / 2`-zCDP
/// (Proposition 1.4), and the same number results for `b`. The root is rounded up: more noise, never less.
///
/// `sensitivity` is the most one contribution changes the cell by; `rho` must not be zero.
#[must_use]
pub fn scale(per_day: u32, sensitivity: u32, rho: Rho) -> Scale {
    let squared = u128::from(per_day.max(1)) * u128::from(sensitivity.max(1)) * u128::from(sensitivity.max(1));
    let numerator_squared = squared * 1_000_000 * Scale::DENOMINATOR * Scale::DENOMINATOR;
    let quotient = numerator_squared.div_ceil(2 * u128::from(rho.micro().max(1)));
    let root = quotient.isqrt();
    Scale { numerator: if root * root == quotient { root } else { root + 1 } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_costs_no_more_than_declared_however_it_is_spent() {
        for (per_day, sensitivity, micro) in [(1, 1, 20_000), (5, 1, 7_000), (3, 500, 1), (255, 1_000_000, 250_000)] {
            let sigma = scale(per_day, sensitivity, Rho::from_micro(micro)).as_f64();
            let s = f64::from(sensitivity);
            let all_at_once = (f64::from(per_day) * s).powi(2) / (2.0 * sigma * sigma);
            let one_by_one = f64::from(per_day) * s * s / (2.0 * sigma * sigma);
            let declared = f64::from(per_day) * micro as f64 / 1e6;
            assert!(all_at_once <= declared * (1.0 + 1e-12), "{per_day} {sensitivity} {micro}");
            assert!(all_at_once > declared * 0.999, "not wider than needed");
            assert!(one_by_one <= all_at_once);
        }
    }

    #[test]
    fn the_design_examples_sigma() {
        // rho 0.02: sigma = sqrt(1 / 0.04) = 5, exactly.
        assert_eq!(scale(1, 1, Rho::from_micro(20_000)).numerator(), 5 * Scale::DENOMINATOR);
    }
}
