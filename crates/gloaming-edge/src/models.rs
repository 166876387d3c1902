//! Model files as devices fetch them: by their SHA-256, which the signed policy names.
//!
//! A name that is a hash never changes its meaning: versions lie beside each other, caches keep them for ever, and a
//! device that holds yesterday's policy is served yesterday's model. A policy that names a file which is not here, because
//! it was forgotten or a byte of it changed, is not put in force: what was in force goes on, and devices are told which of its
//! models are the last good versions, so that it is counted whose scores they are.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::RwLock;

use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use gloaming_http::Assets;
use gloaming_policy::author::{PublicKey, Signed};
use gloaming_policy::{ModelState, Policy};
use gloaming_signal::hash;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::engine::{EngineError, Served};

/// Largest file, bytes: what a model may have.
const FILE_BYTES: u64 = 8 * 1024 * 1024;
/// Most files of a folder.
const FILES: usize = 512;

/// Files by hash.
#[derive(Default)]
struct Held {
    sets: Vec<Assets>,
    places: HashMap<[u8; 32], (usize, String)>,
}

impl Held {
    fn add(&mut self, files: Assets) {
        let set = self.sets.len();
        for name in files.names().filter(|name| name.starts_with("models/")) {
            if let Some(bytes) = files.bytes(name) {
                self.places.insert(hash::sha256(bytes), (set, name.to_owned()));
            }
        }
        self.sets.push(files);
    }
}

/// A version of a policy that is signed, and waits for the files of its models.
struct Waiting {
    version: u32,
    /// Its models by name, and the SHA-256 of their manifests.
    models: BTreeMap<String, [u8; 32]>,
}

/// What an edge serves of models.
pub(crate) struct Models {
    released: Assets,
    folder: Option<PathBuf>,
    held: RwLock<Held>,
    /// By site.
    waiting: RwLock<BTreeMap<String, Waiting>>,
}

