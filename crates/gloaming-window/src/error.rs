//! What can go wrong, in the words an operator reads.

use gloaming_policy::author::SignError;

use crate::guest::GuestError;
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
    /// A memory bound.
    #[error("full: {0}")]
    Full(&'static str),
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
    /// For another edge.
    #[error("the policy's home edges are {0}; this edge is not among them")]
    NotHome(String),
    /// A bound, the store or the guest.
    #[error(transparent)]
    Edge(#[from] EdgeError),
}
