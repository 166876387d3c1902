//! The edge component: judges contributions, adds them up, and releases windows with noise.
//!
//! Three pure functions behind a WIT world without imports: no clock, no randomness, no files, no
//! network, nothing to leak through. [`core`] holds them as plain Rust, tested natively; the rest is
//! the component's shell, compiled for wasm32 only.
#![cfg_attr(not(target_arch = "wasm32"), forbid(unsafe_code))]

pub mod core;

#[cfg(target_arch = "wasm32")]
mod shell;
