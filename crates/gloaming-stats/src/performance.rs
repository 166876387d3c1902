//! How good a model is in use, from (score bin × outcome) cells.
//!
//! The device knows both the score it gave and what happened; only the cell of the two leaves it. From these cells
//! [`performance`] tells AUC, average precision, Brier score, calibration error and base rate. Each has a 95 % interval
//! for chance *and* noise ([`Mean`]): variances are those of the delta method, and the interval leans away from 0 and 1 as that of a share of
//! as many people does. With a usual one, as wide on both sides, the AUC of twelve people with the outcome holds in 90 of 100.
//!
//! Twenty bins of equal mass, their edges fixed in training, cost about 0.001 of AUC against the scores themselves; bins
//! of equal width cost 0.01 to 0.03.
//!
//! Definitions are those of scikit-learn 1.9 (`roc_auc_score`, `average_precision_score`, `brier_score_loss`) on rows
//! whose score is their bin's. Cells are used as released, negative ones included: the noise then averages out of
//! what is linear in them and nearly out of the rest, where clamping would leave a bias.
//!
//! [`expected`] needs no outcomes, and therefore cannot see that outcomes changed: read what it says there.

pub mod recalibrate;

use crate::share::{Rate, degrees};
use crate::{Cells, CellsError, Estimate, Mean};

/// 97.5th percentile of the standard normal distribution.
pub(crate) const REACH: f64 = 1.959_963_984_540_054;
/// Fewest people with and without the outcome.
pub const OUTCOMES: f64 = 10.0;
/// And they must be so many standard deviations of their sum's noise: dividing by less than three of them gives
/// anything.
pub const SIGNAL: f64 = 3.0;

/// Why nothing can be said about a model.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PerformanceError {
    /// Shapes that do not belong together.
    #[error(transparent)]
    Cells(#[from] CellsError),
    /// Scores of bins.
    #[error("bin {0} has the score {1}; scores of bins are probabilities, each greater than the one before")]
    Score(usize, String),
    /// Too few bins.
    #[error("{0} score bins; two or more tell good from bad")]
    Bins(usize),
    /// Too few people on one side.
    #[error(
        "about {0:.0} people {1} the outcome, with noise of {2:.0}; {OUTCOMES} and {SIGNAL} times the noise are needed: add up releases, or take a longer window"
    )]
    Outcomes(f64, &'static str, f64),
    /// A model that ranks the wrong way round.
    #[error("higher scores go with fewer outcomes (slope {0}); recalibration cannot mend that: retrain")]
    Reversed(String),
    /// No maximum.
    #[error("the outcomes are told apart without error, so no sigmoid fits; use isotonic recalibration")]
    Separated,
}

/// (score bin × outcome) cells, and the score of each bin.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    cells: Cells,
    scores: Vec<f64>,
}

impl Table {
    /// `cells` of B bins × 2, row-major: bin b without the outcome at 2 b, with it at 2 b + 1. `scores` is the mean
    /// score of each bin's people, from 0 to 1, strictly ascending.
    ///
    /// # Errors
    /// When shapes do not fit, there is one bin only, or the scores are not ascending probabilities.
    pub fn new(cells: Cells, scores: Vec<f64>) -> Result<Self, PerformanceError> {
        if scores.len() < 2 {
            return Err(PerformanceError::Bins(scores.len()));
        }
        if cells.values().len() != 2 * scores.len() {
            return Err(CellsError::Shape(cells.values().len(), 2 * scores.len()).into());
        }
        let fits = |at: usize| (0.0..=1.0).contains(&scores[at]) && (at == 0 || scores[at - 1] < scores[at]);
        if let Some(bad) = (0..scores.len()).find(|at| !fits(*at)) {
            return Err(PerformanceError::Score(bad, scores[bad].to_string()));
        }
        Ok(Self { cells, scores })
    }

    /// With the B + 1 edges of the bins, both ends included, where mean scores are not known: each bin's score is the
    /// middle of its edges. Brier score and calibration error then bear the width of the bins; AUC and average
    /// precision do not.
    ///
    /// # Errors
    /// As [`Table::new`].
    pub fn from_edges(cells: Cells, edges: &[f64]) -> Result<Self, PerformanceError> {
        Self::new(cells, edges.windows(2).map(|pair| pair[0].midpoint(pair[1])).collect())
    }

