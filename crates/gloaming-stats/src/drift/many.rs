//! Many features at once: corrections of p-values.

use super::DriftError;
use crate::corrections;

fn checked(p: &[f64]) -> Result<&[f64], DriftError> {
    match p.iter().position(|p| !(0.0..=1.0).contains(p)) {
        Some(at) => Err(DriftError::Probability(at, p[at].to_string())),
        None => Ok(p),
    }
}

/// P-values adjusted so that of the features with one of `q` or less, a share of `q` is expected to be false alarms
/// (Benjamini and Hochberg 1995; `scipy.stats.false_discovery_control`). One a feature, in the order given.
///
/// # Errors
/// When one is not between 0 and 1.
pub fn benjamini_hochberg(p: &[f64]) -> Result<Vec<f64>, DriftError> {
    checked(p).map(corrections::benjamini_hochberg)
}

/// P-values adjusted so that calling drift at `alpha` or less raises any false alarm with a chance of `alpha` at most
/// (Holm 1979; `statsmodels.stats.multitest.multipletests` with `holm`). One a feature, in the order given.
///
/// # Errors
/// When one is not between 0 and 1.
pub fn holm(p: &[f64]) -> Result<Vec<f64>, DriftError> {
    let order = corrections::order(checked(p)?);
    let mut adjusted = vec![0.0; p.len()];
    let mut most = 0.0_f64;
    for (rank, at) in order.iter().enumerate() {
        most = most.max(p[*at] * (p.len() - rank) as f64).min(1.0);
        adjusted[*at] = most;
    }
    Ok(adjusted)
}
