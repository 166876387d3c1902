//! A model's figures window by window, and since when they lie off what they were, in words.

use gloaming_policy::author::date_of;
use gloaming_stats::series::{Direction, REFERENCE, Release, Since, since};
use gloaming_stats::{Cells, count};
use serde::Serialize;
use utoipa::ToSchema;

use super::{DAY_MS, Figure, LEVEL, REACH};

/// Series of a model that are searched for a change: AUC, calibration error, visits. The error rate is shared by them.
const SEARCHED: f64 = 3.0;

/// One window's figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub struct Point {
    /// Start of the window, ms since 1970.
    pub start_ms: u64,
    /// The figure, with the interval of this window alone.
    pub figure: Figure,
}

/// A figure over the windows that are looked at.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Series {
    /// `auc`, `calibration-error` or `visits`; or what drifted, as in the policy: then it is the share of visits in the bins that
    /// grew, less that in the bins that fell.
    pub of: String,
    /// The oldest first; windows that hold too little to tell are left out.
    pub windows: Vec<Point>,
    /// Start of the window since which it has lain off what it was before, ms since 1970. Without a change one is told at
    /// one look in a hundred at most, over AUC, calibration error and visits together.
    pub since_ms: Option<u64>,
    /// The same in words.
    pub words: Option<String>,
}

impl Series {
    pub(super) fn new(of: &str, windows: Vec<Point>) -> Self {
        Self { of: of.to_owned(), windows, since_ms: None, words: None }
    }

    /// How many visits each window held. They differ by more than chance from week to week, so that is learnt from eight windows
    /// and more.
    pub(super) fn visits(each: &[(u64, Cells)]) -> Self {
        let point = |(start_ms, cells): &(u64, Cells)| {
            let figure = count(cells.total(), cells.variance() * cells.values().len() as f64);
            Point { start_ms: *start_ms, figure: figure.into() }
        };
        Self::new("visits", each.iter().map(point).collect())
    }

    /// Each window's figure and the variance of its chance and noise; one end of its interval may be cut off.
    pub(super) fn releases(&self) -> Vec<Release> {
        let of = |Point { figure: Figure { value, low, high }, .. }: &Point| {
            let deviation = ((high - value).max(value - low) / REACH).max(1e-9);
            Release::new(*value, deviation.powi(2)).ok()
        };
        self.windows.iter().filter_map(of).collect()
    }

    /// Searches it for a change that lasts, and says since when it does.
    pub(super) fn search(&mut self, span_ms: u64) -> Option<Since> {
        let least = if self.of == "visits" { REFERENCE } else { 2 };
        let newest = self.windows.last().filter(|_| self.windows.len() >= least)?;
        let found = since(&self.releases(), LEVEL / SEARCHED, newest.start_ms).ok()??;
        let (name, up, down) = match self.of.as_str() {
            "auc" => ("AUC has", "higher", "lower"),
            "visits" => ("visits have", "more", "fewer"),
            _ => ("calibration error has", "higher", "lower"),
        };
        let how = if found.direction == Direction::Up { up } else { down };
        let start_ms = self.windows.get(found.at)?.start_ms;
        self.words = Some(format!("{name} been {how} since the window of {}", when(start_ms, span_ms)));
        self.since_ms = Some(start_ms);
        Some(found)
    }
}

/// A window's start, in words: the day, and the time where windows are shorter.
pub(super) fn when(start_ms: u64, span_ms: u64) -> String {
    let (day, minute) = (date_of(start_ms / DAY_MS), start_ms / 60_000 % 1_440);
    if span_ms < DAY_MS { format!("{day} {:02}:{:02} UTC", minute / 60, minute % 60) } else { day }
}
