//! What only a real PostgreSQL can show: that it outlasts `kill -9` under load, and that every query uses an index.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use gloaming_central::{Arrived, Store, Stored};
use gloaming_e2e::batches::{Dice, Sender, digest};
use gloaming_e2e::postgres::Cluster;

const DAY: u64 = 20_781;
const NOW: u64 = (DAY + 1) * 86_400_000;
/// Kills of the server.
const KILLS: usize = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn what_was_acknowledged_outlasts_kill_9_and_counts_once() {
    let mut cluster = Cluster::start(&[]).unwrap();
    let address = cluster.database("killed").unwrap();
    let store = Store::open(&address).await.unwrap();
    let (acknowledged, failed, done) = <(Arc<AtomicUsize>, Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
    let mut writers = Vec::new();
    for writer in 0..4u64 {
        let (store, acknowledged, failed, done) = (store.clone(), acknowledged.clone(), failed.clone(), done.clone());
        writers.push(tokio::spawn(async move {
            let sender = Sender::new("a.example", &format!("e{writer}"), DAY - 30);
            let (mut dice, mut seq) = (Dice(writer), 0);
            while done.load(Ordering::Relaxed) == 0 {
                let batches: Vec<_> = (seq..seq + 1 + dice.below(8) as u64).map(|seq| sender.batch(seq)).collect();
                let arrived: Vec<_> = batches.iter().map(|batch| Arrived { batch, digest: digest(batch) }).collect();
                // As an edge does: the same bytes again until they are acknowledged.
                loop {
                    match store.put(&arrived, NOW).await {
                        Ok(outcomes) => {
                            assert!(outcomes.iter().all(|o| matches!(o, Stored::Now | Stored::Before)), "{outcomes:?}");
                            break;
                        }
                        Err(_) => failed.fetch_add(1, Ordering::Relaxed),
                    };
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                seq += batches.len() as u64;
                acknowledged.fetch_add(batches.len(), Ordering::Relaxed);
            }
            (sender, seq)
        }));
    }
    for _ in 0..KILLS {
        let (already, errors) = (acknowledged.load(Ordering::Relaxed), failed.load(Ordering::Relaxed));
        while acknowledged.load(Ordering::Relaxed) < already + 40 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::task::block_in_place(|| cluster.kill().unwrap());
        while failed.load(Ordering::Relaxed) == errors {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::task::block_in_place(|| cluster.run().unwrap());
    }
    let already = acknowledged.load(Ordering::Relaxed);
    while acknowledged.load(Ordering::Relaxed) < already + 40 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    done.store(1, Ordering::Relaxed);
    let mut sent = 0;
    for writer in writers {
        let (sender, seq) = writer.await.unwrap();
        sent += seq;
        let expected: Vec<_> = (0..seq).map(|seq| sender.batch(seq).releases[1].clone()).collect();
        let rows = store.releases("a.example", 2, sender.span_ms, 100_000).await.unwrap();
        let stored: Vec<_> = rows.iter().filter(|row| row.edge == sender.edge).collect();
        assert_eq!(stored.len(), expected.len(), "lost or double");
        assert!(stored.iter().zip(&expected).all(|(row, release)| row.values == release.values));
    }
    let ledger = cluster.sql("killed", "SELECT SUM(below) FROM watermark").unwrap();
    assert_eq!(ledger, sent.to_string(), "every number is behind its watermark");
    assert_eq!(store.alarms("a.example").await.unwrap().0, 0);
    println!("{sent} batches, {KILLS} kills, {} failed attempts: 0 lost, 0 double", failed.load(Ordering::Relaxed));
}

/// Tables that grow. Of `told` there is only what is on its way.
const LARGE: [&str; 5] = ["release", "ledger", "watermark", "alarm", "alert"];

/// Whether a line of a plan reads a whole table that grows.
fn whole(line: &str) -> bool {
    let table = line.split("Seq Scan on ").nth(1).and_then(|rest| rest.split_whitespace().next());
    table.is_some_and(|table| LARGE.iter().any(|large| table.starts_with(large)))
}

#[tokio::test]
async fn every_query_uses_an_index() {
    let cluster = Cluster::start(&[
        "session_preload_libraries=auto_explain",
        "auto_explain.log_min_duration=0",
        "auto_explain.log_nested_statements=on",
    ])
    .unwrap();
    let address = cluster.database("plans").unwrap();
    let store = Store::open(&address).await.unwrap();
    let senders: Vec<_> =
        (0..8).map(|edge| Sender::new(&format!("{}.example", edge % 2), &format!("e{edge}"), DAY - 60)).collect();
    for sender in &senders {
        for first in (0..1_400).step_by(100) {
            let batches: Vec<_> = (first..first + 100).map(|seq| sender.batch(seq)).collect();
            let arrived: Vec<_> = batches.iter().map(|batch| Arrived { batch, digest: digest(batch) }).collect();
            store.put(&arrived, NOW).await.unwrap();
        }
    }
    // A planner reads a table of three rows as a whole, and is right: here they are as large as they grow.
    cluster
        .sql(
            "plans",
            "INSERT INTO watermark SELECT 's' || n % 97, 'e' || n, 0, 0 FROM generate_series(1, 20000) AS n;
             INSERT INTO ledger SELECT 's' || n % 97, 'e', 0, n, '', 0 FROM generate_series(1, 40000) AS n;
             INSERT INTO alarm SELECT 's' || n % 97, 'e', n, 'w' FROM generate_series(1, 20000) AS n;
             INSERT INTO alert SELECT 's' || n % 97, 'a' || n, 'drift', 'w', n, n, n FROM generate_series(1, 20000) AS n;
             INSERT INTO release SELECT 's' || n % 97, 1, 1, 9000000000000 + n, 'e', 1, 0, 0, '[]' FROM generate_series(1, 20000) AS n;
             ANALYZE;",
        )
        .unwrap();
    let before = cluster.log().unwrap().len();

    let (sender, old) = (&senders[0], Sender::new("0.example", "late", DAY - 400));
    let (mut forged, new) = (sender.batch(1_399), sender.batch(1_400));
    forged.policy_hash = [1; 32];
    for batch in [&new, &new, &forged, &sender.batch(0), &old.batch(0)] {
        store.put(&[Arrived { batch, digest: digest(batch) }], NOW).await.unwrap();
    }
    assert!(!store.releases("0.example", 1, sender.span_ms, 100).await.unwrap().is_empty());
    assert_eq!(store.edges("0.example").await.unwrap().len(), 5);
    assert_eq!(store.alarms("0.example").await.unwrap().0, 1);
    assert!(store.hashes("0.example").await.unwrap() > 1_000);
    store.retain(50, NOW).await.unwrap();
    for about in ["one", "two"] {
        assert!(store.note_alert("s7", about, "drift", "it drifted", NOW).await.unwrap());
    }
    assert!(!store.note_alert("s7", "one", "drift", "it drifted on", NOW + 1).await.unwrap());
    let untold = store.untold_alerts("webhook", 100).await.unwrap();
    assert_eq!((untold.len(), store.alerts("s7", 100).await.unwrap().len()), (2, 100));
    store.told_alert(&untold[0], "webhook").await.unwrap();
    store.settle_alerts(&["webhook"], NOW + 2).await.unwrap();
    assert_eq!(store.alert_counts(NOW).await.unwrap(), (BTreeMap::from([("drift".to_owned(), 2)]), 1));
    store.ping().await.unwrap();

    let log = cluster.log().unwrap();
    let (mut queries, mut plan, mut kinds) = (0, String::new(), BTreeSet::new());
    for line in log[before..].lines() {
        if line.contains("Query Text:") {
            queries += 1;
            plan = line.to_owned();
        } else {
            plan = format!("{plan}\n{line}");
        }
        for kind in ["Index Only Scan", "Index Scan", "Bitmap Index Scan"] {
            if line.contains(kind) {
                kinds.insert(kind);
            }
        }
        // The newest window is looked for once an hour, in one partition.
        assert!(!whole(line) || plan.contains("LIMIT 1"), "reads a whole table:\n{plan}");
    }
    assert!(queries >= 40, "only {queries} plans were logged");
    assert!(kinds.len() >= 2, "{kinds:?}");
    println!("{queries} plans, no table read as a whole");
}
