//! Several models in one worker: reasons with every score, one that speaks for another, one that is too slow, and a trap;
//! and whose score there was, as the centre is told of many visits.
//!
//! The worker, its wasm, both models and Chromium are the real ones. Where one worker is looked at, the policy is made here, not
//! signed: the loader verifies signatures and is not in the way; the worker holds the policy to the hash that it is given.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::Path;
use futures_util::future::join_all;
use gloaming::assets;
use gloaming::demo::{SITE as SHOP, Step};
use gloaming_e2e::browser::{Browser, Profile};
use gloaming_e2e::persona::linger;
use gloaming_e2e::stage::{Setting, Stage, settle};
use gloaming_e2e::story::ask;
use gloaming_e2e::truth::sent;
use gloaming_edge::system_clock;
use gloaming_http::Assets;
use gloaming_model::Model as Loaded;
use gloaming_policy::author::{ManifestFacts, compile, template};
use gloaming_policy::{Model, ModelState};
use gloaming_signal::hash;
use http::HeaderMap;
use serde_json::{Value, json};

const SITE: &str = "two.example";
const MODEL: &str = "models/purchase-intent";

/// What the scorer does wrong: the code that is added to it, word for word.
#[derive(Clone, Copy, Default)]
struct Fault {
    /// Added to `scorer.js`.
    scorer: &'static str,
    /// A byte of the first model's file is another on the way.
    flip: bool,
    /// A policy's budget, ms; with the default nothing is slow.
    budget_ms: Option<u32>,
}

/// Everything the worker fetches, by path beneath `/two/`.
fn served(fault: Fault) -> (Assets, String) {
    let assets = assets::find(None).unwrap();
    let mut files: BTreeMap<String, Vec<u8>> =
        ["worker.js", "collector.js", "collector.wasm", "scorer.js", "scorer.wasm"]
            .map(|name| (name.to_owned(), assets.bytes(&format!("g/{name}")).unwrap().to_vec()))
            .into();
    files.get_mut("scorer.js").unwrap().extend(fault.scorer.bytes());
    let onnx = assets.bytes(&format!("{MODEL}/model.onnx")).unwrap().to_vec();
    let large = String::from_utf8(assets.bytes(&format!("{MODEL}/manifest.json")).unwrap().to_vec()).unwrap();
    let small = large.replacen("\"id\": \"purchase-intent\"", "\"id\": \"small\"", 1);
    let of = |manifest: &str| hash::sha256(manifest.as_bytes());
    let loaded = Loaded::load(large.as_bytes(), &onnx).unwrap();
    let facts = ManifestFacts {
        manifest_sha256: of(&large),
        onnx_sha256: hash::sha256(&onnx),
        id: "purchase-intent".into(),
        inputs: loaded.manifest().input.features.clone(),
        score_edges: loaded.manifest().score_edges.clone(),
        score_means: vec![],
        kinds: vec![],
        learning: None,
    };
    let text = template("shop", SITE, "https://two.example", "2027-03-01").unwrap();
    let mut policy = compile(&text, 20_781, &|_| Ok(facts.clone())).unwrap();
    let budget_ms = 1_000;
    let first = Model { state: ModelState::Experiment, budget_ms, fallback: Some(1), ..policy.models[0].clone() };
    let second = Model { id: "small".into(), manifest_sha256: of(&small), fallback: None, ..first.clone() };
    policy.models = vec![Model { budget_ms: fault.budget_ms.unwrap_or(budget_ms), ..first }, second];
    for manifest in [&large, &small] {
        files.insert(format!("models/{}", hash::hex(&of(manifest))), manifest.clone().into());
    }
    files.insert(format!("models/{}", hash::hex(&hash::sha256(&onnx))), onnx);
    if fault.flip {
        files.get_mut(&format!("models/{}", hash::hex(&of(&large)))).unwrap()[100] ^= 1;
    }
    let bytes = policy.to_bytes();
    let named = hash::hex(&hash::sha256(&bytes));
    files.insert(format!("v1/policy/{SITE}"), bytes);
    (Assets::from_files(files.into_iter().map(|(name, bytes)| (name, bytes.into()))), named)
}

