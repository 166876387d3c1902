//! Sessions and features: from a stream of [`gloaming_signal::Event`]s to numbers and categories.
//!
//! The same code runs in the browser, in the trainer and natively, and gives the same bits: all state
//! is integers, time is an argument, and nothing is allocated for an event. [`definitions`] is the
//! table of what each feature means, with its version, thresholds and source.
//!
//! ```
//! use gloaming_behavior::{Config, Number, Tracker};
//! use gloaming_signal::{Event, EventKind};
//! let mut tracker = Tracker::new(Config::default());
//! tracker.push(Event::new(1_000, EventKind::PageView, 0));
//! tracker.push(Event::new(3_000, EventKind::Scroll, 40));
//! tracker.push(Event::new(4_000, EventKind::Scroll, 75));
//! assert_eq!(tracker.features(false).number(Number::MaxScroll), 75);
//! ```
//!
//! Three properties are kept by construction and tested: events of one millisecond may come in any
//! order; consecutive engagement ticks may be merged; and the stream may be cut anywhere, the state
//! stored and read back, without changing a feature.
//!
//! What it is not: identity. A tracker knows one device, and nothing in it names that device.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod config;
pub mod definitions;
mod detect;
mod features;
mod history;
mod pointer;
mod session;
mod tracker;
pub mod words;

pub use config::{Config, GroupKind, MAX_FUNNELS, MAX_GROUPS, MAX_PAGE_FEATURES, MAX_STEPS, OTHER_GROUP, Step};
pub use definitions::{Category, Definition, Number};
pub use features::{Features, NONE};
pub use tracker::{Finished, Tracker};
