//! Performance and recalibration from cells: figures against scikit-learn (goldens by `tests/statistics/cells.py`),
//! intervals and errors against simulated releases.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use gloaming_stats::draws::{Draws, covers};
use gloaming_stats::performance::recalibrate::{Fitted, Platt, gain, isotonic, platt};
use gloaming_stats::performance::{PerformanceError, Table, expected, performance};
use gloaming_stats::{Cells, CellsError, Estimate};
use proptest::prelude::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    performance: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    counts: Vec<f64>,
    scores: Vec<f64>,
    base_rate: f64,
    auc: f64,
    average_precision: f64,
    brier: f64,
    calibration_error: f64,
    isotonic: Vec<f64>,
    between: Vec<f64>,
    isotonic_between: Vec<f64>,
    platt: [f64; 2],
}

fn table(counts: &[f64], scores: &[f64], noise: f64) -> Table {
    Table::new(Cells::new(counts.to_vec(), noise).unwrap(), scores.to_vec()).unwrap()
}

fn cases() -> Vec<Case> {
    let path = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../../tests/statistics/cells.json");
    let golden: Golden = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(golden.performance.len(), 4);
    golden.performance
}

#[test]
fn figures_are_those_of_scikit_learn() {
    for case in cases() {
        let found = performance(&table(&case.counts, &case.scores, 0.0)).unwrap();
        for (what, found, wanted) in [
            ("base rate", found.base_rate, case.base_rate),
            ("AUC", found.auc, case.auc),
            ("average precision", found.average_precision, case.average_precision),
            ("Brier score", found.brier, case.brier),
            ("calibration error", found.calibration_error, case.calibration_error),
        ] {
            assert!((found.value - wanted).abs() < 1e-9, "{what}: {found:?}, not {wanted}");
            assert!(found.low <= found.value && found.value <= found.high, "{what}: {found:?}");
        }
    }
}

#[test]
fn recalibration_is_that_of_scikit_learn() {
    for case in cases() {
        let table = table(&case.counts, &case.scores, 0.0);
        let map = isotonic(&table).unwrap();
        let near = |found: f64, wanted: f64| assert!((found - wanted).abs() < 1e-9, "{found}, not {wanted}");
        assert_eq!(map.probabilities().len(), case.isotonic.len());
        map.probabilities().iter().zip(&case.isotonic).for_each(|(found, wanted)| near(*found, *wanted));
        for (score, wanted) in case.between.iter().zip(&case.isotonic_between) {
            near(map.probability(*score), *wanted);
        }
        let sigmoid = platt(&table).unwrap();
        near(sigmoid.slope, case.platt[0]);
        near(sigmoid.intercept, case.platt[1]);
    }
}

/// A shop's point: 4,725 people in 20 bins of equal mass, base rate about .2, AUC about .84.
struct Shop {
    scores: Vec<f64>,
    truth: Vec<f64>,
}

impl Shop {
    /// Outcomes follow the scores if `drift` is 1, less if it is less.
    fn new(drift: f64) -> Self {
        let logits: Vec<f64> = (0..20).map(|bin| -4.7 + 0.28 * f64::from(bin)).collect();
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let middle = -1.6;
        Self {
            scores: logits.iter().map(|x| sigmoid(*x)).collect(),
            truth: logits.iter().map(|x| sigmoid(middle + drift * (x - middle))).collect(),
        }
    }

    /// Figures of endless many people.
    fn limit(&self) -> gloaming_stats::performance::Performance {
        let counts: Vec<f64> = self.truth.iter().flat_map(|p| [1e9 * (1.0 - p), 1e9 * p]).collect();
        performance(&table(&counts, &self.scores, 0.0)).unwrap()
    }

