//! The policy: one signed document that says everything that may be computed, kept and counted.
//!
//! An owner writes TOML; [`author::compile`] turns it into a [`Policy`], whose deterministic CBOR is
//! what devices, edges and the centre read, and whose SHA-256 is its name. A [`author::Signed`] bundle carries
//! the policy and its *notice* (the small human part that the loader reads before consent), each
//! signed with ed25519. Nothing that a policy does not declare has a representation anywhere else:
//! a contribution names a metric and a cell of it, and that is all there is to send.
//!
//! What it is not: a place for defaults. What is not in the document does not happen.
//!
//! The features of this crate split authors from readers: with `author` off (browser, edge component)
//! only the compiled document and its arithmetic remain, without TOML and without signatures.
#![cfg_attr(not(feature = "author"), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod bins;
pub mod count;
mod document;
mod experiment;
mod learner;
mod metric;
mod model;
mod pages;
mod sound;

#[cfg(feature = "author")]
pub mod author;
#[cfg(feature = "author")]
pub mod gate;

pub use bins::{Beside, Cell, Score, WAYS, score_steps};
pub use document::{Axis, Bins, PageFeature, PageFeatureKind, PageGroup, Policy, Purpose, Source};
pub use experiment::{Experiment, Guarded, WHOLE};
pub use learner::{Learner, TERM_BINS, TERMS, Term};
pub use metric::{Metric, grace_ms};
pub use model::{Model, ModelState, PAGE_INPUT};
pub use pages::{campaign_of, group_of, referrer_class};
