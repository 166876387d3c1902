//! A relay: an edge that people reach, and that is home to none of the sites it serves here.
//!
//! It takes submissions as any edge does, reads of each only what site and policy it is of, seals it for the site's home
//! edge, and acknowledges what is durable. It counts nothing, noises nothing and knows no duplicates: the home edge finds
//! those, so delivering twice is safe, and one home edge has one crowd to reach `k` with.

mod seal;
mod store;

use std::collections::{BTreeMap, BTreeSet};

use gloaming_policy::Policy;
use gloaming_policy::author::{Key, PublicKey, Signed};
use gloaming_policy::count::{Counter, Layout};
use gloaming_privacy::DAY_MS;
use gloaming_signal::relay::{Head, Parcel, Relayed, load, unload};
use gloaming_signal::{Reason, Row, Submission, cbor, limits};

pub use self::store::{MemoryRelayStore, RelaySnapshot, RelayStore, SealedParcel};
use crate::delivery::{Delivered, Outbox};
use crate::error::{EdgeError, LoadPolicyError};
use crate::ingest::Answer;
use crate::share::Posted;
use crate::storage::Waiting;
use crate::vault::Entropy;

/// Bytes of submissions in one parcel, before sealing.
const PARCEL_BYTES: usize = 256 * 1024;
/// Longest that a parcel waits, ms: after that every window it could name is closed.
const LIFE_MS: u64 = 8 * DAY_MS;
/// For how long after a start nothing is too old, ms: a clock that was wrong when its machine started has parcels offered to
/// their home edges, which know better, and not thrown away.
const PATIENCE_MS: u64 = 60 * 60 * 1000;

/// What a relay keeps at most.
#[derive(Clone, Copy, Debug)]
pub struct RelayBounds {
    /// Bytes that wait for one home edge; then it takes no more for it.
    pub bytes: usize,
    /// Parcels that wait for one home edge.
    pub parcels: usize,
    /// Sites.
    pub sites: usize,
}

impl Default for RelayBounds {
    fn default() -> Self {
        Self { bytes: 256 << 20, parcels: 100_000, sites: 512 }
    }
}

/// Counts since start.
#[derive(Clone, Debug, Default)]
pub struct RelayTally {
    /// Submissions by reason; [`Reason::Relayed`] for those that were taken.
    pub reasons: BTreeMap<Reason, u64>,
    /// Parcels that were too old before anybody took them: an alarm.
    pub lost: u64,
}

/// Parcels for one home edge, as they are posted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    /// Their names.
    pub names: Vec<Waiting>,
    /// Their bytes, one behind the other.
    pub bytes: Vec<u8>,
}

struct Held {
    policy: Policy,
    layout: Layout,
    hash: [u8; 32],
    signed: Signed,
    home: String,
}

/// See the module's page.
pub struct Relay<S> {
    store: S,
    name: String,
    homes: BTreeMap<String, PublicKey>,
    bounds: RelayBounds,
    held: BTreeMap<(String, u32), Held>,
    roads: BTreeMap<String, Road>,
    next_number: u64,
    counter: Counter,
    tally: RelayTally,
    /// The first time that it was told.
    since_ms: Option<u64>,
}

/// What waits for one home edge.
#[derive(Default)]
struct Road {
    outbox: Outbox,
    bytes: usize,
    /// Something of the last load was refused: which of it is found out one by one.
    alone: bool,
}

/// Where a submission goes.
struct Way {
    home: String,
    site: String,
}

