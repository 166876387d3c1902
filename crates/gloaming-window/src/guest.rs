//! The folding component as the edge sees it: called, isolated, and not believed.

use std::collections::HashMap;

use gloaming_policy::Policy;
use gloaming_signal::{Fold, FoldItem, ItemVerdict, Reason, Submission, Verdict, cbor, limits};

use crate::edge::EdgeError;

/// A failed call of the guest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuestError {
    /// It trapped, ran too long or grew too large; the host has replaced the instance.
    #[error("the edge component trapped: {0}")]
    Trap(String),
    /// It refused the input as a whole.
    #[error("the edge component refused: {0}")]
    Fault(String),
}

/// The folding component: in an edge the wasm one, in a test the same functions natively.
pub trait Guest {
    /// Makes a policy known; must survive a replaced instance.
    ///
    /// # Errors
    /// When the component refuses it.
    fn configure(&mut self, policy: &[u8]) -> Result<[u8; 32], GuestError>;
    /// Folds a batch.
    ///
    /// # Errors
    /// When the call failed as a whole.
    fn fold(&mut self, policy_hash: &[u8; 32], now_ms: u64, batch: &[u8]) -> Result<Vec<u8>, GuestError>;
    /// Releases a window.
    ///
    /// # Errors
    /// When the call failed.
    fn release(
        &mut self,
        policy_hash: &[u8; 32],
        seed: &[u8; 32],
        span_ms: u64,
        window: u64,
        cells: &[u8],
    ) -> Result<Vec<u8>, GuestError>;
}

/// Folds a batch; when that fails as a whole, each item by itself, so that only the culprit pays.
pub(crate) fn fold_all(
    guest: &mut dyn Guest,
    hash: &[u8; 32],
    now_ms: u64,
    items: Vec<FoldItem>,
    failures: &mut u64,
) -> Result<Verdict, EdgeError> {
    let mut all = Verdict::default();
    for group in items.chunks(limits::FOLD_ITEMS) {
        match fold_once(guest, hash, now_ms, group) {
            Ok(verdict) => merge(&mut all, verdict),
            Err(_) => {
                *failures += 1;
                for item in group {
                    match fold_once(guest, hash, now_ms, std::slice::from_ref(item)) {
                        Ok(verdict) => merge(&mut all, verdict),
                        Err(_) => {
                            *failures += 1;
                            all.items.push(ItemVerdict { whole: Reason::Fault, each: Vec::new() });
                        }
                    }
                }
            }
        }
    }
    Ok(all)
}

fn merge(all: &mut Verdict, verdict: Verdict) {
    all.items.extend(verdict.items);
    all.delta.extend(verdict.delta);
}

fn fold_once(guest: &mut dyn Guest, hash: &[u8; 32], now_ms: u64, items: &[FoldItem]) -> Result<Verdict, EdgeError> {
    let batch = cbor::to_vec(&Fold { items: items.to_vec() });
    let out = guest.fold(hash, now_ms, &batch)?;
    let verdict: Verdict = cbor::from_slice(&out).map_err(|_| EdgeError::Untrue("no verdict"))?;
    if verdict.items.len() != items.len() {
        return Err(EdgeError::Untrue("verdicts on other items"));
    }
    Ok(verdict)
}

/// A guest is not believed: what it adds must be what its own verdicts allow, in declared cells.
pub(crate) fn check_delta(
    policy: &Policy,
    members: &[(usize, Submission)],
    verdict: &Verdict,
) -> Result<(), EdgeError> {
    let mut allowed: HashMap<(u32, u64), u64> = HashMap::new();
    for ((_, submission), item) in members.iter().zip(&verdict.items) {
        if item.whole == Reason::Accepted && item.each.len() != submission.contributions.len() {
            return Err(EdgeError::Untrue("a verdict of another length"));
        }
        for (contribution, reason) in submission.contributions.iter().zip(&item.each) {
            if *reason == Reason::Accepted {
                if submission.check {
                    return Err(EdgeError::Untrue("a check that counts"));
                }
                let metric = policy.metric(contribution.metric).ok_or(EdgeError::Untrue("an unknown metric"))?;
                let most = metric.sum_max().map_or(1, |max| u64::from(max) + 1);
                *allowed.entry((contribution.metric, contribution.window)).or_default() += most;
            }
        }
    }
    for (key, value) in &verdict.delta {
        let declared = policy.metric(key.metric).is_some_and(|metric| key.cell < metric.cells());
        let left = allowed.get_mut(&(key.metric, key.window)).filter(|left| declared && **left >= *value);
        match left {
            Some(left) => *left -= value,
            None => return Err(EdgeError::Untrue("cells that no accepted contribution explains")),
        }
    }
    Ok(())
}
