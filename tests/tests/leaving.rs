//! How visits end: offline, beside another tab, with less consent than they began with, on a page that errs.
#![allow(clippy::unwrap_used)]

use gloaming_e2e::page::Page;
use gloaming_e2e::persona::linger;
use gloaming_e2e::stage::{Setting, Stage, scene, settle};
use serde_json::json;

async fn agree(page: &Page, shop: &str) {
    page.goto(shop).await.unwrap();
    page.click("#gl-accept").await.unwrap();
    linger(page).await.unwrap();
}

/// Metrics of everything posted, in order of arrival; none may come twice.
fn metrics(stage: &Stage) -> Vec<u32> {
    let all: Vec<_> = stage.wire.submissions().into_iter().flat_map(|s| s.contributions).collect();
    let mut ids: Vec<_> = all.iter().map(|c| c.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all.len(), "an id twice would link two visits");
    all.iter().map(|c| c.metric).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visit_left_offline_is_told_once_by_the_next() {
    let (stage, profile, page) = scene(Setting::default()).await.unwrap();
    agree(&page, &stage.demo.shop).await;
    let offline = json!({ "offline": true, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1 });
    page.call("Network.emulateNetworkConditions", offline).await.unwrap();
    settle().await;
    // The worker answers in turn: after its answer the page has heard that it is offline, however busy the machine.
    page.eval("gloaming('status').then((s) => s.state)").await.unwrap();
    // Left by the page itself: a navigation from outside gives the tab another process, and the emulation ends before
    // the page does, by as long as a busy machine takes.
    page.eval("setTimeout(() => { location.href = 'about:blank' }); true").await.unwrap();
    page.until("location.href == 'about:blank'").await.unwrap();
    assert_eq!(page.eval("navigator.onLine").await.unwrap(), false, "offline to the end");
    settle().await;
    assert_eq!(metrics(&stage), Vec::<u32>::new());
    for _ in 0..2 {
        let page = profile.tab("").await.unwrap();
        page.goto(&stage.demo.shop).await.unwrap();
        linger(&page).await.unwrap();
        assert_eq!(page.seen().complaints, Vec::<String>::new());
        page.leave().await.unwrap();
        settle().await;
        assert!(!stage.wire.submissions().is_empty(), "the next visit tells it");
    }
    // A score that came too late for the first visit is another's to tell; what was told is not told again.
    let mut once = metrics(&stage);
    let count = once.len();
    once.sort_unstable();
    once.dedup();
    assert!(count > 0 && once.len() == count, "{once:?}");
    stage.demo.stop().await;
}

/// A tab that never held the lock once took the record over when it was closed, and the visit was lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_tab_that_waited_in_vain_takes_nothing_from_the_one_that_measured() {
    let (stage, profile, one) = scene(Setting::default()).await.unwrap();
    agree(&one, &stage.demo.shop).await;
    let other = profile.tab("").await.unwrap();
    other.goto(&format!("{}/help", stage.demo.shop)).await.unwrap();
    other.until("gloaming('status').then((s) => s.state == 'granted')").await.unwrap();
    settle().await;
    assert_eq!(other.eval("gloaming('status').then((s) => !!s.features)").await.unwrap(), false, "it waits");
    other.leave().await.unwrap();
    settle().await;
    linger(&one).await.unwrap();
    one.leave().await.unwrap();
    settle().await;
    assert_eq!(stage.wire.submissions().len(), 1);
    stage.demo.stop().await;
}

/// What one tab erases, another that had not heard of it does not bring back.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_erased_in_one_tab_stays_erased() {
    let (stage, profile, one) = scene(Setting::default()).await.unwrap();
    agree(&one, &stage.demo.shop).await;
    let other = profile.tab("").await.unwrap();
    other.goto(&stage.demo.shop).await.unwrap();
    other.until("gloaming('status').then((s) => s.state == 'granted')").await.unwrap();
    let write = one.eval("`localStorage[${JSON.stringify(Object.keys(localStorage)[0])}] = ${JSON.stringify(Object.values(localStorage)[0])}; true`");
    let write = write.await.unwrap();
    assert_eq!(one.eval("gloaming('erase')").await.unwrap(), "waiting");
    other.until("localStorage.length == 0").await.unwrap();
    other.eval(write.as_str().unwrap()).await.unwrap();
    other.until("localStorage.length == 0").await.unwrap();
    // A yes that was said after it is a yes.
    other.eval("gloaming('consent', { measurement: true })").await.unwrap();
    settle().await;
    one.until("localStorage.length == 1").await.unwrap();
    other.until("gloaming('status').then((s) => !!s.features)").await.unwrap();
    stage.demo.stop().await;
}

