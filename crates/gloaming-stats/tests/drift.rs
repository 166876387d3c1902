//! Drift: statistics against Evidently, scipy and statsmodels (goldens by `tests/statistics/cells.py`), thresholds
//! against simulated windows drawn by other means than the thresholds themselves, and what must always hold.
#![allow(clippy::unwrap_used)]

use std::ops::RangeInclusive;
use std::path::Path;

use gloaming_stats::draws::{Draws, covers};
use gloaming_stats::drift::{
    DriftError, Noise, Null, Reference, Sample, Setting, Statistic, benjamini_hochberg, chi_square_p, finding, holm,
    shares, threshold,
};
use gloaming_stats::{Cells, CellsError};
use proptest::prelude::*;
use serde::Deserialize;

/// Discrete Laplace noise: the difference of two geometric counts (as in Ghosh, Roughgarden, Sundararajan 2009).
fn laplace(draws: &mut Draws, epsilon: f64) -> f64 {
    let mut geometric = || (draws.uniform().ln() / -epsilon).floor();
    geometric() - geometric()
}

fn laplace_variance(epsilon: f64) -> f64 {
    let alpha = (-epsilon).exp();
    2.0 * alpha / (1.0 - alpha).powi(2)
}

/// People drawn one by one, then noise.
fn release(draws: &mut Draws, shares: &[f64], people: usize, epsilon: f64, noise: Noise) -> Cells {
    let mut cells = vec![0.0; shares.len()];
    for _ in 0..people {
        let mut u = draws.uniform();
        let bin = shares.iter().position(|share| {
            u -= share;
            u < 0.0
        });
        cells[bin.unwrap_or(shares.len() - 1)] += 1.0;
    }
    let variance = laplace_variance(epsilon);
    for cell in &mut cells {
        *cell += match noise {
            Noise::Laplace => laplace(draws, epsilon),
            Noise::Gaussian => (variance.sqrt() * draws.normal()).round(),
        };
    }
    Cells::new(cells, variance).unwrap()
}

/// How many windows, of how many runs each one's threshold is, and which of independent streams they are drawn from.
#[derive(Clone, Copy)]
struct Drawn {
    windows: u64,
    runs: usize,
    stream: u64,
}

/// How many windows are called drifted at 1 %, with the reference ten times the window and as noisy. A threshold of its
/// own for each window: a 1 % threshold is exceeded by 1 %, be it of 199 runs or of 99.
fn alarms(
    [before, after]: [&[f64]; 2],
    (people, epsilon, noise): (usize, f64, Noise),
    statistic: &Statistic,
    drawn: Drawn,
) -> u64 {
    let mut draws = Draws::new(people as u64 ^ drawn.stream << 56);
    let mut alarms = 0;
    for window in 0..drawn.windows {
        let reference = Reference::Cells(release(&mut draws, before, 10 * people, epsilon, noise));
        let now = release(&mut draws, after, people, epsilon, noise);
        let Ok(found) = statistic.between(&reference, &now) else { continue };
        let setting = Setting::of(&reference, &now, noise).unwrap();
        let null = Null::simulate(&setting, statistic, drawn.runs, drawn.stream << 32 ^ window).unwrap();
        alarms += u64::from(found > null.threshold(0.01).unwrap());
    }
    alarms
}

/// Chance of `most` or fewer of `windows`, each with a chance of `share`: the binomial distribution, summed up.
fn at_most(most: u64, windows: u64, share: f64) -> f64 {
    let (mut log, mut sum) = (windows as f64 * (-share).ln_1p(), 0.0);
    for k in 0..=most.min(windows) {
        sum += log.exp();
        log += ((windows - k) as f64 / (k + 1) as f64 * share / (1.0 - share)).ln();
    }
    sum
}

/// Chance of `least` or more: of so few others, for a chance near one is not to be taken from one.
fn at_least(least: u64, windows: u64, share: f64) -> f64 {
    at_most(windows - least, windows, 1.0 - share)
}

#[derive(Deserialize)]
struct Golden {
    drift: Vec<Case>,
    many: Vec<Many>,
}

#[derive(Deserialize)]
struct Case {
    reference: Vec<f64>,
    window: Vec<f64>,
    positions: Vec<f64>,
    psi: f64,
    jensen_shannon: f64,
    hellinger: f64,
    wasserstein: f64,
    homogeneity: (f64, f64, usize),
    fit: Option<[f64; 2]>,
}

