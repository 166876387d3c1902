//! `gloaming model recalibrate`: a model that says what comes true again, from what the centre released.

use std::path::Path;

use anyhow::{Result, bail};
use gloaming_model::{Sigmoid, recalibrated};
use gloaming_signal::hash;
use gloaming_stats::performance::recalibrate::{Platt, level, platt};
use gloaming_stats::performance::{PerformanceError, Table, performance};
use serde_json::json;

use super::next;
use super::released::{Overview, windows};
use crate::files::Brought;

/// Slopes that are believed: what lies beyond them comes of counts that do not tell how outcomes go with the score.
const SLOPES: std::ops::RangeInclusive<f64> = 0.2..=5.0;

/// The sigmoid, or the level alone where counts do not tell more.
fn fitted(table: &Table) -> Result<Platt> {
    let why = match platt(table) {
        Ok(fitted) if SLOPES.contains(&fitted.slope) => return Ok(fitted),
        Ok(fitted) => format!("a slope of {:.2}", fitted.slope),
        Err(error @ (PerformanceError::Reversed(_) | PerformanceError::Separated)) => error.to_string(),
        Err(error) => return Err(error.into()),
    };
    println!("these counts do not tell how outcomes go with the score ({why}): only the level is put right");
    Ok(level(table)?)
}

/// Writes the next version of a model, with a sigmoid after its score that is fitted to released counts.
///
/// # Errors
/// When nothing fits was counted, or too little came of it; nothing is written then.
pub fn run(manifest: &Path, from: &Path, metric: Option<&str>, out: &Path) -> Result<()> {
    let brought = Brought::load(manifest)?;
    let described = brought.model.manifest();
    if !described.output.kinds.is_empty() {
        bail!("{} sorts visits into kinds: there is nothing for it to be right about", described.id);
    }
    let (overview, _) = Overview::read(from)?;
    let own = hash::hex(&brought.hash());
    let (table, counted) = overview.scores_and_outcomes(described, &own, metric)?;
    let Some((_, until_ms)) = counted.span_ms() else {
        bail!("{} does not say when its windows were; save the centre's overview as it is", from.display())
    };
    let before = performance(&table)?;
    let fitted = fitted(&table)?;
    let sigmoid = Sigmoid { slope: fitted.slope as f32, intercept: fitted.intercept as f32 };
    let moved: Vec<f64> = table.scores().iter().map(|score| fitted.probability(*score)).collect();
    let after = performance(&Table::new(table.cells().clone(), moved)?)?;

    let lowered = recalibrated(&brought.onnx, sigmoid)?;
    let mut said = next::said(&brought, &lowered)?;
    let (slope, intercept) = (f64::from(sigmoid.slope), f64::from(sigmoid.intercept));
    // In double precision and not by the graph that is to be proven.
    let put_right = |score: f64| Platt { slope, intercept }.probability(score);
    // The order of scores stays, and so does who falls into which bin.
    let edges: Vec<f64> = described.score_edges.iter().map(|edge| put_right(*edge)).collect();
    said["score_edges"] = json!(edges);
    if !described.score_means.is_empty() {
        said["score_means"] = json!(described.score_means.iter().map(|mean| put_right(*mean)).collect::<Vec<_>>());
    }
    let outputs: Vec<f64> = described.reference.outputs.iter().map(|score| put_right(f64::from(*score))).collect();
    said["reference"]["outputs"] = json!(outputs);
    said["recalibrated"] = json!({
        "of": own,
        "from": format!("{} of {}", windows(counted.windows()), overview.site),
        "until_ms": until_ms,
        "slope": slope,
        "intercept": intercept,
    });
    let proven = next::write(&said, &lowered.onnx, out)?;
    let shown = |e: &gloaming_stats::Estimate| format!("{:.4} [{:.4}, {:.4}]", e.value, e.low, e.high);
    println!("{} version {}: slope {slope:.4}, intercept {intercept:+.4}", described.id, proven.manifest().version);
    println!(
        "calibration error on these counts: {} before, {} after",
        shown(&before.calibration_error),
        shown(&after.calibration_error)
    );
    println!("AUC stays {}", shown(&before.auc));
    next::tell(out);
    Ok(())
}
