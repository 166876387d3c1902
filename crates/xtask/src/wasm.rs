//! The four wasm artefacts: collector and scorer for browsers, the component for edges, and what is compared under wasmtime.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use wasm_bindgen_cli_support::Bindgen;
use wasmparser::{Encoding, Parser, Payload};

use crate::run::{Context, run, step};
use crate::setup::{Toolchain, wasm_cargo};

/// A browser module: its JavaScript glue and its wasm.
pub(crate) struct Module {
    pub(crate) js: String,
    pub(crate) wasm: Vec<u8>,
}

/// Compiles crates in one call, so that they share what they have in common: another crate in the call can mean other features, and
/// tract takes minutes.
fn compile<const N: usize>(
    context: &Context,
    toolchain: Toolchain,
    profile: &str,
    packages: [&str; N],
) -> Result<[PathBuf; N]> {
    run(&mut wasm_cargo(context, toolchain, profile, &packages))?;
    let folder = context.target.join("wasm32-unknown-unknown").join(profile);
    let files = packages.map(|package| folder.join(format!("{}.wasm", package.replace('-', "_"))));
    match files.iter().find(|file| !file.is_file()) {
        Some(missing) => bail!("cargo left no {}", missing.display()),
        None => Ok(files),
    }
}

/// The JavaScript glue of a module, by the wasm-bindgen of our lock file.
fn bind(file: &Path, package: &str) -> Result<Module> {
    let name = package.trim_start_matches("gloaming-");
    let mut output = Bindgen::new()
        .input_path(file)
        .out_name(name)
        .web(true)?
        .typescript(false)
        .omit_default_module_path(true)
        .remove_name_section(true)
        .remove_producers_section(true)
        .generate_output()?;
    Ok(Module { js: output.js().to_owned(), wasm: output.wasm_mut().emit_wasm() })
}

/// Compiles the collector for browsers.
pub(crate) fn collector(context: &Context, toolchain: Toolchain) -> Result<Module> {
    step("compile gloaming-collector for browsers (first time 1 min)", || {
        let [file] = compile(context, toolchain, "browser", ["gloaming-collector"])?;
        bind(&file, "gloaming-collector")
    })
}

/// Compiles the scorer for browsers, and with it the plain core module that imports nothing and is compared under wasmtime.
pub(crate) fn scorer(context: &Context, toolchain: Toolchain) -> Result<(Module, Vec<u8>)> {
    step(
        "compile gloaming-scorer for browsers, gloaming-parity for wasmtime (first time 5 min, most of it tract)",
        || {
            let [scorer, parity] = compile(context, toolchain, "browser", ["gloaming-scorer", "gloaming-parity"])?;
            let parity = fs::read(parity)?;
            for payload in Parser::new(0).parse_all(&parity) {
                if let Payload::ImportSection(imports) = payload?
                    && imports.count() > 0
                {
                    bail!("gloaming-parity imports something: it must import nothing");
                }
            }
            Ok((bind(&scorer, "gloaming-scorer")?, parity))
        },
    )
}

/// Compiles the edge component and proves that it imports nothing.
pub(crate) fn component(context: &Context, toolchain: Toolchain) -> Result<Vec<u8>> {
    step("compile gloaming-worker for edges (first time 1 min)", || {
        let [file] = compile(context, toolchain, "guest", ["gloaming-worker"])?;
        let module = fs::read(&file).with_context(|| file.display().to_string())?;
        let component = wit_component::ComponentEncoder::default().validate(true).module(&module)?.encode()?;
        no_imports(&component)?;
        Ok(component)
    })
}

/// Refuses a component that imports anything.
fn no_imports(component: &[u8]) -> Result<()> {
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(component) {
        match payload? {
            Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => {
                bail!("a core module, not a component")
            }
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentImportSection(imports) if depth == 1 => {
                if let Some(import) = imports.into_iter().next() {
                    bail!("the edge component imports `{}`: it must import nothing", import?.name.name);
                }
            }
            _ => {}
        }
    }
    Ok(())
}
