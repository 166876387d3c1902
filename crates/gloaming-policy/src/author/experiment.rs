//! `[[experiment]]`: who takes part, what is to change, and what must not get worse.
//!
//! All of it is counted by arm: whether something was true of a visit, or in which bin an amount fell, and for the goal together
//! with what was known before or with what it is a ratio to. Such a metric is written out like any other, paid from the same
//! budget, and shown in the same ledger.

use gloaming_behavior::definitions::{DEFINITIONS, Kind};
use gloaming_signal::limits;

use super::monitor::{LEAST_MICRO, write_out, written};
use super::table::{Table, Value, meant};
use super::{metric, need_name, purpose_of};
use crate::author::amount::{Amount, amount};
use crate::document::{Axis, Bins, PageFeatureKind, Policy, Source};
use crate::experiment::{Beside, Experiment, Guarded, WHOLE};

/// Most arms: with more, each has too few people to say anything of.
const ARMS: usize = 8;
const HOUR_MS: u64 = 3_600_000;
/// Most guardrails: all share one price.
const GUARDRAILS: usize = 8;

/// Something that is true of a visit or not.
struct Measure {
    /// For the metric's name.
    what: String,
    /// What it is of, and which values count.
    of: String,
    axis: Axis,
    permitted: u32,
    /// The attribute whose groups an arm must treat alike in it: index into the page features.
    by: Option<u32>,
}

/// Adds all `[[experiment]]`, and the metrics that count them, to the policy.
pub(super) fn experiments(root: &Table<'_>, attributes_from: usize, policy: &mut Policy) {
    for table in root.tables("experiment") {
        let found = experiment(&table, attributes_from, policy);
        table.finish();
        let Some(found) = found else { continue };
        if policy.experiments.len() == limits::EXPERIMENTS {
            table.problem(format!("more than {} experiments", limits::EXPERIMENTS), "end some before others begin");
        }
        if policy.experiments.iter().any(|other| other.id == found.id) {
            table.problem(format!("experiment `{}` is declared twice", found.id), "remove one");
        }
        if let Some(other) = policy.experiments.iter().find(|other| other.clashes(&found)) {
            table.problem(
                format!("`{}` and `{}` take the same part of the layer `{}`", found.id, other.id, found.layer),
                "give each a slice of its own, as in traffic = [0.0, 0.5] and traffic = [0.5, 1.0], or another layer",
            );
        }
        if found.model.is_some() && policy.experiments.iter().any(|other| other.model == found.model) {
            table.problem("two experiments decide who hears one model", "let one of them end first");
        }
        policy.experiments.push(found);
    }
    policy.metrics.sort_by_key(|metric| metric.id);
}

/// A share as millionths.
fn share(value: &Value<'_>) -> Option<u32> {
    let number = value.number()?;
    if (0.0..=1.0).contains(&number) {
        return Some((number * f64::from(WHOLE)).round() as u32);
    }
    value.problem(format!("{number} is no share"), "write a number from 0 to 1");
    None
}

/// `0.5`: the first half of the layer; `[0.5, 1.0]`: the second.
fn slice(table: &Table<'_>) -> Option<(u32, u32)> {
    let Some(value) = table.get("traffic") else { return Some((0, WHOLE)) };
    let (from, to) = if value.is_list() {
        let ends: Vec<u32> = value.list().iter().filter_map(share).collect();
        let [from, to] = *ends.as_slice() else {
            value.wrong("a share as in 0.5, or two ends as in [0.5, 1.0]");
            return None;
        };
        (from, to)
    } else {
        (0, share(&value)?)
    };
    if from >= to {
        value.problem("nobody takes part", "let the slice end after it begins");
        return None;
    }
    Some((from, to))
}

fn arms(table: &Table<'_>) -> Option<Vec<String>> {
    let value = table.need("arms", "[\"as-is\", \"hint\"]")?;
    let arms = value.texts();
    let twice = arms.iter().enumerate().any(|(at, arm)| arms[..at].contains(arm));
    if !(2..=ARMS).contains(&arms.len()) || twice || arms.iter().any(|arm| arm.is_empty() || arm.len() > 64) {
        value.problem(
            format!("an experiment has 2 to {ARMS} arms with different short names"),
            "the first is the control, as in arms = [\"as-is\", \"hint\"]",
        );
        return None;
    }
    Some(arms)
}

