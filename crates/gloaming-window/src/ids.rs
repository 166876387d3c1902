//! Ids that were counted in a window, in tables that grow one at a time.
//!
//! A table of a million ids that grows moves all of them at once, and everybody waits for that: tens of milliseconds.
//! Of 64 tables one grows at a time.

use std::collections::HashSet;

/// Ids under a hash of some nanoseconds, keyed for each process: ids come from strangers.
pub(crate) type IdSet = HashSet<u128, foldhash::fast::RandomState>;

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
    fn an_id_is_new_once_whatever_its_table() {
        let mut ids = Ids::default();
        let some: Vec<[u8; 16]> = (0..=255).map(|first| [first, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7]).collect();
        assert_eq!((ids.extend(&some), ids.extend(&some), ids.len()), (256, 0, 256));
        assert!(ids.contains(u128::from_le_bytes([7; 16])) && !ids.contains(8));
    }
}
