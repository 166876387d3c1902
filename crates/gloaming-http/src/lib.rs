//! Listeners with limits, and the small client that delivers.
//!
//! [`serve`] answers over HTTP/1.1 and HTTP/2, in plain text or TLS, with a bound on everything a stranger decides:
//! open connections, time to send the head, time for a whole request, requests and connections of one
//! address. [`Client`] posts bytes and gives up in time.
//!
//! What it is not: a log of who came. An address reaches no handler and no line of a
//! log; a handler that must tell networks apart gets a [`Network`], which is a number for some days.
#![forbid(unsafe_code)]

mod assets;
mod client;
mod conversation;
mod guard;
mod house;
mod linger;
#[doc(hidden)]
pub mod outside;
mod plain;
mod prefixed;
mod server;
mod tls;
mod visitor;

pub use assets::{Asset, Assets};
pub use client::{Client, ClientError};
pub use guard::{AddressLimits, Network};
pub use ipnet::IpNet;
pub use plain::{Brief, Head};
pub use server::{Answers, Limits, Listener, Said, TurnedAway, bind, serve};
pub use tls::{Roots, Tls, TlsError};
