//! Where alerts are told.
//!
//! ```text
//! POST webhook
//! x-gloaming-signature: t=1795430000,v1=HEX      HMAC-SHA256 under the shared secret, of "t.body"
//! { "site": "shop.example", "kind": "drift", "key": "drift/…", "words": "…", "since_ms": …, "lasts_since_ms": …, "link": "https://…" }
//! ```
//! By mail, what is new at a site comes in one message, of twenty things at most. Each way goes on by itself, at a pace of its own.

use std::collections::BTreeMap;

use bytes::Bytes;
use gloaming_http::Client;
use gloaming_signal::hash::hex;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Serialize;
use sha2::Sha256;

use super::Alert;
use super::mail::Mail;
use crate::config::Clock;
use crate::store::{Store, StoreError};

/// Alerts told at one look: a webhook is no queue, and the rest comes a minute later.
const AT_ONCE: u32 = 20;

/// Where alerts are posted.
#[derive(Clone)]
pub struct Webhook {
    /// Its address.
    pub address: String,
    /// What both sides know.
    pub secret: Vec<u8>,
    /// Posts to it.
    pub client: Client,
}

/// All ways in which alerts are told; none by default, and then they are shown only.
#[derive(Clone, Default)]
pub struct Telling {
    /// Posted, each by itself.
    pub webhook: Option<Webhook>,
    /// Sent, what is new at a site together.
    pub mail: Option<Mail>,
    /// Where people look: the centre's address as they know it.
    pub link: String,
}

/// What is posted.
#[derive(Serialize)]
struct Told<'a> {
    site: &'a str,
    kind: &'a str,
    key: &'a str,
    words: &'a str,
    since_ms: u64,
    lasts_since_ms: Option<u64>,
    link: &'a str,
}

/// The signature of a body at a time, s since 1970.
#[must_use]
pub fn signature(secret: &[u8], at_s: u64, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
    mac.update(format!("{at_s}.").as_bytes());
    mac.update(body);
    format!("t={at_s},v1={}", hex(&mac.finalize().into_bytes()))
}

/// A way in which alerts are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Webhook,
    Mail,
}

impl Way {
    /// As it stands in the database.
    fn word(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Mail => "mail",
        }
    }
}

impl Telling {
    /// The ways that are configured.
    pub(crate) fn ways(&self) -> Vec<Way> {
        let webhook = self.webhook.is_some().then_some(Way::Webhook);
        webhook.into_iter().chain(self.mail.is_some().then_some(Way::Mail)).collect()
    }

    /// What was told in every way that is configured is told; also what waited for one that was taken out.
    pub(crate) async fn settle(&self, store: &Store, clock: &Clock) -> Result<(), StoreError> {
        let words: Vec<&str> = self.ways().into_iter().map(Way::word).collect();
        store.settle_alerts(&words, clock()).await
    }

    /// Tells in one way what was not told in it yet; whether all of it was taken.
    pub(crate) async fn tell(&self, way: Way, store: &Store, clock: &Clock) -> Result<bool, StoreError> {
        let untold = store.untold_alerts(way.word(), AT_ONCE).await?;
        if untold.is_empty() {
            return Ok(true);
        }
        let all = match (way, &self.webhook, &self.mail) {
            (Way::Webhook, Some(webhook), _) => self.post(webhook, untold, store, clock).await?,
            (Way::Mail, _, Some(mail)) => self.send(mail, untold, store).await?,
            _ => return Ok(true),
        };
        self.settle(store, clock).await?;
        Ok(all)
    }

    async fn post(
        &self,
        webhook: &Webhook,
        untold: Vec<Alert>,
        store: &Store,
        clock: &Clock,
    ) -> Result<bool, StoreError> {
        let mut all = true;
        for alert in untold {
            let Alert { site, kind, key, words, since_ms, lasts_since_ms, .. } = &alert;
            let (since_ms, lasts_since_ms, link) = (*since_ms, *lasts_since_ms, &self.link);
            let told = Told { site, kind, key, words, since_ms, lasts_since_ms, link };
            let Ok(body) = serde_json::to_vec(&told) else { unreachable!("texts and numbers always serialise") };
            let signed = signature(&webhook.secret, clock() / 1_000, &body);
            let answer =
                webhook.client.post_with(&webhook.address, ("x-gloaming-signature", &signed), Bytes::from(body));
            match answer.await {
                Ok((status, ..)) if status.is_success() => store.told_alert(&alert, Way::Webhook.word()).await?,
                // It may be this one alert that is not taken: the others are told all the same.
                Ok((status, ..)) => {
                    tracing::error!(%status, site, key, "the webhook did not take an alert; it is told again later");
                    all = false;
                }
                Err(error) => {
                    tracing::error!(%error, "the webhook does not answer; alerts are told again later");
                    return Ok(false);
                }
            }
        }
        Ok(all)
    }

    async fn send(&self, mail: &Mail, untold: Vec<Alert>, store: &Store) -> Result<bool, StoreError> {
        let mut by_site: BTreeMap<String, Vec<Alert>> = BTreeMap::new();
        for alert in untold {
            by_site.entry(alert.site.clone()).or_default().push(alert);
        }
        for (site, alerts) in by_site {
            if let Err(error) = mail.send(&site, &alerts, &self.link).await {
                tracing::error!(%error, site, "alerts could not be sent by mail; they are told again later");
                return Ok(false);
            }
            for alert in &alerts {
                store.told_alert(alert, Way::Mail.word()).await?;
            }
        }
        Ok(true)
    }
}
