//! An edge over memory, with the component's functions natively.
#![allow(clippy::unwrap_used, dead_code)]

use std::collections::BTreeMap;

use gloaming_policy::Policy;
use gloaming_policy::author::{Key, Signed, compile, template, verify_batch};
use gloaming_privacy::sample;
use gloaming_signal::batch::ExactCells;
use gloaming_signal::fold::ROW;
use gloaming_signal::{Contribution, Reason, Release, ReleaseState, SealedBatch, Submission, Verdict, cbor};
use gloaming_window::{
    Bounds, Delivered, Edge, EdgeError, Guest, GuestError, LoadPolicyError, MemoryStorage, Opening, Posted, WrappingKey,
};
use gloaming_worker::core::Worker;

pub(crate) const DAY: u64 = 86_400_000;
pub(crate) const START: u64 = 20_781 * DAY + 1_000;

/// What a component gone wrong does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// Nothing.
    #[default]
    No,
    /// Traps on folds of 13 contributions and more.
    TrapOnThirteen,
    /// Says of folds of 13 contributions and more that they failed.
    FailOnThirteen,
    /// Traps on every release of this window length, ms.
    TrapOnRelease(u64),
    /// Releases what it should not, or hides what it should release.
    Show,
    /// Adds one to a released value.
    Less,
    /// Accepts what cannot be counted.
    Accept,
    /// Says that all was counted before.
    Hide,
    /// Adds one more to a cell than its reasons say.
    Add,
    /// Counts in another cell than the contribution names.
    Move,
}

/// The component's functions, right or wrong.
#[derive(Default)]
pub(crate) struct Native {
    worker: Worker,
    pub(crate) wrong: Wrong,
    /// The policies that it was last told to keep.
    pub(crate) kept: Vec<[u8; 32]>,
}

impl Guest for Native {
    fn configure(&mut self, policy: &[u8]) -> Result<[u8; 32], GuestError> {
        self.worker.configure(policy).map_err(|f| GuestError::Fault(format!("{f:?}")))
    }
    fn retain(&mut self, hashes: &[[u8; 32]]) {
        self.kept = hashes.to_vec();
    }
    fn fold(&mut self, hash: &[u8; 32], now_ms: u64, rows: &[u8]) -> Result<Vec<u8>, GuestError> {
        let count = rows.len() / ROW;
        if self.wrong == Wrong::TrapOnThirteen && count >= 13 {
            return Err(GuestError::Trap("thirteen".into()));
        }
        let out = self.worker.fold(hash, now_ms, rows).map_err(|f| GuestError::Fault(format!("{f:?}")))?;
        let mut verdict = Verdict::from_bytes(&out, count).unwrap();
        match self.wrong {
            Wrong::FailOnThirteen if count >= 13 => verdict.each.fill(Reason::Fault),
            Wrong::Accept => verdict.each.fill(Reason::Accepted),
            Wrong::Hide => {
                verdict.each.fill(Reason::Duplicate);
                verdict.sums.clear();
            }
            Wrong::Add => verdict.sums.iter_mut().for_each(|(_, value)| *value += 1),
            Wrong::Move => verdict.sums.iter_mut().for_each(|(key, _)| key.cell += 1),
            _ => {}
        }
        Ok(verdict.to_bytes())
    }
    fn release(
        &mut self,
        hash: &[u8; 32],
        seed: &[u8; 32],
        span_ms: u64,
        window: u64,
        cells: &[u8],
    ) -> Result<Vec<u8>, GuestError> {
        if self.wrong == Wrong::TrapOnRelease(span_ms) {
            return Err(GuestError::Trap("release".into()));
        }
        let out = self.worker.release(hash, seed, span_ms, window, cells);
        let out = out.map_err(|f| GuestError::Fault(format!("{f:?}")))?;
        let mut releases: Vec<Release> = cbor::from_slice(&out).unwrap();
        let exact: Vec<ExactCells> = cbor::from_slice(cells).unwrap();
        for (release, exact) in releases.iter_mut().zip(exact) {
            match (self.wrong, release.state) {
                (Wrong::Show, ReleaseState::BelowK) => {
                    release.state = ReleaseState::Released;
                    release.values = exact.values.iter().map(|v| i64::try_from(*v).unwrap()).collect();
                }
                (Wrong::Less, ReleaseState::Released) => release.values[0] += 1,
                _ => {}
            }
        }
        Ok(cbor::to_vec(&releases))
    }
}

/// A stream of bytes that a test can repeat, and the last 32-byte seed it gave.
#[derive(Clone, Default)]
pub(crate) struct Stream {
    state: u64,
    pub(crate) seeds: Vec<[u8; 32]>,
}

impl Stream {
    pub(crate) fn fill(&mut self, buffer: &mut [u8]) {
        for byte in buffer.iter_mut() {
            self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = (self.state >> 56) as u8;
        }
        if let Ok(seed) = <[u8; 32]>::try_from(&*buffer) {
            self.seeds.push(seed);
        }
    }
}

pub(crate) fn policy(version: u32) -> Policy {
    let text = template("blog", "blog.example", "https://blog.example", "2027-03-01").unwrap();
    compile(&text.replace("version = 1 ", &format!("version = {version} ")), 20_781, &|_| Err("none".into())).unwrap()
}

