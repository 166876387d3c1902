//! Which features go together: the tree of pairs that says most.

use super::learn::off;
use super::{Counted, Pair};

/// The spanning forest of counted pairs that are most dependent (Chow and Liu 1968), by chi-square.
///
/// Noise makes any two features look dependent. Its part is known and taken out: what is left of a pair that is independent
/// is nothing on average, and a pair of nothing or less is no pair. Each edge is (feature, the one it stands by).
#[must_use]
pub fn spanning(counted: &Counted) -> Vec<(usize, usize)> {
    let people = counted.people();
    let own: Vec<Vec<f64>> = (0..counted.bins.len()).map(|feature| counted.own(feature).0).collect();
    let mut pairs: Vec<(f64, (usize, usize))> =
        counted.pairs.iter().map(|pair| (dependence(pair, &own, people), pair.of)).collect();
    // The strongest first; of equals the first counted, so that the answer is one.
    pairs.sort_by(|one, other| other.0.total_cmp(&one.0));
    let mut of: Vec<usize> = (0..counted.bins.len()).collect();
    let mut chosen = Vec::new();
    for (strength, (one, other)) in pairs {
        let (a, b) = (of[one], of[other]);
        if strength > 0.0 && a != b {
            of.iter_mut().filter(|group| **group == b).for_each(|group| *group = a);
            chosen.push((one, other));
        }
    }
    chosen
}

/// Chi-square of a pair against independence, less what noise and chance add to it. Bins with fewer people than the noise's
/// standard deviation count as that many: what is expected of next to nobody tells nothing.
fn dependence(pair: &Pair, own: &[Vec<f64>], people: f64) -> f64 {
    let (rows, columns) = (&own[pair.of.0], &own[pair.of.1]);
    let (long, wide) = (rows.len(), columns.len());
    let variance = pair.cells.variance();
    let floor = variance.sqrt().max(1.0);
    let (off, expected) = off(pair.cells.values(), rows, columns, people);
    // What is left of noise, and of chance.
    let share = (1.0 - 1.0 / long as f64) * (1.0 - 1.0 / wide as f64);
    let of =
        |(off, expected): (&f64, &f64)| (off.powi(2) - share * (variance + expected.max(0.0))) / expected.max(floor);
    off.iter().zip(&expected).map(of).sum()
}
