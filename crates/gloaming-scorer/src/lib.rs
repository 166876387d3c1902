//! The browser's scorer: tract behind three functions, in the worker that owns the wasm.
//!
//! Loaded only when consent was given, a model is used, and the worker is idle. It sees a row of
//! numbers and answers with one; it has no storage, no network and no clock.
#![forbid(unsafe_code)]

use gloaming_model::{Explanation, Model, Scale};
use wasm_bindgen::prelude::wasm_bindgen;

/// A loaded model.
#[wasm_bindgen]
pub struct Scorer {
    model: Model,
}

#[wasm_bindgen]
impl Scorer {
    /// Loads a model and proves it against its manifest.
    ///
    /// # Errors
    /// The first difference, in words.
    #[wasm_bindgen(constructor)]
    pub fn new(manifest: &[u8], onnx: &[u8]) -> Result<Scorer, String> {
        Model::load(manifest, onnx).map(|model| Self { model }).map_err(|error| error.to_string())
    }

    /// The probability for one row of features.
    ///
    /// # Errors
    /// When the row is not what the model takes.
    pub fn score(&self, features: &[f32]) -> Result<f32, String> {
        self.model.score(features).map_err(|error| error.to_string())
    }

    /// Why a row gets the score it gets: whether that is exact (1) or sampled (0), whether it is told in log-odds (1) or in
    /// the score itself (0), what usual rows come to, and what each feature adds to that.
    ///
    /// # Errors
    /// When the row is not what the model takes.
    pub fn explain(&self, features: &[f32]) -> Result<Vec<f64>, String> {
        let Explanation { base, values, scale, exact } =
            self.model.explain(features).map_err(|error| error.to_string())?;
        let head = [f64::from(u8::from(exact)), f64::from(u8::from(scale == Scale::LogOdds)), base];
        Ok(head.into_iter().chain(values).collect())
    }
}
