//! Figures of held-out rows against scikit-learn and Fairlearn; goldens by `tests/exporters/evaluate.py`.
#![cfg(feature = "lower")]
#![allow(clippy::unwrap_used)]

use std::path::Path;

use gloaming_model::evaluate::{EvaluateError, gaps, performance};
use gloaming_stats::draws::{Draws, covers};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    threshold: f64,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    scores: Vec<f64>,
    outcomes: Vec<u8>,
    groups: Vec<String>,
    edges: Vec<f64>,
    auc: f64,
    auc_ends: [f64; 2],
    average_precision: f64,
    brier: f64,
    calibration_error: f64,
    selection_gap: f64,
    odds_gap: f64,
}

fn golden() -> Golden {
    let path = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../../tests/exporters/evaluate.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn figures_are_those_of_scikit_learn_and_fairlearn() {
    let Golden { threshold, cases } = golden();
    for case in cases {
        let outcomes: Vec<bool> = case.outcomes.iter().map(|outcome| *outcome == 1).collect();
        let found = performance(&case.scores, &outcomes, &case.edges, 7).unwrap();
        let gaps = gaps(&case.scores, &outcomes, &case.groups, threshold).unwrap();
        for (what, found, wanted) in [
            ("AUC", found.auc.value, case.auc),
            ("average precision", found.average_precision.value, case.average_precision),
            ("Brier score", found.brier.value, case.brier),
            ("calibration error", found.calibration_error.value, case.calibration_error),
            ("selection gap", gaps.selection.value, case.selection_gap),
            ("odds gap", gaps.odds.value, case.odds_gap),
        ] {
            assert!((found - wanted).abs() < 1e-12, "{what} of {} rows: {found}, not {wanted}", case.scores.len());
        }
        // Two bootstraps with other draws, and percentiles on the one side: the ends differ by a tenth of the width.
        let [low, high] = case.auc_ends;
        let tenth = (high - low) / 10.0;
        assert!((found.auc.low - low).abs() < tenth && (found.auc.high - high).abs() < tenth, "{:?}", found.auc);
        for estimate in [found.auc, found.average_precision, found.brier, found.calibration_error, gaps.odds] {
            assert!(estimate.low <= estimate.value && estimate.value <= estimate.high, "{estimate:?}");
        }
        assert_eq!(found, performance(&case.scores, &outcomes, &case.edges, 7).unwrap(), "the same seed says the same");
    }
}

/// Of scores that tell nothing, and of such that come true as often as they say: an AUC of 5/6, and a calibration error of none, which
/// percentiles of a bootstrap never reach down to.
#[test]
fn intervals_hold_the_truth_as_often_as_they_say() {
    const RUNS: u32 = 200;
    for (comes_true, [auc, average_precision, brier, error]) in
        [(false, [0.5, 0.3, 1.0 / 3.0, 0.25]), (true, [5.0 / 6.0, 5.0 / 6.0, 1.0 / 6.0, 0.0])]
    {
        let (mut held, mut draws) = ([0; 4], Draws::new(1));
        for seed in 0..u64::from(RUNS) {
            let scores: Vec<f64> = (0..150).map(|_| draws.uniform()).collect();
            let chance = |score: &f64| if comes_true { *score } else { 0.3 };
            let outcomes: Vec<bool> = scores.iter().map(|score| draws.uniform() < chance(score)).collect();
            let found = performance(&scores, &outcomes, &[0.5], seed).unwrap();
            for (held, (found, truth)) in held.iter_mut().zip([
                (found.auc, auc),
                (found.average_precision, average_precision),
                (found.brier, brier),
                (found.calibration_error, error),
            ]) {
                *held += u32::from(found.low <= truth && truth <= found.high);
            }
        }
        println!("of {RUNS} AUCs, average precisions, Brier scores and calibration errors {held:?} are held");
        assert!(held.iter().all(|held| covers(*held, RUNS, 0.95)), "{held:?} of {RUNS}");
    }
}

#[test]
fn what_says_nothing_is_refused() {
    let scores = vec![0.5; 120];
    let some = |at: usize| (0..120).map(|row| row < at).collect::<Vec<_>>();
    assert_eq!(performance(&scores[..99], &some(50)[..99], &[0.5], 1), Err(EvaluateError::Rows(99)));
    assert_eq!(performance(&scores, &some(9), &[0.5], 1), Err(EvaluateError::Outcomes(9, 120)));
    assert_eq!(performance(&scores, &some(111), &[0.5], 1), Err(EvaluateError::Outcomes(111, 120)));
    for bad in [f64::NAN, f64::INFINITY, -0.1, 1.1] {
        let mut scores = scores.clone();
        scores[3] = bad;
        assert!(matches!(performance(&scores, &some(60), &[0.5], 1), Err(EvaluateError::Score(3, _))));
    }
    let groups =
        |few: usize| (0..120).map(|row| if row >= 120 - few { "few" } else { "many" }.to_owned()).collect::<Vec<_>>();
    assert_eq!(gaps(&scores, &some(60), &groups(29), 0.5), Err(EvaluateError::Group("few".into(), 29)));
    assert_eq!(gaps(&scores, &some(60), &groups(0), 0.5), Err(EvaluateError::OneGroup));
    let few = |of: usize| (0..120).map(|row| if row < 90 { row % 2 == 0 } else { row < 90 + of }).collect::<Vec<_>>();
    let nobody = Err(EvaluateError::GroupOutcomes("few".into(), 4, 30));
    assert_eq!(gaps(&scores, &few(4), &groups(30), 0.5), nobody);
    assert!(gaps(&scores, &few(5), &groups(30), 0.5).is_ok());
}
