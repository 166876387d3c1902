//! What a site asks of its models: the policy's `[gate]`.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Kind, Stage};
use crate::author::PublicKey;
use gloaming_signal::hash;

/// Most roles, and most keys of one.
const ROLES: usize = 8;

/// Runtimes that statements on parity have a name for, as `gloaming model evaluate` calls them.
pub const RUNTIMES: [&str; 5] = ["native", "wasmtime", "chromium", "firefox", "safari"];

/// What has to be there before a stage is entered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Kinds of evidence.
    pub evidence: BTreeSet<Kind>,
    /// Roles that have to say yes.
    pub approved_by: BTreeSet<String>,
    /// Lower end of the area under the curve, at least.
    pub auc: Option<f64>,
    /// Upper end of the calibration error, at most.
    pub calibration_error: Option<f64>,
    /// Lower end of what choosing as the model does earns more than what chose, at least; 0 when nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gain: Option<f64>,
    /// Upper end of both gaps between groups, at most.
    pub group_gap: Option<f64>,
    /// Lower end of the relative change, at least.
    pub lift: Option<f64>,
}

/// The whole of `[gate]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// Evidence older than this many days counts no more.
    pub max_age_days: u64,
    /// A model file may have this many bytes, unless the owner says why it has more.
    pub model_bytes: u64,
    /// Public keys by role.
    pub roles: BTreeMap<String, Vec<String>>,
    /// Where a model must have been shown to compute what its trainer computed, before any stage. Rules of records from before
    /// there was a choice ask for `native` alone, and are kept as they were written.
    #[serde(default = "native", skip_serializing_if = "is_native")]
    pub runtimes: BTreeSet<String>,
    /// Before pages see scores within an experiment.
    pub experiment: Step,
    /// Before all pages see them.
    pub live: Step,
}

fn native() -> BTreeSet<String> {
    BTreeSet::from([RUNTIMES[0].to_owned()])
}

fn is_native(runtimes: &BTreeSet<String>) -> bool {
    *runtimes == native()
}

/// What is asked of a policy that says nothing: what its author's command states without a browser. Browsers are no part
/// of it, because each proves the same rows for itself before it scores.
#[must_use]
pub fn usual_runtimes() -> BTreeSet<String> {
    RUNTIMES[..2].iter().map(|name| (*name).to_owned()).collect()
}

/// What no policy can leave out.
#[must_use]
pub fn least(to: Stage) -> &'static [Kind] {
    match to {
        Stage::Shadow => &[Kind::Parity],
        Stage::Experiment => &[Kind::HeldOut, Kind::Parity],
        Stage::Live => &[Kind::HeldOut, Kind::Calibration, Kind::Parity, Kind::Experiment],
        _ => &[],
    }
}

impl Step {
    /// The evidence that a model is asked for. One that names kinds has no outcome that says whether it was right, and
    /// no chance to be calibrated: it shows what choosing as it does would have earned.
    #[must_use]
    pub fn asked(&self, kinds: u32) -> BTreeSet<Kind> {
        let asked = self.evidence.iter().filter_map(|kind| match kind {
            Kind::HeldOut if kinds > 0 => Some(Kind::Value),
            Kind::Calibration if kinds > 0 => None,
            Kind::Value if kinds == 0 => None,
            kind => Some(*kind),
        });
        asked.collect()
    }
}

