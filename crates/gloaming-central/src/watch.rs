//! What the centre sees of each model: whether what it meets has drifted, how it fares, how well it tells outcomes.
//!
//! All of it comes from released cells. A window is compared with the windows before it, on the same bins and with
//! the noise of both; what counts as drift is what chance and noise would show once in a hundred windows, over all
//! that a model takes.

use std::collections::BTreeMap;

use gloaming_policy::{Axis, Bins, Metric, Model, ModelState, Policy, Source};
use gloaming_privacy::Mechanism;
use gloaming_signal::ReleaseState;
use gloaming_stats::drift::{Noise, Null, Reference, Setting, Statistic, benjamini_hochberg, finding};
use gloaming_stats::performance::{Table, performance};
use gloaming_stats::{Cells, Estimate};
use serde::Serialize;
use utoipa::ToSchema;

use crate::ingest::Policies;
use crate::store::{ReleaseRow, Store, StoreError};

/// Windows that are looked at: the newest, and those that it is compared with. Half a year of weeks.
const WINDOWS: u32 = 27;
/// What is called drift: expected once in as many models' windows as this is of one.
const LEVEL: f64 = 0.01;
/// Draws of a threshold: it is exceeded by 1 % ± 0.45 of windows without drift.
const RUNS: usize = 2_000;

/// A figure with its 95 % interval, which includes the noise.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub struct Figure {
    /// The best guess.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl From<Estimate> for Figure {
    fn from(Estimate { value, low, high }: Estimate) -> Self {
        Self { value, low, high }
    }
}

/// The newest window of something that a model takes or says, beside the windows before.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Drift {
    /// What it is of, as in the policy.
    pub of: String,
    /// Start of the newest window, ms since 1970.
    pub start_ms: u64,
    /// About how many visits it holds.
    pub visits: f64,
    /// Windows before it that it is compared with.
    pub windows: usize,
    /// Population stability index.
    pub psi: f64,
    /// What the index would pass once in a hundred windows without drift, with this many visits and this noise.
    pub threshold: f64,
    /// How often chance and noise alone part two such windows as far, by the Jensen-Shannon distance; over all that
    /// the model takes (Benjamini and Hochberg).
    pub q: f64,
    /// Whether that is less than once in a hundred.
    pub drifted: bool,
    /// Which bins grew and which fell, in words.
    pub words: String,
}

/// How often a model fared in a way.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Fared {
    /// `lacking`: a page did not give what it takes; `scored`; `late`: after its time; `failed`.
    pub how: String,
    /// Visits, over all windows looked at.
    pub visits: Figure,
}

/// How well scores told outcomes, over all windows looked at.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Performed {
    /// Windows.
    pub windows: usize,
    /// Share of visits with the outcome.
    pub base_rate: Figure,
    /// Area under the ROC curve.
    pub auc: Figure,
    /// Average precision.
    pub average_precision: Figure,
    /// Mean squared error of the score bins' middles.
    pub brier: Figure,
    /// Expected calibration error.
    pub calibration_error: Figure,
}

/// One model.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ModelView {
    /// Its name.
    pub id: String,
    /// `shadow`, `experiment`, `live` or `quarantined`.
    pub state: &'static str,
    /// Who speaks for it when it has no score.
    pub fallback: Option<String>,
    /// Its inputs and its score, what drifted most first.
    pub drift: Vec<Drift>,
    /// How it fared in visits; empty when that is not monitored.
    pub fared: Vec<Fared>,
    /// How well it told outcomes; absent when no metric joins score and outcome, or too little was released.
    pub performed: Option<Performed>,
    /// What cannot be said, and why.
    pub unknown: Vec<String>,
}

/// Releases of one metric, added up by window.
struct Windows<'p> {
    metric: &'p Metric,
    /// By start, ms.
    cells: BTreeMap<u64, Cells>,
}

impl<'p> Windows<'p> {
    /// Sums over edges. What an earlier version of the policy cut into other bins is left out.
    fn of(metric: &'p Metric, rows: &[ReleaseRow], earlier: &dyn Fn(u32) -> Option<&'p Metric>) -> Self {
        let mut cells: BTreeMap<u64, Cells> = BTreeMap::new();
        for row in rows.iter().filter(|row| row.state == ReleaseState::Released) {
            let Some(version) = earlier(row.policy_version).filter(|version| version.axes == metric.axes) else {
                continue;
            };
            let deviation = version.scales().first().map_or(0.0, |scale| scale.deviation(version.mechanism));
            let values = row.values.iter().map(|value| *value as f64).collect();
            let Ok(released) = Cells::new(values, deviation.powi(2)) else { continue };
            let start_ms = row.window.saturating_mul(metric.span_ms);
            let sum = cells.get(&start_ms).and_then(|before| before.plus(&released).ok()).unwrap_or(released);
            cells.insert(start_ms, sum);
        }
        Self { metric, cells }
    }

