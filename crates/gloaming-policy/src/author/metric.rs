//! `[[metric]]`: what is counted, of what, in which cells, at what price.

use std::collections::BTreeMap;

use gloaming_behavior::definitions::{DEFINITIONS, Kind, Labels};
use gloaming_behavior::{Definition, MAX_FUNNELS, MAX_STEPS, Step};
use gloaming_privacy::{Mechanism, Rho};
use gloaming_signal::{EventKind, limits};

use super::monitor::ways;
use super::table::{Source as Text, Table, Value, meant, nearest};
use super::{is_loopback, need_name, purpose_of};
use crate::document::{Axis, Bins, PageFeatureKind, Policy, Source};
use crate::metric::Metric;
use crate::model::Model;

const HOUR_MS: u64 = 60 * 60 * 1000;

/// Reads all metrics into the policy.
pub(super) fn metrics(source: &Text<'_>, root: &Table<'_>, policy: &mut Policy) {
    let mut metrics: Vec<(Metric, usize)> = Vec::new();
    for table in root.tables("metric") {
        let at = table.at;
        if let Some(metric) = metric(&table, policy) {
            metrics.push((metric, at));
        }
        table.finish();
    }
    if metrics.is_empty() {
        root.problem(
            "the policy declares no metric",
            "add [[metric]]; `gloaming policy new` writes some to start from",
        );
    }
    if metrics.len() > limits::METRICS {
        root.problem(format!("more than {} metrics", limits::METRICS), "declare fewer");
    }
    let mut cells: BTreeMap<u64, u32> = BTreeMap::new();
    for (metric, at) in &metrics {
        let here = cells.entry(metric.span_ms).or_default();
        let before = *here;
        *here = here.saturating_add(metric.cells());
        // Said once, where it overflows first.
        if (before..*here).contains(&limits::WINDOW_CELLS) {
            source.problem(
                *at,
                format!(
                    "with `{}` the metrics of one window length have {here} cells, the limit is {}",
                    metric.name,
                    limits::WINDOW_CELLS
                ),
                "use coarser bins, or give some metrics another window",
            );
        }
    }
    metrics.sort_by_key(|(metric, _)| metric.id);
    for pair in metrics.windows(2) {
        if let [(a, _), (b, at)] = pair
            && (a.id == b.id || a.name == b.name)
        {
            source.problem(
                *at,
                format!("metrics `{}` and `{}` share an id or a name", a.name, b.name),
                "give each its own",
            );
        }
    }
    policy.metrics = metrics.into_iter().map(|(metric, _)| metric).collect();
}

pub(super) fn window(table: &Table<'_>, policy: &Policy) -> u64 {
    let word = table.need_text("window", "\"day\"");
    match word.as_str() {
        "hour" => HOUR_MS,
        "day" => 24 * HOUR_MS,
        "week" => 7 * 24 * HOUR_MS,
        "" => 24 * HOUR_MS,
        seconds => {
            let parsed =
                seconds.strip_suffix('s').and_then(|n| n.parse::<u64>().ok()).filter(|n| (1..=600).contains(n));
            match parsed {
                Some(_) if !policy.origins.iter().all(|o| is_loopback(o)) => table.problem(
                    format!("window = \"{seconds}\": windows of seconds are for demonstrations on this machine only"),
                    "use hour, day or week, or let all origins be loopback addresses",
                ),
                Some(n) => return n * 1_000,
                None => table.problem(format!("window `{seconds}` is unknown"), "use hour, day or week"),
            }
            24 * HOUR_MS
        }
    }
}

/// The smallest crowd that is told of.
pub(super) fn crowd(table: &Table<'_>) -> u32 {
    table.need("k", "50").and_then(|value| value.whole(20..1_000_001)).map_or(20, |k| k as u32)
}

