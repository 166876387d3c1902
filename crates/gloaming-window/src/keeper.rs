//! An edge over a store that fails now and then: closed at the first failure, and opened again from what the
//! store says, as if the machine had crashed. There is no other way back, and no other way to learn what a
//! failed write has left.

use std::collections::BTreeMap;

use gloaming_policy::author::{PublicKey, Signed};

use crate::delivery::Delivered;
use crate::edge::{Edge, Tally};
use crate::error::{EdgeError, LoadPolicyError};
use crate::guest::Guest;
use crate::ingest::{Answer, Quarantine};
use crate::open::{Anchor, Opening};
use crate::share::Posted;
use crate::storage::{OutboxRow, Storage};
use crate::vault::Entropy;

/// How long to wait before a store that failed is opened again, ms.
const REOPEN_MS: u64 = 1_000;
/// Windows released in one turn, so that a long catch-up does not keep operators waiting.
const TURN: usize = 16;

/// Where the store and its anchor lie.
pub trait Place {
    /// The store.
    type Store: Storage;
    /// Opens the store; only the `first` time may it be made.
    ///
    /// # Errors
    /// When it cannot be opened.
    fn store(&mut self, first: bool) -> Result<Self::Store, EdgeError>;
    /// The anchor, when there is one.
    ///
    /// # Errors
    /// When it cannot be read, or could not be written.
    fn anchor(&mut self) -> Result<Option<Anchor>, EdgeError>;
    /// Replaces the anchor; durable when it returns.
    ///
    /// # Errors
    /// When it is not.
    fn put_anchor(&mut self, anchor: Anchor) -> Result<(), EdgeError>;
}

/// See the module's page.
pub struct Keeper<P: Place> {
    place: P,
    opening: Opening,
    edge: Option<Edge<P::Store>>,
    try_again_ms: u64,
    /// What is only in memory, while the edge is closed.
    carried: (Tally, Quarantine),
    /// Times the store was an old copy.
    pub restored: u64,
    /// Times the store failed, or could not be opened again.
    pub failures: u64,
}

impl<P: Place> Keeper<P> {
    /// Opens for the first time.
    ///
    /// # Errors
    /// Whatever keeps the edge from starting.
    pub fn open(
        place: P,
        opening: Opening,
        now_ms: u64,
        guest: &mut dyn Guest,
        entropy: Entropy<'_>,
    ) -> Result<Self, EdgeError> {
        let mut keeper =
            Self { place, opening, edge: None, try_again_ms: 0, carried: Default::default(), restored: 0, failures: 0 };
        keeper.try_open(now_ms, guest, entropy)?;
        Ok(keeper)
    }

    fn try_open(&mut self, now_ms: u64, guest: &mut dyn Guest, entropy: Entropy<'_>) -> Result<(), EdgeError> {
        self.opening.anchor = self.place.anchor()?;
        let store = self.place.store(self.opening.epoch.is_none())?;
        let mut edge = Edge::open(store, &self.opening, now_ms, guest, entropy)?;
        // What was asked for once at start is not asked for again when the store fails. A clock that was doubted then is
        // doubted still.
        self.opening.epoch = Some(edge.anchor().epoch);
        self.opening.restored = false;
        self.restored += u64::from(edge.was_restored());
        self.place.put_anchor(edge.anchor())?;
        (edge.tally, edge.quarantine) = std::mem::take(&mut self.carried);
        self.edge = Some(edge);
        Ok(())
    }

    /// The edge, while its store works.
    #[must_use]
    pub fn edge(&self) -> Option<&Edge<P::Store>> {
        self.edge.as_ref()
    }

    /// Opens a closed edge again when it is time to try. `Some` when it was tried.
    pub fn reopen(
        &mut self,
        now_ms: u64,
        guest: &mut dyn Guest,
        entropy: Entropy<'_>,
    ) -> Option<Result<(), EdgeError>> {
        if self.edge.is_some() || now_ms < self.try_again_ms {
            return None;
        }
        let outcome = self.try_open(now_ms, guest, entropy);
        if outcome.is_err() {
            self.close(now_ms);
        }
        Some(outcome)
    }

    fn close(&mut self, now_ms: u64) {
        if let Some(edge) = self.edge.take() {
            self.carried = (edge.tally, edge.quarantine);
        }
        self.failures += 1;
        self.try_again_ms = now_ms.saturating_add(REOPEN_MS);
    }

    /// Does something with the edge, and closes it when its store failed.
    fn with<T>(
        &mut self,
        now_ms: u64,
        work: impl FnOnce(&mut Edge<P::Store>) -> Result<T, EdgeError>,
    ) -> Result<T, EdgeError> {
        let Some(edge) = &mut self.edge else { return Err(EdgeError::Closed) };
        let outcome = work(edge);
        if matches!(outcome, Err(EdgeError::Storage(_))) {
            self.close(now_ms);
        }
        outcome
    }