    fn all(&self) -> Option<Cells> {
        sum(self.cells.values())
    }

    /// Of a joint metric the first axis alone: what falls into a row, whatever the column. The noise of a row adds up.
    fn rows(&self) -> Self {
        let width = self.metric.axes.last().map_or(1, |axis| axis.labels.len());
        let of = |(start, cells): (&u64, &Cells)| {
            let values = cells.values().chunks(width).map(|row| row.iter().sum()).collect();
            Some((*start, Cells::new(values, cells.variance() * width as f64).ok()?))
        };
        Self { metric: self.metric, cells: self.cells.iter().filter_map(of).collect() }
    }
}

fn sum<'c>(mut cells: impl Iterator<Item = &'c Cells>) -> Option<Cells> {
    let first = cells.next()?.clone();
    cells.try_fold(first, |sum, next| sum.plus(next).ok())
}

/// The newest window beside those before; an error is a sentence.
fn drift(of: &str, axis: &Axis, windows: &Windows<'_>) -> Result<(Drift, f64), String> {
    let mut before = windows.cells.iter();
    let Some((start_ms, newest)) = before.next_back() else {
        return Err(format!("{of}: no window was released yet"));
    };
    let (count, Some(usual)) = (before.len(), sum(before.map(|(_, cells)| cells))) else {
        return Err(format!("{of}: one window was released; drift shows from the second"));
    };
    let one = windows.metric.mechanism == Mechanism::Laplace && count == 1;
    let noise = if one { Noise::Laplace } else { Noise::Gaussian };
    let reference = Reference::Cells(usual);
    let labels: Vec<&str> = axis.labels.iter().map(String::as_str).collect();
    let judged = || {
        let setting = Setting::of(&reference, newest, noise)?;
        let seed = u64::from(windows.metric.id) ^ start_ms.rotate_left(32);
        let psi = Statistic::Psi.between(&reference, newest)?;
        let threshold = Null::simulate(&setting, &Statistic::Psi, RUNS, seed)?.threshold(LEVEL)?;
        // Where few visits are expected in a bin, whether it is empty decides the index; this distance is steadier.
        let apart = Statistic::JensenShannon.between(&reference, newest)?;
        let p = Null::simulate(&setting, &Statistic::JensenShannon, RUNS, seed)?.p(apart);
        let words = finding(of, &labels, &reference, newest, noise)?.to_string();
        let visits = newest.total();
        Ok::<_, gloaming_stats::drift::DriftError>((
            Drift {
                of: of.to_owned(),
                start_ms: *start_ms,
                visits,
                windows: count,
                psi,
                threshold,
                q: p,
                drifted: false,
                words,
            },
            p,
        ))
    };
    judged().map_err(|error| format!("{of}: {error}"))
}

fn performed(windows: &Windows<'_>) -> Option<Result<Performed, String>> {
    let [score, outcome] = windows.metric.axes.as_slice() else { return None };
    let (Source::Score(_), Bins::Edges(edges), 2) = (score.source, &score.bins, outcome.labels.len()) else {
        return None;
    };
    let edges: Vec<f64> = edges.iter().map(|edge| f64::from(*edge) / 1e6).collect();
    let told = || {
        let cells = windows.all().ok_or_else(|| "no window was released yet".to_owned())?;
        let found = Table::from_edges(cells, &edges).and_then(|table| performance(&table));
        let found = found.map_err(|error| error.to_string())?;
        Ok(Performed {
            windows: windows.cells.len(),
            base_rate: found.base_rate.into(),
            auc: found.auc.into(),
            average_precision: found.average_precision.into(),
            brier: found.brier.into(),
            calibration_error: found.calibration_error.into(),
        })
    };
    Some(told().map_err(|why: String| format!("{}: {why}", windows.metric.of)))
}

fn fared(windows: &Windows<'_>) -> Vec<Fared> {
    let Some(all) = windows.all() else { return Vec::new() };
    let half = 1.959_963_985 * all.variance().sqrt();
    let of = |(label, value): (&String, &f64)| Fared {
        how: label.clone(),
        visits: Figure { value: *value, low: value - half, high: value + half },
    };
    windows.metric.axes.first().map_or_else(Vec::new, |axis| axis.labels.iter().zip(all.values()).map(of).collect())
}

