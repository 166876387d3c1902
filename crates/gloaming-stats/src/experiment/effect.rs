//! The difference between two arms, and intervals for it.

use super::arm::{Arm, Metric};
use super::{ExperimentError, between, rate, sequence};
use crate::Estimate;
use crate::distribution::{student_quantile, student_upper};

/// How far noise may move an arm's variance, as a share of it: a fifth of the variance is a tenth of the width.
pub const SPREAD: f64 = 0.2;
/// A relative effect needs a control whose mean is this many standard errors from zero.
pub const BASELINE: f64 = 3.0;

/// Of what kind a difference is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Treated less control, in the metric's unit.
    Absolute,
    /// The same as a share of the control's mean (unadjusted, as in gbstats); delta method. Where that mean is little more than its error,
    /// its intervals hold too seldom: what people are shown is [`lift`](super::lift()).
    Relative,
}

/// A difference and the parts of its variance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Effect {
    /// Absolute or relative.
    pub scale: Scale,
    /// Treated against control.
    pub estimate: f64,
    /// Variance of the estimate because people differ.
    pub sampling: f64,
    /// Variance of the estimate because of the noise.
    pub noise: f64,
    /// Welch–Satterthwaite degrees of freedom; infinite where all variance is known noise.
    pub degrees: f64,
    /// People in both arms.
    pub people: f64,
}

/// An interval and a p-value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Finding {
    /// The effect with its interval of level 1 − alpha.
    pub effect: Estimate,
    /// Against no effect, two-sided.
    pub p: f64,
}

/// Compare two arms.
///
/// The variance of each mean m = S/N is σ²/N for the people, and for the noise (var S + m²·var N − 2m·cov) / N². The
/// first is gbstats'. The second is exact where N carries no noise, and a first-order (delta method) approximation
/// otherwise, good to a few hundredths because N is at least [`CERTAINTY`](super::CERTAINTY) times its noise; for
/// ratios the denominator's sum takes N's place. σ² is estimated from noised sums, set to zero where noise makes it
/// negative, and refused where noise moves it by more than [`SPREAD`] of the arm's whole variance. An adjusted mean's
/// slope is taken as if it had been fixed beforehand; its own noise is second order. Releases that were kept because
/// their noised crowd passed a threshold have count noise a little above zero on average; that is not corrected, and
/// is nothing to speak of for windows well above their threshold.
///
/// # Errors
/// When the arms are of different kinds, too small, or buried in noise, when nothing varies, or when a relative effect
/// has nothing to be relative to.
pub fn effect(control: &Arm, treated: &Arm, scale: Scale) -> Result<Effect, ExperimentError> {
    if control.metric() != treated.metric() {
        return Err(ExperimentError::Metric(treated.metric(), control.metric()));
    }
    let theta = if control.metric() == Metric::Adjusted { control.slope(treated) } else { 0.0 };
    let (a, b) = (control.figure(theta)?, treated.figure(theta)?);
    for arm in [a, b] {
        let whole = arm.sampling + arm.noise;
        if arm.wobble > SPREAD * whole {
            return Err(ExperimentError::Spread(100.0 * arm.wobble / whole));
        }
        // Without noise this is known to be so; with noise zero is the best guess of a small variance.
        if whole <= 0.0 {
            return Err(ExperimentError::NoVariance);
        }
    }
    let whole = a.sampling + a.noise + b.sampling + b.noise;
    let known = a.sampling.powi(2) / (a.people - 1.0) + b.sampling.powi(2) / (b.people - 1.0);
    let (mut estimate, mut factors) = (b.mean - a.mean, [1.0, 1.0]);
    if scale == Scale::Relative {
        if a.plain.abs() <= BASELINE * (a.sampling + a.noise).sqrt() {
            return Err(ExperimentError::Baseline(a.plain));
        }
        estimate /= a.plain;
        factors = [(b.plain / (a.plain * a.plain)).powi(2), 1.0 / (a.plain * a.plain)];
    }
    let found = Effect {
        scale,
        estimate,
        sampling: factors[0] * a.sampling + factors[1] * b.sampling,
        noise: factors[0] * a.noise + factors[1] * b.noise,
        degrees: if known > 0.0 { whole * whole / known } else { f64::INFINITY },
        people: a.people + b.people,
    };
    if !found.estimate.is_finite() || !found.variance().is_finite() || found.degrees.is_nan() {
        return Err(ExperimentError::Number(
            "an effect",
            found.estimate,
            "finite; the sums are too large or too small",
        ));
    }
    Ok(found)
}

