//! What is said of a model, by whom: in-toto statements (version 1) about a manifest.
//!
//! ```json
//! { "_type": "https://in-toto.io/Statement/v1",
//!   "subject": [ { "name": "purchase-intent", "digest": { "sha256": "…the manifest's…" } } ],
//!   "predicateType": "urn:gloaming:held-out:1",
//!   "predicate": { … } }
//! ```

use serde::{Deserialize, Serialize};

use super::{Envelope, GateError, Said};
use crate::author::{Key, PublicKey, day_of};
use gloaming_signal::hash;

/// The envelope's type of all statements.
pub const STATEMENT_TYPE: &str = "application/vnd.in-toto+json";
const STATEMENT: &str = "https://in-toto.io/Statement/v1";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Subject {
    name: String,
    digest: Digest,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Digest {
    sha256: String,
}

/// Something said of one model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Statement {
    #[serde(rename = "_type")]
    form: String,
    subject: [Subject; 1],
    /// What.
    #[serde(flatten)]
    pub said: Said,
}

impl Statement {
    /// Something said of the model with this manifest.
    #[must_use]
    pub fn of(model: &str, manifest: &[u8; 32], said: Said) -> Self {
        let subject = Subject { name: model.to_owned(), digest: Digest { sha256: hash::hex(manifest) } };
        Self { form: STATEMENT.to_owned(), subject: [subject], said }
    }

    /// Reads one that nobody signed.
    ///
    /// # Errors
    /// When it is none, or says what cannot be.
    pub fn read(json: &[u8]) -> Result<Self, GateError> {
        let statement: Self = serde_json::from_slice(json).map_err(|error| GateError::Form(error.to_string()))?;
        if statement.form != STATEMENT {
            return Err(GateError::Form(format!("of type {}, not {STATEMENT}", statement.form)));
        }
        if day_of(statement.said.day()).is_none() {
            return Err(GateError::Form(format!("the day `{}` is no YYYY-MM-DD", statement.said.day())));
        }
        statement.said.sound().map_err(|why| GateError::Form(why.to_owned()))?;
        Ok(statement)
    }

    /// The model's name.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.subject[0].name
    }

    /// The manifest it speaks of, hexadecimal.
    #[must_use]
    pub fn manifest(&self) -> &str {
        &self.subject[0].digest.sha256
    }

    /// As a file, indented for people.
    #[must_use]
    pub fn to_json(&self) -> String {
        let Ok(text) = serde_json::to_string_pretty(self) else { unreachable!("texts and numbers always serialise") };
        text
    }

    /// Signs it.
    #[must_use]
    pub fn sign(&self, key: &Key) -> Envelope {
        let Ok(bytes) = serde_json::to_vec(self) else { unreachable!("texts and numbers always serialise") };
        Envelope::sign(STATEMENT_TYPE, &bytes, key)
    }

    /// Reads one whose signature was checked before, as every statement's in a [`super::Record`] was.
    ///
    /// # Errors
    /// When it is none.
    pub fn unchecked(envelope: &Envelope) -> Result<Self, GateError> {
        Self::read(&envelope.unverified()?)
    }

    /// Reads one that `key` signed.
    ///
    /// # Errors
    /// When it is not, or says what cannot be.
    pub fn open(envelope: &Envelope, key: &PublicKey) -> Result<Self, GateError> {
        Self::read(&envelope.open(STATEMENT_TYPE, key)?)
    }
}
