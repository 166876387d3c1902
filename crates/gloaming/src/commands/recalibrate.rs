//! `gloaming model recalibrate`: a model that says what comes true again, from what the centre released.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Result, bail};
use gloaming_model::{Manifest, Recalibration, recalibrated};
use gloaming_signal::hash;
use gloaming_stats::Estimate;
use gloaming_stats::performance::recalibrate::{Fitted, Platt, gain, isotonic, level, platt};
use gloaming_stats::performance::{PerformanceError, Table, performance};
use serde_json::{Value, json};

use super::next;
use super::released::{Counted, MILLIONTH, Overview, windows};
use crate::files::Brought;

/// Slopes that are believed: what lies beyond them comes of counts that do not tell how outcomes go with the score.
const SLOPES: std::ops::RangeInclusive<f64> = 0.2..=5.0;

/// What scores are put right by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Platt's sigmoid: two parameters, which few outcomes tell.
    Platt,
    /// Isotonic regression: a probability for each bin of scores, and no shape that may be wrong.
    Isotonic,
    /// The sigmoid, unless isotonic regression is surely better in windows that it was not fitted to.
    Auto,
}

/// A method in a word.
///
/// # Errors
/// When the word is another.
pub fn method(word: &str) -> Result<Method, String> {
    Ok(match word {
        "platt" => Method::Platt,
        "isotonic" => Method::Isotonic,
        "auto" => Method::Auto,
        _ => return Err(format!("`{word}` is no way to put scores right; use platt, isotonic or auto")),
    })
}

/// How a manifest says that scores were put right, and by what was released where; `None` where they were not.
pub(super) fn told(manifest: &Value) -> Option<(&'static str, &str)> {
    let said = &manifest["recalibrated"];
    let how = match said["method"].as_str() {
        Some("isotonic") => "isotonic regression",
        Some("level") => "their level alone",
        // Manifests from before name no other.
        _ => "Platt's sigmoid",
    };
    Some((how, said["from"].as_str()?))
}

/// What was fitted, and why it is the level alone where it is.
struct Right {
    fitted: Fitted,
    level_because: Option<String>,
}

impl Right {
    fn shape(fitted: Fitted) -> Self {
        Self { fitted, level_because: None }
    }

    /// For counts that do not tell how outcomes go with the score.
    fn level(table: &Table, why: String) -> Result<Self, PerformanceError> {
        Ok(Self { fitted: Fitted::Sigmoid(level(table)?), level_because: Some(why) })
    }

    /// The sigmoid, or the level alone where counts do not tell more.
    fn sigmoid(table: &Table) -> Result<Self, PerformanceError> {
        match platt(table) {
            Ok(fitted) if SLOPES.contains(&fitted.slope) => Ok(Self::shape(Fitted::Sigmoid(fitted))),
            Ok(fitted) => Self::level(table, format!("a slope of {:.2}", fitted.slope)),
            Err(error @ (PerformanceError::Reversed(_) | PerformanceError::Separated)) => {
                Self::level(table, error.to_string())
            }
            Err(error) => Err(error),
        }
    }

    /// Isotonic regression, or the level alone where it makes one bin of all.
    fn line(table: &Table) -> Result<Self, PerformanceError> {
        let fitted = isotonic(table)?;
        match fitted.probabilities() {
            [first, .., last] if first < last => Ok(Self::shape(Fitted::Line(fitted.growing()))),
            _ => Self::level(table, "higher scores go with no more outcomes".to_owned()),
        }
    }

    /// In the manifest's word.
    fn method(&self) -> &'static str {
        match (&self.level_because, &self.fitted) {
            (Some(_), _) => "level",
            (None, Fitted::Sigmoid(_)) => "platt",
            (None, Fitted::Line(_)) => "isotonic",
        }
    }
}

/// What was counted in every other window, and in those between; `None` where there is one window only.
fn halves(counted: &Counted, table: &Table) -> Result<Option<[Table; 2]>> {
    let releases = counted.releases()?;
    // Edges release a window each for itself: all of them lie in the same half.
    let starts: BTreeSet<u64> = releases.keys().map(|place| place.0).collect();
    let half = |odd: usize| -> Result<Option<Table>> {
        let own: BTreeSet<u64> = starts.iter().skip(odd).step_by(2).copied().collect();
        let mut cells = releases.iter().filter(|(place, _)| own.contains(&place.0)).map(|(_, cells)| cells);
        let Some(first) = cells.next() else { return Ok(None) };
        let sum = cells.try_fold(first.clone(), |sum, next| sum.plus(next))?;
        Ok(Some(Table::new(sum, table.scores().to_vec())?))
    };
    Ok(half(0)?.zip(half(1)?).map(|(even, odd)| [even, odd]))
}

/// By how much isotonic regression brings the Brier score down where the sigmoid does not, each fitted to one half and judged on the
/// other.
fn crossed([even, odd]: &[Table; 2]) -> Result<Estimate, PerformanceError> {
    let both = |table: &Table| -> Result<[Fitted; 2], PerformanceError> {
        Ok([Right::sigmoid(table)?.fitted, Right::line(table)?.fitted])
    };
    let (of_even, of_odd) = (both(even)?, both(odd)?);
    gain([(even, of_odd.each_ref()), (odd, of_even.each_ref())])
}

