//! Group commits that are not in the log yet: each one write and one sync, into a file that was written before, so that
//! the sync moves no other block. The log takes them in when the journal is full, and with whatever else it commits.
//!
//! ```text
//! record = length: u32 | generation: u64 | number: u64 | checksum (8) | chunk*, from the next 512 bytes on the next one
//! chunk  = length of the name: u32 | the window's name | length: u32 | framed
//! framed = chunk number: u64 | length: u32 | sealed                     a run is these, one after another
//! ```
//! Little-endian; the checksum is the beginning of SHA-256. The log knows the generation whose records it has not taken
//! in; taking them in begins the next, whose records overwrite them from the beginning of the file.
//!
//! What was acknowledged was synced, so only the last record can be torn. One that is whole behind one that is not means
//! damage, and one of a later generation than the log's that the log is an old copy.

use std::collections::BTreeMap;

use gloaming_signal::{cbor, hash};
use gloaming_window::{Chunk, StorageError, WindowName};

use crate::in_place::InPlace;

/// The file's size: what the log takes in at once while everybody waits, a few milliseconds.
pub const JOURNAL_BYTES: usize = 1 << 20;
/// What a drive writes at once.
const SECTOR: usize = 512;
const HEAD: usize = 28;

fn failed(error: impl std::fmt::Display) -> StorageError {
    StorageError(error.to_string())
}

/// Chunks of one window, framed, and the number of the first of them.
pub(crate) type Run = (u64, Vec<u8>);

/// See the module's page.
pub(crate) struct Journal {
    file: Box<dyn InPlace>,
    generation: u64,
    number: u64,
    end: usize,
    /// Whether the file has its size.
    sized: bool,
    /// What the log has not taken in, by the window's encoded name.
    runs: BTreeMap<Vec<u8>, Run>,
}

pub(crate) fn frame(number: u64, sealed: &[u8], run: &mut Vec<u8>) -> Result<(), StorageError> {
    run.extend_from_slice(&number.to_le_bytes());
    run.extend_from_slice(&u32::try_from(sealed.len()).map_err(failed)?.to_le_bytes());
    run.extend_from_slice(sealed);
    Ok(())
}

/// The first bytes, taken off.
fn take<'b>(bytes: &mut &'b [u8], len: usize) -> Option<&'b [u8]> {
    let (taken, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(taken)
}

fn number(bytes: &mut &[u8]) -> Option<u64> {
    take(bytes, 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes)
}

fn sized<'b>(bytes: &mut &'b [u8]) -> Option<&'b [u8]> {
    let len = take(bytes, 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes)?;
    take(bytes, usize::try_from(len).ok()?)
}

/// The chunks of a run.
pub(crate) fn unframe(name: &WindowName, mut run: &[u8]) -> Result<Vec<Chunk>, StorageError> {
    let mut chunks = Vec::new();
    while !run.is_empty() {
        let framed = number(&mut run).and_then(|number| Some((number, sized(&mut run)?)));
        let (number, sealed) = framed.ok_or_else(|| failed("a run of chunks ends within one"))?;
        chunks.push(Chunk { name: name.clone(), number, key: None, sealed: sealed.to_vec() });
    }
    Ok(chunks)
}

fn checksum(generation: u64, number: u64, body: &[u8]) -> [u8; 8] {
    let mut sum = [0; 8];
    sum.copy_from_slice(&hash::sha256_of(&[&generation.to_le_bytes(), &number.to_le_bytes(), body])[..8]);
    sum
}

/// A whole record.
struct Record<'b> {
    generation: u64,
    number: u64,
    body: &'b [u8],
    /// Where it ends, with what fills its last sector.
    end: usize,
}

/// The record at a place, if there is a whole one that is not older than `generation`.
fn record(file: &[u8], at: usize, generation: u64) -> Option<Record<'_>> {
    let mut rest = file.get(at..)?;
    let len = take(&mut rest, 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes)?;
    let (own, number) = (number(&mut rest)?, number(&mut rest)?);
    let sum = take(&mut rest, 8)?;
    let body = rest.get(..usize::try_from(len).ok()?)?;
    // The last of all numbers has no next one, so nothing is ever written under it.
    let whole = (generation..u64::MAX).contains(&own) && !body.is_empty() && checksum(own, number, body) == sum;
    let end = (at + HEAD + body.len()).next_multiple_of(SECTOR);
    whole.then_some(Record { generation: own, number, body, end })
}

impl Journal {
    pub(crate) fn new(file: impl InPlace + 'static) -> Self {
        let (file, runs) = (Box::new(file), BTreeMap::new());
        Self { file, generation: 0, number: 0, end: 0, sized: false, runs }
    }

