//! Hostile input over the wire, at the real edge with the real component: each has its reason, its count
//! and its answer, and what was accepted before it is kept to the last count.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use bytes::Bytes;
use gloaming_e2e::stage::{Setting, Stage, WINDOW_S};
use gloaming_http::Client;
use gloaming_policy::Policy;
use gloaming_privacy::sample;
use gloaming_signal::{Contribution, Submission, cbor, limits};
use http::StatusCode;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const LANDING: u32 = 2;
const CART: u32 = 8;

fn submission(policy: &Policy, contributions: Vec<Contribution>) -> Submission {
    Submission {
        site: policy.site.clone(),
        policy_version: policy.version,
        policy_hash: policy.hash(),
        check: false,
        contributions,
    }
}

fn one(id: u64, metric: u32, window: u64, cell: u32, value: u32) -> Contribution {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&id.to_le_bytes());
    Contribution { id: bytes, metric, window, cell, value }
}

struct Poster {
    client: Client,
    address: String,
}

impl Poster {
    async fn post(&self, body: impl Into<Bytes>) -> (StatusCode, Value) {
        let (status, _, answer) = self.client.post(&self.address, body.into()).await.unwrap();
        (status, serde_json::from_slice(&answer).unwrap_or(Value::Null))
    }

    /// Posts one contribution; the reason it got.
    async fn reason(&self, policy: &Policy, contribution: Contribution) -> String {
        let (status, answer) = self.post(cbor::to_vec(&submission(policy, vec![contribution]))).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer["each"][0].as_str().unwrap().to_owned()
    }

