//! The wasm host: one instance, thrown away at the first sign of trouble.
//!
//! A trap poisons a store, so the store is dropped and a new instance made from the kept pre-instance;
//! policies are configured again from the host's list. Nothing else lives in a guest.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gloaming_window::{Guest, GuestError};
use wasmparser::{Encoding, Parser, Payload};
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Engine, Store, StoreLimits, StoreLimitsBuilder};

wasmtime::component::bindgen!({ path: "../../worker/wit", world: "edge-worker" });

use exports::gloaming::edge::worker::Fault;

/// What a guest may use. Half of each still serves the largest policy; double only delays the end of a
/// guest gone wrong.
#[derive(Clone, Copy, Debug)]
pub struct HostLimits {
    /// Linear memory, bytes.
    pub memory: usize,
    /// Time for one fold, ms. An ordinary one takes less than one.
    pub fold_ms: u64,
    /// Time for one release, ms: big-integer sampling of 256 metrics takes seconds.
    pub release_ms: u64,
}

impl Default for HostLimits {
    fn default() -> Self {
        Self { memory: 64 << 20, fold_ms: 1_000, release_ms: 20_000 }
    }
}

/// Why a component is not run.
#[derive(Debug, thiserror::Error)]
pub enum WasmGuestError {
    /// It asks for something.
    #[error("the component imports `{0}`: an edge component must import nothing; build it with `cargo xtask build`")]
    Imports(String),
    /// It does not take a policy that is in force.
    #[error("the component refuses a policy that is in force: {0}; use one of a release that knows it")]
    Policy(String),
    /// It is something else.
    #[error("not an edge component of this version: {0}")]
    NotOurs(String),
}

/// Epoch ticks come this often; deadlines are counted in them.
const TICK_MS: u64 = 5;

/// Stops the ticker with the guest.
struct Ticker(Arc<AtomicBool>);

