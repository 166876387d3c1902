//! The four wasm artefacts: collector and scorer for browsers, the component for edges, and what is compared under wasmtime.

use std::fs;
use std::path::PathBuf;

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

fn compile(context: &Context, toolchain: Toolchain, profile: &str, package: &str) -> Result<PathBuf> {
    run(&mut wasm_cargo(context, toolchain, profile, package))?;
    let file =
        context.target.join("wasm32-unknown-unknown").join(profile).join(format!("{}.wasm", package.replace('-', "_")));
    if file.is_file() { Ok(file) } else { bail!("cargo left no {}", file.display()) }
}

/// Compiles a crate for browsers and makes its glue with the wasm-bindgen of our lock file.
pub(crate) fn browser(context: &Context, toolchain: Toolchain, package: &str, estimate: &str) -> Result<Module> {
    step(&format!("compile {package} for browsers ({estimate})"), || {
        let file = compile(context, toolchain, "browser", package)?;
        let name = package.trim_start_matches("gloaming-");
        let mut output = Bindgen::new()
            .input_path(&file)
            .out_name(name)
            .web(true)?
            .typescript(false)
            .omit_default_module_path(true)
            .remove_name_section(true)
            .remove_producers_section(true)
            .generate_output()?;
        Ok(Module { js: output.js().to_owned(), wasm: output.wasm_mut().emit_wasm() })
    })
}

/// A plain core module that imports nothing, to be compared under wasmtime. Compiled as browsers' modules are: it shares
/// what was built of tract for the scorer.
pub(crate) fn plain(context: &Context, toolchain: Toolchain, package: &str, estimate: &str) -> Result<Vec<u8>> {
    step(&format!("compile {package} for wasmtime ({estimate})"), || {
        let module = fs::read(compile(context, toolchain, "browser", package)?)?;
        for payload in Parser::new(0).parse_all(&module) {
            if let Payload::ImportSection(imports) = payload?
                && imports.count() > 0
            {
                bail!("{package} imports something: it must import nothing, or no host but one can run it");
            }
        }
        Ok(module)
    })
}

/// Compiles the edge component and proves that it imports nothing.
pub(crate) fn component(context: &Context, toolchain: Toolchain) -> Result<Vec<u8>> {
    step("compile gloaming-worker for edges (first time 1 min)", || {
        let file = compile(context, toolchain, "guest", "gloaming-worker")?;
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
