//! `[[retrain]]`: what a model is learnt from again, without anybody's rows, written out as metrics like any other.
//!
//! Each input is counted with the outcome, and inputs with each other: two-way tables, from which the centre's owner makes
//! the next version (`gloaming model retrain`). Inputs that are counted here need no histogram of their own. Or, with
//! `by = "votes"`, a visit says one word about weights that are learnt in rounds.

mod votes;

use super::model::input_of;
use super::monitor::{axis_of, outcome_of, write_out, written};
use super::table::{Table, Value, nearest};
use super::{metric, monitor};
use crate::document::{Axis, PageFeatureKind, Policy, Source};
use crate::model::PAGE_INPUT;
use crate::{Bins, Model};
use gloaming_behavior::definitions::DEFINITIONS;

/// Of ten parts of the price, those for what goes with the outcome: it decides, and pairs only tell what is said twice.
const FOR_OUTCOME: u64 = 7;
/// What costs less says nothing: noise of a deviation of 32 for a table with the outcome, and of 71 for a pair, which
/// weigh as little in what is learnt as they tell.
pub(super) const LEAST_MICRO: u64 = 500;
pub(super) const LEAST_PAIR_MICRO: u64 = 100;
/// Bins of a number that a page gives.
const PAGE_BINS: u32 = 8;

/// Adds the metrics of all `[[retrain]]` to the policy's.
pub(super) fn retrainings(root: &Table<'_>, learnings: &[Option<String>], policy: &mut Policy) {
    let mut before = Vec::new();
    for table in root.tables("retrain") {
        if let Some(model) = retraining(&table, learnings, policy) {
            if before.contains(&model) {
                table.problem(format!("`{}` is retrained twice", policy.models[model].id), "remove one");
            }
            before.push(model);
        }
        table.finish();
    }
    policy.metrics.sort_by_key(|metric| metric.id);
}

/// An input of a model: how it is named in metrics, how it is counted.
struct Input {
    name: String,
    of: String,
    axis: Axis,
}

impl Input {
    fn of(input: u32, policy: &Policy) -> Option<Self> {
        let Some(page) = input.checked_sub(PAGE_INPUT) else {
            let definition = DEFINITIONS.get(input as usize)?;
            let axis = axis_of(input as usize, policy)?;
            let of = format!("feature:{}@{}", definition.name, definition.version);
            return Some(Self { name: definition.name.to_owned(), of, axis });
        };
        let feature = policy.page_features.get(page as usize)?;
        let (bins, labels) = match &feature.kind {
            PageFeatureKind::Category(words) => {
                (Bins::Map((0..u32::try_from(words.len()).ok()?).collect()), words.clone())
            }
            PageFeatureKind::Number { min, max_steps } => {
                // The whole range is a step wider than its last value, so that that one lies in the last bin.
                let edges: Vec<u32> = (0..=PAGE_BINS)
                    .map(|at| (u64::from(*max_steps) * u64::from(at) / u64::from(PAGE_BINS)) as u32)
                    .collect();
                let unit = |step: &u32| (*min as f64 + f64::from(*step)) / 100.0;
                (
                    Bins::Edges(edges.clone()),
                    edges.windows(2).map(|w| format!("{}-{}", unit(&w[0]), unit(&w[1]))).collect(),
                )
            }
        };
        if labels.len() < 2 {
            return None;
        }
        let axis = Axis { source: Source::Page(page), bins, labels };
        Some(Self { name: feature.id.clone(), of: format!("page:{}", feature.id), axis })
    }
}

/// As manifests name an input.
fn name_of(input: u32, policy: &Policy) -> String {
    Input::of(input, policy).map_or_else(
        || DEFINITIONS.get(input as usize).map_or_else(String::new, |d| format!("{}@{}", d.name, d.version)),
        |input| input.of.strip_prefix("feature:").unwrap_or(&input.of).to_owned(),
    )
}

/// What is learnt from: all that the model takes, or what the author names.
fn inputs(table: &Table<'_>, model: &Model, outcome: &Axis, policy: &Policy) -> Vec<(u32, Input)> {
    let wanted = match table.get("inputs") {
        None => model.inputs.clone(),
        Some(value) => {
            let named = |name: String| {
                let input = input_of(&name, &policy.page_features);
                if input.is_none() {
                    let known = DEFINITIONS.iter().map(|definition| definition.name);
                    let meant = nearest(name.split('@').next().unwrap_or_default(), known);
                    let remedy = meant
                        .map_or_else(|| "name features as manifests do".into(), |m| format!("did you mean `{m}@1`?"));
                    value.problem(format!("no device computes `{name}`"), remedy);
                }
                input
            };
            let names = value.texts();
            if names.is_empty() {
                value.problem(
                    "these are no inputs to learn from",
                    "name features, or leave it out for all that the model takes",
                );
            }
            names.into_iter().filter_map(named).collect()
        }
    };
    let mut inputs = Vec::new();
    for input in wanted {
        match Input::of(input, policy) {
            Some(found) if found.axis.source == outcome.source => table.problem(
                format!("`{}` is the outcome, and cannot be told by itself", name_of(input, policy)),
                "leave it out of inputs",
            ),
            Some(found) => inputs.push((input, found)),
            None => table.problem(
                format!(
                    "`{}` has words of which there may be many, and cannot be learnt from here",
                    name_of(input, policy)
                ),
                "name the other inputs in `inputs`, and leave this one out",
            ),
        }
    }
    inputs
}

