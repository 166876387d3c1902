//! Pages as browsers really show them: route changes, the back-forward cache, phones, lost networks, and
//! wasm that fails.
#![allow(clippy::unwrap_used)]

use gloaming_e2e::browser::Browser;
use gloaming_e2e::page::Page;
use gloaming_e2e::persona::linger;
use gloaming_e2e::stage::{Setting, Stage, scene, settle};
use serde_json::{Value, json};

async fn feature(page: &Page, id: &str) -> Value {
    page.eval(&format!("gloaming('status').then((s) => s.features.find((f) => f.id == '{id}@1').value)")).await.unwrap()
}

async fn until_feature(page: &Page, id: &str, value: u32) {
    page.until(&format!("gloaming('status').then((s) => s.features?.find((f) => f.id == '{id}@1').value === {value})"))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn route_changes_and_returns_from_the_cache_count_once_each() {
    let stage = Stage::start(Setting::default()).await.unwrap();
    let browser = Browser::launch().await.unwrap();
    let profile = browser.profile().await.unwrap();
    let page = profile.tab("").await.unwrap();
    page.goto(&stage.demo.shop).await.unwrap();
    page.click("#gl-accept").await.unwrap();
    until_feature(&page, "pages", 1).await;
    // Routers push and replace, some do both for one step; a hash or a query is no other page.
    page.eval("history.pushState({}, '', '/c/lamps'); history.replaceState({}, '', '/c/lamps'); history.replaceState({ scroll: 1 }, '', '/c/lamps?sort=price'); location.hash = 'top'; true").await.unwrap();
    until_feature(&page, "pages", 2).await;
    page.eval("history.pushState({}, '', '/help'); true").await.unwrap();
    until_feature(&page, "pages", 3).await;
    page.eval("history.back(); true").await.unwrap();
    until_feature(&page, "pages", 4).await;
    settle().await;
    assert_eq!(feature(&page, "pages").await, json!(4));
    assert_eq!(feature(&page, "pages-product").await, json!(2));

    // A visit that is left before all seven models scored it tells the rest later, in a submission of its own.
    page.until("gloaming('status').then((s) => s.scores?.length === 7)").await.unwrap();
    // Another page of the site and back: the browser shows the old page from its cache, without loading it.
    page.eval("window.__same = true").await.unwrap();
    page.goto(&format!("{}/account", stage.demo.shop)).await.unwrap();
    until_feature(&page, "pages", 5).await;
    page.eval("history.back(); true").await.unwrap();
    page.until("window.__same === true").await.unwrap();
    until_feature(&page, "pages", 6).await;
    settle().await;
    assert_eq!(feature(&page, "pages").await, json!(6));
    page.leave().await.unwrap();
    settle().await;
    let submissions = stage.wire.submissions();
    assert_eq!(submissions.len(), 1, "one visit, one submission");
    assert!(page_complaints_free(&browser, &stage).await);
    stage.demo.stop().await;
}

/// A fresh visit to the same shop complains about nothing.
async fn page_complaints_free(browser: &Browser, stage: &Stage) -> bool {
    let profile = browser.profile().await.unwrap();
    let page = profile.tab("").await.unwrap();
    page.goto(&stage.demo.shop).await.unwrap();
    page.seen().complaints.is_empty()
}

/// What a browser does when something else comes in front of a page, or goes away again.
async fn hide(page: &Page, hidden: bool) {
    let line = format!(
        "Object.defineProperty(document, 'hidden', {{ get: () => {hidden}, configurable: true }}); document.dispatchEvent(new Event('visibilitychange')); true"
    );
    page.eval(&line).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_that_hides_the_page_has_said_goodbye() {
    let (stage, _profile, page) = scene(Setting::default()).await.unwrap();
    page.phone().await.unwrap();
    page.goto(&stage.demo.shop).await.unwrap();
    page.click("#gl-accept").await.unwrap();
    linger(&page).await.unwrap();
    // An app in front: the page is hidden, and often never shown again.
    hide(&page, true).await;
    settle().await;
    assert_eq!(stage.wire.submissions().len(), 1);
    // It is shown again after all and left: the same visit is not told twice.
    hide(&page, false).await;
    linger(&page).await.unwrap();
    page.leave().await.unwrap();
    settle().await;
    let all = stage.wire.submissions();
    let mut metrics: Vec<u32> = all.iter().flat_map(|s| s.contributions.iter().map(|c| c.metric)).collect();
    let count = metrics.len();
    metrics.sort_unstable();
    metrics.dedup();
    assert_eq!(metrics.len(), count, "no metric twice: {all:?}");
    stage.demo.stop().await;
}

/// A tab behind another has said nothing yet; closed there, it says what it had prepared when it was hidden.
#[tokio::test(flavor = "multi_thread")]
async fn a_tab_that_is_closed_while_it_is_hidden_has_told_its_visit() {
    let (stage, _profile, page) = scene(Setting::default()).await.unwrap();
    page.goto(&stage.demo.shop).await.unwrap();
    page.click("#gl-accept").await.unwrap();
    linger(&page).await.unwrap();
    hide(&page, true).await;
    settle().await;
    assert_eq!(stage.wire.submissions().len(), 0, "with a mouse a hidden tab is often shown again");
    page.leave().await.unwrap();
    settle().await;
    assert_eq!(stage.wire.submissions().len(), 1);
    stage.demo.stop().await;
}

/// Blocks an address for a tab, so that fetching it fails.
async fn block(page: &Page, what: &str) {
    page.call("Network.setBlockedURLs", json!({ "urls": [what] })).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_fails_costs_the_measurement_and_never_the_page() {
    let stage = Stage::start(Setting::default()).await.unwrap();
    let browser = Browser::launch().await.unwrap();
    for (what, state) in [("*/v1/notice/*", "notice"), ("*/worker.js", "trap")] {
        let profile = browser.profile().await.unwrap();
        let page = profile.tab("").await.unwrap();
        block(&page, what).await;
        page.goto(&stage.demo.shop).await.unwrap();
        if state == "trap" {
            page.click("#gl-accept").await.unwrap();
        }
        page.until(&format!("gloaming('status').then((s) => s.state == '{state}')")).await.unwrap();
        page.follow("a.product-link[href='/p/harbour-lantern']").await.unwrap();
        page.click("#add-to-cart").await.unwrap();
        assert_eq!(page.eval("document.getElementById('cart-count').textContent").await.unwrap(), "1", "{what}");
        let thrown: Vec<String> =
            page.seen().complaints.into_iter().filter(|c| !c.contains("ERR_BLOCKED_BY_CLIENT")).collect();
        assert_eq!(thrown, Vec::<String>::new(), "{what}");
        page.leave().await.unwrap();
    }
    assert_eq!(stage.wire.submissions().len(), 0);
    stage.demo.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_in_wasm_ends_the_measurement_quietly() {
    let stage = Stage::start(Setting::default()).await.unwrap();
    let browser = Browser::launch().await.unwrap();
    let profile = browser.profile().await.unwrap();
    // The record on the device is spoilt in a way that the state's own check cannot see: not base64 at all.
    let page = profile.tab("").await.unwrap();
    page.goto(&stage.demo.shop).await.unwrap();
    page.click("#gl-accept").await.unwrap();
    linger(&page).await.unwrap();
    page.goto(&format!("{}/help", stage.demo.shop)).await.unwrap();
    linger(&page).await.unwrap();
    page.goto("about:blank").await.unwrap();
    let page = profile.tab("").await.unwrap();
    page.goto(&format!("{}/assets/icon.svg", stage.demo.shop)).await.unwrap();
    page.eval("{ const name = Object.keys(localStorage)[0], record = JSON.parse(localStorage[name]); record.s = '%%%'; localStorage[name] = JSON.stringify(record); true }")
        .await
        .unwrap();
    page.goto(&stage.demo.shop).await.unwrap();
    page.until("gloaming('status').then((s) => s.state == 'trap')").await.unwrap();
    assert_eq!(page.eval("document.querySelectorAll('.grid li').length").await.unwrap(), 4);
    assert_eq!(page.seen().complaints, Vec::<String>::new());
    stage.demo.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_sent_goes_with_the_next_visit_once() {
    let (stage, profile, page) = scene(Setting::default()).await.unwrap();
    page.goto(&stage.demo.shop).await.unwrap();
    page.click("#gl-accept").await.unwrap();
    linger(&page).await.unwrap();
    let offline = |off: bool| json!({ "offline": off, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1 });
    page.call("Network.emulateNetworkConditions", offline(true)).await.unwrap();
    page.until("!navigator.onLine").await.unwrap();
    settle().await;
    page.eval("dispatchEvent(new PageTransitionEvent('pagehide')); true").await.unwrap();
    settle().await;
    assert_eq!(stage.wire.submissions().len(), 0);
    page.call("Network.emulateNetworkConditions", offline(false)).await.unwrap();
    page.leave().await.unwrap();
    settle().await;
    for _ in 0..2 {
        let page = profile.tab("").await.unwrap();
        page.goto(&format!("{}/help", stage.demo.shop)).await.unwrap();
        linger(&page).await.unwrap();
        page.leave().await.unwrap();
        settle().await;
    }
    let mut ids: Vec<[u8; 16]> =
        stage.wire.submissions().iter().flat_map(|s| s.contributions.iter().map(|c| c.id)).collect();
    assert!(!ids.is_empty());
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count, "sent once");
    assert_eq!(stage.wire.refused(), 0);
    stage.demo.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn moves_of_the_pointer_are_counted_where_that_was_agreed_to() {
    let (_stage, _profile, page) = {
        let (stage, profile, page) = scene(Setting::default()).await.unwrap();
        page.goto(&stage.demo.shop).await.unwrap();
        (stage, profile, page)
    };
    page.until("gloaming('status').then((s) => !!s.notice)").await.unwrap();
    let sweep = async |from: u32| {
        for step in 0..60 {
            // Steps of the same length along a row of the page, as a program makes them.
            let event = json!({ "type": "mouseMoved", "x": from + 5 * step, "y": 400, "button": "none", "buttons": 0 });
            page.call("Input.dispatchMouseEvent", event).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    // Without the purpose that the model is for, nobody listens.
    let but_one = "gloaming('status').then((s) => gloaming('consent', Object.fromEntries(s.notice.purposes.map((p) => [p.id, p.id != 'prediction']))))";
    page.eval(but_one).await.unwrap();
    until_feature(&page, "pages", 1).await;
    sweep(100).await;
    settle().await;
    assert_eq!(feature(&page, "pointer-steps").await, json!(0));
    page.eval(&but_one.replace("p.id != 'prediction'", "true")).await.unwrap();
    page.until("gloaming('status').then((s) => s.scores?.some((score) => score.model == 'pointer-bot'))")
        .await
        .unwrap();
    sweep(100).await;
    page.until("gloaming('status').then((s) => s.features.find((f) => f.id == 'pointer-steps@1').value > 40)")
        .await
        .unwrap();
    let even = feature(&page, "pointer-even").await.as_f64().unwrap();
    assert!(even >= 70.0, "{even} percent of steps are as long as the one before");
    // Left in the midst of moving, it stores the counts, and of what it saw no move (25).
    let hidden =
        "dispatchEvent(new Event('pagehide')), Object.entries(localStorage).map(([, record]) => JSON.parse(record))";
    page.eval(
        "for (let x = 0; x < 50; x++) document.dispatchEvent(new MouseEvent('mousemove', { clientX: x, clientY: 9 }))",
    )
    .await
    .unwrap();
    let kept = page.eval(hidden).await.unwrap();
    assert!(kept[0]["s"].as_str().is_some_and(|state| !state.is_empty()), "{kept}");
    let waiting = kept[0]["x"].as_array().unwrap();
    assert!(waiting.iter().all(|entry| entry[1] != json!(25)), "{kept}");
}
