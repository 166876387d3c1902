//! What comes in: bodies are routed, duplicates found, the rest folded by the guest, stored, answered.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ops::Bound;

use gloaming_policy::Policy;
use gloaming_privacy::DAY_MS;
use gloaming_signal::cbor::{self, Bytes};
use gloaming_signal::{CellKey, FoldItem, Reason, Submission, hash, limits};

use crate::edge::{Edge, Open};
use crate::error::EdgeError;
use crate::guest::{Guest, check_verdict, fold_all};
use crate::ids::Ids;
use crate::share::{Counts, Posted, Shares};
use crate::storage::{Chunk, Cursor, Storage, WindowName};
use crate::vault::{Entropy, WindowKey};

/// What became of one posted body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// [`Reason::Accepted`] when it could be read.
    pub whole: Reason,
    /// One reason a contribution.
    pub each: Vec<Reason>,
}

/// What is known of a submission's contributions before the guest sees it: a bit for each.
#[derive(Default)]
pub(crate) struct Marks {
    /// Counted before.
    known: u64,
    /// In this round already.
    here: u64,
    /// For a window that nobody will release.
    never: u64,
    /// For a window, a site or an edge that holds as much as it may.
    full: u64,
    /// From a network that has had its share.
    crowded: u64,
}

impl Marks {
    pub(crate) fn skip(&self) -> u64 {
        self.known | self.here | self.never | self.full | self.crowded
    }
}

/// Hashes of bodies that the guest failed on: it is not asked twice, whoever sends them again.
#[derive(Default)]
pub(crate) struct Quarantine {
    hashes: VecDeque<[u8; 32]>,
    /// Those that nobody has been told of.
    fresh: Vec<[u8; 32]>,
}

impl Quarantine {
    /// Bodies remembered; the oldest goes first.
    const MOST: usize = 256;

    fn holds(&self, body: &[u8]) -> bool {
        !self.hashes.is_empty() && self.hashes.contains(&hash::sha256(body))
    }

    fn add(&mut self, body: &[u8]) {
        let hash = hash::sha256(body);
        self.hashes.push_back(hash);
        if self.hashes.len() > Self::MOST {
            self.hashes.pop_front();
        }
        if self.fresh.len() < Self::MOST {
            self.fresh.push(hash);
        }
    }
}

/// A window that a group of submissions may add to: looked up once and not for each contribution. Windows that have
/// not begun or will never be released get none, so that a sender who names many of them fills nothing.
struct Slot<'e> {
    name: WindowName,
    open: Option<&'e Open>,
    /// Ids that this group has promised to it.
    coming: HashSet<[u8; 16]>,
    counts: Counts,
}

/// What a round has promised so far.
struct Room<'e> {
    left: usize,
    slots: Vec<Slot<'e>>,
}

impl Room<'_> {
    fn place(&self, span_ms: u64, window: u64) -> Option<usize> {
        self.slots.iter().position(|slot| slot.name.window == window && slot.name.span_ms == span_ms)
    }
}

/// A submission that the guest judges.
pub(crate) struct Judged {
    index: usize,
    pub(crate) submission: Submission,
    pub(crate) marks: Marks,
}

/// What a round adds to each window: ids seen first, and cells.
type Fresh = BTreeMap<WindowName, (Vec<[u8; 16]>, BTreeMap<CellKey, u64>)>;

/// Everything posted together, on its way to being answered.
struct Round<'b> {
    posted: &'b [Posted<'b>],
    now_ms: u64,
    fresh: Fresh,
    shares: Shares,
    answers: Vec<Option<Answer>>,
}

impl<S: Storage> Edge<S> {
    /// SHA-256 of bodies that were quarantined since this was last asked, for the log: whoever has the same
    /// bytes can find them by it, and nobody else learns anything.
    pub fn quarantined(&mut self) -> Vec<[u8; 32]> {
        std::mem::take(&mut self.quarantine.fresh)
    }

