//! What happens on a device, and on the wire, before a yes, after a no, and after taking a yes back.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use gloaming::demo::SITE;
use gloaming_e2e::browser::Browser;
use gloaming_e2e::page::Page;
use gloaming_e2e::persona::{Persona, linger};
use gloaming_e2e::stage::{Setting, Stage, scene, settle};
use gloaming_signal::hash;
use serde_json::{Value, json};

/// All that may be fetched without a yes.
fn without_a_yes() -> [String; 2] {
    ["/g/gloaming.js".to_owned(), format!("/g/v1/notice/{SITE}")]
}

fn nothing() -> Value {
    json!({ "local": {}, "session": {}, "cookie": "", "databases": [], "caches": [], "workers": 0, "jar": [] })
}

/// Everything a curious visitor does on one visit that tells a tracker something.
async fn wander(page: &Page, shop: &str) {
    page.goto(shop).await.unwrap();
    page.until("window.gloaming && gloaming('status').then((s) => s.state != 'waiting' || !!s.notice)").await.unwrap();
    page.eval("scrollTo(0, 900)").await.unwrap();
    page.follow("nav a[href='/c/lamps']").await.unwrap();
    page.follow("a.product-link[href='/p/moth-pendant']").await.unwrap();
    for _ in 0..4 {
        page.click(".zoom-badge").await.unwrap();
    }
    page.click("#q").await.unwrap();
    page.type_text("wool").await.unwrap();
    page.eval("document.querySelector('#search-form').requestSubmit(); gloaming('track', 'search'); gloaming('feature', 'cart-value', 12); true")
        .await
        .unwrap();
    page.until("location.pathname == '/search' && document.readyState == 'complete'").await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
}

