//! What the centre sees of each experiment: whether the arms are fairly filled, what changed, whether a guardrail broke.
//!
//! All of it comes from released cells (arm by what was true of the visit), added up over the windows of one unchanged
//! design. Intervals include the noise and hold whenever one looks (`gloaming_stats::experiment`).

use std::collections::BTreeMap;

use gloaming_policy::author::date_of;
use gloaming_policy::gate::{self, Interval, Said, Statement};
use gloaming_policy::{Experiment, Guarded, Metric, Policy};
use gloaming_stats::experiment::{
    self as stats, Arm, Better, Effect, ExperimentError, Guardrail, Scale, Shares, TAU, Verdict,
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::ingest::Policies;
use crate::store::{ReleaseRow, Store, StoreError};
use crate::watch::{Figure, Windows, by_metric};

mod counted;
mod groups;
mod rates;
mod stopped;

use counted::{Counted, YES_OR_NO, of_goal};
pub(crate) use groups::by_groups;
pub(crate) use rates::{any_of_it, rates};
pub use stopped::StoppedView;
pub(crate) use stopped::{due, mark};

/// Windows that are added up: a year of days and a month.
pub(crate) const WINDOWS: u32 = 400;
/// Error rate of each interval over all looks.
const ALPHA: f64 = 0.05;
const DAY_MS: u64 = 86_400_000;

/// One arm.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ArmView {
    /// Its name.
    pub name: String,
    /// Visits that were exposed to it.
    pub visits: f64,
    /// Share of them of which the goal was true, or its mean or ratio where it is an amount, with a 95 % interval for one look.
    pub share: Option<Figure>,
    /// That less the control's, adjusted by what was known before where the policy says so; the interval holds at every look,
    /// for all arms together. Absent for the control.
    pub difference: Option<Figure>,
    /// The difference as a share of the control's; absent where that is too near to nothing.
    pub lift: Option<Figure>,
    /// Share of the visits that Thompson sampling would give it from here on; where the experiment is about a model that has
    /// passed the gate, and nothing stops it. It comes into force by `shares` in a policy that somebody signs.
    pub next: Option<f64>,
    /// How often there would be such a difference without any, at any look; over all arms (Benjamini and Hochberg).
    pub q: Option<f64>,
}

/// One guardrail in one arm.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct RailView {
    /// What must not become more frequent.
    pub of: String,
    /// In which arm.
    pub arm: String,
    /// `held`, `broken` or `open`: neither is shown.
    pub verdict: &'static str,
    /// In words, with the bounds.
    pub reason: String,
}

/// One experiment.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ExperimentView {
    /// Its name.
    pub id: String,
    /// What is to change.
    pub goal: String,
    /// Whether less of it is better.
    pub lower: bool,
    /// `share` of visits, `mean` of an amount a visit, or `ratio` of two amounts: what its figures are.
    pub figure: &'static str,
    /// Unit of an amount's figures; empty for shares.
    pub unit: String,
    /// What takes out of the difference what would have differed anyway, where there is such.
    pub adjusted_by: Option<String>,
    /// Smallest change that would matter, as a share of visits or in the goal's unit.
    pub least: f64,
    /// The model that the control does not hear.
    pub model: Option<String>,
    /// Windows that were added up.
    pub windows: usize,
    /// The arms, the control first.
    pub arms: Vec<ArmView>,
    /// How often fair assignment ever fills arms as unevenly as these, for one who looks as often as they like. Below 0.001 the verdict
    /// is `uneven`.
    pub sample_ratio_p: Option<f64>,
    /// How often it fills them so at one look that was planned: valid for whoever looks once, and too small for whoever looks daily.
    /// Below 0.01 it is a warning.
    pub sample_ratio_one_look_p: Option<f64>,
    /// What to look into; it stops nothing.
    pub warnings: Vec<String>,
    /// What must not get worse, by arm.
    pub guardrails: Vec<RailView>,
    /// `uneven`, `stop`, `better`, `worse`, `alike` or `open`.
    pub verdict: &'static str,
    /// The same in a sentence.
    pub words: String,
    /// Whether a guardrail that breaks ends it by itself, as those said who signed the policy.
    pub stops: bool,
    /// That it has ended by itself, and why.
    pub stopped: Option<StoppedView>,
    /// What cannot be said, and why.
    pub unknown: Vec<String>,
    /// A statement for the gate, where the experiment is about a model and can be judged: sign it with
    /// `gloaming model evidence`.
    #[schema(value_type = Option<Object>)]
    pub statement: Option<serde_json::Value>,
}

