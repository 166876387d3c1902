//! The thread that owns a relay's state: takes what has queued up, commits it once, answers all.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gloaming_policy::author::{PublicKey, Signed};
use gloaming_window::{
    Answer, Delivered, EdgeError, Load, LoadPolicyError, Posted, Relay, RelayBounds, RelayTally, Waiting,
};
use tokio::sync::{oneshot, watch};

use crate::clock::Clock;
use crate::config::{Config, EntropySource, Home, system_entropy};
use crate::ending::Ending;
use crate::engine::{Engine, EngineError, Served, served_of};
use crate::parcels::RedbParcels;
use crate::queue::{Body, Queue, ROOM, Turns, queue};

/// Bodies sealed and committed together at most.
const GROUP: usize = 1_024;
/// As an edge's, see there.
const PACE: Duration = Duration::from_millis(2);
/// How often is looked for what is too old, for home edges that nobody posts to.
const LOOK: Duration = Duration::from_secs(60);
/// How often a store that failed is opened again.
const REOPEN: Duration = Duration::from_secs(1);

enum Command {
    Next(String, oneshot::Sender<Option<Load>>),
    After(String, Vec<Waiting>, Delivered, oneshot::Sender<()>),
    Reload(Sites, oneshot::Sender<Vec<EngineError>>),
    Forget(String, oneshot::Sender<Result<bool, EngineError>>),
}

/// What a relay is to know from now on.
pub(crate) struct Sites {
    pub(crate) pins: BTreeMap<String, PublicKey>,
    pub(crate) policies: Vec<Vec<u8>>,
}

/// What metrics show.
#[derive(Clone, Default)]
pub(crate) struct RelayGauges {
    pub(crate) tally: RelayTally,
    pub(crate) waiting: usize,
    pub(crate) failures: u64,
}

/// A handle on the thread.
pub(crate) struct Relays {
    queue: Queue<Body, Command>,
    pub(crate) served: Arc<RwLock<Vec<Served>>>,
    pub(crate) gauges: Arc<RwLock<RelayGauges>>,
    pub(crate) healthy: Arc<AtomicBool>,
    ended: watch::Receiver<()>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Thread {
    store: PathBuf,
    name: String,
    homes: BTreeMap<String, PublicKey>,
    pins: BTreeMap<String, PublicKey>,
    relay: Option<Relay<RedbParcels>>,
    /// Counts of before the store failed.
    before: RelayTally,
    failures: u64,
    try_again: Instant,
    clock: Clock,
    entropy: EntropySource,
    served: Arc<RwLock<Vec<Served>>>,
    gauges: Arc<RwLock<RelayGauges>>,
    healthy: Arc<AtomicBool>,
    _ending: Ending,
    /// Ends last: whoever hears that there is no answer, and asks for readiness, hears the same.
    turns: Turns<Body, Command>,
}

/// The site of a policy that the edge of this name relays for: it is not home to the site, and knows who is.
pub(crate) fn relayed_site(name: &str, homes: &BTreeMap<String, Home>, bytes: &[u8]) -> Option<String> {
    let (_, policy) = Signed::verified_before(bytes).ok()?;
    let here = policy.home_edges.iter().any(|home| home == name);
    (!here && policy.home_edges.iter().any(|home| homes.contains_key(home))).then_some(policy.site)
}

/// Tells the policies of sites at home here from those that are relayed.
pub(crate) fn apart(
    name: &str,
    homes: &BTreeMap<String, Home>,
    policies: Vec<Vec<u8>>,
) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    policies.into_iter().partition(|bytes| relayed_site(name, homes, bytes).is_none())
}

/// Sites that were at home here and are no more end their windows.
pub(crate) async fn leave_moved(
    engine: &Engine,
    relay: &Relays,
    sites: impl Iterator<Item = String>,
) -> Vec<EngineError> {
    let mut refused = Vec::new();
    for site in sites {
        if engine.version(&site).is_some_and(|here| relay.version(&site).is_some_and(|relayed| here < relayed)) {
            refused.extend(engine.leave(&site).await.err());
        }
    }
    refused
}