    /// The cells.
    #[must_use]
    pub fn cells(&self) -> &Cells {
        &self.cells
    }

    /// Score of each bin.
    #[must_use]
    pub fn scores(&self) -> &[f64] {
        &self.scores
    }

    /// [without, with] the outcome, by bin from the lowest score to the highest.
    fn bins(&self) -> Vec<[f64; 2]> {
        self.cells.values().chunks_exact(2).map(|pair| [pair[0], pair[1]]).collect()
    }
}

/// How well scores told outcomes, each figure with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Performance {
    /// Share of people with the outcome.
    pub base_rate: Estimate,
    /// Area under the ROC curve; ties count half.
    pub auc: Estimate,
    /// Average precision.
    pub average_precision: Estimate,
    /// Mean squared error of the bins' scores.
    pub brier: Estimate,
    /// Expected calibration error: Σ |outcomes − score · people| / people over the bins. Most of what noise adds on
    /// average is taken off the value. Chance adds to it as well, as in every such figure; the interval reaches down for it, to
    /// 0 where a model could be calibrated.
    pub calibration_error: Estimate,
}

/// A figure and its derivatives by each bin's count [without, with] the outcome.
struct Figure {
    value: f64,
    gradient: Vec<[f64; 2]>,
    /// Variance that the derivatives do not show.
    more: f64,
}

impl Figure {
    /// The delta method: variance of the counts (a multinomial of the table) and of their noise, along the gradient. `counted` says that
    /// outcomes were counted and are not expected: then it is itself a guess, as good as the people are many who make up most of it.
    fn estimate(self, bins: &[[f64; 2]], [negatives, positives]: [f64; 2], noise: f64, counted: bool) -> Estimate {
        let cells = || bins.as_flattened().iter().map(|count| count.max(0.0)).zip(self.gradient.as_flattened());
        let (people, first): (f64, f64) =
            cells().fold((0.0, 0.0), |(n, sum), (count, slope)| (n + count, sum + count * slope));
        let (mut squares, mut fourths, mut steep) = (0.0, 0.0, 0.0);
        for (count, slope) in cells() {
            let off: f64 = slope - first / people;
            squares += count * off * off;
            fourths += count * off.powi(4);
            steep += slope * slope;
        }
        // What a side of few varies by is guessed from one fewer than there are.
        let fewer = negatives.min(positives);
        let (chance, degrees) = if counted {
            (squares * fewer / (fewer - 1.0), degrees(squares, fourths, people))
        } else {
            (squares, f64::INFINITY)
        };
        // An AUC varies by q (1 - q) over the fewer at most (Birnbaum and Klose 1957), as a share of them does.
        let noise = noise * steep + self.more;
        let mean = Mean { value: self.value, ends: [0.0, 1.0], chance, degrees, people: fewer, noise };
        let Estimate { value, low, high } = mean.estimate();
        let within = |x: f64| x.clamp(0.0, 1.0);
        Estimate { value: within(value), low: within(low), high: within(high) }
    }
}

/// Figures of a table of outcomes.
///
/// # Errors
/// When too few people have, or lack, the outcome, by themselves or against the noise.
pub fn performance(table: &Table) -> Result<Performance, PerformanceError> {
    let (bins, noise) = (table.bins(), table.cells.variance());
    let totals = totals(&bins, noise)?;
    let of = |figure: Figure| figure.estimate(&bins, totals, noise, true);
    let (people, cells) = (totals[0] + totals[1], bins.len() as f64);
    Ok(Performance {
        base_rate: Rate::new((totals[1], cells), (people, 2.0 * cells), noise).estimate(),
        auc: of(auc(&bins, totals, noise)),
        average_precision: of(average_precision(&bins, totals)),
        brier: of(brier(&bins, &table.scores, totals)),
        calibration_error: calibration_error(&bins, &table.scores, noise),
    })
}

