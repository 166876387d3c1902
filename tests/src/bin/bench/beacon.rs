//! Requests that differ only where they must: in their contributions' ids and windows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};
use gloaming_policy::Policy;
use gloaming_signal::{Contribution, Submission, cbor};

use crate::stand::ORIGIN;

/// What a beacon should weigh.
const BYTES: usize = 512;

/// Beacons for several sites in turn, each with ids that never came before.
pub(crate) struct Beacons {
    policies: Vec<Arc<Policy>>,
    contributions: usize,
    bytes: usize,
    number: AtomicU64,
}

fn body(policy: &Policy, contributions: usize, number: u64, now_ms: u64) -> Vec<u8> {
    let mut metrics = policy.metrics.iter().cycle();
    let contributions = (0..contributions as u64)
        .filter_map(|place| {
            let metric = metrics.next()?;
            let mut id = [0x5a; 16];
            id[..8].copy_from_slice(&(number * 64 + place).to_le_bytes());
            let cell = u32::try_from((number + place) % u64::from(metric.cells())).unwrap_or(0);
            Some(Contribution { id, metric: metric.id, window: now_ms / metric.span_ms, cell, value: 1 })
        })
        .collect();
    cbor::to_vec(&Submission {
        site: policy.site.clone(),
        policy_version: policy.version,
        policy_hash: policy.hash(),
        check: false,
        contributions,
    })
}

impl Beacons {
    pub(crate) fn new(policies: Vec<Arc<Policy>>) -> Result<Self> {
        let policy = policies.first().context("no policy")?;
        let now_ms = now_ms();
        let contributions =
            (1..64).take_while(|count| body(policy, *count, 0, now_ms).len() <= BYTES).last().unwrap_or(1);
        let bytes = body(policy, contributions, 1 << 40, now_ms).len();
        Ok(Self { policies, contributions, bytes, number: AtomicU64::new(1) })
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn contributions(&self) -> usize {
        self.contributions
    }

    /// The next request, whole, as it goes over the wire.
    pub(crate) fn next(&self) -> Vec<u8> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let policy = &self.policies[usize::try_from(number).unwrap_or(0) % self.policies.len()];
        let body = body(policy, self.contributions, number, now_ms());
        let mut request = format!(
            "POST /g/v1/contributions HTTP/1.1\r\nhost: {site}\r\norigin: {ORIGIN}\r\ncontent-type: application/cbor\r\n\
             user-agent: Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/150.0\r\ncontent-length: {}\r\n\r\n",
            body.len(),
            site = policy.site
        )
        .into_bytes();
        request.extend(body);
        request
    }
}

fn now_ms() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}
