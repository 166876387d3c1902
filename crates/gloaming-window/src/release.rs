//! Closing windows: what is due, and the one commit that turns cells into a batch.

use std::ops::Range;

use gloaming_policy::author::batch_signature;
use gloaming_policy::{Metric, grace_ms};
use gloaming_privacy::{DAY_MS, noised, sample};
use gloaming_signal::batch::ExactCells;
use gloaming_signal::{Release, ReleaseState, SealedBatch, cbor};

use crate::delivery::Delivered;
use crate::edge::Edge;
use crate::error::EdgeError;
use crate::guest::Guest;
use crate::storage::{Cursor, OutboxRow, ReleaseCommit, Storage, WindowName};
use crate::vault::Entropy;

/// When the last contribution of a window is taken, ms.
fn closes_at(span_ms: u64, window: u64) -> u64 {
    window.saturating_add(1).saturating_mul(span_ms).saturating_add(grace_ms(span_ms))
}

impl<S: Storage> Edge<S> {
    /// Windows of a cursor that are skipped at this time. All of them lie within the time that the edge was away, by
    /// itself or by its clock: in any other somebody may have been counted, and whether anybody was must not show.
    pub(crate) fn skips(&self, cursor: &Cursor, next: u64, now_ms: u64) -> Range<u64> {
        let (from, to) = self.away_at(now_ms);
        let last = (now_ms / cursor.span_ms).min(self.last_window(cursor).saturating_add(1));
        let end =
            last.saturating_sub(self.bounds.catch_up).min(to.saturating_sub(grace_ms(cursor.span_ms)) / cursor.span_ms);
        next.max(from / cursor.span_ms + 1)..end
    }

    /// The window that closed first of those that can be released now.
    fn due(&self, now_ms: u64) -> Option<(&Cursor, u64)> {
        let ready = |cursor: &Cursor| self.failing.get(cursor).is_none_or(|backoff| backoff.ready(now_ms));
        let rows = self.cursors.iter().map(|(cursor, next)| (cursor, *next));
        let due = rows.filter(|(cursor, next)| {
            now_ms >= closes_at(cursor.span_ms, *next)
                && *next <= self.last_window(cursor)
                && self.policies.contains_key(&(cursor.site.clone(), cursor.version))
                && self.has_room(&cursor.site)
                && ready(cursor)
        });
        due.min_by_key(|(cursor, next)| closes_at(cursor.span_ms, *next))
    }

    /// Whether a site's batches can wait: which windows are released depends on this, the clock and the policy, and on
    /// nothing that was counted. How soon also depends on how much there is to do.
    fn has_room(&self, site: &str) -> bool {
        let (rows, bytes) = self.outbox.of(site);
        rows < self.bounds.outbox && bytes < self.bounds.outbox_bytes
    }

    /// Skips what an edge that was away too long would release for hours: nobody was counted in those windows.
    fn skip(&mut self, cursor: &Cursor, Range { start, end }: Range<u64>) -> Result<u64, EdgeError> {
        self.storage.skip(cursor, end)?;
        self.tally.skipped_windows += end - start;
        self.cursors.insert(cursor.clone(), end);
        self.close(|name| name.of(cursor) && name.window < end);
        Ok(end)
    }

    /// Releases one due window. Returns whether there was one; call again until there is none.
    ///
    /// # Errors
    /// When the guest failed: nothing has changed, other windows go on, and this one is tried again after a
    /// while with a fresh seed, which is safe because nothing has left. When the store failed: whether the
    /// release is durable is then unknown, and the edge must be opened anew from its store.
    pub fn release_due(&mut self, now_ms: u64, guest: &mut dyn Guest, entropy: Entropy<'_>) -> Result<bool, EdgeError> {
        let now_ms = self.time(now_ms);
        let Some((cursor, mut window)) = self.due(now_ms) else {
            while self.forget_one(guest)? {}
            return Ok(false);
        };
        let cursor = cursor.clone();
        let skips = self.skips(&cursor, window, now_ms);
        if skips.contains(&window) {
            window = self.skip(&cursor, skips)?;
        }
        let name = WindowName { site: cursor.site.clone(), version: cursor.version, span_ms: cursor.span_ms, window };
        let commit = match self.seal(name, now_ms, guest, entropy) {
            Ok(commit) => commit,
            Err(error) => {
                let mut random = [0; 8];
                entropy(&mut random);
                self.failing.entry(cursor).or_default().failed(None, now_ms, u64::from_le_bytes(random));
                return Err(error);
            }
        };
        self.storage.release(&commit)?;
        self.failing.remove(&cursor);
        let ReleaseCommit { name, delivery, ledger, next_window, .. } = commit;
        self.close(|open| *open == name);
        self.next_seq.insert(name.site.clone(), delivery.seq + 1);
        self.ledgers.insert(name.site, ledger);
        self.cursors.insert(cursor, next_window);
        self.outbox.push(delivery.waiting());
        self.tally.windows += 1;
        Ok(true)
    }

