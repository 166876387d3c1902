//! Adaptive windowing.

use std::collections::VecDeque;

use super::{Alarm, Direction, Release, SeriesError, within};

/// Rows of buckets: more than 2^40 releases would be needed to fill them.
const ROWS: usize = 40;

/// Settings of an [`Adwin`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdwinSettings {
    /// Bound on the share of false alarms at one check.
    pub delta: f64,
    /// Look every so many releases.
    pub clock: usize,
    /// Buckets of one size before two are merged.
    pub buckets: usize,
    /// Least releases on either side of a cut.
    pub least: usize,
    /// Do not look at windows of so many releases or fewer.
    pub grace: usize,
}

impl Default for AdwinSettings {
    /// river's: delta 0.002, every 32 releases, 5 buckets, 5 releases a side, 10 of grace.
    fn default() -> Self {
        Self { delta: 0.002, clock: 32, buckets: 5, least: 5, grace: 10 }
    }
}

/// Adaptive windowing (Bifet and Gavalda 2007): the same firing index as river 0.26.1, where an alarm forgets the whole
/// window. So nothing is ever dropped from its old end, and rows need no variances of their own.
///
/// Row `i` holds sums over 2^i releases each, oldest first; the last row is the oldest.
#[derive(Clone, Debug)]
pub struct Adwin {
    settings: AdwinSettings,
    rows: Vec<VecDeque<f64>>,
    total: f64,
    squares: f64,
    width: f64,
    ticks: usize,
    seen: usize,
    raised: bool,
}

impl Adwin {
    /// With river's defaults, which suit hundreds of releases; for daily ones look at every one (`clock` 1).
    ///
    /// # Errors
    /// When a setting is out of range.
    pub fn new(settings: AdwinSettings) -> Result<Self, SeriesError> {
        let AdwinSettings { delta, clock, buckets, least, .. } = settings;
        within("a delta", delta, delta > 0.0 && delta < 1.0, "above 0 and below 1")?;
        within("a clock", clock as f64, clock >= 1, "1 or more")?;
        within("buckets", buckets as f64, (2..=64).contains(&buckets), "2 to 64")?;
        within("releases a side", least as f64, least >= 1, "1 or more")?;
        Ok(Self::empty(settings, 0))
    }

    fn empty(settings: AdwinSettings, seen: usize) -> Self {
        let rows = vec![VecDeque::new()];
        Self { settings, rows, total: 0.0, squares: 0.0, width: 0.0, ticks: 0, seen, raised: false }
    }

    /// Releases in the window.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width as usize
    }

    /// The next release.
    pub fn push(&mut self, release: Release) -> Option<Alarm> {
        if self.raised {
            *self = Self::empty(self.settings, self.seen);
        }
        let at = self.seen;
        self.seen += 1;
        self.insert(release.value);
        self.ticks += 1;
        if !self.ticks.is_multiple_of(self.settings.clock) || self.width <= self.settings.grace as f64 {
            return None;
        }
        self.cut()?;
        // Any cut tells that there was a change; the one that stands out most tells when.
        let by = |(n0, n1, difference): &(f64, f64, f64)| difference.abs() / self.chance(*n0, *n1);
        let first = self.cuts().max_by(|a, b| by(a).total_cmp(&by(b)));
        let (_, after, difference) = first?;
        self.raised = true;
        let direction = if difference < 0.0 { Direction::Up } else { Direction::Down };
        Some(Alarm { at, since: at + 1 - after as usize, direction, statistic: difference.abs() })
    }

    fn insert(&mut self, value: f64) {
        self.rows[0].push_back(value);
        self.width += 1.0;
        if self.width > 1.0 {
            let off = value - self.total / (self.width - 1.0);
            self.squares += (self.width - 1.0) * off * off / self.width;
        }
        self.total += value;
        for row in 0..ROWS {
            if self.rows[row].len() <= self.settings.buckets {
                break;
            }
            let (Some(first), Some(second)) = (self.rows[row].pop_front(), self.rows[row].pop_front()) else { break };
            if row + 1 == self.rows.len() {
                self.rows.push(VecDeque::new());
            }
            self.rows[row + 1].push_back(first + second);
        }
    }

    /// All cuts with enough releases on either side, the oldest first: releases before and after, and the difference
    /// of their means.
    fn cuts(&self) -> impl Iterator<Item = (f64, f64, f64)> {
        let least = self.settings.least as f64;
        let (mut n0, mut n1, mut u0, mut u1) = (0.0, self.width, 0.0, self.total);
        let sizes = self.rows.iter().enumerate().rev();
        let buckets = sizes.flat_map(|(row, buckets)| buckets.iter().map(move |total| ((1u64 << row) as f64, total)));
        // Nothing comes after the last bucket: with one release a side at least, that is no cut.
        let cuts = buckets.map(move |(size, total)| {
            (n0, n1, u0, u1) = (n0 + size, n1 - size, u0 + total, u1 - total);
            (n0, n1, u0 / n0 - u1 / n1)
        });
        cuts.filter(move |(n0, n1, _)| *n0 >= least && *n1 >= least)
    }

    /// The first, from the oldest on, where the difference is more than chance.
    fn cut(&self) -> Option<(f64, f64, f64)> {
        self.cuts().find(|(n0, n1, difference)| difference.abs() > self.chance(*n0, *n1))
    }

    fn chance(&self, n0: f64, n1: f64) -> f64 {
        let least = self.settings.least as f64;
        let delta = (2.0 * self.width.ln() / self.settings.delta).ln();
        let parts = 1.0 / (n0 - least + 1.0) + 1.0 / (n1 - least + 1.0);
        (2.0 * parts * (self.squares / self.width) * delta).sqrt() + 2.0 / 3.0 * delta * parts
    }
}
