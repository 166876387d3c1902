//! A home edge's door for relays: what they sealed for it is opened, and judged as if it had been posted here.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use gloaming_policy::author::{Key, PublicKey, announced};
use gloaming_signal::relay::Head;
use gloaming_signal::{Reason, hash, limits};
use gloaming_window::{Answer, open_load};
use http::{HeaderValue, StatusCode, header};
use tokio::sync::Semaphore;

use crate::deliver::ANNOUNCEMENT;
use crate::engine::EngineError;
use crate::server::Context;

/// Where relays post.
pub(crate) const ROUTE: &str = "/g/v1/relayed";
/// Loads that are read and judged at once; more wait, unread.
const AT_ONCE: usize = 8;
/// Bodies of one load that wait for the engine at once: with [`AT_ONCE`] loads half of what may wait for a site alone.
const TURN: usize = 128;
/// Largest load, bytes: [`limits::LOAD_BYTES`], and what sealing and names add.
const MOST: usize = limits::LOAD_BYTES + 64 * 1024;

/// Which relays are believed, and what opens what they bring.
pub(crate) struct Home {
    relays: BTreeMap<String, Vec<PublicKey>>,
    keys: Vec<Key>,
    places: Semaphore,
}

impl Home {
    /// `keys` are this edge's own, those of before included.
    pub(crate) fn new(relays: BTreeMap<String, Vec<PublicKey>>, keys: Vec<Key>) -> Self {
        Self { relays, keys, places: Semaphore::new(AT_ONCE) }
    }

    /// The relay that a line announces, and the SHA-256 of what it brings.
    pub(crate) fn announced(&self, line: &str) -> Option<(&str, [u8; 32])> {
        let mut who = None;
        let trusted = |id: &_| {
            let mut all = self.relays.iter().flat_map(|(name, keys)| keys.iter().map(move |key| (name, key)));
            let (name, key) = all.find(|(_, key)| key.id() == *id)?;
            who = Some(name.as_str());
            Some(*key)
        };
        let digest = announced(line, trusted).ok()?;
        Some((who?, digest))
    }
}

pub(crate) fn problem(status: StatusCode, reason: &str, remedy: &str) -> Response {
    (status, axum::Json(serde_json::json!({ "reason": reason, "remedy": remedy }))).into_response()
}

/// Judges bodies some at a time, so that what relays bring never takes all the places of those who post here. For whom there
/// was no place, the turn after may have one; a turn without any is the last.
async fn in_turns(context: &Context, bodies: &[(Bytes, Option<u64>)]) -> Vec<Result<Answer, EngineError>> {
    let mut answers: Vec<_> = bodies.iter().map(|_| Err(EngineError::Busy)).collect();
    let mut waiting: VecDeque<usize> = (0..bodies.len()).collect();
    while !waiting.is_empty() {
        let some: Vec<usize> = waiting.drain(..waiting.len().min(TURN)).collect();
        let turn = some.iter().map(|place| bodies[*place].clone()).collect();
        let turn = context.engine.ingest_all(turn).await;
        let (mut judged, mut again) = (false, Vec::new());
        for (place, answer) in some.into_iter().zip(turn) {
            match answer {
                Ok(answer) => (judged, answers[place]) = (true, Ok(answer)),
                Err(_) => again.push(place),
            }
        }
        if !judged {
            break;
        }
        again.into_iter().rev().for_each(|place| waiting.push_front(place));
    }
    answers
}

/// Takes a load. Whatever of it can be judged is judged, for what comes again counts once.
pub(crate) async fn relayed(State(context): State<Arc<Context>>, request: Request) -> Response {
    let home = &context.home;
    let (head, body) = request.into_parts();
    let line = head.headers.get(ANNOUNCEMENT).and_then(|line| line.to_str().ok()).unwrap_or_default();
    let Some((relay, digest)) = home.announced(line) else {
        let remedy = "write the relay's public key into [edge.relays] of this edge";
        return problem(StatusCode::UNAUTHORIZED, "unannounced", remedy);
    };
    let _place = home.places.acquire().await;
    let Ok(body) = to_bytes(body, MOST).await else {
        return problem(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "run a relay of this version");
    };
    if hash::sha256(&body) != digest {
        return problem(StatusCode::UNPROCESSABLE_ENTITY, "signature", "look at what changes bytes on the way");
    }
    let Some(parcels) = open_load(&home.keys, &body) else {
        let remedy = "write this edge's public key into [edge.homes] of the relay; while it changes, keep the one before in `former_key_files` here";
        return problem(StatusCode::UNPROCESSABLE_ENTITY, "sealed-for-another", remedy);
    };
    // Each relay numbers its networks under a key of its own.
    let network = |number: u64| {
        let mixed = hash::sha256(&[relay.as_bytes(), &number.to_le_bytes()].concat());
        mixed.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    };
    let relayed = parcels.into_iter().flat_map(|parcel| parcel.relayed);
    let bodies: Vec<_> = relayed.map(|one| (Bytes::from(one.body), one.network.map(network))).collect();
    // Versions above the newest one here may still come; those below are over for good.
    let may_come = |body: &Bytes| {
        Head::of(body)
            .is_ok_and(|head| context.engine.version(&head.site).is_none_or(|here| head.policy_version > here))
    };
    let to_come: Vec<bool> = bodies.iter().map(|(body, _)| may_come(body)).collect();
    let (mut counts, mut come_again, mut full) = (BTreeMap::<&str, u64>::new(), false, false);
    // A relay may have a policy before its home edge has: what it took under it is not to be lost for that.
    let mut not_yet = false;
    for (answer, to_come) in in_turns(&context, &bodies).await.into_iter().zip(to_come) {
        let Ok(answer) = answer else {
            come_again = true;
            continue;
        };
        let alone = [answer.whole];
        for reason in if answer.whole == Reason::Accepted { &answer.each[..] } else { &alone[..] } {
            full |= *reason == Reason::Busy;
            not_yet |= to_come && matches!(reason, Reason::UnknownSite | Reason::UnknownPolicy);
            *counts.entry(reason.word()).or_default() += 1;
        }
    }
    let status = match (come_again, full, not_yet) {
        (true, ..) => StatusCode::SERVICE_UNAVAILABLE,
        (_, true, _) => StatusCode::INSUFFICIENT_STORAGE,
        // The relay sets it aside and asks again, for as long as a parcel lives.
        (.., true) => StatusCode::FAILED_DEPENDENCY,
        _ => StatusCode::OK,
    };
    let mut response = (status, axum::Json(counts)).into_response();
    if come_again {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}