/// Least that Thompson sampling leaves to an arm, so that its mistakes can be found.
const LEAST_SHARE: f64 = 0.05;

/// What an arm does to what it must not make more frequent.
fn guarded(control: &Arm, arm: &Arm) -> Result<Effect, ExperimentError> {
    let effect = stats::effect(control, arm, Scale::Absolute)?;
    // What happened to nobody may yet happen: it counts as what one in each arm would have made uncertain.
    Ok(Effect { sampling: effect.sampling.max(8.0 / effect.people.powi(2)), ..effect })
}

fn rails(experiment: &Experiment, rail: Guarded, of: &str, arms: &[Arm]) -> Result<Vec<RailView>, ExperimentError> {
    let permitted = f64::from(rail.permitted) / 1e6;
    let [control, others @ ..] = arms else { return Ok(Vec::new()) };
    let alpha = ALPHA / others.len().max(1) as f64;
    let rule = Guardrail { better: Better::Lower, permitted, alpha, tau: TAU };
    let judged = |(arm, name): (&Arm, &String)| {
        let found = stats::guard(&guarded(control, arm)?, &rule)?;
        let verdict = match found.verdict {
            Verdict::Ok => "held",
            Verdict::Stop => "broken",
            Verdict::NotYet => "open",
        };
        let points = |share: f64| format!("{:.1}", 100.0 * share);
        let reason = match found.verdict {
            Verdict::Stop => format!(
                "more frequent by {} points at least, where {} are permitted",
                points(found.low),
                points(permitted)
            ),
            Verdict::Ok => format!(
                "more frequent by {} points at most, and {} are permitted",
                points(found.high.max(0.0)),
                points(permitted)
            ),
            Verdict::NotYet => format!(
                "more frequent by {} to {} points, and {} are permitted: more visits are needed",
                points(found.low),
                points(found.high),
                points(permitted)
            ),
        };
        Ok(RailView { of: of.to_owned(), arm: name.clone(), verdict, reason })
    };
    others.iter().zip(&experiment.arms[1..]).map(judged).collect()
}

fn points(figure: &Figure, view: &ExperimentView) -> String {
    let (times, digits, unit) = match view.figure {
        "share" => (100.0, 1, "points"),
        _ => (1.0, digits(figure.high - figure.low), &*view.unit),
    };
    let of = |value: f64| format!("{:+.digits$}", times * value);
    format!("{} {unit} [{}, {}]", of(figure.value), of(figure.low), of(figure.high))
}

/// As many digits as an interval of this width is worth: two of its half, six after the point at most.
fn digits(width: f64) -> usize {
    let half = width / 2.0;
    if half > 0.0 { (1.0 - half.log10().floor()).clamp(0.0, 6.0) as usize } else { 6 }
}

/// The warning of a sample ratio: a test that was planned for one look sees what one that holds at every look cannot yet.
fn uneven_at_one_look(p: f64) -> Option<String> {
    let told = if p < 0.0001 { "p < 0.0001".to_owned() } else { format!("p = {p:.4}") };
    (Shares::of(p) != Shares::Fine).then(|| {
        format!(
            "The arms are more uneven than fair assignment makes them in ninety-nine of a hundred experiments that are looked at once \
             ({told}): find out who is missing. Whoever looks daily sees that now and then without a cause, so it stops nothing."
        )
    })
}

