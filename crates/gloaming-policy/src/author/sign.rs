//! Keys, signatures, and the bundle an edge is given.
//!
//! ```text
//! signed = [ 2, policy: bytes, notice: bytes, [ [ key_id: bytes .size 8, over_policy: bytes .size 64,
//!                                                 over_notice: bytes .size 64 ]… ], record: bytes ]
//! ```
//! A signature is pure Ed25519 (RFC 8032) over a context line and the bytes, so that a signature over
//! one kind of thing never counts for another. A key's id is the first 8 bytes of the SHA-256 of its
//! public key. A bundle may carry several signatures: that is how keys are rotated. The record is that of the
//! [`crate::gate`]; it bears its own signatures, and is empty where no model acts.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use gloaming_signal::cbor::{self, Bytes, Cbor, Error, Reader, Writer};
use gloaming_signal::{cbor_record, hash, limits};
use serde::Serialize;

use super::date_of;
use super::model::input_of;
use crate::gate::{GateError, RECORD_BYTES, Record};
use crate::{Model, Policy};

const POLICY: &[u8] = b"gloaming policy 1\n";
/// The loader prepends the same line.
const NOTICE: &[u8] = b"gloaming notice 1\n";
const BATCH: &[u8] = b"gloaming batch 1\n";
const ARRIVAL: &[u8] = b"gloaming arrival 1\n";

/// First 8 bytes of the SHA-256 of a public key.
pub type KeyId = [u8; 8];

/// Why a bundle or batch is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// Not a bundle.
    #[error("not a signed policy: {0}")]
    Format(#[from] Error),
    /// No signature by the key that is pinned for the site.
    #[error("not signed by the pinned key {0}; sign it with that key, or change the pin")]
    NoSignature(String),
    /// There is one, and it does not hold.
    #[error("the signature by key {0} does not hold: the bytes were changed after signing")]
    BadSignature(String),
    /// The notice speaks of another policy.
    #[error("the notice does not belong to the policy: {0}; sign both together again")]
    NoticeMismatch(&'static str),
    /// Past its date.
    #[error("the policy expired on {0}; sign a new version with a later date")]
    Expired(String),
    /// Not a line that announces a delivery.
    #[error(
        "a delivery is announced by a key's id, a SHA-256 and a signature, in hexadecimal and separated by full stops"
    )]
    Announcement,
    /// A model acts that may not.
    #[error("the policy lets a model act that has not passed the gate: {0}")]
    Gate(#[from] GateError),
    /// A key file or text that is no key.
    #[error("not an ed25519 key: {0}")]
    Key(&'static str),
}

/// A signing key.
#[derive(Clone)]
pub struct Key(SigningKey);

impl Key {
    /// From 32 bytes of entropy, which the caller draws.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// From a key file: 64 hexadecimal digits.
    ///
    /// # Errors
    /// When the text is anything else.
    pub fn from_text(text: &str) -> Result<Self, SignError> {
        let seed = hash::unhex(text.trim()).ok_or(SignError::Key("a key file holds 64 hexadecimal digits"))?;
        Ok(Self::from_seed(&seed))
    }

    /// What a key file holds. Secret.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!("{}\n", hash::hex(&self.0.to_bytes()))
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// The secret half for key exchange on the same curve (X25519). Secret.
    #[must_use]
    pub fn exchange_secret(&self) -> [u8; 32] {
        self.0.to_scalar_bytes()
    }

    pub(crate) fn sign(&self, context: &[u8], bytes: &[u8]) -> [u8; 64] {
        self.0.sign(&[context, bytes].concat()).to_bytes()
    }
}

/// A verifying key, as pinned in snippets and configurations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// From base64, as in `data-key`.
    ///
    /// # Errors
    /// When the text is not 32 bytes of a curve point.
    pub fn from_text(text: &str) -> Result<Self, SignError> {
        let bytes = STANDARD.decode(text.trim()).map_err(|_| SignError::Key("a public key is written in base64"))?;
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| SignError::Key("a public key has 32 bytes"))?;
        VerifyingKey::from_bytes(&bytes).map(Self).map_err(|_| SignError::Key("the bytes are no point of the curve"))
    }

    /// As written in `data-key`.
    #[must_use]
    pub fn to_text(&self) -> String {
        STANDARD.encode(self.0.to_bytes())
    }

    /// The key's id.
    #[must_use]
    pub fn id(&self) -> KeyId {
        let mut id = [0; 8];
        id.copy_from_slice(&hash::sha256(&self.0.to_bytes())[..8]);
        id
    }

    /// The public half for key exchange on the same curve (X25519).
    #[must_use]
    pub fn exchange(&self) -> [u8; 32] {
        self.0.to_montgomery().to_bytes()
    }

    pub(crate) fn verify(&self, context: &[u8], bytes: &[u8], signature: &[u8; 64]) -> Result<(), SignError> {
        self.0
            .verify_strict(&[context, bytes].concat(), &Signature::from_bytes(signature))
            .map_err(|_| SignError::BadSignature(hash::hex(&self.id())))
    }
}

