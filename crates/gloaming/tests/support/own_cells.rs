//! A policy under which each contribution has a cell of its own, and what the centre then shows is what was counted: a 0
//! that was acknowledged is a loss, a 2 is a double, and neither can hide the other.
#![allow(clippy::unwrap_used, dead_code)]

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use gloaming_http::Client;
use gloaming_policy::author::{Key, Signed};
use gloaming_policy::{Axis, Bins, Metric, Policy};
use gloaming_privacy::Rho;
use gloaming_signal::{Contribution, Submission, cbor};
use serde_json::Value;

use crate::support::Site;

/// Bins of each of a metric's two axes: together the most cells that a metric may have.
const SIDE: u32 = 64;
const CELLS: u32 = SIDE * SIDE;

/// Counts by metric and window: of each of its cells.
pub(crate) type Counts = BTreeMap<(u32, u64), Vec<u64>>;

pub(crate) fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// Metrics with windows of these lengths, and a budget so large that the noise is zero. No policy that a person writes is
/// like this: the compiler refuses it.
fn exact(mut policy: Policy, spans_ms: impl Iterator<Item = u64>) -> Policy {
    policy.budget = Rho::from_micro(1_000_000_000_000_000);
    let mut one = policy.metrics[0].clone();
    (one.per_day, one.k, one.rho) = (1, 0, Rho::from_micro(1_000_000_000_000));
    let (bins, labels) = (Bins::Edges((0..=SIDE).collect()), (0..SIDE).map(|bin| bin.to_string()).collect());
    let axis = Axis { bins, labels, ..one.axes[0].clone() };
    one.axes = vec![axis.clone(), axis];
    let named =
        |(place, span_ms): (u32, u64)| Metric { id: 1 + place, name: format!("own-{place}"), span_ms, ..one.clone() };
    policy.metrics = (0u32..).zip(spans_ms).map(named).collect();
    policy
}

/// Gives a site such a policy: of each window length so many metrics.
pub(crate) fn own_cells(site: &mut Site, spans_ms: &[u64], metrics: usize) {
    site.policy = exact(site.policy.clone(), spans_ms.iter().flat_map(|span| std::iter::repeat_n(*span, metrics)));
    let owner = Key::from_text(&fs::read_to_string(site.folder.path("owner.key")).unwrap()).unwrap();
    fs::write(site.folder.path("policy.signed"), Signed::sign(&site.policy, &[&owner]).to_bytes()).unwrap();
}

/// Cells that nobody has yet.
#[derive(Default)]
pub(crate) struct Cells(BTreeMap<(u64, u64), u32>);

impl Cells {
    /// Some of a window, as contributions with these ids; `None` when it has no more.
    pub(crate) fn give(
        &mut self,
        policy: &Policy,
        (span_ms, window): (u64, u64),
        ids: impl Iterator<Item = [u8; 16]>,
    ) -> Option<Vec<Contribution>> {
        let metrics: Vec<u32> = policy.metrics.iter().filter(|m| m.span_ms == span_ms).map(|m| m.id).collect();
        let next = self.0.entry((span_ms, window)).or_default();
        ids.map(|id| {
            let metric = *metrics.get((*next / CELLS) as usize)?;
            let cell = *next % CELLS;
            *next += 1;
            Some(Contribution { id, metric, window, cell, value: 1 })
        })
        .collect()
    }
}

/// A body of contributions.
pub(crate) fn body(policy: &Policy, contributions: &[Contribution]) -> Bytes {
    Bytes::from(cbor::to_vec(&Submission {
        site: policy.site.clone(),
        policy_version: policy.version,
        policy_hash: policy.hash(),
        check: false,
        contributions: contributions.to_vec(),
    }))
}

/// Counts one more for each of them.
pub(crate) fn add(counts: &mut Counts, contributions: &[Contribution]) {
    for Contribution { metric, window, cell, .. } in contributions {
        counts.entry((*metric, *window)).or_insert_with(|| vec![0; CELLS as usize])[*cell as usize] += 1;
    }
}

/// What the centre at an address holds of the site: its windows, each of which must be there once, and its alarms.
pub(crate) async fn counted(central: &str) -> (Counts, u64) {
    let client = Client::new(Duration::from_secs(60)).answers(256 << 20);
    let address = format!("{central}/api/v1/sites/blog.example/overview?last=1000");
    let (_, _, answer) = client.get(&address).await.unwrap();
    let overview: Value = serde_json::from_slice(&answer).unwrap();
    let mut counts = Counts::new();
    for metric in overview["metrics"].as_array().unwrap() {
        for window in metric["windows"].as_array().unwrap() {
            assert_eq!(window["state"], "released");
            let values = window["values"].as_array().unwrap().iter().map(|value| value.as_u64().unwrap()).collect();
            let name = (metric["id"].as_u64().unwrap().try_into().unwrap(), window["index"].as_u64().unwrap());
            assert!(counts.insert(name, values).is_none(), "window {name:?} came twice");
        }
    }
    (counts, overview["alarms"].as_u64().unwrap())
}

/// How many cells hold fewer than was acknowledged, and how many hold more, where one whose fate nobody was told may be
/// counted or not: windows that nobody brought anything to must be empty.
pub(crate) fn compare(acknowledged: &Counts, untold: &Counts, counted: &Counts) -> (usize, usize) {
    let (mut lost, mut double) = (0, 0);
    let empty = vec![0; CELLS as usize];
    let names: std::collections::BTreeSet<_> = acknowledged.keys().chain(counted.keys()).collect();
    for name in names {
        let [is, should, may] = [counted, acknowledged, untold].map(|counts| counts.get(name).unwrap_or(&empty));
        assert_eq!((is.len(), should.len()), (CELLS as usize, CELLS as usize));
        for ((is, should), may) in is.iter().zip(should).zip(may) {
            lost += usize::from(is < should);
            double += usize::from(*is > should + may);
        }
    }
    (lost, double)
}

/// All that is in them.
pub(crate) fn sum(counts: &Counts) -> u64 {
    counts.values().flatten().sum()
}
