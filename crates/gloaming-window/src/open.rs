//! Taking up where the store left off, and doubting what it says.
//!
//! A store can be older than what has left: somebody restored a backup, or copied a machine. Windows that
//! it believes open may then have been released already, and noising them again would spend their privacy
//! twice. So how many releases an epoch has seen is also written beside the wrapping key, outside the store,
//! before any of them leaves ([`Anchor`]); a store that has seen fewer is an old copy.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use gloaming_policy::author::{Key, PublicKey, Signed};
use gloaming_policy::count::{Counter, Layout};
use gloaming_privacy::DAY_MS;
use gloaming_signal::CellKey;
use gloaming_signal::cbor;

use crate::delivery::Outbox;
use crate::edge::{END_MS, Edge, InForce, Open, Tally};
use crate::error::EdgeError;
use crate::guest::Guest;
use crate::ids::{Ids, Spare};
use crate::ingest::Quarantine;
use crate::share::Shares;
use crate::storage::{PolicyRow, Snapshot, Storage};
use crate::vault::{Entropy, WindowKey, WrappingKey};

/// What an edge keeps at most.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Contribution ids remembered for one window; at 16 bytes each and a table's overhead 40 MB.
    pub window_ids: usize,
    /// Contribution ids remembered for all windows of one site: a quarter of all, so that no site's crowd,
    /// real or made up, closes the edge to the others.
    pub site_ids: usize,
    /// Contribution ids remembered for all windows together.
    pub ids: usize,
    /// Contributions to one metric and window that one network may always make.
    pub network_floor: u64,
    /// Beyond that, its share of all of them, percent.
    pub network_percent: u64,
    /// Sites of one edge.
    pub sites: usize,
    /// Policies of all sites, those included that only close their windows.
    pub policies: usize,
    /// Undelivered batches kept for one site; then its releases wait.
    pub outbox: usize,
    /// Bytes of undelivered batches of one site; then its releases wait.
    pub outbox_bytes: usize,
    /// Windows released one after another when an edge was away. Older ones are skipped.
    pub catch_up: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            window_ids: 1_000_000,
            network_floor: 20,
            network_percent: 5,
            site_ids: 1_000_000,
            ids: 4_000_000,
            sites: 512,
            policies: 1_024,
            outbox: 10_000,
            outbox_bytes: 64 << 20,
            catch_up: 400,
        }
    }
}

/// What has left, as far as is known outside the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// The store's epoch.
    pub epoch: u64,
    /// Windows released in it.
    pub releases: u64,
    /// Edge time of the last release, ms; 0 before the first.
    pub released_ms: u64,
}

/// What an edge is told when it is opened.
#[derive(Clone)]
pub struct Opening {
    /// The edge's name, as policies call it in `home_edges`.
    pub name: String,
    /// Signs deliveries.
    pub key: Key,
    /// Wraps window keys.
    pub wrapping: WrappingKey,
    /// The key each site's policies must be signed with.
    pub pins: BTreeMap<String, PublicKey>,
    /// What is written beside the wrapping key.
    pub anchor: Option<Anchor>,
    /// The epoch it must have, when it was open before.
    pub epoch: Option<u64>,
    /// Go on although the clock contradicts the store.
    pub accept_clock: bool,
    /// Take the store for an old copy, whatever the anchor says.
    pub restored: bool,
    /// Limits.
    pub bounds: Bounds,
    /// Contribution ids remembered for single sites, where that is fewer than the limit.
    pub quotas: BTreeMap<String, usize>,
}

/// A clock that contradicts the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockDoubt {
    /// Windows were opened or released at a later time than now.
    Behind {
        /// By how much at least, ms.
        by_ms: u64,
    },
    /// Nothing was heard of the edge for so long that its clock is the likelier cause.
    Ahead {
        /// For how long, ms.
        by_ms: u64,
        /// Windows that would be skipped for good.
        windows: u64,
    },
}

/// Clocks of one machine differ from themselves by this much over a restart without anybody wondering.
const CLOCK_SLACK_MS: u64 = 5 * 60 * 1000;
/// What an edge may have been away for, ms: a month. Its next start would have the windows of all that time closed at once, and
/// a clock that is set right later finds everything it has seen in the future. A wrong clock is off by a year more often.
const AWAY_MS: u64 = 31 * DAY_MS;
/// Shorter windows are a demonstration's, whose clock is nobody's business.
const HOUR_MS: u64 = 60 * 60 * 1000;

