//! How much of one count may come from one network: a liar with one connection must not outvote a crowd.
//!
//! A network is a number that stands for it for a day; what it stands for is not known here. Counts live in memory,
//! end with their window, and are lost at a restart, which gives every network its share once more.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::open::Bounds;
use crate::storage::WindowName;

/// Networks remembered for one window, times metrics; what comes from further ones is counted unseen.
const NETWORKS: usize = 1 << 16;

/// A body as it was posted.
#[derive(Clone, Copy, Debug)]
pub struct Posted<'b> {
    /// Its bytes.
    pub body: &'b [u8],
    /// The network it came from, when that is known.
    pub network: Option<u64>,
}

impl<'b> From<&'b [u8]> for Posted<'b> {
    /// From nobody knows where.
    fn from(body: &'b [u8]) -> Self {
        Self { body, network: None }
    }
}

/// What came to one window.
#[derive(Default)]
pub(crate) struct Counts {
    /// Contributions to each metric.
    all: HashMap<u32, u64>,
    /// Those of one network.
    own: HashMap<(u32, u64), u64>,
}

/// What came from where, by open window.
#[derive(Default)]
pub(crate) struct Shares(HashMap<WindowName, Counts>);

impl Counts {
    /// Counts a contribution, or finds that its network has had its share of the metric: the larger of
    /// `network_floor` and `network_percent` of all that has come.
    pub(crate) fn take(&mut self, metric: u32, network: Option<u64>, bounds: &Bounds) -> bool {
        let all = self.all.entry(metric).or_default();
        if let Some(network) = network {
            let share = bounds.network_floor.max(*all * bounds.network_percent / 100);
            let full = self.own.len() >= NETWORKS;
            match self.own.entry((metric, network)) {
                Entry::Occupied(count) if *count.get() >= share => return false,
                Entry::Occupied(mut count) => *count.get_mut() += 1,
                Entry::Vacant(_) if share == 0 => return false,
                Entry::Vacant(_) if full => {}
                Entry::Vacant(place) => drop(place.insert(1)),
            }
        }
        *all += 1;
        true
    }
}

impl Shares {
    /// The counts of a window, for as long as they are needed.
    pub(crate) fn lend(&mut self, name: &WindowName) -> Counts {
        self.0.remove(name).unwrap_or_default()
    }

    /// Takes them back.
    pub(crate) fn take_back(&mut self, name: WindowName, counts: Counts) {
        self.0.insert(name, counts);
    }

    /// Forgets windows.
    pub(crate) fn close(&mut self, gone: impl Fn(&WindowName) -> bool) {
        self.0.retain(|name, _| !gone(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(window: u64) -> WindowName {
        WindowName { site: "s".to_owned(), version: 1, span_ms: 1_000, window }
    }

    /// How many of `tries` are taken.
    fn taken(shares: &mut Shares, metric: u32, network: Option<u64>, tries: u32) -> usize {
        let mut counts = shares.lend(&name(1));
        let taken = (0..tries).filter(|_| counts.take(metric, network, &Bounds::default())).count();
        shares.take_back(name(1), counts);
        taken
    }

    #[test]
    fn one_network_has_a_floor_and_then_a_share() {
        let mut shares = Shares::default();
        assert_eq!(taken(&mut shares, 1, Some(7), 1_000), 25);
        assert_eq!(taken(&mut shares, 2, Some(7), 1_000), 25, "each metric has its own");
        for honest in 0..1_000 {
            assert_eq!(taken(&mut shares, 1, Some(100 + honest), 1), 1);
        }
        // With 52 of its own there are 1,052, and a twentieth of those is 52.
        assert_eq!(taken(&mut shares, 1, Some(7), 10_000), 52 - 25);
        assert_eq!(taken(&mut shares, 1, None, 100), 100, "who is not known is not limited");
        shares.close(|window| window.window == 1);
        assert_eq!(taken(&mut shares, 1, Some(7), 1_000), 25);
    }

    #[test]
    fn memory_is_bounded_and_nobody_honest_pays() {
        let mut shares = Shares::default();
        for network in 0..NETWORKS as u64 + 1_000 {
            assert_eq!(taken(&mut shares, 1, Some(network), 1), 1);
        }
        assert_eq!(shares.0[&name(1)].own.len(), NETWORKS);
    }

    #[test]
    fn an_intranet_has_one_network() {
        let bounds = Bounds { network_percent: 100, network_floor: u64::MAX, ..Bounds::default() };
        let mut counts = Counts::default();
        assert!((0..1_000).all(|_| counts.take(1, Some(7), &bounds)));
    }
}
