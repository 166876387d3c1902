//! What a centre says: to its page, to programs as JSON or CSV, and to Prometheus.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};

use super::{Context, Problem, problem};
use crate::alerts::{Alert, metrics};
use crate::figures::{self, Row};
use crate::overview::{Overview, SiteRow, bounded, overview};
use crate::store::StoreError;
use crate::trials::{ExperimentView, experiments};
use crate::watch::ModelView;
use crate::worth::{Worth, worth, worth_beside};

/// Alerts shown of a site.
const ALERTS: u32 = 100;

pub(super) async fn page(
    State(context): State<Arc<Context>>,
    Path(file): Path<String>,
    request: HeaderMap,
) -> Response<Body> {
    context.assets.respond(&format!("dashboard/{file}"), &request)
}

/// Sites known here.
#[utoipa::path(get, path = "/api/v1/sites", responses((status = 200, body = Vec<SiteRow>)))]
pub(super) async fn sites(State(context): State<Arc<Context>>) -> Json<Vec<SiteRow>> {
    let mut newest = BTreeMap::new();
    for (site, version) in context.trust().policies.keys() {
        newest.insert(site.clone(), *version);
    }
    Json(newest.into_iter().map(|(site, policy_version)| SiteRow { site, policy_version }).collect())
}

/// How much of the past to read, and as what.
#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    last: Option<u32>,
    format: Option<String>,
}

/// As what something is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Json,
    Csv,
}

impl Asked {
    /// `format` decides; without it CSV is told to whoever accepts it and neither JSON nor everything before it. `None` for a form
    /// that there is not.
    fn form(&self, headers: &HeaderMap) -> Option<Form> {
        match self.format.as_deref() {
            Some("json") => Some(Form::Json),
            Some("csv") => Some(Form::Csv),
            Some(_) => None,
            None => {
                let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
                let mut types = accepted.split(',').map(|one| one.split(';').next().unwrap_or_default().trim());
                let first = types.find(|one| ["text/csv", "application/json", "*/*"].contains(one));
                Some(if first == Some("text/csv") { Form::Csv } else { Form::Json })
            }
        }
    }
}

/// Answers with what was found of a site, or says why nothing was.
fn answered<T>(found: Result<Option<T>, StoreError>, answer: impl FnOnce(T) -> Response) -> Response {
    match found {
        Ok(Some(found)) => answer(found),
        Ok(None) => problem(StatusCode::NOT_FOUND, "unknown-site", "GET /api/v1/sites lists those that are known"),
        Err(error) => {
            tracing::error!(%error, "what a site released could not be read");
            problem(StatusCode::SERVICE_UNAVAILABLE, "store", "come again")
        }
    }
}

/// What is found of a site: as it is, or as rows. Nothing is looked for in a form that there is not.
async fn told<T: Serialize>(
    (asked, headers): (&Asked, &HeaderMap),
    found: impl Future<Output = Result<Option<T>, StoreError>>,
    rows: impl FnOnce(&T) -> Vec<Row>,
) -> Response {
    let Some(form) = asked.form(headers) else {
        return problem(StatusCode::BAD_REQUEST, "unknown-format", "ask for format=json or format=csv");
    };
    let mut response = answered(found.await, |found| match form {
        Form::Json => Json(found).into_response(),
        Form::Csv => match figures::csv(&rows(&found)) {
            Ok(text) => ([(header::CONTENT_TYPE, "text/csv; charset=utf-8; header=present")], text).into_response(),
            Err(error) => {
                tracing::error!(%error, "rows could not be written");
                problem(StatusCode::INTERNAL_SERVER_ERROR, "csv", "ask for format=json, and report this")
            }
        },
    });
    // The same address answers in two forms: no cache in between may mistake one for the other.
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept"));
    response
}

