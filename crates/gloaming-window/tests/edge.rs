//! The edge's core over memory and the component's functions natively.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use gloaming_policy::Policy;
use gloaming_policy::author::{Key, Signed, compile, template, verify_batch};
use gloaming_privacy::sample;
use gloaming_signal::{Contribution, Reason, ReleaseState, SealedBatch, Submission, cbor};
use gloaming_window::{Delivered, Edge, EdgeError, Guest, GuestError, LoadPolicyError, MemoryStorage, WrappingKey};
use gloaming_worker::core::Worker;
use proptest::prelude::*;

const DAY: u64 = 86_400_000;
const START: u64 = 20_781 * DAY + 1_000;

/// The component's functions; traps on submissions of 13 contributions when told to.
#[derive(Default)]
struct Native {
    worker: Worker,
    trap_on_13: bool,
}

impl Guest for Native {
    fn configure(&mut self, policy: &[u8]) -> Result<[u8; 32], GuestError> {
        self.worker.configure(policy).map_err(|f| GuestError::Fault(format!("{f:?}")))
    }
    fn fold(&mut self, hash: &[u8; 32], now_ms: u64, batch: &[u8]) -> Result<Vec<u8>, GuestError> {
        if self.trap_on_13 {
            let fold: gloaming_signal::Fold = cbor::from_slice(batch).unwrap();
            let thirteen = |b: &[u8]| cbor::from_slice::<Submission>(b).is_ok_and(|s| s.contributions.len() == 13);
            if fold.items.iter().any(|i| thirteen(&i.submission.0)) {
                return Err(GuestError::Trap("thirteen".into()));
            }
        }
        self.worker.fold(hash, now_ms, batch).map_err(|f| GuestError::Fault(format!("{f:?}")))
    }
    fn release(
        &mut self,
        hash: &[u8; 32],
        seed: &[u8; 32],
        span_ms: u64,
        window: u64,
        cells: &[u8],
    ) -> Result<Vec<u8>, GuestError> {
        self.worker.release(hash, seed, span_ms, window, cells).map_err(|f| GuestError::Fault(format!("{f:?}")))
    }
}

/// A stream of bytes that a test can repeat, and the last 32-byte seed it gave.
#[derive(Clone, Default)]
struct Stream {
    state: u64,
    seeds: Vec<[u8; 32]>,
}

impl Stream {
    fn fill(&mut self, buffer: &mut [u8]) {
        for byte in buffer.iter_mut() {
            self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = (self.state >> 56) as u8;
        }
        if let Ok(seed) = <[u8; 32]>::try_from(&*buffer) {
            self.seeds.push(seed);
        }
    }
}

fn policy(version: u32) -> Policy {
    let text = template("blog", "blog.example", "https://blog.example", "2027-03-01").unwrap();
    compile(&text.replace("version = 1 ", &format!("version = {version} ")), 20_781, &|_| Err("none".into())).unwrap()
}

struct Rig {
    key: Key,
    guest: Native,
    stream: Stream,
    edge: Edge<MemoryStorage>,
}

fn open(
    storage: MemoryStorage,
    key: &Key,
    guest: &mut Native,
    stream: &mut Stream,
) -> Result<Edge<MemoryStorage>, EdgeError> {
    let pins = BTreeMap::from([("blog.example".to_owned(), key.public())]);
    Edge::open(storage, "edge-1", Key::from_seed(&[2; 32]), WrappingKey::new([3; 32]), &pins, guest, &mut |b| {
        stream.fill(b)
    })
}

impl Rig {
    fn new() -> Self {
        let (key, mut guest, mut stream) = (Key::from_seed(&[1; 32]), Native::default(), Stream::default());
        let edge = open(MemoryStorage::default(), &key, &mut guest, &mut stream).unwrap();
        let mut rig = Self { key, guest, stream, edge };
        rig.load(1, START).unwrap();
        rig
    }

    fn load(&mut self, version: u32, now: u64) -> Result<(), LoadPolicyError> {
        let bytes = Signed::sign(&policy(version), &[&self.key]).to_bytes();
        self.edge.load_policy(&bytes, &self.key.public(), now, &mut self.guest)
    }

