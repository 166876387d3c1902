//! Alerts by mail, over SMTP with TLS.

use std::fmt::Write as _;
use std::time::Duration;

use gloaming_policy::author::date_of;
use gloaming_signal::hash::{hex, sha256};
use lettre::message::Mailbox;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::{Category, Severity};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};

use super::Alert;

/// Time that a server has to take one message, from the first packet to its last word. The library bounds connecting alone.
const ANSWER: Duration = Duration::from_secs(20);
/// Most people that are written to.
const PEOPLE: usize = 20;

/// Why nothing can be sent.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// Not an address of a person.
    #[error("`{0}` is no mail address: {1}")]
    Person(String, lettre::address::AddressError),
    /// Nobody, or a crowd.
    #[error("{0} people are to be written to; 1 to {PEOPLE} can be")]
    People(usize),
    /// The server's name, or its certificates.
    #[error("the mail server: {0}")]
    Server(#[from] lettre::transport::smtp::Error),
    /// The message.
    #[error("the message: {0}")]
    Message(#[from] lettre::error::Error),
    /// Silence.
    #[error("the mail server did not take a message within {ANSWER:?}")]
    Silent,
    /// A file without one.
    #[error("the authority's file holds no certificate in PEM")]
    Authority,
}

impl MailError {
    /// Whether it is about one person's mailbox (RFC 5321, 550 to 559), and others may be written to: whom a server does not let in, it lets in
    /// for nobody.
    fn is_theirs(&self) -> bool {
        let code = if let Self::Server(error) = self { error.status() } else { None };
        code.is_some_and(|code| {
            code.severity == Severity::PermanentNegativeCompletion && code.category == Category::MailSystem
        })
    }
}

/// The server that takes mail for others.
#[derive(Clone, Debug)]
pub struct MailServer {
    /// Its name, which its certificate must bear.
    pub host: String,
    /// Its port; 465 or 587 when left out.
    pub port: Option<u16>,
    /// How it is spoken to.
    pub tls: MailTls,
    /// Who we are there, and what only we know.
    pub login: Option<(String, String)>,
    /// The authority its certificate is believed from beside the system's, PEM.
    pub authority: Option<Vec<u8>>,
}

/// TLS of a mail server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailTls {
    /// From the first byte (`smtps`).
    Always,
    /// After STARTTLS, and nothing without.
    Start,
    /// None: on this machine only.
    Never,
}

/// Sends alerts to people.
#[derive(Clone)]
pub struct Mail {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: Vec<Mailbox>,
}

fn person(text: &str) -> Result<Mailbox, MailError> {
    text.parse().map_err(|error| MailError::Person(text.to_owned(), error))
}

