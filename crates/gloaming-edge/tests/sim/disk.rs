//! A disk with a power cable: what was not synced when it is pulled may be there, or not, or in part.

use std::io::{Error, ErrorKind};
use std::sync::{Arc, Mutex, PoisonError};

use redb::StorageBackend;

use super::Random;

/// What a drive writes at once.
pub(crate) const SECTOR: usize = 512;

#[derive(Debug)]
enum Pending {
    Length(usize),
    Write(usize, Vec<u8>),
}

/// Bytes on a drive, and what it was told to write and has not said to have written.
#[derive(Debug, Default)]
pub(crate) struct Drive {
    /// What survives.
    durable: Vec<u8>,
    /// What a reader sees.
    seen: Vec<u8>,
    pending: Vec<Pending>,
    /// How much of that was there at the last sync.
    told: usize,
}

fn put(image: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = image.len().max(at + bytes.len());
    image.resize(end, 0);
    image[at..at + bytes.len()].copy_from_slice(bytes);
}

impl Drive {
    /// A drive on which this has lain for long.
    pub(crate) fn holding(image: Vec<u8>) -> Self {
        Self { seen: image.clone(), durable: image, ..Self::default() }
    }

    /// What a reader sees.
    pub(crate) fn seen(&self) -> &[u8] {
        &self.seen
    }

    /// Writes, behind the end too.
    pub(crate) fn write(&mut self, at: usize, bytes: &[u8]) {
        put(&mut self.seen, at, bytes);
        self.pending.push(Pending::Write(at, bytes.to_vec()));
    }

    fn set_len(&mut self, length: usize) {
        self.seen.resize(length, 0);
        self.pending.push(Pending::Length(length));
    }

    /// All that was written is durable; of a drive that says so too early, what was written before the last of these is.
    pub(crate) fn sync(&mut self, late: bool) {
        let durable = if late { self.told } else { self.pending.len() };
        for pending in self.pending.drain(..durable) {
            match pending {
                Pending::Length(length) => self.durable.resize(length, 0),
                Pending::Write(at, bytes) => put(&mut self.durable, at, &bytes),
            }
        }
        self.told = self.pending.len();
    }

    /// What is left when the power is cut now: of what was not synced each write is there, or not, or some of
    /// its sectors are.
    pub(crate) fn after_power_cut(&self, random: &mut Random) -> Vec<u8> {
        let mut image = self.durable.clone();
        for pending in &self.pending {
            match pending {
                Pending::Length(length) => {
                    if random.one_in(2) {
                        image.resize(*length, 0);
                    }
                }
                Pending::Write(at, bytes) => {
                    let fate = random.below(3);
                    for (i, sector) in bytes.chunks(SECTOR).enumerate() {
                        if fate == 0 || fate == 1 && random.one_in(2) {
                            continue;
                        }
                        put(&mut image, at + i * SECTOR, sector);
                    }
                }
            }
        }
        image
    }
}

#[derive(Debug, Default)]
struct State {
    drive: Drive,
    /// Writes and syncs until the power fails.
    fuel: Option<u64>,
    dead: bool,
    /// Writes and syncs until one of them fails.
    fault: Option<u64>,
    /// Bytes there is room for.
    room: Option<usize>,
    /// Whether it syncs late.
    late: bool,
}

/// A handle; all handles are of one disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk(Arc<Mutex<State>>);

impl State {
    fn step(&mut self) -> Result<(), Error> {
        if self.dead {
            return Err(Error::other("no power"));
        }
        if let Some(fuel) = &mut self.fuel {
            if *fuel == 0 {
                self.dead = true;
                return Err(Error::other("the power failed"));
            }
            *fuel -= 1;
        }
        if let Some(fault) = &mut self.fault {
            if *fault == 0 {
                self.fault = None;
                return Err(Error::other("a bad moment"));
            }
            *fault -= 1;
        }
        Ok(())
    }
}

impl Disk {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A disk that holds this.
    pub(crate) fn holding(image: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(State { drive: Drive::holding(image), ..State::default() })))
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.state().dead
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.state().drive.seen.is_empty()
    }

    pub(crate) fn cut_power_after(&self, steps: u64) {
        self.state().fuel = Some(steps);
    }

    pub(crate) fn fail_after(&self, steps: u64) {
        self.state().fault = Some(steps);
    }

    /// No room for more than there is; or room again.
    pub(crate) fn full(&self, full: bool) {
        let mut state = self.state();
        state.room = full.then_some(state.drive.seen.len());
    }

    /// Whether its syncs are late from now on.
    pub(crate) fn late(&self, late: bool) {
        self.state().late = late;
    }

    /// Something else than the database uses the disk for one step.
    pub(crate) fn step(&self) -> Result<(), Error> {
        self.state().step()
    }

    /// [`Drive::after_power_cut`].
    pub(crate) fn after_power_cut(&self, random: &mut Random) -> Vec<u8> {
        self.state().drive.after_power_cut(random)
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, Error> {
        Ok(self.state().drive.seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        let state = self.state();
        let from = usize::try_from(offset).map_err(Error::other)?;
        let found = state.drive.seen.get(from..from + out.len());
        out.copy_from_slice(found.ok_or_else(|| Error::from(ErrorKind::UnexpectedEof))?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), Error> {
        let mut state = self.state();
        state.step()?;
        let length = usize::try_from(len).map_err(Error::other)?;
        if state.room.is_some_and(|room| length > room) {
            return Err(Error::from(ErrorKind::StorageFull));
        }
        state.drive.set_len(length);
        Ok(())
    }

    fn sync_data(&self) -> Result<(), Error> {
        let mut state = self.state();
        state.step()?;
        let State { drive, late, .. } = &mut *state;
        drive.sync(*late);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        let mut state = self.state();
        let from = usize::try_from(offset).map_err(Error::other)?;
        state.step()?;
        if state.drive.seen.len() < from + data.len() {
            return Err(Error::from(ErrorKind::InvalidInput));
        }
        state.drive.write(from, data);
        Ok(())
    }
}