/// What to make of it: the first of these that is so.
fn verdict(view: &ExperimentView, uneven: bool) -> (&'static str, String) {
    if uneven {
        let p = view.sample_ratio_p.unwrap_or(0.0);
        return (
            "uneven",
            format!(
                "The arms are too uneven for a fair assignment (p = {p:.1e}): trust no figure of it, and find out who is missing."
            ),
        );
    }
    if let Some(rail) = view.guardrails.iter().find(|rail| rail.verdict == "broken") {
        return ("stop", format!("Stop {}: visits with {} are {}.", rail.arm, rail.of, rail.reason));
    }
    let good = |figure: &Figure| if view.lower { figure.high < 0.0 } else { figure.low > 0.0 };
    let bad = |figure: &Figure| if view.lower { figure.low > 0.0 } else { figure.high < 0.0 };
    let told: Vec<(&ArmView, Figure)> = view.arms.iter().filter_map(|arm| Some((arm, arm.difference?))).collect();
    let size = |figure: &Figure| if view.lower { -figure.value } else { figure.value };
    let best = told.iter().filter(|(_, figure)| good(figure)).max_by(|a, b| size(&a.1).total_cmp(&size(&b.1)));
    if let Some((arm, figure)) = best {
        return (
            "better",
            format!("{} is better than {}: {}, sure at any look.", arm.name, view.arms[0].name, points(figure, view)),
        );
    }
    if let Some((arm, figure)) = told.iter().find(|(_, figure)| bad(figure)) {
        return (
            "worse",
            format!("{} is worse than {}: {}, sure at any look.", arm.name, view.arms[0].name, points(figure, view)),
        );
    }
    let within = |figure: &Figure| figure.low.abs().max(figure.high.abs()) < view.least;
    if !told.is_empty() && told.len() + 1 == view.arms.len() && told.iter().all(|(_, figure)| within(figure)) {
        return (
            "alike",
            if view.figure == "share" {
                format!(
                    "The arms differ by less than {:.1} points, which was called too little to matter.",
                    100.0 * view.least
                )
            } else {
                format!(
                    "The arms differ by less than {} {}, which was called too little to matter.",
                    view.least, view.unit
                )
            },
        );
    }
    ("open", "Nothing is shown yet, neither a change nor that there is none: let it run on.".to_owned())
}

/// What the gate takes as evidence: the first arm beside the control, which is the one that hears the model.
fn statement(
    policy: &Policy,
    experiment: &Experiment,
    view: &ExperimentView,
    newest_ms: u64,
) -> Option<serde_json::Value> {
    let model = policy.models.get(experiment.model? as usize)?;
    let [control, heard] = view.arms.as_slice() else { return None };
    let lift = heard.lift?;
    let visits = |arm: &ArmView| arm.visits.round().max(0.0) as u64;
    let held = |rail: &RailView| gate::Guardrail { name: rail.of.clone(), held: rail.verdict == "held" };
    let said = gate::Experiment {
        day: date_of(newest_ms / DAY_MS),
        metric: view.goal.clone(),
        exposed: [visits(control), visits(heard)],
        // The gate asks for what is gained, and where less is better that is what became less.
        lift: if view.lower {
            Interval { value: -lift.value, low: -lift.high, high: -lift.low }
        } else {
            Interval { value: lift.value, low: lift.low, high: lift.high }
        },
        sample_ratio_p: view.sample_ratio_p?,
        guardrails: view.guardrails.iter().map(held).collect(),
    };
    serde_json::to_value(Statement::of(&model.id, &model.manifest_sha256, Said::Experiment(said))).ok()
}

/// The arms beside the control: differences at once, lifts where the control allows.
fn compare(view: &mut ExperimentView, arms: &[Arm]) -> Result<(), ExperimentError> {
    let [control, others @ ..] = arms else { return Ok(()) };
    let found = stats::against_control(control, others, Scale::Absolute, ALPHA, TAU)?;
    let each = ALPHA / others.len() as f64;
    for ((arm, other), compared) in view.arms.iter_mut().skip(1).zip(others).zip(found) {
        arm.difference = Some(compared.finding.effect.into());
        arm.q = Some(compared.q);
        arm.lift = stats::lift(control, other, each, TAU).ok().map(|finding| finding.effect.into());
    }
    Ok(())
}

