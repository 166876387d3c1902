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

#[derive(Debug, Default)]
struct State {
    /// What survives.
    durable: Vec<u8>,
    /// What a reader sees.
    seen: Vec<u8>,
    pending: Vec<Pending>,
    /// Writes and syncs until the power fails.
    fuel: Option<u64>,
    dead: bool,
    /// Writes and syncs until one of them fails.
    fault: Option<u64>,
    /// Bytes there is room for.
    room: Option<usize>,
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
        let state = State { seen: image.clone(), durable: image, ..State::default() };
        Self(Arc::new(Mutex::new(state)))
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.state().dead
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.state().seen.is_empty()
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
        state.room = full.then_some(state.seen.len());
    }

    /// Something else than the database uses the disk for one step.
    pub(crate) fn step(&self) -> Result<(), Error> {
        self.state().step()
    }

    /// What is left when the power is cut now: of what was not synced each write is there, or not, or some of
    /// its sectors are.
    pub(crate) fn after_power_cut(&self, random: &mut Random) -> Vec<u8> {
        let state = self.state();
        let mut image = state.durable.clone();
        for pending in &state.pending {
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
                        let from = at + i * SECTOR;
                        if image.len() < from + sector.len() {
                            image.resize(from + sector.len(), 0);
                        }
                        image[from..from + sector.len()].copy_from_slice(sector);
                    }
                }
            }
        }
        image
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, Error> {
        Ok(self.state().seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        let state = self.state();
        let from = usize::try_from(offset).map_err(Error::other)?;
        let found = state.seen.get(from..from + out.len());
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
        state.seen.resize(length, 0);
        state.pending.push(Pending::Length(length));
        Ok(())
    }

    fn sync_data(&self) -> Result<(), Error> {
        let mut state = self.state();
        state.step()?;
        for pending in std::mem::take(&mut state.pending) {
            match pending {
                Pending::Length(length) => state.durable.resize(length, 0),
                Pending::Write(at, bytes) => state.durable[at..at + bytes.len()].copy_from_slice(&bytes),
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        let mut state = self.state();
        let from = usize::try_from(offset).map_err(Error::other)?;
        state.step()?;
        let end = from + data.len();
        if state.seen.len() < end {
            return Err(Error::from(ErrorKind::InvalidInput));
        }
        state.seen[from..end].copy_from_slice(data);
        state.pending.push(Pending::Write(from, data.to_vec()));
        Ok(())
    }
}
