//! The folding component as the edge sees it: called, isolated, and not believed.

use std::collections::BTreeMap;

use gloaming_policy::Policy;
use gloaming_signal::{CellKey, Fold, FoldItem, ItemVerdict, Reason, Verdict, cbor, limits};

use crate::error::EdgeError;
use crate::ingest::Judged;

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
    /// Forgets all policies but these.
    fn retain(&mut self, hashes: &[[u8; 32]]);
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
    let mut items = items.into_iter().peekable();
    while items.peek().is_some() {
        let fold = Fold { items: items.by_ref().take(limits::FOLD_ITEMS).collect() };
        match fold_once(guest, hash, now_ms, &fold) {
            Ok(verdict) => merge(&mut all, verdict),
            Err(_) => {
                *failures += 1;
                for item in fold.items {
                    match fold_once(guest, hash, now_ms, &Fold { items: vec![item] }) {
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

fn fold_once(guest: &mut dyn Guest, hash: &[u8; 32], now_ms: u64, fold: &Fold) -> Result<Verdict, EdgeError> {
    let out = guest.fold(hash, now_ms, &cbor::to_vec(fold))?;
    let verdict: Verdict = cbor::from_either_encoding(&out).map_err(|_| EdgeError::Untrue("no verdict"))?;
    if verdict.items.len() != fold.items.len() {
        return Err(EdgeError::Untrue("verdicts on other items"));
    }
    Ok(verdict)
}

/// A guest is not believed: what it accepts must be acceptable, and what it adds must be exactly that.
/// Only what it alone may say, that a window is closed or not yet begun, is taken from it.
pub(crate) fn check_verdict(policy: &Policy, judged: &[Judged], verdict: &Verdict) -> Result<(), EdgeError> {
    let mut want: BTreeMap<CellKey, u64> = BTreeMap::new();
    for (Judged { submission, marks, .. }, item) in judged.iter().zip(&verdict.items) {
        if item.whole == Reason::Accepted && item.each.len() != submission.contributions.len() {
            return Err(EdgeError::Untrue("a verdict of another length"));
        }
        for (bit, (contribution, reason)) in submission.contributions.iter().zip(&item.each).enumerate() {
            if *reason != Reason::Accepted {
                continue;
            }
            if item.whole != Reason::Accepted || submission.check || marks.skip() >> bit & 1 == 1 {
                return Err(EdgeError::Untrue("a contribution accepted that may not count"));
            }
            let metric = policy.metric(contribution.metric).ok_or(EdgeError::Untrue("an unknown metric"))?;
            if metric.admits(contribution.cell, contribution.value).is_err() {
                return Err(EdgeError::Untrue("a contribution accepted beyond its bounds"));
            }
            let key = |cell| CellKey { metric: metric.id, window: contribution.window, cell };
            if metric.sum_max().is_some() {
                *want.entry(key(0)).or_default() += 1;
            }
            *want.entry(key(contribution.cell)).or_default() += u64::from(contribution.value);
        }
    }
    let mut given: BTreeMap<CellKey, u64> = BTreeMap::new();
    for (key, value) in &verdict.delta {
        let cell = given.entry(*key).or_default();
        *cell = cell.saturating_add(*value);
    }
    if given == want { Ok(()) } else { Err(EdgeError::Untrue("cells that its verdicts do not explain")) }
}