    /// Counts as they are, and as they are released.
    fn release(&self, draws: &mut Draws, people: usize, epsilon: f64) -> [Table; 2] {
        let mut counts = vec![0.0; 40];
        for _ in 0..people {
            let bin = (20.0 * draws.uniform()) as usize;
            counts[2 * bin + usize::from(draws.uniform() < self.truth[bin])] += 1.0;
        }
        self.noised(draws, &counts, epsilon)
    }

    /// The same, quicker: cell by cell.
    fn counted(&self, draws: &mut Draws, people: f64, epsilon: f64) -> [Table; 2] {
        let chances: Vec<f64> = self.truth.iter().flat_map(|p| [(1.0 - p) / 20.0, p / 20.0]).collect();
        let mut counts = vec![0.0; 40];
        draws.spread(&chances, people, &mut counts);
        self.noised(draws, &counts, epsilon)
    }

    fn noised(&self, draws: &mut Draws, counts: &[f64], epsilon: f64) -> [Table; 2] {
        let mut geometric = || (draws.uniform().ln() / -epsilon).floor();
        let noised: Vec<f64> = counts.iter().map(|count| count + geometric() - geometric()).collect();
        let alpha = (-epsilon).exp();
        let variance = 2.0 * alpha / (1.0 - alpha).powi(2);
        [table(counts, &self.scores, 0.0), table(&noised, &self.scores, variance)]
    }
}

fn holds(estimate: Estimate, truth: f64) -> bool {
    estimate.low <= truth && truth <= estimate.high
}

/// Of thousands and of dozens, with noise and without, of scores that come true and of such that do not.
#[test]
fn intervals_hold_the_truth_and_the_auc_errs_by_little() {
    const EXACTLY: f64 = f64::INFINITY;
    for (drift, people, epsilon, bar) in [
        (1.0, 4_725.0, 1.0, Some(0.006)),
        (1.0, 2_000.0, 0.3, None),
        (0.6, 2_000.0, 1.0, None),
        (1.0, 200.0, EXACTLY, None),
        (1.0, 60.0, EXACTLY, None),
        (2.0, 200.0, EXACTLY, None),
    ] {
        let shop = Shop::new(drift);
        let (limit, mut draws) = (shop.limit(), Draws::new(3));
        let (mut held, mut width, mut asked, mut errors) = ([0; 5], 0.0, 0, Vec::new());
        for _ in 0..10_000 {
            let [exact, noised] = shop.counted(&mut draws, people, epsilon);
            let Ok(found) = performance(&noised) else { continue };
            asked += 1;
            errors.extend(performance(&exact).map(|exact| (found.auc.value - exact.auc.value).abs()));
            width += found.auc.high - found.auc.low;
            let pairs = [
                (found.auc, limit.auc),
                (found.average_precision, limit.average_precision),
                (found.brier, limit.brier),
                (found.base_rate, limit.base_rate),
                (found.calibration_error, limit.calibration_error),
            ];
            pairs
                .iter()
                .zip(&mut held)
                .for_each(|((found, truth), held)| *held += u32::from(holds(*found, truth.value)));
        }
        errors.sort_by(f64::total_cmp);
        let (middle, worst) = (errors[errors.len() / 2], errors[errors.len() * 95 / 100]);
        println!(
            "n {people}, epsilon {epsilon}, AUC {:.4} by {:.4}, base rate {:.3}: AUC error median {middle:.4}, p95 {worst:.4}; of {asked} AUC, AP, Brier, base rate and ECE are held {held:?} times",
            limit.auc.value,
            width / f64::from(asked),
            limit.base_rate.value
        );
        assert!(
            asked > 5_000 && held.iter().all(|held| covers(*held, asked, 0.95)),
            "AUC, AP, Brier, base rate, ECE: {held:?}"
        );
        let most = asked * 98 / 100;
        assert!(people < 1_000.0 || (held[0] <= most && held[3] <= most), "no wider than need be: {held:?}");
        assert!(bar.is_none_or(|bar| worst <= bar), "{worst}");
    }
}

