//! What a model brings: lifts in conversion, value and satisfaction, from the experiments that decide who hears it.

use gloaming_policy::gate::Said;
use gloaming_policy::{Experiment, Metric};

use super::costs::{is_complaint, is_of_page, is_opt_out};
use super::{Known, Line, add};
use crate::trials::{ExperimentView, any_of_it, outcome_of, rates};
use crate::watch::Figure;

/// The page's feature that holds the answer to the one question.
pub(super) const SATISFACTION: &str = "satisfaction";

/// What has to be known before any figure of an experiment is.
fn warning(view: &ExperimentView) -> Option<String> {
    matches!(view.verdict, "uneven" | "stop").then(|| view.words.clone())
}

/// The goal in every arm that hears the model.
fn goal(known: &Known<'_>, experiment: &Experiment, view: &ExperimentView) -> Vec<Line> {
    let amount = view.figure != "share";
    let lower = if view.lower { " (less of it is better)" } else { "" };
    let of_arm = |arm: &crate::trials::ArmView| {
        let line = Line::new(
            if amount { "value" } else { "conversion" },
            format!("{}{lower}, {}", view.goal, view.id),
            if arm.lift.is_none() && amount { &view.unit } else { "lift" },
        );
        let line = match (arm.lift, arm.difference) {
            (Some(lift), _) => line.found(Ok(lift)),
            // Beside a control of nearly nothing there is a difference all the same.
            (None, Some(difference)) if amount => line.found(Ok(difference)),
            (None, Some(difference)) => Line { unit: "points".to_owned(), ..line }.found(Ok(difference)),
            (None, None) => line.found(Err(view.lacks().to_owned())),
        };
        Line { words: warning(view), ..line.at_every_look().of_arm(&arm.name) }
    };
    let mut lines: Vec<Line> = view.arms.iter().skip(1).map(of_arm).collect();
    // Whoever spends something has bought: how many more do so stands in the same cells.
    let labels = known.policy.metric(experiment.goal).and_then(|metric| metric.axes.last()).map(|axis| &axis.labels);
    if view.figure == "mean"
        && let Some(least) = labels.and_then(|labels| labels.first()?.strip_prefix("below "))
    {
        let found = known.windows(experiment.goal).and_then(|windows| any_of_it(experiment, windows));
        for (at, arm) in view.arms.iter().enumerate().skip(1) {
            let line = Line::new("conversion", format!("{}: {least} at least, {}", view.goal, view.id), "lift");
            let lift = found.as_ref().map_err(Clone::clone).and_then(|all| {
                all.get(at - 1).cloned().unwrap_or_else(|| Err("no window was released yet".to_owned()))
            });
            lines.push(Line { words: warning(view), ..line.found(lift).at_every_look().of_arm(&arm.name) });
        }
    }
    lines
}

/// What a guardrail counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Counts {
    Satisfaction,
    OptOuts,
    Complaints,
    Other,
}

/// What a metric counts.
pub(super) fn counts(metric: &Metric) -> Counts {
    if is_of_page(metric, SATISFACTION) {
        Counts::Satisfaction
    } else if is_opt_out(metric) {
        Counts::OptOuts
    } else if is_complaint(metric) {
        Counts::Complaints
    } else {
        Counts::Other
    }
}

/// A guardrail's figures in every arm that hears the model: its share of visits, and how much more that is than the control's. What
/// compares groups has a verdict and no one figure.
pub(super) fn rails(known: &Known<'_>, wanted: Counts, kind: &'static str) -> Vec<Line> {
    let mut lines = Vec::new();
    for (experiment, view) in &known.tried {
        for rail in &experiment.guardrails {
            let Some(metric) = known.policy.metric(rail.metric) else { continue };
            if metric.axes.len() != 2 || counts(metric) != wanted {
                continue;
            }
            let of = outcome_of(metric);
            let found = known.windows(rail.metric).and_then(|windows| rates(experiment, windows));
            let (what, control) = (format!("{of}, {}", view.id), &experiment.arms[0]);
            let nothing = || Err("no window was released yet".to_owned());
            let arm = |at: usize| found.as_ref().map_err(Clone::clone).map(|arms| arms.get(at));
            let share = |at: usize| arm(at).and_then(|arm| arm.map_or_else(nothing, |arm| arm.share.clone()));
            for (at, name) in experiment.arms.iter().enumerate().skip(1) {
                let verdict = view.guardrails.iter().find(|seen| seen.of == of && seen.arm == *name);
                let verdict = format!("guardrail {}", verdict.map_or("open", |seen| seen.verdict));
                let beside = share(0).map(|share| format!("{} in {control}", super::told(&share, "share")));
                let line = Line::new(kind, what.clone(), "share").found(share(at)).of_arm(name);
                lines.push(Line { words: beside.ok(), ..line });
                let difference =
                    arm(at).and_then(|arm| arm.and_then(|arm| arm.difference.clone()).unwrap_or_else(nothing));
                let line = Line::new(kind, format!("more than in {control}: {what}"), "points").found(difference);
                lines.push(line.at_every_look().of_arm(name).saying(verdict));
            }
        }
    }
    lines
}

/// What was shown to the gate, of a model that no experiment of the policy tries any more.
fn shown(known: &Known<'_>) -> Option<Line> {
    let mut said = known.standing?.counting().filter_map(|held| match &held.statement.said {
        Said::Experiment(said) => Some(said),
        _ => None,
    });
    let said = said.next_back()?;
    let figure = Figure { value: said.lift.value, low: said.lift.low, high: said.lift.high };
    let line = Line::new("conversion", said.metric.clone(), "lift").found(Ok(figure)).at_every_look();
    Some(line.saying(format!(
        "as the gate was shown on {}; no experiment of this policy tries the model any more",
        said.day
    )))
}

pub(super) fn lines(known: &Known<'_>) -> Vec<Line> {
    let mut lines: Vec<Line> =
        known.tried.iter().flat_map(|(experiment, view)| goal(known, experiment, view)).collect();
    if known.tried.is_empty() {
        lines.extend(shown(known));
    }
    lines.extend(rails(known, Counts::Satisfaction, "satisfaction"));
    let tried = known.tried.first().map(|(experiment, _)| *experiment);
    for (kind, what, why) in [
        (
            "conversion",
            "conversion",
            "no experiment decides who hears the model, so that nobody is there to compare with",
        ),
        ("value", "value of a visit", "no goal of an experiment about the model is an amount"),
        (
            "satisfaction",
            "whether people are content",
            "no guardrail of an experiment about the model counts an answer",
        ),
    ] {
        if lines.iter().all(|line| line.kind != kind) {
            let lines_to_add = match kind {
                "satisfaction" => add::satisfaction(known, tried),
                "value" => add::value(known, tried),
                _ => add::experiment(known),
            };
            lines.push(Line::new(kind, what, "lift").not_counted(why, lines_to_add));
        }
    }
    lines.sort_by_key(|line| ["conversion", "value", "satisfaction"].iter().position(|kind| *kind == line.kind));
    lines
}