/// Signatures of one key over both halves of a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pair {
    key_id: KeyId,
    over_policy: [u8; 64],
    over_notice: [u8; 64],
}

cbor_record!(Pair { key_id, over_policy, over_notice });

/// A policy with its notice, signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    policy: Vec<u8>,
    notice: Vec<u8>,
    signatures: Vec<Pair>,
    record: Vec<u8>,
}

impl Cbor for Signed {
    fn encode(&self, writer: &mut Writer) {
        writer.list(5);
        2u8.encode(writer);
        writer.bytes(&self.policy);
        writer.bytes(&self.notice);
        self.signatures.encode(writer);
        writer.bytes(&self.record);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        reader.record(5, |reader| {
            if u8::decode(reader)? != 2 {
                return Err(reader.limit());
            }
            Ok(Self {
                policy: reader.bytes(limits::POLICY_BYTES)?.to_vec(),
                notice: reader.bytes(limits::POLICY_BYTES)?.to_vec(),
                signatures: Cbor::decode(reader)?,
                record: reader.bytes(RECORD_BYTES)?.to_vec(),
            })
        })
    }
}

/// The signed, human part of a policy: all that a browser fetches before consent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Notice {
    /// The site.
    pub site: String,
    /// Version of the policy.
    pub version: u32,
    /// SHA-256 of the policy, hexadecimal.
    pub policy: String,
    /// First day on which it no longer holds, `YYYY-MM-DD`.
    pub expires: String,
    /// What a person may agree to.
    pub purposes: Vec<NoticePurpose>,
}

/// One purpose as shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NoticePurpose {
    /// Its name.
    pub id: String,
    /// Text by language.
    pub text: std::collections::BTreeMap<String, String>,
    /// Whether it is for something of a special category (GDPR, Article 9): a yes to everything is none to this. Left out where
    /// it is not, so that notices from before keep their bytes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub special: bool,
}

impl Notice {
    fn of(policy: &Policy) -> Self {
        Self {
            site: policy.site.clone(),
            version: policy.version,
            policy: hash::hex(&policy.hash()),
            expires: date_of(policy.expires_day),
            purposes: (0u32..)
                .zip(&policy.purposes)
                .map(|(place, p)| NoticePurpose {
                    id: p.id.clone(),
                    text: p.texts.iter().cloned().collect(),
                    special: policy.is_special(place),
                })
                .collect(),
        }
    }

    fn to_bytes(&self) -> Vec<u8> {
        let Ok(text) = serde_json::to_string(self) else { unreachable!("texts and numbers always serialise") };
        // ASCII only, so that a loader may take base64 for text without a decoder.
        let mut bytes = Vec::with_capacity(text.len());
        for character in text.chars() {
            if character.is_ascii() {
                bytes.push(character as u8);
            } else {
                let mut pair = [0; 2];
                for unit in character.encode_utf16(&mut pair) {
                    bytes.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
                }
            }
        }
        bytes
    }
}

impl Signed {
    /// Longest bundle, bytes.
    pub const BYTES: usize = 2 * limits::POLICY_BYTES + RECORD_BYTES + 4_096;

    /// Signs a policy and the notice made from it. A policy by which a model acts needs [`Self::with_record`] too.
    #[must_use]
    pub fn sign(policy: &Policy, keys: &[&Key]) -> Self {
        let (policy, notice) = (policy.to_bytes(), Notice::of(policy).to_bytes());
        let signatures = keys
            .iter()
            .map(|key| Pair {
                key_id: key.public().id(),
                over_policy: key.sign(POLICY, &policy),
                over_notice: key.sign(NOTICE, &notice),
            })
            .collect();
        Self { policy, notice, signatures, record: Vec::new() }
    }

