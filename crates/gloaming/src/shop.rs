//! The demonstration's shop: pages, and the edge under the shop's own path, as a site would do it.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get};
use gloaming_http::Assets;
use http::{HeaderName, HeaderValue, StatusCode, Uri, header};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// The Content-Security-Policy that the shop's pages carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Csp {
    /// `script-src 'self'` and nothing that weakens it.
    #[default]
    SameOrigin,
    /// A nonce for each answer and `strict-dynamic`.
    Nonce,
}

/// What the shop needs.
pub struct Shop {
    /// `shop/…`.
    pub assets: Assets,
    /// The edge's public listener, `http://host:port`.
    pub edge: String,
    /// The site's name in the policy.
    pub site: String,
    /// The pinned public key, for `data-key`.
    pub key: String,
    /// Pages' policy.
    pub csp: Csp,
}

struct Context {
    shop: Shop,
    client: Client<HttpConnector, Body>,
}

/// The shop's routes.
pub fn routes(shop: Shop) -> Router {
    let client = Client::builder(TokioExecutor::new()).build_http();
    Router::new()
        .route("/g/{*rest}", any(proxy))
        .route("/assets/{*file}", get(asset))
        .fallback(get(page))
        .with_state(Arc::new(Context { shop, client }))
}

async fn asset(State(context): State<Arc<Context>>, request: Request) -> Response {
    let name = request.uri().path().trim_start_matches("/assets/").to_owned();
    context.shop.assets.respond(&format!("shop/{name}"), request.headers())
}

/// Every address is the same shell; the shop's script fills it.
async fn page(State(context): State<Arc<Context>>, request: Request) -> Response {
    let shop = &context.shop;
    if request.uri().path() == "/favicon.ico" {
        return StatusCode::NO_CONTENT.into_response();
    }
    let Some(shell) = shop.assets.bytes("shop/index.html") else {
        return (StatusCode::INTERNAL_SERVER_ERROR, "the assets lack shop/index.html\n").into_response();
    };
    let (script, attribute) = match shop.csp {
        Csp::SameOrigin => ("'self'".to_owned(), String::new()),
        Csp::Nonce => {
            let mut bytes = [0; 16];
            if getrandom::fill(&mut bytes).is_err() {
                return StatusCode::INTERNAL_SERVER_ERROR.into_response();
            }
            let nonce = gloaming_signal::hash::hex(&bytes);
            (format!("'nonce-{nonce}' 'strict-dynamic'"), format!(" nonce=\"{nonce}\""))
        }
    };
    let html = String::from_utf8_lossy(shell)
        .replace("@SITE@", &shop.site)
        .replace("@KEY@", &shop.key)
        .replace(" data-nonce", &attribute);
    let policy = format!(
        "default-src 'none'; script-src {script}; style-src 'self'; img-src 'self' data:; connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    );
    let mut response = Response::new(Body::from(html));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

/// What a proxy in front of an edge passes on: nothing that names a visitor.
const PASSED: [HeaderName; 5] =
    [header::ACCEPT_ENCODING, header::CONTENT_TYPE, header::CONTENT_LENGTH, header::IF_NONE_MATCH, header::ORIGIN];

async fn proxy(State(context): State<Arc<Context>>, mut request: Request) -> Response {
    let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
    let Ok(uri) = format!("{}{path}", context.shop.edge).parse::<Uri>() else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    *request.uri_mut() = uri;
    let given = std::mem::take(request.headers_mut());
    for name in PASSED {
        if let Some(value) = given.get(&name) {
            request.headers_mut().insert(name, value.clone());
        }
    }
    match context.client.request(request).await {
        Ok(response) => response.map(Body::new).into_response(),
        Err(error) => {
            tracing::warn!(%error, "the edge did not answer");
            (StatusCode::BAD_GATEWAY, "the edge did not answer\n").into_response()
        }
    }
}
