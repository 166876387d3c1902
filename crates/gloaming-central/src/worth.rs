//! What a model that acts is worth: what it brings beside what it costs people, in one view.
//!
//! Nothing is reckoned anew that another view tells: lifts are the experiment's, calibration and gaps the model's. What only
//! stands here are opt-outs, complaints, and the share of visits in which a model did not keep to its time, each from released
//! cells with an interval. What is not counted is said, with the lines that a policy would need.

use std::collections::BTreeMap;
use std::sync::Arc;

use gloaming_policy::gate::{Record, Standing};
use gloaming_policy::{Axis, Experiment, Metric, Model, Policy, Source};
use serde::Serialize;
use utoipa::ToSchema;

use crate::ingest::Policies;
use crate::store::{ReleaseRow, Store, StoreError};
use crate::trials::{self, ExperimentView, experiments};
use crate::watch::{self, Figure, ModelView, Watch, Windows, by_metric};

mod add;
mod brings;
mod costs;

/// Records of the gate by site, as they stand in the newest policy.
pub(crate) type Records = BTreeMap<String, Record>;

/// One thing that a model brings or costs.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Line {
    /// `conversion`, `value`, `satisfaction`; `calibration`, `gap`, `opt-outs`, `complaints`, `guardrail`, `bytes`, `budget`,
    /// `late`, `failed`.
    pub kind: &'static str,
    /// What it is, in words.
    pub what: String,
    /// The arm of an experiment that it is of.
    pub arm: Option<String>,
    /// What the figure is in: `lift` (a share of the control's), `points` (a difference of shares), `share`, `gap`, `error`,
    /// `bytes`, `ms`, or the unit of an amount.
    pub unit: String,
    /// The figure with its interval; both ends are the figure where it is known exactly. Absent where it is not known.
    pub figure: Option<Figure>,
    /// The same in words, or that it is not known.
    pub told: String,
    /// `every-look`: the interval is of 95 % whenever one looks, for all arms together; `one-look`; `exact`: there is no doubt.
    pub holds: &'static str,
    /// What has to be known beside it.
    pub words: Option<String>,
    /// Why there is no figure, where there is none.
    pub unknown: Option<String>,
    /// Lines of policy by which it would be counted, where it is not.
    pub add: Option<String>,
}

/// One model that acts on people.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Worth {
    /// Its name.
    pub id: String,
    /// `experiment` or `live`.
    pub state: &'static str,
    /// What it brings.
    pub brings: Vec<Line>,
    /// What it costs people.
    pub costs: Vec<Line>,
}

impl Line {
    fn new(kind: &'static str, what: impl Into<String>, unit: &str) -> Self {
        Self {
            kind,
            what: what.into(),
            arm: None,
            unit: unit.to_owned(),
            figure: None,
            told: "not known".to_owned(),
            holds: "one-look",
            words: None,
            unknown: None,
            add: None,
        }
    }

    /// With a figure, or why there is none.
    fn found(self, found: Result<Figure, String>) -> Self {
        match found {
            Ok(figure) => Self { told: told(&figure, &self.unit), figure: Some(figure), ..self },
            Err(why) => Self { unknown: Some(why), ..self },
        }
    }

    /// With a figure that is no guess.
    fn exactly(self, value: f64) -> Self {
        Self { holds: "exact", ..self.found(Ok(Figure { value, low: value, high: value })) }
    }

    fn at_every_look(self) -> Self {
        Self { holds: "every-look", ..self }
    }

    fn of_arm(self, arm: &str) -> Self {
        Self { arm: Some(arm.to_owned()), ..self }
    }

    fn saying(self, words: impl Into<String>) -> Self {
        Self { words: Some(words.into()), ..self }
    }

    /// Of what nobody counts, with the lines that would.
    fn not_counted(self, why: impl Into<String>, add: String) -> Self {
        Self { told: "not counted".to_owned(), unknown: Some(why.into()), add: Some(add), ..self }
    }
}

/// A figure with its interval in words: as many digits as its interval is worth.
fn told(figure: &Figure, unit: &str) -> String {
    let Figure { value, low, high } = *figure;
    let (times, word, sign) = match unit {
        "lift" => (100.0, "%", true),
        "points" | "gap" => (100.0, "points", unit == "points"),
        "share" => (100.0, "%", false),
        "error" => (1.0, "", false),
        "bytes" | "ms" => return format!("{value} {unit}"),
        amount => (1.0, amount, true),
    };
    let half = times * (high - low) / 2.0;
    let digits = if half > 0.0 { (1.0 - half.log10().floor()).clamp(1.0, 4.0) as usize } else { 1 };
    let say = |value: f64| {
        let text = format!("{:.digits$}", times * value);
        // Rounded to nothing it has no sign.
        let text = if text.trim_start_matches('-').chars().all(|c| matches!(c, '0' | '.')) {
            text.trim_start_matches('-').to_owned()
        } else {
            text
        };
        if sign && times * value > 0.0 && text.chars().any(|c| ('1'..='9').contains(&c)) {
            format!("+{text}")
        } else {
            text
        }
    };
    let word = if word.is_empty() { String::new() } else { format!(" {word}") };
    format!("{}{word} [{}, {}]", say(value), say(low), say(high))
}

/// All that is known of one model.
struct Known<'k> {
    policy: &'k Policy,
    place: u32,
    model: &'k Model,
    view: &'k ModelView,
    /// Experiments that decide who hears it.
    tried: Vec<(&'k Experiment, &'k ExperimentView)>,
    counted: &'k BTreeMap<u32, Windows<'k>>,
    /// What the gate knows of it.
    standing: Option<&'k Standing>,
}

