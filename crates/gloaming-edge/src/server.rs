//! The edge over HTTP: what browsers load and post, what operators look at, what the centre is sent.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use gloaming_http::{Answers, Assets, Client, Head, Listener, Network, Said, TurnedAway, serve};
use gloaming_signal::Reason;
use gloaming_signal::relay;
use gloaming_window::Answer;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::{Config, Home};
use crate::contributions::{CONTRIBUTIONS, Known, contributions, is_contribution};
use crate::deliver::{deliver, hand_on};
use crate::engine::{Engine, EngineError, Reload, Served};
use crate::home;
use crate::models::Models;
use crate::operator::admin_routes;
use crate::relay::{Relays, Sites, apart, is_for_relay, leave_moved, relayed_site, settle};
use crate::stops::{self, Asking, Stops, Whom};

/// Edge time in answers, ms since 1970: devices name windows by it.
pub(crate) static TIME: HeaderName = HeaderName::from_static("x-gloaming-time");
/// Experiments of a policy that have ended by themselves, beside the policy.
static STOPPED: HeaderName = HeaderName::from_static("x-gloaming-stopped");
/// Models of a policy of which a newer version is signed and waits for its files, beside the policy.
static LAST_GOOD: HeaderName = HeaderName::from_static("x-gloaming-last-good");

pub(crate) struct Context {
    pub(crate) engine: Engine,
    /// What relays post is taken here.
    pub(crate) home: home::Home,
    /// Home edges that this one relays to; none when there is no relay.
    homes: BTreeMap<String, Home>,
    pub(crate) relay: Option<Arc<Relays>>,
    pub(crate) stops: Stops,
    name: String,
    assets: Assets,
    models: Models,
    pub(crate) ready: AtomicBool,
    pub(crate) turned_away: Arc<TurnedAway>,
}

impl Context {
    /// The first served site, at home here or relayed, for which `found` has something to say.
    fn find<T>(&self, found: impl Fn(&Served) -> Option<T>) -> Option<T> {
        let here = self.engine.served.read().ok()?.iter().find_map(&found);
        here.or_else(|| self.relay.as_ref()?.served.read().ok()?.iter().find_map(&found))
    }

    fn served(&self, site: &str) -> Option<Served> {
        self.find(|served| (served.site == site).then(|| served.clone()))
    }

    /// Sites that are served, at home here and relayed.
    pub(crate) fn all_served(&self) -> Vec<Served> {
        let mut all = self.engine.served.read().map_or_else(|_| Vec::new(), |served| served.clone());
        if let Some(relay) = &self.relay {
            all.extend(relay.served.read().into_iter().flat_map(|served| served.clone()));
        }
        all
    }

    /// Sites that are relayed to a home edge: the first that is known here of those that the policy names.
    pub(crate) fn relayed_to(&self, home: &str) -> Vec<Served> {
        let Some(relay) = &self.relay else { return Vec::new() };
        let is_its = |served: &&Served| {
            served.homes.iter().find(|name| self.homes.contains_key(*name)).is_some_and(|name| name == home)
        };
        relay.served.read().map_or_else(|_| Vec::new(), |all| all.iter().filter(is_its).cloned().collect())
    }

    /// The request's origin when a policy here allows it; `Err` when it names another one.
    pub(crate) fn origin(&self, named: Option<&[u8]>) -> Result<Option<HeaderValue>, ()> {
        let Some(named) = named else { return Ok(None) };
        self.find(|served| served.origins.iter().find(|own| *own == named).cloned()).map(Some).ok_or(())
    }

    /// Judges a body, here or at its site's home edge.
    pub(crate) async fn ingest(&self, body: Bytes, network: Option<u64>) -> Result<Answer, EngineError> {
        if let Some(relay) = &self.relay
            && let Ok(relay::Head { site, policy_version, .. }) = relay::Head::of(&body)
            && is_for_relay(self.engine.version(&site), relay.version(&site), policy_version)
        {
            return relay.take(body, network).await;
        }
        self.engine.ingest(body, network).await
    }
}

/// A started edge.
pub struct Running {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    context: Arc<Context>,
}

impl Running {
    /// Waits until the edge cannot go on because of a defect of its own. Its listeners answer 503 then.
    pub fn failed(&self) -> impl Future<Output = ()> + use<> {
        let (engine, relay) = (self.context.engine.ended(), self.context.relay.as_ref().map(|relay| relay.ended()));
        async move {
            match relay {
                None => engine.await,
                Some(relay) => tokio::select! {
                    () = engine => {}
                    () = relay => {}
                },
            }
        }
    }