/// Shares of the arms; none where they are alike.
fn shares(table: &Table<'_>, arms: usize) -> Vec<u32> {
    let Some(value) = table.get("shares") else { return Vec::new() };
    let shares: Vec<u32> = value.list().iter().filter_map(share).collect();
    if shares.len() != arms || shares.contains(&0) || shares.iter().sum::<u32>() != WHOLE {
        value.problem(
            format!("{arms} arms need {arms} shares above 0 that are 1 together"),
            "as in shares = [0.1, 0.9], the control first; leave it out where all are alike",
        );
        return Vec::new();
    }
    shares
}

/// What the goal is counted together with: `before`, or `per`.
fn beside(table: &Table<'_>, policy: &Policy) -> Option<(bool, Amount)> {
    let (before, per) = (table.get("before"), table.get("per"));
    if let (Some(_), Some(per)) = (&before, &per) {
        per.problem("a goal is set beside what was before or beside what it is a ratio to, not both", "remove one");
    }
    if let Some(value) = before {
        let found = amount(&value, policy, false)?;
        let history = |at: u32| {
            let name = DEFINITIONS.get(at as usize).map_or("", |known| known.name);
            BEFORE.contains(&name)
        };
        if !matches!(found.axis.source, Source::Feature(at) if history(at)) {
            value.problem(
                format!("{} is not settled as the visit begins: what is tried could change it", found.of),
                format!("use one of {}", BEFORE.join(", ")),
            );
        }
        return Some((true, found));
    }
    Some((false, amount(&per?, policy, true)?))
}

/// Numbers that an earlier visit has left, and nothing that happens in this one changes.
const BEFORE: [&str; 7] = [
    "visits-before",
    "days-since-visit",
    "purchase-days",
    "purchase-span",
    "purchase-age",
    "purchase-spent",
    "returning",
];

/// The model that the control does not hear.
fn model(table: &Table<'_>, purpose: u32, policy: &Policy) -> Option<u32> {
    let value = table.get("model")?;
    let id = value.text()?;
    let Some(place) = policy.models.iter().position(|model| model.id == id) else {
        let known = policy.models.iter().map(|model| model.id.as_str());
        let remedy = meant(&id, known, "declare it as a [[model]]");
        value.problem(format!("there is no model `{id}`"), remedy);
        return None;
    };
    let model = &policy.models[place];
    if !model.state.acts() {
        value.problem(format!("no page hears `{id}`, so no arm differs"), "promote it to experiment first");
    }
    if policy.models.iter().any(|other| other.fallback.is_some_and(|spare| spare as usize == place)) {
        value.problem(
            format!("`{id}` stands in for another model and speaks in its place only"),
            "name the model that it stands in for",
        );
    }
    if model.purpose != purpose {
        value.problem(format!("`{id}` serves another purpose than the experiment"), "give both the same");
    }
    u32::try_from(place).ok()
}

/// What a text says is true of a visit or not; or its table, of which what else is known was read before.
fn measure(value: &Value<'_>, table: Option<&Table<'_>>, policy: &Policy) -> Option<Measure> {
    let of = match table {
        Some(table) => table.need_text("of", "\"outcome:purchase@1\""),
        None => value.text()?,
    };
    let source = metric::source_of(value, &of, policy)?;
    let get = |key| table.and_then(|table| table.get(key));
    let (is, at_least) = (get("is"), get("at_least").and_then(|value| value.number()));
    if let Some(table) = table {
        table.finish();
    }
    let mut what = of.split_once(':').map_or(of.as_str(), |(_, name)| name).replace('@', "-");
    if let Some(cut) = what.strip_suffix("-1") {
        what = cut.to_owned();
    }
    let mut told = of.clone();
    let bins = if is_number(source, policy) {
        let (zero, scale) = metric::steps(value, source, policy)?;
        let least = ((at_least.unwrap_or(1.0) - zero) * scale).round();
        if !(1.0..4e9).contains(&least) {
            value.problem("every visit has that much, or none can", "raise or lower at_least");
            return None;
        }
        if let Some(least) = at_least {
            told = format!("{of}: {least} at least");
        }
        Bins::Edges(vec![0, least as u32, least as u32 + 1])
    } else {
        let words = metric::words(value, source, policy)?;
        let wanted = match &is {
            Some(is) => is.texts(),
            None if words.len() == 2 => vec![words[1].clone()],
            None => Vec::new(),
        };
        if let Some(unknown) = wanted.iter().find(|word| !words.contains(word)) {
            value.problem(format!("`{unknown}` is never a value of {of}"), format!("known: {}", words.join(", ")));
        }
        if wanted.is_empty() || wanted.len() >= words.len() {
            value.problem(
                format!("{of} has {} words, and which of them count is not said", words.len()),
                format!("as in {{ of = \"{of}\", is = [\"{}\"] }}", words.last().map_or("", String::as_str)),
            );
            return None;
        }
        if is.is_some() {
            what = format!("{what}-{}", wanted.join("-"));
            told = format!("{of}: {}", wanted.join(" or "));
        }
        Bins::Map(words.iter().map(|word| u32::from(wanted.contains(word))).collect())
    };
    let axis = Axis { source, bins, labels: ["no", "yes"].map(str::to_owned).to_vec() };
    Some(Measure { what, of: told, axis, permitted: 0, by: None })
}

