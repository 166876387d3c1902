//! The pages as people see them, wide and on a phone: nothing sticks out, everything that can be pressed has
//! a name and room for a finger, text can be read. With `GLOAMING_PICTURES` set, pictures of all go there.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use gloaming_central::{Arrived, Running, Store, StoreAddress};
use gloaming_e2e::batches::{Dice, Sender, centre, digest};
use gloaming_e2e::browser::Browser;
use gloaming_e2e::look::look;
use gloaming_e2e::persona::linger;
use gloaming_e2e::stage::{Setting, Stage, settle};
use gloaming_policy::Source;
use gloaming_policy::author::{Key, ManifestFacts, compile, date_of, template};
use gloaming_signal::{Release, ReleaseState};

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
    page.until("gloaming('status').then((s) => s.scores?.length > 0)").await.unwrap();
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
    page.goto(&format!("{shop}/order/thanks")).await.unwrap();
    page.until("!!document.querySelector('#satisfaction [value=neutral]')").await.unwrap();
    page.click("#satisfaction [value=neutral]").await.unwrap();
    page.until("!!document.querySelector('#satisfaction [aria-pressed=true]')").await.unwrap();
    look(&page, &name("survey"), false).await;
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
    centre(address, &policy, &key).await
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

/// What a shop asks its visitors to compare how they fare.
const GROUPS: &str = r#"
[[purpose]]
id = "fairness"
text.en = "Compare how groups of visitors fare."

[[attribute]]
id = "age-band"
values = ["under 30", "30 to 59", "60 and over"]
purpose = "fairness"

[[fairness]]
model = "purchase-intent"
by = ["age-band"]
outcome = "outcome:purchase@1"
window = "week"
rho = 0.05
k = 100
"#;

