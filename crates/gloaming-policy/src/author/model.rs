//! `[[model]]` and `[gate]`: which models there are, what they may do, and what is asked of them first.

use std::collections::BTreeMap;

use gloaming_behavior::Definition;
use gloaming_signal::limits;

use super::table::{Problem, Table, Value, meant};
use super::{ManifestFacts, Manifests, need_name, on_text, purpose_of};
use crate::document::{PageFeature, Purpose};
use crate::gate::{Kind, Record, Rules, Stage, Step, usual_runtimes};
use crate::model::{Model, ModelState, PAGE_INPUT};

/// What a score may take when a policy does not say, ms: a frame and a bit. The worker that computes it delays no page,
/// but on a phone of two cores it takes half of what there is.
const BUDGET_MS: u32 = 20;

/// The states that a policy may give a model, with their words.
const STATES: [(&str, ModelState); 4] = [
    ("shadow", ModelState::Shadow),
    ("experiment", ModelState::Experiment),
    ("live", ModelState::Live),
    ("quarantined", ModelState::Off),
];

fn state(table: &Table<'_>) -> ModelState {
    let word = table.need_text("state", "\"shadow\"");
    if let Some((_, state)) = STATES.iter().find(|(known, _)| *known == word) {
        return *state;
    }
    let (cause, remedy) = match word.parse::<Stage>() {
        Ok(Stage::Draft) => {
            ("a draft is computed nowhere".to_owned(), "use shadow, or take the model out of the policy".to_owned())
        }
        Ok(_) => (format!("a {word} model is not used any more"), "take it out of the policy".to_owned()),
        Err(_) => {
            let known = STATES.iter().map(|(known, _)| *known);
            (format!("state `{word}` is unknown"), meant(&word, known, "use shadow, experiment, live or quarantined"))
        }
    };
    if !word.is_empty() {
        table.problem(cause, remedy);
    }
    ModelState::Shadow
}

/// Who answers for a model and who looks at it, by their roles in [gate]: two of them, and both there before it acts.
fn answered_for(table: &Table<'_>, id: &str, state: ModelState, rules: Option<&Rules>) {
    let roles =
        ["owner", "reviewer"].map(|key| Some((key, table.get(key)?)).and_then(|(k, v)| Some((k, v.text()?, v))));
    // Without [gate] nothing acts, and there are no roles.
    let Some(rules) = rules else { return };
    for (key, role, value) in roles.iter().flatten().filter(|(_, role, _)| !rules.roles.contains_key(role)) {
        let remedy = meant(role, rules.roles.keys().map(String::as_str), "declare it in [gate]");
        value.problem(format!("{key} = \"{role}\", which is no role"), remedy);
    }
    match &roles {
        [Some((_, owner, _)), Some((_, reviewer, value))] if owner == reviewer => value.problem(
            format!("`{owner}` owns `{id}` and reviews it"),
            "name another role: nobody sees what they have overlooked themselves",
        ),
        [_, Some((_, reviewer, value))] if !rules.live.approved_by.contains(reviewer) => value.problem(
            format!("`{reviewer}` reviews `{id}`, and gate.live does not ask for their approval"),
            "add them to approved_by of gate.live",
        ),
        [Some(_), Some(_)] => {}
        _ if state.acts() => table.problem(
            format!("`{id}` acts on people, and nobody is named who answers for it and who looks at it"),
            "name two roles of [gate], as in owner = \"data\" and reviewer = \"compliance\"",
        ),
        _ => {}
    }
}

/// The input that a manifest calls `name@version`, or `page:id` for one that the page gives; `None` when there is none.
pub(super) fn input_of(name: &str, given: &[PageFeature]) -> Option<u32> {
    match name.strip_prefix("page:") {
        Some(page) => {
            let index = given.iter().position(|feature| feature.id == page)?;
            PAGE_INPUT.checked_add(u32::try_from(index).ok()?)
        }
        None => u32::try_from(Definition::find(name)?).ok(),
    }
}

