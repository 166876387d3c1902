//! The whole path under the two strict Content-Security-Policies, none of which is weakened for it.
#![allow(clippy::unwrap_used)]

use gloaming::shop::Csp;
use gloaming_e2e::persona::linger;
use gloaming_e2e::stage::{Setting, scene, settle};

async fn everything_works(csp: Csp) {
    let (stage, _profile, page) = scene(Setting { csp, ..Setting::default() }).await.unwrap();
    stage.acts().await.unwrap();
    page.goto(&stage.demo.shop).await.unwrap();
    // The policy is in force: a handler that is written into the page does not run.
    page.eval("{ const e = document.createElement('p'); e.setAttribute('onclick', 'window.__ran = true'); document.body.append(e); e.click(); true }")
        .await
        .unwrap();
    assert_eq!(page.eval("!window.__ran").await.unwrap(), true);
    let complaints = page.seen().complaints.len();
    page.eval("gloaming('on', 'score', (score) => { (window.__scores = window.__scores || []).push(score) }).then(() => true)")
        .await
        .unwrap();
    page.click("#gl-accept").await.unwrap();
    page.until("window.__scores?.length > 0").await.unwrap();
    let score = page.eval("window.__scores[0]").await.unwrap();
    assert_eq!(score["model"], "purchase-intent");
    assert!((0.0..=1.0).contains(&score["score"].as_f64().unwrap()), "{score}");
    linger(&page).await.unwrap();
    page.follow("a.product-link[href='/p/harbour-lantern']").await.unwrap();
    linger(&page).await.unwrap();
    assert_eq!(page.seen().complaints.len(), complaints, "{:?}", page.seen().complaints);
    // The check overlay, too, needs nothing of the page's policy.
    page.goto(&format!("{}/?gloaming-check", stage.demo.shop)).await.unwrap();
    page.ask_the_edge().await.unwrap();
    page.until("document.querySelector('gloaming-check')?.shadowRoot.querySelector('[data-step=accepted]')?.dataset.state == 'done'")
        .await
        .unwrap();
    assert_eq!(page.seen().complaints.len(), complaints, "{:?}", page.seen().complaints);
    page.leave().await.unwrap();
    settle().await;
    assert_eq!(stage.wire.submissions().iter().filter(|s| !s.check).count(), 1);
    assert_eq!(stage.wire.refused(), 0);
    stage.demo.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn script_src_self() {
    everything_works(Csp::SameOrigin).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nonce_and_strict_dynamic() {
    everything_works(Csp::Nonce).await;
}
