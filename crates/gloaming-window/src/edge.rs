//! The edge's state and what comes in.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ops::Bound;

use gloaming_policy::Policy;
use gloaming_policy::author::{Key, PublicKey, SignError, Signed};
use gloaming_privacy::{DAY_MS, EdgeLedger};
use gloaming_signal::cbor::{self, Bytes};
use gloaming_signal::{CellKey, Contribution, FoldItem, Reason, Submission, limits};

use crate::delivery::Backoff;
use crate::guest::{Guest, GuestError, check_delta, fold_all};
use crate::release::closes_at;
use crate::storage::{Chunk, Cursor, OutboxRow, PolicyRow, Snapshot, Storage, StorageError, WindowName};
use crate::vault::{Entropy, WindowKey, WrappingKey};

/// What an edge keeps in memory at most.
pub mod bounds {
    /// Contribution ids remembered for one window; at 16 bytes each and a table's overhead 40 MB.
    pub const IDS: usize = 1_000_000;
    /// Sites of one edge.
    pub const SITES: usize = 512;
    /// Undelivered batches kept for one site; then releases wait.
    pub const OUTBOX: usize = 100_000;
    /// Windows released one after another when an edge was away. Older ones are skipped.
    pub const CATCH_UP: u64 = 400;
}

/// Why an edge cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    /// The store failed; nothing was acknowledged.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The guest failed where no contribution can be to blame.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// What the guest returned is not what it may return.
    #[error("the edge component returned {0}")]
    Untrue(&'static str),
    /// The store holds a policy or window that cannot be read.
    #[error("the store holds {0}; was the wrapping key or the pinned key changed?")]
    Unreadable(String),
    /// A memory bound.
    #[error("full: {0}")]
    Full(&'static str),
}

/// Why a policy was not put in force.
#[derive(Debug, thiserror::Error)]
pub enum LoadPolicyError {
    /// The bundle itself.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// A version below the one in force.
    #[error("version {given} is older than version {in_force}, which is in force: versions only grow")]
    RolledBack {
        /// Of the given policy.
        given: u32,
        /// In force.
        in_force: u32,
    },
    /// The version in force with other bytes.
    #[error("ALARM: another policy bears version {0} already; raise the version, and find out who signed twice")]
    SameVersion(u32),
    /// For another edge.
    #[error("the policy's home edges are {0}; this edge is not among them")]
    NotHome(String),
    /// A bound, the store or the guest.
    #[error(transparent)]
    Edge(#[from] EdgeError),
}

/// What became of one posted body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// [`Reason::Accepted`] when it could be read.
    pub whole: Reason,
    /// One reason a contribution.
    pub each: Vec<Reason>,
}

/// Counts by reason since start, for metrics. No site, no metric: those are the owner's business.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Contributions (or whole bodies that could not be read) by reason.
    pub reasons: BTreeMap<Reason, u64>,
    /// Windows released.
    pub windows: u64,
    /// Windows skipped because the edge had been away too long.
    pub skipped_windows: u64,
    /// Guest calls that failed.
    pub guest_failures: u64,
}

/// An open window in memory.
pub(crate) struct Open {
    pub(crate) key: WindowKey,
    pub(crate) next_chunk: u64,
    pub(crate) ids: HashSet<[u8; 16]>,
    pub(crate) cells: HashMap<(u32, u32), u64>,
}

pub(crate) struct InForce {
    pub(crate) policy: Policy,
    pub(crate) hash: [u8; 32],
    pub(crate) signed: Signed,
    pub(crate) since_ms: u64,
}

/// See the crate's page.
pub struct Edge<S> {
    pub(crate) storage: S,
    pub(crate) name: String,
    pub(crate) key: Key,
    pub(crate) wrapping: WrappingKey,
    pub(crate) epoch: u64,
    pub(crate) policies: BTreeMap<(String, u32), InForce>,
    pub(crate) open: HashMap<WindowName, Open>,
    pub(crate) cursors: BTreeMap<Cursor, u64>,
    pub(crate) ledgers: BTreeMap<String, EdgeLedger>,
    pub(crate) outbox: VecDeque<OutboxRow>,
    pub(crate) next_seq: BTreeMap<String, u64>,
    pub(crate) backoff: Backoff,
    pub(crate) tally: Tally,
    floor_ms: u64,
}

