//! The durable log: redb, one transaction for each of the storage trait's methods.
//!
//! Chunks come by the [`crate::journal`], which each transaction takes in: a run of them for each window, however many
//! group commits they are of. Runs are appended, never updated. Durability is redb's default, an fsync before `commit`
//! returns. Window keys lie in [`crate::slots`]; the log knows their places. A key is written before the commit that
//! needs it and destroyed after the one that does not, so a crash leaves a key too many, which the next start destroys.

use std::collections::BTreeMap;
use std::path::Path;

use gloaming_privacy::EdgeLedger;
use gloaming_signal::cbor;
use gloaming_window::{
    Chunk, Cursor, PolicyRow, ReleaseCommit, Snapshot, Storage, StorageError, Waiting, WindowName, WrappedKey,
};
use redb::{
    Database, ReadableDatabase as _, ReadableTable as _, StorageBackend, TableDefinition, TableError, WriteTransaction,
};

use crate::in_place::{Beside, InPlace};
use crate::journal::{JOURNAL_BYTES, Journal, frame, unframe};
use crate::slots::{SLOT, SLOTS_BYTES, key_in, slot};

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const POLICIES: TableDefinition<'_, (&str, u32), (u64, &[u8])> = TableDefinition::new("policies");
const KEYS: TableDefinition<'_, &[u8], u64> = TableDefinition::new("key_slots");
const CHUNKS: TableDefinition<'_, (&[u8], u64), &[u8]> = TableDefinition::new("chunks");
const RUNS: TableDefinition<'_, (&[u8], u64), &[u8]> = TableDefinition::new("runs");
const CURSORS: TableDefinition<'_, (&str, u32, u64), u64> = TableDefinition::new("cursors");
const LEFT: TableDefinition<'_, &str, u64> = TableDefinition::new("left");
const LEDGERS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("ledgers");
const OUTBOX: TableDefinition<'_, (u64, &str, u64), &[u8]> = TableDefinition::new("outbox");
const NEXT_SEQ: TableDefinition<'_, &str, u64> = TableDefinition::new("next_seq");

/// See the module's page.
pub struct RedbStorage {
    database: Database,
    slots: Box<dyn InPlace>,
    journal: Journal,
    /// Slots in use, by the window's name.
    used: BTreeMap<Vec<u8>, u64>,
    /// Slots that hold a key of no window in the log.
    orphans: Vec<usize>,
}

fn failed(error: impl std::fmt::Display) -> StorageError {
    StorageError(error.to_string())
}

fn named(bytes: &[u8]) -> Result<WindowName, StorageError> {
    cbor::from_slice(bytes).map_err(failed)
}

/// Takes out windows; returns their names, whose keys are to be destroyed once that is durable.
fn forget(transaction: &WriteTransaction, gone: impl Fn(&WindowName) -> bool) -> Result<Vec<Vec<u8>>, StorageError> {
    let mut names = Vec::new();
    let gone = |name: &[u8]| named(name).is_ok_and(|name| gone(&name));
    transaction
        .open_table(KEYS)
        .map_err(failed)?
        .retain(|name, _| {
            let gone = gone(name);
            if gone {
                names.push(name.to_vec());
            }
            !gone
        })
        .map_err(failed)?;
    transaction.open_table(RUNS).map_err(failed)?.retain(|(name, _), _| !gone(name)).map_err(failed)?;
    Ok(names)
}

/// What a store of before there was a journal holds, as runs of one chunk each.
fn take_chunks(transaction: &WriteTransaction) -> Result<(), StorageError> {
    let chunks = transaction.open_table(CHUNKS).map_err(failed)?;
    let mut runs = transaction.open_table(RUNS).map_err(failed)?;
    for row in chunks.iter().map_err(failed)? {
        let (key, sealed) = row.map_err(failed)?;
        let ((name, number), mut run) = (key.value(), Vec::new());
        frame(number, sealed.value(), &mut run)?;
        if runs.insert((name, number), &run[..]).map_err(failed)?.is_some() {
            return Err(failed("an earlier release has written to this store since: bring a copy of one moment back"));
        }
    }
    drop(chunks);
    transaction.delete_table(CHUNKS).map_err(failed)?;
    Ok(())
}

impl RedbStorage {
    /// Opens or creates the file, and those for its keys and journal.
    ///
    /// # Errors
    /// When one cannot be opened, or another process has it open.
    pub fn create(path: &Path) -> Result<Self, StorageError> {
        Self::beside(Database::create(path).map_err(failed)?, path)
    }

