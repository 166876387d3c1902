//! Released windows of one metric, edge by edge, and what they are compared with.

use std::collections::{BTreeMap, BTreeSet};

use gloaming_policy::{Axis, Metric, Policy, Source};
use gloaming_signal::ReleaseState;
use gloaming_stats::Cells;
use gloaming_stats::performance::SIGNAL;

use crate::store::ReleaseRow;

use super::{DAY_MS, REACH};

/// The newest window, and those that it is compared with, each with its start, ms.
pub(super) struct Beside {
    pub(super) start_ms: u64,
    pub(super) newest: Cells,
    pub(super) usual: Vec<(u64, Cells)>,
}

/// Released windows by metric, of releases by metric; one of which there is none is left out.
pub(crate) fn by_metric<'p>(
    policy: &'p Policy,
    rows: &'p BTreeMap<u32, Vec<ReleaseRow>>,
    versions: &BTreeMap<u32, Policy>,
) -> BTreeMap<u32, Windows<'p>> {
    rows.iter()
        .filter_map(|(id, rows)| Some((*id, Windows::of(policy.metric(*id)?, rows, versions, policy))))
        .filter(|(_, windows)| windows.len() > 0)
        .collect()
}

/// Releases of one metric by window, edge by edge.
pub(crate) struct Windows<'p> {
    metric: &'p Metric,
    /// By start, ms.
    cells: BTreeMap<u64, BTreeMap<&'p str, Cells>>,
}

impl<'p> Windows<'p> {
    /// What an earlier version of the policy counted otherwise, or of another model under that name, is left out.
    pub(crate) fn of(
        metric: &'p Metric,
        rows: &'p [ReleaseRow],
        versions: &BTreeMap<u32, Policy>,
        newest: &Policy,
    ) -> Self {
        Self::chosen(metric, rows, versions, |version| alike((newest, metric), version))
    }

    /// Of how a model fared: what was counted by the same words of other versions of it.
    pub(super) fn of_others(
        metric: &'p Metric,
        rows: &'p [ReleaseRow],
        versions: &BTreeMap<u32, Policy>,
        newest: &Policy,
    ) -> Option<Self> {
        let model = |policy: &Policy, metric: &Metric| match metric.axes.as_slice() {
            [Axis { source: Source::Fared(place), labels, .. }] => {
                Some((policy.models.get(*place as usize)?.id.clone(), labels.clone()))
            }
            _ => None,
        };
        let own = model(newest, metric)?;
        Some(Self::chosen(metric, rows, versions, |(policy, version)| {
            !alike((newest, metric), (policy, version)) && model(policy, version).as_ref() == Some(&own)
        }))
    }