/// People without and with the outcome, when there are enough.
fn totals(bins: &[[f64; 2]], noise: f64) -> Result<[f64; 2], PerformanceError> {
    let totals = bins.iter().fold([0.0; 2], |sum, bin| [sum[0] + bin[0], sum[1] + bin[1]]);
    let deviation = (noise * bins.len() as f64).sqrt();
    for (total, side) in totals.iter().zip(["without", "with"]) {
        if *total < OUTCOMES.max(SIGNAL * deviation) {
            return Err(PerformanceError::Outcomes(*total, side, deviation));
        }
    }
    Ok(totals)
}

fn base_rate(bins: &[[f64; 2]], [negatives, positives]: [f64; 2]) -> Figure {
    let people = negatives + positives;
    let value = positives / people;
    Figure { value, gradient: vec![[-value / people, (1.0 - value) / people]; bins.len()], more: 0.0 }
}

/// Pairs ranked right over all pairs.
fn auc(bins: &[[f64; 2]], [negatives, positives]: [f64; 2], noise: f64) -> Figure {
    let (mut below, mut passed, mut right) = (0.0, 0.0, 0.0);
    let mut gradient: Vec<[f64; 2]> = Vec::with_capacity(bins.len());
    for [negative, positive] in bins {
        // Pairs that one more without, and one more with the outcome would win.
        gradient.push([positives - passed - positive / 2.0, below + negative / 2.0]);
        right += positive * (below + negative / 2.0);
        (below, passed) = (below + negative, passed + positive);
    }
    let pairs = negatives * positives;
    let value = right / pairs;
    for slope in &mut gradient {
        *slope = [(slope[0] - value * positives) / pairs, (slope[1] - value * negatives) / pairs];
    }
    // Products of two noises: nothing at epsilon 1, a tenth of the variance where cells drown.
    let count = bins.len() as f64;
    let more = noise * noise * (count * (count - 1.0) / 2.0 + count / 4.0) / (pairs * pairs);
    Figure { value, gradient, more }
}

/// Σ of each bin's share of the positives, times the precision at its score.
fn average_precision(bins: &[[f64; 2]], [_, positives]: [f64; 2]) -> Figure {
    let (mut people, mut found, mut value) = (0.0, 0.0, 0.0);
    // From the highest score down: precision at each bin, and what one more person, and one more positive, at this bin
    // or above would add to the later terms.
    let mut steps = Vec::with_capacity(bins.len());
    for [negative, positive] in bins.iter().rev() {
        people += negative + positive;
        found += positive;
        // Noise can leave a bin, or all bins so far, with nobody.
        let precision = if people > 0.0 { (found / people).clamp(0.0, 1.0) } else { 0.0 };
        let per_person = if people > 0.0 { positive / people } else { 0.0 };
        value += positive * precision;
        steps.push((precision, -per_person * precision, per_person));
    }
    let (mut diluted, mut raised) = (0.0, 0.0);
    let mut gradient = Vec::with_capacity(bins.len());
    value /= positives;
    for (precision, dilutes, raises) in steps.iter().rev() {
        diluted += dilutes;
        raised += raises;
        gradient.push([diluted / positives, (precision + raised + diluted - value) / positives]);
    }
    Figure { value, gradient, more: 0.0 }
}

fn brier(bins: &[[f64; 2]], scores: &[f64], [negatives, positives]: [f64; 2]) -> Figure {
    let people = negatives + positives;
    let squares = |score: &f64| [score * score, (1.0 - score) * (1.0 - score)];
    let terms = bins.iter().zip(scores.iter().map(squares));
    let value = terms.map(|(bin, square)| bin[0] * square[0] + bin[1] * square[1]).sum::<f64>() / people;
    let gradient = scores.iter().map(squares).map(|square| square.map(|error| (error - value) / people)).collect();
    Figure { value, gradient, more: 0.0 }
}

