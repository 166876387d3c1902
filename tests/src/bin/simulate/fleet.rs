//! Edges that deliver as real ones do: in order, the same bytes until they are taken, with a pause that grows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use bytes::Bytes;
use gloaming_e2e::batches::{Dice, Sender};
use gloaming_http::{Client, ClientError};
use gloaming_policy::Policy;
use gloaming_policy::author::{Key, Signed, announcement, batch_signature, compile, template};
use gloaming_signal::{ReleaseState, cbor};
use tokio::task::JoinSet;

/// 2026-11-24, in days.
const DAY: u64 = 20_781;
const METRICS: u32 = 4;
const HOUR_MS: u64 = 3_600_000;
/// How long an edge waits for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Attempts that one batch gets before the simulation gives up.
const ATTEMPTS: u32 = 50;

/// All edges with their keys, and all sites with their policies.
pub(crate) struct Fleet {
    owner: Key,
    keys: Vec<Arc<Key>>,
    policies: Vec<Arc<Policy>>,
    sites_per_edge: u32,
}

/// How the deliveries of some windows went.
#[derive(Default)]
pub(crate) struct Storm {
    /// Batches stored.
    pub(crate) stored: u64,
    /// Times to an answer, ascending.
    pub(crate) answered: Vec<Duration>,
    /// What else was answered, or not, and how often.
    pub(crate) other: BTreeMap<String, u64>,
}

impl Storm {
    /// Deliveries that had to be tried again.
    pub(crate) fn refused(&self) -> u64 {
        self.other.values().sum()
    }

    /// In words.
    pub(crate) fn troubles(&self) -> String {
        let words: Vec<_> = self.other.iter().map(|(what, times)| format!("{times} x {what}")).collect();
        if words.is_empty() { "none".to_owned() } else { words.join(", ") }
    }

    fn add(&mut self, other: Self) {
        self.stored += other.stored;
        self.answered.extend(other.answered);
        for (what, times) in other.other {
            *self.other.entry(what).or_default() += times;
        }
    }
}

/// The policy of one site: four histograms by the hour.
fn policy(site: &str, homes: &[String], cells: u32) -> Result<Policy> {
    let text = template("blog", site, &format!("https://{site}"), "2027-06-01").context("no template")?;
    let (head, _) = text.split_once("\n[[metric]]").context("the template has no metric")?;
    let homes: Vec<_> = homes.iter().map(|home| format!("{home:?}")).collect();
    let mut text = head.replace("home_edges = [\"edge-1\"]", &format!("home_edges = [{}]", homes.join(", ")));
    let edges: Vec<_> = (0..=cells / METRICS).map(|edge| edge.to_string()).collect();
    for id in 1..=METRICS {
        text.push_str(&format!(
            "\n[[metric]]\nid = {id}\nname = \"m{id}\"\nof = \"feature:engaged-time@1\"\nhistogram = {{ edges = [{}], unit = \"seconds\" }}\n\
             purpose = \"measurement\"\ntier = \"edge\"\nwindow = \"hour\"\nper_day = 1\nrho = 0.01\nk = 50\n",
            edges.join(", ")
        ));
    }
    compile(&text, DAY, &|_| Err("no models here".to_owned())).map_err(|problems| anyhow!("{problems:?}"))
}

impl Fleet {
    pub(crate) fn new(edges: u32, sites_per_edge: u32, cells: u32) -> Result<Self> {
        let key = |index: u32| {
            let mut seed = [7; 32];
            seed[..4].copy_from_slice(&index.to_le_bytes());
            Key::from_seed(&seed)
        };
        let policies = (0..edges)
            .map(|site| {
                // Its home edges are the ones that come after it, in a ring.
                let homes: Vec<_> = (0..sites_per_edge.min(edges)).map(|next| name_of((site + next) % edges)).collect();
                policy(&format!("s{site}.example"), &homes, cells).map(Arc::new)
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            owner: key(u32::MAX),
            keys: (0..edges).map(|edge| Arc::new(key(edge))).collect(),
            policies,
            sites_per_edge: sites_per_edge.min(edges),
        })
    }

    pub(crate) fn sites(&self) -> usize {
        self.policies.len()
    }

    pub(crate) fn site(&self, index: usize) -> &str {
        &self.policies[index].site
    }

    pub(crate) fn metrics(&self) -> u32 {
        METRICS
    }

    pub(crate) fn cells(&self) -> u32 {
        self.policies[0].metrics.iter().map(gloaming_policy::Metric::cells).sum()
    }

