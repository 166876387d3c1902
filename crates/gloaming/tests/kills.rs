//! The real processes, killed at random moments under load, and a client that counts. `GLOAMING_KILLS=200` for
//! a longer look; the seed is `GLOAMING_SEED`.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use gloaming_http::Client;
use gloaming_policy::author::{Key, Signed};
use gloaming_policy::{Bins, Policy};
use gloaming_privacy::Rho;
use gloaming_signal::{Contribution, Submission, cbor};
use serde_json::Value;

mod support;
use support::{Site, until_ready};

const CELLS: u32 = 32;
/// Long enough for several kills, short enough to see some windows close.
const SPAN_MS: u64 = 10_000;
/// How long a body is sent again before its fate is called unknown.
const PATIENCE: Duration = Duration::from_secs(8);

/// One metric, a window of seconds, and a budget so large that the noise is zero: what the centre shows is what
/// was counted. No policy that a person writes is like this: the compiler refuses it.
fn exact(mut policy: Policy) -> Policy {
    policy.budget = Rho::from_micro(1_000_000_000_000_000);
    policy.metrics.truncate(1);
    let metric = &mut policy.metrics[0];
    (metric.span_ms, metric.per_day, metric.k) = (SPAN_MS, 1, 0);
    metric.rho = Rho::from_micro(1_000_000_000_000);
    metric.axes[0].bins = Bins::Edges((0..=CELLS).collect());
    metric.axes[0].labels = (0..CELLS).map(|cell| cell.to_string()).collect();
    policy
}

/// What the client knows of each cell.
#[derive(Clone, Default)]
struct Books {
    acknowledged: Vec<u64>,
    unknown: Vec<u64>,
    bodies: u64,
    tries: u64,
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// Splitmix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// Sends one body after another, each until it is answered.
async fn send(address: String, policy: Policy, mut state: u64, books: Arc<Mutex<Books>>, stop: Arc<AtomicBool>) {
    let client = Client::new(Duration::from_secs(2));
    while !stop.load(Ordering::Relaxed) {
        let cells: Vec<u32> = (0..20).map(|_| (next(&mut state) % u64::from(CELLS)) as u32).collect();
        let window = now_ms() / SPAN_MS;
        let contributions = cells.iter().map(|cell| {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&next(&mut state).to_le_bytes());
            id[8..].copy_from_slice(&next(&mut state).to_le_bytes());
            Contribution { id, metric: policy.metrics[0].id, window, cell: *cell, value: 1 }
        });
        let submission = Submission {
            site: policy.site.clone(),
            policy_version: policy.version,
            policy_hash: policy.hash(),
            check: false,
            contributions: contributions.collect(),
        };
        let (body, begun) = (Bytes::from(cbor::to_vec(&submission)), Instant::now());
        let (mut words, mut tries): (Option<Vec<String>>, u64) = (None, 0);
        while words.is_none() && begun.elapsed() < PATIENCE {
            tries += 1;
            match client.post(&address, body.clone()).await {
                Ok((status, _, answer)) if status == 200 => {
                    let answer: Value = serde_json::from_slice(&answer).unwrap();
                    let each = answer["each"].as_array().unwrap();
                    words = Some(each.iter().map(|word| word.as_str().unwrap().to_owned()).collect());
                }
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
        let mut books = books.lock().unwrap();
        books.bodies += 1;
        books.tries += tries;
        for (i, cell) in cells.iter().enumerate() {
            match words.as_ref().map(|words| words[i].as_str()) {
                Some("accepted" | "duplicate") => books.acknowledged[*cell as usize] += 1,
                // Refused at once it was not counted; after a try that nobody answered it may have been.
                Some(_) if tries == 1 => {}
                _ => books.unknown[*cell as usize] += 1,
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_random_moments_they_lose_nothing_and_count_nothing_twice() {
    let (kills, mut state) = (number("GLOAMING_KILLS", 20), number("GLOAMING_SEED", 1));
    let mut site = Site::new();
    site.policy = exact(site.policy.clone());
    let owner = Key::from_text(&fs::read_to_string(site.folder.path("owner.key")).unwrap()).unwrap();
    fs::write(site.folder.path("policy.signed"), Signed::sign(&site.policy, &[&owner]).to_bytes()).unwrap();

    let (mut centre, mut edge) = (site.start("central"), site.start("edge"));
    until_ready(&site.admin).await;
    until_ready(&site.central).await;
    let empty = vec![0; CELLS as usize];
    let books = Books { acknowledged: empty.clone(), unknown: empty, ..Books::default() };
    let (books, stop) = (Arc::new(Mutex::new(books)), Arc::new(AtomicBool::new(false)));
    let senders: Vec<_> = (0..4)
        .map(|i| {
            let address = format!("{}/g/v1/contributions", site.listen);
            tokio::spawn(send(address, site.policy.clone(), state + i, Arc::clone(&books), Arc::clone(&stop)))
        })
        .collect();
    for kill in 0..kills {
        tokio::time::sleep(Duration::from_millis(10 + next(&mut state) % 300)).await;
        if kill % 4 == 3 {
            drop(centre);
            centre = site.start("central");
            until_ready(&site.central).await;
        } else {
            drop(edge);
            edge = site.start("edge");
            until_ready(&site.admin).await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    for sender in senders {
        sender.await.unwrap();
    }

    // The last window ends, and its grace; then everything is delivered.
    let books = books.lock().unwrap().clone();
    let until = (now_ms() / SPAN_MS + 1) * SPAN_MS + SPAN_MS / 12;
    tokio::time::sleep(Duration::from_millis(until - now_ms() + 300)).await;
    let client = Client::new(Duration::from_secs(5));
    let sum = |values: &[u64]| values.iter().sum::<u64>();
    let address = format!("{}/api/v1/sites/blog.example/overview?last=1000", site.central);
    // That nothing waits for the centre does not say that the last window was released yet: a busy machine is late.
    let (mut overview, mut counted) = (Value::Null, Vec::new());
    for _ in 0..600 {
        let (_, _, answer) = client.get(&address).await.unwrap();
        overview = serde_json::from_slice(&answer).unwrap();
        let values = overview["metrics"][0]["total"]["values"].as_array();
        counted = values.map_or_else(Vec::new, |values| values.iter().map(|v| v.as_u64().unwrap()).collect());
        if sum(&counted) >= sum(&books.acknowledged) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let total = &overview["metrics"][0]["total"];
    println!(
        "{kills} kills, {} windows: {} bodies in {} tries; {} contributions acknowledged, {} counted, {} unknown; {} alarms",
        total["windows"],
        books.bodies,
        books.tries,
        sum(&books.acknowledged),
        sum(&counted),
        sum(&books.unknown),
        overview["alarms"],
    );
    assert_eq!(overview["alarms"], 0);
    assert!(sum(&books.acknowledged) > 20 * kills, "there was a load");
    assert_eq!(counted.len(), CELLS as usize);
    for (cell, counted) in counted.iter().enumerate() {
        let (acknowledged, unknown) = (books.acknowledged[cell], books.unknown[cell]);
        assert!(*counted >= acknowledged, "cell {cell}: {acknowledged} acknowledged, {counted} counted");
        assert!(*counted <= acknowledged + unknown, "cell {cell}: {counted} counted of {acknowledged} + {unknown}");
    }
    assert!(edge.terminate() && centre.terminate());
}
