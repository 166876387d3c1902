//! What keeps an edge from doing what it was asked.

use gloaming_window::{EdgeError, LoadPolicyError};

use crate::guest::WasmGuestError;

/// Why an edge did not start or does not answer.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The queue is full or the store fails; come again.
    #[error("busy; come again in a second")]
    Busy,
    /// The component.
    #[error(transparent)]
    Guest(#[from] WasmGuestError),
    /// The state.
    #[error(transparent)]
    Edge(#[from] EdgeError),
    /// A policy given at start.
    #[error("a policy was refused: {0}")]
    Policy(#[from] LoadPolicyError),
    /// A demonstration off this machine.
    #[error(
        "the policy of {0} has windows of seconds, which only an edge on loopback serves; listen on 127.0.0.1 or use hour, day or week"
    )]
    DemoOffLoopback(String),
    /// Nobody to believe about the centre.
    #[error("{0}")]
    Tls(#[from] gloaming_http::TlsError),
    /// No key for a site.
    #[error("there is no pinned key for {0}; add it to the edge's [sites]")]
    NoPin(String),
    /// Signed, but by the key of another site.
    #[error(
        "the policy of {0} is signed by a key that is pinned for another site; sign it with the key in [sites] of {0}"
    )]
    OtherSitesKey(String),
    /// The new key does not fit what is in force.
    #[error(
        "the policy of {0} that is in force is not signed by the key that is pinned now: the key before stays pinned; sign a version with both keys first"
    )]
    PinKept(String),
    /// The folder of models.
    #[error("models_folder cannot be read: {0}")]
    Models(std::io::Error),
    /// A policy whose model is not here.
    #[error(
        "version {version} of the policy of {site} is not put in force: the {what} of its model {model} is not here as it was signed ({hash}); put that file, whole, into models_folder"
    )]
    Model {
        /// The site.
        site: String,
        /// The policy's version.
        version: u32,
        /// The model.
        model: String,
        /// Manifest or file.
        what: &'static str,
        /// Its SHA-256 in the policy.
        hash: String,
    },
    /// A listener.
    #[error("cannot listen: {0}")]
    Listen(#[from] std::io::Error),
}