/// The variance that derivatives by finite differences give for chance and noise.
fn variance(values: &[f64], noise: f64, chance: &[f64], figure: impl Fn(&[f64]) -> f64) -> f64 {
    let slope = |at: usize| {
        let [up, down] = [1e-3, -1e-3].map(|step| {
            let mut moved = values.to_vec();
            moved[at] += step;
            figure(&moved)
        });
        (up - down) / 2e-3
    };
    let slopes: Vec<f64> = (0..values.len()).map(slope).collect();
    let chance: f64 = slopes.iter().zip(chance).map(|(slope, count)| count * slope * slope).sum();
    chance + noise * slopes.iter().map(|slope| slope * slope).sum::<f64>()
}

#[test]
fn intervals_follow_the_derivatives() {
    // All figures and ends lie within 0 and 1 here, and all are ratios, so no total needs to be held.
    let counts = [70.0, 12.0, 60.0, 25.0, 40.0, 44.0, 20.0, 61.0];
    let scores = [0.1, 0.3, 0.55, 0.8];
    let told =
        |times: f64, noise: f64| performance(&table(&counts.map(|count| times * count), &scores, noise)).unwrap();
    // Of so many, chance is that of a normal distribution.
    let (exact, noised, many) = (told(1.0, 0.0), told(1.0, 2.0), told(1e6, 0.0));
    let reach = 1.959_963_984_540_054;
    type Of = fn(&gloaming_stats::performance::Performance) -> Estimate;
    let figures: [(&str, Of); 4] = [
        ("AUC", |p| p.auc),
        ("average precision", |p| p.average_precision),
        ("Brier score", |p| p.brier),
        ("base rate", |p| p.base_rate),
    ];
    for (what, of) in figures {
        let figure = |counts: &[f64]| of(&performance(&table(counts, &scores, 0.0)).unwrap()).value;
        let half = reach * (variance(&counts, 0.0, &counts, figure) / 1e6).sqrt();
        let mut noise = variance(&counts, 2.0, &[0.0; 8], figure);
        if what == "AUC" {
            // Products of two noises: of each pair of bins in full, of a bin with itself by half.
            let pairs: f64 = [190.0, 142.0].iter().product();
            noise += 2.0 * 2.0 * (6.0 + 4.0 / 4.0) / (pairs * pairs);
        }
        type Side = fn(Estimate) -> f64;
        for side in [(|it| it.value - it.low) as Side, |it| it.high - it.value] {
            let (chance, both) = (side(of(&exact)), side(of(&noised)));
            let found = (both * both - chance * chance) / (reach * reach);
            assert!((found / noise - 1.0).abs() < 1e-5, "{what}: noise of {found}, not {noise}");
            let found = side(of(&many));
            assert!((found / half - 1.0).abs() < 2e-3, "{what}: ± {found}, not ± {half}");
        }
    }
}

#[test]
fn expected_intervals_follow_the_derivatives_too() {
    let (people, probabilities) = ([300.0, 200.0, 150.0, 100.0], [0.1, 0.25, 0.5, 0.75]);
    let of =
        |people: &[f64], noise: f64| expected(&Cells::new(people.to_vec(), noise).unwrap(), &probabilities).unwrap();
    let (exact, noised) = (of(&people, 0.0), of(&people, 9.0));
    let square = |estimate: Estimate| ((estimate.high - estimate.value) / 1.959_963_984_540_054).powi(2);
    for (what, exact, noised, figure) in [
        (
            "base rate",
            exact.base_rate,
            noised.base_rate,
            (|e| e.base_rate.value) as fn(gloaming_stats::performance::Expected) -> f64,
        ),
        ("AUC", exact.auc, noised.auc, |e| e.auc.value),
    ] {
        let wanted = variance(&people, 9.0, &[0.0; 4], |people| figure(of(people, 0.0)));
        let grown = square(noised) - square(exact);
        // The AUC's also by products of noises, a few per cent.
        assert!(grown >= 0.9999 * wanted && grown <= 1.1 * wanted, "{what}: grown by {grown}, not {wanted}");
    }
}