impl Effect {
    fn variance(&self) -> f64 {
        self.sampling + self.noise
    }

    /// Of the estimate, noise included.
    #[must_use]
    pub fn standard_error(&self) -> f64 {
        self.variance().sqrt()
    }

    /// Standard error of an effect that somebody may have put together by hand.
    fn error(&self) -> Result<f64, ExperimentError> {
        between("an effect", self.estimate, f64::NEG_INFINITY, f64::INFINITY, "finite")?;
        between("an effect's variance", self.variance(), 0.0, f64::INFINITY, "above 0 and finite").map(f64::sqrt)
    }

    fn finding(&self, half: f64, p: f64) -> Finding {
        let (low, high) = (self.estimate - half, self.estimate + half);
        Finding { effect: Estimate { value: self.estimate, low, high }, p: p.clamp(0.0, 1.0) }
    }

    /// Welch's t-test, two-sided: right for one look, at a time fixed beforehand, and for that look only.
    ///
    /// # Errors
    /// When alpha is not above 0 and below 0.5.
    pub fn fixed(&self, alpha: f64) -> Result<Finding, ExperimentError> {
        if self.degrees.is_nan() || self.degrees < 1.0 {
            return Err(ExperimentError::Number("the degrees of freedom", self.degrees, "1 or more"));
        }
        let error = self.error()?;
        let half = student_quantile(rate(alpha)? / 2.0, self.degrees) * error;
        Ok(self.finding(half, 2.0 * student_upper(self.estimate.abs() / error, self.degrees)))
    }

    /// The asymptotic confidence sequence of Waudby-Smith et al.: right at all looks at once, whenever one stops.
    ///
    /// Why noise does not break it: the estimate times the people is a sum of independent terms of mean zero, one for
    /// each person and one for the fresh noise of each release, so it is a random walk whose clock is its cumulative
    /// variance, and the noise of past releases stays in the sum as past people do. The boundary is therefore read at
    /// that clock, people × (sampling + noise) / sampling, rather than at people alone, and then holds for whatever
    /// share of the variance is noise and however unevenly releases bring it. It would not hold if a release drew its
    /// noise anew over all people so far, if looks shared noise in another way than by adding up, or if arms' shares
    /// changed on the way (start a new experiment then).
    ///
    /// Asymptotic means: for some hundreds of people an arm, not tens; a heavy tail needs more. The bound is that of a
    /// normal distribution, so far below alpha and with an arm of tens its p can lie below that of the t-test.
    ///
    /// # Errors
    /// When alpha is not above 0 and below 0.5, tau not above 0, or nothing but noise varies yet.
    pub fn always_valid(&self, alpha: f64, tau: f64) -> Result<Finding, ExperimentError> {
        let (alpha, time, error) = (rate(alpha)?, self.time(tau)?, self.error()?);
        let half = sequence::two_sided(time, alpha, tau) * error;
        Ok(self.finding(half, sequence::p_value(self.estimate / error, time, alpha, tau)))
    }

    /// Half width of the one-sided confidence sequence: estimate less this is a lower bound at all looks at once,
    /// estimate plus this an upper bound, each on its own with error rate alpha.
    ///
    /// # Errors
    /// As [`Effect::always_valid`].
    pub fn one_sided(&self, alpha: f64, tau: f64) -> Result<f64, ExperimentError> {
        Ok(sequence::one_sided(self.time(tau)?, rate(alpha)?, tau) * self.error()?)
    }

    /// Intrinsic time of the random walk, in people.
    fn time(&self, tau: f64) -> Result<f64, ExperimentError> {
        between("tau", tau, 0.0, f64::INFINITY, "above 0 and finite")?;
        if self.sampling <= 0.0 {
            return Err(ExperimentError::NoVariance);
        }
        let time = self.people * self.variance() / self.sampling;
        between("a sequence's time", time, 0.0, f64::INFINITY, "above 0 and finite")
    }
}
