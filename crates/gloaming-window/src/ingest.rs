//! What comes in: bodies are routed, duplicates found, the rest folded by the guest, stored, answered.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::ops::Bound;

use gloaming_policy::Policy;
use gloaming_privacy::DAY_MS;
use gloaming_signal::cbor::{self, Bytes};
use gloaming_signal::{CellKey, Contribution, FoldItem, Reason, Submission, hash, limits};

use crate::edge::{Edge, Open};
use crate::error::EdgeError;
use crate::guest::{Guest, check_verdict, fold_all};
use crate::share::{Posted, Shares};
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

/// What a round has promised so far.
struct Room {
    left: usize,
    coming: HashMap<WindowName, HashSet<[u8; 16]>>,
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
        let submission: Submission = cbor::from_slice(body).map_err(|_| Reason::Malformed)?;
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
            let marks = self.mark(policy, &submission, posted[index].network, &mut room, shares);
            judged.push(Judged { index, submission, marks });
        }
        let items = judged
            .iter()
            .map(|one| FoldItem { submission: Bytes(posted[one.index].body.to_vec()), skip: one.marks.skip() })
            .collect();
        let (hash, mut failures) = (in_force.hash, 0);
        let folded = fold_all(guest, &hash, *now_ms, items, &mut failures);
        let verdict = folded.and_then(|verdict| check_verdict(policy, &judged, &verdict).map(|()| verdict));
        self.tally.guest_failures += failures;
        let Ok(verdict) = verdict else {
            // Not a word of it is believed; the other groups of this round are none the worse.
            self.tally.guest_untrue += 1;
            for one in judged {
                answers[one.index] = Some(Answer { whole: Reason::Fault, each: Vec::new() });
            }
            return;
        };
        let accepted: BTreeSet<(WindowName, [u8; 16])> = judged
            .iter()
            .zip(&verdict.items)
            .flat_map(|(one, item)| one.submission.contributions.iter().zip(&item.each))
            .filter(|(_, reason)| **reason == Reason::Accepted)
            .filter_map(|(contribution, _)| Some((Self::window_of(policy, contribution)?, contribution.id)))
            .collect();
        for (Judged { index, submission, marks }, item) in judged.iter().zip(verdict.items) {
            let counted = |bit: usize| {
                let contribution = &submission.contributions[bit];
                Self::window_of(policy, contribution).is_some_and(|name| accepted.contains(&(name, contribution.id)))
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
        for (name, id) in accepted {
            fresh.entry(name).or_default().0.push(id);
        }
        for (key, value) in verdict.delta {
            let Some(metric) = policy.metric(key.metric) else { continue };
            let name =
                WindowName { site: place.0.clone(), version: place.1, span_ms: metric.span_ms, window: key.window };
            *fresh.entry(name).or_default().1.entry(key).or_default() += value;
        }
    }

    /// How many ids a site may still bring in this round.
    fn room(&self, site: &str, fresh: &Fresh) -> Room {
        let coming = |own: &dyn Fn(&WindowName) -> bool| -> usize {
            fresh.iter().filter(|(name, _)| own(name)).map(|(_, (ids, _))| ids.len()).sum()
        };
        let held = self.open.iter().filter(|(name, _)| name.site == site).map(|(_, open)| open.ids.len());
        let of_site = held.sum::<usize>() + coming(&|name| name.site == site);
        let of_all = self.ids + coming(&|_| true);
        let own = self.quotas.get(site).copied().unwrap_or(usize::MAX).min(self.bounds.site_ids);
        let left = own.saturating_sub(of_site).min(self.bounds.ids.saturating_sub(of_all));
        Room { left, coming: HashMap::new() }
    }

    /// Which contributions of a submission are not to be counted, and why.
    fn mark(
        &self,
        policy: &Policy,
        submission: &Submission,
        network: Option<u64>,
        room: &mut Room,
        shares: &mut Shares,
    ) -> Marks {
        let mut marks = Marks::default();
        for (bit, contribution) in submission.contributions.iter().enumerate() {
            let Some(name) = Self::window_of(policy, contribution) else { continue };
            let (id, open) = (contribution.id, self.open.get(&name));
            if !self.releasable(&name) {
                marks.never |= 1 << bit;
            } else if open.is_some_and(|open| open.ids.contains(&id)) {
                marks.known |= 1 << bit;
            } else if !submission.check {
                let may = |shares: &mut Shares| shares.take(&name, contribution.metric, network, &self.bounds);
                let coming = room.coming.entry(name.clone()).or_default();
                if coming.contains(&id) {
                    marks.here |= 1 << bit;
                } else if room.left == 0
                    || open.map_or(0, |open| open.ids.len()) + coming.len() >= self.bounds.window_ids
                {
                    marks.full |= 1 << bit;
                } else if !may(shares) {
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
            self.ids += open.merge(&ids, &cells);
        }
        Ok(())
    }
}

impl Open {
    /// Returns how many ids are new.
    pub(crate) fn merge(&mut self, ids: &[[u8; 16]], cells: &[(CellKey, u64)]) -> usize {
        let before = self.ids.len();
        self.ids.extend(ids);
        for (key, value) in cells {
            let cell = self.cells.entry((key.metric, key.cell)).or_default();
            *cell = cell.saturating_add(*value);
        }
        self.ids.len() - before
    }
}
