//! Guardrails by what visitors say of themselves: whether an arm does to all groups what it does.

use gloaming_policy::{Experiment, Guarded, Metric};
use gloaming_stats::Cells;
use gloaming_stats::experiment::{self as stats, Arm, Better, Effect, Guardrail, Noised, Scale, Shares, TAU, Verdict};

use super::counted::{Counted, YES_OR_NO};
use super::{ALPHA, ExperimentView, RailView, guarded, outcome_of};

/// What an arm does to a group, by the group's word.
type Done<'m> = (&'m str, Effect);

/// What an arm does to each group that is large enough to tell; the words of the others.
fn done<'m>(metric: &'m Metric, control: &[Cells], arm: &[Cells]) -> (Vec<Done<'m>>, Vec<&'m str>) {
    let (mut told, mut small) = (Vec::new(), Vec::new());
    for ((word, control), arm) in metric.axes[1].labels.iter().zip(control).zip(arm) {
        let of = |cells| Arm::from_cells(stats::Metric::Proportion, &YES_OR_NO, cells);
        match of(control).and_then(|control| guarded(&control, &of(arm)?)) {
            Ok(effect) => told.push((word.as_str(), effect)),
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

/// The groups of which an arm, or the control, holds another share than it has of all: it changes who says which group they are of,
/// and what it does to those who say it is no longer what it does to the group.
fn shifted<'m>(metric: &'m Metric, counted: &Counted, experiment: &Experiment, arm: usize) -> Vec<&'m str> {
    let (words, people, portions) = (&metric.axes[1].labels, counted.people(), experiment.portions());
    let is_shifted = |(group, _): &(usize, &String)| {
        let people: [Noised; 2] = [0, arm].map(|arm| people[arm * words.len() + group]);
        // Too few to tell are too few for a verdict as well.
        stats::check_shares(&people, &[portions[0], portions[arm]])
            .is_ok_and(|found| Shares::of(found.always_valid_p) != Shares::Fine)
    };
    words.iter().enumerate().filter(is_shifted).map(|(_, word)| word.as_str()).collect()
}

/// The verdict on one arm, and why: the pair of groups that is furthest apart decides. `alpha` is each ordered pair's.
fn verdict(told: &[Done<'_>], small: &[&str], permitted: f64, alpha: f64) -> Result<(&'static str, String), String> {
    if told.len() < 2 {
        return Err(format!("too few people of {} to tell groups apart yet", small.join(", ")));
    }
    let pairs = || {
        told.iter().flat_map(|one| told.iter().map(move |other| (one, other))).filter(|(a, b)| !std::ptr::eq(*a, *b))
    };
    let rule = Guardrail { better: Better::Lower, permitted, alpha, tau: TAU };
    let mut found = Vec::new();
    for ((one, effect), (other, its)) in pairs() {
        let judged = stats::guard(&more(effect, its), &rule).map_err(|error| error.to_string())?;
        found.push((one, other, judged));
    }
    let points = |share: f64| format!("{:.1}", 100.0 * share);
    found.sort_by(|one, two| two.2.low.total_cmp(&one.2.low));
    let (one, other, worst) = &found[0];
    let high = found.iter().map(|(_, _, judged)| judged.high).fold(0.0, f64::max);
    let without =
        if small.is_empty() { String::new() } else { format!("; too few people of {} to tell", small.join(", ")) };
    Ok(if worst.verdict == Verdict::Stop {
        let words = format!(
            "raised by {} points more for `{one}` than for `{other}` at least, where {} are permitted",
            points(worst.low),
            points(permitted)
        );
        ("broken", words + &without)
    } else if found.iter().all(|(_, _, judged)| judged.verdict == Verdict::Ok) && small.is_empty() {
        (
            "held",
            format!("groups are treated alike to {} points, and {} are permitted", points(high), points(permitted)),
        )
    } else if found.iter().all(|(_, _, judged)| judged.verdict == Verdict::Ok) {
        ("open", format!("the others are treated alike to {} points{without}", points(high)))
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

/// How a guardrail by groups is called: what it is of, and by what.
pub(crate) fn by_groups(metric: &Metric) -> String {
    let by = metric.of.split(", page:").nth(1).and_then(|of| of.split(", ").next()).unwrap_or_default();
    format!("{} by {by}", outcome_of(metric))
}

/// Judges one guardrail in every arm.
pub(super) fn judge(
    view: &mut ExperimentView,
    (experiment, rail, metric): (&Experiment, Guarded, &Metric),
    counted: Result<Counted, String>,
) {
    let name = by_groups(metric);
    let permitted = f64::from(rail.permitted) / 1e6;
    let (others, groups) = (experiment.arms.len().saturating_sub(1).max(1), metric.axes[1].labels.len());
    // Of all arms and ordered pairs, those too that cannot be told yet: what was shared among fewer at the first looks is spent.
    let alpha = ALPHA / (others * groups * groups.saturating_sub(1).max(1)) as f64;
    for (at, arm) in experiment.arms.iter().enumerate().skip(1) {
        let judged = counted.as_ref().map_err(Clone::clone).and_then(|counted| {
            let shifted = shifted(metric, counted, experiment, at);
            if !shifted.is_empty() {
                let (who, control) = (shifted.join(", "), &experiment.arms[0]);
                let words = format!("more or fewer than under {control} say that they are of {who}");
                return Ok(("open", words + ": what is done to groups cannot be told"));
            }
            // A row for each group of each arm.
            let arms: Vec<&[Cells]> = counted.rows.chunks(groups).collect();
            let (told, small) = done(metric, arms[0], arms[at]);
            verdict(&told, &small, permitted, alpha)
        });
        // One that cannot be told has not held.
        let (verdict, reason) = judged.unwrap_or_else(|why| {
            let said = format!("{name}: {why}");
            if !view.unknown.contains(&said) {
                view.unknown.push(said);
            }
            ("open", why)
        });
        view.guardrails.push(RailView { of: name.clone(), arm: arm.clone(), verdict, reason });
    }
}