/// Outcomes stop following the scores; people stay the same.
#[test]
fn concept_drift_shows_in_outcomes_and_not_in_scores() {
    let (before, after) = (Shop::new(1.0), Shop::new(0.6));
    let mut draws = Draws::new(8);
    let [_, learnt] = before.release(&mut draws, 20_000, 1.0);
    let probabilities = isotonic(&learnt).unwrap().probabilities().to_vec();
    let mut alarms = [0; 2];
    for _ in 0..60 {
        let [_, window] = after.release(&mut draws, 4_725, 1.0);
        let histogram: Vec<f64> = window.cells().values().chunks(2).map(|pair| pair[0] + pair[1]).collect();
        let histogram = Cells::new(histogram, 2.0 * window.cells().variance()).unwrap();
        let promised = before.limit().auc.value;
        let told = expected(&histogram, &probabilities).unwrap();
        alarms[0] += u32::from(performance(&window).unwrap().auc.high < promised - 0.02);
        alarms[1] += u32::from(told.auc.high < promised - 0.02);
    }
    println!(
        "of 60 windows whose AUC fell from {:.3} to {:.3}: {} alarms from outcomes, {} from scores alone",
        before.limit().auc.value,
        after.limit().auc.value,
        alarms[0],
        alarms[1]
    );
    assert_eq!(alarms, [60, 0]);
}

#[test]
fn without_drift_the_expected_figures_hold_the_real_ones() {
    let shop = Shop::new(1.0);
    let (mut draws, mut held) = (Draws::new(5), [0; 2]);
    for _ in 0..10_000 {
        let [exact, window] = shop.counted(&mut draws, 2_000.0, 0.5);
        let histogram: Vec<f64> = window.cells().values().chunks(2).map(|pair| pair[0] + pair[1]).collect();
        let told = expected(&Cells::new(histogram, 2.0 * window.cells().variance()).unwrap(), &shop.truth).unwrap();
        let real = performance(&exact).unwrap();
        held[0] += u32::from(holds(told.auc, real.auc.value));
        held[1] += u32::from(holds(told.base_rate, real.base_rate.value));
    }
    println!("{held:?} of 10,000 expected AUCs and base rates hold the real one");
    assert!(held.iter().all(|held| covers(*held, 10_000, 0.95)), "{held:?}");
}

#[test]
fn recalibration_from_noised_cells_mends_a_wrong_model() {
    let shop = Shop::new(0.6);
    let mut draws = Draws::new(14);
    let before = shop.limit().calibration_error.value;
    let [_, window] = shop.release(&mut draws, 4_725, 1.0);
    let (map, sigmoid) = (isotonic(&window).unwrap(), platt(&window).unwrap());
    let error = |probability: &dyn Fn(f64) -> f64| -> f64 {
        shop.scores.iter().zip(&shop.truth).map(|(score, truth)| (probability(*score) - truth).abs()).sum::<f64>()
            / 20.0
    };
    let (stepped, smooth) = (error(&|score| map.probability(score)), error(&|score| sigmoid.probability(score)));
    println!("calibration error {before:.4}; isotonic {stepped:.4}; Platt {smooth:.4}");
    assert!(before > 0.05 && stepped < 0.03 && smooth < 0.01, "{before} {stepped} {smooth}");
    assert!((sigmoid.slope - 0.6).abs() < 0.1);
}