    /// Holds sites to other numbers of open contributions.
    pub fn quotas(&mut self, quotas: BTreeMap<String, usize>) {
        if let Some(edge) = &mut self.edge {
            edge.quotas.clone_from(&quotas);
        }
        self.opening.quotas = quotas;
    }

    /// Changes the keys that sites' policies must be signed with, for policies to come and for the next time
    /// the store is opened. A site whose policy in force is not signed by its new key keeps the old one: its
    /// name is returned. So does one that has none any more.
    pub fn pin(&mut self, pins: BTreeMap<String, PublicKey>) -> Vec<String> {
        let before = std::mem::replace(&mut self.opening.pins, pins);
        let Some(edge) = &self.edge else { return Vec::new() };
        let mut kept = Vec::new();
        for (site, old) in before {
            let Some((_, _, signed)) = edge.policy(&site).filter(|_| edge.sites().any(|own| own == site)) else {
                continue;
            };
            let fits = |pin: &PublicKey| Signed::verify(&signed.to_bytes(), pin, 0).is_ok();
            if !self.opening.pins.get(&site).is_some_and(fits) {
                self.opening.pins.insert(site.clone(), old);
                kept.push(site);
            }
        }
        kept
    }

    /// [`Edge::leave`].
    ///
    /// # Errors
    /// As there, and while the edge is closed.
    pub fn leave(&mut self, site: &str, now_ms: u64) -> Result<bool, EdgeError> {
        self.with(now_ms, |edge| edge.leave(site, now_ms))
    }

    /// [`Edge::load_policy`].
    ///
    /// # Errors
    /// As there.
    pub fn load_policy(
        &mut self,
        bytes: &[u8],
        pin: &PublicKey,
        now_ms: u64,
        guest: &mut dyn Guest,
    ) -> Result<(), LoadPolicyError> {
        let Some(edge) = &mut self.edge else { return Err(EdgeError::Closed.into()) };
        let outcome = edge.load_policy(bytes, pin, now_ms, guest);
        if matches!(outcome, Err(LoadPolicyError::Edge(EdgeError::Storage(_)))) {
            self.close(now_ms);
        }
        outcome
    }

    /// [`Edge::ingest`].
    ///
    /// # Errors
    /// As there, and while the edge is closed: nothing may be acknowledged.
    pub fn ingest(
        &mut self,
        now_ms: u64,
        posted: &[Posted<'_>],
        guest: &mut dyn Guest,
        entropy: Entropy<'_>,
    ) -> Result<Vec<Answer>, EdgeError> {
        self.with(now_ms, |edge| edge.ingest(now_ms, posted, guest, entropy))
    }

    /// [`Edge::quarantined`].
    pub fn quarantined(&mut self) -> Vec<[u8; 32]> {
        self.edge.as_mut().map_or_else(Vec::new, Edge::quarantined)
    }

    /// Releases what is due, a few windows at a time, and only one while senders keep this edge `busy`; returns what went
    /// wrong. A batch can leave only after the anchor knows of it.
    pub fn release(&mut self, now_ms: u64, busy: bool, guest: &mut dyn Guest, entropy: Entropy<'_>) -> Vec<EdgeError> {
        let mut wrong = Vec::new();
        // Each is some milliseconds for whoever waits, and at midnight all sites have one.
        for _ in 0..if busy { 1 } else { TURN } {
            match self.with(now_ms, |edge| edge.release_due(now_ms, guest, entropy)) {
                Ok(true) => {
                    let anchor = self.edge.as_ref().map(Edge::anchor);
                    let kept = anchor.map_or(Ok(()), |anchor| self.place.put_anchor(anchor));
                    if let Err(error) = kept {
                        self.close(now_ms);
                        wrong.push(error);
                        break;
                    }
                }
                Ok(false) | Err(EdgeError::Closed) => break,
                Err(error) => wrong.push(error),
            }
        }
        wrong
    }

    /// [`Edge::next_delivery`].
    ///
    /// # Errors
    /// When the store failed.
    pub fn next_delivery(&mut self, now_ms: u64) -> Result<Option<OutboxRow>, EdgeError> {
        match self.with(now_ms, |edge| edge.next_delivery(now_ms)) {
            Err(EdgeError::Closed) => Ok(None),
            other => other,
        }
    }

    /// [`Edge::delivered`].
    ///
    /// # Errors
    /// When the store failed; the row is then delivered again, which the centre ignores.
    pub fn delivered(
        &mut self,
        row: &OutboxRow,
        outcome: Delivered,
        now_ms: u64,
        random: u64,
    ) -> Result<(), EdgeError> {
        match self.with(now_ms, |edge| edge.delivered(row, outcome, now_ms, random)) {
            Err(EdgeError::Closed) => Ok(()),
            other => other,
        }
    }

    /// The place, for what watches it.
    pub fn place_mut(&mut self) -> &mut P {
        &mut self.place
    }
}