    /// Adds the record that says what the policy's models may do.
    #[must_use]
    pub fn with_record(mut self, record: &Record) -> Self {
        self.record = record.bytes().to_vec();
        self
    }

    /// The file's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        cbor::to_vec(self)
    }

    /// Reads a file and believes it only if `pinned` signed both halves, they belong together, the date has not
    /// come, and every model passed the gate for what it does. `today` is in days since 1970.
    ///
    /// # Errors
    /// The first of these that fails.
    pub fn verify(bytes: &[u8], pinned: &PublicKey, today: u64) -> Result<(Self, Policy), SignError> {
        if bytes.len() > Self::BYTES {
            return Err(SignError::Format(Error::Limit(Self::BYTES)));
        }
        let signed: Self = cbor::from_slice(bytes)?;
        let id = pinned.id();
        let pair = signed
            .signatures
            .iter()
            .find(|pair| pair.key_id == id)
            .ok_or_else(|| SignError::NoSignature(hash::hex(&id)))?;
        pinned.verify(POLICY, &signed.policy, &pair.over_policy)?;
        pinned.verify(NOTICE, &signed.notice, &pair.over_notice)?;
        let policy = signed.whole()?;
        if policy.expires_day <= today {
            return Err(SignError::Expired(date_of(policy.expires_day)));
        }
        signed.gate(&policy, pinned, today)?;
        Ok((signed, policy))
    }

    /// Replays the record, and asks it for every model.
    fn gate(&self, policy: &Policy, pinned: &PublicKey, today: u64) -> Result<(), GateError> {
        let record = self.record()?;
        // A day's grace for clocks; none is asked where the date is not.
        if let Some(record) = record.as_ref().filter(|record| today > 0 && record.day() > today + 1) {
            return Err(GateError::Other(format!("is dated {}, which has not come", date_of(record.day()))));
        }
        for model in &policy.models {
            match &record {
                Some(record) => {
                    record.permits(&model.manifest_sha256, model.state, policy.expires_day)?;
                    same_model(record, policy, model)?;
                }
                None if model.state.acts() => {
                    return Err(GateError::refused(
                        format!("{} acts, and there is no record", model.id),
                        "sign the policy with `gloaming policy sign`, beside its gate.ndjson",
                    ));
                }
                None => {}
            }
        }
        match record {
            Some(record) if record.site() != policy.site => {
                Err(GateError::Other(format!("is of {}, not of {}", record.site(), policy.site)))
            }
            Some(record) if !record.knows(pinned) => {
                Err(GateError::Other("was never kept under the key that is pinned for the site".into()))
            }
            _ => Ok(()),
        }
    }

    /// Whether the record goes on where another bundle's ended: nothing that was recorded is left out. A policy without
    /// models needs none.
    #[must_use]
    pub fn follows(&self, before: &Self) -> bool {
        self.record.starts_with(&before.record)
    }

    /// The record, replayed; `None` when there is none.
    ///
    /// # Errors
    /// When it does not hold.
    pub fn record(&self) -> Result<Option<Record>, GateError> {
        if self.record.is_empty() { Ok(None) } else { Record::read(&self.record).map(Some) }
    }

    /// Reads what was verified before, by a key that may not be trusted any more: an earlier version whose
    /// windows are still to be closed. No signature is looked at.
    ///
    /// # Errors
    /// When it is not a bundle, or its halves do not belong together.
    pub fn verified_before(bytes: &[u8]) -> Result<(Self, Policy), SignError> {
        let signed: Self = cbor::from_slice(bytes)?;
        let policy = signed.whole()?;
        Ok((signed, policy))
    }

    fn whole(&self) -> Result<Policy, SignError> {
        let policy = Policy::from_bytes(&self.policy)?;
        if self.notice != Notice::of(&policy).to_bytes() {
            return Err(SignError::NoticeMismatch("its purposes, site, version, date or hash differ"));
        }
        Ok(policy)
    }

    /// The policy's bytes, as browsers are served them.
    #[must_use]
    pub fn policy_bytes(&self) -> &[u8] {
        &self.policy
    }

    /// `notice.json`: the notice in base64 with its signatures.
    #[must_use]
    pub fn notice_json(&self) -> String {
        let signatures: Vec<_> = self
            .signatures
            .iter()
            .map(|pair| serde_json::json!({ "keyid": hash::hex(&pair.key_id), "sig": STANDARD.encode(pair.over_notice) }))
            .collect();
        serde_json::json!({ "payload": STANDARD.encode(&self.notice), "signatures": signatures }).to_string()
    }
}

