//! The browser's scorer: tract behind three functions, in the worker that owns the wasm.
//!
//! Loaded only when consent was given, a model is used, and the worker is idle. It sees a row of
//! numbers and answers with one; it has no storage and no network, and its clock is the one that it is handed.
#![forbid(unsafe_code)]

use gloaming_behavior::words::Language;
use gloaming_model::{Explanation, Model, Reason, Scale};
use js_sys::Function;
use serde::Serialize;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

/// What an explanation may take: a third of a frame, so that a page that scrolls does not stutter.
const EXPLAIN_MS: f64 = 5.0;

/// What a page is told with a score.
#[derive(Serialize)]
struct Reasons {
    /// What moved the score most, first.
    reasons: Vec<Reason>,
    /// Whether these are exact, or sampled.
    exact: bool,
    /// On how many sampled orders they rest; 0 when they are exact.
    orders: usize,
}

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

    /// The kind that a score stands for, when the model sorts visits into kinds.
    #[must_use]
    pub fn kind(&self, score: f32) -> Option<String> {
        self.model.manifest().kind(score).map(str::to_owned)
    }

    /// Why a row gets the score it gets: whether that is exact (1) or sampled (0), whether it is told in log-odds (1) or in
    /// the score itself (0), what usual rows come to, and what each feature adds to that.
    ///
    /// # Errors
    /// When the row is not what the model takes.
    pub fn explain(&self, features: &[f32]) -> Result<Vec<f64>, String> {
        let Explanation { base, values, scale, exact, .. } =
            self.model.explain(features).map_err(|error| error.to_string())?;
        let head = [f64::from(u8::from(exact)), f64::from(u8::from(scale == Scale::LogOdds)), base];
        Ok(head.into_iter().chain(values).collect())
    }

    /// The same in words, for a visitor: `{ reasons: [{ feature, adds, text }], exact, orders }`, three reasons at most, in the
    /// language of a tag such as `de-AT`, English where it is not one of four. By `clock`, which tells milliseconds, as many
    /// orders are sampled as 5 ms allow.
    ///
    /// # Errors
    /// When the row is not what the model takes.
    pub fn reasons(&self, features: &[f32], language: &str, clock: &Function) -> Result<JsValue, String> {
        if !self.model.manifest().output.kinds.is_empty() {
            // What moves a kind's number moves it past other kinds, which says nothing.
            return serde_wasm_bindgen::to_value(&Reasons { reasons: vec![], exact: false, orders: 0 })
                .map_err(|e| e.to_string());
        }
        // A clock that fails has no time left: one order is sampled.
        let mut now = || clock.call0(&JsValue::NULL).ok().and_then(|now| now.as_f64()).unwrap_or(f64::INFINITY);
        let explained = self.model.explain_within(features, EXPLAIN_MS, &mut now);
        let explanation = explained.map_err(|error| error.to_string())?;
        let reasons = explanation.reasons(&self.model.manifest().input.features, features, Language::of(language));
        let told = Reasons { reasons, exact: explanation.exact, orders: explanation.orders };
        serde_wasm_bindgen::to_value(&told).map_err(|error| error.to_string())
    }
}
