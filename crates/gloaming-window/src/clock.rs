//! Edge time from two clocks: the wall clock, which says what time it is and may be set to anything, and a steady one,
//! which says nothing but how much time has passed.
//!
//! An edge that followed its wall clock wherever somebody sets it would close windows before their time, or never; what
//! devices had named by the time they were told would come too late or too early. So while an edge runs the wall clock may
//! correct it a little, and no more: a clock that steps further is doubted, and time goes on as it did.

use crate::edge::END_MS;

/// How far the wall clock may be set at once and still be followed, ms. Clocks that are kept by the network step by less than
/// a second, some a few seconds after a start; the shortest real window waits five minutes for who comes late. At half of it
/// machines that fetch the time once an hour would be doubted for their crystal; twice of it is half of what late senders have.
const STEP_MS: i64 = 60_000;

/// Tells edge time. It knows no clock itself: whoever asks says what both show.
///
/// ```
/// # use gloaming_window::Timekeeper;
/// let mut time = Timekeeper::new(1_000_000, 0);
/// assert_eq!(time.now(1_005_000, 5_000), 1_005_000);
/// // Five seconds later somebody puts the wall clock forward by an hour.
/// assert_eq!(time.now(4_610_000, 10_000), 1_010_000);
/// assert_eq!(time.doubt_ms(), Some(3_600_000));
/// ```
#[derive(Clone, Debug)]
pub struct Timekeeper {
    /// What the steady clock showed last, ms.
    steady_ms: i64,
    /// How far ahead of the steady clock edge time is, ms: as the wall clock was when it was last believed.
    ahead_ms: i64,
    /// The same as it has proven itself, in microseconds: it comes after what is believed, but only slowly, so that many
    /// small steps do not make a large one.
    proven_us: i64,
    /// How far from edge time the wall clock is while it is doubted, ms.
    doubt_ms: Option<i64>,
    told_ms: i64,
}

fn signed(ms: u64) -> i64 {
    ms.min(END_MS) as i64
}

impl Timekeeper {
    /// Begins by believing the wall clock: there is nothing yet to hold it against.
    #[must_use]
    pub fn new(wall_ms: u64, steady_ms: u64) -> Self {
        let (wall, steady_ms) = (signed(wall_ms), signed(steady_ms));
        let ahead_ms = wall - steady_ms;
        Self { steady_ms, ahead_ms, proven_us: ahead_ms * 1_000, doubt_ms: None, told_ms: wall }
    }

    /// Edge time, ms, by what both clocks show now. It never goes back: while the wall clock is a little behind, time stands.
    pub fn now(&mut self, wall_ms: u64, steady_ms: u64) -> u64 {
        let steady_ms = signed(steady_ms).max(self.steady_ms);
        // A microsecond each millisecond, 86 seconds a day: twice as much as a clock is ever slewed.
        let creep_us = steady_ms - self.steady_ms;
        self.steady_ms = steady_ms;
        self.proven_us += (self.ahead_ms * 1_000 - self.proven_us).clamp(-creep_us, creep_us);
        let shown_ms = signed(wall_ms) - steady_ms;
        if (shown_ms * 1_000 - self.proven_us).abs() <= STEP_MS * 1_000 {
            (self.ahead_ms, self.doubt_ms) = (shown_ms, None);
        } else {
            self.doubt_ms = Some(shown_ms - self.ahead_ms);
        }
        self.told_ms = self.told_ms.max(steady_ms + self.ahead_ms);
        u64::try_from(self.told_ms).unwrap_or(0)
    }

    /// How far ahead of edge time the wall clock was when it was last asked, ms, if that is too far to be believed; below
    /// zero when it is behind.
    #[must_use]
    pub fn doubt_ms(&self) -> Option<i64> {
        self.doubt_ms
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: i64 = 3_600_000;
    const YEAR: i64 = 365 * 24 * HOUR;
    /// 2026-11-24, 00:00.
    const START: i64 = 20_781 * 24 * HOUR;

    fn at(time: &mut Timekeeper, passed: i64, wrong: i64) -> i64 {
        time.now((START + passed + wrong).try_into().unwrap_or(0), passed as u64) as i64 - START
    }

    #[test]
    fn a_wall_clock_that_steps_far_is_doubted_until_it_comes_back() {
        for step in [HOUR, -HOUR, YEAR, -YEAR, i64::MAX / 4, -START * 2] {
            let mut time = Timekeeper::new(START as u64, 0);
            assert_eq!(at(&mut time, 10, 0), 10);
            assert_eq!(at(&mut time, 20, step), 20);
            assert!(time.doubt_ms().is_some_and(|doubt| doubt.signum() == step.signum()));
            // For a day, and it is not got used to.
            assert_eq!(at(&mut time, 24 * HOUR, step), 24 * HOUR);
            assert!(time.doubt_ms().is_some());
            assert_eq!(at(&mut time, 25 * HOUR, 400), 25 * HOUR + 400);
            assert_eq!(time.doubt_ms(), None);
        }
    }

    #[test]
    fn small_steps_are_followed_and_many_of_them_are_not() {
        let mut time = Timekeeper::new(START as u64, 0);
        assert_eq!(at(&mut time, 1_000, 50_000), 51_000);
        // Back again: time stands until the clock has come to where it was.
        assert_eq!(at(&mut time, 2_000, 0), 51_000);
        assert_eq!(at(&mut time, 60_000, 0), 60_000);
        // Forty seconds each minute: the second one is too much.
        assert_eq!(at(&mut time, 120_000, 40_000), 160_000);
        assert_eq!(at(&mut time, 180_000, 80_000), 220_000);
        assert_eq!(time.doubt_ms(), Some(40_000));
        // A day later the first has proven itself.
        assert_eq!(at(&mut time, 24 * HOUR, 80_000), 24 * HOUR + 80_000);
    }

    #[test]
    fn a_clock_that_runs_a_little_fast_is_followed_for_years() {
        let mut time = Timekeeper::new(START as u64, 0);
        for day in 1..3_000 {
            assert_eq!(at(&mut time, day * 24 * HOUR, day * 40_000), day * (24 * HOUR + 40_000));
        }
    }

    proptest! {
        /// Whatever the wall clock shows, edge time goes on as time passes, a minute more or less and what a clock drifts.
        #[test]
        fn edge_time_goes_on_whatever_the_wall_clock_shows(
            looks in prop::collection::vec((0..2 * HOUR, prop_oneof![-2 * STEP_MS..2 * STEP_MS, -2 * YEAR..2 * YEAR]), 1..60)
        ) {
            let (mut time, mut passed, mut before) = (Timekeeper::new(START as u64, 0), 0, 0);
            for (pause, wrong) in looks {
                passed += pause;
                let now = at(&mut time, passed, wrong);
                prop_assert!(now >= before);
                prop_assert!((now - passed).abs() <= STEP_MS + passed / 1_000 + 1, "{} after {}", now, passed);
                before = now;
            }
        }
    }
}
