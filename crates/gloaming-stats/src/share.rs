//! Shares of visits: how far the true one may lie from the one that was seen, by chance and by noise.

use crate::performance::REACH;
use crate::{Cells, Estimate, experiment::CERTAINTY};

/// Fewest visits that a share is told of even where counts are exact.
const VISITS: f64 = 30.0;

/// The share of some cells among these and others, with its 95 % interval at one look: chance reaches as far as Wilson's
/// interval, noise as far as a normal one, and both are joined as Newcombe (1998, method 10) does. `part` and `rest` are places of
/// different cells.
///
/// # Errors
/// A sentence, where all of them together are fewer than thirty or less than ten deviations of their noise: the share of
/// nobody is none.
pub fn share(cells: &Cells, part: &[usize], rest: &[usize]) -> Result<Estimate, String> {
    let sum = |places: &[usize]| places.iter().filter_map(|at| cells.values().get(*at)).sum::<f64>();
    let (some, all) = (sum(part), sum(part) + sum(rest));
    let (a, d) = (part.len() as f64, (part.len() + rest.len()) as f64);
    let needed = VISITS.max((CERTAINTY * (d * cells.variance()).sqrt()).ceil());
    if all < needed {
        return Err(format!("about {:.0} visits, and {needed:.0} are needed to tell a share of", all.max(0.0)));
    }
    Ok(Rate::new((some, a), (all, d), cells.variance()).estimate())
}

/// A rate, of how many people, and the variance of its noise.
#[derive(Clone, Copy)]
pub(crate) struct Rate {
    pub(crate) value: f64,
    pub(crate) people: f64,
    pub(crate) noise: f64,
}

impl Rate {
    /// `part` sums `a` cells and `whole` sums `d`, the part's among them, each with noise of `noise`, which adds
    /// v (a − 2 a s + d s²) / n², since the part's noise is in the whole as well.
    pub(crate) fn new((part, a): (f64, f64), (whole, d): (f64, f64), noise: f64) -> Self {
        let value = (part / whole).clamp(0.0, 1.0);
        Self { value, people: whole, noise: noise * (a - 2.0 * a * value + d * value * value) / (whole * whole) }
    }

    /// How far chance and noise reach below and above it, `z` standard deviations.
    pub(crate) fn ends(self, z: f64) -> (f64, f64) {
        let (down, up) = reach(self.value, self.people, z);
        let far = |chance: f64| (chance * chance + z * z * self.noise).sqrt();
        (far(down), far(up))
    }

    pub(crate) fn estimate(self) -> Estimate {
        let (down, up) = self.ends(REACH);
        let Self { value, .. } = self;
        Estimate { value, low: (value - down).max(0.0), high: (value + up).min(1.0) }
    }

    /// This minus another, joined as Newcombe (1998, method 10) does.
    pub(crate) fn minus(self, other: Self, z: f64) -> Estimate {
        let (one, two) = (self.ends(z), other.ends(z));
        let value = self.value - other.value;
        let far = |a: f64, b: f64| (a * a + b * b).sqrt();
        Estimate { value, low: (value - far(one.0, two.1)).max(-1.0), high: (value + far(one.1, two.0)).min(1.0) }
    }
}

/// Below and above, `z` standard deviations: the ends of Wilson's interval (1927), from `share`. The usual interval,
/// as wide on both sides, holds far too seldom where few are counted; this one does not.
///
/// `share` lies from 0 to 1, of `people` more than none.
pub(crate) fn reach(share: f64, people: f64, z: f64) -> (f64, f64) {
    let middle = (share + z * z / (2.0 * people)) / (1.0 + z * z / people);
    let half = z / (1.0 + z * z / people) * (share * (1.0 - share) / people + z * z / (4.0 * people * people)).sqrt();
    ((share - middle + half).max(0.0), (middle + half - share).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draws::Draws;

    /// Newcombe (1998), table I: 81 of 263, and 0 of 20.
    #[test]
    fn ends_are_those_that_were_published() {
        for (found, people, low, high) in [(81.0, 263.0, 0.2553, 0.3662), (0.0, 20.0, 0.0, 0.1611)] {
            let share = found / people;
            let (down, up) = reach(share, people, 1.959_963_985);
            assert!((share - down - low).abs() < 5e-5 && (share + up - high).abs() < 5e-5, "{down} {up}");
        }
    }

    /// Rare and frequent, few and many, hardly any noise and much of it: each interval holds what is so as often as it says.
    #[test]
    fn intervals_of_shares_hold_what_is_so() {
        for (seed, (truth, visits, deviation)) in (1..).zip([
            (0.002, 4_000, 5.0),
            (0.01, 1_000, 1.0),
            (0.2, 1_000, 15.0),
            (0.03, 20_000, 60.0),
            (0.5, 60, 1.0),
        ]) {
            let (mut draws, mut held) = (Draws::new(seed), 0);
            for _ in 0..1_000 {
                let some = (0..visits).filter(|_| draws.uniform() < truth).count() as f64;
                let values = [f64::from(visits) - some, some, 40.0];
                let noised = values.iter().map(|value| value + deviation * draws.normal()).collect();
                let found = share(&Cells::new(noised, deviation * deviation).unwrap(), &[1], &[0]).unwrap();
                held += usize::from(found.low <= truth && truth <= found.high);
            }
            println!("{truth} of {visits}, noise of {deviation}: {held} of 1000 hold it");
            // Three deviations of a thousand tries below what it says.
            assert!(held >= 929, "{truth} of {visits}, noise of {deviation}: {held}");
        }
    }

    #[test]
    fn of_so_few_that_noise_may_be_all_of_them_there_is_no_share() {
        let cells = |values: Vec<f64>, deviation: f64| Cells::new(values, deviation * deviation).unwrap();
        assert!(share(&cells(vec![20.0, 9.0], 0.0), &[1], &[0]).unwrap_err().contains("30 are needed"));
        assert!(
            share(&cells(vec![200.0, 9.0], 20.0), &[1], &[0]).unwrap_err().contains("about 209 visits, and 283 are")
        );
        assert!(share(&cells(vec![-5.0, -9.0], 20.0), &[1], &[0]).unwrap_err().starts_with("about 0 visits"));
        let found = share(&cells(vec![90.0, 10.0, 1e6], 0.0), &[1], &[0]).unwrap();
        assert!(found.value == 0.1 && found.low > 0.05 && found.high < 0.18, "{found:?}");
    }
}
