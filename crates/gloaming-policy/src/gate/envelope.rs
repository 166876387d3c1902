//! Signed JSON: DSSE version 1 envelopes with ed25519.
//!
//! ```text
//! { "payload": base64, "payloadType": text, "signatures": [ { "keyid": 16 hex digits, "sig": base64 }… ] }
//! ```
//! What is signed is the *pre-authentication encoding* of the DSSE specification (secure-systems-lab/dsse,
//! `protocol.md`): `DSSEv1`, then length and bytes of type and payload. The payload's bytes are kept as they
//! came, so nothing ever has to be written in the same way twice.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::GateError;
use crate::author::{Key, PublicKey};
use gloaming_signal::hash;

/// Longest envelope, bytes of JSON: a statement with hundreds of groups takes a tenth of it.
pub const ENVELOPE_BYTES: usize = 64 * 1024;

/// Most signatures on one envelope.
const SIGNATURES: usize = 8;

/// A payload with signatures over it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    payload: String,
    #[serde(rename = "payloadType")]
    payload_type: String,
    signatures: Vec<Signature>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Signature {
    keyid: String,
    sig: String,
}

/// The bytes that are signed.
pub(super) fn encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

impl Envelope {
    /// Signs a payload.
    #[must_use]
    pub fn sign(payload_type: &str, payload: &[u8], key: &Key) -> Self {
        let mut envelope =
            Self { payload: STANDARD.encode(payload), payload_type: payload_type.to_owned(), signatures: Vec::new() };
        envelope.push(&encoding(payload_type, payload), key);
        envelope
    }

    fn push(&mut self, signed: &[u8], key: &Key) {
        let (keyid, sig) = (hash::hex(&key.public().id()), STANDARD.encode(key.sign(&[], signed)));
        self.signatures.push(Signature { keyid, sig });
    }

    /// Reads an envelope; believes nothing yet.
    ///
    /// # Errors
    /// When it is too long or of another form.
    pub fn read(json: &[u8]) -> Result<Self, GateError> {
        if json.len() > ENVELOPE_BYTES {
            return Err(GateError::Form(format!("longer than {ENVELOPE_BYTES} bytes")));
        }
        let envelope: Self = serde_json::from_slice(json).map_err(|error| GateError::Form(error.to_string()))?;
        if !(1..=SIGNATURES).contains(&envelope.signatures.len()) {
            return Err(GateError::Form(format!("{} signatures, not 1 to {SIGNATURES}", envelope.signatures.len())));
        }
        Ok(envelope)
    }

    /// As it is written, on one line.
    #[must_use]
    pub fn to_json(&self) -> String {
        let Ok(text) = serde_json::to_string(self) else { unreachable!("texts always serialise") };
        text
    }

    /// Ids of the keys that are said to have signed.
    pub fn key_ids(&self) -> impl Iterator<Item = &str> {
        self.signatures.iter().map(|signature| signature.keyid.as_str())
    }

    /// The payload of an envelope that was checked, or that says which key to check it with.
    pub(super) fn unverified(&self) -> Result<Vec<u8>, GateError> {
        STANDARD.decode(&self.payload).map_err(|_| GateError::Form("a payload that is no base64".into()))
    }

    /// The payload, when `key` signed it as a thing of this type.
    ///
    /// # Errors
    /// When it is of another type, not signed by this key, or was changed.
    pub fn open(&self, payload_type: &str, key: &PublicKey) -> Result<Vec<u8>, GateError> {
        if self.payload_type != payload_type {
            return Err(GateError::Form(format!("of type {}, not {payload_type}", self.payload_type)));
        }
        let id = hash::hex(&key.id());
        let signature = self.signatures.iter().find(|s| s.keyid == id).ok_or(GateError::Unsigned(id.clone()))?;
        let payload = self.unverified()?;
        let sig: [u8; 64] = STANDARD
            .decode(&signature.sig)
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(|| GateError::Form("a signature that is not 64 bytes in base64".into()))?;
        key.verify(&[], &encoding(payload_type, &payload), &sig).map_err(|_| GateError::Changed(id))?;
        Ok(payload)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The example of the specification's `protocol.md`.
    #[test]
    fn what_is_signed_is_the_specifications_encoding() {
        assert_eq!(
            encoding("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }

    #[test]
    fn only_what_was_signed_opens() {
        let (key, other) = (Key::from_seed(&[1; 32]), Key::from_seed(&[2; 32]));
        let envelope = Envelope::read(Envelope::sign("a", b"words", &key).to_json().as_bytes()).unwrap();
        assert_eq!(envelope.open("a", &key.public()).unwrap(), b"words");
        assert!(matches!(envelope.open("b", &key.public()), Err(GateError::Form(_))));
        assert!(matches!(envelope.open("a", &other.public()), Err(GateError::Unsigned(_))));
        let mut changed = envelope.clone();
        changed.payload = STANDARD.encode(b"swords");
        assert!(matches!(changed.open("a", &key.public()), Err(GateError::Changed(_))));
        let mut renamed = Envelope::sign("a", b"words", &other);
        renamed.signatures[0].keyid = hash::hex(&key.public().id());
        assert!(matches!(renamed.open("a", &key.public()), Err(GateError::Changed(_))));
    }
}