    /// Judges bodies, makes what counts durable, and only then answers, in order.
    ///
    /// # Errors
    /// When the store failed: nothing may be acknowledged, the senders must be told to come again, and the
    /// edge must be opened anew from its store.
    pub fn ingest(
        &mut self,
        now_ms: u64,
        posted: &[Posted<'_>],
        guest: &mut dyn Guest,
        entropy: Entropy<'_>,
    ) -> Result<Vec<Answer>, EdgeError> {
        let now_ms = self.time(now_ms);
        let (fresh, shares) = (Fresh::new(), std::mem::take(&mut self.shares));
        let mut round = Round { posted, now_ms, fresh, shares, answers: Vec::with_capacity(posted.len()) };
        let mut groups: BTreeMap<(String, u32), Vec<(usize, Submission)>> = BTreeMap::new();
        for (index, Posted { body, .. }) in posted.iter().enumerate() {
            match self.route(body, now_ms) {
                Ok((place, submission)) => {
                    groups.entry(place).or_default().push((index, submission));
                    round.answers.push(None);
                }
                Err(whole) => round.answers.push(Some(Answer { whole, each: Vec::new() })),
            }
        }
        for (place, members) in groups {
            self.fold_group(&place, members, guest, &mut round);
        }
        self.shares = round.shares;
        self.commit(round.fresh, entropy)?;
        let answers: Vec<Answer> = round
            .answers
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

    fn route(&self, body: &[u8], now_ms: u64) -> Result<((String, u32), Submission), Reason> {
        if body.len() > limits::SUBMISSION_BYTES {
            return Err(Reason::TooLarge);
        }
        if self.quarantine.holds(body) {
            return Err(Reason::Fault);
        }
        // Whether it is in the one encoding the guest says: it reads it anew.
        let submission: Submission = cbor::from_either_encoding(body).map_err(|_| Reason::Malformed)?;
        if self.newest(&submission.site).is_none() {
            return Err(Reason::UnknownSite);
        }
        let place = (submission.site.clone(), submission.policy_version);
        match self.policies.get(&place) {
            Some(in_force) if in_force.hash != submission.policy_hash => Err(Reason::UnknownPolicy),
            Some(in_force) if in_force.policy.expires_day <= now_ms / DAY_MS => Err(Reason::Expired),
            Some(_) if self.takes(&submission.site, submission.policy_version) => Ok((place, submission)),
            _ => Err(Reason::UnknownPolicy),
        }
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

    fn fold_group(
        &mut self,
        place: &(String, u32),
        members: Vec<(usize, Submission)>,
        guest: &mut dyn Guest,
        round: &mut Round<'_>,
    ) {
        let Round { posted, now_ms, fresh, shares, answers } = round;
        let Some(in_force) = self.policies.get(place) else { return };
        let policy = &in_force.policy;
        let mut room = self.room(&place.0, fresh);
        let mut judged = Vec::with_capacity(members.len());
        for (index, submission) in members {
            let marks = self.mark(policy, &submission, posted[index].network, *now_ms, &mut room, shares);
            judged.push(Judged { index, submission, marks });
        }
        let slots: Vec<(WindowName, Counts)> = room.slots.drain(..).map(|slot| (slot.name, slot.counts)).collect();
        let items = judged
            .iter()
            .map(|one| FoldItem { submission: Bytes(posted[one.index].body.to_vec()), skip: one.marks.skip() })
            .collect();
        let (hash, mut failures) = (in_force.hash, 0);
        let folded = fold_all(guest, &hash, *now_ms, items, &mut failures);
        let slot_of = |metric: u32, window: u64| {
            let span_ms = policy.metric(metric)?.span_ms;
            slots.iter().position(|(name, _)| name.window == window && name.span_ms == span_ms)
        };
        let verdict = folded.and_then(|verdict| {
            check_verdict(policy, &judged, &verdict)?;
            // A window without a slot cannot be added to, whatever the guest says.
            let homeless = verdict.delta.iter().any(|(key, _)| slot_of(key.metric, key.window).is_none());
            if homeless { Err(EdgeError::Untrue("cells of a window that is not open")) } else { Ok(verdict) }
        });
        self.tally.guest_failures += failures;
        let Ok(verdict) = verdict else {
            // Not a word of it is believed; the other groups of this round are none the worse.
            self.tally.guest_untrue += 1;
            for one in judged {
                answers[one.index] = Some(Answer { whole: Reason::Fault, each: Vec::new() });
            }
            for (name, counts) in slots {
                shares.take_back(name, counts);
            }
            return;
        };
        let mut accepted: Vec<Vec<[u8; 16]>> = vec![Vec::new(); slots.len()];
        for (one, item) in judged.iter().zip(&verdict.items) {
            for (contribution, reason) in one.submission.contributions.iter().zip(&item.each) {
                if *reason == Reason::Accepted
                    && let Some(slot) = slot_of(contribution.metric, contribution.window)
                {
                    accepted[slot].push(contribution.id);
                }
            }
        }
        // In the order of ids, so that what is stored does not tell which of them came together.
        accepted.iter_mut().for_each(|ids| ids.sort_unstable());
        for (Judged { index, submission, marks }, item) in judged.iter().zip(verdict.items) {
            let counted = |bit: usize| {
                let contribution = &submission.contributions[bit];
                slot_of(contribution.metric, contribution.window)
                    .is_some_and(|slot| accepted[slot].binary_search(&contribution.id).is_ok())
            };
            // The guest knows one kind of skipping; why it was told to skip is known here.
            let why = |(bit, reason)| match reason {
                Reason::Duplicate if marks.never >> bit & 1 == 1 => Reason::ClosedWindow,
                Reason::Duplicate if marks.full >> bit & 1 == 1 => Reason::Busy,
                Reason::Duplicate if marks.crowded >> bit & 1 == 1 => Reason::Crowded,
                // The one before it in this round was not counted after all.
                Reason::Duplicate if marks.here >> bit & 1 == 1 && !counted(bit) => Reason::Busy,
                other => other,
            };
            let each: Vec<Reason> = item.each.into_iter().enumerate().map(why).collect();
            let busy = each.contains(&Reason::Busy) && !each.contains(&Reason::Accepted);
            if item.whole == Reason::Fault {
                self.quarantine.add(posted[*index].body);
            }
            answers[*index] = Some(match item.whole {
                Reason::Accepted if busy => Answer { whole: Reason::Busy, each: Vec::new() },
                whole => Answer { whole, each },
            });
        }
        let mut added: Vec<BTreeMap<CellKey, u64>> = vec![BTreeMap::new(); slots.len()];
        for (key, value) in verdict.delta {
            if let Some(slot) = slot_of(key.metric, key.window) {
                *added[slot].entry(key).or_default() += value;
            }
        }
        for ((name, counts), (ids, cells)) in slots.into_iter().zip(accepted.into_iter().zip(added)) {
            if !ids.is_empty() {
                fresh.insert(name.clone(), (ids, cells));
            }
            shares.take_back(name, counts);
        }
    }

    /// How many ids a site may still bring in this round.
    fn room(&self, site: &str, fresh: &Fresh) -> Room<'_> {
        let coming = |own: &dyn Fn(&WindowName) -> bool| -> usize {
            fresh.iter().filter(|(name, _)| own(name)).map(|(_, (ids, _))| ids.len()).sum()
        };
        let held = self.open.iter().filter(|(name, _)| name.site == site).map(|(_, open)| open.ids.len());
        let of_site = held.sum::<usize>() + coming(&|name| name.site == site);
        let of_all = self.ids + coming(&|_| true);
        let own = self.quotas.get(site).copied().unwrap_or(usize::MAX).min(self.bounds.site_ids);
        let left = own.saturating_sub(of_site).min(self.bounds.ids.saturating_sub(of_all));
        Room { left, slots: Vec::new() }
    }

    /// Which contributions of a submission are not to be counted, and why.
    fn mark<'e>(
        &'e self,
        policy: &Policy,
        submission: &Submission,
        network: Option<u64>,
        now_ms: u64,
        room: &mut Room<'e>,
        shares: &mut Shares,
    ) -> Marks {
        let mut marks = Marks::default();
        for (bit, contribution) in submission.contributions.iter().enumerate() {
            let Some(metric) = policy.metric(contribution.metric) else { continue };
            let span_ms = metric.span_ms;
            // What is beyond its bounds or has not begun is the guest's to refuse; it takes no room and no share.
            if contribution.window > now_ms / span_ms || metric.admits(contribution.cell, contribution.value).is_err() {
                continue;
            }
            let place = match room.place(span_ms, contribution.window) {
                Some(place) => place,
                None => {
                    let (site, version) = (policy.site.clone(), policy.version);
                    let name = WindowName { site, version, span_ms, window: contribution.window };
                    if !self.releasable(&name) {
                        marks.never |= 1 << bit;
                        continue;
                    }
                    let (open, counts) = (self.open.get(&name), shares.lend(&name));
                    room.slots.push(Slot { name, open, coming: HashSet::new(), counts });
                    room.slots.len() - 1
                }
            };
            let Slot { open, coming, counts, .. } = &mut room.slots[place];
            let id = contribution.id;
            if open.is_some_and(|open| open.ids.contains(&id)) {
                marks.known |= 1 << bit;
            } else if !submission.check {
                if coming.contains(&id) {
                    marks.here |= 1 << bit;
                } else if room.left == 0
                    || open.map_or(0, |open| open.ids.len()) + coming.len() >= self.bounds.window_ids
                {
                    marks.full |= 1 << bit;
                } else if !counts.take(contribution.metric, network, &self.bounds) {
                    marks.crowded |= 1 << bit;
                } else {
                    room.left -= 1;
                    coming.insert(id);
                }
            }
        }
        marks
    }

    /// One durable append for everything in this round, then the same into memory.
    fn commit(&mut self, fresh: Fresh, entropy: Entropy<'_>) -> Result<(), EdgeError> {
        if fresh.is_empty() {
            return Ok(());
        }
        let (mut chunks, mut merges) = (Vec::new(), Vec::new());
        for (name, (ids, cells)) in fresh {
            let content: (Vec<[u8; 16]>, Vec<(CellKey, u64)>) = (ids, cells.into_iter().collect());
            let (plain, (ids, cells)) = (cbor::to_vec(&content), content);
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
            let fresh = || Open { key, next_chunk: 0, ids: Ids::default(), cells: HashMap::new() };
            let open = self.open.entry(name).or_insert_with(fresh);
            open.next_chunk += 1;
            self.ids += open.merge(&ids, &cells);
        }
        Ok(())
    }
}

impl Open {
    /// Returns how many ids are new.
    pub(crate) fn merge(&mut self, ids: &[[u8; 16]], cells: &[(CellKey, u64)]) -> usize {
        for (key, value) in cells {
            let cell = self.cells.entry((key.metric, key.cell)).or_default();
            *cell = cell.saturating_add(*value);
        }
        self.ids.extend(ids)
    }
}