fn view(policy: &Policy, experiment: &Experiment, counted: &BTreeMap<u32, Windows<'_>>) -> ExperimentView {
    let of = |metric: u32| policy.metric(metric).map_or_else(String::new, |metric| outcome_of(metric).to_owned());
    let model = experiment.model.and_then(|place| policy.models.get(place as usize)).map(|model| model.id.clone());
    let arm = |name: &String| ArmView {
        name: name.clone(),
        visits: 0.0,
        share: None,
        difference: None,
        lift: None,
        next: None,
        q: None,
    };
    let mut view = ExperimentView {
        id: experiment.id.clone(),
        goal: match &experiment.beside {
            Some(beside) if !beside.before => format!("{} per {}", of(experiment.goal), second_of(policy, experiment)),
            _ => of(experiment.goal),
        },
        lower: experiment.lower,
        figure: match &experiment.beside {
            Some(beside) if !beside.before => "ratio",
            _ if experiment.worth.is_empty() => "share",
            _ => "mean",
        },
        unit: unit(policy, experiment),
        adjusted_by: experiment.beside.as_ref().filter(|beside| beside.before).map(|_| second_of(policy, experiment)),
        least: f64::from(experiment.least) / 1e6,
        model,
        windows: 0,
        arms: experiment.arms.iter().map(arm).collect(),
        sample_ratio_p: None,
        sample_ratio_one_look_p: None,
        warnings: Vec::new(),
        guardrails: Vec::new(),
        verdict: "open",
        words: String::new(),
        stops: experiment.stops,
        stopped: None,
        unknown: Vec::new(),
        statement: None,
    };
    let read = |metric: u32, rows: usize, made: (stats::Metric, Vec<(f64, f64)>)| {
        let windows = counted.get(&metric).ok_or_else(|| "no window was released yet".to_owned())?;
        Counted::of(windows, rows, made)
    };
    let (arms, yes_or_no) = (experiment.arms.len(), || (stats::Metric::Proportion, YES_OR_NO.to_vec()));
    let (mut uneven, mut newest_ms, mut next) = (false, 0, None);
    match read(experiment.goal, arms, of_goal(experiment)) {
        Ok(goal) => {
            (view.windows, newest_ms) = (goal.windows, goal.newest_ms);
            if view.windows >= WINDOWS as usize {
                view.unknown.push(format!(
                    "only the newest {WINDOWS} windows are added up: what holds at every look holds for a sum that grows"
                ));
            }
            for (arm, cells) in view.arms.iter_mut().zip(&goal.rows) {
                (arm.visits, arm.share) = (cells.total(), goal.share(cells));
            }
            match stats::check_shares(&goal.people(), &experiment.portions()) {
                Ok(shares) => {
                    let p = shares.always_valid_p;
                    (view.sample_ratio_p, view.sample_ratio_one_look_p) = (Some(p), Some(shares.p));
                    uneven = Shares::of(p) == Shares::Alarm;
                    view.warnings.extend(uneven_at_one_look(shares.p).filter(|_| !uneven));
                }
                Err(error) => view.unknown.push(format!("whether the arms are even: {error}")),
            }
            next = thompson(policy, experiment, &goal);
            let goal = if goal.parted() {
                let by = view.adjusted_by.take().unwrap_or_default();
                view.unknown.push(format!(
                    "the arms differ in {by}, or whether they do cannot be told: differences are not adjusted by what an arm may have changed"
                ));
                goal.plain()
            } else {
                goal
            };
            if let Err(error) = goal.arms().and_then(|arms| compare(&mut view, &arms)) {
                view.unknown.push(format!("{}: {error}", view.goal));
            }
        }
        Err(why) => view.unknown.push(why),
    }
    for rail in &experiment.guardrails {
        let name = of(rail.metric);
        if let Some(metric) = policy.metric(rail.metric).filter(|metric| metric.axes.len() == 3) {
            let rows = read(rail.metric, arms * metric.axes[1].labels.len(), yes_or_no());
            groups::judge(&mut view, (experiment, *rail, metric), rows);
            continue;
        }
        let judged = read(rail.metric, arms, yes_or_no()).and_then(|counted| {
            let arms = counted.arms().map_err(|error| error.to_string())?;
            rails(experiment, *rail, &name, &arms).map_err(|error| error.to_string())
        });
        match judged {
            Ok(found) => view.guardrails.extend(found),
            // One that cannot be told has not held.
            Err(why) => {
                let open = |arm: &String| RailView {
                    of: name.clone(),
                    arm: arm.clone(),
                    verdict: "open",
                    reason: why.clone(),
                };
                view.guardrails.extend(experiment.arms[1..].iter().map(open));
                view.unknown.push(format!("{name}: {why}"));
            }
        }
    }
    (view.verdict, view.words) = verdict(&view, uneven);
    if let Some(next) = next.filter(|_| !matches!(view.verdict, "uneven" | "stop")) {
        view.arms.iter_mut().zip(next).for_each(|(arm, share)| arm.next = Some(share));
    }
    view.statement = statement(policy, experiment, &view, newest_ms);
    view
}

