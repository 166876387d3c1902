//! Posting bytes.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// Largest answer that is read, bytes.
const ANSWER_BYTES: usize = 64 * 1024;

/// Why nothing came back.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Not an address.
    #[error("`{0}` is not an http address")]
    Address(String),
    /// Nobody answered, or not in HTTP.
    #[error("no answer: {0}")]
    Unreachable(String),
    /// Too slow.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

/// A client that keeps connections and bounds every call.
#[derive(Clone)]
pub struct Client {
    inner: hyper_util::client::legacy::Client<HttpConnector, Full<Bytes>>,
    timeout: Duration,
}

impl Client {
    /// With a time limit for each call.
    #[must_use]
    pub fn new(timeout: Duration) -> Self {
        let inner = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build_http();
        Self { inner, timeout }
    }

    /// Posts a body; returns status, `Retry-After` in seconds when given, and the answer's bytes.
    ///
    /// # Errors
    /// When no answer came. A status of any kind is an answer.
    pub async fn post(&self, address: &str, body: Bytes) -> Result<(StatusCode, Option<u64>, Bytes), ClientError> {
        self.call("POST", address, body).await
    }

    /// Gets an address, as [`Client::post`].
    ///
    /// # Errors
    /// As there.
    pub async fn get(&self, address: &str) -> Result<(StatusCode, Option<u64>, Bytes), ClientError> {
        self.call("GET", address, Bytes::new()).await
    }

    async fn call(
        &self,
        method: &str,
        address: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Option<u64>, Bytes), ClientError> {
        let wrong = || ClientError::Address(address.to_owned());
        let uri: Uri = address.parse().map_err(|_| wrong())?;
        let request = Request::builder().method(method).uri(uri).body(Full::new(body)).map_err(|_| wrong())?;
        let work = async {
            let unreachable = |error: &dyn std::fmt::Display| ClientError::Unreachable(error.to_string());
            let response = self.inner.request(request).await.map_err(|e| unreachable(&e))?;
            let status = response.status();
            let retry = response.headers().get(header::RETRY_AFTER).and_then(|v| v.to_str().ok()?.parse().ok());
            let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await.map_err(|e| unreachable(&e))?;
            Ok((status, retry, body.to_bytes()))
        };
        tokio::time::timeout(self.timeout, work).await.map_err(|_| ClientError::Timeout(self.timeout))?
    }
}
