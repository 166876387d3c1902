//! A device whose clock is set in the middle of a visit, or that sleeps: the visit stays one, and is told in the window that the
//! edge says it is.
//!
//! The worker, its wasm and Chromium are the real ones; what a machine does to a worker's clocks is done to them here.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use axum::Router;
use axum::extract::Path;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gloaming::assets;
use gloaming_e2e::page::Page;
use gloaming_e2e::stage::{Setting, scene};
use gloaming_edge::{Clock, system_clock};
use gloaming_http::Assets;
use gloaming_policy::Policy;
use gloaming_policy::author::{compile, template};
use gloaming_signal::{Submission, cbor, hash};
use http::HeaderMap;
use serde_json::{Value, json};

const SITE: &str = "clocks.example";
const HOUR: i64 = 3_600_000;
const YEAR: i64 = 365 * 24 * HOUR;

/// In front of the worker: its clocks as they are, and what is done to them.
const CLOCKS: &str = "
let wall = 0, steady = 0
const real = Date.now.bind(Date), passed = performance.now.bind(performance)
Date.now = () => real() + wall
performance.now = () => passed() + steady
new BroadcastChannel('clocks').onmessage = ({ data }) => { [wall, steady] = data }
";

fn policy() -> Policy {
    let text = template("blog", SITE, "https://clocks.example", "2027-03-01").unwrap();
    let mut policy = compile(&text, 20_781, &|_| Err("none".into())).unwrap();
    policy.metrics.iter_mut().for_each(|metric| metric.span_ms = HOUR as u64);
    policy
}

/// What the edge does when it is asked for the time.
#[derive(Default)]
struct Edge {
    ahead_ms: AtomicI64,
    asked: AtomicU64,
    /// How often it tells no time from now on.
    fails: AtomicU64,
}

impl Edge {
    fn now_ms(&self, clock: &Clock) -> u64 {
        clock.now_ms().saturating_add_signed(self.ahead_ms.load(Ordering::Relaxed))
    }
}

fn routes(edge: Arc<Edge>, clock: Clock) -> Router {
    let assets = assets::find(None).unwrap();
    let mut files: BTreeMap<String, Vec<u8>> = ["worker.js", "collector.js", "collector.wasm"]
        .map(|name| (name.to_owned(), assets.bytes(&format!("g/{name}")).unwrap().to_vec()))
        .into();
    files.get_mut("worker.js").unwrap().splice(0..0, CLOCKS.bytes());
    files.insert(format!("v1/policy/{SITE}"), policy().to_bytes());
    let files = Assets::from_files(files.into_iter().map(|(name, bytes)| (name, bytes.into())));
    let serve = move |Path(path): Path<String>, headers: HeaderMap| {
        let mut answer = files.respond(&path, &headers);
        if path.starts_with("v1/policy") {
            edge.asked.fetch_add(1, Ordering::Relaxed);
            if edge.fails.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err() {
                answer.headers_mut().insert("x-gloaming-time", edge.now_ms(&clock).into());
            }
        }
        async move { answer }
    };
    Router::new().route("/clocks/{*path}", axum::routing::get(serve))
}

/// A page whose worker runs.
struct Visit {
    page: Page,
    sent: u32,
}

impl Visit {
    async fn begin(page: Page, shop: &str) -> Self {
        page.goto(shop).await.unwrap();
        let first = json!({
            "notice": { "site": SITE, "policy": hash::hex(&policy().hash()) }, "record": { "p": ["measurement"] },
            "href": "https://clocks.example/", "size": [1280, 1280, 720], "coarse": false, "n": 1, "entries": [],
        });
        page.eval(&format!(
            "globalThis.ready = []; globalThis.told = []; globalThis.traps = [];
             globalThis.clocks = new BroadcastChannel('clocks');
             globalThis.wall = 0;
             globalThis.tested = new Worker('/clocks/worker.js', {{ type: 'module' }});
             tested.onmessage = ({{ data }}) => ({{ ready, answer: told, trap: traps }})[data.t]?.push(data);
             tested.postMessage({first}); 0"
        ))
        .await
        .unwrap();
        page.until("!!ready.at(-1)?.body").await.unwrap();
        Self { page, sent: 1 }
    }

    /// Sets the worker's clocks, and the one that the page reads, and sees another page half a second later.
    async fn set(&mut self, wall: i64, steady: i64) {
        self.page
            .eval(&format!(
                "clocks.postMessage([{wall}, {steady}]); wall = {wall}; new Promise((go) => setTimeout(go, 500))"
            ))
            .await
            .unwrap();
    }

    async fn see(&mut self) {
        self.sent += 1;
        let (page, sent) = (&self.page, self.sent);
        page.eval(&format!(
            "ready.length = 0; tested.postMessage({{ n: {sent}, entries: [[Date.now() + wall, 'page', 1, 'https://clocks.example/{sent}', '']] }}); 0"
        ))
        .await
        .unwrap();
        page.until(&format!("ready.at(-1)?.n == {sent}")).await.unwrap();
    }

