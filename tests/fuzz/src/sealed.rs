//! What comes sealed or signed from another machine: loads of relays, deliveries of edges, the signature of a model's folder.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use gloaming_policy::author::{Key, KeyId, Signed, announced, announcement, batch_signature, verify_batch};
use gloaming_policy::gate::oms::Bundle;
use gloaming_signal::relay::{Parcel, unload};
use gloaming_signal::{Reason, Submission, cbor, hash};
use gloaming_window::{Answer, Load, MemoryRelayStore, Posted, Relay, RelayBounds, open_load};

use crate::{TIME, a_batch, a_key, a_policy, a_submission};

/// Bytes that a seal takes: a key's id, an encapsulated key, and a tag.
const SEAL: usize = 8 + 32 + 16;

/// The home edge's keys: the one in use is the second.
static KEYS: LazyLock<[Key; 2]> = LazyLock::new(|| [Key::from_seed(&[9; 32]), a_key()]);

/// The signed policy of a site that is at home where the keys are.
static SERVED: LazyLock<Vec<u8>> = LazyLock::new(|| Signed::sign(&a_policy(), &[&a_key()]).to_bytes());

/// What a relay answers to a body that comes twice, and what it then has for the home edge.
fn relay(body: &[u8]) -> (Vec<Answer>, Option<Load>) {
    let homes = BTreeMap::from([("edge-1".to_owned(), a_key().public())]);
    let pins = BTreeMap::from([("app.example".to_owned(), a_key().public())]);
    let relay = Relay::open(MemoryRelayStore::default(), "edge-9", homes, &pins, RelayBounds::default());
    let mut relay = relay.expect("a store in memory");
    relay.load_policy(&SERVED, &a_key().public(), TIME).expect("the site's policy");
    let posted = [Posted { body, network: Some(7) }, Posted::from(body)];
    let answers = relay.take(TIME, &posted, &mut |bytes: &mut [u8]| bytes.fill(7)).expect("a store in memory");
    let load = relay.next("edge-1", TIME).expect("a store in memory");
    (answers, load)
}

/// Submissions under the policy that is served: one to be counted, one to be checked.
pub(crate) fn bodies() -> Vec<Vec<u8>> {
    vec![cbor::to_vec(&a_submission()), cbor::to_vec(&Submission { check: true, ..a_submission() })]
}

/// What a relay takes is, for the home edge and for nobody else, byte for byte what came.
pub(crate) fn relayed(bytes: &[u8]) {
    let (answers, load) = relay(bytes);
    let taken = answers.iter().filter(|answer| answer.each == [Reason::Relayed]).count();
    assert!(taken == 0 || taken == answers.len(), "one body, two answers");
    let Some(Load { names, bytes: sealed }) = load else {
        assert_eq!(taken, 0, "it was taken, and is not there");
        return;
    };
    assert!(open_load(&KEYS[..1], &sealed).is_none(), "opened by another");
    let parcels = open_load(&KEYS[..], &sealed).expect("sealed for this edge");
    assert_eq!(parcels.len(), names.len());
    let came: Vec<&[u8]> = parcels.iter().flat_map(|parcel| &parcel.relayed).map(|one| &one.body[..]).collect();
    assert_eq!(came, vec![bytes; taken]);
}

/// A load as a relay posts it.
pub(crate) fn loads() -> Vec<Vec<u8>> {
    bodies().iter().filter_map(|body| relay(body).1).map(|load| load.bytes).collect()
}

/// What opens was sealed for this edge, and as many bytes came out of each parcel as were in it.
pub(crate) fn sealed(bytes: &[u8]) {
    let Some(parcels) = open_load(&KEYS[..], bytes) else { return };
    let sealed = unload(bytes).expect("a load, for it was opened");
    assert_eq!(parcels.len(), sealed.len());
    let known: Vec<Parcel> = loads().iter().filter_map(|load| open_load(&KEYS[..], load)).flatten().collect();
    for (parcel, sealed) in parcels.iter().zip(sealed) {
        assert_eq!(cbor::to_vec(parcel).len() + SEAL, sealed.len());
        assert!(known.contains(parcel), "a parcel that nobody sealed");
    }
}

fn a_delivery() -> Vec<u8> {
    batch_signature(&a_key(), &cbor::to_vec(&a_batch()))
}

/// A delivery, and the line that announces it.
pub(crate) fn deliveries() -> Vec<Vec<u8>> {
    vec![a_delivery(), announcement(&a_key(), &a_delivery()).into_bytes()]
}

/// What a centre believes was signed by the edge that it trusts: the batch, and the announcement before it.
pub(crate) fn delivery(bytes: &[u8]) {
    let key = a_key().public();
    let trusted = |id: &KeyId| (*id == key.id()).then_some(key);
    if let Ok(batch) = verify_batch(bytes, trusted) {
        assert_eq!(batch, cbor::to_vec(&a_batch()), "another batch than the one that was ever signed");
    }
    let announced = std::str::from_utf8(bytes).ok().and_then(|line| announced(line, trusted).ok());
    assert!(announced.is_none_or(|digest| digest == hash::sha256(&a_delivery())), "announced by nobody");
}

fn files() -> BTreeMap<String, [u8; 32]> {
    [("manifest.json", 1), ("model.onnx", 2), ("evidence/parity.json", 3)]
        .map(|(name, digest)| (name.to_owned(), [digest; 32]))
        .into()
}

/// The signature of a model's folder.
pub(crate) fn bundles() -> Vec<Vec<u8>> {
    vec![Bundle::sign("churn", &files(), &a_key()).into_bytes()]
}

/// A bundle is believed about exactly the files that were signed, and of exactly the key that signed them.
pub(crate) fn bundle(bytes: &[u8]) {
    let Ok(bundle) = Bundle::read(bytes) else { return };
    let believed = |files: &BTreeMap<String, [u8; 32]>| bundle.verify(&a_key().public(), files).is_ok();
    let files = files();
    assert!(bundle.verify(&KEYS[0].public(), &files).is_err(), "signed by nobody");
    let with = |name: &str| {
        let mut files = files.clone();
        files.insert(name.to_owned(), [9; 32]);
        files
    };
    for name in files.keys() {
        assert!(!believed(&with(name)), "{name} is another");
        let mut others = files.clone();
        others.remove(name);
        assert!(!believed(&others), "{name} is not there");
    }
    assert!(!believed(&with("more.onnx")), "one was added");
}