impl Known<'_> {
    /// Released windows of a metric, if there are any.
    fn windows(&self, metric: u32) -> Result<&Windows<'_>, String> {
        self.counted.get(&metric).ok_or_else(|| "no window was released yet".to_owned())
    }
}

/// Whether a metric of its own counts opt-outs, complaints, or how a model fared.
fn concerns(metric: &Metric) -> bool {
    let fared = |axis: &Axis| matches!(axis.source, Source::Fared(_));
    matches!(metric.axes.as_slice(), [only] if fared(only) || costs::is_opt_out(metric) || costs::is_complaint(metric))
}

/// Whether a model of a policy acts on people.
fn acts(policy: &Policy) -> bool {
    policy.models.iter().any(|model| model.state.acts())
}

/// What each model of the newest policy that acts is worth; `None` when no policy is known.
///
/// # Errors
/// When the database fails.
pub(crate) async fn worth(
    store: &Store,
    policies: &Policies,
    records: &Records,
    watch: &Watch,
    site: &str,
) -> Result<Option<Vec<Worth>>, StoreError> {
    let newest = policies.range((site.to_owned(), 0)..=(site.to_owned(), u32::MAX)).next_back();
    let (mut views, mut trials) = (Arc::default(), Vec::new());
    if newest.is_some_and(|(_, (policy, _))| acts(policy)) {
        views = watch.models(store, policies, site).await?.unwrap_or_default();
        trials = experiments(store, policies, site).await?.unwrap_or_default();
    }
    worth_beside(store, policies, records, (&views, &trials), site).await
}

/// The same beside views that are at hand.
///
/// # Errors
/// When the database fails.
pub(crate) async fn worth_beside(
    store: &Store,
    policies: &Policies,
    records: &Records,
    (views, trials): (&[ModelView], &[ExperimentView]),
    site: &str,
) -> Result<Option<Vec<Worth>>, StoreError> {
    let versions = || policies.range((site.to_owned(), 0)..=(site.to_owned(), u32::MAX));
    let Some((_, (policy, _))) = versions().next_back() else { return Ok(None) };
    if !acts(policy) {
        return Ok(Some(Vec::new()));
    }
    let mut wanted: BTreeMap<u32, u32> =
        policy.metrics.iter().filter(|m| concerns(m)).map(|m| (m.id, watch::WINDOWS)).collect();
    for experiment in policy.experiments.iter().filter(|experiment| experiment.model.is_some()) {
        let ids = experiment.guardrails.iter().map(|rail| rail.metric).chain([experiment.goal]);
        wanted.extend(ids.map(|id| (id, trials::WINDOWS)));
    }
    let mut rows: BTreeMap<u32, Vec<ReleaseRow>> = BTreeMap::new();
    for (id, windows) in wanted {
        let Some(metric) = policy.metric(id) else { continue };
        rows.insert(id, store.releases(site, id, metric.span_ms, windows).await?);
    }
    let known: BTreeMap<u32, Policy> =
        versions().map(|((_, version), (policy, _))| (*version, policy.clone())).collect();
    Ok(Some(weighed(&known, records.get(site), views, trials, &rows)))
}

/// The same, from what was read: all versions of the policy, the record, the views, and releases by metric.
fn weighed(
    versions: &BTreeMap<u32, Policy>,
    record: Option<&Record>,
    views: &[ModelView],
    trials: &[ExperimentView],
    rows: &BTreeMap<u32, Vec<ReleaseRow>>,
) -> Vec<Worth> {
    let Some(policy) = versions.values().next_back() else { return Vec::new() };
    let counted = by_metric(policy, rows, versions);
    let of = |(place, (model, view)): (u32, (&Model, &ModelView))| {
        let tried = policy.experiments.iter().zip(trials).filter(|(experiment, _)| experiment.model == Some(place));
        let known = Known {
            policy,
            place,
            model,
            view,
            tried: tried.collect(),
            counted: &counted,
            standing: record.and_then(|record| record.standing(&model.manifest_sha256)),
        };
        Worth { id: model.id.clone(), state: view.state, brings: brings::lines(&known), costs: costs::lines(&known) }
    };
    (0..).zip(policy.models.iter().zip(views)).filter(|(_, (model, _))| model.state.acts()).map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_as_many_digits_as_their_intervals_are_worth() {
        let figure = |value, low, high| Figure { value, low, high };
        for (of, unit, words) in [
            (figure(0.3146, 0.2511, 0.3781), "lift", "+31.5 % [+25.1, +37.8]"),
            (figure(-0.00004, -0.004, 0.004), "points", "-0.00 points [-0.40, +0.40]"),
            (figure(0.0312, 0.0289, 0.0336), "share", "3.12 % [2.89, 3.36]"),
            (figure(0.15, 0.11, 0.19), "gap", "15.0 points [11.0, 19.0]"),
            (figure(0.1, 0.08, 0.12), "error", "0.100 [0.080, 0.120]"),
            (figure(1_375.0, 1_375.0, 1_375.0), "bytes", "1375 bytes"),
            (figure(1.4, 1.05, 1.75), "money", "+1.40 money [+1.05, +1.75]"),
        ] {
            assert_eq!(told(&of, unit), words.replace("-0.00 ", "0.00 "));
        }
    }
}
