//! The durable log: redb, one transaction for each of the storage trait's methods.
//!
//! Chunks are appended, never updated: keys grow within a window, so a group commit touches the right
//! edge of one tree. Durability is redb's default, an fsync before `commit` returns. Window keys lie in
//! [`crate::slots`]; the log knows their places. A key is written before the commit that needs it and
//! destroyed after the one that does not, so a crash leaves a key too many, which the next start destroys.

use std::collections::BTreeMap;
use std::path::Path;

use crate::slots::{KeySlots, SLOT, SlotFile};
use gloaming_privacy::EdgeLedger;
use gloaming_signal::{cbor, hash};
use gloaming_window::{
    Chunk, Cursor, PolicyRow, ReleaseCommit, Snapshot, Storage, StorageError, Waiting, WindowName, WrappedKey,
};
use redb::{Database, ReadableDatabase as _, ReadableTable as _, StorageBackend, TableDefinition, WriteTransaction};

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const POLICIES: TableDefinition<'_, (&str, u32), (u64, &[u8])> = TableDefinition::new("policies");
const KEYS: TableDefinition<'_, &[u8], u64> = TableDefinition::new("key_slots");
const CHUNKS: TableDefinition<'_, (&[u8], u64), &[u8]> = TableDefinition::new("chunks");
const CURSORS: TableDefinition<'_, (&str, u32, u64), u64> = TableDefinition::new("cursors");
const LEDGERS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("ledgers");
const OUTBOX: TableDefinition<'_, (u64, &str, u64), &[u8]> = TableDefinition::new("outbox");
const NEXT_SEQ: TableDefinition<'_, &str, u64> = TableDefinition::new("next_seq");

/// See the module's page.
pub struct RedbStorage {
    database: Database,
    slots: Box<dyn KeySlots>,
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
    transaction.open_table(CHUNKS).map_err(failed)?.retain(|(name, _), _| !gone(name)).map_err(failed)?;
    Ok(names)
}

/// A slot's bytes.
fn slot(name: &[u8], key: &WrappedKey) -> Result<[u8; SLOT], StorageError> {
    let mut bytes = [0; SLOT];
    bytes[..32].copy_from_slice(&hash::sha256(name));
    bytes[32] = u8::try_from(key.0.len()).map_err(failed)?;
    let place = bytes.get_mut(33..33 + key.0.len()).ok_or_else(|| failed("a key that is too long for its slot"))?;
    place.copy_from_slice(&key.0);
    Ok(bytes)
}

/// The key in a slot, if it is that of this window.
fn key_in(slot: &[u8], name: &[u8]) -> Option<WrappedKey> {
    let length = usize::from(*slot.get(32)?);
    (slot.get(..32)? == hash::sha256(name)).then(|| slot.get(33..33 + length).map(|key| WrappedKey(key.to_vec())))?
}

impl RedbStorage {
    /// Opens or creates the file, and the one for its keys.
    ///
    /// # Errors
    /// When one cannot be opened, or another process has it open.
    pub fn create(path: &Path) -> Result<Self, StorageError> {
        let database = Database::create(path).map_err(failed)?;
        Ok(Self::with(database, SlotFile::open(path).map_err(failed)?))
    }

