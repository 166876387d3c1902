//! Shares, means and counts of visits: how far the true one may lie from the one that was seen, by chance and by noise.

use crate::distribution::student_quantile;
use crate::performance::REACH;
use crate::{Cells, Estimate, experiment::CERTAINTY};

/// What a 95 % interval misses on either side.
pub(crate) const MISSED: f64 = 0.025;

/// Fewest visits that a share is told of even where counts are exact.
const VISITS: f64 = 30.0;

/// The share of some cells among these and others, with its 95 % interval at one look: chance reaches as far as the interval
/// of Clopper and Pearson, noise as far as a normal one, and both are joined as Newcombe (1998, method 10) does. `part` and `rest` are
/// places of different cells.
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

/// A figure that is a mean of what lies between two ends, or as good as one, and what it varies by.
///
/// Its interval is that of a share of as many people as make it vary as much (Korn and Graubard 1998, *Confidence intervals for
/// proportions with small expected number of positive counts estimated from survey data*, Survey Methodology 24): near an end it
/// leans away from it, as the usual one, as wide on both sides, does not.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mean {
    /// The figure.
    pub value: f64,
    /// Between which it lies; infinite where nothing bounds it, and the interval then is as wide on both sides.
    pub ends: [f64; 2],
    /// Its variance by chance, as estimated.
    pub chance: f64,
    /// Degrees of freedom of that estimate, infinite where it is known.
    pub degrees: f64,
    /// People that it is a mean of, one at least: it cannot vary more than a share of so many.
    pub people: f64,
    /// Its variance by noise.
    pub noise: f64,
}

impl Mean {
    /// With its 95 % interval; noise may carry all three beyond the ends.
    #[must_use]
    pub fn estimate(self) -> Estimate {
        let Self { value, ends: [low, high], chance, degrees, people, noise } = self;
        let (width, wider) = (high - low, student_quantile(MISSED, degrees.max(1.0)) / REACH);
        let noise = REACH * noise.sqrt();
        if !(width > 0.0 && width.is_finite()) {
            let half = (wider * REACH * chance.sqrt()).hypot(noise);
            return Estimate { value, low: value - half, high: value + half };
        }
        let (share, chance) = (((value - low) / width).clamp(0.0, 1.0), chance / (width * width));
        let alike = if chance > 0.0 { (share * (1.0 - share) / chance).max(people) } else { people };
        let (down, up) = reach(share, (alike / (wider * wider)).max(1.0), REACH);
        let far = |chance: f64| (width * chance).hypot(noise);
        Estimate { value, low: value - far(down), high: value + far(up) }
    }
}

/// Degrees of freedom of a variance, from the sums of squares and of fourth powers around the mean of so many: as many as a chi-square has that
/// varies as much (Satterthwaite 1946). Where few make up most of it, there are few.
pub(crate) fn degrees(squares: f64, fourths: f64, people: f64) -> f64 {
    let spread = fourths - squares * squares / people;
    if spread > 0.0 { 2.0 * squares * squares / spread } else { f64::INFINITY }
}

/// Of cells that each stand for a point (y, x): Σ y over Σ x, a mean where every x is 1, with its 95 % interval at one look. `None` where
/// Σ x is none, or there are not as many points as cells.
#[must_use]
pub fn ratio(points: &[(f64, f64)], cells: &Cells) -> Option<Estimate> {
    let whole: f64 = points.iter().zip(cells.values()).map(|((_, x), count)| count * x).sum();
    if points.len() != cells.values().len() || !(whole > 0.0 && whole.is_finite()) {
        return None;
    }
    let part: f64 = points.iter().zip(cells.values()).map(|((y, _), count)| count * y).sum();
    if points.iter().all(|(y, x)| *x == 1.0 && (*y == 0.0 || *y == 1.0)) {
        let some = points.iter().filter(|(y, _)| *y == 1.0).count() as f64;
        return Some(Rate::new((part, some), (whole, points.len() as f64), cells.variance()).estimate());
    }
    let value = part / whole;
    let (mut people, mut weights, mut squares, mut fourths, mut steep) = (0.0, 0.0, 0.0, 0.0, 0.0);
    let mut ends = [f64::INFINITY, f64::NEG_INFINITY];
    for ((y, x), count) in points.iter().zip(cells.values()) {
        // Of fewer than none there is no chance.
        let (count, off) = (count.max(0.0), y - value * x);
        people += count;
        weights += count * x * x;
        squares += count * off * off;
        fourths += count * off.powi(4);
        steep += off * off;
        // What stands for nothing of x bounds nothing, unless it stands for nothing of y as well.
        if *x > 0.0 {
            ends = [ends[0].min(y / x), ends[1].max(y / x)];
        } else if *x < 0.0 || *y != 0.0 {
            ends = [f64::NEG_INFINITY, f64::INFINITY];
        }
    }
    let mean = Mean {
        value,
        ends,
        chance: squares / (whole * whole),
        degrees: degrees(squares, fourths, people),
        people: (whole * whole / weights).max(1.0),
        noise: cells.variance() * steep / (whole * whole),
    };
    Some(mean.estimate())
}

