//! `[[attribute]]` and `[[fairness]]`: what visitors say of themselves, and whether a model treats those who say it alike.
//!
//! An attribute is said by the visitor, on the device, or not at all; nothing infers it. It serves a purpose of its own, off
//! like every purpose until somebody agrees, and nothing but fairness: no model takes it, and no other metric counts it but guardrails of
//! experiments, which see that arms do to all groups what they do. What is of a special category (GDPR, Article 9) is marked so,
//! and shares its purpose with no other attribute either.

use gloaming_behavior::MAX_PAGE_FEATURES;

use super::monitor::{LEAST_MICRO, model_of, outcome_of, write_out, written};
use super::table::{Table, meant};
use super::{metric, need_name, purpose_of, special};
use crate::document::{Axis, Bins, PageFeature, PageFeatureKind, Policy, Purpose, Source};
use crate::metric::Metric;
use crate::model::PAGE_INPUT;

/// Most words of an attribute: each group needs a crowd of its own.
const WORDS: usize = 16;
/// Ends the labels of bins that are selected, where there are more than two.
pub const SELECTED: &str = " selected";
/// Where the threshold is when none is said: the edge below which 14 of 20 visits lie.
const USUAL_EDGE: usize = 13;

/// Adds all `[[attribute]]` to the features that pages give, and to purposes what must be said of special ones; where they begin.
pub(super) fn attributes(root: &Table<'_>, purposes: &mut [Purpose], features: &mut Vec<PageFeature>) -> usize {
    let from = features.len();
    for table in root.tables("attribute") {
        let id = need_name(&table, "id");
        let values =
            table.need("values", "[\"under-30\", \"30-59\", \"60-plus\"]").map_or_else(Vec::new, |v| v.texts());
        let twice = values.iter().enumerate().any(|(at, word)| values[..at].contains(word));
        if !(2..=WORDS).contains(&values.len()) || twice {
            table.problem(
                format!("`{id}` has {} values", values.len()),
                format!("list 2 to {WORDS} different words that visitors may say of themselves"),
            );
        }
        let purpose = purpose_of(&table, purposes);
        if features.iter().any(|feature| feature.id == id) {
            table.problem(format!("`{id}` is declared twice"), "give each feature and attribute a name of its own");
        }
        let special = table.get("special").and_then(|value| value.flag()).unwrap_or(false);
        if let Some(purpose) = purposes.get_mut(purpose as usize) {
            if special {
                special::say(&table, purpose);
            } else {
                special::look(&table, (&id, &values), purpose);
            }
        }
        table.finish();
        let kind = PageFeatureKind::Category(values);
        features.push(PageFeature { id, kind, unit: String::new(), purpose, special });
    }
    if features.len() > MAX_PAGE_FEATURES {
        root.problem(format!("more than {MAX_PAGE_FEATURES} features and attributes of pages"), "give fewer");
    }
    from
}

/// Adds the metrics of all `[[fairness]]`, and sees that nothing else touches an attribute. Attributes begin at `from`.
pub(super) fn fairness(root: &Table<'_>, from: usize, policy: &mut Policy) {
    // Before those that may.
    alone(root, from, policy);
    let guarded = |place: usize| policy.metrics.iter().any(|metric| guards(metric, place));
    let mut compared: Vec<bool> = (0..policy.page_features.len()).map(guarded).collect();
    for table in root.tables("fairness") {
        compare(&table, from, policy, &mut compared);
        table.finish();
    }
    for (feature, _) in policy.page_features.iter().zip(&compared).skip(from).filter(|(_, compared)| !**compared) {
        root.problem(
            format!("visitors are asked for `{}`, and nothing is done with it", feature.id),
            format!(
                "add [[fairness]] with by = [\"{0}\"], or a guardrail with by = \"{0}\", or ask for less",
                feature.id
            ),
        );
    }
    policy.metrics.sort_by_key(|metric| metric.id);
}

