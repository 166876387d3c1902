//! The centre over HTTP: batches in, overviews out, and the page that shows them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use gloaming_http::{Assets, Listener, serve};
use gloaming_policy::author::{PublicKey, announced};
use gloaming_signal::{hash, limits};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use utoipa::{OpenApi, ToSchema};

use crate::alerts::{Alert, Looking};
use crate::apply::Applier;
use crate::config::{CentralError, Clock, Config, LEAST_DAYS};
use crate::figures::Row;
use crate::ingest::{Refusal, accept};
use crate::overview::{Overview, SiteRow};
use crate::store::{Store, Stored};
use crate::trials::ExperimentView;
use crate::watch::{ModelView, Watch};
use crate::worth::Worth;

mod reading;
mod stops;
mod trust;

use reading::{counted, page, site_alerts, site_experiments, site_models, site_overview, site_worth, sites};
use trust::Trust;

struct Context {
    store: Store,
    applier: Applier,
    trust: RwLock<Arc<Trust>>,
    /// SHA-256 of the password: comparing hashes takes the same time wherever they differ first.
    password: Option<[u8; 32]>,
    assets: Assets,
    clock: Clock,
    watch: Arc<Watch>,
    /// Places for batches on their way in.
    arriving: Semaphore,
}

/// The header by which an edge says who it is and what will follow.
const ANNOUNCEMENT: &str = "x-gloaming-delivery";

/// SHA-256 of a delivery, as announced and as found.
#[derive(Clone, Copy)]
struct Digest([u8; 32]);

/// Batches read at once; at a megabyte each this is what edges can make a centre hold.
const ARRIVING: usize = 64;
/// Time for one of them to arrive.
const ARRIVAL: Duration = Duration::from_secs(3);

