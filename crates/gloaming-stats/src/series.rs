//! Has a figure changed over the releases, and since when: one number a release.
//!
//! Four detectors, each fed one release at a time and free of clocks, and one look back over all of them:
//!
//! | detector | for | knows the noise |
//! |---|---|---|
//! | [`since()`] | a few releases that are all at hand, with no usual level known | yes: each release is weighed by it |
//! | [`Cusum`] | a figure with a known usual level | yes: each release is measured in its own standard deviations |
//! | [`Weekly`] | daily counts with a weekly rhythm, against the same weekdays before | yes, as a floor of the spread |
//! | [`PageHinkley`] | parity with river 0.26.1, same firing index | only as part of the spread it sees |
//! | [`Adwin`] | parity with river 0.26.1, same firing index | only as part of the spread it sees |
//!
//! Sources: Page, *Continuous inspection schemes*, Biometrika 41 (1954); Sebastiao and Fernandes (2017) for the form of
//! the Page-Hinkley test; Bifet and Gavalda, *Learning from time-changing data with adaptive windowing*, SDM 2007.

mod adwin;
mod since;

use std::collections::VecDeque;

pub use adwin::{Adwin, AdwinSettings};
pub use since::{Since, dated, since};

/// Fewest releases a usual level can be learnt from: with fewer, its spread is off by a third and more.
pub const REFERENCE: usize = 8;
/// Same weekdays a day is compared with.
pub const WEEKS: usize = 8;

/// Why a series cannot be watched.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SeriesError {
    /// A release that is no number.
    #[error("a release of {0} with a noise variance of {1}; both are finite, and a variance is zero or more")]
    Release(String, String),
    /// Too little to learn from.
    #[error("{0} releases; learn the usual level from {REFERENCE} or more")]
    Reference(usize),
    /// No spread at all.
    #[error("the reference releases do not differ and have no noise; state the usual spread with `Cusum::new`")]
    Spread,
    /// A setting out of range.
    #[error("{0} of {1}; it is {2}")]
    Setting(&'static str, String, &'static str),
}

/// One release's figure and the variance of its noise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Release {
    value: f64,
    variance: f64,
}

impl Release {
    /// A figure in the caller's unit, and the variance of its noise in that unit squared: 0 for an exact one; for the
    /// sum of several cells the sum of their variances.
    ///
    /// # Errors
    /// When either is not finite, or the variance is negative.
    pub fn new(value: f64, variance: f64) -> Result<Self, SeriesError> {
        if !value.is_finite() || !variance.is_finite() || variance < 0.0 {
            return Err(SeriesError::Release(value.to_string(), variance.to_string()));
        }
        Ok(Self { value, variance })
    }
}

/// Which way a figure went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// It grew.
    Up,
    /// It fell.
    Down,
}

/// A change was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Alarm {
    /// Number of the release that raised it, the first pushed being 0.
    pub at: usize,
    /// Number of the first release after the change, as estimated by the detector.
    pub since: usize,
    /// Which way.
    pub direction: Direction,
    /// What crossed the limit: a sum for [`Cusum`], [`Weekly`] and [`PageHinkley`], a difference of means for
    /// [`Adwin`].
    pub statistic: f64,
}

fn within(name: &'static str, value: f64, fits: bool, range: &'static str) -> Result<(), SeriesError> {
    if fits { Ok(()) } else { Err(SeriesError::Setting(name, value.to_string(), range)) }
}

/// One side of a cumulative sum.
#[derive(Clone, Copy, Debug, Default)]
struct Side {
    sum: f64,
    since: usize,
    raised: bool,
}

impl Side {
    /// One change, one alarm: after it the side is silent until its sum has been back at zero. The sum is held at one
    /// and a half times the limit, so that a long change is not followed by an equally long blindness.
    fn push(&mut self, at: usize, step: f64, limit: f64) -> Option<(usize, f64)> {
        self.sum = (self.sum + step).max(0.0);
        if self.sum == 0.0 {
            (self.since, self.raised) = (at + 1, false);
        }
        let alarm = (self.sum > limit && !self.raised).then_some((self.since, self.sum));
        self.raised |= alarm.is_some();
        self.sum = self.sum.min(1.5 * limit);
        alarm
    }
}

/// Both sides, fed with standardised figures.
#[derive(Clone, Debug)]
struct Sides {
    allowance: f64,
    limit: f64,
    up: Side,
    down: Side,
    seen: usize,
}

impl Sides {
    fn new(allowance: f64, limit: f64) -> Result<Self, SeriesError> {
        within("an allowance", allowance, allowance.is_finite() && allowance >= 0.0, "a number of zero or more")?;
        within("a limit", limit, limit.is_finite() && limit > 0.0, "a number above zero")?;
        Ok(Self { allowance, limit, up: Side::default(), down: Side::default(), seen: 0 })
    }