pub(crate) struct Rig {
    pub(crate) key: Key,
    pub(crate) guest: Native,
    pub(crate) stream: Stream,
    pub(crate) opening: Opening,
    pub(crate) edge: Edge<MemoryStorage>,
}

pub(crate) fn opening(key: &Key) -> Opening {
    Opening {
        name: "edge-1".to_owned(),
        key: Key::from_seed(&[2; 32]),
        wrapping: WrappingKey::new([3; 32]),
        pins: BTreeMap::from([("blog.example".to_owned(), key.public())]),
        anchor: None,
        epoch: None,
        accept_clock: false,
        restored: false,
        bounds: Bounds::default(),
        quotas: BTreeMap::new(),
    }
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::with(&policy(1), Bounds::default())
    }

    pub(crate) fn with(policy: &Policy, bounds: Bounds) -> Self {
        let (key, mut guest, mut stream) = (Key::from_seed(&[1; 32]), Native::default(), Stream::default());
        let mut opening = opening(&key);
        opening.bounds = bounds;
        let edge = Edge::open(MemoryStorage::default(), &opening, START, &mut guest, &mut |b| stream.fill(b)).unwrap();
        let mut rig = Self { key, guest, stream, opening, edge };
        rig.put(policy, START).unwrap();
        rig
    }

    pub(crate) fn load(&mut self, version: u32, now: u64) -> Result<(), LoadPolicyError> {
        self.put(&policy(version), now)
    }

    pub(crate) fn put(&mut self, policy: &Policy, now: u64) -> Result<(), LoadPolicyError> {
        let bytes = Signed::sign(policy, &[&self.key]).to_bytes();
        self.edge.load_policy(&bytes, &self.key.public(), now, &mut self.guest)
    }

    pub(crate) fn ingest(&mut self, now: u64, bodies: &[Vec<u8>]) -> Result<Vec<Vec<Reason>>, EdgeError> {
        self.ingest_from(now, bodies, None)
    }

    /// All from one network.
    pub(crate) fn ingest_from(
        &mut self,
        now: u64,
        bodies: &[Vec<u8>],
        network: Option<u64>,
    ) -> Result<Vec<Vec<Reason>>, EdgeError> {
        let posted: Vec<_> = bodies.iter().map(|body| Posted { body, network }).collect();
        let answers = self.edge.ingest(now, &posted, &mut self.guest, &mut |b| self.stream.fill(b))?;
        Ok(answers.into_iter().map(|a| if a.each.is_empty() { vec![a.whole] } else { a.each }).collect())
    }

    /// Releases all that is due, delivers it, and returns the batches with the seeds of their noise.
    pub(crate) fn release(&mut self, now: u64) -> Vec<(SealedBatch, [u8; 32])> {
        let mut batches = Vec::new();
        while self.edge.release_due(now, &mut self.guest, &mut |b| self.stream.fill(b)).unwrap() {
            let seed = *self.stream.seeds.last().unwrap();
            let row = self.edge.next_delivery(now).unwrap().unwrap();
            let bytes = verify_batch(&row.bytes, |_| Some(Key::from_seed(&[2; 32]).public())).unwrap();
            batches.push((cbor::from_slice(&bytes).unwrap(), seed));
            self.edge.delivered(&row, Delivered::Yes, now, 0).unwrap();
        }
        batches
    }

    /// Releases the next window that is due.
    pub(crate) fn release_one(&mut self, now: u64) -> Result<bool, EdgeError> {
        self.edge.release_due(now, &mut self.guest, &mut |b| self.stream.fill(b))
    }

    /// Ends and starts again, with what the edge wrote beside the wrapping key.
    pub(crate) fn restart(self) -> Self {
        let now = self.edge.floor_ms();
        self.restart_at(now)
    }

    pub(crate) fn restart_at(self, now: u64) -> Self {
        let anchor = self.edge.anchor();
        let Self { key, guest, stream, opening, edge } = self;
        Self::over(edge.into_storage(), now, key, guest, stream, Opening { anchor: Some(anchor), ..opening }).unwrap()
    }

    pub(crate) fn over(
        storage: MemoryStorage,
        now: u64,
        key: Key,
        mut guest: Native,
        mut stream: Stream,
        opening: Opening,
    ) -> Result<Self, EdgeError> {
        let edge = Edge::open(storage, &opening, now, &mut guest, &mut |b| stream.fill(b))?;
        Ok(Self { key, guest, stream, opening, edge })
    }
}

pub(crate) fn body(version: u32, contributions: Vec<Contribution>) -> Vec<u8> {
    let policy = policy(version);
    cbor::to_vec(&Submission {
        site: policy.site.clone(),
        policy_version: version,
        policy_hash: policy.hash(),
        check: false,
        contributions,
    })
}

pub(crate) fn one(id: u64, cell: u32, window: u64) -> Contribution {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&id.to_le_bytes());
    Contribution { id: bytes, metric: 4, window, cell, value: 1 }
}

pub(crate) fn exact(batch: &SealedBatch, seed: &[u8; 32]) -> Vec<i64> {
    let policy = policy(batch.policy_version);
    let metric = policy.metric(4).unwrap();
    let release = batch.releases.iter().find(|r| r.metric == 4).unwrap();
    let noise = sample(seed, metric.span_ms, batch.window, 4, metric.mechanism, &metric.scales());
    release.values.iter().zip(noise).map(|(v, n)| v - n).collect()
}