/// The models, and what is being learnt of each on devices, as text.
pub(super) fn models(
    root: &Table<'_>,
    purposes: &[Purpose],
    given: &[PageFeature],
    manifests: Manifests<'_>,
    (record, expires_day): (Option<&Record>, u64),
) -> (Vec<Model>, Vec<Option<String>>) {
    let rules = rules(root);
    let (mut models, mut learnings): (Vec<Model>, Vec<Option<String>>) = (Vec::new(), Vec::new());
    let mut fallbacks = Vec::new();
    for table in root.tables("model") {
        let id = need_name(&table, "id");
        let path = table.need_text("manifest", "\"models/purchase-intent/manifest.json\"");
        let state = state(&table);
        let purpose = purpose_of(&table, purposes);
        let budget_ms =
            table.get("budget_ms").and_then(|value| value.whole(1..1_001)).map_or(BUDGET_MS, |ms| ms as u32);
        fallbacks.push(table.get("fallback").and_then(|value| Some((value.text()?, value))));
        answered_for(&table, &id, state, rules.as_ref());
        table.finish();
        if models.len() == limits::MODELS {
            table.problem(
                format!("more than {} models", limits::MODELS),
                "take those out that no metric and no page uses",
            );
        }
        if models.iter().any(|m| m.id == id) {
            table.problem(format!("model `{id}` is declared twice"), "remove one");
        }
        let facts = match manifests(&path) {
            Ok(facts) => facts,
            Err(why) => {
                table.problem(
                    format!("the manifest of `{id}` cannot be used: {why}"),
                    "run `gloaming model check` on it",
                );
                ManifestFacts::stand_in(&id, &[])
            }
        };
        if facts.id != id {
            table.problem(
                format!("the manifest at {path} is of `{}`, not of `{id}`", facts.id),
                "use one name for both",
            );
        }
        let mut inputs = Vec::new();
        for input in &facts.inputs {
            match input_of(input, given) {
                Some(index) => inputs.push(index),
                None if input.starts_with("page:") => table.problem(
                    format!("model `{id}` takes `{input}`, which no [[feature]] of this policy declares"),
                    "declare it, and give it on the pages where the model is to score",
                ),
                None => table.problem(
                    format!("model `{id}` takes `{input}`, which this release does not compute"),
                    "train it on features this release defines (`gloaming policy features` lists them)",
                ),
            }
        }
        let millionths = |scores: &[f64]| scores.iter().map(|score| (score * 1e6).round() as u32).collect();
        let (score_edges, score_means) = (millionths(&facts.score_edges), millionths(&facts.score_means));
        let (manifest_sha256, onnx_sha256) = (facts.manifest_sha256, facts.onnx_sha256);
        match record {
            Some(record) => {
                if let Err(why) = record.permits(&manifest_sha256, state, expires_day) {
                    table.problem(format!("the gate does not let {id} be that: {why}"), "the record has the last word");
                } else if state.acts() && record.rules() != rules.as_ref() {
                    root.problem(
                        "[gate] says something else than the rules that the record was judged by",
                        format!("`gloaming model promote {id}` puts the new ones in force and judges by them"),
                    );
                }
            }
            None if state.acts() => table.problem(
                format!("{id} may not act on anybody: there is no record of evidence for it"),
                format!("use state = \"shadow\"; `gloaming model promote {id}` says what is missing"),
            ),
            None => {}
        }
        learnings.push(facts.learning);
        models.push(Model {
            id,
            state,
            purpose,
            manifest_sha256,
            onnx_sha256,
            inputs,
            score_edges,
            score_means,
            kinds: facts.kinds,
            budget_ms,
            fallback: None,
        });
    }
    for (index, named) in fallbacks.iter().enumerate() {
        let Some((id, value)) = named else { continue };
        match stand_in_for(index, id, &models, &fallbacks) {
            Ok(fallback) => models[index].fallback = Some(fallback),
            Err((cause, remedy)) => value.problem(cause, remedy),
        }
    }
    (models, learnings)
}