impl<S: Storage> Edge<S> {
    /// Takes up where the store left off. A store that is older than what has left keeps its policies, its
    /// budget and what it had sealed; its open windows are dropped and it gets a new epoch. Nothing is
    /// changed before everything is known to be readable and the clock to be believable.
    ///
    /// # Errors
    /// When the store fails, holds what cannot be read with these keys, or contradicts anchor or clock.
    pub fn open(
        mut storage: S,
        opening: &Opening,
        now_ms: u64,
        guest: &mut dyn Guest,
        entropy: Entropy<'_>,
    ) -> Result<Self, EdgeError> {
        let mut minted = [0; 8];
        entropy(&mut minted);
        // One bit short, so that every database's signed integer holds it.
        let minted = u64::from_le_bytes(minted) >> 1;
        let mut snapshot = storage.load(minted)?;
        if opening.epoch.is_some_and(|epoch| epoch != snapshot.epoch) {
            return Err(EdgeError::OtherStore);
        }
        let releases: u64 = snapshot.next_seq.values().sum();
        let unused = snapshot.policies.is_empty() && snapshot.next_seq.is_empty();
        let restored = match opening.anchor {
            None if unused => false,
            None if opening.restored => true,
            None => return Err(EdgeError::NoAnchor),
            Some(anchor) if unused && anchor.epoch != snapshot.epoch => return Err(EdgeError::NoStore),
            Some(anchor) => opening.restored || anchor.epoch != snapshot.epoch || anchor.releases > releases,
        };
        let restored = restored || snapshot.older;
        let left_ms = opening.anchor.map_or(0, |anchor| anchor.released_ms);
        let mut edge = Self {
            storage,
            name: opening.name.clone(),
            key: opening.key.clone(),
            wrapping: opening.wrapping.clone(),
            bounds: opening.bounds,
            epoch: snapshot.epoch,
            restored,
            policies: BTreeMap::new(),
            aside: BTreeSet::new(),
            left: std::mem::take(&mut snapshot.left),
            open: HashMap::new(),
            ids: 0,
            cursors: std::mem::take(&mut snapshot.cursors),
            failing: BTreeMap::new(),
            ledgers: std::mem::take(&mut snapshot.ledgers),
            outbox: Outbox::new(std::mem::take(&mut snapshot.outbox)),
            next_seq: std::mem::take(&mut snapshot.next_seq),
            quarantine: Quarantine::default(),
            counter: Counter::default(),
            shares: Shares::default(),
            spare: Spare::default(),
            quotas: opening.quotas.clone(),
            tally: Tally::default(),
            floor_ms: snapshot.floor_ms.max(left_ms),
            away: (0, 0),
        };
        edge.take_policies(std::mem::take(&mut snapshot.policies), &opening.pins, guest)?;
        edge.take_windows(snapshot)?;
        if let Some(doubt) = edge.clock_doubt(now_ms)
            && !opening.accept_clock
        {
            return Err(EdgeError::Clock(doubt));
        }
        if restored {
            edge.begin_anew(minted, now_ms)?;
        }
        edge.storage.begun()?;
        Ok(edge)
    }

    /// What began before this moment is lost in part at least, and may have been released.
    fn begin_anew(&mut self, epoch: u64, now_ms: u64) -> Result<(), EdgeError> {
        let now_ms = self.time(now_ms);
        for (cursor, next) in &mut self.cursors {
            *next = (*next).max(now_ms / cursor.span_ms + 1);
        }
        self.storage.begin_anew(epoch, &self.cursors)?;
        self.epoch = epoch;
        self.next_seq.clear();
        self.close(|_| true);
        Ok(())
    }

