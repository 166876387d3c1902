//! A real model over real months, seen from noised cells only: UCI Online Shoppers, scored by the model that is shipped,
//! counted by score bin and outcome, noised by the sampler that edges use. The data are no part of this project: without
//! `GLOAMING_DATA`, the folder that holds them, nothing is tried, and that is said.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use gloaming_e2e::exported::at;
use gloaming_model::Model;
use gloaming_privacy::{Mechanism, Rho, noised, sample, scale};
use gloaming_stats::Cells;
use gloaming_stats::performance::recalibrate::isotonic;
use gloaming_stats::performance::{Table, expected, performance};

const COLUMNS: [&str; 6] = [
    "Administrative",
    "Administrative_Duration",
    "Informational",
    "Informational_Duration",
    "ProductRelated",
    "ProductRelated_Duration",
];
/// Noise of epsilon 1: rho is half its square, at one contribution of 1.
const RHO: u64 = 500_000;
/// Two in each unit of the Laplace's scale.
const VARIANCE: f64 = 2.0;
const SEEDS: u8 = 40;

/// Visits: score, and whether it ended in a purchase.
type Rows = Vec<(f64, bool)>;
/// By month.
type Months = BTreeMap<String, Rows>;

fn months(model: &Model) -> Option<Months> {
    let Some(data) = std::env::var_os("GLOAMING_DATA") else {
        println!("skipped: GLOAMING_DATA is not set");
        return None;
    };
    let text = fs::read_to_string(Path::new(&data).join("online_shoppers/online_shoppers_feb_nov.csv")).unwrap();
    let mut lines = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let head = lines.next().unwrap();
    let place = |name: &str| head.iter().position(|column| *column == name).unwrap();
    let mut months = Months::new();
    for row in lines {
        let mut features: Vec<f32> = COLUMNS.iter().map(|name| row[place(name)].parse().unwrap()).collect();
        features.push(f32::from(u8::from(row[place("VisitorType")] == "Returning_Visitor")));
        features.push(f32::from(u8::from(row[place("Weekend")].eq_ignore_ascii_case("true"))));
        let bought = row[place("Revenue")].eq_ignore_ascii_case("true");
        let score = f64::from(model.score(&features).unwrap());
        months.entry(row[place("Month")].to_owned()).or_default().push((score, bought));
    }
    Some(months)
}

fn edges(model: &Model) -> Vec<f64> {
    [&[0.0], &model.manifest().score_edges[..], &[1.0]].concat()
}

/// The mean score of each bin in the training months, which an owner knows of the model before it meets anybody.
fn middles(rows: &[(f64, bool)], edges: &[f64]) -> Vec<f64> {
    let of = |bin: usize| {
        let here: Vec<f64> = rows.iter().filter(|row| bin_of(row.0, edges) == bin).map(|row| row.0).collect();
        here.iter().sum::<f64>() / here.len() as f64
    };
    (0..edges.len() - 1).map(of).collect()
}

fn bin_of(score: f64, edges: &[f64]) -> usize {
    edges[1..edges.len() - 1].partition_point(|edge| *edge <= score)
}

/// What arrives at the centre of a window.
fn released(rows: &[(f64, bool)], edges: &[f64], seed: u8) -> Vec<f64> {
    let mut exact = vec![0u64; 2 * (edges.len() - 1)];
    for (score, bought) in rows {
        exact[2 * bin_of(*score, edges) + usize::from(*bought)] += 1;
    }
    let scales = vec![scale(1, 1, Rho::from_micro(RHO)); exact.len()];
    let noise = sample(&[seed; 32], 86_400_000, 1, 40, Mechanism::Laplace, &scales);
    noised(&exact, &noise).into_iter().map(|value| value as f64).collect()
}

fn table(rows: &[(f64, bool)], edges: &[f64], scores: &[f64], seed: u8) -> Table {
    Table::new(Cells::new(released(rows, edges, seed), VARIANCE).unwrap(), scores.to_vec()).unwrap()
}

/// Pairs of rows ranked right, ties half.
fn auc(rows: &[(f64, bool)]) -> f64 {
    let mut sorted = rows.to_vec();
    sorted.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (mut below, mut right, mut at) = (0.0, 0.0, 0);
    while at < sorted.len() {
        let same: Vec<_> = sorted[at..].iter().take_while(|row| row.0 == sorted[at].0).collect();
        let bought = same.iter().filter(|row| row.1).count() as f64;
        let not = same.len() as f64 - bought;
        right += bought * (below + not / 2.0);
        (below, at) = (below + not, at + same.len());
    }
    let bought = rows.iter().filter(|row| row.1).count() as f64;
    right / (bought * (rows.len() as f64 - bought))
}

/// Mean gap between what was predicted and what happened, over twenty bins of as many rows each.
fn calibration_error(rows: &[(f64, bool)]) -> f64 {
    let mut sorted = rows.to_vec();
    sorted.sort_by(|one, other| one.0.total_cmp(&other.0));
    let gap = |rows: &[(f64, bool)]| rows.iter().map(|(p, bought)| p - f64::from(u8::from(*bought))).sum::<f64>().abs();
    (0..20).map(|bin| gap(&sorted[bin * rows.len() / 20..(bin + 1) * rows.len() / 20])).sum::<f64>() / rows.len() as f64
}

