//! Guardrails by what visitors say of themselves: whether an arm does to all groups what it does.

use gloaming_policy::{Experiment, Guarded, Metric};
use gloaming_stats::Cells;
use gloaming_stats::experiment::{self as stats, Arm, Better, Effect, Guardrail, Scale, TAU, Verdict};

use super::counted::YES_OR_NO;
use super::{ALPHA, ExperimentView, RailView, outcome_of};
use crate::watch::Windows;

/// What an arm does to a group, by the group's word.
type Done<'m> = (&'m str, Effect);

/// What an arm does to each group that is large enough to tell; the words of the others.
fn done<'m>(metric: &'m Metric, control: &[Cells], arm: &[Cells]) -> (Vec<Done<'m>>, Vec<&'m str>) {
    let (mut told, mut small) = (Vec::new(), Vec::new());
    for ((word, control), arm) in metric.axes[1].labels.iter().zip(control).zip(arm) {
        let of = |cells| Arm::from_cells(stats::Metric::Proportion, &YES_OR_NO, cells);
        let effect = of(control).and_then(|control| stats::effect(&control, &of(arm)?, Scale::Absolute));
        match effect {
            Ok(mut effect) => {
                // What happened to nobody may yet happen, as in other guardrails.
                effect.sampling = effect.sampling.max(8.0 / effect.people.powi(2));
                told.push((word.as_str(), effect));
            }
            Err(_) => small.push(word.as_str()),
        }
    }
    (told, small)
}

/// How much more an arm does to one group than to another: both are of other people, and so is their noise.
fn more(one: &Effect, other: &Effect) -> Effect {
    Effect {
        scale: Scale::Absolute,
        estimate: one.estimate - other.estimate,
        sampling: one.sampling + other.sampling,
        noise: one.noise + other.noise,
        degrees: one.degrees.min(other.degrees),
        people: one.people + other.people,
    }
}

/// The verdict on one arm, and why: the pair of groups that is furthest apart decides.
fn verdict(told: &[Done<'_>], small: &[&str], permitted: f64, alpha: f64) -> Result<(&'static str, String), String> {
    if told.len() < 2 {
        return Err(format!("too few people of {} to tell groups apart yet", small.join(", ")));
    }
    let pairs = || told.iter().flat_map(|one| told.iter().map(move |other| (one, other))).filter(|(a, b)| a.0 != b.0);
    let rule = Guardrail { better: Better::Lower, permitted, alpha: alpha / pairs().count() as f64, tau: TAU };
    let mut found = Vec::new();
    for ((one, effect), (other, its)) in pairs() {
        let guarded = stats::guard(&more(effect, its), &rule).map_err(|error| error.to_string())?;
        found.push((one, other, guarded));
    }
    let points = |share: f64| format!("{:.1}", 100.0 * share);
    let furthest = |found: &mut Vec<(&&str, &&str, stats::Guarded)>| {
        found.sort_by(|one, two| two.2.low.total_cmp(&one.2.low));
    };
    furthest(&mut found);
    let (one, other, worst) = &found[0];
    let high = found.iter().map(|(_, _, guarded)| guarded.high).fold(0.0, f64::max);
    let without =
        if small.is_empty() { String::new() } else { format!("; too few people of {} to tell", small.join(", ")) };
    Ok(if worst.verdict == Verdict::Stop {
        let words = format!(
            "raised by {} points more for `{one}` than for `{other}` at least, where {} are permitted",
            points(worst.low),
            points(permitted)
        );
        ("broken", words + &without)
    } else if found.iter().all(|(_, _, guarded)| guarded.verdict == Verdict::Ok) && small.is_empty() {
        (
            "held",
            format!("groups are treated alike to {} points, and {} are permitted", points(high), points(permitted)),
        )
    } else {
        (
            "open",
            format!(
                "groups may be {} points apart, and {} are permitted: more visits are needed",
                points(high),
                points(permitted)
            ) + &without,
        )
    })
}

/// Judges one guardrail in every arm.
pub(super) fn judge(
    view: &mut ExperimentView,
    (experiment, rail, metric): (&Experiment, Guarded, &Metric),
    windows: Option<&Windows<'_>>,
) {
    let by = metric.of.split(", page:").nth(1).and_then(|of| of.split(", ").next()).unwrap_or_default();
    let name = format!("{} by {by}", outcome_of(metric));
    let permitted = f64::from(rail.permitted) / 1e6;
    let alpha = ALPHA / experiment.arms.len().saturating_sub(1).max(1) as f64;
    let groups = metric.axes[1].labels.len();
    let arms = || -> Result<Vec<Vec<Cells>>, String> {
        let all = windows.and_then(Windows::all).ok_or("no window was released yet")?;
        let row = |cells: &[f64]| Cells::new(cells.to_vec(), all.variance()).map_err(|error| error.to_string());
        let rows = all.values().chunks(2).map(row).collect::<Result<Vec<_>, _>>()?;
        let arms: Vec<Vec<Cells>> = rows.chunks(groups.max(1)).map(<[Cells]>::to_vec).collect();
        if arms.len() == experiment.arms.len() { Ok(arms) } else { Err("other arms were released".to_owned()) }
    };
    let arms = arms();
    for (at, arm) in experiment.arms.iter().enumerate().skip(1) {
        let judged = arms.as_ref().map_err(Clone::clone).and_then(|arms| {
            let (told, small) = done(metric, &arms[0], &arms[at]);
            verdict(&told, &small, permitted, alpha)
        });
        // One that cannot be told has not held.
        let (verdict, reason) = judged.unwrap_or_else(|why| {
            view.unknown.push(format!("{name}: {why}"));
            ("open", why)
        });
        view.guardrails.push(RailView { of: name.clone(), arm: arm.clone(), verdict, reason });
    }
}
