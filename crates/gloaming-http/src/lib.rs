//! Listeners with limits, and the small client that delivers.
//!
//! [`serve`] runs an axum router over hyper with a bound on everything a stranger decides: open
//! connections, time to send the head, time for a whole request, bytes of a body. [`Client`] posts
//! bytes to one of several addresses and gives up in time.
//!
//! What it is not: TLS. A proxy in front ends it for now.
#![forbid(unsafe_code)]

mod assets;
mod client;
mod server;

pub use assets::{Asset, Assets};
pub use client::{Client, ClientError};
pub use server::{Limits, serve};
