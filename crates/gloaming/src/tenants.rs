//! The operators' API for sites: added, given policies and quotas, and taken out while the service runs.
//!
//! Whoever has the token may pin a key to a site. A policy is taken only when that key signed it, so that the token
//! alone counts nothing.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use bytes::Bytes;
use gloaming_policy::author::{PublicKey, Signed};
use gloaming_signal::hash;
use http::{StatusCode, header};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use crate::files;
use crate::sites::{Sites, SitesError};

/// Fewest characters of a token that can be told by nobody.
const TOKEN: usize = 20;

/// Keys of either section that this page is about.
pub const OPERATORS: [&str; 2] = ["sites_folder", "admin_token_file"];

/// See [`crate::config::EXAMPLE`].
#[derive(Clone, Debug, Deserialize)]
pub struct Operators {
    /// Sites that are added while the service runs.
    pub sites_folder: Option<PathBuf>,
    /// What whoever adds them must know.
    pub admin_token_file: Option<PathBuf>,
}

impl Operators {
    /// Puts `against` before relative paths.
    pub fn paths(&mut self, against: impl FnMut(&mut PathBuf)) {
        [&mut self.sites_folder, &mut self.admin_token_file].into_iter().flatten().for_each(against);
    }

    /// The routes, and what will be asked through them; none of both when there is no token.
    ///
    /// # Errors
    /// When there is a token and no folder, or it is too short to be one.
    pub fn open(&self) -> Result<(Router, Asks)> {
        let Some(token) = &self.admin_token_file else { return Ok((Router::new(), Asks(None))) };
        let folder = self.sites_folder.clone().context("admin_token_file needs a sites_folder to keep sites in")?;
        let (router, asked) = routes(Sites::new(folder), &files::read_text(token)?)?;
        Ok((router, Asks(Some(asked))))
    }
}

/// What is asked of a service.
pub struct Asks(Option<mpsc::Receiver<Asked>>);

impl Asks {
    /// The next one; for ever, when there is nobody to ask.
    pub async fn next(&mut self) -> Asked {
        if let Some(asks) = &mut self.0
            && let Some(asked) = asks.recv().await
        {
            return asked;
        }
        std::future::pending().await
    }
}

/// What the service is to look at anew.
pub enum Ask {
    /// Everything.
    All,
    /// One policy of a site that is there.
    Policy(Vec<u8>),
    /// Of an edge: that a site leaves.
    Leave(String),
}

/// What was refused, and of which site it is, when that is known.
#[derive(Clone, Debug)]
pub struct Said {
    /// The site.
    pub site: Option<String>,
    /// Why.
    pub why: String,
}

/// What a service answers: what it refused of what it looked at, or why it could not look.
pub type Answer = Result<Vec<Said>, String>;

/// An ask, and where it is answered.
pub type Asked = (Ask, oneshot::Sender<Answer>);

struct Tenants {
    sites: Sites,
    token: [u8; 32],
    asks: mpsc::Sender<Asked>,
    /// One change after the other.
    turn: tokio::sync::Mutex<()>,
}

fn routes(sites: Sites, token: &str) -> Result<(Router, mpsc::Receiver<Asked>)> {
    if token.trim().len() < TOKEN {
        bail!("the token in admin_token_file has fewer than {TOKEN} characters; `openssl rand -hex 32` makes one");
    }
    let (asks, asked) = mpsc::channel(16);
    let token = hash::sha256(token.trim().as_bytes());
    let state = Arc::new(Tenants { sites, token, asks, turn: tokio::sync::Mutex::new(()) });
    let router = Router::new()
        .route("/admin/v1/sites", get(list))
        .route("/admin/v1/sites/{site}", put(add).delete(remove))
        .route("/admin/v1/sites/{site}/policy", put(policy))
        .route("/admin/v1/sites/{site}/quota", put(quota))
        .layer(DefaultBodyLimit::max(Signed::BYTES))
        .layer(from_fn_with_state(Arc::clone(&state), with_token))
        .with_state(state);
    Ok((router, asked))
}

async fn with_token(State(tenants): State<Arc<Tenants>>, request: Request, next: Next) -> Response {
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    // Hashes take the same time to compare wherever they differ first.
    if hash::sha256(given.as_bytes()) != tenants.token {
        return problem(StatusCode::UNAUTHORIZED, "send the token of `admin_token_file` as `Authorization: Bearer …`");
    }
    next.run(request).await
}

fn problem(status: StatusCode, why: &str) -> Response {
    (status, Json(json!({ "problem": why }))).into_response()
}

