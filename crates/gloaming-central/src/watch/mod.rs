//! What the centre sees of each model: whether what it meets has drifted, how it fares, how well it tells outcomes.
//!
//! All of it comes from released cells. A window is compared with the windows before it, on the same bins and with
//! the noise of both; drift is what chance and noise alone would show less than once in a hundred windows that are
//! alike, over all that a model takes.

use std::collections::BTreeMap;
use std::sync::Arc;

use gloaming_policy::{Axis, Metric, Model, ModelState, Policy, Source};
use gloaming_stats::{Cells, Estimate};
use serde::Serialize;
use tokio::sync::Mutex;
use utoipa::ToSchema;

use crate::fair::{Fair, fair};
use crate::ingest::Policies;
use crate::store::{ReleaseRow, Store, StoreError};

mod drift;
mod performed;
mod series;
mod windows;

pub use drift::Drift;
use performed::Told;
pub use performed::{Bin, Expected, Performed, Recent};
pub use series::{Point, Series};
pub(crate) use windows::{Windows, alike, by_metric};

/// Windows that are looked at: the newest, and those that it is compared with. Half a year of weeks.
pub(crate) const WINDOWS: u32 = 27;
/// 97.5th percentile of the standard normal distribution.
pub(crate) const REACH: f64 = 1.959_963_985;
const DAY_MS: u64 = 86_400_000;
/// What is called drift, or a change: rarer than this by chance and noise alone, over all that a model takes.
const LEVEL: f64 = 0.01;

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

impl Figure {
    /// With an interval that reaches as far to both sides.
    pub(crate) fn around(value: f64, half: f64) -> Self {
        Self { value, low: value - half, high: value + half }
    }
}

impl From<Estimate> for Figure {
    fn from(Estimate { value, low, high }: Estimate) -> Self {
        Self { value, low, high }
    }
}

/// How often a model fared in a way.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Fared {
    /// `lacking`: a page did not give what it takes; `scored`; `late`: after its time; `failed`. With `-fallback` where its fallback
    /// had a score, with `-last-good` where the last good version scored, because a newer one waits for its files.
    pub how: String,
    /// Visits, over all windows looked at.
    pub visits: Figure,
}

/// How often a score was somebody's.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ScoredBy {
    /// The model `itself`, its `last-good` version, its `fallback`, or `nobody`.
    pub who: &'static str,
    /// Visits, over all windows looked at.
    pub visits: Figure,
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
    /// Whose score there was in visits; empty when that is not monitored, or by a policy from before it was told.
    pub scored_by: Vec<ScoredBy>,
    /// How it treats groups of people, by each attribute that visitors are asked for.
    pub fair: Vec<Fair>,
    /// How well it told outcomes; absent when no metric joins score and outcome, or too little was released.
    pub performed: Option<Performed>,
    /// The newest windows beside those before: whether it tells outcomes as well as it did; absent before there are two windows
    /// that tell enough.
    pub recent: Option<Recent>,
    /// What its scores alone would let one expect of the newest windows. It does not see when outcomes change.
    pub expected: Option<Expected>,
    /// Figures window by window, and since when they lie off what they were.
    pub series: Vec<Series>,
    /// What cannot be said, and why.
    pub unknown: Vec<String>,
}

/// What a last good version scored is told of the newest, which waits: it was counted under the version before.
fn fared(windows: &Windows<'_>, others: Option<&Windows<'_>>) -> Vec<Fared> {
    let Some(axis) = windows.metric().axes.first() else { return Vec::new() };
    let (own, others) = (windows.all(), others.and_then(Windows::all));
    let of = |(place, how): (usize, &String)| {
        let others = others.as_ref().filter(|_| how.ends_with(LAST_GOOD));
        let counted: Vec<&Cells> = own.iter().chain(others).collect();
        let value: f64 = counted.iter().filter_map(|cells| cells.values().get(place)).sum();
        let half = REACH * counted.iter().map(|cells| cells.variance()).sum::<f64>().sqrt();
        (!counted.is_empty()).then(|| Fared { how: how.clone(), visits: Figure::around(value, half) })
    };
    axis.labels.iter().enumerate().filter_map(of).collect()
}

/// Endings of the words that say whose score it was.
const FALLBACK: &str = "-fallback";
const LAST_GOOD: &str = "-last-good";

