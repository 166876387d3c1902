//! What must survive a crash, and the two ways it changes.
//!
//! ```text
//! policies  site, version            -> signed bundle, activation time
//! keys      window name              -> its key, wrapped
//! chunks    window name, number      -> ids and cells of one group commit, sealed with that key
//! cursors   site, version, span      -> next window to release
//! left      site                     -> edge time at which it left
//! ledgers   site                     -> what each day has cost
//! outbox    site, epoch, seq         -> delivery bytes
//! meta      epoch; edge time of the last release; next seq of each site
//! ```

use gloaming_privacy::EdgeLedger;
use gloaming_signal::cbor_record;
use std::collections::BTreeMap;

/// One window of one policy version of one site: the unit that has a key, chunks and a release.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WindowName {
    /// The site.
    pub site: String,
    /// Policy version its contributions name.
    pub version: u32,
    /// Window length, ms.
    pub span_ms: u64,
    /// Window index.
    pub window: u64,
}

cbor_record!(WindowName { site, version, span_ms, window });

impl WindowName {
    /// Whether it is one of a cursor's windows.
    #[must_use]
    pub fn of(&self, cursor: &Cursor) -> bool {
        (self.site.as_str(), self.version, self.span_ms) == (cursor.site.as_str(), cursor.version, cursor.span_ms)
    }
}

/// A window's key, encrypted under the wrapping key that lies outside the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedKey(pub Vec<u8>);

/// Ids and cells of one window from one group commit, sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Which window.
    pub name: WindowName,
    /// Grows within the window.
    pub number: u64,
    /// The window's key, when this is its first chunk.
    pub key: Option<WrappedKey>,
    /// Sealed `[ [id…], [ [cell-key, value]… ] ]`.
    pub sealed: Vec<u8>,
}

/// A policy in force, as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyRow {
    /// The signed bundle's bytes.
    pub signed: Vec<u8>,
    /// Edge time at which it came into force, ms.
    pub since_ms: u64,
}

/// How far the windows of one length are released.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// The site.
    pub site: String,
    /// Policy version.
    pub version: u32,
    /// Window length, ms.
    pub span_ms: u64,
}

/// A delivery that the centre has not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxRow {
    /// The site.
    pub site: String,
    /// The store's epoch.
    pub epoch: u64,
    /// Number within site and epoch.
    pub seq: u64,
    /// The signed bytes, the same at every try.
    pub bytes: Vec<u8>,
}

/// The name of a delivery that the centre has not acknowledged, and its size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The site.
    pub site: String,
    /// The store's epoch.
    pub epoch: u64,
    /// Number within site and epoch.
    pub seq: u64,
    /// How many bytes it has.
    pub bytes: usize,
}

impl OutboxRow {
    /// Its name.
    #[must_use]
    pub fn waiting(&self) -> Waiting {
        Waiting { site: self.site.clone(), epoch: self.epoch, seq: self.seq, bytes: self.bytes.len() }
    }
}

/// Everything that changes when a window is released: all of it or none.
#[derive(Clone, Debug)]
pub struct ReleaseCommit {
    /// The window; its chunks and key are destroyed.
    pub name: WindowName,
    /// What is delivered.
    pub delivery: OutboxRow,
    /// The site's ledger after the debit.
    pub ledger: EdgeLedger,
    /// The next window of this length to release.
    pub next_window: u64,
    /// Edge time of the release, ms.
    pub now_ms: u64,
}

/// All there is, read at start.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Minted when the store was created or found to be an old copy.
    pub epoch: u64,
    /// Edge time of the last release, ms; 0 before the first.
    pub floor_ms: u64,
    /// What the store consists of is not of one moment: some of it is an old copy, or lost.
    pub older: bool,
    /// Policies in force by site and version.
    pub policies: BTreeMap<(String, u32), PolicyRow>,
    /// Wrapped keys.
    pub keys: BTreeMap<WindowName, WrappedKey>,
    /// Chunks in the order of their numbers.
    pub chunks: Vec<Chunk>,
    /// Next window by cursor.
    pub cursors: BTreeMap<Cursor, u64>,
    /// Edge time at which sites left whose windows are not all released, ms.
    pub left: BTreeMap<String, u64>,
    /// Ledgers by site.
    pub ledgers: BTreeMap<String, EdgeLedger>,
    /// Undelivered rows, oldest first.
    pub outbox: Vec<Waiting>,
    /// Next sequence number by site.
    pub next_seq: BTreeMap<String, u64>,
}