    fn push(&mut self, standardised: f64) -> Option<Alarm> {
        let at = self.seen;
        self.seen += 1;
        let up = self.up.push(at, standardised - self.allowance, self.limit);
        let down = self.down.push(at, -standardised - self.allowance, self.limit);
        let alarm = |direction| move |(since, statistic)| Alarm { at, since, direction, statistic };
        up.map(alarm(Direction::Up)).or(down.map(alarm(Direction::Down)))
    }
}

/// Two-sided cumulative sum (Page 1954) of figures measured in standard deviations that include each release's noise.
///
/// An allowance of 0.5 and a limit of 5 find a shift of one standard deviation after about ten releases and raise a
/// false alarm about once in 465 (two-sided, normal figures; Montgomery, *Statistical Quality Control*, table 9.3), when
/// the usual level is known. Learnt from 8 releases it is known badly: the median run without change is then 52 releases,
/// from 20 it is 112, from 50 199, from 200 283.
#[derive(Clone, Debug)]
pub struct Cusum {
    mean: f64,
    variance: f64,
    sides: Sides,
}

impl Cusum {
    /// With a usual level: its mean and the variance of the figure itself, without noise. `allowance` and `limit` are
    /// in standard deviations.
    ///
    /// # Errors
    /// When a number is out of range.
    pub fn new(mean: f64, variance: f64, allowance: f64, limit: f64) -> Result<Self, SeriesError> {
        Release::new(mean, variance)?;
        Ok(Self { mean, variance, sides: Sides::new(allowance, limit)? })
    }

    /// With the usual level of earlier releases. What their noise adds to the spread is taken off, so that releases
    /// with more or less noise can follow.
    ///
    /// # Errors
    /// When there are fewer than [`REFERENCE`], or they have neither spread nor noise.
    pub fn from_reference(reference: &[Release], allowance: f64, limit: f64) -> Result<Self, SeriesError> {
        if reference.len() < REFERENCE {
            return Err(SeriesError::Reference(reference.len()));
        }
        let count = reference.len() as f64;
        let (mean, spread) = moments(reference.iter().map(|release| release.value));
        let noise = reference.iter().map(|release| release.variance).sum::<f64>() / count;
        if spread == 0.0 && noise == 0.0 {
            return Err(SeriesError::Spread);
        }
        Self::new(mean, (spread - noise).max(0.0), allowance, limit)
    }

    /// The next release.
    pub fn push(&mut self, release: Release) -> Option<Alarm> {
        // Without any spread a figure is either the usual one or as far from it as can be.
        let deviation = (self.variance + release.variance).sqrt().max(f64::MIN_POSITIVE);
        self.sides.push(((release.value - self.mean) / deviation).clamp(-1e9, 1e9))
    }
}

/// Mean and unbiased variance.
fn moments(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let count = values.clone().count() as f64;
    let mean = values.clone().sum::<f64>() / count;
    (mean, values.map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0))
}

/// Cumulative sum of daily figures, each compared with the [`WEEKS`] same weekdays before it.
///
/// The first eight weeks only teach. The level follows the figures, so a change that lasts becomes the usual one after
/// eight weeks: the alarm tells of the change, not of the level.
#[derive(Clone, Debug)]
pub struct Weekly {
    days: VecDeque<f64>,
    sides: Sides,
}

impl Weekly {
    /// Standard deviations a day may lie off before it counts.
    pub const ALLOWANCE: f64 = 2.0;
    /// Sum of excess standard deviations that raises an alarm.
    pub const LIMIT: f64 = 18.0;
    /// A day counts as ten standard deviations off at most. So no single day and no pair of them (a holiday, a broken
    /// sensor) raises an alarm, and three days without anybody do where weekdays differ by a tenth of
    /// the level or less.
    pub const MOST: f64 = 10.0;
    /// The spread is taken for a twentieth of the level at least: eight days can be alike by chance, and an
    /// owner does not want to hear of less.
    pub const LEAST_SPREAD: f64 = 0.05;

    /// With [`Weekly::ALLOWANCE`] and [`Weekly::LIMIT`].
    #[must_use]
    pub fn new() -> Self {
        let sides = Sides {
            allowance: Self::ALLOWANCE,
            limit: Self::LIMIT,
            up: Side::default(),
            down: Side::default(),
            seen: 0,
        };
        Self { days: VecDeque::new(), sides }
    }

    /// With other settings, in standard deviations.
    ///
    /// # Errors
    /// When a number is out of range.
    pub fn with(allowance: f64, limit: f64) -> Result<Self, SeriesError> {
        Ok(Self { days: VecDeque::new(), sides: Sides::new(allowance, limit)? })
    }

