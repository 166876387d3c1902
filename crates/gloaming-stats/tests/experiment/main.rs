//! Experiments: goldens by `tests/statistics/experiment.py`, simulations, invariants, and real data where there is any.
#![allow(clippy::unwrap_used)]

mod covered;
mod data;
mod goldens;
mod properties;
mod simulated;

use std::collections::BTreeMap;
use std::path::Path;

use gloaming_stats::experiment::{Arm, Effect, ExperimentError, Finding, Metric, Noised, Scale, Sums, effect};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    effects: Vec<Compared>,
    published: Vec<Published>,
    refused: Vec<Refused>,
    students: Vec<Student>,
    shares: Vec<ShareCase>,
    mixtures: Vec<Mixture>,
    discoveries: Vec<Discoveries>,
    plans: Vec<Plan>,
    chances: Vec<Chances>,
    bounds: Vec<Bound>,
    logs: Log,
    real: Real,
}

#[derive(Deserialize)]
struct Compared {
    kind: String,
    arms: [[f64; 6]; 2],
    alpha: f64,
    tau: f64,
    absolute: Figures,
    relative: Figures,
}

/// A case of gbstats' own tests.
#[derive(Deserialize)]
struct Published {
    source: String,
    kind: String,
    arms: [[f64; 6]; 2],
    alpha: f64,
    tau: f64,
    scale: String,
    /// `fixed`, or `always` valid.
    looks: String,
    /// What the package computes.
    figures: Figures,
    /// What its test states, to so many digits: estimate, standard error, low, high and p.
    expected: [Option<f64>; 5],
    digits: i32,
}

#[derive(Deserialize)]
struct Refused {
    source: String,
    kind: String,
    arms: [[f64; 6]; 2],
}

#[derive(Deserialize)]
struct Figures {
    estimate: f64,
    standard_error: f64,
    degrees: f64,
    fixed: [f64; 3],
    always: [f64; 3],
}

#[derive(Deserialize)]
struct Student {
    degrees: f64,
    t: f64,
    upper: f64,
    p: f64,
    quantile: f64,
}

#[derive(Deserialize)]
struct ShareCase {
    people: Vec<f64>,
    shares: Vec<f64>,
    statistic: f64,
    p: f64,
    factor: f64,
}

#[derive(Deserialize)]
struct Mixture {
    people: [f64; 2],
    noise: [f64; 2],
    share: f64,
    average: f64,
}

#[derive(Deserialize)]
struct Discoveries {
    p: Vec<f64>,
    q: Vec<f64>,
}

#[derive(Deserialize)]
struct Plan {
    base: f64,
    effect: f64,
    alpha: f64,
    power: f64,
    people: f64,
}

#[derive(Deserialize)]
struct Chances {
    means: Vec<f64>,
    deviations: Vec<f64>,
    best: Vec<f64>,
    second: Vec<f64>,
}

#[derive(Deserialize)]
struct Bound {
    time: f64,
    alpha: f64,
    tau: f64,
    exact: f64,
}

#[derive(Deserialize)]
struct Log {
    actions: usize,
    action: Vec<usize>,
    reward: Vec<f64>,
    propensity: Vec<f64>,
    policy: Vec<f64>,
    predicted: Vec<f64>,
    #[serde(flatten)]
    judged: Judged,
}

#[derive(Deserialize)]
struct Judged {
    ipw: f64,
    snipw: f64,
    direct: f64,
    robust: f64,
}

#[derive(Deserialize)]
struct Real {
    cookie_cats: Compared,
    hillstrom_p: f64,
    hillstrom: BTreeMap<String, Compared>,
    open_bandit: BTreeMap<String, Judged>,
}

fn golden() -> Golden {
    let path = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../../tests/statistics/experiment.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// People, Σy, Σy², Σx, Σx², Σxy, each with its variance of noise.
fn arm(metric: Metric, sums: [f64; 6], noise: [f64; 6]) -> Result<Arm, ExperimentError> {
    let noised = |index: usize| Noised { value: sums[index], variance: noise[index] };
    let pair = |index| Sums { sum: noised(index), squares: noised(index + 1) };
    match metric {
        Metric::Proportion => Arm::proportion(noised(0), noised(1)),
        Metric::Mean => Arm::mean(noised(0), pair(1)),
        Metric::Ratio => Arm::ratio(noised(0), pair(1), pair(3), noised(5)),
        Metric::Adjusted => Arm::adjusted(noised(0), pair(1), pair(3), noised(5)),
    }
}

fn metric(name: &str) -> Metric {
    match name {
        "proportion" => Metric::Proportion,
        "mean" => Metric::Mean,
        "ratio" => Metric::Ratio,
        "adjusted" => Metric::Adjusted,
        _ => panic!("{name}"),
    }
}

fn near(what: &str, found: f64, wanted: f64) {
    assert!((found - wanted).abs() <= 1e-9 * wanted.abs().max(1.0), "{what}: {found}, not {wanted}");
}

fn pair(kind: &str, arms: [[f64; 6]; 2]) -> [Arm; 2] {
    arms.map(|sums| arm(metric(kind), sums, [0.0; 6]).unwrap())
}

/// Our figures of an effect are those of gbstats: for one look, and for any.
fn same(name: &str, found: &Effect, (alpha, tau): (f64, f64), wanted: &Figures) -> [Finding; 2] {
    let (fixed, always) = (found.fixed(alpha).unwrap(), found.always_valid(alpha, tau).unwrap());
    near(&format!("{name} estimate"), found.estimate, wanted.estimate);
    near(&format!("{name} standard error"), found.standard_error(), wanted.standard_error);
    near(&format!("{name} degrees"), found.degrees, wanted.degrees);
    for (what, found, wanted) in [("fixed", fixed, wanted.fixed), ("always valid", always, wanted.always)] {
        near(&format!("{name} {what} low"), found.effect.low, wanted[0]);
        near(&format!("{name} {what} high"), found.effect.high, wanted[1]);
        near(&format!("{name} {what} p"), found.p, wanted[2]);
    }
    [fixed, always]
}

/// Our figures of these sums are those of gbstats.
fn same_as_gbstats(name: &str, case: &Compared) {
    let [control, treated] = pair(&case.kind, case.arms);
    for (scale, wanted) in [(Scale::Absolute, &case.absolute), (Scale::Relative, &case.relative)] {
        let found = effect(&control, &treated, scale).unwrap();
        same(&format!("{name} {} {scale:?}", case.kind), &found, (case.alpha, case.tau), wanted);
    }
}
