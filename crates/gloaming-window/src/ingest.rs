//! What comes in: bodies are routed, duplicates found, the rest folded by the guest, stored, answered.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;

use gloaming_policy::Policy;
use gloaming_privacy::DAY_MS;
use gloaming_signal::fold::add_up;
use gloaming_signal::{CellKey, Contribution, Reason, Row, Submission, Verdict, cbor, hash, limits};

use crate::edge::{Edge, Open};
use crate::error::EdgeError;
use crate::guest::{Guest, Rows};
use crate::ids::{IdSet, Ids};
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
    coming: IdSet,
    counts: Counts,
}

/// What a round has promised so far.
struct Room<'e> {
    left: usize,
    slots: Vec<Slot<'e>>,
}

impl<'e> Room<'e> {
    fn place(&self, span_ms: u64, window: u64) -> Option<usize> {
        self.slots.iter().position(|slot| slot.name.window == window && slot.name.span_ms == span_ms)
    }
}

/// A submission that the guest judges.
struct Judged {
    index: usize,
    submission: Submission,
    /// What is known of each contribution; [`Reason::Accepted`] when it is the guest's to say.
    each: Vec<Reason>,
    /// Those whose id came in this round already: a bit for each.
    here: u64,
}

/// What is known of a contribution before the guest is asked.
enum Mark {
    /// The guest has to refuse it.
    Guests,
    /// It counts in this slot if the guest has nothing against it.
    Counts { slot: usize, sum: bool },
    /// Its id came in this round already.
    Here,
    /// It does not count, for this reason.
    Not(Reason),
}

/// A contribution that the guest is asked about.
struct Asked {
    /// Its submission among those judged.
    judged: usize,
    place: usize,
    /// Where it counts; nowhere when the guest has to refuse it.
    slot: Option<usize>,
    /// Whether its metric is a sum.
    sum: bool,
}

