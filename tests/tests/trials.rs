//! An experiment as a visitor and an edge see it: the arm is the device's own, and only who was exposed is counted.
#![allow(clippy::unwrap_used)]

use gloaming_e2e::page::Page;
use gloaming_e2e::persona::linger;
use gloaming_e2e::stage::{Setting, Stage, scene, settle};

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
