//! What the centre sees of each model: whether what it meets has drifted, how it fares, how well it tells outcomes.
//!
//! All of it comes from released cells. A window is compared with the windows before it, on the same bins and with
//! the noise of both; drift is what chance and noise alone would show less than once in a hundred windows that are
//! alike, over all that a model takes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use gloaming_policy::{Axis, Bins, Metric, Model, ModelState, Policy, Source};
use gloaming_privacy::Mechanism;
use gloaming_signal::ReleaseState;
use gloaming_stats::drift::{
    Change, DriftError, Noise, Null, Reference, Setting, Statistic, benjamini_hochberg, finding,
};
use gloaming_stats::performance::{SIGNAL, Table, performance};
use gloaming_stats::{Cells, Estimate};
use serde::Serialize;
use tokio::sync::Mutex;
use utoipa::ToSchema;

use crate::fair::{Fair, fair};
use crate::ingest::Policies;
use crate::store::{ReleaseRow, Store, StoreError};

/// Windows that are looked at: the newest, and those that it is compared with. Half a year of weeks.
const WINDOWS: u32 = 27;
/// What is called drift: rarer than this by chance and noise alone, over all that a model takes.
const LEVEL: f64 = 0.01;
/// Draws of a threshold: it is exceeded by 1 % ± 0.45 of windows without drift.
const RUNS: usize = 2_000;
/// And of what is rarer than that.
const MOST_RUNS: usize = 60_000;
/// A smaller index is called no drift however sure it is: where visits are many, everything is.
const LEAST: f64 = 0.02;

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
    /// Whether that is less than once in a hundred, and the index 0.02 at least.
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
    /// How it treats groups of people, by each attribute that visitors are asked for.
    pub fair: Vec<Fair>,
    /// How well it told outcomes; absent when no metric joins score and outcome, or too little was released.
    pub performed: Option<Performed>,
    /// What cannot be said, and why.
    pub unknown: Vec<String>,
}

/// A window's start, ms; its cells; and, when there are any, the cells that it is compared with and of how many windows.
type Beside = (u64, Cells, Option<(Cells, usize)>);

/// Releases of one metric by window, edge by edge.
pub(crate) struct Windows<'p> {
    metric: &'p Metric,
    /// By start, ms.
    cells: BTreeMap<u64, BTreeMap<&'p str, Cells>>,
}

impl<'p> Windows<'p> {
    /// What an earlier version of the policy counted otherwise, or of another model under that name, is left out.
    pub(crate) fn of(
        metric: &'p Metric,
        rows: &'p [ReleaseRow],
        versions: &BTreeMap<u32, Policy>,
        newest: &Policy,
    ) -> Self {
        let mut cells: BTreeMap<u64, BTreeMap<&'p str, Cells>> = BTreeMap::new();
        for row in rows.iter().filter(|row| row.state == ReleaseState::Released) {
            let Some(version) = versions.get(&row.policy_version).and_then(|policy| {
                policy.metric(metric.id).filter(|version| alike((newest, metric), (policy, version)))
            }) else {
                continue;
            };
            let deviation = version.scales().first().map_or(0.0, |scale| scale.deviation(version.mechanism));
            let values = row.values.iter().map(|value| *value as f64).collect();
            let Ok(released) = Cells::new(values, deviation.powi(2)) else { continue };
            let edges = cells.entry(row.window.saturating_mul(metric.span_ms)).or_default();
            // Of a window that one edge released under two versions of the policy both count.
            let sum = edges.get(&*row.edge).and_then(|before| before.plus(&released).ok()).unwrap_or(released);
            edges.insert(&row.edge, sum);
        }
        Self { metric, cells }
    }

