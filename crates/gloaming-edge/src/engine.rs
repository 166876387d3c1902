//! The thread that owns the edge's state: takes what has queued up, commits it once, answers all.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gloaming_policy::author::{PublicKey, SignError, Signed};
use gloaming_policy::{Policy, grace_ms};
use gloaming_signal::hash;
use gloaming_window::{Answer, Delivered, Edge, EdgeError, Keeper, LoadPolicyError, OutboxRow, Posted, Tally};
use http::HeaderValue;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use crate::clock::Clock;
use crate::config::{Config, EntropySource};
use crate::ending::Ending;
pub use crate::error::EngineError;
use crate::log::RedbStorage;
use crate::opening::{Files, load, open, opening, say_aside};
use crate::queue::{Body, Queue, ROOM, Turns, queue};
use crate::shadow::Guests;

/// Bodies folded and committed together at most.
const GROUP: usize = 1_024;
/// A group of bodies is committed no sooner than this after the one before it: whoever comes meanwhile shares its sync.
/// Nobody waits who comes alone.
const PACE: Duration = Duration::from_millis(2);
/// How often windows are looked at when nothing else happens.
const TICK: Duration = Duration::from_millis(50);

/// Sites as they are to be from now on.
pub struct Reload {
    /// The key each site's policies must be signed with.
    pub pins: BTreeMap<String, PublicKey>,
    /// Signed policies to put in force, beside those that are.
    pub policies: Vec<Vec<u8>>,
    /// Contributions that single sites may hold open.
    pub quotas: BTreeMap<String, usize>,
}

enum Command {
    NextDelivery(oneshot::Sender<Option<OutboxRow>>),
    Delivered(OutboxRow, Delivered, oneshot::Sender<()>),
    Reload(Reload, oneshot::Sender<Vec<EngineError>>),
    Leave(String, oneshot::Sender<Result<bool, EngineError>>),
    Components(Vec<u8>, Option<Vec<u8>>, oneshot::Sender<Result<(), EngineError>>),
}

/// What the HTTP side reads of a site without asking the thread.
#[derive(Clone)]
pub(crate) struct Served {
    pub(crate) site: String,
    pub(crate) version: u32,
    pub(crate) policy: Bytes,
    pub(crate) notice: Bytes,
    pub(crate) origins: Vec<HeaderValue>,
    pub(crate) windows: Vec<(u64, u64)>,
    /// Edges that are home to the site.
    pub(crate) homes: Vec<String>,
    /// Experiments that may end by themselves.
    pub(crate) may_stop: Vec<String>,
    /// Models, and the SHA-256 of their manifests.
    pub(crate) models: Vec<(String, [u8; 32])>,
}

/// What metrics show; copied out after every round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gauges {
    pub(crate) tally: Tally,
    pub(crate) undelivered: usize,
    pub(crate) guest_calls: u64,
    pub(crate) guest_replaced: u64,
    pub(crate) shadow: (u64, u64, u64),
    pub(crate) restored: u64,
    pub(crate) storage_failures: u64,
    pub(crate) release_failures: u64,
    pub(crate) delivery_conflicts: u64,
}

/// A handle on the thread.
pub struct Engine {
    queue: Queue<Body, Command>,
    pub(crate) served: Arc<RwLock<Vec<Served>>>,
    pub(crate) gauges: Arc<RwLock<Gauges>>,
    /// Whether the store works; false for good once the thread has ended.
    pub(crate) healthy: Arc<AtomicBool>,
    floor_ms: Arc<AtomicU64>,
    clock: Clock,
    ended: watch::Receiver<()>,
    thread: std::sync::Mutex<Option<JoinHandle<()>>>,
}

struct Thread {
    served: Arc<RwLock<Vec<Served>>>,
    loopback: bool,
    keeper: Keeper<Files>,
    guest: Guests,
    clock: Clock,
    entropy: EntropySource,
    gauges: Arc<RwLock<Gauges>>,
    floor_ms: Arc<AtomicU64>,
    healthy: Arc<AtomicBool>,
    release_failures: u64,
    delivery_conflicts: u64,
    runtime: Handle,
    _ending: Ending,
    /// Ends last: whoever hears that there is no answer, and asks for readiness, hears the same.
    turns: Turns<Body, Command>,
}

