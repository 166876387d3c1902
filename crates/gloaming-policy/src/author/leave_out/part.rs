//! What can be left out of a policy by itself, and what of it is.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use gloaming_behavior::definitions::DEFINITIONS;
use gloaming_privacy::Rho;

use super::super::monitor::LEAST_MICRO;
use super::super::retrain;
use crate::document::{Axis, Policy, Source};
use crate::experiment::{Experiment, Guarded};
use crate::metric::Metric;
use crate::model::PAGE_INPUT;

/// From what is missed least to what is missed most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rung {
    /// Groups compared by a model that acts on nobody, where no guardrail of an experiment compares them.
    IdleGroups,
    /// Inputs of a model that acts on nobody.
    IdleInputs,
    /// Which inputs go together: a next version can be learnt without.
    Pairs,
    /// What a next version is learnt from.
    Learning,
    /// How a model that acts on nobody fares.
    IdleWatch,
    /// Inputs of a model that acts.
    Inputs,
    /// All other groups.
    Groups,
    /// What the owner wrote, the dearest first, so that little of it goes.
    Own,
    /// Experiments, goal and guardrails together: one without its guardrails would be worse than none.
    Experiments,
}

/// What can be left out by itself. Numbers are places in the policy's lists, `input` as in [`crate::Model::inputs`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// `[[fairness]]`: one attribute's groups.
    Groups { model: usize, attribute: u32 },
    /// `[[monitor]]`: one input.
    Input { model: usize, input: u32 },
    /// `[[monitor]]`: all that is not an input.
    Watch(usize),
    /// `[[retrain]]`: all pairs. They have a fixed part of its price, however many they are.
    Pairs(usize),
    /// `[[retrain]]`: one input with the outcome.
    Counts { model: usize, input: u32 },
    /// `[[retrain]]` by votes.
    Votes(usize),
    /// `[[experiment]]`.
    Arms(usize),
    /// `[[metric]]`, by its id.
    Own(u32),
}

/// A feature's name, and its number among a model's inputs.
fn input_of(source: Source, policy: &Policy) -> Option<(&str, u32)> {
    match source {
        Source::Feature(at) => Some((DEFINITIONS.get(at as usize)?.name, at)),
        Source::Page(at) => Some((policy.page_features.get(at as usize)?.id.as_str(), PAGE_INPUT.checked_add(at)?)),
        _ => None,
    }
}

impl Part {
    /// What a metric is part of. A name says whose it is: it is the model's, and what is counted.
    fn of(metric: &Metric, policy: &Policy) -> Self {
        let named = |end: String| {
            policy.models.iter().position(|model| metric.name.strip_prefix(model.id.as_str()) == Some(end.as_str()))
        };
        let name = |at: usize| metric.axes.get(at).and_then(|axis| input_of(axis.source, policy));
        let sources: Vec<Source> = metric.axes.iter().map(|axis| axis.source).collect();
        let found = || match *sources.as_slice() {
            [Source::Arm(at), ..] => Some(Self::Arms(at as usize)),
            [Source::Vote(at)] => Some(Self::Votes(policy.learners.get(at as usize)?.model as usize)),
            [Source::Fared(model)] | [Source::Score(model), ..] => Some(Self::Watch(model as usize)),
            [Source::Page(attribute), Source::Score(model), _] => {
                Some(Self::Groups { model: model as usize, attribute })
            }
            [_] => {
                let (name, input) = name(0)?;
                Some(Self::Input { model: named(format!("-in-{name}"))?, input })
            }
            [_, _] if metric.outcome().is_some() => {
                let (name, input) = name(0)?;
                Some(Self::Counts { model: named(format!("-by-{name}"))?, input })
            }
            [_, _] => Some(Self::Pairs(named(format!("-pair-{}-{}", name(0)?.0, name(1)?.0))?)),
            _ => None,
        };
        if metric.is_written_out() { found().unwrap_or(Self::Own(metric.id)) } else { Self::Own(metric.id) }
    }

    /// Least price of each of its metrics, millionths.
    fn least(self) -> u64 {
        match self {
            Self::Own(_) => 2,
            Self::Counts { .. } => retrain::LEAST_MICRO,
            Self::Pairs(_) => retrain::LEAST_PAIR_MICRO,
            _ => LEAST_MICRO,
        }
    }
}

/// A policy's metrics by what they are part of.
pub(super) struct Parts<'p> {
    pub(super) policy: &'p Policy,
    pub(super) metrics: BTreeMap<Part, Vec<&'p Metric>>,
    /// The owner's metrics that must stay.
    kept: Vec<Part>,
}

impl<'p> Parts<'p> {
    pub(super) fn of(policy: &'p Policy) -> Self {
        let mut metrics: BTreeMap<Part, Vec<&'p Metric>> = BTreeMap::new();
        for metric in &policy.metrics {
            metrics.entry(Part::of(metric, policy)).or_default().push(metric);
        }
        let mut parts = Self { policy, metrics, kept: Vec::new() };
        let acting = (0..policy.models.len()).filter(|model| parts.acts(*model));
        let mut kept: Vec<Part> = acting.filter_map(|model| parts.scores_of(model)).collect();
        if kept.is_empty() {
            // No policy is without a metric of its owner's.
            let own = parts.metrics.keys().copied().filter(|part| matches!(part, Part::Own(_)));
            kept.extend(own.min_by_key(|part| (parts.cost(*part), *part)));
        }
        parts.kept = kept;
        parts
    }

    fn acts(&self, model: usize) -> bool {
        self.policy.models.get(model).is_some_and(|model| model.state.acts())
    }