fn metric(table: &Table<'_>, policy: &mut Policy) -> Option<Metric> {
    let id = table.need("id", "12").and_then(|v| v.whole(1..u64::from(u32::MAX))).unwrap_or(1);
    let name = need_name(table, "name");
    let tier = table.need_text("tier", "\"edge\"");
    match tier.as_str() {
        "edge" | "" => {}
        "local" | "split" => table.problem(
            format!("tier = \"{tier}\" is not built yet, and no metric is moved to a weaker one"),
            "use tier = \"edge\", or wait",
        ),
        other => table.problem(format!("tier `{other}` is unknown"), "use tier = \"edge\""),
    }
    let span_ms = window(table, policy);
    let per_day = table.need("per_day", "1").and_then(|v| v.whole(1..256)).unwrap_or(1);
    let price = table.need("rho", "0.02").and_then(|v| v.micro()).unwrap_or(2);
    if price < 2 {
        table.problem("rho = 0.000001 is below what noise can be made for", "use 0.000002 or more");
    }
    let k = crowd(table);
    let mechanism = match table.get("noise").and_then(|v| v.text()).as_deref() {
        None | Some("gaussian") => Mechanism::Gaussian,
        Some("laplace") => Mechanism::Laplace,
        Some(other) => {
            table.problem(
                format!("noise `{other}` is unknown"),
                "use gaussian or laplace; there is no way to have none",
            );
            Mechanism::Gaussian
        }
    };
    let purpose = purpose_of(table, &policy.purposes);
    let (kind, of, axes) = shape(table, policy)?;
    let metric = Metric {
        id: u32::try_from(id).unwrap_or(1),
        name,
        of,
        kind: kind.into(),
        purpose,
        span_ms,
        per_day: u32::try_from(per_day).unwrap_or(1),
        rho: Rho::from_micro(price.max(2)),
        k,
        mechanism,
        axes,
    };
    if metric.cells() > limits::CELLS {
        table.problem(
            format!("`{}` has {} cells, the limit is {}", metric.name, metric.cells(), limits::CELLS),
            "use fewer bins",
        );
    }
    check_purposes(table, policy, &metric);
    Some(metric)
}

/// A metric may serve only the purpose its inputs were agreed to for.
pub(super) fn check_purposes(table: &Table<'_>, policy: &Policy, metric: &Metric) {
    for axis in &metric.axes {
        let input = match axis.source {
            Source::Score(i) | Source::Fared(i) => policy.models.get(i as usize).map(|m| (m.purpose, &m.id)),
            Source::Vote(i) => {
                let model = policy.learners.get(i as usize).map(|learner| learner.model);
                model.and_then(|model| policy.models.get(model as usize)).map(|m| (m.purpose, &m.id))
            }
            Source::Page(i) => policy.page_features.get(i as usize).map(|f| (f.purpose, &f.id)),
            _ => None,
        };
        if let Some((purpose, id)) = input
            && purpose != metric.purpose
        {
            table.problem(
                format!("`{}` counts `{id}`, which serves another purpose", metric.name),
                "give both the same purpose",
            );
        }
    }
}

