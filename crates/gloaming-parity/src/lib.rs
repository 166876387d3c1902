//! Features and scores behind three plain exports and without any import: the code that devices run, for every host of wasm.
//!
//! `gloaming model evaluate` runs it under wasmtime and states how far a model is off there; tests compare its features with
//! native ones bit by bit. It is compiled as the modules of browsers are, so that what is compared is what visitors get.
//!
//! What is asked of [`scores`], all numbers little-endian:
//! ```text
//! | manifest's length, u32 | model's length, u32 | manifest.json | model.onnx | rows, f32 … |
//! ```
//! and what it answers: a byte 1 and a score (f32) for each row, or a byte 0 and why there are none (UTF-8).
//!
//! What it is not: a service. An instance answers once; what it was given is never freed.
#![cfg_attr(not(target_arch = "wasm32"), forbid(unsafe_code))]

use gloaming_behavior::{Config, Tracker};
use gloaming_model::Model;
use gloaming_signal::Event;
use gloaming_signal::cbor;

/// What an answer with scores begins with.
const SCORED: u8 = 1;

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

/// What is asked of [`scores`]: a model by both its files, and rows of its features.
#[must_use]
pub fn asked(manifest: &[u8], onnx: &[u8], rows: &[Vec<f32>]) -> Vec<u8> {
    // Both were read from files of at most 64 MiB.
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
    let numbers = rows.iter().flatten().flat_map(|number| number.to_le_bytes());
    [&length(manifest)[..], &length(onnx), manifest, onnx].concat().into_iter().chain(numbers).collect()
}

/// Loads the model, which proves it against its manifest, and scores the rows.
#[must_use]
pub fn scores(asked: &[u8]) -> Vec<u8> {
    match scored(asked) {
        Ok(scores) => [SCORED].into_iter().chain(scores.iter().flat_map(|score| score.to_le_bytes())).collect(),
        Err(why) => [&[0][..], why.as_bytes()].concat(),
    }
}

/// Scores by what [`scores`] answered.
///
/// # Errors
/// Why there are none.
pub fn answered(answer: &[u8]) -> Result<Vec<f32>, String> {
    match answer.split_first() {
        Some((&SCORED, scores)) => Ok(floats(scores)),
        Some((_, why)) => Err(String::from_utf8_lossy(why).into_owned()),
        None => Err("it answered nothing".into()),
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|number| f32::from_le_bytes(*number)).collect()
}

fn scored(asked: &[u8]) -> Result<Vec<f32>, String> {
    let (manifest, onnx, rows) = parts(asked).ok_or("what was asked is cut off")?;
    let model = Model::load(manifest, onnx).map_err(|error| error.to_string())?;
    let (width, numbers) = (model.manifest().input.features.len(), floats(rows));
    if rows.len() % (4 * width) != 0 {
        return Err(format!("{} bytes are no rows of {width} numbers", rows.len()));
    }
    let score = |(at, row): (usize, &[f32])| model.score(row).map_err(|error| format!("row {at}: {error}"));
    numbers.chunks_exact(width).enumerate().map(score).collect()
}

fn parts(asked: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (lengths, rest) = asked.split_at_checked(8)?;
    let length = |at: usize| Some(u32::from_le_bytes(*lengths.get(at..)?.first_chunk()?) as usize);
    let (manifest, rest) = rest.split_at_checked(length(0)?)?;
    let (onnx, rows) = rest.split_at_checked(length(4)?)?;
    Some((manifest, onnx, rows))
}

#[cfg(target_arch = "wasm32")]
#[allow(unsafe_code)]
mod exports {
    /// Room for `len` bytes; the caller writes there what it asks. Never freed: the instance is.
    #[unsafe(no_mangle)]
    extern "C" fn room(len: usize) -> *mut u8 {
        Vec::leak(vec![0u8; len]).as_mut_ptr()
    }

    /// Features of the recording at `at`; the result's address in the high half, its length in the low.
    #[unsafe(no_mangle)]
    extern "C" fn run(at: *const u8, len: usize) -> u64 {
        // SAFETY: the caller passes what `room` returned for this length, and wrote all of it.
        let recording = unsafe { core::slice::from_raw_parts(at, len) };
        place(super::features(recording).unwrap_or_default())
    }

    /// Scores of what is asked at `at`; the answer's place as that of `run`.
    #[unsafe(no_mangle)]
    extern "C" fn score(at: *const u8, len: usize) -> u64 {
        // SAFETY: the caller passes what `room` returned for this length, and wrote all of it.
        let asked = unsafe { core::slice::from_raw_parts(at, len) };
        place(super::scores(asked))
    }

    fn place(answer: Vec<u8>) -> u64 {
        let answer = answer.leak();
        (answer.as_ptr() as u64) << 32 | answer.len() as u64
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A model of this project.
    fn shipped() -> (Vec<u8>, Vec<u8>) {
        let folder = std::env::var("CARGO_MANIFEST_DIR").unwrap() + "/../../models/purchase-intent/";
        let read = |name: &str| std::fs::read(folder.clone() + name).unwrap();
        (read("manifest.json"), read("model.onnx"))
    }

    #[test]
    fn what_is_asked_is_answered_with_the_models_own_scores() {
        let (manifest, onnx) = shipped();
        let model = Model::load(&manifest, &onnx).unwrap();
        let rows = &model.manifest().reference.inputs;
        let scores = answered(&scores(&asked(&manifest, &onnx, rows))).unwrap();
        assert_eq!(scores.len(), 64);
        for (row, score) in rows.iter().zip(scores) {
            assert_eq!(model.score(row).unwrap().to_bits(), score.to_bits());
        }
    }

    #[test]
    fn what_cannot_be_answered_is_told() {
        let (manifest, onnx) = shipped();
        let why = |asked: &[u8]| answered(&scores(asked)).unwrap_err();
        let whole = asked(&manifest, &onnx, &[vec![1.0; 8]]);
        assert!(why(&whole[..whole.len() - 1]).contains("are no rows of 8 numbers"));
        assert_eq!(why(&whole[..manifest.len()]), "what was asked is cut off");
        assert_eq!(why(&[]), "what was asked is cut off");
        assert!(why(&asked(&manifest, &onnx[1..], &[])).contains("one of them was changed"));
        assert!(why(&asked(&manifest, &onnx, &[vec![f32::NAN; 8]])).starts_with("row 0: the model takes 8 finite"));
        assert_eq!(answered(&[]).unwrap_err(), "it answered nothing");
    }
}
