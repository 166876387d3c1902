//! Which policies a centre goes by, and with them what the gate's records say of their models.

use std::collections::BTreeMap;
use std::sync::Arc;

use gloaming_policy::author::{PublicKey, Signed};

use crate::config::CentralError;
use crate::ingest::{Edges, Policies};
use crate::store::Store;
use crate::worth::Records;

/// What may change while the centre runs.
pub(super) struct Trust {
    pub(super) policies: Arc<Policies>,
    pub(super) records: Records,
    pub(super) edges: Edges,
}

impl Trust {
    /// Reads policies that the pinned keys vouch for, each for its own site, and adds those that were believed
    /// before: batches of an earlier version may still come, whatever key its owner uses now.
    pub(super) async fn new(
        store: &Store,
        pins: &BTreeMap<String, PublicKey>,
        signed: &[Vec<u8>],
        edges: BTreeMap<String, Vec<PublicKey>>,
    ) -> Result<Self, CentralError> {
        let edges = Edges::new(edges)?;
        let (mut policies, mut given, mut bundles) = (Policies::new(), Vec::new(), BTreeMap::new());
        for bytes in signed {
            // Batches released before a policy expired may come after: what counts here is the signature.
            let (bundle, policy) = pins
                .values()
                .find_map(|pin| Signed::verify(bytes, pin, 0).ok().filter(|(_, p)| pins.get(&p.site) == Some(pin)))
                .map_or_else(|| Err(why(bytes, pins)), Ok)?;
            let (name, hash) = ((policy.site.clone(), policy.version), policy.hash());
            if policies.insert(name.clone(), (policy, hash)).is_some_and(|(_, other)| other != hash) {
                return Err(CentralError::TwoPolicies(name.0, name.1));
            }
            bundles.insert(name.clone(), bundle);
            given.push((name, bytes));
        }
        for bytes in store.policies().await? {
            let (bundle, policy) = Signed::verified_before(&bytes).map_err(CentralError::Policy)?;
            let (name, hash) = ((policy.site.clone(), policy.version), policy.hash());
            match policies.get(&name) {
                Some((_, given)) if *given != hash => return Err(CentralError::TwoPolicies(name.0, name.1)),
                Some(_) => {}
                None => {
                    bundles.insert(name.clone(), bundle);
                    policies.insert(name, (policy, hash));
                }
            }
        }
        for ((site, version), bytes) in given {
            store.keep_policy(&site, version, bytes).await?;
        }
        Ok(Self { policies: Arc::new(policies), records: records(&bundles), edges })
    }
}

/// The record that came with each site's newest policy: by growing version, so that the last one stays.
fn records(bundles: &BTreeMap<(String, u32), Signed>) -> Records {
    let mut newest: BTreeMap<&str, &Signed> = BTreeMap::new();
    for ((site, _), bundle) in bundles {
        newest.insert(site, bundle);
    }
    // It was replayed when the policy was believed; what does not hold any more says nothing, and the models go by the policy.
    newest.into_iter().filter_map(|(site, bundle)| Some((site.to_owned(), bundle.record().ok()??))).collect()
}

/// Why no pin fits.
fn why(bytes: &[u8], pins: &BTreeMap<String, PublicKey>) -> CentralError {
    match pins.values().next() {
        None => CentralError::NoPin,
        Some(pin) => Signed::verify(bytes, pin, 0).err().map_or(CentralError::NoPin, CentralError::Policy),
    }
}