/// What a round adds to each window: ids seen first, and cells.
type Fresh = BTreeMap<WindowName, (Vec<[u8; 16]>, BTreeMap<CellKey, u64>)>;

impl<S: Storage> Edge<S> {
    /// Takes up where the store left off. `pins` are the keys that sites' policies must be signed with.
    ///
    /// # Errors
    /// When the store fails or holds what cannot be read with these keys.
    pub fn open(
        mut storage: S,
        name: &str,
        key: Key,
        wrapping: WrappingKey,
        pins: &BTreeMap<String, PublicKey>,
        guest: &mut dyn Guest,
        entropy: Entropy<'_>,
    ) -> Result<Self, EdgeError> {
        let mut epoch = [0; 8];
        entropy(&mut epoch);
        // One bit short, so that every database's signed integer holds it.
        let snapshot = storage.load(u64::from_le_bytes(epoch) >> 1)?;
        let mut edge = Self {
            storage,
            name: name.to_owned(),
            key,
            wrapping,
            epoch: snapshot.epoch,
            policies: BTreeMap::new(),
            open: HashMap::new(),
            cursors: snapshot.cursors.clone(),
            ledgers: snapshot.ledgers.clone(),
            outbox: snapshot.outbox.iter().cloned().collect(),
            next_seq: snapshot.next_seq.clone(),
            backoff: Backoff::default(),
            tally: Tally::default(),
            floor_ms: 0,
        };
        edge.take_up(snapshot, pins, guest)?;
        edge.floor_ms = edge.released_until();
        Ok(edge)
    }

    fn take_up(
        &mut self,
        snapshot: Snapshot,
        pins: &BTreeMap<String, PublicKey>,
        guest: &mut dyn Guest,
    ) -> Result<(), EdgeError> {
        for ((site, version), row) in snapshot.policies {
            let unreadable = || EdgeError::Unreadable(format!("a policy of {site}"));
            let pin = pins.get(&site).ok_or_else(unreadable)?;
            // A policy that expired while in force still closes its windows, hence day 0.
            let (signed, policy) = Signed::verify(&row.signed, pin, 0).map_err(|_| unreadable())?;
            let hash = guest.configure(signed.policy_bytes())?;
            self.policies.insert((site.clone(), version), InForce { policy, hash, signed, since_ms: row.since_ms });
        }
        for (name, wrapped) in &snapshot.keys {
            let key = WindowKey::unwrap(wrapped, &self.wrapping, name)
                .ok_or_else(|| EdgeError::Unreadable(format!("a window key of {}", name.site)))?;
            let open = Open { key, next_chunk: 0, ids: HashSet::new(), cells: HashMap::new() };
            self.open.insert(name.clone(), open);
        }
        for chunk in snapshot.chunks {
            let unreadable = || EdgeError::Unreadable(format!("a chunk of {}", chunk.name.site));
            let open = self.open.get_mut(&chunk.name).ok_or_else(unreadable)?;
            let plain = open.key.open(&chunk.sealed, &chunk.name, chunk.number).ok_or_else(unreadable)?;
            let (ids, cells): (Vec<[u8; 16]>, Vec<(CellKey, u64)>) =
                cbor::from_slice(&plain).map_err(|_| unreadable())?;
            open.next_chunk = chunk.number + 1;
            open.merge(&ids, &cells);
        }
        Ok(())
    }

    /// Edge time never goes back, not even over a restart: a released window must stay closed whatever
    /// the clock does. All entry points pass their time through here.
    pub(crate) fn time(&mut self, now_ms: u64) -> u64 {
        self.floor_ms = self.floor_ms.max(now_ms);
        self.floor_ms
    }

