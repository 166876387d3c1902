//! One suite for both engines: what SQLite answers, PostgreSQL answers, and neither counts anything twice.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use gloaming_central::{Arrived, ReleaseRow, Stop, Store, StoreAddress, StoreError, Stored};
use gloaming_e2e::batches::{Dice, Sender, digest};
use gloaming_e2e::postgres::Cluster;
use gloaming_signal::{Release, ReleaseState, SealedBatch};
use sqlx::{Connection as _, Row as _};
use tempfile::TempDir;

/// 2026-11-24, 00:00, in days.
const DAY: u64 = 20_781;
const DAY_MS: u64 = 86_400_000;
const NOW: u64 = (DAY + 1) * DAY_MS;

/// One server for all tests that run at the moment; who needs it last puts it out.
static SHARED: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());

/// An empty database of each kind.
struct Engines {
    folder: TempDir,
    cluster: Arc<Cluster>,
    both: [(&'static str, StoreAddress); 2],
}

/// `name` is this test's own.
fn engines(name: &str) -> Engines {
    let cluster = {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let cluster = Arc::new(Cluster::start(&[]).unwrap());
            *shared = Arc::downgrade(&cluster);
            cluster
        })
    };
    let folder = tempfile::tempdir().unwrap();
    let sqlite = StoreAddress::Sqlite(folder.path().join("central.sqlite"));
    let postgres = cluster.database(name).unwrap();
    Engines { folder, cluster, both: [("SQLite", sqlite), ("PostgreSQL", postgres)] }
}

async fn put(store: &Store, batches: &[&SealedBatch]) -> Vec<Stored> {
    try_put(store, batches).await.unwrap()
}

async fn try_put(store: &Store, batches: &[&SealedBatch]) -> Result<Vec<Stored>, StoreError> {
    let arrived: Vec<_> = batches.iter().map(|batch| Arrived { batch, digest: digest(batch) }).collect();
    store.put(&arrived, NOW).await
}

/// Everything that was released for a sender's metrics, without when it came.
async fn told(store: &Store, sender: &Sender) -> Vec<ReleaseRow> {
    let mut rows = Vec::new();
    for metric in 1..=sender.metrics.len() {
        rows.extend(store.releases(&sender.site, metric as u32, sender.span_ms, 1_000).await.unwrap());
    }
    rows.iter_mut().for_each(|row| row.received_ms = 0);
    rows
}

/// What a database says to another program.
async fn ask(address: &StoreAddress, statement: &'static str) -> Vec<Vec<i64>> {
    let mut connection = sqlx::AnyConnection::connect(&address.url()).await.unwrap();
    let rows = sqlx::query(statement).fetch_all(&mut connection).await.unwrap();
    rows.iter().map(|row| (0..row.len()).map(|place| row.get(place)).collect()).collect()
}

#[tokio::test]
async fn a_batch_counts_once_and_another_under_its_name_never() {
    for (engine, address) in &engines("once").both {
        let store = Store::open(address).await.unwrap();
        let sender = Sender::new("a.example", "e", DAY);
        let (first, second) = (sender.batch(0), sender.batch(1));
        // Twice in one transaction as well as in two.
        assert_eq!(
            put(&store, &[&second, &first, &second]).await,
            [Stored::Now, Stored::Now, Stored::Before],
            "{engine}"
        );
        let before = told(&store, &sender).await;
        assert_eq!(before.len(), 4);
        assert_eq!(put(&store, &[&first]).await, [Stored::Before]);

        let mut forged = first.clone();
        forged.releases[0] = Release { metric: 1, state: ReleaseState::Released, values: vec![1, 2, 3] };
        let mut restored = sender.batch(1);
        restored.epoch += 1;
        let third = sender.batch(2);
        let outcome = put(&store, &[&forged, &restored, &third]).await;
        assert_eq!(outcome, [Stored::Conflict, Stored::Conflict, Stored::Now], "{engine}: the others go in");
        let after = told(&store, &sender).await;
        assert_eq!(after.iter().filter(|row| row.window != third.window).cloned().collect::<Vec<_>>(), before);
        let (alarms, last) = store.alarms("a.example").await.unwrap();
        assert_eq!(alarms, 2, "{engine}");
        assert!(["another batch bears this number", "a window was released twice"].contains(&&*last.unwrap()));

        // Another site's window of the same name is another window; another edge's and policy's too.
        let elsewhere = Sender::new("b.example", "e", DAY);
        let (mut version, other) = (sender.batch(7), Sender::new("a.example", "f", DAY));
        (version.policy_version, version.window) = (2, first.window);
        assert_eq!(put(&store, &[&elsewhere.batch(0), &version, &other.batch(0)]).await, [Stored::Now; 3], "{engine}");
        store.close().await;
    }
}