    pub(crate) fn batches_a_window(&self) -> u32 {
        self.keys.len() as u32 * self.sites_per_edge
    }

    /// Signed policies, by file name.
    pub(crate) fn signed(&self) -> impl Iterator<Item = (String, Vec<u8>)> + '_ {
        self.policies
            .iter()
            .map(|policy| (format!("{}.signed", policy.site), Signed::sign(policy, &[&self.owner]).to_bytes()))
    }

    /// `[central.sites]` and `[central.edges]`.
    pub(crate) fn tables(&self) -> String {
        let owner = self.owner.public().to_text();
        let mut text = "[central.sites]\n".to_owned();
        for policy in &self.policies {
            text.push_str(&format!("\"{}\" = \"{owner}\"\n", policy.site));
        }
        text.push_str("[central.edges]\n");
        for (edge, key) in (0..).zip(&self.keys) {
            text.push_str(&format!("\"{}\" = \"{}\"\n", name_of(edge), key.public().to_text()));
        }
        text
    }

    /// Seals the batches of `windows` windows, then has all edges deliver them at once.
    pub(crate) async fn storm(&self, address: &str, first_window: u32, windows: u32) -> Result<Storm> {
        let mut edges = JoinSet::new();
        let ready = Arc::new(tokio::sync::Barrier::new(self.keys.len()));
        for (index, key) in (0u32..).zip(&self.keys) {
            let edges_count = self.keys.len() as u32;
            let homes: Vec<_> = (0..self.sites_per_edge)
                .map(|before| Arc::clone(&self.policies[((index + edges_count - before) % edges_count) as usize]))
                .collect();
            let (key, address, ready) = (Arc::clone(key), format!("{address}/api/v1/batches"), Arc::clone(&ready));
            edges.spawn(async move {
                let mut bodies = Vec::new();
                for seq in first_window..first_window + windows {
                    for policy in &homes {
                        bodies.push(sealed(policy, &name_of(index), &key, seq.into()));
                    }
                }
                ready.wait().await;
                deliver(&address, &key, bodies, u64::from(index)).await
            });
        }
        let mut storm = Storm::default();
        while let Some(edge) = edges.join_next().await {
            storm.add(edge??);
        }
        storm.answered.sort_unstable();
        Ok(storm)
    }
}

fn name_of(edge: u32) -> String {
    format!("edge-{edge}")
}

fn sealed(policy: &Policy, edge: &str, key: &Key, seq: u64) -> Bytes {
    let mut sender = Sender::new(&policy.site, edge, DAY);
    sender.span_ms = HOUR_MS;
    sender.metrics = policy.metrics.iter().map(|metric| metric.cells() as usize).collect();
    let mut batch = sender.batch(seq);
    (batch.policy_version, batch.policy_hash) = (policy.version, policy.hash());
    debug_assert!(batch.releases.iter().all(|r| r.state == ReleaseState::Released || r.values.is_empty()));
    Bytes::from(batch_signature(key, &cbor::to_vec(&batch)))
}

async fn deliver(address: &str, key: &Key, bodies: Vec<Bytes>, seed: u64) -> Result<Storm> {
    let (client, mut storm, mut dice) = (Client::new(PATIENCE), Storm::default(), Dice(seed));
    for body in bodies {
        let line = announcement(key, &body);
        for attempt in 0.. {
            let began = Instant::now();
            let answer = client.post_with(address, ("x-gloaming-delivery", &line), body.clone()).await;
            storm.answered.push(began.elapsed());
            let trouble = match answer {
                Ok((status, _, _)) if status.is_success() => break,
                Ok((status, _, answer)) if status.as_u16() == 422 || status.as_u16() == 409 => {
                    bail!("the centre refused a batch: {status} {}", String::from_utf8_lossy(&answer))
                }
                Ok((status, _, _)) => status.to_string(),
                Err(ClientError::Timeout(_)) => "no answer in 10 s".to_owned(),
                Err(_) => "no connection".to_owned(),
            };
            *storm.other.entry(trouble).or_default() += 1;
            if attempt == ATTEMPTS {
                bail!("a batch was not taken in {ATTEMPTS} attempts");
            }
            // Full jitter, as edges do.
            let longest = 500 << attempt.min(6);
            tokio::time::sleep(Duration::from_millis(dice.below(longest) as u64)).await;
        }
        storm.stored += 1;
    }
    Ok(storm)
}
