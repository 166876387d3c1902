//! Shifting traffic to the better arms.
//!
//! **Only behind the gate.** Weights that follow outcomes are an optimisation of something already shown to be
//! harmless; they change the arms' shares, so no interval of this module holds across a change of weights.

use super::arm::Arm;
use super::guardrail::Better;
use super::{ExperimentError, between};
use crate::distribution::normal_cdf;

/// Most arms of an experiment.
pub const ARMS: usize = 32;

/// How weights follow from the chances to be best.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The chance to be best (Thompson 1933).
    Thompson,
    /// The mean of the chances to be best and to be second (Russo 2020, *Simple Bayesian Algorithms for Best-Arm
    /// Identification*; as GrowthBook's bandits do): keeps learning when one arm leads.
    TopTwo,
}

/// What was believed of every arm's mean beforehand: a normal distribution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prior {
    /// Its mean.
    pub mean: f64,
    /// Its variance, above zero.
    pub variance: f64,
}

/// Weights for the next period, in the order of `arms`, summing to one; none is below `least` before they are scaled.
///
/// Every arm's mean has a normal posterior whose variance includes the noise; without a prior it is the likelihood.
/// Chances are integrals, not simulated, so the same sums give the same weights. Adjusted means are taken unadjusted.
///
/// # Errors
/// When there are fewer than two arms or more than [`ARMS`], they differ in kind or say nothing yet, the prior's
/// variance is not above zero, or `least` is not from 0 to 1/arms.
pub fn allocate(
    arms: &[Arm],
    better: Better,
    rule: Rule,
    prior: Option<Prior>,
    least: f64,
) -> Result<Vec<f64>, ExperimentError> {
    count(arms.len())?;
    if !(least >= 0.0 && least * arms.len() as f64 <= 1.0) {
        return Err(ExperimentError::Number("the least weight", least, "from 0 to 1/arms"));
    }
    let (mut means, mut variances) = (Vec::with_capacity(arms.len()), Vec::with_capacity(arms.len()));
    for arm in arms {
        if arm.metric() != arms[0].metric() {
            return Err(ExperimentError::Metric(arm.metric(), arms[0].metric()));
        }
        let figure = arm.figure(0.0)?;
        let (mut mean, mut variance) = (figure.mean, figure.sampling + figure.noise);
        if variance <= 0.0 {
            return Err(ExperimentError::NoVariance);
        }
        if figure.wobble > super::SPREAD * variance {
            return Err(ExperimentError::Spread(100.0 * figure.wobble / variance));
        }
        if let Some(prior) = prior {
            between("a prior's variance", prior.variance, 0.0, f64::INFINITY, "above 0 and finite")?;
            let precision = 1.0 / variance + 1.0 / prior.variance;
            mean = (mean / variance + prior.mean / prior.variance) / precision;
            variance = 1.0 / precision;
        }
        means.push(if better == Better::Higher { mean } else { -mean });
        variances.push(variance);
    }
    let [best, second] = best_probabilities(&means, &variances)?;
    let weight = |(best, second): (&f64, &f64)| {
        let weight = if rule == Rule::Thompson { *best } else { f64::midpoint(*best, *second) };
        weight.max(least)
    };
    let weights: Vec<f64> = best.iter().zip(&second).map(weight).collect();
    let sum: f64 = weights.iter().sum();
    Ok(weights.into_iter().map(|weight| weight / sum).collect())
}

/// Nodes and weights of Gauss and Legendre's rule of eight points on (−1, 1), one half.
const NODES: [(f64, f64); 4] = [
    (0.183_434_642_495_649_8, 0.362_683_783_378_362),
    (0.525_532_409_916_329, 0.313_706_645_877_887_3),
    (0.796_666_477_413_626_7, 0.222_381_034_453_374_5),
    (0.960_289_856_497_536_3, 0.101_228_536_290_376_3),
];
/// Standard deviations either side that are integrated over; beyond lies less than 1e-18.
const REACH: i32 = 9;

/// Chances of independent normal variables to be the greatest, and to be the second greatest; each list sums to one.
///
/// The integral of φᵢ · ∏ Φⱼ, over pieces no longer than any variable's standard deviation nearby; exact to 1e-11.
///
/// # Errors
/// When there are fewer than two, more than [`ARMS`], a variance is not above zero, or the variances are too small for
/// the means to be told from their neighbours in floating point.
pub fn best_probabilities(means: &[f64], variances: &[f64]) -> Result<[Vec<f64>; 2], ExperimentError> {
    count(means.len())?;
    if means.len() != variances.len() {
        return Err(ExperimentError::Length(variances.len(), "variances", means.len().to_string()));
    }
    for (mean, variance) in means.iter().zip(variances) {
        between("a mean", *mean, f64::NEG_INFINITY, f64::INFINITY, "finite")?;
        between("a variance", *variance, 0.0, f64::INFINITY, "above 0 and finite")?;
    }
    let deviations: Vec<f64> = variances.iter().map(|variance| variance.sqrt()).collect();
    let mut ends: Vec<f64> = means
        .iter()
        .zip(&deviations)
        .flat_map(|(mean, deviation)| (-REACH..=REACH).map(move |steps| mean + f64::from(steps) * deviation))
        .collect();
    ends.sort_by(f64::total_cmp);
    let mut chances = [vec![0.0; means.len()], vec![0.0; means.len()]];
    for pair in ends.windows(2) {
        let (middle, half) = (f64::midpoint(pair[0], pair[1]), 0.5 * (pair[1] - pair[0]));
        if half <= 0.0 {
            continue;
        }
        for (node, weight) in NODES {
            for x in [middle - half * node, middle + half * node] {
                add(&mut chances, means, &deviations, x, half * weight);
            }
        }
    }
    // Variances whose steps vanish beside the means, or overflow, leave nothing to integrate.
    for sum in chances.iter().map(|chances| chances.iter().sum::<f64>()) {
        between("the sum of the chances", sum, 1.0 - 1e-9, 1.0 + 1e-9, "1; means and variances are too far apart")?;
    }
    Ok(chances)
}

fn add(chances: &mut [Vec<f64>; 2], means: &[f64], deviations: &[f64], x: f64, weight: f64) {
    let z: Vec<f64> = means.iter().zip(deviations).map(|(mean, deviation)| (x - mean) / deviation).collect();
    let below: Vec<f64> = z.iter().map(|z| normal_cdf(*z)).collect();
    for arm in 0..z.len() {
        let density = (-0.5 * z[arm] * z[arm]).exp() / (std::f64::consts::TAU.sqrt() * deviations[arm]);
        if density == 0.0 {
            continue;
        }
        // Chance that none of the others lies above x, and that exactly one does.
        let (mut none, mut one) = (1.0, 0.0);
        for (_, p) in below.iter().enumerate().filter(|(other, _)| *other != arm) {
            one = one * p + none * (1.0 - p);
            none *= p;
        }
        chances[0][arm] += weight * density * none;
        chances[1][arm] += weight * density * one;
    }
}

fn count(arms: usize) -> Result<(), ExperimentError> {
    if (2..=ARMS).contains(&arms) {
        return Ok(());
    }
    Err(ExperimentError::Length(arms, "arms", format!("2 to {ARMS}")))
}
