//! What leaves an edge: batches for the centre, and what a relay has sealed for home edges.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gloaming_http::{Client, ClientError};
use gloaming_policy::author::{Key, announcement};
use gloaming_window::{Delivered, Load};
use http::StatusCode;
use tokio::sync::watch;

use crate::config::Home;
use crate::home::ROUTE;
use crate::relay::Relays;
use crate::server::Context;

/// The header by which whoever delivers says who it is, before its body.
pub(crate) const ANNOUNCEMENT: &str = "x-gloaming-delivery";

/// Posts signed bytes, to one address after the other as they fail.
struct Road {
    client: Client,
    key: Key,
    at: Vec<String>,
    turn: usize,
    stopped: watch::Receiver<bool>,
}

impl Road {
    /// Waits a little; false when the edge stops meanwhile.
    async fn pause(&mut self) -> bool {
        let pause = tokio::time::sleep(Duration::from_millis(100));
        tokio::select! {
            _ = self.stopped.wait_for(|stop| *stop) => false,
            () = pause => true,
        }
    }

    fn stops(&self) -> bool {
        *self.stopped.borrow()
    }

    async fn post(&mut self, what: &str, route: &str, body: Bytes) -> Delivered {
        let address = format!("{}{route}", self.at[self.turn % self.at.len()]);
        let announced = (ANNOUNCEMENT, &*announcement(&self.key, &body));
        let outcome = outcome(what, self.client.post_with(&address, announced, body).await);
        if matches!(outcome, Delivered::NotNow(_)) {
            self.turn += 1;
        }
        outcome
    }
}

/// What an answer means for what was delivered.
fn outcome(what: &str, answer: Result<(StatusCode, Option<u64>, Bytes), ClientError>) -> Delivered {
    match answer {
        Ok((status, _, _)) if status.is_success() => Delivered::Yes,
        Ok((StatusCode::CONFLICT, _, _)) => Delivered::Conflict,
        Ok((status, retry, answer)) => {
            tracing::warn!(%status, answer = %String::from_utf8_lossy(&answer), "{what} did not take a delivery");
            // That one site has no room at a home edge is no reason for the others to wait.
            let everything = status.is_server_error() && status != StatusCode::INSUFFICIENT_STORAGE
                || status == StatusCode::TOO_MANY_REQUESTS;
            let asked = retry.map(|seconds| seconds.saturating_mul(1_000));
            if everything { Delivered::NotNow(asked) } else { Delivered::Refused }
        }
        Err(error) => {
            tracing::warn!(%error, "{what} could not be reached");
            Delivered::NotNow(None)
        }
    }
}

/// Delivers batches in order, to one centre after the other, for as long as the edge runs.
pub(crate) async fn deliver(
    context: Arc<Context>,
    client: Client,
    key: Key,
    central: Vec<String>,
    stopped: watch::Receiver<bool>,
) {
    if central.is_empty() {
        return;
    }
    let (engine, mut road) = (&context.engine, Road { client, key, at: central, turn: 0, stopped });
    while road.pause().await {
        while let Some(row) = engine.next_delivery().await {
            if road.stops() {
                return;
            }
            let outcome = road.post("the centre", "/api/v1/batches", Bytes::from(row.bytes.clone())).await;
            engine.delivered(row, outcome).await;
        }
    }
}

/// Posts to one home edge what waits for it, for as long as the edge runs.
pub(crate) async fn hand_on(
    relays: Arc<Relays>,
    client: Client,
    key: Key,
    name: String,
    home: Home,
    stopped: watch::Receiver<bool>,
) {
    let (what, mut road) = (format!("home edge {name}"), Road { client, key, at: home.at, turn: 0, stopped });
    while road.pause().await {
        while let Some(Load { names, bytes }) = relays.next(&name).await {
            if road.stops() {
                return;
            }
            let outcome = road.post(&what, ROUTE, Bytes::from(bytes)).await;
            relays.after(&name, names, outcome).await;
        }
    }
}
