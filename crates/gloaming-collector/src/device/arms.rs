//! Which arms of experiments a device is in, and what was known of it when it first met them.

use gloaming_behavior::NONE;
use gloaming_policy::{Axis, Beside, Experiment};
use gloaming_signal::{cbor, hash};

use super::Device;
use crate::state::Known;

impl Device {
    /// The experiment that decides who hears a model, or the model that it stands in for.
    pub(super) fn tried(&self, model: usize) -> Option<usize> {
        let decides = |tried: u32| {
            let fallback = self.policy.models.get(tried as usize).and_then(|model| model.fallback);
            tried as usize == model || fallback == Some(model as u32)
        };
        self.policy.experiments.iter().position(|e| e.model.is_some_and(decides))
    }

    /// Whether pages may hear a model here.
    pub(super) fn heard(&self, model: usize) -> bool {
        let acts = self.policy.models.get(model).is_some_and(|model| model.state.acts());
        let arm = |experiment: usize| self.arm(self.policy.experiments.get(experiment)?);
        acts && self.tried(model).is_none_or(|experiment| arm(experiment).is_some_and(|arm| arm > 0))
    }

    /// Whether an experiment has ended by itself. Those who signed the policy said whether it may, and nobody else can.
    fn stopped(&self, experiment: &Experiment) -> bool {
        experiment.stops && self.setup.stopped.contains(&experiment.id)
    }

    /// This device's arm of an experiment, where it takes part and agreed to its purpose; the control's once it has ended by itself.
    pub(super) fn arm(&self, experiment: &Experiment) -> Option<u32> {
        let arm = experiment.arm(self.lot.as_ref()?).filter(|_| self.agrees_to(experiment.purpose))?;
        Some(if self.stopped(experiment) { 0 } else { arm })
    }

    /// The running session meets an experiment; the arm that it meets. Nobody meets one that has ended, in the control neither: arms
    /// are compared over the same time.
    pub(super) fn exposed(&mut self, experiment: Option<usize>) -> Option<u32> {
        let index = experiment?;
        let arm = self.policy.experiments.get(index).filter(|e| !self.stopped(e)).and_then(|e| self.arm(e))?;
        self.remember_before(index);
        *self.running()?.arms.get_mut(index)? = arm;
        Some(arm)
    }

    /// Keeps what is known of this device as it meets an experiment for the first time, where its goal is adjusted by that: what comes
    /// later may be the arm's doing.
    fn remember_before(&mut self, index: usize) {
        let Some(experiment) = self.policy.experiments.get(index) else { return };
        let Some((axis, of)) = self.adjusted_by(experiment) else { return };
        if self.known.iter().any(|known| known.experiment == experiment.id && known.of == of) {
            return;
        }
        let Some(bin) = axis.bin(&self.tracker.features(false), Beside::default()) else { return };
        let experiment = experiment.id.clone();
        self.known.retain(|known| known.experiment != experiment);
        self.known.push(Known { experiment, bin, of });
    }

    /// What an experiment's goal is adjusted by, and a number for that very axis: other edges make other bins.
    fn adjusted_by(&self, experiment: &Experiment) -> Option<(&Axis, u64)> {
        experiment.beside.as_ref().filter(|beside| beside.before)?;
        let [_, axis, _] = self.policy.metric(experiment.goal)?.axes.as_slice() else { return None };
        Some((axis, hash::fnv1a(&cbor::to_vec(axis))))
    }

    /// What was known before, by experiment, where that is asked for.
    pub(super) fn before(&self) -> Vec<u32> {
        let known = |experiment: &Experiment| {
            let known = self.known.iter().find(|known| known.experiment == experiment.id)?;
            let (_, of) = self.adjusted_by(experiment)?;
            (known.of == of).then_some(known.bin)
        };
        self.policy.experiments.iter().map(|experiment| known(experiment).unwrap_or(NONE)).collect()
    }
}