/// The interval is wider than the delta method's, which is wrong where a bin is calibrated. With e what chance and
/// noise add to d, |d + e| − |d| lies between ± |e| and is at least e in the direction of d. So the upper end is as if
/// all bins were far off, and the lower end as if all were calibrated.
fn calibration_error(bins: &[[f64; 2]], scores: &[f64], noise: f64) -> Estimate {
    let (mut raw, mut value, mut people) = (0.0, 0.0, 0.0);
    let (mut far, mut near) = (0.0, [0.0; 2]);
    for ([negative, positive], score) in bins.iter().zip(scores) {
        let count = negative + positive;
        let off = positive - score * count;
        let noised = noise * (score * score + (1.0 - score) * (1.0 - score));
        // The truth may be the score or what was seen: the one with more chance in it.
        let rate = if count > 0.0 { (positive / count).clamp(0.0, 1.0) } else { *score };
        let chance = count.max(0.0) * (score * (1.0 - score)).max(rate * (1.0 - rate));
        people += count;
        raw += f64::abs(off);
        value += (off * off - noised).max(0.0).sqrt();
        far += chance + noised;
        near[0] += (chance + noised).sqrt() * std::f64::consts::FRAC_2_PI.sqrt();
        near[1] += (chance + noised) * (1.0 - std::f64::consts::FRAC_2_PI);
    }
    let (raw, value) = (raw / people, value / people);
    let total = raw * (2.0 * bins.len() as f64 * noise).sqrt() / people;
    let down = (near[0] + REACH * near[1].sqrt()) / people + REACH * total;
    let up = REACH * (far / (people * people) + total * total).sqrt();
    Estimate {
        value: value.clamp(0.0, 1.0),
        low: (raw - down).clamp(0.0, value.clamp(0.0, 1.0)),
        high: (raw + up).clamp(0.0, 1.0),
    }
}

/// What a model should do on people whose outcomes are not known (yet).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expected {
    /// Share of people with the outcome.
    pub base_rate: Estimate,
    /// Area under the ROC curve.
    pub auc: Estimate,
}

/// Confidence-based performance estimation (CBPE, as in NannyML): figures from the histogram of scores alone, taking
/// each bin's calibrated probability for the share of its people with the outcome. `histogram` has B cells,
/// `probabilities` never fall from one bin to the next.
///
/// **Blind to concept drift.** It sees that other people come, not that the same people act differently: it assumes
/// that the outcome still follows the score as when the probabilities were fitted. In a shop's November it said .916
/// where the true AUC was .821. The interval holds the true figure only under that assumption. Use [`performance`]
/// wherever outcomes can be had.
///
/// # Errors
/// When shapes or probabilities do not fit, or too few people are expected with or without the outcome.
pub fn expected(histogram: &Cells, probabilities: &[f64]) -> Result<Expected, PerformanceError> {
    if probabilities.len() < 2 {
        return Err(PerformanceError::Bins(probabilities.len()));
    }
    if histogram.values().len() != probabilities.len() {
        return Err(CellsError::Shape(histogram.values().len(), probabilities.len()).into());
    }
    let fits =
        |at: usize| (0.0..=1.0).contains(&probabilities[at]) && (at == 0 || probabilities[at - 1] <= probabilities[at]);
    if let Some(bad) = (0..probabilities.len()).find(|at| !fits(*at)) {
        return Err(PerformanceError::Score(bad, probabilities[bad].to_string()));
    }
    let bins: Vec<[f64; 2]> =
        histogram.values().iter().zip(probabilities).map(|(n, p)| [n * (1.0 - p), n * p]).collect();
    // Each sum bears a part of each bin's noise: taking all of it errs on the side of saying nothing.
    let totals = totals(&bins, histogram.variance())?;
    let of = |figure: Figure| {
        // The outcomes to come are as random as any; the noise moves both cells of a bin together.
        let steep = figure.gradient.iter().zip(probabilities);
        let steep: f64 = steep.map(|(slope, p)| ((1.0 - p) * slope[0] + p * slope[1]).powi(2)).sum();
        let more = figure.more + histogram.variance() * steep;
        Figure { more, ..figure }.estimate(&bins, totals, 0.0, false)
    };
    Ok(Expected { base_rate: of(base_rate(&bins, totals)), auc: of(auc(&bins, totals, histogram.variance())) })
}
