//! The rows of an experiment's arms, as released windows add up to them, and figures of each.

use gloaming_policy::Experiment;
use gloaming_stats::experiment::{self as stats, Arm, ExperimentError, Noised, Scale, TAU};
use gloaming_stats::{Cells, ratio};

use super::ALPHA;
use crate::watch::{Figure, Windows};

/// The rows of arms, from the sum of all windows.
pub(super) struct Counted {
    pub(super) windows: usize,
    /// Start of the newest window, ms.
    pub(super) newest_ms: u64,
    pub(super) rows: Vec<Cells>,
    /// What the cells of a row stand for, and what is made of them.
    pub(super) points: Vec<(f64, f64)>,
    pub(super) metric: stats::Metric,
}

/// What a guardrail's two cells stand for.
pub(super) const YES_OR_NO: [(f64, f64); 2] = [(0.0, 0.0), (1.0, 0.0)];

impl Counted {
    pub(super) fn of(
        windows: &Windows<'_>,
        wanted: usize,
        (metric, points): (stats::Metric, Vec<(f64, f64)>),
    ) -> Result<Self, String> {
        let all = windows.all().ok_or("no window was released yet")?;
        let row = |cells: &[f64]| Cells::new(cells.to_vec(), all.variance()).map_err(|error| error.to_string());
        let rows = all.values().chunks(points.len().max(1)).map(row).collect::<Result<Vec<_>, _>>()?;
        if rows.len() != wanted {
            return Err(format!("{} arms, or groups of them, were released, {wanted} are declared", rows.len()));
        }
        Ok(Self { windows: windows.len(), newest_ms: windows.newest_ms(), rows, points, metric })
    }

    pub(super) fn people(&self) -> Vec<Noised> {
        let of =
            |cells: &Cells| Noised { value: cells.total(), variance: cells.values().len() as f64 * cells.variance() };
        self.rows.iter().map(of).collect()
    }

    pub(super) fn arms(&self) -> Result<Vec<Arm>, ExperimentError> {
        self.rows.iter().map(|cells| Arm::from_cells(self.metric, &self.points, cells)).collect()
    }

    /// The same without what was known before.
    pub(super) fn plain(&self) -> Self {
        let points: Vec<(f64, f64)> = self.points.iter().map(|(y, _)| (*y, 0.0)).collect();
        let shares = points.iter().all(|(y, _)| *y == 0.0 || *y == 1.0);
        let metric = if shares { stats::Metric::Proportion } else { stats::Metric::Mean };
        Self { points, metric, rows: self.rows.clone(), ..*self }
    }

    /// Whether arms differ in what was known before, at any look, and adjusting by it would take away what an arm did. Devices keep it
    /// as it was when they first met the experiment, and an arm that makes people come back still has more visits of those who did.
    pub(super) fn parted(&self) -> bool {
        let before = |cells| {
            let points: Vec<(f64, f64)> = self.points.iter().map(|(_, x)| (*x, 0.0)).collect();
            Arm::from_cells(stats::Metric::Mean, &points, cells)
        };
        let Ok(arms) = self.rows.iter().map(before).collect::<Result<Vec<_>, _>>() else { return true };
        let [control, others @ ..] = arms.as_slice() else { return true };
        let differs = |arm: &Arm| {
            let found = stats::effect(control, arm, Scale::Absolute).and_then(|effect| effect.always_valid(ALPHA, TAU));
            found.map_or(true, |found| found.p < ALPHA)
        };
        self.metric == stats::Metric::Adjusted && others.iter().any(differs)
    }

    /// One arm's share, mean or ratio, as it was.
    pub(super) fn share(&self, cells: &Cells) -> Option<Figure> {
        let found = figure(&self.points, cells, self.metric == stats::Metric::Ratio)?;
        let is_share = self.points.iter().all(|(y, _)| *y == 0.0 || *y == 1.0) && self.metric != stats::Metric::Ratio;
        let end = |value: f64| if is_share { value.clamp(0.0, 1.0) } else { value };
        Some(Figure { value: end(found.value), low: end(found.low), high: end(found.high) })
    }
}

/// A mean of what cells stand for, or the ratio of the sums of both numbers, and its 95 % interval at one look. `None` where noise
/// could have made what is divided by.
pub(super) fn figure(points: &[(f64, f64)], cells: &Cells, is_ratio: bool) -> Option<Figure> {
    let points: Vec<(f64, f64)> = points.iter().map(|(y, x)| (*y, if is_ratio { *x } else { 1.0 })).collect();
    let whole: f64 = points.iter().zip(cells.values()).map(|((_, x), count)| count * x).sum();
    let squares: f64 = points.iter().map(|(_, x)| x * x).sum();
    if whole <= 4.0 * (cells.variance() * squares).sqrt() {
        return None;
    }
    ratio(&points, cells).map(Figure::from)
}

/// What is made of a goal's cells.
pub(super) fn of_goal(experiment: &Experiment) -> (stats::Metric, Vec<(f64, f64)>) {
    let metric = match &experiment.beside {
        Some(beside) if beside.before => stats::Metric::Adjusted,
        Some(_) => stats::Metric::Ratio,
        None if experiment.worth.is_empty() => stats::Metric::Proportion,
        None => stats::Metric::Mean,
    };
    (metric, experiment.points())
}
