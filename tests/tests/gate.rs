//! The gate in the demonstration: a model in shadow, refused for missing evidence, given it, promoted, and seen acting
//! on the page; then taken back.
#![allow(clippy::unwrap_used)]

use gloaming::demo::Step;
use gloaming_e2e::browser::Browser;
use gloaming_e2e::look::look;
use gloaming_e2e::page::Page;
use gloaming_e2e::persona::linger;
use gloaming_e2e::stage::{Setting, Stage, scene, settle};

async fn until_stage(page: &Page, stage: &str) {
    page.until(&format!("document.getElementById('gate-state')?.dataset.stage == '{stage}'")).await.unwrap();
}

/// Lingers on the shop until the device has a score; whether the page was given it.
async fn visited(page: &Page, shop: &str) -> bool {
    page.goto(shop).await.unwrap();
    linger(page).await.unwrap();
    page.until("gloaming('status').then((s) => s.scores?.length > 0)").await.unwrap();
    let shown = page.eval("gloaming('status').then((s) => s.scores[0].shown)").await.unwrap();
    // What the policy says and what the page sees are one: the status may have the score of the page before.
    if shown == true {
        page.until("!!document.getElementById('hint')").await.unwrap();
    } else {
        settle().await;
        assert_eq!(page.eval("!!document.getElementById('hint')").await.unwrap(), false);
    }
    shown == true
}

async fn story(stage: &Stage, page: &Page, at: &str) {
    let shop = stage.demo.shop.clone();
    let name = |what: &str| format!("gate-{what}-{at}");
    page.goto(&shop).await.unwrap();
    page.click("#gl-accept").await.unwrap();
    assert!(!visited(page, &shop).await, "a model in shadow");
    let gate = format!("{shop}/gate");
    page.goto(&gate).await.unwrap();
    until_stage(page, "shadow").await;
    page.click("#gate-promote").await.unwrap();
    page.until("!!document.querySelector('.refused')").await.unwrap();
    look(page, &name("refused"), true).await;
    let told = page.eval("document.querySelector('.refused').textContent").await.unwrap();
    assert_eq!(told, "Refused. purchase-intent stays shadow: 5 of 7 conditions are not met.");
    assert!(!visited(page, &shop).await, "a model that was refused");
    page.goto(&gate).await.unwrap();
    until_stage(page, "shadow").await;
    page.click("#gate-evidence").await.unwrap();
    page.until("document.querySelectorAll('#gate > .conditions [data-met=true]').length == 7").await.unwrap();
    assert!(!visited(page, &shop).await, "evidence alone moves nothing");
    page.goto(&gate).await.unwrap();
    until_stage(page, "shadow").await;
    page.click("#gate-promote").await.unwrap();
    until_stage(page, "experiment").await;
    look(page, &name("promoted"), true).await;
    assert!(visited(page, &shop).await, "a model in an experiment");
    look(page, &name("acts"), false).await;
    // A second version is signed for, and a byte of it is lost on the way: it is not put in force, and the one before acts.
    page.goto(&gate).await.unwrap();
    until_stage(page, "experiment").await;
    page.click("#gate-break").await.unwrap();
    page.until("!!document.querySelector('.refused')").await.unwrap();
    let told = page.eval("document.querySelector('.refused').textContent").await.unwrap();
    let told = told.as_str().unwrap();
    assert!(told.starts_with("Refused by the edge. version 3 of the policy of lantern-and-loom.example"), "{told}");
    assert!(told.contains("the manifest of its model purchase-intent is not here as it was signed"), "{told}");
    look(page, &name("broken"), true).await;
    assert!(visited(page, &shop).await, "the version before");
    page.goto(&gate).await.unwrap();
    until_stage(page, "experiment").await;
    page.click("#gate-withdraw").await.unwrap();
    until_stage(page, "shadow").await;
    assert!(!visited(page, &shop).await, "a model that was taken back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_acts_once_it_has_shown_what_was_asked_and_no_sooner() {
    let browser = Browser::launch().await.unwrap();
    for phone in [false, true] {
        let stage = Stage::start(Setting::default()).await.unwrap();
        let page = browser.profile().await.unwrap().tab("").await.unwrap();
        if phone {
            page.phone().await.unwrap();
        }
        story(&stage, &page, if phone { "phone" } else { "wide" }).await;
        page.leave().await.unwrap();
        stage.demo.stop().await;
    }
}

/// What a proxy or a cache makes of a model is no model: the browser runs none, says so, and the page is what it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_is_changed_on_the_way_is_not_run() {
    let changed = axum::routing::get(|| async { "not the model that was signed" });
    let more = axum::Router::new().route("/g/models/{hash}", changed);
    let (stage, _profile, page) = scene(Setting { more, ..Setting::default() }).await.unwrap();
    stage.acts().await.unwrap();
    page.goto(&stage.demo.shop).await.unwrap();
    page.click("#gl-accept").await.unwrap();
    linger(&page).await.unwrap();
    page.until("gloaming('status').then((s) => s.traps > 0)").await.unwrap();
    assert_eq!(page.eval("gloaming('status').then((s) => s.scores.length)").await.unwrap(), 0);
    assert_eq!(page.eval("!!document.getElementById('hint')").await.unwrap(), false);
    page.follow("a.product-link[href='/p/harbour-lantern']").await.unwrap();
    assert_eq!(page.eval("document.querySelector('h1').textContent").await.unwrap(), "Harbour lantern");
    page.leave().await.unwrap();
    stage.demo.stop().await;
}

