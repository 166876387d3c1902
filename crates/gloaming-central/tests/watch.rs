//! What the centre sees of a model, from batches as an edge delivers them: visits are drawn, their cells noised as the
//! policy says, sealed, signed, posted over a real socket and stored; what was planted has to be found.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gloaming_central::{Config, StoreAddress, start};
use gloaming_http::{Assets, Client};
use gloaming_policy::author::{Key, ManifestFacts, Signed, announcement, batch_signature, compile, template};
use gloaming_policy::{Metric, Policy, Source};
use gloaming_signal::{Release, ReleaseState, SealedBatch, cbor};
use gloaming_stats::draws::Draws;
use serde_json::Value;
use tokio::net::TcpListener;

const WEEK: u64 = 7 * 86_400_000;
const NOW: u64 = 1_800_000_000_000 / WEEK * WEEK;
const VISITS: usize = 4_000;

fn policy(more: &str) -> Policy {
    let facts = ManifestFacts::stand_in("purchase-intent", &["pages-product@1", "time-product@1", "returning@1"]);
    let text = template("shop", "shop.example", "https://shop.example", "2027-12-01").unwrap();
    let text = text.replacen("rho_per_device_day = 0.25", "rho_per_device_day = 0.3", 1);
    compile(&format!("{text}{more}"), NOW / 86_400_000, &|_| Ok(facts.clone())).unwrap()
}

/// What a week is like.
#[derive(Clone, Copy)]
struct Week {
    /// Product pages of a visit, on average.
    pages: f64,
    /// How much the log-odds of buying go up with the score's.
    slope: f64,
    /// Share of visits in which the model was given up.
    failed: f64,
    visits: usize,
}

const USUAL: Week = Week { pages: 4.0, slope: 1.0, failed: 0.0, visits: VISITS };

/// One visit's cell of each metric that watches the model.
fn visit(week: Week, draws: &mut Draws) -> (u32, u32, u32, u32, u32) {
    let pages = (-draws.uniform().ln() * week.pages).floor();
    let seconds = pages * 20.0 * draws.uniform();
    let score = draws.uniform();
    let odds = week.slope * (score / (1.0 - score)).ln() - 1.0;
    let bought = draws.uniform() < 1.0 / (1.0 + (-odds).exp());
    let fared = if draws.uniform() < week.failed { 3 } else { 1 };
    (
        pages as u32,
        (seconds * 1_000.0) as u32,
        u32::from(draws.uniform() < 0.7),
        (score * 1e6) as u32 * 2 + u32::from(bought),
        fared,
    )
}

/// The place of a number among a metric's edges.
fn place(metric: &Metric, axis: usize, value: u32) -> usize {
    let gloaming_policy::Bins::Edges(edges) = &metric.axes[axis].bins else { return value as usize };
    edges[1..edges.len() - 1].partition_point(|edge| *edge <= value)
}

fn sealed(policy: &Policy, seq: u64, window: u64, week: Week, draws: &mut Draws) -> SealedBatch {
    let here: Vec<&Metric> = policy.metrics.iter().filter(|metric| metric.span_ms == WEEK).collect();
    let mut cells: Vec<Vec<f64>> = here.iter().map(|metric| vec![0.0; metric.cells() as usize]).collect();
    for _ in 0..week.visits {
        let (pages, time, returning, scored, fared) = visit(week, draws);
        for (metric, cells) in here.iter().zip(&mut cells) {
            let cell = match (metric.axes[0].source, metric.of.as_str()) {
                (Source::Score(_), _) => place(metric, 0, scored / 2) * 2 + (scored % 2) as usize,
                (Source::Fared(_), _) => fared as usize,
                (_, of) => {
                    let value = match of.split(", ").next().unwrap() {
                        "feature:pages-product@1" => pages,
                        "feature:time-product@1" => time,
                        "feature:returning@1" => returning,
                        other => panic!("{other:?} watches what this test does not know"),
                    };
                    let joined = of.ends_with(", outcome:purchase@1");
                    place(metric, 0, value) * (1 + usize::from(joined)) + if joined { (scored % 2) as usize } else { 0 }
                }
            };
            cells[cell] += 1.0;
        }
    }
    let release = |(metric, cells): (&&Metric, Vec<f64>)| {
        let deviation = metric.scales()[0].deviation(metric.mechanism);
        let values = cells.iter().map(|count| (count + deviation * draws.normal()).round() as i64).collect();
        Release { metric: metric.id, state: ReleaseState::Released, values }
    };
    SealedBatch {
        site: policy.site.clone(),
        edge: "edge-1".to_owned(),
        epoch: 7,
        seq,
        policy_version: policy.version,
        policy_hash: policy.hash(),
        span_ms: WEEK,
        window,
        releases: here.iter().zip(cells).map(release).collect(),
    }
}