    fn released_until(&self) -> u64 {
        let released = self.cursors.iter().filter(|(cursor, next)| {
            let since = self.policies.get(&(cursor.site.clone(), cursor.version)).map_or(0, |p| p.since_ms);
            **next > since / cursor.span_ms
        });
        released.map(|(cursor, next)| closes_at(cursor.span_ms, next - 1)).max().unwrap_or(0)
    }

    /// Puts a signed policy in force. The previous version keeps taking contributions until its windows
    /// close; an older one is gone. Giving the policy in force again changes nothing.
    ///
    /// # Errors
    /// When it is not signed by `pin`, expired, rolled back, for other edges, or does not fit.
    pub fn load_policy(
        &mut self,
        bytes: &[u8],
        pin: &PublicKey,
        now_ms: u64,
        guest: &mut dyn Guest,
    ) -> Result<(), LoadPolicyError> {
        let now_ms = self.time(now_ms);
        let (signed, policy) = Signed::verify(bytes, pin, now_ms / DAY_MS)?;
        if !policy.home_edges.contains(&self.name) {
            return Err(LoadPolicyError::NotHome(policy.home_edges.join(", ")));
        }
        let (site, version, hash) = (policy.site.clone(), policy.version, policy.hash());
        let in_force = self.newest(&site).map(|p| (p.policy.version, p.hash));
        match in_force {
            Some((newest, same)) if newest == version => {
                return if same == hash { Ok(()) } else { Err(LoadPolicyError::SameVersion(version)) };
            }
            Some((newest, _)) if newest > version => {
                return Err(LoadPolicyError::RolledBack { given: version, in_force: newest });
            }
            None if self.sites().count() >= bounds::SITES => return Err(EdgeError::Full("sites").into()),
            _ => {}
        }
        if guest.configure(signed.policy_bytes()).map_err(EdgeError::from)? != hash {
            return Err(EdgeError::Untrue("another hash than the policy's").into());
        }
        let below = in_force.map_or(version, |(newest, _)| newest);
        let cursors: Vec<(Cursor, u64)> = policy
            .spans()
            .into_iter()
            .map(|span_ms| (Cursor { site: site.clone(), version, span_ms }, now_ms / span_ms))
            .collect();
        let row = PolicyRow { signed: bytes.to_vec(), since_ms: now_ms };
        self.storage.put_policy(&site, version, &row, &cursors, below).map_err(EdgeError::from)?;
        self.policies.retain(|(s, v), _| *s != site || *v >= below);
        self.cursors.retain(|cursor, _| cursor.site != site || cursor.version >= below);
        self.open.retain(|name, _| name.site != site || name.version >= below);
        self.cursors.extend(cursors);
        self.policies.insert((site, version), InForce { policy, hash, signed, since_ms: now_ms });
        Ok(())
    }

    /// The newest policy of a site.
    pub(crate) fn newest(&self, site: &str) -> Option<&InForce> {
        self.policies.range((site.to_owned(), 0)..=(site.to_owned(), u32::MAX)).next_back().map(|(_, p)| p)
    }

    /// Sites with a policy in force.
    pub fn sites(&self) -> impl Iterator<Item = &str> {
        let mut last = None;
        self.policies.keys().map(|(site, _)| site.as_str()).filter(move |site| last.replace(*site) != Some(*site))
    }

    /// The newest policy of a site, its hash, and the bundle it came in.
    #[must_use]
    pub fn policy(&self, site: &str) -> Option<(&Policy, &[u8; 32], &Signed)> {
        self.newest(site).map(|p| (&p.policy, &p.hash, &p.signed))
    }

    /// The storage, for what watches it.
    pub fn storage_mut(&mut self) -> &mut S {
        &mut self.storage
    }

    /// Stops, leaving the storage.
    #[must_use]
    pub fn into_storage(self) -> S {
        self.storage
    }

    /// Counts since start.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Batches not yet acknowledged by the centre.
    #[must_use]
    pub fn undelivered(&self) -> usize {
        self.outbox.len()
    }

