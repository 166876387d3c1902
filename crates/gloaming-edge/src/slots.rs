//! Where wrapped window keys lie: a small file of fixed places, each overwritten where it lies when its window is
//! released. The log cannot hold them: a copy-on-write tree leaves old pages behind, and a key that lies in
//! one of those is not destroyed.
//!
//! ```text
//! slot = SHA-256 of the window's name (32) | length (1) | wrapped key | zeros, 128 bytes in all
//! ```

use gloaming_signal::hash;
use gloaming_window::{StorageError, WrappedKey};

/// Bytes of a slot.
pub const SLOT: usize = 128;

/// Longest file that is read, bytes: a slot for each window of many more policies than an edge holds.
pub(crate) const SLOTS_BYTES: u64 = 16 << 20;

/// A slot's bytes.
pub(crate) fn slot(name: &[u8], key: &WrappedKey) -> Result<[u8; SLOT], StorageError> {
    let too_long = || StorageError("a key that is too long for its slot".to_owned());
    let mut bytes = [0; SLOT];
    bytes[..32].copy_from_slice(&hash::sha256(name));
    bytes[32] = u8::try_from(key.0.len()).map_err(|_| too_long())?;
    bytes.get_mut(33..33 + key.0.len()).ok_or_else(too_long)?.copy_from_slice(&key.0);
    Ok(bytes)
}

/// The key in a slot, if it is that of this window.
pub(crate) fn key_in(slot: &[u8], name: &[u8]) -> Option<WrappedKey> {
    let length = usize::from(*slot.get(32)?);
    (slot.get(..32)? == hash::sha256(name)).then(|| slot.get(33..33 + length).map(|key| WrappedKey(key.to_vec())))?
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
