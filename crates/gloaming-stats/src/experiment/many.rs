//! Several metrics, several arms.

use super::arm::Arm;
use super::effect::{Finding, Scale, effect};
use super::{ExperimentError, rate};
use crate::corrections;

/// Most p-values or arms at once.
pub const COMPARISONS: usize = 10_000;

/// One arm against the control.
#[derive(Clone, Debug, PartialEq)]
pub struct Compared {
    /// The interval holds for all arms together: its level is 1 − alpha / arms (Bonferroni, which needs nothing of how
    /// the arms depend on each other through the control they share). The p is the arm's own.
    pub finding: Finding,
    /// The p among those of all arms (see [`q_values`]).
    pub q: f64,
}

/// Benjamini and Hochberg (1995): the smallest rate of false discoveries at which each metric would be one. Equal to
/// statsmodels' `multipletests(method="fdr_bh")`.
///
/// It holds for metrics that are independent or rise together, at one look. With always-valid p-values and the look
/// chosen by what it shows, simulations of 10 and 50 metrics stayed below .027 at .05; that is measured and not proven.
///
/// # Errors
/// When there are no p-values, more than [`COMPARISONS`], or one is not from 0 to 1.
pub fn q_values(p: &[f64]) -> Result<Vec<f64>, ExperimentError> {
    if p.is_empty() || p.len() > COMPARISONS {
        return Err(ExperimentError::Length(p.len(), "p-values", format!("1 to {COMPARISONS}")));
    }
    if let Some(wrong) = p.iter().find(|p| !(0.0..=1.0).contains(*p)) {
        return Err(ExperimentError::Number("a p-value", *wrong, "from 0 to 1"));
    }
    Ok(corrections::benjamini_hochberg(p))
}

/// Each of `others` against `control`, by confidence sequences that hold at all looks and for all arms at once with
/// error rate `alpha`.
///
/// # Errors
/// When there are no others, more than [`COMPARISONS`], or one cannot be compared (see [`effect`]).
pub fn against_control(
    control: &Arm,
    others: &[Arm],
    scale: Scale,
    alpha: f64,
    tau: f64,
) -> Result<Vec<Compared>, ExperimentError> {
    if others.is_empty() || others.len() > COMPARISONS {
        return Err(ExperimentError::Length(others.len(), "arms beside the control", format!("1 to {COMPARISONS}")));
    }
    let each = rate(alpha)? / others.len() as f64;
    let effects = others.iter().map(|arm| effect(control, arm, scale)).collect::<Result<Vec<_>, _>>()?;
    // The p at the rate of one arm, so that arms added later do not change it.
    let p = effects.iter().map(|effect| Ok(effect.always_valid(alpha, tau)?.p)).collect::<Result<Vec<_>, _>>()?;
    let q = q_values(&p)?;
    let finding = |(index, effect): (usize, &super::Effect)| {
        let effect = effect.always_valid(each, tau)?.effect;
        Ok(Compared { finding: Finding { effect, p: p[index] }, q: q[index] })
    };
    effects.iter().enumerate().map(finding).collect()
}
