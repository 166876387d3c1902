//! Plain requests of one connection, one after the other.
//!
//! A beacon is a few hundred bytes that come at once and an answer of two hundred. A general server spends several times
//! on it what the kernel does: it starts timers, polls futures in futures, and keeps a body apart from its head. Here a
//! connection has one buffer, one timer that is set again only when it rings, and a request is answered where it is read.

use std::net::IpAddr;
use std::pin::{Pin, pin};

use axum::body::{Body, to_bytes};
use bytes::{Buf as _, Bytes, BytesMut};
use http::header::CONNECTION;
use http::{HeaderValue, Request};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

use crate::house::{ADDRESSES, House};
use crate::linger;
use crate::plain::{self, Found, Head, has_body};
use crate::server::{Answers, Said};

/// Bytes that are read at once: more than a head and a beacon.
const ROOM: usize = 4 << 10;
/// Bodies of answers up to this are sent in one piece with their head.
const TOGETHER: usize = 8 << 10;

/// A plain request whose head was read.
enum Asked<K> {
    Known(K),
    Any(Box<Request<()>>),
}

/// One timer of a connection.
struct Clock(Pin<Box<Sleep>>);

impl Clock {
    /// Done at a time. To set a timer costs more than to look at the time, so it is left to ring early.
    async fn at(&mut self, due: Instant) {
        if self.0.deadline() > due {
            self.0.as_mut().reset(due);
        }
        loop {
            self.0.as_mut().await;
            if Instant::now() >= due {
                return;
            }
            self.0.as_mut().reset(due);
        }
    }
}

/// Reads what comes next; whether anything came.
async fn more(stream: &mut (impl AsyncRead + Unpin), buffer: &mut BytesMut, room: usize) -> bool {
    buffer.reserve(room);
    matches!(stream.read_buf(buffer).await, Ok(1..))
}

impl<A: Answers> House<A> {
    /// What is kept of a head, and whose it is.
    fn asked(&self, peer: IpAddr, head: &Head<'_>) -> Option<(Asked<A::Known>, Option<IpAddr>)> {
        let asked = match self.answers.know(head) {
            Some(known) => Asked::Known(known),
            None => Asked::Any(Box::new(head.request()?)),
        };
        Some((asked, self.visitor(peer, head.values(ADDRESSES[0]))))
    }

    /// Answers plain requests as they come. Gives back what has been read when something else comes; nothing when the
    /// connection is over. It ends after `ends`, and when the server stops, with the answer to what is open then.
    pub(crate) async fn converse<S>(
        &self,
        stream: &mut S,
        peer: IpAddr,
        ends: Instant,
        mut stopped: watch::Receiver<()>,
    ) -> Option<BytesMut>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let limits = self.limits;
        let (mut buffer, mut answer) = (BytesMut::new(), Vec::new());
        let mut clock = Clock(Box::pin(sleep_until(Instant::now() + limits.header)));
        let stop = stopped.clone();
        let mut stopped = pin!(stopped.changed());
        let (mut stopping, mut seen) = (false, None);
        loop {
            let due = Instant::now() + limits.header;
            // A piece without a line's end ends no head: it is not parsed again for it.
            let mut parsed = 0;
            let ((asked, visitor), head, length) = loop {
                if buffer.is_empty() {
                    if stopping {
                        return None;
                    }
                } else if parsed == 0 || buffer.len() >= plain::HEAD || buffer[parsed..].contains(&b'\n') {
                    match plain::read(&buffer, limits.headers, |head| self.asked(peer, head)) {
                        Found::Plain(asked, head, length) => break (asked, head, length),
                        Found::Other => return Some(buffer),
                        Found::Part => parsed = buffer.len(),
                    }
                }
                let due = if buffer.is_empty() { due.min(ends) } else { due };
                tokio::select! {
                    biased;
                    more = more(stream, &mut buffer, ROOM) => if !more { return None },
                    () = clock.at(due) => return None,
                    _ = &mut stopped, if !stopping => stopping = true,
                }
            };
            let due = Instant::now() + limits.request;
            let whole = head + length;
            // Of what is refused on its head no body is waited for: hyper refuses it and reads on for a while.
            if let Asked::Any(request) = &asked
                && buffer.len() < whole
                && !self.answers.awaits(request)
            {
                return Some(buffer);
            }
            // The peer's address is the socket's; one that a proxy names is not kept from one request to the next.
            let mut forgotten = None;
            let seen = if visitor == Some(peer) { &mut seen } else { &mut forgotten };
            let said = match self.admit(visitor, seen) {
                Err(turned_away) => Said::Whole(turned_away),
                Ok(place) => {
                    let answered = async {
                        while buffer.len() < whole {
                            let missing = whole - buffer.len();
                            if !more(stream, &mut buffer, missing).await {
                                return None;
                            }
                        }
                        let body = Bytes::copy_from_slice(&buffer[head..whole]);
                        Some(match asked {
                            Asked::Known(known) => self.answers.answer_known(known, body, place.network).await,
                            Asked::Any(mut request) => {
                                place.mark(&mut request);
                                let request = request.map(|()| Body::from(body));
                                Said::Whole(self.answers.answer(request).await)
                            }
                        })
                    };
                    tokio::select! {
                        biased;
                        answered = answered => answered?,
                        () = clock.at(due) => Said::Whole(self.too_slow()),
                    }
                }
            };
            let read = buffer.len() >= whole;
            if read {
                buffer.advance(whole);
            }
            let mut last = !read || stop.has_changed().is_err() || Instant::now() >= ends;
            answer.clear();
            let body = match said {
                Said::Brief(brief) => {
                    plain::write_brief(&mut answer, &brief, last);
                    Bytes::new()
                }
                Said::Whole(response) => {
                    let (parts, body) = response.into_parts();
                    let close = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"close");
                    last |= parts.headers.get(CONNECTION).is_some_and(close);
                    // All of ours are at hand; one that comes bit by bit would have to be gathered within the request's
                    // time.
                    let body = match has_body(parts.status) {
                        true => timeout_at(due, to_bytes(body, usize::MAX)).await.ok()?.ok()?,
                        false => Bytes::new(),
                    };
                    plain::write(&mut answer, &parts, body.len(), last);
                    body
                }
            };
            let sent = tokio::select! {
                biased;
                sent = send(stream, &mut answer, &body) => sent.is_ok(),
                () = clock.at(ends + limits.drain) => false,
            };
            if !sent {
                return None;
            }
            if !read {
                linger::part(stream).await;
                return None;
            }
            if last {
                return None;
            }
            // By what was read: its capacity does not count what lies before its beginning.
            if buffer.is_empty() && whole > 2 * ROOM {
                buffer = BytesMut::new();
            }
        }
    }
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), head: &mut Vec<u8>, body: &[u8]) -> std::io::Result<()> {
    if body.len() <= TOGETHER {
        head.extend_from_slice(body);
        stream.write_all(head).await?;
    } else {
        stream.write_all(head).await?;
        stream.write_all(body).await?;
    }
    stream.flush().await
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
