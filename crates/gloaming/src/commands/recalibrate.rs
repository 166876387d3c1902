//! `gloaming model recalibrate`: a model that says what comes true again, from what the centre released.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail};
use gloaming_model::{Manifest, Model, Sigmoid, recalibrated};
use gloaming_signal::hash;
use gloaming_stats::Cells;
use gloaming_stats::performance::recalibrate::{Platt, level, platt};
use gloaming_stats::performance::{PerformanceError, Table, performance};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::files;

/// Half a 95 % interval in standard deviations.
const HALF: f64 = 1.959_963_985;

/// What is read of the centre's overview.
#[derive(Deserialize)]
struct Overview {
    site: String,
    metrics: Vec<Counted>,
}

#[derive(Deserialize)]
struct Counted {
    name: String,
    of: String,
    rows: usize,
    labels: Vec<String>,
    total: Total,
}

#[derive(Deserialize)]
struct Total {
    windows: usize,
    values: Vec<f64>,
    half_width: Vec<f64>,
}

/// What was counted of a model's scores and what came of them.
fn counted(overview: &Overview, model: &Manifest, metric: Option<&str>) -> Result<(Table, usize)> {
    let of = format!("score:{}, ", model.id);
    let (bins, of_it) =
        (model.score_edges.len() + 1, |m: &&Counted| m.of.starts_with(&of) && metric.is_none_or(|name| m.name == name));
    // Labels say which edges were counted by: those of an author, or of another version, are not this model's.
    let ends = [&[0.0], &model.score_edges[..], &[1.0]].concat();
    let labels: Vec<String> = ends
        .windows(2)
        .flat_map(|bin| ["no", "yes"].map(|word| format!("{:.3}-{:.3} | {word}", bin[0], bin[1])))
        .collect();
    let own = |m: &&Counted| m.rows == bins && m.labels == labels;
    let mut all = overview.metrics.iter().filter(of_it);
    let found = all.clone().find(own).or_else(|| all.next()).ok_or_else(|| {
        let named = metric.map_or(String::new(), |name| format!(" called `{name}`"));
        anyhow!(
            "{} counts nothing{named} of `score:{}` and an outcome; declare a joint metric, or `outcome` in its [[monitor]]",
            overview.site,
            model.id
        )
    })?;
    if !own(&found) {
        bail!(
            "`{}` is not by the {bins} bins of this model's score and yes or no: it counts another version of it, or bins of its own",
            found.name
        );
    }
    if found.total.windows == 0 {
        bail!("`{}` was not released yet", found.name);
    }
    let variance = found.total.half_width.iter().fold(0.0, |most: f64, half| most.max(*half)) / HALF;
    let cells = Cells::new(found.total.values.clone(), variance.powi(2))?;
    let edges = [&[0.0], &model.score_edges[..], &[1.0]].concat();
    let known = !model.score_means.is_empty();
    let table = if known { Table::new(cells, model.score_means.clone())? } else { Table::from_edges(cells, &edges)? };
    Ok((table, found.total.windows))
}

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
    let (bytes, onnx) = (files::read(manifest)?, files::read(&manifest.with_file_name("model.onnx"))?);
    let model = Model::load(&bytes, &onnx).with_context(|| manifest.display().to_string())?;
    let described = model.manifest();
    if !described.output.kinds.is_empty() {
        bail!("{} sorts visits into kinds: there is nothing for it to be right about", described.id);
    }
    let overview: Overview = serde_json::from_slice(&files::read(from)?).with_context(|| {
        format!("{} is no overview; `curl CENTRE/api/v1/sites/SITE/overview` gives one", from.display())
    })?;
    let (table, windows) = counted(&overview, described, metric)?;
    let before = performance(&table)?;
    let fitted = fitted(&table)?;
    let sigmoid = Sigmoid { slope: fitted.slope as f32, intercept: fitted.intercept as f32 };
    let moved: Vec<f64> = table.scores().iter().map(|score| fitted.probability(*score)).collect();
    let after = performance(&Table::new(table.cells().clone(), moved)?)?;

    let next = recalibrated(&onnx, sigmoid)?;
    let mut said: Value = serde_json::from_slice(&bytes)?;
    let (slope, intercept) = (f64::from(sigmoid.slope), f64::from(sigmoid.intercept));
    // In double precision and not by the graph that is to be proven.
    let put_right = |score: f64| Platt { slope, intercept }.probability(score);
    said["version"] = json!(described.version + 1);
    said["onnx"] = json!({
        "file": "model.onnx",
        "sha256": hash::hex(&hash::sha256(&next.onnx)),
        "bytes": next.onnx.len(),
        "opsets": next.opsets,
        "ops": next.ops,
    });
    said["input"]["name"] = gloaming_model::INPUT.into();
    said["output"]["name"] = gloaming_model::OUTPUT.into();
    // The order of scores stays, and so does who falls into which bin.
    let edges: Vec<f64> = described.score_edges.iter().map(|edge| put_right(*edge)).collect();
    said["score_edges"] = json!(edges);
    if !described.score_means.is_empty() {
        said["score_means"] = json!(described.score_means.iter().map(|mean| put_right(*mean)).collect::<Vec<_>>());
    }
    let outputs: Vec<f64> = described.reference.outputs.iter().map(|score| put_right(f64::from(*score))).collect();
    said["reference"]["outputs"] = json!(outputs);
    said["recalibrated"] = json!({
        "of": hash::hex(&hash::sha256(&bytes)),
        "from": format!("{windows} released windows of {}", overview.site),
        "slope": slope,
        "intercept": intercept,
    });
    // What was said of the version before is no evidence of this one.
    if let Some(said) = said.as_object_mut() {
        said.remove("evidence");
    }
    let text = serde_json::to_vec_pretty(&said)?;
    let proven = Model::load(&text, &next.onnx).context("the recalibrated model")?;
    if out.join("manifest.json").exists() {
        bail!("{} holds a model already; give every version a folder of its own", out.display());
    }
    std::fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    files::replace(&out.join("model.onnx"), &next.onnx)?;
    files::replace(&out.join("manifest.json"), &text)?;
    let shown = |e: &gloaming_stats::Estimate| format!("{:.4} [{:.4}, {:.4}]", e.value, e.low, e.high);
    println!("{} version {}: slope {slope:.4}, intercept {intercept:+.4}", described.id, proven.manifest().version);
    println!(
        "calibration error on these counts: {} before, {} after",
        shown(&before.calibration_error),
        shown(&after.calibration_error)
    );
    println!("AUC stays {}", shown(&before.auc));
    println!(
        "written to {}; next: `gloaming model evaluate` on rows that these counts were not made of, then `gloaming model promote`",
        out.display()
    );
    Ok(())
}