#[derive(Deserialize)]
struct Many {
    p: Vec<f64>,
    benjamini_hochberg: Vec<f64>,
    holm: Vec<f64>,
}

fn golden() -> Golden {
    let path = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../../tests/statistics/cells.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn exact(values: &[f64]) -> Cells {
    Cells::new(values.to_vec(), 0.0).unwrap()
}

#[test]
fn statistics_are_those_of_evidently_and_scipy() {
    let cases = golden().drift;
    assert_eq!(cases.len(), 7);
    for case in cases {
        let (reference, window) = (Reference::Cells(exact(&case.reference)), exact(&case.window));
        let of = |statistic: Statistic| statistic.between(&reference, &window).unwrap();
        let near = |what: &str, found: f64, wanted: f64| {
            let off = (found - wanted).abs() / wanted.abs().max(1.0);
            assert!(off < 1e-9, "{what} of {:?}: {found}, not {wanted}", case.window);
        };
        near("PSI", of(Statistic::Psi), case.psi);
        near("Jensen-Shannon", of(Statistic::JensenShannon), case.jensen_shannon);
        near("Hellinger", of(Statistic::Hellinger), case.hellinger);
        near("Wasserstein", of(Statistic::Wasserstein(case.positions.clone())), case.wasserstein);
        let (statistic, p, bins) = case.homogeneity;
        near("chi-square of homogeneity", of(Statistic::ChiSquare), statistic);
        near("its p", chi_square_p(statistic, bins).unwrap(), p);
        let usual = Reference::Shares(shares(&exact(&case.reference)).unwrap());
        let fit = Statistic::ChiSquare.between(&usual, &window);
        match case.fit {
            Some([statistic, p]) => {
                near("chi-square of fit", fit.unwrap(), statistic);
                near("its p", chi_square_p(statistic, case.window.len()).unwrap(), p);
            }
            None if case.window[2] == 0.0 => assert!(fit.is_ok(), "a bin empty in both weighs nothing"),
            None => assert!(matches!(fit, Err(DriftError::Unexpected(1 | 2))), "{fit:?}"),
        }
    }
}

#[test]
fn corrections_are_those_of_scipy_and_statsmodels() {
    for case in golden().many {
        let pairs = [(benjamini_hochberg(&case.p), case.benjamini_hochberg), (holm(&case.p), case.holm)];
        for (found, wanted) in pairs {
            let found = found.unwrap();
            assert_eq!(found.len(), wanted.len());
            assert!(found.iter().zip(&wanted).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?}, not {wanted:?}");
        }
    }
    assert!(matches!(benjamini_hochberg(&[0.5, f64::NAN]), Err(DriftError::Probability(1, _))));
    assert!(matches!(holm(&[1.1]), Err(DriftError::Probability(0, _))));
}

const EVEN: [f64; 10] = [0.1; 10];
const SKEWED: [f64; 10] = [0.4, 0.2, 0.1, 0.08, 0.07, 0.05, 0.04, 0.03, 0.02, 0.01];

fn positions() -> Statistic {
    Statistic::Wasserstein((0..10).map(f64::from).collect())
}

/// Beside the grid below: 400 windows are off by 0.5 points at one standard deviation.
#[test]
fn one_window_in_a_hundred_is_a_false_alarm() {
    let beside =
        [(SKEWED, 500, 0.1, Noise::Laplace, Statistic::ChiSquare), (SKEWED, 200, 1.0, Noise::Gaussian, positions())];
    for (shares, people, epsilon, noise, statistic) in beside {
        let drawn = Drawn { windows: 400, runs: 199, stream: 0 };
        let count = alarms([&shares, &shares], (people, epsilon, noise), &statistic, drawn);
        println!("{count} of 400 are false alarms: n {people}, epsilon {epsilon}, {noise:?}, {statistic:?}");
        assert!((1..9).contains(&count), "{count} at n {people}, epsilon {epsilon}, {noise:?}, {statistic:?}");
    }
}

/// A place of the grid, and between which shares false alarms are promised to be.
struct Place {
    shares: [f64; 10],
    statistic: Statistic,
    people: usize,
    epsilon: f64,
    promised: RangeInclusive<f64>,
}

impl Place {
    /// With two people expected in the rarest bin, the PSI hangs on whether it is empty.
    fn hangs(&self) -> bool {
        self.shares == SKEWED && self.statistic == Statistic::Psi
    }

    fn alarms(&self, noise: Noise, drawn: Drawn) -> u64 {
        let usual = [&self.shares[..]; 2];
        let count = alarms(usual, (self.people, self.epsilon, noise), &self.statistic, drawn);
        println!("{:.2} % false alarms: {}", 100.0 * count as f64 / drawn.windows as f64, self.name(noise));
        count
    }

    fn name(&self, noise: Noise) -> String {
        let Self { shares, statistic, people, epsilon, .. } = self;
        format!("n {people}, epsilon {epsilon}, {noise:?}, {statistic:?}, first bin {}", shares[0])
    }
}

/// What the documentation states: 1 % ± 0.5 from 200 people and an epsilon of 0.1 on.
fn grid() -> Vec<Place> {
    let all = [Statistic::Psi, Statistic::JensenShannon, Statistic::ChiSquare, positions()];
    let settings = [
        (EVEN, &all[..], 200, 0.1),
        (EVEN, &all[..], 200, 1.0),
        (EVEN, &all[..], 1_000, 0.1),
        (SKEWED, &all[..3], 200, 0.1),
        (SKEWED, &all[..3], 200, 1.0),
    ];
    let places = settings.into_iter().flat_map(|(shares, statistics, people, epsilon)| {
        statistics.iter().map(move |one| {
            let place = Place { shares, statistic: one.clone(), people, epsilon, promised: 0.005..=0.015 };
            if place.hangs() { Place { promised: 0.003..=0.02, ..place } } else { place }
        })
    });
    places.collect()
}

/// Windows at each place of the grid: with these a place with 2.2 % false alarms or 0.1 % is found out, with half as many one
/// with 2.6 %, with twice as many one with 2 % or 0.2 %.
const WINDOWS: u64 = 2_000;
/// What is less likely than this is not put down to chance.
const DOUBT: f64 = 0.01;

/// No place belies what is promised of it: were it just kept, counts as far off would be more than once in a hundred times.
/// And all together prove it: were it just broken, so few (or so many) would be seen once in a hundred times at most, which
/// lets 0.6 % to 1.34 % pass. Both by the binomial distribution itself, one side at a time.
fn false_alarms_are_promised(noise: Noise) {
    let (mut alarms, mut windows) = (0, 0);
    for (stream, place) in (1..).zip(grid()) {
        let count = place.alarms(noise, Drawn { windows: WINDOWS, runs: 99, stream });
        let (low, high) = (*place.promised.start(), *place.promised.end());
        let belied = at_most(count, WINDOWS, low).min(at_least(count, WINDOWS, high)) < DOUBT;
        assert!(!belied, "{count} of {WINDOWS} at {}", place.name(noise));
        if !place.hangs() {
            (alarms, windows) = (alarms + count, windows + WINDOWS);
        }
    }
    println!("{alarms} of {windows} together");
    let proven = at_least(alarms, windows, 0.005).max(at_most(alarms, windows, 0.015)) < DOUBT;
    assert!(proven, "{alarms} of {windows}");
}

#[test]
fn false_alarms_are_as_promised_under_gaussian_noise() {
    false_alarms_are_promised(Noise::Gaussian);
}

#[test]
fn false_alarms_are_as_promised_under_laplace_noise() {
    false_alarms_are_promised(Noise::Laplace);
}

/// The same by hand, so long that each place shows by itself what is promised of it.
#[test]
#[ignore = "takes minutes even with --release"]
fn one_window_in_a_hundred_is_a_false_alarm_over_the_whole_grid() {
    for noise in [Noise::Gaussian, Noise::Laplace] {
        for place in grid() {
            let count = place.alarms(noise, Drawn { windows: 4_000, runs: 199, stream: 0 });
            assert!(place.promised.contains(&(count as f64 / 4_000.0)), "{count} at {}", place.name(noise));
        }
    }
}

/// Sums of the binomial distribution, against counts that can be done by hand.
#[test]
fn bars_are_those_of_the_binomial_distribution() {
    let near = |found: f64, wanted: f64| assert!((found / wanted - 1.0).abs() < 1e-12, "{found}, not {wanted}");
    near(at_most(1, 4, 0.5), 5.0 / 16.0);
    near(at_most(0, 3, 0.1) + at_least(3, 3, 0.1), 0.73);
    near(at_most(3, 3, 0.1), 1.0);
    // Beyond where (1 - p)^n is a number: half of them, by symmetry.
    assert!((at_most(2_500, 5_001, 0.5) - 0.5).abs() < 1e-9);
}

/// The rule of thumb calls drift at 0.1, whoever is there.
#[test]
fn the_fixed_limit_cries_wolf_where_the_simulated_one_does_not() {
    let variance = laplace_variance(0.1);
    let sample = |total| Sample { total, variance };
    let limit = |total| {
        let setting = Setting::new(EVEN.to_vec(), sample(total), Some(sample(10.0 * total)), Noise::Laplace).unwrap();
        threshold(&setting, &Statistic::Psi, 0.01, 2_000, 3).unwrap()
    };
    let (few, many) = (limit(200.0), limit(5_000.0));
    println!("1 % thresholds of the PSI at epsilon 0.1: {few:.3} for 200 people, {many:.4} for 5,000");
    assert!(few > 0.8 && many < 0.02, "{few} {many}");
    let mut draws = Draws::new(5);
    let fixed = (0..300).filter(|_| {
        let reference = Reference::Cells(release(&mut draws, &EVEN, 2_000, 0.1, Noise::Laplace));
        let window = release(&mut draws, &EVEN, 200, 0.1, Noise::Laplace);
        Statistic::Psi.between(&reference, &window).is_ok_and(|found| found > 0.1)
    });
    assert!(fixed.count() > 270, "that limit is what this is for");
}

#[test]
fn a_psi_of_a_fifth_is_found_where_people_times_epsilon_is_a_thousand() {
    // Half the bins gain what the others lose, until the PSI is 0.2.
    let shifted = |d: f64| -> Vec<f64> { (0..10).map(|bin| if bin % 2 == 0 { 0.1 + d } else { 0.1 - d }).collect() };
    let psi = |d: f64| {
        Statistic::Psi
            .between(&Reference::Shares(EVEN.to_vec()), &exact(&shifted(d).iter().map(|s| 1e6 * s).collect::<Vec<_>>()))
            .unwrap()
    };
    let (mut low, mut high) = (0.0, 0.09);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if psi(middle) < 0.2 { low = middle } else { high = middle }
    }
    let after = shifted(low);
    for (stream, (people, epsilon, noise)) in (1..).zip([
        (1_000, 1.0, Noise::Laplace),
        (2_000, 0.5, Noise::Laplace),
        (10_000, 0.1, Noise::Laplace),
        (2_000, 0.5, Noise::Gaussian),
    ]) {
        for statistic in [Statistic::Psi, Statistic::JensenShannon, Statistic::ChiSquare] {
            let drawn = Drawn { windows: 200, runs: 199, stream };
            let count = alarms([&EVEN, &after], (people, epsilon, noise), &statistic, drawn);
            let what = format!("{count} of 200 found: n {people}, epsilon {epsilon}, {noise:?}, {statistic:?}");
            println!("{what}");
            // Were 95 % found, as many as that would be seen once in a hundred times at most: 197 are.
            assert!(at_least(count, 200, 0.95) < DOUBT, "{what}");
        }
    }
}