/// The method that `auto` comes to; says why.
fn choose(counted: &Counted, table: &Table) -> Result<Method> {
    let judged = match halves(counted, table)? {
        Some(halves) => crossed(&halves).map_err(|why| why.to_string()),
        None => Err("there is one window alone".to_owned()),
    };
    let gain = match judged {
        Ok(gain) => gain,
        Err(why) => {
            println!(
                "windows do not tell whether isotonic regression is better than Platt's sigmoid ({why}): the sigmoid"
            );
            return Ok(Method::Platt);
        }
    };
    let sure = gain.low > 0.0;
    println!(
        "fitted to every other window and judged on those between, isotonic regression brings the Brier score down by {:+.5} [{:+.5}, {:+.5}] against Platt's sigmoid, which is {}",
        gain.value,
        gain.low,
        gain.high,
        if sure { "sure to be better: isotonic regression" } else { "not sure to be better: the sigmoid" }
    );
    Ok(if sure { Method::Isotonic } else { Method::Platt })
}

/// What the method makes of all windows together; says so where that is the level alone.
fn fitted(method: Method, counted: &Counted, table: &Table) -> Result<Right> {
    let method = if method == Method::Auto { choose(counted, table)? } else { method };
    let right = if method == Method::Isotonic { Right::line(table)? } else { Right::sigmoid(table)? };
    if let Some(why) = &right.level_because {
        println!("these counts do not tell how outcomes go with the score ({why}): only the level is put right");
    }
    Ok(right)
}

/// What follows the score in the graph, and the same in double precision, which that graph is proven against.
fn as_it_runs(fitted: Fitted) -> (Recalibration, Fitted) {
    match fitted {
        Fitted::Sigmoid(Platt { slope, intercept }) => {
            let (slope, intercept) = (slope as f32, intercept as f32);
            let map = Fitted::Sigmoid(Platt { slope: f64::from(slope), intercept: f64::from(intercept) });
            (Recalibration::Sigmoid { slope, intercept }, map)
        }
        Fitted::Line(line) => {
            let points = line.scores().iter().zip(line.probabilities()).map(|(score, p)| [*score, *p]).collect();
            (Recalibration::Line(points), Fitted::Line(line))
        }
    }
}

/// What the manifest says of bins and reference rows, moved along: the order of scores stays, and so does who falls into which bin.
fn moved(said: &mut Value, described: &Manifest, map: &Fitted) -> Result<()> {
    let of = |scores: &[f64]| scores.iter().map(|score| map.probability(*score)).collect::<Vec<f64>>();
    let (edges, means) = (of(&described.score_edges), of(&described.score_means));
    let near = [&edges, &means].iter().any(|bins| bins.windows(2).any(|pair| pair[1] - pair[0] < MILLIONTH));
    if near && matches!(map, Fitted::Line(_)) {
        bail!(
            "isotonic regression takes bins of {} for one that lie near each other as it is: they would be less than a millionth apart, which no policy can tell; put it right with --method platt",
            described.id
        );
    }
    said["score_edges"] = json!(edges);
    if !means.is_empty() {
        said["score_means"] = json!(means);
    }
    let outputs = described.reference.outputs.iter().map(|score| map.probability(f64::from(*score)));
    said["reference"]["outputs"] = json!(outputs.collect::<Vec<f64>>());
    Ok(())
}

/// Writes the next version of a model into a folder, with a map after its score that is fitted to released counts; its number
/// too, where that is not the next.
///
/// # Errors
/// When nothing fits was counted, or too little came of it; nothing is written then.
pub fn run(
    manifest: &Path,
    from: &Path,
    metric: Option<&str>,
    method: Method,
    (out, version): (&Path, Option<u32>),
) -> Result<()> {
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
    let right = fitted(method, counted, &table)?;
    let method = right.method();
    let (recalibration, map) = as_it_runs(right.fitted);
    let scores = table.scores().iter().map(|score| map.probability(*score)).collect();
    let after = performance(&Table::new(table.cells().clone(), scores)?)?;

    let lowered = recalibrated(&brought.onnx, &recalibration)?;
    let mut said = next::said(&brought, &lowered, version)?;
    moved(&mut said, described, &map)?;
    said["recalibrated"] = json!({
        "of": own,
        "from": format!("{} of {}", windows(counted.windows()), overview.site),
        "until_ms": until_ms,
        "method": method,
    });
    let told = &mut said["recalibrated"];
    let how = match &map {
        Fitted::Sigmoid(Platt { slope, intercept }) => {
            (told["slope"], told["intercept"]) = (json!(slope), json!(intercept));
            format!("slope {slope:.4}, intercept {intercept:+.4}")
        }
        Fitted::Line(line) => {
            let (scores, probabilities) = (line.scores(), line.probabilities());
            (told["scores"], told["probabilities"]) = (json!(scores), json!(probabilities));
            format!("isotonic regression, a line through {} points", scores.len())
        }
    };
    let proven = next::write(&said, &lowered.onnx, out)?;
    let shown = |e: &Estimate| format!("{:.4} [{:.4}, {:.4}]", e.value, e.low, e.high);
    println!("{} version {}: {how}", described.id, proven.manifest().version);
    println!(
        "calibration error on these counts: {} before, {} after",
        shown(&before.calibration_error),
        shown(&after.calibration_error)
    );
    println!("AUC stays {}", shown(&before.auc));
    next::tell(out);
    Ok(())
}
