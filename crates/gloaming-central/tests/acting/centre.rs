//! A centre over a shop whose model acts, asked over a real socket.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use gloaming_central::{Config, Running, StoreAddress, start};
use gloaming_http::{Assets, Client};
use serde_json::Value;
use tokio::net::TcpListener;

use super::{DAY, SITE, Shop};

pub(crate) const TODAY: u64 = 20_781;

pub(crate) struct Centre {
    pub(crate) running: Running,
    pub(crate) client: Client,
    pub(crate) base: String,
    _folder: tempfile::TempDir,
}

impl Centre {
    /// With counts that are drawn from a seed; with none where there is no seed.
    pub(crate) async fn of(shop: &Shop, seed: Option<u64>) -> Self {
        Self::serving(shop, seed, Assets::from_files([])).await
    }

    /// The same with pages.
    pub(crate) async fn serving(shop: &Shop, seed: Option<u64>, assets: Assets) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = match seed {
            Some(seed) => shop.fill(folder.path(), seed).await,
            None => StoreAddress::Sqlite(folder.path().join("central.sqlite")),
        };
        let config = Config {
            store,
            retain_days: None,
            pins: BTreeMap::from([(SITE.to_owned(), shop.owner.public())]),
            policies: vec![shop.signed.clone()],
            edges: BTreeMap::new(),
            password: None,
            assets,
            telling: gloaming_central::Telling::default(),
            look: gloaming_central::LOOK,
            more: axum::Router::new(),
            clock: Arc::new(|| TODAY * DAY),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let running = start(config, listener).await.unwrap();
        Self { running, client: Client::new(Duration::from_secs(60)).answers(16 << 20), base, _folder: folder }
    }

    pub(crate) async fn text(&self, path: &str) -> (u16, String) {
        let (status, _, body) = self.client.get(&format!("{}{path}", self.base)).await.unwrap();
        (status.as_u16(), String::from_utf8(body.to_vec()).unwrap())
    }

    pub(crate) async fn json(&self, what: &str) -> Value {
        let (status, text) = self.text(&format!("/api/v1/sites/{SITE}/{what}")).await;
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).unwrap()
    }
}

pub(crate) fn all(view: &Value) -> impl Iterator<Item = &Value> {
    ["brings", "costs"].into_iter().flat_map(move |part| view[part].as_array().unwrap())
}

pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

pub(crate) fn line<'v>(view: &'v Value, kind: &str, what: &str) -> &'v Value {
    let found = all(view).find(|line| line["kind"] == kind && line["what"].as_str().unwrap().contains(what));
    found.unwrap_or_else(|| panic!("{kind}: {what} is not in {view:#}"))
}

pub(crate) fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

pub(crate) fn holds(figure: &Value, truth: f64) -> bool {
    let [low, value, high] = ["low", "value", "high"].map(|end| number(&figure[end]));
    assert!(low <= value && value <= high, "{figure}");
    (low..=high).contains(&truth)
}