/// A count of visits that come each by itself, with its 95 % interval: chance as of a Poisson (Garwood 1936), joined with noise of variance
/// `noise`.
#[must_use]
pub fn count(value: f64, noise: f64) -> Estimate {
    // A Poisson is a share of very many.
    let seen = value.max(0.0);
    let many = (1e6 * seen).max(1e12);
    let (down, up) = reach(seen / many, many, REACH);
    let far = |chance: f64| (many * chance).hypot(REACH * noise.sqrt());
    Estimate { value, low: value - far(down), high: value + far(up) }
}

/// Below and above, `z` standard deviations: the ends of the interval of Clopper and Pearson (1934), from `share`. It holds at least as often
/// as it says, whatever the share; Wilson's does so on average only, and in 93 of 100 samples of forty people of whom four in five count.
///
/// `share` lies from 0 to 1, of `people` more than none.
pub(crate) fn reach(share: f64, people: f64, z: f64) -> (f64, f64) {
    let found = share * people;
    let low = 1.0 - upper(people - found, people, z);
    ((share - low).max(0.0), (upper(found, people, z) - share).max(0.0))
}

/// The upper end where `found` of `people` were, by the formula of Pratt (1968, *A normal approximation for binomial, F, beta, and other common,
/// related tail probabilities*, JASA 63) as Blyth (1986, *Approximate binomial confidence limits*, JASA 81) gives it: within 0.03 people at 95 %.
/// It takes counts that are not whole, which noise leaves. Written as the constant term over the other root, so that nothing cancels.
fn upper(found: f64, people: f64, z: f64) -> f64 {
    let (more, rest) = (found + 1.0, people - found);
    if rest <= (2.0 + z * z) / 9.0 {
        return 1.0;
    }
    let edge = (9.0 * rest - 1.0).powi(2) - 9.0 * rest * z * z;
    let middle = (9.0 * more - 1.0) * (9.0 * rest - 1.0);
    let spread = 9.0 * more * rest * (9.0 * people + 5.0 - z * z) + people + 1.0;
    let odds = edge / (middle + 3.0 * z * spread.max(0.0).sqrt());
    1.0 / (1.0 + (more / rest).powi(2) * odds.powi(3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draws::{Draws, covers};

    /// By scipy.stats.beta; the first three are in Newcombe (1998), table I. With a third of a person, as noise leaves them, too.
    #[test]
    fn ends_are_those_of_clopper_and_pearson() {
        for (found, people, low, high) in [
            (81.0, 263.0, 0.252_737, 0.367_622),
            (0.0, 20.0, 0.0, 0.168_433),
            (1.0, 29.0, 0.000_873, 0.177_644),
            (15.0, 148.0, 0.057_844, 0.161_650),
        ] {
            let (share, near) = (found / people, 0.025 / people);
            let (down, up) = reach(share, people, REACH);
            assert!(
                (share - down - low).abs() < near && (share + up - high).abs() < near,
                "{found} {people} {down} {up}"
            );
            let (up_too, down_too) = reach(1.0 - share, people, REACH);
            assert!((up - up_too).abs() < 1e-12 && (down - down_too).abs() < 1e-12);
        }
        // Many, and far out: that of a normal distribution, and no figure that is none.
        let (down, up) = reach(0.5, 1e15, REACH);
        assert!(
            (down / up - 1.0).abs() < 1e-6 && (up / (REACH * 0.5 / 1e15_f64.sqrt()) - 1.0).abs() < 1e-6,
            "{down} {up}"
        );
        for z in [0.7, 1.0, 2.667, 4.0, 6.0] {
            for people in [1.0, 1.5, 3.0, 40.0, 1e9] {
                for share in [0.0, 1e-9, 0.1, 0.5, 0.99, 1.0] {
                    let (down, up) = reach(share, people, z);
                    assert!((0.0..=share + 1e-12).contains(&down) && (0.0..=1.0 - share + 1e-12).contains(&up));
                }
            }
        }
    }

    /// Rare and frequent, few and many, hardly any noise and much of it: each interval holds what is so as often as it says.
    #[test]
    fn intervals_of_shares_hold_what_is_so() {
        for (seed, (truth, visits, deviation)) in (1..).zip([
            (0.002, 4_000.0, 5.0),
            (0.01, 1_000.0, 1.0),
            (0.1, 100.0, 0.0),
            (0.2, 1_000.0, 15.0),
            (0.03, 20_000.0, 60.0),
            (0.5, 60.0, 1.0),
            (0.8, 40.0, 0.0),
        ]) {
            let (mut draws, mut held, mut same) = (Draws::new(seed), 0, 0);
            for _ in 0..10_000 {
                let some = draws.binomial(visits, truth);
                let noised: Vec<f64> =
                    [visits - some, some, 40.0].iter().map(|count| count + deviation * draws.normal()).collect();
                let found = share(&Cells::new(noised.clone(), deviation * deviation).unwrap(), &[1], &[0]).unwrap();
                held += u32::from(found.low <= truth && truth <= found.high);
                // A mean of nothing and one is a share.
                let two = Cells::new(noised[..2].to_vec(), deviation * deviation).unwrap();
                same += u32::from(ratio(&[(0.0, 1.0), (1.0, 1.0)], &two) == Some(found));
            }
            println!("{truth} of {visits}, noise of {deviation}: {held} of 10,000 hold it");
            assert!(covers(held, 10_000, 0.95) && same == 10_000, "{truth} of {visits}, noise of {deviation}: {held}");
        }
    }

    /// Amounts that hardly anybody spends, ratios of two numbers, and what no end bounds.
    #[test]
    fn intervals_of_means_and_ratios_hold_what_is_so() {
        let amounts = [(0.0, 1.0), (35.0, 1.0), (80.0, 1.0)];
        let ratios = [(0.0, 1.0), (1.0, 1.0), (0.0, 5.0), (1.0, 5.0)];
        let unbounded = [(0.0, 0.0), (1.0, 0.0), (0.0, 5.0), (1.0, 5.0)];
        /// What people have, how many have each, how many there are, and the noise.
        type Case<'c> = (&'c [(f64, f64)], &'c [f64], f64, f64);
        let cases: [Case<'_>; 8] = [
            (&amounts, &[0.9, 0.075, 0.025], 8_000.0, 5.0),
            (&amounts, &[0.9, 0.075, 0.025], 200.0, 2.0),
            (&amounts, &[0.98, 0.015, 0.005], 500.0, 0.0),
            (&amounts, &[0.995, 0.004, 0.001], 4_000.0, 3.0),
            (&ratios, &[0.45, 0.05, 0.35, 0.15], 2_000.0, 5.0),
            (&ratios, &[0.45, 0.05, 0.35, 0.15], 60.0, 0.0),
            (&ratios, &[0.6, 0.01, 0.38, 0.01], 500.0, 2.0),
            (&unbounded, &[0.4, 0.1, 0.3, 0.2], 1_000.0, 2.0),
        ];
        for (seed, (points, chances, visits, deviation)) in (1..).zip(cases) {
            let sum =
                |of: &dyn Fn(&(f64, f64)) -> f64| points.iter().zip(chances).map(|(at, p)| p * of(at)).sum::<f64>();
            let truth = sum(&|at| at.0) / sum(&|at| at.1);
            let (mut draws, mut held, mut width) = (Draws::new(seed), 0, 0.0);
            for _ in 0..10_000 {
                let mut counts: Vec<f64> = points.iter().map(|_| deviation * draws.normal()).collect();
                draws.spread(chances, visits, &mut counts);
                let found = ratio(points, &Cells::new(counts, deviation * deviation).unwrap()).unwrap();
                held += u32::from(found.low <= truth && truth <= found.high);
                width += (found.high - found.low) / 1e4;
            }
            println!(
                "{truth:.4} of {visits} visits, noise of {deviation}: {held} of 10,000 hold it, mean width {width:.4}"
            );
            assert!(covers(held, 10_000, 0.95), "{points:?} {chances:?}: {held}");
        }
        assert_eq!(ratio(&amounts, &Cells::new(vec![-1.0, 0.0, 0.0], 1.0).unwrap()), None);
        assert_eq!(ratio(&amounts, &Cells::new(vec![1.0, 0.0], 1.0).unwrap()), None);
        let same = ratio(&[(2.0, 1.0)], &Cells::new(vec![9.0], 0.0).unwrap()).unwrap();
        assert_eq!((same.low, same.value, same.high), (2.0, 2.0, 2.0));
    }

    #[test]
    fn intervals_of_counts_hold_what_is_so() {
        for (seed, (truth, deviation)) in (1..).zip([(3.0, 0.0), (40.0, 2.0), (100.0, 20.0), (5_000.0, 30.0)]) {
            let (mut draws, mut held) = (Draws::new(seed), 0);
            for _ in 0..10_000 {
                let seen = draws.binomial(1e8, truth / 1e8) + deviation * draws.normal();
                let found = count(seen, deviation * deviation);
                held += u32::from(found.low <= truth && truth <= found.high);
            }
            println!("{truth} visits, noise of {deviation}: {held} of 10,000 hold it");
            assert!(covers(held, 10_000, 0.95), "{truth} {deviation}: {held}");
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
        assert!(found.value == 0.1 && found.low > 0.048 && found.high < 0.18, "{found:?}");
    }
}
