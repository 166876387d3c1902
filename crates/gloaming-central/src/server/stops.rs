//! What edges ask every minute: which experiments have ended by themselves.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Context, Problem, problem};

/// Sites in one question: an edge with more asks again.
const SITES: usize = 1_000;

/// What an edge asks.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct Asked {
    /// Sites, and the version of its policy that each is served under.
    sites: BTreeMap<String, u32>,
}

/// What it is answered.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Stops {
    /// Experiments that have ended by themselves under that version or a later one, by site; a site of which none has is left out.
    sites: BTreeMap<String, Vec<String>>,
}

/// Says which experiments of these sites have ended by themselves.
#[utoipa::path(
    post,
    path = "/api/v1/stops",
    params(("x-gloaming-delivery" = String, Header, description = "As for a batch")),
    request_body = Asked,
    responses(
        (status = 200, body = Stops),
        (status = 401, description = "Not announced by an edge known here", body = Problem),
        (status = 422, description = "Not a question, or one about too many sites", body = Problem),
        (status = 503, description = "The database failed; come again", body = Problem),
    )
)]
pub(super) async fn stops(State(context): State<Arc<Context>>, body: Bytes) -> Response {
    let Ok(Asked { sites }) = serde_json::from_slice(&body) else {
        return problem(StatusCode::UNPROCESSABLE_ENTITY, "malformed", "run an edge of this version");
    };
    if sites.len() > SITES {
        let remedy = "ask about a thousand at a time, as an edge of this version does";
        return problem(StatusCode::UNPROCESSABLE_ENTITY, "too-many-sites", remedy);
    }
    let mut found = BTreeMap::new();
    for (site, version) in sites {
        let stops = match context.store.stops(&site, version).await {
            Ok(stops) => stops,
            Err(error) => {
                tracing::error!(%error, "which experiments have ended could not be read");
                return problem(StatusCode::SERVICE_UNAVAILABLE, "store", "come again");
            }
        };
        let mut ids: Vec<String> = stops.into_iter().map(|stop| stop.experiment).collect();
        ids.dedup();
        if !ids.is_empty() {
            found.insert(site, ids);
        }
    }
    Json(Stops { sites: found }).into_response()
}