    /// Posts a body that is refused as a whole; its reason, after a look at status and remedy.
    async fn refused(&self, body: impl Into<Bytes>, wanted: StatusCode) -> String {
        let (status, answer) = self.post(body).await;
        assert_eq!(status, wanted, "{answer}");
        assert!(answer["remedy"].as_str().unwrap().len() > 10, "{answer}");
        answer["reason"].as_str().unwrap().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_bad_input_has_its_reason_and_costs_nobody_else_anything() {
    let stage = Stage::start(Setting::default()).await.unwrap();
    let policy = &stage.demo.policy;
    let poster = Poster {
        client: Client::new(Duration::from_secs(20)),
        address: format!("{}/g/v1/contributions", stage.demo.edge),
    };
    let now: u64 = windows(&stage).await;

    // Three hundred honest ones, some of them twice.
    let cells = u64::from(policy.metric(LANDING).unwrap().cells());
    let mut honest = vec![0i64; cells as usize];
    for id in 0..300 {
        let cell = id * id % cells;
        honest[cell as usize] += 1;
        let contribution = one(id, LANDING, now, cell as u32, 1);
        assert_eq!(poster.reason(policy, contribution).await, "accepted");
        if id % 10 == 0 {
            assert_eq!(poster.reason(policy, contribution).await, "duplicate");
        }
    }

    // One by one.
    assert_eq!(poster.reason(policy, one(900, LANDING, now + 1, 0, 1)).await, "future-window");
    assert_eq!(poster.reason(policy, one(901, LANDING, now - 2, 0, 1)).await, "closed-window");
    assert_eq!(poster.reason(policy, one(902, 777, now, 0, 1)).await, "unknown-metric");
    assert_eq!(poster.reason(policy, one(903, LANDING, now, cells as u32, 1)).await, "unknown-cell");
    assert_eq!(poster.reason(policy, one(904, LANDING, now, 0, 2)).await, "cap-exceeded");
    assert_eq!(poster.reason(policy, one(905, CART, now, 1, 501)).await, "cap-exceeded");
    // A bad one does not cost the good one beside it anything.
    let pair = submission(policy, vec![one(906, LANDING, now, 0, 1), one(907, LANDING, now, 99, 1)]);
    let (_, answer) = poster.post(cbor::to_vec(&pair)).await;
    assert_eq!((&answer["each"][0], &answer["each"][1]), (&"accepted".into(), &"unknown-cell".into()));
    honest[0] += 1;
    // The same id twice in one body counts once.
    let twice = submission(policy, vec![one(908, LANDING, now, 0, 1), one(908, LANDING, now, 1, 1)]);
    let (_, answer) = poster.post(cbor::to_vec(&twice)).await;
    assert_eq!((&answer["each"][0], &answer["each"][1]), (&"accepted".into(), &"duplicate".into()));
    honest[0] += 1;

    // As a whole.
    let good = cbor::to_vec(&submission(policy, vec![one(999, LANDING, now, 0, 1)]));
    let bad = StatusCode::BAD_REQUEST;
    assert_eq!(
        poster.refused(vec![0u8; limits::SUBMISSION_BYTES + 1], StatusCode::PAYLOAD_TOO_LARGE).await,
        "too-large"
    );
    assert_eq!(poster.refused(vec![0u8; 1 << 20], StatusCode::PAYLOAD_TOO_LARGE).await, "too-large");
    for at in [0, 1, good.len() / 2, good.len() - 1] {
        assert_eq!(poster.refused(good[..at].to_vec(), bad).await, "malformed", "cut at {at}");
    }
    assert_eq!(poster.refused([&good[..], &[0]].concat(), bad).await, "malformed", "something behind it");
    assert_eq!(poster.refused(vec![0x81; 4_000], bad).await, "malformed", "deep");
    // The list's length in two bytes where one would do.
    assert_eq!(poster.refused([&[0x98, good[0] & 0x1f], &good[1..]].concat(), bad).await, "malformed", "not canonical");
    assert_eq!(poster.refused("not base64, not CBOR", bad).await, "malformed");
    let other = Submission { site: "other.example".into(), ..submission(policy, vec![one(1, LANDING, now, 0, 1)]) };
    assert_eq!(poster.refused(cbor::to_vec(&other), StatusCode::NOT_FOUND).await, "unknown-site");
    let version = Submission { policy_version: 99, ..submission(policy, vec![one(1, LANDING, now, 0, 1)]) };
    assert_eq!(poster.refused(cbor::to_vec(&version), StatusCode::CONFLICT).await, "unknown-policy");
    let hash = Submission { policy_hash: [0; 32], ..submission(policy, vec![one(1, LANDING, now, 0, 1)]) };
    assert_eq!(poster.refused(cbor::to_vec(&hash), StatusCode::CONFLICT).await, "unknown-policy");
    let many = (0..65).map(|i| one(5_000 + i, LANDING, now, 0, 1)).collect();
    assert_eq!(poster.refused(cbor::to_vec(&submission(policy, many)), bad).await, "malformed", "65 contributions");

    // A check is judged alike, and counted by nobody.
    let check = Submission { check: true, ..submission(policy, vec![one(7_000, LANDING, now, 0, 1)]) };
    let (_, answer) = poster.post(cbor::to_vec(&check)).await;
    assert_eq!(answer["each"][0], "checked");

    // Every reason has its count.
    let metrics = stage.metrics().await.unwrap();
    for (reason, count) in [
        ("accepted", 302),
        ("duplicate", 31),
        ("future-window", 1),
        ("closed-window", 1),
        ("unknown-metric", 1),
        ("unknown-cell", 2),
        ("cap-exceeded", 2),
        ("malformed", 9),
        ("unknown-site", 1),
        ("unknown-policy", 2),
        ("checked", 1),
    ] {
        let line = format!("gloaming_contributions_total{{reason=\"{reason}\"}} {count}\n");
        assert!(metrics.contains(&line), "no `{}` in\n{metrics}", line.trim());
    }

    // And the window holds exactly the honest ones.
    let before = stage.draws.all().len();
    stage.close_window();
    let overview = stage.released().await.unwrap();
    let seed = stage.draws.all()[before];
    let metric = policy.metric(LANDING).unwrap();
    let noise = sample(&seed, metric.span_ms, now, LANDING, metric.mechanism, &metric.scales());
    let view = overview["metrics"].as_array().unwrap().iter().find(|m| m["id"] == LANDING).unwrap();
    let exact: Vec<i64> = view["windows"][0]["values"]
        .as_array()
        .unwrap()
        .iter()
        .zip(noise)
        .map(|(value, noise)| value.as_i64().unwrap() - noise)
        .collect();
    assert_eq!(exact, honest);
    stage.demo.stop().await;
}

/// The index of the window that is open now.
async fn windows(stage: &Stage) -> u64 {
    let address = format!("{}/g/v1/windows/{}", stage.demo.edge, stage.demo.policy.site);
    let (_, _, body) = Client::new(Duration::from_secs(5)).get(&address).await.unwrap();
    let answer: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(answer["windows"][0]["span_ms"], WINDOW_S * 1_000);
    answer["windows"][0]["window"].as_u64().unwrap()
}

/// Sends bytes as they are and reads what comes back until the edge closes.
async fn raw(stage: &Stage, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(stage.demo.edge.trim_start_matches("http://")).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(40), stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_never_comes_is_not_waited_for() {
    let stage = Stage::start(Setting::default()).await.unwrap();
    let head = "POST /g/v1/contributions HTTP/1.1\r\nHost: edge\r\nContent-Type: text/plain\r\nContent-Length: 4000\r\n\r\nAAAA";
    let answer = raw(&stage, head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    stage.demo.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_edge_speaks_plain_http_and_takes_no_more_than_it_says() {
    let stage = Stage::start(Setting::default()).await.unwrap();
    let host = "Host: edge\r\nConnection: close\r\n";
    let many: String = (0..70).map(|i| format!("X-{i}: 1\r\n")).collect();
    let answer = raw(&stage, format!("GET /g/gloaming.js HTTP/1.1\r\n{host}{many}\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let long = "a".repeat(64 * 1024);
    let answer = raw(&stage, format!("GET /g/{long} HTTP/1.1\r\n{host}\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 4"), "{}", &answer[..answer.len().min(60)]);
    let answer = raw(&stage, b"\x16\x03\x01 this is TLS\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    for path in [
        "/g/../Cargo.toml",
        "/g/%2e%2e/secret",
        "/g/models/../../edge/worker.component.wasm",
        "/edge/worker.component.wasm",
        "/metrics",
    ] {
        let answer = raw(&stage, format!("GET {path} HTTP/1.1\r\n{host}\r\n").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
    }
    // A page of an origin that the policy does not name.
    let posted = |origin: &str| {
        format!(
            "POST /g/v1/contributions HTTP/1.1\r\n{host}Origin: {origin}\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\nAAAA"
        )
    };
    let answer = raw(&stage, posted("https://elsewhere.example").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("origins"), "{answer}");
    let answer = raw(&stage, posted(&stage.demo.shop).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(answer.contains(&format!("access-control-allow-origin: {}", stage.demo.shop)), "{answer}");
    // Cookies and addresses change nothing and come back nowhere.
    let answer = raw(
        &stage,
        format!("GET /g/v1/notice/{} HTTP/1.1\r\n{host}Cookie: a=b\r\n\r\n", stage.demo.policy.site).as_bytes(),
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 200") && !answer.to_lowercase().contains("set-cookie"), "{answer}");
    stage.demo.stop().await;
}
