//! A warm start: what a visit has fetched once, its further pages take from the browser's cache. Model files bear their SHA-256 as
//! their name and may be kept for ever; the wasm modules are pinned by theirs, and kept for minutes.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::Duration;

use gloaming_e2e::page::Page;
use gloaming_e2e::persona::linger;
use gloaming_e2e::stage::{Setting, Stage, scene, settle};
use gloaming_signal::hash;
use serde_json::json;

/// How often each thing that is heavy is among these paths.
fn heavy(paths: impl Iterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for path in paths.filter(|path| path.starts_with("/g/models/") || path.ends_with(".wasm")) {
        *counts.entry(path).or_insert(0) += 1;
    }
    counts
}

/// What came over the wire, whatever the browser says of it.
fn fetched(stage: &Stage) -> BTreeMap<String, usize> {
    heavy(stage.wire.all().into_iter().map(|arrived| arrived.path))
}

/// What the pages of a tab and their workers asked the browser for.
fn asked(stage: &Stage, page: &Page) -> BTreeMap<String, usize> {
    let own = |url: &str| url.strip_prefix(&stage.demo.shop).map(str::to_owned);
    heavy(page.seen().requests.iter().filter_map(|request| own(&request.url)))
}

async fn until(what: &str, so: impl Fn() -> bool) {
    for _ in 0..300 {
        if so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{what} did not come in half a minute");
}

const SCORED: &str = "gloaming('status').then((s) => s.scores?.length > 0)";

#[tokio::test(flavor = "multi_thread")]
async fn a_visits_second_page_fetches_no_model_and_no_wasm_again() {
    let (stage, _profile, page) = scene(Setting::default()).await.unwrap();
    let models = stage.demo.policy.models.iter().flat_map(|model| [model.manifest_sha256, model.onnx_sha256]);
    let named = models.map(|sha256| format!("/g/models/{}", hash::hex(&sha256)));
    let named: Vec<String> = named.chain(["collector", "scorer"].map(|name| format!("/g/{name}.wasm"))).collect();
    let once: BTreeMap<String, usize> = named.iter().map(|path| (path.clone(), 1)).collect();

    page.goto(&stage.demo.shop).await.unwrap();
    page.click("#gl-accept").await.unwrap();
    linger(&page).await.unwrap();
    until("the models", || fetched(&stage) == once).await;
    page.until(SCORED).await.unwrap();
    let first = asked(&stage, &page);
    assert!(first.keys().eq(once.keys()), "{first:?}");

    page.follow("a.product-link[href='/p/harbour-lantern']").await.unwrap();
    linger(&page).await.unwrap();
    // Another worker in which nothing is left of the first: it asks for everything, and is answered by the cache.
    until("what the second page asks for", || asked(&stage, &page).iter().all(|(path, count)| *count > first[path]))
        .await;
    page.until(SCORED).await.unwrap();
    settle().await;
    assert_eq!(fetched(&stage), once, "over the wire, once in the visit");

    // As the worker asks, and where the answer is the cache's or none.
    for path in &named {
        let kept = format!(
            "fetch('{path}', {{ credentials: 'omit', referrerPolicy: 'no-referrer', mode: 'same-origin', cache: 'only-if-cached' }}).then((r) => [r.status, r.headers.get('cache-control')])"
        );
        let wanted =
            if path.ends_with(".wasm") { "public, max-age=300" } else { "public, max-age=31536000, immutable" };
        assert_eq!(page.eval(&kept).await.unwrap(), json!([200, wanted]), "{path}");
    }
    assert_eq!(fetched(&stage), once);
    page.leave().await.unwrap();
    stage.demo.stop().await;
}