/// What moved while this edge was stopped: a site whose next policy has another home leaves, as at a reload; one that came
/// home is relayed no more, for a restart is the end of what pages hold under its policy of before.
///
/// # Errors
/// When a store failed.
pub(crate) async fn settle(engine: &Engine, relay: &Relays) -> Result<(), EngineError> {
    if let Some(error) = leave_moved(engine, relay, relay.sites().into_iter()).await.into_iter().next() {
        return Err(error);
    }
    for site in relay.sites() {
        if engine.version(&site) > relay.version(&site) {
            relay.forget(&site).await?;
        }
    }
    Ok(())
}

/// The newest version of a site among those that are served.
pub(crate) fn version(served: &RwLock<Vec<Served>>, site: &str) -> Option<u32> {
    served.read().ok()?.iter().find(|own| own.site == site).map(|own| own.version)
}

/// Whether a submission under a version goes to the relay, by the newest versions of its site at home here and relayed.
/// A site that came home is relayed still under the policies of before: pages that hold one lose nothing.
pub(crate) fn is_for_relay(here: Option<u32>, relayed: Option<u32>, version: u32) -> bool {
    match (here, relayed) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(here), Some(relayed)) if here > relayed => version <= relayed,
        (Some(here), Some(_)) => version > here,
    }
}

impl Relays {
    /// Opens the store, which lies beside the edge's, loads policies and starts the thread.
    pub(crate) fn start(config: &Config, sites: Sites) -> Result<Self, EngineError> {
        let (served, gauges) = (Arc::default(), Arc::default());
        let healthy = Arc::new(AtomicBool::new(true));
        let (alive, ended) = watch::channel(());
        let (queue, turns) = queue(ROOM);
        let mut thread = Thread {
            turns,
            store: Self::store_of(config),
            name: config.name.clone(),
            homes: config.homes.iter().map(|(name, home)| (name.clone(), home.key)).collect(),
            pins: sites.pins.clone(),
            relay: None,
            before: RelayTally::default(),
            failures: 0,
            try_again: Instant::now(),
            clock: Arc::clone(&config.clock),
            entropy: system_entropy(),
            served: Arc::clone(&served),
            gauges: Arc::clone(&gauges),
            healthy: Arc::clone(&healthy),
            _ending: Ending::new(healthy, alive),
        };
        let relay = thread.open()?;
        for (home, parcels) in relay.stranded() {
            tracing::error!(
                %home, parcels,
                "ALARM: acknowledged submissions wait for a home edge that is not in [edge.homes]; put it back, or they are lost after eight days"
            );
        }
        thread.relay = Some(relay);
        for refused in thread.reload(sites) {
            match refused {
                // As at the edge's own start: the others go on.
                EngineError::Policy(LoadPolicyError::Sign(_) | LoadPolicyError::RolledBack { .. }) => {
                    tracing::error!(error = %refused, "a policy is not loaded");
                }
                other => return Err(other),
            }
        }
        thread.show();
        let healthy = Arc::clone(&thread.healthy);
        let thread = std::thread::Builder::new().name("relay".into()).spawn(move || thread.run())?;
        Ok(Self { queue, served, gauges, healthy, ended, thread: Mutex::new(Some(thread)) })
    }

    /// Where what waits is kept: beside the edge's store.
    pub(crate) fn store_of(config: &Config) -> PathBuf {
        let mut store = config.store.clone().into_os_string();
        store.push(".relay");
        store.into()
    }

    /// The newest policy of a site that is relayed.
    pub(crate) fn version(&self, site: &str) -> Option<u32> {
        version(&self.served, site)
    }

    /// Sites that are relayed.
    pub(crate) fn sites(&self) -> Vec<String> {
        self.served.read().map_or_else(|_| Vec::new(), |served| served.iter().map(|own| own.site.clone()).collect())
    }

