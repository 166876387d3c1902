//! The rules that compiled bytes must keep whoever wrote or signed them.

use gloaming_signal::limits;

use crate::document::{Axis, Bins, PageFeature, PageFeatureKind, Policy, Source};
use crate::experiment::{Experiment, WHOLE};
use crate::learner::Learner;
use crate::metric::Metric;
use crate::model::{Model, PAGE_INPUT};

/// The longest window there is, ms.
const WEEK_MS: u64 = 7 * 24 * 60 * 60 * 1000;

impl Policy {
    /// What every reader may rely on, however the bytes came to be: ids grow, indices point at
    /// something, cells and prices are within limits, and the budget holds.
    #[must_use]
    pub fn sound(&self) -> bool {
        let purposes = self.purposes.len();
        let points = |index: u32, len: usize| (index as usize) < len;
        let sources = |source: &Source| match *source {
            Source::Feature(i) => points(i, gloaming_behavior::definitions::DEFINITIONS.len()),
            Source::Score(i) | Source::Fared(i) => points(i, self.models.len()),
            Source::Page(i) => points(i, self.page_features.len()),
            Source::Funnel(i) => points(i, self.behavior.funnels.len()),
            Source::Arm(i) => points(i, self.experiments.len()),
            Source::Vote(i) => points(i, self.learners.len()),
        };
        let axis = |axis: &Axis| sources(&axis.source) && axis.bins.count() == axis.labels.len();
        let voted = |axis: &Axis| match axis.source {
            Source::Vote(i) => self.learners.get(i as usize).is_some_and(|l| l.cells() == axis.labels.len()),
            _ => true,
        };
        let learner = |learner: &Learner| {
            learner.sound()
                && points(learner.model, self.models.len())
                && learner.terms.iter().map(|term| &term.source).chain([&learner.outcome.source]).all(sources)
                && axis(&learner.outcome)
        };
        let metric = |metric: &Metric| {
            let alone = metric.axes.len() == 1;
            points(metric.purpose, purposes)
                && (1..=WEEK_MS).contains(&metric.span_ms)
                && (1..=255).contains(&metric.per_day)
                && metric.rho.micro() >= 2
                && (1..=3).contains(&metric.axes.len())
                && metric.axes.iter().all(axis)
                && metric.axes.iter().all(voted)
                && metric.axes.iter().all(|a| alone || !matches!(a.bins, Bins::Sum { .. }))
                && (1..=limits::CELLS).contains(&metric.cells())
        };
        let input = |input: &u32| match input.checked_sub(PAGE_INPUT) {
            Some(page) => points(page, self.page_features.len()),
            None => points(*input, gloaming_behavior::definitions::DEFINITIONS.len()),
        };
        self.site.len() <= limits::SITE_BYTES
            && self.experiments.len() <= limits::EXPERIMENTS
            && self.learners.len() <= limits::MODELS
            && self.learners.iter().all(learner)
            && self.fit()
            && self.models.len() <= limits::MODELS
            && self.models.iter().all(|m| m.inputs.iter().all(input))
            && self.metrics.len() <= limits::METRICS
            && self.metrics.is_sorted_by(|a, b| a.id < b.id)
            && self.metrics.iter().all(metric)
            && self.models.iter().all(|m| points(m.purpose, purposes) && m.score_edges.is_sorted_by(|a, b| a < b))
            && self.models.iter().all(|m| m.score_means.is_empty() || m.score_means.len() == m.score_edges.len() + 1)
            && self.models.iter().all(|m| m.kinds.is_empty() || m.kinds.len() == m.score_edges.len() + 1)
            && self.page_features.len() <= gloaming_behavior::MAX_PAGE_FEATURES
            && self.page_features.iter().all(|f| points(f.purpose, purposes))
            && self.groups.len() == self.behavior.groups.len()
            && self.groups.len() <= gloaming_behavior::MAX_GROUPS
            && self.behavior.funnels.len() <= gloaming_behavior::MAX_FUNNELS
            && self.behavior.funnels.iter().all(|f| f.len() <= gloaming_behavior::MAX_STEPS)
            && self.apart()
            && self.declared() <= self.budget
    }