    /// The owner's metric that counts a monitored model's scores, where its monitor therefore does not.
    fn scores_of(&self, model: usize) -> Option<Part> {
        let place = u32::try_from(model).ok()?;
        let counts = |metric: &Metric| metric.axes.first().is_some_and(|axis| axis.source == Source::Score(place));
        if self.metrics.get(&Part::Watch(model))?.iter().any(|metric| counts(metric)) {
            return None;
        }
        let own = |metric: &&Metric| counts(metric) && Part::of(metric, self.policy) == Part::Own(metric.id);
        self.policy.metrics.iter().find(own).map(|metric| Part::Own(metric.id))
    }

    pub(super) fn cost(&self, part: Part) -> Rho {
        self.metrics.get(&part).map_or_else(Rho::default, |metrics| {
            metrics.iter().fold(Rho::default(), |sum, m| sum.plus(m.rho.times(u64::from(m.per_day))))
        })
    }

    /// What a device pays a day without these.
    pub(super) fn rest(&self, out: &[Part]) -> Rho {
        let here = self.metrics.keys().filter(|part| !out.contains(part));
        here.fold(Rho::default(), |sum, part| sum.plus(self.cost(*part)))
    }

    /// Whether an experiment has a guardrail that compares an attribute's groups.
    fn guarded(&self, attribute: u32) -> bool {
        self.policy.experiments.iter().any(|experiment| self.compares(experiment).contains(&attribute))
    }

    /// The attributes whose groups an experiment's guardrails compare.
    pub(super) fn compares(&self, experiment: &Experiment) -> Vec<u32> {
        let groups = |rail: &Guarded| match self.policy.metric(rail.metric)?.axes.as_slice() {
            [_, Axis { source: Source::Page(attribute), .. }, _] => Some(*attribute),
            _ => None,
        };
        experiment.guardrails.iter().filter_map(groups).collect()
    }

    /// When a part goes, the smallest first; `None` when it stays. Among those of a rung the last of the policy goes first.
    fn turn(&self, part: Part) -> Option<(Rung, Reverse<u64>, Reverse<u64>)> {
        let place = |model: usize, input: u32| {
            let inputs = self.policy.models.get(model).map_or(&[][..], |model| model.inputs.as_slice());
            inputs.iter().position(|own| *own == input).unwrap_or(inputs.len()) as u64
        };
        let (rung, first, second) = match part {
            Part::Groups { model, attribute } => {
                let idle = !self.acts(model) && !self.guarded(attribute);
                (if idle { Rung::IdleGroups } else { Rung::Groups }, model as u64, u64::from(attribute))
            }
            Part::Input { model, input } => {
                let rung = if self.acts(model) { Rung::Inputs } else { Rung::IdleInputs };
                (rung, model as u64, place(model, input))
            }
            Part::Watch(model) if self.acts(model) => return None,
            Part::Watch(model) => (Rung::IdleWatch, model as u64, 0),
            Part::Pairs(model) => (Rung::Pairs, model as u64, 0),
            Part::Counts { model, input } => (Rung::Learning, model as u64, place(model, input)),
            Part::Votes(model) => (Rung::Learning, model as u64, 0),
            // Without it everybody would hear the model.
            Part::Arms(place) if self.policy.experiments.get(place).is_none_or(|e| e.model.is_some()) => return None,
            Part::Arms(place) => (Rung::Experiments, place as u64, 0),
            Part::Own(_) if self.kept.contains(&part) => return None,
            Part::Own(id) => (Rung::Own, self.cost(part).micro(), u64::from(id)),
        };
        Some((rung, Reverse(first), Reverse(second)))
    }

    /// What a part cannot be counted without; all of it goes later than the part.
    pub(super) fn needs(&self, part: Part) -> Vec<Part> {
        match part {
            Part::Input { model, .. } => vec![Part::Watch(model)],
            Part::Watch(model) => self.scores_of(model).into_iter().collect(),
            // Pairs are priced by what the inputs cost together.
            Part::Pairs(model) => {
                let own = |part: &Part| matches!(part, Part::Counts { model: of, .. } if *of == model);
                self.metrics.keys().copied().filter(own).collect()
            }
            _ => Vec::new(),
        }
    }

    /// What goes, in its order; all that can when that is not enough.
    pub(super) fn chosen(&self) -> Vec<Part> {
        let budget = self.policy.budget;
        let mut turns: Vec<_> = self.metrics.keys().filter_map(|part| Some((self.turn(*part)?, *part))).collect();
        turns.sort_unstable();
        let mut out: Vec<Part> = Vec::new();
        for (_, part) in &turns {
            if self.rest(&out) <= budget {
                break;
            }
            out.push(*part);
        }
        if self.rest(&out) > budget {
            return out;
        }
        for at in (0..out.len()).rev() {
            let part = out.remove(at);
            if self.rest(&out) > budget || self.needs(part).iter().any(|need| out.contains(need)) {
                out.insert(at, part);
            }
        }
        out
    }

    /// By how much every price could be multiplied instead, thousandths; `None` where that buys too much noise.
    pub(super) fn share(&self) -> Option<u64> {
        // Prices are whole millionths: what a table loses when its own is shared is less than one for each of its metrics, and two.
        let spare = 3 * self.policy.metrics.len() as u64;
        let budget = u128::from(self.policy.budget.micro().saturating_sub(spare));
        let declared = u128::from(self.policy.declared().micro().max(1));
        let share = u64::try_from(1_000 * budget / declared).ok().filter(|share| (250..1_000).contains(share))?;
        let enough = |(part, metrics): (&Part, &Vec<&Metric>)| {
            metrics.iter().all(|metric| metric.rho.micro().saturating_mul(share) / 1_000 > part.least())
        };
        self.metrics.iter().all(enough).then_some(share)
    }
}
