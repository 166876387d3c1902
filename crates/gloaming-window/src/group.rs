//! Submissions of one round that were made under one policy: duplicates are found, the guest judges the rest, and what it
//! says is added up again before it is believed.

use gloaming_policy::count::{Counter, Layout};
use gloaming_signal::fold::add_up;
use gloaming_signal::{CellKey, Contribution, Reason, Row, Submission, Verdict};

use crate::edge::{Edge, InForce, Open};
use crate::error::EdgeError;
use crate::guest::{Guest, Rows};
use crate::ids::IdSet;
use crate::ingest::{Answer, Fresh, Round};
use crate::open::Bounds;
use crate::share::Counts;
use crate::storage::{Storage, WindowName};

/// A window that the group may add to: looked up once and not for each contribution. Windows that have not begun or
/// will never be released get none, so that a sender who names many of them fills nothing.
struct Slot<'e> {
    name: WindowName,
    open: Option<&'e Open>,
    /// Ids that this group has promised to it.
    coming: IdSet,
    counts: Counts,
}

/// Where a contribution counts, if the guest has nothing against it.
#[derive(Clone, Copy)]
struct Place {
    slot: usize,
    /// Its metric's place in the policy.
    metric: usize,
}

/// What is known of a contribution before ids are looked at.
#[derive(Clone, Copy)]
enum Aim {
    /// The guest has to refuse it.
    Guests,
    /// Nobody will release its window.
    Never,
    At(Place),
}

/// A submission that the guest judges.
struct Judged {
    index: usize,
    submission: Submission,
    /// What is known of each contribution; [`Reason::Accepted`] when it is the guest's to say.
    each: Vec<Reason>,
    /// Those whose id came in this round already, and the slot that it came to.
    here: Vec<(usize, usize)>,
}

/// A contribution that the guest is asked about.
struct Asked {
    judged: usize,
    contribution: usize,
    /// Where it counts; nowhere when the guest has to refuse it.
    place: Option<Place>,
}

/// Everything that the guest is asked, and why the rest is not.
struct Group {
    judged: Vec<Judged>,
    asked: Vec<Asked>,
    rows: Rows,
}

impl<S: Storage> Edge<S> {
    pub(crate) fn fold_group(
        &mut self,
        place: &(String, u32),
        members: Vec<(usize, Submission)>,
        guest: &mut dyn Guest,
        round: &mut Round<'_>,
    ) {
        let Some(in_force) = self.policies.get(place) else { return };
        let mut slots = Vec::new();
        let aims = self.aim(in_force, &members, round, &mut slots);
        // Each is a wait for memory; in a row of their own many of them wait at the same time.
        let mut aims = aims.into_iter();
        let contributions = members.iter().flat_map(|(_, submission)| &submission.contributions);
        let known: Vec<(Aim, bool)> = contributions
            .map_while(|contribution| {
                let aim = aims.next()?;
                let open = if let Aim::At(Place { slot, .. }) = aim { slots[slot].open } else { None };
                Some((aim, open.is_some_and(|open| open.ids.contains(u128::from_le_bytes(contribution.id)))))
            })
            .collect();
        let left = self.room(&place.0, &round.fresh);
        let Group { mut judged, asked, rows } = group(members, &known, &mut slots, left, &self.bounds, round);
        let mut slots: Vec<(WindowName, Counts, Vec<[u8; 16]>)> = slots
            .into_iter()
            .map(|Slot { name, counts, coming, .. }| {
                let accepted = Vec::with_capacity(coming.len());
                round.spare.give(coming);
                (name, counts, accepted)
            })
            .collect();

        let mut failures = 0;
        let folded = rows.fold(guest, &in_force.hash, round.now_ms, &mut failures);
        let (layout, counter) = (&in_force.layout, &mut self.counter);
        counter.begin(layout, round.now_ms);
        let folded = folded.and_then(|verdict| believe(layout, counter, &judged, &asked, verdict));
        self.tally.guest_failures += failures;
        let Ok(Verdict { each, sums }) = folded else {
            // Not a word of it is believed, and so nothing is decided: whoever sent it may send it again, to another
            // component perhaps. The other groups of this round are none the worse.
            self.tally.guest_untrue += 1;
            for one in judged {
                round.answers[one.index] = Some(Answer { whole: Reason::Busy, each: Vec::new() });
            }
            for (name, counts, _) in slots {
                round.shares.take_back(name, counts);
            }
            return;
        };
        for (Asked { judged: one, contribution, place }, reason) in asked.iter().zip(each) {
            let one = &mut judged[*one];
            one.each[*contribution] = reason;
            if let (Reason::Accepted, Some(Place { slot, .. })) = (reason, place) {
                slots[*slot].2.push(one.submission.contributions[*contribution].id);
            }
        }
        for (.., accepted) in &mut slots {
            // In the order of ids, so that what is stored does not tell which of them came together.
            accepted.sort_unstable_by_key(|id| u128::from_be_bytes(*id));
        }
        for Judged { index, submission, mut each, here } in judged {
            if each.contains(&Reason::Fault) {
                self.quarantine.add(round.posted[index].body);
                round.answers[index] = Some(Answer { whole: Reason::Fault, each: Vec::new() });
                continue;
            }
            for (contribution, slot) in here {
                // The one before it in this round was not counted after all.
                if !has(&slots[slot].2, &submission.contributions[contribution].id) {
                    each[contribution] = Reason::Busy;
                }
            }
            let busy = each.contains(&Reason::Busy) && !each.contains(&Reason::Accepted);
            round.answers[index] = Some(match busy {
                true => Answer { whole: Reason::Busy, each: Vec::new() },
                false => Answer { whole: Reason::Accepted, each },
            });
        }
        let span_of = |metric: u32| in_force.policy.metric(metric).map_or(0, |metric| metric.span_ms);
        for (name, counts, accepted) in slots {
            if !accepted.is_empty() {
                let own = |key: &CellKey| key.window == name.window && span_of(key.metric) == name.span_ms;
                let cells = sums.iter().filter(|(key, _)| own(key)).copied().collect();
                round.fresh.insert(name.clone(), (accepted, cells));
            }
            round.shares.take_back(name, counts);
        }
    }