/// Eight weeks of a model's cells. In the last of them visits are longer, and one in ten devices gives the model up.
async fn drifted(folder: &Path) -> Running {
    let key = Key::from_seed(&[1; 32]);
    let today = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 86_400;
    let facts =
        ManifestFacts::stand_in("purchase-intent", &["pages-product@1", "time-product@1", "returning@1", "weekend@1"]);
    let text = template("shop", "shop.example", "https://shop.example", &date_of(today + 60)).unwrap();
    let text = text.replace("rho_per_device_day = 0.25", "rho_per_device_day = 0.3") + GROUPS;
    let policy = compile(&text, today, &|_| Ok(facts.clone())).unwrap();
    let address = StoreAddress::Sqlite(folder.join("central.sqlite"));
    let store = Store::open(&address).await.unwrap();
    let mut dice = Dice(11);
    let mut batch = Sender::new("shop.example", "edge-1", today - 60).batch(0);
    batch.span_ms = 7 * 86_400_000;
    for week in 0..8 {
        (batch.seq, batch.window) = (week, today / 7 - 8 + week);
        let watched = policy.metrics.iter().filter(|metric| metric.span_ms == batch.span_ms);
        let release = |metric: &gloaming_policy::Metric| {
            let (cells, last) = (i64::from(metric.cells()), week == 7);
            let usual = |cell: i64| match metric.axes[0].source {
                // Not selected without and with the outcome, then selected: of the oldest half as many.
                Source::Page(_) if metric.axes.len() == 3 => {
                    [700, 120, 260, 140, 640, 110, 250, 130, 420, 80, 60, 40][cell as usize]
                }
                // Score bins by outcome: the higher the score, the more buy.
                Source::Score(_) if cell % 2 == 1 => 20 + 9 * (cell / 2),
                Source::Score(_) => 200 - 8 * (cell / 2),
                Source::Fared(_) => [30, 3_700, 60, if last { 400 } else { 5 }, 0, 0, 0, 0][cell as usize],
                _ if metric.of.contains("pages-product") && last => 4_000 * (cell + 1) / (cells * (cells + 1) / 2),
                _ => 4_000 * (cells - cell) / (cells * (cells + 1) / 2),
            };
            let values = (0..cells).map(|cell| usual(cell) + (dice.roll() % 31).cast_signed() - 15).collect();
            Release { metric: metric.id, state: ReleaseState::Released, values }
        };
        batch.releases = watched.map(release).collect();
        store.put(&[Arrived { batch: &batch, digest: digest(&batch) }], 0).await.unwrap();
    }
    store.close().await;
    centre(address, &policy, &key).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_drifts_is_seen_at_the_centre() {
    let folder = tempfile::tempdir().unwrap();
    let running = drifted(folder.path()).await;
    let browser = Browser::launch().await.unwrap();
    for (phone, name) in [(false, "drift-wide"), (true, "drift-phone")] {
        let profile = browser.profile().await.unwrap();
        let page = profile.tab("").await.unwrap();
        if phone {
            page.phone().await.unwrap();
        }
        page.goto(&format!("http://{}", running.address())).await.unwrap();
        page.until("document.querySelectorAll('.model table').length == 8").await.unwrap();
        let told = page.eval("document.getElementById('models').textContent").await.unwrap();
        let told = told.as_str().unwrap();
        for words in [
            "Drift: feature:pages-product@1",
            "fell from",
            "; since the window of ",
            "expected by scores alone",
            "does not see when outcomes change",
            "by window; the dashed line is where it began to lie off",
            "as before",
            "AUC",
            "given up on the device",
            "Whose score there was in visits",
            "said nothing",
        ] {
            assert!(told.contains(words), "{words:?} is not in {told}");
        }
        assert_eq!(page.eval("document.querySelectorAll('td.drifted').length").await.unwrap(), 1, "{told}");
        // AUC, the input that drifted, the bins of the score; each with its numbers in a table.
        assert_eq!(
            page.eval("document.querySelectorAll('.model figure svg[role=img][aria-label]').length").await.unwrap(),
            3,
            "{told}"
        );
        assert_eq!(
            page.eval("document.querySelectorAll('.model details td').length > 8 * 3").await.unwrap(),
            true,
            "{told}"
        );
        look(&page, name, true).await;
    }
    running.stop().await;
}

/// Fourteen windows of what the demonstration's models say of visits. In the last window six times as many are unusual.
async fn said_by_models(folder: &Path, policy: &gloaming_policy::Policy) -> Running {
    let key = Key::from_seed(&[1; 32]);
    let (today, span) = (policy.expires_day - 30, policy.metrics.iter().find(|m| m.is_written_out()).unwrap().span_ms);
    let address = StoreAddress::Sqlite(folder.join("central.sqlite"));
    let store = Store::open(&address).await.unwrap();
    let mut dice = Dice(17);
    let mut batch = Sender::new(&policy.site, "edge-1", today).batch(0);
    batch.span_ms = span;
    for window in 0..14 {
        (batch.seq, batch.window) = (window, today * 86_400_000 / span + window);
        let release = |metric: &gloaming_policy::Metric| {
            let usual = |cell: usize| match &*metric.of {
                "score:visit-kind" => [100, 400, 300, 200][cell],
                "score:next-best-action" => [500, 100, 100, 100, 100, 50, 50][cell],
                "score:unusual-visit" if cell == 19 && window == 13 => 302,
                "score:unusual-visit" | "score:pointer-bot" => 51,
                // Whoever was said to come back buys more often: of ten in a bin none, one, … up to nine.
                of if of.starts_with("score:") && of.contains("outcome:") => {
                    let bought = 2 * (cell as i64 / 2);
                    if cell % 2 == 1 { bought } else { 40 - bought }
                }
                _ => 60,
            };
            let values =
                (0..metric.cells() as usize).map(|cell| 20 * usual(cell) + (dice.roll() % 21).cast_signed() - 10);
            Release { metric: metric.id, state: ReleaseState::Released, values: values.collect() }
        };
        batch.releases = policy.metrics.iter().filter(|metric| metric.span_ms == span).map(release).collect();
        store.put(&[Arrived { batch: &batch, digest: digest(&batch) }], 0).await.unwrap();
    }
    store.close().await;
    centre(address, policy, &key).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_models_say_of_visits_is_told_in_words() {
    let stage = Stage::start(Setting::default()).await.unwrap();
    let policy = stage.demo.policy.clone();
    stage.demo.stop().await;
    let folder = tempfile::tempdir().unwrap();
    let running = said_by_models(folder.path(), &policy).await;
    let browser = Browser::launch().await.unwrap();
    for (phone, name) in [(false, "uses-wide"), (true, "uses-phone")] {
        let profile = browser.profile().await.unwrap();
        let page = profile.tab("").await.unwrap();
        if phone {
            page.phone().await.unwrap();
        }
        page.goto(&format!("http://{}", running.address())).await.unwrap();
        page.until("document.querySelectorAll('.use').length == 6").await.unwrap();
        for (model, words) in [
            ("visit-kind", &["glance: a page or two", "browse: products", "40 % (", "10 % ("][..]),
            ("next-best-action", &["goods 1", "50 % (", "the gate holds it back"]),
            ("pointer-bot", &["Visits by programs", "5 % (", "a program moved the pointer"]),
            ("unusual-visit", &["More unusual visits than before: 6,0", "usually 1,0", "newest, "]),
            ("buys-again", &["bought in this visit", "Said beforehand: that they buy again within 39 weeks"]),
            ("customer-value", &["bought in this visit", "as the best fifth does"]),
        ] {
            let card = format!("document.querySelector('.use[data-model=\"{model}\"]').textContent");
            let told = page.eval(&card).await.unwrap();
            let told = told.as_str().unwrap();
            for words in words {
                assert!(told.contains(words), "{model}: {words:?} is not in {told}");
            }
        }
        let bought = "[...document.querySelectorAll('.use[data-model=buys-again] tbody tr')].map((row) => parseFloat(row.children[1].textContent))";
        let bought: Vec<f64> = serde_json::from_value(page.eval(bought).await.unwrap()).unwrap();
        assert!(bought.len() == 5 && bought.windows(2).all(|two| two[1] > two[0] + 5.0), "{bought:?}");
        look(&page, name, true).await;
    }
    running.stop().await;
}

/// Two weeks of an experiment of three arms: one is better, one breaks a guardrail.
async fn tried(folder: &Path) -> Running {
    let key = Key::from_seed(&[1; 32]);
    let today = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 86_400;
    let text = template("blog", "blog.example", "https://blog.example", &date_of(today + 60)).unwrap()
        + r#"
[[experiment]]
id = "next-post"
arms = ["as-is", "one below", "three beside"]
purpose = "measurement"
goal = { of = "feature:pages@1", at_least = 2 }
guardrails = [{ of = "feature:lcp-band@1", is = ["poor"], permitted = 0.01 }]
minimum_effect = 0.02
window = "day"
rho = 0.02
k = 50

[[experiment]]
id = "larger-type"
arms = ["as-is", "larger"]
shares = [0.8, 0.2]
purpose = "measurement"
goal = { of = "feature:engaged-time@1", edges = [60, 180], worth = [20, 110, 300] }
before = { of = "feature:visits-before@1", edges = [1] }
minimum_effect = 5
window = "day"
rho = 0.02
k = 50
"#;
    let policy = compile(&text, today, &|_| Err("no models here".to_owned())).unwrap();
    let address = StoreAddress::Sqlite(folder.join("central.sqlite"));
    let store = Store::open(&address).await.unwrap();
    let mut dice = Dice(13);
    let mut batch = Sender::new("blog.example", "edge-1", today - 15).batch(0);
    batch.span_ms = 86_400_000;
    for day in 0..14 {
        (batch.seq, batch.window) = (day, today - 15 + day);
        let release = |metric: &gloaming_policy::Metric| {
            let usual = |cell: usize| match (metric.axes[0].source, &*metric.name) {
                (Source::Arm(_), "next-post-by-pages") => [1_400, 600, 1_310, 690, 1_370, 630][cell],
                (Source::Arm(_), "larger-type-by-engaged-time") => {
                    [1_200, 500, 100, 600, 500, 300, 280, 130, 35, 135, 130, 90][cell]
                }
                (Source::Arm(_), _) => [1_940, 60, 1_938, 62, 1_860, 140][cell],
                _ => 300 / (1 + i64::try_from(cell).unwrap()),
            };
            let values =
                (0..metric.cells() as usize).map(|cell| usual(cell) + (dice.roll() % 21).cast_signed() - 10).collect();
            Release { metric: metric.id, state: ReleaseState::Released, values }
        };
        batch.releases = policy.metrics.iter().map(release).collect();
        store.put(&[Arrived { batch: &batch, digest: digest(&batch) }], 0).await.unwrap();
    }
    store.close().await;
    centre(address, &policy, &key).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_experiment_found_is_seen_at_the_centre() {
    let folder = tempfile::tempdir().unwrap();
    let running = tried(folder.path()).await;
    let browser = Browser::launch().await.unwrap();
    for (phone, name) in [(false, "experiment-wide"), (true, "experiment-phone")] {
        let profile = browser.profile().await.unwrap();
        let page = profile.tab("").await.unwrap();
        if phone {
            page.phone().await.unwrap();
        }
        page.goto(&format!("http://{}", running.address())).await.unwrap();
        page.until("document.querySelectorAll('.experiment table').length == 3").await.unwrap();
        let told = page.eval("document.getElementById('experiments').textContent").await.unwrap();
        let told = told.as_str().unwrap();
        for words in [
            "Experiment: next post",
            "Stop three beside: visits with lcp band: poor are more frequent by 3.",
            "one below",
            "broken",
            "held",
            "Goal: more engaged time, a visit. Differences are adjusted by visits before.",
            "larger is better than as-is: +8.9 seconds",
        ] {
            assert!(told.contains(words), "{words:?} is not in {told}");
        }
        let verdict = page.eval("document.querySelector('[data-verdict]').dataset.verdict").await.unwrap();
        assert_eq!(verdict, "stop");
        let label = page.eval("document.querySelector('.experiment svg').getAttribute('aria-label')").await.unwrap();
        assert!(label.as_str().unwrap().contains("one below: +4"), "{label}");
        look(&page, name, true).await;
    }
    running.stop().await;
}