/// Whether a metric counts what an arm does to the groups of an attribute: a guardrail, which is fairness too.
fn guards(metric: &Metric, place: usize) -> bool {
    let [arm, groups, what] = metric.axes.as_slice() else { return false };
    let is_arm = matches!(arm.source, Source::Arm(_)) && what.source != groups.source;
    metric.is_written_out() && is_arm && groups.source == Source::Page(u32::try_from(place).unwrap_or(u32::MAX))
}

/// What visitors say of themselves serves its purpose and nothing else, and its purpose nothing else either.
fn alone(root: &Table<'_>, from: usize, policy: &Policy) {
    for (at, attribute) in policy.page_features.iter().enumerate().skip(from) {
        let place = u32::try_from(at).unwrap_or(u32::MAX);
        let id = &attribute.id;
        for model in policy.models.iter().filter(|model| model.inputs.contains(&(PAGE_INPUT + place))) {
            root.problem(
                format!("`{}` takes `{id}`, which visitors say of themselves", model.id),
                "train it without: a model that is told who belongs to which group treats them by it",
            );
        }
        let counts = |metric: &&Metric| metric.axes.iter().any(|axis| axis.source == Source::Page(place));
        for metric in policy.metrics.iter().filter(counts).filter(|metric| !guards(metric, at)) {
            root.problem(format!("`{}` counts `{id}`, which is for fairness alone", metric.name), "remove that metric");
        }
        let others =
            policy.metrics.iter().filter(|metric| !(from..policy.page_features.len()).any(|at| guards(metric, at)));
        let metrics = others.map(|metric| (metric.purpose, &metric.name));
        let models = policy.models.iter().map(|model| (model.purpose, &model.id));
        let pages = policy.page_features[..from].iter().map(|feature| (feature.purpose, &feature.id));
        let experiments = policy.experiments.iter().map(|experiment| (experiment.purpose, &experiment.id));
        let mut all = metrics.chain(models).chain(pages).chain(experiments);
        if let Some((_, other)) = all.find(|(purpose, _)| *purpose == attribute.purpose) {
            root.problem(
                format!("`{id}` and `{other}` serve the same purpose"),
                "give what visitors say of themselves a purpose of its own, so that it can be declined by itself",
            );
        }
        let mut beside = policy.page_features[from..].iter().filter(|other| other.id != *id);
        if attribute.special
            && let Some(other) = beside.find(|other| other.purpose == attribute.purpose)
        {
            root.problem(
                format!("`{id}` and `{}` serve the same purpose", other.id),
                "give what is of a special category (GDPR, Article 9) a purpose that nothing else serves, for it takes a yes of its own",
            );
        }
    }
}

/// The attributes that a table names.
fn named(table: &Table<'_>, from: usize, policy: &Policy) -> Vec<u32> {
    let Some(by) = table.need("by", "[\"age-band\"]") else { return Vec::new() };
    let own = || policy.page_features.iter().skip(from).map(|feature| feature.id.as_str());
    let mut found = Vec::new();
    for name in by.texts() {
        match own().position(|id| id == name) {
            Some(at) => found.extend(u32::try_from(from + at)),
            None => {
                let remedy = meant(&name, own(), "declare it as an [[attribute]]");
                by.problem(format!("there is no attribute `{name}`"), remedy);
            }
        }
    }
    found
}

/// Scores on some of the model's own bins, parted once more at the threshold. With more than two, labels tell which are
/// selected.
fn selected(model: u32, own: &[u32], threshold: u32, bins: u64) -> Axis {
    let every = usize::try_from(20 / bins.max(2)).unwrap_or(10);
    let among = own.iter().skip(every - 1).step_by(every).filter(|_| bins > 2);
    let mut edges: Vec<u32> = [0, threshold, 1_000_000].into_iter().chain(among.copied()).collect();
    edges.sort_unstable();
    edges.dedup();
    let unit = |micro: u32| f64::from(micro) / 1e6;
    let label = |ends: &[u32]| {
        let word = if bins > 2 && ends[0] >= threshold { SELECTED } else { "" };
        format!("{:.3}-{:.3}{word}", unit(ends[0]), unit(ends[1]))
    };
    Axis { source: Source::Score(model), labels: edges.windows(2).map(label).collect(), bins: Bins::Edges(edges) }
}

