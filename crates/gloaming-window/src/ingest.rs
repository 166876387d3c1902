//! What comes in: bodies are routed, duplicates found, the rest folded by the guest, stored, answered.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;

use gloaming_privacy::DAY_MS;
use gloaming_signal::{CellKey, Reason, Submission, cbor, hash, limits};

use crate::edge::{Edge, Open};
use crate::error::EdgeError;
use crate::guest::Guest;
use crate::ids::{Ids, Spare};
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

    pub(crate) fn add(&mut self, body: &[u8]) {
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

/// What a round adds to each window: ids seen first, and cells.
pub(crate) type Fresh = BTreeMap<WindowName, (Vec<[u8; 16]>, Vec<(CellKey, u64)>)>;

/// Everything posted together, on its way to being answered.
pub(crate) struct Round<'b> {
    pub(crate) posted: &'b [Posted<'b>],
    pub(crate) now_ms: u64,
    pub(crate) fresh: Fresh,
    pub(crate) shares: Shares,
    pub(crate) spare: Spare,
    pub(crate) answers: Vec<Option<Answer>>,
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
        let (fresh, shares, spare) = (Fresh::new(), std::mem::take(&mut self.shares), std::mem::take(&mut self.spare));
        let mut round = Round { posted, now_ms, fresh, shares, spare, answers: Vec::with_capacity(posted.len()) };
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
        (self.shares, self.spare) = (round.shares, round.spare);
        self.commit(round.fresh, entropy)?;
        let answers: Vec<Answer> = round
            .answers
            .into_iter()
            .map(|answer| answer.unwrap_or(Answer { whole: Reason::Fault, each: Vec::new() }))
            .collect();
        // Nearly all are of a few kinds: counted by number, each kind is looked up once.
        let mut counts = [(0, Reason::Accepted); 256];
        for answer in &answers {
            let alone = [answer.whole];
            let reasons = if answer.whole == Reason::Accepted { &answer.each[..] } else { &alone[..] };
            for reason in reasons {
                let count = &mut counts[usize::from(reason.number())];
                *count = (count.0 + 1, *reason);
            }
        }
        for (count, reason) in counts.into_iter().filter(|(count, _)| *count > 0) {
            *self.tally.reasons.entry(reason).or_default() += count;
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
        let mut submission: Submission = cbor::from_plain(body).map_err(|_| Reason::Malformed)?;
        if self.newest(&submission.site).is_none() || self.left.contains_key(&submission.site) {
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

    /// The last window of a version: the one in which its successor came into force, or its site left; without end
    /// while there is neither.
    pub(crate) fn last_window(&self, cursor: &Cursor) -> u64 {
        let (this, end) = ((cursor.site.clone(), cursor.version), (cursor.site.clone(), u32::MAX));
        let successor = self.policies.range((Bound::Excluded(this), Bound::Included(end))).next();
        let ended_ms = successor.map(|(_, newer)| newer.since_ms).or_else(|| self.left.get(&cursor.site).copied());
        ended_ms.map_or(u64::MAX, |ms| ms / cursor.span_ms)
    }

    /// Whether this window will be released: not before the first one that its policy opened, not released
    /// yet, and not after its version's last. What is taken for any other window would be acknowledged and
    /// lie there for ever.
    pub(crate) fn releasable(&self, name: &WindowName) -> bool {
        let cursor = Cursor { site: name.site.clone(), version: name.version, span_ms: name.span_ms };
        self.cursors.get(&cursor).is_some_and(|next| (*next..=self.last_window(&cursor)).contains(&name.window))
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
            let open = match self.open.entry(name) {
                Entry::Occupied(open) => open.into_mut(),
                Entry::Vacant(place) => {
                    let ids = self.spare.window(place.key());
                    place.insert(Open::new(key, ids))
                }
            };
            open.next_chunk += 1;
            self.ids += open.merge(&ids, &cells);
        }
        Ok(())
    }
}

impl Open {
    /// `ids`: room for those that will come.
    pub(crate) fn new(key: WindowKey, ids: Ids) -> Self {
        Self { key, next_chunk: 0, ids, cells: HashMap::new() }
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

#[cfg(test)]
mod tests {
    use gloaming_privacy::noised;
    use gloaming_signal::fold::add_up;

    use super::*;

    /// A window's million contributions of a million each are far from it. Should a store say otherwise, cells stop at their
    /// bound, in a fold, over chunks and under noise, and the centre raises an alarm at what comes out.
    #[test]
    fn a_cell_that_overflows_stops_at_its_bound() {
        let key = |cell| CellKey { window: 1, metric: 1, cell };
        let mut parts = vec![(key(0), u64::MAX - 1), (key(1), 3), (key(0), 2), (key(1), 4)];
        add_up(&mut parts);
        assert_eq!(parts, [(key(0), u64::MAX), (key(1), 7)]);

        let mut state = 0u8;
        let mut entropy = |buffer: &mut [u8]| {
            buffer.iter_mut().for_each(|byte| {
                state = state.wrapping_add(1);
                *byte = state;
            });
        };
        let mut open = Open::new(WindowKey::draw(&mut entropy), Ids::default());
        assert_eq!(open.merge(&[[1; 16]], &[(key(0), u64::MAX - 1), (key(1), 3)]), 1);
        assert_eq!(open.merge(&[[2; 16]], &[(key(0), u64::from(limits::VALUE)), (key(1), 4)]), 1);
        assert_eq!(open.merge(&[[2; 16]], &[(key(0), 1)]), 0);
        assert_eq!((open.cells[&(1, 0)], open.cells[&(1, 1)]), (u64::MAX, 7));
        assert_eq!(noised(&[u64::MAX, 7], &[5, -9]), [i64::MAX, -2]);
        assert_eq!(noised(&[u64::MAX], &[-1]), [i64::MAX - 1]);
    }
}
