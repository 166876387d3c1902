//! What end-to-end tests and the demonstration's driver share: a browser, a shop under observation,
//! people who visit it, and the truth about what they did.
#![forbid(unsafe_code)]

pub mod batches;
pub mod browser;
pub mod crowd;
pub mod exported;
pub mod look;
pub mod page;
pub mod persona;
pub mod postgres;
pub mod process;
pub mod relearn;
pub mod stage;
pub mod story;
pub mod truth;
pub mod watch;
