//! What waits for the centre, and when to try again: full-jitter exponential backoff without a clock of its
//! own. Each site has its own queue: what one site's batch meets is not another site's affair.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use crate::storage::OutboxRow;

/// First delay's upper end, ms.
const BASE_MS: u64 = 500;
/// Longest delay, ms: an hour's outage is caught up within a minute of its end.
const CAP_MS: u64 = 60_000;

/// How a try to deliver ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// The centre has it (now or from an earlier try).
    Yes,
    /// Nobody answered, or the centre can take nothing now and may have asked to wait this long, ms: all
    /// batches wait.
    NotNow(Option<u64>),
    /// The centre does not take this batch. It is tried again, for the centre may lack a policy that comes
    /// later; other sites' batches go on.
    Refused,
    /// The centre says that other bytes bear this number. An alarm; the row stays and is not retried
    /// before `CAP_MS`.
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
        let ceiling = BASE_MS.saturating_mul(1 << self.failures.min(20)).min(CAP_MS);
        self.failures = self.failures.saturating_add(1);
        let wait = (random % (ceiling + 1)).max(asked.unwrap_or(0).min(10 * CAP_MS));
        self.not_before_ms = now_ms + wait;
    }
}

#[derive(Default)]
struct Queue {
    rows: VecDeque<OutboxRow>,
    backoff: Backoff,
}

/// Undelivered rows by site, in each site's order.
#[derive(Default)]
pub(crate) struct Outbox {
    sites: BTreeMap<String, Queue>,
    /// The way to the centre, whichever batch goes.
    road: Backoff,
    /// The site tried last: the next one's turn comes after it.
    last: String,
    bytes: usize,
}

impl Outbox {
    pub(crate) fn new(rows: Vec<OutboxRow>) -> Self {
        let mut outbox = Self::default();
        rows.into_iter().for_each(|row| outbox.push(row));
        outbox
    }

    pub(crate) fn push(&mut self, row: OutboxRow) {
        self.bytes += row.bytes.len();
        self.sites.entry(row.site.clone()).or_default().rows.push_back(row);
    }

    pub(crate) fn len(&self) -> usize {
        self.sites.values().map(|queue| queue.rows.len()).sum()
    }

    pub(crate) fn of(&self, site: &str) -> usize {
        self.sites.get(site).map_or(0, |queue| queue.rows.len())
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The oldest row of the next site whose time has come.
    pub(crate) fn next(&self, now_ms: u64) -> Option<&OutboxRow> {
        if !self.road.ready(now_ms) {
            return None;
        }
        let after = self.sites.range::<str, _>((Bound::Excluded(self.last.as_str()), Bound::Unbounded));
        let round = after.chain(self.sites.range::<str, _>((Bound::Unbounded, Bound::Included(self.last.as_str()))));
        round.filter(|(_, queue)| queue.backoff.ready(now_ms)).find_map(|(_, queue)| queue.rows.front())
    }

    /// Takes the outcome for a site's oldest row.
    pub(crate) fn after(&mut self, site: &str, outcome: Delivered, now_ms: u64, random: u64) {
        site.clone_into(&mut self.last);
        if let Delivered::NotNow(asked) = outcome {
            self.road.failed(asked, now_ms, random);
            return;
        }
        self.road = Backoff::default();
        let Some(queue) = self.sites.get_mut(site) else { return };
        match outcome {
            Delivered::Refused => queue.backoff.failed(None, now_ms, random),
            Delivered::Conflict => queue.backoff.not_before_ms = now_ms + CAP_MS,
            Delivered::Yes | Delivered::NotNow(_) => {
                queue.backoff = Backoff::default();
                self.bytes -= queue.rows.pop_front().map_or(0, |row| row.bytes.len());
                if queue.rows.is_empty() {
                    self.sites.remove(site);
                }
            }
        }
    }

    /// The oldest row of a site, if it bears this number.
    pub(crate) fn front(&self, site: &str, epoch: u64, seq: u64) -> Option<&OutboxRow> {
        self.sites.get(site)?.rows.front().filter(|row| (row.epoch, row.seq) == (epoch, seq))
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
    }

    #[test]
    fn sites_take_turns_and_one_that_is_refused_keeps_nobody_waiting() {
        let row = |site: &str, seq| OutboxRow { site: site.into(), epoch: 1, seq, bytes: vec![0; 10] };
        let rows = ["a", "b", "c"].iter().flat_map(|site| [row(site, 0), row(site, 1)]).collect();
        let mut outbox = Outbox::new(rows);
        let mut order = Vec::new();
        for _ in 0..5 {
            let row = outbox.next(0).unwrap().clone();
            let outcome = if row.site == "b" { Delivered::Conflict } else { Delivered::Yes };
            outbox.after(&row.site, outcome, 0, 0);
            order.push((row.site, row.seq));
        }
        let want = [("a", 0), ("b", 0), ("c", 0), ("a", 1), ("c", 1)].map(|(s, n)| (s.to_owned(), n));
        assert_eq!(order, want);
        assert!(outbox.next(CAP_MS - 1).is_none(), "what is left waits");
        assert_eq!((outbox.next(CAP_MS).unwrap().seq, outbox.len(), outbox.bytes()), (0, 2, 20));
        outbox.after("b", Delivered::NotNow(None), CAP_MS, 400);
        outbox.push(row("d", 0));
        assert!(outbox.next(CAP_MS + 399).is_none(), "nobody answers, so nobody tries");
        assert_eq!(outbox.next(CAP_MS + 400).unwrap().site, "d");
        assert!(outbox.front("b", 1, 1).is_none() && outbox.front("b", 1, 0).is_some());
    }
}
