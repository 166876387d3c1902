//! Opening the store, at start and again whenever it failed, and loading policies.

use std::collections::BTreeMap;
use std::path::PathBuf;

use gloaming_policy::author::{PublicKey, Signed};
use gloaming_window::{Anchor, Bounds, Edge, EdgeError, Keeper, LoadPolicyError, Opening, Place};

use crate::anchor::AnchorFile;
use crate::config::{Config, EntropySource};
use crate::engine::EngineError;
use crate::log::RedbStorage;
use crate::shadow::Guests;

/// The store and the anchor as files.
pub(crate) struct Files {
    store: PathBuf,
    anchor: AnchorFile,
}

impl Files {
    pub(crate) fn new(config: &Config) -> Self {
        Self { store: config.store.clone(), anchor: AnchorFile::new(config.anchor.clone()) }
    }

    fn wrong(&self, error: &std::io::Error) -> EdgeError {
        EdgeError::Anchor(format!("{}: {error}", self.anchor.path().display()))
    }
}

impl Place for Files {
    type Store = RedbStorage;

    fn store(&mut self, first: bool) -> Result<RedbStorage, EdgeError> {
        if !self.store.exists() && (!first || self.anchor()?.is_some()) {
            return Err(EdgeError::NoStore);
        }
        Ok(if first { RedbStorage::create(&self.store)? } else { RedbStorage::open(&self.store)? })
    }

    fn anchor(&mut self) -> Result<Option<Anchor>, EdgeError> {
        self.anchor.probe().and_then(|()| self.anchor.read()).map_err(|error| self.wrong(&error))
    }

    fn put_anchor(&mut self, anchor: Anchor) -> Result<(), EdgeError> {
        self.anchor.write(anchor).map_err(|error| self.wrong(&error))
    }
}

fn bounds(share_of_one_network: u32) -> Bounds {
    let usual = Bounds::default();
    let network_floor = if share_of_one_network >= 100 { u64::MAX } else { usual.network_floor };
    Bounds { network_floor, network_percent: share_of_one_network.into(), ..usual }
}

/// What a configuration says of opening.
pub(crate) fn opening(config: &Config) -> Opening {
    Opening {
        name: config.name.clone(),
        key: config.key.clone(),
        wrapping: config.wrapping.clone(),
        pins: config.pins.clone(),
        anchor: None,
        epoch: None,
        accept_clock: config.accept_clock,
        restored: config.restored,
        bounds: bounds(config.share_of_one_network),
        quotas: config.quotas.clone(),
    }
}

/// Opens an edge for the first time, and says what is unusual about it.
pub(crate) fn open(
    files: Files,
    opening: Opening,
    now_ms: u64,
    guest: &mut Guests,
    entropy: &mut EntropySource,
) -> Result<Keeper<Files>, EngineError> {
    let keeper = Keeper::open(files, opening, now_ms, guest, &mut **entropy)?;
    if keeper.restored > 0 {
        tracing::error!(
            "ALARM: the store is older than what has left: open windows were dropped and a new epoch has begun"
        );
    }
    keeper.edge().into_iter().for_each(say_aside);
    Ok(keeper)
}

/// Names the sites that are set aside.
pub(crate) fn say_aside(edge: &Edge<RedbStorage>) {
    for site in edge.aside() {
        tracing::error!(site, "ALARM: a stored policy cannot be read with the key pinned now; its site is set aside");
    }
}

/// Puts a policy in force that one of the pinned keys has signed for its own site.
pub(crate) fn load(
    keeper: &mut Keeper<Files>,
    bytes: &[u8],
    pins: &BTreeMap<String, PublicKey>,
    now_ms: u64,
    loopback: bool,
    guest: &mut Guests,
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
                return Ok(keeper.load_policy(bytes, pin, now_ms, guest)?);
            }
            Ok((_, policy)) => foreign = Some(EngineError::OtherSitesKey(policy.site)),
            Err(error) => refused = Some(LoadPolicyError::Sign(error).into()),
        }
    }
    Err(foreign.or(refused).unwrap_or_else(|| EngineError::NoPin("any site".into())))
}