#[test]
fn a_threshold_and_a_p_say_the_same() {
    let sample = Sample { total: 500.0, variance: 8.0 };
    let setting = Setting::new(EVEN.to_vec(), sample, None, Noise::Gaussian).unwrap();
    let null = Null::simulate(&setting, &Statistic::Psi, 999, 1).unwrap();
    assert_eq!(null, Null::simulate(&setting, &Statistic::Psi, 999, 1).unwrap());
    assert_ne!(null, Null::simulate(&setting, &Statistic::Psi, 999, 2).unwrap());
    for alpha in [0.001, 0.01, 0.05, 0.5] {
        let limit = null.threshold(alpha).unwrap();
        assert!(null.p(limit) > alpha && null.p(limit + 1e-12) <= alpha + 1e-12, "{alpha}");
    }
    assert_eq!(null.p(f64::INFINITY), 0.001);
    assert_eq!(null.p(-1.0), 1.0);
    assert!(matches!(null.threshold(0.0009), Err(DriftError::Level(_, 999))));
    assert!(matches!(null.threshold(f64::NAN), Err(DriftError::Level(..))));
    assert_eq!(Null::simulate(&setting, &Statistic::Psi, 98, 1), Err(DriftError::Runs(98)));
}

/// Against the chi-square distribution, which is the right one for exact counts, and far from the first bins' sampler.
#[test]
fn simulated_thresholds_of_exact_counts_are_those_of_the_distribution() {
    for (total, shares) in [(2_000.0, EVEN.to_vec()), (80_000.0, SKEWED.to_vec()), (1_000.0, vec![0.2, 0.8])] {
        let bins = shares.len();
        let setting = Setting::new(shares, Sample { total, variance: 0.0 }, None, Noise::Gaussian).unwrap();
        let null = Null::simulate(&setting, &Statistic::ChiSquare, 9_999, 8).unwrap();
        for alpha in [0.5, 0.1, 0.01] {
            let p = chi_square_p(null.threshold(alpha).unwrap(), bins).unwrap();
            assert!((p / alpha - 1.0).abs() < 4.0 / (9_999.0 * alpha).sqrt() + 0.05, "{total}: {p} instead of {alpha}");
        }
    }
}

