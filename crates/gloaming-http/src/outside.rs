//! Readers of what strangers send, as functions of bytes: for fuzz targets and for tests. No part of the interface: it
//! changes with what it shows.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::BytesMut;
use http::{HeaderMap, Request};
use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::house::{ADDRESSES, House};
use crate::plain::{self, Found};
use crate::server::{Answers, Listener};
use crate::visitor::Visitor;

/// The plain request at the beginning of what has arrived: its head in bytes, and its body in bytes. `most`: headers that
/// it may have.
#[must_use]
pub fn plain(arrived: &[u8], most: usize) -> Option<(Request<()>, usize, usize)> {
    match plain::read(arrived, most, |head| head.request()) {
        Found::Plain(request, head, body) => Some((request, head, body)),
        Found::Part | Found::Other => None,
    }
}

/// Whether what has arrived could still become a plain request.
#[must_use]
pub fn is_part(arrived: &[u8], most: usize) -> bool {
    matches!(plain::read(arrived, most, |head| head.request()), Found::Part)
}

/// Whose request it is, by its peer, the proxies that are trusted, and what the request's head says.
#[must_use]
pub fn visitor(peer: IpAddr, trusted: &[IpNet], headers: &HeaderMap) -> Option<IpAddr> {
    Visitor { peer, trusted }.of(headers.get_all(ADDRESSES[0]).iter().map(|value| value.as_bytes()))
}

/// Serves one connection to its end: as the listener would, or by hyper from the first byte on.
pub async fn converse<A, S>(answers: A, listener: Listener, stream: S, peer: IpAddr, by_hyper: bool)
where
    A: Answers,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (house, _socket) = House::new(answers, listener);
    let (house, (_stopping, stopped)) = (Arc::new(house), watch::channel(()));
    if by_hyper {
        let ends = Instant::now() + house.limits.connection;
        house.rest(BytesMut::new(), stream, peer, ends, stopped).await;
    } else {
        house.first(stream, peer, stopped).await;
    }
}