    /// What is counted.
    pub(crate) fn metric(&self) -> &'p Metric {
        self.metric
    }

    /// Sums of this and of another metric, over the windows and edges that released both.
    pub(crate) fn beside_of(&self, other: &Self) -> Option<(Cells, Cells)> {
        let both = |(start, edges): (&u64, &'_ BTreeMap<&'p str, Cells>)| {
            let others = other.cells.get(start)?;
            Some(
                edges
                    .iter()
                    .filter_map(|(edge, cells)| Some((cells.clone(), others.get(edge)?.clone())))
                    .collect::<Vec<_>>(),
            )
        };
        let (own, theirs): (Vec<Cells>, Vec<Cells>) = self.cells.iter().filter_map(both).flatten().unzip();
        Some((sum(own.iter())?, sum(theirs.iter())?))
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.cells.len()
    }

    /// Start of the newest, ms; 0 when there is none.
    pub(crate) fn newest_ms(&self) -> u64 {
        self.cells.last_key_value().map_or(0, |(start_ms, _)| *start_ms)
    }

    /// All of them together.
    pub(crate) fn all(&self) -> Option<Cells> {
        sum(self.cells.values().flat_map(BTreeMap::values))
    }

    /// The newest window, and the sum and number of those that it is compared with: earlier ones, of the edges that
    /// both have, and of the same day of the week where days are compared and two such are there.
    fn beside(&self) -> Option<Beside> {
        let (start_ms, newest) = self.cells.last_key_value()?;
        let day = 86_400_000;
        let same = |start: &u64| self.metric.span_ms != day || (start_ms - start).is_multiple_of(7 * day);
        let earlier = || self.cells.range(..start_ms);
        let weekly = earlier().filter(|(start, _)| same(start)).count() >= 2;
        let before: Vec<_> = earlier().filter(|(start, _)| !weekly || same(start)).collect();
        let before_too = |edge: &&str| before.iter().any(|(_, edges)| edges.contains_key(edge));
        let both: BTreeSet<&str> = newest.keys().copied().filter(before_too).collect();
        let pick = |edges: &BTreeMap<&str, Cells>| {
            sum(edges.iter().filter(|(edge, _)| both.contains(*edge)).map(|(_, cells)| cells))
        };
        // A window that noise alone may have carried past the crowd tells of nobody.
        let usual: Vec<Cells> = before.iter().filter_map(|(_, edges)| pick(edges)).filter(stands_clear).collect();
        let now = pick(newest).or_else(|| sum(newest.values()))?;
        Some((*start_ms, now, sum(usual.iter()).map(|sum| (sum, usual.len()))))
    }

    /// Of a joint metric the first axis alone: what falls into a row, whatever the column. The noise of a row adds up.
    fn rows(&self) -> Self {
        let width = self.metric.axes.last().map_or(1, |axis| axis.labels.len());
        let of = |cells: &Cells| {
            let values = cells.values().chunks(width).map(|row| row.iter().sum()).collect();
            Cells::new(values, cells.variance() * width as f64).ok()
        };
        let edges = |edges: &BTreeMap<&'p str, Cells>| {
            edges.iter().filter_map(|(edge, cells)| Some((*edge, of(cells)?))).collect::<BTreeMap<_, _>>()
        };
        Self { metric: self.metric, cells: self.cells.iter().map(|(start, by)| (*start, edges(by))).collect() }
    }
}

/// Whether two versions of a metric count the same: the same bins, of the same thing, scored by the same model, in the same
/// arms of the same devices.
pub(crate) fn alike((policy, metric): (&Policy, &Metric), (other, version): (&Policy, &Metric)) -> bool {
    let model =
        |policy: &Policy, place: u32| policy.models.get(place as usize).map(|m| (m.id.clone(), m.manifest_sha256));
    let source = |one: &Axis, two: &Axis| match (one.source, two.source) {
        (Source::Score(a), Source::Score(b)) | (Source::Fared(a), Source::Fared(b)) => {
            model(policy, a) == model(other, b)
        }
        (Source::Arm(a), Source::Arm(b)) => {
            let design = |of: &Policy, place: u32| {
                // Another version of the model that is tried makes another experiment of it, whatever it is called.
                let of_experiment = |e: &gloaming_policy::Experiment| {
                    let tried = e.model.map(|place| model(of, place));
                    (e.id.clone(), (e.arms.clone(), e.shares.clone()), e.layer.clone(), (e.from, e.to), tried)
                };
                of.experiments.get(place as usize).map(of_experiment)
            };
            design(policy, a) == design(other, b)
        }
        (a, b) => a == b,
    };
    metric.axes.len() == version.axes.len()
        && metric.axes.iter().zip(&version.axes).all(|(a, b)| source(a, b) && a.bins == b.bins && a.labels == b.labels)
}

/// Whether a window holds more visits than noise alone makes look like some.
fn stands_clear(cells: &Cells) -> bool {
    cells.total() >= SIGNAL * (cells.variance() * cells.values().len() as f64).sqrt()
}