/// Which of the inputs are counted together.
fn pairs(value: Option<&Value<'_>>, inputs: &[(u32, Input)], policy: &Policy) -> Vec<(usize, usize)> {
    let Some(value) = value else {
        return (0..inputs.len()).flat_map(|one| (one + 1..inputs.len()).map(move |other| (one, other))).collect();
    };
    let mut pairs: Vec<(usize, usize)> = Vec::new();
    for pair in value.list() {
        let names = pair.texts();
        let places: Vec<usize> = names
            .iter()
            .filter_map(|name| {
                inputs.iter().position(|(input, _)| Some(*input) == input_of(name, &policy.page_features))
            })
            .collect();
        match places.as_slice() {
            &[one, other] if one != other && names.len() == 2 => {
                let pair_of = (one.min(other), one.max(other));
                if pairs.contains(&pair_of) {
                    pair.problem(format!("{} are a pair twice", names.join(" and ")), "list each pair once");
                }
                pairs.push(pair_of);
            }
            _ => pair.problem(
                format!("[{}] is no pair of two inputs", names.join(", ")),
                "as in pairs = [[\"pages-product@1\", \"time-product@1\"]]",
            ),
        }
    }
    pairs
}

/// A problem where no outcome could ever show that the model was right.
fn tells_a_probability(table: &Table<'_>, model: usize, policy: &Policy) -> Option<()> {
    if policy.models[model].kinds.is_empty() {
        return Some(());
    }
    let cause = format!("`{}` sorts visits into kinds, and no outcome shows which", policy.models[model].id);
    table.problem(cause, "remove this");
    None
}

/// One model's metrics; its index when there is such a model.
fn retraining(table: &Table<'_>, learnings: &[Option<String>], policy: &mut Policy) -> Option<usize> {
    let id = table.need_text("model", "\"purchase-intent\"");
    let (span_ms, k) = (metric::window(table, policy), metric::crowd(table));
    let price = table.need("rho", "0.05").and_then(|value| value.micro()).unwrap_or(LEAST_MICRO);
    let by = table.get("by").and_then(|value| Some((value.text()?, value)));
    if let Some((by, value)) = &by {
        match by.as_str() {
            "counts" => {}
            "votes" => return votes::voting(table, &id, (span_ms, k, price), learnings, policy),
            _ => value.problem(format!("by = \"{by}\" is no way to learn"), "write counts, or votes"),
        }
    }
    let outcome = table.need_text("outcome", "\"outcome:purchase@1\"");
    let together = table.get("pairs");
    let index = monitor::model_of(table, &id, "retrain", policy)?;
    tells_a_probability(table, index, policy)?;
    let outcome_axis = outcome_of(table, &outcome, policy)?;
    let inputs = inputs(table, &policy.models[index], &outcome_axis, policy);
    let pairs = pairs(together.as_ref(), &inputs, policy);
    if inputs.is_empty() {
        return None;
    }
    let parts = if pairs.is_empty() { 10 } else { FOR_OUTCOME };
    let each = price * parts / 10 / inputs.len() as u64;
    let each_pair = (price * (10 - parts) / 10).checked_div(pairs.len() as u64);
    if each < LEAST_MICRO || each_pair.is_some_and(|each| each < LEAST_PAIR_MICRO) {
        let needed = (LEAST_MICRO * inputs.len() as u64 * 10)
            .div_ceil(parts)
            .max((LEAST_PAIR_MICRO * pairs.len() as u64 * 10).checked_div(10 - parts).unwrap_or(0));
        table.problem(
            format!(
                "rho = {} is shared by {} inputs and {} pairs of `{id}`, which leaves each too little to tell anything",
                price as f64 / 1e6,
                inputs.len(),
                pairs.len()
            ),
            format!("name those that go together in `pairs`, fewer `inputs`, or raise rho to {}", needed as f64 / 1e6),
        );
    }
    let purpose = policy.models[index].purpose;
    let mut wanted = Vec::new();
    for (_, Input { name, of, axis }) in &inputs {
        wanted.push((
            format!("{id}-by-{name}"),
            format!("{of}, {outcome}"),
            each,
            vec![axis.clone(), outcome_axis.clone()],
        ));
    }
    for (one, other) in pairs {
        let (one, other) = (&inputs[one].1, &inputs[other].1);
        wanted.push((
            format!("{id}-pair-{}-{}", one.name, other.name),
            format!("{}, {}", one.of, other.of),
            each_pair.unwrap_or(0),
            vec![one.axis.clone(), other.axis.clone()],
        ));
    }
    for (name, of, each, axes) in wanted {
        let metric = written((name, of), "joint", (purpose, span_ms, k), each, axes);
        metric::check_purposes(table, policy, &metric);
        write_out(table, policy, metric);
    }
    Some(index)
}
