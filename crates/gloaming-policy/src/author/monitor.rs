//! `[[monitor]]`: what devices say of a model by themselves, written out as metrics like any other.
//!
//! A model that is watched by nobody drifts unseen, so one that acts on people must be watched. The metrics
//! are paid from the same budget, shown in the same ledger, and serve the model's own purpose.

use gloaming_behavior::Definition;
use gloaming_behavior::definitions::{DEFINITIONS, Kind, Labels};
use gloaming_privacy::{Mechanism, Rho};
use gloaming_signal::limits;

use super::metric;
use super::table::{Table, Value, meant};
use crate::bins::WAYS;
use crate::document::{Axis, Bins, Policy, Source};
use crate::metric::{Metric, WRITTEN_OUT};
use crate::model::PAGE_INPUT;

/// A metric that costs less says nothing about a few hundred visits: its noise has a deviation of sixteen.
pub(super) const LEAST_MICRO: u64 = 2_000;

/// Bins of counts: each twice as wide as the one before, because most visits are small and some are not.
const COUNTS: &[f64] = &[0.0, 1.0, 2.0, 3.0, 5.0, 9.0, 17.0, 33.0, 65.0];
const SECONDS: &[f64] = &[0.0, 1.0, 10.0, 30.0, 60.0, 180.0, 600.0, 1_800.0];
const PERCENT: &[f64] = &[0.0, 25.0, 50.0, 75.0, 90.0, 101.0];
/// Web vitals' thresholds are among them.
const MILLISECONDS: &[f64] = &[0.0, 100.0, 200.0, 500.0, 800.0, 1_800.0, 2_500.0, 4_000.0, 10_000.0];
const MONEY: &[f64] = &[0.0, 1.0, 10.0, 25.0, 50.0, 100.0, 250.0, 1_000.0];
/// Layout shift: good, and poor, are among them.
const SHIFT: &[f64] = &[0.0, 0.01, 0.05, 0.1, 0.25, 1.0];

/// How a model fared in a visit, by code, as in [`WAYS`]: nothing to score, scored, scored after its time, given up; and the same
/// where not the model as it was meant to be had a score.
static FARED: [&str; WAYS as usize] = [
    "lacking",
    "scored",
    "late",
    "failed",
    "lacking-fallback",
    "scored-last-good",
    "late-last-good",
    "failed-fallback",
];

