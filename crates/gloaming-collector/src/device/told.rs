//! What a page is told of its visit, as JSON.

use gloaming_behavior::NONE;
use gloaming_behavior::definitions::{DEFINITIONS, Kind, Labels};
use gloaming_policy::ModelState;
use gloaming_signal::hash;

use super::Device;
use crate::state::{Words, quoted};

impl Device {
    /// See [`crate::Collector::models`].
    #[must_use]
    pub fn models(&self) -> String {
        let all = &self.policy.models;
        let wanted = |(_, model): &(usize, &gloaming_policy::Model)| {
            model.state != ModelState::Off && self.agrees_to(model.purpose)
        };
        let listed = all.iter().enumerate().filter(wanted).map(|(index, model)| {
            let (manifest, onnx) = (hash::hex(&model.manifest_sha256), hash::hex(&model.onnx_sha256));
            // A model that stands in for another speaks in that one's place, and not beside it.
            let spare = all.iter().any(|other| other.state.acts() && other.fallback == Some(index as u32));
            let speaks = model.state.acts() && !spare;
            format!(
                "{{\"index\":{index},\"id\":\"{}\",\"manifest\":\"{manifest}\",\"onnx\":\"{onnx}\",\"budget\":{},\"speaks\":{speaks},\"fallback\":{}}}",
                model.id,
                model.budget_ms,
                model.fallback.map_or(-1, i64::from)
            )
        });
        format!("[{}]", listed.collect::<Vec<_>>().join(","))
    }

    /// See [`crate::Collector::status`].
    #[must_use]
    pub fn status(&self) -> String {
        let features = self.tracker.features(false);
        let listed = DEFINITIONS.iter().enumerate().filter_map(|(index, definition)| {
            let value = features.value(index);
            match definition.kind {
                Kind::Number { unit, scale, .. } => {
                    let (whole, part) = (value / scale, value % scale * 100 / scale);
                    Some(format!(
                        "{{\"id\":\"{}@{}\",\"value\":{whole}.{part:02},\"unit\":\"{unit}\"}}",
                        definition.name, definition.version
                    ))
                }
                Kind::Category { labels: Labels::Fixed(words), .. } => {
                    let word = words.get(value as usize)?;
                    Some(format!(
                        "{{\"id\":\"{}@{}\",\"value\":\"{word}\",\"unit\":\"\"}}",
                        definition.name, definition.version
                    ))
                }
                Kind::Category { .. } => None,
            }
        });
        let current = self.made_of(self.tracker.session_started_ms().unwrap_or(0));
        let scored = self.policy.models.iter().zip(&current.scores).enumerate().filter(|(_, (_, s))| s.steps != NONE);
        let scores = scored.map(|(index, (model, score))| {
            // The page that asks may not hear more than that there is a score of a model that does not speak to it: one
            // in shadow, or one that is tried on others.
            let shown = self.heard(index);
            let told = if shown { format!("0.{:06}", score.steps.min(999_999)) } else { "null".to_owned() };
            format!("{{\"model\":\"{}\",\"score\":{told},\"shown\":{shown}}}", model.id)
        });
        let mut arms = String::new();
        for experiment in &self.policy.experiments {
            let arm = self.arm(experiment).and_then(|arm| experiment.arms.get(arm as usize));
            if let Some(arm) = arm {
                for part in [if arms.is_empty() { "" } else { "," }, &quoted(&experiment.id), ":", &quoted(arm)] {
                    arms.push_str(part);
                }
            }
        }
        format!(
            "{{\"policyVersion\":{},\"unknownEvents\":{},\"features\":[{}],\"scores\":[{}],\"arms\":{{{arms}}}}}",
            self.policy.version,
            self.unknown_events,
            listed.collect::<Vec<_>>().join(","),
            scores.collect::<Vec<_>>().join(",")
        )
    }

    /// See [`crate::Collector::ledger`].
    #[must_use]
    pub fn ledger(&self) -> String {
        let lines = self.ledger.iter().map(|line| {
            let Words { name, label, purpose, micro, .. } = &line.words;
            let cell = if line.cell == NONE { "null".to_owned() } else { line.cell.to_string() };
            format!(
                "{{\"time_ms\":{},\"metric\":{},\"name\":{},\"window\":{},\"cell\":{},\"label\":{},\"value\":{},\"rho\":{}.{:06},\"purpose\":{}}}",
                line.at_ms, line.metric, quoted(name), line.window, cell, quoted(label), line.value,
                micro / 1_000_000, micro % 1_000_000, quoted(purpose)
            )
        });
        format!("[{}]", lines.collect::<Vec<_>>().join(","))
    }
}
