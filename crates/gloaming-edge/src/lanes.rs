//! Who waits, by site: each site has a lane of its own, and lanes take turns.
//!
//! One more may wait in a lane while fewer do than there are places left in all (Choudhury and Hahne, *Dynamic queue
//! length thresholds in a shared memory packet switch*, 1998). So a site alone has half of the places, of two that flood
//! each has a third, and some are always left for whoever comes next. It costs a comparison, nobody who waits is sent away
//! again, and a flood that comes to its bound is told so at once.
//!
//! Only sites that are known have lanes. Whatever names another one, or none, has one lane together: names that somebody
//! makes up are no way to a second share.

use std::collections::{HashMap, VecDeque};

/// The lane of whatever belongs to no site that is known here.
const STRANGERS: usize = 0;
/// Places that an empty lane keeps for its next crowd: of 512 sites, all together, 2 MB.
const KEPT: usize = 64;

struct Lane<T> {
    waiting: VecDeque<T>,
    /// Whether it belongs to anybody; a site that left still has its turns until nobody waits.
    named: bool,
}

/// See the module's page.
pub(crate) struct Lanes<T> {
    lanes: Vec<Lane<T>>,
    by_site: HashMap<Box<str>, usize>,
    /// Lanes that are nobody's, and empty.
    spare: Vec<usize>,
    /// Lanes in which somebody waits, the next turn first.
    turns: VecDeque<usize>,
    waiting: usize,
    room: usize,
}

impl<T> Lanes<T> {
    /// For `room` in all at most.
    pub(crate) fn new(room: usize) -> Self {
        let strangers = Lane { waiting: VecDeque::new(), named: true };
        let (by_site, spare, turns) = (HashMap::new(), Vec::new(), VecDeque::new());
        Self { lanes: vec![strangers], by_site, spare, turns, waiting: 0, room }
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// The sites that have lanes from now on.
    pub(crate) fn know<'s>(&mut self, sites: impl IntoIterator<Item = &'s str>) {
        let mut before = std::mem::take(&mut self.by_site);
        for site in sites {
            let lane = before.remove(site).unwrap_or_else(|| self.lane());
            // Named twice, it has one lane.
            if let Some(twice) = self.by_site.insert(site.into(), lane) {
                self.by_site.insert(site.into(), twice);
                self.leave(lane);
            }
        }
        for lane in before.into_values() {
            self.leave(lane);
        }
    }

    /// A lane for a new site.
    fn lane(&mut self) -> usize {
        let lane = self.spare.pop().unwrap_or_else(|| {
            self.lanes.push(Lane { waiting: VecDeque::new(), named: true });
            self.lanes.len() - 1
        });
        self.lanes[lane].named = true;
        lane
    }

    fn leave(&mut self, lane: usize) {
        self.lanes[lane].named = false;
        if self.lanes[lane].waiting.is_empty() {
            self.spare.push(lane);
        }
    }

    /// The lane for a site.
    pub(crate) fn of(&self, site: Option<&str>) -> usize {
        site.and_then(|site| self.by_site.get(site)).copied().unwrap_or(STRANGERS)
    }

    /// Lets somebody wait in a lane, or says that there is no place for them.
    pub(crate) fn push(&mut self, turn: usize, who: T) -> Result<(), T> {
        let lane = &mut self.lanes[turn].waiting;
        if lane.len() >= self.room - self.waiting {
            return Err(who);
        }
        if lane.is_empty() {
            self.turns.push_back(turn);
        }
        lane.push_back(who);
        self.waiting += 1;
        Ok(())
    }

