//! Posting bytes.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::tls::{self, Roots, TlsError};

/// Largest answer that is read, bytes, unless more is asked for.
const ANSWER_BYTES: usize = 64 * 1024;

/// Why nothing came back.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Not an address.
    #[error("`{0}` is not an http or https address")]
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
    inner: hyper_util::client::legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    timeout: Duration,
    answer_bytes: usize,
}

impl Client {
    /// Reads answers of up to this many bytes.
    #[must_use]
    pub fn answers(mut self, bytes: usize) -> Self {
        self.answer_bytes = bytes;
        self
    }

    /// With a time limit for each call; addresses with `https` need [`Client::trusting`].
    ///
    /// # Panics
    /// When rustls does not know its own versions of TLS.
    #[must_use]
    pub fn new(timeout: Duration) -> Self {
        Self::trusting(timeout, &Roots::Nobody).expect("rustls knows its own versions of TLS")
    }

    /// With a time limit for each call, and whom to believe.
    ///
    /// # Errors
    /// When those cannot be read.
    pub fn trusting(timeout: Duration, roots: &Roots) -> Result<Self, TlsError> {
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls::client(roots)?).https_or_http().enable_http1().build();
        let inner = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { inner, timeout, answer_bytes: ANSWER_BYTES })
    }

    /// Posts a body; returns status, `Retry-After` in seconds when given, and the answer's bytes.
    ///
    /// # Errors
    /// When no answer came. A status of any kind is an answer.
    pub async fn post(&self, address: &str, body: Bytes) -> Result<(StatusCode, Option<u64>, Bytes), ClientError> {
        self.send(Method::POST, address, None, body).await
    }

    /// Posts a body with one header more, as [`Client::post`].
    ///
    /// # Errors
    /// As there, and when the header cannot be sent.
    pub async fn post_with(
        &self,
        address: &str,
        header: (&'static str, &str),
        body: Bytes,
    ) -> Result<(StatusCode, Option<u64>, Bytes), ClientError> {
        self.send(Method::POST, address, Some(header), body).await
    }

    /// Gets an address, as [`Client::post`].
    ///
    /// # Errors
    /// As there.
    pub async fn get(&self, address: &str) -> Result<(StatusCode, Option<u64>, Bytes), ClientError> {
        self.send(Method::GET, address, None, Bytes::new()).await
    }

    /// Sends a request of any kind, as [`Client::post`].
    ///
    /// # Errors
    /// As there.
    pub async fn send(
        &self,
        method: Method,
        address: &str,
        header: Option<(&'static str, &str)>,
        body: Bytes,
    ) -> Result<(StatusCode, Option<u64>, Bytes), ClientError> {
        let wrong = || ClientError::Address(address.to_owned());
        let uri: Uri = address.parse().map_err(|_| wrong())?;
        let mut request = Request::builder().method(method).uri(uri);
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(body)).map_err(|_| wrong())?;
        let work = async {
            let unreachable = |error: &dyn std::error::Error| ClientError::Unreachable(causes(error));
            let response = self.inner.request(request).await.map_err(|e| unreachable(&e))?;
            let status = response.status();
            let retry = response.headers().get(header::RETRY_AFTER).and_then(|v| v.to_str().ok()?.parse().ok());
            let body =
                Limited::new(response.into_body(), self.answer_bytes).collect().await.map_err(|e| unreachable(&*e))?;
            Ok((status, retry, body.to_bytes()))
        };
        tokio::time::timeout(self.timeout, work).await.map_err(|_| ClientError::Timeout(self.timeout))?
    }
}

/// What a chain of errors says: the last one is what to look at, a certificate that is not believed for instance.
fn causes(error: &dyn std::error::Error) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
