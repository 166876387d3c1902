//! The edge without IO: windows, duplicates, closing, release, sealing and delivery.
//!
//! [`Edge`] is a state machine. Time, entropy, storage and the folding guest are arguments, so the same
//! code runs under a real clock over a real log and under a simulator over a failing one. It keeps
//! three promises:
//!
//! 1. *Acknowledged means durable.* [`Edge::ingest`] returns only after [`Storage::append`] has.
//! 2. *Noise once.* A window's batch, its debit, its place in the sequence and the deletion of its exact
//!    cells and key are one [`Storage::release`]; before it nothing has left, after it the same bytes go.
//! 3. *Nothing by accident.* Windows are released by policy and clock, never because data came: that a
//!    batch exists says nothing about whether anybody was there.
//!
//! What it is not: a server. `gloaming-edge` gives it sockets, wasmtime and redb.
#![forbid(unsafe_code)]

mod clock;
mod delivery;
mod edge;
mod error;
mod group;
mod guest;
mod ids;
mod ingest;
mod keeper;
mod open;
mod relay;
mod release;
mod share;
mod storage;
mod vault;

pub use clock::Timekeeper;
pub use delivery::Delivered;
pub use edge::{Edge, Tally};
pub use error::{EdgeError, LoadPolicyError};
pub use guest::{Guest, GuestError};
pub use ingest::Answer;
pub use keeper::{Keeper, Place};
pub use open::{Anchor, Bounds, ClockDoubt, Opening};
pub use relay::{
    Load, MemoryRelayStore, Relay, RelayBounds, RelaySnapshot, RelayStore, RelayTally, SealedParcel, open_load,
};
pub use share::Posted;
pub use storage::{
    Chunk, Cursor, MemoryStorage, OutboxRow, PolicyRow, ReleaseCommit, Snapshot, Storage, StorageError, Waiting,
    WindowName, WrappedKey,
};
pub use vault::{Entropy, WrappingKey};
