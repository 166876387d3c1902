//! The folding component as the edge sees it: called, isolated, and not believed.

use gloaming_signal::fold::{ROW, Row};
use gloaming_signal::{Reason, Verdict, limits};

use crate::error::EdgeError;

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
    /// Folds rows.
    ///
    /// # Errors
    /// When the call failed as a whole.
    fn fold(&mut self, policy_hash: &[u8; 32], now_ms: u64, rows: &[u8]) -> Result<Vec<u8>, GuestError>;
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

/// Rows that the guest is to judge, those of one submission after those of another.
pub(crate) struct Rows {
    bytes: Vec<u8>,
    /// Where each submission's rows end, in bytes.
    ends: Vec<usize>,
}

impl Rows {
    /// With room for so many rows of so many submissions.
    pub(crate) fn with_capacity(rows: usize, submissions: usize) -> Self {
        Self { bytes: Vec::with_capacity(rows * ROW), ends: Vec::with_capacity(submissions) }
    }

    /// Adds one to the submission that is being added.
    pub(crate) fn push(&mut self, row: &Row) {
        row.write(&mut self.bytes);
    }

    /// The submission has no more.
    pub(crate) fn end(&mut self) {
        self.ends.push(self.bytes.len());
    }

    /// Has all judged. When a call fails as a whole, each submission is judged by itself, so that only the culprit pays:
    /// all its rows are [`Reason::Fault`].
    pub(crate) fn fold(
        &self,
        guest: &mut dyn Guest,
        hash: &[u8; 32],
        now_ms: u64,
        failures: &mut u64,
    ) -> Result<Verdict, EdgeError> {
        let mut all = Verdict::default();
        let (mut begin, mut rest) = (0, &self.ends[..]);
        while !rest.is_empty() {
            let most = begin + limits::FOLD_ROWS * ROW;
            let (some, more) = rest.split_at(rest.iter().take_while(|end| **end <= most).count().max(1));
            let end = some.last().copied().unwrap_or(begin);
            match fold_once(guest, hash, now_ms, &self.bytes[begin..end]) {
                Ok(verdict) => merge(&mut all, verdict),
                Err(_) => {
                    *failures += 1;
                    let mut begin = begin;
                    for end in some {
                        let rows = &self.bytes[begin..*end];
                        merge(
                            &mut all,
                            fold_once(guest, hash, now_ms, rows).unwrap_or_else(|_| {
                                *failures += 1;
                                Verdict { each: vec![Reason::Fault; rows.len() / ROW], sums: Vec::new() }
                            }),
                        );
                        begin = *end;
                    }
                }
            }
            (begin, rest) = (end, more);
        }
        Ok(all)
    }
}

fn merge(all: &mut Verdict, verdict: Verdict) {
    if all.each.is_empty() {
        *all = verdict;
    } else {
        all.each.extend(verdict.each);
        all.sums.extend(verdict.sums);
    }
}

fn fold_once(guest: &mut dyn Guest, hash: &[u8; 32], now_ms: u64, rows: &[u8]) -> Result<Verdict, EdgeError> {
    // Nothing but duplicates: there is nothing to ask.
    if rows.is_empty() {
        return Ok(Verdict::default());
    }
    let out = guest.fold(hash, now_ms, rows)?;
    let verdict = Verdict::from_bytes(&out, rows.len() / ROW).ok_or(EdgeError::Untrue("no verdict"))?;
    // What fails as a whole is the host's to say: whoever sent it is not asked about again.
    if verdict.each.contains(&Reason::Fault) {
        return Err(EdgeError::Untrue("a failure that was none"));
    }
    Ok(verdict)
}