    /// The next day. A day without a release must be pushed too (as what it would have been, or as the same weekday
    /// before), or weekdays no longer match.
    pub fn push(&mut self, release: Release) -> Option<Alarm> {
        let standardised = (self.days.len() == 7 * WEEKS).then(|| {
            let (mean, spread) = moments(self.days.iter().copied().step_by(7));
            let least = (Self::LEAST_SPREAD * mean).powi(2).max(release.variance);
            let deviation = spread.max(least).max(f64::MIN_POSITIVE).sqrt();
            ((release.value - mean) / deviation).clamp(-Self::MOST, Self::MOST)
        });
        if standardised.is_some() {
            self.days.pop_front();
        }
        self.days.push_back(release.value);
        match standardised {
            Some(standardised) => self.sides.push(standardised),
            None => {
                self.sides.push(0.0);
                None
            }
        }
    }
}

impl Default for Weekly {
    fn default() -> Self {
        Self::new()
    }
}

/// Which changes a [`PageHinkley`] looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Growth.
    Up,
    /// Decline.
    Down,
    /// Either.
    Both,
}

/// The Page-Hinkley test, step by step as river 0.26.1 does it, sums and starting values included.
#[derive(Clone, Debug)]
pub struct PageHinkley {
    least: usize,
    delta: f64,
    threshold: f64,
    alpha: f64,
    mode: Mode,
    seen: usize,
    state: Hinkley,
}

/// What is forgotten after an alarm.
#[derive(Clone, Copy, Debug)]
struct Hinkley {
    count: f64,
    mean: f64,
    increase: f64,
    decrease: f64,
    least_increase: f64,
    most_decrease: f64,
    /// Number of the first release after the least and after the most.
    since: [usize; 2],
    raised: bool,
}

impl Hinkley {
    fn from(at: usize) -> Self {
        Self {
            count: 0.0,
            mean: 0.0,
            increase: 0.0,
            decrease: 0.0,
            least_increase: f64::INFINITY,
            // river starts here, not at minus infinity: a fall is first measured from -1.
            most_decrease: -1.0,
            since: [at; 2],
            raised: false,
        }
    }
}

impl PageHinkley {
    /// river's defaults: 30 releases first, delta 0.005, threshold 50, alpha 0.9999, both ways. Delta and threshold are
    /// in the unit of the figure, so standardise figures or choose others with [`PageHinkley::with`].
    #[must_use]
    pub fn new() -> Self {
        let state = Hinkley::from(0);
        Self { least: 30, delta: 0.005, threshold: 50.0, alpha: 1.0 - 0.0001, mode: Mode::Both, seen: 0, state }
    }

    /// `least` releases come first; `delta` is what a figure may lie off and `threshold` what the sum of the rest may
    /// reach, both in its unit; the sum is multiplied by `alpha` at each step.
    ///
    /// # Errors
    /// When a number is out of range.
    pub fn with(least: usize, delta: f64, threshold: f64, alpha: f64, mode: Mode) -> Result<Self, SeriesError> {
        within("a delta", delta, delta.is_finite() && delta >= 0.0, "a number of zero or more")?;
        within("a threshold", threshold, threshold.is_finite() && threshold > 0.0, "a number above zero")?;
        within("an alpha", alpha, alpha > 0.0 && alpha <= 1.0, "above 0 and at most 1")?;
        Ok(Self { least, delta, threshold, alpha, mode, ..Self::new() })
    }

    /// The next release.
    pub fn push(&mut self, release: Release) -> Option<Alarm> {
        let at = self.seen;
        self.seen += 1;
        if self.state.raised {
            self.state = Hinkley::from(at);
        }
        let state = &mut self.state;
        state.count += 1.0;
        // Not (x - mean) / count: the last bit decides whether an alarm comes one release earlier.
        state.mean += 1.0 / state.count * (release.value - state.mean);
        let deviation = release.value - state.mean;
        state.increase = self.alpha * state.increase + deviation - self.delta;
        state.decrease = self.alpha * state.decrease + deviation + self.delta;
        if state.increase < state.least_increase {
            (state.least_increase, state.since[0]) = (state.increase, at + 1);
        }
        if state.decrease > state.most_decrease {
            (state.most_decrease, state.since[1]) = (state.decrease, at + 1);
        }
        if state.count < self.least as f64 {
            return None;
        }
        let up = state.increase - state.least_increase;
        let down = state.most_decrease - state.decrease;
        let alarm = if up > self.threshold && self.mode != Mode::Down {
            Alarm { at, since: state.since[0], direction: Direction::Up, statistic: up }
        } else if down > self.threshold && self.mode != Mode::Up {
            Alarm { at, since: state.since[1], direction: Direction::Down, statistic: down }
        } else {
            return None;
        };
        state.raised = true;
        Some(alarm)
    }
}

impl Default for PageHinkley {
    fn default() -> Self {
        Self::new()
    }
}