fn refused(error: &SitesError) -> Response {
    let status = match error {
        SitesError::Name(_) => StatusCode::BAD_REQUEST,
        SitesError::Unknown(_) => StatusCode::NOT_FOUND,
        SitesError::OtherKey(_) | SitesError::Twice(_) => StatusCode::CONFLICT,
        SitesError::Policy(_) | SitesError::OtherSite(..) => StatusCode::UNPROCESSABLE_ENTITY,
        SitesError::Full => StatusCode::INSUFFICIENT_STORAGE,
        SitesError::Folder(..) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    problem(status, &error.to_string())
}

impl Tenants {
    async fn ask(&self, ask: Ask) -> Answer {
        let stopping = || "the service is stopping".to_owned();
        let (sender, answer) = oneshot::channel();
        self.asks.send((ask, sender)).await.map_err(|_| stopping())?;
        answer.await.unwrap_or_else(|_| Err(stopping()))
    }
}

fn words(answer: Answer) -> Vec<String> {
    match answer {
        Ok(said) => said.into_iter().map(|said| said.why).collect(),
        Err(why) => vec![why],
    }
}

async fn list(State(tenants): State<Arc<Tenants>>) -> Response {
    match tenants.sites.all() {
        Ok(sites) => {
            let rows: Vec<_> = sites
                .into_iter()
                .map(|(name, site)| {
                    let versions: Vec<_> = site.policies.keys().collect();
                    json!({ "site": name, "key": site.key.to_text(), "policies": versions, "quota": site.quota })
                })
                .collect();
            Json(rows).into_response()
        }
        Err(error) => refused(&error),
    }
}

async fn add(State(tenants): State<Arc<Tenants>>, Path(site): Path<String>, key: String) -> Response {
    let _turn = tenants.turn.lock().await;
    let before = tenants.sites.one(&site).ok();
    let added = PublicKey::from_text(&key).map_err(Into::into).and_then(|key| tenants.sites.add(&site, &key));
    match added {
        Err(error) => refused(&error),
        Ok(false) => (StatusCode::OK, Json(json!({ "site": site, "added": false }))).into_response(),
        Ok(true) => {
            let why = match tenants.ask(Ask::All).await {
                Ok(said) => said.into_iter().find(|said| said.site.as_ref() == Some(&site)).map(|said| said.why),
                Err(why) => Some(why),
            };
            let Some(why) = why else {
                return (StatusCode::CREATED, Json(json!({ "site": site, "added": true }))).into_response();
            };
            // A site that the service does not take is not kept for its next start to stumble over; one that was
            // there before keeps its policies, and its key with them.
            if before.is_none() {
                let _ = tenants.sites.remove(&site);
            }
            problem(StatusCode::CONFLICT, &why)
        }
    }
}

async fn remove(State(tenants): State<Arc<Tenants>>, Path(site): Path<String>) -> Response {
    let _turn = tenants.turn.lock().await;
    if let Err(error) = tenants.sites.one(&site) {
        return refused(&error);
    }
    // First, so that a crash between the two leaves a site that is here, and not one that waits for ever.
    if let Err(why) = tenants.ask(Ask::Leave(site.clone())).await {
        return problem(StatusCode::SERVICE_UNAVAILABLE, &why);
    }
    if let Err(error) = tenants.sites.remove(&site) {
        // Its folder is still there, and so is the site: what is served and what a restart would serve are one.
        tenants.ask(Ask::All).await.ok();
        return refused(&error);
    }
    // A look at everything between the two, at a signal for instance, has brought it back from its folder.
    let mut said = words(tenants.ask(Ask::Leave(site.clone())).await);
    said.extend(words(tenants.ask(Ask::All).await));
    Json(json!({ "site": site, "removed": true, "said": said })).into_response()
}

async fn policy(State(tenants): State<Arc<Tenants>>, Path(site): Path<String>, bytes: Bytes) -> Response {
    let _turn = tenants.turn.lock().await;
    let version = match tenants.sites.check_policy(&site, &bytes, files::today()) {
        Ok(version) => version,
        Err(error) => return refused(&error),
    };
    // Put in force first: what the service refuses is not kept.
    let said = words(tenants.ask(Ask::Policy(bytes.to_vec())).await);
    if !said.is_empty() {
        return problem(StatusCode::UNPROCESSABLE_ENTITY, &said.join("; "));
    }
    match tenants.sites.put_policy(&site, version, &bytes) {
        Ok(()) => Json(json!({ "site": site, "version": version })).into_response(),
        Err(error) => refused(&error),
    }
}

async fn quota(State(tenants): State<Arc<Tenants>>, Path(site): Path<String>, quota: String) -> Response {
    let _turn = tenants.turn.lock().await;
    let Ok(quota) = quota.trim().parse::<u64>() else {
        return problem(StatusCode::BAD_REQUEST, "write a whole number: the contributions that may be open at once");
    };
    match tenants.sites.put_quota(&site, quota) {
        Ok(()) => {
            let said = words(tenants.ask(Ask::All).await);
            Json(json!({ "site": site, "quota": quota, "said": said })).into_response()
        }
        Err(error) => refused(&error),
    }
}
