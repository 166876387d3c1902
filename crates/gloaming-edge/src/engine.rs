//! The thread that owns the edge's state: takes what has queued up, commits it once, answers all.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use gloaming_policy::author::{PublicKey, Signed};
use gloaming_policy::{Policy, grace_ms};
use gloaming_window::{Answer, Delivered, Edge, EdgeError, LoadPolicyError, OutboxRow, StorageError, Tally};
use tokio::sync::oneshot;

use crate::config::Config;
use crate::guest::{HostLimits, WasmGuest, WasmGuestError};
use crate::log::RedbStorage;

/// Requests that may wait for the thread. Beyond, the edge answers 503.
const QUEUE: usize = 8_192;
/// Bodies folded and committed together at most.
const GROUP: usize = 1_024;
/// How often windows are looked at when nothing else happens.
const TICK: Duration = Duration::from_millis(50);

/// Why an edge did not start or does not answer.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The queue is full or the store fails; come again.
    #[error("busy; come again in a second")]
    Busy,
    /// The component.
    #[error(transparent)]
    Guest(#[from] WasmGuestError),
    /// The state.
    #[error(transparent)]
    Edge(#[from] EdgeError),
    /// The log.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A policy given at start.
    #[error("a policy was refused: {0}")]
    Policy(#[from] LoadPolicyError),
    /// A demonstration off this machine.
    #[error(
        "the policy of {0} has windows of seconds, which only an edge on loopback serves; listen on 127.0.0.1 or use hour, day or week"
    )]
    DemoOffLoopback(String),
    /// No key for a site.
    #[error("there is no pinned key for {0}; add it to the edge's [sites]")]
    NoPin(String),
    /// Signed, but by the key of another site.
    #[error(
        "the policy of {0} is signed by a key that is pinned for another site; sign it with the key in [sites] of {0}"
    )]
    OtherSitesKey(String),
    /// A listener.
    #[error("cannot listen: {0}")]
    Listen(#[from] std::io::Error),
}

enum Command {
    Ingest(Bytes, oneshot::Sender<Result<Answer, EngineError>>),
    NextDelivery(oneshot::Sender<Option<OutboxRow>>),
    Delivered(Delivered, oneshot::Sender<()>),
    Stop,
}

/// What the HTTP side reads of a site without asking the thread.
#[derive(Clone)]
pub(crate) struct Served {
    pub(crate) site: String,
    pub(crate) policy: Bytes,
    pub(crate) notice: Bytes,
    pub(crate) origins: Vec<String>,
    pub(crate) windows: Vec<(u64, u64)>,
}

/// What metrics show; copied out after every round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gauges {
    pub(crate) tally: Tally,
    pub(crate) undelivered: usize,
    pub(crate) guest_calls: u64,
    pub(crate) guest_replaced: u64,
    pub(crate) storage_failures: u64,
    pub(crate) delivery_conflicts: u64,
}

/// A handle on the thread.
pub struct Engine {
    commands: SyncSender<Command>,
    pub(crate) served: Arc<RwLock<Vec<Served>>>,
    pub(crate) gauges: Arc<RwLock<Gauges>>,
    thread: std::sync::Mutex<Option<JoinHandle<()>>>,
}

struct Thread {
    edge: Edge<RedbStorage>,
    guest: WasmGuest,
    clock: crate::config::Clock,
    entropy: crate::config::EntropySource,
    gauges: Arc<RwLock<Gauges>>,
    storage_failures: u64,
    delivery_conflicts: u64,
}

fn served(policy: &Policy, signed: &Signed) -> Served {
    Served {
        site: policy.site.clone(),
        policy: Bytes::from(signed.policy_bytes().to_vec()),
        notice: Bytes::from(signed.notice_json()),
        origins: policy.origins.clone(),
        windows: policy.spans().into_iter().map(|span| (span, grace_ms(span))).collect(),
    }
}

impl Engine {
    /// Opens the log, loads policies and starts the thread.
    ///
    /// # Errors
    /// Whatever keeps the edge from starting.
    pub fn start(config: Config) -> Result<Self, EngineError> {
        let Config { name, store, key, wrapping, pins, policies, component, loopback, clock, mut entropy, .. } = config;
        let mut guest = WasmGuest::new(&component, HostLimits::default())?;
        let storage = RedbStorage::open(&store)?;
        let mut edge = Edge::open(storage, &name, key, wrapping, &pins, &mut guest, &mut *entropy)?;
        for bytes in &policies {
            load(&mut edge, bytes, &pins, clock(), &mut guest)?;
        }
        let sites: Vec<String> = edge.sites().map(str::to_owned).collect();
        let mut list = Vec::new();
        for site in sites {
            if let Some((policy, _, signed)) = edge.policy(&site) {
                if policy.is_demo() && !loopback {
                    return Err(EngineError::DemoOffLoopback(site));
                }
                list.push(served(policy, signed));
            }
        }
        let gauges = Arc::new(RwLock::new(Gauges::default()));
        let (commands, receiver) = sync_channel(QUEUE);
        let thread = Thread {
            edge,
            guest,
            clock,
            entropy,
            gauges: Arc::clone(&gauges),
            storage_failures: 0,
            delivery_conflicts: 0,
        };
        let thread = std::thread::Builder::new().name("gloaming-edge".into()).spawn(move || thread.run(&receiver))?;
        Ok(Self { commands, served: Arc::new(RwLock::new(list)), gauges, thread: std::sync::Mutex::new(Some(thread)) })
    }