    /// Reads the records that the log has not taken in. `generation` is the log's; a new log has none, and gets `fresh`,
    /// drawn at random, so that no other log's records are ever taken for its own. Returns whether the log is an old
    /// copy, or the journal was lost; its records are then of no use.
    pub(crate) fn load(&mut self, generation: Option<u64>, fresh: u64) -> Result<bool, StorageError> {
        self.begin(generation.unwrap_or(fresh));
        if generation.is_none() {
            // What lies there is of a log that is gone.
            self.sized = false;
            return Ok(false);
        }
        let bytes = self.file.load().map_err(failed)?;
        self.sized = bytes.len() == JOURNAL_BYTES;
        if !self.sized {
            return Ok(true);
        }
        let places = (0..JOURNAL_BYTES).step_by(SECTOR);
        let later = places.clone().filter_map(|at| record(&bytes, at, self.generation + 1));
        if let Some(latest) = later.map(|record| record.generation).max() {
            self.generation = latest;
            return Ok(true);
        }
        while let Some(record) = record(&bytes, self.end, self.generation).filter(|r| r.number == self.number) {
            self.take_in(record.body)?;
            (self.end, self.number) = (record.end, self.number + 1);
        }
        let behind = places.filter(|at| *at >= self.end).any(|at| record(&bytes, at, self.generation).is_some());
        if behind { Err(failed("the journal is damaged: bring the store's files back from a copy")) } else { Ok(false) }
    }

    fn take_in(&mut self, mut body: &[u8]) -> Result<(), StorageError> {
        while !body.is_empty() {
            let parts = sized(&mut body).and_then(|name| Some((name, sized(&mut body)?)));
            let (name, framed) = parts.ok_or_else(|| failed("a record of the journal ends within a chunk"))?;
            let first = number(&mut &*framed).ok_or_else(|| failed("a chunk of the journal has no number"))?;
            self.runs.entry(name.to_vec()).or_insert_with(|| (first, Vec::new())).1.extend_from_slice(framed);
        }
        Ok(())
    }

    /// What is loaded is believed: gives the file its size.
    pub(crate) fn begun(&mut self) -> Result<(), StorageError> {
        if !self.sized {
            self.file.put(0, &vec![0; JOURNAL_BYTES]).map_err(failed)?;
            self.sized = true;
        }
        Ok(())
    }

    /// Makes chunks durable, all or none; `false` when there is no room for them, and nothing has happened.
    pub(crate) fn append(&mut self, chunks: &[Chunk]) -> Result<bool, StorageError> {
        // Names and lengths are small beside what is sealed.
        let sealed: usize = chunks.iter().map(|chunk| chunk.sealed.len()).sum();
        let mut bytes = Vec::with_capacity(HEAD + sealed + 256 * chunks.len());
        bytes.resize(HEAD, 0);
        for chunk in chunks {
            let (name, mut framed) = (cbor::to_vec(&chunk.name), Vec::with_capacity(chunk.sealed.len() + 12));
            frame(chunk.number, &chunk.sealed, &mut framed)?;
            for part in [&name, &framed] {
                bytes.extend_from_slice(&u32::try_from(part.len()).map_err(failed)?.to_le_bytes());
                bytes.extend_from_slice(part);
            }
        }
        let body = bytes.len() - HEAD;
        let end = (self.end + bytes.len()).next_multiple_of(SECTOR);
        if !self.sized || end > JOURNAL_BYTES {
            return Ok(false);
        }
        let sum = checksum(self.generation, self.number, &bytes[HEAD..]);
        bytes[..4].copy_from_slice(&u32::try_from(body).map_err(failed)?.to_le_bytes());
        bytes[4..12].copy_from_slice(&self.generation.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.number.to_le_bytes());
        bytes[20..HEAD].copy_from_slice(&sum);
        self.file.put(self.end, &bytes).map_err(failed)?;
        (self.end, self.number) = (end, self.number + 1);
        self.take_in(&bytes[HEAD..])?;
        Ok(true)
    }

    /// Adds chunks that the log takes in with its next commit, and that are durable no sooner.
    pub(crate) fn hold(&mut self, chunks: &[Chunk]) -> Result<(), StorageError> {
        for chunk in chunks {
            let run = self.runs.entry(cbor::to_vec(&chunk.name)).or_insert_with(|| (chunk.number, Vec::new()));
            frame(chunk.number, &chunk.sealed, &mut run.1)?;
        }
        Ok(())
    }

    /// What the log has not taken in.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (&[u8], u64, &[u8])> {
        self.runs.iter().map(|(name, (first, run))| (&name[..], *first, &run[..]))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// That of the records that the log has not taken in.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// The generation that begins when the log takes all in.
    pub(crate) fn next_generation(&self) -> u64 {
        self.generation + 1
    }

