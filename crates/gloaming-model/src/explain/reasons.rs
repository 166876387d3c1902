//! The features that moved a score most, in words.

use gloaming_behavior::words::{self, Language};
use serde::Serialize;

use super::Explanation;

/// Reasons told: people remember three.
const REASONS: usize = 3;
/// A feature that moved the score by less than this part of what the first one did is no reason.
const PART: f64 = 0.02;

/// One of the features that moved a score most.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reason {
    /// `name@version`, or `page:id`.
    pub feature: String,
    /// What it adds, on the explanation's scale: above zero it raises the score.
    pub adds: f64,
    /// The same in words: which way, what, and its value.
    pub text: String,
}

impl Explanation {
    /// The reasons for this score, the weightiest first, three at most.
    ///
    /// `features` and `row` are the model's inputs, by name and by value, in the manifest's order.
    #[must_use]
    pub fn reasons(&self, features: &[String], row: &[f32], language: Language) -> Vec<Reason> {
        let mut moved: Vec<_> = features.iter().zip(row).zip(&self.values).collect();
        // A stable sort, so that what weighs the same is always told in the same order.
        moved.sort_by(|(_, one), (_, other)| other.abs().total_cmp(&one.abs()));
        let least = moved.first().map_or(0.0, |(_, first)| first.abs() * PART);
        moved.retain(|(_, adds)| adds.abs() > 0.0 && adds.abs() >= least);
        moved.truncate(REASONS);
        let told = |((feature, value), adds): ((&String, &f32), &f64)| Reason {
            feature: feature.clone(),
            adds: *adds,
            text: words::reason(feature, f64::from(*value), *adds > 0.0, language),
        };
        moved.into_iter().map(told).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scale;

    fn reasons(values: [f64; 5]) -> Vec<(String, f64)> {
        let names = ["pages@1", "clicks@1", "returning@1", "weekend@1", "page:cart-value"].map(str::to_owned);
        let explanation =
            Explanation { base: 0.1, values: values.to_vec(), scale: Scale::LogOdds, exact: true, orders: 0 };
        let found = explanation.reasons(&names, &[3.0, 7.0, 1.0, 0.0, 2.0], Language::En);
        found.into_iter().map(|reason| (reason.text, reason.adds)).collect()
    }

    #[test]
    fn the_weightiest_three_are_told_and_which_way_they_point() {
        let wanted = [
            ("less likely: clicks (7)".to_owned(), -0.9),
            ("more likely: came before (yes)".to_owned(), 0.5),
            ("more likely: cart value".to_owned(), 0.3),
        ];
        assert_eq!(reasons([0.2, -0.9, 0.5, 0.0, 0.3]), wanted);
    }

    #[test]
    fn what_hardly_moved_it_is_no_reason() {
        assert_eq!(reasons([0.001, 0.0, 0.5, -0.009, 0.0]).len(), 1);
        assert_eq!(reasons([0.0; 5]), []);
    }
}
