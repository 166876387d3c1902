//! The demonstration with everything in view: its clock can be put forward, the edge's entropy is a stream
//! that is written down, and what arrives over the wire is recorded.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use axum::Router;
use gloaming::assets;
use gloaming::demo::{Demo, Options, SITE, Step};
use gloaming::shop::Csp;
use gloaming_edge::{Clock, system_clock};
use gloaming_http::Client;
use gloaming_signal::hash;
use serde_json::Value;

use crate::browser::{Browser, Profile};
use crate::page::Page;
use crate::watch::Wire;

/// Length of the stage's windows, seconds. One holds all visits of a test: its end is not waited for,
/// the clock is put forward.
pub const WINDOW_S: u32 = 600;
const DAY_MS: u64 = 86_400_000;
/// When a stage's day begins, after midnight UTC: late enough that yesterday's windows are over, and so early that a
/// test whose clock goes forward by hours meets no other day than the one it asks for.
const MORNING_MS: u64 = 6 * 3_600_000;

/// What a stage may differ in.
pub struct Setting {
    /// The shop's Content-Security-Policy.
    pub csp: Csp,
    /// Where the edge's entropy stream begins.
    pub seed: [u8; 32],
    /// Routes beside the shop's, for scripts that only a test needs.
    pub more: Router,
    /// A last word on the policy's text.
    pub edit: fn(String) -> String,
}

impl Default for Setting {
    fn default() -> Self {
        Self { csp: Csp::default(), seed: [0x5e; 32], more: Router::new(), edit: std::convert::identity }
    }
}

/// The 32-byte draws of the edge, in order: window keys and seeds of releases.
#[derive(Clone, Default)]
pub struct Draws(Arc<Mutex<Vec<[u8; 32]>>>);

impl Draws {
    /// All so far.
    #[must_use]
    pub fn all(&self) -> Vec<[u8; 32]> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// SHA-256 of seed, length and counter. Draws of 32 bytes have a counter of their own: how many nonces
    /// are drawn between them depends on how requests were grouped, the seed of a release must not.
    fn stream(&self, seed: [u8; 32]) -> gloaming_edge::EntropySource {
        let (draws, mut counters) = (self.clone(), [0u64; 2]);
        Box::new(move |buffer| {
            let own = usize::from(buffer.len() == 32);
            for chunk in buffer.chunks_mut(32) {
                counters[own] += 1;
                let block = hash::sha256(&[&seed[..], &[own as u8], &counters[own].to_le_bytes()].concat());
                chunk.copy_from_slice(&block[..chunk.len()]);
            }
            if let Ok(draw) = <[u8; 32]>::try_from(&*buffer) {
                draws.0.lock().unwrap_or_else(PoisonError::into_inner).push(draw);
            }
        })
    }
}

/// A stage, and one person before it: a fresh profile with an empty tab.
///
/// # Errors
/// When the demonstration or the browser does not start.
pub async fn scene(setting: Setting) -> Result<(Stage, Profile, Page)> {
    let stage = Stage::start(setting).await?;
    let profile = Browser::launch().await?.profile().await?;
    let page = profile.tab("").await?;
    Ok((stage, profile, page))
}

/// Waits until what was sent on leaving a page has arrived. A pause and not a condition, because a test that
/// nothing was sent has nothing to wait for.
pub async fn settle() {
    tokio::time::sleep(Duration::from_millis(900)).await;
}

/// A running demonstration under observation.
pub struct Stage {
    /// Centre, edge and shop.
    pub demo: Demo,
    /// What reached the shop.
    pub wire: Wire,
    /// What the edge drew.
    pub draws: Draws,
    clock: Clock,
    ahead_ms: Arc<AtomicU64>,
    folder: tempfile::TempDir,
}

impl Stage {
    /// Starts everything at six in the morning, UTC, of this day.
    ///
    /// # Errors
    /// When the demonstration does not start; without assets it says how to make them.
    pub async fn start(setting: Setting) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut options = Options::new(assets::find(None)?, folder.path().to_path_buf());
        (options.window_s, options.csp, options.edit) = (WINDOW_S, setting.csp, setting.edit);
        let (clock, ahead_ms) = (system_clock(), Arc::new(AtomicU64::new(0)));
        let (began, moved) = (clock.now_ms(), Arc::clone(&ahead_ms));
        let start = began / DAY_MS * DAY_MS + MORNING_MS;
        options.clock = Arc::new(move || start + 1_000 + (clock.now_ms() - began) + moved.load(Ordering::Relaxed));
        let now = Arc::clone(&options.clock);
        let draws = Draws::default();
        options.entropy = draws.stream(setting.seed);
        let wire = Wire::default();
        let (watched, more) = (wire.clone(), setting.more);
        options.around_shop = Box::new(move |router| watched.around(more.merge(router)));
        let demo = Demo::start(options).await?;
        Ok(Self { demo, wire, draws, clock: now, ahead_ms, folder })
    }

    /// Brings the model through the gate: pages see its scores from here on.
    ///
    /// # Errors
    /// When the gate refuses, or the policy is not taken.
    pub async fn acts(&self) -> Result<()> {
        self.demo.step(Step::Evidence).await?;
        let said = self.demo.step(Step::Promote).await?;
        if said["stage"] == "experiment" { Ok(()) } else { bail!("the gate refused: {said}") }
    }

    /// Where edge and centre keep what they keep.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What time it is at edge and centre, ms since 1970.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// Puts the clock past the end of the window and its grace.
    pub fn close_window(&self) {
        self.ahead_ms.fetch_add(u64::from(WINDOW_S) * 1_100, Ordering::Relaxed);
    }

    /// Puts the clock to the next midnight, UTC, when the day's budget begins anew.
    pub fn next_day(&self) {
        self.ahead_ms.fetch_add(DAY_MS - self.now_ms() % DAY_MS + 1_000, Ordering::Relaxed);
    }

    /// The centre's overview once it has a release of every metric.
    ///
    /// # Errors
    /// When none comes within half a minute.
    pub async fn released(&self) -> Result<Value> {
        let client = Client::new(Duration::from_secs(5)).answers(1 << 20);
        let address = format!("{}/api/v1/sites/{SITE}/overview?last=1", self.demo.central);
        for _ in 0..300 {
            let (_, _, body) = client.get(&address).await?;
            let overview: Value = serde_json::from_slice(&body)?;
            let metrics = overview["metrics"].as_array().context("an overview")?;
            if metrics.iter().all(|m| m["windows"].as_array().is_some_and(|w| !w.is_empty())) {
                return Ok(overview);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("the edge released nothing within half a minute")
    }

    /// Text of the operators' metrics.
    ///
    /// # Errors
    /// When the edge does not answer.
    pub async fn metrics(&self) -> Result<String> {
        let (_, _, body) = Client::new(Duration::from_secs(5)).get(&format!("{}/metrics", self.demo.admin)).await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }
}
