//! Rage, dead and error clicks: small state machines over clicks and signs of life.

use gloaming_signal::event::{alive, click};
use gloaming_signal::{Event, cbor_record};

use crate::definitions::{
    DEAD_FOCUS_MS, DEAD_MS, DEAD_OWN_MS, ERROR_CLICK_MS, RAGE_CLICKS, RAGE_DISTANCE, RAGE_GAP_MS,
};

/// A chain of clicks that may turn out to be a rage click.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chain {
    count: u32,
    at_ms: u64,
    x: u32,
    y: u32,
    target: u32,
}

cbor_record!(Chain { count, at_ms, x, y, target });

impl Chain {
    /// Takes a click; returns the length of the chain it ended, when that was a rage click.
    pub(crate) fn click(&mut self, event: &Event) -> Option<u32> {
        if event.c & click::EXCLUDED != 0 {
            return self.end();
        }
        let target = event.c >> 8;
        let near = {
            let (dx, dy) = (u64::from(event.a.abs_diff(self.x)), u64::from(event.b.abs_diff(self.y)));
            // Each square fits; their sum need not, when a page posts nonsense.
            (dx * dx).saturating_add(dy * dy) <= u64::from(RAGE_DISTANCE * RAGE_DISTANCE)
        };
        let continues =
            self.count > 0 && event.at_ms.saturating_sub(self.at_ms) < RAGE_GAP_MS && near && target == self.target;
        let ended = if continues { None } else { self.end() };
        *self = Self { count: self.count + 1, at_ms: event.at_ms, x: event.a, y: event.b, target };
        ended
    }

    /// Selecting text or scrolling is a reason to click often; it ends the chain without anger.
    pub(crate) fn alive(&mut self, flags: u32) {
        if flags & (alive::SELECTION | alive::SCROLL) != 0 {
            *self = Self::default();
        }
    }

    /// Ends a chain that went quiet before `now_ms`.
    pub(crate) fn quiet(&mut self, now_ms: u64) -> Option<u32> {
        if self.count > 0 && now_ms.saturating_sub(self.at_ms) >= RAGE_GAP_MS { self.end() } else { None }
    }

    /// Ends the chain whatever it is.
    pub(crate) fn end(&mut self) -> Option<u32> {
        let count = self.count;
        *self = Self::default();
        (count >= RAGE_CLICKS).then_some(count)
    }
}

/// The last click that still waits for an answer. One at a time (Amplitude): a second click while one
/// waits is part of the same attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unanswered {
    waiting: bool,
    at_ms: u64,
}

cbor_record!(Unanswered { waiting, at_ms });

impl Unanswered {
    pub(crate) fn click(&mut self, event: &Event) {
        let candidate = event.c & (click::EXCLUDED | click::LEADS_AWAY) == 0;
        if candidate && !self.waiting {
            *self = Self { waiting: true, at_ms: event.at_ms };
        }
    }

    /// A sign of life; it must come soon enough to be an answer.
    pub(crate) fn alive(&mut self, event: &Event) {
        let after = event.at_ms.saturating_sub(self.at_ms);
        let answered = (event.a & alive::MUTATION != 0 && after < DEAD_MS)
            || (event.a & (alive::SELECTION | alive::SCROLL) != 0 && after < DEAD_OWN_MS)
            || (event.a & alive::FOCUS != 0 && after < DEAD_FOCUS_MS);
        if answered {
            self.waiting = false;
        }
    }

    /// The page was left or changed: that is an answer.
    pub(crate) fn answered(&mut self) {
        self.waiting = false;
    }

    /// Whether the click has been waiting too long at `now_ms`; it is then settled.
    pub(crate) fn dead(&mut self, now_ms: u64) -> bool {
        let dead = self.waiting && now_ms.saturating_sub(self.at_ms) >= DEAD_MS;
        if dead {
            self.waiting = false;
        }
        dead
    }
}

/// The last click, in case an error follows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Blamed {
    waiting: bool,
    at_ms: u64,
}

cbor_record!(Blamed { waiting, at_ms });

impl Blamed {
    pub(crate) fn click(&mut self, at_ms: u64) {
        *self = Self { waiting: true, at_ms };
    }

    /// Whether this error belongs to a click; each click is blamed once.
    pub(crate) fn error(&mut self, at_ms: u64) -> bool {
        let blamed = self.waiting && at_ms.saturating_sub(self.at_ms) <= ERROR_CLICK_MS;
        self.waiting = false;
        blamed
    }
}
