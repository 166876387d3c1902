//! Judging contributions and adding them up, some nanoseconds each: what the edge component does, and what its host does
//! again to believe it.

use alloc::vec::Vec;

use gloaming_signal::fold::add_up;
use gloaming_signal::{CellKey, Reason, Row, limits};

use crate::{Metric, Policy, grace_ms};

/// What is needed of a metric for one contribution.
#[derive(Clone, Copy, Debug)]
struct Entry {
    id: u32,
    span_ms: u64,
    /// Cells, and where the first of them stands among all of the policy.
    cells: u32,
    first: u32,
    /// A sum's largest value.
    sum_max: Option<u32>,
}

/// A policy's metrics, laid out for counting.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// By ascending id, as in the policy.
    entries: Vec<Entry>,
    cells: u32,
}

impl Layout {
    /// Of a policy.
    #[must_use]
    pub fn new(policy: &Policy) -> Self {
        let mut layout = Self::default();
        for metric in &policy.metrics {
            let (cells, first) = (metric.cells(), layout.cells);
            let Metric { id, span_ms, .. } = *metric;
            layout.entries.push(Entry {
                id,
                span_ms,
                cells,
                first,
                sum_max: metric.sum_max().map(|max| max.min(limits::VALUE)),
            });
            layout.cells = first.saturating_add(cells);
        }
        layout
    }

    /// A metric's place. Devices send metrics in order, so it most often is the one after the `last` that was found.
    #[inline]
    #[must_use]
    pub fn find(&self, id: u32, last: &mut usize) -> Option<usize> {
        let next = *last + 1;
        *last = match self.entries.get(next) {
            Some(entry) if entry.id == id => next,
            _ => self.entries.binary_search_by_key(&id, |entry| entry.id).ok()?,
        };
        Some(*last)
    }

    /// Window length of the metric in a place, ms.
    #[must_use]
    pub fn span_ms(&self, place: usize) -> u64 {
        self.entries[place].span_ms
    }

    /// As [`Metric::admits`], of the metric in a place.
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn admits(&self, place: usize, cell: u32, value: u32) -> Result<(), Reason> {
        let entry = &self.entries[place];
        match entry.sum_max {
            Some(_) if cell != 1 => Err(Reason::UnknownCell),
            Some(max) if value > max => Err(Reason::CapExceeded),
            Some(_) => Ok(()),
            None if cell >= entry.cells => Err(Reason::UnknownCell),
            None if value != 1 => Err(Reason::CapExceeded),
            None => Ok(()),
        }
    }
}

/// One metric's windows within one count.
#[derive(Clone, Copy, Debug, Default)]
struct Windows {
    /// The count it is of.
    count: u64,
    /// The window that is open now, whose cells are added up in place, and the oldest whose grace has not ended.
    current: u64,
    oldest: u64,
}

/// Adds up contributions to metrics of one policy at a time. Made once: its places are all zero between two counts.
#[derive(Debug, Default)]
pub struct Counter {
    count: u64,
    now_ms: u64,
    windows: Vec<Windows>,
    /// Values by the cell's place in the layout, and places that hold any.
    cells: Vec<u64>,
    touched: Vec<u32>,
    /// Of windows before the current one.
    others: Vec<(CellKey, u64)>,
}

impl Counter {
    /// Begins a count at edge time `now_ms`.
    pub fn begin(&mut self, layout: &Layout, now_ms: u64) {
        // One that was given up halfway left something behind.
        for place in self.touched.drain(..) {
            self.cells[place as usize] = 0;
        }
        self.others.clear();
        (self.count, self.now_ms) = (self.count + 1, now_ms);
        if self.windows.len() < layout.entries.len() {
            self.windows.resize(layout.entries.len(), Windows::default());
        }
        if self.cells.len() < layout.cells as usize {
            self.cells.resize(layout.cells as usize, 0);
        }
    }

    #[inline]
    fn windows(&mut self, entry: &Entry, place: usize) -> Windows {
        let windows = &mut self.windows[place];
        if windows.count != self.count {
            let (now, span) = (self.now_ms, entry.span_ms.max(1));
            let oldest = now.saturating_sub(grace_ms(span)) / span;
            *windows = Windows { count: self.count, current: now / span, oldest };
        }
        *windows
    }

    /// Judges a row, and adds it when it counts. `last` is [`Layout::find`]'s.
    #[inline]
    pub fn judge(&mut self, layout: &Layout, row: &Row, last: &mut usize) -> Reason {
        let Some(place) = layout.find(row.metric, last) else { return Reason::UnknownMetric };
        let entry = &layout.entries[place];
        let windows = self.windows(entry, place);
        if row.window > windows.current {
            return Reason::FutureWindow;
        }
        if row.window < windows.oldest {
            return Reason::ClosedWindow;
        }
        if let Err(reason) = layout.admits(place, row.cell, row.value) {
            return reason;
        }
        if row.check {
            return Reason::Checked;
        }
        self.add_to(entry, windows.current == row.window, row.window, row.cell, row.value);
        Reason::Accepted
    }

    /// Adds what is known to count. A sum counts its report in cell 0 and its value in cell 1; all else is one in one
    /// cell.
    #[inline]
    pub fn add(&mut self, layout: &Layout, place: usize, window: u64, cell: u32, value: u32) {
        let entry = &layout.entries[place];
        let current = self.windows(entry, place).current == window;
        self.add_to(entry, current, window, cell, value);
    }

    #[inline]
    fn add_to(&mut self, entry: &Entry, current: bool, window: u64, cell: u32, value: u32) {
        if entry.sum_max.is_some() {
            self.put(entry, current, window, 0, 1);
        }
        self.put(entry, current, window, cell, value);
    }

    #[inline]
    fn put(&mut self, entry: &Entry, current: bool, window: u64, cell: u32, value: u32) {
        // What is nothing is not said.
        if value == 0 {
            return;
        }
        if current {
            let place = entry.first + cell;
            let sum = &mut self.cells[place as usize];
            if *sum == 0 {
                self.touched.push(place);
            }
            *sum += u64::from(value);
        } else {
            self.others.push((CellKey { metric: entry.id, window, cell }, value.into()));
        }
    }

    /// What was added, keys strictly increasing.
    pub fn finish(&mut self, layout: &Layout, mut sum: impl FnMut(CellKey, u64)) {
        self.touched.sort_unstable();
        let (mut metric, away) = (0, !self.others.is_empty());
        for place in self.touched.drain(..) {
            while layout.entries.get(metric + 1).is_some_and(|next| next.first <= place) {
                metric += 1;
            }
            let entry = &layout.entries[metric];
            let key = CellKey { metric: entry.id, window: self.windows[metric].current, cell: place - entry.first };
            let value = core::mem::take(&mut self.cells[place as usize]);
            // What is at home stands between what is not.
            if away { self.others.push((key, value)) } else { sum(key, value) }
        }
        add_up(&mut self.others);
        self.others.drain(..).for_each(|(key, value)| sum(key, value));
    }
}
