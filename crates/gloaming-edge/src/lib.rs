//! The edge: takes contributions over HTTP, folds them in a wasm component, releases windows with noise.
//!
//! All decisions are `gloaming-window`'s; here are the sockets, the wasm host, the log on disk, and one
//! thread that owns the state and commits in groups. An address is read by nobody and written nowhere;
//! logs and metrics carry no payload, no address, and no count of any one site.
//!
//! What it is not: the end of TLS, nor a place to look at data. Exact cells lie here encrypted until
//! their window is released, and whoever operates this process could read them: tier `edge` says so.

mod anchor;
mod clock;
mod config;
mod contributions;
mod deliver;
mod ending;
mod engine;
mod error;
mod guest;
mod home;
mod in_place;
mod journal;
mod lanes;
mod log;
mod models;
mod opening;
mod operator;
#[doc(hidden)]
pub mod outside;
mod parcels;
mod queue;
mod relay;
mod server;
mod shadow;
mod slots;
mod stops;

pub use clock::{Clock, TellsTime, system_clock};
pub use config::{Config, EntropySource, Home, system_entropy};
pub use engine::{Engine, EngineError, Reload};
pub use gloaming_http::{Asset, Assets};
pub use guest::{HostLimits, WasmGuest, WasmGuestError};
pub use in_place::InPlace;
pub use journal::JOURNAL_BYTES;
pub use log::RedbStorage;
pub use server::{Running, start};
pub use shadow::Guests;
pub use slots::SLOT;
