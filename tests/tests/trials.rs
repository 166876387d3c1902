//! An experiment as a visitor and an edge see it: the arm is the device's own, and only who was exposed is counted.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use bytes::Bytes;
use gloaming_collector::device::{Device, Setup};
use gloaming_e2e::browser::Browser;
use gloaming_e2e::look::look;
use gloaming_e2e::page::Page;
use gloaming_e2e::persona::linger;
use gloaming_e2e::stage::{Setting, Stage, scene, settle};
use gloaming_e2e::story::ask;
use gloaming_http::Client;
use gloaming_signal::{EventKind, hash};
use serde_json::Value;

async fn arm(page: &Page) -> String {
    let of = "gloaming('status').then((s) => (s.arms || {})['delivery-note'] || '')";
    page.eval(of).await.unwrap().as_str().unwrap().to_owned()
}

/// Cells that were posted for the experiment's goal.
fn goals(stage: &Stage) -> Vec<u32> {
    let goal = stage.demo.policy.experiments[0].goal;
    let all = stage.wire.submissions().into_iter().flat_map(|s| s.contributions);
    all.filter(|c| c.metric == goal).map(|c| c.cell).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_meets_the_experiment_is_counted_in_an_arm_of_their_own() {
    let (stage, profile, page) = scene(Setting::default()).await.unwrap();
    assert_eq!(stage.demo.policy.experiments[0].id, "delivery-note");
    page.goto(&stage.demo.shop).await.unwrap();
    page.until("gloaming('status').then((s) => !!s.notice)").await.unwrap();
    assert_eq!(arm(&page).await, "", "nobody is in an arm before a yes");
    page.click("#gl-accept").await.unwrap();
    linger(&page).await.unwrap();
    let mine = arm(&page).await;
    let place = ["as-is", "note"].iter().position(|name| *name == mine).unwrap();
    page.leave().await.unwrap();
    settle().await;
    assert_eq!(goals(&stage), [] as [u32; 0], "the home page is not where they differ");

    let page = profile.tab("").await.unwrap();
    page.goto(&format!("{}/p/harbour-lantern", stage.demo.shop)).await.unwrap();
    linger(&page).await.unwrap();
    assert_eq!(arm(&page).await, mine, "another page, the same arm");
    assert_eq!(page.eval("!!document.getElementById('delivery-note')").await.unwrap(), place == 1);
    page.click("#add-to-cart").await.unwrap();
    linger(&page).await.unwrap();
    page.leave().await.unwrap();
    settle().await;
    let cell = u32::try_from(place).unwrap() * 2 + 1;
    assert_eq!(goals(&stage), [cell], "{mine}, and something in the cart");
    let unknown = "gloaming('status').then((s) => s.unknownEvents)";
    let page = profile.tab("").await.unwrap();
    page.goto(&stage.demo.shop).await.unwrap();
    linger(&page).await.unwrap();
    page.eval("gloaming('track', 'exposure:of-nothing')").await.unwrap();
    page.until(&format!("{unknown}.then((n) => n == 1)")).await.unwrap();
    // Forgotten with everything else; whoever agrees again is drawn again.
    page.eval("gloaming('erase')").await.unwrap();
    assert_eq!(arm(&page).await, "");
    stage.demo.stop().await;
}

/// The demonstration's experiment, which ends by itself when a script fails more often in one arm.
fn may_end(text: String) -> String {
    let people = "guardrails = [{ of = \"outcome:bounce@1\", permitted = 0.05 }]";
    assert!(text.contains(people));
    text.replace(people, "guardrails = [\"feature:errors@1\"]\nstop = \"by-itself\"")
}

/// A visit on a device of its own, as browsers run it: the note's script fails wherever it is shown.
fn visit(stage: &Stage, bytes: &[u8], seed: u32) -> (Option<Vec<u8>>, bool) {
    let purposes = stage.demo.policy.purposes.iter().map(|purpose| purpose.id.clone()).collect();
    let at = stage.now_ms();
    let setup =
        Setup { purposes, host: "shop".into(), device_class: 2, width: 1_280, now_ms: at as f64, ..Setup::default() };
    let mut device = Device::new(bytes, setup, &[], &hash::sha256(&seed.to_be_bytes())).unwrap();
    device.page(at, 0, "/p/harbour-lantern", "", "");
    device.push(at + 500, EventKind::EngagedTime.number().into(), 5_000, 0, 0);
    device.custom(at + 600, "exposure:delivery-note");
    let status: Value = serde_json::from_str(&device.status()).unwrap();
    let note = status["arms"]["delivery-note"] == "note";
    if note {
        device.push(at + 700, EventKind::Error.number().into(), 0, 0, 0);
    }
    (device.prepare(at).submission, note)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_arm_that_breaks_a_guardrail_is_taken_away_and_nobody_signs_anything() {
    let stage = Stage::start(Setting { edit: may_end, ..Setting::default() }).await.unwrap();
    let browser = Browser::launch().await.unwrap();
    let product = format!("{}/p/harbour-lantern", stage.demo.shop);
    // Somebody whose device draws the note: every other one does.
    let (profile, page) = loop {
        let profile = browser.profile().await.unwrap();
        let page = profile.tab("").await.unwrap();
        page.goto(&product).await.unwrap();
        page.click("#gl-accept").await.unwrap();
        linger(&page).await.unwrap();
        if arm(&page).await == "note" {
            break (profile, page);
        }
    };
    page.goto(&product).await.unwrap();
    page.until("!!document.getElementById('delivery-note')").await.unwrap();
    linger(&page).await.unwrap();
    page.leave().await.unwrap();
    settle().await;
    assert!(!goals(&stage).is_empty(), "the note was seen, and that is counted");

    let (client, bytes) = (Client::new(Duration::from_secs(20)), stage.demo.policy.to_bytes());
    let mut failed = 0;
    for seed in 0..300 {
        let (body, note) = visit(&stage, &bytes, seed);
        failed += u32::from(note);
        let address = format!("{}/g/v1/contributions", stage.demo.shop);
        let (status, ..) = client.post(&address, Bytes::from(body.unwrap())).await.unwrap();
        assert!(status.is_success(), "{status}");
    }
    println!("300 visits; the note was shown to {failed} of them, and failed");
    let met = goals(&stage).len();
    stage.close_window();
    stage.released().await.unwrap();
    // The centre looks, the edge asks, and the next page hears it.
    let mut words = String::new();
    for _ in 0..300 {
        let found = ask(&stage, "experiments").await.unwrap();
        if found[0]["stopped"]["arm"] == "note" {
            words = found[0]["words"].as_str().unwrap().to_owned();
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("{words}");
    assert!(
        words.starts_with("Stopped by itself on ") && words.contains("in note, visits with feature:errors@1 were"),
        "{words}"
    );
    tokio::time::sleep(Duration::from_secs(3)).await;

    let page = profile.tab("").await.unwrap();
    page.goto(&product).await.unwrap();
    linger(&page).await.unwrap();
    assert_eq!(arm(&page).await, "as-is", "the same device, and the control's page");
    assert_eq!(page.eval("!!document.getElementById('delivery-note')").await.unwrap(), false);
    let version = page.eval("gloaming('status').then((s) => s.policyVersion)").await.unwrap();
    assert_eq!(version, stage.demo.policy.version, "the policy is the one that was signed");
    let ledger = "gloaming('ledger').then((all) => all.filter((line) => line.name == 'delivery-note-by-cart-adds').map((line) => line.label))";
    assert_eq!(
        page.eval(ledger).await.unwrap(),
        serde_json::json!(["note | no"]),
        "what was told when it was in the arm"
    );
    page.leave().await.unwrap();
    // Others who come now: whichever arm they drew, nobody meets it, and nobody is counted in it.
    let (sent, mut people) = (stage.wire.submissions().len(), Vec::new());
    for _ in 0..3 {
        people.push(browser.profile().await.unwrap());
        let page = people.last().unwrap().tab("").await.unwrap();
        page.goto(&product).await.unwrap();
        page.click("#gl-accept").await.unwrap();
        linger(&page).await.unwrap();
        assert_eq!(arm(&page).await, "as-is");
        page.click("#add-to-cart").await.unwrap();
        linger(&page).await.unwrap();
        page.leave().await.unwrap();
    }
    settle().await;
    assert!(stage.wire.submissions().len() >= sent + 3, "what else they agreed to is told as before");
    assert_eq!(goals(&stage).len(), met, "nobody is counted in it any more");

    let alerts = ask(&stage, "alerts").await.unwrap();
    let kinds: Vec<&str> = alerts.as_array().unwrap().iter().map(|alert| alert["kind"].as_str().unwrap()).collect();
    assert!(kinds.contains(&"experiment-stopped") && !kinds.contains(&"experiment-stop"), "{alerts:#}");
    let page = profile.tab("").await.unwrap();
    page.goto(&stage.demo.central).await.unwrap();
    page.until(
        "document.querySelector('.experiment [data-verdict=stop]')?.textContent.startsWith('Stopped by itself on ')",
    )
    .await
    .unwrap();
    look(&page, "stopped", true).await;
    stage.demo.stop().await;
}