#[test]
fn findings_say_which_bins_changed_and_which_way() {
    let labels = ["home", "search", "product", "help"];
    let usual = Reference::Cells(Cells::new(vec![4_000.0, 3_000.0, 2_500.0, 500.0], 2.0).unwrap());
    let now = Cells::new(vec![320.0, 300.0, 330.0, 50.0], 2.0).unwrap();
    let found = finding("landing-page", &labels, &usual, &now, Noise::Laplace).unwrap();
    assert_eq!(found.changes.iter().map(|change| change.bin).collect::<Vec<_>>(), [0, 2, 1, 3]);
    let text = found.to_string();
    let wanted = "landing-page: `home` fell from 40.0 % to 32.0 % (-8.0 points, -11.9 to -4.0), `product` grew from 25.0 % to \
                  33.0 % (+8.0 points, +4.1 to +12.0)";
    assert_eq!(text, wanted);
    let noisy = Cells::new(now.values().to_vec(), 20_000.0).unwrap();
    let nothing = finding("landing-page", &labels, &usual, &noisy, Noise::Laplace).unwrap();
    assert_eq!(nothing.to_string(), "landing-page: no bin changed by more than chance and noise explain");
    assert_eq!(finding("x", &labels[..3], &usual, &now, Noise::Laplace), Err(DriftError::Labels(3, 4)));
}

