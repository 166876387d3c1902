//! Which bins changed, in words.

use std::fmt;

use super::{DriftError, Noise, Reference};
use crate::distribution::normal_upper;
use crate::share::reach;
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
/// clamping. Chance reaches as far as the interval of Clopper and Pearson of either share, joined as Newcombe (1998, method 10)
/// does, because the usual one holds too seldom where few fall into a bin; noise, with the variance
/// v (1 − 2 s + B s²) / n² of a share whose total is noisy too, reaches as far as its own tails do.
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
    let missed = 0.05 / bins as f64;
    let normal = normal_upper(missed / 2.0);
    let ends = match noise {
        Noise::Gaussian => [normal, normal],
        Noise::Laplace => [normal, -missed.ln() / std::f64::consts::SQRT_2],
    };
    let usual = match reference {
        Reference::Cells(cells) => sure_shares(cells, ends[0])?,
        exact @ Reference::Shares(_) => {
            let exact = exact.shares()?.into_iter();
            exact.map(|share| Sure { share, down: 0.0, up: 0.0, noise: 0.0 }).collect()
        }
    };
    if usual.len() != bins {
        return Err(CellsError::Shape(bins, usual.len()).into());
    }
    let pairs = usual.into_iter().zip(sure_shares(window, ends[0])?).zip(labels).enumerate();
    let mut changes: Vec<Change> = pairs
        .map(|(bin, ((usual, now), label))| {
            let value = now.share - usual.share;
            let noise = ends[1] * (usual.noise + now.noise).sqrt();
            let far = |one: f64, other: f64| (one * one + other * other + noise * noise).sqrt();
            let (low, high) = (value - far(now.down, usual.up), value + far(now.up, usual.down));
            let [reference, window] = [usual.share, now.share].map(|share| share.clamp(0.0, 1.0));
            Change { bin, label: (*label).to_owned(), reference, window, change: Estimate { value, low, high } }
        })
        .collect();
    changes.sort_by(|a, b| b.change.value.abs().total_cmp(&a.change.value.abs()));
    Ok(Finding { feature: feature.to_owned(), changes })
}

/// A share, how far below and above it the true one may lie by chance, and the variance of its noise.
struct Sure {
    share: f64,
    down: f64,
    up: f64,
    noise: f64,
}

/// Each share; `z` is how many deviations chance reaches.
fn sure_shares(cells: &Cells, z: f64) -> Result<Vec<Sure>, DriftError> {
    let (n, bins) = (cells.total(), cells.values().len() as f64);
    if n < 1.0 {
        return Err(DriftError::Empty(n.to_string()));
    }
    let of = |value: &f64| {
        let share = value / n;
        // Noise can take a share beyond what shares are; chance is then that of the nearest that is one.
        let seen = share.clamp(0.0, 1.0);
        let (down, up) = reach(seen, n, z);
        let noise = cells.variance() * (1.0 - 2.0 * share + bins * share * share) / (n * n);
        Sure { share, down, up, noise }
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