    fn ingest(&mut self, now: u64, bodies: &[Vec<u8>]) -> Result<Vec<Vec<Reason>>, EdgeError> {
        let bodies: Vec<&[u8]> = bodies.iter().map(Vec::as_slice).collect();
        let answers = self.edge.ingest(now, &bodies, &mut self.guest, &mut |b| self.stream.fill(b))?;
        Ok(answers.into_iter().map(|a| if a.each.is_empty() { vec![a.whole] } else { a.each }).collect())
    }

    /// Releases all that is due, delivers it, and returns the batches with the seeds of their noise.
    fn release(&mut self, now: u64) -> Vec<(SealedBatch, [u8; 32])> {
        let mut batches = Vec::new();
        while self.edge.release_due(now, &mut self.guest, &mut |b| self.stream.fill(b)).unwrap() {
            let seed = *self.stream.seeds.last().unwrap();
            let row = self.edge.next_delivery(now).unwrap().clone();
            let bytes = verify_batch(&row.bytes, &[Key::from_seed(&[2; 32]).public()]).unwrap();
            batches.push((cbor::from_slice(&bytes).unwrap(), seed));
            self.edge.delivered(Delivered::Yes, now, 0).unwrap();
        }
        batches
    }

    fn restart(self) -> Self {
        let Self { key, mut guest, mut stream, edge } = self;
        let storage = edge.into_storage();
        let edge = open(storage, &key, &mut guest, &mut stream).unwrap();
        Self { key, guest, stream, edge }
    }
}

fn body(version: u32, contributions: Vec<Contribution>) -> Vec<u8> {
    let policy = policy(version);
    cbor::to_vec(&Submission {
        site: policy.site.clone(),
        policy_version: version,
        policy_hash: policy.hash(),
        check: false,
        contributions,
    })
}

fn one(id: u64, cell: u32, window: u64) -> Contribution {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&id.to_le_bytes());
    Contribution { id: bytes, metric: 4, window, cell, value: 1 }
}

fn exact(batch: &SealedBatch, seed: &[u8; 32]) -> Vec<i64> {
    let policy = policy(batch.policy_version);
    let metric = policy.metric(4).unwrap();
    let release = batch.releases.iter().find(|r| r.metric == 4).unwrap();
    let noise = sample(seed, metric.span_ms, batch.window, 4, metric.mechanism, &metric.scales());
    release.values.iter().zip(noise).map(|(v, n)| v - n).collect()
}

#[test]
fn a_retry_counts_once_even_over_a_restart() {
    let mut rig = Rig::new();
    let first = body(1, (0..60).map(|i| one(i, 1, 20_781)).collect());
    assert_eq!(rig.ingest(START, std::slice::from_ref(&first)).unwrap()[0], vec![Reason::Accepted; 60]);
    let mut rig = rig.restart();
    let again = rig
        .ingest(START, &[first.clone(), body(1, vec![one(99, 2, 20_781)]), body(1, vec![one(99, 2, 20_781)])])
        .unwrap();
    assert_eq!(again, [vec![Reason::Duplicate; 60], vec![Reason::Accepted], vec![Reason::Duplicate]]);
    let batches = rig.release(START + 2 * DAY);
    assert_eq!(batches.len(), 1, "tomorrow's window is open still");
    assert_eq!(exact(&batches[0].0, &batches[0].1), [0, 60, 1, 0, 0]);
}

#[test]
fn a_window_is_released_whether_or_not_anybody_came() {
    let mut rig = Rig::new();
    let batches = rig.release(START + 3 * DAY);
    assert_eq!(batches.iter().map(|(b, _)| (b.seq, b.window)).collect::<Vec<_>>(), [(0, 20_781), (1, 20_782)]);
    for (batch, _) in &batches {
        assert!(batch.releases.iter().all(|r| r.state == ReleaseState::BelowK && r.values.is_empty()));
        assert_eq!(batch.releases.len(), 5);
    }
    assert!(rig.release(START + 3 * DAY).is_empty());
}

