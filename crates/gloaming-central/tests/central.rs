//! The centre on a real socket and a real file: exactly once, or not at all.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gloaming_central::{Config, Stop, Store, StoreAddress, openapi, start};
use gloaming_http::{Assets, Client};
use gloaming_policy::Policy;
use gloaming_policy::author::{Key, Signed, announcement, batch_signature, compile, template};
use gloaming_signal::{Release, ReleaseState, SealedBatch, cbor};
use http::StatusCode;
use serde_json::Value;
use tokio::net::TcpListener;

const NOW: u64 = 1_800_000_000_000;

fn edited(edit: impl Fn(String) -> String) -> Policy {
    let text = template("blog", "blog.example", "https://blog.example", "2027-12-01").unwrap();
    compile(&edit(text), NOW / 86_400_000, &|_| Err("no models here".to_owned())).unwrap()
}

fn policy() -> Policy {
    edited(std::convert::identity)
}

fn config(folder: &Path, owner: &Key, edge: &Key) -> Config {
    Config {
        store: StoreAddress::Sqlite(folder.join("central.sqlite")),
        retain_days: None,
        pins: BTreeMap::from([("blog.example".to_owned(), owner.public())]),
        policies: vec![Signed::sign(&policy(), &[owner]).to_bytes()],
        edges: BTreeMap::from([("edge-1".to_owned(), vec![edge.public()])]),
        password: None,
        assets: Assets::from_files([("dashboard/index.html".to_owned(), Bytes::from_static(b"<!doctype html>"))]),
        telling: gloaming_central::Telling::default(),
        look: gloaming_central::LOOK,
        more: axum::Router::new(),
        clock: Arc::new(|| NOW),
    }
}

fn batch(seq: u64, window: u64) -> SealedBatch {
    batch_of(&policy(), 86_400_000, seq, window)
}

fn batch_of(policy: &Policy, span_ms: u64, seq: u64, window: u64) -> SealedBatch {
    let releases = policy
        .metrics
        .iter()
        .filter(|metric| metric.span_ms == span_ms)
        .map(|metric| match metric.id {
            3 => Release { metric: 3, state: ReleaseState::BelowK, values: Vec::new() },
            id => Release {
                metric: id,
                state: ReleaseState::Released,
                values: (0..i64::from(metric.cells())).map(|cell| 10 * cell - 5).collect(),
            },
        })
        .collect();
    SealedBatch {
        site: "blog.example".to_owned(),
        edge: "edge-1".to_owned(),
        epoch: u64::MAX - 7,
        seq,
        policy_version: policy.version,
        policy_hash: policy.hash(),
        span_ms,
        window,
        releases,
    }
}

/// Posts a delivery as an edge does, announced by `key`.
async fn post_as(client: &Client, key: &Key, base: &str, body: Bytes) -> (StatusCode, Option<u64>, Bytes) {
    let announced = ("x-gloaming-delivery", &*announcement(key, &body));
    client.post_with(&format!("{base}/api/v1/batches"), announced, body).await.unwrap()
}

fn deliver(key: &Key, batch: &SealedBatch) -> Bytes {
    Bytes::from(batch_signature(key, &cbor::to_vec(batch)))
}