/// What the centre says of the model after these weeks.
async fn seen(weeks: &[Week], seed: u64) -> Value {
    seen_by(policy(""), weeks, seed).await
}

/// And by the metrics of another policy.
async fn seen_by(policy: Policy, weeks: &[Week], seed: u64) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let (owner, edge) = (Key::from_seed(&[1; 32]), Key::from_seed(&[2; 32]));
    let config = Config {
        store: StoreAddress::Sqlite(folder.path().join("central.sqlite")),
        retain_days: None,
        pins: BTreeMap::from([(policy.site.clone(), owner.public())]),
        policies: vec![Signed::sign(&policy, &[&owner]).to_bytes()],
        edges: BTreeMap::from([("edge-1".to_owned(), vec![edge.public()])]),
        password: None,
        assets: Assets::from_files([]),
        telling: gloaming_central::Telling::default(),
        look: gloaming_central::LOOK,
        more: axum::Router::new(),
        clock: Arc::new(|| NOW),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let running = start(config, listener).await.unwrap();
    let (client, mut draws) = (Client::new(Duration::from_secs(30)), Draws::new(seed));
    for (at, week) in weeks.iter().enumerate() {
        let window = NOW / WEEK - (weeks.len() - at) as u64;
        let batch = sealed(&policy, at as u64, window, *week, &mut draws);
        let body = Bytes::from(batch_signature(&edge, &cbor::to_vec(&batch)));
        let announced = ("x-gloaming-delivery", &*announcement(&edge, &body));
        let (status, _, answer) =
            client.post_with(&format!("{base}/api/v1/batches"), announced, body.clone()).await.unwrap();
        assert_eq!(status, 201, "{}", String::from_utf8_lossy(&answer));
    }
    let (status, _, body) = client.get(&format!("{base}/api/v1/sites/shop.example/models")).await.unwrap();
    assert_eq!(status, 200);
    let (unknown, ..) = client.get(&format!("{base}/api/v1/sites/no.example/models")).await.unwrap();
    assert_eq!(unknown, 404);
    running.stop().await;
    let models: Value = serde_json::from_slice(&body).unwrap();
    models[0].clone()
}

fn drifted(model: &Value) -> Vec<&str> {
    let drift = model["drift"].as_array().unwrap();
    drift.iter().filter(|one| one["drifted"] == true).map(|one| one["of"].as_str().unwrap()).collect()
}

fn holds(figure: &Value, value: f64) -> bool {
    let end = |name: &str| figure[name].as_f64().unwrap();
    end("low") <= value && value <= end("high") && end("low") <= end("value") && end("value") <= end("high")
}