#[test]
fn after_its_release_a_window_stays_closed_whatever_the_clock_says() {
    let mut rig = Rig::new();
    rig.release(START + 2 * DAY);
    let late = body(1, vec![one(1, 1, 20_781)]);
    assert_eq!(rig.ingest(START, std::slice::from_ref(&late)).unwrap(), [[Reason::ClosedWindow]]);
    let mut rig = rig.restart();
    assert_eq!(rig.ingest(START, &[late]).unwrap(), [[Reason::ClosedWindow]]);
}

#[test]
fn when_the_store_fails_nothing_is_acknowledged_and_nothing_is_counted() {
    let mut rig = Rig::new();
    let posted = [0, 60].map(|n| body(1, (n..n + 60).map(|i| one(i, 1, 20_781)).collect()));
    rig.edge.storage_mut().fail_next = true;
    assert!(matches!(rig.ingest(START, &posted), Err(EdgeError::Storage(_))));
    assert_eq!(rig.ingest(START, &posted).unwrap()[1], vec![Reason::Accepted; 60]);
    rig.edge.storage_mut().fail_next = true;
    let failed = rig.edge.release_due(START + 2 * DAY, &mut rig.guest, &mut |b| rig.stream.fill(b));
    assert!(failed.is_err());
    let batches = rig.release(START + 2 * DAY);
    assert_eq!((batches.len(), batches[0].0.seq), (1, 0));
    assert_eq!(exact(&batches[0].0, &batches[0].1), [0, 120, 0, 0, 0]);
}

#[test]
fn only_the_submission_that_traps_the_guest_pays() {
    let mut rig = Rig::new();
    rig.guest.trap_on_13 = true;
    let bad = body(1, (100..113).map(|i| one(i, 1, 20_781)).collect());
    let answers =
        rig.ingest(START, &[body(1, vec![one(1, 1, 20_781)]), bad, body(1, vec![one(2, 1, 20_781)])]).unwrap();
    assert_eq!(answers, [[Reason::Accepted], [Reason::Fault], [Reason::Accepted]]);
    assert_eq!(rig.edge.tally().guest_failures, 2);
}

#[test]
fn versions_grow_and_the_old_one_closes_its_windows() {
    let mut rig = Rig::new();
    assert!(matches!(rig.load(1, START), Ok(())));
    rig.ingest(START, &[body(1, (0..60).map(|i| one(i, 1, 20_781)).collect())]).unwrap();
    rig.load(2, START + 5).unwrap();
    assert!(matches!(rig.load(1, START + 6), Err(LoadPolicyError::RolledBack { given: 1, in_force: 2 })));
    assert_eq!(
        rig.ingest(START + 7, &[body(1, vec![one(70, 1, 20_781)]), body(2, vec![one(71, 1, 20_781)])]).unwrap(),
        [[Reason::Accepted], [Reason::Accepted]]
    );
    let rig = rig.restart();
    let mut rig = rig;
    let batches = rig.release(START + 3 * DAY);
    let seen: Vec<_> = batches.iter().map(|(b, _)| (b.policy_version, b.window)).collect();
    assert_eq!(seen, [(1, 20_781), (2, 20_781), (2, 20_782)]);
    assert_eq!(exact(&batches[0].0, &batches[0].1), [0, 61, 0, 0, 0]);
    // The same metric at the same price is paid once for the day, so version 2 was not over budget.
    assert!(batches[1].0.releases.iter().all(|r| r.state == ReleaseState::BelowK));
    rig.load(3, START + 3 * DAY).unwrap();
    assert_eq!(rig.ingest(START + 3 * DAY, &[body(1, vec![one(70, 1, 20_784)])]).unwrap(), [[Reason::UnknownPolicy]]);
}

/// An old version's tab, closed after the new version's first window had begun, was once acknowledged for a
/// window that nobody would ever release.
#[test]
fn what_is_acknowledged_is_for_a_window_that_will_be_released() {
    let mut rig = Rig::new();
    let day = START / DAY;
    assert_eq!(rig.ingest(START, &[body(1, vec![one(1, 0, day - 1)])]).unwrap(), [[Reason::ClosedWindow]]);
    rig.load(2, START + 1).unwrap();
    assert_eq!(rig.ingest(START + 2, &[body(1, vec![one(2, 0, day)])]).unwrap(), [[Reason::Accepted]]);
    let tomorrow = START + DAY;
    assert_eq!(rig.ingest(tomorrow, &[body(1, vec![one(3, 0, day + 1)])]).unwrap(), [[Reason::ClosedWindow]]);
    assert_eq!(rig.ingest(tomorrow, &[body(2, vec![one(4, 0, day + 1)])]).unwrap(), [[Reason::Accepted]]);
}

