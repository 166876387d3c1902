//! `configure`, `fold` and `release` as plain functions over bytes.

use std::collections::BTreeMap;

use gloaming_policy::{Metric, Policy};
use gloaming_privacy::{noised, sample};
use gloaming_signal::batch::ExactCells;
use gloaming_signal::{
    CellKey, Contribution, Fold, FoldItem, ItemVerdict, Reason, Release, ReleaseState, Submission, Verdict, cbor, hash,
    limits,
};

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

    /// Judges every contribution of a batch at edge time `now_ms` and adds up those that count.
    ///
    /// # Errors
    /// When the batch itself cannot be read; a bad submission within it is a verdict.
    pub fn fold(&self, policy_hash: &[u8], now_ms: u64, batch: &[u8]) -> Result<Vec<u8>, Fault> {
        let policy = self.policy(policy_hash)?;
        if batch.len() > limits::FOLD_BYTES {
            return Err(Fault::OverLimit);
        }
        let fold: Fold = cbor::from_either_encoding(batch).map_err(|_| Fault::Malformed("not a fold"))?;
        if fold.items.len() > limits::FOLD_ITEMS {
            return Err(Fault::OverLimit);
        }
        let mut cells: BTreeMap<CellKey, u64> = BTreeMap::new();
        let items = fold.items.iter().map(|item| judge(policy, policy_hash, now_ms, item, &mut cells)).collect();
        Ok(cbor::to_vec(&Verdict { items, delta: cells.into_iter().collect() }))
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

fn judge(
    policy: &Policy,
    policy_hash: &[u8],
    now_ms: u64,
    item: &FoldItem,
    cells: &mut BTreeMap<CellKey, u64>,
) -> ItemVerdict {
    let whole = |whole| ItemVerdict { whole, each: Vec::new() };
    if item.submission.0.len() > limits::SUBMISSION_BYTES {
        return whole(Reason::TooLarge);
    }
    let Ok(submission) = cbor::from_slice::<Submission>(&item.submission.0) else { return whole(Reason::Malformed) };
    if submission.site != policy.site {
        return whole(Reason::UnknownSite);
    }
    if submission.policy_hash != policy_hash || submission.policy_version != policy.version {
        return whole(Reason::UnknownPolicy);
    }
    let each = submission
        .contributions
        .iter()
        .enumerate()
        .map(|(i, contribution)| {
            if item.skip & 1 << i != 0 {
                return Reason::Duplicate;
            }
            match admit(policy, now_ms, contribution) {
                Err(reason) => reason,
                Ok(_) if submission.check => Reason::Checked,
                Ok(metric) => {
                    add(metric, contribution, cells);
                    Reason::Accepted
                }
            }
        })
        .collect();
    ItemVerdict { whole: Reason::Accepted, each }
}

fn admit<'p>(policy: &'p Policy, now_ms: u64, contribution: &Contribution) -> Result<&'p Metric, Reason> {
    let metric = policy.metric(contribution.metric).ok_or(Reason::UnknownMetric)?;
    let current = now_ms / metric.span_ms;
    if contribution.window > current {
        return Err(Reason::FutureWindow);
    }
    let end = (contribution.window + 1).saturating_mul(metric.span_ms);
    if now_ms >= end.saturating_add(metric.grace_ms()) {
        return Err(Reason::ClosedWindow);
    }
    metric.admits(contribution.cell, contribution.value)?;
    Ok(metric)
}

/// A sum counts its report in cell 0 and its value in cell 1; all else is one in one cell.
fn add(metric: &Metric, contribution: &Contribution, cells: &mut BTreeMap<CellKey, u64>) {
    let key = |cell| CellKey { metric: metric.id, window: contribution.window, cell };
    if metric.sum_max().is_some() {
        *cells.entry(key(0)).or_default() += 1;
    }
    *cells.entry(key(contribution.cell)).or_default() += u64::from(contribution.value);
}
