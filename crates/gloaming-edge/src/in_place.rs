//! Files whose bytes are overwritten where they lie: what was there before is gone, and a sync has nothing to wait for
//! but the bytes themselves.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

/// Bytes on something durable.
pub trait InPlace: Send {
    /// All of them.
    ///
    /// # Errors
    /// When they cannot be read.
    fn load(&mut self) -> io::Result<Vec<u8>>;
    /// Overwrites some, `at` and on; durable after the next [`InPlace::sync`].
    ///
    /// # Errors
    /// When they may be there in part.
    fn write(&mut self, at: usize, bytes: &[u8]) -> io::Result<()>;
    /// What was written is durable when it returns.
    ///
    /// # Errors
    /// When it is not known to be.
    fn sync(&mut self) -> io::Result<()>;
    /// Overwrites some, `at` and on; durable when it returns.
    ///
    /// # Errors
    /// When it is not known to be: they may be there in part.
    fn put(&mut self, at: usize, bytes: &[u8]) -> io::Result<()> {
        self.write(at, bytes)?;
        self.sync()
    }
}

/// A file beside a store.
pub(crate) struct Beside {
    file: File,
    /// Longest that makes sense, bytes.
    most: u64,
    what: &'static str,
}

/// Makes a file's name in its folder durable: that of a new file, or of one that was moved there.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Other systems have no such call for a folder.
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// The name under which a file's next bytes are written before they take its place.
pub(crate) fn beside(path: &Path) -> PathBuf {
    let mut name = path.to_path_buf().into_os_string();
    name.push(".new");
    name.into()
}

/// Replaces a file; durable when it returns.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = beside(path);
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    sync_folder(path)
}

impl Beside {
    /// Opens or creates the file that is named like the store, with an ending.
    pub(crate) fn open(store: &Path, what: &'static str, most: u64) -> io::Result<Self> {
        let mut name = store.to_path_buf().into_os_string();
        name.push(".");
        name.push(what);
        let path = PathBuf::from(name);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt as _;
            options.mode(0o600);
        }
        let file = options.open(&path)?;
        sync_folder(&path)?;
        Ok(Self { file, most, what })
    }
}

impl InPlace for Beside {
    fn load(&mut self) -> io::Result<Vec<u8>> {
        let length = self.file.metadata()?.len();
        if length > self.most {
            let cause = format!(
                "the file of {} has {length} bytes, of which {} make sense: bring the right one back",
                self.what, self.most
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, cause));
        }
        let mut all = Vec::new();
        self.file.seek(SeekFrom::Start(0))?;
        self.file.read_to_end(&mut all)?;
        Ok(all)
    }

    fn write(&mut self, at: usize, bytes: &[u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(at as u64))?;
        self.file.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_too_long_is_somebody_elses() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("edge.redb");
        let mut file = Beside::open(&store, "keys", 8).unwrap();
        file.put(2, b"abc").unwrap();
        assert_eq!(file.load().unwrap(), b"\0\0abc");
        file.put(2, b"abcdefghi").unwrap();
        let said = file.load().unwrap_err().to_string();
        assert_eq!(said, "the file of keys has 11 bytes, of which 8 make sense: bring the right one back");
        assert!(folder.path().join("edge.redb.keys").exists());
    }
}