/// What must not get worse; or, `by` an attribute, what an arm must not change more for one group than for another.
fn rail(value: &Value<'_>, attributes_from: usize, policy: &Policy) -> Option<Measure> {
    let table = value.is_table().then(|| value.table()).flatten();
    let get = |key| table.as_ref().and_then(|table| table.get(key));
    let (permitted, by) = (get("permitted"), get("by"));
    let measure = measure(value, table.as_ref(), policy)?;
    let measure = Measure { permitted: permitted.map_or(Some(WHOLE / 100), |value| share(&value))?, ..measure };
    let Some(by) = by else { return Some(measure) };
    let name = by.text()?;
    let attributes = || policy.page_features.iter().enumerate().skip(attributes_from);
    let Some((place, _)) = attributes().find(|(_, attribute)| attribute.id == name) else {
        let remedy =
            meant(&name, attributes().map(|(_, attribute)| attribute.id.as_str()), "declare it as an [[attribute]]");
        by.problem(format!("there is no attribute `{name}`"), remedy);
        return None;
    };
    if measure.permitted == 0 {
        value.problem(
            "groups that may not be apart at all never are alike for sure",
            "write how far, as permitted = 0.05",
        );
    }
    Some(Measure { by: u32::try_from(place).ok(), ..measure })
}

/// What is to change, and what each of its bins stands for where it is an amount.
fn goal(value: &Value<'_>, policy: &Policy) -> Option<(Measure, Vec<i64>)> {
    let table = value.is_table().then(|| value.table()).flatten();
    if table.as_ref().is_none_or(|table| table.get("edges").is_none()) {
        return Some((measure(value, table.as_ref(), policy)?, Vec::new()));
    }
    let Amount { of, axis, worth } = amount(value, policy, true)?;
    let what = of.split_once(':').map_or(of.as_str(), |(_, name)| name).replace('@', "-");
    let what = what.strip_suffix("-1").unwrap_or(&what).to_owned();
    Some((Measure { what, of, axis, permitted: 0, by: None }, worth))
}

/// The smallest change that matters, in the goal's unit, as millionths.
fn in_units(value: &Value<'_>) -> Option<u32> {
    let number = value.number()?;
    if (1e-6..=4_000.0).contains(&number) {
        return Some((number * f64::from(WHOLE)).round() as u32);
    }
    value.problem(
        format!("{number} is no change that could matter"),
        "write a number above 0, at most 4000, in the goal's unit",
    );
    None
}

fn is_number(source: Source, policy: &Policy) -> bool {
    match source {
        Source::Feature(of) => {
            matches!(DEFINITIONS.get(of as usize).map(|d| d.kind), Some(Kind::Number { .. }))
        }
        Source::Page(of) => {
            matches!(policy.page_features.get(of as usize).map(|f| &f.kind), Some(PageFeatureKind::Number { .. }))
        }
        _ => false,
    }
}

/// Whether it ends by itself when a guardrail breaks. Those who sign the policy sign that, or do not.
fn stops(table: &Table<'_>, rails: usize) -> bool {
    let Some((word, value)) = table.get("stop").and_then(|value| Some((value.text()?, value))) else { return false };
    if !matches!(&*word, "by-itself" | "by-people") {
        value.problem(
            format!("stop = \"{word}\" is unknown"),
            "use by-itself, which ends it for everybody when a guardrail breaks, or by-people, which says so and waits for the next version",
        );
    } else if word == "by-itself" && rails == 0 {
        value.problem("nothing would ever stop it", "give it guardrails, or leave `stop` out");
    }
    word == "by-itself"
}

