//! What changed between two policies, in sentences for the people who sign.

use std::collections::BTreeMap;

use super::{date_of, newly_special};
use crate::document::Policy;
use crate::metric::Metric;

fn lists<T, K: Ord + Clone>(old: &[T], new: &[T], key: impl Fn(&T) -> K) -> (Vec<K>, Vec<K>) {
    let (before, after): (Vec<K>, Vec<K>) = (old.iter().map(&key).collect(), new.iter().map(&key).collect());
    let gone = before.iter().filter(|k| !after.contains(k)).cloned().collect();
    let come = after.iter().filter(|k| !before.contains(k)).cloned().collect();
    (gone, come)
}

fn metric_changes(old: &Metric, new: &Metric) -> Vec<String> {
    let mut lines = Vec::new();
    let mut changed = |what: &str, before: String, after: String| {
        if before != after {
            lines.push(format!("metric {} `{}`: {what} {before} -> {after}", new.id, new.name));
        }
    };
    changed("name", old.name.clone(), new.name.clone());
    changed("of", old.of.clone(), new.of.clone());
    changed("kind", old.kind.clone(), new.kind.clone());
    changed("per_day", old.per_day.to_string(), new.per_day.to_string());
    changed("rho", old.rho.as_f64().to_string(), new.rho.as_f64().to_string());
    changed("k", old.k.to_string(), new.k.to_string());
    changed("window (ms)", old.span_ms.to_string(), new.span_ms.to_string());
    changed("noise", format!("{:?}", old.mechanism), format!("{:?}", new.mechanism));
    if old.axes != new.axes {
        lines.push(format!("metric {} `{}`: its cells changed; earlier windows cannot be compared", new.id, new.name));
    }
    lines
}

/// Differences from `old` to `new`, one sentence each; empty when there are none but the version.
#[must_use]
pub fn diff(old: &Policy, new: &Policy) -> Vec<String> {
    let mut lines = Vec::new();
    if old.site != new.site {
        lines.push(format!("another site: {} -> {}", old.site, new.site));
    }
    if new.version <= old.version {
        lines.push(format!("version {} does not grow from {}: edges will refuse it", new.version, old.version));
    }
    if old.expires_day != new.expires_day {
        lines.push(format!("expires {} -> {}", date_of(old.expires_day), date_of(new.expires_day)));
    }
    if old.budget != new.budget {
        lines.push(format!("budget a day: rho {} -> {}", old.budget.as_f64(), new.budget.as_f64()));
    }
    if old.declared() != new.declared() {
        lines.push(format!("declared a day: rho {} -> {}", old.declared().as_f64(), new.declared().as_f64()));
    }
    let purpose = |p: &crate::Purpose| (p.id.clone(), p.texts.clone());
    let (gone, come) = lists(&old.purposes, &new.purposes, purpose);
    lines.extend(gone.iter().map(|(id, _)| format!("purpose `{id}` removed or reworded: people are asked again")));
    lines.extend(come.iter().map(|(id, _)| format!("purpose `{id}` added or reworded: people are asked again")));
    let (gone, come) = lists(&old.page_features, &new.page_features, |f| f.id.clone());
    lines.extend(gone.iter().map(|id| format!("page-given feature `{id}` removed")));
    lines.extend(come.iter().map(|id| format!("page-given feature `{id}` added")));
    let special = |of: &Policy| {
        let named = of.page_features.iter().filter(|feature| feature.special).map(|feature| feature.id.clone());
        named.collect::<Vec<_>>()
    };
    let (gone, come) = lists(&special(old), &special(new), Clone::clone);
    lines.extend(gone.iter().map(|id| format!("`{id}` is of a special category (GDPR, Article 9) no longer")));
    lines.extend(come.iter().map(|id| format!("`{id}` is of a special category (GDPR, Article 9)")));
    lines.extend(newly_special(old, new).map(|id| {
        format!(
            "purpose `{id}` asked for something else before: a yes to that is none to this, and it cannot be signed"
        )
    }));
    let (gone, come) = lists(&old.origins, &new.origins, Clone::clone);
    lines.extend(gone.iter().map(|o| format!("origin {o} may no longer post")));
    lines.extend(come.iter().map(|o| format!("origin {o} may post")));
    let before: BTreeMap<u32, &Metric> = old.metrics.iter().map(|m| (m.id, m)).collect();
    let after: BTreeMap<u32, &Metric> = new.metrics.iter().map(|m| (m.id, m)).collect();
    for (id, metric) in &before {
        match after.get(id) {
            None => lines.push(format!("metric {id} `{}` removed", metric.name)),
            Some(now) => lines.extend(metric_changes(metric, now)),
        }
    }
    for (id, metric) in after.iter().filter(|(id, _)| !before.contains_key(id)) {
        lines.push(format!("metric {id} `{}` added: {} of {}", metric.name, metric.kind, metric.of));
    }
    let model = |m: &crate::Model| (m.id.clone(), m.state.number(), m.onnx_sha256, m.budget_ms);
    let (gone, come) = lists(&old.models, &new.models, model);
    lines.extend(gone.iter().map(|(id, ..)| format!("model `{id}`: this state, file or budget_ms removed")));
    lines.extend(come.iter().map(|(id, ..)| format!("model `{id}`: new state, file or budget_ms")));
    let spare = |of: &Policy| {
        let named = |m: &crate::Model| {
            let spare = of.models.get(m.fallback? as usize)?;
            Some((m.id.clone(), spare.id.clone()))
        };
        of.models.iter().filter_map(named).collect::<Vec<_>>()
    };
    let (gone, come) = lists(&spare(old), &spare(new), Clone::clone);
    lines.extend(gone.iter().map(|(id, by)| format!("model `{id}`: `{by}` no longer stands in for it")));
    lines.extend(come.iter().map(|(id, by)| format!("model `{id}`: `{by}` stands in for it")));
    lines.extend(experiments(old, new));
    lines
}

