//! The exported models in `tests/exporters/fixtures`, lowered, with manifests of their own.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use gloaming_model::{Choice, LowerError, Lowered, lower};
use gloaming_signal::hash;
use serde_json::{Value, json};

/// A path in this repository.
#[must_use]
pub fn at(path: &str) -> PathBuf {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("..").join(path)
}

/// A list of numbers.
#[must_use]
pub fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

/// A manifest of a lowered model, with the rows that it is held to.
#[must_use]
pub fn manifest(lowered: &Lowered, said: &Value) -> Vec<u8> {
    let features: Vec<String> = (0..lowered.width).map(|at| format!("feature-{at}@1")).collect();
    let edges: Vec<f64> = (1..20).map(|at| f64::from(at) / 20.0).collect();
    let manifest = json!({
        "format": 1,
        "id": "exported",
        "version": 1,
        "onnx": {
            "file": "model.onnx",
            "sha256": hash::hex(&hash::sha256(&lowered.onnx)),
            "bytes": lowered.onnx.len(),
            "opsets": lowered.opsets,
            "ops": lowered.ops,
        },
        "input": { "name": gloaming_model::INPUT, "shape": [1, lowered.width], "features": features },
        "output": { "name": gloaming_model::OUTPUT, "shape": [1, 1], "meaning": "a test" },
        "score_edges": edges,
        "reference": { "inputs": said["inputs"], "outputs": said["outputs"] },
    });
    serde_json::to_vec(&manifest).unwrap()
}

/// An exported file, and what its exporter said of it.
#[must_use]
pub fn fixture(name: &str, folder: &Path) -> (Vec<u8>, Value) {
    let said = fs::read(folder.join(format!("{name}.json"))).unwrap();
    (fs::read(folder.join(format!("{name}.onnx"))).unwrap(), serde_json::from_slice(&said).unwrap())
}

/// Names of all of them.
#[must_use]
pub fn names(folder: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| {
        entry.unwrap().file_name().to_str()?.strip_suffix(".onnx").map(str::to_owned)
    };
    let mut names: Vec<String> = fs::read_dir(folder).unwrap().filter_map(name).collect();
    names.sort_unstable();
    names
}

/// Rows that a model was not proved on.
#[must_use]
pub fn others(said: &Value) -> Vec<Vec<f32>> {
    let other = |row: &Value| floats(row).iter().map(|number| (*number * 1.5 + 0.1) as f32).collect();
    said["inputs"].as_array().unwrap().iter().map(other).collect()
}

/// One of them, lowered to the column that its exporter meant.
///
/// # Errors
/// When it cannot be.
pub fn lowered(onnx: &[u8], said: &Value) -> Result<Lowered, LowerError> {
    let column = said["column"].as_u64().and_then(|column| usize::try_from(column).ok());
    lower(onnx, &Choice { output: None, column })
}
