//! Cells that grew suddenly and alone: what poisoning looks like from here, and what a campaign looks like too.
//!
//! A cell of a window is held against the same cell of the windows before, at the same edge. Its usual value is
//! their median; its usual spread is made of theirs (1.4826 times the median absolute deviation, Hampel 1974), of the
//! noise, and of counting itself. A cell that lies [`FAR`] spreads above is told, unless the rest of the window rose
//! with it: a good day lifts all cells, a liar lifts his own.

use serde::Serialize;
use utoipa::ToSchema;

/// Windows before that a cell is held against, at most.
const MOST: usize = 24;
/// And at least: with fewer nobody knows what is usual.
const LEAST: usize = 6;
/// Spreads above the median from which a cell stands out. Half a dozen windows say little of their own
/// spread, so this is more than the three of a textbook; the test counts false alarms.
const FAR: f64 = 7.0;
/// Spreads that the other cells together may have risen by.
const REST: f64 = 3.0;

/// A cell that stands out.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Sudden {
    /// Its window's start, ms since 1970.
    pub start_ms: u64,
    /// The edge.
    pub edge: String,
    /// Which cell.
    pub cell: usize,
    /// Its noised value.
    pub value: i64,
    /// What is usual: the median of the windows before.
    pub usual: f64,
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => values[half],
        _ => f64::midpoint(values[half - 1], values[half]),
    }
}

/// How many spreads `value` lies above the values before, and their median.
fn above(value: f64, mut before: Vec<f64>, variance: f64) -> (f64, f64) {
    let usual = median(&mut before);
    before.iter_mut().for_each(|one| *one = (*one - usual).abs());
    let spread = 1.4826 * median(&mut before);
    ((value - usual) / (spread.powi(2) + variance + usual.max(1.0)).sqrt(), usual)
}

/// The cells of the last of `windows` that stand out: (cell, value, usual). Each window has all cells of the metric;
/// `deviation` is that of the noise, by cell.
pub(crate) fn sudden(windows: &[&[i64]], deviation: &[f64]) -> Vec<(usize, i64, f64)> {
    let Some((last, before)) = windows.split_last() else { return Vec::new() };
    let before = &before[before.len().saturating_sub(MOST)..];
    if before.len() < LEAST || last.len() < 2 {
        return Vec::new();
    }
    let sum = |window: &[i64]| window.iter().map(|value| *value as f64).sum::<f64>();
    let all_variance: f64 = deviation.iter().map(|deviation| deviation.powi(2)).sum();
    let mut found = Vec::new();
    for (cell, value) in last.iter().enumerate() {
        let variance = deviation.get(cell).map_or(0.0, |deviation| deviation.powi(2));
        let own = before.iter().map(|window| window.get(cell).map_or(0.0, |value| *value as f64)).collect();
        let (far, usual) = above(*value as f64, own, variance);
        if far < FAR {
            continue;
        }
        let rest = |window: &[i64]| sum(window) - window.get(cell).map_or(0.0, |value| *value as f64);
        let others = before.iter().map(|window| rest(window)).collect();
        if above(rest(last), others, all_variance - variance).0 < REST {
            found.push((cell, *value, usual));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// splitmix64, and from it an almost normal number of mean 0 and variance 1 (twelve uniform ones, Irwin and Hall).
    struct Dice(u64);

    impl Dice {
        fn normal(&mut self) -> f64 {
            let mut uniform = || {
                self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                (z ^ (z >> 31)) as f64 / u64::MAX as f64
            };
            (0..12).map(|_| uniform()).sum::<f64>() - 6.0
        }
    }

    const SHAPE: [f64; 5] = [300.0, 120.0, 60.0, 15.0, 5.0];
    const NOISE: f64 = 5.0;

    /// A week of days and more: Sundays have half the visitors, and each day has its own luck.
    fn day(dice: &mut Dice, number: usize) -> Vec<i64> {
        let season = if number % 7 == 6 { 0.5 } else { 1.0 + 0.1 * dice.normal() };
        SHAPE
            .iter()
            .map(|mean| {
                let mean = (mean * season).max(0.0);
                (mean + mean.sqrt() * dice.normal() + NOISE * dice.normal()).round() as i64
            })
            .collect()
    }

    fn told(windows: &[Vec<i64>]) -> Vec<(usize, i64, f64)> {
        sudden(&windows.iter().map(Vec::as_slice).collect::<Vec<_>>(), &[NOISE; 5])
    }

    #[test]
    fn honest_days_raise_hardly_an_alarm() {
        let (mut dice, mut alarms, mut windows) = (Dice(1), 0, 0);
        for _ in 0..500 {
            let days: Vec<_> = (0..30).map(|number| day(&mut dice, number)).collect();
            for end in LEAST + 1..=days.len() {
                windows += 1;
                alarms += usize::from(!told(&days[..end]).is_empty());
            }
        }
        println!("{alarms} alarms in {windows} honest windows");
        assert!(alarms * 1_000 <= windows, "{alarms} of {windows}");
    }

    #[test]
    fn a_cell_that_doubles_alone_is_told_and_a_good_day_is_not() {
        let (mut dice, mut found, mut good) = (Dice(2), 0, 0);
        for _ in 0..300 {
            let mut days: Vec<_> = (0..13).map(|number| day(&mut dice, number)).collect();
            let twice: Vec<i64> = days[9].iter().map(|value| 2 * value).collect();
            days.push(twice);
            good += usize::from(!told(&days).is_empty());
            days.pop();
            // Three hundred votes for a cell that has sixty.
            let mut poisoned = day(&mut dice, 9);
            poisoned[2] += 300;
            days.push(poisoned);
            found += usize::from(told(&days).iter().any(|(cell, ..)| *cell == 2));
        }
        println!("{found} of 300 poisoned windows told; {good} of 300 good days");
        assert!(found >= 297 && good <= 3, "{found} found, {good} good days told");
    }

    #[test]
    fn with_too_little_to_go_by_nothing_is_told() {
        let few = vec![vec![1, 1]; LEAST];
        assert!(told(&few).is_empty() && told(&[]).is_empty());
        assert!(told(&vec![vec![1]; 20]).is_empty(), "a metric of one cell has no others");
    }
}
