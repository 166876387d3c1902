//! The accept loop.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::Request;
use ipnet::IpNet;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{Semaphore, watch};
use tower::Service as _;

use crate::guard::{AddressLimits, Guard, Network};
use crate::house::House;
use crate::plain::{Brief, Head};
use crate::tls::Tls;

/// What one listener allows.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections open at once; more wait in the kernel's queue. One costs about 30 kB.
    pub connections: usize,
    /// Requests being answered at once, of all connections together; more get 503. HTTP/2 puts many on one.
    pub requests: usize,
    /// Time to shake hands, and to send a request's head. A slow sender holds a connection no longer than this.
    pub header: Duration,
    /// Time for one request from its head to its answer, the body's arrival included: a sender that
    /// trickles gets 408. The largest body is 22 kB, which any network carries in this time.
    pub request: Duration,
    /// Longest a connection lives, requests and idle time together. Keep-alive clients reconnect.
    pub connection: Duration,
    /// Headers of a request over HTTP/1.1, and 256 bytes for each of them over HTTP/2.
    pub headers: usize,
    /// Time that open requests get when the listener stops.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4_096,
            requests: 4_096,
            header: Duration::from_secs(10),
            request: Duration::from_secs(15),
            connection: Duration::from_secs(120),
            headers: 64,
            drain: Duration::from_secs(10),
        }
    }
}