/// The store failed. Whether the call is durable is not known; nothing of it may be acknowledged, and the
/// state must be read again.
#[derive(Debug, thiserror::Error)]
#[error("the edge's store failed: {0}")]
pub struct StorageError(pub String);

/// Durable storage. Each method is one transaction, durable when it returns `Ok`.
pub trait Storage {
    /// Reads everything. A fresh store gets `new_epoch`.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn load(&mut self, new_epoch: u64) -> Result<Snapshot, StorageError>;

    /// What was loaded was believed: what it does not name may be destroyed. Until then nothing is.
    ///
    /// # Errors
    /// When it could not be destroyed.
    fn begun(&mut self) -> Result<(), StorageError>;

    /// Appends the chunks of one group commit.
    ///
    /// # Errors
    /// When they are not durable.
    fn append(&mut self, chunks: &[Chunk]) -> Result<(), StorageError>;

    /// Replaces a window by its release.
    ///
    /// # Errors
    /// When nothing changed.
    fn release(&mut self, commit: &ReleaseCommit) -> Result<(), StorageError>;

    /// Puts a policy in force, with its cursors, and takes away versions `below`. Its site has not left.
    ///
    /// # Errors
    /// When nothing changed.
    fn put_policy(
        &mut self,
        site: &str,
        version: u32,
        row: &PolicyRow,
        cursors: &[(Cursor, u64)],
        below: u32,
    ) -> Result<(), StorageError>;

    /// Notes when a site left.
    ///
    /// # Errors
    /// When nothing changed.
    fn leave(&mut self, site: &str, at_ms: u64) -> Result<(), StorageError>;

    /// Takes away a site's policies and cursors, that it left, and keys and chunks of its windows. What it has cost and
    /// what waits to be delivered stay.
    ///
    /// # Errors
    /// When nothing changed.
    fn forget(&mut self, site: &str) -> Result<(), StorageError>;

    /// Moves a cursor and destroys keys and chunks of its windows before `next`.
    ///
    /// # Errors
    /// When nothing changed.
    fn skip(&mut self, cursor: &Cursor, next: u64) -> Result<(), StorageError>;

    /// Begins a new epoch: cursors as given, no keys, no chunks, numbers from 0. Policies, ledgers and
    /// what waits to be delivered stay.
    ///
    /// # Errors
    /// When nothing changed.
    fn begin_anew(&mut self, epoch: u64, cursors: &BTreeMap<Cursor, u64>) -> Result<(), StorageError>;

    /// The bytes of an undelivered row.
    ///
    /// # Errors
    /// When they are not there.
    fn delivery(&mut self, row: &Waiting) -> Result<Vec<u8>, StorageError>;

    /// Forgets an acknowledged delivery.
    ///
    /// # Errors
    /// When it is still there.
    fn acknowledged(&mut self, row: &Waiting) -> Result<(), StorageError>;
}

/// Storage in memory, for tests and simulation of the parts around it.
#[derive(Clone, Debug, Default)]
pub struct MemoryStorage {
    state: Option<Snapshot>,
    outbox: Vec<OutboxRow>,
    /// When set, the next call fails and changes nothing.
    pub fail_next: bool,
}

impl MemoryStorage {
    fn state(&mut self) -> Result<&mut Snapshot, StorageError> {
        if std::mem::take(&mut self.fail_next) {
            return Err(StorageError("told to fail".into()));
        }
        Ok(self.state.get_or_insert_with(Snapshot::default))
    }