    /// Where each contribution counts, member by member, and the windows that are meant.
    fn aim<'e>(
        &'e self,
        in_force: &InForce,
        members: &[(usize, Submission)],
        round: &mut Round<'_>,
        slots: &mut Vec<Slot<'e>>,
    ) -> Vec<Aim> {
        let InForce { policy, layout, .. } = in_force;
        let (mut aims, mut last) = (Vec::with_capacity(16 * members.len()), 0);
        for contribution in members.iter().flat_map(|(_, submission)| &submission.contributions) {
            let Contribution { metric, window, cell, value, .. } = *contribution;
            // What is beyond its bounds or has not begun is the guest's to refuse; it takes no room and no share.
            let metric = layout.find(metric, &mut last).filter(|metric| {
                let begins = window.checked_mul(layout.span_ms(*metric));
                begins.is_some_and(|ms| ms <= round.now_ms) && layout.admits(*metric, cell, value).is_ok()
            });
            let Some(metric) = metric else {
                aims.push(Aim::Guests);
                continue;
            };
            let span_ms = layout.span_ms(metric);
            let slot = slots.iter().position(|slot| slot.name.window == window && slot.name.span_ms == span_ms);
            let slot = slot.or_else(|| {
                let name = WindowName { site: policy.site.clone(), version: policy.version, span_ms, window };
                self.releasable(&name).then(|| {
                    let (open, counts) = (self.open.get(&name), round.shares.lend(&name));
                    slots.push(Slot { name, open, coming: round.spare.set(), counts });
                    slots.len() - 1
                })
            });
            aims.push(slot.map_or(Aim::Never, |slot| Aim::At(Place { slot, metric })));
        }
        aims
    }

    /// How many ids a site may still bring in this round.
    fn room(&self, site: &str, fresh: &Fresh) -> usize {
        let coming = |own: &dyn Fn(&WindowName) -> bool| -> usize {
            fresh.iter().filter(|(name, _)| own(name)).map(|(_, (ids, _))| ids.len()).sum()
        };
        let held = self.open.iter().filter(|(name, _)| name.site == site).map(|(_, open)| open.ids.len());
        let of_site = held.sum::<usize>() + coming(&|name| name.site == site);
        let of_all = self.ids + coming(&|_| true);
        let own = self.quotas.get(site).copied().unwrap_or(usize::MAX).min(self.bounds.site_ids);
        own.saturating_sub(of_site).min(self.bounds.ids.saturating_sub(of_all))
    }
}