    /// As an engine's.
    pub(crate) fn ended(&self) -> impl Future<Output = ()> + use<> {
        let mut ended = self.ended.clone();
        async move { while ended.changed().await.is_ok() {} }
    }

    /// Seals a body for its home edge; the answer comes after it is durable.
    pub(crate) async fn take(&self, body: Bytes, network: Option<u64>) -> Result<Answer, EngineError> {
        self.queue.judge(body, network).await
    }

    /// Bodies that there was no place for.
    pub(crate) fn refused(&self) -> u64 {
        self.queue.refused()
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, EngineError> {
        self.queue.ask(command).await.ok_or(EngineError::Busy)
    }

    /// What waits for a home edge.
    pub(crate) async fn next(&self, home: &str) -> Option<Load> {
        self.ask(|sender| Command::Next(home.to_owned(), sender)).await.ok().flatten()
    }

    /// How posting it ended.
    pub(crate) async fn after(&self, home: &str, names: Vec<Waiting>, outcome: Delivered) {
        let _ = self.ask(|sender| Command::After(home.to_owned(), names, outcome, sender)).await;
    }

    /// As an edge's; sites that are not among the policies any more stay.
    pub(crate) async fn reload(&self, sites: Sites) -> Vec<EngineError> {
        self.ask(|sender| Command::Reload(sites, sender)).await.unwrap_or_else(|error| vec![error])
    }

    /// Serves a site no more; whether it was here.
    pub(crate) async fn forget(&self, site: &str) -> Result<bool, EngineError> {
        self.ask(|sender| Command::Forget(site.to_owned(), sender)).await?
    }

    /// Stops the thread after what it has taken is committed and answered.
    pub(crate) fn stop(&self) {
        self.queue.close();
        if let Ok(mut thread) = self.thread.lock()
            && let Some(thread) = thread.take()
        {
            let _ = thread.join();
        }
    }
}

impl Thread {
    fn open(&self) -> Result<Relay<RedbParcels>, EdgeError> {
        let store = RedbParcels::open(&self.store)?;
        Relay::open(store, &self.name, self.homes.clone(), &self.pins, RelayBounds::default())
    }

    fn run(mut self) {
        let (mut next_commit, mut next_look) = (Instant::now(), Instant::now());
        while !self.turns.over() {
            if next_look <= Instant::now() {
                next_look = Instant::now() + LOOK;
                let _ = self.with(|relay, now_ms, _| relay.expire(now_ms));
            }
            let bodies = self.turns.wait(REOPEN);
            if let Some(early) = next_commit.checked_duration_since(Instant::now())
                && bodies
            {
                std::thread::sleep(early);
            }
            self.reopen();
            while let Some(command) = self.turns.command() {
                self.obey(command);
            }
            let group = self.turns.bodies(GROUP);
            if !group.is_empty() {
                next_commit = Instant::now() + PACE;
                self.take(group);
            }
            self.show();
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Next(home, sender) => {
                let load = self.with(|relay, now_ms, _| relay.next(&home, now_ms));
                let _ = sender.send(load.ok().flatten());
            }
            Command::After(home, names, outcome, sender) => {
                let _ = self.with(|relay, now_ms, entropy| {
                    let mut random = [0; 8];
                    entropy(&mut random);
                    relay.after(&home, &names, outcome, now_ms, u64::from_le_bytes(random))
                });
                let _ = sender.send(());
            }
            Command::Reload(sites, sender) => {
                let _ = sender.send(self.reload(sites));
            }
            Command::Forget(site, sender) => {
                let forgotten = self.with(|relay, _, _| relay.forget(&site));
                self.serve();
                let _ = sender.send(forgotten);
            }
        }
    }

