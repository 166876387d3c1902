//! Requests that differ only where they must: in their contributions' ids and windows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};
use gloaming_policy::Policy;
use gloaming_signal::{Contribution, Submission, cbor};

use crate::stand::ORIGIN;

/// What a beacon should weigh.
const BYTES: usize = 512;

/// A submission of `contributions` to the window that is open now: each to the next metric, with an id and cell of its own.
pub(crate) fn submission(
    policy: &Policy,
    contributions: usize,
    id: impl Fn(u64) -> [u8; 16],
    cell: impl Fn(u64, u32) -> u32,
) -> Submission {
    let (mut metrics, now_ms) = (policy.metrics.iter().cycle(), now_ms());
    let contributions = (0..contributions as u64)
        .filter_map(|place| {
            let metric = metrics.next()?;
            let (id, cell) = (id(place), cell(place, metric.cells()));
            Some(Contribution { id, metric: metric.id, window: now_ms / metric.span_ms, cell, value: 1 })
        })
        .collect();
    Submission {
        site: policy.site.clone(),
        policy_version: policy.version,
        policy_hash: policy.hash(),
        check: false,
        contributions,
    }
}

/// An id that is all in two numbers.
pub(crate) fn id(number: u64, place: u64) -> [u8; 16] {
    let mut id = [0x5a; 16];
    id[..8].copy_from_slice(&(number * 64 + place).to_le_bytes());
    id
}

/// Beacons for several sites in turn, each with ids that never came before.
pub(crate) struct Beacons {
    policies: Vec<Arc<Policy>>,
    contributions: usize,
    bytes: usize,
    number: AtomicU64,
}

fn body(policy: &Policy, contributions: usize, number: u64) -> Vec<u8> {
    let cell = |place, cells: u32| u32::try_from((number + place) % u64::from(cells)).unwrap_or(0);
    cbor::to_vec(&submission(policy, contributions, |place| id(number, place), cell))
}

impl Beacons {
    /// With so many contributions each; without a number, with as many as fit.
    pub(crate) fn new(policies: Vec<Arc<Policy>>, contributions: Option<usize>) -> Result<Self> {
        let policy = policies.first().context("no policy")?;
        let fit = || (1..64).take_while(|count| body(policy, *count, 0).len() <= BYTES).last().unwrap_or(1);
        let contributions = contributions.unwrap_or_else(fit);
        let bytes = body(policy, contributions, 1 << 40).len();
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
        request(&policy.site, &body(policy, self.contributions, number))
    }
}

/// A post of a body, as browsers send it.
pub(crate) fn request(site: &str, body: &[u8]) -> Vec<u8> {
    let mut request = format!(
        "POST /g/v1/contributions HTTP/1.1\r\nhost: {site}\r\norigin: {ORIGIN}\r\ncontent-type: application/cbor\r\n\
         user-agent: Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/150.0\r\ncontent-length: {}\r\n\r\n",
        body.len(),
    )
    .into_bytes();
    request.extend_from_slice(body);
    request
}

fn now_ms() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}
