//! How much of one count may come from one network: a liar with one connection must not outvote a crowd.
//!
//! A network is a number that stands for it for some days; what it stands for is not known here. Counts live in memory,
//! end with their window, and are lost at a restart, which gives every network its share once more.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::open::Bounds;
use crate::storage::WindowName;

/// Metrics of networks that are counted one by one in a window. Beyond, they share counters of fixed size (a count-min
/// sketch, Cormode and Muthukrishnan 2005), which count too much now and then and never too little: a crowd of
/// networks, real or made up, opens no door.
const EXACT: usize = 1 << 14;
/// Counters in each of the sketch's two rows: half a megabyte in all, for a window that so many come to.
const COUNTERS: usize = 1 << 16;

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
    /// Contributions to each metric, by its place in the policy: a window is of one policy.
    all: Vec<u64>,
    /// Those of one network, likewise.
    own: Own,
}

/// Contributions by metric and network.
enum Own {
    Exact(HashMap<(u32, u64), u32, RandomState>),
    Sketch(Vec<u32>),
}

impl Default for Own {
    fn default() -> Self {
        Self::Exact(HashMap::default())
    }
}

/// Where a metric and network are counted. A network's number is drawn under a key, so that nobody can choose places.
fn counters(metric: u32, network: u64) -> [usize; 2] {
    let mixed = (network ^ u64::from(metric).wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    let place = |bits: u64| usize::from(bits as u16) % COUNTERS;
    [place(mixed >> 48), COUNTERS + place(mixed >> 24)]
}

impl Own {
    fn count(&self, metric: u32, network: u64) -> u32 {
        match self {
            Self::Exact(counts) => counts.get(&(metric, network)).copied().unwrap_or(0),
            Self::Sketch(rows) => counters(metric, network).map(|place| rows[place]).into_iter().min().unwrap_or(0),
        }
    }

    fn add(&mut self, metric: u32, network: u64, times: u32) {
        match self {
            Self::Exact(counts) if counts.len() >= EXACT && !counts.contains_key(&(metric, network)) => {
                let before = std::mem::take(counts);
                *self = Self::Sketch(vec![0; 2 * COUNTERS]);
                for ((metric, network), times) in before {
                    self.add(metric, network, times);
                }
                self.add(metric, network, times);
            }
            Self::Exact(counts) => *counts.entry((metric, network)).or_default() += times,
            Self::Sketch(rows) => {
                for place in counters(metric, network) {
                    rows[place] = rows[place].saturating_add(times);
                }
            }
        }
    }
}

/// What came from where, by open window.
#[derive(Default)]
pub(crate) struct Shares(HashMap<WindowName, Counts>);

impl Counts {
    /// Counts a contribution, or finds that its network has had its share of the metric: the larger of
    /// `network_floor` and `network_percent` of all that has come.
    pub(crate) fn take(&mut self, metric: usize, network: Option<u64>, bounds: &Bounds) -> bool {
        if metric >= self.all.len() {
            self.all.resize(metric + 1, 0);
        }
        let all = &mut self.all[metric];
        if let Some(network) = network {
            let metric = u32::try_from(metric).unwrap_or(u32::MAX);
            let share = bounds.network_floor.max(*all * bounds.network_percent / 100);
            if u64::from(self.own.count(metric, network)) >= share {
                return false;
            }
            self.own.add(metric, network, 1);
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
    fn taken(shares: &mut Shares, metric: usize, network: Option<u64>, tries: u32) -> usize {
        let mut counts = shares.lend(&name(1));
        let taken = (0..tries).filter(|_| counts.take(metric, network, &Bounds::default())).count();
        shares.take_back(name(1), counts);
        taken
    }

    #[test]
    fn one_network_has_a_floor_and_then_a_share() {
        let mut shares = Shares::default();
        assert_eq!(taken(&mut shares, 1, Some(7), 1_000), 20);
        assert_eq!(taken(&mut shares, 2, Some(7), 1_000), 20, "each metric has its own");
        for honest in 0..1_000 {
            assert_eq!(taken(&mut shares, 1, Some(100 + honest), 1), 1);
        }
        // With 52 of its own there are 1,052, and a twentieth of those is 52.
        assert_eq!(taken(&mut shares, 1, Some(7), 10_000), 52 - 20);
        assert_eq!(taken(&mut shares, 1, None, 100), 100, "who is not known is not limited");
        shares.close(|window| window.window == 1);
        assert_eq!(taken(&mut shares, 1, Some(7), 1_000), 20);
    }

    #[test]
    fn memory_is_bounded_and_a_crowd_opens_no_door() {
        let mut shares = Shares::default();
        // Numbers as they are drawn: spread over all of 64 bits.
        let number = |network: u64| network.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17) ^ network << 40;
        assert_eq!(taken(&mut shares, 1, Some(number(0)), 15), 15);
        let honest = 2 * EXACT as u64;
        let counted: usize = (1..=honest).map(|network| taken(&mut shares, 1, Some(number(network)), 1)).sum();
        assert_eq!(counted as u64, honest, "who comes once is counted, whoever shares the counters");
        assert!(matches!(&shares.0[&name(1)].own, Own::Sketch(rows) if rows.len() == 2 * COUNTERS));
        // What was counted before is not forgotten, and a fresh network has its share and no more.
        let share = (honest as usize + 15) / 20;
        for network in [0, honest + 1] {
            let more = taken(&mut shares, 1, Some(number(network)), 100_000);
            assert!(more <= share + share / 5 && more + 20 >= share, "{more} of {share}");
        }
    }

    #[test]
    fn an_intranet_has_one_network() {
        let bounds = Bounds { network_percent: 100, network_floor: u64::MAX, ..Bounds::default() };
        let mut counts = Counts::default();
        assert!((0..1_000).all(|_| counts.take(1, Some(7), &bounds)));
    }
}