    /// What is of a special category (GDPR, Article 9) serves a purpose that nothing else serves, and goes nowhere but into
    /// comparisons of groups.
    fn apart(&self) -> bool {
        let special = |(place, feature): (usize, &PageFeature)| {
            let place = place as u32;
            let serves = |purpose: u32| purpose == feature.purpose;
            let takes = |source: Source| source == Source::Page(place);
            let metric = |metric: &Metric| {
                let compares = metric.axes.iter().any(|axis| takes(axis.source));
                compares == serves(metric.purpose) && (!compares || metric.axes.len() == 3)
            };
            matches!(feature.kind, PageFeatureKind::Category(_))
                && self.page_features.iter().filter(|given| serves(given.purpose)).count() == 1
                && self.models.iter().all(|m| !serves(m.purpose) && !m.inputs.contains(&(PAGE_INPUT + place)))
                && self.experiments.iter().all(|experiment| !serves(experiment.purpose))
                && self.learners.iter().all(|learner| learner.terms.iter().all(|term| !takes(term.source)))
                && self.metrics.iter().all(metric)
        };
        self.page_features.iter().enumerate().filter(|(_, feature)| feature.special).all(special)
    }

    /// Of models: who stands in for another has come as far. Of windows: one batch holds them. Of experiments: arms that somebody
    /// can be in, counts that are by arm, and nobody in two of a layer.
    fn fit(&self) -> bool {
        let stands_in = |(index, model): (usize, &Model)| {
            model.fallback.is_none_or(|place| {
                let other = self.models.get(place as usize).filter(|_| place as usize != index);
                other.is_some_and(|o| {
                    o.purpose == model.purpose && o.state.may_stand_in_for(model.state) && o.fallback.is_none()
                })
            })
        };
        let window = |metric: &Metric| {
            let here = self.metrics.iter().filter(|m| m.span_ms == metric.span_ms);
            here.fold(0u32, |sum, m| sum.saturating_add(m.cells())) <= limits::WINDOW_CELLS
        };
        let counts = |id: u32, place: usize| {
            self.metric(id).is_some_and(|m| {
                let arm = m.axes.first().filter(|axis| axis.source == Source::Arm(place as u32));
                // Alone, or by what visitors say of themselves.
                let by = match m.axes.as_slice() {
                    [_, _] => true,
                    [_, groups, _] => matches!(groups.source, Source::Page(_)),
                    _ => false,
                };
                arm.is_some() && by && m.axes.last().is_some_and(|axis| axis.labels.len() == 2)
            })
        };
        // Every cell of the goal is of an arm, and stands for something.
        let goal = |e: &Experiment, place: usize| {
            self.metric(e.goal).is_some_and(|m| {
                let bins = |of: Option<&Axis>, wanted: usize| of.is_some_and(|axis| axis.labels.len() == wanted);
                let worth = if e.worth.is_empty() { 2 } else { e.worth.len() };
                m.axes.first().is_some_and(|axis| axis.source == Source::Arm(place as u32))
                    && m.axes.len() == 2 + usize::from(e.beside.is_some())
                    && bins(m.axes.first(), e.arms.len())
                    && e.beside.as_ref().is_none_or(|beside| bins(m.axes.get(1), beside.worth.len()))
                    && bins(m.axes.last(), worth)
            })
        };
        let shares = |e: &Experiment| {
            e.shares.is_empty()
                || (e.shares.len() == e.arms.len()
                    && e.shares.iter().all(|share| (1..WHOLE).contains(share))
                    && e.shares.iter().sum::<u32>() == WHOLE)
        };
        let experiment = |(place, e): (usize, &Experiment)| {
            (e.purpose as usize) < self.purposes.len()
                && e.arms.len() >= 2
                && e.from < e.to
                && e.to <= WHOLE
                && e.model.is_none_or(|model| (model as usize) < self.models.len())
                && goal(e, place)
                && shares(e)
                && (!e.stops || !e.guardrails.is_empty())
                && e.guardrails.iter().all(|rail| counts(rail.metric, place))
                && !self.experiments[place + 1..].iter().any(|other| other.clashes(e))
        };
        self.models.iter().enumerate().all(stands_in)
            && self.metrics.iter().all(window)
            && self.experiments.iter().enumerate().all(experiment)
    }
}