impl<S: RelayStore> Relay<S> {
    /// Takes up where the store left off. A site whose newest policy is not signed by the key that is pinned now is
    /// served again when a policy comes that is.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn open(
        mut store: S,
        name: &str,
        homes: BTreeMap<String, PublicKey>,
        pins: &BTreeMap<String, PublicKey>,
        bounds: RelayBounds,
    ) -> Result<Self, EdgeError> {
        let RelaySnapshot { policies, parcels } = store.load()?;
        let next_number = parcels.iter().map(|(_, parcel)| parcel.seq + 1).max().unwrap_or(0);
        let (held, roads) = (BTreeMap::new(), BTreeMap::new());
        let (counter, tally) = (Counter::default(), RelayTally::default());
        let since_ms = None;
        let mut relay =
            Self { store, name: name.to_owned(), homes, bounds, held, roads, next_number, counter, tally, since_ms };
        let newest: BTreeMap<String, u32> = policies.keys().cloned().collect();
        for ((site, version), bytes) in policies {
            let read = if newest.get(&site) == Some(&version) {
                pins.get(&site).and_then(|pin| Signed::verify(&bytes, pin, 0).ok())
            } else {
                Signed::verified_before(&bytes).ok()
            };
            if let Some((signed, policy)) = read
                && let Some(home) = relay.home_of(&policy)
            {
                relay.hold(signed, policy, home);
            }
        }
        let believed: BTreeSet<String> =
            newest.into_iter().filter(|place| relay.held.contains_key(place)).map(|(site, _)| site).collect();
        relay.held.retain(|(site, _), _| believed.contains(site));
        for (home, parcel) in parcels {
            relay.roads.entry(home).or_default().push(parcel);
        }
        Ok(relay)
    }

    /// Ends, leaving the store.
    #[must_use]
    pub fn into_store(self) -> S {
        self.store
    }

    /// The store, for what watches it.
    pub fn store_mut(&mut self) -> &mut S {
        &mut self.store
    }

    /// Counts since start.
    #[must_use]
    pub fn tally(&self) -> &RelayTally {
        &self.tally
    }

    /// Goes on with the counts of before the store failed.
    pub fn go_on(&mut self, tally: RelayTally) {
        self.tally = tally;
    }

    /// Parcels that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.roads.values().map(|road| road.outbox.len()).sum()
    }

    /// The first of a policy's home edges that is known here. Always the same one, for only one edge can know which
    /// contributions it has counted.
    #[must_use]
    pub fn home_of(&self, policy: &Policy) -> Option<String> {
        if policy.home_edges.contains(&self.name) {
            return None;
        }
        policy.home_edges.iter().find(|home| self.homes.contains_key(*home)).cloned()
    }

    fn hold(&mut self, signed: Signed, policy: Policy, home: String) {
        let (place, hash) = ((policy.site.clone(), policy.version), policy.hash());
        self.held.insert(place, Held { layout: Layout::new(&policy), policy, hash, signed, home });
    }

    /// Serves a site under a signed policy. Its version before takes submissions as well.
    ///
    /// # Errors
    /// When it is not signed by `pin`, expired, rolled back, of no home edge that is known here, or there is no room.
    pub fn load_policy(&mut self, bytes: &[u8], pin: &PublicKey, now_ms: u64) -> Result<(), LoadPolicyError> {
        let (signed, policy) = Signed::verify(bytes, pin, now_ms / DAY_MS)?;
        let home = self.home_of(&policy).ok_or_else(|| LoadPolicyError::NotHome(policy.home_edges.join(", ")))?;
        let (site, version, hash) = (policy.site.clone(), policy.version, policy.hash());
        let newest = self.versions(&site).next_back();
        match newest {
            Some((newest, held)) if newest == version && held.hash != hash => {
                return Err(LoadPolicyError::SameVersion(version));
            }
            Some((newest, held)) if newest == version && held.signed.to_bytes() == bytes && held.home == home => {
                return Ok(());
            }
            Some((newest, _)) if newest > version => {
                return Err(LoadPolicyError::RolledBack { given: version, in_force: newest });
            }
            Some((newest, held)) if newest < version && !policy.models.is_empty() && !signed.follows(&held.signed) => {
                return Err(LoadPolicyError::RecordCut(version));
            }
            None if self.sites().count() >= self.bounds.sites => return Err(EdgeError::Full("sites").into()),
            _ => {}
        }
        // The one before it, if it is another.
        let below = self.versions(&site).map(|(held, _)| held).rfind(|held| *held < version).unwrap_or(version);
        self.store.put_policy(&site, version, bytes, below).map_err(EdgeError::from)?;
        self.held.retain(|(own, version), _| *own != site || *version >= below);
        self.hold(signed, policy, home);
        Ok(())
    }

    /// Serves a site no more. What waits of it is delivered. Whether it was here.
    ///
    /// # Errors
    /// When the store failed.
    pub fn forget(&mut self, site: &str) -> Result<bool, EdgeError> {
        if self.versions(site).next().is_none() {
            return Ok(false);
        }
        self.store.forget(site)?;
        self.held.retain(|(own, _), _| own != site);
        Ok(true)
    }

    fn versions(&self, site: &str) -> impl DoubleEndedIterator<Item = (u32, &Held)> {
        let all = self.held.range((site.to_owned(), 0)..=(site.to_owned(), u32::MAX));
        all.map(|((_, version), held)| (*version, held))
    }

    /// Sites that are served.
    pub fn sites(&self) -> impl Iterator<Item = &str> {
        let mut last = None;
        self.held.keys().map(|(site, _)| site.as_str()).filter(move |site| last.replace(*site) != Some(*site))
    }

    /// The newest policy of a site, and the bundle it came in.
    #[must_use]
    pub fn policy(&self, site: &str) -> Option<(&Policy, &Signed)> {
        self.versions(site).next_back().map(|(_, held)| (&held.policy, &held.signed))
    }

    /// Takes submissions: seals them, makes them durable, and only then answers, in order.
    ///
    /// # Errors
    /// When the store failed: nothing may be acknowledged, and the relay must be opened anew.
    pub fn take(&mut self, now_ms: u64, posted: &[Posted<'_>], entropy: Entropy<'_>) -> Result<Vec<Answer>, EdgeError> {
        self.since_ms.get_or_insert(now_ms);
        let mut coming: BTreeMap<(String, String), Vec<Relayed>> = BTreeMap::new();
        let mut room: BTreeMap<String, usize> = BTreeMap::new();
        let mut answers = Vec::with_capacity(posted.len());
        for Posted { body, network } in posted {
            answers.push(match self.judge(body, now_ms) {
                Err(answer) => answer,
                Ok(Way { home, site }) => {
                    let left = room.entry(home.clone()).or_insert_with(|| self.room(&home));
                    if body.len() > *left {
                        whole(Reason::Busy)
                    } else {
                        *left -= body.len();
                        let relayed = Relayed { network: *network, body: body.to_vec() };
                        coming.entry((home, site)).or_default().push(relayed);
                        Answer { whole: Reason::Accepted, each: vec![Reason::Relayed] }
                    }
                }
            });
        }
        let mut parcels = Vec::new();
        for ((home, site), relayed) in coming {
            let key = self.homes.get(&home);
            for relayed in in_parcels(relayed) {
                let plain = cbor::to_vec(&Parcel { site: site.clone(), relayed });
                let sealed = key.and_then(|key| seal::seal(key, &plain, entropy));
                let bytes = sealed.ok_or_else(|| EdgeError::Unreadable(format!("no key to seal for {home}")))?;
                let seq = self.next_number + parcels.len() as u64;
                let name = Waiting { site: site.clone(), epoch: now_ms, seq, bytes: bytes.len() };
                parcels.push(SealedParcel { home: home.clone(), name, bytes });
            }
        }
        if !parcels.is_empty() {
            self.store.put(&parcels)?;
            self.next_number += parcels.len() as u64;
            for SealedParcel { home, name, .. } in parcels {
                self.roads.entry(home).or_default().push(name);
            }
        }
        for answer in &answers {
            let alone = [answer.whole];
            for reason in if answer.each.is_empty() { &alone[..] } else { &answer.each[..] } {
                *self.tally.reasons.entry(*reason).or_default() += 1;
            }
        }
        Ok(answers)
    }

    /// Bytes that may still be taken for a home edge.
    fn room(&self, home: &str) -> usize {
        let road = self.roads.get(home);
        let (bytes, parcels) = road.map_or((0, 0), |road| (road.bytes, road.outbox.len()));
        if parcels >= self.bounds.parcels { 0 } else { self.bounds.bytes.saturating_sub(bytes) }
    }

    /// Where a submission goes, or what is answered at once.
    fn judge(&mut self, body: &[u8], now_ms: u64) -> Result<Way, Answer> {
        if body.len() > limits::SUBMISSION_BYTES {
            return Err(whole(Reason::TooLarge));
        }
        let Head { site, policy_version, policy_hash, check } = Head::of(body).map_err(|_| whole(Reason::Malformed))?;
        if self.versions(&site).next().is_none() {
            return Err(whole(Reason::UnknownSite));
        }
        let place = (site, policy_version);
        let Some(held) = self.held.get(&place).filter(|held| held.hash == policy_hash) else {
            return Err(whole(Reason::UnknownPolicy));
        };
        if held.policy.expires_day <= now_ms / DAY_MS {
            return Err(whole(Reason::Expired));
        }
        if check {
            // Whoever sets a site up wants an answer now, and there is nothing of anybody's in it.
            return Err(checked(&mut self.counter, &held.layout, body, now_ms));
        }
        Ok(Way { home: held.home.clone(), site: place.0 })
    }

    /// What to post to a home edge next: parcels of one site, as many as go together. What has waited too long is
    /// thrown away, and counted.
    ///
    /// # Errors
    /// When the store failed.
    pub fn next(&mut self, home: &str, now_ms: u64) -> Result<Option<Load>, EdgeError> {
        let expired = self.expired(now_ms);
        let Some(road) = self.roads.get_mut(home) else { return Ok(None) };
        loop {
            let Some(first) = road.outbox.next(now_ms).cloned() else { return Ok(None) };
            if first.epoch < expired {
                self.store.remove(home, std::slice::from_ref(&first))?;
                road.after(&first, Delivered::Yes, now_ms, 0);
                self.tally.lost += 1;
                continue;
            }
            let most = if road.alone { 0 } else { limits::LOAD_BYTES };
            let names = road.outbox.together(&first, most);
            let mut bytes = Vec::new();
            for name in &names {
                load(&self.store.bytes(home, name)?, &mut bytes);
            }
            return Ok(Some(Load { names, bytes }));
        }
    }

    /// What was taken before this has waited too long.
    fn expired(&mut self, now_ms: u64) -> u64 {
        let since_ms = *self.since_ms.get_or_insert(now_ms);
        if now_ms < since_ms.saturating_add(PATIENCE_MS) { 0 } else { now_ms.saturating_sub(LIFE_MS) }
    }

    /// Home edges that parcels wait for and that are not known here, and how many parcels.
    pub fn stranded(&self) -> impl Iterator<Item = (&str, usize)> {
        let unknown = self.roads.iter().filter(|(home, road)| !self.homes.contains_key(*home) && road.outbox.len() > 0);
        unknown.map(|(home, road)| (home.as_str(), road.outbox.len()))
    }

    /// Throws away, and counts, what has waited too long for home edges that are not known here: nobody asks for it.
    ///
    /// # Errors
    /// When the store failed.
    pub fn expire(&mut self, now_ms: u64) -> Result<(), EdgeError> {
        let expired = self.expired(now_ms);
        let stranded: Vec<String> = self.stranded().map(|(home, _)| home.to_owned()).collect();
        for home in stranded {
            let Some(road) = self.roads.get_mut(&home) else { continue };
            while let Some(first) = road.outbox.next(now_ms).cloned() {
                if first.epoch >= expired {
                    break;
                }
                self.store.remove(&home, std::slice::from_ref(&first))?;
                road.after(&first, Delivered::Yes, now_ms, 0);
                self.tally.lost += 1;
            }
        }
        Ok(())
    }

    /// How posting a load ended.
    ///
    /// # Errors
    /// When the store failed; the load is then posted again, which the home edge ignores.
    pub fn after(
        &mut self,
        home: &str,
        names: &[Waiting],
        outcome: Delivered,
        now_ms: u64,
        random: u64,
    ) -> Result<(), EdgeError> {
        let Some(road) = self.roads.get_mut(home) else { return Ok(()) };
        match outcome {
            Delivered::Yes => {
                self.store.remove(home, names)?;
                road.alone = false;
                names.iter().for_each(|name| road.after(name, Delivered::Yes, now_ms, random));
            }
            Delivered::Refused | Delivered::Conflict if names.len() > 1 => road.alone = true,
            _ => names.iter().take(1).for_each(|name| road.after(name, outcome, now_ms, random)),
        }
        Ok(())
    }
}

