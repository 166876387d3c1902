//! `gloaming model check`.

use std::path::Path;

use anyhow::{Context as _, Result};
use gloaming_model::{Model, TOLERANCE};
use gloaming_signal::hash;

use crate::files;

/// Loads a model as devices do and proves it against its manifest.
///
/// # Errors
/// The first difference.
pub fn check(manifest: &Path) -> Result<()> {
    let bytes = files::read(manifest)?;
    let onnx = manifest.with_file_name("model.onnx");
    let onnx = files::read(&onnx)?;
    let model = Model::load(&bytes, &onnx).with_context(|| manifest.display().to_string())?;
    let described = model.manifest();
    println!(
        "{} version {}: {} bytes, sha-256 {}",
        described.id,
        described.version,
        onnx.len(),
        hash::hex(&hash::sha256(&onnx))
    );
    println!("ops: {}", described.onnx.ops.join(", "));
    println!("features: {}", described.input.features.join(", "));
    println!("{} reference rows agree to {TOLERANCE:e}", described.reference.inputs.len());
    Ok(())
}