/// Another tab's no, given while this one waits for its turn, stays a no.
#[tokio::test(flavor = "multi_thread")]
async fn a_no_in_one_tab_is_a_no_in_all() {
    let (stage, profile, one) = scene(Setting::default()).await.unwrap();
    agree(&one, &stage.demo.shop).await;
    let other = profile.tab("").await.unwrap();
    other.goto(&stage.demo.shop).await.unwrap();
    other.until("gloaming('status').then((s) => s.state == 'granted')").await.unwrap();
    let yes = one.eval("JSON.stringify(Object.values(localStorage)[0])").await.unwrap();
    let yes = yes.as_str().unwrap();
    assert_eq!(one.eval("gloaming('consent', {})").await.unwrap(), "refused");
    other.until("gloaming('status').then((s) => s.state == 'refused')").await.unwrap();
    let kept = one.eval("Object.values(localStorage).join()").await.unwrap();
    assert!(kept.as_str().unwrap().contains("\"d\":0"), "{kept}");
    // A tab that had not heard of the no writes the record that it knew; whoever heard the no says it again.
    let write = format!("Object.keys(localStorage).forEach((name) => {{ localStorage[name] = {yes} }}); true");
    other.eval(&write).await.unwrap();
    other.until("Object.values(localStorage).join().includes('\"d\":0')").await.unwrap();
    other.leave().await.unwrap();
    one.leave().await.unwrap();
    settle().await;
    assert!(metrics(&stage).is_empty());
    stage.demo.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purpose_taken_back_takes_back_what_was_prepared_for_it() {
    let (stage, profile, page) = scene(Setting::default()).await.unwrap();
    page.goto(&stage.demo.shop).await.unwrap();
    page.until("gloaming('status').then((s) => !!s.notice)").await.unwrap();
    page.eval("gloaming('consent', { measurement: true, prediction: true })").await.unwrap();
    page.until("gloaming('status').then((s) => s.scores?.length > 0)").await.unwrap();
    assert_eq!(page.eval("gloaming('consent', { measurement: true })").await.unwrap(), "granted");
    page.leave().await.unwrap();
    settle().await;
    let page = profile.tab("").await.unwrap();
    page.goto(&stage.demo.shop).await.unwrap();
    linger(&page).await.unwrap();
    page.leave().await.unwrap();
    settle().await;
    let sent = metrics(&stage);
    let policy = &stage.demo.policy;
    let measurement = policy.purposes.iter().position(|p| p.id == "measurement").unwrap();
    assert!(!sent.is_empty());
    for metric in sent {
        assert_eq!(policy.metric(metric).unwrap().purpose as usize, measurement, "metric {metric}");
    }
    stage.demo.stop().await;
}

/// What a page says may be anything; whatever it is, the visit goes on and the page hears of no failure.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_says_nonsense_is_heard_out() {
    let (stage, _profile, page) = scene(Setting::default()).await.unwrap();
    agree(&page, &stage.demo.shop).await;
    for nonsense in [
        "gloaming('track', () => 1, { value: () => 2 })",
        "gloaming('track', 'add_to_cart', { value: { deep: window } })",
        "gloaming('track', 'add_to_cart', null)",
        "gloaming('track')",
        "gloaming('feature', 'cart-value', () => 3)",
        "gloaming('feature', { a: document }, [window])",
        "gloaming('feature', 'cart-value', NaN)",
        "gloaming('feature', 'cart-value', { valueOf: () => 5, constructor: () => 6 })",
        "gloaming('track', 'constructor')",
    ] {
        page.eval(&format!("{nonsense}; true")).await.unwrap();
    }
    let big = page.eval("gloaming('track', 'add_to_cart', { value: 1n }).then(() => '', (e) => e.name)").await.unwrap();
    assert_eq!(big, "TypeError", "said to whoever asked");
    let unknown = page.eval("gloaming('trak').then(() => '', (e) => e)").await.unwrap();
    assert_eq!(unknown, "no command trak");
    page.until("gloaming('status').then((s) => s.unknownEvents >= 7)").await.unwrap();
    linger(&page).await.unwrap();
    assert_eq!(page.seen().complaints, Vec::<String>::new());
    page.leave().await.unwrap();
    settle().await;
    assert_eq!(stage.wire.submissions().len(), 1);
    stage.demo.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_can_agree_to_a_notice_that_was_not_read() {
    let (stage, _profile, page) = scene(Setting::default()).await.unwrap();
    page.call("Network.setBlockedURLs", json!({ "urls": ["*/v1/notice/*"] })).await.unwrap();
    page.goto(&stage.demo.shop).await.unwrap();
    page.until("gloaming('status').then((s) => s.state == 'notice')").await.unwrap();
    assert_eq!(page.eval("gloaming('consent', { measurement: true })").await.unwrap(), "notice");
    assert_eq!(page.eval("localStorage.length").await.unwrap(), 0);
    stage.demo.stop().await;
}