#[tokio::test]
async fn weeks_that_are_alike_raise_no_alarm() {
    let model = seen(&[USUAL; 5], 3).await;
    assert_eq!(drifted(&model), Vec::<&str>::new(), "{model:#}");
    let drift = model["drift"].as_array().unwrap();
    assert_eq!(drift.len(), 4, "three inputs and the score: {drift:#?}");
    assert!(drift.iter().all(|one| one["windows"] == 4 && one["psi"].as_f64() < one["threshold"].as_f64()));
    assert_eq!((model["state"].as_str(), model["unknown"].as_array().unwrap().len()), (Some("shadow"), 0));
    let performed = &model["performed"];
    println!("AUC {} base rate {}", performed["auc"], performed["base_rate"]);
    assert_eq!(performed["windows"], 5);
    let (base_rate, auc) = expected(1.0);
    assert!(holds(&performed["base_rate"], base_rate), "{base_rate} in {performed:#}");
    // Twenty bins lose a little of the order within them.
    assert!(holds(&performed["auc"], auc) || (performed["auc"]["value"].as_f64().unwrap() - auc).abs() < 0.005);
    let fared = model["fared"].as_array().unwrap();
    let of = |how: &str| &fared.iter().find(|one| one["how"] == how).unwrap()["visits"];
    assert!(holds(of("scored"), 5.0 * VISITS as f64) && holds(of("failed"), 0.0), "{fared:#?}");
}

/// Base rate and AUC of a uniform score with these log-odds, by sums over a fine grid.
fn expected(slope: f64) -> (f64, f64) {
    let grid: Vec<f64> = (0..4_000).map(|at| (f64::from(at) + 0.5) / 4_000.0).collect();
    let buys: Vec<f64> =
        grid.iter().map(|score| 1.0 / (1.0 + (1.0 - slope * (score / (1.0 - score)).ln()).exp())).collect();
    let base: f64 = buys.iter().sum::<f64>() / 4_000.0;
    let (mut below, mut auc) = (0.0, 0.0);
    for p in &buys {
        auc += p * (below + (1.0 - p) / 2.0);
        below += 1.0 - p;
    }
    (base, auc / (base * (1.0 - base)) / 4_000f64.powi(2))
}

/// Weeks in which nobody came are released now and then, by noise: nothing is compared with them, and they are called no drift.
#[tokio::test]
async fn weeks_of_noise_are_compared_with_nothing() {
    let nobody = Week { visits: 0, ..USUAL };
    let unknown = |model: &Value| -> Vec<String> {
        model["unknown"].as_array().unwrap().iter().map(|why| why.as_str().unwrap().to_owned()).collect()
    };
    for seed in 1..=5 {
        let after = seen(&[nobody, nobody, nobody, nobody, USUAL], seed).await;
        assert_eq!(drifted(&after), Vec::<&str>::new(), "{after:#}");
        assert!(unknown(&after).iter().any(|why| why.ends_with("drift shows from the second")), "{after:#}");
        let before = seen(&[USUAL, USUAL, USUAL, nobody], seed).await;
        assert_eq!(drifted(&before), Vec::<&str>::new(), "{before:#}");
        assert!(unknown(&before).iter().any(|why| why.ends_with("noise alone may be all of it")), "{before:#}");
    }
}

#[tokio::test]
async fn what_a_model_meets_has_changed_and_it_is_told_what_and_which_way() {
    let model = seen(&[USUAL, USUAL, USUAL, USUAL, Week { pages: 7.0, failed: 0.2, ..USUAL }], 5).await;
    let mut found = drifted(&model);
    found.sort_unstable();
    // Time follows from pages in these visits; who comes back and what is scored do not.
    assert_eq!(found, ["feature:pages-product@1", "feature:time-product@1"], "{model:#}");
    let pages = &model["drift"].as_array().unwrap().iter().find(|one| one["of"] == "feature:pages-product@1").unwrap();
    println!("{}", pages["words"]);
    assert!(pages["words"].as_str().unwrap().contains("`0-1` fell from"), "{pages}");
    assert_eq!(pages["since_ms"].as_u64(), Some(NOW - WEEK), "the newest week, and no other: {pages}");
    assert!(pages["words"].as_str().unwrap().ends_with("; since the window of 2027-01-07"), "{pages}");
    assert!(pages["psi"].as_f64() > pages["threshold"].as_f64());
    let failed = model["fared"].as_array().unwrap().iter().find(|one| one["how"] == "failed").unwrap();
    assert!(failed["visits"]["low"].as_f64().unwrap() > 500.0, "{failed}");
}

