//! Many features at once: corrections of p-values.

use super::DriftError;

/// Checked, and the places from the least p-value to the greatest.
fn order(p: &[f64]) -> Result<Vec<usize>, DriftError> {
    if let Some(at) = p.iter().position(|p| !(0.0..=1.0).contains(p)) {
        return Err(DriftError::Probability(at, p[at].to_string()));
    }
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    Ok(order)
}

/// P-values adjusted so that of the features with one of `q` or less, a share of `q` is expected to be false alarms
/// (Benjamini and Hochberg 1995; `scipy.stats.false_discovery_control`). One a feature, in the order given.
///
/// # Errors
/// When one is not between 0 and 1.
pub fn benjamini_hochberg(p: &[f64]) -> Result<Vec<f64>, DriftError> {
    let order = order(p)?;
    let mut adjusted = vec![0.0; p.len()];
    let mut least = 1.0_f64;
    for (rank, at) in order.iter().enumerate().rev() {
        least = least.min(p[*at] * p.len() as f64 / (rank + 1) as f64);
        adjusted[*at] = least;
    }
    Ok(adjusted)
}

/// P-values adjusted so that calling drift at `alpha` or less raises any false alarm with a chance of `alpha` at most
/// (Holm 1979; `statsmodels.stats.multitest.multipletests` with `holm`). One a feature, in the order given.
///
/// # Errors
/// When one is not between 0 and 1.
pub fn holm(p: &[f64]) -> Result<Vec<f64>, DriftError> {
    let order = order(p)?;
    let mut adjusted = vec![0.0; p.len()];
    let mut most = 0.0_f64;
    for (rank, at) in order.iter().enumerate() {
        most = most.max(p[*at] * (p.len() - rank) as f64).min(1.0);
        adjusted[*at] = most;
    }
    Ok(adjusted)
}
