//! How much of something each arm's visits have, in figures: what a verdict alone does not say.

use gloaming_policy::Experiment;
use gloaming_stats::experiment::{self as stats, Arm, TAU};
use gloaming_stats::{Cells, share};

use super::counted::{Counted, YES_OR_NO};
use super::{ALPHA, guarded};
use crate::watch::{Figure, Windows};

/// One arm's share of visits of which something was so; arms are in the experiment's order.
pub(crate) struct ArmRate {
    /// The share, with a 95 % interval at one look.
    pub(crate) share: Result<Figure, String>,
    /// That less the control's, with an interval that holds at every look and for all arms together; none of the control.
    pub(crate) difference: Option<Result<Figure, String>>,
}

/// Of a guardrail that is so or not: every arm, the control first.
///
/// # Errors
/// A sentence, where nothing was released of it or not what is declared.
pub(crate) fn rates(experiment: &Experiment, windows: &Windows<'_>) -> Result<Vec<ArmRate>, String> {
    let made = (stats::Metric::Proportion, YES_OR_NO.to_vec());
    let counted = Counted::of(windows, experiment.arms.len(), made)?;
    let arms = counted.arms().map_err(|error| error.to_string())?;
    let each = ALPHA / arms.len().saturating_sub(1).max(1) as f64;
    let rate = |((at, arm), cells): ((usize, &Arm), &Cells)| ArmRate {
        share: share(cells, &[1], &[0]).map(Figure::from),
        difference: arms.first().filter(|_| at > 0).map(|control| {
            let found = guarded(control, arm).and_then(|effect| effect.always_valid(each, TAU));
            found.map(|found| Figure::from(found.effect)).map_err(|error| error.to_string())
        }),
    };
    Ok(arms.iter().enumerate().zip(&counted.rows).map(rate).collect())
}

/// Of a goal that is an amount on bins: by how much more often, as a share of the control's, visits of an arm are not in the
/// first of them; by arm, without the control. Intervals hold at every look and for all arms together.
///
/// # Errors
/// As [`rates`].
pub(crate) fn any_of_it(experiment: &Experiment, windows: &Windows<'_>) -> Result<Vec<Result<Figure, String>>, String> {
    let bins = experiment.worth.len().max(1);
    let points: Vec<(f64, f64)> =
        (0..experiment.points().len()).map(|cell| (f64::from(u8::from(cell % bins > 0)), 0.0)).collect();
    let counted = Counted::of(windows, experiment.arms.len(), (stats::Metric::Proportion, points))?;
    let arms = counted.arms().map_err(|error| error.to_string())?;
    let [control, others @ ..] = arms.as_slice() else { return Ok(Vec::new()) };
    let each = ALPHA / others.len().max(1) as f64;
    let lift = |arm: &Arm| {
        let found = stats::lift(control, arm, each, TAU);
        found.map(|found| Figure::from(found.effect)).map_err(|error| error.to_string())
    };
    Ok(others.iter().map(lift).collect())
}
