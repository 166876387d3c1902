//! What can go wrong, in the words an operator reads.

use gloaming_policy::author::SignError;
use gloaming_privacy::DAY_MS;

use crate::guest::GuestError;
use crate::open::ClockDoubt;
use crate::storage::StorageError;

/// Why an edge cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    /// The store failed; nothing was acknowledged.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The guest failed where no contribution can be to blame.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// What the guest returned is not what it may return.
    #[error("the edge component returned {0}")]
    Untrue(&'static str),
    /// The store holds a policy or window that cannot be read.
    #[error("the store holds {0}; was the wrapping key or the pinned key changed?")]
    Unreadable(String),
    /// A bound.
    #[error("full: {0}")]
    Full(&'static str),
    /// Closed since its store failed.
    #[error("the store failed and is not open again yet")]
    Closed,
    /// The anchor.
    #[error(
        "the anchor {0}; it must be readable and writable, for it tells an old copy of the store from the store (`anchor_file` moves it)"
    )]
    Anchor(String),
    /// Another store than the one that was open before.
    #[error("this is another store than the one that was open before: is its disk mounted?")]
    OtherStore,
    /// An anchor, and no store that belongs to it.
    #[error(
        "the anchor tells of a store that is not here: mount its disk; if it is lost for good, delete the anchor and begin anew"
    )]
    NoStore,
    /// A store that was used, and nothing that tells whether it is an old copy.
    #[error(
        "the store was used before, and its anchor is missing, so nothing tells whether it is an old copy: bring the anchor back, or start once with --restored, which drops the windows that are open"
    )]
    NoAnchor,
    /// The clock contradicts the store.
    #[error("{}", clock_words(*.0))]
    Clock(ClockDoubt),
}

fn clock_words(doubt: ClockDoubt) -> String {
    match doubt {
        ClockDoubt::Behind { by_ms } => format!(
            "the clock is {} minutes behind what the store has seen: set it, or start once with --accept-clock; until it has caught up no window opens or closes",
            by_ms / 60_000
        ),
        ClockDoubt::Ahead { by_ms, windows } => format!(
            "the clock is {} days ahead of what the store has seen, and {windows} windows would be skipped: set it, or start once with --accept-clock if the edge was away that long",
            by_ms / DAY_MS
        ),
    }
}

/// Why a policy was not put in force.
#[derive(Debug, thiserror::Error)]
pub enum LoadPolicyError {
    /// The bundle itself.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// A version below the one in force.
    #[error("version {given} is older than version {in_force}, which is in force: versions only grow")]
    RolledBack {
        /// Of the given policy.
        given: u32,
        /// In force.
        in_force: u32,
    },
    /// The version in force with other bytes.
    #[error("ALARM: another policy bears version {0} already; raise the version, and find out who signed twice")]
    SameVersion(u32),
    /// A gate's record that does not go on where the one in force ended.
    #[error(
        "the record of the gate in version {0} is not the one in force with more behind it: entries were left out or changed; bring back the gate.ndjson that the version before was signed with"
    )]
    RecordCut(u32),
    /// For another edge.
    #[error("the policy's home edges are {0}; this edge is not among them")]
    NotHome(String),
    /// Versions change faster than windows close.
    #[error(
        "version {0} still has windows to close, and too many versions wait for that; try again when they are closed"
    )]
    TooMany(u32),
    /// A bound, the store or the guest.
    #[error(transparent)]
    Edge(#[from] EdgeError),
}
