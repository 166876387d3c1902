//! What the centre would hold, and the centre's own store, which has to say the same of every batch.

use std::collections::{BTreeMap, BTreeSet};

use gloaming_central::{Arrived, Store, StoreAddress, StoreError, Stored};
use gloaming_policy::author::{Key, verify_batch};
use gloaming_signal::{ReleaseState, SealedBatch, cbor, hash};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use super::{HOUR, Random, SITE};

/// Statements it may die before: more than one batch needs, so that it lives on now and then.
const STATEMENTS: u64 = 12;

/// What the centre would hold.
#[derive(Default)]
pub(crate) struct Centre {
    ledger: BTreeMap<(u64, u64), [u8; 32]>,
    pub(crate) windows: BTreeSet<(u32, u64, u64)>,
    pub(crate) counts: BTreeMap<u32, i64>,
    pub(crate) real: Option<Real>,
}

impl Centre {
    /// One with its own store, on a file.
    pub(crate) fn real(seed: u64) -> Self {
        Self { real: Some(Real::new(seed)), ..Self::default() }
    }

    /// What becomes of a delivery; nothing when the centre died over it, which it may when times are `bad`.
    pub(crate) fn take(&mut self, delivery: &[u8], edge: &Key, now_ms: u64, bad: bool) -> Option<String> {
        let bytes = verify_batch(delivery, |_| Some(edge.public())).expect("signed by the edge");
        let batch: SealedBatch = cbor::from_slice(&bytes).unwrap();
        let (name, digest) = ((batch.epoch, batch.seq), hash::sha256(delivery));
        let again = self.ledger.get(&name) == Some(&digest);
        if let Some(real) = &mut self.real {
            let stored = real.put(&batch, digest, now_ms, bad)?;
            assert_eq!(stored, if again { Stored::Before } else { Stored::Now }, "the store on batch {name:?}");
        }
        if again {
            return Some("again".to_owned());
        }
        assert!(self.ledger.insert(name, digest).is_none(), "two batches bear the number {}", batch.seq);
        let window = (batch.policy_version, batch.span_ms, batch.window);
        assert!(self.windows.insert(window), "window {window:?} was released twice");
        for release in &batch.releases {
            assert_eq!(release.state, ReleaseState::Released, "no window is below k here");
            add(&mut self.counts, &release.values);
        }
        let SealedBatch { epoch, seq, policy_version, window, .. } = batch;
        Some(format!("epoch {epoch} batch {seq}: version {policy_version} window {window}"))
    }
}

fn add(counts: &mut BTreeMap<u32, i64>, values: &[i64]) {
    for (cell, value) in (0u32..).zip(values) {
        *counts.entry(cell).or_default() += value;
    }
}

/// The centre's own store, on a file that outlives it: it dies before any of its statements.
pub(crate) struct Real {
    store: Store,
    runtime: Runtime,
    folder: TempDir,
    /// When it dies; its own, so that a run is otherwise the one that the model sees.
    random: Random,
    pub(crate) deaths: u64,
}

async fn open(folder: &TempDir) -> Store {
    Store::open(&StoreAddress::Sqlite(folder.path().join("central.sqlite"))).await.unwrap()
}

impl Real {
    fn new(seed: u64) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let store = runtime.block_on(open(&folder));
        Self { store, runtime, folder, random: Random(!seed), deaths: 0 }
    }

    /// What it says of a batch; nothing when it died, and it is started again then.
    fn put(&mut self, batch: &SealedBatch, digest: [u8; 32], now_ms: u64, may_die: bool) -> Option<Stored> {
        let dies = may_die && self.random.one_in(2);
        self.store.blow_after(if dies { self.random.below(STATEMENTS) as i64 } else { -1 });
        let outcome = self.runtime.block_on(self.store.put(&[Arrived { batch, digest }], now_ms));
        match outcome {
            Ok(stored) => Some(stored[0]),
            Err(StoreError::Fuse) => {
                self.deaths += 1;
                self.runtime.block_on(self.store.close());
                self.store = self.runtime.block_on(open(&self.folder));
                None
            }
            Err(error) => panic!("the centre's store failed: {error}"),
        }
    }

    /// Ends it; returns what it holds of each cell of a metric.
    pub(crate) fn end(&self, metric: u32) -> BTreeMap<u32, i64> {
        let (rows, alarms) = self.runtime.block_on(async {
            let rows = self.store.releases(SITE, metric, HOUR, u32::MAX).await.unwrap();
            let alarms = self.store.alarms(SITE).await.unwrap();
            self.store.close().await;
            (rows, alarms)
        });
        assert_eq!(alarms, (0, None), "nothing conflicted");
        let mut counts = BTreeMap::new();
        rows.iter().for_each(|row| add(&mut counts, &row.values));
        counts
    }
}