/// Two maps, one near to what comes true and one that says what the score says, on two halves of unlike noise.
#[test]
fn a_gain_is_the_fall_of_the_brier_score_and_its_interval_holds_the_truth() {
    let shop = Shop::new(0.6);
    let maps = [(1.0, 0.0), (0.6, -0.6)].map(|(slope, intercept)| Fitted::Sigmoid(Platt { slope, intercept }));
    let of = |halves: &[Table; 2]| gain([0, 1].map(|half| (&halves[half], [&maps[0], &maps[1]]))).unwrap();
    let by = |table: &Table, map: &Fitted| {
        let scores = table.scores().iter().map(|score| map.probability(*score)).collect();
        performance(&Table::new(table.cells().clone(), scores).unwrap()).unwrap().brier.value
    };
    let (mut draws, mut held, mut sure) = (Draws::new(39), 0, 0);
    let counts: Vec<f64> = shop.truth.iter().flat_map(|p| [1e9 * (1.0 - p), 1e9 * p]).collect();
    let endless = table(&counts, &shop.scores, 0.0);
    let truth = by(&endless, &maps[0]) - by(&endless, &maps[1]);
    for _ in 0..600 {
        let [[exact, one], [_, other]] = [(2_500, 1.0), (2_000, 0.5)].map(|(n, e)| shop.release(&mut draws, n, e));
        // Of one table twice it is what two Brier scores of that table differ by.
        let twice = of(&[exact.clone(), exact.clone()]).value;
        assert!((twice - (by(&exact, &maps[0]) - by(&exact, &maps[1]))).abs() < 1e-12);
        let found = of(&[one, other]);
        held += u32::from(holds(found, truth));
        sure += u32::from(found.low > 0.0);
    }
    println!("a gain of {truth:.4}: held in {held} of 600, sure in {sure}");
    assert!((564..=594).contains(&held), "{held}");
    assert!(truth > 0.0 && sure > 300, "{truth} {sure}");
}

/// What `gloaming model recalibrate --method auto` goes by: each fitted to one half of some windows and judged on the other.
#[test]
fn a_line_is_surely_better_where_no_sigmoid_fits_and_not_where_one_does() {
    let mut bent = Shop::new(1.0);
    // Flat for most, and steep for the highest scores.
    bent.truth = (0..20_i32).map(|bin| 0.08 + 0.003 * f64::from(bin) + 0.05 * f64::from((bin - 13).max(0))).collect();
    let mut draws = Draws::new(39);
    let [smooth, bent] = [Shop::new(0.6), bent].map(|shop| {
        let surely = |_: &u32| {
            let halves = [(); 2].map(|()| shop.release(&mut draws, 4_725, 1.0)[1].clone());
            let fit =
                |half: &Table| [Fitted::Sigmoid(platt(half).unwrap()), Fitted::Line(isotonic(half).unwrap().growing())];
            let [one, other] = halves.each_ref().map(fit);
            gain([(&halves[0], other.each_ref()), (&halves[1], one.each_ref())]).unwrap().low > 0.0
        };
        (0..200_u32).filter(surely).count()
    });
    println!("isotonic regression is taken in {smooth} of 200 where a sigmoid is true, in {bent} where none is");
    assert!(smooth <= 6 && bent >= 180, "{smooth} {bent}");
}

