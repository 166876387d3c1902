//! Since when: one look back over all the releases that there are.
//!
//! A detector is fed for ever and has to be told, or to learn from [`REFERENCE`] releases, what is
//! usual. Whoever has a dozen releases, and all of them at hand, sees more by cutting the series in two wherever it can be cut:
//! the cut that parts it best is where a change began (Hinkley, *Inference about the change-point from cumulative sum
//! tests*, Biometrika 58, 1971), and how often such a cut is found without a change follows by simulation, which corrects for
//! having tried all of them.
//!
//! Releases are weighted by their own chance and noise. Where they differ by more than that, as visits of a shop do, the
//! spread on both sides of the cut counts instead (the scale factor of Birge, 1932), and never less than what is stated. What a series
//! without a change would show is drawn with the spread of all of it, a change included: with that of its best cut, which is
//! less, three in a hundred were told instead of one.

use super::{Direction, REFERENCE, Release, SeriesError, within};
use crate::draws::Draws;

/// Draws of a series without a change: an error rate of 1 % is met within 0.45 %.
const RUNS: usize = 2_000;
/// How many deviations what followed a change must lie off what was before it, for the change to last; 1 % on one side.
const LASTS: f64 = 2.326_347_874;

/// A change that lasts to the newest release.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Since {
    /// Number of the first release after it, the oldest being 0.
    pub at: usize,
    /// Which way.
    pub direction: Direction,
    /// How often a series without a change shows one as clear, wherever one looks in it.
    pub p: f64,
}

/// Where a series is cut, and how far apart that leaves its parts, in variances.
#[derive(Clone, Copy, Debug)]
struct Cut {
    at: usize,
    apart: f64,
    /// What the stated variances are to be multiplied by.
    scale: f64,
    direction: Direction,
}

/// Weighted sums of a part: weights, values, squares.
type Sums = [f64; 3];

fn sums(releases: &[Release]) -> Sums {
    releases.iter().fold([0.0; 3], |sum, Release { value, variance }| {
        [sum[0] + 1.0 / variance, sum[1] + value / variance, sum[2] + value * value / variance]
    })
}

/// Squares around the mean.
fn around([weight, value, squares]: Sums) -> f64 {
    (squares - value * value / weight).max(0.0)
}

/// The cut that parts two or more releases best.
fn cut(releases: &[Release]) -> Option<Cut> {
    let (whole, free) = (sums(releases), (releases.len() as f64 - 2.0).max(1.0));
    let mut before = [0.0; 3];
    let cuts = releases.iter().enumerate().map(|(at, release)| {
        let own = sums(std::slice::from_ref(release));
        let first = before;
        before = [0, 1, 2].map(|of| before[of] + own[of]);
        let after = [0, 1, 2].map(|of| whole[of] - first[of]);
        let left = around(first) + around(after);
        let scale = (left / free).max(1.0);
        let direction = if after[1] / after[0] > first[1] / first[0] { Direction::Up } else { Direction::Down };
        Cut { at, apart: (around(whole) - left) / scale, scale, direction }
    });
    cuts.skip(1).max_by(|one, other| one.apart.total_cmp(&other.apart))
}

/// How often a cut as clear is found in a series of as many releases without a change. Of fewer than [`REFERENCE`] what is stated is
/// believed: they cannot tell a spread of their own from a change.
fn chance(releases: &[Release], found: &Cut, draws: &mut Draws) -> f64 {
    let count = releases.len();
    let scale = if count < REFERENCE { 1.0 } else { (around(sums(releases)) / (count as f64 - 1.0)).max(1.0) };
    let mut drawn = releases.to_vec();
    let as_clear = (0..RUNS).filter(|_| {
        for (one, release) in drawn.iter_mut().zip(releases) {
            one.value = (scale * release.variance).sqrt() * draws.normal();
        }
        cut(&drawn).is_some_and(|cut| cut.apart >= found.apart)
    });
    (as_clear.count() + 1) as f64 / (RUNS + 1) as f64
}

/// Whether the last stretch, which begins wherever there was a further change, still lies off what was before the first one.
fn lasts(releases: &[Release], first: &Cut, error: f64, draws: &mut Draws) -> bool {
    let before = sums(&releases[..first.at]);
    let mut rest = &releases[first.at..];
    while let Some(further) = cut(rest).filter(|further| chance(rest, further, draws) <= error) {
        rest = &rest[further.at..];
        let now = sums(rest);
        let (mean, deviation) = (now[1] / now[0] - before[1] / before[0], (1.0 / now[0] + 1.0 / before[0]).sqrt());
        let off = mean / (first.scale.max(further.scale).sqrt() * deviation);
        let ahead = if first.direction == Direction::Up { off } else { -off };
        if ahead < LASTS {
            return false;
        }
    }
    true
}

/// The same with values of around zero, so that sums of squares keep their digits; weights must not be infinite.
fn centred(releases: &[Release]) -> Result<Vec<Release>, SeriesError> {
    for Release { variance, .. } in releases {
        within("a release's variance", *variance, *variance > 0.0, "above zero where releases are weighed by it")?;
    }
    let [weight, value, _] = sums(releases);
    Ok(releases.iter().map(|release| Release { value: release.value - value / weight, ..*release }).collect())
}

/// Since when a series has lain off what it was: the change, if there was one that lasts to the newest release, `None`
/// otherwise. Each release bears the variance of its chance *and* its noise.
///
/// In a series without a change, whose releases differ as stated or, where there are [`REFERENCE`] and more, by
/// more than that, one is found with a chance of `error` at most; the tests print it. A change that has ended again is none, and
/// of several the first that lasts is told.
///
/// # Errors
/// When a variance is zero, or `error` not between 0.001 and 0.5.
pub fn since(releases: &[Release], error: f64, seed: u64) -> Result<Option<Since>, SeriesError> {
    within("an error rate", error, (0.001..=0.5).contains(&error), "0.001 to 0.5")?;
    let (releases, mut draws) = (centred(releases)?, Draws::new(seed));
    let Some(first) = cut(&releases) else { return Ok(None) };
    let p = chance(&releases, &first, &mut draws);
    let found = p <= error && lasts(&releases, &first, error, &mut draws);
    Ok(found.then_some(Since { at: first.at, direction: first.direction, p }))
}

/// Of a series whose newest release is known to lie off in `direction`: number of the first release from which on it does. That is
/// the newest one itself, unless the series is parted better before, in the same direction and lastingly.
///
/// # Errors
/// As [`since`]; and when there is no release.
pub fn dated(releases: &[Release], direction: Direction, error: f64, seed: u64) -> Result<usize, SeriesError> {
    within("an error rate", error, (0.001..=0.5).contains(&error), "0.001 to 0.5")?;
    let Some(newest) = releases.len().checked_sub(1) else {
        return Err(SeriesError::Setting("releases", "0".to_owned(), "1 or more"));
    };
    let (releases, mut draws) = (centred(releases)?, Draws::new(seed));
    let first = cut(&releases).filter(|first| first.direction == direction);
    Ok(first.filter(|first| lasts(&releases, first, error, &mut draws)).map_or(newest, |first| first.at))
}