/// Tells what the guest is to be asked from what is known already. `left` ids may still come.
fn group(
    members: Vec<(usize, Submission)>,
    known: &[(Aim, bool)],
    slots: &mut [Slot<'_>],
    mut left: usize,
    bounds: &Bounds,
    round: &Round<'_>,
) -> Group {
    let mut group = Group {
        judged: Vec::with_capacity(members.len()),
        asked: Vec::with_capacity(known.len()),
        rows: Rows::with_capacity(known.len(), members.len()),
    };
    let mut known = known.iter();
    for (index, submission) in members {
        let network = round.posted[index].network;
        let mut one = Judged { index, submission, each: Vec::new(), here: Vec::new() };
        let Submission { contributions, check, .. } = &one.submission;
        one.each.reserve(contributions.len());
        for (contribution, (aim, before)) in (0..contributions.len()).zip(&mut known) {
            let Contribution { id, window, metric, cell, value } = contributions[contribution];
            let (reason, place) = match *aim {
                Aim::Never => (Reason::ClosedWindow, None),
                Aim::Guests => (Reason::Accepted, None),
                Aim::At(_) if *before => (Reason::Duplicate, None),
                Aim::At(place) if *check => (Reason::Accepted, Some(place)),
                Aim::At(place) => {
                    let Slot { open, coming, counts, .. } = &mut slots[place.slot];
                    let id = u128::from_le_bytes(id);
                    let held = open.map_or(0, |open| open.ids.len()) + coming.len();
                    if coming.contains(&id) {
                        one.here.push((contribution, place.slot));
                        (Reason::Duplicate, None)
                    } else if left == 0 || held >= bounds.window_ids {
                        (Reason::Busy, None)
                    } else if !counts.take(place.metric, network, bounds) {
                        (Reason::Crowded, None)
                    } else {
                        left -= 1;
                        coming.insert(id);
                        (Reason::Accepted, Some(place))
                    }
                }
            };
            one.each.push(reason);
            if reason == Reason::Accepted {
                group.rows.push(&Row { window, metric, cell, value, check: *check });
                group.asked.push(Asked { judged: group.judged.len(), contribution, place });
            }
        }
        group.rows.end();
        group.judged.push(one);
    }
    group
}

/// Whether an id is among these, which are in order.
fn has(ids: &[[u8; 16]], id: &[u8; 16]) -> bool {
    ids.binary_search_by_key(&u128::from_be_bytes(*id), |id| u128::from_be_bytes(*id)).is_ok()
}

/// A guest is not believed: what it accepts must be acceptable, and what it adds must be exactly that. Only what it
/// alone may say, why a contribution cannot count, is taken from it.
fn believe(
    layout: &Layout,
    counter: &mut Counter,
    judged: &[Judged],
    asked: &[Asked],
    mut verdict: Verdict,
) -> Result<Verdict, EdgeError> {
    for (Asked { judged: one, contribution, place }, reason) in asked.iter().zip(&verdict.each) {
        let submission = &judged[*one].submission;
        match (reason, place) {
            (Reason::Accepted, Some(place)) if !submission.check => {
                let Contribution { window, cell, value, .. } = submission.contributions[*contribution];
                counter.add(layout, place.metric, window, cell, value);
            }
            (Reason::Accepted, _) => return Err(EdgeError::Untrue("a contribution accepted that may not count")),
            (Reason::Checked, _) if !submission.check => {
                return Err(EdgeError::Untrue("a contribution taken for a check"));
            }
            // Of its submission alone, which pays for it.
            (Reason::Checked | Reason::Fault, _) => {}
            (Reason::UnknownMetric | Reason::UnknownCell | Reason::CapExceeded, _) => {}
            (Reason::ClosedWindow | Reason::FutureWindow, _) => {}
            _ => return Err(EdgeError::Untrue("a reason that is not the component's to give")),
        }
    }
    // Of several folds, they need not be in order.
    if !verdict.sums.is_sorted_by(|(one, _), (next, _)| one < next) {
        add_up(&mut verdict.sums);
    }
    let (mut said, mut same) = (verdict.sums.iter(), true);
    counter.finish(layout, |key, value| same &= said.next() == Some(&(key, value)));
    let same = same && said.next().is_none();
    if same { Ok(verdict) } else { Err(EdgeError::Untrue("cells that its reasons do not explain")) }
}
