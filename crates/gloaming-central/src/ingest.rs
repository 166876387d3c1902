//! What makes a batch one that may be stored: all of it pure.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use gloaming_policy::Policy;
use gloaming_policy::author::{KeyId, PublicKey, verify_batch};
use gloaming_signal::{ReleaseState, SealedBatch, cbor};

use crate::config::CentralError;

/// Policies by site and version, each with its hash.
pub(crate) type Policies = BTreeMap<(String, u32), (Policy, [u8; 32])>;

/// Edges by their keys' ids. An edge may have several keys: the old one and the new one, while it changes them.
#[derive(Debug, Default)]
pub(crate) struct Edges(BTreeMap<KeyId, (String, PublicKey)>);

impl Edges {
    /// Refuses a key that two edges would share: it could not say which of them signed.
    pub(crate) fn new(keys: BTreeMap<String, Vec<PublicKey>>) -> Result<Self, CentralError> {
        let mut edges = BTreeMap::<KeyId, (String, PublicKey)>::new();
        for (name, key) in
            keys.into_iter().flat_map(|(name, keys)| keys.into_iter().map(move |key| (name.clone(), key)))
        {
            match edges.entry(key.id()) {
                Entry::Vacant(place) => drop(place.insert((name, key))),
                Entry::Occupied(other) if other.get().0 == name => {}
                Entry::Occupied(other) => return Err(CentralError::SharedKey(other.get().0.clone(), name)),
            }
        }
        Ok(Self(edges))
    }

    /// The key of this id.
    pub(crate) fn key(&self, id: &KeyId) -> Option<PublicKey> {
        self.0.get(id).map(|(_, key)| *key)
    }
}

/// Why a batch is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Not a delivery, not signed by a known edge, or changed on the way.
    Signature,
    /// Signed by one edge in the name of another.
    OtherEdge,
    /// Not a batch.
    Malformed,
    /// The policy it speaks of is not known here.
    UnknownPolicy,
    /// The edge is not among the policy's home edges.
    NotHome,
    /// Its releases are not those the policy declares.
    Undeclared,
}

impl Refusal {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Signature => "signature",
            Self::OtherEdge => "other-edge",
            Self::Malformed => "malformed",
            Self::UnknownPolicy => "unknown-policy",
            Self::NotHome => "not-a-home-edge",
            Self::Undeclared => "undeclared",
        }
    }

    pub(crate) fn remedy(self) -> &'static str {
        match self {
            Self::Signature => {
                "add the edge's public key to the centre's [edges], or look for what changes bodies on the way"
            }
            Self::OtherEdge => "give the edge the name under which its key stands in the centre's [edges]",
            Self::Malformed => "run an edge of this version",
            Self::UnknownPolicy => "give the centre the signed policy that the edge uses",
            Self::NotHome => "add the edge to `home_edges` in the policy and sign it again",
            Self::Undeclared => "give edge and centre the same signed policy",
        }
    }
}

/// Believes a delivery or says why not.
pub(crate) fn accept(delivery: &[u8], edges: &Edges, policies: &Policies) -> Result<SealedBatch, Refusal> {
    let mut signer = None;
    let of = |id: &KeyId| edges.0.get(id).map(|(name, key)| (signer = Some(name), *key).1);
    let bytes = verify_batch(delivery, of).map_err(|_| Refusal::Signature)?;
    let batch: SealedBatch = cbor::from_slice(&bytes).map_err(|_| Refusal::Malformed)?;
    if signer != Some(&batch.edge) {
        return Err(Refusal::OtherEdge);
    }
    let (policy, hash) = policies.get(&(batch.site.clone(), batch.policy_version)).ok_or(Refusal::UnknownPolicy)?;
    if *hash != batch.policy_hash {
        return Err(Refusal::UnknownPolicy);
    }
    // Far beyond any time or number there will be, and far from where they overflow.
    if batch.window > 1 << 40 || batch.seq > 1 << 40 {
        return Err(Refusal::Undeclared);
    }
    if !policy.home_edges.contains(&batch.edge) {
        return Err(Refusal::NotHome);
    }
    let declared = policy.metrics.iter().filter(|m| m.span_ms == batch.span_ms);
    let fits = declared.clone().count() == batch.releases.len()
        && declared.zip(&batch.releases).all(|(metric, release)| {
            let cells = if release.state == ReleaseState::Released { metric.cells() as usize } else { 0 };
            release.metric == metric.id && release.values.len() == cells
        });
    if fits && !batch.releases.is_empty() { Ok(batch) } else { Err(Refusal::Undeclared) }
}
