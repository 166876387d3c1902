//! The accept loop.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::{Builder, Connection};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

/// What one listener allows.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections open at once; more wait in the kernel's queue. One costs about 30 kB.
    pub connections: usize,
    /// Time to send a request's head. A slow sender holds a connection no longer than this.
    pub header: Duration,
    /// Time for one request from its head to its answer, the body's arrival included: a sender that
    /// trickles gets 408. The largest body is 22 kB, which any network carries in this time.
    pub request: Duration,
    /// Longest a connection lives, requests and idle time together. Keep-alive clients reconnect.
    pub connection: Duration,
    /// Headers of a request.
    pub headers: usize,
    /// Time that open requests get when the listener stops.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4_096,
            header: Duration::from_secs(10),
            request: Duration::from_secs(15),
            connection: Duration::from_secs(120),
            headers: 64,
            drain: Duration::from_secs(10),
        }
    }
}

/// Answers 408 to a request that takes too long.
async fn in_time(State(limit): State<Duration>, request: Request, next: Next) -> Response {
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => (StatusCode::REQUEST_TIMEOUT, "the request did not arrive in time\n").into_response(),
    }
}

/// Serves `router` until `stop` is done, then lets open requests finish within the drain time.
pub async fn serve(listener: TcpListener, router: Router, limits: Limits, stop: impl Future<Output = ()>) {
    let router = router.layer(from_fn_with_state(limits.request, in_time));
    // HTTP/1.1 alone: told so, the builder starts its timers at once instead of looking for a preface.
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header)
        .max_headers(limits.headers)
        .max_buf_size(32 * 1024)
        .keep_alive(true);
    let builder = Arc::new(builder);
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
            accepted = listener.accept() => accepted,
        };
        let (stream, _) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely: waiting is the only thing that helps.
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(router.clone());
        let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
        tokio::spawn(finish(connection, limits, stopped.clone(), place));
    }
    drop((listener, stopping));
    // All places are free when all connections have ended.
    let all = u32::try_from(limits.connections).unwrap_or(u32::MAX);
    let _ = tokio::time::timeout(limits.drain, places.acquire_many(all)).await;
}

/// Drives a connection to its end: its own, or that of its time, or the server's. In the last two cases the
/// request that is open is answered first.
async fn finish<T>(
    connection: Connection<'static, TokioIo<TcpStream>, TowerToHyperService<Router>, TokioExecutor>,
    limits: Limits,
    mut stopped: watch::Receiver<()>,
    place: T,
) {
    let mut connection = pin!(connection);
    // Errors here are the other side's: closed early, too slow, not HTTP.
    let over = tokio::select! {
        _ = connection.as_mut() => false,
        () = tokio::time::sleep(limits.connection) => true,
        _ = stopped.changed() => true,
    };
    if over {
        connection.as_mut().graceful_shutdown();
        let _ = tokio::time::timeout(limits.drain, connection).await;
    }
    drop(place);
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
        let server = tokio::spawn(serve(listener, router, limits, tokio::time::sleep(stop_after)));
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