    /// Judges bodies, makes what counts durable, and only then answers, in order.
    ///
    /// # Errors
    /// When the store failed (nothing was counted; the senders must be told to come again) or the guest
    /// returned what it may not.
    pub fn ingest(
        &mut self,
        now_ms: u64,
        bodies: &[&[u8]],
        guest: &mut dyn Guest,
        entropy: Entropy<'_>,
    ) -> Result<Vec<Answer>, EdgeError> {
        let now_ms = self.time(now_ms);
        let mut answers: Vec<Option<Answer>> = Vec::with_capacity(bodies.len());
        let mut groups: BTreeMap<(String, u32), Vec<(usize, Submission)>> = BTreeMap::new();
        for (index, body) in bodies.iter().enumerate() {
            match self.route(body) {
                Ok((place, submission)) => {
                    groups.entry(place).or_default().push((index, submission));
                    answers.push(None);
                }
                Err(whole) => answers.push(Some(Answer { whole, each: Vec::new() })),
            }
        }
        let mut fresh = Fresh::new();
        for (place, members) in groups {
            self.fold_group(&place, &members, bodies, now_ms, guest, &mut fresh, &mut answers)?;
        }
        self.commit(fresh, entropy)?;
        let answers: Vec<Answer> = answers
            .into_iter()
            .map(|answer| answer.unwrap_or(Answer { whole: Reason::Fault, each: Vec::new() }))
            .collect();
        for answer in &answers {
            let alone = [answer.whole];
            let reasons = if answer.whole == Reason::Accepted { &answer.each[..] } else { &alone[..] };
            for reason in reasons {
                *self.tally.reasons.entry(*reason).or_default() += 1;
            }
        }
        Ok(answers)
    }

    fn route(&self, body: &[u8]) -> Result<((String, u32), Submission), Reason> {
        if body.len() > limits::SUBMISSION_BYTES {
            return Err(Reason::TooLarge);
        }
        let submission: Submission = cbor::from_slice(body).map_err(|_| Reason::Malformed)?;
        if self.newest(&submission.site).is_none() {
            return Err(Reason::UnknownSite);
        }
        let place = (submission.site.clone(), submission.policy_version);
        match self.policies.get(&place) {
            Some(in_force) if in_force.hash == submission.policy_hash => Ok((place, submission)),
            _ => Err(Reason::UnknownPolicy),
        }
    }

    fn window_of(policy: &Policy, contribution: &Contribution) -> Option<WindowName> {
        let metric = policy.metric(contribution.metric)?;
        let (site, version) = (policy.site.clone(), policy.version);
        Some(WindowName { site, version, span_ms: metric.span_ms, window: contribution.window })
    }

    /// The last window of a version: the one in which its successor came into force; without end while it
    /// has none.
    pub(crate) fn last_window(&self, cursor: &Cursor) -> u64 {
        let (this, end) = ((cursor.site.clone(), cursor.version), (cursor.site.clone(), u32::MAX));
        let successor = self.policies.range((Bound::Excluded(this), Bound::Included(end))).next();
        successor.map_or(u64::MAX, |(_, newer)| newer.since_ms / cursor.span_ms)
    }

    /// Whether this window will be released: not before the first one that its policy opened, not released
    /// yet, and not after its version's last. What is taken for any other window would be acknowledged and
    /// lie there for ever.
    fn releasable(&self, name: &WindowName) -> bool {
        let cursor = Cursor { site: name.site.clone(), version: name.version, span_ms: name.span_ms };
        self.cursors.get(&cursor).is_some_and(|next| (*next..=self.last_window(&cursor)).contains(&name.window))
    }