#[test]
fn what_says_nothing_is_refused() {
    let cells = |values: &[f64], noise: f64| Cells::new(values.to_vec(), noise).unwrap();
    let four = cells(&[20.0, 5.0, 10.0, 30.0], 0.0);
    assert_eq!(Table::new(four.clone(), vec![0.5]), Err(PerformanceError::Bins(1)));
    assert_eq!(Table::new(four.clone(), vec![0.1, 0.2, 0.3]), Err(CellsError::Shape(4, 6).into()));
    for bad in [[0.2, 0.2], [0.3, 0.2], [-0.1, 0.5], [0.1, f64::NAN]] {
        assert!(matches!(Table::new(four.clone(), bad.to_vec()), Err(PerformanceError::Score(..))), "{bad:?}");
    }
    assert_eq!(Table::from_edges(four.clone(), &[0.0, 0.2, 1.0]).unwrap().scores(), [0.1, 0.6]);
    let few = Table::new(cells(&[20.0, 4.0, 10.0, 5.0], 0.0), vec![0.1, 0.6]).unwrap();
    assert!(matches!(performance(&few), Err(PerformanceError::Outcomes(_, "with", _))));
    let loud = Table::new(cells(&[20.0, 5.0, 10.0, 30.0], 100.0), vec![0.1, 0.6]).unwrap();
    assert!(matches!(performance(&loud), Err(PerformanceError::Outcomes(_, "without", _))));
    assert!(matches!(isotonic(&loud), Err(PerformanceError::Outcomes(..))));
    let reversed = Table::new(cells(&[5.0, 30.0, 30.0, 5.0], 0.0), vec![0.1, 0.6]).unwrap();
    assert!(matches!(platt(&reversed), Err(PerformanceError::Reversed(_))));
    let apart = Table::new(cells(&[40.0, 0.0, 0.0, 30.0], 0.0), vec![0.1, 0.6]).unwrap();
    assert_eq!(platt(&apart), Err(PerformanceError::Separated));
    assert!(matches!(expected(&cells(&[50.0, 50.0], 0.0), &[0.4, 0.3]), Err(PerformanceError::Score(1, _))));
    assert_eq!(expected(&cells(&[50.0, 50.0], 0.0), &[0.4]), Err(PerformanceError::Bins(1)));
    assert!(matches!(expected(&cells(&[50.0, 50.0], 0.0), &[0.0, 0.1]), Err(PerformanceError::Outcomes(_, "with", _))));
}

fn tables() -> impl Strategy<Value = Table> {
    (2usize..12).prop_flat_map(|bins| {
        let counts = proptest::collection::vec(0..300_u32, 2 * bins);
        counts.prop_filter_map("enough of both", move |counts| {
            let counts: Vec<f64> = counts.iter().map(|count| f64::from(*count)).collect();
            let side = |side: usize| counts.iter().skip(side).step_by(2).sum::<f64>();
            let scores: Vec<f64> = (0..bins).map(|bin| (bin as f64 + 0.5) / bins as f64).collect();
            (side(0) >= 10.0 && side(1) >= 10.0).then(|| table(&counts, &scores, 0.0))
        })
    })
}

/// Of all bins with somebody in them: the largest, over where a run of bins up to this one may begin, of the least rate of
/// any such run (Ayer et al. 1955), by which isotonic regression is defined without pooling anything.
fn largest_of_least(bins: &[[f64; 2]], at: usize) -> f64 {
    let rate = |from: usize, to: usize| {
        let [rest, hits] = bins[from..=to].iter().fold([0.0; 2], |sum, bin| [sum[0] + bin[0], sum[1] + bin[1]]);
        hits / (rest + hits)
    };
    let least = |from: usize| (at..bins.len()).map(|to| rate(from, to)).fold(f64::INFINITY, f64::min);
    (0..=at).map(least).fold(0.0, f64::max)
}

