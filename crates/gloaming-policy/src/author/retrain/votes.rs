//! `by = "votes"`: weights that are learnt in rounds, of which `learning.json` beside the manifest holds the last.

use super::super::table::Table;
use super::super::{Learning, LearningTerm, metric, monitor};
use super::tells_a_probability;
use crate::document::{Axis, Bins, Policy, Source};

/// The metric that counts one model's votes; the model's index when there is such a model.
pub(super) fn voting(
    table: &Table<'_>,
    id: &str,
    (span_ms, k, price): (u64, u32, u64),
    learnings: &[Option<String>],
    policy: &mut Policy,
) -> Option<usize> {
    for key in ["outcome", "inputs", "pairs"] {
        if let Some(value) = table.get(key) {
            value.problem(format!("votes do not take `{key}`"), "learning.json says it; remove this");
        }
    }
    let index = monitor::model_of(table, id, "learn", policy)?;
    tells_a_probability(table, index, policy)?;
    if price < monitor::LEAST_MICRO {
        let least = monitor::LEAST_MICRO as f64 / 1e6;
        table.problem(
            format!("rho = {} leaves votes on `{id}` too little to tell anything", price as f64 / 1e6),
            format!("raise it to {least} at least"),
        );
    }
    let model = u32::try_from(index).ok()?;
    let Some(text) = learnings.get(index).and_then(Option::as_ref) else {
        table.problem(
            format!("there is no learning.json beside the manifest of `{id}`"),
            "`gloaming model learn` makes it of what is released of its inputs",
        );
        return None;
    };
    let read = Learning::read(text).and_then(|learning| Ok((learning.learner(policy, model)?, learning)));
    let (learner, learning) = match read {
        Ok(read) if read.1.model == id => read,
        Ok((_, other)) => {
            table.problem(
                format!("learning.json beside the manifest of `{id}` is of `{}`", other.model),
                "move it where it belongs",
            );
            return None;
        }
        Err(why) => {
            table.problem(
                format!("learning.json beside the manifest of `{id}` cannot be used: {why}"),
                "take it away, and begin anew with `gloaming model learn`",
            );
            return None;
        }
    };
    // What an input is called, and which of its words.
    let name = |term: &LearningTerm| match &term.word {
        Some(word) => format!("{} = {word}", term.input),
        None => term.input.clone(),
    };
    let both = |term| [format!("{} more", name(term)), format!("{} less", name(term))];
    let labels: Vec<String> = learning.terms.iter().flat_map(both).chain(["none".to_owned()]).collect();
    let bins = Bins::Map((0..u32::try_from(labels.len()).ok()?).collect());
    let place = u32::try_from(policy.learners.len()).ok()?;
    let purpose = policy.models[index].purpose;
    let (name, of) = (format!("{id}-votes"), learning.name());
    policy.learners.push(learner);
    let axes = vec![Axis { source: Source::Vote(place), bins, labels }];
    let written = monitor::written((name, of), "category", (purpose, span_ms, k), price, axes);
    metric::check_purposes(table, policy, &written);
    // Nobody's word on what a page gave for another purpose is asked for either.
    let learner = &policy.learners[place as usize];
    for term in &learner.terms {
        if let Source::Page(page) = term.source
            && policy.page_features[page as usize].purpose != purpose
        {
            let given = &policy.page_features[page as usize].id;
            table.problem(
                format!("`{id}` would learn from `{given}`, which serves another purpose"),
                "give both the same purpose, or begin anew without it",
            );
        }
    }
    monitor::write_out(table, policy, written);
    Some(index)
}