    /// Puts policies in force without a restart, and returns what was refused.
    pub async fn reload(&self, reload: Reload) -> Vec<EngineError> {
        let Context { engine, homes, name, relay, models, .. } = &*self.context;
        let Reload { pins, mut policies, quotas } = reload;
        // Files are read and hashed beside the event loop.
        let context = Arc::clone(&self.context);
        let renewed = tokio::task::spawn_blocking(move || context.models.renew()).await.unwrap_or(Ok(()));
        let mut refused: Vec<EngineError> = renewed.err().map(EngineError::Models).into_iter().collect();
        refused.extend(models.sift(&pins, &mut policies));
        let Some(relay) = relay else {
            refused.extend(engine.reload(Reload { pins, policies, quotas }).await);
            return refused;
        };
        let (policies, relayed) = apart(name, homes, policies);
        let sites = Sites { pins: pins.clone(), policies: relayed.clone() };
        refused.extend(engine.reload(Reload { pins, policies, quotas }).await);
        refused.extend(relay.reload(sites).await);
        let moved = relayed.iter().filter_map(|bytes| relayed_site(name, homes, bytes));
        refused.extend(leave_moved(engine, relay, moved).await);
        refused
    }

    /// Lets a site leave: it takes nothing any more, its windows are released when they end, and then it is forgotten.
    /// Whether it was here.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn leave(&self, site: &str) -> Result<bool, EngineError> {
        let relayed = match &self.context.relay {
            Some(relay) => relay.forget(site).await?,
            None => false,
        };
        Ok(self.context.engine.leave(site).await? || relayed)
    }

    /// Lets a component serve, and perhaps another run beside it, compared and not believed.
    ///
    /// # Errors
    /// When one of them is not an edge component, or refuses a policy in force; nothing has changed then.
    pub async fn components(&self, component: Vec<u8>, next: Option<Vec<u8>>) -> Result<(), EngineError> {
        self.context.engine.components(component, next).await
    }

    /// Stops taking requests, finishes those that are open, commits, and ends.
    pub async fn stop(self) {
        self.context.ready.store(false, Ordering::Relaxed);
        let _ = self.stop.send(true);
        for task in self.tasks {
            let _ = task.await;
        }
        let context = self.context;
        let stop = move || {
            context.engine.stop();
            context.relay.iter().for_each(|relay| relay.stop());
        };
        let _ = tokio::task::spawn_blocking(stop).await;
    }
}

/// Starts an edge on two listeners: one for the world, one for operators.
///
/// # Errors
/// Whatever keeps it from starting, said before it listens.
pub async fn start(
    config: Config,
    assets: Assets,
    public: impl Into<Listener>,
    admin: impl Into<Listener>,
) -> Result<Running, EngineError> {
    let (public, admin) = (public.into(), admin.into());
    let more = config.more.clone();
    let (central, key, roots) = (config.central.clone(), config.key.clone(), config.roots.clone());
    let client = Client::trusting(Duration::from_secs(10), &roots)?;
    let (name, homes) = (config.name.clone(), config.homes.clone());
    let own = config.former_keys.iter().chain([&config.key]).cloned().collect();
    let home = home::Home::new(config.relays.clone(), own);
    let models = Models::new(assets.clone(), config.models.clone()).map_err(EngineError::Models)?;
    let (stops, loopback) = (Stops::open(&config.store), config.loopback);
    let mut config = config;
    for error in models.sift(&config.pins, &mut config.policies) {
        tracing::error!(%error, "a policy is not loaded");
    }
    let start = move || {
        let (policies, relayed) = apart(&config.name, &config.homes, std::mem::take(&mut config.policies));
        config.policies = policies;
        let sites = Sites { pins: config.pins.clone(), policies: relayed };
        // A store that is there is opened whatever the configuration says: what waits in it was acknowledged.
        let relaying = !config.homes.is_empty() || Relays::store_of(&config).exists();
        let relay = relaying.then(|| Relays::start(&config, sites)).transpose()?;
        Ok::<_, EngineError>((Engine::start(config)?, relay.map(Arc::new)))
    };
    let (engine, relay) = tokio::task::spawn_blocking(start).await.map_err(|_| EngineError::Busy)??;
    if let Some(relay) = &relay {
        settle(&engine, relay).await?;
    }
    let turned_away = public.turned_away();
    let context =
        Arc::new(Context { engine, home, homes, relay, stops, name, assets, models, ready: true.into(), turned_away });
    let (stop, stopped) = watch::channel(false);
    let until = |mut stopped: watch::Receiver<bool>| async move {
        let _ = stopped.wait_for(|stop| *stop).await;
    };
    let asking = |whom, at| {
        let (context, client, key) = (Arc::clone(&context), client.clone(), key.clone());
        Asking { context, client, key, whom, at, loopback }
    };
    let mut tasks = Vec::new();
    for (name, home) in context.homes.clone() {
        if let Some(relay) = context.relay.clone() {
            let (client, key) = (client.clone(), key.clone());
            tasks.push(tokio::spawn(asking(Whom::Home(name.clone()), home.at.clone()).run(stopped.clone())));
            tasks.push(tokio::spawn(hand_on(relay, client, key, name, home, stopped.clone())));
        }
    }
    tasks.extend([
        tokio::spawn(asking(Whom::Centre, central.clone()).run(stopped.clone())),
        tokio::spawn(serve(
            public,
            Public { router: public_routes(Arc::clone(&context)), context: Arc::clone(&context) },
            until(stopped.clone()),
        )),
        tokio::spawn(serve(admin, admin_routes(Arc::clone(&context)).merge(more), until(stopped.clone()))),
        tokio::spawn(deliver(Arc::clone(&context), client, key, central, stopped)),
    ]);
    Ok(Running { stop, tasks, context })
}