    /// The log has taken all in.
    pub(crate) fn begin(&mut self, generation: u64) {
        (self.generation, self.number, self.end) = (generation, 0, 0);
        self.runs.clear();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl InPlace for Memory {
        fn load(&mut self) -> std::io::Result<Vec<u8>> {
            Ok(self.0.lock().unwrap().clone())
        }

        fn write(&mut self, at: usize, bytes: &[u8]) -> std::io::Result<()> {
            let mut all = self.0.lock().unwrap();
            let end = all.len().max(at + bytes.len());
            all.resize(end, 0);
            all[at..at + bytes.len()].copy_from_slice(bytes);
            Ok(())
        }

        fn sync(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn chunk(window: u64, number: u64, len: usize) -> Chunk {
        let name = WindowName { site: "s.example".to_owned(), version: 1, span_ms: 1_000, window };
        Chunk { name, number, key: None, sealed: vec![number as u8; len] }
    }

    /// Chunks as the journal holds them.
    fn held(journal: &Journal) -> Vec<Chunk> {
        journal.runs().flat_map(|(name, _, run)| unframe(&cbor::from_slice(name).unwrap(), run).unwrap()).collect()
    }

    fn loaded(file: &Memory, generation: u64) -> Result<(bool, Journal), StorageError> {
        let mut journal = Journal::new(file.clone());
        journal.load(Some(generation), 0).map(|older| (older, journal))
    }

    /// Three commits in generation 7.
    fn three() -> (Memory, Vec<Chunk>) {
        let file = Memory::default();
        let mut journal = Journal::new(file.clone());
        assert!(!journal.load(None, 7).unwrap());
        assert!(!journal.append(&[chunk(1, 0, 10)]).unwrap(), "before it has begun it takes nothing");
        journal.begun().unwrap();
        assert!(journal.append(&[chunk(1, 4, 700), chunk(2, 0, 30)]).unwrap());
        assert!(journal.append(&[chunk(1, 5, 0)]).unwrap());
        assert!(journal.append(&[chunk(2, 1, 90)]).unwrap());
        let chunks = held(&journal);
        assert_eq!(chunks, [chunk(1, 4, 700), chunk(1, 5, 0), chunk(2, 0, 30), chunk(2, 1, 90)]);
        (file, chunks)
    }

    #[test]
    fn commits_are_there_again_until_the_log_has_taken_them_in() {
        let (file, chunks) = three();
        let (older, mut journal) = loaded(&file, 7).unwrap();
        assert_eq!((older, held(&journal)), (false, chunks));
        journal.begin(journal.next_generation());
        assert!(journal.append(&[chunk(9, 0, 10)]).unwrap());
        let (older, journal) = loaded(&file, 8).unwrap();
        assert_eq!((older, held(&journal)), (false, vec![chunk(9, 0, 10)]));
    }

    #[test]
    fn a_log_that_is_an_old_copy_or_has_lost_its_journal_is_found_out() {
        let (file, _) = three();
        let (older, journal) = loaded(&file, 5).unwrap();
        assert_eq!((older, held(&journal).len(), journal.next_generation()), (true, 0, 8));
        assert!(loaded(&Memory::default(), 7).unwrap().0);
        // What a log left behind that is gone is not of the new one.
        let mut journal = Journal::new(file.clone());
        assert!(!journal.load(None, 3).unwrap());
        journal.begun().unwrap();
        let (older, journal) = loaded(&file, 3).unwrap();
        assert_eq!((older, held(&journal).len()), (false, 0));
    }

    #[test]
    fn the_last_commit_may_be_torn_and_no_other() {
        let (file, chunks) = three();
        let good = file.0.lock().unwrap().clone();
        // The first takes two sectors, the others one each.
        for at in (0..4 * SECTOR).step_by(7) {
            *file.0.lock().unwrap() = good.clone();
            file.0.lock().unwrap()[at] ^= 0x40;
            match loaded(&file, 7) {
                // Behind the end of a record nothing counts.
                Ok((false, journal)) if held(&journal) == chunks => {}
                Ok((false, journal)) => {
                    assert!(at >= 3 * SECTOR, "{at}");
                    assert_eq!(held(&journal), chunks[..3]);
                }
                Ok((true, _)) => panic!("a generation that was made up: {at}"),
                Err(StorageError(said)) => {
                    assert!(at < 3 * SECTOR && said.contains("damaged"), "{at}: {said}");
                }
            }
        }
    }

    #[test]
    fn a_generation_that_none_could_follow_is_made_up() {
        let file = Memory::default();
        let mut journal = Journal::new(file.clone());
        assert!(!journal.load(None, u64::MAX).unwrap());
        journal.begun().unwrap();
        assert!(journal.append(&[chunk(1, 0, 10)]).unwrap());
        let (older, journal) = loaded(&file, 7).unwrap();
        assert_eq!((older, held(&journal).len(), journal.next_generation()), (false, 0, 8));
    }

    #[test]
    fn what_does_not_fit_is_not_taken() {
        let (file, chunks) = three();
        let (_, mut journal) = loaded(&file, 7).unwrap();
        assert!(!journal.append(&[chunk(3, 0, JOURNAL_BYTES)]).unwrap());
        let mut fitted = 0;
        while journal.append(&[chunk(4, fitted, 100_000)]).unwrap() {
            fitted += 1;
        }
        let (_, journal) = loaded(&file, 7).unwrap();
        assert_eq!((fitted, held(&journal).len()), (10, chunks.len() + 10));
    }
}
