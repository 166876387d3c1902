//! What a model brings beside what it costs people, as people see it: every figure with its interval, and what is missing with
//! what to do about it. With `GLOAMING_PICTURES` set, pictures go there.
#![allow(clippy::unwrap_used)]

#[path = "../../crates/gloaming-central/tests/acting/mod.rs"]
mod acting;

use acting::centre::{Centre, TODAY, all};
use acting::{ALL, Shop, text};
use gloaming_e2e::browser::Browser;
use gloaming_e2e::look::look;
use serde_json::Value;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_model_brings_stands_beside_what_it_costs() {
    let assets = gloaming::assets::find(None).unwrap();
    let browser = Browser::launch().await.unwrap();
    for (more, kind) in [(ALL, "worth"), ("", "worth-missing")] {
        let centre = Centre::serving(&Shop::new(TODAY, &text(TODAY, more)), Some(1), assets.clone()).await;
        let found: Value = centre.json("worth").await;
        for (phone, at) in [(false, "wide"), (true, "phone")] {
            let page = browser.profile().await.unwrap().tab("").await.unwrap();
            if phone {
                page.phone().await.unwrap();
            }
            page.goto(&centre.base).await.unwrap();
            page.until("document.querySelectorAll('.worth table').length == 2").await.unwrap();
            page.until("document.querySelectorAll('#models table').length > 1").await.unwrap();
            let told = page.eval("document.getElementById('worth').textContent").await.unwrap();
            let told = told.as_str().unwrap();
            assert!(told.contains("What it brings") && told.contains("What it costs people"), "{told}");
            for line in all(&found[0]) {
                let of = line["told"].as_str().unwrap();
                assert!(told.contains(of), "{line} is not in {told}");
                if let Some(add) = line["add"].as_str() {
                    assert!(told.contains(add), "{add} is not in {told}");
                }
            }
            let missing = all(&found[0]).filter(|line| line["add"].is_string()).count();
            let opened = page.eval("document.querySelectorAll('.worth pre').length").await.unwrap();
            assert_eq!((opened.as_u64(), missing > 0), (Some(missing as u64), more.is_empty()));
            page.eval("document.querySelector('.worth details')?.setAttribute('open', ''); true").await.unwrap();
            page.eval("document.getElementById('worth').scrollIntoView(); true").await.unwrap();
            look(&page, &format!("{kind}-{at}"), false).await;
        }
        centre.running.stop().await;
    }
}