    /// Pages of the visit, by the worker's own count.
    async fn pages(&mut self) -> Value {
        self.sent += 1;
        let question =
            format!("told.length = 0; tested.postMessage({{ n: {}, entries: [], ask: 'status' }}); 0", self.sent);
        self.page.eval(&question).await.unwrap();
        self.page.until("told.length > 0").await.unwrap();
        assert_eq!(self.page.eval("traps").await.unwrap(), json!([]));
        self.page.eval("told[0].value.features.find((f) => f.id == 'pages@1').value").await.unwrap()
    }

    /// What would be sent now; waits for it.
    async fn submission(&self) -> Submission {
        self.page.until("!!ready.at(-1)?.body").await.unwrap();
        let body = self.page.eval("ready.at(-1).body").await.unwrap();
        cbor::from_slice(&STANDARD.decode(body.as_str().unwrap()).unwrap()).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_within_a_visit_changes_neither_its_window_nor_the_visit() {
    let (edge, clock) = (Arc::new(Edge::default()), system_clock());
    let more = routes(Arc::clone(&edge), Arc::clone(&clock));
    let (stage, profile, _page) = scene(Setting { more, ..Setting::default() }).await.unwrap();
    for step in [HOUR, -HOUR, YEAR, -YEAR] {
        let mut visit = Visit::begin(profile.tab("").await.unwrap(), &stage.demo.shop).await;
        let before = visit.submission().await;
        visit.see().await;
        let asked = edge.asked.load(Ordering::Relaxed);
        visit.set(step, 0).await;
        let from = edge.now_ms(&clock) / HOUR as u64;
        visit.see().await;
        assert_eq!(edge.asked.load(Ordering::Relaxed), asked + 1, "the edge is asked once");
        let sent = visit.submission().await;
        let now = from..=edge.now_ms(&clock) / HOUR as u64;
        assert!(!sent.contributions.is_empty() && !before.contributions.is_empty());
        assert!(sent.contributions.iter().all(|c| now.contains(&c.window)), "{step}: {now:?} {:?}", sent.contributions);
        assert_eq!(visit.pages().await, 3, "{step}: one visit of three pages");
        // And back again, within the five seconds in which the edge is not asked twice, and after them.
        visit.set(0, 0).await;
        visit.see().await;
        assert_eq!(visit.page.eval("!!ready.at(-1).body").await.unwrap(), false, "nobody knows the window");
        visit.page.eval("new Promise((go) => setTimeout(go, 5000))").await.unwrap();
        visit.see().await;
        let sent = visit.submission().await;
        let now = from..=edge.now_ms(&clock) / HOUR as u64;
        assert!(sent.contributions.iter().all(|c| now.contains(&c.window)), "{step}: {now:?} {:?}", sent.contributions);
        visit.page.leave().await.unwrap();
    }
    stage.demo.stop().await;
}

/// A machine sleeps for eight hours: one of the worker's clocks stands meanwhile, and the visit has ended.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_sleep_the_window_is_that_of_the_waking() {
    let (edge, clock) = (Arc::new(Edge::default()), system_clock());
    let more = routes(Arc::clone(&edge), Arc::clone(&clock));
    let (stage, profile, _page) = scene(Setting { more, ..Setting::default() }).await.unwrap();
    let mut visit = Visit::begin(profile.tab("").await.unwrap(), &stage.demo.shop).await;
    visit.see().await;
    edge.ahead_ms.store(8 * HOUR, Ordering::Relaxed);
    // It tells no time at first, and has an ETag: what the browser stored must not stand in for it.
    edge.fails.store(1, Ordering::Relaxed);
    visit.set(8 * HOUR, 0).await;
    visit.see().await;
    assert_eq!(visit.page.eval("!!ready.at(-1).body").await.unwrap(), false, "nobody knows the window");
    visit.page.eval("new Promise((go) => setTimeout(go, 5000))").await.unwrap();
    visit.see().await;
    let from = edge.now_ms(&clock) / HOUR as u64;
    let sent = visit.submission().await;
    assert!(
        sent.contributions.iter().all(|c| (from - 1..=from).contains(&c.window)),
        "{from} {:?}",
        sent.contributions
    );
    assert_eq!(visit.pages().await, 2, "the visit of before the sleep has ended");
    // Where both clocks go on there is nothing to ask.
    let asked = edge.asked.load(Ordering::Relaxed);
    edge.ahead_ms.store(16 * HOUR, Ordering::Relaxed);
    visit.set(16 * HOUR, 8 * HOUR).await;
    visit.see().await;
    let from = edge.now_ms(&clock) / HOUR as u64;
    let sent = visit.submission().await;
    assert!(
        sent.contributions.iter().all(|c| (from - 1..=from).contains(&c.window)),
        "{from} {:?}",
        sent.contributions
    );
    assert_eq!(edge.asked.load(Ordering::Relaxed), asked);
    stage.demo.stop().await;
}