/// Sums that pass 2^63 stop there and say so, and whoever looks after the site hears of it: no crowd is so large.
#[tokio::test]
async fn a_sum_that_overflows_stops_at_its_bound_with_an_alarm() {
    let folder = tempfile::tempdir().unwrap();
    let (owner, edge) = (Key::from_seed(&[1; 32]), Key::from_seed(&[2; 32]));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let running = start(config(folder.path(), &owner, &edge), listener).await.unwrap();
    let client = Client::new(Duration::from_secs(5));
    let (mut first, mut second) = (batch(0, 20_000), batch(1, 20_001));
    // Far beyond, far below, at the bound and not past it, and an honest cell beside them.
    for (batch, values) in [
        (&mut first, [i64::MAX - 1, i64::MIN + 1, i64::MAX - 7, 40]),
        (&mut second, [i64::MAX - 1, i64::MIN + 1, 7, 2]),
    ] {
        batch.releases[1].values[..4].copy_from_slice(&values);
    }
    let overview = async || -> Value {
        let (_, _, body) = client.get(&format!("{base}/api/v1/sites/blog.example/overview")).await.unwrap();
        serde_json::from_slice(&body).unwrap()
    };
    for (number, batch) in [first, second].iter().enumerate() {
        assert_eq!(post_as(&client, &edge, &base, deliver(&edge, batch)).await.0, 201);
        let overview = overview().await;
        assert_eq!(overview["alarms"], number + 1, "each such batch is one");
        assert!(overview["last_alarm"].as_str().unwrap().contains("beyond 2^53"), "{}", overview["last_alarm"]);
        assert_eq!(overview["metrics"][1]["total"]["saturated"], number == 1);
        assert_eq!(overview["metrics"][0]["total"]["saturated"], false, "another metric's sums are its own");
    }
    let overview = overview().await;
    let total = &overview["metrics"][1]["total"];
    let values: Vec<i64> = total["values"].as_array().unwrap().iter().map(|value| value.as_i64().unwrap()).collect();
    assert_eq!((total["windows"].as_u64(), &values[..4]), (Some(2), &[i64::MAX, i64::MIN, i64::MAX, 42][..]));
    running.stop().await;
}

#[tokio::test]
async fn a_batch_counts_once_and_what_conflicts_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (owner, edge, stranger) = (Key::from_seed(&[1; 32]), Key::from_seed(&[2; 32]), Key::from_seed(&[3; 32]));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let running = start(config(folder.path(), &owner, &edge), listener).await.unwrap();
    let client = Client::new(Duration::from_secs(5));
    let post = async |body: Bytes| post_as(&client, &edge, &base, body).await;
    let overview = async || -> Value {
        let (status, _, body) = client.get(&format!("{base}/api/v1/sites/blog.example/overview")).await.unwrap();
        assert_eq!(status, 200);
        serde_json::from_slice(&body).unwrap()
    };

    let first = deliver(&edge, &batch(0, 20_000));
    assert_eq!(post(first.clone()).await.0, 201);
    assert_eq!(post(first.clone()).await.0, 200, "again, byte for byte");
    let before = overview().await;
    assert_eq!(before["alarms"], 0);
    let metric = &before["metrics"][1];
    assert_eq!(metric["windows"][0]["state"], "released");
    assert_eq!(metric["windows"][0]["values"][0], -5, "negative cells stay negative");
    assert_eq!(before["metrics"][2]["windows"][0]["state"], "below-k");
    assert_eq!(before["metrics"][2]["windows"][0]["values"].as_array().unwrap().len(), 0);

    // The same number with other bytes; the same window under another number.
    for (conflict, alarms) in [(batch(0, 20_001), 1), (batch(1, 20_000), 2)] {
        let (status, _, body) = post(deliver(&edge, &conflict)).await;
        assert_eq!(status, 409, "{}", String::from_utf8_lossy(&body));
        assert_eq!(overview().await["alarms"], alarms);
    }

    let mut other_edge = batch(5, 20_005);
    other_edge.edge = "edge-2".to_owned();
    let mut other_policy = batch(5, 20_005);
    other_policy.policy_hash[0] ^= 1;
    let mut too_many = batch(5, 20_005);
    too_many.releases[0].values.push(1);
    let mut changed = deliver(&edge, &batch(5, 20_005)).to_vec();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    for (body, reason) in [
        (deliver(&stranger, &batch(5, 20_005)), "signature"),
        (Bytes::from(changed), "signature"),
        (deliver(&edge, &other_edge), "other-edge"),
        (deliver(&edge, &other_policy), "unknown-policy"),
        (deliver(&edge, &too_many), "undeclared"),
        (Bytes::from(batch_signature(&edge, b"\x80")), "malformed"),
    ] {
        let (status, _, answer) = post(body).await;
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!((status.as_u16(), answer["reason"].as_str().unwrap()), (422, reason));
        assert!(!answer["remedy"].as_str().unwrap().is_empty());
    }
    assert_eq!(post(Bytes::from(vec![0; 8 << 20])).await.0, 413);
    // Who is no edge is told so before anything is read, and so is who sends other bytes than announced.
    let (address, body) = (format!("{base}/api/v1/batches"), deliver(&edge, &batch(5, 20_005)));
    for line in [None, Some(announcement(&stranger, &body)), Some("nonsense".to_owned())] {
        let (status, _, answer) = match &line {
            Some(line) => client.post_with(&address, ("x-gloaming-delivery", line), body.clone()).await.unwrap(),
            None => client.post(&address, body.clone()).await.unwrap(),
        };
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!((status.as_u16(), &answer["reason"]), (401, &Value::from("unannounced")));
    }
    let other = announcement(&edge, b"other");
    let (status, _, _) = client.post_with(&address, ("x-gloaming-delivery", &other), body).await.unwrap();
    assert_eq!(status, 422);

    let after = overview().await;
    assert_eq!(after["metrics"], before["metrics"], "nothing that was refused left a trace in the cells");

    // Noise adds up as its variance does: two windows, root two.
    assert_eq!(post(deliver(&edge, &batch(1, 20_001))).await.0, 201);
    running.stop().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let running = start(config(folder.path(), &owner, &edge), listener).await.unwrap();
    let (_, _, body) = client.get(&format!("{base}/api/v1/sites/blog.example/overview?last=5")).await.unwrap();
    let kept: Value = serde_json::from_slice(&body).unwrap();
    let metric = &kept["metrics"][1];
    assert_eq!(metric["total"]["windows"], 2);
    assert_eq!(metric["total"]["values"][1], 10);
    let (one, both) = (metric["half_width"][0].as_f64().unwrap(), metric["total"]["half_width"][0].as_f64().unwrap());
    assert!((both / one - 2f64.sqrt()).abs() < 1e-9);
    running.stop().await;
}

