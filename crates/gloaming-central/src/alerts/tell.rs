//! Where alerts are told.
//!
//! ```text
//! POST webhook
//! x-gloaming-signature: t=1795430000,v1=HEX      HMAC-SHA256 under the shared secret, of "t.body"
//! { "site": "shop.example", "kind": "drift", "key": "drift/…", "words": "…", "since_ms": …, "link": "https://…" }
//! ```
//! By mail, what is new at a site comes in one message.

use std::collections::BTreeMap;

use bytes::Bytes;
use gloaming_http::Client;
use gloaming_signal::hash::hex;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Serialize;
use sha2::Sha256;

use super::Alert;
use super::mail::Mail;
use crate::store::{Store, StoreError};

/// Alerts told at one look: a webhook is no queue, and the rest comes a minute later.
const AT_ONCE: u32 = 20;
/// The ways, as they stand in the database.
const WEBHOOK: &str = "webhook";
const MAIL: &str = "mail";

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

impl Telling {
    /// Tells what was not told yet; whether all of it was taken.
    pub(crate) async fn tell(&self, store: &Store, now_ms: u64) -> Result<bool, StoreError> {
        let (mut ways, mut all) = (Vec::new(), true);
        if let Some(mail) = &self.mail {
            ways.push(MAIL);
            all &= self.send(store, mail).await?;
        }
        if let Some(webhook) = &self.webhook {
            ways.push(WEBHOOK);
            all &= self.post(store, webhook, now_ms).await?;
        }
        store.settle_alerts(&ways, now_ms).await?;
        Ok(all)
    }

    async fn post(&self, store: &Store, webhook: &Webhook, now_ms: u64) -> Result<bool, StoreError> {
        let mut all = true;
        for alert in store.untold_alerts(WEBHOOK, AT_ONCE).await? {
            let Alert { site, kind, key, words, since_ms, .. } = &alert;
            let told = Told { site, kind, key, words, since_ms: *since_ms, link: &self.link };
            let Ok(body) = serde_json::to_vec(&told) else { unreachable!("texts and numbers always serialise") };
            let signed = signature(&webhook.secret, now_ms / 1_000, &body);
            let answer =
                webhook.client.post_with(&webhook.address, ("x-gloaming-signature", &signed), Bytes::from(body));
            match answer.await {
                Ok((status, ..)) if status.is_success() => store.told_alert(&alert, WEBHOOK).await?,
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

    async fn send(&self, store: &Store, mail: &Mail) -> Result<bool, StoreError> {
        let mut by_site: BTreeMap<String, Vec<Alert>> = BTreeMap::new();
        for alert in store.untold_alerts(MAIL, AT_ONCE).await? {
            by_site.entry(alert.site.clone()).or_default().push(alert);
        }
        let mut all = true;
        for (site, alerts) in by_site {
            match mail.send(&site, &alerts, &self.link).await {
                Ok(()) => {
                    for alert in &alerts {
                        store.told_alert(alert, MAIL).await?;
                    }
                }
                Err(error) => {
                    tracing::error!(%error, site, "alerts could not be sent by mail; they are told again later");
                    all = false;
                }
            }
        }
        Ok(all)
    }
}
