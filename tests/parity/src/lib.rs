//! The tracker behind two plain exports, so that a test can run the very code of the collector under
//! wasmtime and compare its features bit by bit with a native run. Ships nowhere.
#![cfg_attr(not(target_arch = "wasm32"), forbid(unsafe_code))]

use gloaming_behavior::{Config, Tracker};
use gloaming_signal::Event;
use gloaming_signal::cbor;

/// Features of a recorded stream: CBOR `[config, [event…]]` in, the bytes of the features out.
///
/// # Errors
/// When the recording is not in that form.
pub fn features(recording: &[u8]) -> Result<Vec<u8>, cbor::Error> {
    let (config, events): (Config, Vec<Event>) = cbor::from_slice(recording)?;
    let mut tracker = Tracker::new(config);
    events.into_iter().for_each(|event| tracker.push(event));
    Ok(tracker.features(true).to_bytes())
}

#[cfg(target_arch = "wasm32")]
#[allow(unsafe_code)]
mod exports {
    /// Room for `len` bytes; the caller writes the recording there. Never freed: the instance is.
    #[unsafe(no_mangle)]
    pub extern "C" fn room(len: usize) -> *mut u8 {
        Vec::leak(vec![0u8; len]).as_mut_ptr()
    }

    /// Features of the recording at `at`; the result's address in the high half, its length in the low.
    #[unsafe(no_mangle)]
    pub extern "C" fn run(at: *const u8, len: usize) -> u64 {
        // SAFETY: the caller passes what `room` returned for this length, and wrote all of it.
        let recording = unsafe { core::slice::from_raw_parts(at, len) };
        let features = super::features(recording).unwrap_or_default().leak();
        (features.as_ptr() as u64) << 32 | features.len() as u64
    }
}