impl Mail {
    /// Nothing is sent or looked up yet.
    ///
    /// # Errors
    /// When an address is none, or the authority's certificate cannot be read.
    pub fn new(server: &MailServer, from: &str, to: &[String]) -> Result<Self, MailError> {
        if to.is_empty() || to.len() > PEOPLE {
            return Err(MailError::People(to.len()));
        }
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&server.host);
        let (tls, port) = match server.tls {
            MailTls::Never => (Tls::None, 25),
            wanted => {
                let mut parameters = TlsParameters::builder(server.host.clone());
                if let Some(pem) = &server.authority {
                    if !String::from_utf8_lossy(pem).contains("-----BEGIN CERTIFICATE-----") {
                        return Err(MailError::Authority);
                    }
                    parameters = parameters.add_root_certificate(Certificate::from_pem(pem)?);
                }
                let parameters = parameters.build()?;
                if wanted == MailTls::Always {
                    (Tls::Wrapper(parameters), 465)
                } else {
                    (Tls::Required(parameters), 587)
                }
            }
        };
        builder = builder.tls(tls).port(server.port.unwrap_or(port)).timeout(Some(ANSWER));
        if let Some((user, password)) = &server.login {
            builder = builder.credentials(Credentials::new(user.clone(), password.clone()));
        }
        let from = person(from)?;
        // As whom it greets: servers turn away who says to be 127.0.0.1.
        builder = builder.hello_name(ClientId::Domain(from.email.domain().to_owned()));
        let to = to.iter().map(|one| person(one)).collect::<Result<_, _>>()?;
        Ok(Self { transport: builder.build(), from, to })
    }

    /// Sends what is new at a site to each person by itself: one whom the server does not know keeps it from nobody else.
    ///
    /// # Errors
    /// When the server takes it for nobody.
    pub(crate) async fn send(&self, site: &str, alerts: &[Alert], link: &str) -> Result<(), MailError> {
        let (mut taken, mut refused) = (false, None);
        for one in &self.to {
            let message = self.message(one, site, alerts, link)?;
            let sent = tokio::time::timeout(ANSWER, self.transport.send(message)).await;
            match sent.map_err(|_| MailError::Silent).and_then(|sent| sent.map(|_| ()).map_err(MailError::Server)) {
                Ok(()) => taken = true,
                Err(error) if error.is_theirs() => {
                    tracing::error!(%error, to = %one.email, "the mail server takes nothing for this address");
                    refused = Some(error);
                }
                // What ails the server ails all; and if some were told, they would be told again.
                Err(error) if !taken => return Err(error),
                Err(error) => {
                    tracing::error!(%error, to = %one.email, "an alert was sent to others and not to this address")
                }
            }
        }
        refused.filter(|_| !taken).map_or(Ok(()), Err)
    }

    fn message(&self, to: &Mailbox, site: &str, alerts: &[Alert], link: &str) -> Result<Message, MailError> {
        // The same news have the same name, so that a mailbox can tell what it was sent twice.
        let mut news = format!("{site} {}", to.email);
        alerts.iter().for_each(|alert| news.extend([" ", &alert.key, " ", &alert.since_ms.to_string()]));
        let name = format!("<{}@{}>", &hex(&sha256(news.as_bytes()))[..32], self.from.email.domain());
        let mut message = Message::builder()
            .from(self.from.clone())
            .to(to.clone())
            .message_id(Some(name))
            .subject(subject(site, alerts))
            .header(ContentType::TEXT_PLAIN)
            .body(text(alerts, link))?;
        // Nobody's holiday notice answers it (RFC 3834).
        let name = HeaderName::new_from_ascii_str("Auto-Submitted");
        message.headers_mut().insert_raw(HeaderValue::new(name, "auto-generated".to_owned()));
        Ok(message)
    }
}

fn subject(site: &str, alerts: &[Alert]) -> String {
    match alerts {
        [alert] => format!("{site}: {}", alert.kind),
        several => format!("{site}: {} things call for somebody", several.len()),
    }
}

fn text(alerts: &[Alert], link: &str) -> String {
    let mut text = String::new();
    for alert in alerts {
        let (day, minute) = (date_of(alert.since_ms / 86_400_000), alert.since_ms / 60_000 % 1_440);
        let _ = writeln!(text, "{}, first found on {day} at {:02}:{:02} UTC:", alert.kind, minute / 60, minute % 60);
        let _ = writeln!(text, "{}\n", alert.words);
    }
    if !link.is_empty() {
        let _ = writeln!(text, "{link}\n");
    }
    text.push_str("Each thing is told once. It stays on the centre's page until it is found no more.\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_what_and_since_when() {
        let alert = |kind: &str, words: &str| Alert {
            site: "shop.example".into(),
            kind: kind.into(),
            key: kind.into(),
            words: words.into(),
            since_ms: 1_795_430_000_000,
            lasts_since_ms: None,
            last_ms: 0,
            told_ms: None,
        };
        let two = [alert("drift", "visits changed"), alert("expiry", "the policy ends")];
        assert_eq!(subject("shop.example", &two), "shop.example: 2 things call for somebody");
        assert_eq!(subject("shop.example", &two[..1]), "shop.example: drift");
        let text = text(&two, "https://centre.example");
        assert!(
            text.starts_with("drift, first found on 2026-11-23 at 10:33 UTC:\nvisits changed\n\nexpiry,"),
            "{text}"
        );
        assert!(text.contains("https://centre.example\n"), "{text}");
    }
}