    fn seal(
        &self,
        name: WindowName,
        now_ms: u64,
        guest: &mut dyn Guest,
        entropy: Entropy<'_>,
    ) -> Result<ReleaseCommit, EdgeError> {
        let in_force = self
            .policies
            .get(&(name.site.clone(), name.version))
            .ok_or_else(|| EdgeError::Unreadable(format!("a window of {} without its policy", name.site)))?;
        let policy = &in_force.policy;
        let metrics: Vec<&Metric> = policy.metrics.iter().filter(|m| m.span_ms == name.span_ms).collect();
        let mut ledger = self.ledgers.get(&name.site).cloned().unwrap_or_default();
        let (first, last) = days(name.span_ms, name.window);
        // Debit first: what the ledger refuses is never noised, and what is noised is paid, shown or not.
        let paid: Vec<bool> =
            metrics.iter().map(|m| ledger.debit(first, last, policy.budget, m.charge()).is_ok()).collect();
        let open = self.open.get(&name);
        let exact: Vec<ExactCells> = metrics
            .iter()
            .zip(&paid)
            .filter(|(_, paid)| **paid)
            .map(|(metric, _)| ExactCells {
                metric: metric.id,
                values: (0..metric.cells())
                    .map(|cell| open.and_then(|o| o.cells.get(&(metric.id, cell))).copied().unwrap_or(0))
                    .collect(),
            })
            .collect();
        let mut seed = [0; 32];
        entropy(&mut seed);
        let out = guest.release(&in_force.hash, &seed, name.span_ms, name.window, &cbor::to_vec(&exact))?;
        let released: Vec<Release> = cbor::from_slice(&out).map_err(|_| EdgeError::Untrue("no releases"))?;
        for (release, exact) in released.iter().zip(&exact) {
            let metric = policy.metric(exact.metric).ok_or(EdgeError::Untrue("an unknown metric"))?;
            check_noise(metric, &seed, name.window, exact, release)?;
        }
        let releases = arrange(&metrics, &paid, released)?;
        // A policy that comes into force later may open a week that has begun: two weeks back, then.
        ledger.forget_before(self.oldest_unreleased(&name).min(first.saturating_sub(16)));
        let seq = self.next_seq.get(&name.site).copied().unwrap_or(0);
        let batch = SealedBatch {
            site: name.site.clone(),
            edge: self.name.clone(),
            epoch: self.epoch,
            seq,
            policy_version: name.version,
            policy_hash: in_force.hash,
            span_ms: name.span_ms,
            window: name.window,
            releases,
        };
        let bytes = batch_signature(&self.key, &cbor::to_vec(&batch));
        let delivery = OutboxRow { site: name.site.clone(), epoch: self.epoch, seq, bytes };
        Ok(ReleaseCommit { next_window: name.window + 1, name, delivery, ledger, now_ms })
    }

    /// The first day that a window of this site yet to be released touches: what it has cost so far must not
    /// be forgotten before.
    fn oldest_unreleased(&self, releasing: &WindowName) -> u64 {
        let waiting = self.cursors.iter().filter(|(cursor, next)| {
            cursor.site == releasing.site && !releasing.of(cursor) && **next <= self.last_window(cursor)
        });
        waiting.map(|(cursor, next)| days(cursor.span_ms, *next).0).min().unwrap_or(u64::MAX)
    }

    /// An undelivered row of the site whose turn it is, when it is time to try.
    ///
    /// # Errors
    /// When the store failed.
    pub fn next_delivery(&mut self, now_ms: u64) -> Result<Option<OutboxRow>, EdgeError> {
        let Some(row) = self.outbox.next(now_ms) else { return Ok(None) };
        let bytes = self.storage.delivery(row)?;
        Ok(Some(OutboxRow { site: row.site.clone(), epoch: row.epoch, seq: row.seq, bytes }))
    }

    /// Takes the outcome of delivering the row that [`Edge::next_delivery`] gave.
    ///
    /// # Errors
    /// When the store failed; the row is then delivered again, which the centre ignores.
    pub fn delivered(
        &mut self,
        row: &OutboxRow,
        outcome: Delivered,
        now_ms: u64,
        random: u64,
    ) -> Result<(), EdgeError> {
        if outcome == Delivered::Yes {
            self.storage.acknowledged(&row.waiting())?;
        }
        self.outbox.after(&row.waiting(), outcome, now_ms, random);
        Ok(())
    }
}

/// The days a window touches.
fn days(span_ms: u64, window: u64) -> (u64, u64) {
    let start = window.saturating_mul(span_ms);
    (start / DAY_MS, start.saturating_add(span_ms - 1) / DAY_MS)
}

/// The host drew the seed, so it draws the noise as well and compares: a guest that noised less, or looked
/// at the cells to decide what to show, releases nothing.
fn check_noise(
    metric: &Metric,
    seed: &[u8; 32],
    window: u64,
    exact: &ExactCells,
    release: &Release,
) -> Result<(), EdgeError> {
    let noise = sample(seed, metric.span_ms, window, metric.id, metric.mechanism, &metric.scales());
    let values = noised(&exact.values, &noise);
    let fits = match release.state {
        ReleaseState::Released => metric.crowd(&values) >= i64::from(metric.k) && values == release.values,
        ReleaseState::BelowK => metric.crowd(&values) < i64::from(metric.k),
        ReleaseState::OverBudget => false,
    };
    if fits && release.metric == metric.id { Ok(()) } else { Err(EdgeError::Untrue("noise that is not the seed's")) }
}

/// Puts releases in the policy's order, with those the budget refused, and holds them to their form.
fn arrange(metrics: &[&Metric], paid: &[bool], released: Vec<Release>) -> Result<Vec<Release>, EdgeError> {
    let mut released = released.into_iter();
    let mut all = Vec::with_capacity(metrics.len());
    for (metric, paid) in metrics.iter().zip(paid) {
        if !paid {
            all.push(Release { metric: metric.id, state: ReleaseState::OverBudget, values: Vec::new() });
            continue;
        }
        let release = released.next().ok_or(EdgeError::Untrue("too few releases"))?;
        let cells = if release.state == ReleaseState::Released { metric.cells() as usize } else { 0 };
        if release.metric != metric.id || release.values.len() != cells {
            return Err(EdgeError::Untrue("a release of another form"));
        }
        all.push(release);
    }
    if released.next().is_some() {
        return Err(EdgeError::Untrue("too many releases"));
    }
    Ok(all)
}
