//! Noised cells, and figures with an interval.

/// Most cells of one metric.
pub(crate) const CELLS: usize = 4_096;

/// Largest cell: more visits than there will be, and its square is exact enough to reckon with.
const VALUE: f64 = 1e15;

/// Why cells cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CellsError {
    /// None, or too many.
    #[error("{0} cells; a metric has 1 to {CELLS}")]
    Count(usize),
    /// Shapes that do not belong together.
    #[error("{0} cells where {1} belong; compare releases of the same metric and version only")]
    Shape(usize, usize),
    /// A value that is none.
    #[error("a cell of {0}; cells are numbers, {VALUE:e} at most")]
    Value(String),
    /// A variance that is none.
    #[error("a noise variance of {0}; it is a number of zero or more")]
    Variance(String),
}

/// The cells of one metric, of one release or of several added up.
#[derive(Clone, Debug, PartialEq)]
pub struct Cells {
    values: Vec<f64>,
    variance: f64,
}

impl Cells {
    /// Values as released (counts, negative ones included) and the variance of each one's noise: that of one
    /// release times the number of releases added up.
    ///
    /// # Errors
    /// When there are no cells, too many, or the variance is not a number of zero or more.
    pub fn new(values: Vec<f64>, variance: f64) -> Result<Self, CellsError> {
        if values.is_empty() || values.len() > CELLS {
            return Err(CellsError::Count(values.len()));
        }
        // A range holds nothing that is no number.
        if let Some(wrong) = values.iter().find(|value| !(-VALUE..=VALUE).contains(*value)) {
            return Err(CellsError::Value(wrong.to_string()));
        }
        if !(0.0..=VALUE * VALUE).contains(&variance) {
            return Err(CellsError::Variance(variance.to_string()));
        }
        Ok(Self { values, variance })
    }

    /// As released.
    #[must_use]
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// Variance of the noise on each.
    #[must_use]
    pub fn variance(&self) -> f64 {
        self.variance
    }

    /// Sum of all, an unbiased estimate of how many contributed.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.values.iter().sum()
    }

    /// The cells of both together; their noise adds up.
    ///
    /// # Errors
    /// When they have different shapes, or add up to more than a cell holds.
    pub fn plus(&self, other: &Self) -> Result<Self, CellsError> {
        if self.values.len() != other.values.len() {
            return Err(CellsError::Shape(other.values.len(), self.values.len()));
        }
        let values = self.values.iter().zip(&other.values).map(|(a, b)| a + b).collect();
        Self::new(values, self.variance + other.variance)
    }
}

/// A figure with its interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The best guess.
    pub value: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_add_up_and_so_does_their_noise() {
        let one = Cells::new(vec![3.0, -1.0], 25.0).unwrap();
        let both = one.plus(&Cells::new(vec![1.0, 4.0], 9.0).unwrap()).unwrap();
        assert_eq!((both.values(), both.variance(), both.total()), ([4.0, 3.0].as_slice(), 34.0, 7.0));
        assert_eq!(one.plus(&Cells::new(vec![1.0], 0.0).unwrap()), Err(CellsError::Shape(1, 2)));
        assert_eq!(Cells::new(vec![], 1.0), Err(CellsError::Count(0)));
        assert!(matches!(Cells::new(vec![1.0], f64::NAN), Err(CellsError::Variance(_))));
        assert!(matches!(Cells::new(vec![f64::NAN], 1.0), Err(CellsError::Value(_))));
        assert!(matches!(Cells::new(vec![1e308; 4], 0.0), Err(CellsError::Value(_))));
    }
}
