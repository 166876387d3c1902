//! What a visitor loads, in bytes, held to budgets.

use std::fs;

use anyhow::{Context as _, Result, bail};

use crate::run::Context;

/// File, budget in bytes of brotli, when it is loaded.
const BUDGETS: [(&str, usize, &str); 8] = [
    ("g/gloaming.js", 2_355, "always: the loader"),
    ("g/worker.js", 4_000, "after consent"),
    ("g/collector.js", 4_000, "after consent"),
    ("g/collector.wasm", 60 * 1024, "after consent: the collector"),
    ("g/scorer.js", 3_000, "when idle, if a model is used"),
    ("g/scorer.wasm", 1_400 * 1024, "when idle, if a model is used: tract"),
    ("models/purchase-intent/model.onnx", 60 * 1024, "with the scorer"),
    ("g/check.js", 6_000, "only with ?gloaming-check"),
];

/// Prints the table and fails when a budget is passed.
pub(crate) fn check(context: &Context) -> Result<()> {
    let folder = context.assets();
    let size =
        |name: &str| Ok::<_, anyhow::Error>(fs::metadata(folder.join(name)).with_context(|| name.to_owned())?.len());
    let mut over = Vec::new();
    println!("| file | raw bytes | brotli bytes | budget | loaded |");
    println!("|---|---:|---:|---:|---|");
    for (name, budget, when) in BUDGETS {
        let (raw, packed) = (size(name)?, size(&format!("{name}.br"))?);
        println!("| {name} | {raw} | {packed} | {budget} | {when} |");
        if packed > budget as u64 {
            over.push(format!("{name} has {packed} bytes of brotli, its budget is {budget}"));
        }
    }
    println!("| edge/worker.component.wasm | {} | | | on edges only |", size("edge/worker.component.wasm")?);
    println!("| parity/parity.wasm | {} | | | never: `gloaming model evaluate` runs it |", size("parity/parity.wasm")?);
    if over.is_empty() { Ok(()) } else { bail!("{}", over.join("; ")) }
}