/// Requests under Gloaming's path, as the shop received them, each once.
fn asked(stage: &Stage) -> Vec<String> {
    let mut paths: Vec<String> = stage.wire.gloaming().into_iter().map(|a| a.path).collect();
    paths.sort_unstable();
    paths.dedup();
    paths
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_yes_there_is_no_request_but_loader_and_notice_and_nothing_is_stored() {
    let stage = Stage::start(Setting::default()).await.unwrap();
    let browser = Browser::launch().await.unwrap();
    for (persona, state) in [(Persona::Browser, "waiting"), (Persona::Gpc, "gpc"), (Persona::Bot, "bot")] {
        let profile = browser.profile().await.unwrap();
        let page = profile.tab(&persona.prelude()).await.unwrap();
        wander(&page, &stage.demo.shop).await;
        assert_eq!(page.eval("gloaming('status').then((s) => s.state)").await.unwrap(), state);
        assert_eq!(page.storage().await.unwrap(), nothing(), "{persona:?}");
        // What the browser itself saw, so that nothing goes past the shop either.
        for request in page.seen().requests {
            assert!(request.url.starts_with(&stage.demo.shop), "{persona:?} asked {}", request.url);
            assert_eq!(request.method, "GET", "{persona:?}: {}", request.url);
        }
        assert_eq!(page.seen().complaints, Vec::<String>::new(), "{persona:?}");
        page.leave().await.unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        profile.close().await.unwrap();
    }
    let asked = asked(&stage);
    assert_eq!(asked, without_a_yes(), "and what leaving might have sent");
    stage.demo.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_no_leaves_the_one_record_of_it_and_a_yes_taken_back_leaves_the_device_as_it_was() {
    let (stage, profile, page) = scene(Setting::default()).await.unwrap();

    // No.
    page.goto(&stage.demo.shop).await.unwrap();
    page.click("#gl-refuse").await.unwrap();
    wander(&page, &stage.demo.shop).await;
    let mut kept = page.storage().await.unwrap();
    let records = std::mem::take(&mut kept["local"]);
    kept["local"] = json!({});
    assert_eq!(kept, nothing());
    let records = records.as_object().unwrap();
    assert_eq!(records.keys().collect::<Vec<_>>(), [&format!("gloaming:{SITE}")]);
    let record: Value = serde_json::from_str(records.values().next().unwrap().as_str().unwrap()).unwrap();
    let mut keys: Vec<&String> = record.as_object().unwrap().keys().collect();
    keys.sort_unstable();
    assert_eq!(keys, ["d", "p", "r", "t", "v"], "decision, purposes, revision, time, version: {record}");
    assert_eq!((&record["d"], &record["p"]), (&json!(0), &json!([])));
    assert!(page.eval("!document.querySelector('.gl-consent')").await.unwrap().as_bool().unwrap(), "asked once");
    assert_eq!(asked(&stage), without_a_yes());

    // Yes after all, and taken back: as if it had never been.
    page.eval("gloaming('erase')").await.unwrap();
    assert_eq!(page.storage().await.unwrap(), nothing());
    page.eval("gloaming('consent', { measurement: true, prediction: true })").await.unwrap();
    linger(&page).await.unwrap();
    page.follow("nav a[href='/c/lamps']").await.unwrap();
    linger(&page).await.unwrap();
    assert_ne!(page.storage().await.unwrap(), nothing());
    let posts = |stage: &Stage| stage.wire.gloaming().iter().filter(|a| a.path.ends_with("contributions")).count();
    assert_eq!(posts(&stage), 0, "nothing leaves while the visit goes on");
    assert_eq!(page.eval("gloaming('erase')").await.unwrap(), "waiting");
    assert_eq!(page.storage().await.unwrap(), nothing());
    page.leave().await.unwrap();
    settle().await;
    assert_eq!(posts(&stage), 0, "a visit that was taken back is not sent");

    // A withdrawal by saying no keeps the record of the no and nothing of the visit.
    let page = profile.tab("").await.unwrap();
    page.goto(&stage.demo.shop).await.unwrap();
    page.click("#gl-accept").await.unwrap();
    linger(&page).await.unwrap();
    assert_eq!(page.eval("gloaming('consent', {})").await.unwrap(), "refused");
    page.goto(&format!("{}/help", stage.demo.shop)).await.unwrap();
    let record = page.eval("localStorage.length + localStorage[Object.keys(localStorage)[0]]").await.unwrap();
    assert!(record.as_str().unwrap().starts_with("1{") && !record.as_str().unwrap().contains("\"s\""), "{record}");
    page.leave().await.unwrap();
    settle().await;
    stage.demo.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_with_gpc_may_still_say_yes_here() {
    let stage = Stage::start(Setting::default()).await.unwrap();
    let browser = Browser::launch().await.unwrap();
    let profile = browser.profile().await.unwrap();
    let page = profile.tab(&Persona::Gpc.prelude()).await.unwrap();
    page.goto(&stage.demo.shop).await.unwrap();
    page.until("gloaming('status').then((s) => s.state == 'gpc')").await.unwrap();
    assert_eq!(page.eval("gloaming('consent', { measurement: true })").await.unwrap(), "granted");
    linger(&page).await.unwrap();
    page.goto(&format!("{}/help", stage.demo.shop)).await.unwrap();
    linger(&page).await.unwrap();
    page.leave().await.unwrap();
    settle().await;
    assert_eq!(stage.wire.submissions().len(), 1);
    stage.demo.stop().await;
}

/// A site's own cookie and an address full of secrets: neither is in any request that Gloaming makes. The
/// script tag is the page's own request, to which browsers add the site's cookies; the shop's proxy, as
/// the README tells sites to, passes none on.
#[tokio::test(flavor = "multi_thread")]
async fn no_request_carries_a_cookie_or_a_referrer() {
    let (stage, _profile, page) = scene(Setting::default()).await.unwrap();
    page.goto(&format!("{}/help?secret=1", stage.demo.shop)).await.unwrap();
    page.eval("document.cookie = 'who=me; path=/'").await.unwrap();
    page.goto(&format!("{}/?secret=2", stage.demo.shop)).await.unwrap();
    page.click("#gl-accept").await.unwrap();
    linger(&page).await.unwrap();
    page.until("gloaming('status').then((s) => s.scores?.length > 0)").await.unwrap();
    page.follow("nav a[href='/c/lamps']").await.unwrap();
    linger(&page).await.unwrap();
    page.leave().await.unwrap();
    settle().await;
    let requests = stage.wire.gloaming();
    let onnx = hash::hex(&stage.demo.policy.models[0].onnx_sha256);
    let paths: Vec<&str> = requests.iter().map(|a| a.path.as_str()).collect();
    for wanted in
        ["/g/worker.js", "/g/collector.wasm", "/g/scorer.wasm", &format!("/g/models/{onnx}"), "/g/v1/contributions"]
    {
        assert!(paths.contains(&wanted), "{wanted} in {paths:?}");
    }
    for request in &requests {
        assert!(!request.headers.contains_key("referer"), "{}: {:?}", request.path, request.headers);
        let own = request.headers.get("cookie").is_none();
        assert!(own || request.path == "/g/gloaming.js", "{}: {:?}", request.path, request.headers);
        assert!(!request.path.contains("secret"));
    }
    // Nor do the edge's and the centre's stores hold the word that only the address bore.
    let mut looked = 0;
    for file in std::fs::read_dir(stage.folder()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(6).any(|w| w == b"secret"));
        looked += 1;
    }
    assert!(looked >= 2, "the edge's log and the centre's database");
    stage.demo.stop().await;
}

/// A withdrawal once sent the visit it withdrew: on devices with a coarse pointer, where hiding is leaving.
#[tokio::test(flavor = "multi_thread")]
async fn a_phone_that_takes_its_yes_back_sends_nothing() {
    let (stage, _profile, page) = scene(Setting::default()).await.unwrap();
    page.phone().await.unwrap();
    page.goto(&stage.demo.shop).await.unwrap();
    page.click("#gl-accept").await.unwrap();
    linger(&page).await.unwrap();
    assert_eq!(page.eval("gloaming('consent', {})").await.unwrap(), "refused");
    page.leave().await.unwrap();
    settle().await;
    assert_eq!(stage.wire.submissions().len(), 0);
    stage.demo.stop().await;
}

/// A second tab's yes once forgot what the device had spent already.
#[tokio::test(flavor = "multi_thread")]
async fn a_yes_in_a_second_tab_keeps_the_account_of_the_first() {
    let stage = Stage::start(Setting::default()).await.unwrap();
    let browser = Browser::launch().await.unwrap();
    let profile = browser.profile().await.unwrap();
    let (one, other) = (profile.tab("").await.unwrap(), profile.tab("").await.unwrap());
    for page in [&one, &other] {
        page.goto(&stage.demo.shop).await.unwrap();
        page.until("gloaming('status').then((s) => !!s.notice)").await.unwrap();
    }
    one.click("#gl-accept").await.unwrap();
    linger(&one).await.unwrap();
    one.leave().await.unwrap();
    settle().await;
    other.click("#gl-accept").await.unwrap();
    linger(&other).await.unwrap();
    other.leave().await.unwrap();
    settle().await;
    let mut metrics: Vec<u32> =
        stage.wire.submissions().iter().flat_map(|s| s.contributions.iter().map(|c| c.metric)).collect();
    let count = metrics.len();
    assert!(count > 0);
    metrics.sort_unstable();
    metrics.dedup();
    assert_eq!(metrics.len(), count, "no metric twice on one day");
    stage.demo.stop().await;
}

/// A shop that asks its visitors for what Article 9 of the GDPR protects.
fn asks(text: String) -> String {
    text.replace("rho_per_device_day = 0.25", "rho_per_device_day = 0.5")
        + r#"
[[purpose]]
id = "fairness-disability"
text.en = "Compare how people with and without a disability fare."

[[attribute]]
id = "disability"
values = ["yes", "no"]
special = true
purpose = "fairness-disability"

[[fairness]]
model = "purchase-intent"
by = ["disability"]
outcome = "outcome:purchase@1"
window = "600s"
rho = 0.02
k = 20
"#
}

/// A yes to everything is none to it; it is told after its own, and gone from the device when that is taken back.
#[tokio::test(flavor = "multi_thread")]
async fn what_article_nine_protects_takes_a_yes_of_its_own_and_goes_with_it() {
    const SCORED: &str = "gloaming('status').then((s) => s.scores?.some(({ model }) => model == 'purchase-intent'))";
    const HELD: &str = "/-disability.yes \\| /s.test(atob(JSON.parse(Object.values(localStorage)[0]).s))";
    const LINE: &str = "gloaming('ledger').then((all) => { const { label, cell } = all.find(({ name }) => name == 'purchase-intent-fair-disability'); return [label.slice(0, 6), cell === null] })";
    let (stage, profile, page) = scene(Setting { edit: asks, ..Setting::default() }).await.unwrap();
    let all = &stage.demo.policy.metrics;
    let fair = all.iter().find(|metric| metric.name == "purchase-intent-fair-disability").unwrap().id;
    let told = || {
        let all = stage.wire.submissions().into_iter().flat_map(|sent| sent.contributions);
        all.filter(|one| one.metric == fair).map(|one| one.cell).collect::<Vec<_>>()
    };

    // The question says what it is, and its one button for everything leaves it out.
    page.goto(&stage.demo.shop).await.unwrap();
    page.click("#gl-choose").await.unwrap();
    let asked = page.eval("document.querySelector('.gl-purposes').textContent").await.unwrap();
    assert!(asked.as_str().unwrap().contains("GDPR, Article 9"), "{asked}");
    page.click("#gl-choose").await.unwrap();
    page.click("#gl-accept").await.unwrap();
    linger(&page).await.unwrap();
    let agreed = page.eval("gloaming('status').then((s) => s.purposes)").await.unwrap();
    assert_eq!(agreed, json!(["measurement", "prediction"]));
    page.eval("gloaming('feature', 'disability', 'yes')").await.unwrap();
    page.until("gloaming('status').then((s) => s.unknownEvents == 1)").await.unwrap();
    page.until(SCORED).await.unwrap();
    page.leave().await.unwrap();
    settle().await;
    assert!(!stage.wire.submissions().is_empty());
    assert_eq!(told(), [] as [u32; 0], "said, and not agreed to");

    // Agreed to by itself, it is told: of the first group, selected or not.
    let page = profile.tab("").await.unwrap();
    page.goto(&stage.demo.shop).await.unwrap();
    linger(&page).await.unwrap();
    page.eval("gloaming('consent', { measurement: true, prediction: true, 'fairness-disability': true })")
        .await
        .unwrap();
    linger(&page).await.unwrap();
    page.eval("gloaming('feature', 'disability', 'yes')").await.unwrap();
    page.until(SCORED).await.unwrap();
    linger(&page).await.unwrap();
    page.leave().await.unwrap();
    settle().await;
    assert!(matches!(told()[..], [0 | 2]), "{:?}", told());

    // Taken back, the device knows that something was told, and not what.
    let page = profile.tab("").await.unwrap();
    page.goto(&stage.demo.shop).await.unwrap();
    linger(&page).await.unwrap();
    assert_eq!(page.eval(LINE).await.unwrap(), json!(["yes | ", false]));
    assert_eq!(page.eval(HELD).await.unwrap(), true);
    page.eval("gloaming('consent', { measurement: true, prediction: true })").await.unwrap();
    linger(&page).await.unwrap();
    assert_eq!(page.eval(LINE).await.unwrap(), json!(["", true]));
    page.goto(&format!("{}/help", stage.demo.shop)).await.unwrap();
    assert_eq!(page.eval(HELD).await.unwrap(), false);
    stage.demo.stop().await;
}