/// What the world is answered. Nearly all requests are one kind, and that one is taken past the router.
#[derive(Clone)]
struct Public {
    context: Arc<Context>,
    router: Router,
}

impl Answers for Public {
    type Known = Known;

    fn know(&self, head: &Head<'_>) -> Option<Known> {
        Known::by(&self.context, head)
    }

    async fn answer_known(&self, known: Known, body: Bytes, network: Option<Network>) -> Said {
        known.answer(&self.context, body, network).await
    }

    async fn answer(&self, request: Request) -> Response {
        if is_contribution(&request) {
            return contributions(State(Arc::clone(&self.context)), request).await;
        }
        self.router.answer(request).await
    }

    fn awaits(&self, head: &http::Request<()>) -> bool {
        is_contribution(head) && self.context.origin(origin_of(head.headers())).is_ok()
    }
}

pub(crate) fn origin_of(headers: &HeaderMap) -> Option<&[u8]> {
    headers.get(header::ORIGIN).map(HeaderValue::as_bytes)
}

fn public_routes(context: Arc<Context>) -> Router {
    Router::new()
        .route(CONTRIBUTIONS, post(contributions))
        .route(home::ROUTE, post(home::relayed))
        .route(stops::ROUTE, post(stops::asked))
        .route("/g/v1/notice/{site}", get(notice))
        .route("/g/v1/policy/{site}", get(policy))
        .route("/g/v1/windows/{site}", get(windows))
        .route("/g/models/{hash}", get(model))
        .route("/g/{file}", get(file))
        .with_state(context)
}

/// What a page's own scripts may read of an answer.
pub(crate) const EXPOSED: &str = "x-gloaming-time, x-gloaming-stopped, x-gloaming-last-good";

/// Headers that every answer to a page carries. No policy of the page's kind among them: a worker whose
/// response has no Content-Security-Policy may run wasm under the page's strictest one.
fn finish(context: &Context, request: &HeaderMap, response: Response) -> Response {
    finish_for(context, context.origin(origin_of(request)).unwrap_or_default(), response)
}

/// As [`finish`], for an origin that was looked at already.
pub(crate) fn finish_for(context: &Context, origin: Option<HeaderValue>, mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(TIME.clone(), HeaderValue::from(context.engine.now_ms()));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
        headers.append(header::VARY, HeaderValue::from_static("origin"));
    }
    response
}

async fn file(State(context): State<Arc<Context>>, Path(file): Path<String>, request: HeaderMap) -> Response {
    let response = context.assets.respond(&format!("g/{file}"), &request);
    finish(&context, &request, response)
}

async fn model(State(context): State<Arc<Context>>, Path(hash): Path<String>, request: HeaderMap) -> Response {
    let response = context.models.respond(&hash, &request);
    finish(&context, &request, response)
}

fn document(body: Bytes, media_type: &'static str) -> Response {
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn unknown_site(site: &str) -> Response {
    let body = serde_json::json!({ "reason": Reason::UnknownSite.word(), "site": site, "remedy": Reason::UnknownSite.remedy() });
    (StatusCode::NOT_FOUND, axum::Json(body)).into_response()
}

async fn notice(State(context): State<Arc<Context>>, Path(site): Path<String>, request: HeaderMap) -> Response {
    let response = match context.served(&site) {
        Some(served) => document(served.notice, "application/json"),
        None => unknown_site(&site),
    };
    finish(&context, &request, response)
}

async fn policy(State(context): State<Arc<Context>>, Path(site): Path<String>, request: HeaderMap) -> Response {
    let response = match context.served(&site) {
        Some(served) => {
            let (stopped, last_good) = (context.stops.beside(&served), context.models.last_good(&served));
            let mut response = document(served.policy, "application/cbor");
            let headers = response.headers_mut();
            headers.extend(stopped.map(|stopped| (STOPPED.clone(), stopped)));
            headers.extend(last_good.map(|last_good| (LAST_GOOD.clone(), last_good)));
            response
        }
        None => unknown_site(&site),
    };
    finish(&context, &request, response)
}

/// When the open windows close: for the check overlay. Says nothing of what is in them.
async fn windows(State(context): State<Arc<Context>>, Path(site): Path<String>, request: HeaderMap) -> Response {
    let now = context.engine.now_ms();
    let response = match context.served(&site) {
        Some(served) => {
            let windows: Vec<_> = served
                .windows
                .iter()
                .map(|(span, grace)| {
                    let window = now / span;
                    serde_json::json!({ "span_ms": span, "window": window, "closes_ms": (window + 1) * span + grace, "now_ms": now })
                })
                .collect();
            axum::Json(serde_json::json!({ "windows": windows })).into_response()
        }
        None => unknown_site(&site),
    };
    finish(&context, &request, response)
}
