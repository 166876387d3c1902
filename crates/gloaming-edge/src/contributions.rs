//! Submissions that browsers post: nearly all requests that an edge answers.

use std::convert::identity;
use std::io::Write as _;
use std::sync::Arc;

use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use gloaming_http::{Brief, Head, Network, Said};
use gloaming_signal::{Reason, limits};
use gloaming_window::Answer;
use http::{HeaderValue, Method, StatusCode, header};

use crate::server::{Context, EXPOSED, TIME, finish_for, origin_of};

/// Where browsers post.
pub(crate) const CONTRIBUTIONS: &str = "/g/v1/contributions";
/// Bytes of a submission's body at most, as base64.
const MOST: usize = limits::SUBMISSION_BYTES.div_ceil(3) * 4;

/// A submission whose head says all that need be known of it.
pub(crate) struct Known {
    origin: Option<HeaderValue>,
    is_text: bool,
}

impl Known {
    /// By its head; not when the page's origin is none of ours, or is said twice.
    pub(crate) fn by(context: &Context, head: &Head<'_>) -> Option<Self> {
        if head.method() != Method::POST || head.path() != CONTRIBUTIONS || head.values("origin").nth(1).is_some() {
            return None;
        }
        let origin = context.origin(head.values("origin").next()).ok()?;
        Some(Self { origin, is_text: head.values("content-type").next().is_some_and(is_text) })
    }

    /// What [`contributions`] would answer.
    pub(crate) async fn answer(self, context: &Context, body: Bytes, network: Option<Network>) -> Said {
        match submitted(context, body, self.is_text, network).await {
            Ok(answer) => Said::Brief(brief(context.engine.now_ms(), self.origin.as_ref(), &answer.each)),
            Err(response) => Said::Whole(finish_for(context, self.origin, response)),
        }
    }
}

/// What a page can post without a preflight is text: base64. Any other type is taken for the bytes.
fn is_text(content_type: &[u8]) -> bool {
    content_type.starts_with(b"text/plain")
}

pub(crate) fn is_contribution<B>(request: &http::Request<B>) -> bool {
    request.method() == Method::POST && request.uri().path() == CONTRIBUTIONS
}

pub(crate) async fn contributions(State(context): State<Arc<Context>>, request: Request) -> Response {
    // A page of a site that is unknown here is turned away before its body is read.
    let Ok(origin) = context.origin(origin_of(request.headers())) else {
        let body = serde_json::json!({ "reason": "origin", "remedy": "add the page's origin to `origins` in the policy and sign it again" });
        return (StatusCode::FORBIDDEN, axum::Json(body)).into_response();
    };
    let network = request.extensions().get::<Network>().copied();
    let (head, body) = request.into_parts();
    let is_text = head.headers.get(header::CONTENT_TYPE).is_some_and(|kind| is_text(kind.as_bytes()));
    let response = match to_bytes(body, MOST).await {
        Ok(body) => submitted(&context, body, is_text, network)
            .await
            .map_or_else(identity, |answer| json(StatusCode::OK, judged(&answer.each))),
        Err(_) => refused(StatusCode::PAYLOAD_TOO_LARGE, Reason::TooLarge),
    };
    finish_for(&context, origin, response)
}

/// What became of a submission that was judged here; any other has an answer of its own.
async fn submitted(
    context: &Context,
    body: Bytes,
    is_text: bool,
    network: Option<Network>,
) -> Result<Answer, Response> {
    let body = if is_text { STANDARD.decode(&body).map_or(body, Bytes::from) } else { body };
    if body.len() > limits::SUBMISSION_BYTES {
        return Err(refused(StatusCode::PAYLOAD_TOO_LARGE, Reason::TooLarge));
    }
    match context.ingest(body, network.map(|Network(number)| number)).await {
        Ok(answer) if answer.each == [Reason::Relayed] => Err(json(StatusCode::ACCEPTED, judged(&answer.each))),
        Ok(answer) if answer.whole == Reason::Accepted => Ok(answer),
        Ok(answer) => Err(refused(status(answer.whole), answer.whole)),
        Err(_) => Err(refused(StatusCode::SERVICE_UNAVAILABLE, Reason::Busy)),
    }
}

fn json(status: StatusCode, body: Vec<u8>) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn status(reason: Reason) -> StatusCode {
    match reason {
        Reason::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Reason::UnknownSite => StatusCode::NOT_FOUND,
        Reason::UnknownPolicy | Reason::Expired => StatusCode::CONFLICT,
        Reason::Busy => StatusCode::SERVICE_UNAVAILABLE,
        Reason::Fault => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_REQUEST,
    }
}

fn refused(status: StatusCode, reason: Reason) -> Response {
    let body = serde_json::json!({ "reason": reason.word(), "remedy": reason.remedy() });
    let mut response = (status, axum::Json(body)).into_response();
    if reason == Reason::Busy {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// What is answered to a submission that could be read: `{"accepted":1,"each":["accepted"]}`. Written by hand, as the
/// words are ours and none needs to be escaped.
fn judged(each: &[Reason]) -> Vec<u8> {
    let accepted = each.iter().filter(|reason| matches!(reason, Reason::Accepted | Reason::Duplicate)).count();
    let mut body = Vec::with_capacity(32 + 16 * each.len());
    // Into memory it cannot fail, here and below.
    let _ = write!(body, "{{\"accepted\":{accepted},\"each\":[");
    for (place, reason) in each.iter().enumerate() {
        body.extend_from_slice(if place == 0 { b"\"" } else { b",\"" });
        body.extend_from_slice(reason.word().as_bytes());
        body.push(b'"');
    }
    body.extend_from_slice(b"]}");
    body
}

/// A submission that could be read, as [`finish_for`] would answer it.
fn brief(now_ms: u64, origin: Option<&HeaderValue>, each: &[Reason]) -> Brief {
    const BEFORE: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nreferrer-policy: no-referrer\r\nx-content-type-options: nosniff\r\n";
    let mut head = Vec::with_capacity(512);
    head.extend_from_slice(BEFORE.as_bytes());
    let _ = write!(head, "{}: {now_ms}\r\n", TIME.as_str());
    if let Some(origin) = origin {
        for piece in [b"access-control-allow-origin: ", origin.as_bytes(), b"\r\naccess-control-expose-headers: "] {
            head.extend_from_slice(piece);
        }
        head.extend_from_slice(EXPOSED.as_bytes());
        head.extend_from_slice(b"\r\nvary: origin\r\n");
    }
    Brief { head, body: judged(each) }
}