    /// Judges a body; the answer comes after what counted is durable.
    ///
    /// # Errors
    /// [`EngineError::Busy`] when nothing was decided.
    pub async fn ingest(&self, body: Bytes) -> Result<Answer, EngineError> {
        let (sender, answer) = oneshot::channel();
        match self.commands.try_send(Command::Ingest(body, sender)) {
            Ok(()) => answer.await.unwrap_or(Err(EngineError::Busy)),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Err(EngineError::Busy),
        }
    }

    pub(crate) async fn next_delivery(&self) -> Option<OutboxRow> {
        let (sender, answer) = oneshot::channel();
        self.commands.try_send(Command::NextDelivery(sender)).ok()?;
        answer.await.ok().flatten()
    }

    pub(crate) async fn delivered(&self, outcome: Delivered) {
        let (sender, answer) = oneshot::channel();
        if self.commands.try_send(Command::Delivered(outcome, sender)).is_ok() {
            let _ = answer.await;
        }
    }

    /// Stops the thread after what it has taken is committed and answered.
    pub fn stop(&self) {
        let _ = self.commands.send(Command::Stop);
        if let Ok(mut thread) = self.thread.lock()
            && let Some(thread) = thread.take()
        {
            let _ = thread.join();
        }
    }
}

fn load(
    edge: &mut Edge<RedbStorage>,
    bytes: &[u8],
    pins: &std::collections::BTreeMap<String, PublicKey>,
    now_ms: u64,
    guest: &mut WasmGuest,
) -> Result<(), EngineError> {
    // A key vouches for its own site and no other.
    let (mut foreign, mut refused) = (None, None);
    for (site, pin) in pins {
        match Signed::verify(bytes, pin, 0) {
            Ok((_, policy)) if policy.site == *site => return Ok(edge.load_policy(bytes, pin, now_ms, guest)?),
            Ok((_, policy)) => foreign = Some(EngineError::OtherSitesKey(policy.site)),
            Err(error) => refused = Some(LoadPolicyError::Sign(error).into()),
        }
    }
    Err(foreign.or(refused).unwrap_or_else(|| EngineError::NoPin("any site".into())))
}

impl Thread {
    fn run(mut self, receiver: &Receiver<Command>) {
        loop {
            let first = match receiver.recv_timeout(TICK) {
                Ok(command) => Some(command),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let mut group = Vec::new();
            let mut stop = false;
            let mut next = first;
            while let Some(command) = next {
                match command {
                    Command::Ingest(body, sender) => group.push((body, sender)),
                    Command::NextDelivery(sender) => {
                        let row = self.edge.next_delivery((self.clock)()).cloned();
                        let _ = sender.send(row);
                    }
                    Command::Delivered(outcome, sender) => {
                        self.delivered(outcome);
                        let _ = sender.send(());
                    }
                    Command::Stop => stop = true,
                }
                next = if group.len() < GROUP { receiver.try_recv().ok() } else { None };
            }
            self.ingest(group);
            self.release();
            self.show();
            if stop {
                break;
            }
        }
    }

    fn ingest(&mut self, group: Vec<(Bytes, oneshot::Sender<Result<Answer, EngineError>>)>) {
        if group.is_empty() {
            return;
        }
        let bodies: Vec<&[u8]> = group.iter().map(|(body, _)| &body[..]).collect();
        let answers = self.edge.ingest((self.clock)(), &bodies, &mut self.guest, &mut *self.entropy);
        match answers {
            Ok(answers) => {
                for ((_, sender), answer) in group.into_iter().zip(answers) {
                    let _ = sender.send(Ok(answer));
                }
            }
            Err(error) => {
                self.storage_failures += 1;
                tracing::error!(%error, "a round of contributions was not taken");
                for (_, sender) in group {
                    let _ = sender.send(Err(EngineError::Busy));
                }
            }
        }
    }

    fn release(&mut self) {
        // A bound, so that a long catch-up does not keep requests waiting.
        for _ in 0..16 {
            match self.edge.release_due((self.clock)(), &mut self.guest, &mut *self.entropy) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    self.storage_failures += 1;
                    tracing::error!(%error, "a window was not released; it is tried again");
                    break;
                }
            }
        }
    }

    fn delivered(&mut self, outcome: Delivered) {
        if outcome == Delivered::Conflict {
            self.delivery_conflicts += 1;
            tracing::error!("ALARM: the centre holds other bytes under this edge's number; two edges may share a key");
        }
        let mut random = [0; 8];
        (self.entropy)(&mut random);
        if let Err(error) = self.edge.delivered(outcome, (self.clock)(), u64::from_le_bytes(random)) {
            tracing::error!(%error, "an acknowledgement was not stored; the batch is delivered again");
        }
    }

    fn show(&mut self) {
        let (guest_calls, guest_replaced) = self.guest.counts();
        if let Ok(mut gauges) = self.gauges.write() {
            *gauges = Gauges {
                tally: self.edge.tally().clone(),
                undelivered: self.edge.undelivered(),
                guest_calls,
                guest_replaced,
                storage_failures: self.storage_failures,
                delivery_conflicts: self.delivery_conflicts,
            };
        }
    }
}
