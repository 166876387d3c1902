//! The accept loop.

use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, Request, StatusCode, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tower::Service as _;

use crate::guard::{AddressLimits, Guard};
use crate::linger::Lingering;
use crate::tls::Tls;
use crate::visitor::Visitor;

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

/// Headers in which proxies name a visitor's address: taken out before a handler sees a request.
const ADDRESSES: [&str; 3] = ["x-forwarded-for", "forwarded", "x-real-ip"];

/// Requests of one HTTP/2 connection at once.
const STREAMS: u32 = 32;

macro_rules! turned_away {
    ($($(#[$doc:meta])* $name:ident: $word:literal),+ $(,)?) => {
        /// Whom a listener turned away before any handler saw them, and why.
        #[derive(Debug, Default)]
        pub struct TurnedAway { $($(#[$doc])* $name: AtomicU64),+ }

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

fn count(counter: &AtomicU64) {
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
    socket: TcpListener,
    tls: Option<Tls>,
    guard: Option<Guard>,
    trusted: Vec<IpNet>,
    limits: Limits,
    turned_away: Arc<TurnedAway>,
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

/// Whoever answers the requests that a listener lets in.
pub trait Answers: Clone + Send + Sync + 'static {
    /// Answers one request. The sender's address is not in it.
    fn answer(&self, request: Request<Body>) -> impl Future<Output = Response> + Send;
}

impl Answers for Router {
    async fn answer(&self, request: Request<Body>) -> Response {
        let Ok(response) = self.clone().call(request).await;
        response
    }
}

/// What all connections of a listener share.
struct House<A> {
    answers: A,
    tls: Option<Tls>,
    guard: Option<Guard>,
    trusted: Vec<IpNet>,
    limits: Limits,
    turned_away: Arc<TurnedAway>,
    requests: Semaphore,
    began: Instant,
    http1: Builder<TokioExecutor>,
    http2: Builder<TokioExecutor>,
}

fn http1(limits: Limits) -> Builder<TokioExecutor> {
    // HTTP/1.1 alone: told so, the builder starts its timers at once instead of looking for a preface.
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header)
        .max_headers(limits.headers)
        .max_buf_size(32 * 1024)
        .keep_alive(true);
    builder
}

fn http2(limits: Limits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new()).http2_only();
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(limits.headers * 256).unwrap_or(u32::MAX))
        // A peer that opens and resets at once (CVE-2023-44487) is hung up on after so many.
        .max_pending_accept_reset_streams(STREAMS as usize)
        .max_local_error_reset_streams(STREAMS as usize)
        .initial_stream_window_size(64 * 1024)
        .initial_connection_window_size(256 * 1024)
        .max_send_buf_size(256 * 1024)
        .keep_alive_interval(limits.header)
        .keep_alive_timeout(limits.header);
    builder
}

/// Serves until `stop` is done, then lets open requests finish within the drain time.
pub async fn serve(listener: impl Into<Listener>, answers: impl Answers, stop: impl Future<Output = ()>) {
    let Listener { socket, tls, guard, trusted, limits, turned_away } = listener.into();
    let house = Arc::new(House {
        answers,
        tls,
        guard,
        trusted,
        limits,
        turned_away,
        requests: Semaphore::new(limits.requests),
        began: Instant::now(),
        http1: http1(limits),
        http2: http2(limits),
    });
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

impl<A: Answers> House<A> {
    fn now_us(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    async fn welcome(self: Arc<Self>, stream: TcpStream, peer: IpAddr, stopped: watch::Receiver<()>) {
        let address = Visitor { peer, trusted: &self.trusted }.connected();
        let mut counted = None;
        if let (Some(guard), Some(address)) = (&self.guard, address) {
            counted = guard.connection(address, self.now_us());
            if counted.is_none() {
                return count(&self.turned_away.connections);
            }
        }
        let _ = stream.set_nodelay(true);
        match &self.tls {
            None => Arc::clone(&self).drive(stream, &self.http1, peer, stopped).await,
            Some(tls) => match tokio::time::timeout(self.limits.header, tls.acceptor().accept(stream)).await {
                Ok(Ok(stream)) => {
                    let second = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    let builder = if second { &self.http2 } else { &self.http1 };
                    Arc::clone(&self).drive(stream, builder, peer, stopped).await;
                }
                Ok(Err(_)) | Err(_) => count(&self.turned_away.handshake),
            },
        }
        drop(counted);
    }

    /// Drives a connection to its end: its own, or that of its time, or the server's. In the last two cases the
    /// request that is open is answered first.
    async fn drive(
        self: Arc<Self>,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        builder: &Builder<TokioExecutor>,
        peer: IpAddr,
        mut stopped: watch::Receiver<()>,
    ) {
        let limits = self.limits;
        let asked = Arc::new(AtomicBool::new(false));
        let first = Arc::clone(&asked);
        let service = service_fn(move |request| {
            first.store(true, Ordering::Relaxed);
            let house = Arc::clone(&self);
            async move { Ok::<_, Infallible>(house.answer(peer, request).await) }
        });
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        // Errors here are the other side's: closed early, too slow, not HTTP.
        let over = tokio::select! {
            _ = connection.as_mut() => false,
            // HTTP/2 has no timer of its own for a preface or a head that trickles.
            () = unasked(limits.header, &asked) => false,
            () = tokio::time::sleep(limits.connection) => true,
            _ = stopped.changed() => true,
        };
        if over {
            connection.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(limits.drain, connection).await;
        }
    }

    /// The address goes no further than this.
    async fn answer(&self, peer: IpAddr, request: Request<Incoming>) -> Response {
        let mut request = Lingering::over(request);
        let address = Visitor { peer, trusted: &self.trusted }.of(request.headers());
        if let (Some(guard), Some(address)) = (&self.guard, address) {
            if !guard.request(address, self.now_us()) {
                count(&self.turned_away.rate);
                return later(StatusCode::TOO_MANY_REQUESTS, "too many requests from this address\n");
            }
            request.extensions_mut().insert(guard.network(address, self.now_us()));
        }
        for name in ADDRESSES {
            request.headers_mut().remove(name);
        }
        let Ok(_place) = self.requests.try_acquire() else {
            count(&self.turned_away.busy);
            return later(StatusCode::SERVICE_UNAVAILABLE, "too many requests at once\n");
        };
        match tokio::time::timeout(self.limits.request, self.answers.answer(request.map(Body::new))).await {
            Ok(response) => response,
            Err(_) => {
                count(&self.turned_away.slow);
                (StatusCode::REQUEST_TIMEOUT, "the request did not arrive in time\n").into_response()
            }
        }
    }
}

/// Done when nothing was asked within a time.
async fn unasked(within: Duration, asked: &AtomicBool) {
    tokio::time::sleep(within).await;
    if asked.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
}

fn later(status: StatusCode, why: &'static str) -> Response {
    let mut response = (status, why).into_response();
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

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
