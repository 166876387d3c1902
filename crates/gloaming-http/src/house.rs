//! What all connections of a listener share: who is let in, and who answers on a connection.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::BytesMut;
use http::{HeaderValue, Request, StatusCode, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::time::Instant;

use crate::guard::{Guard, Network, Seen};
use crate::linger::{self, Lingering};
use crate::prefixed::Prefixed;
use crate::server::{Answers, Limits, Listener, TurnedAway, count};
use crate::tls::Tls;
use crate::visitor::Visitor;

/// Headers in which proxies name a visitor's address: taken out before a handler sees a request.
pub(crate) const ADDRESSES: [&str; 3] = ["x-forwarded-for", "forwarded", "x-real-ip"];

/// Requests of one HTTP/2 connection at once.
const STREAMS: u32 = 32;

/// What all connections of a listener share.
pub(crate) struct House<A> {
    pub(crate) answers: A,
    tls: Option<Tls>,
    guard: Option<Guard>,
    trusted: Vec<IpNet>,
    pub(crate) limits: Limits,
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

impl<A: Answers> House<A> {
    pub(crate) fn new(answers: A, listener: Listener) -> (Self, TcpListener) {
        let Listener { socket, tls, guard, trusted, limits, turned_away } = listener;
        let house = Self {
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
        };
        (house, socket)
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Serves one connection to its end.
    pub(crate) async fn welcome(self: Arc<Self>, stream: TcpStream, peer: IpAddr, stopped: watch::Receiver<()>) {
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
            None => self.first(stream, peer, stopped).await,
            Some(tls) => match tokio::time::timeout(self.limits.header, tls.acceptor().accept(stream)).await {
                Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                    let ends = Instant::now() + self.limits.connection;
                    Box::pin(Arc::clone(&self).drive(stream, &self.http2, peer, ends, stopped)).await;
                }
                Ok(Ok(stream)) => self.first(stream, peer, stopped).await,
                Ok(Err(_)) | Err(_) => count(&self.turned_away.handshake),
            },
        }
        drop(counted);
    }

    /// Serves HTTP/1.1: plain requests here, and from the first that is not on by hyper.
    pub(crate) async fn first<S>(self: &Arc<Self>, mut stream: S, peer: IpAddr, stopped: watch::Receiver<()>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let ends = Instant::now() + self.limits.connection;
        let Some(read) = self.converse(&mut stream, peer, ends, stopped.clone()).await else {
            return linger::end(&mut stream).await;
        };
        // In a box of its own: a connection that never comes here does not pay for its room.
        Box::pin(self.rest(read, stream, peer, ends, stopped)).await;
    }

    /// Serves what was read already, and all that comes after it, by hyper.
    pub(crate) async fn rest<S>(
        self: &Arc<Self>,
        read: BytesMut,
        stream: S,
        peer: IpAddr,
        ends: Instant,
        stopped: watch::Receiver<()>,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        Arc::clone(self).drive(Prefixed::new(read, stream), &self.http1, peer, ends, stopped).await;
    }

    /// Drives a connection to its end: its own, or that of its time, or the server's. In the last two cases the
    /// request that is open is answered first.
    async fn drive(
        self: Arc<Self>,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        builder: &Builder<TokioExecutor>,
        peer: IpAddr,
        ends: Instant,
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
            () = tokio::time::sleep_until(ends) => true,
            _ = stopped.changed() => true,
        };
        if over {
            connection.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(limits.drain, connection).await;
        }
    }

    /// Whose request it is, of a peer that sends `X-Forwarded-For` with these values.
    pub(crate) fn visitor<'v>(&self, peer: IpAddr, forwarded: impl Iterator<Item = &'v [u8]>) -> Option<IpAddr> {
        Visitor { peer, trusted: &self.trusted }.of(forwarded)
    }

    /// Lets a visitor's request in, or says why not. The address goes no further than this; what does is its network's
    /// number.
    #[expect(clippy::result_large_err, reason = "an answer is as large as it is, and is sent at once")]
    pub(crate) fn admit(&self, visitor: Option<IpAddr>, seen: &mut Option<Seen>) -> Result<Place<'_>, Response> {
        let mut network = None;
        if let (Some(guard), Some(address)) = (&self.guard, visitor) {
            network = guard.request(address, self.now_us(), seen);
            if network.is_none() {
                count(&self.turned_away.rate);
                return Err(later(StatusCode::TOO_MANY_REQUESTS, "too many requests from this address\n"));
            }
        }
        let place = self.requests.try_acquire().map_err(|_| {
            count(&self.turned_away.busy);
            later(StatusCode::SERVICE_UNAVAILABLE, "too many requests at once\n")
        })?;
        Ok(Place { network, _place: place })
    }

    /// What is said of a request whose time is over.
    pub(crate) fn too_slow(&self) -> Response {
        count(&self.turned_away.slow);
        (StatusCode::REQUEST_TIMEOUT, "the request did not arrive in time\n").into_response()
    }

    async fn answer(&self, peer: IpAddr, request: Request<Incoming>) -> Response {
        let mut request = Lingering::over(request);
        let forwarded = request.headers().get_all(ADDRESSES[0]).iter().map(|value| value.as_bytes());
        let place = match self.admit(self.visitor(peer, forwarded), &mut None) {
            Ok(place) => place,
            Err(turned_away) => return turned_away,
        };
        place.mark(&mut request);
        let answer = self.answers.answer(request.map(Body::new));
        tokio::time::timeout(self.limits.request, answer).await.unwrap_or_else(|_| self.too_slow())
    }
}

/// A request that is being answered.
pub(crate) struct Place<'h> {
    pub(crate) network: Option<Network>,
    _place: SemaphorePermit<'h>,
}

impl Place<'_> {
    /// What a handler is to know of the sender, and nothing else.
    pub(crate) fn mark<B>(&self, request: &mut Request<B>) {
        if let Some(network) = self.network {
            request.extensions_mut().insert(network);
        }
        for name in ADDRESSES {
            request.headers_mut().remove(name);
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
