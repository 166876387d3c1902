//! The anchor's file: what has left, written where a copy of the store does not bring it back.
//!
//! ```text
//! gloaming anchor 1
//! epoch 4821990023113
//! releases 217
//! released_ms 1795651200123
//! ```

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use gloaming_window::Anchor;

use crate::in_place::{beside, replace};

const FIRST_LINE: &str = "gloaming anchor 1";

/// Longest anchor, bytes: four lines and three numbers.
const FILE_BYTES: u64 = 128;

/// What a file's text says, if it is an anchor of this version.
pub(crate) fn parse(text: &str) -> Option<Anchor> {
    let mut lines = text.lines();
    if lines.next() != Some(FIRST_LINE) || text.len() as u64 > FILE_BYTES {
        return None;
    }
    let mut number = |word: &str| lines.next()?.strip_prefix(word)?.parse().ok();
    // In the order of the lines.
    Some(Anchor { epoch: number("epoch ")?, releases: number("releases ")?, released_ms: number("released_ms ")? })
}

/// An anchor as its file's text.
pub(crate) fn written(anchor: Anchor) -> String {
    let Anchor { epoch, releases, released_ms } = anchor;
    format!("{FIRST_LINE}\nepoch {epoch}\nreleases {releases}\nreleased_ms {released_ms}\n")
}

/// See the module's page.
#[derive(Clone, Debug)]
pub(crate) struct AnchorFile(PathBuf);

impl AnchorFile {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// What was written last; `None` when there is no file.
    pub(crate) fn read(&self) -> io::Result<Option<Anchor>> {
        let mut text = String::new();
        match File::open(&self.0) {
            // One byte more than any anchor has makes anything longer none of ours.
            Ok(file) => file.take(FILE_BYTES + 1).read_to_string(&mut text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        parse(&text)
            .map(Some)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not an anchor of this version"))
    }

    /// Whether it could be written now.
    pub(crate) fn probe(&self) -> io::Result<()> {
        let beside = beside(&self.0);
        File::create(&beside)?;
        fs::remove_file(beside)
    }

    /// Replaces the file; durable when it returns.
    pub(crate) fn write(&self, anchor: Anchor) -> io::Result<()> {
        replace(&self.0, written(anchor).as_bytes())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_anything_else_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = AnchorFile::new(folder.path().join("wrapping.key.anchor"));
        assert_eq!(file.read().unwrap(), None);
        for releases in [0, 7] {
            let anchor = Anchor { epoch: u64::MAX >> 1, releases, released_ms: 5 };
            file.write(anchor).unwrap();
            assert_eq!(file.read().unwrap(), Some(anchor));
        }
        file.probe().unwrap();
        let long = format!("gloaming anchor 1\nepoch 1\nreleases 1\nreleased_ms 1\n{}", "x".repeat(1 << 20));
        for wrong in [
            "",
            &long,
            "gloaming anchor 2\nepoch 1\nreleases 1\nreleased_ms 1\n",
            "gloaming anchor 1\nepoch x\nreleases 1\nreleased_ms 1\n",
            "gloaming anchor 1\nepoch 1\nreleases 1\n",
        ] {
            fs::write(file.path(), wrong).unwrap();
            assert!(file.read().is_err(), "{wrong:?}");
        }
    }
}
