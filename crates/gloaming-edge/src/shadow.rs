//! A new component beside the one that serves: both are given everything, one is believed, and where they differ is
//! counted. When they have not differed for long enough, the operator lets the new one serve.

use gloaming_signal::hash;
use gloaming_window::{Guest, GuestError};

use crate::guest::{HostLimits, WasmGuest, WasmGuestError};

/// Time that the next component may take for a fold and for a release, ms: less than the one that serves, since that
/// one waits for it.
const FOLD_MS: u64 = 100;
const RELEASE_MS: u64 = 2_000;
/// Calls that trap before the next component is given up.
const TRAPS: u64 = 10;
/// Differences that are written to the log; the rest is counted.
const SAID: u64 = 10;

struct Loaded {
    guest: WasmGuest,
    sha256: [u8; 32],
}

impl Loaded {
    /// Knows the policies that `known` knows.
    fn new(component: &[u8], limits: HostLimits, known: Option<&WasmGuest>) -> Result<Self, WasmGuestError> {
        let mut guest = WasmGuest::new(component, limits)?;
        for (hash, policy) in known.into_iter().flat_map(WasmGuest::policies) {
            let configured = guest.configure(policy).map_err(|error| WasmGuestError::Policy(error.to_string()))?;
            if configured != *hash {
                return Err(WasmGuestError::Policy("another hash than the policy's".to_owned()));
            }
        }
        Ok(Self { guest, sha256: hash::sha256(component) })
    }
}

/// The component that serves, and perhaps the next one.
pub struct Guests {
    live: Loaded,
    next: Option<Loaded>,
    compared: u64,
    differing: u64,
    /// Calls of the next one that trapped.
    traps: u64,
    /// Calls and replacements of components that served before.
    before: (u64, u64),
}

impl Guests {
    /// One component, and none beside it.
    ///
    /// # Errors
    /// When it imports something or is no edge component.
    pub fn new(component: &[u8]) -> Result<Self, WasmGuestError> {
        let live = Loaded::new(component, HostLimits::default(), None)?;
        Ok(Self { live, next: None, compared: 0, differing: 0, traps: 0, before: (0, 0) })
    }

    /// Takes other components, each of which must know all policies that are in force. What is the same stays, with
    /// its counts.
    ///
    /// # Errors
    /// As [`Guests::new`], and when one refuses a policy; then nothing has changed.
    pub fn set(&mut self, component: &[u8], next: Option<&[u8]>) -> Result<(), WasmGuestError> {
        let known = &self.live.guest;
        let is = |loaded: &Loaded, bytes: &[u8]| loaded.sha256 == hash::sha256(bytes);
        let live = (!is(&self.live, component))
            .then(|| Loaded::new(component, HostLimits::default(), Some(known)))
            .transpose()?;
        let same = |bytes: &&[u8]| self.next.as_ref().is_some_and(|loaded| is(loaded, bytes));
        let limits = HostLimits { fold_ms: FOLD_MS, release_ms: RELEASE_MS, ..HostLimits::default() };
        let fresh =
            next.filter(|bytes| !same(bytes)).map(|bytes| Loaded::new(bytes, limits, Some(known))).transpose()?;
        if let Some(live) = live {
            let (calls, replaced) = self.live.guest.counts();
            self.before = (self.before.0 + calls, self.before.1 + replaced);
            self.live = live;
            tracing::info!(sha256 = hash::hex(&self.live.sha256), "another edge component serves");
        }
        if fresh.is_some() || next.is_none() {
            (self.compared, self.differing, self.traps, self.next) = (0, 0, 0, fresh);
            if let Some(next) = &self.next {
                tracing::info!(sha256 = hash::hex(&next.sha256), "an edge component runs beside the one that serves");
            }
        }
        Ok(())
    }

    /// Calls answered by the component that serves, and instances replaced, those before it included.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        let (calls, replaced) = self.live.guest.counts();
        (self.before.0 + calls, self.before.1 + replaced)
    }

    /// Calls that both answered, and how many of them differently.
    #[must_use]
    pub fn compared(&self) -> (u64, u64) {
        (self.compared, self.differing)
    }

    /// Gives the next one the same call, and believes the one that serves.
    fn beside<T: PartialEq>(
        &mut self,
        input: &[u8],
        answer: Result<T, GuestError>,
        call: impl FnOnce(&mut WasmGuest) -> Result<T, GuestError>,
    ) -> Result<T, GuestError> {
        let Some(next) = &mut self.next else { return answer };
        let other = call(&mut next.guest);
        self.compared += 1;
        // Where the one that serves traps as well, it is the input's fault.
        self.traps += u64::from(matches!((&answer, &other), (Ok(_), Err(GuestError::Trap(_)))));
        // What both refuse they may refuse in other words.
        let same = match (&answer, &other) {
            (Ok(answer), Ok(other)) => answer == other,
            (Err(_), Err(_)) => true,
            _ => false,
        };
        if !same {
            self.differing += 1;
            if self.differing <= SAID {
                let sha256 = hash::hex(&hash::sha256(input));
                let why = other.err().map_or_else(|| "another answer".to_owned(), |error| error.to_string());
                tracing::warn!(sha256, why, "the next edge component differs from the one that serves");
            }
        }
        if self.traps >= TRAPS {
            tracing::error!(
                "the next edge component trapped {TRAPS} times and is given up; what serves is none the worse"
            );
            self.next = None;
        }
        answer
    }
}

impl Guest for Guests {
    fn configure(&mut self, policy: &[u8]) -> Result<[u8; 32], GuestError> {
        let hash = self.live.guest.configure(policy);
        self.beside(policy, hash, |next| next.configure(policy))
    }

    fn retain(&mut self, hashes: &[[u8; 32]]) {
        self.live.guest.retain(hashes);
        if let Some(next) = &mut self.next {
            next.guest.retain(hashes);
        }
    }

    fn fold(&mut self, policy_hash: &[u8; 32], now_ms: u64, batch: &[u8]) -> Result<Vec<u8>, GuestError> {
        let verdict = self.live.guest.fold(policy_hash, now_ms, batch);
        self.beside(batch, verdict, |next| next.fold(policy_hash, now_ms, batch))
    }

    fn release(
        &mut self,
        policy_hash: &[u8; 32],
        seed: &[u8; 32],
        span_ms: u64,
        window: u64,
        cells: &[u8],
    ) -> Result<Vec<u8>, GuestError> {
        let released = self.live.guest.release(policy_hash, seed, span_ms, window, cells);
        self.beside(cells, released, |next| next.release(policy_hash, seed, span_ms, window, cells))
    }
}