    #[allow(clippy::too_many_arguments)]
    fn fold_group(
        &mut self,
        place: &(String, u32),
        members: &[(usize, Submission)],
        bodies: &[&[u8]],
        now_ms: u64,
        guest: &mut dyn Guest,
        fresh: &mut Fresh,
        answers: &mut [Option<Answer>],
    ) -> Result<(), EdgeError> {
        let Some(in_force) = self.policies.get(place) else { return Ok(()) };
        let policy = &in_force.policy;
        let mut here: HashSet<(WindowName, [u8; 16])> = HashSet::new();
        let mut never: HashSet<(usize, usize)> = HashSet::new();
        let mut items = Vec::with_capacity(members.len());
        for (index, submission) in members {
            let mut skip = 0u64;
            for (bit, contribution) in submission.contributions.iter().enumerate() {
                let Some(name) = Self::window_of(policy, contribution) else { continue };
                let open = self.open.get(&name);
                if open.is_some_and(|open| open.ids.len() >= bounds::IDS) {
                    return Err(EdgeError::Full("contributions of one window"));
                }
                let known = open.is_some_and(|open| open.ids.contains(&contribution.id));
                if !self.releasable(&name) {
                    never.insert((*index, bit));
                    skip |= 1 << bit;
                } else if known || (!submission.check && !here.insert((name, contribution.id))) {
                    skip |= 1 << bit;
                }
            }
            items.push(FoldItem { submission: Bytes(bodies[*index].to_vec()), skip });
        }
        let (hash, mut failures) = (in_force.hash, 0);
        let verdict = fold_all(guest, &hash, now_ms, items, &mut failures);
        self.tally.guest_failures += failures;
        let verdict = verdict?;
        check_delta(policy, members, &verdict)?;
        for ((index, submission), item) in members.iter().zip(verdict.items) {
            for (contribution, reason) in submission.contributions.iter().zip(&item.each) {
                if *reason == Reason::Accepted
                    && let Some(name) = Self::window_of(policy, contribution)
                {
                    fresh.entry(name).or_default().0.push(contribution.id);
                }
            }
            let closed = |bit, reason| {
                if reason == Reason::Duplicate && never.contains(&(*index, bit)) {
                    Reason::ClosedWindow
                } else {
                    reason
                }
            };
            let each = item.each.into_iter().enumerate().map(|(bit, reason)| closed(bit, reason)).collect();
            answers[*index] = Some(Answer { whole: item.whole, each });
        }
        for (key, value) in verdict.delta {
            let Some(metric) = policy.metric(key.metric) else { continue };
            let name =
                WindowName { site: place.0.clone(), version: place.1, span_ms: metric.span_ms, window: key.window };
            *fresh.entry(name).or_default().1.entry(key).or_default() += value;
        }
        Ok(())
    }

    /// One durable append for everything in this round, then the same into memory.
    fn commit(&mut self, fresh: Fresh, entropy: Entropy<'_>) -> Result<(), EdgeError> {
        if fresh.is_empty() {
            return Ok(());
        }
        let (mut chunks, mut merges) = (Vec::new(), Vec::new());
        for (name, (ids, cells)) in fresh {
            let cells: Vec<(CellKey, u64)> = cells.into_iter().collect();
            let plain = cbor::to_vec(&(ids.clone(), cells.clone()));
            let (key, number, wrapped) = match self.open.get(&name) {
                Some(open) => (open.key.clone(), open.next_chunk, None),
                None => {
                    let key = WindowKey::draw(entropy);
                    let wrapped = key.wrap(&self.wrapping, &name, entropy);
                    (key, 0, Some(wrapped))
                }
            };
            let sealed = key.seal(&plain, &name, number, entropy);
            chunks.push(Chunk { name: name.clone(), number, key: wrapped, sealed });
            merges.push((name, key, ids, cells));
        }
        self.storage.append(&chunks)?;
        for (name, key, ids, cells) in merges {
            let fresh = || Open { key, next_chunk: 0, ids: HashSet::new(), cells: HashMap::new() };
            let open = self.open.entry(name).or_insert_with(fresh);
            open.next_chunk += 1;
            open.merge(&ids, &cells);
        }
        Ok(())
    }
}

impl Open {
    fn merge(&mut self, ids: &[[u8; 16]], cells: &[(CellKey, u64)]) {
        self.ids.extend(ids);
        for (key, value) in cells {
            let cell = self.cells.entry((key.metric, key.cell)).or_default();
            *cell = cell.saturating_add(*value);
        }
    }
}