    /// Opens the file.
    ///
    /// # Errors
    /// When it is not there or cannot be opened, or another process has it open.
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        let database = Database::open(path).map_err(failed)?;
        Ok(Self::with(database, SlotFile::open(path).map_err(failed)?))
    }

    /// Over any storage that redb takes; a new one is made on an empty one.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn on(backend: impl StorageBackend, slots: impl KeySlots + 'static) -> Result<Self, StorageError> {
        let database = Database::builder().create_with_backend(backend).map_err(failed)?;
        Ok(Self::with(database, slots))
    }

    fn with(database: Database, slots: impl KeySlots + 'static) -> Self {
        Self { database, slots: Box::new(slots), used: BTreeMap::new(), orphans: Vec::new() }
    }

    /// Destroys keys of windows that the log does not know any more.
    fn destroy(&mut self, names: &[Vec<u8>]) -> Result<(), StorageError> {
        for name in names {
            if let Some(slot) = self.used.get(name) {
                self.slots.put(usize::try_from(*slot).map_err(failed)?, &[0; SLOT]).map_err(failed)?;
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

    fn write<T>(&mut self, work: impl FnOnce(&WriteTransaction) -> Result<T, StorageError>) -> Result<T, StorageError> {
        let transaction = self.database.begin_write().map_err(failed)?;
        let value = work(&transaction)?;
        transaction.commit().map_err(failed)?;
        Ok(value)
    }
}

impl Storage for RedbStorage {
    fn load(&mut self, new_epoch: u64) -> Result<Snapshot, StorageError> {
        // Creates the tables and, in a new store, mints the epoch.
        let (epoch, floor_ms) = self.write(|transaction| {
            transaction.open_table(POLICIES).map_err(failed)?;
            transaction.open_table(KEYS).map_err(failed)?;
            transaction.open_table(CHUNKS).map_err(failed)?;
            transaction.open_table(CURSORS).map_err(failed)?;
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
        let mut snapshot = Snapshot { epoch, floor_ms, ..Snapshot::default() };
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
        for row in read.open_table(CHUNKS).map_err(failed)?.iter().map_err(failed)? {
            let (key, value) = row.map_err(failed)?;
            let (name, number) = key.value();
            let sealed = value.value().to_vec();
            snapshot.chunks.push(Chunk { name: named(name)?, number, key: None, sealed });
        }
        for row in read.open_table(CURSORS).map_err(failed)?.iter().map_err(failed)? {
            let (key, value) = row.map_err(failed)?;
            let (site, version, span_ms) = key.value();
            snapshot.cursors.insert(Cursor { site: site.into(), version, span_ms }, value.value());
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
            self.slots.put(*slot, &[0; SLOT]).map_err(failed)?;
            self.orphans.pop();
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
            self.slots.put(usize::try_from(place).map_err(failed)?, &slot(&name, key)?).map_err(failed)?;
            self.used.insert(name.clone(), place);
            placed.push((name, place));
        }
        self.write(|transaction| {
            let mut keys = transaction.open_table(KEYS).map_err(failed)?;
            for (name, place) in &placed {
                keys.insert(&name[..], place).map_err(failed)?;
            }
            let mut table = transaction.open_table(CHUNKS).map_err(failed)?;
            for chunk in chunks {
                let name = cbor::to_vec(&chunk.name);
                table.insert((&name[..], chunk.number), &chunk.sealed[..]).map_err(failed)?;
            }
            Ok(())
        })
    }

    fn release(&mut self, commit: &ReleaseCommit) -> Result<(), StorageError> {
        let name = cbor::to_vec(&commit.name);
        self.write(|transaction| {
            transaction.open_table(KEYS).map_err(failed)?.remove(&name[..]).map_err(failed)?;
            let mut chunks = transaction.open_table(CHUNKS).map_err(failed)?;
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
        let gone = self.write(|transaction| {
            let gone = forget(transaction, |_| true)?;
            transaction.open_table(META).map_err(failed)?.insert("epoch", epoch).map_err(failed)?;
            transaction.open_table(NEXT_SEQ).map_err(failed)?.retain(|_, _| false).map_err(failed)?;
            let mut table = transaction.open_table(CURSORS).map_err(failed)?;
            for (cursor, next) in cursors {
                table.insert((cursor.site.as_str(), cursor.version, cursor.span_ms), *next).map_err(failed)?;
            }
            Ok(gone)
        })?;
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
mod tests {
    use super::*;

    #[test]
    fn a_slot_gives_its_key_to_its_own_window_and_nothing_when_it_is_cut_or_made_up() {
        let key = WrappedKey(vec![7; 72]);
        let Ok(bytes) = slot(b"a window", &key) else { panic!("it fits") };
        assert_eq!(key_in(&bytes, b"a window"), Some(key));
        assert_eq!(key_in(&bytes, b"another"), None);
        for length in [0, 31, 32, 33, 50] {
            assert_eq!(key_in(&bytes[..length], b"a window"), None, "cut to {length}");
        }
        let mut longer = bytes;
        longer[32] = 255;
        assert_eq!(key_in(&longer, b"a window"), None, "a length beyond the slot");
        assert!(slot(b"a window", &WrappedKey(vec![7; 200])).is_err());
    }
}
