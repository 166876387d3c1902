//! A model's folder, signed as the OpenSSF Model Signing specification 1.0 has it: a Sigstore bundle with a DSSE envelope
//! around an in-toto statement that lists every file with its SHA-256.
//!
//! ```json
//! { "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
//!   "verificationMaterial": { "publicKey": { "hint": "…" }, "tlogEntries": [] },
//!   "dsseEnvelope": { "payload": "…", "payloadType": "application/vnd.in-toto+json", "signatures": [ { "sig": "…" } ] } }
//! ```
//! Bundles of all three kinds (key, certificate, keyless) are read; those that ed25519 keys signed are made and verified.
//! The subject's digest is the SHA-256 of all files' digests, one behind the other, in the order of the list.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{GateError, STATEMENT_TYPE, envelope};
use crate::author::{Key, PublicKey};
use gloaming_signal::hash;

/// The file that a folder's signature lies in.
pub const FILE: &str = "model.sig";
/// Longest bundle, bytes, and most files in it.
const BYTES: usize = 1024 * 1024;
const FILES: usize = 1_024;

const MEDIA: &str = "application/vnd.dev.sigstore.bundle";
const STATEMENT: &str = "https://in-toto.io/Statement/v1";
const PREDICATE: &str = "https://model_signing/signature/v1.0";
/// What stands before an ed25519 key in a SubjectPublicKeyInfo (RFC 8410).
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Raw {
    media_type: String,
    verification_material: Value,
    dsse_envelope: RawEnvelope,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawEnvelope {
    payload: String,
    payload_type: String,
    signatures: Vec<RawSignature>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSignature {
    sig: String,
    #[serde(default)]
    keyid: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStatement {
    _type: String,
    subject: Vec<RawSubject>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    predicate: RawPredicate,
}

#[derive(Serialize, Deserialize)]
struct RawSubject {
    name: String,
    digest: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPredicate {
    resources: Vec<Resource>,
    serialization: Serialization,
}

#[derive(Serialize, Deserialize)]
struct Resource {
    name: String,
    digest: String,
    algorithm: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Serialization {
    method: String,
    hash_type: String,
    allow_symlinks: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shard_size: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ignore_paths: Vec<String>,
}

/// A bundle of the right form, not yet believed.
pub struct Bundle {
    payload: Vec<u8>,
    signatures: Vec<String>,
    statement: RawStatement,
}

fn form(why: impl Into<String>) -> GateError {
    GateError::Form(why.into())
}

/// Whether there is what a signature of one of the three kinds is verified with.
fn has_material(material: &Value) -> bool {
    let some = |value: &Value| value.as_array().is_some_and(|list| !list.is_empty());
    let text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
    let key = &material["publicKey"];
    text(&key["hint"])
        || text(&key["rawBytes"])
        || some(&material["x509CertificateChain"]["certificates"])
        || text(&material["certificate"]["rawBytes"]) && some(&material["tlogEntries"])
}

impl Bundle {
    /// Reads a bundle's form: media type, material, envelope, statement, list of files.
    ///
    /// # Errors
    /// When any of it is missing or another.
    pub fn read(bytes: &[u8]) -> Result<Self, GateError> {
        if bytes.len() > BYTES {
            return Err(form(format!("longer than {BYTES} bytes")));
        }
        let raw: Raw = serde_json::from_slice(bytes).map_err(|error| form(error.to_string()))?;
        if !raw.media_type.starts_with(MEDIA) || !has_material(&raw.verification_material) {
            return Err(form("a bundle without media type or verification material"));
        }
        let RawEnvelope { payload, payload_type, signatures } = raw.dsse_envelope;
        if payload_type != STATEMENT_TYPE || signatures.is_empty() {
            return Err(form("an envelope of another type, or without a signature"));
        }
        let payload = STANDARD.decode(payload).map_err(|_| form("a payload that is no base64"))?;
        let statement: RawStatement = serde_json::from_slice(&payload).map_err(|error| form(error.to_string()))?;
        if statement._type != STATEMENT || statement.predicate_type != PREDICATE {
            return Err(form(format!("a statement of {}, not of {PREDICATE}", statement.predicate_type)));
        }
        let RawPredicate { resources, serialization } = &statement.predicate;
        let sharded = serialization.method == "shards";
        if resources.len() > FILES || sharded != serialization.shard_size.is_some() {
            return Err(form("more files than can be, or a shard size that is missing or not asked for"));
        }
        if statement.subject.len() != 1 || statement.subject.iter().any(|subject| subject.digest.is_empty()) {
            return Err(form("a statement of one model, with its digest"));
        }
        Ok(Self { payload, signatures: signatures.into_iter().map(|signature| signature.sig).collect(), statement })
    }

    /// Signs a folder's files, by path from its root.
    #[must_use]
    pub fn sign(name: &str, files: &BTreeMap<String, [u8; 32]>, key: &Key) -> String {
        let resource = |(name, digest): (&String, &[u8; 32])| Resource {
            name: name.clone(),
            digest: hash::hex(digest),
            algorithm: "sha256".into(),
        };
        let serialization = Serialization {
            method: "files".into(),
            hash_type: "sha256".into(),
            allow_symlinks: false,
            shard_size: None,
            ignore_paths: vec![FILE.to_owned()],
        };
        let digest = BTreeMap::from([("sha256".to_owned(), root(files.values()))]);
        let statement = RawStatement {
            _type: STATEMENT.into(),
            subject: vec![RawSubject { name: name.to_owned(), digest }],
            predicate_type: PREDICATE.into(),
            predicate: RawPredicate { resources: files.iter().map(resource).collect(), serialization },
        };
        let Ok(payload) = serde_json::to_vec(&statement) else { unreachable!("texts always serialise") };
        let sig = STANDARD.encode(key.sign(&[], &envelope::encoding(STATEMENT_TYPE, &payload)));
        let bundle = json!({
            "mediaType": format!("{MEDIA}.v0.3+json"),
            "verificationMaterial": { "publicKey": { "hint": fingerprint(&key.public()) }, "tlogEntries": [] },
            "dsseEnvelope": {
                "payload": STANDARD.encode(&payload),
                "payloadType": STATEMENT_TYPE,
                "signatures": [{ "sig": sig, "keyid": "" }],
            },
        });
        let Ok(text) = serde_json::to_string_pretty(&bundle) else { unreachable!("texts always serialise") };
        text + "\n"
    }

    /// Checks that `key` signed exactly these files.
    ///
    /// # Errors
    /// When it did not, or a file was changed, added or taken away.
    pub fn verify(&self, key: &PublicKey, files: &BTreeMap<String, [u8; 32]>) -> Result<(), GateError> {
        let signed = envelope::encoding(STATEMENT_TYPE, &self.payload);
        let holds = |sig: &String| {
            let bytes = STANDARD.decode(sig).ok().and_then(|bytes| <[u8; 64]>::try_from(bytes).ok());
            bytes.is_some_and(|sig| key.verify(&[], &signed, &sig).is_ok())
        };
        if !self.signatures.iter().any(holds) {
            return Err(GateError::Unsigned(hash::hex(&key.id())));
        }
        let RawPredicate { resources, serialization } = &self.statement.predicate;
        let plain = |resource: &Resource| resource.algorithm == "sha256";
        if serialization.method != "files" || serialization.hash_type != "sha256" || !resources.iter().all(plain) {
            return Err(form("signed by shards or another hash than SHA-256, which are not checked here"));
        }
        let mut listed = BTreeMap::new();
        for resource in resources {
            let digest = hash::unhex::<32>(&resource.digest).ok_or_else(|| form("a digest that is none"))?;
            if listed.insert(resource.name.clone(), digest).is_some() {
                return Err(form(format!("{} is listed twice", resource.name)));
            }
        }
        // In the order of the list, which need not be that of names.
        let digests: Vec<[u8; 32]> = resources.iter().filter_map(|r| hash::unhex(&r.digest)).collect();
        if self.statement.subject.iter().any(|s| s.digest.get("sha256") != Some(&root(digests.iter()))) {
            return Err(form("the model's digest is not that of its files"));
        }
        for (name, digest) in files {
            match listed.get(name) {
                Some(wanted) if wanted == digest => {}
                Some(_) => return Err(form(format!("{name} was changed after signing"))),
                None => return Err(form(format!("{name} was added after signing"))),
            }
        }
        match listed.keys().find(|name| !files.contains_key(*name)) {
            Some(name) => Err(form(format!("{name} was signed and is not there"))),
            None => Ok(()),
        }
    }
}

fn root<'a>(digests: impl Iterator<Item = &'a [u8; 32]>) -> String {
    hash::hex(&hash::sha256(&digests.flatten().copied().collect::<Vec<u8>>()))
}

/// SHA-256 of the key as a SubjectPublicKeyInfo, hexadecimal.
fn fingerprint(key: &PublicKey) -> String {
    let raw = STANDARD.decode(key.to_text()).unwrap_or_default();
    hash::hex(&hash::sha256(&[&SPKI[..], &raw].concat()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    type Files = BTreeMap<String, [u8; 32]>;

    fn files() -> Files {
        [("manifest.json", 1), ("model.onnx", 2), ("evidence/parity.json", 3)].map(|(n, d)| (n.into(), [d; 32])).into()
    }

    #[test]
    fn exactly_the_files_that_were_signed_are_believed() {
        let (key, other) = (Key::from_seed(&[1; 32]), Key::from_seed(&[2; 32]));
        let text = Bundle::sign("churn", &files(), &key);
        let verify = |text: &str, key: &Key, files: &BTreeMap<_, _>| {
            Bundle::read(text.as_bytes()).and_then(|bundle| bundle.verify(&key.public(), files))
        };
        verify(&text, &key, &files()).unwrap();
        assert!(matches!(verify(&text, &other, &files()), Err(GateError::Unsigned(_))));
        let with = |change: &dyn Fn(&mut Files)| {
            let mut files = files();
            change(&mut files);
            verify(&text, &key, &files).unwrap_err().to_string()
        };
        assert!(
            with(&|f| {
                f.insert("model.onnx".into(), [9; 32]);
            })
            .contains("model.onnx was changed")
        );
        assert!(
            with(&|f| {
                f.insert("more.onnx".into(), [9; 32]);
            })
            .contains("more.onnx was added")
        );
        assert!(
            with(&|f| {
                f.remove("manifest.json");
            })
            .contains("manifest.json was signed and is not there")
        );
        // One byte of what was signed, anywhere in it.
        let bundle: Value = serde_json::from_str(&text).unwrap();
        let payload = STANDARD.decode(bundle["dsseEnvelope"]["payload"].as_str().unwrap()).unwrap();
        for at in 0..payload.len() {
            let mut changed = payload.clone();
            changed[at] ^= 1;
            let mut bundle = bundle.clone();
            bundle["dsseEnvelope"]["payload"] = STANDARD.encode(&changed).into();
            assert!(verify(&bundle.to_string(), &key, &files()).is_err(), "byte {at}");
        }
    }

    /// The specification's own vectors, and what is wrong with those that are to be refused. None is signed by ed25519: the three
    /// valid signatures have 102, 104 and 71 bytes, as those of ECDSA do, and keys do not come with them. So what is checked
    /// of these is their form, the digest of their files, and that no ed25519 key is believed to have signed them.
    const VECTORS: [(&str, Result<(), &str>); 8] = [
        ("valid/key", Ok(())),
        ("valid/certificate", Ok(())),
        ("valid/sigstore", Ok(())),
        ("invalid/empty", Err("EOF while parsing")),
        ("invalid/missing-envelope", Err("missing field `dsseEnvelope`")),
        ("invalid/missing-tlog-entries", Err("without media type or verification material")),
        ("invalid/missing-verification-material", Err("missing field `verificationMaterial`")),
        ("invalid-payload/wrong-predicate", Err("a statement of https://example.com/wrong-predicate/v1.0")),
    ];

    /// The vectors are no part of this project: without `GLOAMING_DATA`, the folder that holds them, that is said.
    #[test]
    fn the_specifications_vectors_are_taken_and_refused_as_it_says() {
        let data = std::env::var_os("GLOAMING_DATA").map(std::path::PathBuf::from);
        let folder = data.map(|data| data.join("oms_v1/test-vectors/v1.0")).filter(|folder| folder.is_dir());
        let Some(folder) = folder else {
            println!("skipped: GLOAMING_DATA names no folder with oms_v1/test-vectors/v1.0 of ossf/model-signing-spec");
            return;
        };
        let own = Key::from_seed(&[1; 32]).public();
        for (name, wanted) in VECTORS {
            let read = Bundle::read(&std::fs::read(folder.join(format!("{name}.bundle.json"))).unwrap());
            match (read, wanted) {
                (Ok(bundle), Ok(())) => {
                    let RawPredicate { resources, .. } = &bundle.statement.predicate;
                    let digests: Vec<[u8; 32]> = resources.iter().map(|r| hash::unhex(&r.digest).unwrap()).collect();
                    assert_eq!(bundle.statement.subject[0].digest["sha256"], root(digests.iter()), "{name}");
                    let lengths: Vec<usize> =
                        bundle.signatures.iter().map(|sig| STANDARD.decode(sig).unwrap().len()).collect();
                    assert!(lengths.iter().all(|length| *length != 64), "{name}: an ed25519 signature after all");
                    let listed = resources.iter().map(|r| r.name.clone()).zip(digests.iter().copied()).collect();
                    assert!(matches!(bundle.verify(&own, &listed), Err(GateError::Unsigned(_))), "{name}");
                    println!(
                        "{name}: form and digest of {} files hold; its signature, of {lengths:?} bytes and not 64, is none of ed25519 and not checked",
                        resources.len()
                    );
                }
                (Err(error), Err(words)) => {
                    assert!(error.to_string().contains(words), "{name}: {error}");
                    println!("{name}: refused by its form: {error}");
                }
                (read, _) => panic!("{name}: {:?}", read.err()),
            }
        }
        let files =
            ["valid", "invalid", "invalid-payload"].map(|kind| std::fs::read_dir(folder.join(kind)).unwrap().count());
        assert_eq!(files.iter().sum::<usize>(), VECTORS.len(), "a vector that nothing is said of");
    }
}