proptest! {
    #[test]
    fn isotonic_regression_is_what_it_is_defined_as(one in tables()) {
        let map = isotonic(&one).unwrap();
        let bins: Vec<[f64; 2]> = one.cells().values().chunks(2).map(|pair| [pair[0], pair[1]]).collect();
        let met: Vec<usize> = (0..bins.len()).filter(|bin| bins[*bin][0] + bins[*bin][1] > 0.0).collect();
        let kept: Vec<[f64; 2]> = met.iter().map(|bin| bins[*bin]).collect();
        for (place, bin) in met.iter().enumerate() {
            let (found, wanted) = (map.probabilities()[*bin], largest_of_least(&kept, place));
            prop_assert!((found - wanted).abs() < 1e-12, "bin {bin}: {found}, not {wanted}");
        }
    }

    #[test]
    fn a_growing_map_grows_within_0_and_1_and_says_nearly_the_same(
        one in tables(), shaken in proptest::collection::vec(-25.0..25.0_f64, 22), noise in 0.0..9.0_f64
    ) {
        let counts: Vec<f64> = one.cells().values().iter().zip(&shaken).map(|(count, by)| count + by * noise).collect();
        // Cells below nothing, and bins that drown, among them.
        let Ok(map) = isotonic(&table(&counts, one.scores(), noise * noise)) else { return Ok(()) };
        prop_assert!(map.probabilities().iter().all(|p| (0.0..=1.0).contains(p)));
        let growing = map.growing();
        prop_assert!(growing.scores().is_sorted_by(|a, b| a < b) && growing.scores().len() == one.scores().len() + 2);
        let told: Vec<f64> = (0..=1_000).map(|score| growing.probability(f64::from(score) / 1_000.0)).collect();
        prop_assert!(told.is_sorted_by(|a, b| a < b), "{told:?}");
        prop_assert!(told.iter().all(|p| *p > 0.0 && *p < 1.0));
        for score in one.scores() {
            let (before, after) = (map.probability(*score), growing.probability(*score));
            prop_assert!((after - before).abs() <= 0.01 * (score - before).abs() + 1e-6, "{score}: {before} {after}");
        }
    }

    #[test]
    fn outcomes_turned_round_turn_the_auc_round(one in tables()) {
        let turned: Vec<f64> = one.cells().values().chunks(2).flat_map(|pair| [pair[1], pair[0]]).collect();
        let (a, b) = (performance(&one).unwrap(), performance(&table(&turned, one.scores(), 0.0)).unwrap());
        prop_assert!((a.auc.value + b.auc.value - 1.0).abs() < 1e-12);
        prop_assert!((a.auc.low + b.auc.high - 1.0).abs() < 1e-9);
        prop_assert!((a.base_rate.value + b.base_rate.value - 1.0).abs() < 1e-12);
        for estimate in [a.auc, a.average_precision, a.brier, a.calibration_error, a.base_rate] {
            prop_assert!(0.0 <= estimate.low && estimate.low <= estimate.value && estimate.value <= estimate.high && estimate.high <= 1.0);
        }
    }

    #[test]
    fn noise_widens_intervals_and_moves_no_value_but_the_calibration_error(one in tables(), noise in 0.01..0.4_f64) {
        let noised = table(one.cells().values(), one.scores(), noise);
        let (a, b) = (performance(&one).unwrap(), performance(&noised).unwrap());
        for (a, b) in [(a.auc, b.auc), (a.average_precision, b.average_precision), (a.brier, b.brier), (a.base_rate, b.base_rate)] {
            prop_assert!(a.value == b.value && b.low <= a.low && b.high >= a.high, "{a:?} {b:?}");
        }
        prop_assert!(b.calibration_error.value <= a.calibration_error.value);
    }

    #[test]
    fn recalibration_never_falls_and_keeps_the_base_rate(one in tables()) {
        let map = isotonic(&one).unwrap();
        prop_assert!(map.probabilities().windows(2).all(|pair| pair[0] <= pair[1] + 1e-12));
        prop_assert!(map.probabilities().iter().all(|p| (0.0..=1.0).contains(p)));
        let people = one.cells().values().chunks(2).map(|pair| pair[0] + pair[1]);
        let mean = people.zip(map.probabilities()).map(|(n, p)| n * p).sum::<f64>() / one.cells().total();
        prop_assert!((mean - performance(&one).unwrap().base_rate.value).abs() < 1e-9);
        if let Ok(sigmoid) = platt(&one) {
            prop_assert!(sigmoid.probability(0.2) <= sigmoid.probability(0.7));
            let people = one.cells().values().chunks(2).map(|pair| pair[0] + pair[1]);
            let mean = people.zip(one.scores()).map(|(n, s)| n * sigmoid.probability(*s)).sum::<f64>() / one.cells().total();
            prop_assert!((mean - performance(&one).unwrap().base_rate.value).abs() < 1e-9);
        }
    }
}