/// Shares by Thompson sampling: of models alone, and of none that has not passed the gate.
fn thompson(policy: &Policy, experiment: &Experiment, goal: &Counted) -> Option<Vec<f64>> {
    policy.models.get(experiment.model? as usize).filter(|model| model.state.acts())?;
    let better = if experiment.lower { Better::Lower } else { Better::Higher };
    stats::allocate(&goal.arms().ok()?, better, stats::Rule::Thompson, None, LEAST_SHARE).ok()
}

/// What the goal is counted together with.
fn second_of(policy: &Policy, experiment: &Experiment) -> String {
    let metric = policy.metric(experiment.goal);
    metric.and_then(|metric| metric.of.split(", ").nth(1)).unwrap_or_default().to_owned()
}

/// The unit of a goal that is an amount, and of what it is a ratio to.
fn unit(policy: &Policy, experiment: &Experiment) -> String {
    let Some(metric) = policy.metric(experiment.goal).filter(|_| !experiment.is_share()) else { return String::new() };
    let goal = metric.axes.last().map_or("", |axis| policy.unit(axis.source));
    match (&experiment.beside, metric.axes.get(1)) {
        (Some(beside), Some(per)) if !beside.before => format!("{goal} per {}", policy.unit(per.source)),
        _ => goal.to_owned(),
    }
}

/// What a metric of an experiment is of, beside the arm and what was known before.
pub(crate) fn outcome_of(metric: &Metric) -> &str {
    metric.of.rsplit(", ").next().unwrap_or_default()
}

impl ExperimentView {
    /// Why an arm has no figure: nothing was released of the goal, or too little; else the control is too little to be a share of.
    pub(crate) fn lacks(&self) -> &str {
        let of_goal = format!("{}: ", self.goal);
        let why = match self.windows {
            // The goal's own comes first.
            0 => self.unknown.first(),
            _ => self.unknown.iter().find(|why| why.starts_with(&of_goal)),
        };
        why.map_or("the control is too near to nothing to be a measure", String::as_str)
    }
}

/// What is seen of a site's experiments by its newest policy; `None` when no policy is known.
///
/// # Errors
/// When the database fails.
pub(crate) async fn experiments(
    store: &Store,
    policies: &Policies,
    site: &str,
) -> Result<Option<Vec<ExperimentView>>, StoreError> {
    let versions = || policies.range((site.to_owned(), 0)..=(site.to_owned(), u32::MAX));
    let Some((_, (policy, _))) = versions().next_back() else { return Ok(None) };
    let mut rows: BTreeMap<u32, Vec<ReleaseRow>> = BTreeMap::new();
    for experiment in &policy.experiments {
        for id in experiment.guardrails.iter().map(|rail| rail.metric).chain([experiment.goal]) {
            let Some(metric) = policy.metric(id) else { continue };
            rows.insert(id, store.releases(site, id, metric.span_ms, WINDOWS).await?);
        }
    }
    let known: BTreeMap<u32, Policy> =
        versions().map(|((_, version), (policy, _))| (*version, policy.clone())).collect();
    let counted = by_metric(policy, &rows, &known);
    let mut views: Vec<ExperimentView> =
        policy.experiments.iter().map(|experiment| view(policy, experiment, &counted)).collect();
    if policy.experiments.iter().any(|experiment| experiment.stops) {
        mark(policy, &mut views, &store.stops(site, policy.version).await?);
    }
    Ok(Some(views))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
