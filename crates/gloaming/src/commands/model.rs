//! `gloaming model`.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use gloaming_behavior::definitions::DEFINITIONS;
use gloaming_model::{Choice, INPUT, Manifest, Model, OUTPUT, TOLERANCE, lower};
use gloaming_signal::hash;
use serde_json::{Map, Value, json};

use crate::files::{self, Brought};

/// Loads a model as devices do and proves it against its manifest.
///
/// # Errors
/// The first difference.
pub fn check(manifest: &Path) -> Result<()> {
    let brought = Brought::load(manifest)?;
    show(&brought.model, &brought.onnx);
    Ok(())
}

fn show(model: &Model, onnx: &[u8]) {
    let (described, sha256) = (model.manifest(), hash::hex(&hash::sha256(onnx)));
    println!("{} version {}: {} bytes, sha-256 {sha256}", described.id, described.version, onnx.len());
    println!("ops: {}", described.onnx.ops.join(", "));
    println!("features: {}", described.input.features.join(", "));
    println!("{} reference rows agree to {TOLERANCE:e}", described.reference.inputs.len());
}

/// Lowers an exported model, proves it against its trainer's rows, and writes it with its manifest.
///
/// # Errors
/// What cannot be run or proven, or is no newer than what is there; nothing is written then.
pub fn add(onnx: &Path, says: &Path, choice: &Choice, out: &Path) -> Result<()> {
    let exported = files::read(onnx)?;
    let said: Map<String, Value> =
        serde_json::from_slice(&files::read(says)?).with_context(|| format!("{} is no JSON object", says.display()))?;
    let lowered = lower(&exported, choice).with_context(|| onnx.display().to_string())?;
    let manifest = manifest(said, &lowered)?;
    let bytes = serde_json::to_vec_pretty(&manifest)?;
    let model =
        Model::load(&bytes, &lowered.onnx).with_context(|| format!("{} and {}", onnx.display(), says.display()))?;
    known(model.manifest())?;
    newer(model.manifest(), out)?;
    std::fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    files::replace(&out.join("model.onnx"), &lowered.onnx)?;
    files::replace(&out.join("manifest.json"), &bytes)?;
    let (output, column) = &lowered.taken;
    println!("score: column {column} of `{output}`");
    if !lowered.rewritten.is_empty() {
        println!("rewritten: {}", lowered.rewritten.join(", "));
    }
    show(&model, &lowered.onnx);
    println!("written to {}; next: name {}/manifest.json in a policy, state `shadow`", out.display(), out.display());
    Ok(())
}

/// What the trainer says, with what the file itself says.
fn manifest(mut said: Map<String, Value>, lowered: &gloaming_model::Lowered) -> Result<Map<String, Value>> {
    let mut part = |name: &str, facts: Value| -> Result<()> {
        let own = said.entry(name).or_insert_with(|| json!({}));
        let (Some(own), Value::Object(facts)) = (own.as_object_mut(), facts) else {
            bail!("`{name}` must be an object")
        };
        own.extend(facts);
        Ok(())
    };
    part(
        "onnx",
        json!({
            "file": "model.onnx",
            "sha256": hash::hex(&hash::sha256(&lowered.onnx)),
            "bytes": lowered.onnx.len(),
            "opsets": lowered.opsets,
            "ops": lowered.ops,
        }),
    )?;
    part("input", json!({ "name": INPUT, "shape": [1, lowered.width] }))?;
    part("output", json!({ "name": OUTPUT, "shape": [1, 1] }))?;
    said.insert("format".into(), json!(1));
    Ok(said)
}

/// A device computes these features, in these versions, and no others.
fn known(manifest: &Manifest) -> Result<()> {
    // What pages give is declared in the policy, and looked for when that is compiled.
    for feature in manifest.input.features.iter().filter(|feature| !feature.starts_with("page:")) {
        let (name, version) = feature.split_once('@').unwrap_or((feature, ""));
        match DEFINITIONS.iter().find(|definition| definition.name == name) {
            Some(definition) if definition.version.to_string() == version => {}
            Some(definition) => bail!(
                "the feature {feature} is computed as {name}@{} here: train with that version, or its numbers mean something else",
                definition.version
            ),
            None => {
                let near = DEFINITIONS.iter().map(|definition| definition.name);
                let near = near.max_by(|a, b| strsim::jaro_winkler(a, name).total_cmp(&strsim::jaro_winkler(b, name)));
                bail!(
                    "no device computes the feature {feature}; did you mean {}? Features that only a server knows cannot be inputs",
                    near.unwrap_or_default()
                )
            }
        }
    }
    Ok(())
}

/// Versions only grow, so that two files of one version are never two models.
fn newer(manifest: &Manifest, out: &Path) -> Result<()> {
    let path = out.join("manifest.json");
    if !path.exists() {
        return Ok(());
    }
    let there = Manifest::parse(&files::read(&path)?).with_context(|| path.display().to_string())?;
    if there.id != manifest.id {
        bail!("{} holds the model {}; choose another --out for {}", out.display(), there.id, manifest.id);
    }
    if there.version >= manifest.version {
        bail!("{} holds version {} already; raise `version` above it", out.display(), there.version);
    }
    Ok(())
}
