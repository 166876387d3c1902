//! Which bins changed, in words.

use std::fmt;

use statrs::distribution::{ContinuousCDF, Normal};

use super::{DriftError, Noise, Reference};
use crate::{Cells, CellsError, Estimate};

/// One bin's change.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Number of the bin.
    pub bin: usize,
    /// Its label.
    pub label: String,
    /// Its share in the reference, from 0 to 1.
    pub reference: f64,
    /// Its share in the window, from 0 to 1.
    pub window: f64,
    /// The difference of the shares, with an interval for chance and noise.
    pub change: Estimate,
}

impl Change {
    /// Whether the interval leaves out "no change".
    #[must_use]
    pub fn is_sure(&self) -> bool {
        self.change.low > 0.0 || self.change.high < 0.0
    }
}

/// What changed in one feature, the largest change first.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The feature.
    pub feature: String,
    /// All bins.
    pub changes: Vec<Change>,
}

/// Compares each bin's share. The intervals hold together: all of a feature's hold the true changes in 95 of 100
/// windows (Bonferroni over the bins), so the largest change may be picked out after looking. Shares are taken without
/// clamping, and their variance is that of a ratio: chance s (1 − s) / n, and noise v (1 − 2 s + B s²) / n² because a
/// bin's noise is part of the total's. Chance and noise each reach as far as their own tails do.
///
/// # Errors
/// When shapes or labels do not fit or nobody is there.
pub fn finding(
    feature: &str,
    labels: &[&str],
    reference: &Reference,
    window: &Cells,
    noise: Noise,
) -> Result<Finding, DriftError> {
    let bins = window.values().len();
    if labels.len() != bins {
        return Err(DriftError::Labels(labels.len(), bins));
    }
    let usual = match reference {
        Reference::Cells(cells) => shares_with_variance(cells)?,
        exact @ Reference::Shares(_) => exact.shares()?.into_iter().map(|share| (share, [0.0; 2])).collect(),
    };
    if usual.len() != bins {
        return Err(CellsError::Shape(bins, usual.len()).into());
    }
    let missed = 0.05 / bins as f64;
    let normal = Normal::standard().inverse_cdf(1.0 - missed / 2.0);
    let reach = match noise {
        Noise::Gaussian => [normal, normal],
        Noise::Laplace => [normal, -missed.ln() / std::f64::consts::SQRT_2],
    };
    let pairs = usual.into_iter().zip(shares_with_variance(window)?).zip(labels).enumerate();
    let mut changes: Vec<Change> = pairs
        .map(|(bin, ((usual, now), label))| {
            let value = now.0 - usual.0;
            let half =
                [0, 1].map(|kind| reach[kind].powi(2) * (usual.1[kind] + now.1[kind])).iter().sum::<f64>().sqrt();
            let change = Estimate { value, low: value - half, high: value + half };
            let [reference, window] = [usual.0, now.0].map(|share| share.clamp(0.0, 1.0));
            Change { bin, label: (*label).to_owned(), reference, window, change }
        })
        .collect();
    changes.sort_by(|a, b| b.change.value.abs().total_cmp(&a.change.value.abs()));
    Ok(Finding { feature: feature.to_owned(), changes })
}

/// Each share, and its variance by chance and by noise.
fn shares_with_variance(cells: &Cells) -> Result<Vec<(f64, [f64; 2])>, DriftError> {
    let (n, bins) = (cells.total(), cells.values().len() as f64);
    if n < 1.0 {
        return Err(DriftError::Empty(n.to_string()));
    }
    let of = |value: &f64| {
        let share = value / n;
        // A bin that nobody fell into could still hold one of them.
        let likely = share.clamp(0.5 / n, 1.0 - 0.5 / n);
        let chance = likely * (1.0 - likely) / n;
        (share, [chance, cells.variance() * (1.0 - 2.0 * share + bins * share * share) / (n * n)])
    };
    Ok(cells.values().iter().map(of).collect())
}

impl fmt::Display for Finding {
    /// The three largest changes that are sure.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.feature)?;
        let mut sure = self.changes.iter().filter(|change| change.is_sure()).take(3).peekable();
        if sure.peek().is_none() {
            return write!(f, "no bin changed by more than chance and noise explain");
        }
        while let Some(change) = sure.next() {
            let Change { label, reference, window, change: Estimate { value, low, high }, .. } = change;
            let verb = if *value > 0.0 { "grew" } else { "fell" };
            let [from, to, value, low, high] = [reference, window, value, low, high].map(|share| 100.0 * share);
            write!(f, "`{label}` {verb} from {from:.1} % to {to:.1} % ({value:+.1} points, {low:+.1} to {high:+.1})")?;
            if sure.peek().is_some() {
                write!(f, ", ")?;
            }
        }
        Ok(())
    }
}