fn experiment(table: &Table<'_>, attributes_from: usize, policy: &mut Policy) -> Option<Experiment> {
    let id = need_name(table, "id");
    let (arms, slice, purpose) = (arms(table), slice(table), purpose_of(table, &policy.purposes));
    let layer = table.get("layer").and_then(|value| value.text()).unwrap_or_else(|| id.clone());
    let model = model(table, purpose, policy);
    let lower = match table.get("better").and_then(|value| Some((value.text()?, value))) {
        None => false,
        Some((word, _)) if word == "higher" => false,
        Some((word, _)) if word == "lower" => true,
        Some((word, value)) => {
            value.problem(format!("better = \"{word}\" is unknown"), "use higher or lower");
            false
        }
    };
    let (span_ms, k) = (metric::window(table, policy), metric::crowd(table));
    if span_ms == HOUR_MS {
        table.problem(
            "an experiment is not counted by the hour: the newest windows alone are added up, and hours are soon too many",
            "use window = \"day\" or \"week\"",
        );
    }
    let price = table.need("rho", "0.02").and_then(|value| value.micro()).unwrap_or(LEAST_MICRO);
    let goal = table.need("goal", "\"outcome:purchase@1\"").and_then(|value| goal(&value, policy));
    let beside = beside(table, policy);
    let rails = table.get("guardrails").map_or_else(Vec::new, |value| value.list());
    if rails.len() > GUARDRAILS {
        table.problem(format!("more than {GUARDRAILS} guardrails"), "keep those that would stop it");
    }
    let rails: Vec<Measure> = rails.iter().filter_map(|value| rail(value, attributes_from, policy)).collect();
    let stops = stops(table, rails.len());
    let (arms, (from, to), (goal, worth)) = (arms?, slice?, goal?);
    let shares = shares(table, arms.len());
    let is_ratio = beside.as_ref().is_some_and(|(before, _)| !before);
    if is_ratio && worth.is_empty() {
        table.problem(
            "`per` makes a ratio of sums, and the goal is no amount",
            "give the goal edges and worth, as in goal = { of = \"feature:cart-adds@1\", edges = [1, 3], worth = [0, 1.5, 5] }",
        );
    }
    let least = if worth.is_empty() {
        table.get("minimum_effect").map_or(Some(WHOLE / 100), |value| share(&value))
    } else {
        table.need("minimum_effect", "0.5").and_then(|value| in_units(&value))
    };
    let each = price / (1 + rails.len() as u64);
    if each < LEAST_MICRO {
        table.problem(
            format!(
                "rho = {} is shared by {} counts, and {} each says nothing about a few hundred visits",
                price as f64 / 1e6,
                1 + rails.len(),
                each as f64 / 1e6
            ),
            format!("raise it to {}, or drop guardrails", (LEAST_MICRO * (1 + rails.len() as u64)) as f64 / 1e6),
        );
    }
    let place = u32::try_from(policy.experiments.len()).ok()?;
    let mut written = |measure: &Measure, beside: Option<&Amount>| {
        let also = beside.map_or_else(String::new, |beside| format!("{}, ", beside.of));
        let (name, of) = (format!("{id}-by-{}", measure.what), format!("arm:{id}, {also}{}", measure.of));
        let arm = Axis {
            source: Source::Arm(place),
            bins: Bins::Map((0..u32::try_from(arms.len()).unwrap_or(0)).collect()),
            labels: arms.clone(),
        };
        let axes = [Some(arm), beside.map(|beside| beside.axis.clone()), Some(measure.axis.clone())];
        let mut axes: Vec<Axis> = axes.into_iter().flatten().collect();
        let (mut name, mut of, mut serves) = (name, of, purpose);
        if let Some((place, attribute)) = measure.by.and_then(|at| Some((at, policy.page_features.get(at as usize)?)))
            && let PageFeatureKind::Category(words) = &attribute.kind
        {
            // Counted where a person agreed to be compared; that they are in an arm takes the experiment's own purpose.
            let bins = Bins::Map((0..u32::try_from(words.len()).unwrap_or(0)).collect());
            axes.insert(1, Axis { source: Source::Page(place), bins, labels: words.clone() });
            serves = attribute.purpose;
            (name, of) =
                (format!("{name}-by-{}", attribute.id), format!("arm:{id}, page:{}, {}", attribute.id, measure.of));
        }
        let metric = written((name, of), "joint", (serves, span_ms, k), each, axes);
        metric::check_purposes(table, policy, &metric);
        let number = metric.id;
        write_out(table, policy, metric);
        number
    };
    let goal = written(&goal, beside.as_ref().map(|(_, beside)| beside));
    let rail = |rail: &Measure| Guarded { metric: written(rail, None), permitted: rail.permitted };
    let guardrails = rails.iter().map(rail).collect();
    let beside = beside.map(|(before, Amount { worth, .. })| Beside { before, worth });
    let (lower, least) = (lower, least?);
    Some(Experiment {
        id,
        arms,
        purpose,
        layer,
        from,
        to,
        model,
        goal,
        lower,
        least,
        guardrails,
        shares,
        worth,
        beside,
        stops,
    })
}