impl Context {
    fn trust(&self) -> Arc<Trust> {
        Arc::clone(&self.trust.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A started centre.
pub struct Running {
    context: Arc<Context>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    store: Store,
    address: SocketAddr,
}

impl Running {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes other policies, pins and edges without a restart: all of them or none.
    ///
    /// # Errors
    /// When one of the policies is not believed; nothing has changed then.
    pub async fn reload(
        &self,
        pins: &BTreeMap<String, PublicKey>,
        signed: &[Vec<u8>],
        edges: BTreeMap<String, Vec<PublicKey>>,
    ) -> Result<(), CentralError> {
        let trust = Trust::new(&self.store, pins, signed, edges).await?;
        *self.context.trust.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(trust);
        Ok(())
    }

    /// Stops taking requests, finishes those that are open, closes the database.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        let _ = self.task.await;
        self.store.close().await;
    }
}

/// Starts a centre on a listener.
///
/// # Errors
/// Whatever keeps it from starting, said before it listens.
pub async fn start(config: Config, listener: impl Into<Listener>) -> Result<Running, CentralError> {
    let listener = listener.into();
    let Config { store, retain_days, pins, policies: signed, edges, password, assets, telling, look, more, clock } =
        config;
    if let Some(days) = retain_days.filter(|days| *days < LEAST_DAYS) {
        return Err(CentralError::RetainTooShort(days));
    }
    let address = listener.local_addr()?;
    if password.is_none() && !address.ip().is_loopback() {
        return Err(CentralError::NoPassword);
    }
    let store = Store::open(&store).await?;
    let trust = Trust::new(&store, &pins, &signed, edges).await?;
    let password = password.map(|p| hash::sha256(p.as_bytes()));
    let context = Arc::new(Context {
        applier: Applier::start(&store, ARRIVING, &clock),
        store: store.clone(),
        trust: RwLock::new(Arc::new(trust)),
        password,
        assets,
        clock,
        watch: Arc::default(),
        arriving: Semaphore::new(ARRIVING),
    });
    let (stop, mut stopped) = watch::channel(false);
    let until = async move {
        let _ = stopped.wait_for(|stop| *stop).await;
    };
    let retaining = retain_days.map(|days| tokio::spawn(retain(store.clone(), days, Arc::clone(&context.clock))));
    let believed = Arc::clone(&context);
    let looking = Looking {
        store: store.clone(),
        clock: Arc::clone(&context.clock),
        policies: Box::new(move || Arc::clone(&believed.trust().policies)),
        watch: Arc::clone(&context.watch),
        telling,
        pause: look,
    };
    let mut others = vec![tokio::spawn(looking.run())];
    others.extend(retaining);
    let served = serve(listener, routes(Arc::clone(&context)).merge(more), until);
    let task = tokio::spawn(async move {
        served.await;
        others.iter().for_each(JoinHandle::abort);
    });
    Ok(Running { context, stop, task, store, address })
}

/// Deletes what is older than `days`, now and every hour.
async fn retain(store: Store, days: u32, clock: Clock) {
    loop {
        match store.retain(days, clock()).await {
            Ok(from_ms) => tracing::info!(days, from_ms, "windows that began earlier are deleted"),
            Err(error) => tracing::error!(%error, "old windows could not be deleted; it is tried again in an hour"),
        }
        tokio::time::sleep(Duration::from_secs(3_600)).await;
    }
}

fn routes(context: Arc<Context>) -> Router {
    let reading = Router::new()
        .route("/", get(|state, headers| page(state, Path("index.html".to_owned()), headers)))
        .route("/{file}", get(page))
        .route("/api/v1/sites", get(sites))
        .route("/api/v1/sites/{site}/overview", get(site_overview))
        .route("/api/v1/sites/{site}/models", get(site_models))
        .route("/api/v1/sites/{site}/experiments", get(site_experiments))
        .route("/api/v1/sites/{site}/worth", get(site_worth))
        .route("/api/v1/sites/{site}/alerts", get(site_alerts))
        .route("/metrics", get(counted))
        .route("/api/v1/openapi.json", get(|| async { Json(openapi()) }))
        .layer(from_fn_with_state(Arc::clone(&context), password));
    Router::new()
        .route("/api/v1/batches", post(batches).layer(from_fn_with_state(Arc::clone(&context), in_turn)))
        .route("/api/v1/stops", post(stops::stops).layer(from_fn_with_state(Arc::clone(&context), in_turn)))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .layer(DefaultBodyLimit::max(limits::BATCH_BYTES + 256))
        .merge(reading)
        .with_state(context)
}

/// Lets in whom an edge's key has announced, waits for a place, then reads the body, quickly. A stranger takes no
/// place, and an edge that trickles keeps no other out for long.
async fn in_turn(State(context): State<Arc<Context>>, request: Request, next: Next) -> Response {
    let line = request.headers().get(ANNOUNCEMENT).and_then(|line| line.to_str().ok()).unwrap_or_default();
    let trust = context.trust();
    let digest = match announced(line, |id| trust.edges.key(id)) {
        Ok(digest) => digest,
        Err(error) => {
            tracing::warn!(%error, "somebody who is no edge tried to deliver");
            return problem(StatusCode::UNAUTHORIZED, "unannounced", Refusal::Signature.remedy());
        }
    };
    let _place = context.arriving.acquire().await;
    let (mut head, body) = request.into_parts();
    match tokio::time::timeout(ARRIVAL, to_bytes(body, limits::BATCH_BYTES + 256)).await {
        Ok(Ok(body)) if hash::sha256(&body) != digest => {
            problem(StatusCode::UNPROCESSABLE_ENTITY, Refusal::Signature.word(), Refusal::Signature.remedy())
        }
        Ok(Ok(body)) => {
            head.extensions.insert(Digest(digest));
            next.run(Request::from_parts(head, Body::from(body))).await
        }
        Ok(Err(_)) => problem(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "run an edge of this version"),
        Err(_) => problem(StatusCode::REQUEST_TIMEOUT, "too-slow", "look for what is slow between edge and centre"),
    }
}

/// The hash of the password a request gives.
fn given(headers: &HeaderMap) -> Option<[u8; 32]> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let pair = String::from_utf8(STANDARD.decode(value.strip_prefix("Basic ")?).ok()?).ok()?;
    Some(hash::sha256(pair.split_once(':')?.1.as_bytes()))
}

/// Whoever reads gives the password, under any user name. Edges sign instead.
async fn password(State(context): State<Arc<Context>>, request: Request, next: Next) -> Response {
    if context.password.is_some() && context.password != given(request.headers()) {
        let mut response = (
            StatusCode::UNAUTHORIZED,
            "a password is needed: the one in the centre's `password_file`, under any user name\n",
        )
            .into_response();
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"gloaming\""));
        return response;
    }
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// An answer that is not the one hoped for.
#[derive(Debug, Serialize, ToSchema)]
struct Problem {
    /// A word for programs.
    reason: String,
    /// A sentence for people.
    remedy: String,
}

