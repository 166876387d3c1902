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

/// How long the table's key lives, ms.
const HOUR_MS: u64 = 3_600_000;
/// How long the key lives under which networks have a number, ms: longer than the longest window, so that at most one
/// change of numbers, and with it a second share, falls into a window.
const NETWORK_MS: u64 = 8 * 24 * HOUR_MS;

/// What one address may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressLimits {
    /// Requests a second, for long; 0 is no limit.
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

/// A number that stands for a network for eight days: 256 addresses of IPv4, a /48 of IPv6. Handlers get it as a
/// request's extension, and never the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network(pub u64);

/// What is made anew when its time is over.
struct Rotating<T> {
    make: fn([u8; 32]) -> T,
    period_ms: u64,
    /// Until when, and what.
    current: RwLock<(u64, Arc<T>)>,
}

impl<T> Rotating<T> {
    fn new(period_ms: u64, make: fn([u8; 32]) -> T, first: [u8; 32]) -> Self {
        Self { make, period_ms, current: RwLock::new((0, Arc::new(make(first)))) }
    }

    fn at(&self, now_us: u64, entropy: &dyn Fn() -> [u8; 32]) -> Arc<T> {
        let now_ms = now_us / 1_000;
        {
            let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
            if now_ms < current.0 {
                return Arc::clone(&current.1);
            }
        }
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if now_ms >= current.0 {
            *current = (now_ms + self.period_ms, Arc::new((self.make)(entropy())));
        }
        Arc::clone(&current.1)
    }
}

/// One key, and what was counted under it.
struct Table {
    key: [u8; 32],
    /// When each place will have its tokens back, in µs (the generic cell rate algorithm of ATM).
    full_at: Vec<AtomicU64>,
    connections: Vec<AtomicU32>,
}

impl Table {
    fn new(key: [u8; 32]) -> Self {
        let places = 2 * PLACES;
        Self {
            key,
            full_at: std::iter::repeat_with(AtomicU64::default).take(places).collect(),
            connections: std::iter::repeat_with(AtomicU32::default).take(places).collect(),
        }
    }

    fn places(&self, address: IpAddr) -> [usize; 2] {
        // Whoever has one half of IPv6 has all of the other.
        let hash = keyed(&self.key, address, 32, 64);
        let place = |at: usize| usize::from(u16::from_le_bytes([hash[at], hash[at + 1]])) % PLACES;
        [place(0), PLACES + place(2)]
    }
}

/// SHA-256 of a key and an address's first bits.
fn keyed(key: &[u8; 32], address: IpAddr, v4_bits: u32, v6_bits: u32) -> [u8; 32] {
    let (number, bits) = match address.to_canonical() {
        IpAddr::V4(address) => (address.to_ipv6_mapped().to_bits(), 96 + v4_bits),
        IpAddr::V6(address) => (address.to_bits(), v6_bits),
    };
    let kept = number & u128::MAX.checked_shl(128 - bits).unwrap_or(0);
    let mut text = [0; 48];
    text[..32].copy_from_slice(key);
    text[32..].copy_from_slice(&kept.to_be_bytes());
    hash::sha256(&text)
}

/// Holds addresses to their limits.
pub(crate) struct Guard {
    limits: AddressLimits,
    entropy: Box<dyn Fn() -> [u8; 32] + Send + Sync>,
    table: Rotating<Table>,
    network: Rotating<[u8; 32]>,
}

/// What the address of a connection's last request was found to be: the same hashes are not worked out for each.
pub(crate) struct Seen {
    address: IpAddr,
    table: Arc<Table>,
    places: [usize; 2],
    key: Arc<[u8; 32]>,
    network: Network,
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
    /// With keys from `entropy`: one an hour, and one every eight days.
    pub(crate) fn new(limits: AddressLimits, entropy: impl Fn() -> [u8; 32] + Send + Sync + 'static) -> Self {
        let table = Rotating::new(HOUR_MS, Table::new, entropy());
        let network = Rotating::new(NETWORK_MS, |key| key, entropy());
        Self { limits, entropy: Box::new(entropy), table, network }
    }

