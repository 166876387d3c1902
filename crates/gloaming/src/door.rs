//! How strangers are received: TLS, and what one address may take. The same keys for edge and centre.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};
use gloaming_edge::system_entropy;
use gloaming_http::{AddressLimits, IpNet, Listener, Tls};
use serde::Deserialize;
use tokio::net::TcpListener;

/// Keys of a door, in either section.
pub const DOOR: [&str; 4] = ["tls_certificate", "tls_key", "trusted_proxies", "requests_per_second"];

/// How often files are looked at for a change.
pub const LOOK: Duration = Duration::from_secs(60);

/// See [`crate::config::EXAMPLE`].
#[derive(Clone, Debug, Deserialize)]
pub struct Door {
    /// The certificate chain in PEM.
    pub tls_certificate: Option<PathBuf>,
    /// Its key.
    pub tls_key: Option<PathBuf>,
    /// Proxies, as addresses or networks.
    #[serde(default = "loopback")]
    pub trusted_proxies: Vec<String>,
    /// Requests of one address a second, and ten times that at once; 0 is no limit.
    #[serde(default = "per_second")]
    pub requests_per_second: u32,
}

fn loopback() -> Vec<String> {
    ["127.0.0.1", "::1"].map(str::to_owned).to_vec()
}

fn per_second() -> u32 {
    AddressLimits::default().per_second
}

/// A certificate on disk that may be renewed.
pub struct Certificate {
    tls: Tls,
    files: [PathBuf; 2],
    seen: [Option<SystemTime>; 2],
}

impl Door {
    /// Puts `against` before relative paths.
    pub fn paths(&mut self, mut against: impl FnMut(&mut PathBuf)) {
        [&mut self.tls_certificate, &mut self.tls_key].into_iter().flatten().for_each(&mut against);
    }

    /// The proxies that are believed.
    ///
    /// # Errors
    /// With the one that is neither an address nor a network.
    pub fn proxies(&self) -> Result<Vec<IpNet>> {
        let network = |text: &String| {
            let wrong =
                || format!("`{text}` in trusted_proxies; write an address or a network, 10.0.0.0/8 for instance");
            text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).with_context(wrong)
        };
        self.trusted_proxies.iter().map(network).collect()
    }

    /// The certificate, when TLS is asked for.
    ///
    /// # Errors
    /// When only half of it is named, or it cannot be read.
    pub fn certificate(&self) -> Result<Option<Certificate>> {
        match (&self.tls_certificate, &self.tls_key) {
            (None, None) => Ok(None),
            (Some(certificate), Some(key)) => {
                let files = [certificate.clone(), key.clone()];
                // Looked at before it is read: a renewal in between is then seen later, not missed.
                let seen = times(&files);
                Ok(Some(Certificate { tls: Tls::load(certificate, key)?, files, seen }))
            }
            _ => bail!("tls_certificate and tls_key belong together: name both, or neither"),
        }
    }

    /// A listener on a socket that receives strangers like this.
    ///
    /// # Errors
    /// As [`Door::proxies`].
    pub fn listener(&self, socket: TcpListener, certificate: Option<&Certificate>) -> Result<Listener> {
        let listener = Listener::from(socket).tls(certificate.map(|certificate| certificate.tls.clone()));
        let per_second = self.requests_per_second;
        let limits = AddressLimits { per_second, burst: per_second.saturating_mul(10), ..AddressLimits::default() };
        Ok(listener.guarded(limits, self.proxies()?, || {
            let mut key = [0; 32];
            system_entropy()(&mut key);
            key
        }))
    }
}

fn times(files: &[PathBuf; 2]) -> [Option<SystemTime>; 2] {
    [0, 1].map(|file| std::fs::metadata(&files[file]).ok()?.modified().ok())
}

impl Certificate {
    /// Reads both files anew when one has changed, or `anyway`. What is wrong is said, and what was in force stays.
    pub fn renew(&mut self, anyway: bool) {
        let now = times(&self.files);
        if now == self.seen && !anyway {
            return;
        }
        match self.tls.reload() {
            Ok(()) => {
                self.seen = now;
                tracing::info!(certificate = %self.files[0].display(), "the certificate was read anew");
            }
            // The other half may be on its way: it is tried again.
            Err(error) => tracing::error!(%error, "the certificate before stays in force"),
        }
    }
}
