//! What comes in: bodies are routed, duplicates found, the rest folded by the guest, stored, answered.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;

use gloaming_policy::Policy;
use gloaming_privacy::DAY_MS;
use gloaming_signal::cbor::{self, Bytes};
use gloaming_signal::{CellKey, Contribution, FoldItem, Reason, Submission, limits};

use crate::edge::{Edge, Open};
use crate::error::EdgeError;
use crate::guest::{Guest, check_verdict, fold_all};
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

/// What became of a submission before the guest saw it. Masks have a bit for each contribution.
#[derive(Default)]
struct Marks {
    known: u64,
    never: u64,
    new: BTreeMap<WindowName, Vec<[u8; 16]>>,
}

/// A submission that the guest judges.
pub(crate) struct Judged {
    index: usize,
    pub(crate) submission: Submission,
    /// Contributions counted before.
    pub(crate) known: u64,
    /// Contributions for windows that nobody will release.
    pub(crate) never: u64,
}

/// What a round adds to each window: ids seen first, and cells.
type Fresh = BTreeMap<WindowName, (Vec<[u8; 16]>, BTreeMap<CellKey, u64>)>;

impl<S: Storage> Edge<S> {
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
            match self.route(body, now_ms) {
                Ok((place, submission)) => {
                    groups.entry(place).or_default().push((index, submission));
                    answers.push(None);
                }
                Err(whole) => answers.push(Some(Answer { whole, each: Vec::new() })),
            }
        }
        let mut fresh = Fresh::new();
        for (place, members) in groups {
            self.fold_group(&place, members, bodies, now_ms, guest, &mut fresh, &mut answers)?;
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

    fn route(&self, body: &[u8], now_ms: u64) -> Result<((String, u32), Submission), Reason> {
        if body.len() > limits::SUBMISSION_BYTES {
            return Err(Reason::TooLarge);
        }
        let submission: Submission = cbor::from_slice(body).map_err(|_| Reason::Malformed)?;
        if self.newest(&submission.site).is_none() {
            return Err(Reason::UnknownSite);
        }
        let place = (submission.site.clone(), submission.policy_version);
        match self.policies.get(&place) {
            Some(in_force) if in_force.hash != submission.policy_hash => Err(Reason::UnknownPolicy),
            Some(in_force) if in_force.policy.expires_day <= now_ms / DAY_MS => Err(Reason::Expired),
            Some(_) => Ok((place, submission)),
            None => Err(Reason::UnknownPolicy),
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
        members: Vec<(usize, Submission)>,
        bodies: &[&[u8]],
        now_ms: u64,
        guest: &mut dyn Guest,
        fresh: &mut Fresh,
        answers: &mut [Option<Answer>],
    ) -> Result<(), EdgeError> {
        let Some(in_force) = self.policies.get(place) else { return Ok(()) };
        let policy = &in_force.policy;
        // What this round has promised a place so far, so that no window outgrows its bound within one.
        let mut coming: HashMap<WindowName, HashSet<[u8; 16]>> = HashMap::new();
        let mut ids = self.ids + fresh.values().map(|(ids, _)| ids.len()).sum::<usize>();
        let (mut judged, mut items) = (Vec::with_capacity(members.len()), Vec::with_capacity(members.len()));
        for (index, submission) in members {
            let marks = self.mark(policy, &submission, &coming);
            let over = |name: &WindowName, new: usize| {
                let known = self.open.get(name).map_or(0, |open| open.ids.len());
                known + coming.get(name).map_or(0, HashSet::len) + new > self.bounds.window_ids
            };
            let new: usize = marks.new.values().map(Vec::len).sum();
            if ids + new > self.bounds.ids || marks.new.iter().any(|(name, new)| over(name, new.len())) {
                answers[index] = Some(Answer { whole: Reason::Busy, each: Vec::new() });
                continue;
            }
            ids += new;
            for (name, new) in marks.new {
                coming.entry(name).or_default().extend(new);
            }
            items.push(FoldItem { submission: Bytes(bodies[index].to_vec()), skip: marks.known | marks.never });
            judged.push(Judged { index, submission, known: marks.known, never: marks.never });
        }
        let (hash, mut failures) = (in_force.hash, 0);
        let verdict = fold_all(guest, &hash, now_ms, items, &mut failures);
        self.tally.guest_failures += failures;
        let verdict = verdict?;
        check_verdict(policy, &judged, &verdict)?;
        for (Judged { index, submission, never, .. }, item) in judged.iter().zip(verdict.items) {
            for (contribution, reason) in submission.contributions.iter().zip(&item.each) {
                if *reason == Reason::Accepted
                    && let Some(name) = Self::window_of(policy, contribution)
                {
                    fresh.entry(name).or_default().0.push(contribution.id);
                }
            }
            // The guest knows one kind of skipping; why it was told to skip is known here.
            let closed = |(bit, reason)| match reason {
                Reason::Duplicate if never >> bit & 1 == 1 => Reason::ClosedWindow,
                other => other,
            };
            let each = item.each.into_iter().enumerate().map(closed).collect();
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

    /// Which contributions of a submission are not to be counted, and which ids are new in which window.
    fn mark(&self, policy: &Policy, submission: &Submission, coming: &HashMap<WindowName, HashSet<[u8; 16]>>) -> Marks {
        let mut marks = Marks::default();
        for (bit, contribution) in submission.contributions.iter().enumerate() {
            let Some(name) = Self::window_of(policy, contribution) else { continue };
            let id = &contribution.id;
            if !self.releasable(&name) {
                marks.never |= 1 << bit;
            } else if self.open.get(&name).is_some_and(|open| open.ids.contains(id)) {
                marks.known |= 1 << bit;
            } else if !submission.check {
                let here = coming.get(&name).is_some_and(|ids| ids.contains(id));
                let new = marks.new.entry(name).or_default();
                if here || new.contains(id) { marks.known |= 1 << bit } else { new.push(*id) }
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
