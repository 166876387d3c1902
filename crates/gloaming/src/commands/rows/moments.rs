//! Visits as they stood at a page: what a model is given that scores while they last.

use anyhow::{Result, bail};
use gloaming_behavior::{Definition, Features, Number, Tracker};

/// Most moments of a visit that are asked for.
const MOMENTS: usize = 64;

/// Which moments, and what of the end stands beside them.
#[derive(Clone, Debug, Default)]
pub struct At {
    /// Pages seen by then; none for the ends of visits alone.
    pub pages: Vec<u32>,
    /// Features whose value at the end of the visit is wanted, `NAME@VERSION`.
    pub ends: Vec<String>,
}

impl At {
    /// Places of the features whose end is wanted.
    pub(super) fn ends(&self) -> Result<Vec<u32>> {
        if self.pages.len() > MOMENTS || self.pages.contains(&0) {
            bail!("--at takes up to {MOMENTS} numbers of pages, each at least 1, as in --at 1,2,3,5,8");
        }
        let place = |name: &String| {
            let found = Definition::find(name).and_then(|place| u32::try_from(place).ok());
            found.ok_or_else(|| {
                anyhow::anyhow!("--end {name}: no device computes it; `gloaming policy features` lists what there is")
            })
        };
        self.ends.iter().map(place).collect()
    }
}

/// A visit at a page.
pub(super) struct Moment {
    /// When the visit began, ms.
    pub(super) started_ms: u64,
    /// Pages seen by then.
    pub(super) pages: u32,
    /// What it had come to.
    pub(super) features: Features,
}

/// Takes moments of one device as its events come. A device scores when nothing has happened for a moment, so that what comes with a
/// page, at the very same time, is known by then.
#[derive(Default)]
pub(super) struct Taker {
    seen: (u64, u32),
    due: bool,
    at_ms: u64,
    taken: Vec<Moment>,
}

impl Taker {
    /// Before events of `at_ms` are pushed: what was due at an earlier time is taken now.
    pub(super) fn before(&mut self, at_ms: u64, tracker: &Tracker, at: &At) {
        if !self.due || at_ms <= self.at_ms {
            return;
        }
        self.due = false;
        let (Some(started_ms), features) = (tracker.session_started_ms(), tracker.features(false)) else { return };
        let pages = features.number(Number::Pages);
        // Something else than a page, or a page that was told already.
        if (started_ms, pages) == self.seen {
            return;
        }
        self.seen = (started_ms, pages);
        if at.pages.contains(&pages) {
            self.taken.push(Moment { started_ms, pages, features });
        }
    }

    /// After a page was pushed.
    pub(super) fn page(&mut self, at_ms: u64) {
        (self.due, self.at_ms) = (true, at_ms);
    }

    /// The moments of a visit that has ended.
    pub(super) fn of(&mut self, started_ms: u64) -> Vec<Moment> {
        let (own, others) = std::mem::take(&mut self.taken).into_iter().partition(|m| m.started_ms == started_ms);
        self.taken = others;
        own
    }
}