/// One model's metrics: group by selected or not by outcome.
fn compare(table: &Table<'_>, from: usize, policy: &mut Policy, compared: &mut [bool]) {
    let id = table.need_text("model", "\"purchase-intent\"");
    let (span_ms, k) = (metric::window(table, policy), metric::crowd(table));
    let price = table.need("rho", "0.02").and_then(|value| value.micro()).unwrap_or(LEAST_MICRO);
    let outcome = table.need_text("outcome", "\"outcome:purchase@1\"");
    let threshold = table.get("threshold").map(|value| {
        value.micro().filter(|t| (1..1_000_000).contains(t)).or_else(|| {
            value.problem(
                "a threshold lies between 0 and 1",
                "as in threshold = 0.3: from there on a visit counts as selected",
            );
            None
        })
    });
    let attributes = named(table, from, policy);
    let (Some(index), Some(outcome_axis)) =
        (model_of(table, &id, "compare groups by", policy), outcome_of(table, &outcome, policy))
    else {
        return;
    };
    let model = &policy.models[index];
    if !model.kinds.is_empty() {
        table.problem(format!("`{id}` sorts visits into kinds, and selects nobody"), "remove this");
        return;
    }
    let usual = model.score_edges.get(USUAL_EDGE).copied().unwrap_or(500_000);
    let at = match threshold {
        Some(given) => given.and_then(|given| u32::try_from(given).ok()).unwrap_or(usual),
        None => usual,
    };
    let bins = table.get("bins").and_then(|value| {
        let bins = value.whole(2..21)?;
        if bins > 2 && ![4, 5, 10, 20].contains(&bins) {
            value.problem(
                format!("{bins} bins do not come of the model's 20"),
                "use 4, 5, 10 or 20, or leave it out and compare without calibration",
            );
        }
        Some(bins)
    });
    if bins.is_some_and(|bins| bins > 2) && !model.score_edges.contains(&at) {
        let near = model.score_edges.iter().min_by_key(|edge| edge.abs_diff(at)).copied().unwrap_or(usual);
        table.problem(
            format!(
                "the threshold {} is none of the model's own edges, and bins are made of those",
                f64::from(at) / 1e6
            ),
            format!("use threshold = {}, the nearest, or compare without `bins`", f64::from(near) / 1e6),
        );
    }
    let each = price / attributes.len().max(1) as u64;
    if each < LEAST_MICRO {
        table.problem(
            format!(
                "rho = {} is shared by {} attributes, which leaves each too little",
                price as f64 / 1e6,
                attributes.len()
            ),
            format!("raise rho to {}", (LEAST_MICRO * attributes.len() as u64) as f64 / 1e6),
        );
    }
    let selected = selected(u32::try_from(index).unwrap_or(u32::MAX), &model.score_edges, at, bins.unwrap_or(2));
    for place in attributes {
        compared[place as usize] = true;
        let attribute = &policy.page_features[place as usize];
        let PageFeatureKind::Category(words) = &attribute.kind else { continue };
        let bins = Bins::Map((0..u32::try_from(words.len()).unwrap_or(0)).collect());
        let groups = Axis { source: Source::Page(place), bins, labels: words.clone() };
        let name = format!("{id}-fair-{}", attribute.id);
        let of = format!("page:{}, score:{id}, {outcome}", attribute.id);
        let metric = written(
            (name, of),
            "joint",
            (attribute.purpose, span_ms, k),
            each,
            vec![groups, selected.clone(), outcome_axis.clone()],
        );
        write_out(table, policy, metric);
    }
}
