//! What moves through Gloaming, and the bytes it moves in.
//!
//! Three things: an [`Event`] (what a person did; it never leaves the device), a [`Contribution`]
//! (one device's cell for one metric and one window; the only thing that may leave), and
//! [`CellKey`] with a value (what contributions add up to, merged by SUM only so that any engine
//! can merge it). All bytes that cross a boundary are deterministic CBOR (RFC 8949, section 4.2.1):
//! a value has exactly one encoding, every decoder refuses all others, and so a hash or a signature
//! over the bytes is one over the value.
//!
//! ```
//! use gloaming_signal::{Contribution, Submission, cbor};
//! let submission = Submission {
//!     site: "shop.example".into(),
//!     policy_version: 7,
//!     policy_hash: [9; 32],
//!     check: false,
//!     contributions: vec![Contribution { id: [1; 16], metric: 12, window: 20_782, cell: 3, value: 1 }],
//! };
//! let bytes = cbor::to_vec(&submission);
//! assert_eq!(cbor::from_slice::<Submission>(&bytes).unwrap(), submission);
//! ```
//!
//! What it is not: a general CBOR library, nor a schema for raw events on the wire. There is no
//! encoding of an [`Event`] that any part of Gloaming sends.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod batch;
pub mod cbor;
pub mod contribution;
pub mod event;
pub mod fold;
pub mod hash;
pub mod limits;
pub mod reason;
mod records;
pub mod relay;
mod sort;

pub use batch::{Release, ReleaseState, SealedBatch};
pub use contribution::{CellKey, Contribution, Submission};
pub use event::{Event, EventKind};
pub use fold::{Row, Verdict};
pub use reason::Reason;
pub use sort::insertion_sort;
