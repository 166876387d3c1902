//! What a world is made of: chance, a component, files, a machine, a centre.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use gloaming_edge::{InPlace, RedbStorage};
use gloaming_policy::author::{Key, compile, template, verify_batch};
use gloaming_policy::{Bins, Policy};
use gloaming_privacy::Rho;
use gloaming_signal::{ReleaseState, SealedBatch, cbor, hash};
use gloaming_window::{Anchor, EdgeError, Guest, GuestError, Place};
use gloaming_worker::core::Worker;

use super::disk::{Disk, Drive, SECTOR};
use super::{CELLS, HOUR, SITE};

/// A stream of numbers that is all in its seed (Steele, Lea and Flood's splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn fill(&mut self, buffer: &mut [u8]) {
        buffer.iter_mut().for_each(|byte| *byte = self.next() as u8);
    }
}

/// The component's functions natively, trapping now and then.
pub(crate) struct Native {
    pub(crate) worker: Worker,
    pub(crate) random: Random,
}

impl Native {
    fn trap(&mut self) -> Result<(), GuestError> {
        if self.random.one_in(60) { Err(GuestError::Trap("now and then".into())) } else { Ok(()) }
    }
}

fn fault(fault: gloaming_worker::core::Fault) -> GuestError {
    GuestError::Fault(format!("{fault:?}"))
}

impl Guest for Native {
    fn configure(&mut self, policy: &[u8]) -> Result<[u8; 32], GuestError> {
        self.worker.configure(policy).map_err(fault)
    }
    fn retain(&mut self, _hashes: &[[u8; 32]]) {}
    fn fold(&mut self, hash: &[u8; 32], now_ms: u64, batch: &[u8]) -> Result<Vec<u8>, GuestError> {
        self.trap()?;
        self.worker.fold(hash, now_ms, batch).map_err(fault)
    }
    fn release(
        &mut self,
        hash: &[u8; 32],
        seed: &[u8; 32],
        span_ms: u64,
        window: u64,
        cells: &[u8],
    ) -> Result<Vec<u8>, GuestError> {
        self.trap()?;
        self.worker.release(hash, seed, span_ms, window, cells).map_err(fault)
    }
}

/// A file that is overwritten in place, on the same power as the disk: what was not synced when it is cut may be there, or
/// not. A write that fails leaves some of its sectors.
#[derive(Clone, Debug, Default)]
pub(crate) struct File {
    pub(crate) drive: Arc<Mutex<Drive>>,
    pub(crate) disk: Disk,
    /// Writes so far: which sectors a torn one leaves is all in it.
    pub(crate) writes: u64,
}

impl InPlace for File {
    fn load(&mut self) -> std::io::Result<Vec<u8>> {
        Ok(self.drive.lock().unwrap().seen().to_vec())
    }

    fn write(&mut self, at: usize, bytes: &[u8]) -> std::io::Result<()> {
        let good = self.disk.step();
        let mut drive = self.drive.lock().unwrap();
        self.writes += 1;
        if good.is_ok() {
            drive.write(at, bytes);
            return Ok(());
        }
        let mut torn = Random(at as u64 ^ self.writes << 32);
        for (i, sector) in bytes.chunks(SECTOR).enumerate() {
            if torn.one_in(2) {
                drive.write(at + i * SECTOR, sector);
            }
        }
        good
    }

    fn sync(&mut self) -> std::io::Result<()> {
        self.disk.step()?;
        self.drive.lock().unwrap().sync();
        // It may be durable, and the process may not live to know.
        self.disk.step()
    }
}

/// The disk and, on another one, the anchor.
pub(crate) struct Machine {
    pub(crate) disk: Disk,
    pub(crate) files: [Arc<Mutex<Drive>>; 2],
    pub(crate) anchor: Arc<Mutex<Option<Anchor>>>,
}

impl Place for Machine {
    type Store = RedbStorage;

    fn store(&mut self, first: bool) -> Result<RedbStorage, EdgeError> {
        if !first && self.disk.is_empty() {
            return Err(EdgeError::NoStore);
        }
        let file = |drive| File { drive: Arc::clone(drive), disk: self.disk.clone(), writes: 0 };
        let [keys, journal] = self.files.each_ref().map(file);
        Ok(RedbStorage::on(self.disk.clone(), keys, journal)?)
    }

    fn anchor(&mut self) -> Result<Option<Anchor>, EdgeError> {
        Ok(*self.anchor.lock().unwrap())
    }

    fn put_anchor(&mut self, anchor: Anchor) -> Result<(), EdgeError> {
        let wrong = |error: std::io::Error| EdgeError::Anchor(error.to_string());
        self.disk.step().map_err(wrong)?;
        *self.anchor.lock().unwrap() = Some(anchor);
        // It may be written, and the process may not live to know.
        self.disk.step().map_err(wrong)
    }
}

/// What is known of one contribution from outside.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Known {
    pub(crate) acknowledged: bool,
    /// It was in a store that an older copy has replaced.
    pub(crate) forgiven: bool,
}

/// What the centre would hold.
#[derive(Default)]
pub(crate) struct Centre {
    pub(crate) ledger: BTreeMap<(u64, u64), [u8; 32]>,
    pub(crate) windows: BTreeSet<(u32, u64, u64)>,
    pub(crate) counts: BTreeMap<u32, i64>,
}

impl Centre {
    pub(crate) fn take(&mut self, delivery: &[u8], edge: &Key) -> String {
        let bytes = verify_batch(delivery, |_| Some(edge.public())).expect("signed by the edge");
        let batch: SealedBatch = cbor::from_slice(&bytes).unwrap();
        let digest = hash::sha256(delivery);
        match self.ledger.insert((batch.epoch, batch.seq), digest) {
            Some(before) if before == digest => return "again".to_owned(),
            Some(_) => panic!("two batches bear the number {}", batch.seq),
            None => {}
        }
        let window = (batch.policy_version, batch.span_ms, batch.window);
        assert!(self.windows.insert(window), "window {window:?} was released twice");
        for release in batch.releases {
            assert_eq!(release.state, ReleaseState::Released, "no window is below k here");
            for (cell, value) in (0u32..).zip(release.values) {
                *self.counts.entry(cell).or_default() += value;
            }
        }
        format!("epoch {} batch {}: version {} window {}", batch.epoch, batch.seq, batch.policy_version, batch.window)
    }
}

pub(crate) fn policy(version: u32) -> Policy {
    let text = template("blog", SITE, "https://app.example", "2027-03-01").unwrap();
    let mut policy = compile(&text, 20_781, &|_| Err("none".into())).unwrap();
    policy.version = version;
    policy.budget = Rho::from_micro(1_000_000_000_000_000);
    policy.metrics.truncate(1);
    let metric = &mut policy.metrics[0];
    (metric.span_ms, metric.per_day, metric.k) = (HOUR, 1, 0);
    metric.rho = Rho::from_micro(1_000_000_000_000);
    metric.axes[0].bins = Bins::Edges((0..=CELLS).collect());
    metric.axes[0].labels = (0..CELLS).map(|cell| cell.to_string()).collect();
    policy
}
