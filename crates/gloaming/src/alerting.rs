//! Keys of `[central]` that say where alerts are told.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use gloaming_central::{Mail, MailServer, MailTls, Telling, Webhook};
use gloaming_http::{Client, Roots};
use gloaming_policy::author::is_loopback;
use serde::Deserialize;

use crate::files;

/// Their names.
pub const ALERTING: [&str; 9] = [
    "webhook",
    "webhook_secret_file",
    "smtp",
    "smtp_user",
    "smtp_password_file",
    "smtp_ca",
    "mail_from",
    "mail_to",
    "link",
];
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
    /// The server that takes mail: `smtps://host`, or `smtp://host` for STARTTLS.
    pub smtp: Option<String>,
    /// Who we are there.
    pub smtp_user: Option<String>,
    /// What only we know.
    pub smtp_password_file: Option<PathBuf>,
    /// An authority of one's own, PEM.
    pub smtp_ca: Option<PathBuf>,
    /// Whose mail it is.
    pub mail_from: Option<String>,
    /// Who is written to.
    #[serde(default)]
    pub mail_to: Vec<String>,
    /// The centre's address as people know it.
    pub link: Option<String>,
}

impl Alerting {
    /// Makes paths relative to the file.
    pub fn paths(&mut self, against: impl Fn(&mut PathBuf)) {
        [&mut self.webhook_secret_file, &mut self.smtp_password_file, &mut self.smtp_ca]
            .into_iter()
            .flatten()
            .for_each(against);
    }

    /// All ways that are configured.
    ///
    /// # Errors
    /// As [`Alerting::webhook`] and [`Alerting::mail`].
    pub fn open(&self) -> Result<Telling> {
        Ok(Telling { webhook: self.webhook()?, mail: self.mail()?, link: self.link.clone().unwrap_or_default() })
    }

    /// The webhook, when there is one.
    ///
    /// # Errors
    /// When it has no secret, a short one, or is beyond this machine without TLS.
    fn webhook(&self) -> Result<Option<Webhook>> {
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
        Ok(Some(Webhook { address, secret, client }))
    }

    /// The mail, when there is a server for it.
    ///
    /// # Errors
    /// When somebody or something is missing, or the server is beyond this machine without TLS.
    fn mail(&self) -> Result<Option<Mail>> {
        let Some(address) = self.smtp.as_deref() else {
            let files = self.smtp_password_file.is_some() || self.smtp_ca.is_some();
            if self.mail_from.is_some() || !self.mail_to.is_empty() || self.smtp_user.is_some() || files {
                bail!("people are to be written to and no server is given; add smtp = \"smtps://…\"");
            }
            return Ok(None);
        };
        let wrong = || {
            anyhow!(
                "smtp = \"{address}\" is no mail server; write smtps://HOST, or smtp://HOST for STARTTLS, with :PORT where it is another"
            )
        };
        let (scheme, rest) = address.split_once("://").ok_or_else(wrong)?;
        // What looks like user, path or an address of IPv6 is none of these.
        let (host, port) = match rest.split_once(':') {
            Some((host, port)) => (host, Some(port.parse().map_err(|_| wrong())?)),
            None => (rest, None),
        };
        let tls = match scheme {
            "smtps" => MailTls::Always,
            // On this machine nobody listens between, and servers there have no certificate.
            "smtp" if is_loopback(address) => MailTls::Never,
            "smtp" => MailTls::Start,
            _ => return Err(wrong()),
        };
        if host.is_empty() || host.contains(['/', '@']) {
            return Err(wrong());
        }
        let login = match (&self.smtp_user, &self.smtp_password_file) {
            (Some(user), Some(file)) => Some((user.clone(), files::read_text(file)?.trim().to_owned())),
            (None, None) => None,
            _ => bail!("smtp_user and smtp_password_file belong together; give both, or neither"),
        };
        let authority = self.smtp_ca.as_deref().map(files::read).transpose()?;
        let from = self
            .mail_from
            .as_deref()
            .ok_or_else(|| anyhow!("smtp needs mail_from, the address that alerts come from"))?;
        let server = MailServer { host: host.to_owned(), port, tls, login, authority };
        Ok(Some(Mail::new(&server, from, &self.mail_to).context("mail_from, mail_to, smtp_ca")?))
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
            let alerting = Alerting { webhook: webhook.map(str::to_owned), webhook_secret_file, ..Alerting::default() };
            alerting.webhook().map(|webhook| webhook.is_some()).map_err(|error| error.to_string())
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

    #[test]
    fn mail_needs_a_server_and_people() {
        let of = |smtp: Option<&str>, from: Option<&str>, to: &[&str]| Alerting {
            smtp: smtp.map(str::to_owned),
            mail_from: from.map(str::to_owned),
            mail_to: to.iter().map(|&one| one.to_owned()).collect(),
            ..Alerting::default()
        };
        let open =
            |alerting: Alerting| alerting.mail().map(|mail| mail.is_some()).map_err(|error| format!("{error:#}"));
        let (from, to) = (Some("Gloaming <gloaming@shop.example>"), ["ops@shop.example", "Owner <owner@shop.example>"]);
        let folder = tempfile::tempdir().unwrap();
        let empty = folder.path().join("ca.pem");
        std::fs::write(&empty, "-----BEGIN PRIVATE KEY-----").unwrap();
        assert_eq!(open(of(None, None, &[])), Ok(false));
        for server in ["smtps://mail.example", "smtp://mail.example:2525", "smtp://127.0.0.1:25", "smtp://localhost"] {
            assert_eq!(open(of(Some(server), from, &to)), Ok(true), "{server}");
        }
        for (alerting, words) in [
            (of(None, from, &to), "no server is given"),
            (of(Some("mail.example"), from, &to), "is no mail server"),
            (of(Some("https://mail.example"), from, &to), "is no mail server"),
            (of(Some("smtps://user@mail.example"), from, &to), "is no mail server"),
            (of(Some("smtps://mail.example:x"), from, &to), "is no mail server"),
            (of(Some("smtp://::1"), from, &to), "is no mail server"),
            (
                Alerting { smtp_ca: Some(empty.clone()), ..of(Some("smtps://mail.example"), from, &to) },
                "holds no certificate",
            ),
            (Alerting { smtp_ca: Some("ca.pem".into()), ..Alerting::default() }, "no server is given"),
            (of(Some("smtps://mail.example"), None, &to), "smtp needs mail_from"),
            (of(Some("smtps://mail.example"), from, &[]), "0 people are to be written to"),
            (of(Some("smtps://mail.example"), from, &["ops"]), "`ops` is no mail address"),
            (
                Alerting { smtp_user: Some("me".into()), ..of(Some("smtps://mail.example"), from, &to) },
                "belong together",
            ),
        ] {
            let error = open(alerting).unwrap_err();
            assert!(error.contains(words), "{words:?} is not in {error}");
        }
    }
}