fn problem(status: StatusCode, reason: &str, remedy: &str) -> Response {
    (status, Json(Problem { reason: reason.to_owned(), remedy: remedy.to_owned() })).into_response()
}

/// Takes one sealed batch.
#[utoipa::path(
    post,
    path = "/api/v1/batches",
    params(("x-gloaming-delivery" = String, Header, description = "The edge's key id, the SHA-256 of the body and its signature, in hexadecimal, separated by full stops")),
    request_body(content = Vec<u8>, content_type = "application/cbor", description = "A delivery: the sealed batch with the edge's signature."),
    responses(
        (status = 201, description = "Stored"),
        (status = 200, description = "Stored before, byte for byte; or older than what is kept"),
        (status = 401, description = "Not announced by an edge known here", body = Problem),
        (status = 408, description = "Too slow", body = Problem),
        (status = 409, description = "Another batch bears this name, or the window came before: an alarm", body = Problem),
        (status = 413, description = "Too large", body = Problem),
        (status = 422, description = "Not believed, or not what the policy declares", body = Problem),
        (status = 503, description = "The database failed; come again", body = Problem),
    )
)]
async fn batches(
    State(context): State<Arc<Context>>,
    Extension(Digest(digest)): Extension<Digest>,
    delivery: Bytes,
) -> Response {
    let trust = context.trust();
    let batch = match accept(&delivery, &trust.edges, &trust.policies) {
        Ok(batch) => batch,
        Err(refusal) => {
            tracing::warn!(reason = refusal.word(), remedy = refusal.remedy(), "a batch was refused");
            return problem(StatusCode::UNPROCESSABLE_ENTITY, refusal.word(), refusal.remedy());
        }
    };
    let name = (batch.edge.clone(), batch.epoch, batch.seq);
    match context.applier.put(batch, digest).await {
        Ok(Stored::Now) => (StatusCode::CREATED, "stored\n").into_response(),
        Ok(Stored::Before) => (StatusCode::OK, "stored before\n").into_response(),
        Ok(Stored::TooOld) => (StatusCode::OK, "older than what is kept\n").into_response(),
        Ok(Stored::Conflict) => {
            let (edge, epoch, seq) = name;
            tracing::error!(edge, epoch, seq, "a batch conflicts with a stored one");
            problem(
                StatusCode::CONFLICT,
                "conflict",
                "the edge's store was copied or rolled back: start it with a fresh one",
            )
        }
        Err(error) => {
            tracing::error!(%error, "a batch could not be stored");
            let mut response = problem(StatusCode::SERVICE_UNAVAILABLE, "store", "come again");
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            response
        }
    }
}

async fn ready(State(context): State<Arc<Context>>) -> Response {
    match context.store.ping().await {
        Ok(()) => "ready\n".into_response(),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n").into_response(),
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Gloaming centre",
        description = "Noised counts by site, metric and window. Nothing here is about a person."
    ),
    paths(
        batches,
        stops::stops,
        reading::sites,
        reading::site_overview,
        reading::site_models,
        reading::site_experiments,
        reading::site_worth,
        reading::site_alerts
    ),
    components(schemas(
        Overview,
        ModelView,
        ExperimentView,
        Worth,
        Row,
        Alert,
        SiteRow,
        Problem,
        stops::Asked,
        stops::Stops
    ))
)]
struct Document;

/// The API's description.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    Document::openapi()
}