    fn chosen<'v>(
        metric: &'p Metric,
        rows: &'p [ReleaseRow],
        versions: &'v BTreeMap<u32, Policy>,
        counts: impl Fn((&Policy, &Metric)) -> bool,
    ) -> Self {
        let mut cells: BTreeMap<u64, BTreeMap<&'p str, Cells>> = BTreeMap::new();
        for row in rows.iter().filter(|row| row.state == ReleaseState::Released) {
            let of = |policy: &'v Policy| policy.metric(metric.id).filter(|version| counts((policy, *version)));
            let Some(version) = versions.get(&row.policy_version).and_then(of) else { continue };
            // Laplace noise counts as normal noise that lies as far out in one of twenty cells, which is a little more: an interval
            // of little else would hold too seldom by its own deviation.
            let half = version.scales().first().map_or(0.0, |scale| scale.half_width_95(version.mechanism));
            let deviation = half / REACH;
            let values = row.values.iter().map(|value| *value as f64).collect();
            let Ok(released) = Cells::new(values, deviation.powi(2)) else { continue };
            let edges = cells.entry(row.window.saturating_mul(metric.span_ms)).or_default();
            // Of a window that one edge released under two versions of the policy both count.
            let sum = edges.get(&*row.edge).and_then(|before| before.plus(&released).ok()).unwrap_or(released);
            edges.insert(&row.edge, sum);
        }
        Self { metric, cells }
    }

    /// What is counted.
    pub(crate) fn metric(&self) -> &'p Metric {
        self.metric
    }

    /// Sums of this and of another metric, over the windows and edges that released both.
    pub(crate) fn beside_of(&self, other: &Self) -> Option<(Cells, Cells)> {
        let both = |(start, edges): (&u64, &'_ BTreeMap<&'p str, Cells>)| {
            let others = other.cells.get(start)?;
            Some(
                edges
                    .iter()
                    .filter_map(|(edge, cells)| Some((cells.clone(), others.get(edge)?.clone())))
                    .collect::<Vec<_>>(),
            )
        };
        let (own, theirs): (Vec<Cells>, Vec<Cells>) = self.cells.iter().filter_map(both).flatten().unzip();
        Some((sum(own.iter())?, sum(theirs.iter())?))
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.cells.len()
    }

    /// Start of the newest, ms; 0 when there is none.
    pub(crate) fn newest_ms(&self) -> u64 {
        self.cells.last_key_value().map_or(0, |(start_ms, _)| *start_ms)
    }

    /// All of them together.
    pub(crate) fn all(&self) -> Option<Cells> {
        sum(self.cells.values().flat_map(BTreeMap::values))
    }

    /// All edges of each window that holds more than noise, by start, ms, the oldest first.
    pub(super) fn each(&self) -> Vec<(u64, Cells)> {
        let of = |(start_ms, edges): (&u64, &BTreeMap<&str, Cells>)| Some((*start_ms, sum(edges.values())?));
        self.cells.iter().filter_map(of).filter(|(_, cells)| stands_clear(cells)).collect()
    }

    /// The newest window, and those that it is compared with: earlier ones, of the edges that both have, and of the same day
    /// of the week where days are compared and two such are there.
    pub(super) fn beside(&self) -> Option<Beside> {
        let (start_ms, newest) = self.cells.last_key_value()?;
        let same = |start: &u64| self.metric.span_ms != DAY_MS || (start_ms - start).is_multiple_of(7 * DAY_MS);
        let earlier = || self.cells.range(..start_ms);
        let weekly = earlier().filter(|(start, _)| same(start)).count() >= 2;
        let before: Vec<_> = earlier().filter(|(start, _)| !weekly || same(start)).collect();
        let before_too = |edge: &&str| before.iter().any(|(_, edges)| edges.contains_key(edge));
        let both: BTreeSet<&str> = newest.keys().copied().filter(before_too).collect();
        let pick = |edges: &BTreeMap<&str, Cells>| {
            sum(edges.iter().filter(|(edge, _)| both.contains(*edge)).map(|(_, cells)| cells))
        };
        // A window that noise alone may have carried past the crowd tells of nobody.
        let usual = before.iter().filter_map(|(start, edges)| Some((**start, pick(edges)?)));
        let usual = usual.filter(|(_, cells)| stands_clear(cells)).collect();
        Some(Beside { start_ms: *start_ms, newest: pick(newest).or_else(|| sum(newest.values()))?, usual })
    }

    /// Of a joint metric the first axis alone: what falls into a row, whatever the column. The noise of a row adds up.
    pub(super) fn rows(&self) -> Self {
        let width = self.metric.axes.last().map_or(1, |axis| axis.labels.len());
        let of = |cells: &Cells| {
            let values = cells.values().chunks(width).map(|row| row.iter().sum()).collect();
            Cells::new(values, cells.variance() * width as f64).ok()
        };
        let edges = |edges: &BTreeMap<&'p str, Cells>| {
            edges.iter().filter_map(|(edge, cells)| Some((*edge, of(cells)?))).collect::<BTreeMap<_, _>>()
        };
        Self { metric: self.metric, cells: self.cells.iter().map(|(start, by)| (*start, edges(by))).collect() }
    }
}

/// Whether two versions of a metric count the same: the same bins, of the same thing, scored by the same model, in the same
/// arms of the same devices.
pub(crate) fn alike((policy, metric): (&Policy, &Metric), (other, version): (&Policy, &Metric)) -> bool {
    let model =
        |policy: &Policy, place: u32| policy.models.get(place as usize).map(|m| (m.id.clone(), m.manifest_sha256));
    let source = |one: &Axis, two: &Axis| match (one.source, two.source) {
        (Source::Score(a), Source::Score(b)) | (Source::Fared(a), Source::Fared(b)) => {
            model(policy, a) == model(other, b)
        }
        (Source::Arm(a), Source::Arm(b)) => {
            let design = |of: &Policy, place: u32| {
                // Another version of the model that is tried makes another experiment of it, whatever it is called.
                let of_experiment = |e: &gloaming_policy::Experiment| {
                    let tried = e.model.map(|place| model(of, place));
                    (e.id.clone(), (e.arms.clone(), e.shares.clone()), e.layer.clone(), (e.from, e.to), tried)
                };
                of.experiments.get(place as usize).map(of_experiment)
            };
            design(policy, a) == design(other, b)
        }
        (a, b) => a == b,
    };
    metric.axes.len() == version.axes.len()
        && metric.axes.iter().zip(&version.axes).all(|(a, b)| source(a, b) && a.bins == b.bins && a.labels == b.labels)
}

/// Whether a window holds more visits than noise alone makes look like some.
pub(super) fn stands_clear(cells: &Cells) -> bool {
    cells.total() >= SIGNAL * (cells.variance() * cells.values().len() as f64).sqrt()
}

/// Of all of them; `None` where there are none.
pub(super) fn sum<'c>(mut cells: impl Iterator<Item = &'c Cells>) -> Option<Cells> {
    let first = cells.next()?.clone();
    cells.try_fold(first, |sum, next| sum.plus(next).ok())
}
