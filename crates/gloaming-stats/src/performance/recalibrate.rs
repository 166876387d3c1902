//! Putting scores right again from (score bin × outcome) cells: isotonic regression, Platt's sigmoid, and the level alone.
//!
//! Both give a probability for each bin and for any score, never falling. The order of people, and so the AUC, stays
//! (isotonic regression may tie some; [`Isotonic::growing`] does not). With few outcomes use [`platt`], which has two parameters;
//! with hundreds a bin, [`isotonic`], which has no shape to be wrong. [`gain`] tells which does better on people whom neither knows.

use super::{PerformanceError, REACH, Table, totals};
use crate::Estimate;

/// Steps of Newton's method; it needs about six.
const STEPS: usize = 100;
/// Scores are kept off 0 and 1 by this before their logit is taken, and so is what a growing map says.
const EDGE: f64 = 1e-6;
/// Part of the score as it was that stays in a growing map. Bins that were pooled lie a hundredth as far apart as they did, which
/// device and policy still tell apart, and a score that was off by .1 is off by .001 for it. With a thousandth, bins .004
/// wide would come down to the millionths that policies keep.
const OWN: f64 = 0.01;

/// A monotone map from score to probability, straight between the bins.
#[derive(Clone, Debug, PartialEq)]
pub struct Isotonic {
    scores: Vec<f64>,
    probabilities: Vec<f64>,
}

impl Isotonic {
    /// Scores that it is told at: those of the table it was fitted to, or more.
    #[must_use]
    pub fn scores(&self) -> &[f64] {
        &self.scores
    }

    /// Probability at each of its scores; never falling.
    #[must_use]
    pub fn probabilities(&self) -> &[f64] {
        &self.probabilities
    }

    /// Probability for a score: between bins in proportion, beyond them that of the outermost.
    #[must_use]
    pub fn probability(&self, score: f64) -> f64 {
        interpolate(&self.scores, &self.probabilities, score)
    }

    /// The same map as a model can use it, growing from score to score, within 0 and 1 and never at them: bins that were
    /// pooled keep their order, by a hundredth of the score as it was.
    #[must_use]
    pub fn growing(&self) -> Self {
        // What lies nearer to an end than that would be the end in single precision.
        let inner = self.scores.iter().copied().filter(|score| (2.0 * EDGE..=1.0 - 2.0 * EDGE).contains(score));
        let scores: Vec<f64> = [EDGE].into_iter().chain(inner).chain([1.0 - EDGE]).collect();
        let of = |score: &f64| OWN * score + (1.0 - OWN) * self.probability(*score).clamp(EDGE, 1.0 - EDGE);
        let probabilities = scores.iter().map(of).collect();
        Self { scores, probabilities }
    }
}

/// Straight between `xs` (strictly ascending, not empty), flat beyond.
fn interpolate(xs: &[f64], ys: &[f64], x: f64) -> f64 {
    let above = xs.partition_point(|at| *at <= x);
    if above == 0 {
        return ys[0];
    }
    if above == xs.len() {
        return ys[above - 1];
    }
    let part = (x - xs[above - 1]) / (xs[above] - xs[above - 1]);
    ys[above - 1] + part * (ys[above] - ys[above - 1])
}

/// Isotonic regression of outcome on score by pooling adjacent violators (Ayer et al. 1955), each bin weighted with its
/// people; on exact counts the same as scikit-learn's `IsotonicRegression(y_min=0, y_max=1)`. A bin with no more people
/// than its noise's standard deviation (none, where counts are exact) has no rate: it is left out, and gets what lies
/// between its neighbours.
///
/// # Errors
/// When too few people have, or lack, the outcome.
pub fn isotonic(table: &Table) -> Result<Isotonic, PerformanceError> {
    let bins = table.bins();
    let [negatives, positives] = totals(&bins, table.cells.variance())?;
    let floor = (2.0 * table.cells.variance()).sqrt();
    // Outcomes, people, and bins of each block.
    let mut blocks: Vec<(f64, f64, usize)> = Vec::with_capacity(bins.len());
    let mut kept = Vec::with_capacity(bins.len());
    for ([negative, positive], score) in bins.iter().zip(&table.scores) {
        let people = negative + positive;
        if people <= floor {
            continue;
        }
        kept.push(*score);
        blocks.push((*positive, people, 1));
        while let [.., before, last] = blocks.as_mut_slice()
            && before.0 * last.1 >= last.0 * before.1
        {
            *before = (before.0 + last.0, before.1 + last.1, before.2 + last.2);
            blocks.pop();
        }
    }
    // All bins may drown though their sum does not: then there is one rate for all.
    if kept.is_empty() {
        kept.push(table.scores[0]);
        blocks.push((positives, negatives + positives, 1));
    }
    // A rate below zero or above one is one of noise. Clamped only here: clamping each bin would lift its block.
    let rate = |(hits, people, bins): &(f64, f64, usize)| vec![(hits / people).clamp(0.0, 1.0); *bins];
    let rates: Vec<f64> = blocks.iter().flat_map(rate).collect();
    let probabilities = table.scores.iter().map(|score| interpolate(&kept, &rates, *score)).collect();
    Ok(Isotonic { scores: table.scores.clone(), probabilities })
}