macro_rules! turned_away {
    ($($(#[$doc:meta])* $name:ident: $word:literal),+ $(,)?) => {
        /// Whom a listener turned away before any handler saw them, and why.
        #[derive(Debug, Default)]
        pub struct TurnedAway { $($(#[$doc])* pub(crate) $name: AtomicU64),+ }

        impl TurnedAway {
            /// Each reason's word, and how often.
            #[must_use]
            pub fn counts(&self) -> Vec<(&'static str, u64)> {
                vec![$(($word, self.$name.load(Ordering::Relaxed))),+]
            }
        }
    };
}

turned_away! {
    /// More connections than one address may have.
    connections: "address-connections",
    /// More requests than one address may make.
    rate: "address-rate",
    /// More requests at once than this listener takes.
    busy: "busy",
    /// A handshake that failed or took too long.
    handshake: "handshake",
    /// A request that took too long.
    slow: "slow",
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Connections that wait in the kernel's queue; the kernel allows 4,096 where nobody changed it. A shorter queue
/// makes the clients of a sudden crowd wait a second each, for their first packet is dropped.
const BACKLOG: u32 = 4_096;

/// Listens on an address with a queue that holds a crowd.
///
/// # Errors
/// As the operating system says, of the last address that the name stands for.
pub async fn bind(address: &str) -> std::io::Result<TcpListener> {
    let mut last = std::io::Error::new(std::io::ErrorKind::InvalidInput, "the name stands for no address");
    for address in tokio::net::lookup_host(address).await? {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A restart must not wait for connections of the process before to be forgotten.
        socket.set_reuseaddr(true)?;
        match socket.bind(address).and_then(|()| socket.listen(BACKLOG)) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A socket, and how strangers on it are treated.
pub struct Listener {
    pub(crate) socket: TcpListener,
    pub(crate) tls: Option<Tls>,
    pub(crate) guard: Option<Guard>,
    pub(crate) trusted: Vec<IpNet>,
    pub(crate) limits: Limits,
    pub(crate) turned_away: Arc<TurnedAway>,
}

impl From<TcpListener> for Listener {
    /// In plain text, and all addresses alike.
    fn from(socket: TcpListener) -> Self {
        let (limits, turned_away) = (Limits::default(), Arc::default());
        Self { socket, tls: None, guard: None, trusted: Vec::new(), limits, turned_away }
    }
}

impl Listener {
    /// Speaks TLS, with HTTP/2 and HTTP/1.1.
    #[must_use]
    pub fn tls(mut self, tls: Option<Tls>) -> Self {
        self.tls = tls;
        self
    }

    /// Holds each address to a limit, under keys from `entropy`. Proxies in `trusted` are believed about whose
    /// request it is, and are held to none themselves.
    #[must_use]
    pub fn guarded(
        mut self,
        limits: AddressLimits,
        trusted: Vec<IpNet>,
        entropy: impl Fn() -> [u8; 32] + Send + Sync + 'static,
    ) -> Self {
        (self.guard, self.trusted) = (Some(Guard::new(limits, entropy)), trusted);
        self
    }

    /// With other limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Where it is.
    ///
    /// # Errors
    /// When the operating system does not say.
    pub fn local_addr(&self) -> std::io::Result<std::net::SocketAddr> {
        self.socket.local_addr()
    }

    /// Who was turned away; counts go on while it serves.
    #[must_use]
    pub fn turned_away(&self) -> Arc<TurnedAway> {
        Arc::clone(&self.turned_away)
    }
}

/// What is said to a request that was known by its head.
pub enum Said {
    /// Written already.
    Brief(Brief),
    /// As to any other request.
    Whole(Response),
}

/// Whoever answers the requests that a listener lets in.
///
/// Most requests may be of one kind. It can be told by its head as it lies on the connection, and is then answered past
/// all that requests in general need: the same as it would be answered otherwise, for whoever sends it in another shape
/// is.
pub trait Answers: Clone + Send + Sync + 'static {
    /// What is kept of a head by which a request was known.
    type Known: Send;

    /// Knows a plain request by its head, or does not. Its body is waited for.
    fn know(&self, _head: &Head<'_>) -> Option<Self::Known> {
        None
    }

    /// Answers a request that was known.
    fn answer_known(
        &self,
        known: Self::Known,
        body: Bytes,
        network: Option<Network>,
    ) -> impl Future<Output = Said> + Send;

    /// Answers one request. The sender's address is not in it.
    fn answer(&self, request: Request<Body>) -> impl Future<Output = Response> + Send;

    /// Whether a small body that did not come together with its head is worth the room to wait for it. What would be
    /// refused on its head alone is not.
    fn awaits(&self, _head: &Request<()>) -> bool {
        false
    }
}

impl Answers for Router {
    type Known = Infallible;

    async fn answer_known(&self, known: Infallible, _: Bytes, _: Option<Network>) -> Said {
        match known {}
    }

    async fn answer(&self, request: Request<Body>) -> Response {
        let Ok(response) = self.clone().call(request).await;
        response
    }
}

/// Serves until `stop` is done, then lets open requests finish within the drain time.
pub async fn serve(listener: impl Into<Listener>, answers: impl Answers, stop: impl Future<Output = ()>) {
    let listener = listener.into();
    let limits = listener.limits;
    let (house, socket) = House::new(answers, listener);
    let house = Arc::new(house);
    let (stopping, stopped) = watch::channel(());
    let places = Arc::new(Semaphore::new(limits.connections));
    tokio::pin!(stop);
    loop {
        let place = tokio::select! {
            () = &mut stop => break,
            place = Arc::clone(&places).acquire_owned() => place,
        };
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = socket.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely: waiting is the only thing that helps.
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (house, stopped) = (Arc::clone(&house), stopped.clone());
        tokio::spawn(async move {
            house.welcome(stream, peer.ip(), stopped).await;
            drop(place);
        });
    }
    drop((socket, stopping));
    // All places are free when all connections have ended.
    let all = u32::try_from(limits.connections).unwrap_or(u32::MAX);
    let _ = tokio::time::timeout(limits.drain, places.acquire_many(all)).await;
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    async fn slow() -> &'static str {
        tokio::time::sleep(Duration::from_millis(400)).await;
        "answered"
    }

    async fn ask(limits: Limits, stop_after: Duration) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", axum::routing::get(slow));
        let server =
            tokio::spawn(serve(Listener::from(listener).limits(limits), router, tokio::time::sleep(stop_after)));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        server.abort();
        answer
    }

    #[tokio::test]
    async fn whoever_ends_a_connection_the_open_request_is_answered() {
        let short = Limits { connection: Duration::from_millis(100), ..Limits::default() };
        let answer = ask(short, Duration::from_secs(60)).await;
        assert!(answer.ends_with("answered") && answer.contains("connection: close"), "{answer}");
        let answer = ask(Limits::default(), Duration::from_millis(100)).await;
        assert!(answer.ends_with("answered"), "{answer}");
    }

    #[tokio::test]
    async fn a_request_that_takes_too_long_is_told_so() {
        let answer = ask(
            Limits { request: Duration::from_millis(50), connection: Duration::from_millis(100), ..Limits::default() },
            Duration::from_secs(60),
        )
        .await;
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
}