/// Everything released about a site.
#[utoipa::path(
    get,
    path = "/api/v1/sites/{site}/overview",
    params(
        ("site" = String, Path, description = "The site's name"),
        ("last" = Option<u32>, Query, description = "Newest windows of each metric, 1 to 1000; 100 when left out"),
        ("format" = Option<String>, Query, description = "json or csv; `Accept: text/csv` asks for the second as well"),
    ),
    responses(
        (status = 200, content((Overview = "application/json"), (Row = "text/csv"))),
        (status = 400, body = Problem), (status = 404, body = Problem), (status = 503, body = Problem),
    )
)]
pub(super) async fn site_overview(
    State(context): State<Arc<Context>>,
    Path(site): Path<String>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Response {
    let trust = context.trust();
    let found = overview(&context.store, &trust.policies, &site, bounded(asked.last), (context.clock)());
    told((&asked, &headers), found, figures::of_overview).await
}

/// What is seen of a site's models: drift, how they fare, how well they tell outcomes.
#[utoipa::path(
    get,
    path = "/api/v1/sites/{site}/models",
    params(
        ("site" = String, Path, description = "The site's name"),
        ("format" = Option<String>, Query, description = "json or csv; `Accept: text/csv` asks for the second as well"),
    ),
    responses(
        (status = 200, content((Vec<ModelView> = "application/json"), (Row = "text/csv"))),
        (status = 400, body = Problem), (status = 404, body = Problem), (status = 503, body = Problem),
    )
)]
pub(super) async fn site_models(
    State(context): State<Arc<Context>>,
    Path(site): Path<String>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Response {
    let trust = context.trust();
    let found =
        async { Ok(context.watch.models(&context.store, &trust.policies, &site).await?.map(|all| (*all).clone())) };
    told((&asked, &headers), found, |all| figures::of_models(all)).await
}

/// What is seen of a site's experiments: the arms, what changed, what must not get worse, and what to make of it.
#[utoipa::path(
    get,
    path = "/api/v1/sites/{site}/experiments",
    params(
        ("site" = String, Path, description = "The site's name"),
        ("format" = Option<String>, Query, description = "json or csv; `Accept: text/csv` asks for the second as well"),
    ),
    responses(
        (status = 200, content((Vec<ExperimentView> = "application/json"), (Row = "text/csv"))),
        (status = 400, body = Problem), (status = 404, body = Problem), (status = 503, body = Problem),
    )
)]
pub(super) async fn site_experiments(
    State(context): State<Arc<Context>>,
    Path(site): Path<String>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Response {
    let trust = context.trust();
    let found = experiments(&context.store, &trust.policies, &site);
    told((&asked, &headers), found, |all| figures::of_experiments(all)).await
}

/// What each model that acts brings, beside what it costs people.
#[utoipa::path(
    get,
    path = "/api/v1/sites/{site}/worth",
    params(
        ("site" = String, Path, description = "The site's name"),
        ("format" = Option<String>, Query, description = "json or csv; `Accept: text/csv` asks for the second as well"),
    ),
    responses(
        (status = 200, content((Vec<Worth> = "application/json"), (Row = "text/csv"))),
        (status = 400, body = Problem), (status = 404, body = Problem), (status = 503, body = Problem),
    )
)]
pub(super) async fn site_worth(
    State(context): State<Arc<Context>>,
    Path(site): Path<String>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Response {
    let trust = context.trust();
    let found = worth(&context.store, &trust.policies, &trust.records, &context.watch, &site);
    told((&asked, &headers), found, |all| figures::of_worth(all)).await
}

/// What called for somebody at a site, found last first.
#[utoipa::path(
    get,
    path = "/api/v1/sites/{site}/alerts",
    params(("site" = String, Path, description = "The site's name")),
    responses((status = 200, body = Vec<Alert>), (status = 404, body = Problem), (status = 503, body = Problem))
)]
pub(super) async fn site_alerts(State(context): State<Arc<Context>>, Path(site): Path<String>) -> Response {
    let known = context.trust().policies.keys().any(|(known, _)| *known == site);
    let found = if known { context.store.alerts(&site, ALERTS).await.map(Some) } else { Ok(None) };
    answered(found, |alerts| Json(alerts).into_response())
}

/// Whose figures a scrape is told, beside what is told of all sites together.
#[derive(Debug, Deserialize)]
pub(super) struct Scraped {
    site: Option<String>,
}

pub(super) async fn counted(State(context): State<Arc<Context>>, Query(asked): Query<Scraped>) -> Response {
    answered(all_counted(&context, asked.site.as_deref()).await, |text| {
        ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
    })
}

/// Alerts of all sites and, where one is asked for, the newest figures of that site; `None` when it is not known.
async fn all_counted(context: &Context, site: Option<&str>) -> Result<Option<String>, StoreError> {
    let (store, trust, now_ms) = (&context.store, context.trust(), (context.clock)());
    let mut text = metrics(store, now_ms).await?;
    let Some(site) = site else { return Ok(Some(text)) };
    let Some(overview) = overview(store, &trust.policies, site, 1, now_ms).await? else { return Ok(None) };
    let models = context.watch.models(store, &trust.policies, site).await?.unwrap_or_default();
    let experiments = experiments(store, &trust.policies, site).await?.unwrap_or_default();
    let beside = (&models[..], &experiments[..]);
    let worth = worth_beside(store, &trust.policies, &trust.records, beside, site).await?.unwrap_or_default();
    // What is known of models comes first: it is the last to be left out.
    let rows = [
        figures::of_models(&models),
        figures::of_worth(&worth),
        figures::of_experiments(&experiments),
        figures::of_overview(&overview),
    ];
    text.push_str(&crate::gauges::gauges(&overview, &rows.concat()));
    Ok(Some(text))
}
