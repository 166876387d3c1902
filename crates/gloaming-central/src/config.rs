//! What a centre is told at start.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use gloaming_http::Assets;
use gloaming_policy::author::{PublicKey, SignError};

use crate::alerts::Telling;
use crate::store::{StoreAddress, StoreError};

/// The centre's time, ms since 1970: for "received" columns and expiry, never for windows.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// See the fields.
pub struct Config {
    /// The database.
    pub store: StoreAddress,
    /// Days that released windows are kept; `None` is for good.
    pub retain_days: Option<u32>,
    /// The key each site's policies must be signed with.
    pub pins: BTreeMap<String, PublicKey>,
    /// Signed policies: all versions of which batches may still come.
    pub policies: Vec<Vec<u8>>,
    /// The keys each edge signs with, by the edge's name: two while it changes them.
    pub edges: BTreeMap<String, Vec<PublicKey>>,
    /// The password for reading, under any user name; `None` on loopback only.
    pub password: Option<String>,
    /// `dashboard/…`.
    pub assets: Assets,
    /// Where alerts are told; they are looked for and shown in any case.
    pub telling: Telling,
    /// Pause between two looks for alerts; [`LOOK`] unless somebody watches.
    pub look: Duration,
    /// Routes beside its own.
    pub more: axum::Router,
    /// Time.
    pub clock: Clock,
}

/// Pause between two looks for alerts: a window is an hour at least, and nobody acts within a minute.
pub const LOOK: Duration = Duration::from_secs(60);

/// Days that windows must be kept, when they are not kept for good.
pub(crate) const LEAST_DAYS: u32 = 30;

/// Why a centre did not start, or could not answer.
#[derive(Debug, thiserror::Error)]
pub enum CentralError {
    /// A policy's signature, form or date.
    #[error("a policy was refused: {0}")]
    Policy(#[from] SignError),
    /// A policy for a site without a pinned key.
    #[error("there is no pinned key for a policy in the list; add its site to [sites]")]
    NoPin,
    /// Two policies bear the same site and version.
    #[error(
        "site {0} has two different policies of version {1}; give the later one a higher version and sign it again"
    )]
    TwoPolicies(String, u32),
    /// Two edges with one key.
    #[error("the edges {0} and {1} have one key; each needs its own, so that a batch says who signed it")]
    SharedKey(String, String),
    /// Windows would be deleted before they arrive.
    #[error("retain_days is {0}; a window of a week arrives when it is a week old, so keep {LEAST_DAYS} days at least")]
    RetainTooShort(u32),
    /// Reading would be open to everybody.
    #[error("the centre listens beyond this machine and has no password; set `password_file`, or listen on 127.0.0.1")]
    NoPassword,
    /// The database.
    #[error("the database: {0}")]
    Store(#[from] StoreError),
    /// The listener.
    #[error("cannot listen: {0}")]
    Listen(#[from] std::io::Error),
}