/// What acts is what was judged: name, file and inputs too, not the manifest's hash alone.
fn same_model(record: &Record, policy: &Policy, model: &Model) -> Result<(), GateError> {
    let Some(standing) = record.standing(&model.manifest_sha256).filter(|_| model.state.acts()) else { return Ok(()) };
    let facts = &standing.facts;
    let inputs: Option<Vec<u32>> = facts.features.iter().map(|name| input_of(name, &policy.page_features)).collect();
    // What names kinds was judged otherwise than what tells a chance.
    let kinds = usize::try_from(facts.kinds) == Ok(model.kinds.len());
    let same = facts.id == model.id && facts.onnx == hash::hex(&model.onnx_sha256) && kinds;
    if same && inputs.as_ref() == Some(&model.inputs) {
        return Ok(());
    }
    Err(GateError::refused(
        format!("{} has another name, file, other inputs or kinds than the record knows under its manifest", model.id),
        "sign the policy with `gloaming policy sign`, which takes them from the manifest",
    ))
}

/// A sealed batch's bytes as they are delivered: with the edge's signature.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Delivery {
    batch: Bytes,
    key_id: KeyId,
    signature: [u8; 64],
}

cbor_record!(Delivery { batch, key_id, signature });

/// Signs a sealed batch's bytes with the edge's key; the result is what is delivered, again and again.
#[must_use]
pub fn batch_signature(key: &Key, batch: &[u8]) -> Vec<u8> {
    let signature = key.sign(BATCH, batch);
    cbor::to_vec(&Delivery { batch: Bytes(batch.to_vec()), key_id: key.public().id(), signature })
}

/// Checks a delivery against the key that is trusted under the id it names; returns the batch's bytes.
///
/// # Errors
/// When it is no delivery, of an unknown key, or changed.
pub fn verify_batch(delivery: &[u8], trusted: impl FnOnce(&KeyId) -> Option<PublicKey>) -> Result<Vec<u8>, SignError> {
    if delivery.len() > limits::BATCH_BYTES + 256 {
        return Err(SignError::Format(Error::Limit(limits::BATCH_BYTES)));
    }
    let delivery: Delivery = cbor::from_slice(delivery)?;
    let key = trusted(&delivery.key_id).ok_or_else(|| SignError::NoSignature(hash::hex(&delivery.key_id)))?;
    key.verify(BATCH, &delivery.batch.0, &delivery.signature)?;
    Ok(delivery.batch.0)
}

/// The line that announces a delivery before its body: key id, SHA-256 of the body, signature over that, in hexadecimal
/// and separated by full stops. By it strangers are told from edges before anything of them is read.
#[must_use]
pub fn announcement(key: &Key, body: &[u8]) -> String {
    let digest = hash::sha256(body);
    format!("{}.{}.{}", hash::hex(&key.public().id()), hash::hex(&digest), hash::hex(&key.sign(ARRIVAL, &digest)))
}

/// Checks an announcement; returns the SHA-256 that the body must have.
///
/// # Errors
/// When it is none, of an unknown key, or changed.
pub fn announced(line: &str, trusted: impl FnOnce(&KeyId) -> Option<PublicKey>) -> Result<[u8; 32], SignError> {
    let mut words = line.split('.');
    let mut word = || words.next().unwrap_or_default();
    let (id, digest, signature) = (hash::unhex::<8>(word()), hash::unhex::<32>(word()), hash::unhex::<64>(word()));
    let (Some(id), Some(digest), Some(signature), None) = (id, digest, signature, words.next()) else {
        return Err(SignError::Announcement);
    };
    let key = trusted(&id).ok_or_else(|| SignError::NoSignature(hash::hex(&id)))?;
    key.verify(ARRIVAL, &digest, &signature)?;
    Ok(digest)
}
