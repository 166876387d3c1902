//! Where wrapped window keys lie: a small file of fixed places, each overwritten where it lies when its window is
//! released. The log cannot hold them: a copy-on-write tree leaves old pages behind, and a key that lies in
//! one of those is not destroyed.
//!
//! ```text
//! slot = SHA-256 of the window's name (32) | length (1) | wrapped key | zeros, 128 bytes in all
//! ```

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

/// Bytes of a slot.
pub const SLOT: usize = 128;

/// Longest file that is read, bytes: a slot for each window of many more policies than an edge holds.
const FILE_BYTES: u64 = 16 << 20;

/// A row of slots on something durable.
pub trait KeySlots: Send {
    /// All slots in order; the last may be cut.
    ///
    /// # Errors
    /// When they cannot be read.
    fn load(&mut self) -> io::Result<Vec<u8>>;
    /// Overwrites one where it lies; durable when it returns.
    ///
    /// # Errors
    /// When it is not known to be.
    fn put(&mut self, slot: usize, bytes: &[u8; SLOT]) -> io::Result<()>;
}

/// Slots in a file beside the log.
pub(crate) struct SlotFile(File);

impl SlotFile {
    pub(crate) fn path(store: &Path) -> PathBuf {
        let mut name = store.to_path_buf().into_os_string();
        name.push(".keys");
        name.into()
    }

    pub(crate) fn open(store: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt as _;
            options.mode(0o600);
        }
        options.open(Self::path(store)).map(Self)
    }
}

impl KeySlots for SlotFile {
    fn load(&mut self) -> io::Result<Vec<u8>> {
        let length = self.0.metadata()?.len();
        if length > FILE_BYTES {
            let cause =
                format!("the key file has {length} bytes, of which {FILE_BYTES} make sense: bring the right one back");
            return Err(io::Error::new(io::ErrorKind::InvalidData, cause));
        }
        let mut all = Vec::new();
        self.0.seek(SeekFrom::Start(0))?;
        self.0.read_to_end(&mut all)?;
        Ok(all)
    }

    fn put(&mut self, slot: usize, bytes: &[u8; SLOT]) -> io::Result<()> {
        self.0.seek(SeekFrom::Start((slot * SLOT) as u64))?;
        self.0.write_all(bytes)?;
        self.0.sync_all()
    }
}
