//! What an edge finds of itself when it starts again: its journal, its slots of keys, its ledgers, and the small files beside
//! them. Journal and slots are read by the store itself, over files in memory.

use std::io;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use gloaming_edge::{InPlace, JOURNAL_BYTES, RedbStorage, SLOT, outside};
use gloaming_privacy::{Charge, EdgeLedger, Rho};
use gloaming_signal::{cbor, hash};
use gloaming_window::{Chunk, Snapshot, Storage as _, StorageError, WindowName, WrappedKey};
use redb::StorageBackend;

/// A file in memory; clones are of the same one.
#[derive(Clone, Debug, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Memory {
    fn of(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(bytes)))
    }

    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another file with the same bytes.
    fn copy(&self) -> Self {
        Self::of(self.bytes().clone())
    }

    fn overwrite(&self, at: usize, bytes: &[u8]) {
        let mut all = self.bytes();
        let end = all.len().max(at + bytes.len());
        all.resize(end, 0);
        all[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

impl InPlace for Memory {
    fn load(&mut self) -> io::Result<Vec<u8>> {
        Ok(self.bytes().clone())
    }

    fn write(&mut self, at: usize, bytes: &[u8]) -> io::Result<()> {
        self.overwrite(at, bytes);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl StorageBackend for Memory {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let (all, from) = (self.bytes(), usize::try_from(offset).map_err(io::Error::other)?);
        let found = all.get(from..from + out.len());
        out.copy_from_slice(found.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        self.bytes().resize(len, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.overwrite(usize::try_from(offset).map_err(io::Error::other)?, data);
        Ok(())
    }
}

/// An edge's files.
#[derive(Debug, Default)]
struct Files {
    log: Memory,
    keys: Memory,
    journal: Memory,
}

impl Files {
    fn copy(&self) -> Self {
        Self { log: self.log.copy(), keys: self.keys.copy(), journal: self.journal.copy() }
    }

    /// As an edge starts on them.
    fn start(&self) -> Result<(RedbStorage, Snapshot), StorageError> {
        let mut storage = RedbStorage::on(self.log.clone(), self.keys.clone(), self.journal.clone())?;
        let snapshot = storage.load(9)?;
        Ok((storage, snapshot))
    }
}

fn name(window: u64) -> WindowName {
    WindowName { site: "app.example".to_owned(), version: 1, span_ms: 86_400_000, window }
}

fn chunk(window: u64, number: u64, len: usize) -> Chunk {
    Chunk { name: name(window), number, key: None, sealed: vec![number as u8; len] }
}

/// The first of a window, which brings its key and goes into the log.
fn first(window: u64) -> Chunk {
    Chunk { key: Some(WrappedKey(vec![window as u8; 72])), ..chunk(window, 0, 30) }
}

/// What an edge wrote until it stopped.
struct History {
    /// Its files when it had windows 1 and 2, and nothing in the journal.
    files: Files,
    /// The journal, and what is to be found with it, after each of the commits that then went there.
    commits: Vec<(Vec<u8>, Vec<Chunk>)>,
    /// The journal that it had later, when the log had taken in what was there before.
    later: Vec<u8>,
}

static HISTORY: LazyLock<History> = LazyLock::new(|| history().expect("a store in memory does not fail"));

fn history() -> Result<History, StorageError> {
    let written = Files::default();
    let (mut storage, _) = written.start()?;
    storage.begun()?;
    storage.append(&[first(1)])?;
    storage.append(&[first(2)])?;
    // Ended as it should be, so that its files can be copied.
    drop(storage);
    let files = written.copy();
    let (mut storage, read) = written.start()?;
    storage.begun()?;
    let mut chunks = read.chunks;
    let mut commits = vec![(written.journal.bytes().clone(), chunks.clone())];
    for commit in [vec![chunk(1, 1, 700), chunk(2, 1, 30)], vec![chunk(1, 2, 0)], vec![chunk(2, 2, 90)]] {
        storage.append(&commit)?;
        chunks.extend(commit);
        chunks.sort_by_key(|chunk| (chunk.name.window, chunk.number));
        commits.push((written.journal.bytes().clone(), chunks.clone()));
    }
    storage.append(&[first(3)])?;
    storage.append(&[chunk(1, 3, 50)])?;
    let later = written.journal.bytes().clone();
    Ok(History { files, commits, later })
}

/// Bytes of a record's head in the journal.
const HEAD: usize = 28;
const SECTOR: usize = 512;

/// Journals without the zeros at their ends, each once as it is and once to be mended.
pub(crate) fn journals() -> Vec<Vec<u8>> {
    let all = HISTORY.commits.iter().map(|(journal, _)| journal).chain([&HISTORY.later]);
    let trimmed = all.map(|journal| {
        let end = journal.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        &journal[..end]
    });
    trimmed.flat_map(|journal| [0, 1].map(|how| [&[how][..], journal].concat())).collect()
}

/// Gives whatever stands where one record could follow another the checksum that it should have: what a checksum keeps from
/// being read is read as well.
fn mend(file: &mut [u8]) {
    let mut at = 0;
    while let Some(length) = file.get(at..).and_then(|rest| rest.first_chunk::<4>()) {
        let end = at + HEAD + u32::from_le_bytes(*length) as usize;
        if end == at + HEAD || end > file.len() {
            return;
        }
        let summed = [&file[at + 4..at + 20], &file[at + HEAD..end]].concat();
        file[at + 20..at + HEAD].copy_from_slice(&hash::sha256(&summed)[..8]);
        at = end.next_multiple_of(SECTOR);
    }
}

/// Whatever lies in the journal: an edge finds what some commit left, or says what is damaged; a second crash changes nothing
/// of what was found; and what is written after it is found beside it. The first byte says whether checksums are mended.
pub(crate) fn journal(bytes: &[u8]) {
    let Some((how, bytes)) = bytes.split_first() else { return };
    let mended = how % 2 == 1;
    let mut file = bytes.to_vec();
    file.resize(JOURNAL_BYTES, 0);
    if mended {
        mend(&mut file);
    }
    let files = Files { journal: Memory::of(file), ..HISTORY.files.copy() };
    let read = match files.start() {
        Ok((_, read)) => read,
        Err(StorageError(said)) => {
            assert!(mended || said.contains("the journal is damaged"), "{said}");
            return;
        }
    };
    let known = &HISTORY.commits;
    if read.older {
        assert_eq!(read.chunks, known[0].1, "of a journal that is not the log's");
    } else if !mended {
        assert!(known.iter().any(|(_, chunks)| *chunks == read.chunks), "what no commit has left");
    }
    // Each chunk stands there with 12 bytes before it; two lie in the log.
    let claimed: usize = read.chunks.iter().map(|chunk| 12 + chunk.sealed.len()).sum();
    assert!(claimed <= JOURNAL_BYTES + 2 * 42, "{claimed} bytes of chunks");

    let (mut storage, again) = files.start().expect("what was read once is read again");
    assert_eq!((again.older, &again.chunks), (read.older, &read.chunks), "a second crash");
    let last = read.chunks.iter().filter(|chunk| chunk.name == name(1)).map(|chunk| chunk.number).max();
    let (false, Some(number)) = (read.older, last.unwrap_or(0).checked_add(1)) else { return };
    storage.begun().expect("a file in memory");
    let new = chunk(1, number, 50);
    storage.append(std::slice::from_ref(&new)).expect("room for one more");
    drop(storage);
    let (_, after) = files.start().expect("what was written is read");
    let (own, others): (Vec<_>, Vec<_>) = after.chunks.into_iter().partition(|chunk| *chunk == new);
    assert_eq!((after.older, own.len(), others), (false, 1, read.chunks), "what was written after a crash");
}

/// The slots of two windows; and with a third, which the log does not know.
pub(crate) fn slots() -> Vec<Vec<u8>> {
    let two = HISTORY.files.keys.bytes().clone();
    let three = [&two[..], &two[..SLOT]].concat();
    vec![two, three]
}

/// Whatever lies in the slots: a window gets the key that lies in its own slot and under its name, and what is no window's is
/// destroyed.
pub(crate) fn keys(bytes: &[u8]) {
    let files = Files { keys: Memory::of(bytes.to_vec()), ..HISTORY.files.copy() };
    let (mut storage, read) = files.start().expect("no key stops a start");
    for (name, WrappedKey(key)) in &read.keys {
        let place = [1, 2].iter().position(|window| self::name(*window) == *name).expect("a window of the log");
        let slot = &bytes[place * SLOT..];
        assert!(33 + key.len() <= SLOT && key.len() == usize::from(slot[32]), "{} bytes", key.len());
        assert_eq!((&slot[..32], &slot[33..33 + key.len()]), (&hash::sha256(&cbor::to_vec(name))[..], &key[..]));
    }
    storage.begun().expect("a file in memory");
    drop(storage);
    let (own, rest) = (bytes.len().min(2 * SLOT), files.keys.bytes().clone());
    assert_eq!(rest[..own], bytes[..own], "slots of windows are theirs");
    assert!(rest[own..].iter().all(|byte| *byte == 0), "a key of no window is still there");
    let (_, again) = files.start().expect("no key stops a start");
    assert_eq!(again.keys, read.keys);
}

const BUDGET: Rho = Rho::from_micro(250_000);
/// The days of a window of a week.
const DAYS: std::ops::RangeInclusive<u64> = 20_781..=20_787;

fn charge(metric: u32) -> Charge {
    Charge { metric, per_day: 2, rho: Rho::from_micro(20_000) }
}

/// A ledger of two metrics, one of which was released for a day alone.
pub(crate) fn ledgers() -> Vec<Vec<u8>> {
    let mut ledger = EdgeLedger::default();
    let paid = [(1, *DAYS.end()), (2, *DAYS.start())]
        .map(|(metric, last)| ledger.debit(*DAYS.start(), last, BUDGET, charge(metric)).is_ok());
    assert_eq!(paid, [true, true]);
    vec![cbor::to_vec(&ledger)]
}

/// Whatever an account says: a day that is charged stays within its budget, or nothing is paid.
pub(crate) fn ledger(bytes: &[u8]) {
    let Some(mut ledger) = crate::canonical::<EdgeLedger>(bytes) else { return };
    let before = ledger.clone();
    if ledger.debit(*DAYS.start(), *DAYS.end(), BUDGET, charge(1)).is_err() {
        assert_eq!(ledger, before, "refused, and paid in part");
        return;
    }
    for day in DAYS {
        assert!(before.spent(day) <= ledger.spent(day) && ledger.spent(day) <= BUDGET, "day {day}");
        assert!(ledger.spent(day) >= Rho::from_micro(40_000), "day {day} is not paid");
    }
}

/// An anchor as it is written.
pub(crate) fn anchors() -> Vec<Vec<u8>> {
    let text = "gloaming anchor 1\nepoch 4821990023113\nreleases 217\nreleased_ms 1795651200123\n";
    outside::anchor(text).map(|(_, text)| text.into_bytes()).into_iter().collect()
}

/// What is taken for an anchor is the same one when it is written again.
pub(crate) fn anchor(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some((anchor, again)) = outside::anchor(text) {
        assert_eq!(outside::anchor(&again), Some((anchor, again.clone())));
    }
}

/// Stops as they are written.
pub(crate) fn stop_lists() -> Vec<Vec<u8>> {
    let text = "gloaming stops 1\nblog.example note 2\nshop.example delivery-note 7\nshop.example hint 4294967295\n";
    outside::stops(text).map(|(_, text)| text.into_bytes()).into_iter().collect()
}

/// A list has no more stops than lines, and the same ones when it is written again.
pub(crate) fn stops(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some((count, again)) = outside::stops(text) {
        assert!(count < text.lines().count());
        assert_eq!(outside::stops(&again), Some((count, again.clone())));
    }
}