/// What the HTTP side needs of a policy.
pub(crate) fn served_of(policy: &Policy, signed: &Signed) -> Served {
    Served {
        site: policy.site.clone(),
        version: policy.version,
        policy: Bytes::from(signed.policy_bytes().to_vec()),
        notice: Bytes::from(signed.notice_json()),
        // One that no header can say is no page's.
        origins: policy.origins.iter().filter_map(|origin| HeaderValue::try_from(origin).ok()).collect(),
        windows: policy.spans().into_iter().map(|span| (span, grace_ms(span))).collect(),
        homes: policy.home_edges.clone(),
        may_stop: policy.experiments.iter().filter(|e| e.stops).map(|e| e.id.clone()).collect(),
        models: policy.models.iter().map(|model| (model.id.clone(), model.manifest_sha256)).collect(),
    }
}

fn served(edge: &Edge<RedbStorage>) -> Vec<Served> {
    let policies = edge.sites().filter_map(|site| edge.policy(site));
    policies.map(|(policy, _, signed)| served_of(policy, signed)).collect()
}

impl Engine {
    /// Opens the log, loads policies and starts the thread. Must be called within a runtime, which answers.
    ///
    /// # Errors
    /// Whatever keeps the edge from starting.
    pub fn start(config: Config) -> Result<Self, EngineError> {
        let mut guest = Guests::new(&config.component)?;
        let (files, opening) = (Files::new(&config), opening(&config));
        let Config { pins, policies, loopback, clock, mut entropy, .. } = config;
        let mut keeper = open(files, opening, clock.now_ms(), &mut guest, &mut entropy)?;
        for bytes in &policies {
            match load(&mut keeper, bytes, &pins, clock.now_ms(), loopback, &mut guest) {
                // It was in force yesterday, and a restart is no time to find out: its site gets nothing more,
                // the others go on.
                Err(EngineError::Policy(LoadPolicyError::Sign(error @ SignError::Expired(_)))) => {
                    tracing::error!(%error, "a policy is not loaded");
                }
                // A newer one is in the store: whoever gave the older file is told, and the newer one stays.
                Err(EngineError::Policy(error @ LoadPolicyError::RolledBack { .. })) => {
                    tracing::error!(%error, "a policy is not loaded");
                }
                other => other?,
            }
        }
        let edge = keeper.edge().ok_or(EngineError::Busy)?;
        let list = served(edge);
        let demo =
            edge.sites().find(|site| !loopback && edge.policy(site).is_some_and(|(policy, ..)| policy.is_demo()));
        if let Some(site) = demo {
            return Err(EngineError::DemoOffLoopback(site.to_owned()));
        }
        let floor_ms = Arc::new(AtomicU64::new(edge.floor_ms()));
        let gauges = Arc::new(RwLock::new(Gauges { restored: keeper.restored, ..Gauges::default() }));
        let healthy = Arc::new(AtomicBool::new(true));
        let (sender, ended) = watch::channel(());
        let (queue, turns) = queue(ROOM);
        turns.know(list.iter().map(|served| &*served.site));
        let served = Arc::new(RwLock::new(list));
        let thread = Thread {
            turns,
            served: Arc::clone(&served),
            loopback,
            keeper,
            guest,
            clock: Arc::clone(&clock),
            entropy,
            gauges: Arc::clone(&gauges),
            floor_ms: Arc::clone(&floor_ms),
            healthy: Arc::clone(&healthy),
            release_failures: 0,
            delivery_conflicts: 0,
            runtime: Handle::current(),
            _ending: Ending::new(Arc::clone(&healthy), sender),
        };
        let thread = std::thread::Builder::new().name("edge".into()).spawn(move || thread.run())?;
        let thread = std::sync::Mutex::new(Some(thread));
        Ok(Self { queue, served, gauges, healthy, floor_ms, clock, ended, thread })
    }

    /// Edge time as devices are told it, ms: never before what the edge itself has seen.
    pub(crate) fn now_ms(&self) -> u64 {
        self.clock.now_ms().max(self.floor_ms.load(Ordering::Relaxed))
    }

    /// [`crate::TellsTime::doubt_ms`].
    pub(crate) fn clock_doubt_ms(&self) -> Option<i64> {
        self.clock.doubt_ms()
    }

