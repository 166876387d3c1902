//! Opening the store, at start and again whenever it failed, and loading policies.

use std::collections::BTreeMap;
use std::path::PathBuf;

use gloaming_policy::author::{PublicKey, SignError, Signed};
use gloaming_window::{Bounds, Edge, EdgeError, LoadPolicyError, Opening};

use crate::anchor::AnchorFile;
use crate::config::{Config, EntropySource};
use crate::engine::EngineError;
use crate::guest::WasmGuest;
use crate::log::RedbStorage;

/// What opens the edge.
pub(crate) struct Maker {
    store: PathBuf,
    pub(crate) anchor: AnchorFile,
    opening: Opening,
}

impl Maker {
    pub(crate) fn new(config: &Config) -> Self {
        let opening = Opening {
            name: config.name.clone(),
            key: config.key.clone(),
            wrapping: config.wrapping.clone(),
            pins: config.pins.clone(),
            anchor: None,
            epoch: None,
            accept_clock: config.accept_clock,
            restored: config.restored,
            bounds: Bounds::default(),
        };
        Self { store: config.store.clone(), anchor: AnchorFile::new(config.anchor.clone()), opening }
    }

    /// At start the store may be new; afterwards it must be the one that was open.
    pub(crate) fn open(
        &mut self,
        now_ms: u64,
        guest: &mut WasmGuest,
        entropy: &mut EntropySource,
    ) -> Result<Edge<RedbStorage>, EngineError> {
        let anchor = |error| EngineError::Anchor(self.anchor.path().to_path_buf(), error);
        self.opening.anchor = self.anchor.read().map_err(anchor)?;
        self.anchor.probe().map_err(anchor)?;
        if self.opening.anchor.is_some() && !self.store.exists() {
            return Err(EdgeError::NoStore.into());
        }
        let first = self.opening.epoch.is_none();
        let storage = if first { RedbStorage::create(&self.store)? } else { RedbStorage::open(&self.store)? };
        let edge = Edge::open(storage, &self.opening, now_ms, guest, &mut **entropy)?;
        if edge.was_restored() {
            tracing::error!(
                store = %self.store.display(),
                "ALARM: the store is older than what has left: open windows were dropped and a new epoch has begun"
            );
        }
        for site in edge.aside() {
            tracing::error!(
                site,
                "ALARM: a stored policy cannot be read with the key pinned now; its site is set aside"
            );
        }
        self.anchor.write(edge.anchor()).map_err(anchor)?;
        // What was asked for once at start is not asked for again when the store fails.
        self.opening.epoch = Some(edge.anchor().epoch);
        (self.opening.accept_clock, self.opening.restored) = (true, false);
        Ok(edge)
    }
}

/// Puts a policy in force that one of the pinned keys has signed for its own site.
pub(crate) fn load(
    edge: &mut Edge<RedbStorage>,
    bytes: &[u8],
    pins: &BTreeMap<String, PublicKey>,
    now_ms: u64,
    loopback: bool,
    guest: &mut WasmGuest,
) -> Result<(), EngineError> {
    // A key vouches for its own site and no other.
    let (mut foreign, mut refused) = (None, None);
    for (site, pin) in pins {
        match Signed::verify(bytes, pin, 0) {
            Ok((_, policy)) if policy.site == *site => {
                // Before it is stored, or every later start would meet it there.
                if policy.is_demo() && !loopback {
                    return Err(EngineError::DemoOffLoopback(policy.site));
                }
                return match edge.load_policy(bytes, pin, now_ms, guest) {
                    // It was in force yesterday, and a restart is no time to find out: its site gets nothing
                    // more, the others go on.
                    Err(LoadPolicyError::Sign(error @ SignError::Expired(_))) => {
                        tracing::error!(%error, site, "a policy is not loaded");
                        Ok(())
                    }
                    other => Ok(other?),
                };
            }
            Ok((_, policy)) => foreign = Some(EngineError::OtherSitesKey(policy.site)),
            Err(error) => refused = Some(LoadPolicyError::Sign(error).into()),
        }
    }
    Err(foreign.or(refused).unwrap_or_else(|| EngineError::NoPin("any site".into())))
}