/// Probability = 1 / (1 + exp(−(slope · logit(score) + intercept))). Slope 1 and intercept 0 change nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Platt {
    /// Above zero.
    pub slope: f64,
    /// In logits.
    pub intercept: f64,
}

impl Platt {
    /// Probability for a score.
    #[must_use]
    pub fn probability(&self, score: f64) -> f64 {
        sigmoid(self.slope * logit(score) + self.intercept)
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn logit(score: f64) -> f64 {
    let score = score.clamp(EDGE, 1.0 - EDGE);
    (score / (1.0 - score)).ln()
}

/// Platt's sigmoid over the logit of the bins' scores, by maximum likelihood (Newton's method with halved steps). His
/// smoothing of the targets is left out: the cells hold many people. Negative cells count as zero, which
/// flattens the slope where cells drown: .83 for 1 at 4,725 visits, an outcome in 22, and epsilon .3.
///
/// # Errors
/// When too few people have, or lack, the outcome, higher scores go with fewer outcomes, or all outcomes lie above a
/// score and none below.
pub fn platt(table: &Table) -> Result<Platt, PerformanceError> {
    let bins = table.bins();
    totals(&bins, table.cells.variance())?;
    let rows: Vec<(f64, f64, f64)> =
        bins.iter().zip(&table.scores).map(|(bin, score)| (logit(*score), bin[0].max(0.0), bin[1].max(0.0))).collect();
    let loss = |slope: f64, intercept: f64| {
        let softplus = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
        let of = |(x, negative, positive): &(f64, f64, f64)| {
            let at = slope * x + intercept;
            negative * softplus(at) + positive * softplus(-at)
        };
        rows.iter().map(of).sum::<f64>()
    };
    let (mut slope, mut intercept) = (1.0, 0.0);
    for _ in 0..STEPS {
        let (mut by, mut curve) = ([0.0; 2], [0.0; 3]);
        for (x, negative, positive) in &rows {
            let p = sigmoid(slope * x + intercept);
            let (people, off) = (negative + positive, (negative + positive) * p - positive);
            let weight = people * p * (1.0 - p);
            by = [by[0] + off * x, by[1] + off];
            curve = [curve[0] + weight * x * x, curve[1] + weight * x, curve[2] + weight];
        }
        let area = curve[0] * curve[2] - curve[1] * curve[1];
        // Flat: nobody is left whom the sigmoid is unsure about.
        if area <= 1e-12 * curve[0].max(curve[2]).powi(2) || slope.abs() > 1e4 {
            return Err(PerformanceError::Separated);
        }
        let step = [(by[0] * curve[2] - by[1] * curve[1]) / area, (by[1] * curve[0] - by[0] * curve[1]) / area];
        // Near the maximum rounding makes the loss rise or fall by chance, and the step is right all the same.
        let (before, mut part) = (loss(slope, intercept) * (1.0 + 1e-12), 1.0);
        while part > 1e-9 && loss(slope - part * step[0], intercept - part * step[1]) > before {
            part /= 2.0;
        }
        (slope, intercept) = (slope - part * step[0], intercept - part * step[1]);
        if step[0].abs() + step[1].abs() < 1e-12 * (1.0 + slope.abs() + intercept.abs()) {
            break;
        }
    }
    if slope <= 0.0 {
        return Err(PerformanceError::Reversed(slope.to_string()));
    }
    Ok(Platt { slope, intercept })
}

/// A map from score to probability that was fitted.
#[derive(Clone, Debug, PartialEq)]
pub enum Fitted {
    /// Of two parameters.
    Sigmoid(Platt),
    /// Of as many as there are bins.
    Line(Isotonic),
}

impl Fitted {
    /// Probability for a score.
    #[must_use]
    pub fn probability(&self, score: f64) -> f64 {
        match self {
            Self::Sigmoid(map) => map.probability(score),
            Self::Line(map) => map.probability(score),
        }
    }
}

/// By how much the Brier score over both tables together is lower by the second map beside each than by the first: below zero
/// where it is higher. The 95 % interval is for chance and noise in the tables; the maps are taken as they are, so each has to
/// be fitted to other people than those of its table.
///
/// # Errors
/// When too few people of a table have, or lack, the outcome.
pub fn gain(judged: [(&Table, [&Fitted; 2]); 2]) -> Result<Estimate, PerformanceError> {
    // Of each cell: its count, the noise on it, and what each of its people adds.
    let (mut cells, mut people, mut gained) = (Vec::new(), 0.0, 0.0);
    for (table, maps) in judged {
        let (bins, noise) = (table.bins(), table.cells.variance());
        totals(&bins, noise)?;
        for (bin, score) in bins.iter().zip(&table.scores) {
            let [first, second] = maps.map(|map| map.probability(*score));
            for (count, outcome) in bin.iter().zip([0.0, 1.0]) {
                let adds = (first - outcome) * (first - outcome) - (second - outcome) * (second - outcome);
                people += count;
                gained += count * adds;
                cells.push((*count, noise, adds));
            }
        }
    }
    let value = gained / people;
    let spread = |(count, noise, adds): &(f64, f64, f64)| (count.max(0.0) + noise) * (adds - value) * (adds - value);
    let half = REACH * cells.iter().map(spread).sum::<f64>().sqrt() / people;
    Ok(Estimate { value, low: value - half, high: value + half })
}

/// The level alone: slope 1, and the intercept by which as many outcomes are expected as there were. For counts that say how
/// many outcomes there are and not how they go with the score.
///
/// # Errors
/// When too few people have, or lack, the outcome.
pub fn level(table: &Table) -> Result<Platt, PerformanceError> {
    let bins = table.bins();
    let [_, positives] = totals(&bins, table.cells.variance())?;
    let expected = |intercept: f64| {
        let of = |(bin, score): (&[f64; 2], &f64)| (bin[0] + bin[1]) * sigmoid(logit(*score) + intercept);
        bins.iter().zip(&table.scores).map(of).sum::<f64>()
    };
    // More outcomes are expected, the higher the intercept: at these ends none and all.
    let (mut low, mut high) = (-50.0, 50.0);
    for _ in 0..200 {
        let middle = f64::midpoint(low, high);
        if expected(middle) < positives { low = middle } else { high = middle }
    }
    Ok(Platt { slope: 1.0, intercept: f64::midpoint(low, high) })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::Cells;

    fn table(counts: &[f64], scores: &[f64], noise: f64) -> Table {
        Table::new(Cells::new(counts.to_vec(), noise).unwrap(), scores.to_vec()).unwrap()
    }

    /// The loss no longer fell by more than rounding, so the last steps were not taken and the fit was off by 1e-8.
    #[test]
    fn platt_takes_its_last_steps() {
        let sigmoid = platt(&table(&[129.0, 124.0, 37.0, 104.0], &[0.25, 0.75], 0.0)).unwrap();
        // Two bins and two parameters: the fit meets both rates.
        let off = [(0.25, 124.0 / 253.0), (0.75, 104.0 / 141.0)].map(|(score, rate)| sigmoid.probability(score) - rate);
        assert!(off.iter().all(|off| off.abs() < 1e-13), "{off:?} with {sigmoid:?}");
    }

    #[test]
    fn empty_and_drowned_bins_get_what_lies_between() {
        let exact = table(&[90.0, 10.0, 0.0, 0.0, 50.0, 50.0], &[0.1, 0.2, 0.4], 0.0);
        assert!((isotonic(&exact).unwrap().probabilities()[1] - (0.1 + 0.4 / 3.0)).abs() < 1e-12);
        let drowned = table(&[900.0, 100.0, -3.0, 8.0, 500.0, 500.0], &[0.1, 0.2, 0.4], 50.0);
        assert!((isotonic(&drowned).unwrap().probabilities()[1] - (0.1 + 0.4 / 3.0)).abs() < 1e-12);
        // Each bin drowns, their sum does not.
        let flat = table(&[5.0; 80], &(1..=40).map(|bin| f64::from(bin) / 50.0).collect::<Vec<_>>(), 51.0);
        assert!(isotonic(&flat).unwrap().probabilities().iter().all(|p| *p == 0.5));
    }
}