    /// Waits until the thread has ended: after a stop, or because of a defect.
    pub(crate) fn ended(&self) -> impl Future<Output = ()> + use<> {
        let mut ended = self.ended.clone();
        // Nothing is ever sent: that the sender is gone is the message.
        async move { while ended.changed().await.is_ok() {} }
    }

    /// Judges a body; the answer comes after what counted is durable.
    ///
    /// # Errors
    /// [`EngineError::Busy`] when nothing was decided.
    pub async fn ingest(&self, body: Bytes, network: Option<u64>) -> Result<Answer, EngineError> {
        self.queue.judge(body, network).await
    }

    /// Bodies that there was no place for.
    pub(crate) fn refused(&self) -> u64 {
        self.queue.refused()
    }

    /// As [`Engine::ingest`], of bodies that came together.
    pub(crate) async fn ingest_all(&self, bodies: Vec<(Bytes, Option<u64>)>) -> Vec<Result<Answer, EngineError>> {
        let asked: Vec<_> = bodies.into_iter().map(|(body, network)| self.queue.post(body, network)).collect();
        let mut answers = Vec::with_capacity(asked.len());
        for answered in asked {
            let answer = if let Some(answered) = answered { answered.await.ok() } else { None };
            answers.push(answer.unwrap_or(Err(EngineError::Busy)));
        }
        answers
    }

    /// The newest policy of a site that is at home here.
    pub(crate) fn version(&self, site: &str) -> Option<u32> {
        crate::relay::version(&self.served, site)
    }

    pub(crate) async fn next_delivery(&self) -> Option<OutboxRow> {
        self.queue.ask(Command::NextDelivery).await.flatten()
    }

    pub(crate) async fn delivered(&self, row: OutboxRow, outcome: Delivered) {
        self.queue.ask(|sender| Command::Delivered(row, outcome, sender)).await;
    }

    /// Puts policies in force without a restart. Each is taken or refused by itself; what is in force already
    /// changes nothing.
    pub(crate) async fn reload(&self, reload: Reload) -> Vec<EngineError> {
        self.queue.ask(|sender| Command::Reload(reload, sender)).await.unwrap_or_else(|| vec![EngineError::Busy])
    }

    /// Lets a site leave; whether it was here.
    pub(crate) async fn leave(&self, site: &str) -> Result<bool, EngineError> {
        let site = site.to_owned();
        self.queue.ask(|sender| Command::Leave(site, sender)).await.unwrap_or(Err(EngineError::Busy))
    }

    /// Lets a component serve, and another run beside it.
    pub(crate) async fn components(&self, component: Vec<u8>, next: Option<Vec<u8>>) -> Result<(), EngineError> {
        self.queue.ask(|sender| Command::Components(component, next, sender)).await.unwrap_or(Err(EngineError::Busy))
    }

    /// Stops the thread after what it has taken is committed and answered.
    pub fn stop(&self) {
        self.queue.close();
        if let Ok(mut thread) = self.thread.lock()
            && let Some(thread) = thread.take()
        {
            let _ = thread.join();
        }
    }
}

impl Thread {
    fn run(mut self) {
        let mut next_commit = Instant::now();
        while !self.turns.over() {
            let bodies = self.turns.wait(TICK);
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
            let busy = !group.is_empty();
            if busy {
                next_commit = Instant::now() + PACE;
                self.ingest(group);
            }
            self.release(busy);
            self.show();
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::NextDelivery(sender) => {
                let row = self.keeper.next_delivery(self.clock.now_ms());
                let _ = sender.send(row.unwrap_or_else(|error| {
                    tracing::error!(%error, "nothing is delivered now");
                    None
                }));
            }
            Command::Delivered(row, outcome, sender) => {
                self.delivered(&row, outcome);
                let _ = sender.send(());
            }
            Command::Reload(reload, sender) => {
                let _ = sender.send(self.reload(reload));
            }
            Command::Leave(site, sender) => {
                let left = self.keeper.leave(&site, self.clock.now_ms());
                self.serve();
                let _ = sender.send(left.map_err(Into::into));
            }
            Command::Components(component, next, sender) => {
                let _ = sender.send(self.guest.set(&component, next.as_deref()).map_err(Into::into));
            }
        }
    }