    /// A site whose newest policy cannot be believed any more (its pin was changed or taken away) is set aside:
    /// what is stored of it stays and waits, and the other sites go on. An earlier version was believed when it
    /// came, and needs no more than to be read: the owner's key may have changed since.
    fn take_policies(
        &mut self,
        rows: BTreeMap<(String, u32), PolicyRow>,
        pins: &BTreeMap<String, PublicKey>,
        guest: &mut dyn Guest,
    ) -> Result<(), EdgeError> {
        let newest: BTreeMap<String, u32> = rows.keys().cloned().collect();
        for ((site, version), row) in rows {
            // One that left was believed when it was here.
            let read = if newest.get(&site) == Some(&version) && !self.left.contains_key(&site) {
                // A policy that expired while in force still closes its windows, hence day 0.
                pins.get(&site).and_then(|pin| Signed::verify(&row.signed, pin, 0).ok())
            } else {
                Signed::verified_before(&row.signed).ok()
            };
            let Some((signed, policy)) = read else {
                self.aside.insert(site);
                continue;
            };
            let hash = guest.configure(signed.policy_bytes())?;
            self.policies.insert(
                (site, version),
                InForce { layout: Layout::new(&policy), policy, hash, signed, since_ms: row.since_ms },
            );
        }
        let aside = &self.aside;
        self.policies.retain(|(site, _), _| !aside.contains(site));
        Ok(())
    }

    fn take_windows(&mut self, snapshot: Snapshot) -> Result<(), EdgeError> {
        for (name, wrapped) in &snapshot.keys {
            let key = WindowKey::unwrap(wrapped, &self.wrapping, name)
                .ok_or_else(|| EdgeError::Unreadable(format!("a window key of {}", name.site)))?;
            let open = Open::new(key, Ids::default());
            // A window that holds something had begun, whatever the clock says now.
            self.floor_ms = self.floor_ms.max(name.window.saturating_mul(name.span_ms).min(END_MS));
            self.open.insert(name.clone(), open);
        }
        for chunk in snapshot.chunks {
            let unreadable = || EdgeError::Unreadable(format!("a chunk of {}", chunk.name.site));
            let open = match self.open.get_mut(&chunk.name) {
                Some(open) => open,
                // Log and keys of an old copy need not be of one moment; what is open in it is dropped anyway.
                None if self.restored => continue,
                None => return Err(unreadable()),
            };
            let plain = open.key.open(&chunk.sealed, &chunk.name, chunk.number).ok_or_else(unreadable)?;
            let (ids, cells): (Vec<[u8; 16]>, Vec<(CellKey, u64)>) =
                cbor::from_slice(&plain).map_err(|_| unreadable())?;
            open.next_chunk = chunk.number + 1;
            self.ids += open.merge(&ids, &cells);
        }
        Ok(())
    }

    /// What to write outside the store, before anything released since leaves.
    #[must_use]
    pub fn anchor(&self) -> Anchor {
        let releases = self.next_seq.values().sum();
        Anchor { epoch: self.epoch, releases, released_ms: self.floor_ms }
    }

    /// Whether the store was found to be an old copy when it was opened.
    #[must_use]
    pub fn was_restored(&self) -> bool {
        self.restored
    }

    /// Sites whose stored policies cannot be read with the keys pinned now.
    pub fn aside(&self) -> impl Iterator<Item = &str> {
        self.aside.iter().map(String::as_str)
    }

    /// Whether this time contradicts what the store says. A demonstration's short windows are not asked.
    #[must_use]
    pub fn clock_doubt(&self, now_ms: u64) -> Option<ClockDoubt> {
        let real = || self.cursors.iter().filter(|(cursor, _)| cursor.span_ms >= HOUR_MS);
        // No cursor is further than one window ahead of its time.
        let begun = real().map(|(cursor, next)| next.saturating_sub(1).saturating_mul(cursor.span_ms)).max();
        let begun_ms = begun.unwrap_or(0);
        let ahead_ms = begun_ms.saturating_sub(now_ms.saturating_add(CLOCK_SLACK_MS));
        let by_ms = ahead_ms.max(self.floor_ms.saturating_sub(now_ms));
        if by_ms > CLOCK_SLACK_MS {
            return Some(ClockDoubt::Behind { by_ms });
        }
        let skipped = real().map(|(cursor, next)| self.skips(cursor, *next, now_ms));
        let windows: u64 = skipped.map(|skipped| skipped.end.saturating_sub(skipped.start)).sum();
        let seen_ms = self.floor_ms.max(begun_ms);
        let by_ms = now_ms.saturating_sub(seen_ms);
        (windows > 0 || seen_ms > 0 && by_ms > AWAY_MS).then_some(ClockDoubt::Ahead { by_ms, windows })
    }
}