/// Those that an author's own bins are of. Who lists no word of whose score it was, or asks for half as many bins, counts how the
/// model itself did.
pub(super) fn ways(bins: &Value<'_>) -> &'static [&'static str] {
    let (itself, whose) = FARED.split_at(FARED.len() / 2);
    let asked = if bins.is_list() {
        bins.texts().iter().any(|word| whose.contains(&word.as_str()))
    } else {
        bins.number().is_some_and(|bins| bins > itself.len() as f64)
    };
    if asked { &FARED } else { itself }
}

/// Adds the metrics of all `[[monitor]]` to the policy's.
pub(super) fn monitors(root: &Table<'_>, policy: &mut Policy) {
    let mut watched = Vec::new();
    for table in root.tables("monitor") {
        if let Some(model) = monitor(&table, policy) {
            if watched.contains(&model) {
                table.problem(format!("`{}` is monitored twice", policy.models[model].id), "remove one");
            }
            watched.push(model);
        }
        table.finish();
    }
    for (index, model) in policy.models.iter().enumerate() {
        if model.state.acts() && !watched.contains(&index) {
            root.problem(
                format!("`{}` acts on people, and nothing would show that it drifts", model.id),
                format!("add [[monitor]] with model = \"{}\"", model.id),
            );
        }
    }
}

/// The place of a model that is named in `table`; a problem when there is none.
pub(super) fn model_of(table: &Table<'_>, id: &str, to: &str, policy: &Policy) -> Option<usize> {
    let found = policy.models.iter().position(|model| model.id == id);
    if found.is_none() {
        let known = policy.models.iter().map(|model| model.id.as_str());
        let remedy = meant(id, known, "declare it as a [[model]]");
        table.problem(format!("there is no model `{id}` to {to}"), remedy);
    }
    found
}

/// An outcome of no and yes; a problem when it is none.
pub(super) fn outcome_of(table: &Table<'_>, outcome: &str, policy: &Policy) -> Option<Axis> {
    let found = outcome.strip_prefix("outcome:").and_then(Definition::find);
    let axis = found.and_then(|feature| axis_of(feature, policy)).filter(Axis::is_yes_or_no);
    if axis.is_none() {
        let remedy = "as in outcome = \"outcome:purchase@1\"";
        table.problem(format!("`{outcome}` is no outcome of yes or no"), remedy);
    }
    axis
}

/// One model's metrics; its index when there is such a model.
fn monitor(table: &Table<'_>, policy: &mut Policy) -> Option<usize> {
    let id = table.need_text("model", "\"purchase-intent\"");
    let (span_ms, k) = (metric::window(table, policy), metric::crowd(table));
    let price = table.need("rho", "0.03").and_then(|value| value.micro()).unwrap_or(LEAST_MICRO);
    let (outcome, only) = (table.get("outcome").and_then(|value| value.text()), table.get("inputs"));
    let index = model_of(table, &id, "monitor", policy)?;
    let place = u32::try_from(index).ok()?;
    let mut wanted: Vec<(String, &'static str, String, Vec<Axis>)> = Vec::new();
    if let Some(outcome) = outcome {
        if let Some(axis) = outcome_of(table, &outcome, policy) {
            let axes = vec![metric::score_axis(place, policy)?, axis];
            wanted.push((format!("{id}-outcomes"), "joint", format!("score:{id}, {outcome}"), axes));
        }
    } else if !policy.metrics.iter().any(|m| m.axes.first().is_some_and(|axis| axis.source == Source::Score(place))) {
        let axis = metric::score_axis(place, policy)?;
        wanted.push((format!("{id}-scores"), "histogram", format!("score:{id}"), vec![axis]));
    }
    let fared = Axis {
        source: Source::Fared(place),
        bins: Bins::Map((0..WAYS).collect()),
        labels: FARED.map(str::to_owned).to_vec(),
    };
    wanted.push((format!("{id}-fared"), "category", format!("fared:{id}"), vec![fared]));
    let mut inputs: Vec<u32> = policy.models[index].inputs.clone();
    if let Some(only) = only {
        let names = only.texts();
        let of = |name: &String| Definition::find(name).and_then(|feature| u32::try_from(feature).ok());
        let counted = |feature: u32| inputs.contains(&feature) && axis_of(feature as usize, policy).is_some();
        for name in names.iter().filter(|name| !of(name).is_some_and(counted)) {
            only.problem(
                format!("`{name}` is no input of `{id}` that can be counted by itself"),
                "list features that the model takes",
            );
        }
        inputs.retain(|input| names.iter().any(|name| of(name) == Some(*input)));
    }
    let others = wanted.len();
    // What is learnt from again is counted with its outcome already.
    let purpose = policy.models[index].purpose;
    let counted = |input: u32| {
        let by = |m: &&Metric| m.span_ms == span_ms && m.purpose == purpose && m.is_written_out() && m.axes.len() == 2;
        let of_it = |m: &Metric| m.axes[0].source == Source::Feature(input) && m.outcome().is_some();
        policy.metrics.iter().filter(by).any(of_it)
    };
    inputs.retain(|input| !counted(*input));
    // What a page gives is declared, bounded and counted by the owner's own metrics, where it matters.
    for input in inputs.into_iter().filter(|input| *input < PAGE_INPUT) {
        let definition = DEFINITIONS.get(input as usize)?;
        let of = format!("feature:{}@{}", definition.name, definition.version);
        let kind = if matches!(definition.kind, Kind::Number { .. }) { "histogram" } else { "category" };
        if let Some(axis) = axis_of(input as usize, policy) {
            wanted.push((format!("{id}-in-{}", definition.name), kind, of, vec![axis]));
        }
    }
    let each = price / wanted.len() as u64;
    if each < LEAST_MICRO {
        table.problem(
            format!(
                "rho = {} is shared by {} metrics of `{id}`, and {} each says nothing about a few hundred visits",
                price as f64 / 1e6,
                wanted.len(),
                each as f64 / 1e6
            ),
            format!(
                "name the inputs that matter in `inputs`, {} at most, or raise rho to {}",
                (price / LEAST_MICRO).saturating_sub(others as u64),
                (LEAST_MICRO * wanted.len() as u64) as f64 / 1e6
            ),
        );
    }
    for (name, kind, of, axes) in wanted {
        let metric = written((name, of), kind, (purpose, span_ms, k), each, axes);
        write_out(table, policy, metric);
    }
    policy.metrics.sort_by_key(|metric| metric.id);
    Some(index)
}

/// A metric that nobody wrote by hand: its name and what it is of; its purpose, window and crowd; its price.
pub(super) fn written(
    (name, of): (String, String),
    kind: &str,
    (purpose, span_ms, k): (u32, u64, u32),
    price: u64,
    axes: Vec<Axis>,
) -> Metric {
    Metric {
        id: number(&format!("{name} {of}")),
        name,
        of,
        kind: kind.into(),
        purpose,
        span_ms,
        per_day: 1,
        rho: Rho::from_micro(price.max(2)),
        k,
        mechanism: Mechanism::Gaussian,
        axes,
    }
}

/// Adds a metric that nobody wrote by hand.
pub(super) fn write_out(table: &Table<'_>, policy: &mut Policy, metric: Metric) {
    if let Some(other) = policy.metrics.iter().find(|other| other.id == metric.id || other.name == metric.name) {
        table.problem(
            format!("`{}`, which this is written out as, shares its id or its name with `{}`", metric.name, other.name),
            "call that metric something else",
        );
    }
    policy.metrics.push(metric);
    if policy.metrics.len() == limits::METRICS + 1 {
        table.problem(format!("with it there are more than {} metrics", limits::METRICS), "count less");
    }
}

/// A number of its own for a name and what it is of, so that it stays over versions: FNV-1a, 32 bits, into a billion.
fn number(name: &str) -> u32 {
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    WRITTEN_OUT + hash % 1_000_000_000
}

/// A feature on bins that fit its unit, or on all of its words; `None` for words that are a page's own and many.
pub(super) fn axis_of(feature: usize, policy: &Policy) -> Option<Axis> {
    let source = Source::Feature(u32::try_from(feature).ok()?);
    let words = |words: Vec<String>| {
        Some(Axis { source, bins: Bins::Map((0..u32::try_from(words.len()).ok()?).collect()), labels: words })
    };
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    match DEFINITIONS.get(feature)?.kind {
        Kind::Number { unit: "yes", .. } => {
            Some(Axis { source, bins: Bins::Edges(vec![0, 1, 2]), labels: owned(&["no", "yes"]) })
        }
        Kind::Number { unit, scale, .. } => {
            let edges = match unit {
                "seconds" => SECONDS,
                "percent" => PERCENT,
                "ms" => MILLISECONDS,
                "money" => MONEY,
                "score" => SHIFT,
                _ => COUNTS,
            };
            let label = |at: usize| match edges.get(at + 2) {
                Some(_) => format!("{}-{}", edges[at], edges[at + 1]),
                None => format!("{}+", edges[at]),
            };
            let steps = edges.iter().map(|edge| (edge * f64::from(scale)).round() as u32).collect();
            Some(Axis { source, bins: Bins::Edges(steps), labels: (0..edges.len() - 1).map(label).collect() })
        }
        Kind::Category { labels: Labels::Fixed(fixed), .. } => words(owned(fixed)),
        Kind::Category { labels: Labels::Groups, .. } => {
            words(policy.groups.iter().map(|group| group.id.clone()).chain(["other".to_owned()]).collect())
        }
        Kind::Category { .. } => None,
    }
}
