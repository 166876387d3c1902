//! The pages as people see them, wide and on a phone: nothing sticks out, everything that can be pressed has
//! a name and room for a finger, text can be read. With `GLOAMING_PICTURES` set, pictures of all go there.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use gloaming_central::{Arrived, Running, Store, StoreAddress};
use gloaming_e2e::batches::{Dice, Sender, digest};
use gloaming_e2e::browser::Browser;
use gloaming_e2e::page::Page;
use gloaming_e2e::persona::linger;
use gloaming_e2e::stage::{Setting, Stage, settle};
use gloaming_policy::author::{Key, Signed, compile, date_of, template};
use gloaming_signal::{Release, ReleaseState};
use serde_json::Value;
use tokio::net::TcpListener;

/// What is wrong with a page: WCAG 2.2's 1.4.10 (no sideways scrolling), 4.1.2 (names), 2.5.8 (24 px
/// targets, inline links excepted), 1.4.3 (contrast 4.5, large text 3), 1.1.1 (alternatives), 3.1.1.
const FAULTS: &str = r"(() => {
  const faults = [], all = (selector, root = document) => [...root.querySelectorAll(selector)]
  const roots = [document, ...all('*').map((e) => e.shadowRoot).filter(Boolean)]
  const seen = (e) => e.checkVisibility({ visibilityProperty: true, opacityProperty: true }) && e.getClientRects().length > 0
  const words = (e) => `${e.localName}.${e.className?.baseVal ?? e.className} ${e.textContent.trim().slice(0, 30)}`
  if (document.documentElement.scrollWidth > innerWidth) faults.push(`scrolls sideways: ${document.documentElement.scrollWidth} > ${innerWidth}`)
  if (!document.documentElement.lang) faults.push('no language')
  if (!document.title) faults.push('no title')
  const channel = (v) => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4
  const light = ([r, g, b]) => .2126 * channel(r) + .7152 * channel(g) + .0722 * channel(b)
  const colour = (text) => (text.match(/[\d.]+/g) || []).map(Number)
  const ground = (e) => {
    for (let at = e; at; at = at.parentElement || at.getRootNode().host) {
      const c = colour(getComputedStyle(at).backgroundColor)
      if (c.length === 3 || c[3] === 1) return c
    }
    return [255, 255, 255]
  }
  for (const e of all('*')) if (seen(e) && e.scrollWidth > e.clientWidth + 1 && /auto|scroll/.test(getComputedStyle(e).overflowX)) faults.push(`scrolls sideways inside: ${e.localName}.${e.className} ${e.scrollWidth} > ${e.clientWidth}`)
  for (const root of roots) {
    for (const e of all('a[href],button,input:not([type=hidden]),select,summary', root)) {
      if (!seen(e) || e.matches('.skip')) continue
      const name = e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.[0]?.textContent.trim() || e.title || e.querySelector('[aria-label]')
      if (!name) faults.push(`no name: ${e.outerHTML.slice(0, 80)}`)
      const r = e.getBoundingClientRect(), inline = e.localName === 'a' && getComputedStyle(e).display === 'inline'
      if (!inline && !e.matches('input[type=checkbox]') && (r.width < 24 || r.height < 20)) faults.push(`small target ${Math.round(r.width)}x${Math.round(r.height)}: ${words(e)}`)
    }
    for (const e of all('img', root)) if (!e.hasAttribute('alt')) faults.push(`no alternative: ${e.src}`)
    for (const e of all('svg', root)) if (seen(e) && !e.closest('[aria-label],[aria-hidden]')) faults.push(`unnamed picture: ${e.outerHTML.slice(0, 60)}`)
    for (const e of all('*', root)) {
      if (!seen(e) || e.closest('svg') || ![...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim())) continue
      if (e.matches('.hidden,.hidden *,.skip')) continue
      const style = getComputedStyle(e), one = light(colour(style.color)), other = light(ground(e)), size = parseFloat(style.fontSize)
      const ratio = (Math.max(one, other) + .05) / (Math.min(one, other) + .05)
      const least = size >= 24 || size >= 18.66 && style.fontWeight >= 700 ? 3 : 4.5
      if (ratio < least) faults.push(`contrast ${ratio.toFixed(2)}: ${words(e)}`)
    }
  }
  return faults
})()";

async fn look(page: &Page, name: &str, whole: bool) {
    if let Some(folder) = std::env::var_os("GLOAMING_PICTURES") {
        page.picture(&PathBuf::from(folder).join(format!("{name}.png")), whole).await.unwrap();
    }
    let faults = page.eval(FAULTS).await.unwrap();
    assert_eq!(faults, Value::Array(Vec::new()), "{name}");
    assert_eq!(page.seen().complaints, Vec::<String>::new(), "{name}");
}

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
