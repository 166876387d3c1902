//! Randomness for simulated intervals and thresholds: everything follows from a stated seed.

/// Up to this expectation counts are drawn one by one from their distribution; beyond, from the normal one with its
/// skewness corrected, whose distribution function is then off by less than 0.0001.
const EXACT: f64 = 300.0;
/// How often a simulation may fail that finds what it should.
const CHANCE: f64 = 0.001;

/// SplitMix64 (Steele, Lea, Flood 2014). Not for privacy: noise that protects anybody is drawn elsewhere.
#[derive(Clone, Debug)]
pub struct Draws(u64);

impl Draws {
    /// From a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform, above 0 and below 1.
    pub fn uniform(&mut self) -> f64 {
        ((self.bits() >> 12) as f64 + 0.5) / (1u64 << 52) as f64
    }

    /// Standard normal (Box and Muller 1958, one of the pair).
    pub fn normal(&mut self) -> f64 {
        let (u, v) = (self.uniform(), self.uniform());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }

    /// Successes among `n` (a whole number) with a chance of `p` each.
    pub fn binomial(&mut self, n: f64, p: f64) -> f64 {
        // The last bin's share of the rest is one but for rounding.
        if p >= 1.0 - 1e-12 {
            return n;
        }
        if p > 0.5 {
            return n - self.binomial(n, 1.0 - p);
        }
        let mean = n * p;
        if mean > EXACT {
            let deviation = (mean * (1.0 - p)).sqrt();
            let z = self.normal();
            let skewed = z + (1.0 - 2.0 * p) / deviation * (z * z - 1.0) / 6.0;
            return (mean + deviation * skewed).round().clamp(0.0, n);
        }
        // Inversion: walks up the distribution. (1 - p)^n is above 1e-181 here.
        let odds = p / (1.0 - p);
        let (mut chance, mut left, mut k) = ((n * (-p).ln_1p()).exp(), self.uniform(), 0.0);
        while left > chance && k < n {
            left -= chance;
            chance *= odds * (n - k) / (k + 1.0);
            k += 1.0;
        }
        k
    }

    /// Adds to `cells` as many people (a whole number) as fall into each by these shares, which sum to one: a multinomial draw.
    pub fn spread(&mut self, shares: &[f64], people: f64, cells: &mut [f64]) {
        let (mut left, mut share_left) = (people, 1.0);
        for (cell, share) in cells.iter_mut().zip(shares) {
            if left <= 0.0 || *share <= 0.0 {
                continue;
            }
            let here = self.binomial(left, share / share_left);
            *cell += here;
            left -= here;
            share_left -= share;
        }
    }
}

/// Whether intervals of which `held` of `asked` held what is so may hold it as often as they say, in a share `nominal` of all cases: `false`
/// where intervals that do are as seldom right in fewer than one simulation of a thousand (exact binomial, one-sided). Of ten thousand asked,
/// intervals of 95 % that hold in 94 % are found out nine times in ten; of two thousand, such that hold in 93 %
/// three times in four.
#[must_use]
pub fn covers(held: u32, asked: u32, nominal: f64) -> bool {
    let (held, asked) = (f64::from(held), f64::from(asked));
    if held >= asked * nominal {
        return true;
    }
    let (mut k, mut ways) = (0.0, 0.0);
    while k < held {
        k += 1.0;
        ways += ((asked - held + k) / k).ln();
    }
    // Of so many, and of one fewer each time.
    let mut chance = (ways + held * nominal.ln() + (asked - held) * (-nominal).ln_1p()).exp();
    let mut sum = chance;
    while k > 0.0 && chance > 1e-12 * CHANCE {
        chance *= k / (asked - k + 1.0) * (1.0 - nominal) / nominal;
        sum += chance;
        k -= 1.0;
    }
    sum >= CHANCE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_have_the_moments_they_should() {
        let mut draws = Draws::new(7);
        let normal: Vec<f64> = (0..100_000).map(|_| draws.normal()).collect();
        let mean = normal.iter().sum::<f64>() / 1e5;
        let variance = normal.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 1e5;
        assert!(mean.abs() < 0.01 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
        assert!((0..100_000).map(|_| draws.uniform()).all(|u| u > 0.0 && u < 1.0));
        for (n, p) in [(40.0, 0.1), (40.0, 0.9), (10_000.0, 0.3)] {
            let mean = (0..20_000).map(|_| draws.binomial(n, p)).sum::<f64>() / 2e4;
            assert!((mean - n * p).abs() < 5.0 * (n * p * (1.0 - p) / 2e4).sqrt(), "{n} {p}: {mean}");
        }
    }

    /// Bounds by scipy.stats.binom.ppf(0.001, asked, nominal).
    #[test]
    fn a_simulation_finds_out_what_holds_too_seldom() {
        for (asked, nominal, least) in [(100, 0.95, 87), (2_000, 0.95, 1_869), (10_000, 0.95, 9_431), (500, 0.9, 428)] {
            assert!(covers(least, asked, nominal) && !covers(least - 1, asked, nominal), "{asked} {nominal}");
        }
        assert!(covers(10_000, 10_000, 0.95) && !covers(0, 10_000, 0.95));
    }
}
