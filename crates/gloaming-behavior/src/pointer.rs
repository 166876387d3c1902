//! How a pointer moves, as counts: nothing is kept of where it was but the last place and how it came there.
//!
//! A program repeats its steps, in length and in time; a hand does neither, and a mouse is told of more often than a program
//! moves it. The three shares were chosen on DELBOT's trajectories with each bot and each device of people held out in its turn.

use gloaming_signal::{Event, cbor_record};

/// A longer pause begins a stroke anew: what lies between was not one movement.
const STROKE_MS: u64 = 500;
/// A step within this is quick.
const QUICK_MS: u32 = 12;
/// Steps before a share of them is told.
const FEWEST_STEPS: u32 = 20;
/// Largest coordinate that is told apart, so that squares of distances fit.
const FARTHEST: u32 = 1 << 16;

/// Where it was, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    at_ms: u64,
    x: u32,
    y: u32,
}

cbor_record!(Place { at_ms, x, y });

/// One movement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Step {
    ms: u32,
    square: u64,
}

cbor_record!(Step { ms, square });

/// Counts of a session's movements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pointer {
    /// Where it is; none before the first event.
    at: Option<Place>,
    /// How it came there.
    last: Option<Step>,
    pub(crate) steps: u32,
    pairs: u32,
    even: u32,
    quick: u32,
    steady: u32,
}

cbor_record!(Pointer { at, last, steps, pairs, even, quick, steady });

/// Lengths are as good as the same when neither is more than a quarter longer, which standing still is not.
fn even(one: u64, other: u64) -> bool {
    let (shorter, longer) = (one.min(other), one.max(other));
    shorter > 0 && 16 * longer <= 25 * shorter
}

/// Share in percent, rounded.
fn percent(part: u32, whole: u32) -> u32 {
    if whole == 0 {
        return 0;
    }
    u32::try_from((200 * u64::from(part) + u64::from(whole)) / (2 * u64::from(whole))).unwrap_or(100)
}

impl Pointer {
    /// Takes a place; times never go back.
    pub(crate) fn moved(&mut self, event: &Event) {
        let here = Place { at_ms: event.at_ms, x: event.a.min(FARTHEST), y: event.b.min(FARTHEST) };
        let step = self.at.replace(here).and_then(|from| {
            let ms = here.at_ms.saturating_sub(from.at_ms);
            let (dx, dy) = (u64::from(here.x.abs_diff(from.x)), u64::from(here.y.abs_diff(from.y)));
            (ms <= STROKE_MS).then(|| Step { ms: ms as u32, square: dx * dx + dy * dy })
        });
        let last = core::mem::replace(&mut self.last, step);
        let Some(step) = step else { return };
        let count = |slot: &mut u32, is: bool| *slot = slot.saturating_add(u32::from(is));
        count(&mut self.steps, true);
        count(&mut self.quick, step.ms <= QUICK_MS);
        let Some(last) = last else { return };
        count(&mut self.pairs, true);
        count(&mut self.even, even(step.square, last.square));
        count(&mut self.steady, step.ms.abs_diff(last.ms) <= 1);
    }

    /// The counts, and no place: what comes next begins a stroke.
    pub(crate) fn without_place(self) -> Self {
        Self { at: None, last: None, ..self }
    }

    /// Percent of steps that are even, quick and steady.
    pub(crate) fn shares(&self) -> [u32; 3] {
        if self.steps < FEWEST_STEPS {
            return [0; 3];
        }
        [percent(self.even, self.pairs), percent(self.quick, self.steps), percent(self.steady, self.pairs)]
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use gloaming_signal::EventKind;

    use super::*;

    fn after(places: &[(u64, u32, u32)]) -> Pointer {
        let mut pointer = Pointer::default();
        for (at_ms, x, y) in places {
            pointer.moved(&Event { at_ms: *at_ms, kind: EventKind::PointerMove, a: *x, b: *y, c: 0 });
        }
        pointer
    }

    #[test]
    fn a_program_is_even_and_steady() {
        let places: Vec<_> = (0..40).map(|step| (16 * step, 100 + 3 * step as u32, 200)).collect();
        let pointer = after(&places);
        assert_eq!((pointer.steps, pointer.shares()), (39, [100, 0, 100]));
    }

    #[test]
    fn nothing_is_said_of_a_few_steps() {
        let places: Vec<_> = (0..20).map(|step| (16 * step, step as u32, 0)).collect();
        assert_eq!((after(&places).steps, after(&places).shares()), (19, [0; 3]));
    }

    #[test]
    fn a_pause_begins_anew() {
        let pointer = after(&[(0, 0, 0), (10, 5, 0), (511, 9, 0), (523, 12, 4)]);
        // The step over the pause is none, and what follows it is no pair.
        assert_eq!((pointer.steps, pointer.pairs, pointer.quick), (2, 0, 2));
        assert_eq!(after(&[(0, 0, 0), (10, 5, 0), (510, 9, 0)]).pairs, 1);
    }

    #[test]
    fn lengths_are_alike_to_a_quarter() {
        assert!(even(16, 25) && even(25, 16) && !even(15, 25) && !even(0, 0));
        assert_eq!((percent(1, 3), percent(2, 3), percent(1, 200), percent(0, 0)), (33, 67, 1, 0));
    }

    #[test]
    fn places_beyond_all_screens_do_no_harm() {
        let pointer = after(&[(0, 0, 0), (1, u32::MAX, u32::MAX), (2, 0, 0), (u64::MAX, 7, 7)]);
        assert_eq!((pointer.steps, pointer.pairs, pointer.even), (2, 1, 1));
    }
}