fn sum<'c>(mut cells: impl Iterator<Item = &'c Cells>) -> Option<Cells> {
    let first = cells.next()?.clone();
    cells.try_fold(first, |sum, next| sum.plus(next).ok())
}

/// The newest window beside those before; an error is a sentence. `many` is how many are judged together.
fn drift(of: &str, axis: &Axis, windows: &Windows<'_>, many: usize) -> Result<(Drift, f64), String> {
    let Some((start_ms, newest, usual)) = windows.beside() else {
        return Err(format!("{of}: no window was released yet"));
    };
    if !stands_clear(&newest) {
        return Err(format!("{of}: the newest window holds so few visits that noise alone may be all of it"));
    }
    let Some((usual, count)) = usual else {
        return Err(format!("{of}: one window was released with more than noise in it; drift shows from the second"));
    };
    let laplace = windows.metric.mechanism == Mechanism::Laplace;
    let noise = if laplace { Noise::Laplace } else { Noise::Gaussian };
    let reference = Reference::Cells(usual);
    let labels: Vec<&str> = axis.labels.iter().map(String::as_str).collect();
    let judged = || {
        let setting = Setting::of(&reference, &newest, noise)?;
        let seed = u64::from(windows.metric.id) ^ start_ms.rotate_left(32);
        let psi = Statistic::Psi.between(&reference, &newest)?;
        let threshold = Null::simulate(&setting, &Statistic::Psi, RUNS, seed)?.threshold(LEVEL)?;
        // Where few visits are expected in a bin, whether it is empty decides the index; this distance is steadier.
        let apart = Statistic::JensenShannon.between(&reference, &newest)?;
        let chance =
            |runs| Ok::<_, DriftError>(Null::simulate(&setting, &Statistic::JensenShannon, runs, seed)?.p(apart));
        let mut p = chance(RUNS)?;
        // One in two thousand is not rare enough to stand out among dozens; only what is that rare is drawn again.
        if p < 3.0 / RUNS as f64 && many > 4 {
            p = chance((RUNS * many).min(MOST_RUNS))?;
        }
        let found = finding(of, &labels, &reference, &newest, noise)?;
        let words = if found.changes.iter().any(Change::is_sure) {
            found.to_string()
        } else {
            format!("{of}: many bins changed a little, none by itself by more than chance and noise explain")
        };
        let (of, visits) = (of.to_owned(), newest.total());
        Ok((Drift { of, start_ms, visits, windows: count, psi, threshold, q: p, drifted: false, words }, p))
    };
    judged().map_err(|error: DriftError| format!("{of}: {error}"))
}

fn performed(windows: &Windows<'_>, model: &Model) -> Option<Result<Performed, String>> {
    let [score, outcome] = windows.metric.axes.as_slice() else { return None };
    let (Source::Score(_), Bins::Edges(edges), Source::Feature(_)) = (score.source, &score.bins, outcome.source) else {
        return None;
    };
    // Other words of two are no outcomes: a visit that is the first of its day has not come true.
    if !outcome.is_yes_or_no() {
        return None;
    }
    let scores = |millionths: &[u32]| millionths.iter().map(|score| f64::from(*score) / 1e6).collect::<Vec<_>>();
    let means = &model.score_means;
    // Means are of the model's own bins, and not of an author's.
    let known = means.len() + 1 == edges.len() && edges[1..edges.len() - 1] == model.score_edges;
    let table = |cells| if known { Table::new(cells, scores(means)) } else { Table::from_edges(cells, &scores(edges)) };
    let told = || {
        let cells = windows.all().ok_or_else(|| "no window was released yet".to_owned())?;
        let found = table(cells).and_then(|table| performance(&table));
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
    let (mut inputs, mut scores, mut told, mut well) = (BTreeMap::new(), None, Vec::new(), None);
    let mut unknown = Vec::new();
    // What the monitor counts comes first: its numbers are the highest, and it serves the model's own purpose.
    for windows in all.iter().rev() {
        let Some(axis) = windows.metric.axes.first() else { continue };
        let alone = windows.metric.axes.len() == 1 && windows.metric.sum_max().is_none();
        match axis.source {
            Source::Fared(of) if of == place && alone => told = fared(windows),
            Source::Score(of) if of == place => {
                scores = scores.or(Some((axis, windows, alone)));
                // Kinds are in no order, and there is nothing that they could be right or wrong about.
                match performed(windows, model).filter(|_| model.kinds.is_empty()) {
                    Some(Ok(performed)) => well = well.or(Some(performed)),
                    Some(Err(why)) => unknown.push(why),
                    None => {}
                }
            }
            // A table of an input and its outcome tells the input as well; by itself it is told with less noise.
            Source::Feature(of)
                if model.inputs.contains(&of)
                    && (alone || windows.metric.axes.len() == 2 && windows.metric.outcome().is_some()) =>
            {
                let kept = inputs.entry(of).or_insert((axis, windows, alone));
                if alone && !kept.2 {
                    *kept = (axis, windows, alone);
                }
            }
            _ => {}
        }
    }
    let many = inputs.len() + usize::from(scores.is_some());
    // Of what is counted with something else, the first part of its name is its own.
    let judged = |(axis, windows, alone): (&Axis, &Windows<'_>, bool)| {
        let rows = (!alone).then(|| windows.rows());
        let of = windows.metric.of.split(", ").next().unwrap_or_default();
        drift(of, axis, rows.as_ref().unwrap_or(windows), many)
    };
    let found: Vec<_> = inputs.into_values().chain(scores).map(judged).collect();
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
            (one.q, one.drifted) = (q, q < LEVEL && one.psi >= LEAST);
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
        fair: fair(policy, place, all),
        performed: well,
        unknown,
    }
}

