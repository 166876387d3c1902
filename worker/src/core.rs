//! `configure`, `fold` and `release` as plain functions over bytes.

use std::collections::BTreeMap;

use gloaming_policy::{Metric, Policy};
use gloaming_privacy::{noised, sample};
use gloaming_signal::batch::ExactCells;
use gloaming_signal::fold::{ROW, Row, add_up};
use gloaming_signal::{CellKey, Reason, Release, ReleaseState, Verdict, cbor, hash, limits};

/// Policies kept in one instance: two versions for each of 512 sites.
const POLICIES: usize = 1_024;

/// Why a call failed as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The input is not what the function takes.
    Malformed(&'static str),
    /// More than an instance takes.
    OverLimit,
    /// The policy was not configured here.
    UnknownPolicy,
}

/// Configured policies by hash. A cache: losing it loses nothing.
#[derive(Default)]
pub struct Worker {
    policies: BTreeMap<[u8; 32], Policy>,
}

impl Worker {
    /// Takes a compiled policy; returns its hash.
    ///
    /// # Errors
    /// When the bytes are no sound policy, or the cache is full.
    pub fn configure(&mut self, policy: &[u8]) -> Result<[u8; 32], Fault> {
        let read = Policy::from_bytes(policy).map_err(|_| Fault::Malformed("not a compiled policy"))?;
        let hash = hash::sha256(policy);
        if self.policies.len() >= POLICIES && !self.policies.contains_key(&hash) {
            return Err(Fault::OverLimit);
        }
        self.policies.insert(hash, read);
        Ok(hash)
    }

    fn policy(&self, hash: &[u8]) -> Result<&Policy, Fault> {
        <&[u8; 32]>::try_from(hash).ok().and_then(|hash| self.policies.get(hash)).ok_or(Fault::UnknownPolicy)
    }

    /// Judges every row of a fold at edge time `now_ms` and adds up those that count.
    ///
    /// # Errors
    /// When the bytes are no rows; a bad row among them is a verdict.
    pub fn fold(&self, policy_hash: &[u8], now_ms: u64, fold: &[u8]) -> Result<Vec<u8>, Fault> {
        let policy = self.policy(policy_hash)?;
        if fold.len() > limits::FOLD_ROWS * ROW {
            return Err(Fault::OverLimit);
        }
        let rows = Row::all(fold).ok_or(Fault::Malformed("not rows"))?;
        let mut sums = Vec::with_capacity(rows.len());
        let each = rows.map(|row| judge(policy, now_ms, &row, &mut sums)).collect();
        add_up(&mut sums);
        Ok(Verdict { each, sums }.to_bytes())
    }

    /// Noises and thresholds the exact cells of one window.
    ///
    /// Every metric given is answered, in order, with all its declared cells or with none.
    ///
    /// # Errors
    /// When the input cannot be read, names an unknown metric, or has not the declared number of cells.
    pub fn release(
        &self,
        policy_hash: &[u8],
        seed: &[u8],
        span_ms: u64,
        window: u64,
        cells: &[u8],
    ) -> Result<Vec<u8>, Fault> {
        let policy = self.policy(policy_hash)?;
        let seed: &[u8; 32] = seed.try_into().map_err(|_| Fault::Malformed("a seed has 32 bytes"))?;
        let exact: Vec<ExactCells> = cbor::from_slice(cells).map_err(|_| Fault::Malformed("not exact cells"))?;
        let mut releases = Vec::with_capacity(exact.len());
        for ExactCells { metric, values } in &exact {
            let metric = policy.metric(*metric).ok_or(Fault::Malformed("a metric the policy does not declare"))?;
            if values.len() != metric.cells() as usize || metric.span_ms != span_ms {
                return Err(Fault::Malformed("not the declared cells or window"));
            }
            releases.push(release(metric, seed, window, values));
        }
        Ok(cbor::to_vec(&releases))
    }
}

fn release(metric: &Metric, seed: &[u8; 32], window: u64, exact: &[u64]) -> Release {
    let noise = sample(seed, metric.span_ms, window, metric.id, metric.mechanism, &metric.scales());
    let values = noised(exact, &noise);
    if metric.crowd(&values) >= i64::from(metric.k) {
        Release { metric: metric.id, state: ReleaseState::Released, values }
    } else {
        Release { metric: metric.id, state: ReleaseState::BelowK, values: Vec::new() }
    }
}

fn judge(policy: &Policy, now_ms: u64, row: &Row, sums: &mut Vec<(CellKey, u64)>) -> Reason {
    match admit(policy, now_ms, row) {
        Err(reason) => reason,
        Ok(_) if row.check => Reason::Checked,
        Ok(metric) => {
            // A sum counts its report in cell 0 and its value in cell 1; all else is one in one cell.
            let key = |cell| CellKey { metric: metric.id, window: row.window, cell };
            if metric.sum_max().is_some() {
                sums.push((key(0), 1));
            }
            sums.push((key(row.cell), row.value.into()));
            Reason::Accepted
        }
    }
}

fn admit<'p>(policy: &'p Policy, now_ms: u64, row: &Row) -> Result<&'p Metric, Reason> {
    let metric = policy.metric(row.metric).ok_or(Reason::UnknownMetric)?;
    // A product, for a division takes ten times as long.
    let begins = row.window.checked_mul(metric.span_ms).filter(|begins| *begins <= now_ms);
    let ends = begins.ok_or(Reason::FutureWindow)?.saturating_add(metric.span_ms);
    if now_ms >= ends.saturating_add(metric.grace_ms()) {
        return Err(Reason::ClosedWindow);
    }
    metric.admits(row.cell, row.value)?;
    Ok(metric)
}