    fn reload(&mut self, Reload { pins, policies, quotas }: Reload) -> Vec<EngineError> {
        // While the store is closed nobody knows which pins its policies need.
        if self.keeper.edge().is_none() {
            return vec![EngineError::Busy];
        }
        let mut refused = Vec::new();
        self.keeper.quotas(quotas);
        for bytes in &policies {
            let loaded = load(&mut self.keeper, bytes, &pins, self.clock.now_ms(), self.loopback, &mut self.guest);
            refused.extend(loaded.err());
        }
        for site in self.keeper.pin(pins) {
            refused.push(EngineError::PinKept(site));
        }
        self.serve();
        refused
    }

    /// Hands out what is in force now.
    fn serve(&self) {
        if let (Some(edge), Ok(mut list)) = (self.keeper.edge(), self.served.write()) {
            *list = served(edge);
            self.turns.know(list.iter().map(|served| &*served.site));
        }
    }

    fn reopen(&mut self) {
        match self.keeper.reopen(self.clock.now_ms(), &mut self.guest, &mut *self.entropy) {
            None => {}
            Some(Ok(())) => {
                tracing::info!("the store works again");
                if let Some(edge) = self.keeper.edge() {
                    say_aside(edge);
                }
                self.serve();
            }
            Some(Err(error)) => tracing::error!(%error, "the store cannot be opened; it is tried again"),
        }
    }

    fn ingest(&mut self, group: Vec<Body>) {
        let posted: Vec<_> = group.iter().map(|one| Posted { body: &one.body, network: one.network }).collect();
        match self.keeper.ingest(self.clock.now_ms(), &posted, &mut self.guest, &mut *self.entropy) {
            Ok(answers) => {
                for hash in self.keeper.quarantined() {
                    let sha256 = hash::hex(&hash);
                    tracing::error!(sha256, "the edge component failed on a body; it is not asked about it again");
                }
                // One wake of the runtime for all of them, where each from here would be one of its own.
                self.runtime.spawn(async move {
                    for (waiting, answer) in group.into_iter().zip(answers) {
                        let _ = waiting.answer.send(Ok(answer));
                    }
                });
            }
            Err(error) => {
                // Before anybody is told to come again: whoever then asks for readiness hears the same.
                self.healthy.store(self.keeper.edge().is_some(), Ordering::Relaxed);
                if !matches!(error, EdgeError::Closed) {
                    tracing::error!(%error, "a round of contributions was not taken");
                }
                for waiting in group {
                    let _ = waiting.answer.send(Err(EngineError::Busy));
                }
            }
        }
    }

    fn release(&mut self, busy: bool) {
        for error in self.keeper.release(self.clock.now_ms(), busy, &mut self.guest, &mut *self.entropy) {
            self.release_failures += u64::from(!matches!(error, EdgeError::Storage(_) | EdgeError::Anchor(_)));
            tracing::error!(%error, "a window was not released; it is tried again");
        }
    }

    fn delivered(&mut self, row: &OutboxRow, outcome: Delivered) {
        if outcome == Delivered::Conflict {
            self.delivery_conflicts += 1;
            tracing::error!("ALARM: the centre holds other bytes under this edge's number; two edges may share a key");
        }
        let mut random = [0; 8];
        (self.entropy)(&mut random);
        if let Err(error) = self.keeper.delivered(row, outcome, self.clock.now_ms(), u64::from_le_bytes(random)) {
            tracing::error!(%error, "an acknowledgement was not stored; the batch is delivered again");
        }
    }

    fn show(&mut self) {
        let (guest_calls, guest_replaced) = self.guest.counts();
        let edge = self.keeper.edge();
        self.healthy.store(edge.is_some(), Ordering::Relaxed);
        if let Some(edge) = edge {
            self.floor_ms.fetch_max(edge.floor_ms(), Ordering::Relaxed);
        }
        let Ok(mut gauges) = self.gauges.write() else { return };
        if let Some(edge) = edge {
            (gauges.tally, gauges.undelivered) = (edge.tally().clone(), edge.undelivered());
        }
        gauges.guest_calls = guest_calls;
        gauges.guest_replaced = guest_replaced;
        gauges.shadow = self.guest.compared();
        gauges.restored = self.keeper.restored;
        gauges.storage_failures = self.keeper.failures;
        gauges.release_failures = self.release_failures;
        gauges.delivery_conflicts = self.delivery_conflicts;
    }
}