/// The real months, as the shipped model scores them.
struct Real {
    months: Months,
    /// Those that it was trained on.
    before: Rows,
    edges: Vec<f64>,
    scores: Vec<f64>,
}

/// `None` without the data.
fn real() -> Option<Real> {
    let read = |name: &str| fs::read(at("models/purchase-intent").join(name)).unwrap();
    let model = Model::load(&read("manifest.json"), &read("model.onnx")).unwrap();
    let (months, edges) = (months(&model)?, edges(&model));
    let trained = months.iter().filter(|(month, _)| !["Oct", "Nov"].contains(&&***month));
    let before: Rows = trained.flat_map(|(_, rows)| rows.clone()).collect();
    let scores = middles(&before, &edges);
    Some(Real { months, before, edges, scores })
}

/// Trained to September, recalibrated on October. In November people act otherwise: the outcomes show it within
/// its interval, and an estimate from scores alone, which is what tools without outcomes have, does not.
#[test]
fn the_fall_in_november_is_seen_from_outcomes_and_not_from_scores() {
    let Some(Real { months, before, edges, scores }) = real() else { return };
    let (october, november) = (&months["Oct"], &months["Nov"]);
    let (trained, truth) = (auc(&before), auc(november));
    let (mut held, mut fell, mut blind, mut shown) = (0, 0, 0, String::new());
    for seed in 1..=SEEDS {
        let usual = performance(&table(&before, &edges, &scores, seed)).unwrap();
        let now = performance(&table(november, &edges, &scores, seed + SEEDS)).unwrap();
        held += usize::from(now.auc.low <= truth && truth <= now.auc.high);
        fell += usize::from(now.auc.high < usual.auc.low);
        // What each score meant while the model was trained, and the scores of November without their outcomes.
        let meant = isotonic(&table(&before, &edges, &scores, seed)).unwrap();
        let cells = released(november, &edges, seed + SEEDS);
        let histogram = Cells::new(cells.chunks(2).map(|bin| bin[0] + bin[1]).collect(), 2.0 * VARIANCE).unwrap();
        let estimated = expected(&histogram, meant.probabilities()).unwrap();
        blind += usize::from(estimated.auc.low > truth);
        if seed == 1 {
            shown = format!(
                "February to September AUC {:.4} [{:.4}, {:.4}] of {trained:.4}\nOctober, 549 visits: {}\nNovember AUC {:.4} [{:.4}, {:.4}] of {truth:.4}\nestimated without outcomes AUC {:.4} [{:.4}, {:.4}]",
                usual.auc.value,
                usual.auc.low,
                usual.auc.high,
                performance(&table(october, &edges, &scores, seed)).map_or_else(
                    |why| why.to_string(),
                    |found| format!(
                        "AUC {:.4} [{:.4}, {:.4}] of {:.4}",
                        found.auc.value,
                        found.auc.low,
                        found.auc.high,
                        auc(october)
                    )
                ),
                now.auc.value,
                now.auc.low,
                now.auc.high,
                estimated.auc.value,
                estimated.auc.low,
                estimated.auc.high
            );
        }
    }
    println!(
        "{shown}\nof {SEEDS} noises: interval holds the truth {held}, fall is sure {fell}, estimate without outcomes is sure of more than is true {blind}"
    );
    // Visits are those that came and noise alone is drawn: the interval, which holds chance as well, is to hold at its level at least.
    assert!(held * 20 >= usize::from(SEEDS) * 19 && fell == usize::from(SEEDS) && blind == usize::from(SEEDS));
}

/// Cells of one half of November mend the other half's calibration.
#[test]
fn recalibration_from_cells_brings_the_error_below_a_twentieth() {
    let Some(Real { months, edges, scores, .. }) = real() else { return };
    // Every other row makes the cells that mend the rows between, and the other way round: bins of 150 visits miss by
    // 0.03 on average by chance, those of half as many by 0.04.
    let halves = [0, 1].map(|odd| months["Nov"].iter().skip(odd).step_by(2).copied().collect::<Vec<_>>());
    let mended = |seed: u8| {
        let other = |counted: &[(f64, bool)], others: &[(f64, bool)]| {
            let map = isotonic(&table(counted, &edges, &scores, seed)).unwrap();
            others.iter().map(|(score, bought)| (map.probability(*score), *bought)).collect::<Vec<_>>()
        };
        calibration_error(&[other(&halves[0], &halves[1]), other(&halves[1], &halves[0])].concat())
    };
    let mut after: Vec<f64> = (1..=SEEDS).map(mended).collect();
    after.sort_by(f64::total_cmp);
    let (raw, median, worst) = (calibration_error(&months["Nov"]), after[after.len() / 2], after[after.len() - 1]);
    println!(
        "calibration error {raw:.4}, recalibrated from cells at epsilon 1: {median:.4}, at worst {worst:.4} of {SEEDS} noises"
    );
    assert!(raw > 0.05 && worst <= 0.05);
}
