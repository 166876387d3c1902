//! The next version of a model that is there.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use gloaming_model::{INPUT, Lowered, Model, OUTPUT};
use gloaming_signal::hash;
use serde_json::{Value, json};

use crate::files::{self, Brought};

/// How many versions before it a manifest names. One that stands beside another comes a few versions after it; each costs devices
/// some seventy bytes.
const LINE: usize = 16;

/// What the manifest before says, with the facts of the next file, and without what was said of the one before. It is the
/// version after that one, where no other number is given.
pub(super) fn said(before: &Brought, next: &Lowered, version: Option<u32>) -> Result<Value> {
    let mut said: Value = serde_json::from_slice(&before.manifest)?;
    said["version"] = json!(version.unwrap_or(before.model.manifest().version + 1));
    said["onnx"] = json!({
        "file": "model.onnx",
        "sha256": hash::hex(&hash::sha256(&next.onnx)),
        "bytes": next.onnx.len(),
        "opsets": next.opsets,
        "ops": next.ops,
    });
    // Beside the one that it was made of it has another name, and would not be known for its next version.
    let mut made_of = said["made_of"].as_array().cloned().unwrap_or_default();
    made_of.push(hash::hex(&before.hash()).into());
    made_of.drain(..made_of.len().saturating_sub(LINE));
    said["made_of"] = made_of.into();
    said["input"]["name"] = INPUT.into();
    said["output"]["name"] = OUTPUT.into();
    if let Some(said) = said.as_object_mut() {
        said.remove("evidence");
    }
    Ok(said)
}

/// Proves it, and writes it into a folder of its own.
pub(super) fn write(said: &Value, onnx: &[u8], out: &Path) -> Result<Model> {
    let text = serde_json::to_vec_pretty(said)?;
    let proven = Model::load(&text, onnx).context("the next version")?;
    if out.join("manifest.json").exists() {
        bail!("{} holds a model already; give every version a folder of its own", out.display());
    }
    std::fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    files::replace(&out.join("model.onnx"), onnx)?;
    files::replace(&out.join("manifest.json"), &text)?;
    Ok(proven)
}

/// Where it is, and how it gets from there to devices.
pub(super) fn tell(out: &Path) {
    println!(
        "written to {}; next: put it in shadow, `gloaming model evaluate --released` on later windows, then `gloaming model promote`",
        out.display()
    );
}