/// Whether a metric says something of a model, in the way that [`view`] reads.
fn concerns(policy: &Policy, metric: &Metric) -> bool {
    metric.axes.first().is_some_and(|axis| match axis.source {
        Source::Fared(_) | Source::Score(_) => true,
        Source::Feature(of) => policy.models.iter().any(|model| model.inputs.contains(&of)),
        // By what visitors say of themselves.
        Source::Page(_) => metric.axes.len() == 3,
        _ => false,
    })
}

/// What was seen, of which releases.
type Known = BTreeMap<String, (Vec<(u32, u64, usize)>, Arc<Vec<ModelView>>)>;

/// What is seen of models, kept until something new arrives. One site is worked out at a time, so that whoever asks
/// often takes no core from what arrives.
#[derive(Default)]
pub(crate) struct Watch(Mutex<Known>);

impl Watch {
    /// What is seen of a site's models by its newest policy; `None` when no policy is known.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn models(
        &self,
        store: &Store,
        policies: &Policies,
        site: &str,
    ) -> Result<Option<Arc<Vec<ModelView>>>, StoreError> {
        let mut known = self.0.lock().await;
        let versions = || policies.range((site.to_owned(), 0)..=(site.to_owned(), u32::MAX));
        let Some((_, (policy, _))) = versions().next_back() else { return Ok(None) };
        let (mut releases, mut name) = (Vec::new(), vec![(policy.version, 0, 0)]);
        for metric in policy.metrics.iter().filter(|metric| concerns(policy, metric)) {
            let rows = store.releases(site, metric.id, metric.span_ms, WINDOWS).await?;
            name.push((metric.id, rows.iter().map(|row| row.received_ms).max().unwrap_or(0), rows.len()));
            releases.push((metric.id, rows));
        }
        if let Some((of, seen)) = known.get(site)
            && *of == name
        {
            return Ok(Some(Arc::clone(seen)));
        }
        // Copied, because thresholds are drawn on a thread of their own.
        let versions = versions().map(|((_, version), (policy, _))| (*version, policy.clone())).collect();
        let found = tokio::task::spawn_blocking(move || seen(&versions, &releases)).await;
        let found = Arc::new(found.map_err(|_| StoreError::Unworkable)?);
        known.insert(site.to_owned(), (name, Arc::clone(&found)));
        Ok(Some(found))
    }
}

/// What is seen of the models of the newest version in these releases, by metric.
fn seen(versions: &BTreeMap<u32, Policy>, releases: &[(u32, Vec<ReleaseRow>)]) -> Vec<ModelView> {
    let Some(policy) = versions.values().next_back() else { return Vec::new() };
    let windows = |(id, rows)| Some(Windows::of(policy.metric(id)?, rows, versions, policy));
    let all: Vec<Windows<'_>> = releases.iter().filter_map(|(id, rows)| windows((*id, rows))).collect();
    (0..).zip(&policy.models).map(|(place, model)| view(policy, place, model, &all)).collect()
}