type Shape = (&'static str, String, Vec<Axis>);

fn shape(table: &Table<'_>, policy: &mut Policy) -> Option<Shape> {
    let kinds = ["histogram", "category", "sum", "joint", "funnel", "journey"];
    let given: Vec<(&'static str, Value<'_>)> =
        kinds.iter().filter_map(|kind| Some((*kind, table.get(kind)?))).collect();
    let [(kind, value)] = given.as_slice() else {
        table.problem(
            "a metric has exactly one kind",
            "write one of histogram = {…}, category = […], sum = {…}, joint = […], funnel = […], journey = […]",
        );
        return None;
    };
    if *kind == "funnel" {
        return funnel(table, value, policy);
    }
    let of = table.need("of", "\"feature:max-scroll@1\"")?;
    let names = if of.is_list() { of.texts() } else { vec![of.text()?] };
    let written = names.join(", ");
    let axes = match *kind {
        "joint" => joint(&of, &names, value, policy)?,
        _ => {
            let [name] = names.as_slice() else {
                of.problem(format!("a {kind} is of one thing"), "use joint for two");
                return None;
            };
            let source = source_of(&of, name, policy)?;
            vec![match *kind {
                "histogram" => histogram(value, source, policy)?,
                "category" => category(value, source, policy)?,
                "sum" => sum(value, source, policy)?,
                _ => journey(value, source, policy)?,
            }]
        }
    };
    Some((kind, written, axes))
}

pub(super) fn source_of(of: &Value<'_>, name: &str, policy: &Policy) -> Option<Source> {
    let Some((what, reference)) = name.split_once(':') else {
        of.problem(format!("`{name}` does not say what it is"), "write feature:…@1, outcome:…@1, page:… or score:…");
        return None;
    };
    let index = |position: Option<usize>| position.and_then(|i| u32::try_from(i).ok());
    let (found, among): (Option<Source>, Vec<String>) = match what {
        "feature" | "outcome" => (
            index(Definition::find(reference)).map(Source::Feature),
            DEFINITIONS.iter().map(|d| format!("{}@{}", d.name, d.version)).collect(),
        ),
        "score" => (
            index(policy.models.iter().position(|m| m.id == reference)).map(Source::Score),
            policy.models.iter().map(|m| m.id.clone()).collect(),
        ),
        "fared" => (
            index(policy.models.iter().position(|m| m.id == reference)).map(Source::Fared),
            policy.models.iter().map(|m| m.id.clone()).collect(),
        ),
        "page" => (
            index(policy.page_features.iter().position(|f| f.id == reference)).map(Source::Page),
            policy.page_features.iter().map(|f| f.id.clone()).collect(),
        ),
        other => {
            of.problem(format!("`{other}:` is unknown"), "write feature:…@1, outcome:…@1, page:… or score:…");
            return None;
        }
    };
    if found.is_none() {
        let remedy = match nearest(reference, among.iter().map(String::as_str)) {
            Some(meant) => format!("did you mean {what}:{meant}?"),
            None => format!("known: {}", among.join(", ")),
        };
        of.problem(format!("there is no {what} `{reference}`"), remedy);
    }
    found
}

/// Steps below the first edge's zero and steps in one unit, for a numeric source.
pub(super) fn steps(value: &Value<'_>, source: Source, policy: &Policy) -> Option<(f64, f64)> {
    match source {
        Source::Feature(i) => match DEFINITIONS.get(i as usize)?.kind {
            Kind::Number { scale, .. } => Some((0.0, f64::from(scale))),
            Kind::Category { .. } => None,
        },
        Source::Page(i) => match policy.page_features.get(i as usize)?.kind {
            PageFeatureKind::Number { min, .. } => Some((min as f64 / 100.0, 100.0)),
            PageFeatureKind::Category(_) => None,
        },
        Source::Score(_) => Some((0.0, 1e6)),
        Source::Funnel(_) | Source::Fared(_) | Source::Arm(_) | Source::Vote(_) => None,
    }
    .or_else(|| {
        value.problem("this is not a number", "use category for words");
        None
    })
}

fn histogram(value: &Value<'_>, source: Source, policy: &Policy) -> Option<Axis> {
    if !value.is_table() {
        value.wrong("a table as in { edges = [0, 25, 50], unit = \"percent\" }");
        return None;
    }
    let table = value.table()?;
    let edges = table.need("edges", "[0, 25, 50, 75, 100]")?;
    let unit = table.get("unit").and_then(|v| v.text());
    table.finish();
    if let (Some(unit), Source::Feature(i)) = (&unit, source)
        && let Some(Kind::Number { unit: defined, .. }) = DEFINITIONS.get(i as usize).map(|d| d.kind)
        && unit != defined
        && defined != "money"
    {
        value.problem(format!("the feature is in {defined}, not in {unit}"), format!("write unit = \"{defined}\""));
    }
    let (zero, scale) = steps(value, source, policy)?;
    let numbers: Vec<f64> = edges.list().iter().filter_map(Value::number).collect();
    let in_steps: Vec<u32> = numbers.iter().map(|n| ((n - zero) * scale).round() as u32).collect();
    if numbers.len() < 2 || !in_steps.is_sorted_by(|a, b| a < b) || numbers.iter().any(|n| *n < zero) {
        edges.problem(
            "edges must be at least two growing numbers, none below the smallest value",
            "as in [0, 25, 50, 75, 100]",
        );
        return None;
    }
    let labels = numbers.windows(2).map(|w| format!("{}-{}", w[0], w[1])).collect();
    Some(Axis { source, bins: Bins::Edges(in_steps), labels })
}

/// The words of a categorical source, in the order of its values.
pub(super) fn words(value: &Value<'_>, source: Source, policy: &Policy) -> Option<Vec<String>> {
    let fixed = match source {
        Source::Feature(i) => match DEFINITIONS.get(i as usize)?.kind {
            Kind::Category { labels: Labels::Fixed(words), .. } => {
                Some(words.iter().map(|w| (*w).to_owned()).collect())
            }
            Kind::Category { labels: Labels::Groups, .. } => {
                Some(policy.groups.iter().map(|g| g.id.clone()).chain(["other".into()]).collect())
            }
            Kind::Category { labels: Labels::Campaigns, .. } => {
                Some(policy.campaigns.iter().cloned().chain(["other".into(), "none".into()]).collect())
            }
            _ => None,
        },
        Source::Page(i) => match &policy.page_features.get(i as usize)?.kind {
            PageFeatureKind::Category(words) => Some(words.clone()),
            PageFeatureKind::Number { .. } => None,
        },
        Source::Fared(_) => Some(ways(value).iter().map(|w| (*w).to_owned()).collect()),
        _ => None,
    };
    if fixed.is_none() {
        value.problem("this has no words", "use histogram for numbers, journey for feature:journey-pair@1");
    }
    fixed
}

fn category(value: &Value<'_>, source: Source, policy: &Policy) -> Option<Axis> {
    let labels = value.texts();
    let words = words(value, source, policy)?;
    for label in &labels {
        if !words.contains(label) && label != "other" {
            let remedy = meant(label, words.iter().map(String::as_str), &format!("known: {}", words.join(", ")));
            value.problem(format!("`{label}` is never a value of this"), remedy);
        }
    }
    let other = labels.iter().position(|l| l == "other");
    let mut map = Vec::new();
    for word in &words {
        match labels.iter().position(|l| l == word).or(other) {
            Some(cell) => map.push(u32::try_from(cell).ok()?),
            None => {
                value.problem(format!("`{word}` has no cell"), "list it, or add \"other\" for all that is not listed");
                return None;
            }
        }
    }
    if labels.len() < 2 || labels.iter().enumerate().any(|(i, l)| labels[..i].contains(l)) {
        value.problem("a category needs two different words at least", "list each once");
        return None;
    }
    // A listed "other" that nothing falls into is still a declared cell: extend the map so that the
    // number of bins is the number of labels.
    if map.iter().max().is_none_or(|m| *m as usize + 1 < labels.len()) {
        map.push(u32::try_from(labels.len() - 1).ok()?);
    }
    Some(Axis { source, bins: Bins::Map(map), labels })
}

fn sum(value: &Value<'_>, source: Source, policy: &Policy) -> Option<Axis> {
    let table = value.table()?;
    let max = table.need("max", "500").and_then(|v| v.whole(1..u64::from(limits::VALUE) + 1))?;
    let _unit = table.get("unit").and_then(|v| v.text());
    table.finish();
    let (zero, scale) = steps(value, source, policy)?;
    if zero != 0.0 || matches!(source, Source::Score(_)) {
        value.problem("only numbers that begin at 0 can be summed", "let the feature's min be 0");
        return None;
    }
    let bins = Bins::Sum { max: u32::try_from(max).ok()?, scale: scale as u32 };
    Some(Axis { source, bins, labels: vec!["reports".into(), "sum".into()] })
}

fn journey(value: &Value<'_>, source: Source, policy: &Policy) -> Option<Axis> {
    let pair = Definition::find("journey-pair@1").and_then(|i| u32::try_from(i).ok()).map(Source::Feature);
    if pair != Some(source) {
        value.problem("a journey is of feature:journey-pair@1", "write of = \"feature:journey-pair@1\"");
        return None;
    }
    let mut listed = value.texts();
    let known: Vec<&str> = policy.groups.iter().map(|g| g.id.as_str()).collect();
    for group in &listed {
        if !known.contains(&group.as_str()) && group != "other" {
            value.problem(format!("no page group is called `{group}`"), format!("known: {}", known.join(", ")));
        }
    }
    listed.retain(|g| g != "other");
    listed.push("other".into());
    let width = listed.len();
    let place = |group: usize| known.get(group).and_then(|id| listed.iter().position(|l| l == id)).unwrap_or(width - 1);
    let mut map = Vec::new();
    for from in 0..=known.len() {
        for to in 0..=known.len() {
            map.push(u32::try_from(place(from) * width + place(to)).ok()?);
        }
    }
    map.push(u32::try_from(width * width).ok()?);
    let mut labels: Vec<String> =
        listed.iter().flat_map(|from| listed.iter().map(move |to| format!("{from} > {to}"))).collect();
    labels.push("left after one page".into());
    Some(Axis { source, bins: Bins::Map(map), labels })
}

fn joint(of: &Value<'_>, names: &[String], value: &Value<'_>, policy: &Policy) -> Option<Vec<Axis>> {
    let items = value.list();
    if names.len() != 2 || items.len() != 2 {
        of.problem(
            "a joint metric is of two things with bins for each",
            "as in of = [\"score:m\", \"outcome:purchase@1\"], joint = [20, 2]",
        );
        return None;
    }
    let mut axes = Vec::new();
    for (name, bins) in names.iter().zip(&items) {
        let source = source_of(of, name, policy)?;
        axes.push(if bins.is_table() {
            histogram(bins, source, policy)?
        } else if bins.is_list() {
            category(bins, source, policy)?
        } else {
            counted(bins, source, policy)?
        });
    }
    Some(axes)
}

/// A model's score, on the bins of its manifest.
pub(super) fn score_axis(model: u32, policy: &Policy) -> Option<Axis> {
    let Model { score_edges, kinds, .. } = policy.models.get(model as usize)?;
    let edges: Vec<u32> = [0].into_iter().chain(score_edges.iter().copied()).chain([1_000_000]).collect();
    let label = |w: &[u32]| format!("{:.3}-{:.3}", f64::from(w[0]) / 1e6, f64::from(w[1]) / 1e6);
    let labels = if kinds.is_empty() { edges.windows(2).map(label).collect() } else { kinds.clone() };
    Some(Axis { source: Source::Score(model), bins: Bins::Edges(edges), labels })
}

/// An axis given by its number of bins: a score's own, or all words of a category.
fn counted(value: &Value<'_>, source: Source, policy: &Policy) -> Option<Axis> {
    let wanted = value.whole(2..u64::from(limits::CELLS))?;
    let (bins, labels) = match source {
        Source::Score(i) => {
            let Axis { bins, labels, .. } = score_axis(i, policy)?;
            (bins, labels)
        }
        _ => {
            let words = words(value, source, policy)?;
            (Bins::Map((0..u32::try_from(words.len()).ok()?).collect()), words)
        }
    };
    if labels.len() as u64 != wanted {
        value.problem(
            format!("this has {} bins, not {wanted}", labels.len()),
            "write that number, or list edges or words of your own",
        );
        return None;
    }
    Some(Axis { source, bins, labels })
}

fn funnel(table: &Table<'_>, value: &Value<'_>, policy: &mut Policy) -> Option<Shape> {
    let names = value.texts();
    if !(2..=MAX_STEPS).contains(&names.len()) {
        value.problem("a funnel has 2 to 8 steps", "as in funnel = [\"view_item\", \"add_to_cart\", \"purchase\"]");
        return None;
    }
    let mut steps = Vec::new();
    for name in &names {
        let group = name.strip_prefix("page:").and_then(|id| policy.groups.iter().position(|g| g.id == id));
        let custom = policy.events.iter().position(|e| e == name);
        let step = match (group, custom, EventKind::from_name(name)) {
            (Some(group), _, _) => Step::Group(u32::try_from(group).ok()?),
            (_, Some(custom), _) => Step::Custom(u32::try_from(custom).ok()?),
            (_, _, Some(kind)) => Step::Event(kind),
            _ => {
                let known = EventKind::ALL.iter().map(|k| k.name()).chain(policy.events.iter().map(String::as_str));
                let remedy = meant(name, known, "write an event's name or page:GROUP");
                value.problem(format!("`{name}` is no event and no page group"), remedy);
                return None;
            }
        };
        steps.push(step);
    }
    if policy.behavior.funnels.len() == MAX_FUNNELS {
        table.problem(format!("more than {MAX_FUNNELS} funnels"), "declare fewer");
        return None;
    }
    let index = u32::try_from(policy.behavior.funnels.len()).ok()?;
    policy.behavior.funnels.push(steps);
    let labels: Vec<String> = ["none".to_owned()].into_iter().chain(names.iter().cloned()).collect();
    let map = (0..u32::try_from(labels.len()).ok()?).collect();
    Some((
        "funnel",
        format!("funnel:{}", names.join(">")),
        vec![Axis { source: Source::Funnel(index), bins: Bins::Map(map), labels }],
    ))
}
