//! What a world is made of: chance, a component, files, a machine; and what a run comes to.

use std::sync::{Arc, Mutex};

use gloaming_edge::{InPlace, RedbStorage};
use gloaming_policy::author::{compile, template};
use gloaming_policy::{Bins, Policy};
use gloaming_privacy::Rho;
use gloaming_window::{Anchor, EdgeError, Guest, GuestError, Place};
use gloaming_worker::core::Worker;

use super::disk::{Disk, Drive, SECTOR};
use super::{CELLS, HOUR, SITE, Sabotage};

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
    /// Whether a sync does nothing.
    pub(crate) unsynced: bool,
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
        if !self.unsynced {
            self.drive.lock().unwrap().sync(false);
        }
        // It may be durable, and the process may not live to know.
        self.disk.step()
    }
}

/// The disk and, on another one, the anchor.
pub(crate) struct Machine {
    pub(crate) disk: Disk,
    pub(crate) files: [Arc<Mutex<Drive>>; 2],
    pub(crate) anchor: Arc<Mutex<Option<Anchor>>>,
    pub(crate) sabotage: Option<Sabotage>,
}

impl Place for Machine {
    type Store = RedbStorage;

    fn store(&mut self, first: bool) -> Result<RedbStorage, EdgeError> {
        if !first && self.disk.is_empty() {
            return Err(EdgeError::NoStore);
        }
        self.disk.late(self.sabotage == Some(Sabotage::LogSyncedLate));
        let file = |drive: &Arc<Mutex<Drive>>, broken_by: Sabotage| {
            let unsynced = self.sabotage == Some(broken_by);
            File { drive: Arc::clone(drive), disk: self.disk.clone(), writes: 0, unsynced }
        };
        let [keys, journal] = &self.files;
        let (keys, journal) = (file(keys, Sabotage::KeysUnsynced), file(journal, Sabotage::JournalUnsynced));
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

/// What a run came to, so that a test can see that it did something.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) acknowledged: u64,
    pub(crate) counted: u64,
    pub(crate) power_cuts: u64,
    pub(crate) restored: u64,
    pub(crate) store_failures: u64,
    pub(crate) clock_doubts: u64,
    /// Times that the clock of a running edge was set to something wrong, and that it was right again.
    pub(crate) clock_steps: [u64; 2],
    /// Looks at a clock that was not believed.
    pub(crate) clock_unbelieved: u64,
    pub(crate) windows: u64,
    pub(crate) left: u64,
    /// Times that the centre died over a batch.
    pub(crate) centre_deaths: u64,
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