/// A few edges' batches with repetitions, in an order that is all in the seed.
fn storm(seed: u64) -> (Vec<Sender>, Vec<SealedBatch>) {
    let senders: Vec<_> = ["e", "f", "g"]
        .iter()
        .flat_map(|edge| ["a.example", "b.example"].map(|site| Sender::new(site, edge, DAY)))
        .collect();
    let mut dice = Dice(seed);
    let mut batches: Vec<_> = senders.iter().flat_map(|sender| (0..20).map(|seq| sender.batch(seq))).collect();
    for _ in 0..60 {
        let again = batches[dice.below(120)].clone();
        batches.push(again);
    }
    for _ in 0..12 {
        let mut liar = batches[dice.below(120)].clone();
        match dice.below(3) {
            0 => liar.epoch ^= 1,
            1 => liar.window += 1,
            _ => liar.policy_hash[0] ^= 1,
        }
        batches.push(liar);
    }
    dice.shuffle(&mut batches);
    (senders, batches)
}

#[tokio::test]
async fn in_any_order_both_engines_answer_the_same() {
    let engines = engines("orders");
    let mut stores = Vec::new();
    for (_, address) in &engines.both {
        stores.push(Store::open(address).await.unwrap());
    }
    for seed in 0..5 {
        let (mut senders, mut batches) = storm(seed);
        // Each seed has its sites to itself.
        senders.iter_mut().for_each(|sender| sender.site = format!("{seed}.{}", sender.site));
        batches.iter_mut().for_each(|batch| batch.site = format!("{seed}.{}", batch.site));
        let (mut dice, mut rest, mut outcomes) = (Dice(seed), &batches[..], [vec![], vec![]]);
        while !rest.is_empty() {
            let (group, after) = rest.split_at((1 + dice.below(24)).min(rest.len()));
            for (store, outcomes) in stores.iter().zip(&mut outcomes) {
                outcomes.extend(put(store, &group.iter().collect::<Vec<_>>()).await);
            }
            rest = after;
        }
        assert_eq!(outcomes[0], outcomes[1], "seed {seed}");
        let count = |outcome| outcomes[0].iter().filter(|o| **o == outcome).count();
        assert_eq!(count(Stored::Now) + count(Stored::Before) + count(Stored::Conflict), 192, "seed {seed}");
        assert!(count(Stored::Before) >= 50 && count(Stored::Conflict) >= 5, "seed {seed}: {:?}", outcomes[0]);
        for sender in &senders {
            let rows = told(&stores[0], sender).await;
            assert_eq!(rows, told(&stores[1], sender).await, "seed {seed}");
            assert!(rows.len() >= 2 * 20, "{}", rows.len());
            for store in &stores {
                assert_eq!(store.edges(&sender.site).await.unwrap(), ["e", "f", "g"]);
            }
        }
    }
    for statement in [
        "SELECT COUNT(*), CAST(SUM(value) AS BIGINT), CAST(SUM(value * (cell + 1)) AS BIGINT) FROM cell",
        "SELECT metric, start_ms, COUNT(*) FROM cell GROUP BY metric, start_ms ORDER BY metric, start_ms",
    ] {
        let answers = (ask(&engines.both[0].1, statement).await, ask(&engines.both[1].1, statement).await);
        assert_eq!(answers.0, answers.1, "the view `cell`");
        assert!(answers.0[0][0] > 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_centres_on_one_database_count_each_batch_once() {
    for (engine, address) in &engines("concurrent").both {
        let (senders, _) = storm(0);
        let batches: Arc<Vec<_>> =
            Arc::new(senders.iter().flat_map(|sender| (0..20).map(|seq| sender.batch(seq))).collect());
        let mut writers = Vec::new();
        for writer in 0..6 {
            // Each writer has every batch, in its own order and groups; each pair of writers has a centre.
            let (address, batches) = (address.clone(), Arc::clone(&batches));
            writers.push(tokio::spawn(async move {
                let store = Store::open(&address).await.unwrap();
                let mut dice = Dice(writer);
                let mut order: Vec<usize> = (0..batches.len()).collect();
                dice.shuffle(&mut order);
                let mut now = Vec::new();
                let mut rest = &order[..];
                while !rest.is_empty() {
                    let (group, after) = rest.split_at((1 + dice.below(16)).min(rest.len()));
                    let group_batches: Vec<_> = group.iter().map(|index| &batches[*index]).collect();
                    for (index, outcome) in group.iter().zip(put(&store, &group_batches).await) {
                        match outcome {
                            Stored::Now => now.push(*index),
                            other => assert_eq!(other, Stored::Before),
                        }
                    }
                    rest = after;
                }
                store.close().await;
                now
            }));
        }
        let mut firsts = BTreeMap::new();
        for writer in writers {
            for index in writer.await.unwrap() {
                *firsts.entry(index).or_insert(0) += 1;
            }
        }
        assert_eq!(firsts.len(), batches.len(), "{engine}");
        assert!(firsts.values().all(|times| *times == 1), "{engine}: {firsts:?}");
        let store = Store::open(address).await.unwrap();
        for sender in &senders {
            let rows = store.releases(&sender.site, 1, sender.span_ms, 1_000).await.unwrap();
            assert_eq!(rows.len(), 60, "{engine}");
        }
        assert_eq!(store.alarms("a.example").await.unwrap().0, 0, "{engine}");
    }
}

#[tokio::test]
async fn a_crash_between_any_two_statements_changes_nothing() {
    for (engine, address) in &engines("crashes").both {
        let store = Store::open(address).await.unwrap();
        let sender = Sender::new("a.example", "e", DAY);
        let (stored, new, mut forged) = (sender.batch(0), sender.batch(1), sender.batch(0));
        put(&store, &[&stored]).await;
        forged.policy_hash = [1; 32];
        let before = (told(&store, &sender).await, store.hashes("a.example").await.unwrap());
        let mut statements = 0;
        loop {
            store.blow_after(statements);
            match try_put(&store, &[&new, &forged]).await {
                Err(StoreError::Fuse) => statements += 1,
                other => {
                    assert_eq!(other.unwrap(), [Stored::Now, Stored::Conflict], "{engine}");
                    break;
                }
            }
            let after = (told(&store, &sender).await, store.hashes("a.example").await.unwrap());
            assert_eq!(after, before, "{engine}: a crash before statement {statements} left something behind");
            assert_eq!(store.alarms("a.example").await.unwrap().0, 0, "{engine}");
        }
        // Retention, two watermarks, two ledgers, the window, its releases, its ledger row, the alarm, the watermark
        // forward, and the commit.
        assert!(statements >= 10, "{engine}: only {statements} places to crash at");
        store.blow_after(-1);
        assert_eq!(told(&store, &sender).await.len(), 4);
        assert_eq!(put(&store, &[&new]).await, [Stored::Before], "{engine}");
    }
}

#[tokio::test]
async fn a_million_cells_add_up() {
    let mut sender = Sender::new("a.example", "e", DAY);
    sender.metrics = vec![4_096; 16];
    let batches: Vec<_> = (0..20).map(|seq| sender.batch(seq)).collect();
    let cells = || batches.iter().flat_map(|batch| &batch.releases).flat_map(|release| &release.values);
    let (count, sum) = (cells().count(), cells().sum::<i64>());
    assert!(count > 1_000_000, "{count}");
    for (engine, address) in &engines("million").both {
        let store = Store::open(address).await.unwrap();
        for batch in &batches {
            assert_eq!(put(&store, &[batch]).await, [Stored::Now]);
        }
        let answer = ask(address, "SELECT COUNT(*), CAST(SUM(value) AS BIGINT) FROM cell").await;
        assert_eq!(answer, [[count as i64, sum]], "{engine}");
        let rows = told(&store, &sender).await;
        assert_eq!(rows.iter().flat_map(|row| &row.values).sum::<i64>(), sum, "{engine}");
    }
}

#[tokio::test]
async fn the_largest_and_the_smallest_cell_come_back_as_they_went() {
    for (engine, address) in &engines("extremes").both {
        let store = Store::open(address).await.unwrap();
        let mut batch = Sender::new("a.example", "e", DAY).batch(0);
        let values = vec![i64::MAX, i64::MIN, 0, -1];
        batch.releases = vec![Release { metric: u32::MAX, state: ReleaseState::Released, values: values.clone() }];
        (batch.epoch, batch.policy_version) = (u64::MAX, u32::MAX);
        assert_eq!(put(&store, &[&batch]).await, [Stored::Now]);
        let rows = store.releases("a.example", u32::MAX, batch.span_ms, 1).await.unwrap();
        assert_eq!((rows[0].policy_version, &rows[0].values), (u32::MAX, &values), "{engine}");
        let (alarms, last) = store.alarms("a.example").await.unwrap();
        assert!(alarms == 1 && last.unwrap().starts_with("a cell is beyond 2^53"), "{engine}");
        let cells = ask(address, "SELECT cell, value FROM cell ORDER BY cell").await;
        assert_eq!(cells, [[0, i64::MAX], [1, i64::MIN], [2, 0], [3, -1]], "{engine}");
    }
}

#[tokio::test]
async fn the_ledger_forgets_hashes_and_no_batch() {
    for (engine, address) in &engines("forgets").both {
        let store = Store::open(address).await.unwrap();
        let sender = Sender::new("s.example", "e", DAY - 60);
        let end = 1_030;
        let batches: Vec<_> = (0..end).map(|seq| sender.batch(seq)).collect();
        // In any order: an edge puts aside what is not taken, and comes back with it.
        for group in batches.chunks(50) {
            let group: Vec<_> = group.iter().filter(|batch| batch.seq != 3).collect();
            assert!(put(&store, &group).await.iter().all(|outcome| *outcome == Stored::Now), "{engine}");
        }
        assert_eq!(store.hashes("s.example").await.unwrap(), end - 1, "{engine}: what is behind a gap is kept");
        assert_eq!(put(&store, &[&batches[3]]).await, [Stored::Now]);
        assert_eq!(store.hashes("s.example").await.unwrap(), 1_000, "{engine}");
        // A retry of what is forgotten and of what is kept, and four that lie.
        let last = batches.last().unwrap();
        assert_eq!(put(&store, &[&batches[0], last]).await, [Stored::Before; 2], "{engine}");
        let (mut other, mut reused, mut anew, mut both) =
            (last.clone(), batches[0].clone(), batches[2].clone(), last.clone());
        other.policy_hash = [1; 32];
        reused.window = batches[0].window + 9_000;
        anew.epoch += 1;
        (both.epoch, both.seq) = (7, 0);
        assert_eq!(put(&store, &[&other, &reused, &anew, &both]).await, [Stored::Conflict; 4], "{engine}");
        assert_eq!(store.edges("s.example").await.unwrap(), ["e"]);
        assert_eq!(store.releases("s.example", 1, sender.span_ms, 10).await.unwrap().len(), 10);
    }
}

#[tokio::test]
async fn old_windows_go_and_do_not_come_back() {
    let engines = engines("retention");
    for (engine, address) in &engines.both {
        let store = Store::open(address).await.unwrap();
        let old = Sender::new("a.example", "e", DAY - 400);
        let (young, mut far) = (Sender::new("a.example", "f", DAY), Sender::new("a.example", "g", DAY + 30_000));
        far.epoch = 9;
        put(&store, &[&old.batch(0), &old.batch(1), &young.batch(0)]).await;
        // A window far off lies in no partition of its own.
        put(&store, &[&far.batch(0), &Sender::new("a.example", "h", 3).batch(0)]).await;
        assert_eq!(told(&store, &young).await.len(), 2 * 5, "{engine}: {:?}", told(&store, &young).await);

        // A clock a year behind and one a thousand years ahead: nothing young goes.
        let year = 365 * DAY_MS;
        store.retain(365, NOW - year).await.unwrap();
        assert_eq!(told(&store, &young).await.len(), 2 * 4, "{engine}: only the window of 1970 is that old");
        let from = store.retain(100, NOW).await.unwrap().unwrap();
        assert!(from <= (DAY - 99) * DAY_MS && from > (DAY - 160) * DAY_MS, "{engine}: {}", from / DAY_MS);
        assert_eq!(told(&store, &young).await.len(), 2 * 2, "{engine}");
        // What was there, and what is new and as old, count as old; each is said once to be so.
        assert_eq!(put(&store, &[&old.batch(0), &old.batch(2)]).await, [Stored::Before, Stored::TooOld], "{engine}");
        assert_eq!(put(&store, &[&old.batch(2)]).await, [Stored::Before], "{engine}");
        assert_eq!(told(&store, &young).await.len(), 2 * 2, "{engine}");
        // A clock that was put back does not make them young again.
        store.retain(4_000, NOW - year).await.unwrap();
        assert_eq!(put(&store, &[&old.batch(3)]).await, [Stored::TooOld], "{engine}");
    }
    let count = "SELECT COUNT(*) FROM pg_class WHERE relkind = 'r' AND relname LIKE 'release%'";
    assert_eq!(engines.cluster.sql("retention", count).unwrap(), "2", "this month's partition, and the default one");
}

#[tokio::test]
async fn a_clock_that_leapt_ahead_deletes_only_what_the_newest_window_says() {
    for (engine, address) in &engines("leap").both {
        let store = Store::open(address).await.unwrap();
        let (old, young) = (Sender::new("a.example", "e", DAY - 60), Sender::new("a.example", "f", DAY));
        put(&store, &[&old.batch(0), &young.batch(0)]).await;
        store.retain(90, NOW + 3_650 * DAY_MS).await.unwrap();
        assert_eq!(told(&store, &young).await.len(), 4, "{engine}");
    }
}

#[tokio::test]
async fn an_alert_is_written_down_once_and_told_once() {
    let engines = engines("alerts");
    for (name, address) in &engines.both {
        let store = Store::open(address).await.unwrap();
        let note = |about: &'static str, at: u64| store.note_alert("shop.example", about, "drift", "pages fell", at);
        assert!(note("drift/pages", 10).await.unwrap(), "{name}");
        assert!(!note("drift/pages", 20).await.unwrap(), "{name}");
        assert!(note("drift/time", 20).await.unwrap(), "{name}");
        let untold = async |way: &str| store.untold_alerts(way, 9).await.unwrap();
        let first = untold("mail").await.remove(0);
        assert_eq!((&*first.key, untold("webhook").await.len()), ("drift/pages", 2), "{name}");
        // Told in one of two ways it is not told yet, and not told in that way again.
        for _ in 0..2 {
            store.told_alert(&first, "webhook").await.unwrap();
            store.settle_alerts(&["mail", "webhook"], 29).await.unwrap();
            let times: Vec<_> =
                store.alerts("shop.example", 9).await.unwrap().iter().map(|alert| alert.told_ms).collect();
            assert_eq!(
                (times, untold("webhook").await.len(), untold("mail").await.len()),
                (vec![None; 2], 1, 2),
                "{name}"
            );
        }
        store.settle_alerts(&[], 29).await.unwrap();
        store.told_alert(&first, "mail").await.unwrap();
        store.settle_alerts(&["mail", "webhook"], 30).await.unwrap();
        let all = store.alerts("shop.example", 9).await.unwrap();
        let times: Vec<_> = all.iter().map(|alert| (alert.since_ms, alert.last_ms, alert.told_ms)).collect();
        assert_eq!(times, [(20, 20, None), (10, 20, Some(30))], "{name}: {all:#?}");
        assert_eq!((untold("mail").await.len(), untold("webhook").await.len()), (1, 1), "{name}");
        for at in 0..1_000u64 {
            store.note_alert("shop.example", &format!("sudden/{at}"), "sudden", "x", 100 + at).await.unwrap();
        }
        let all = store.alerts("shop.example", 2_000).await.unwrap();
        assert!(all.len() == 1_000 && all.iter().all(|alert| alert.kind == "sudden"), "{name}");
        store.close().await;
    }
}

#[tokio::test]
async fn an_experiment_ends_once_and_whoever_opens_the_store_knows() {
    for (engine, address) in &engines("stops").both {
        let store = Store::open(address).await.unwrap();
        let ended = |version: u32, experiment: &str, at_ms: u64| Stop {
            experiment: experiment.to_owned(),
            policy_version: version,
            arm: "note".into(),
            guardrail: "feature:errors@1".into(),
            reason: "more frequent by 3.2 points at least, where 1.0 are permitted".into(),
            at_ms,
        };
        assert_eq!(store.stops("a.example", 0).await.unwrap(), [], "{engine}");
        assert!(store.note_stop("a.example", &ended(2, "note", NOW)).await.unwrap(), "{engine}");
        // Another centre that finds it later, with other figures, changes nothing.
        assert!(
            !store.note_stop("a.example", &Stop { arm: "other".into(), ..ended(2, "note", NOW + 1) }).await.unwrap()
        );
        assert!(store.note_stop("a.example", &ended(2, "hint", NOW)).await.unwrap());
        assert!(store.note_stop("a.example", &ended(3, "note", NOW + 9)).await.unwrap(), "{engine}: another version");
        assert!(store.note_stop("b.example", &ended(2, "note", NOW)).await.unwrap(), "{engine}: another site");
        store.close().await;

        let store = Store::open(address).await.unwrap();
        let all = [ended(2, "hint", NOW), ended(2, "note", NOW), ended(3, "note", NOW + 9)];
        assert_eq!(store.stops("a.example", 2).await.unwrap(), all, "{engine}");
        assert_eq!(store.stops("a.example", 1).await.unwrap(), all, "{engine}: who is behind has it too");
        assert_eq!(store.stops("a.example", 3).await.unwrap(), all[2..], "{engine}");
        assert_eq!(store.stops("a.example", 4).await.unwrap(), [], "{engine}: the next version has the next word");
        // What is deleted with age is windows: that an experiment ended is not forgotten with them.
        store.retain(100, NOW + 400 * DAY_MS).await.unwrap();
        assert_eq!(store.stops("b.example", 0).await.unwrap().len(), 1, "{engine}");
        // Many centres at once: one is first.
        let race = |at: u64| {
            let (store, stop) = (store.clone(), ended(7, "note", at));
            tokio::spawn(async move { store.note_stop("c.example", &stop).await.unwrap() })
        };
        let mut first = 0;
        for racing in (0..16).map(race).collect::<Vec<_>>() {
            first += u32::from(racing.await.unwrap());
        }
        assert_eq!((first, store.stops("c.example", 0).await.unwrap().len()), (1, 1), "{engine}");
        store.close().await;
    }
}

#[tokio::test]
async fn a_store_that_would_not_do_is_refused_with_a_remedy() {
    let engines = engines("refused");
    for (engine, address) in &engines.both {
        let store = Store::open(address).await.unwrap();
        store.close().await;
        let mut connection = sqlx::AnyConnection::connect(&address.url()).await.unwrap();
        sqlx::query("UPDATE gloaming_schema SET version = 9").execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        let error = Store::open(address).await.unwrap_err().to_string();
        assert!(error.contains("form 9") && error.contains("use the version that made them"), "{engine}: {error}");
    }
    let missing = StoreAddress::Sqlite(engines.folder.path().join("no/such/folder/central.sqlite"));
    assert!(Store::open(&missing).await.unwrap_err().to_string().contains("open"), "SQLite's own words");
    engines.cluster.sql("postgres", "ALTER DATABASE refused SET synchronous_commit = off").unwrap();
    let error = Store::open(&engines.both[1].1).await.unwrap_err().to_string();
    assert!(error.contains("`synchronous_commit` is off") && error.contains("set it to on"), "{error}");
}
