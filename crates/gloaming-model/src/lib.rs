//! Models: ONNX through tract, held to a manifest.
//!
//! A model is two files. The *manifest* says what the other must be: its SHA-256, its op set, the names
//! and shapes of its one input and one output, the features it takes, and reference rows with the
//! outputs that its trainer computed. [`Model::load`] refuses whatever differs, and so a model that
//! loads computes here what it computed where it was trained, to 1e-5.
//!
//! Only a probability output is taken: tract 0.23 computes tree-ensemble *labels* wrongly, and nothing
//! in Gloaming needs a label.
//!
//! What it is not: a model's permission to act. That is the gate's.
#![forbid(unsafe_code)]

#[cfg(feature = "lower")]
pub mod evaluate;
mod explain;
#[cfg(feature = "lower")]
mod lower;
mod manifest;
mod model;
mod node;
mod tensors;
mod trees;

pub use explain::{Explanation, ORDERS, Reason, Scale};
#[cfg(feature = "lower")]
pub use lower::{Additive, Choice, INPUT, LowerError, Lowered, OUTPUT, Recalibration, Steps, lower, recalibrated};
pub use manifest::{Manifest, ManifestError};
pub use model::{ALLOWED_OPS, Model, ModelError, TOLERANCE};
