//! A request that is refused before its body was read, over HTTP/1.
//!
//! Were its connection closed at once, what is still under way would be answered by a reset, and a reset takes back
//! the answer that the sender has not read yet. So the rest is read and thrown away, within a bound of bytes and time.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::EXPECT;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::{Request, Version};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Most that is thrown away, bytes: the largest body that anything of ours sends, twice.
const MOST: usize = 2 << 20;
/// Longest that is waited for it.
const LONGEST: Duration = Duration::from_secs(2);

/// A body whose rest is read when nobody wants it.
pub(crate) struct Lingering {
    body: Option<Incoming>,
    lingers: bool,
}

impl Lingering {
    /// HTTP/2 can refuse one stream and keep the others, and a sender that waits for 100 sends nothing.
    pub(crate) fn over(request: Request<Incoming>) -> Request<Self> {
        let lingers = request.version() < Version::HTTP_2 && !request.headers().contains_key(EXPECT);
        request.map(|body| Self { body: Some(body), lingers })
    }
}

impl Body for Lingering {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.body.as_mut().map_or(Poll::Ready(None), |body| Pin::new(body).poll_frame(context))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        let Some(mut body) = self.body.take().filter(|body| self.lingers && !body.is_end_stream()) else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(tokio::time::timeout(LONGEST, async move {
            let mut left = MOST;
            while let Some(Ok(frame)) = body.frame().await {
                let Some(rest) = left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) else { break };
                left = rest;
            }
        }));
    }
}

/// Says that no more will come, to whoever reads it soon: over TLS that is bytes, for which there may be no room.
pub(crate) async fn end(stream: &mut (impl AsyncWrite + Unpin)) {
    let _ = tokio::time::timeout(LONGEST, stream.shutdown()).await;
}

/// Ends a connection whose answer was sent before all of its request was read.
pub(crate) async fn part(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    end(stream).await;
    let rest = async {
        // Not within this future: each connection would have room for it, and hardly any comes here.
        let (mut left, mut bytes) = (MOST, vec![0; 4096]);
        while let Ok(count @ 1..) = stream.read(&mut bytes).await {
            let Some(rest) = left.checked_sub(count) else { break };
            left = rest;
        }
    };
    let _ = tokio::time::timeout(LONGEST, rest).await;
}