/// All of a feature's intervals together, in 95 of 100 windows: with much noise, with little, and with few people,
/// where bins that two are expected in hold none or five.
#[test]
fn intervals_of_changes_hold_them_together() {
    let after = [0.35, 0.25, 0.1, 0.08, 0.07, 0.05, 0.04, 0.03, 0.02, 0.01];
    for (people, epsilon, after) in
        [(800.0, 0.3, &after), (200.0, 1.0, &SKEWED), (200.0, 20.0, &SKEWED), (3_000.0, 20.0, &after)]
    {
        let (mut draws, mut held) = (Draws::new(21), 0);
        for _ in 0..4_000 {
            let mut noised = |shares: &[f64], people: f64| {
                let mut cells: Vec<f64> = shares.iter().map(|_| laplace(&mut draws, epsilon)).collect();
                draws.spread(shares, people, &mut cells);
                Cells::new(cells, laplace_variance(epsilon)).unwrap()
            };
            let reference = Reference::Cells(noised(&SKEWED, 3_000.0));
            let window = noised(after, people);
            let found = finding("x", &[""; 10], &reference, &window, Noise::Laplace).unwrap();
            held += u32::from(found.changes.iter().all(|change| {
                let truth = after[change.bin] - SKEWED[change.bin];
                change.change.low <= truth && truth <= change.change.high
            }));
        }
        println!("{people} people, epsilon {epsilon}: {held} of 4,000 windows have all ten changes in their intervals");
        assert!(covers(held, 4_000, 0.95), "{held} of 4,000");
    }
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let usual = Reference::Cells(exact(&[5.0, 5.0]));
    let refused = |statistic: Statistic, reference: &Reference, window: &[f64]| {
        statistic.between(reference, &exact(window)).unwrap_err()
    };
    assert_eq!(refused(Statistic::Psi, &usual, &[1.0, 2.0, 3.0]), CellsError::Shape(3, 2).into());
    assert!(matches!(refused(Statistic::Psi, &usual, &[1.0, -0.5]), DriftError::Empty(_)));
    assert_eq!(refused(Statistic::Psi, &Reference::Shares(vec![1.0]), &[4.0]), DriftError::Bins(1));
    for bad in [vec![0.5, 0.6], vec![1.5, -0.5], vec![f64::NAN, 1.0]] {
        assert!(matches!(refused(Statistic::Psi, &Reference::Shares(bad), &[1.0, 2.0]), DriftError::Shares(_)));
    }
    for bad in [vec![1.0], vec![2.0, 1.0], vec![0.0, f64::NAN]] {
        assert!(matches!(refused(Statistic::Wasserstein(bad), &usual, &[1.0, 2.0]), DriftError::Positions(..)));
    }
    assert_eq!(chi_square_p(3.0, 1), Err(DriftError::Bins(1)));
    let noisy = Sample { total: 50.0, variance: 2.0 };
    let setting = Setting::new(vec![0.0, 1.0], noisy, None, Noise::Laplace).unwrap();
    assert_eq!(Null::simulate(&setting, &Statistic::ChiSquare, 99, 1), Err(DriftError::Unexpected(0)));
    let nobody = Setting::new(vec![0.5, 0.5], Sample { total: 0.0, variance: 2.0 }, None, Noise::Laplace);
    assert!(matches!(nobody, Err(DriftError::Empty(_))));
}