impl Models {
    /// Those that are released with the edge, and those in a folder.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub(crate) fn new(released: Assets, folder: Option<PathBuf>) -> io::Result<Self> {
        let models = Self { released, folder, held: RwLock::default(), waiting: RwLock::default() };
        models.renew()?;
        Ok(models)
    }

    /// Reads the folder anew; what was held stays when it cannot be read.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn renew(&self) -> io::Result<()> {
        let mut held = Held::default();
        held.add(self.released.clone());
        if let Some(folder) = &self.folder {
            held.add(read(folder)?);
        }
        if let Ok(mut place) = self.held.write() {
            // A file that was overwritten or taken away may still be named by the policy in force, or by one that a page
            // holds: it is served until this edge ends, as far as there is room.
            let gone = place.places.iter().filter(|(hash, _)| !held.places.contains_key(*hash));
            let kept = gone.filter_map(|(hash, (set, name))| {
                Some((format!("models/before/{}", hash::hex(hash)), place.sets.get(*set)?.bytes(name)?.clone()))
            });
            let kept = Assets::from_files(kept.take(FILES).collect::<Vec<_>>());
            held.add(kept);
            *place = held;
        }
        Ok(())
    }

    /// The file of this hash, for as long as anybody likes to keep it.
    pub(crate) fn respond(&self, word: &str, request: &HeaderMap) -> Response {
        let found = hash::unhex::<32>(word).zip(self.held.read().ok());
        let Some((set, name)) = found.as_ref().and_then(|(hash, held)| held.places.get(hash)) else {
            return StatusCode::NOT_FOUND.into_response();
        };
        let Some(files) = found.as_ref().and_then(|(_, held)| held.sets.get(*set)) else {
            return StatusCode::NOT_FOUND.into_response();
        };
        let mut response = files.respond(name, request);
        let keep = HeaderValue::from_static("public, max-age=31536000, immutable");
        response.headers_mut().insert(header::CACHE_CONTROL, keep);
        response
    }

    /// What a policy names and is not here.
    fn lacking(&self, policy: &Policy) -> Option<EngineError> {
        let held = self.held.read().ok()?;
        for model in policy.models.iter().filter(|model| model.state != ModelState::Off) {
            for (what, sha256) in [("manifest", &model.manifest_sha256), ("file", &model.onnx_sha256)] {
                if !held.places.contains_key(sha256) {
                    return Some(EngineError::Model {
                        site: policy.site.clone(),
                        version: policy.version,
                        model: model.id.clone(),
                        what,
                        hash: hash::hex(sha256),
                    });
                }
            }
        }
        None
    }

    /// Takes out of a list the policies whose models are not here. Of sites that it names, it is known from here on which version
    /// waits; what no pinned key has signed waits for nothing.
    pub(crate) fn sift(&self, pins: &BTreeMap<String, PublicKey>, policies: &mut Vec<Vec<u8>>) -> Vec<EngineError> {
        let (mut refused, mut judged) = (Vec::new(), BTreeMap::<String, Option<Waiting>>::new());
        policies.retain(|bytes| {
            // What cannot be read is refused where signatures are looked at.
            let Ok((_, policy)) = Signed::verified_before(bytes) else { return true };
            let lacks = self.lacking(&policy);
            let signed = || pins.get(&policy.site).is_some_and(|pin| Signed::verify(bytes, pin, 0).is_ok());
            let newest = judged.entry(policy.site.clone()).or_default();
            if lacks.is_some() && newest.as_ref().is_none_or(|other| other.version < policy.version) && signed() {
                let models = policy.models.iter().map(|model| (model.id.clone(), model.manifest_sha256)).collect();
                *newest = Some(Waiting { version: policy.version, models });
            }
            let whole = lacks.is_none();
            refused.extend(lacks);
            whole
        });
        if let Ok(mut waiting) = self.waiting.write() {
            for (site, newest) in judged {
                match newest {
                    Some(newest) => drop(waiting.insert(site, newest)),
                    None => drop(waiting.remove(&site)),
                }
            }
        }
        refused
    }

    /// What devices are told beside a policy: those of its models of which a newer version waits for its files, with spaces between;
    /// `None` without any.
    pub(crate) fn last_good(&self, served: &Served) -> Option<HeaderValue> {
        let waiting = self.waiting.read().ok()?;
        let newer = waiting.get(&served.site).filter(|newer| newer.version > served.version)?;
        let behind = |(id, manifest): &&(String, [u8; 32])| newer.models.get(id).is_some_and(|newer| newer != manifest);
        let behind: Vec<&str> = served.models.iter().filter(behind).map(|(id, _)| id.as_str()).collect();
        if behind.is_empty() { None } else { HeaderValue::from_str(&behind.join(" ")).ok() }
    }
}

