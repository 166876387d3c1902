//! zCDP's rho in whole millionths, and what it means in (epsilon, delta).

use gloaming_signal::cbor::{Cbor, Error, Reader, Writer};

/// A privacy cost in zCDP, in millionths. Integers add up without rounding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rho(u64);

impl Cbor for Rho {
    fn encode(&self, writer: &mut Writer) {
        self.0.encode(writer);
    }
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        u64::decode(reader).map(Self)
    }
}

impl Rho {
    /// From millionths.
    #[must_use]
    pub const fn from_micro(micro: u64) -> Self {
        Self(micro)
    }

    /// In millionths.
    #[must_use]
    pub const fn micro(self) -> u64 {
        self.0
    }

    /// As a number, for people.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// Composition of `n` equal costs.
    #[must_use]
    pub fn times(self, n: u64) -> Self {
        Self(self.0.saturating_mul(n))
    }

    /// Composition of two costs.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The smallest known epsilon such that rho-zCDP implies (epsilon, `delta`)-DP, rounded up.
    ///
    /// Canonne, Kamath, Steinke 2020 (arXiv 2004.00010), Proposition 12: for every alpha > 1,
    /// `epsilon = alpha rho + (ln(1/delta) + (alpha - 1) ln(1 - 1/alpha) - ln alpha) / (alpha - 1)`
    /// is enough. Any alpha gives a true statement, so the numerical search for the best one cannot
    /// understate the cost; what the arithmetic may lose is added back.
    #[must_use]
    pub fn epsilon(self, delta: f64) -> f64 {
        if self.0 == 0 {
            return 0.0;
        }
        let rho = self.as_f64();
        let at = |log_alpha_minus_1: f64| {
            let below = libm::exp(log_alpha_minus_1);
            let alpha = 1.0 + below;
            alpha * rho + (-libm::log(delta) + below * libm::log1p(-1.0 / alpha) - libm::log(alpha)) / below
        };
        // The function is unimodal in ln(alpha - 1); the golden section finds its valley.
        let (mut low, mut high) = (-12.0, 25.0);
        let ratio = 0.618_033_988_749_894_9;
        for _ in 0..120 {
            let (a, b) = (high - ratio * (high - low), low + ratio * (high - low));
            if at(a) < at(b) {
                high = b;
            } else {
                low = a;
            }
        }
        let epsilon = at(f64::midpoint(low, high)).max(0.0);
        epsilon * (1.0 + 1e-9) + 1e-9
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversion_agrees_with_other_implementations() {
        // Sigma for epsilon 1, delta 1e-6 by the CKS20 conversion, k = 1, 30, 365 counting queries:
        // 4.53, 24.8, 86.6 (rho = k / (2 sigma^2)); epsilon 4, k = 365: 24.2.
        for (k, sigma, epsilon) in [(1.0, 4.53, 1.0), (30.0, 24.8, 1.0), (365.0, 86.6, 1.0), (365.0, 24.2, 4.0)] {
            let micro = k / (2.0 * sigma * sigma) * 1e6;
            let got = Rho::from_micro(micro as u64).epsilon(1e-6);
            assert!((got - epsilon).abs() < 0.01 * epsilon, "k {k}: {got}");
        }
    }

    #[test]
    fn it_is_never_looser_than_the_textbook_bound_nor_below_the_gaussian_one() {
        for micro in [1, 100, 20_000, 250_000, 7_500_000, 91_250_000] {
            let rho = Rho::from_micro(micro);
            let textbook = rho.as_f64() + 2.0 * libm::sqrt(rho.as_f64() * libm::log(1e6));
            assert!(rho.epsilon(1e-6) <= textbook, "{micro}");
            assert!(rho.epsilon(1e-6) > rho.as_f64(), "{micro}");
        }
        assert_eq!(Rho::from_micro(0).epsilon(1e-6), 0.0);
    }
}
