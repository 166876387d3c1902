//! What an edge is told at start.

use std::collections::BTreeMap;
use std::path::PathBuf;

use gloaming_http::Roots;
use gloaming_policy::author::{Key, PublicKey};
use gloaming_window::WrappingKey;

use crate::clock::Clock;

/// Fills a buffer with random bytes.
pub type EntropySource = Box<dyn FnMut(&mut [u8]) + Send>;

/// The operating system's entropy.
///
/// # Panics
/// When the operating system has none: noise and keys made without it would protect nobody, and no
/// caller could do better than stop.
#[must_use]
pub fn system_entropy() -> EntropySource {
    Box::new(|buffer| {
        if let Err(error) = getrandom::fill(buffer) {
            panic!("the operating system gives no entropy: {error}");
        }
    })
}

/// A home edge that this one relays to.
#[derive(Clone, Debug)]
pub struct Home {
    /// The key it signs with; what is relayed is sealed for it.
    pub key: PublicKey,
    /// Where it is, tried in turn: `https://host:port`, or `http`. Never empty.
    pub at: Vec<String>,
}

/// See the fields.
pub struct Config {
    /// This edge's name, as policies call it in `home_edges`.
    pub name: String,
    /// The log's file.
    pub store: PathBuf,
    /// A folder of models that policies may name, beside those that are released with the edge.
    pub models: Option<PathBuf>,
    /// Signs deliveries.
    pub key: Key,
    /// Wraps window keys; from a file outside the store.
    pub wrapping: WrappingKey,
    /// The file beside the wrapping key that tells an old copy of the store from the store.
    pub anchor: PathBuf,
    /// Whether to start even when the clock contradicts the store.
    pub accept_clock: bool,
    /// Whether to take a store without an anchor for an old copy, and drop its open windows.
    pub restored: bool,
    /// The key each site's policies must be signed with.
    pub pins: BTreeMap<String, PublicKey>,
    /// Signed policies to put in force at start.
    pub policies: Vec<Vec<u8>>,
    /// The folding component's bytes.
    pub component: Vec<u8>,
    /// Where deliveries go, tried in turn: `https://host:port`, or `http`.
    pub central: Vec<String>,
    /// Who may vouch for those addresses.
    pub roots: Roots,
    /// Home edges by name: sites that are at home there and not here are relayed.
    pub homes: BTreeMap<String, Home>,
    /// Relays whose submissions are taken, and the keys that each may sign with.
    pub relays: BTreeMap<String, Vec<PublicKey>>,
    /// Keys that this edge signed with before, for what was sealed for them.
    pub former_keys: Vec<Key>,
    /// Contributions that single sites may hold open, where that is fewer than an edge's limit.
    pub quotas: BTreeMap<String, usize>,
    /// Routes beside the operators' own, on their listener.
    pub more: axum::Router,
    /// Share of one count that may come from one network, percent; from 100 on nobody is held to any.
    pub share_of_one_network: u32,
    /// Whether both listeners are on this machine only; windows shorter than an hour need it.
    pub loopback: bool,
    /// Edge time.
    pub clock: Clock,
    /// Entropy for seeds and keys.
    pub entropy: EntropySource,
}
