//! Declared counts: their cells, words, prices and noise.

use alloc::string::String;
use alloc::vec::Vec;

use gloaming_privacy::{Charge, Mechanism, Rho, Scale, scale};
use gloaming_signal::cbor_record;

use crate::document::{Axis, Bins};

/// A declared count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its number, unique in the policy and kept over versions.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// `of` as the author wrote it, for people.
    pub of: String,
    /// Kind as the author wrote it: histogram, category, sum, joint, funnel, journey.
    pub kind: String,
    /// Index of the purpose.
    pub purpose: u32,
    /// Window length, ms.
    pub span_ms: u64,
    /// Contributions a device may make a day.
    pub per_day: u32,
    /// Price of one contribution.
    pub rho: Rho,
    /// Smallest noised crowd that is released.
    pub k: u32,
    /// Which noise.
    pub mechanism: Mechanism,
    /// One axis; two for joint metrics, three where groups are compared.
    pub axes: Vec<Axis>,
}

cbor_record!(Metric { id, name, of, kind, purpose, span_ms, per_day, rho, k, mechanism, axes });

/// Numbers of metrics that were written out by a monitor, a retraining or an experiment begin here.
pub(crate) const WRITTEN_OUT: u32 = 1_000_000_000;

impl Metric {
    /// The axis of what came of the visit, no or yes, where what it is of ends in an outcome: then it tells of every visit, as
    /// without it.
    #[must_use]
    pub fn outcome(&self) -> Option<&Axis> {
        let of = self.of.rsplit(", ").next().filter(|of| of.starts_with("outcome:"));
        self.axes.last().filter(|axis| self.axes.len() > 1 && of.is_some() && axis.is_yes_or_no())
    }

    /// Whether no author wrote it by hand.
    #[must_use]
    pub fn is_written_out(&self) -> bool {
        self.id >= WRITTEN_OUT
    }

    /// Whether it is a clipped sum: cell 0 counts reports, cell 1 adds values.
    #[must_use]
    pub fn sum_max(&self) -> Option<u32> {
        match self.axes.first().map(|axis| &axis.bins) {
            Some(Bins::Sum { max, .. }) => Some(*max),
            _ => None,
        }
    }

    /// Declared cells.
    #[must_use]
    pub fn cells(&self) -> u32 {
        if self.sum_max().is_some() {
            return 2;
        }
        self.axes.iter().map(|axis| u32::try_from(axis.labels.len()).unwrap_or(u32::MAX)).fold(1, u32::saturating_mul)
    }

    /// The noise's scale for each cell. A sum pays half its price for the report count and half for
    /// the sum; all other contributions touch one cell.
    #[must_use]
    pub fn scales(&self) -> Vec<Scale> {
        match self.sum_max() {
            Some(max) => {
                let half = Rho::from_micro(self.rho.micro() / 2);
                alloc::vec![scale(self.per_day, 1, half), scale(self.per_day, max, half)]
            }
            None => alloc::vec![scale(self.per_day, 1, self.rho); self.cells() as usize],
        }
    }

    /// What an account is charged for one contribution.
    #[must_use]
    pub fn charge(&self) -> Charge {
        Charge { metric: self.id, per_day: self.per_day, rho: self.rho }
    }

    /// The noised number of reports that `k` is compared with: all cells, or a sum's report count.
    #[must_use]
    pub fn crowd(&self, noised: &[i64]) -> i64 {
        let counted = if self.sum_max().is_some() { &noised[..1.min(noised.len())] } else { noised };
        counted.iter().fold(0i64, |sum, v| sum.saturating_add(*v))
    }

    /// How long contributions are taken after the window's end, ms: a twelfth of the window, an hour
    /// at most. A device writes on leaving the page, so what comes later is a retry.
    #[must_use]
    pub fn grace_ms(&self) -> u64 {
        grace_ms(self.span_ms)
    }

    /// The word of one cell, as in [`Metric::labels`].
    #[must_use]
    pub fn label(&self, cell: u32) -> Option<String> {
        let (mut cell, mut words) = (cell as usize, Vec::new());
        for axis in self.axes.iter().rev() {
            words.push(axis.labels.get(cell % axis.labels.len().max(1))?.as_str());
            cell /= axis.labels.len();
        }
        words.reverse();
        (cell == 0 && !words.is_empty()).then(|| words.join(" | "))
    }

    /// A word for each cell; for several axes `row | column`, the last axis the fastest.
    #[must_use]
    pub fn labels(&self) -> Vec<String> {
        let Some((first, others)) = self.axes.split_first() else { return Vec::new() };
        others.iter().fold(first.labels.clone(), |rows, axis| {
            let beside =
                |row: &String| axis.labels.iter().map(|column| alloc::format!("{row} | {column}")).collect::<Vec<_>>();
            rows.iter().flat_map(beside).collect()
        })
    }
}

/// Grace of windows of this length, ms.
#[must_use]
pub fn grace_ms(span_ms: u64) -> u64 {
    (span_ms / 12).clamp(1_000, 60 * 60 * 1000)
}