    /// What an address is under the keys of now; `seen` keeps it for its next request.
    fn see<'s>(&self, address: IpAddr, now_us: u64, seen: &'s mut Option<Seen>) -> &'s Seen {
        let (table, key) = (self.table.at(now_us, &self.entropy), self.network.at(now_us, &self.entropy));
        let same =
            |seen: &Seen| seen.address == address && Arc::ptr_eq(&seen.table, &table) && Arc::ptr_eq(&seen.key, &key);
        let kept = seen.take().filter(same);
        seen.insert(kept.unwrap_or_else(|| {
            let mut number = [0; 8];
            number.copy_from_slice(&keyed(&key, address, 24, 48)[..8]);
            let network = Network(u64::from_le_bytes(number));
            Seen { address, places: table.places(address), table, key, network }
        }))
    }

    /// Counts a new connection, or has none to spare. `now_us` is any monotonic time.
    pub(crate) fn connection(&self, address: IpAddr, now_us: u64) -> Option<Counted> {
        let table = self.table.at(now_us, &self.entropy);
        let places = table.places(address);
        let open = places.map(|place| table.connections[place].fetch_add(1, Ordering::Relaxed));
        let counted = Counted(table, places);
        (open.into_iter().min() < Some(self.limits.connections)).then_some(counted)
    }

    /// Takes a token for a request, and says what number stands for the address's network for now; or has none.
    pub(crate) fn request(&self, address: IpAddr, now_us: u64, seen: &mut Option<Seen>) -> Option<Network> {
        let Seen { table, places, network, .. } = self.see(address, now_us, seen);
        if self.limits.per_second == 0 {
            return Some(*network);
        }
        let cost = 1_000_000 / u64::from(self.limits.per_second.max(1));
        let ahead = cost * u64::from(self.limits.burst.max(1));
        let mut taken = false;
        for place in places {
            let take = |full_at: u64| Some(full_at.max(now_us) + cost).filter(|after| *after <= now_us + ahead);
            taken |= table.full_at[*place].fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok();
        }
        taken.then_some(*network)
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
        let mut seen = None;
        let mut passed = |now| (0..1_000).filter(|_| guard.request(v4(1), now, &mut seen).is_some()).count();
        assert_eq!(passed(now), 30);
        now += SECOND;
        assert_eq!(passed(now), 10);
        now += 100 * SECOND;
        assert_eq!(passed(now), 30, "a pause gives back no more than the burst");
        assert!(guard.request(v4(2), now, &mut seen).is_some(), "another address has its own");
        assert!(guard.request(v4(1), now, &mut seen).is_none(), "one connection or two, it is the same address");
        assert!(guard.request(v4(1), now + HOUR_MS * 1_000, &mut seen).is_some(), "the key that was seen is over");
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
            assert!((0..600).any(|_| guard.request(v4(attacker), 0, &mut None).is_none()));
        }
        let out = |honest: &u32| guard.request(v4(1_000_000 + 7 * honest), 0, &mut None).is_none();
        let out = (0..20_000).filter(out).count();
        // (1 - exp(-1000/16384))^2 of 20,000 is 70.
        assert!(out < 150, "{out} of 20,000 honest addresses share both places with attackers");
    }

    #[test]
    fn a_network_has_one_number_for_eight_days() {
        let keys = AtomicU32::new(0);
        let guard = Guard::new(AddressLimits::default(), move || {
            let mut key = [0; 32];
            key[..4].copy_from_slice(&keys.fetch_add(1, Ordering::Relaxed).to_le_bytes());
            key
        });
        let mut seen = None;
        let mut of = |text: &str, hour: u64| guard.see(text.parse().unwrap(), hour * 3_600 * SECOND, &mut seen).network;
        let first = of("192.0.2.1", 0);
        assert_eq!(of("192.0.2.255", 8 * 24 - 1), first);
        assert_ne!(of("192.0.3.1", 0), first);
        assert_eq!(of("2001:db8:1:2::1", 1), of("2001:db8:1:ffff::", 2));
        assert_ne!(of("2001:db8:1::1", 1), of("2001:db8:2::1", 1));
        assert_ne!(of("192.0.2.1", 8 * 24), first, "then it is another number");
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
