//! `configure`, `fold` and `release` as plain functions over bytes.

use std::cell::RefCell;
use std::collections::BTreeMap;

use gloaming_policy::count::{Counter, Layout};
use gloaming_policy::{Metric, Policy};
use gloaming_privacy::{noised, sample};
use gloaming_signal::batch::ExactCells;
use gloaming_signal::fold::{ROW, Row, write_sum};
use gloaming_signal::{Release, ReleaseState, cbor, hash, limits};

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

/// Configured policies by hash, and room to count in. A cache: losing it loses nothing.
#[derive(Default)]
pub struct Worker {
    policies: BTreeMap<[u8; 32], (Policy, Layout)>,
    counter: RefCell<Counter>,
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
        let layout = Layout::new(&read);
        self.policies.insert(hash, (read, layout));
        Ok(hash)
    }

    fn policy(&self, hash: &[u8]) -> Result<&(Policy, Layout), Fault> {
        <&[u8; 32]>::try_from(hash).ok().and_then(|hash| self.policies.get(hash)).ok_or(Fault::UnknownPolicy)
    }

    /// Judges every row of a fold at edge time `now_ms` and adds up those that count.
    ///
    /// # Errors
    /// When the bytes are no rows; a bad row among them is a verdict.
    pub fn fold(&self, policy_hash: &[u8], now_ms: u64, fold: &[u8]) -> Result<Vec<u8>, Fault> {
        let (_, layout) = self.policy(policy_hash)?;
        if fold.len() > limits::FOLD_ROWS * ROW {
            return Err(Fault::OverLimit);
        }
        let rows = Row::split(fold).ok_or(Fault::Malformed("not rows"))?;
        let mut counter = self.counter.borrow_mut();
        counter.begin(layout, now_ms);
        let mut last = 0;
        // With room for the sums of an ordinary policy.
        let mut verdict = Vec::with_capacity(rows.len() + 256 * ROW);
        let judge = |row: &[u8; ROW]| counter.judge(layout, &Row::read(row), &mut last).number();
        verdict.extend(rows.iter().map(judge));
        counter.finish(layout, |key, value| write_sum(&mut verdict, key, value));
        Ok(verdict)
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
        let (policy, _) = self.policy(policy_hash)?;
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