fn counts() -> impl Strategy<Value = (Vec<f64>, Vec<f64>)> {
    (2usize..12).prop_flat_map(|bins| {
        let cells = || proptest::collection::vec(-20.0..500.0_f64, bins);
        (cells(), cells())
            .prop_filter("somebody", |(a, b)| a.iter().sum::<f64>() >= 1.0 && b.iter().sum::<f64>() >= 1.0)
    })
}

proptest! {
    #[test]
    fn distances_are_zero_or_more_and_zero_from_oneself((a, b) in counts()) {
        let positions = (0..a.len()).map(|bin| bin as f64).collect();
        for statistic in [Statistic::Psi, Statistic::JensenShannon, Statistic::Hellinger, Statistic::ChiSquare, Statistic::Wasserstein(positions)] {
            let (one, other) = (Reference::Cells(exact(&a)), Reference::Cells(exact(&b)));
            let there = statistic.between(&one, &exact(&b)).unwrap();
            prop_assert!(there >= 0.0 && there.is_finite(), "{statistic:?} {there}");
            prop_assert!(statistic.between(&one, &exact(&a)).unwrap() < 1e-9);
            let back = statistic.between(&other, &exact(&a)).unwrap();
            if !matches!(statistic, Statistic::Wasserstein(_)) {
                prop_assert!((there - back).abs() <= 1e-9 * there.max(1.0), "{statistic:?}: {there} and {back}");
            }
            if statistic == Statistic::JensenShannon {
                prop_assert!(there <= std::f64::consts::LN_2.sqrt() + 1e-12);
            }
            if statistic == Statistic::Hellinger {
                prop_assert!(there <= 1.0);
            }
        }
    }

    #[test]
    fn shares_sum_to_one((a, _) in counts()) {
        let found = shares(&exact(&a)).unwrap();
        prop_assert!((found.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        prop_assert!(found.iter().zip(&a).all(|(share, cell)| *share >= 0.0 && (*cell > 0.0 || *share == 0.0)));
    }

    #[test]
    fn corrections_keep_the_order_and_never_help(p in proptest::collection::vec(0.0..=1.0_f64, 0..20)) {
        for adjusted in [benjamini_hochberg(&p).unwrap(), holm(&p).unwrap()] {
            for (at, value) in p.iter().enumerate() {
                prop_assert!(adjusted[at] >= *value - 1e-15 && adjusted[at] <= 1.0);
                prop_assert!(p.iter().zip(&adjusted).all(|(other, a)| other > value || *a <= adjusted[at]));
            }
        }
        let (gentle, strict) = (benjamini_hochberg(&p).unwrap(), holm(&p).unwrap());
        prop_assert!(gentle.iter().zip(&strict).all(|(a, b)| *a <= b + 1e-12));
    }
}