/// What begins anew, and what is asked of it otherwise than before.
fn experiments(old: &Policy, new: &Policy) -> Vec<String> {
    let tried = |of: &Policy, e: &crate::Experiment| Some(of.models.get(e.model? as usize)?.id.clone());
    let design = |of: &Policy, e: &crate::Experiment| {
        ((e.arms.clone(), e.shares.clone()), e.layer.clone(), e.from, e.to, tried(of, e))
    };
    let asked = |e: &crate::Experiment| (e.lower, e.least, e.guardrails.clone(), e.worth.clone(), e.beside.clone());
    let mut lines = Vec::new();
    for before in old.experiments.iter().filter(|e| new.experiments.iter().all(|other| other.id != e.id)) {
        lines.push(format!("experiment `{}` ended", before.id));
    }
    for now in &new.experiments {
        let before = old.experiments.iter().find(|e| e.id == now.id);
        if before.is_none_or(|before| design(old, before) != design(new, now)) {
            let (arms, id) = (now.arms.join(", "), &now.id);
            let hears = tried(new, now).map_or_else(String::new, |model| {
                format!(
                    "; `{model}` is heard in other arms than {} alone, and by nobody who takes no part",
                    now.arms[0]
                )
            });
            lines.push(format!("experiment `{id}` begins anew, with {arms}{hears}"));
        } else if before.is_some_and(|before| asked(before) != asked(now)) {
            lines.push(format!(
                "experiment `{}`: goal, minimum_effect or guardrails are other ones, and it goes on",
                now.id
            ));
        }
        if before.is_some_and(|before| before.stops) != now.stops {
            lines.push(if now.stops {
                format!("experiment `{}`: a guardrail that breaks ends it by itself, in all arms", now.id)
            } else {
                format!("experiment `{}`: a guardrail that breaks is told, and people end it", now.id)
            });
        }
    }
    lines
}
