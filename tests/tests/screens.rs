//! The pages as people see them, wide and on a phone: nothing sticks out, everything that can be pressed has
//! a name and room for a finger, text can be read. With `GLOAMING_PICTURES` set, pictures of all go there.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use gloaming_central::{Arrived, Running, Store, StoreAddress};
use gloaming_e2e::batches::{Dice, Sender, digest};
use gloaming_e2e::browser::Browser;
use gloaming_e2e::look::look;
use gloaming_e2e::persona::linger;
use gloaming_e2e::stage::{Setting, Stage, settle};
use gloaming_policy::author::{Key, Signed, compile, date_of, template};
use gloaming_signal::{Release, ReleaseState};
use tokio::net::TcpListener;

async fn visit(stage: &Stage, browser: &Browser, phone: bool) {
    let at = if phone { "phone" } else { "wide" };
    let name = |what: &str| format!("{what}-{at}");
    let profile = browser.profile().await.unwrap();
    let page = profile.tab("").await.unwrap();
    if phone {
        page.phone().await.unwrap();
    }
    let shop = &stage.demo.shop;
    page.goto(&format!("{shop}/?gloaming-check")).await.unwrap();
    page.until("!!document.querySelector('gloaming-check')?.shadowRoot.querySelector('[data-state=now]')")
        .await
        .unwrap();
    look(&page, &name("check"), false).await;
    page.goto(shop).await.unwrap();
    page.click("#gl-choose").await.unwrap();
    look(&page, &name("consent"), false).await;
    page.click("#gl-choose").await.unwrap();
    page.click("#gl-accept").await.unwrap();
    linger(&page).await.unwrap();
    page.until("gloaming('status').then((s) => s.scores?.length == 1)").await.unwrap();
    look(&page, &name("home"), true).await;
    for (path, what) in [
        ("/p/moth-pendant", "product"),
        ("/c/textiles", "listing"),
        ("/help", "help"),
        ("/search?q=wool", "search"),
        ("/nowhere", "missing"),
        ("/gate", "gate"),
    ] {
        page.goto(&format!("{shop}{path}")).await.unwrap();
        look(&page, &name(what), false).await;
    }
    page.goto(&format!("{shop}/p/moth-pendant")).await.unwrap();
    page.click("#add-to-cart").await.unwrap();
    for (path, what) in [("/cart", "cart"), ("/checkout", "checkout")] {
        page.goto(&format!("{shop}{path}")).await.unwrap();
        look(&page, &name(what), false).await;
    }
    linger(&page).await.unwrap();
    page.click("#gl-inspector-open").await.unwrap();
    page.until("document.querySelectorAll('.gl-inspector tbody tr').length > 5").await.unwrap();
    look(&page, &name("inspector"), false).await;
    page.goto(&format!("{shop}/?gloaming-check")).await.unwrap();
    page.ask_the_edge().await.unwrap();
    page.until(
        "!!document.querySelector('gloaming-check')?.shadowRoot.querySelector('[data-step=accepted][data-state=done]')",
    )
    .await
    .unwrap();
    look(&page, &name("checked"), false).await;
    page.leave().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_fit_to_be_seen_wide_and_on_a_phone() {
    let stage = Stage::start(Setting::default()).await.unwrap();
    let browser = Browser::launch().await.unwrap();
    for phone in [false, true] {
        visit(&stage, &browser, phone).await;
    }
    settle().await;
    stage.close_window();
    stage.released().await.unwrap();
    for (phone, name) in [(false, "centre-wide"), (true, "centre-phone")] {
        let profile = browser.profile().await.unwrap();
        let page = profile.tab("").await.unwrap();
        if phone {
            page.phone().await.unwrap();
        }
        page.goto(&stage.demo.central).await.unwrap();
        page.until("document.querySelectorAll('.metric').length > 5").await.unwrap();
        look(&page, name, true).await;
    }
    stage.demo.stop().await;
}

/// A site's releases with a cell that grew alone, a batch that conflicts, and one that is nonsense.
async fn troubled(folder: &Path) -> Running {
    let key = Key::from_seed(&[1; 32]);
    let today = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 86_400;
    let text = template("blog", "blog.example", "https://blog.example", &date_of(today + 60)).unwrap();
    let policy = compile(&text, today, &|_| Err("no models here".to_owned())).unwrap();
    let address = StoreAddress::Sqlite(folder.join("central.sqlite"));
    let store = Store::open(&address).await.unwrap();
    let mut dice = Dice(7);
    let mut batch = Sender::new("blog.example", "edge-1", today - 15).batch(0);
    batch.span_ms = 86_400_000;
    for day in 0..14 {
        (batch.seq, batch.window) = (day, today - 15 + day);
        batch.releases = policy
            .metrics
            .iter()
            .map(|metric| {
                let usual = |cell| 300 / (1 + i64::from(cell)) + (dice.roll() % 15).cast_signed();
                let mut values: Vec<i64> = (0..metric.cells()).map(usual).collect();
                if day == 13 && metric.name == "source" {
                    values[2] += 700;
                }
                Release { metric: metric.id, state: ReleaseState::Released, values }
            })
            .collect();
        store.put(&[Arrived { batch: &batch, digest: digest(&batch) }], 0).await.unwrap();
    }
    store.put(&[Arrived { batch: &batch, digest: [0; 32] }], 1).await.unwrap();
    store.close().await;
    let config = gloaming_central::Config {
        store: address,
        retain_days: None,
        pins: BTreeMap::from([("blog.example".to_owned(), key.public())]),
        policies: vec![Signed::sign(&policy, &[&key]).to_bytes()],
        edges: BTreeMap::new(),
        password: None,
        assets: gloaming::assets::find(None).unwrap(),
        more: axum::Router::new(),
        clock: gloaming_edge::system_clock(),
    };
    gloaming_central::start(config, TcpListener::bind("127.0.0.1:0").await.unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_seen_at_the_centre() {
    let folder = tempfile::tempdir().unwrap();
    let running = troubled(folder.path()).await;
    let browser = Browser::launch().await.unwrap();
    for (phone, name) in [(false, "alarms-wide"), (true, "alarms-phone")] {
        let profile = browser.profile().await.unwrap();
        let page = profile.tab("").await.unwrap();
        if phone {
            page.phone().await.unwrap();
        }
        page.goto(&format!("http://{}", running.address())).await.unwrap();
        page.until("document.querySelectorAll('.metric').length > 4").await.unwrap();
        let facts = page.eval("document.getElementById('facts').textContent").await.unwrap();
        let facts = facts.as_str().unwrap();
        for words in ["Alarm", "another batch bears this number", "Sudden growth", "source: social at edge-1"] {
            assert!(facts.contains(words), "{words:?} is not in {facts}");
        }
        look(&page, name, true).await;
    }
    running.stop().await;
}