impl Drop for Ticker {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The folding component under wasmtime.
pub struct WasmGuest {
    engine: Engine,
    pre: EdgeWorkerPre<StoreLimits>,
    live: Option<(Store<StoreLimits>, EdgeWorker)>,
    policies: BTreeMap<[u8; 32], Vec<u8>>,
    limits: HostLimits,
    served: u64,
    replaced: u64,
    _ticker: Ticker,
}

fn refuse_imports(component: &[u8]) -> Result<(), WasmGuestError> {
    let not_ours = |error: &dyn std::fmt::Display| WasmGuestError::NotOurs(error.to_string());
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(component) {
        match payload.map_err(|e| not_ours(&e))? {
            Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => {
                return Err(not_ours(&"a core module"));
            }
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentImportSection(imports) if depth == 1 => {
                if let Some(import) = imports.into_iter().next() {
                    let import = import.map_err(|e| not_ours(&e))?;
                    return Err(WasmGuestError::Imports(import.name.name.to_owned()));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

impl WasmGuest {
    /// Compiles a component after checking that it imports nothing.
    ///
    /// # Errors
    /// When it imports something or is no edge component.
    pub fn new(component: &[u8], limits: HostLimits) -> Result<Self, WasmGuestError> {
        refuse_imports(component)?;
        let not_ours = |error: wasmtime::Error| WasmGuestError::NotOurs(format!("{error:#}"));
        let mut config = Config::new();
        config.epoch_interruption(true).max_wasm_stack(512 << 10).wasm_component_model(true);
        let engine = Engine::new(&config).map_err(not_ours)?;
        let compiled = Component::new(&engine, component).map_err(not_ours)?;
        let pre = Linker::new(&engine).instantiate_pre(&compiled).map_err(not_ours)?;
        let pre = EdgeWorkerPre::new(pre).map_err(not_ours)?;
        let stop = Arc::new(AtomicBool::new(false));
        let (ticks, stopped) = (engine.clone(), Arc::clone(&stop));
        std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(TICK_MS));
                ticks.increment_epoch();
            }
        });
        let policies = BTreeMap::new();
        Ok(Self { engine, pre, live: None, policies, limits, served: 0, replaced: 0, _ticker: Ticker(stop) })
    }

    /// What it was configured with, by hash.
    pub(crate) fn policies(&self) -> impl Iterator<Item = (&[u8; 32], &[u8])> {
        self.policies.iter().map(|(hash, policy)| (hash, &policy[..]))
    }

    /// Calls answered, and instances that had to be replaced.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.served, self.replaced)
    }

    fn instance(&mut self) -> Result<&mut (Store<StoreLimits>, EdgeWorker), GuestError> {
        if self.live.is_none() {
            let limits = StoreLimitsBuilder::new()
                .memory_size(self.limits.memory)
                .table_elements(20_000)
                .instances(8)
                .tables(8)
                .memories(1)
                .trap_on_grow_failure(true)
                .build();
            let mut store = Store::new(&self.engine, limits);
            store.limiter(|limits| limits);
            store.set_epoch_deadline(self.limits.fold_ms.div_ceil(TICK_MS));
            let trap = |error: wasmtime::Error| GuestError::Trap(format!("{error:#}"));
            let worker = self.pre.instantiate(&mut store).map_err(trap)?;
            for policy in self.policies.values() {
                store.set_epoch_deadline(self.limits.fold_ms.div_ceil(TICK_MS));
                let configured = worker.gloaming_edge_worker().call_configure(&mut store, policy).map_err(trap)?;
                configured.map_err(fault)?;
            }
            self.live = Some((store, worker));
        }
        self.live.as_mut().ok_or_else(|| GuestError::Trap("no instance".into()))
    }

    /// One call; whatever goes wrong in it costs the instance.
    fn call<T>(
        &mut self,
        time_ms: u64,
        call: impl FnOnce(&mut Store<StoreLimits>, &EdgeWorker) -> wasmtime::Result<Result<T, Fault>>,
    ) -> Result<T, GuestError> {
        let ticks = time_ms.div_ceil(TICK_MS) + 1;
        let (store, worker) = self.instance()?;
        store.set_epoch_deadline(ticks);
        match call(store, worker) {
            Ok(Ok(value)) => {
                self.served += 1;
                Ok(value)
            }
            Ok(Err(refused)) => Err(fault(refused)),
            Err(error) => {
                self.live = None;
                self.replaced += 1;
                tracing::error!(cause = %format!("{error:#}").lines().next().unwrap_or_default(), "the edge component was replaced");
                Err(GuestError::Trap(format!("{error:#}")))
            }
        }
    }
}

fn fault(fault: Fault) -> GuestError {
    GuestError::Fault(match fault {
        Fault::Malformed(what) => what,
        Fault::OverLimit => "more than it takes".into(),
        Fault::UnknownPolicy => "an unknown policy".into(),
    })
}

impl Guest for WasmGuest {
    fn configure(&mut self, policy: &[u8]) -> Result<[u8; 32], GuestError> {
        let hash = self
            .call(self.limits.fold_ms, |store, worker| worker.gloaming_edge_worker().call_configure(store, policy))?;
        let hash: [u8; 32] = hash.try_into().map_err(|_| GuestError::Fault("no hash".into()))?;
        self.policies.insert(hash, policy.to_vec());
        Ok(hash)
    }

    fn retain(&mut self, hashes: &[[u8; 32]]) {
        let before = self.policies.len();
        self.policies.retain(|hash, _| hashes.contains(hash));
        // An instance cannot forget; the next one begins with what is left.
        if self.policies.len() < before {
            self.live = None;
        }
    }

    fn fold(&mut self, policy_hash: &[u8; 32], now_ms: u64, batch: &[u8]) -> Result<Vec<u8>, GuestError> {
        self.call(self.limits.fold_ms, |store, worker| {
            worker.gloaming_edge_worker().call_fold(store, policy_hash, now_ms, batch)
        })
    }

    fn release(
        &mut self,
        policy_hash: &[u8; 32],
        seed: &[u8; 32],
        span_ms: u64,
        window: u64,
        cells: &[u8],
    ) -> Result<Vec<u8>, GuestError> {
        self.call(self.limits.release_ms, |store, worker| {
            worker.gloaming_edge_worker().call_release(store, policy_hash, seed, span_ms, window, cells)
        })
    }
}