fn state(state: ModelState) -> &'static str {
    match state {
        ModelState::Shadow => "shadow",
        ModelState::Experiment => "experiment",
        ModelState::Live => "live",
        ModelState::Off => "quarantined",
    }
}

/// What is seen of one model, in all metrics of the policy that say something of it.
fn view(policy: &Policy, place: u32, model: &Model, all: &[Windows<'_>]) -> ModelView {
    let (mut found, mut unknown, mut told, mut well) = (Vec::new(), Vec::new(), Vec::new(), None);
    for windows in all {
        let Some(axis) = windows.metric.axes.first() else { continue };
        let alone = windows.metric.axes.len() == 1 && windows.metric.sum_max().is_none();
        match axis.source {
            Source::Fared(of) if of == place && alone => told = fared(windows),
            Source::Score(of) if of == place => {
                let (name, score) = (format!("score:{}", model.id), if alone { None } else { Some(windows.rows()) });
                found.push(drift(&name, axis, score.as_ref().unwrap_or(windows)));
                match performed(windows) {
                    Some(Ok(performed)) => well = Some(performed),
                    Some(Err(why)) => unknown.push(why),
                    None => {}
                }
            }
            Source::Feature(of) if alone && model.inputs.contains(&of) => {
                found.push(drift(&windows.metric.of, axis, windows));
            }
            _ => {}
        }
    }
    let (mut drift, mut chances) = (Vec::new(), Vec::new());
    for one in found {
        match one {
            Ok((one, p)) => {
                drift.push(one);
                chances.push(p);
            }
            Err(why) => unknown.push(why),
        }
    }
    // A model that takes many features has many ways to look drifted by chance.
    if let Ok(adjusted) = benjamini_hochberg(&chances) {
        for (one, q) in drift.iter_mut().zip(adjusted) {
            (one.q, one.drifted) = (q, q < LEVEL);
        }
    }
    drift.sort_by(|one, other| one.q.total_cmp(&other.q).then(other.psi.total_cmp(&one.psi)));
    let fallback = model.fallback.and_then(|other| Some(policy.models.get(other as usize)?.id.clone()));
    ModelView {
        id: model.id.clone(),
        state: state(model.state),
        fallback,
        drift,
        fared: told,
        performed: well,
        unknown,
    }
}

/// Whether a metric says something of a model, in the way that [`view`] reads.
fn concerns(policy: &Policy, metric: &Metric) -> bool {
    metric.axes.first().is_some_and(|axis| match axis.source {
        Source::Fared(_) | Source::Score(_) => true,
        Source::Feature(of) => policy.models.iter().any(|model| model.inputs.contains(&of)),
        _ => false,
    })
}

/// Reads what is seen of a site's models by its newest policy; `None` when no policy is known.
///
/// # Errors
/// When the database fails.
pub(crate) async fn watch(
    store: &Store,
    policies: &Policies,
    site: &str,
) -> Result<Option<Vec<ModelView>>, StoreError> {
    // Copied, because thresholds are drawn on a thread of their own: nobody else waits for that.
    let versions: BTreeMap<u32, Policy> = policies
        .range((site.to_owned(), 0)..=(site.to_owned(), u32::MAX))
        .map(|((_, version), (policy, _))| (*version, policy.clone()))
        .collect();
    let Some(policy) = versions.values().next_back() else { return Ok(None) };
    let mut releases = Vec::new();
    for metric in policy.metrics.iter().filter(|metric| concerns(policy, metric)) {
        releases.push((metric.id, store.releases(site, metric.id, metric.span_ms, WINDOWS).await?));
    }
    Ok(tokio::task::spawn_blocking(move || seen(&versions, &releases)).await.ok())
}

/// What is seen of the models of the newest version in these releases, by metric.
fn seen(versions: &BTreeMap<u32, Policy>, releases: &[(u32, Vec<ReleaseRow>)]) -> Vec<ModelView> {
    let Some(policy) = versions.values().next_back() else { return Vec::new() };
    let windows = |(id, rows): &(u32, Vec<ReleaseRow>)| {
        Some(Windows::of(policy.metric(*id)?, rows, &|version| versions.get(&version)?.metric(*id)))
    };
    let all: Vec<Windows<'_>> = releases.iter().filter_map(windows).collect();
    (0..).zip(&policy.models).map(|(place, model)| view(policy, place, model, &all)).collect()
}
