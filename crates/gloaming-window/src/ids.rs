//! Ids that were counted in a window, in tables that grow one at a time.
//!
//! A table of a million ids that grows moves all of them at once, and everybody waits for that: tens of milliseconds.
//! Of 64 tables one grows at a time.

use std::collections::{BTreeMap, HashSet};

use crate::storage::WindowName;

/// Ids under a hash of some nanoseconds, keyed for each process: ids come from strangers.
pub(crate) type IdSet = HashSet<u128, foldhash::fast::RandomState>;

/// Empty sets whose room is used again. To give back what a window of half a million ids took, to fetch it anew for the
/// next one page by page and to move it each time that it grows costs as much as to look the ids up, and everybody waits
/// meanwhile.
#[derive(Default)]
pub(crate) struct Spare {
    /// A round's.
    sets: Vec<IdSet>,
    /// Windows', by site and span.
    windows: BTreeMap<(String, u64), Ids>,
}

impl Spare {
    /// Sets of rounds that are kept, and ids for which the largest of them has room.
    const MOST: usize = 8;
    const ROOM: usize = 1 << 16;

    pub(crate) fn set(&mut self) -> IdSet {
        self.sets.pop().unwrap_or_default()
    }

    pub(crate) fn give(&mut self, mut set: IdSet) {
        if self.sets.len() < Self::MOST && set.capacity() < Self::ROOM {
            set.clear();
            self.sets.push(set);
        }
    }

    /// What an earlier window of the same site and span had.
    pub(crate) fn window(&mut self, name: &WindowName) -> Ids {
        self.windows.remove(&(name.site.clone(), name.span_ms)).unwrap_or_default()
    }

    /// Keeps a closed window's room for the next of its kind, if it needed at least half of it, and while all that is
    /// kept is for no more than `most` ids. One crowd keeps nothing for longer than its like comes.
    pub(crate) fn give_window(&mut self, name: WindowName, mut ids: Ids, most: usize) {
        let key = (name.site, name.span_ms);
        self.windows.remove(&key);
        let (room, kept) = (ids.room(), self.windows.values().map(Ids::room).sum::<usize>());
        if ids.len() > 0 && 2 * ids.len() >= room && kept + room <= most {
            ids.clear();
            self.windows.insert(key, ids);
        }
    }
}

const TABLES: usize = 64;

/// A set of ids.
pub(crate) struct Ids {
    tables: Vec<IdSet>,
    len: usize,
}

impl Default for Ids {
    fn default() -> Self {
        Self { tables: vec![IdSet::default(); TABLES], len: 0 }
    }
}

impl Ids {
    /// Ids are drawn at random; whoever draws others makes one table larger, which is no worse than one for all.
    fn table(id: u128) -> usize {
        (id ^ (id >> 120)) as usize % TABLES
    }

    pub(crate) fn contains(&self, id: u128) -> bool {
        self.tables[Self::table(id)].contains(&id)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Room beyond what so many ids would have taken by themselves, in ids.
    pub(crate) fn excess(&self) -> usize {
        self.room().saturating_sub(2 * self.len)
    }

    /// Ids for which there is room without more memory, if they spread evenly.
    fn room(&self) -> usize {
        self.tables.iter().map(IdSet::capacity).sum()
    }

    fn clear(&mut self) {
        self.tables.iter_mut().for_each(IdSet::clear);
        self.len = 0;
    }

    /// Returns how many are new.
    pub(crate) fn extend(&mut self, ids: &[[u8; 16]]) -> usize {
        let ids = ids.iter().map(|id| u128::from_le_bytes(*id));
        let new = ids.filter(|id| self.tables[Self::table(*id)].insert(*id)).count();
        self.len += new;
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rounds_room_is_used_again_and_a_large_one_is_given_back() {
        let mut spare = Spare::default();
        let mut set = spare.set();
        assert!((0..1_000).all(|id| set.insert(id)));
        let room = set.capacity();
        spare.give(set);
        let mut set = spare.set();
        assert_eq!((set.len(), set.capacity(), spare.set().capacity()), (0, room, 0));
        set.reserve(Spare::ROOM);
        spare.give(set);
        assert!(spare.sets.is_empty());
        (0..100).for_each(|_| spare.give(IdSet::default()));
        assert_eq!(spare.sets.len(), Spare::MOST);
    }

    #[test]
    fn a_windows_room_is_used_again_up_to_a_bound_and_nothing_of_it_is_remembered() {
        let some: Vec<[u8; 16]> = (0..10_000u128).map(|id| (id << 100 | id).to_le_bytes()).collect();
        let full = || {
            let mut ids = Ids::default();
            ids.extend(&some);
            ids
        };
        let name = |site: &str, window| WindowName { site: site.to_owned(), version: 1, span_ms: 1_000, window };
        let (mut spare, room) = (Spare::default(), full().room());
        assert!(room >= some.len() && full().excess() == 0);
        for site in ["a", "b", "c", "d", "a"] {
            spare.give_window(name(site, 1), full(), 3 * room);
        }
        assert!(spare.windows.keys().map(|(site, _)| &**site).eq(["a", "b", "c"]), "three fit, and each has one");
        let mut again = spare.window(&name("a", 3));
        assert_eq!((again.len(), again.room(), again.excess(), spare.window(&name("a", 3)).room()), (0, room, room, 0));
        assert!(!some.iter().any(|id| again.contains(u128::from_le_bytes(*id))));
        // Hardly used, it is no longer kept.
        again.extend(&some[..some.len() / 9]);
        spare.give_window(name("a", 3), again, 3 * room);
        assert!(!spare.windows.contains_key(&("a".to_owned(), 1_000)));
        let mut again = spare.window(&name("b", 3));
        assert_eq!((again.extend(&some), again.room()), (some.len(), room), "nothing has to grow");
    }

    #[test]
    fn an_id_is_new_once_whatever_its_table() {
        let mut ids = Ids::default();
        let some: Vec<[u8; 16]> = (0..=255).map(|first| [first, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7]).collect();
        assert_eq!((ids.extend(&some), ids.extend(&some), ids.len()), (256, 0, 256));
        assert!(ids.contains(u128::from_le_bytes([7; 16])) && !ids.contains(8));
    }
}
