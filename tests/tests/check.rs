//! The check overlay follows one visit, names the step that fails and the remedy, and counts nothing.
#![allow(clippy::unwrap_used)]

use axum::Router;
use axum::response::Html;
use axum::routing::get;
use gloaming::demo::SITE;
use gloaming_e2e::page::Page;
use gloaming_e2e::stage::{Setting, scene, settle};
use gloaming_policy::author::Key;
use serde_json::json;

/// Waits until a step of the overlay is in a state, and returns its words.
async fn step(page: &Page, step: &str, state: &str) -> String {
    let line = format!("document.querySelector('gloaming-check')?.shadowRoot.querySelector('[data-step={step}]')");
    page.until(&format!("{line}?.dataset.state == '{state}'")).await.unwrap();
    page.eval(&format!("{line}.textContent")).await.unwrap().as_str().unwrap().to_owned()
}

/// A link with a check in it, followed by somebody who agreed long ago: not a word leaves, and what the device
/// knew before it knows after.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_with_a_check_in_it_makes_nobody_say_anything() {
    let (stage, _profile, page) = scene(Setting::default()).await.unwrap();
    page.goto(&stage.demo.shop).await.unwrap();
    page.click("#gl-accept").await.unwrap();
    page.until("gloaming('status').then((s) => s.features?.length > 0)").await.unwrap();
    // A page of this site that measures nothing; what the first one said as it was left may still be on its way.
    page.goto(&format!("{}/g/gloaming.js", stage.demo.shop)).await.unwrap();
    settle().await;
    let state = "JSON.parse(Object.values(localStorage)[0]).s";
    let before = page.eval(state).await.unwrap();
    assert!(before.as_str().is_some_and(|s| !s.is_empty()));
    let told = stage.wire.submissions().len();
    assert_eq!(told, 1, "the first visit's");
    for path in ["?gloaming-check", "help?gloaming-check", "c/lamps?gloaming-check"] {
        page.goto(&format!("{}/{path}", stage.demo.shop)).await.unwrap();
        assert!(step(&page, "accepted", "now").await.contains("Nothing of this visit was sent"));
        assert_eq!(page.eval(state).await.unwrap(), before, "what the device knew, it still knows, and no more");
    }
    page.leave().await.unwrap();
    settle().await;
    assert_eq!(stage.wire.submissions().len(), told);
    assert!(stage.wire.submissions().iter().all(|s| !s.check));
    stage.demo.stop().await;
}

/// Pages that are set up wrongly, one mistake each.
fn mistakes() -> Router {
    let key = Key::from_seed(&[9; 32]).public().to_text();
    let page = |site: &str, key: &str| {
        let html = format!(
            "<!doctype html><html lang=en><title>A mistake</title><script defer src=/g/gloaming.js data-site=\"{site}\" data-key=\"{key}\"></script><p>A page."
        );
        get(move || async move { Html(html) })
    };
    Router::new()
        .route("/wrong-key", page(SITE, &key))
        .route("/no-key", page(SITE, "AAAA"))
        .route("/wrong-site", page("elsewhere.example", &key))
}

#[tokio::test(flavor = "multi_thread")]
async fn it_follows_a_visit_to_its_release_and_counts_nothing() {
    let (stage, _profile, page) = scene(Setting::default()).await.unwrap();
    page.goto(&format!("{}/?gloaming-check", stage.demo.shop)).await.unwrap();
    assert!(step(&page, "loaded", "done").await.contains("version 1"));
    assert!(step(&page, "consented", "now").await.contains("Answer the question"));
    page.click("#gl-accept").await.unwrap();
    assert!(step(&page, "consented", "done").await.contains("measurement"));
    assert!(step(&page, "built", "done").await.contains("policy version 1"));
    assert!(step(&page, "accepted", "now").await.contains("Nothing of this visit was sent"));
    page.ask_the_edge().await.unwrap();
    assert!(step(&page, "accepted", "done").await.contains("contributions would each have counted"));
    assert!(step(&page, "released", "now").await.contains("closes in"));
    page.leave().await.unwrap();
    settle().await;
    let metrics = stage.metrics().await.unwrap();
    assert!(
        metrics.contains("{reason=\"accepted\"} 0\n") && !metrics.contains("{reason=\"checked\"} 0\n"),
        "{metrics}"
    );
    assert!(stage.wire.submissions().iter().all(|s| s.check));
    stage.demo.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_what_is_wrong_and_what_to_do() {
    let (stage, _profile, page) = scene(Setting { more: mistakes(), ..Setting::default() }).await.unwrap();
    let shop = &stage.demo.shop;
    for (path, words) in [
        ("/wrong-key", "not signed by the key in data-key"),
        ("/no-key", "cannot be used"),
        ("/wrong-site", "knows no site elsewhere.example"),
    ] {
        page.goto(&format!("{shop}{path}?gloaming-check")).await.unwrap();
        let said = step(&page, "loaded", "failed").await;
        assert!(said.contains(words), "{path}: {said}");
    }
    // The edge cannot be reached.
    page.call("Network.setBlockedURLs", json!({ "urls": ["*/v1/notice/*"] })).await.unwrap();
    page.goto(&format!("{shop}/?gloaming-check")).await.unwrap();
    assert!(step(&page, "loaded", "failed").await.contains("connect-src"));
    // The worker is not passed on.
    page.call("Network.setBlockedURLs", json!({ "urls": ["*/worker.js"] })).await.unwrap();
    page.goto(&format!("{shop}/?gloaming-check")).await.unwrap();
    page.click("#gl-accept").await.unwrap();
    assert!(step(&page, "built", "failed").await.contains("worker.js"));
    page.call("Network.setBlockedURLs", json!({ "urls": [] })).await.unwrap();
    // A no is an answer, too.
    page.eval("gloaming('consent', {})").await.unwrap();
    page.goto(&format!("{shop}/?gloaming-check")).await.unwrap();
    assert!(step(&page, "consented", "failed").await.contains("said no"));
    stage.demo.stop().await;
}