/// What a round adds to each window: ids seen first, and cells.
type Fresh = BTreeMap<WindowName, (Vec<[u8; 16]>, Vec<(CellKey, u64)>)>;

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
        let mut submission: Submission = cbor::from_slice(body).map_err(|_| Reason::Malformed)?;
        if self.newest(&submission.site).is_none() {
            return Err(Reason::UnknownSite);
        }
        let place = (std::mem::take(&mut submission.site), submission.policy_version);
        match self.policies.get(&place) {
            Some(in_force) if in_force.hash != submission.policy_hash => Err(Reason::UnknownPolicy),
            Some(in_force) if in_force.policy.expires_day <= now_ms / DAY_MS => Err(Reason::Expired),
            Some(_) if self.takes(&place.0, place.1) => Ok((place, submission)),
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
        let (mut judged, mut asked, mut rows) = (Vec::with_capacity(members.len()), Vec::new(), Rows::default());
        for (index, submission) in members {
            let mut one = Judged { index, submission, each: Vec::new(), here: 0 };
            let from = (posted[index].network, *now_ms);
            for (place, contribution) in one.submission.contributions.iter().enumerate() {
                let mark = self.mark(policy, contribution, &one.submission, from, &mut room, shares);
                let (slot, sum, known) = match mark {
                    Mark::Guests => (None, false, Reason::Accepted),
                    Mark::Counts { slot, sum } => (Some(slot), sum, Reason::Accepted),
                    Mark::Here => {
                        one.here |= 1 << place;
                        (None, false, Reason::Duplicate)
                    }
                    Mark::Not(reason) => (None, false, reason),
                };
                one.each.push(known);
                if known == Reason::Accepted {
                    let Contribution { window, metric, cell, value, .. } = *contribution;
                    rows.push(&Row { window, metric, cell, value, check: one.submission.check });
                    asked.push(Asked { judged: judged.len(), place, slot, sum });
                }
            }
            rows.end();
            judged.push(one);
        }
        let mut slots: Vec<(WindowName, Counts, Vec<[u8; 16]>)> =
            room.slots.into_iter().map(|slot| (slot.name, slot.counts, Vec::new())).collect();
        let (hash, mut failures) = (in_force.hash, 0);
        let folded = rows.fold(guest, &hash, *now_ms, &mut failures);
        let folded = folded.and_then(|verdict| believe(&judged, &asked, verdict));
        self.tally.guest_failures += failures;
        let Ok(Verdict { each, sums }) = folded else {
            // Not a word of it is believed; the other groups of this round are none the worse.
            self.tally.guest_untrue += 1;
            for one in judged {
                answers[one.index] = Some(Answer { whole: Reason::Fault, each: Vec::new() });
            }
            for (name, counts, _) in slots {
                shares.take_back(name, counts);
            }
            return;
        };
        for (Asked { judged: one, place, slot, .. }, reason) in asked.iter().zip(each) {
            let one = &mut judged[*one];
            one.each[*place] = reason;
            if let (Reason::Accepted, Some(slot)) = (reason, slot) {
                slots[*slot].2.push(one.submission.contributions[*place].id);
            }
        }
        for (.., accepted) in &mut slots {
            // In the order of ids, so that what is stored does not tell which of them came together.
            accepted.sort_unstable_by_key(|id| u128::from_be_bytes(*id));
        }
        for Judged { index, submission, mut each, here } in judged {
            if each.contains(&Reason::Fault) {
                self.quarantine.add(posted[index].body);
                answers[index] = Some(Answer { whole: Reason::Fault, each: Vec::new() });
                continue;
            }
            for (place, contribution) in submission.contributions.iter().enumerate() {
                // The one before it in this round was not counted after all.
                if here >> place & 1 == 1 && !slots.iter().any(|(.., ids)| has(ids, &contribution.id)) {
                    each[place] = Reason::Busy;
                }
            }
            let busy = each.contains(&Reason::Busy) && !each.contains(&Reason::Accepted);
            answers[index] = Some(match busy {
                true => Answer { whole: Reason::Busy, each: Vec::new() },
                false => Answer { whole: Reason::Accepted, each },
            });
        }
        let span_of = |metric: u32| policy.metric(metric).map_or(0, |metric| metric.span_ms);
        for (name, counts, accepted) in slots {
            if !accepted.is_empty() {
                let own = |key: &CellKey| key.window == name.window && span_of(key.metric) == name.span_ms;
                let cells = sums.iter().filter(|(key, _)| own(key)).copied().collect();
                fresh.insert(name.clone(), (accepted, cells));
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

    /// What is known of a contribution before the guest is asked.
    fn mark<'e>(
        &'e self,
        policy: &Policy,
        contribution: &Contribution,
        submission: &Submission,
        (network, now_ms): (Option<u64>, u64),
        room: &mut Room<'e>,
        shares: &mut Shares,
    ) -> Mark {
        let Some(metric) = policy.metric(contribution.metric) else { return Mark::Guests };
        let span_ms = metric.span_ms;
        // What is beyond its bounds or has not begun is the guest's to refuse; it takes no room and no share.
        let begun = contribution.window.checked_mul(span_ms).is_some_and(|begins| begins <= now_ms);
        if !begun || metric.admits(contribution.cell, contribution.value).is_err() {
            return Mark::Guests;
        }
        let slot = match room.place(span_ms, contribution.window) {
            Some(slot) => slot,
            None => {
                let (site, version) = (policy.site.clone(), policy.version);
                let name = WindowName { site, version, span_ms, window: contribution.window };
                if !self.releasable(&name) {
                    return Mark::Not(Reason::ClosedWindow);
                }
                let (open, counts) = (self.open.get(&name), shares.lend(&name));
                room.slots.push(Slot { name, open, coming: IdSet::default(), counts });
                room.slots.len() - 1
            }
        };
        let counts_here = Mark::Counts { slot, sum: metric.sum_max().is_some() };
        let Slot { open, coming, counts, .. } = &mut room.slots[slot];
        let id = u128::from_le_bytes(contribution.id);
        if open.is_some_and(|open| open.ids.contains(id)) {
            return Mark::Not(Reason::Duplicate);
        }
        if submission.check {
            return counts_here;
        }
        if coming.contains(&id) {
            return Mark::Here;
        }
        if room.left == 0 || open.map_or(0, |open| open.ids.len()) + coming.len() >= self.bounds.window_ids {
            return Mark::Not(Reason::Busy);
        }
        if !counts.take(contribution.metric, network, &self.bounds) {
            return Mark::Not(Reason::Crowded);
        }
        room.left -= 1;
        coming.insert(id);
        counts_here
    }

    /// One durable append for everything in this round, then the same into memory.
    fn commit(&mut self, fresh: Fresh, entropy: Entropy<'_>) -> Result<(), EdgeError> {
        if fresh.is_empty() {
            return Ok(());
        }
        let (mut chunks, mut merges) = (Vec::new(), Vec::new());
        for (name, (ids, cells)) in fresh {
            let content = (ids, cells);
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
            let open = self.open.entry(name).or_insert_with(|| Open::new(key));
            open.next_chunk += 1;
            self.ids += open.merge(&ids, &cells);
        }
        Ok(())
    }
}

/// Whether an id is among these, which are in order.
fn has(ids: &[[u8; 16]], id: &[u8; 16]) -> bool {
    ids.binary_search_by_key(&u128::from_be_bytes(*id), |id| u128::from_be_bytes(*id)).is_ok()
}

/// A guest is not believed: what it accepts must be acceptable, and what it adds must be exactly that. Only what it
/// alone may say, why a contribution cannot count, is taken from it.
fn believe(judged: &[Judged], asked: &[Asked], mut verdict: Verdict) -> Result<Verdict, EdgeError> {
    let mut want = Vec::with_capacity(asked.len());
    for (Asked { judged: one, place, slot, sum }, reason) in asked.iter().zip(&verdict.each) {
        let submission = &judged[*one].submission;
        match reason {
            Reason::Accepted if slot.is_none() || submission.check => {
                return Err(EdgeError::Untrue("a contribution accepted that may not count"));
            }
            Reason::Accepted => {
                let Contribution { metric, window, cell, value, .. } = submission.contributions[*place];
                if *sum {
                    want.push((CellKey { metric, window, cell: 0 }, 1));
                }
                want.push((CellKey { metric, window, cell }, value.into()));
            }
            Reason::Checked if !submission.check => return Err(EdgeError::Untrue("a contribution taken for a check")),
            // Of its submission alone, which pays for it.
            Reason::Checked | Reason::Fault => {}
            Reason::UnknownMetric | Reason::UnknownCell | Reason::CapExceeded => {}
            Reason::ClosedWindow | Reason::FutureWindow => {}
            _ => return Err(EdgeError::Untrue("a reason that is not the component's to give")),
        }
    }
    add_up(&mut want);
    // Of several folds.
    add_up(&mut verdict.sums);
    if verdict.sums == want { Ok(verdict) } else { Err(EdgeError::Untrue("cells that its verdicts do not explain")) }
}

impl Open {
    pub(crate) fn new(key: WindowKey) -> Self {
        Self { key, next_chunk: 0, ids: Ids::default(), cells: HashMap::new() }
    }

    /// Returns how many ids are new.
    pub(crate) fn merge(&mut self, ids: &[[u8; 16]], cells: &[(CellKey, u64)]) -> usize {
        for (key, value) in cells {
            let cell = self.cells.entry((key.metric, key.cell)).or_default();
            *cell = cell.saturating_add(*value);
        }
        self.ids.extend(ids)
    }
}
