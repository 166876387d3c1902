//! TLS by rustls: certificates that are read anew without a restart, and no session that would tell visits
//! of one device apart from those of another.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// Why TLS cannot be spoken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that is not there, or holds something else.
    #[error("{0}: {1}; it must be PEM, the server's certificate first, then those that vouch for it")]
    Certificate(PathBuf, pem::Error),
    /// No certificate in it.
    #[error("{0} holds no certificate; it must be PEM, beginning with -----BEGIN CERTIFICATE-----")]
    Empty(PathBuf),
    /// No key in it.
    #[error("{0}: {1}; it must be a private key in PEM, without a passphrase")]
    Key(PathBuf, pem::Error),
    /// Of another certificate, most likely.
    #[error("{0} is not the key of the certificate in {1}: {2}; both must be of the same renewal")]
    Mismatch(PathBuf, PathBuf, rustls::Error),
    /// Nobody to trust.
    #[error(
        "this machine has no root certificates; install `ca-certificates`, or name the one to trust in `central_ca`"
    )]
    NoRoots,
    /// As rustls says.
    #[error("TLS: {0}")]
    Other(#[from] rustls::Error),
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |error| TlsError::Certificate(path.to_owned(), error);
    let all = CertificateDer::pem_file_iter(path).map_err(wrong)?.collect::<Result<Vec<_>, _>>().map_err(wrong)?;
    if all.is_empty() { Err(TlsError::Empty(path.to_owned())) } else { Ok(all) }
}

/// A certificate chain and its key in two files, and what a listener does with them.
#[derive(Clone)]
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    current: Arc<Current>,
    config: Arc<ServerConfig>,
}

#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn read(certificate: &Path, key: &Path) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = certificates(certificate)?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| TlsError::Key(key.to_owned(), error))?;
    let certified = CertifiedKey::from_der(chain, private, &provider())
        .map_err(|error| TlsError::Mismatch(key.to_owned(), certificate.to_owned(), error))?;
    Ok(Arc::new(certified))
}

impl Tls {
    /// Reads both files.
    ///
    /// # Errors
    /// When one cannot be read, or they do not belong together.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let current = Arc::new(Current(RwLock::new(read(certificate, key)?)));
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&current) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // A session that is taken up again names the device to whoever holds the ticket key.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self { certificate: certificate.to_owned(), key: key.to_owned(), current, config: Arc::new(config) })
    }

    /// Reads both files anew, for connections from now on.
    ///
    /// # Errors
    /// As [`Tls::load`]; the certificate before stays in force.
    pub fn reload(&self) -> Result<(), TlsError> {
        let fresh = read(&self.certificate, &self.key)?;
        *self.current.0.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    pub(crate) fn acceptor(&self) -> tokio_rustls::TlsAcceptor {
        Arc::clone(&self.config).into()
    }
}

/// Whom a client believes.
#[derive(Clone, Debug, Default)]
pub enum Roots {
    /// Nobody: addresses with `https` are refused.
    #[default]
    Nobody,
    /// Whom this machine believes.
    System,
    /// Only who is vouched for by a certificate in this file.
    File(PathBuf),
}

pub(crate) fn client(roots: &Roots) -> Result<ClientConfig, TlsError> {
    let mut store = RootCertStore::empty();
    match roots {
        Roots::Nobody => {}
        Roots::System => {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if store.is_empty() {
                return Err(TlsError::NoRoots);
            }
        }
        Roots::File(path) => {
            for certificate in certificates(path)? {
                store.add(certificate)?;
            }
        }
    }
    Ok(ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(store)
        .with_no_client_auth())
}