    /// Opens the file.
    ///
    /// # Errors
    /// When it is not there or cannot be opened, or another process has it open.
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        Self::beside(Database::open(path).map_err(failed)?, path)
    }

    /// Over any storage that redb takes; a new one is made on an empty one.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn on(
        backend: impl StorageBackend,
        slots: impl InPlace + 'static,
        journal: impl InPlace + 'static,
    ) -> Result<Self, StorageError> {
        Ok(Self::with(Database::builder().create_with_backend(backend).map_err(failed)?, slots, journal))
    }

    fn beside(database: Database, path: &Path) -> Result<Self, StorageError> {
        let open = |what, most| Beside::open(path, what, most).map_err(failed);
        Ok(Self::with(database, open("keys", SLOTS_BYTES)?, open("journal", JOURNAL_BYTES as u64)?))
    }

    fn with(database: Database, slots: impl InPlace + 'static, journal: impl InPlace + 'static) -> Self {
        let (slots, journal) = (Box::new(slots), Journal::new(journal));
        Self { database, slots, journal, used: BTreeMap::new(), orphans: Vec::new() }
    }

    /// The generation of the journal that the log has not taken in; none in a new log.
    fn generation(&self) -> Result<Option<u64>, StorageError> {
        let read = self.database.begin_read().map_err(failed)?;
        match read.open_table(META) {
            Ok(meta) => Ok(meta.get("journal").map_err(failed)?.map(|generation| generation.value())),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    fn put_slot(&mut self, place: u64, bytes: &[u8; SLOT]) -> Result<(), StorageError> {
        let at = usize::try_from(place).ok().and_then(|place| place.checked_mul(SLOT));
        self.slots.put(at.ok_or_else(|| failed("a slot beyond what can be addressed"))?, bytes).map_err(failed)
    }

    /// Destroys keys of windows that the log does not know any more.
    fn destroy(&mut self, names: &[Vec<u8>]) -> Result<(), StorageError> {
        for name in names {
            if let Some(slot) = self.used.get(name) {
                self.put_slot(*slot, &[0; SLOT])?;
                self.used.remove(name);
            }
        }
        Ok(())
    }

    /// The keys by name; whatever else lies in a slot is noted, to be destroyed.
    fn load_keys(&mut self, known: BTreeMap<Vec<u8>, u64>) -> Result<BTreeMap<WindowName, WrappedKey>, StorageError> {
        let slots = self.slots.load().map_err(failed)?;
        self.orphans.clear();
        let mut keys = BTreeMap::new();
        for (index, bytes) in slots.chunks(SLOT).enumerate() {
            let owner = known.iter().find(|(_, slot)| **slot == index as u64).map(|(name, _)| name);
            match owner.and_then(|name| Some((name, key_in(bytes, name)?))) {
                Some((name, key)) => {
                    keys.insert(named(name)?, key);
                }
                None if bytes.iter().any(|byte| *byte != 0) && owner.is_none() => {
                    self.orphans.push(index);
                }
                None => {}
            }
        }
        self.used = known;
        Ok(keys)
    }

    /// One transaction, which takes the journal in before anything else.
    fn write<T>(&mut self, work: impl FnOnce(&WriteTransaction) -> Result<T, StorageError>) -> Result<T, StorageError> {
        let transaction = self.database.begin_write().map_err(failed)?;
        let generation = self.journal.next_generation();
        if !self.journal.is_empty() {
            let mut table = transaction.open_table(RUNS).map_err(failed)?;
            for (name, first, run) in self.journal.runs() {
                table.insert((name, first), run).map_err(failed)?;
            }
            transaction.open_table(META).map_err(failed)?.insert("journal", generation).map_err(failed)?;
        }
        let value = work(&transaction)?;
        transaction.commit().map_err(failed)?;
        if !self.journal.is_empty() {
            self.journal.begin(generation);
        }
        Ok(value)
    }
}

impl Storage for RedbStorage {
    fn load(&mut self, new_epoch: u64) -> Result<Snapshot, StorageError> {
        let generation = self.generation()?;
        let older = self.journal.load(generation, new_epoch)?;
        // Creates the tables and, in a new store, mints the epoch.
        let (epoch, floor_ms) = self.write(|transaction| {
            transaction.open_table(POLICIES).map_err(failed)?;
            transaction.open_table(KEYS).map_err(failed)?;
            take_chunks(transaction)?;
            transaction.open_table(CURSORS).map_err(failed)?;
            transaction.open_table(LEFT).map_err(failed)?;
            transaction.open_table(LEDGERS).map_err(failed)?;
            transaction.open_table(OUTBOX).map_err(failed)?;
            transaction.open_table(NEXT_SEQ).map_err(failed)?;
            let mut meta = transaction.open_table(META).map_err(failed)?;
            let known = meta.get("epoch").map_err(failed)?.map(|epoch| epoch.value());
            let floor_ms = meta.get("floor_ms").map_err(failed)?.map_or(0, |floor| floor.value());
            if known.is_none() {
                meta.insert("epoch", new_epoch).map_err(failed)?;
            }
            Ok((known.unwrap_or(new_epoch), floor_ms))
        })?;
        let read = self.database.begin_read().map_err(failed)?;
        let mut snapshot = Snapshot { epoch, floor_ms, older, ..Snapshot::default() };
        for row in read.open_table(POLICIES).map_err(failed)?.iter().map_err(failed)? {
            let (key, value) = row.map_err(failed)?;
            let ((site, version), (since_ms, signed)) = (key.value(), value.value());
            snapshot.policies.insert((site.into(), version), PolicyRow { signed: signed.to_vec(), since_ms });
        }
        let mut known = BTreeMap::new();
        for row in read.open_table(KEYS).map_err(failed)?.iter().map_err(failed)? {
            let (key, value) = row.map_err(failed)?;
            known.insert(key.value().to_vec(), value.value());
        }
        snapshot.keys = self.load_keys(known)?;
        for row in read.open_table(RUNS).map_err(failed)?.iter().map_err(failed)? {
            let (key, value) = row.map_err(failed)?;
            snapshot.chunks.extend(unframe(&named(key.value().0)?, value.value())?);
        }
        for row in read.open_table(CURSORS).map_err(failed)?.iter().map_err(failed)? {
            let (key, value) = row.map_err(failed)?;
            let (site, version, span_ms) = key.value();
            snapshot.cursors.insert(Cursor { site: site.into(), version, span_ms }, value.value());
        }
        for row in read.open_table(LEFT).map_err(failed)?.iter().map_err(failed)? {
            let (site, at_ms) = row.map_err(failed)?;
            snapshot.left.insert(site.value().into(), at_ms.value());
        }
        for row in read.open_table(LEDGERS).map_err(failed)?.iter().map_err(failed)? {
            let (key, value) = row.map_err(failed)?;
            let ledger: EdgeLedger = cbor::from_slice(value.value()).map_err(failed)?;
            snapshot.ledgers.insert(key.value().into(), ledger);
        }
        for row in read.open_table(OUTBOX).map_err(failed)?.iter().map_err(failed)? {
            let (key, value) = row.map_err(failed)?;
            let (epoch, site, seq) = key.value();
            snapshot.outbox.push(Waiting { site: site.into(), epoch, seq, bytes: value.value().len() });
        }
        for row in read.open_table(NEXT_SEQ).map_err(failed)?.iter().map_err(failed)? {
            let (key, value) = row.map_err(failed)?;
            snapshot.next_seq.insert(key.value().into(), value.value());
        }
        Ok(snapshot)
    }

    fn begun(&mut self) -> Result<(), StorageError> {
        while let Some(slot) = self.orphans.last() {
            self.put_slot(*slot as u64, &[0; SLOT])?;
            self.orphans.pop();
        }
        self.journal.begun()?;
        // Named only now: a log that names a journal has lost it when the file has not its size.
        if self.generation()?.is_none() {
            let generation = self.journal.generation();
            self.write(|transaction| {
                transaction.open_table(META).map_err(failed)?.insert("journal", generation).map_err(failed)?;
                Ok(())
            })?;
        }
        Ok(())
    }

    fn append(&mut self, chunks: &[Chunk]) -> Result<(), StorageError> {
        // Keys first: a chunk without its key is lost, a key without a chunk is nothing.
        let mut placed = Vec::new();
        for chunk in chunks {
            let Some(key) = &chunk.key else { continue };
            let name = cbor::to_vec(&chunk.name);
            let taken = |place: &u64| self.used.values().any(|used| used == place);
            let place = (0u64..).find(|place| !taken(place)).unwrap_or(0);
            self.put_slot(place, &slot(&name, key)?)?;
            self.used.insert(name.clone(), place);
            placed.push((name, place));
        }
        // The journal's chunks are of windows that the log knows.
        if placed.is_empty() && self.journal.append(chunks)? {
            return Ok(());
        }
        self.journal.hold(chunks)?;
        self.write(|transaction| {
            let mut keys = transaction.open_table(KEYS).map_err(failed)?;
            for (name, place) in &placed {
                keys.insert(&name[..], place).map_err(failed)?;
            }
            Ok(())
        })
    }

    fn release(&mut self, commit: &ReleaseCommit) -> Result<(), StorageError> {
        let name = cbor::to_vec(&commit.name);
        self.write(|transaction| {
            transaction.open_table(KEYS).map_err(failed)?.remove(&name[..]).map_err(failed)?;
            let mut chunks = transaction.open_table(RUNS).map_err(failed)?;
            chunks.retain_in((&name[..], 0)..=(&name[..], u64::MAX), |_, _| false).map_err(failed)?;
            let WindowName { site, version, span_ms, .. } = &commit.name;
            let delivery = &commit.delivery;
            let mut cursors = transaction.open_table(CURSORS).map_err(failed)?;
            cursors.insert((site.as_str(), *version, *span_ms), commit.next_window).map_err(failed)?;
            let mut ledgers = transaction.open_table(LEDGERS).map_err(failed)?;
            ledgers.insert(site.as_str(), &cbor::to_vec(&commit.ledger)[..]).map_err(failed)?;
            let mut next = transaction.open_table(NEXT_SEQ).map_err(failed)?;
            next.insert(site.as_str(), delivery.seq + 1).map_err(failed)?;
            let mut outbox = transaction.open_table(OUTBOX).map_err(failed)?;
            outbox.insert((delivery.epoch, site.as_str(), delivery.seq), &delivery.bytes[..]).map_err(failed)?;
            transaction.open_table(META).map_err(failed)?.insert("floor_ms", commit.now_ms).map_err(failed)?;
            Ok(())
        })?;
        self.destroy(&[name])
    }

    fn skip(&mut self, cursor: &Cursor, next: u64) -> Result<(), StorageError> {
        let gone = self.write(|transaction| {
            let gone = forget(transaction, |name| name.of(cursor) && name.window < next)?;
            let mut cursors = transaction.open_table(CURSORS).map_err(failed)?;
            cursors.insert((cursor.site.as_str(), cursor.version, cursor.span_ms), next).map_err(failed)?;
            Ok(gone)
        })?;
        self.destroy(&gone)
    }

    fn begin_anew(&mut self, epoch: u64, cursors: &BTreeMap<Cursor, u64>) -> Result<(), StorageError> {
        // The journal's records are of before, and later ones than the log's are not to be met again.
        let generation = self.journal.next_generation();
        let gone = self.write(|transaction| {
            let gone = forget(transaction, |_| true)?;
            let mut meta = transaction.open_table(META).map_err(failed)?;
            meta.insert("epoch", epoch).map_err(failed)?;
            meta.insert("journal", generation).map_err(failed)?;
            transaction.open_table(NEXT_SEQ).map_err(failed)?.retain(|_, _| false).map_err(failed)?;
            let mut table = transaction.open_table(CURSORS).map_err(failed)?;
            for (cursor, next) in cursors {
                table.insert((cursor.site.as_str(), cursor.version, cursor.span_ms), *next).map_err(failed)?;
            }
            Ok(gone)
        })?;
        self.journal.begin(generation);
        self.destroy(&gone)
    }

    fn put_policy(
        &mut self,
        site: &str,
        version: u32,
        row: &PolicyRow,
        cursors: &[(Cursor, u64)],
        below: u32,
    ) -> Result<(), StorageError> {
        let gone = self.write(|transaction| {
            transaction.open_table(LEFT).map_err(failed)?.remove(site).map_err(failed)?;
            let mut policies = transaction.open_table(POLICIES).map_err(failed)?;
            policies.retain_in((site, 0)..(site, below), |_, _| false).map_err(failed)?;
            policies.insert((site, version), (row.since_ms, &row.signed[..])).map_err(failed)?;
            let mut table = transaction.open_table(CURSORS).map_err(failed)?;
            table.retain_in((site, 0, 0)..(site, below, 0), |_, _| false).map_err(failed)?;
            for (cursor, next) in cursors {
                table.insert((site, version, cursor.span_ms), *next).map_err(failed)?;
            }
            forget(transaction, |name| name.site == site && name.version < below)
        })?;
        self.destroy(&gone)
    }

    fn leave(&mut self, site: &str, at_ms: u64) -> Result<(), StorageError> {
        self.write(|transaction| {
            transaction.open_table(LEFT).map_err(failed)?.insert(site, at_ms).map_err(failed)?;
            Ok(())
        })
    }

    fn forget(&mut self, site: &str) -> Result<(), StorageError> {
        let gone = self.write(|transaction| {
            transaction.open_table(LEFT).map_err(failed)?.remove(site).map_err(failed)?;
            let mut policies = transaction.open_table(POLICIES).map_err(failed)?;
            policies.retain_in((site, 0)..=(site, u32::MAX), |_, _| false).map_err(failed)?;
            let mut cursors = transaction.open_table(CURSORS).map_err(failed)?;
            cursors.retain_in((site, 0, 0)..=(site, u32::MAX, u64::MAX), |_, _| false).map_err(failed)?;
            forget(transaction, |name| name.site == site)
        })?;
        self.destroy(&gone)
    }

    fn delivery(&mut self, row: &Waiting) -> Result<Vec<u8>, StorageError> {
        let read = self.database.begin_read().map_err(failed)?;
        let outbox = read.open_table(OUTBOX).map_err(failed)?;
        let bytes = outbox.get((row.epoch, row.site.as_str(), row.seq)).map_err(failed)?;
        bytes.map(|bytes| bytes.value().to_vec()).ok_or_else(|| failed("a delivery is missing"))
    }

    fn acknowledged(&mut self, row: &Waiting) -> Result<(), StorageError> {
        self.write(|transaction| {
            let mut outbox = transaction.open_table(OUTBOX).map_err(failed)?;
            outbox.remove((row.epoch, row.site.as_str(), row.seq)).map_err(failed)?;
            Ok(())
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A first start may end anywhere: a clock that is doubted, a disk that is full, a kill.
    #[test]
    fn a_start_that_ended_early_has_lost_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("edge.redb");
        // What another log left behind.
        std::fs::write(folder.path().join("edge.redb.journal"), vec![0xff; JOURNAL_BYTES]).unwrap();
        for epoch in 1..4 {
            let snapshot = RedbStorage::create(&path).unwrap().load(epoch).unwrap();
            assert_eq!((snapshot.older, snapshot.epoch), (false, 1));
        }
        let mut storage = RedbStorage::create(&path).unwrap();
        storage.load(9).unwrap();
        storage.begun().unwrap();
        drop(storage);
        assert!(!RedbStorage::open(&path).unwrap().load(9).unwrap().older);
    }

    #[test]
    fn a_store_that_an_earlier_release_wrote_to_in_between_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("edge.redb");
        let mut storage = RedbStorage::create(&path).unwrap();
        storage.load(9).unwrap();
        let transaction = storage.database.begin_write().unwrap();
        transaction.open_table(RUNS).unwrap().insert((&b"w"[..], 0), &b"here"[..]).unwrap();
        transaction.open_table(CHUNKS).unwrap().insert((&b"w"[..], 0), &b"there"[..]).unwrap();
        transaction.commit().unwrap();
        let StorageError(said) = storage.load(9).unwrap_err();
        assert!(said.contains("an earlier release has written to this store"), "{said}");
    }

    #[test]
    fn a_store_of_before_there_was_a_journal_is_read_and_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("edge.redb");
        let name = WindowName { site: "s.example".to_owned(), version: 1, span_ms: 1_000, window: 7 };
        let chunk = |number: u64, key| Chunk { name: name.clone(), number, key, sealed: vec![number as u8; 30] };
        let mut storage = RedbStorage::create(&path).unwrap();
        storage.load(9).unwrap();
        storage.begun().unwrap();
        storage.append(&[chunk(0, Some(WrappedKey(vec![5; 72])))]).unwrap();
        // As it was written then.
        let transaction = storage.database.begin_write().unwrap();
        transaction.open_table(META).unwrap().remove("journal").unwrap();
        let before = cbor::to_vec(&name);
        transaction.open_table(CHUNKS).unwrap().insert((&before[..], 1), &[1; 30][..]).unwrap();
        transaction.commit().unwrap();
        drop(storage);
        std::fs::remove_file(folder.path().join("edge.redb.journal")).unwrap();

        for round in 0..2 {
            let mut storage = RedbStorage::open(&path).unwrap();
            let snapshot = storage.load(10).unwrap();
            storage.begun().unwrap();
            assert_eq!((snapshot.older, snapshot.epoch), (false, 9));
            assert_eq!(snapshot.chunks, (0..2 + round).map(|number| chunk(number, None)).collect::<Vec<_>>());
            storage.append(&[chunk(2 + round, None)]).unwrap();
        }
    }
}