/// A second version of the policy: one metric dearer, one by the hour, one in other bins. Only what means the
/// same is added up, and each window brings the noise it was released with.
#[tokio::test]
async fn versions_are_added_up_only_where_they_count_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let (owner, edge) = (Key::from_seed(&[1; 32]), Key::from_seed(&[2; 32]));
    let before = policy();
    let mut after = before.clone();
    after.version = 2;
    let rho = after.metrics[0].rho.micro();
    after.metrics[0].rho = gloaming_privacy::Rho::from_micro(rho / 4);
    after.metrics[1].span_ms = 3_600_000;
    after.metrics[4].axes[0].labels.reverse();
    let mut told = config(folder.path(), &owner, &edge);
    told.policies.push(Signed::sign(&after, &[&owner]).to_bytes());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let running = start(told, listener).await.unwrap();
    let client = Client::new(Duration::from_secs(5));
    let batches = [
        batch(0, 20_000),
        batch_of(&after, 86_400_000, 1, 20_001),
        // The hour of this number began long before the days above: their numbers are not to be compared.
        batch_of(&after, 3_600_000, 2, 480_000),
    ];
    for batch in batches {
        let (status, _, said) = post_as(&client, &edge, &base, deliver(&edge, &batch)).await;
        assert_eq!(status, 201, "{}", String::from_utf8_lossy(&said));
    }
    let (_, _, body) = client.get(&format!("{base}/api/v1/sites/blog.example/overview")).await.unwrap();
    let overview: Value = serde_json::from_slice(&body).unwrap();
    let [dearer, hourly, other] = [0, 1, 4].map(|i| &overview["metrics"][i]);
    assert_eq!((&dearer["total"]["windows"], &dearer["total"]["values"][1]), (&2.into(), &10.into()));
    // A quarter of the price is twice the noise: root(1 + 4) of the first version's, root(5)/2 of its own.
    let width = |value: &Value| value[0].as_f64().unwrap();
    let ratio = width(&dearer["total"]["half_width"]) / width(&dearer["half_width"]);
    assert!((ratio - 5f64.sqrt() / 2.0).abs() < 1e-3, "{ratio}");
    assert_eq!(hourly["windows"].as_array().unwrap().len(), 1);
    assert_eq!(hourly["windows"][0]["index"], 480_000);
    assert_eq!(other["windows"].as_array().unwrap().len(), 2);
    assert_eq!((&other["windows"][0]["comparable"], &other["windows"][1]["comparable"]), (&false.into(), &true.into()));
    assert_eq!(other["total"]["windows"], 1);
    running.stop().await;

    // The first version's file is gone, its owner's key has changed, and its last batch comes late.
    let next = Key::from_seed(&[7; 32]);
    after.version = 3;
    let mut later = config(folder.path(), &next, &edge);
    later.policies = vec![Signed::sign(&after, &[&next]).to_bytes()];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let running = start(later, listener).await.unwrap();
    let late = deliver(&edge, &batch(3, 20_002));
    assert_eq!(post_as(&client, &edge, &base, late).await.0, 201);
    running.stop().await;
}

