//! The edge for those who run it: whether it lives, whether it takes requests, and what it counted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use gloaming_signal::Reason;
use http::{StatusCode, header};

use crate::server::Context;

pub(crate) fn admin_routes(context: Arc<Context>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(context)
}

async fn ready(State(context): State<Arc<Context>>) -> Response {
    let unready = |why| (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    if !context.ready.load(Ordering::Relaxed) {
        unready("stopping\n")
    } else if !context.engine.healthy.load(Ordering::Relaxed)
        || context.relay.as_ref().is_some_and(|relay| !relay.healthy.load(Ordering::Relaxed))
    {
        unready("the store fails; see the log\n")
    } else if context.engine.clock_doubt_ms().is_some() {
        // What is taken counts, and in the right windows: no reason to turn anybody away.
        "ready; the wall clock is not believed, see the log\n".into_response()
    } else {
        "ready\n".into_response()
    }
}

/// Prometheus text. Totals of this process only: no site, no metric, no address.
async fn metrics(State(context): State<Arc<Context>>) -> Response {
    let gauges = context.engine.gauges.read().map(|g| g.clone()).unwrap_or_default();
    let mut text = String::from(
        "# HELP gloaming_contributions_total Contributions judged, by reason.\n# TYPE gloaming_contributions_total counter\n",
    );
    let relay = context.relay.as_ref().and_then(|relay| Some(relay.gauges.read().ok()?.clone())).unwrap_or_default();
    for reason in Reason::ALL {
        let count = |reasons: &BTreeMap<Reason, u64>| reasons.get(reason).copied().unwrap_or(0);
        let count = count(&gauges.tally.reasons) + count(&relay.tally.reasons);
        text.push_str(&format!("gloaming_contributions_total{{reason=\"{}\"}} {count}\n", reason.word()));
    }
    text.push_str("# HELP gloaming_turned_away_total Connections and requests turned away unread, by reason.\n# TYPE gloaming_turned_away_total counter\n");
    for (reason, count) in context.turned_away.counts() {
        text.push_str(&format!("gloaming_turned_away_total{{reason=\"{reason}\"}} {count}\n"));
    }
    let refused = context.engine.refused() + context.relay.as_ref().map_or(0, |relay| relay.refused());
    let rows = [
        (
            "gloaming_queue_refused_total",
            "counter",
            "Submissions told to come again because too many waited already, of their site or of all.",
            refused,
        ),
        ("gloaming_windows_released_total", "counter", "Windows released.", gauges.tally.windows),
        (
            "gloaming_windows_skipped_total",
            "counter",
            "Windows skipped because the edge was away too long.",
            gauges.tally.skipped_windows,
        ),
        ("gloaming_guest_calls_total", "counter", "Calls the edge component answered.", gauges.guest_calls),
        (
            "gloaming_guest_replaced_total",
            "counter",
            "Instances of the edge component replaced after a trap.",
            gauges.guest_replaced,
        ),
        (
            "gloaming_shadow_calls_total",
            "counter",
            "Calls that the next edge component was given as well.",
            gauges.shadow.0,
        ),
        ("gloaming_shadow_differences_total", "counter", "Those that it answered differently.", gauges.shadow.1),
        (
            "gloaming_shadow_skipped_total",
            "counter",
            "Calls that the next edge component was too slow for.",
            gauges.shadow.2,
        ),
        ("gloaming_guest_failures_total", "counter", "Folds that failed.", gauges.tally.guest_failures),
        (
            "gloaming_guest_untrue_total",
            "counter",
            "Folds whose result was not believed: an alarm.",
            gauges.tally.guest_untrue,
        ),
        (
            "gloaming_storage_failures_total",
            "counter",
            "Times the store failed and was opened anew.",
            gauges.storage_failures + relay.failures,
        ),
        (
            "gloaming_release_failures_total",
            "counter",
            "Releases the edge component failed on; each is tried again.",
            gauges.release_failures,
        ),
        (
            "gloaming_store_restored_total",
            "counter",
            "Times the store was an old copy and its open windows were dropped: an alarm.",
            gauges.restored,
        ),
        (
            "gloaming_clock_doubt_seconds",
            "gauge",
            "How far the wall clock is from edge time, either way, while it is not believed: an alarm.",
            context.engine.clock_doubt_ms().map_or(0, |ms| ms.unsigned_abs() / 1_000),
        ),
        (
            "gloaming_delivery_conflicts_total",
            "counter",
            "Deliveries the centre holds with other bytes: an alarm.",
            gauges.delivery_conflicts,
        ),
        (
            "gloaming_undelivered_batches",
            "gauge",
            "Batches the centre has not acknowledged.",
            gauges.undelivered as u64,
        ),
        (
            "gloaming_relay_waiting_parcels",
            "gauge",
            "Parcels that home edges have not acknowledged.",
            relay.waiting as u64,
        ),
        (
            "gloaming_relay_lost_parcels_total",
            "counter",
            "Parcels that no home edge took while they could count: an alarm.",
            relay.tally.lost,
        ),
    ];
    for (name, kind, help, value) in rows {
        text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n"));
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}