    /// What is stored.
    #[must_use]
    pub fn snapshot(&self) -> Option<&Snapshot> {
        self.state.as_ref()
    }
}

impl Storage for MemoryStorage {
    fn load(&mut self, new_epoch: u64) -> Result<Snapshot, StorageError> {
        if self.state.is_none() {
            self.state = Some(Snapshot { epoch: new_epoch, ..Snapshot::default() });
        }
        self.state().cloned()
    }

    fn begun(&mut self) -> Result<(), StorageError> {
        Ok(())
    }

    fn append(&mut self, chunks: &[Chunk]) -> Result<(), StorageError> {
        let state = self.state()?;
        for chunk in chunks {
            if let Some(key) = &chunk.key {
                state.keys.insert(chunk.name.clone(), key.clone());
            }
            state.chunks.push(chunk.clone());
        }
        Ok(())
    }

    fn release(&mut self, commit: &ReleaseCommit) -> Result<(), StorageError> {
        let state = self.state()?;
        state.keys.remove(&commit.name);
        state.chunks.retain(|chunk| chunk.name != commit.name);
        let WindowName { site, version, span_ms, .. } = commit.name.clone();
        state.next_seq.insert(site.clone(), commit.delivery.seq + 1);
        state.ledgers.insert(site.clone(), commit.ledger.clone());
        state.cursors.insert(Cursor { site, version, span_ms }, commit.next_window);
        state.outbox.push(commit.delivery.waiting());
        state.floor_ms = commit.now_ms;
        self.outbox.push(commit.delivery.clone());
        Ok(())
    }

    fn skip(&mut self, cursor: &Cursor, next: u64) -> Result<(), StorageError> {
        let state = self.state()?;
        let gone = |name: &WindowName| name.of(cursor) && name.window < next;
        state.keys.retain(|name, _| !gone(name));
        state.chunks.retain(|chunk| !gone(&chunk.name));
        state.cursors.insert(cursor.clone(), next);
        Ok(())
    }

    fn begin_anew(&mut self, epoch: u64, cursors: &BTreeMap<Cursor, u64>) -> Result<(), StorageError> {
        let state = self.state()?;
        (state.epoch, state.cursors) = (epoch, cursors.clone());
        state.keys.clear();
        state.chunks.clear();
        state.next_seq.clear();
        Ok(())
    }

    fn put_policy(
        &mut self,
        site: &str,
        version: u32,
        row: &PolicyRow,
        cursors: &[(Cursor, u64)],
        below: u32,
    ) -> Result<(), StorageError> {
        let state = self.state()?;
        state.left.remove(site);
        state.policies.retain(|(s, v), _| s != site || *v >= below);
        state.cursors.retain(|cursor, _| cursor.site != site || cursor.version >= below);
        state.policies.insert((site.to_owned(), version), row.clone());
        for (cursor, next) in cursors {
            state.cursors.insert(cursor.clone(), *next);
        }
        Ok(())
    }

    fn leave(&mut self, site: &str, at_ms: u64) -> Result<(), StorageError> {
        self.state()?.left.insert(site.to_owned(), at_ms);
        Ok(())
    }

    fn forget(&mut self, site: &str) -> Result<(), StorageError> {
        let state = self.state()?;
        state.policies.retain(|(own, _), _| own != site);
        state.cursors.retain(|cursor, _| cursor.site != site);
        state.keys.retain(|name, _| name.site != site);
        state.chunks.retain(|chunk| chunk.name.site != site);
        state.left.remove(site);
        Ok(())
    }

    fn delivery(&mut self, row: &Waiting) -> Result<Vec<u8>, StorageError> {
        let found = self.outbox.iter().find(|own| own.waiting() == *row);
        found.map(|row| row.bytes.clone()).ok_or_else(|| StorageError("no such delivery".into()))
    }

    fn acknowledged(&mut self, row: &Waiting) -> Result<(), StorageError> {
        self.state()?.outbox.retain(|other| other != row);
        self.outbox.retain(|other| other.waiting() != *row);
        Ok(())
    }
}