/// The model that may speak in another's place. Pages are told by it what they are told by the other, so it must have
/// come as far through the gate, and be agreed to for the same reason.
fn stand_in_for(
    index: usize,
    id: &str,
    models: &[Model],
    fallbacks: &[Option<(String, Value<'_>)>],
) -> Result<u32, (String, String)> {
    let model = &models[index];
    let refused = |cause: String, remedy: &str| Err((cause, remedy.to_owned()));
    let Some(place) = models.iter().position(|other| other.id == id) else {
        let known = models.iter().map(|other| other.id.as_str());
        let remedy = meant(id, known, "declare it as a [[model]] of its own");
        return Err((format!("the fallback `{id}` is no model of this policy"), remedy));
    };
    let other = &models[place];
    if place == index {
        return refused(format!("`{id}` cannot stand in for itself"), "name another model, or leave `fallback` out");
    }
    if fallbacks.get(place).is_some_and(Option::is_some) {
        return refused(
            format!("`{id}` names a fallback itself, and nobody could say who speaks"),
            "let the last in the row name none",
        );
    }
    if other.purpose != model.purpose {
        return refused(
            format!("`{id}` serves another purpose than `{}`, and may not be agreed to", model.id),
            "use a model of the same purpose",
        );
    }
    if other.kinds != model.kinds {
        return refused(
            format!(
                "`{id}` does not tell what `{}` tells: the one sorts visits into other kinds than the other",
                model.id
            ),
            "use a model with the same `output.kinds`, or none in both",
        );
    }
    if !other.state.may_stand_in_for(model.state) {
        return refused(
            format!("`{id}` has not come as far as `{}`, and pages would be told its scores", model.id),
            "promote it first, or leave `fallback` out",
        );
    }
    u32::try_from(place).map_err(|_| (format!("`{id}` is beyond the number of models"), "use fewer".to_owned()))
}

fn step(gate: &Table<'_>, key: &'static str) -> Step {
    let example = "{ evidence = [\"held-out\", \"parity\"], approved_by = [\"data\"], auc = 0.6 }";
    let Some(table) = gate.need(key, example).and_then(|value| value.table()) else { return Step::default() };
    let mut step = Step::default();
    for value in table.need("evidence", "[\"held-out\", \"parity\"]").map_or_else(Vec::new, |value| value.list()) {
        let word = value.text().unwrap_or_default();
        match Kind::ALL.into_iter().find(|kind| kind.name() == word) {
            Some(kind) => drop(step.evidence.insert(kind)),
            None => {
                let all = Kind::ALL.map(|kind| kind.name());
                let remedy = meant(&word, all, &format!("use {}", all.join(", ")));
                value.problem(format!("`{word}` is no kind of evidence"), remedy);
            }
        }
    }
    step.approved_by =
        table.need("approved_by", "[\"data\"]").map_or_else(Vec::new, |value| value.texts()).into_iter().collect();
    let threshold = |key| table.get(key).and_then(|value| value.number());
    step.auc = threshold("auc");
    step.calibration_error = threshold("calibration_error");
    step.gain = threshold("gain");
    step.group_gap = threshold("group_gap");
    step.lift = threshold("lift");
    table.finish();
    step
}

/// The rules, as far as they can be read; `None` when the policy has no `[gate]`.
fn rules(root: &Table<'_>) -> Option<Rules> {
    let gate = root.get("gate")?.table()?;
    let whole = |key, example, range| gate.need(key, example).and_then(|value| value.whole(range)).unwrap_or(1);
    let (max_age_days, model_bytes) =
        (whole("max_age_days", "180", 1..401), whole("model_bytes", "1000000", 1..8 * 1024 * 1024 + 1));
    let roles = gate.need("roles", "{ data = [\"KEY\"] }").and_then(|value| value.table());
    let roles = roles.map_or_else(BTreeMap::new, |table| table.all_lists().into_iter().collect());
    let runtimes = gate.get("runtimes").map_or_else(usual_runtimes, |value| value.texts().into_iter().collect());
    let (experiment, live) = (step(&gate, "experiment"), step(&gate, "live"));
    gate.finish();
    let rules = Rules { max_age_days, model_bytes, roles, runtimes, experiment, live };
    for (cause, remedy) in rules.problems() {
        gate.problem(cause, remedy);
    }
    Some(rules)
}

/// The rules that a policy's text asks its models to pass; `None` when it has no `[gate]`.
///
/// # Errors
/// What is wrong with them, by line.
pub fn gate_rules(text: &str) -> Result<Option<Rules>, Vec<Problem>> {
    on_text(text, |_, root| rules(root))
}

/// What a policy's text names, before the gate is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The site.
    pub site: String,
    /// Each model's name, and where its manifest is.
    pub models: Vec<(String, String)>,
}

/// Site and models of a policy's text.
///
/// # Errors
/// What is wrong with them, by line.
pub fn named(text: &str) -> Result<Named, Vec<Problem>> {
    let example = "\"models/purchase-intent/manifest.json\"";
    on_text(text, |_, root| {
        let of = |table: Table<'_>| (need_name(&table, "id"), table.need_text("manifest", example));
        let site = root.need_text("site", "\"shop.example\"");
        Named { site, models: root.tables("model").into_iter().map(of).collect() }
    })
}
