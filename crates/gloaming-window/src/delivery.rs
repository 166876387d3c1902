//! What waits for the centre, and when to try again: full-jitter exponential backoff without a clock of its
//! own. Sites take turns; a batch that the centre does not take is put aside by itself, and what comes after
//! it goes on, for the centre needs no order. Only names are in memory: the bytes lie in the store.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use crate::storage::Waiting;

/// First delay's upper end, ms.
const BASE_MS: u64 = 500;
/// Longest delay, ms: an hour's outage is caught up within a minute of its end.
const CAP_MS: u64 = 60_000;
/// Longest delay of a batch that was put aside, ms: ten thousand of them make sixteen tries a second.
const ASIDE_MS: u64 = 600_000;

/// How a try to deliver ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// The centre has it (now or from an earlier try).
    Yes,
    /// Nobody answered, or the centre can take nothing now and may have asked to wait this long, ms: all
    /// batches wait.
    NotNow(Option<u64>),
    /// The centre does not take this batch. It is put aside and tried again, for the centre may lack a policy
    /// that comes later.
    Refused,
    /// The centre says that other bytes bear this number: an alarm. Otherwise as [`Delivered::Refused`].
    Conflict,
}

/// Delays between tries (Brooker, "Exponential backoff and jitter": full jitter).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
    not_before_ms: u64,
}

impl Backoff {
    /// Whether it is time to try.
    pub(crate) fn ready(self, now_ms: u64) -> bool {
        now_ms >= self.not_before_ms
    }

    /// A failed try; `random` decides where in the interval the next one falls, `asked` how long to wait at
    /// least, ms.
    pub(crate) fn failed(&mut self, asked: Option<u64>, now_ms: u64, random: u64) {
        self.failed_within(CAP_MS, asked, now_ms, random);
    }

    fn failed_within(&mut self, cap_ms: u64, asked: Option<u64>, now_ms: u64, random: u64) {
        let ceiling = BASE_MS.saturating_mul(1 << self.failures.min(20)).min(cap_ms);
        self.failures = self.failures.saturating_add(1);
        let wait = (random % (ceiling + 1)).max(asked.unwrap_or(0).min(10 * CAP_MS));
        self.not_before_ms = now_ms.saturating_add(wait);
    }
}

#[derive(Default)]
struct Queue {
    rows: VecDeque<Waiting>,
    /// What was not taken, by the time of its next try.
    aside: BTreeMap<(u64, u64, u64), (Waiting, Backoff)>,
    bytes: usize,
}

impl Queue {
    fn len(&self) -> usize {
        self.rows.len() + self.aside.len()
    }

    fn next(&self, now_ms: u64) -> Option<&Waiting> {
        let aside = self.aside.first_key_value().filter(|((at, ..), _)| *at <= now_ms);
        aside.map(|(_, (row, _))| row).or_else(|| self.rows.front())
    }

    /// Takes out the row that [`Queue::next`] gave, with its backoff.
    fn take(&mut self, tried: &Waiting) -> Option<(Waiting, Backoff)> {
        if self.rows.front() == Some(tried) {
            return self.rows.pop_front().map(|row| (row, Backoff::default()));
        }
        let key = self.aside.iter().find(|(_, (row, _))| row == tried).map(|(key, _)| *key)?;
        self.aside.remove(&key)
    }
}

/// Undelivered rows by site.
#[derive(Default)]
pub(crate) struct Outbox {
    sites: BTreeMap<String, Queue>,
    /// The way to the centre, whichever batch goes.
    road: Backoff,
    /// The site tried last: the next one's turn comes after it.
    last: String,
}

impl Outbox {
    pub(crate) fn new(rows: Vec<Waiting>) -> Self {
        let mut outbox = Self::default();
        rows.into_iter().for_each(|row| outbox.push(row));
        outbox
    }

    pub(crate) fn push(&mut self, row: Waiting) {
        let queue = self.sites.entry(row.site.clone()).or_default();
        queue.bytes += row.bytes;
        queue.rows.push_back(row);
    }

    pub(crate) fn len(&self) -> usize {
        self.sites.values().map(Queue::len).sum()
    }

    /// Rows and bytes that wait for a site.
    pub(crate) fn of(&self, site: &str) -> (usize, usize) {
        self.sites.get(site).map_or((0, 0), |queue| (queue.len(), queue.bytes))
    }