#[tokio::test]
async fn reading_off_this_machine_needs_a_password() {
    let folder = tempfile::tempdir().unwrap();
    let (owner, edge) = (Key::from_seed(&[1; 32]), Key::from_seed(&[2; 32]));
    let open = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let refused = start(config(folder.path(), &owner, &edge), open).await;
    assert!(refused.is_err_and(|e| e.to_string().contains("password_file")));

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let mut config = config(folder.path(), &owner, &edge);
    config.password = Some("correct horse".to_owned());
    let running = start(config, listener).await.unwrap();
    let client = Client::new(Duration::from_secs(5));
    for path in ["/", "/api/v1/sites", "/api/v1/openapi.json", "/api/v1/sites/blog.example/overview"] {
        assert_eq!(client.get(&format!("{base}{path}")).await.unwrap().0, 401, "{path}");
    }
    let signed = deliver(&edge, &batch(0, 20_000));
    assert_eq!(post_as(&client, &edge, &base, signed).await.0, 201, "edges sign instead");
    running.stop().await;
}

#[tokio::test]
async fn a_policy_that_nobody_vouches_for_keeps_the_centre_from_starting() {
    let folder = tempfile::tempdir().unwrap();
    let (owner, edge, stranger) = (Key::from_seed(&[1; 32]), Key::from_seed(&[2; 32]), Key::from_seed(&[3; 32]));
    let mut config = config(folder.path(), &owner, &edge);
    config.policies.push(Signed::sign(&policy(), &[&stranger]).to_bytes());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refused = start(config, listener).await;
    assert!(refused.is_err_and(|e| e.to_string().contains("not signed by the pinned key")));
}

#[test]
fn every_route_and_every_field_is_described() {
    let document = serde_json::to_value(openapi()).unwrap();
    let paths: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
    assert_eq!(
        paths,
        [
            "/api/v1/batches",
            "/api/v1/sites",
            "/api/v1/sites/{site}/alerts",
            "/api/v1/sites/{site}/experiments",
            "/api/v1/sites/{site}/models",
            "/api/v1/sites/{site}/overview",
            "/api/v1/sites/{site}/worth",
            "/api/v1/stops"
        ]
    );
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for schema in [
        "Overview",
        "MetricView",
        "WindowView",
        "Total",
        "Budget",
        "SiteRow",
        "Problem",
        "ModelView",
        "Drift",
        "Performed",
        "Bin",
        "Recent",
        "Expected",
        "Series",
        "Point",
        "ExperimentView",
        "ArmView",
        "RailView",
        "StoppedView",
        "Asked",
        "Stops",
        "Alert",
    ] {
        let properties = schemas[schema]["properties"].as_object().unwrap();
        let described = |p: &Value| p["description"].is_string() || p["$ref"].is_string() || p["oneOf"].is_array();
        assert!(properties.values().all(described), "{schema}");
    }
}

