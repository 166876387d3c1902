//! What lies on the disk: planted values are looked for in every file, byte by byte, before a window is released
//! and after.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;

use gloaming_edge::RedbStorage;
use gloaming_policy::author::{Key, Signed, compile, template};
use gloaming_signal::{Contribution, Submission, cbor};
use gloaming_window::{Bounds, Edge, Guest, GuestError, Opening, Storage as _, WrappingKey};
use gloaming_worker::core::Worker;

const DAY: u64 = 86_400_000;
const START: u64 = 20_781 * DAY + 1_000;

struct Native(Worker);

impl Guest for Native {
    fn configure(&mut self, policy: &[u8]) -> Result<[u8; 32], GuestError> {
        self.0.configure(policy).map_err(|f| GuestError::Fault(format!("{f:?}")))
    }
    fn retain(&mut self, _hashes: &[[u8; 32]]) {}
    fn fold(&mut self, hash: &[u8; 32], now_ms: u64, batch: &[u8]) -> Result<Vec<u8>, GuestError> {
        self.0.fold(hash, now_ms, batch).map_err(|f| GuestError::Fault(format!("{f:?}")))
    }
    fn release(&mut self, h: &[u8; 32], s: &[u8; 32], span: u64, w: u64, c: &[u8]) -> Result<Vec<u8>, GuestError> {
        self.0.release(h, s, span, w, c).map_err(|f| GuestError::Fault(format!("{f:?}")))
    }
}

/// Files in a folder that hold these bytes.
fn holding(folder: &Path, needle: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        if bytes.windows(needle.len()).any(|window| window == needle) {
            found.push(path.file_name().unwrap().to_string_lossy().into_owned());
        }
    }
    found
}

#[test]
fn ids_are_never_in_the_clear_and_the_key_of_a_released_window_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("edge.redb");
    let owner = Key::from_seed(&[1; 32]);
    let text = template("blog", "blog.example", "https://blog.example", "2027-03-01").unwrap();
    let policy = compile(&text, 20_781, &|_| Err("none".into())).unwrap();
    let opening = Opening {
        name: "edge-1".into(),
        key: Key::from_seed(&[2; 32]),
        wrapping: WrappingKey::new([3; 32]),
        pins: BTreeMap::from([("blog.example".to_owned(), owner.public())]),
        anchor: None,
        epoch: None,
        accept_clock: false,
        restored: false,
        bounds: Bounds::default(),
        quotas: BTreeMap::new(),
    };
    let mut guest = Native(Worker::default());
    let (mut state, mut draws) = (1u64, Vec::new());
    let mut entropy = |buffer: &mut [u8]| {
        for byte in buffer.iter_mut() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = (state >> 56) as u8;
        }
        draws.push(buffer.to_vec());
    };
    let mut edge = Edge::open(RedbStorage::create(&path).unwrap(), &opening, START, &mut guest, &mut entropy).unwrap();
    let signed = Signed::sign(&policy, &[&owner]).to_bytes();
    edge.load_policy(&signed, &owner.public(), START, &mut guest).unwrap();
    let planted = [0x5a; 16];
    for id in 0..40u8 {
        let mut bytes = planted;
        bytes[15] = id;
        let contribution = Contribution { id: bytes, metric: 4, window: 20_781, cell: 1, value: 1 };
        let submission = Submission {
            site: policy.site.clone(),
            policy_version: 1,
            policy_hash: policy.hash(),
            check: false,
            contributions: vec![contribution],
        };
        edge.ingest(START, &[cbor::to_vec(&submission)[..].into()], &mut guest, &mut entropy).unwrap();
    }
    let snapshot = edge.storage_mut().load(0).unwrap();
    let wrapped = snapshot.keys.values().next().unwrap().0.clone();
    assert_eq!(snapshot.keys.len(), 1);
    assert_eq!(holding(folder.path(), &planted[..15]), Vec::<String>::new(), "an id in the clear");
    assert_eq!(holding(folder.path(), &wrapped), ["edge.redb.keys"], "the key, wrapped, in its slot and nowhere else");

    assert!(edge.release_due(START + 2 * DAY, &mut guest, &mut entropy).unwrap());
    // The log's old pages still lie there; the key that would open them does not.
    assert_eq!(holding(folder.path(), &wrapped), Vec::<String>::new());
    drop(edge);
    assert_eq!(holding(folder.path(), &wrapped), Vec::<String>::new());
    // Nor do the seed of its noise and the window's own key, which no disk may ever see.
    for secret in draws.iter().filter(|draw| draw.len() == 32) {
        assert_eq!(holding(folder.path(), secret), Vec::<String>::new());
    }
}
