//! Alerts: what calls for somebody is looked for, every minute as a rule, written down, and told once, to a webhook, by
//! mail, or both.
//!
//! An alert is told until it is taken, a minute apart and with growing pauses, and not again: what was told, and in which way,
//! stands in the database, so that neither a restart nor a second centre repeats it, and one way that fails keeps no other
//! from telling. An alert that is found no more stays in the list as over.

mod found;
mod mail;
mod tell;

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use utoipa::ToSchema;

pub use self::mail::{Mail, MailError, MailServer, MailTls};
use self::tell::Way;
pub use self::tell::{Telling, Webhook, signature};

use self::found::{Found, found};
use crate::config::{Clock, LOOK};
use crate::ingest::Policies;
use crate::overview::overview;
use crate::store::{Store, StoreError};
use crate::trials::{due, experiments, mark};
use crate::watch::Watch;

/// Windows of each metric in which sudden growth is looked for; what is older was told, or was before anybody listened.
const WINDOWS: u32 = 30;
/// Longest pause after failures, in looks.
const LONGEST: u32 = 60;

/// An alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Alert {
    /// The site.
    pub site: String,
    /// `drift`, `performance`, `calibration`, `fairness`, `failing`, `last-good`, `experiment-stop`, `experiment-stopped`,
    /// `experiment-settled`, `sudden`, `conflict`, `expiry`.
    pub kind: String,
    /// What it is about; the same thing has the same key.
    pub key: String,
    /// Cause and evidence.
    pub words: String,
    /// When it was first found, ms since 1970.
    pub since_ms: u64,
    /// Start of the window since which it lasts, as it was when it was first found, ms since 1970; of `drift` and `performance` alone.
    pub lasts_since_ms: Option<u64>,
    /// When it was last found, ms since 1970.
    pub last_ms: u64,
    /// When it was told, ms since 1970.
    pub told_ms: Option<u64>,
}

/// All kinds, so that one of which there is none reads 0 and not nothing.
const KINDS: [&str; 12] = [
    "calibration",
    "conflict",
    "drift",
    "expiry",
    "experiment-settled",
    "experiment-stop",
    "experiment-stopped",
    "failing",
    "fairness",
    "last-good",
    "performance",
    "sudden",
];

/// What calls for somebody now, for Prometheus (text format 0.0.4). Totals of all sites: which site it is about is in the alert.
///
/// # Errors
/// When the database fails.
pub(crate) async fn metrics(store: &Store, now_ms: u64) -> Result<String, StoreError> {
    // What was not found in three looks is over.
    let (by_kind, untold) = store.alert_counts(now_ms.saturating_sub(3 * LOOK.as_millis() as u64)).await?;
    let mut text =
        "# HELP gloaming_alerts Things that call for somebody now.\n# TYPE gloaming_alerts gauge\n".to_owned();
    for kind in KINDS {
        let count = by_kind.get(kind).copied().unwrap_or(0);
        text.push_str(&format!("gloaming_alerts{{kind=\"{kind}\"}} {count}\n"));
    }
    text.push_str(
        "# HELP gloaming_alerts_untold Alerts that were not told yet.\n# TYPE gloaming_alerts_untold gauge\n",
    );
    text.push_str(&format!("gloaming_alerts_untold {untold}\n"));
    Ok(text)
}

/// What a look needs.
pub(crate) struct Looking {
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    pub(crate) policies: Box<dyn Fn() -> Arc<Policies> + Send + Sync>,
    pub(crate) watch: Arc<Watch>,
    pub(crate) telling: Telling,
    pub(crate) pause: Duration,
}

impl Looking {
    /// Looks once at every site, and writes down what is new; whether anything was.
    pub(crate) async fn look(&self) -> Result<bool, StoreError> {
        let mut news = false;
        let (policies, now_ms) = ((self.policies)(), (self.clock)());
        let mut sites: Vec<&String> = policies.keys().map(|(site, _)| site).collect();
        sites.dedup();
        for site in sites {
            // One site that cannot be read keeps nobody from hearing of the others.
            let found = match self.found(&policies, site, now_ms).await {
                Ok(found) => found,
                Err(error) => {
                    tracing::error!(site, %error, "alerts of a site could not be looked for");
                    continue;
                }
            };
            for Found { key, lasts_since_ms, kind, words } in found {
                let key = match lasts_since_ms {
                    Some(since_ms) => self.store.lasting_alert(site, kind, &key, since_ms).await?,
                    None => key,
                };
                if self.store.note_alert(site, &key, kind, &words, now_ms).await? {
                    tracing::warn!(site, kind, words, "an alert");
                    news = true;
                }
            }
        }
        Ok(news)
    }

    async fn found(&self, policies: &Policies, site: &str, now_ms: u64) -> Result<Vec<Found>, StoreError> {
        let newest = policies.range((site.to_owned(), 0)..=(site.to_owned(), u32::MAX)).next_back();
        let Some((_, (policy, _))) = newest else { return Ok(Vec::new()) };
        let Some(overview) = overview(&self.store, policies, site, WINDOWS, now_ms).await? else {
            return Ok(Vec::new());
        };
        let models = self.watch.models(&self.store, policies, site).await?.unwrap_or_default();
        let mut experiments = experiments(&self.store, policies, site).await?.unwrap_or_default();
        let stops = due(policy, &experiments, now_ms);
        for stop in &stops {
            if self.store.note_stop(site, stop).await? {
                tracing::warn!(site, experiment = stop.experiment, arm = stop.arm, "an experiment ends by itself");
            }
        }
        if !stops.is_empty() {
            // As it was written: another centre may have been first.
            mark(policy, &mut experiments, &self.store.stops(site, policy.version).await?);
        }
        let alarmed_ms = self.store.alarmed_ms(site).await?;
        Ok(found(policy, &overview, &models, &experiments, (now_ms, alarmed_ms)))
    }

    /// Looks and tells for ever.
    pub(crate) async fn run(self) {
        if let Err(error) = self.telling.settle(&self.store, &self.clock).await {
            tracing::error!(%error, "alerts could not be read");
        }
        let (news, _) = watch::channel(());
        // A way that fails, or is silent, holds up neither the other nor the looking.
        let ways = self.telling.ways();
        let tells = async |way: Way| {
            if ways.contains(&way) {
                self.tells(way, news.subscribe()).await;
            }
        };
        let looks = async {
            loop {
                match self.look().await {
                    Ok(true) => drop(news.send(())),
                    Ok(false) => {}
                    Err(error) => tracing::error!(%error, "alerts could not be looked for"),
                }
                tokio::time::sleep(self.pause).await;
            }
        };
        tokio::join!(looks, tells(Way::Webhook), tells(Way::Mail));
    }

    /// Tells in one way for ever: what is new at once, and what was not taken after growing pauses.
    async fn tells(&self, way: Way, mut news: watch::Receiver<()>) {
        let mut failures = 0u32;
        loop {
            news.mark_unchanged();
            let taken = self.telling.tell(way, &self.store, &self.clock).await.unwrap_or_else(|error| {
                tracing::error!(%error, "alerts could not be read");
                false
            });
            if taken {
                failures = 0;
                // More may wait than is told at once, and another centre may have found something.
                let _ = tokio::time::timeout(self.pause, news.changed()).await;
            } else {
                failures = failures.saturating_add(1);
                tokio::time::sleep(self.pause * (1 + (1 << failures.min(6)).min(LONGEST))).await;
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
