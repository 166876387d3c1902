//! Where models run, asked whether they compute there what their trainers computed: natively, under wasmtime, in a browser.

mod browser;
mod wasm;

use std::sync::LazyLock;

use anyhow::{Context as _, Result, bail};
use gloaming_http::Assets;
use gloaming_model::TOLERANCE;
use gloaming_policy::gate::{Parity, Runtime};

pub use browser::{Browser, named};
pub use wasm::Wasm;

use crate::assets;
use crate::files::Brought;

/// What the release brings for this, read and compiled once in a process: that takes seconds of processor time.
static RELEASE: LazyLock<Result<(Wasm, Assets)>> = LazyLock::new(|| {
    let assets = assets::find(None)?;
    Ok((Wasm::of(&assets)?, assets))
});

/// Largest difference to what the trainer computed.
///
/// # Errors
/// When it is more than a reference row may be off, or there is not a score for every row.
fn largest(runtime: &str, scores: &[f32], wanted: &[f32]) -> Result<f64> {
    if scores.len() != wanted.len() {
        bail!("{runtime} gave {} scores for {} reference rows", scores.len(), wanted.len());
    }
    let mut largest = 0f32;
    for (row, (found, wanted)) in scores.iter().zip(wanted).enumerate() {
        let off = (found - wanted).abs();
        // Written so that NaN on either side is a difference.
        let close = off <= TOLERANCE;
        if !close {
            bail!("{runtime} gives {found} for reference row {row}, the trainer had {wanted}: nothing is stated");
        }
        largest = largest.max(off);
    }
    Ok(f64::from(largest))
}

/// How far each runtime at hand is off what a model's trainer computed, as of `day`: natively, under wasmtime where there are
/// assets, and in a browser where one is named. A runtime that was left out is said.
///
/// # Errors
/// When a reference row cannot be scored somewhere, or comes out as something else.
pub fn parity(brought: &Brought, browser: Option<&Browser>, day: String) -> Result<Parity> {
    let reference = &brought.model.manifest().reference;
    let (rows, wanted) = (&reference.inputs, &reference.outputs);
    let native: Vec<f32> = rows.iter().map(|row| brought.model.score(row)).collect::<Result<_, _>>()?;
    let mut found = vec![("native".to_owned(), native)];
    match (&*RELEASE, browser) {
        (Ok((wasm, assets)), browser) => {
            let scores = wasm.scores(&brought.manifest, &brought.onnx, rows).context("under wasmtime")?;
            found.push(("wasmtime".to_owned(), scores));
            match browser {
                Some(browser) => found.push(browser.scores(brought, assets)?),
                None => println!("  no browser was asked; --browser=/usr/bin/chromium asks one"),
            }
        }
        (Err(why), None) => println!("  wasmtime was not asked: {why:#}"),
        (Err(why), Some(_)) => bail!("a browser cannot be asked: {why:#}"),
    }
    let runtimes = found.into_iter().map(|(name, scores)| {
        let largest = largest(&name, &scores, wanted)?;
        Ok::<_, anyhow::Error>(Runtime { name, largest })
    });
    Ok(Parity { day, rows: rows.len() as u64, runtimes: runtimes.collect::<Result<_>>()? })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_not_stated() {
        assert_eq!(largest("native", &[0.25, 0.5], &[0.25, 0.500_003]).unwrap(), f64::from(0.500_003_f32 - 0.5));
        for (scores, words) in [
            (&[0.25, 0.51][..], "native gives 0.51 for reference row 1, the trainer had 0.5"),
            (&[f32::NAN, 0.5], "native gives NaN for reference row 0"),
            (&[0.25], "native gave 1 scores for 2 reference rows"),
        ] {
            let error = largest("native", scores, &[0.25, 0.5]).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
