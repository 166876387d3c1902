//! Exact noise, noised thresholds, and accounts that refuse to overspend.
//!
//! The promise is made to a *unit*: one device on one site on one day, added or removed (add/remove
//! adjacency), in zero-concentrated differential privacy (zCDP; Bun and Steinke 2016). Every metric
//! declares `per_day` (contributions a device may make) and `rho` (the price of one). [`scale`] turns
//! the two into the noise's width such that a whole day of one metric costs at most `per_day x rho`
//! however its contributions fall on windows; [`DeviceAccountant`] and [`EdgeLedger`] see to it that
//! all metrics together stay within the day's budget; [`Rho::epsilon`] says it in (epsilon, delta).
//!
//! Samplers are those of `prio::dp` (exact rationals, Canonne, Kamath and Steinke 2020); none is ours.
//! Seeds are arguments. No function here returns a value without its noise.
//!
//! ```
//! use gloaming_privacy::Rho;
//! let day = Rho::from_micro(250_000);                     // 0.25
//! assert!((day.epsilon(1e-6) - 3.54).abs() < 0.01);       // a day
//! assert!(day.times(30).epsilon(1e-6) > 20.0);            // days add up
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod account;
#[cfg(feature = "noise")]
mod noise;
pub mod plan;
mod rho;
mod scale;

pub use account::{Charge, DeviceAccountant, EdgeLedger, Refusal};
#[cfg(feature = "noise")]
pub use noise::{noised, sample};
pub use rho::Rho;
pub use scale::{Mechanism, Scale, scale};

/// Milliseconds of a day: the day of the promise is a UTC day of edge time.
pub const DAY_MS: u64 = 24 * 60 * 60 * 1000;
