//! Sealing what lies at rest: a key for each window, wrapped by a key kept elsewhere.
//!
//! ```text
//! wrapped key = nonce (24) | XChaCha20-Poly1305(wrapping key, window key; the window's name)
//! sealed      = nonce (24) | XChaCha20-Poly1305(window key, plain; the window's name and chunk number)
//! ```
//! Nonces are random, 192 bits: no counter to keep, and none to repeat after a restored copy.
//! Destroying the wrapped key destroys the chunks, wherever copies of their bytes still lie; the store sees to it
//! that no copy of the key does.

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use gloaming_signal::cbor;

use crate::storage::{WindowName, WrappedKey};

/// Fills a buffer with random bytes: the operating system's in an edge, a seeded stream in a test.
pub type Entropy<'a> = &'a mut dyn FnMut(&mut [u8]);

/// The key that wraps window keys; from a file outside the store.
#[derive(Clone)]
pub struct WrappingKey([u8; 32]);

impl WrappingKey {
    /// From 32 random bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

/// A window's key in the clear, in memory only.
#[derive(Clone)]
pub(crate) struct WindowKey([u8; 32]);

fn seal(key: &[u8; 32], plain: &[u8], context: &[u8], entropy: Entropy<'_>) -> Vec<u8> {
    let mut nonce = [0; 24];
    entropy(&mut nonce);
    let cipher = XChaCha20Poly1305::new(&(*key).into());
    let sealed = cipher.encrypt(&XNonce::from(nonce), Payload { msg: plain, aad: context });
    let Ok(sealed) = sealed else { unreachable!("encryption fails only beyond 256 GB") };
    [&nonce[..], &sealed].concat()
}

fn open(key: &[u8; 32], sealed: &[u8], context: &[u8]) -> Option<Vec<u8>> {
    let (nonce, body) = sealed.split_at_checked(24)?;
    let nonce: [u8; 24] = nonce.try_into().ok()?;
    let cipher = XChaCha20Poly1305::new(&(*key).into());
    cipher.decrypt(&XNonce::from(nonce), Payload { msg: body, aad: context }).ok()
}

impl WindowKey {
    pub(crate) fn draw(entropy: Entropy<'_>) -> Self {
        let mut key = [0; 32];
        entropy(&mut key);
        Self(key)
    }

    pub(crate) fn wrap(&self, wrapping: &WrappingKey, name: &WindowName, entropy: Entropy<'_>) -> WrappedKey {
        WrappedKey(seal(&wrapping.0, &self.0, &cbor::to_vec(name), entropy))
    }

    pub(crate) fn unwrap(wrapped: &WrappedKey, wrapping: &WrappingKey, name: &WindowName) -> Option<Self> {
        open(&wrapping.0, &wrapped.0, &cbor::to_vec(name))?.try_into().ok().map(Self)
    }

    pub(crate) fn seal(&self, plain: &[u8], name: &WindowName, number: u64, entropy: Entropy<'_>) -> Vec<u8> {
        seal(&self.0, plain, &cbor::to_vec(&(name.clone(), number)), entropy)
    }

    pub(crate) fn open(&self, sealed: &[u8], name: &WindowName, number: u64) -> Option<Vec<u8>> {
        open(&self.0, sealed, &cbor::to_vec(&(name.clone(), number)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_bytes_open_only_for_their_own_window_and_number() {
        let mut counter = 0u8;
        let mut entropy = |buffer: &mut [u8]| {
            buffer.iter_mut().for_each(|b| {
                counter = counter.wrapping_add(1);
                *b = counter;
            })
        };
        let name = WindowName { site: "s".into(), version: 1, span_ms: 10, window: 3 };
        let other = WindowName { window: 4, ..name.clone() };
        let wrapping = WrappingKey::new([7; 32]);
        let key = WindowKey::draw(&mut entropy);
        let wrapped = key.wrap(&wrapping, &name, &mut entropy);
        assert!(WindowKey::unwrap(&wrapped, &WrappingKey::new([8; 32]), &name).is_none());
        assert!(WindowKey::unwrap(&wrapped, &wrapping, &other).is_none());
        let back = WindowKey::unwrap(&wrapped, &wrapping, &name).expect("ours");
        let sealed = key.seal(b"cells", &name, 5, &mut entropy);
        assert_eq!(back.open(&sealed, &name, 5).as_deref(), Some(&b"cells"[..]));
        assert!(back.open(&sealed, &name, 6).is_none());
        assert!(back.open(&sealed, &other, 5).is_none());
        assert!(back.open(&sealed[..10], &name, 5).is_none());
        assert!(!sealed.windows(5).any(|w| w == b"cells"));
    }
}
