//! What one network address may take, without writing any address down.
//!
//! An address is hashed under a key that lives for an hour in memory, and names two places in a table of
//! fixed size (a count-min sketch, Cormode and Muthukrishnan 2005, of token buckets). Two addresses may meet in
//! a place; a request is turned away only when both of its places are spent, so a stranger is punished for
//! another's haste about once in the square of the table's size. Nothing can be listed from the table.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use gloaming_signal::hash;

/// Places in each of the two rows: half a megabyte in all.
const PLACES: usize = 16_384;

/// How long a key lives, ms.
const KEY_MS: u64 = 3_600_000;

/// What one address may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressLimits {
    /// Requests a second, for long.
    pub per_second: u32,
    /// Requests at once, after a pause.
    pub burst: u32,
    /// Connections open at once.
    pub connections: u32,
}

impl Default for AddressLimits {
    /// What a hundred people behind one address need who open pages at the same moment.
    fn default() -> Self {
        Self { per_second: 50, burst: 500, connections: 256 }
    }
}

/// One key, and what was counted under it.
struct Table {
    key: [u8; 32],
    until_ms: u64,
    /// When each place will have its tokens back, in µs (the generic cell rate algorithm of ATM).
    full_at: Vec<AtomicU64>,
    connections: Vec<AtomicU32>,
}

impl Table {
    fn new(key: [u8; 32], until_ms: u64) -> Self {
        let places = 2 * PLACES;
        Self {
            key,
            until_ms,
            full_at: std::iter::repeat_with(AtomicU64::default).take(places).collect(),
            connections: std::iter::repeat_with(AtomicU32::default).take(places).collect(),
        }
    }

    fn places(&self, address: IpAddr) -> [usize; 2] {
        let mut text = [0; 48];
        text[..32].copy_from_slice(&self.key);
        text[32..].copy_from_slice(&network(address));
        let hash = hash::sha256(&text);
        let place = |at: usize| usize::from(u16::from_le_bytes([hash[at], hash[at + 1]])) % PLACES;
        [place(0), PLACES + place(2)]
    }
}

/// The address, or for IPv6 its first half: whoever has one of those has all of its second half.
fn network(address: IpAddr) -> [u8; 16] {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => {
            let mut octets = address.octets();
            octets[8..].fill(0);
            octets
        }
    }
}

/// Holds addresses to their limits.
pub(crate) struct Guard {
    limits: AddressLimits,
    entropy: Box<dyn Fn() -> [u8; 32] + Send + Sync>,
    table: RwLock<Arc<Table>>,
}

/// A connection that is counted until this is dropped.
pub(crate) struct Counted(Arc<Table>, [usize; 2]);

impl Drop for Counted {
    fn drop(&mut self) {
        for place in self.1 {
            self.0.connections[place].fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Guard {
    /// With keys from `entropy`, one an hour.
    pub(crate) fn new(limits: AddressLimits, entropy: impl Fn() -> [u8; 32] + Send + Sync + 'static) -> Self {
        let table = RwLock::new(Arc::new(Table::new(entropy(), 0)));
        Self { limits, entropy: Box::new(entropy), table }
    }

    fn table(&self, now_us: u64) -> Arc<Table> {
        let now_ms = now_us / 1_000;
        let table = Arc::clone(&self.table.read().unwrap_or_else(PoisonError::into_inner));
        if now_ms < table.until_ms {
            return table;
        }
        let mut current = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if now_ms >= current.until_ms {
            *current = Arc::new(Table::new((self.entropy)(), now_ms + KEY_MS));
        }
        Arc::clone(&current)
    }

    /// Counts a new connection, or has none to spare. `now_us` is any monotonic time.
    pub(crate) fn connection(&self, address: IpAddr, now_us: u64) -> Option<Counted> {
        let table = self.table(now_us);
        let places = table.places(address);
        let open = places.map(|place| table.connections[place].fetch_add(1, Ordering::Relaxed));
        let counted = Counted(table, places);
        (open.into_iter().min() < Some(self.limits.connections)).then_some(counted)
    }

    /// Takes a token for a request, or has none.
    pub(crate) fn request(&self, address: IpAddr, now_us: u64) -> bool {
        let table = self.table(now_us);
        let cost = 1_000_000 / u64::from(self.limits.per_second.max(1));
        let ahead = cost * u64::from(self.limits.burst.max(1));
        let mut taken = false;
        for place in table.places(address) {
            let take = |full_at: u64| Some(full_at.max(now_us) + cost).filter(|after| *after <= now_us + ahead);
            taken |= table.full_at[place].fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok();
        }
        taken
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn guard(limits: AddressLimits) -> Guard {
        Guard::new(limits, || [7; 32])
    }

    fn v4(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    #[test]
    fn a_burst_then_a_rate() {
        let guard = guard(AddressLimits { per_second: 10, burst: 30, connections: 2 });
        let mut now = 5 * SECOND;
        let passed = |now| (0..1_000).filter(|_| guard.request(v4(1), now)).count();
        assert_eq!(passed(now), 30);
        now += SECOND;
        assert_eq!(passed(now), 10);
        now += 100 * SECOND;
        assert_eq!(passed(now), 30, "a pause gives back no more than the burst");
        assert!(guard.request(v4(2), now), "another address has its own");
    }

    #[test]
    fn connections_are_given_back() {
        let guard = guard(AddressLimits { connections: 2, ..AddressLimits::default() });
        let first = guard.connection(v4(1), 0).unwrap();
        let second = guard.connection(v4(1), 0).unwrap();
        assert!(guard.connection(v4(1), 0).is_none());
        assert!(guard.connection(v4(1), 0).is_none(), "what was turned away is not counted");
        drop(first);
        let third = guard.connection(v4(1), 0).unwrap();
        // An hour later the key is another one; what was counted under the old one ends under it.
        assert!(guard.connection(v4(1), 3_601 * SECOND).is_some());
        drop((second, third));
    }

    #[test]
    fn one_flood_keeps_hardly_anybody_else_out() {
        let guard = guard(AddressLimits::default());
        for attacker in 0..1_000 {
            assert!((0..600).any(|_| !guard.request(v4(attacker), 0)));
        }
        let out = (0..20_000).filter(|honest| !guard.request(v4(1_000_000 + 7 * honest), 0)).count();
        // (1 - exp(-1000/16384))^2 of 20,000 is 70.
        assert!(out < 150, "{out} of 20,000 honest addresses share both places with attackers");
    }

    #[test]
    fn half_of_ipv6_is_one_network_and_mapped_ipv4_is_ipv4() {
        let guard = guard(AddressLimits { connections: 1, ..AddressLimits::default() });
        let at = |text: &str| text.parse::<IpAddr>().unwrap();
        let _one = guard.connection(at("2001:db8:1:2::1"), 0).unwrap();
        assert!(guard.connection(at("2001:db8:1:2:ffff::9"), 0).is_none());
        let _other = guard.connection(at("2001:db8:1:3::1"), 0).unwrap();
        let _four = guard.connection(at("192.0.2.1"), 0).unwrap();
        assert!(guard.connection(at("::ffff:192.0.2.1"), 0).is_none());
    }
}