    /// Takes some, one of each lane in turn, in each lane whoever has waited longest.
    pub(crate) fn take(&mut self, most: usize) -> Vec<T> {
        let mut taken = Vec::with_capacity(most.min(self.waiting));
        while taken.len() < most
            && let Some(turn) = self.turns.pop_front()
        {
            let Lane { waiting, named } = &mut self.lanes[turn];
            taken.extend(waiting.pop_front());
            if !waiting.is_empty() {
                self.turns.push_back(turn);
                continue;
            }
            if waiting.capacity() > KEPT {
                *waiting = VecDeque::new();
            }
            if !*named {
                self.spare.push(turn);
            }
        }
        self.waiting -= taken.len();
        taken
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Sites by number; number 0 stands for one that nobody knows.
    fn name(site: usize) -> String {
        format!("s{site}.example")
    }

    fn lanes(room: usize, sites: usize) -> Lanes<(usize, u64)> {
        let (mut lanes, names) = (Lanes::new(room), (1..=sites).map(name).collect::<Vec<_>>());
        lanes.know(names.iter().map(String::as_str));
        lanes
    }

    /// Whether there is a place.
    fn come(lanes: &mut Lanes<(usize, u64)>, site: usize, number: u64) -> bool {
        lanes.push(lanes.of(Some(&name(site))), (site, number)).is_ok()
    }

    /// Fills until it is refused, and says how many were taken.
    fn flood(lanes: &mut Lanes<(usize, u64)>, site: usize) -> usize {
        (0..100_000).take_while(|number| come(lanes, site, *number)).count()
    }

    fn by_site(taken: &[(usize, u64)]) -> BTreeMap<usize, usize> {
        let mut counts = BTreeMap::new();
        for (site, _) in taken {
            *counts.entry(*site).or_default() += 1;
        }
        counts
    }

    #[test]
    fn a_flood_has_half_of_the_places_and_the_others_are_all_taken() {
        let mut lanes = lanes(4_096, 9);
        assert_eq!(flood(&mut lanes, 1), 2_048);
        for site in 2..=9 {
            for number in 0..100 {
                assert!(come(&mut lanes, site, number), "{number} of site {site}");
            }
        }
        assert_eq!(flood(&mut lanes, 1), 0, "what is left is not the flood's");
        // In each group each has its share, in the order in which it came.
        let group = lanes.take(450);
        assert_eq!(by_site(&group), (1..=9).map(|site| (site, 50)).collect());
        for site in 1..=9 {
            let own = group.iter().filter(|(of, _)| *of == site).map(|(_, number)| *number);
            assert!(own.eq(0..50), "site {site}");
        }
        // Groups that no share divides go on where the one before ended.
        let mut more = lanes.take(100);
        more.extend(lanes.take(350));
        assert_eq!(by_site(&more), (1..=9).map(|site| (site, 50)).collect());
        assert_eq!(by_site(&lanes.take(5_000)), BTreeMap::from([(1, 1_948)]), "alone it has all turns");
        assert_eq!((lanes.waiting(), lanes.take(9).len()), (0, 0));
    }

    #[test]
    fn floods_come_to_equal_shares_and_leave_one_for_the_next_site() {
        let mut lanes = lanes(1_000, 5);
        for _ in 0..200 {
            for site in 1..=4 {
                flood(&mut lanes, site);
            }
            let group = by_site(&lanes.take(100));
            assert!(group.values().all(|share| (20..=30).contains(share)), "{group:?}");
        }
        let left = flood(&mut lanes, 5);
        assert!((100..200).contains(&left), "more than half of a fifth was left, and {left} came");
    }

    #[test]
    fn names_that_are_made_up_share_one_lane() {
        let mut lanes = lanes(4_096, 1);
        let made_up = |number: u64| format!("x{number}.example");
        let taken = (0..1_000_000).filter(|number| lanes.push(lanes.of(Some(&made_up(*number))), (0, *number)).is_ok());
        assert_eq!(taken.count(), 2_048);
        assert!(lanes.push(lanes.of(None), (0, 0)).is_err(), "and whoever names none");
        assert!((0..600).all(|number| come(&mut lanes, 1, number)));
        assert_eq!(by_site(&lanes.take(1_000)), BTreeMap::from([(0, 500), (1, 500)]));
        assert_eq!(lanes.lanes.len(), 2);
    }

    #[test]
    fn a_site_that_leaves_keeps_its_turns_until_nobody_waits_and_its_lane_is_used_again() {
        let mut lanes = lanes(100, 2);
        assert!(come(&mut lanes, 1, 7));
        lanes.know([&*name(2), &name(2), &name(3)]);
        // What comes for it now is a stranger's; what waited is taken.
        assert!(come(&mut lanes, 1, 8));
        assert_eq!(lanes.of(Some(&name(1))), STRANGERS);
        assert_eq!(lanes.take(9), [(1, 7), (1, 8)]);
        let many = lanes.lanes.len();
        for round in 0..100 {
            lanes.know([&*name(2), &name(10 + round)]);
            assert!(come(&mut lanes, 10 + round, 1));
            assert_ne!(lanes.of(Some(&name(10 + round))), STRANGERS);
            assert_eq!(lanes.take(9), [(10 + round, 1)]);
        }
        assert!(lanes.lanes.len() <= many + 1, "{} lanes", lanes.lanes.len());
    }

    /// Whatever comes and is taken in whatever order: nobody is lost or doubled, the room is kept, who is refused had as
    /// many places as were left, and each group gives each lane its share.
    #[test]
    fn whatever_happens_shares_are_kept() {
        for seed in 0..200u64 {
            let mut state = seed;
            let mut next = |below: usize| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) as usize % below
            };
            let (room, sites) = (1 + next(300), 1 + next(12));
            let mut lanes = lanes(room, sites);
            let mut model: BTreeMap<usize, VecDeque<u64>> = BTreeMap::new();
            for number in 0..3_000 {
                if next(8) > 0 {
                    // Some come more often than others.
                    let site = next(sites + 1).min(next(sites + 1));
                    let all: usize = model.values().map(VecDeque::len).sum();
                    let own = model.entry(site).or_default();
                    let taken = come(&mut lanes, site, number);
                    assert_eq!(taken, own.len() < room - all, "seed {seed}");
                    if taken {
                        own.push_back(number);
                    }
                    continue;
                }
                let most = 1 + next(room);
                let before: BTreeMap<usize, usize> = model.iter().map(|(site, own)| (*site, own.len())).collect();
                let active = before.values().filter(|waiting| **waiting > 0).count().max(1);
                let group = lanes.take(most);
                assert_eq!(group.len(), most.min(before.values().sum()), "seed {seed}");
                for (site, number) in &group {
                    assert_eq!(model.get_mut(site).unwrap().pop_front(), Some(*number), "seed {seed}");
                }
                let counts = by_site(&group);
                for (site, waiting) in before {
                    let got = counts.get(&site).copied().unwrap_or(0);
                    assert!(got >= waiting.min(most / active), "seed {seed}: {got} of site {site}");
                }
            }
            assert_eq!(lanes.waiting(), model.values().map(VecDeque::len).sum::<usize>());
        }
    }
}
