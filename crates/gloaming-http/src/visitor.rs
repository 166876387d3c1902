//! Whose request it is: the peer's, or that of whom a trusted proxy names.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

/// Addresses that are looked at in a header, from its end.
const HOPS: usize = 16;

/// Where a connection comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visitor<'t> {
    pub(crate) peer: IpAddr,
    pub(crate) trusted: &'t [IpNet],
}

impl Visitor<'_> {
    fn is_proxy(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted.iter().any(|network| network.contains(&address))
    }

    /// The address whose connections are counted; a proxy's are not.
    pub(crate) fn connected(&self) -> Option<IpAddr> {
        (!self.is_proxy(self.peer)).then_some(self.peer)
    }

    /// The address whose requests are counted: of those that `X-Forwarded-For` (its values, in order) names, the last that
    /// is not a trusted proxy's. Whatever a stranger writes there stands further left, or counts for nothing. None when a
    /// trusted proxy names nobody: it limits its visitors itself.
    pub(crate) fn of<'v>(&self, forwarded: impl Iterator<Item = &'v [u8]>) -> Option<IpAddr> {
        if !self.is_proxy(self.peer) {
            return Some(self.peer);
        }
        let named: Vec<&[u8]> = forwarded
            .flat_map(|value| value.split(|byte| *byte == b','))
            .filter(|name| !name.trim_ascii().is_empty())
            .collect();
        let mut last = None;
        for name in named.iter().rev().take(HOPS) {
            // What is no address was not written by a proxy that can be believed: it counts as that proxy's.
            let Some(address) = address_of(name) else { return Some(last.unwrap_or(self.peer)) };
            if !self.is_proxy(address) {
                return Some(address);
            }
            last = Some(address);
        }
        last
    }
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1` or `[2001:db8::1]:80`.
fn address_of(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn of(peer: &str, headers: &[&str]) -> Option<String> {
        let trusted = ["127.0.0.1/32", "10.0.0.0/8", "2001:db8:9::/48"].map(|network| network.parse().unwrap());
        let visitor = Visitor { peer: peer.parse().unwrap(), trusted: &trusted };
        visitor.of(headers.iter().map(|value| value.as_bytes())).map(|address| address.to_string())
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(of("192.0.2.7", &["198.51.100.1"]), some("192.0.2.7"), "a stranger says what it likes");
        assert_eq!(of("127.0.0.1", &["198.51.100.1"]), some("198.51.100.1"));
        assert_eq!(of("::ffff:127.0.0.1", &["198.51.100.1"]), some("198.51.100.1"));
        assert_eq!(
            of("127.0.0.1", &["203.0.113.5, 198.51.100.1, 10.1.2.3"]),
            some("198.51.100.1"),
            "the last stranger"
        );
        assert_eq!(of("127.0.0.1", &["203.0.113.5", "198.51.100.1 , 10.1.2.3"]), some("198.51.100.1"));
        assert_eq!(of("2001:db8:9::1", &["[2001:db8::1]:443"]), some("2001:db8::1"));
        assert_eq!(of("10.0.0.1", &["198.51.100.1:5555"]), some("198.51.100.1"));
    }

    #[test]
    fn who_is_not_named_is_not_limited_and_nonsense_is() {
        assert_eq!(of("127.0.0.1", &[]), None);
        assert_eq!(of("127.0.0.1", &["", " , "]), None);
        assert_eq!(of("127.0.0.1", &["198.51.100.1, unknown"]), Some("127.0.0.1".to_owned()));
        assert_eq!(of("127.0.0.1", &["198.51.100.1, nonsense, 10.0.0.9"]), Some("10.0.0.9".to_owned()));
        assert_eq!(of("127.0.0.1", &["10.0.0.8, 10.0.0.9"]), Some("10.0.0.8".to_owned()), "one of our own");
    }
}
