//! A new component beside the one that serves: both are given everything, one is believed, and where they differ is
//! counted. When they have not differed for long enough, the operator lets the new one serve.
//!
//! The new one has a thread of its own, and nobody waits for it: what it is too slow for it is not given, and that is
//! counted too.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use gloaming_signal::hash;
use gloaming_window::{Guest, GuestError};

use crate::guest::{HostLimits, WasmGuest, WasmGuestError};

/// Time that the next component may take for a fold and for a release, ms: less than the one that serves, so that one
/// that hangs is given up soon.
const FOLD_MS: u64 = 100;
const RELEASE_MS: u64 = 2_000;
/// What waits for the next component at most, bytes, and what a call is taken for at least.
const WAITING: usize = 8 << 20;
const CALL: usize = WAITING / 64;
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

/// What came of comparing.
#[derive(Default)]
struct Counts {
    compared: AtomicU64,
    differing: AtomicU64,
    skipped: AtomicU64,
    /// Bytes.
    waiting: AtomicUsize,
    given_up: AtomicBool,
}

/// A call of the one that serves, and what it answered.
enum Job {
    Configure { policy: Vec<u8>, answer: Result<[u8; 32], GuestError> },
    Retain(Vec<[u8; 32]>),
    Fold { policy_hash: [u8; 32], now_ms: u64, rows: Vec<u8>, answer: Result<Vec<u8>, GuestError> },
    Release(Box<Released>),
}

struct Released {
    policy_hash: [u8; 32],
    seed: [u8; 32],
    span_ms: u64,
    window: u64,
    cells: Vec<u8>,
    answer: Result<Vec<u8>, GuestError>,
}

/// The next component's thread, which ends when nobody sends any more.
struct Next {
    /// What waits, and what it is taken for, bytes.
    jobs: Sender<(usize, Job)>,
    sha256: [u8; 32],
}

/// The component that serves, and perhaps the next one.
pub struct Guests {
    live: Loaded,
    next: Option<Next>,
    counts: Arc<Counts>,
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
        Ok(Self { live, next: None, counts: Arc::default(), before: (0, 0) })
    }

    /// Takes other components, each of which must know all policies that are in force. What is the same stays, with
    /// its counts.
    ///
    /// # Errors
    /// As [`Guests::new`], and when one refuses a policy; then nothing has changed.
    pub fn set(&mut self, component: &[u8], next: Option<&[u8]>) -> Result<(), WasmGuestError> {
        let known = &self.live.guest;
        let live = (self.live.sha256 != hash::sha256(component))
            .then(|| Loaded::new(component, HostLimits::default(), Some(known)))
            .transpose()?;
        let same = |bytes: &&[u8]| self.next.as_ref().is_some_and(|next| next.sha256 == hash::sha256(bytes));
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
            (self.counts, self.next) = (Arc::default(), None);
        }
        if let Some(Loaded { guest, sha256 }) = fresh {
            let ((jobs, received), counts) = (channel(), Arc::clone(&self.counts));
            std::thread::spawn(move || run(guest, &received, &counts));
            self.next = Some(Next { jobs, sha256 });
            tracing::info!(sha256 = hash::hex(&sha256), "an edge component runs beside the one that serves");
        }
        Ok(())
    }

    /// Calls answered by the component that serves, and instances replaced, those before it included.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        let (calls, replaced) = self.live.guest.counts();
        (self.before.0 + calls, self.before.1 + replaced)
    }

    /// Calls that both answered, how many of them differently, and how many the next one was too slow for. The latest
    /// ones may be missing.
    #[must_use]
    pub fn compared(&self) -> (u64, u64, u64) {
        let Counts { compared, differing, skipped, .. } = &*self.counts;
        (compared.load(Ordering::Acquire), differing.load(Ordering::Acquire), skipped.load(Ordering::Acquire))
    }

    /// Gives the next one what the one that serves was given. Of what comes all the time no more waits than it can
    /// bear.
    fn beside(&mut self, often: bool, bytes: usize, job: impl FnOnce() -> Job) {
        let Some(next) = &self.next else { return };
        if self.counts.given_up.load(Ordering::Acquire) {
            self.next = None;
            return;
        }
        if often && self.counts.waiting.load(Ordering::Acquire) >= WAITING {
            self.counts.skipped.fetch_add(1, Ordering::AcqRel);
            return;
        }
        let bytes = bytes.max(CALL);
        self.counts.waiting.fetch_add(bytes, Ordering::AcqRel);
        // A thread that has ended has given up.
        let _ = next.jobs.send((bytes, job()));
    }
}

