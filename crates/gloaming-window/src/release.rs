//! Closing windows: what is due, and the one commit that turns cells into a batch.

use gloaming_policy::author::batch_signature;
use gloaming_policy::{Metric, grace_ms};
use gloaming_privacy::DAY_MS;
use gloaming_signal::batch::ExactCells;
use gloaming_signal::{Release, ReleaseState, SealedBatch, cbor};

use crate::delivery::Delivered;
use crate::edge::{Edge, EdgeError, bounds};
use crate::guest::Guest;
use crate::storage::{Cursor, OutboxRow, ReleaseCommit, Storage, WindowName};
use crate::vault::Entropy;

/// When the last contribution of a window is taken, ms.
pub(crate) fn closes_at(span_ms: u64, window: u64) -> u64 {
    (window + 1).saturating_mul(span_ms).saturating_add(grace_ms(span_ms))
}

impl<S: Storage> Edge<S> {
    /// The next window that is closed and not yet released, oldest policy first.
    fn due(&mut self, now_ms: u64) -> Option<(Cursor, u64)> {
        let cursors: Vec<(Cursor, u64)> = self.cursors.iter().map(|(c, next)| (c.clone(), *next)).collect();
        for (cursor, mut next) in cursors {
            if next > self.last_window(&cursor) {
                continue;
            }
            let current = now_ms / cursor.span_ms;
            if current.saturating_sub(next) > bounds::CATCH_UP {
                let skipped = current - bounds::CATCH_UP - next;
                self.tally.skipped_windows += skipped;
                next += skipped;
                self.cursors.insert(cursor.clone(), next);
            }
            if now_ms >= closes_at(cursor.span_ms, next) {
                return Some((cursor, next));
            }
        }
        None
    }

    /// Releases one due window. Returns whether there was one; call again until there is none.
    ///
    /// # Errors
    /// When the guest or the store failed; nothing has changed then, and the next call tries again with
    /// a fresh seed, which is safe because nothing has left.
    pub fn release_due(&mut self, now_ms: u64, guest: &mut dyn Guest, entropy: Entropy<'_>) -> Result<bool, EdgeError> {
        let now_ms = self.time(now_ms);
        let Some((cursor, window)) = self.due(now_ms) else { return Ok(false) };
        if self.outbox.len() >= bounds::OUTBOX {
            return Err(EdgeError::Full("undelivered batches"));
        }
        let name = WindowName { site: cursor.site, version: cursor.version, span_ms: cursor.span_ms, window };
        let commit = self.seal(name, guest, entropy)?;
        self.storage.release(&commit)?;
        let ReleaseCommit { name, delivery, ledger, next_window } = commit;
        self.open.remove(&name);
        self.next_seq.insert(name.site.clone(), delivery.seq + 1);
        self.ledgers.insert(name.site.clone(), ledger);
        let WindowName { site, version, span_ms, .. } = name;
        self.cursors.insert(Cursor { site, version, span_ms }, next_window);
        self.outbox.push_back(delivery);
        self.tally.windows += 1;
        Ok(true)
    }

    fn seal(
        &mut self,
        name: WindowName,
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
        let (first, last) = days(&name);
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
        let releases = arrange(&metrics, &paid, released)?;
        // Windows of a week, and their grace, lie behind: earlier days cannot be charged any more.
        ledger.forget_before(first.saturating_sub(16));
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
        Ok(ReleaseCommit { next_window: name.window + 1, name, delivery, ledger })
    }

    /// The oldest undelivered row, when it is time to try.
    #[must_use]
    pub fn next_delivery(&self, now_ms: u64) -> Option<&OutboxRow> {
        self.outbox.front().filter(|_| self.backoff.ready(now_ms))
    }

    /// Takes the outcome of delivering the row that [`Edge::next_delivery`] gave.
    ///
    /// # Errors
    /// When the store failed; the row is then delivered again, which the centre ignores.
    pub fn delivered(&mut self, outcome: Delivered, now_ms: u64, random: u64) -> Result<(), EdgeError> {
        self.backoff.after(outcome, now_ms, random);
        if outcome == Delivered::Yes
            && let Some(row) = self.outbox.front()
        {
            self.storage.acknowledged(&row.site, row.epoch, row.seq)?;
            self.outbox.pop_front();
        }
        Ok(())
    }
}

/// The days a window touches.
fn days(name: &WindowName) -> (u64, u64) {
    let start = name.window.saturating_mul(name.span_ms);
    (start / DAY_MS, (start + name.span_ms - 1) / DAY_MS)
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