/// `*/manifest.json` and `*/*.onnx` of a folder.
fn read(folder: &Path) -> io::Result<Assets> {
    let mut files = Vec::new();
    for model in std::fs::read_dir(folder)? {
        let model = model?;
        if !model.file_type()?.is_dir() {
            continue;
        }
        for file in std::fs::read_dir(model.path())? {
            let file = file?;
            let name = file.file_name().to_string_lossy().into_owned();
            if name != "manifest.json" && !name.ends_with(".onnx") {
                continue;
            }
            let bytes = file.metadata()?.len();
            if bytes > FILE_BYTES || files.len() >= FILES {
                let path = file.path();
                tracing::error!(path = %path.display(), bytes, "not served: a model's file has {FILE_BYTES} bytes at most, and a folder {FILES} files");
                continue;
            }
            let path = format!("models/{}/{name}", model.file_name().to_string_lossy());
            match std::fs::read(file.path()) {
                Ok(bytes) => files.push((path, Bytes::from(bytes))),
                Err(error) => tracing::error!(path = %file.path().display(), %error, "a model's file is not served"),
            }
        }
    }
    Ok(Assets::from_files(files))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use gloaming_policy::author::{Key, ManifestFacts, compile, template};

    use super::*;
    use crate::engine::served_of;

    #[test]
    fn files_are_found_by_their_hash_and_by_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let one = folder.path().join("churn");
        std::fs::create_dir(&one).unwrap();
        std::fs::write(one.join("manifest.json"), "{}").unwrap();
        std::fs::write(one.join("model.onnx"), "first").unwrap();
        std::fs::write(one.join("card.md"), "words").unwrap();
        let released = Assets::from_files([("g/x.js".to_owned(), Bytes::from_static(b"script"))]);
        let models = Models::new(released, Some(folder.path().to_owned())).unwrap();
        let status = |bytes: &[u8]| {
            let word = hash::hex(&hash::sha256(bytes));
            models.respond(&word, &HeaderMap::new()).status().as_u16()
        };
        assert_eq!([b"{}".as_slice(), b"first", b"words", b"script", b"second"].map(status), [200, 200, 404, 404, 404]);
        assert_eq!(models.respond("../card.md", &HeaderMap::new()).status().as_u16(), 404);
        // Another version beside it.
        std::fs::write(one.join("next.onnx"), "second").unwrap();
        models.renew().unwrap();
        assert_eq!([b"first".as_slice(), b"second"].map(status), [200, 200]);
        // A version that overwrites another takes nothing from who holds the one before.
        std::fs::write(one.join("model.onnx"), "third").unwrap();
        models.renew().unwrap();
        models.renew().unwrap();
        assert_eq!([b"first".as_slice(), b"second", b"third"].map(status), [200, 200, 200]);
    }

    /// A newer version is told of as long as it waits, to sites whose key has signed it, and of models that it has otherwise.
    #[test]
    fn devices_are_told_which_models_are_the_last_good_ones() {
        let (key, other) = (Key::from_seed(&[1; 32]), Key::from_seed(&[2; 32]));
        let pins = BTreeMap::from([("shop.example".to_owned(), key.public())]);
        let text = template("shop", "shop.example", "https://shop.example", "2027-12-01").unwrap();
        let facts = |version: u8| ManifestFacts {
            manifest_sha256: hash::sha256(&[version]),
            onnx_sha256: hash::sha256(b"file"),
            ..ManifestFacts::stand_in("purchase-intent", &["pages@1"])
        };
        let policy = |version: u32, model: u8| {
            let text = text.replacen("version = 1 ", &format!("version = {version} "), 1);
            compile(&text, 20_781, &|_| Ok(facts(model))).unwrap()
        };
        let signed = |policy: &Policy, key: &Key| Signed::sign(policy, &[key]);
        let folder = tempfile::tempdir().unwrap();
        let one = folder.path().join("purchase-intent");
        std::fs::create_dir(&one).unwrap();
        std::fs::write(one.join("manifest.json"), [1u8]).unwrap();
        std::fs::write(one.join("model.onnx"), "file").unwrap();
        let models = Models::new(Assets::from_files([]), Some(folder.path().to_owned())).unwrap();
        let (first, second) = (policy(1, 1), policy(2, 2));
        let served = served_of(&first, &signed(&first, &key));
        let sift = |some: &[(&Policy, &Key)]| {
            let mut list: Vec<Vec<u8>> = some.iter().map(|&(policy, key)| signed(policy, key).to_bytes()).collect();
            let refused = models.sift(&pins, &mut list).len();
            (list.len(), refused, models.last_good(&served).map(|told| told.to_str().unwrap().to_owned()))
        };
        assert_eq!(sift(&[(&first, &key)]), (1, 0, None));
        assert_eq!(sift(&[(&first, &key), (&second, &other)]), (1, 1, None), "anybody can write a policy");
        let told = Some("purchase-intent".to_owned());
        assert_eq!(sift(&[(&second, &key), (&first, &key)]), (1, 1, told.clone()));
        // Once it is in force, or taken back, none waits.
        assert!(models.last_good(&served_of(&second, &signed(&second, &key))).is_none());
        assert_eq!(sift(&[]), (0, 0, told), "who names no site says nothing of it");
        assert_eq!(sift(&[(&first, &key)]), (1, 0, None));
        // A newer one lacks another model, and has this one as it is.
        let more =
            "\n[[model]]\nid = \"small\"\nmanifest = \"small.json\"\nstate = \"shadow\"\npurpose = \"prediction\"\n";
        let text = text.replacen("version = 1 ", "version = 3 ", 1) + more;
        let both = |path: &str| match path {
            "small.json" => Ok::<_, String>(ManifestFacts { id: "small".into(), ..facts(9) }),
            _ => Ok(facts(1)),
        };
        let third = compile(&text, 20_781, &both).unwrap();
        assert_eq!(sift(&[(&third, &key)]), (0, 1, None));
    }
}
