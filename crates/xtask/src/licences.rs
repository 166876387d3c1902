//! Licences and duplicate versions, from `cargo metadata`.
//!
//! `cargo deny` would fetch an advisory database; these two lists are what we need of it, offline.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use serde_json::Value;

use crate::run::{Context, output};

/// Licences we take, each by itself enough in an `OR`.
const ALLOWED: [&str; 15] = [
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "MIT",
    "MIT-0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "MPL-2.0",
    "Unicode-3.0",
    "Unlicense",
    "BSL-1.0",
    "CC0-1.0",
    "0BSD",
    // The terms of MIT and 3-clause BSD together; libFuzzer's, which is linked into fuzz targets only.
    "NCSA",
];

/// Crates that are here in more than one version, and who keeps the older one.
const TWICE: [(&str, &str); 32] = [
    ("base64", "lettre is on 0.23, sqlx and others on 0.22"),
    ("bit-vec", "an option of rcgen that is not built"),
    ("bitflags", "1"),
    ("block-buffer", "sqlx and sha1 are on digest 0.10"),
    ("cpufeatures", "digest 0.10"),
    ("crypto-common", "digest 0.10"),
    ("digest", "sqlx, tungstenite are on 0.10"),
    ("either", "tract"),
    ("embedded-io", "postcard, below wasmtime, names two"),
    ("getrandom", "tempfile, uuid"),
    ("gimli", "wasmtime and the backtraces of std's helper crates"),
    ("glam", "an option of statrs that is not built"),
    ("hashbrown", "wasmtime and indexmap differ"),
    ("itertools", "tract and prost differ"),
    ("memchr", "features only"),
    ("nom", "an option of rcgen that is not built"),
    ("num-bigint", "prio renames both into its API"),
    ("rand", "proptest and tungstenite differ"),
    ("rand_chacha", "proptest"),
    ("rand_core", "proptest is on 0.9"),
    ("rustc-hash", "oxc and wasmtime differ"),
    ("sha2", "sqlx is on 0.10"),
    ("syn", "derive macros move one by one"),
    ("synstructure", "an option of rcgen that is not built"),
    ("thiserror", "older crates are on 1"),
    ("wasm-encoder", "wit-bindgen, wasmtime and walrus"),
    ("wasm-metadata", "wit-bindgen and xtask's wit-component"),
    ("wasmparser", "wit-bindgen, wasmtime and walrus"),
    ("windows-sys", "ring, below rustls, is on 0.52; on Windows only"),
    ("winnow", "toml"),
    ("wit-component", "wit-bindgen and wasmtime"),
    ("wit-parser", "wit-bindgen and wasmtime"),
];

/// Whether an SPDX expression of OR, AND and parentheses is satisfied by the allowed ones.
fn allowed(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ");
    let mut depth = 0;
    let mut parts = vec![String::new()];
    let mut operator = "";
    // Splits at the outermost OR, else at the outermost AND.
    for wanted in [" OR ", " AND "] {
        parts = vec![String::new()];
        operator = "";
        let mut rest = expression.as_str();
        while let Some(character) = rest.chars().next() {
            match character {
                '(' => depth += 1,
                ')' => depth -= 1,
                _ => {}
            }
            if depth == 0 && rest.starts_with(wanted) {
                parts.push(String::new());
                operator = wanted;
                rest = &rest[wanted.len()..];
                continue;
            }
            if let Some(last) = parts.last_mut() {
                last.push(character);
            }
            rest = &rest[character.len_utf8()..];
        }
        if parts.len() > 1 {
            break;
        }
    }
    if parts.len() == 1 {
        let single = parts[0].trim();
        return match single.strip_prefix('(').and_then(|s| s.strip_suffix(')')) {
            Some(inner) => allowed(inner),
            None => ALLOWED.contains(&single),
        };
    }
    if operator == " OR " { parts.iter().any(|p| allowed(p.trim())) } else { parts.iter().all(|p| allowed(p.trim())) }
}

/// Checks all dependencies of all targets.
pub(crate) fn check(context: &Context) -> Result<()> {
    let metadata: Value = serde_json::from_str(&output(context.cargo().args([
        "metadata",
        "--all-features",
        "--format-version",
        "1",
        "--locked",
    ]))?)?;
    let mut problems = Vec::new();
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let packages = metadata["packages"].as_array().map_or(&[][..], Vec::as_slice);
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        versions.entry(name).or_default().push(package["version"].as_str().unwrap_or_default());
        let licence = package["license"].as_str().unwrap_or("none");
        if !allowed(licence) {
            problems.push(format!("{name}: licence `{licence}` is not on the list"));
        }
    }
    for (name, versions) in &versions {
        if versions.len() > 1 && !TWICE.iter().any(|(known, _)| known == name) {
            problems.push(format!(
                "{name} is here as {}: use one, or give the reason in licences.rs",
                versions.join(" and ")
            ));
        }
    }
    println!(
        "{} packages, {} in more than one version",
        packages.len(),
        versions.values().filter(|v| v.len() > 1).count()
    );
    if problems.is_empty() { Ok(()) } else { bail!("{}", problems.join("\n")) }
}

#[cfg(test)]
mod tests {
    use super::allowed;

    #[test]
    fn expressions_are_read_as_spdx_means_them() {
        assert!(allowed("MIT OR Apache-2.0"));
        assert!(allowed("MIT/Apache-2.0"));
        assert!(allowed("GPL-3.0 OR MIT"));
        assert!(allowed("(MIT OR GPL-3.0) AND Unicode-3.0"));
        assert!(allowed("Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT"));
        assert!(!allowed("GPL-3.0"));
        assert!(!allowed("MIT AND GPL-3.0"));
        assert!(!allowed("none"));
    }
}