/// Edges ask which experiments have ended, signed as they deliver.
#[tokio::test]
async fn who_is_an_edge_hears_which_experiments_have_ended() {
    let folder = tempfile::tempdir().unwrap();
    let (owner, edge, stranger) = (Key::from_seed(&[1; 32]), Key::from_seed(&[2; 32]), Key::from_seed(&[3; 32]));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/api/v1/stops", listener.local_addr().unwrap());
    let config = config(folder.path(), &owner, &edge);
    let store = Store::open(&config.store).await.unwrap();
    let running = start(config, listener).await.unwrap();
    let client = Client::new(Duration::from_secs(5));
    let ask = async |key: &Key, body: &str| {
        let body = Bytes::from(body.to_owned());
        let announced = announcement(key, &body);
        let (status, _, answer) = client.post_with(&address, ("x-gloaming-delivery", &announced), body).await.unwrap();
        (status.as_u16(), serde_json::from_slice::<Value>(&answer).unwrap())
    };
    let question = r#"{"sites":{"blog.example":2,"shop.example":1}}"#;
    assert_eq!(ask(&edge, question).await, (200, serde_json::json!({ "sites": {} })));
    for (experiment, policy_version) in [("note", 2), ("hint", 1), ("note", 3)] {
        let stop = Stop {
            experiment: experiment.into(),
            policy_version,
            arm: "note".into(),
            guardrail: "feature:errors@1".into(),
            reason: "more frequent".into(),
            at_ms: NOW,
        };
        assert!(store.note_stop("blog.example", &stop).await.unwrap());
    }
    assert_eq!(ask(&edge, question).await, (200, serde_json::json!({ "sites": { "blog.example": ["note"] } })));
    let (status, answer) = ask(&stranger, question).await;
    assert_eq!((status, &answer["reason"]), (401, &Value::from("unannounced")));
    let many: BTreeMap<String, u32> = (0..1_001).map(|at| (format!("{at}.example"), 1)).collect();
    let many = serde_json::json!({ "sites": many }).to_string();
    for wrong in ["", "[]", r#"{"sites":["blog.example"]}"#, r#"{"sites":{"blog.example":-1}}"#, &many] {
        assert_eq!(ask(&edge, wrong).await.0, 422, "{wrong}");
    }
    // Another question than the one that was announced.
    let announced = announcement(&edge, b"{}");
    let answer = client.post_with(&address, ("x-gloaming-delivery", &announced), question.into()).await.unwrap();
    assert_eq!(answer.0, 422);
    running.stop().await;
}

/// An edge changes its key: batches signed with the old one are still on their way when the first of the new one come.
#[tokio::test]
async fn an_edge_has_two_keys_while_it_changes_them() {
    let folder = tempfile::tempdir().unwrap();
    let (owner, old, new) = (Key::from_seed(&[1; 32]), Key::from_seed(&[2; 32]), Key::from_seed(&[3; 32]));
    let mut told = config(folder.path(), &owner, &old);
    told.edges.insert("edge-1".to_owned(), vec![old.public(), new.public()]);
    let pins = told.pins.clone();
    let policies = told.policies.clone();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let running = start(told, listener).await.unwrap();
    let client = Client::new(Duration::from_secs(5));
    let post = async |key: &Key, seq| post_as(&client, key, &base, deliver(key, &batch(seq, 20_000 + seq))).await.0;
    assert_eq!((post(&new, 1).await, post(&old, 0).await), (StatusCode::CREATED, StatusCode::CREATED));
    let one = |name: &str, key: &Key| (name.to_owned(), vec![key.public()]);
    running.reload(&pins, &policies, BTreeMap::from([one("edge-1", &new)])).await.unwrap();
    assert_eq!(post(&old, 2).await, StatusCode::UNAUTHORIZED, "the old key is over");
    assert_eq!(post(&new, 3).await, StatusCode::CREATED);
    // A key says who signed: two edges cannot share it, and the attempt changes nothing.
    let shared = BTreeMap::from([one("edge-1", &new), one("edge-2", &new)]);
    let error = running.reload(&pins, &policies, shared).await.unwrap_err().to_string();
    assert!(error.contains("edge-1 and edge-2 have one key"), "{error}");
    assert_eq!(post(&new, 4).await, StatusCode::CREATED);
    running.stop().await;
}