    /// Does something with the relay, and closes it when its store failed.
    fn with<T>(
        &mut self,
        work: impl FnOnce(&mut Relay<RedbParcels>, u64, &mut dyn FnMut(&mut [u8])) -> Result<T, EdgeError>,
    ) -> Result<T, EngineError> {
        let Some(relay) = &mut self.relay else { return Err(EngineError::Busy) };
        let outcome = work(relay, self.clock.now_ms(), &mut *self.entropy);
        if let Err(error @ EdgeError::Storage(_)) = &outcome {
            tracing::error!(%error, "the relay's store is closed, and opened again in a second");
            self.before = relay.tally().clone();
            self.relay = None;
            self.failures += 1;
            self.try_again = Instant::now() + REOPEN;
        }
        Ok(outcome?)
    }

    fn reopen(&mut self) {
        if self.relay.is_some() || Instant::now() < self.try_again {
            return;
        }
        match self.open() {
            Ok(mut relay) => {
                relay.go_on(std::mem::take(&mut self.before));
                self.relay = Some(relay);
                self.serve();
                tracing::info!("the relay's store works again");
            }
            Err(error) => {
                self.try_again = Instant::now() + REOPEN;
                tracing::error!(%error, "the relay's store cannot be opened; it is tried again");
            }
        }
    }

    fn take(&mut self, group: Vec<Body>) {
        let posted: Vec<_> = group.iter().map(|one| Posted { body: &one.body, network: one.network }).collect();
        let answers = self.with(|relay, now_ms, entropy| relay.take(now_ms, &posted, entropy));
        drop(posted);
        match answers {
            Ok(answers) => group.into_iter().zip(answers).for_each(|(body, answer)| {
                let _ = body.answer.send(Ok(answer));
            }),
            Err(_) => {
                self.healthy.store(self.relay.is_some(), Ordering::Relaxed);
                group.into_iter().for_each(|body| {
                    let _ = body.answer.send(Err(EngineError::Busy));
                });
            }
        }
    }

    fn reload(&mut self, Sites { pins, policies }: Sites) -> Vec<EngineError> {
        let mut refused = Vec::new();
        for bytes in &policies {
            let pin = pins
                .iter()
                .find(|(site, pin)| Signed::verify(bytes, pin, 0).is_ok_and(|(_, policy)| policy.site == **site));
            let loaded = match pin {
                None => Err(match Signed::verified_before(bytes) {
                    Ok((_, policy)) => EngineError::NoPin(policy.site),
                    Err(error) => EngineError::Policy(error.into()),
                }),
                Some((_, pin)) => match &mut self.relay {
                    None => Err(EngineError::Busy),
                    Some(relay) => relay.load_policy(bytes, pin, self.clock.now_ms()).map_err(Into::into),
                },
            };
            refused.extend(loaded.err());
        }
        self.pins = pins;
        self.serve();
        refused
    }

    fn serve(&self) {
        if let (Some(relay), Ok(mut list)) = (&self.relay, self.served.write()) {
            let policies = relay.sites().filter_map(|site| relay.policy(site));
            *list = policies.map(|(policy, signed)| served_of(policy, signed)).collect();
            self.turns.know(list.iter().map(|served| &*served.site));
        }
    }

    fn show(&mut self) {
        self.healthy.store(self.relay.is_some(), Ordering::Relaxed);
        if let (Some(relay), Ok(mut gauges)) = (&self.relay, self.gauges.write()) {
            *gauges = RelayGauges { tally: relay.tally().clone(), waiting: relay.waiting(), failures: self.failures };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_of_a_site_goes_where_it_was_at_home() {
        assert!(!is_for_relay(Some(3), None, 3) && !is_for_relay(None, None, 3));
        assert!(is_for_relay(None, Some(3), 3) && is_for_relay(None, Some(3), 2));
        // It came home with version 4.
        assert!(is_for_relay(Some(4), Some(3), 3) && !is_for_relay(Some(4), Some(3), 4));
        // It leaves with version 4.
        assert!(!is_for_relay(Some(3), Some(4), 3) && is_for_relay(Some(3), Some(4), 4));
    }
}