impl Road {
    fn push(&mut self, parcel: Waiting) {
        self.bytes += parcel.bytes;
        self.outbox.push(parcel);
    }

    fn after(&mut self, parcel: &Waiting, outcome: Delivered, now_ms: u64, random: u64) {
        let before = self.outbox.len();
        self.outbox.after(parcel, outcome, now_ms, random);
        if self.outbox.len() < before {
            self.bytes = self.bytes.saturating_sub(parcel.bytes);
        }
    }
}

fn whole(reason: Reason) -> Answer {
    Answer { whole: reason, each: Vec::new() }
}

/// What a check is answered: as the home edge would answer it.
fn checked(counter: &mut Counter, layout: &Layout, body: &[u8], now_ms: u64) -> Answer {
    let Ok(submission) = cbor::from_plain::<Submission>(body) else { return whole(Reason::Malformed) };
    counter.begin(layout, now_ms);
    let mut last = 0;
    let judge = |one: &gloaming_signal::Contribution| {
        let row = Row { window: one.window, metric: one.metric, cell: one.cell, value: one.value, check: true };
        counter.judge(layout, &row, &mut last)
    };
    Answer { whole: Reason::Accepted, each: submission.contributions.iter().map(judge).collect() }
}

/// Submissions by the parcel.
fn in_parcels(relayed: Vec<Relayed>) -> Vec<Vec<Relayed>> {
    let (mut parcels, mut bytes) = (vec![Vec::new()], 0);
    for one in relayed {
        if let Some(last) = parcels.last_mut()
            && (last.is_empty() || bytes + one.body.len() <= PARCEL_BYTES && last.len() < limits::PARCEL)
        {
            bytes += one.body.len();
            last.push(one);
            continue;
        }
        bytes = one.body.len();
        parcels.push(vec![one]);
    }
    parcels
}

/// At the home edge: what a relay has posted, opened with one of this edge's keys. A parcel that cannot be read says so.
#[must_use]
pub fn open_load(keys: &[Key], bytes: &[u8]) -> Option<Vec<Parcel>> {
    let parcels = unload(bytes)?;
    parcels.into_iter().map(|sealed| cbor::from_slice(&seal::open(keys, sealed)?).ok()).collect()
}
