//! Sealed batches as many edges would send them, all from a seed.

use std::collections::BTreeMap;
use std::sync::Arc;

use gloaming_central::{Config, Running, StoreAddress};
use gloaming_policy::Policy;
use gloaming_policy::author::{Key, Signed};
use gloaming_signal::{Release, ReleaseState, SealedBatch, hash};
use tokio::net::TcpListener;

/// A stream of numbers that is all in its seed (Steele, Lea and Flood's splitmix64).
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// The next of 2^64 equally likely numbers.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.roll() % bound.max(1) as u64).unwrap_or(0)
    }

    /// A number as events may bear it: of any length, now and then none, or beyond every bound.
    pub fn wild(&mut self) -> u32 {
        match self.below(12) {
            0 => u32::MAX,
            1 => 0,
            n => self.below(10usize.pow(n as u32 % 6 + 1)) as u32,
        }
    }

    /// Another order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for place in (1..items.len()).rev() {
            items.swap(place, self.below(place + 1));
        }
    }
}

/// What an edge would send of one site, window after window.
#[derive(Clone, Debug)]
pub struct Sender {
    /// The site.
    pub site: String,
    /// The edge.
    pub edge: String,
    /// Its store's birth.
    pub epoch: u64,
    /// Length of its windows, ms.
    pub span_ms: u64,
    /// When its first window began, ms since 1970.
    pub start_ms: u64,
    /// Cells of each metric; metrics are numbered from 1.
    pub metrics: Vec<usize>,
}

impl Sender {
    /// One with hourly windows from the day of this number since 1970, and two metrics of three and five cells.
    #[must_use]
    pub fn new(site: &str, edge: &str, day: u64) -> Self {
        Self {
            site: site.to_owned(),
            edge: edge.to_owned(),
            epoch: 0xfeed_0000_0000_0005,
            span_ms: 3_600_000,
            start_ms: day * 86_400_000,
            metrics: vec![3, 5],
        }
    }

    /// Its batch of this number: the same at each call, with small noise in the cells and some metrics withheld.
    #[must_use]
    pub fn batch(&self, seq: u64) -> SealedBatch {
        let window = self.start_ms / self.span_ms + seq;
        let mut dice = Dice(self.epoch ^ window.rotate_left(32) ^ self.edge.bytes().map(u64::from).sum::<u64>());
        let mut releases = Vec::with_capacity(self.metrics.len());
        for (metric, cells) in (1..).zip(&self.metrics) {
            let state = match dice.below(10) {
                0 => ReleaseState::BelowK,
                _ => ReleaseState::Released,
            };
            let cells = if state == ReleaseState::Released { *cells } else { 0 };
            let values = (0..cells).map(|_| (dice.roll() % 500).cast_signed() - 20).collect();
            releases.push(Release { metric, state, values });
        }
        SealedBatch {
            site: self.site.clone(),
            edge: self.edge.clone(),
            epoch: self.epoch,
            seq,
            policy_version: 1,
            policy_hash: [0; 32],
            span_ms: self.span_ms,
            window,
            releases,
        }
    }
}

/// What stands for the hash of a batch's delivery where nothing is signed.
#[must_use]
pub fn digest(batch: &SealedBatch) -> [u8; 32] {
    hash::sha256(format!("{batch:?}").as_bytes())
}

/// A centre over a store that is filled already, on a port of its own.
///
/// # Panics
/// When it cannot begin: then no test can.
pub async fn centre(store: StoreAddress, policy: &Policy, key: &Key) -> Running {
    let clock = gloaming_edge::system_clock();
    let config = Config {
        store,
        retain_days: None,
        pins: BTreeMap::from([(policy.site.clone(), key.public())]),
        policies: vec![Signed::sign(policy, &[key]).to_bytes()],
        edges: BTreeMap::new(),
        password: None,
        assets: gloaming::assets::find(None).expect("assets"),
        telling: gloaming_central::Telling::default(),
        look: gloaming_central::LOOK,
        more: axum::Router::new(),
        clock: Arc::new(move || clock.now_ms()),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    gloaming_central::start(config, listener).await.expect("a centre")
}