/// A visit of three page views, and what the worker told the page.
async fn visit(fault: Fault, language: &str) -> (Vec<Value>, Value) {
    let (files, named) = served(fault);
    let serve = move |Path(path): Path<String>, headers: HeaderMap| {
        let mut answer = files.respond(&path, &headers);
        answer.headers_mut().insert("x-gloaming-time", system_clock().now_ms().into());
        async move { answer }
    };
    let routes = Router::new().route("/two/{*path}", axum::routing::get(serve));
    let stage = Stage::start(Setting { more: routes, ..Setting::default() }).await.unwrap();
    let browser = Browser::speaking(language).await.unwrap();
    let profile = browser.profile().await.unwrap();
    let page = profile.tab("").await.unwrap();
    page.goto(&stage.demo.shop).await.unwrap();
    let first = json!({
        "notice": { "site": SITE, "policy": named }, "record": { "p": ["measurement", "prediction"] },
        "href": "https://two.example/", "size": [1280, 1280, 720], "coarse": false, "n": 1, "entries": [],
    });
    page.eval(&format!(
        "globalThis.said = []; globalThis.told = []; globalThis.two = new Worker('/two/worker.js', {{ type: 'module' }});
         two.onmessage = ({{ data }}) => (data.t == 'answer' ? told : said).push(data);
         two.postMessage({first}); 0"
    ))
    .await
    .unwrap();
    // Pages follow each other once the models are there, one by one: each is scored.
    page.until("(two.postMessage({ n: 2, entries: [], ask: 'status' }), told.at(-1)?.value.models.every((m) => m.ms != null || m.failed))")
        .await
        .unwrap();
    for view in 0..4 {
        page.eval(&format!(
            "two.postMessage({{ n: {}, entries: [[Date.now(), 'page', 1, 'https://two.example/p/{view}', '']] }}); new Promise((go) => setTimeout(go, 300))",
            3 + view
        ))
        .await
        .unwrap();
    }
    page.eval("new Promise((go) => setTimeout(go, 1500))").await.unwrap();
    page.eval("told.length = 0; two.postMessage({ n: 9, entries: [], ask: 'status' }); 0").await.unwrap();
    page.until("told.length == 1").await.unwrap();
    let said = page.eval("said").await.unwrap();
    let status = page.eval("told[0].value").await.unwrap();
    let trapped: Vec<&Value> = said.as_array().unwrap().iter().filter(|data| data["t"] == "trap").collect();
    assert!(trapped.is_empty(), "{trapped:?}");
    let scores = said.as_array().unwrap().iter().filter(|data| data["t"] == "score").cloned().collect();
    (scores, status)
}

