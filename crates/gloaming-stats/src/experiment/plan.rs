//! How long an experiment must run.

use super::{ExperimentError, between, rate, sequence};
use crate::distribution::{normal_cdf, normal_upper};

/// Longest experiment, in days: more than a decade is no plan.
pub const LONGEST: u32 = 4_000;
/// Most people an arm a plan may ask for.
const MOST: f64 = 1e15;

/// How the result will be read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Looks {
    /// Once, at the end, by [`Effect::fixed`](super::Effect::fixed).
    Once,
    /// Whenever one likes, by [`Effect::always_valid`](super::Effect::always_valid). The power is that of the last
    /// look; earlier looks only add to it (forty looks keep .82 where .73 is promised).
    Any {
        /// People at which the sequence is tightest.
        tau: f64,
    },
}

/// An experiment of two arms of equal size.
///
/// Numbers are large enough for a normal distribution, and variances known. The standard error at n people an arm and r
/// releases added up is √((v₁+v₂)/n + (r₁+r₂)·r/n²), with v the variance between people and r₁, r₂ the noise of a
/// release: in n² because noise does not shrink with people, only its share does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Design {
    /// Smallest absolute effect worth finding, not zero.
    pub effect: f64,
    /// Variance between people in control and treated arm.
    pub variance: [f64; 2],
    /// Variance one release's noise gives an arm's Σ(y − mean): var S + mean²·var N − 2·mean·cov.
    pub noise: [f64; 2],
    /// Error rate, two-sided.
    pub alpha: f64,
    /// Chance to find the effect.
    pub power: f64,
    /// How the result will be read.
    pub looks: Looks,
}

impl Design {
    /// A proportion, at the usual error rate .05 and power .8; `noise` is the variance of one release's noise on each
    /// of an arm's two sums (people, and people with the outcome).
    #[must_use]
    pub fn proportion(control: f64, effect: f64, noise: f64, looks: Looks) -> Self {
        let arms = [control, control + effect];
        Self {
            effect,
            variance: arms.map(|p| p * (1.0 - p)),
            noise: arms.map(|p| noise * (1.0 + p * p)),
            alpha: 0.05,
            power: 0.8,
            looks,
        }
    }

    /// Chance to find the effect with `people` an arm, after adding up `releases`.
    ///
    /// # Errors
    /// When a field is out of its range, or there are no people or releases.
    pub fn power_at(&self, people: f64, releases: u32) -> Result<f64, ExperimentError> {
        self.check()?;
        between("the number of people", people, 0.0, f64::INFINITY, "above 0 and finite")?;
        if releases == 0 {
            return Err(ExperimentError::Number("the number of releases", 0.0, "one or more"));
        }
        Ok(self.power(people, f64::from(releases), self.effect))
    }

    /// People needed in each arm, after adding up `releases` (a fraction: round up).
    ///
    /// # Errors
    /// When a field is out of its range, there are no releases, or no number of people suffices.
    pub fn people(&self, releases: u32) -> Result<f64, ExperimentError> {
        self.power_at(1.0, releases)?;
        let enough = |people: f64| self.power(people, f64::from(releases), self.effect) >= self.power;
        if !enough(MOST) {
            return Err(ExperimentError::Endless);
        }
        Ok(bisect(1e-6, MOST, enough))
    }

    /// Days needed when so many people a day enter each arm and every day is one release.
    ///
    /// # Errors
    /// When a field is out of its range, or [`LONGEST`] days do not suffice.
    pub fn days(&self, people_a_day: f64) -> Result<u32, ExperimentError> {
        self.power_at(people_a_day, 1)?;
        let enough = |days: u32| {
            let days = f64::from(days);
            self.power(people_a_day * days, days, self.effect) >= self.power
        };
        if !enough(LONGEST) {
            return Err(ExperimentError::Endless);
        }
        let (mut short, mut long) = (0, LONGEST);
        while long - short > 1 {
            let middle = short + (long - short) / 2;
            if enough(middle) { long = middle } else { short = middle }
        }
        Ok(long)
    }

    /// The smallest absolute effect found with this power, with `people` an arm and `releases` added up; the variances
    /// stay those given.
    ///
    /// # Errors
    /// When a field is out of its range, or there are no people or releases.
    pub fn smallest_effect(&self, people: f64, releases: u32) -> Result<f64, ExperimentError> {
        self.power_at(people, releases)?;
        let releases = f64::from(releases);
        let error = self.error(people, releases);
        // A hundred errors are found for certain; the boundary in errors is below forty for any time.
        let ceiling = error * (100.0 + self.boundary(people, releases));
        Ok(bisect(0.0, ceiling, |effect| self.power(people, releases, effect) >= self.power))
    }

    fn check(&self) -> Result<(), ExperimentError> {
        if self.effect == 0.0 || !self.effect.is_finite() {
            return Err(ExperimentError::Number("the effect", self.effect, "finite and not zero"));
        }
        for variance in self.variance {
            between("a variance between people", variance, 0.0, f64::INFINITY, "above 0 and finite")?;
        }
        for noise in self.noise {
            if !(noise >= 0.0 && noise.is_finite()) {
                return Err(ExperimentError::Number("a noise variance", noise, "finite and zero or more"));
            }
        }
        if let Looks::Any { tau } = self.looks {
            between("tau", tau, 0.0, f64::INFINITY, "above 0 and finite")?;
        }
        rate(self.alpha)?;
        // Below one half, the other tail could do the finding.
        between("the power", self.power, 0.5, 1.0, "above 0.5 and below 1").map(|_| ())
    }

    fn error(&self, people: f64, releases: f64) -> f64 {
        let noise = (self.noise[0] + self.noise[1]) * releases;
        ((self.variance[0] + self.variance[1] + noise / people) / people).sqrt()
    }

    fn boundary(&self, people: f64, releases: f64) -> f64 {
        match self.looks {
            Looks::Once => normal_upper(self.alpha / 2.0),
            Looks::Any { tau } => {
                let noise = (self.noise[0] + self.noise[1]) * releases / people;
                let time = 2.0 * people * (1.0 + noise / (self.variance[0] + self.variance[1]));
                sequence::two_sided(time, self.alpha, tau)
            }
        }
    }

    fn power(&self, people: f64, releases: f64, effect: f64) -> f64 {
        let (shift, boundary) = (effect.abs() / self.error(people, releases), self.boundary(people, releases));
        normal_cdf(shift - boundary) + normal_cdf(-shift - boundary)
    }
}

/// Where `enough` begins to hold, between `low` (where it does not, or is close enough) and `high` (where it does).
pub(super) fn bisect(mut low: f64, mut high: f64, enough: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..200 {
        let middle = f64::midpoint(low, high);
        if middle <= low || middle >= high {
            break;
        }
        if enough(middle) { high = middle } else { low = middle }
    }
    high
}
