//! Keys of `[central]` that say where alerts are told.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use gloaming_central::Webhook;
use gloaming_http::{Client, Roots};
use gloaming_policy::author::is_loopback;
use serde::Deserialize;

use crate::files;

/// Their names.
pub const ALERTING: [&str; 3] = ["webhook", "webhook_secret_file", "link"];
/// Shortest secret, bytes: what is shorter can be tried out.
const SECRET: usize = 16;
/// Time that a webhook has to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// See [`crate::config::EXAMPLE`].
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Alerting {
    /// Where alerts are posted.
    pub webhook: Option<String>,
    /// What both sides know.
    pub webhook_secret_file: Option<PathBuf>,
    /// The centre's address as people know it.
    pub link: Option<String>,
}

impl Alerting {
    /// Makes paths relative to the file.
    pub fn paths(&mut self, against: impl Fn(&mut PathBuf)) {
        self.webhook_secret_file.iter_mut().for_each(against);
    }

    /// The webhook, when there is one.
    ///
    /// # Errors
    /// When it has no secret, a short one, or is beyond this machine without TLS.
    pub fn open(&self) -> Result<Option<Webhook>> {
        let Some(address) = self.webhook.clone() else {
            if self.webhook_secret_file.is_some() {
                bail!("webhook_secret_file is given and no webhook; add webhook = \"https://…\", or take it out");
            }
            return Ok(None);
        };
        let tls = address.starts_with("https://");
        let here = address.starts_with("http://") && is_loopback(&address);
        if !tls && !here {
            bail!("webhook = \"{address}\": what calls for somebody is told over https, or on this machine");
        }
        let file = self.webhook_secret_file.as_deref().ok_or_else(|| {
            anyhow!("webhook needs webhook_secret_file: whoever listens must be able to tell who speaks; `openssl rand -hex 32 > webhook.secret` makes one")
        })?;
        let secret = files::read_text(file)?.trim().as_bytes().to_vec();
        if secret.len() < SECRET {
            bail!("{} holds {} bytes; a secret has {SECRET} at least", file.display(), secret.len());
        }
        let client = Client::trusting(ANSWER, if tls { &Roots::System } else { &Roots::Nobody })?;
        Ok(Some(Webhook { address, secret, client, link: self.link.clone().unwrap_or_default() }))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_needs_a_secret_and_a_way_that_nobody_listens_on() {
        let folder = tempfile::tempdir().unwrap();
        let secret = |text: &str| {
            let path = folder.path().join("secret");
            std::fs::write(&path, text).unwrap();
            Some(path)
        };
        let open = |webhook: Option<&str>, webhook_secret_file| {
            let alerting = Alerting { webhook: webhook.map(str::to_owned), webhook_secret_file, link: None };
            alerting.open().map(|webhook| webhook.is_some()).map_err(|error| error.to_string())
        };
        assert_eq!(open(None, None), Ok(false));
        let good = "0123456789abcdef\n";
        for address in ["https://ops.example/x", "http://127.0.0.1:9/x", "http://localhost:9/x"] {
            assert_eq!(open(Some(address), secret(good)), Ok(true), "{address}");
        }
        for (webhook, file, words) in [
            (None, secret(good), "is given and no webhook"),
            (Some("http://ops.example/x"), secret(good), "is told over https, or on this machine"),
            (Some("ops.example"), secret(good), "is told over https"),
            (Some("https://ops.example/x"), None, "webhook needs webhook_secret_file"),
            (Some("https://ops.example/x"), secret("short"), "holds 5 bytes; a secret has 16 at least"),
        ] {
            let error = open(webhook, file).unwrap_err();
            assert!(error.contains(words), "{words:?} is not in {error}");
        }
    }
}