fn by(scores: &[Value]) -> Vec<&str> {
    scores.iter().map(|score| score["by"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_score_comes_with_its_reasons_and_from_the_model_itself() {
    let (scores, status) = visit(Fault::default(), "de").await;
    assert!(scores.len() >= 4 && by(&scores).iter().all(|by| *by == "purchase-intent"), "{scores:?}");
    assert!(scores.iter().all(|score| score["model"] == "purchase-intent"), "a stand-in does not speak beside it");
    let last = scores.last().unwrap();
    let reasons = last["reasons"].as_array().unwrap();
    assert!((1..=3).contains(&reasons.len()), "{last}");
    for reason in reasons {
        let way = if reason["adds"].as_f64().unwrap() > 0.0 { "wahrscheinlicher: " } else { "unwahrscheinlicher: " };
        assert!(reason["text"].as_str().unwrap().starts_with(way), "{reason}");
    }
    println!("{}", serde_json::to_string(&last["reasons"]).unwrap());
    assert_eq!(last["exact"], false, "a network of tanh units is sampled");
    let models = status["models"].as_array().unwrap();
    assert!(models.iter().all(|model| model["idle"] == false && model["failed"].is_null()), "{models:?}");
    assert_eq!(status["scores"].as_array().unwrap().len(), 2, "both are counted");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_byte_is_lost_on_the_way_another_speaks() {
    let (scores, status) = visit(Fault { flip: true, ..Fault::default() }, "en").await;
    assert!(scores.len() >= 4 && by(&scores).iter().all(|by| *by == "small"), "{scores:?}");
    assert!(scores.iter().all(|score| score["model"] == "purchase-intent"), "in the place of the one asked for");
    let models = &status["models"];
    assert!(models[0]["failed"].is_string() && models[1]["failed"].is_null(), "{models}");
    assert_eq!((models[0]["stoodIn"].as_u64(), status["traps"].as_u64()), (Some(scores.len() as u64), Some(1)));
}

/// The third score of the first model ends as a panic in wasm ends. The stand-in goes on in a new instance.
const TRAPS: &str = ";const real=Scorer.prototype.score;let calls=0;if(!/\\?/.test(import.meta.url))Scorer.prototype.score=function(row){if(++calls>4)throw new WebAssembly.RuntimeError('unreachable');return real.call(this,row)};";

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_takes_one_model_and_its_instance_and_no_other() {
    let (scores, status) = visit(Fault { scorer: TRAPS, ..Fault::default() }, "en").await;
    let by = by(&scores);
    let before = by.iter().take_while(|by| **by == "purchase-intent").count();
    assert!(before >= 1 && by[before..].iter().all(|by| *by == "small") && by.len() > before, "{by:?}");
    let models = &status["models"];
    assert_eq!((&models[0]["failed"], &models[1]["failed"]), (&json!("unreachable"), &Value::Null));
}

/// Every score of the first model takes five milliseconds, of two that it may take.
const SLOW: &str = ";const real=Scorer.prototype.score;let first;Scorer.prototype.score=function(row){first??=this;if(first==this)for(const from=performance.now();performance.now()-from<5;);return real.call(this,row)};";

#[tokio::test(flavor = "multi_thread")]
async fn a_model_slower_than_its_budget_waits_until_nothing_happens() {
    let (scores, status) = visit(Fault { scorer: SLOW, budget_ms: Some(2), flip: false }, "en").await;
    let models = &status["models"];
    assert_eq!((&models[0]["idle"], &models[1]["idle"]), (&json!(true), &json!(false)), "{models}");
    assert!(models[0]["ms"].as_f64().unwrap() >= 5.0 && models[0]["failed"].is_null(), "{models}");
    // The last page view is scored as well, a second later, and by the model itself.
    assert!(by(&scores).iter().all(|by| *by == "purchase-intent"), "{scores:?}");
    assert!(status["scores"].as_array().unwrap().iter().any(|score| score["model"] == "purchase-intent"));
}

/// Every score of the first model is refused; the others go on in the same instance.
const REFUSES: &str = ";const real=Scorer.prototype.score;let first;Scorer.prototype.score=function(row){first??=this;if(first==this)throw 'worn out';return real.call(this,row)};";

/// The demonstration's policy with two of its models, one of which stands in for the other, and so little noise on how the first
/// fares that thirty visits tell.
fn stood_in(text: String) -> String {
    let others = ["visit-kind", "buys-again", "customer-value", "next-best-action", "pointer-bot"];
    let stays = |block: &&str| !others.iter().any(|id| block.contains(&format!("\"{id}\"")));
    let text: String = text.split_inclusive("\n\n").filter(stays).collect();
    let (state, rho) = ("state = \"shadow\" ", "rho = 0.004                        #");
    assert_eq!((text.matches(state).count(), text.matches(rho).count()), (1, 1), "{text}");
    text.replacen("rho_per_device_day = 0.25", "rho_per_device_day = 3.0", 1)
        .replace(state, &format!("fallback = \"unusual-visit\"\nbudget_ms = 1000\n{state}"))
        .replace(rho, "rho = 2.0 #")
}

/// Somebody comes, agrees, stays until every model was tried, and leaves.
async fn comes(browser: &Browser, shop: &str) -> Profile {
    let profile = browser.profile().await.unwrap();
    let page = profile.tab("").await.unwrap();
    page.goto(shop).await.unwrap();
    page.click("#gl-accept").await.unwrap();
    linger(&page).await.unwrap();
    page.until(
        "gloaming('status').then((s) => s.models?.length == 2 && s.models.every((m) => m.ms != null || m.failed))",
    )
    .await
    .unwrap();
    page.leave().await.unwrap();
    profile
}

/// As many, three at a time.
async fn come(browser: &Browser, shop: &str, threes: usize) {
    let mut profiles = Vec::new();
    for _ in 0..threes {
        profiles.extend(join_all((0..3).map(|_| comes(browser, shop))).await);
    }
    settle().await;
    for profile in profiles {
        profile.close().await.unwrap();
    }
}

/// Whose scores the centre has seen of the shop's model, once it has seen `enough` of somebody's.
async fn scored_by(stage: &Stage, (who, enough): (&str, f64)) -> BTreeMap<String, f64> {
    for _ in 0..300 {
        let models = ask(stage, "models").await.unwrap();
        let model = models.as_array().unwrap().iter().find(|model| model["id"] == "purchase-intent").unwrap();
        let of = |one: &Value| (one["who"].as_str().unwrap().to_owned(), one["visits"]["value"].as_f64().unwrap());
        let found: BTreeMap<String, f64> = model["scored_by"].as_array().unwrap().iter().map(of).collect();
        if found.get(who).is_some_and(|visits| *visits > enough) {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the centre has not seen {enough} scores of {who}");
}

async fn alert(stage: &Stage, kind: &str) -> String {
    for _ in 0..300 {
        let alerts = ask(stage, "alerts").await.unwrap();
        if let Some(found) = alerts.as_array().unwrap().iter().find(|alert| alert["kind"] == kind) {
            return found["words"].as_str().unwrap().to_owned();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("no {kind} alert")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_centre_is_told_whose_score_there_was() {
    let script = String::from_utf8(assets::find(None).unwrap().bytes("g/scorer.js").unwrap().to_vec()).unwrap();
    let refuses = Arc::new(AtomicBool::new(false));
    let says = Arc::clone(&refuses);
    let scorer = move || {
        let fault = if says.load(Ordering::SeqCst) { REFUSES } else { "" };
        let script = format!("{script}{fault}");
        async move { ([("content-type", "text/javascript")], script) }
    };
    let more = Router::new().route("/g/scorer.js", axum::routing::get(scorer));
    let stage = Stage::start(Setting { more, edit: stood_in, ..Setting::default() }).await.unwrap();
    let (browser, shop) = (Browser::launch().await.unwrap(), stage.demo.shop.clone());
    let fared = stage.demo.policy.metrics.iter().find(|metric| metric.name == "purchase-intent-fared").unwrap();
    let told = || sent(&stage.demo.policy, &stage.wire.submissions())[&fared.id].clone();
    come(&browser, &shop, 4).await;
    refuses.store(true, Ordering::SeqCst);
    come(&browser, &shop, 5).await;
    assert_eq!(told(), [0, 12, 0, 0, 0, 0, 0, 15], "{:?}", fared.axes[0].labels);
    stage.close_window();
    let seen = scored_by(&stage, ("itself", 5.0)).await;
    println!("{seen:?}");
    let near = |who: &str, visits: f64| (seen[who] - visits).abs() < 5.0;
    assert!(
        near("itself", 12.0) && near("fallback", 15.0) && near("nobody", 0.0) && near("last-good", 0.0),
        "{seen:?}"
    );
    let words = alert(&stage, "failing").await;
    assert!(words.contains(" visits, and unusual-visit scored in its place in "), "{words}");

    // A second version is signed for, and a byte of it is lost on the way to the edge.
    refuses.store(false, Ordering::SeqCst);
    let view = stage.demo.step(Step::Break).await.unwrap();
    assert_eq!(view["by"], "edge", "{view}");
    let page = browser.profile().await.unwrap().tab("").await.unwrap();
    page.goto(&shop).await.unwrap();
    let header = format!("fetch('/g/v1/policy/{SHOP}').then((r) => r.headers.get('x-gloaming-last-good'))");
    assert_eq!(page.eval(&header).await.unwrap(), "purchase-intent");
    come(&browser, &shop, 9).await;
    assert_eq!(told(), [0, 12, 0, 0, 0, 27, 0, 15]);
    stage.close_window();
    // The centre knows the second version, and of that the only scores are those of the one before.
    let seen = scored_by(&stage, ("last-good", 5.0)).await;
    println!("{seen:?}");
    assert!(seen.len() == 1 && (seen["last-good"] - 27.0).abs() < 5.0, "{seen:?}");
    let words = alert(&stage, "last-good").await;
    assert!(words.contains("because a newer one waits for its files"), "{words}");
    stage.demo.stop().await;
}
