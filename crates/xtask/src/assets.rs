//! Everything that is served, in one folder: scripts, wasm, models, pages, each beside its brotli.
//!
//! Hashes flow one way: wasm bytes into the worker script (`integrity` of each fetch), so that the
//! script a page trusts decides what code it loads.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use crate::minify::minify;
use crate::run::{Context, step};
use crate::{setup, sizes, wasm};

/// Models that come with it: file, manifest, evidence.
const MODELS: [&str; 7] = [
    "purchase-intent",
    "buys-again",
    "customer-value",
    "visit-kind",
    "unusual-visit",
    "next-best-action",
    "pointer-bot",
];

fn integrity(bytes: &[u8]) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(bytes)))
}

/// Writes a file and, where it helps, its brotli; leaves both alone when they are right already,
/// because quality 11 of the scorer takes half a minute. What `gloaming model evaluate` runs is served to nobody.
fn put(folder: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = folder.join(name);
    let packed = PathBuf::from(format!("{}.br", path.display()));
    let same = fs::read(&path).is_ok_and(|old| old == bytes);
    let packable = !name.starts_with("parity/")
        && ["js", "css", "html", "svg", "wasm", "onnx", "json", "txt"]
            .iter()
            .any(|ending| name.ends_with(&format!(".{ending}")));
    if same && (!packable || packed.is_file()) {
        return Ok(());
    }
    fs::create_dir_all(path.parent().context("a folder")?)?;
    fs::write(&path, bytes)?;
    if packable {
        fs::write(packed, brotli(bytes)?)?;
    }
    Ok(())
}

/// Brotli at quality 11, window 24.
pub(crate) fn brotli(bytes: &[u8]) -> Result<Vec<u8>> {
    let parameters =
        brotli::enc::BrotliEncoderParams { quality: 11, lgwin: 24, size_hint: bytes.len(), ..Default::default() };
    let mut packed = Vec::new();
    brotli::BrotliCompress(&mut &bytes[..], &mut packed, &parameters)?;
    Ok(packed)
}

fn copy_tree(from: &Path, to: &Path, prefix: &str) -> Result<()> {
    let mut entries: Vec<_> =
        fs::read_dir(from).with_context(|| from.display().to_string())?.collect::<Result<_, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), to, &format!("{name}/"))?;
        } else {
            put(to, &name, &fs::read(entry.path())?)?;
        }
    }
    Ok(())
}

/// Builds everything that is served; returns the folder.
pub(crate) fn build(context: &Context) -> Result<PathBuf> {
    setup::native(context)?;
    let toolchain = setup::wasm_target(context)?;
    let folder = context.assets();
    let collector = wasm::collector(context, toolchain)?;
    let component = wasm::component(context, toolchain)?;
    let (scorer, parity) = wasm::scorer(context, toolchain)?;
    step("gather what is served", || {
        let www = context.root.join("www");
        let read = |name: &str| fs::read_to_string(www.join(name)).with_context(|| format!("www/{name}"));
        put(&folder, "g/collector.js", minify("collector.js", &collector.js, true)?.as_bytes())?;
        put(&folder, "g/collector.wasm", &collector.wasm)?;
        put(&folder, "g/scorer.js", minify("scorer.js", &scorer.js, true)?.as_bytes())?;
        put(&folder, "g/scorer.wasm", &scorer.wasm)?;
        let worker = read("loader/worker.js")?
            .replace("@COLLECTOR_INTEGRITY@", &integrity(&collector.wasm))
            .replace("@SCORER_INTEGRITY@", &integrity(&scorer.wasm));
        put(&folder, "g/worker.js", minify("worker.js", &worker, true)?.as_bytes())?;
        put(&folder, "g/gloaming.js", minify("gloaming.js", &read("loader/gloaming.js")?, false)?.as_bytes())?;
        put(&folder, "g/check.js", minify("check.js", &read("loader/check.js")?, true)?.as_bytes())?;
        put(&folder, "edge/worker.component.wasm", &component)?;
        put(&folder, "parity/parity.wasm", &parity)?;
        copy_tree(&www.join("shop"), &folder, "shop/")?;
        copy_tree(&www.join("dashboard"), &folder, "dashboard/")?;
        for model in MODELS {
            let own = context.root.join("models").join(model);
            for file in ["model.onnx", "manifest.json"] {
                let bytes = fs::read(own.join(file)).with_context(|| format!("models/{model}/{file}"))?;
                put(&folder, &format!("models/{model}/{file}"), &bytes)?;
            }
            copy_tree(&own.join("evidence"), &folder, &format!("models/{model}/evidence/"))?;
        }
        Ok(())
    })?;
    sizes::check(context)?;
    Ok(folder)
}