    /// A row of the next site that has one whose time has come.
    pub(crate) fn next(&self, now_ms: u64) -> Option<&Waiting> {
        if !self.road.ready(now_ms) {
            return None;
        }
        let after = self.sites.range::<str, _>((Bound::Excluded(self.last.as_str()), Bound::Unbounded));
        let mut round =
            after.chain(self.sites.range::<str, _>((Bound::Unbounded, Bound::Included(self.last.as_str()))));
        round.find_map(|(_, queue)| queue.next(now_ms))
    }

    /// A row that [`Outbox::next`] gave, and those behind it that are delivered with it: of the same site, up to so many
    /// bytes together.
    pub(crate) fn together(&self, first: &Waiting, most: usize) -> Vec<Waiting> {
        let mut rows = vec![first.clone()];
        let queue = self.sites.get(&first.site).filter(|queue| queue.rows.front() == Some(first));
        let mut bytes = first.bytes;
        for row in queue.into_iter().flat_map(|queue| queue.rows.iter().skip(1)) {
            bytes += row.bytes;
            if bytes > most {
                break;
            }
            rows.push(row.clone());
        }
        rows
    }

    /// Takes the outcome of delivering a row. Anything but the row that was given last changes nothing.
    pub(crate) fn after(&mut self, tried: &Waiting, outcome: Delivered, now_ms: u64, random: u64) {
        tried.site.clone_into(&mut self.last);
        if let Delivered::NotNow(asked) = outcome {
            self.road.failed(asked, now_ms, random);
            return;
        }
        self.road = Backoff::default();
        let Some(queue) = self.sites.get_mut(&tried.site) else { return };
        let Some((row, mut backoff)) = queue.take(tried) else { return };
        if outcome == Delivered::Yes {
            queue.bytes -= row.bytes;
            if queue.len() == 0 {
                self.sites.remove(&tried.site);
            }
        } else {
            backoff.failed_within(ASIDE_MS, None, now_ms, random);
            queue.aside.insert((backoff.not_before_ms, row.epoch, row.seq), (row, backoff));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_cap_and_obey_what_is_asked() {
        let mut backoff = Backoff::default();
        assert!(backoff.ready(0));
        let mut longest = 0;
        for _ in 0..40 {
            backoff.failed(None, 1_000, u64::MAX - 1);
            longest = longest.max(backoff.not_before_ms - 1_000);
        }
        assert!((1..=CAP_MS).contains(&longest));
        backoff.failed(Some(90_000), 0, 0);
        assert!(!backoff.ready(89_999) && backoff.ready(90_000));
        backoff.failed(None, u64::MAX, u64::MAX);
    }

    #[test]
    fn sites_take_turns_and_what_is_refused_keeps_nobody_waiting() {
        let row = |site: &str, seq| Waiting { site: site.into(), epoch: 1, seq, bytes: 10 };
        let rows = ["a", "b", "c"].iter().flat_map(|site| [row(site, 0), row(site, 1)]).collect();
        let mut outbox = Outbox::new(rows);
        let mut order = Vec::new();
        while let Some(row) = outbox.next(0).cloned() {
            let outcome = if (row.site.as_str(), row.seq) == ("b", 0) { Delivered::Conflict } else { Delivered::Yes };
            outbox.after(&row, outcome, 0, 400);
            order.push((row.site, row.seq));
        }
        let want = [("a", 0), ("b", 0), ("c", 0), ("a", 1), ("b", 1), ("c", 1)].map(|(s, n)| (s.to_owned(), n));
        assert_eq!(order, want, "not even the same site's next one waits");
        assert_eq!((outbox.len(), outbox.of("b"), outbox.of("a")), (1, (1, 10), (0, 0)));
        assert!(outbox.next(399).is_none());
        let again = outbox.next(400).unwrap().clone();
        outbox.after(&again, Delivered::NotNow(None), 400, 300);
        outbox.push(row("d", 0));
        assert!(outbox.next(699).is_none(), "nobody answers, so nobody tries");
        assert!(outbox.next(700).is_some());
        outbox.after(&row("z", 9), Delivered::Yes, 700, 0);
        outbox.after(&again, Delivered::Refused, 700, u64::MAX - 1);
        assert_eq!(outbox.next(700).unwrap().site, "d");
        assert_eq!(outbox.len(), 2);
    }
}