/// Inputs that are counted with their outcome, to be learnt from again, tell what they are by themselves as well.
#[tokio::test]
async fn what_is_learnt_from_again_is_watched_by_the_same_counts() {
    let retrain = "\n[[retrain]]\nmodel = \"purchase-intent\"\noutcome = \"outcome:purchase@1\"\npairs = []\nwindow = \"week\"\nrho = 0.02\nk = 100\n";
    let policy = policy(retrain);
    assert!(!policy.metrics.iter().any(|metric| metric.name.contains("-in-")), "nothing is counted twice");
    let model = seen_by(policy, &[USUAL, USUAL, USUAL, USUAL, Week { pages: 7.0, ..USUAL }], 5).await;
    let mut found = drifted(&model);
    found.sort_unstable();
    assert_eq!(found, ["feature:pages-product@1", "feature:time-product@1"], "{model:#}");
    assert_eq!(model["drift"].as_array().unwrap().len(), 4, "three inputs and the score: {model:#}");
}

/// The relation of score and outcome is gone: nothing that goes in has changed, and the figures of what comes out have.
#[tokio::test]
async fn a_model_that_tells_no_outcome_any_more_is_seen_by_its_outcomes_only() {
    let model = seen(&[Week { slope: 0.0, ..USUAL }; 2], 9).await;
    assert_eq!(drifted(&model), Vec::<&str>::new());
    let auc = &model["performed"]["auc"];
    println!("{auc}");
    assert!(holds(auc, 0.5) && auc["high"].as_f64().unwrap() < 0.6, "{auc}");
}

/// It told outcomes for weeks and does no longer: the sum of all weeks hides half of it, the newest beside the others does not, and the scores
/// alone see nothing.
#[tokio::test]
async fn a_fall_of_late_stands_beside_what_was_before() {
    let weeks = [[USUAL; 6].as_slice(), &[Week { slope: 0.0, ..USUAL }; 2]].concat();
    let model = seen(&weeks, 9).await;
    assert_eq!(drifted(&model), Vec::<&str>::new());
    let (recent, scores_alone) = (&model["recent"], &model["expected"]);
    println!("{}; by scores alone {}; over all {}", recent["words"], scores_alone["auc"], model["performed"]["auc"]);
    let (_, before) = expected(1.0);
    assert_eq!(
        (recent["fell"].as_bool(), recent["since_ms"].as_u64()),
        (Some(true), Some(NOW - 2 * WEEK)),
        "{recent:#}"
    );
    assert_eq!((recent["windows"].as_u64(), recent["windows_before"].as_u64()), (Some(2), Some(6)));
    assert!(holds(&recent["auc"], 0.5) && (recent["auc_before"]["value"].as_f64().unwrap() - before).abs() < 0.01);
    assert!(holds(&recent["difference"], 0.5 - before) && model["performed"]["auc"]["low"].as_f64().unwrap() > 0.6);
    assert!((scores_alone["auc"]["value"].as_f64().unwrap() - before).abs() < 0.01, "{scores_alone:#}");
    assert!(scores_alone["words"].as_str().unwrap().contains("does not see when outcomes change"));
    let auc = model["series"].as_array().unwrap().iter().find(|series| series["of"] == "auc").unwrap();
    assert_eq!(auc["windows"].as_array().unwrap().len(), 8);
    assert!(auc["words"].as_str().unwrap().starts_with("AUC has been lower since the window of "), "{auc:#}");
}

#[tokio::test]
async fn before_there_is_anything_to_say_it_is_said_why() {
    let model = seen(&[], 1).await;
    let unknown: Vec<&str> = model["unknown"].as_array().unwrap().iter().map(|why| why.as_str().unwrap()).collect();
    assert_eq!(unknown.len(), 5, "{unknown:?}");
    assert!(unknown.iter().all(|why| why.ends_with("no window was released yet")), "{unknown:?}");
    let once = seen(&[USUAL], 1).await;
    assert!(once["unknown"][0].as_str().unwrap().ends_with("drift shows from the second"), "{once}");
    assert_eq!(once["performed"]["windows"], 1);
}
