//! The real processes, killed at random moments under load, and a client that counts. `GLOAMING_KILLS=200` for
//! a longer look; the seed is `GLOAMING_SEED`.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gloaming_http::Client;
use gloaming_policy::{Policy, grace_ms};
use serde_json::Value;

#[path = "support/own_cells.rs"]
mod own_cells;
mod support;
use own_cells::{Cells, Counts, add, body, compare, counted, now_ms, own_cells, sum};
use support::{Site, until_ready};

/// Long enough for several kills, short enough to see some windows close. Of the two lengths hardly ever both end at once,
/// so that nearly always one has [`LEFT`].
const SPANS_MS: [u64; 2] = [15_000, 25_000];
/// Metrics of each length, 4,096 cells each.
const METRICS: usize = 4;
/// What is left of a window that something new is brought to: time to send it again until somebody answers.
const LEFT: u64 = 6_000;
/// Nothing is killed while a body has waited longer than this for its answer: each is to have one before its window closes.
const WAITED: Duration = Duration::from_secs(2);
const SENDERS: u64 = 6;

/// What the client knows.
#[derive(Default)]
struct Books {
    cells: Cells,
    acknowledged: Counts,
    /// Those whose fate nobody was told: their window ended on a machine that stood still.
    untold: Counts,
    /// Contributions that were refused, which none here deserves.
    refused: BTreeMap<String, u64>,
    bodies: u64,
    tries: u64,
    /// Since when the senders' bodies wait.
    waiting: BTreeMap<u64, Instant>,
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

/// Sends one body after another, each as it is until it is answered or its window is over.
async fn send(address: String, policy: Policy, sender: u64, books: Arc<Mutex<Books>>, stop: Arc<AtomicBool>) {
    let (client, mut state) = (Client::new(Duration::from_secs(2)), sender);
    while !stop.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let now = now_ms();
        let Some(span) = SPANS_MS.into_iter().find(|span| span - now % span >= LEFT) else { continue };
        let ids = std::array::from_fn::<_, 4, _>(|_| {
            let halves = [next(&mut state), next(&mut state)].map(u64::to_le_bytes);
            std::array::from_fn(|byte| halves[byte / 8][byte % 8])
        });
        let given = books.lock().unwrap().cells.give(&policy, (span, now / span), ids.into_iter());
        let Some(contributions) = given else { continue };
        books.lock().unwrap().waiting.insert(sender, Instant::now());
        let (body, closes) = (body(&policy, &contributions), (now / span + 1) * span + grace_ms(span));
        let (mut words, mut tries): (Option<Vec<String>>, u64) = (None, 0);
        while words.is_none() && now_ms() < closes {
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
        books.waiting.remove(&sender);
        books.bodies += 1;
        books.tries += tries;
        for (place, contribution) in contributions.iter().enumerate() {
            match words.as_ref().map(|words| words[place].as_str()) {
                Some("accepted" | "duplicate") => add(&mut books.acknowledged, std::slice::from_ref(contribution)),
                Some(word) => *books.refused.entry(word.to_owned()).or_default() += 1,
                None => add(&mut books.untold, std::slice::from_ref(contribution)),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_random_moments_they_lose_nothing_and_count_nothing_twice() {
    let (kills, mut state) = (number("GLOAMING_KILLS", 20), number("GLOAMING_SEED", 1));
    let mut site = Site::new();
    own_cells(&mut site, &SPANS_MS, METRICS);
    let (mut centre, mut edge) = (site.start("central"), site.start("edge"));
    until_ready(&site.admin).await;
    until_ready(&site.central).await;
    let (books, stop) = (Arc::<Mutex<Books>>::default(), Arc::new(AtomicBool::new(false)));
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| {
            let address = format!("{}/g/v1/contributions", site.listen);
            let seed = state.wrapping_mul(1_000) + sender;
            tokio::spawn(send(address, site.policy.clone(), seed, Arc::clone(&books), Arc::clone(&stop)))
        })
        .collect();
    let some_wait_long = || books.lock().unwrap().waiting.values().any(|since| since.elapsed() > WAITED);
    for kill in 0..kills {
        tokio::time::sleep(Duration::from_millis(10 + next(&mut state) % 300)).await;
        while some_wait_long() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
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

    // The last windows end, and their grace; then everything is delivered. A busy machine is late.
    let books = std::mem::take(&mut *books.lock().unwrap());
    let until = SPANS_MS.map(|span| (now_ms() / span + 1) * span + grace_ms(span)).into_iter().max().unwrap();
    tokio::time::sleep(Duration::from_millis(until - now_ms() + 300)).await;
    let (mut counts, mut alarms) = counted(&site.central).await;
    for _ in 0..60 {
        if books.acknowledged.keys().all(|window| counts.contains_key(window)) {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        (counts, alarms) = counted(&site.central).await;
    }
    let (lost, double) = compare(&books.acknowledged, &books.untold, &counts);
    println!(
        "{kills} kills, {} windows: {} bodies in {} tries; {} contributions acknowledged, {} counted, {lost} lost, {double} double, {} untold; {alarms} alarms",
        counts.len() / METRICS,
        books.bodies,
        books.tries,
        sum(&books.acknowledged),
        sum(&counts),
        sum(&books.untold),
    );
    assert_eq!((lost, double, alarms), (0, 0, 0));
    assert!(sum(&books.untold) * 20 <= sum(&books.acknowledged), "hardly any is left without an answer");
    assert_eq!(books.refused, BTreeMap::new());
    assert!(sum(&books.acknowledged) > 20 * kills, "there was a load");
    assert!(edge.terminate() && centre.terminate());
}