#[test]
fn the_same_version_with_other_bytes_is_an_alarm() {
    let mut rig = Rig::new();
    let mut other = policy(1);
    other.metrics[0].k += 1;
    let bytes = Signed::sign(&other, &[&rig.key]).to_bytes();
    let refused = rig.edge.load_policy(&bytes, &rig.key.public(), START, &mut rig.guest);
    assert!(matches!(refused, Err(LoadPolicyError::SameVersion(1))));
    other.home_edges = vec!["elsewhere".into()];
    other.version = 2;
    let bytes = Signed::sign(&other, &[&rig.key]).to_bytes();
    assert!(matches!(
        rig.edge.load_policy(&bytes, &rig.key.public(), START, &mut rig.guest),
        Err(LoadPolicyError::NotHome(_))
    ));
}

#[test]
fn what_lies_in_the_store_does_not_open_without_the_wrapping_key() {
    let mut rig = Rig::new();
    rig.ingest(START, &[body(1, vec![one(1, 1, 20_781)])]).unwrap();
    let pins = BTreeMap::from([("blog.example".to_owned(), rig.key.public())]);
    let storage = rig.edge.into_storage();
    let opened = Edge::open(
        storage,
        "edge-1",
        Key::from_seed(&[2; 32]),
        WrappingKey::new([4; 32]),
        &pins,
        &mut Native::default(),
        &mut |b| b.fill(1),
    );
    assert!(matches!(opened, Err(EdgeError::Unreadable(_))));
}

#[test]
fn deliveries_keep_their_order_and_their_bytes_until_acknowledged() {
    let mut rig = Rig::new();
    let (guest, stream) = (&mut rig.guest, &mut rig.stream);
    while rig.edge.release_due(START + 4 * DAY, guest, &mut |b| stream.fill(b)).unwrap() {}
    let now = START + 4 * DAY;
    let first = rig.edge.next_delivery(now).unwrap().clone();
    rig.edge.delivered(Delivered::Later(Some(1_000)), now, 7).unwrap();
    assert_eq!(rig.edge.next_delivery(now), None);
    assert_eq!(rig.edge.next_delivery(now + 1_000), Some(&first));
    let mut rig = rig.restart();
    assert_eq!(rig.edge.next_delivery(now), Some(&first));
    rig.edge.delivered(Delivered::Yes, now, 0).unwrap();
    assert_eq!(rig.edge.next_delivery(now).unwrap().seq, 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    /// Whatever arrives, in whatever rounds, with duplicates and restarts: released minus noise is
    /// exactly the set of distinct ids.
    #[test]
    fn released_minus_noise_is_what_was_sent(sent in prop::collection::vec((0u64..150, 0u32..5), 120..300), cuts in prop::collection::vec(0usize..300, 0..4)) {
        let mut rig = Rig::new();
        let mut want: BTreeMap<u64, u32> = BTreeMap::new();
        for (i, (id, cell)) in sent.iter().enumerate() {
            if cuts.contains(&i) {
                rig = rig.restart();
            }
            let answer = rig.ingest(START, &[body(1, vec![one(*id, *cell, 20_781)])]).unwrap();
            let fresh = !want.contains_key(id);
            want.entry(*id).or_insert(*cell);
            prop_assert_eq!(&answer[0], &[if fresh { Reason::Accepted } else { Reason::Duplicate }]);
        }
        let batches = rig.release(START + 2 * DAY);
        let release = batches[0].0.releases.iter().find(|r| r.metric == 4).unwrap();
        if release.state == ReleaseState::Released {
            let count = |cell: u32| i64::try_from(want.values().filter(|c| **c == cell).count()).unwrap();
            prop_assert_eq!(exact(&batches[0].0, &batches[0].1), (0..5).map(count).collect::<Vec<_>>());
        }
    }
}