impl Guest for Guests {
    fn configure(&mut self, policy: &[u8]) -> Result<[u8; 32], GuestError> {
        let answer = self.live.guest.configure(policy);
        self.beside(false, policy.len(), || Job::Configure { policy: policy.to_vec(), answer: answer.clone() });
        answer
    }

    fn retain(&mut self, hashes: &[[u8; 32]]) {
        self.live.guest.retain(hashes);
        self.beside(false, size_of_val(hashes), || Job::Retain(hashes.to_vec()));
    }

    fn fold(&mut self, policy_hash: &[u8; 32], now_ms: u64, rows: &[u8]) -> Result<Vec<u8>, GuestError> {
        let answer = self.live.guest.fold(policy_hash, now_ms, rows);
        let policy_hash = *policy_hash;
        self.beside(true, rows.len(), || Job::Fold {
            policy_hash,
            now_ms,
            rows: rows.to_vec(),
            answer: answer.clone(),
        });
        answer
    }

    fn release(
        &mut self,
        policy_hash: &[u8; 32],
        seed: &[u8; 32],
        span_ms: u64,
        window: u64,
        cells: &[u8],
    ) -> Result<Vec<u8>, GuestError> {
        let answer = self.live.guest.release(policy_hash, seed, span_ms, window, cells);
        let (policy_hash, seed) = (*policy_hash, *seed);
        self.beside(true, cells.len(), || {
            let (cells, answer) = (cells.to_vec(), answer.clone());
            Job::Release(Box::new(Released { policy_hash, seed, span_ms, window, cells, answer }))
        });
        answer
    }
}

/// The next component's thread.
fn run(mut guest: WasmGuest, jobs: &Receiver<(usize, Job)>, counts: &Counts) {
    let mut traps = 0;
    for (bytes, job) in jobs {
        match job {
            Job::Retain(hashes) => guest.retain(&hashes),
            Job::Configure { policy, answer } => {
                compare(counts, &mut traps, &policy, &answer, guest.configure(&policy));
            }
            Job::Fold { policy_hash, now_ms, rows, answer } => {
                compare(counts, &mut traps, &rows, &answer, guest.fold(&policy_hash, now_ms, &rows));
            }
            Job::Release(job) => {
                let Released { policy_hash, seed, span_ms, window, cells, answer } = *job;
                let other = guest.release(&policy_hash, &seed, span_ms, window, &cells);
                compare(counts, &mut traps, &cells, &answer, other);
            }
        }
        counts.waiting.fetch_sub(bytes, Ordering::AcqRel);
        if traps >= TRAPS {
            tracing::error!(
                "the next edge component trapped {TRAPS} times and is given up; what serves is none the worse"
            );
            counts.given_up.store(true, Ordering::Release);
            return;
        }
    }
}

fn compare<T: PartialEq>(
    counts: &Counts,
    traps: &mut u64,
    input: &[u8],
    answer: &Result<T, GuestError>,
    other: Result<T, GuestError>,
) {
    // Where the one that serves traps as well, it is the input's fault.
    *traps += u64::from(matches!((answer, &other), (Ok(_), Err(GuestError::Trap(_)))));
    // What both refuse they may refuse in other words.
    let same = match (answer, &other) {
        (Ok(answer), Ok(other)) => answer == other,
        (Err(_), Err(_)) => true,
        _ => false,
    };
    if !same && counts.differing.fetch_add(1, Ordering::AcqRel) < SAID {
        let sha256 = hash::hex(&hash::sha256(input));
        let why = other.err().map_or_else(|| "another answer".to_owned(), |error| error.to_string());
        tracing::warn!(sha256, why, "the next edge component differs from the one that serves");
    }
    counts.compared.fetch_add(1, Ordering::AcqRel);
}
