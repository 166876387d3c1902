//! What can be known from released cells, and how surely.
//!
//! The centre has nothing but sums with exact noise on them. Everything here is a pure function over such
//! cells: values and the variance of their noise go in, figures with intervals that include the noise come
//! out. No clock, no files, no randomness but a stated seed.
#![forbid(unsafe_code)]

mod cells;
mod corrections;
mod distribution;
pub mod draws;
pub mod drift;
pub mod experiment;
pub mod fairness;
pub mod marginals;
pub mod performance;
pub mod series;
mod share;
pub mod votes;

pub use cells::{Cells, CellsError, Estimate};
pub use share::{Mean, count, ratio, share};