fn who(how: &str) -> Option<&'static str> {
    match how {
        "scored" | "late" => Some("itself"),
        "lacking" | "failed" => Some("nobody"),
        _ if how.ends_with(LAST_GOOD) => Some("last-good"),
        _ if how.ends_with(FALLBACK) => Some("fallback"),
        _ => None,
    }
}

fn scored_by(fared: &[Fared]) -> Vec<ScoredBy> {
    // Without them nobody can say that a model did it itself.
    if !fared.iter().any(|one| one.how.ends_with(LAST_GOOD)) {
        return Vec::new();
    }
    let of = |wanted: &'static str| {
        let its: Vec<Figure> = fared.iter().filter(|one| who(&one.how) == Some(wanted)).map(|one| one.visits).collect();
        let half = its.iter().map(|visits| (visits.high - visits.value).powi(2)).sum::<f64>().sqrt();
        let visits = Figure::around(its.iter().map(|visits| visits.value).sum(), half);
        (!its.is_empty()).then_some(ScoredBy { who: wanted, visits })
    };
    ["itself", "last-good", "fallback", "nobody"].into_iter().filter_map(of).collect()
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
fn view(policy: &Policy, place: u32, model: &Model, all: &[Windows<'_>], others: &[Windows<'_>]) -> ModelView {
    let (mut inputs, mut scores, mut how, mut well) = (BTreeMap::new(), None, Vec::new(), None);
    let mut unknown = Vec::new();
    // What the monitor counts comes first: its numbers are the highest, and it serves the model's own purpose.
    for windows in all.iter().rev() {
        let Some(axis) = windows.metric().axes.first() else { continue };
        let alone = windows.metric().axes.len() == 1 && windows.metric().sum_max().is_none();
        match axis.source {
            Source::Fared(of) if of == place && alone && how.is_empty() => {
                let of_others = others.iter().find(|others| others.metric().id == windows.metric().id);
                how = fared(windows, of_others);
            }
            Source::Score(of) if of == place => {
                scores = scores.or(Some((axis, windows, alone)));
                // Kinds are in no order, and there is nothing that they could be right or wrong about.
                let told =
                    if well.is_none() && model.kinds.is_empty() { performed::told(windows, model) } else { None };
                match told {
                    Some(Ok(told)) => well = Some(told),
                    Some(Err(why)) => unknown.push(why),
                    None => {}
                }
            }
            // A table of an input and its outcome tells the input as well; by itself it is told with less noise.
            Source::Feature(of)
                if model.inputs.contains(&of)
                    && (alone || windows.metric().axes.len() == 2 && windows.metric().outcome().is_some()) =>
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
        let of = windows.metric().of.split(", ").next().unwrap_or_default();
        drift::judge(of, axis, rows.as_ref().unwrap_or(windows), many)
    };
    let found = inputs.into_values().chain(scores).map(judged);
    let (found, lacking): (Vec<_>, Vec<_>) = found.partition(Result::is_ok);
    unknown.extend(lacking.into_iter().filter_map(Result::err));
    let (drift, moved) = drift::call(found.into_iter().flatten().collect());
    // Where nothing joins scores with outcomes, they are all there is to go by.
    let alone = || {
        let (_, windows, _) = scores.filter(|(.., alone)| *alone && model.kinds.is_empty())?;
        performed::by_scores_alone(windows, model)
    };
    let (performed, recent, expected, mut series) = match well {
        Some(Told { performed, recent, expected, series }) => (Some(performed), recent, expected, series),
        None => (None, None, alone(), Vec::new()),
    };
    series.extend(moved);
    let fallback = model.fallback.and_then(|other| Some(policy.models.get(other as usize)?.id.clone()));
    ModelView {
        id: model.id.clone(),
        state: state(model.state),
        fallback,
        drift,
        scored_by: scored_by(&how),
        fared: how,
        fair: fair(policy, place, all),
        performed,
        recent,
        expected,
        series,
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
    let known = || releases.iter().filter_map(|(id, rows)| Some((policy.metric(*id)?, rows)));
    let all: Vec<Windows<'_>> = known().map(|(metric, rows)| Windows::of(metric, rows, versions, policy)).collect();
    let others: Vec<Windows<'_>> =
        known().filter_map(|(metric, rows)| Windows::of_others(metric, rows, versions, policy)).collect();
    (0..).zip(&policy.models).map(|(place, model)| view(policy, place, model, &all, &others)).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests;