/// The model that would choose what is shown first: its goods are the shop's, its worth is told, and the gate lets no page hear it.
#[tokio::test(flavor = "multi_thread")]
async fn what_would_be_shown_first_is_held_back_on_screen() {
    let (stage, _profile, page) = scene(Setting::default()).await.unwrap();
    page.goto(&format!("{}/gate", stage.demo.shop)).await.unwrap();
    page.until("!!document.getElementById('gate-held-back')").await.unwrap();
    let told = page.eval("document.getElementById('gate-held-back').textContent").await.unwrap();
    let told = told.as_str().unwrap();
    for words in [
        "goods 2: Harbour lantern",
        "goods 7: Kiln cushion",
        "On a log of 4701 choices it would have earned 0.0090 [",
        "Held back. ",
        "7 of 25 rows that earned something are of actions that it would have chosen, fewer than 10",
    ] {
        assert!(told.contains(words), "{words:?} is not in {told}");
    }
    assert!(!told.contains("nothing here"), "{told}");
    // No page hears it, even when the shop's own model speaks.
    stage.acts().await.unwrap();
    page.goto(&stage.demo.shop).await.unwrap();
    page.click("#gl-accept").await.unwrap();
    linger(&page).await.unwrap();
    page.until("!!document.getElementById('hint')").await.unwrap();
    page.until("gloaming('status').then((s) => s.scores.some(({ model }) => model == 'next-best-action'))")
        .await
        .unwrap();
    let shown = "gloaming('status').then((s) => s.scores.filter(({ shown }) => shown).map(({ model }) => model))";
    assert_eq!(page.eval(shown).await.unwrap(), serde_json::json!(["purchase-intent"]));
    assert_eq!(
        page.eval("document.getElementById('chosen').dataset.first ?? null").await.unwrap(),
        serde_json::Value::Null
    );
    page.leave().await.unwrap();
    stage.demo.stop().await;
}

/// Says what three models might, in the place of the worker.
const SAYS: &str = "const say = (model, score, kind) => postMessage({ t: 'score', model, by: model, score, kind, reasons: [], exact: false, orders: 0 }); \
    say('pointer-bot', 0.99); say('next-best-action', 0.8, 'goods-6'); setTimeout(() => say('purchase-intent', 0.3), 1500)";

/// Were several models to speak, the shop takes each for what it is of, and none for another.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_takes_a_score_for_what_its_model_says() {
    let says = axum::routing::get(|| async { ([("content-type", "text/javascript")], SAYS) });
    let more = axum::Router::new().route("/g/worker.js", says);
    let (stage, _profile, page) = scene(Setting { more, ..Setting::default() }).await.unwrap();
    page.goto(&stage.demo.shop).await.unwrap();
    page.click("#gl-accept").await.unwrap();
    page.until("document.getElementById('chosen').dataset.first == 'field-runner'").await.unwrap();
    assert_eq!(page.eval("!!document.getElementById('hint')").await.unwrap(), false, "a pointer is no intent");
    assert_eq!(page.eval("document.querySelector('#chosen .name').textContent").await.unwrap(), "Field table runner");
    page.until("!!document.getElementById('hint')").await.unwrap();
    let told = page.eval("document.getElementById('hint').textContent").await.unwrap();
    assert!(told.as_str().unwrap().contains("(30.0 %)"), "{told}");
    page.leave().await.unwrap();
    stage.demo.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_sites_page_takes_no_step_here() {
    let (stage, _profile, page) = scene(Setting::default()).await.unwrap();
    page.goto(&stage.demo.central).await.unwrap();
    let post = format!(
        "fetch('{}/gate/promote', {{ method: 'POST', mode: 'no-cors', headers: {{ 'x-gloaming-demo': '1' }} }}).then(() => true, () => true)",
        stage.demo.shop
    );
    page.eval(&post).await.unwrap();
    let view = stage.demo.step(Step::Promote).await.unwrap();
    assert_eq!((view["stage"].as_str(), view["version"].as_u64()), (Some("shadow"), Some(1)), "{view}");
    stage.demo.stop().await;
}