impl Rules {
    /// What is wrong with them, each as cause and remedy: too little asked, one person in two roles, a figure
    /// without a threshold.
    #[must_use]
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let mut say = |cause: String, remedy: &str| problems.push((cause, remedy.to_owned()));
        if !(1..=400).contains(&self.max_age_days) {
            say(
                format!("max_age_days = {}", self.max_age_days),
                "let evidence count for 1 to 400 days; 180 is a start",
            );
        }
        if self.roles.is_empty() || self.roles.len() > ROLES {
            say(format!("{} roles", self.roles.len()), "name 1 to 8, as in roles = { data = [\"KEY\"] }");
        }
        if !self.runtimes.contains(RUNTIMES[0]) {
            say(
                "gate.runtimes does not ask for `native`".into(),
                "add it: what the command computes is what it states",
            );
        }
        for name in self.runtimes.iter().filter(|name| !RUNTIMES.contains(&name.as_str())) {
            say(
                format!("gate.runtimes asks for `{name}`, which no statement names"),
                &format!("use {}", RUNTIMES.join(", ")),
            );
        }
        let mut seen: BTreeMap<String, &str> = BTreeMap::new();
        for (role, keys) in &self.roles {
            if keys.is_empty() || keys.len() > ROLES {
                say(format!("the role `{role}` has {} keys", keys.len()), "give it 1 to 8");
            }
            for key in keys {
                match PublicKey::from_text(key) {
                    Err(error) => say(format!("a key of `{role}`: {error}"), "`gloaming policy key` makes keys"),
                    Ok(key) => {
                        if let Some(other) = seen.insert(hash::hex(&key.id()), role) {
                            say(
                                format!("`{other}` and `{role}` have a key in common"),
                                "give each role keys of its own: one person must not answer for two",
                            );
                        }
                    }
                }
            }
        }
        for (name, step, to, approvals) in
            [("experiment", &self.experiment, Stage::Experiment, 1), ("live", &self.live, Stage::Live, 2)]
        {
            for kind in least(to).iter().filter(|kind| !step.evidence.contains(kind)) {
                say(
                    format!("gate.{name} does not ask for `{}`", kind.name()),
                    "add it to evidence: no model gets that far without it",
                );
            }
            if step.approved_by.len() < approvals {
                say(
                    format!("gate.{name} asks {} roles for approval", step.approved_by.len()),
                    "name one role for experiment and two for live, at least",
                );
            }
            for role in step.approved_by.iter().filter(|role| !self.roles.contains_key(*role)) {
                say(format!("gate.{name} asks `{role}`, which is no role"), "declare it under roles");
            }
            for (kind, threshold, key, example) in [
                (Kind::HeldOut, step.auc, "auc", "auc = 0.6"),
                (Kind::Calibration, step.calibration_error, "calibration_error", "calibration_error = 0.05"),
                (Kind::Value, step.gain, "gain", "gain = 0.0"),
                (Kind::Fairness, step.group_gap, "group_gap", "group_gap = 0.1"),
                (Kind::Experiment, step.lift, "lift", "lift = 0.0"),
            ] {
                match threshold {
                    None if kind != Kind::Value && step.evidence.contains(&kind) => say(
                        format!("gate.{name} asks for `{}` and gives no `{key}`", kind.name()),
                        &format!("add {example}: evidence without a threshold proves nothing"),
                    ),
                    Some(_) if kind != Kind::Value && !step.evidence.contains(&kind) => say(
                        format!("gate.{name} gives `{key}` and does not ask for `{}`", kind.name()),
                        "add it to evidence, or take the threshold out",
                    ),
                    Some(value) if !value.is_finite() => say(format!("gate.{name}.{key} = {value}"), "write a number"),
                    Some(value)
                        if matches!(kind, Kind::Calibration | Kind::Fairness) && !(0.0..=0.5).contains(&value) =>
                    {
                        say(format!("gate.{name}.{key} = {value}"), "allow 0 to 0.5: beyond that everything passes");
                    }
                    Some(value) if matches!(kind, Kind::Experiment | Kind::Value) && value < 0.0 => {
                        say(format!("gate.{name}.{key} = {value}"), "ask for 0 or more: less is harm");
                    }
                    Some(value) if kind == Kind::HeldOut && value <= 0.5 => {
                        say(format!("gate.{name}.auc = {value}"), "ask for more than 0.5: that is what a coin gets")
                    }
                    _ => {}
                }
            }
        }
        problems
    }

    /// What is asked before this stage; `None` for stages that are free to enter.
    #[must_use]
    pub fn step(&self, to: Stage) -> Option<Step> {
        match to {
            Stage::Shadow => Some(Step { evidence: least(to).iter().copied().collect(), ..Step::default() }),
            Stage::Experiment => Some(self.experiment.clone()),
            Stage::Live => Some(self.live.clone()),
            Stage::Draft | Stage::Quarantined | Stage::Retired => None,
        }
    }

    /// Roles of the key with this id.
    #[must_use]
    pub fn role_of(&self, key_id: &str) -> Option<&str> {
        let holds = |keys: &Vec<String>| {
            keys.iter().any(|key| PublicKey::from_text(key).is_ok_and(|key| hash::hex(&key.id()) == key_id))
        };
        self.roles.iter().find(|(_, keys)| holds(keys)).map(|(role, _)| role.as_str())
    }

    /// All keys.
    pub fn keys(&self) -> impl Iterator<Item = PublicKey> {
        self.roles.values().flatten().filter_map(|key| PublicKey::from_text(key).ok())
    }
}
