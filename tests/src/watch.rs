//! Everything that reaches the shop over the wire, headers and bodies, recorded where no browser can hide it.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use gloaming_signal::{Submission, cbor};
use http::HeaderMap;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Arrived {
    /// Path and query.
    pub path: String,
    /// All headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// What was answered.
    pub status: u16,
}

/// The record.
#[derive(Clone, Debug, Default)]
pub struct Wire(Arc<Mutex<Vec<Arrived>>>);

impl Wire {
    /// Puts the record in front of a router.
    pub fn around(&self, router: Router) -> Router {
        router.layer(from_fn_with_state(self.clone(), record))
    }

    /// Everything so far.
    #[must_use]
    pub fn all(&self) -> Vec<Arrived> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Everything under Gloaming's path.
    #[must_use]
    pub fn gloaming(&self) -> Vec<Arrived> {
        self.all().into_iter().filter(|a| a.path.starts_with("/g/")).collect()
    }

    /// Posts that were answered otherwise than with success.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.gloaming().iter().filter(|a| a.path == "/g/v1/contributions" && a.status != 200).count()
    }

    /// Submissions that were posted and answered with success.
    #[must_use]
    pub fn submissions(&self) -> Vec<Submission> {
        self.gloaming()
            .iter()
            .filter(|a| a.path == "/g/v1/contributions" && a.status == 200)
            .filter_map(|a| cbor::from_slice(&STANDARD.decode(&a.body).ok()?).ok())
            .collect()
    }
}

async fn record(State(wire): State<Wire>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap_or_default();
    let (path, headers) =
        (parts.uri.path_and_query().map_or(String::new(), ToString::to_string), parts.headers.clone());
    let response = next.run(Request::from_parts(parts, Body::from(body.clone()))).await;
    let arrived = Arrived { path, headers, body, status: response.status().as_u16() };
    wire.0.lock().unwrap_or_else(PoisonError::into_inner).push(arrived);
    response
}
