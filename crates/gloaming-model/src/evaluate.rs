//! How good a model is on rows it has not seen, with intervals: the figures that evidence is made of.
//!
//! Definitions are those of scikit-learn 1.7 (`roc_auc_score`, `average_precision_score`, `brier_score_loss`) and of
//! Fairlearn 0.12 (`demographic_parity_difference`, `equalized_odds_difference`); goldens in
//! `tests/exporters/evaluate.json` come from them. Intervals are percentiles of a bootstrap over rows with a stated
//! seed, widened to hold the estimate where the bootstrap is biased past it (gaps and calibration errors are sums of
//! distances, and resampling only adds to those).

/// Resamples of a bootstrap: the ends of a 95 % interval move by a few per cent of its width between seeds.
const DRAWS: usize = 2_000;
/// Most rows: two thousand resamples of as many take a minute.
pub const ROWS: usize = 200_000;
/// A group with fewer rows has no rates worth comparing.
pub const GROUP_ROWS: u64 = 30;
/// And one with fewer of either outcome has no rate of right or wrong alarms.
pub const GROUP_OUTCOMES: u64 = 5;

/// Why nothing can be said.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvaluateError {
    /// Too few or too many.
    #[error("{0} rows; evaluate 100 to {ROWS}")]
    Rows(usize),
    /// One kind of outcome.
    #[error("{0} of {1} rows have the outcome; both kinds must occur, ten times each at least")]
    Outcomes(usize, usize),
    /// A score that is none.
    #[error("row {0} has the score {1}, which is no probability")]
    Score(usize, String),
    /// Groups.
    #[error("the group `{0}` has {1} rows, fewer than {GROUP_ROWS}; merge it with another, or leave its rows out")]
    Group(String, u64),
    /// A group without rates.
    #[error(
        "{1} of the {2} rows of the group `{0}` have the outcome; both kinds must occur, {GROUP_OUTCOMES} times each at least: merge it with another, or leave its rows out"
    )]
    GroupOutcomes(String, u64, u64),
    /// One group.
    #[error("all rows are of one group; there is nothing to compare")]
    OneGroup,
}

/// A figure with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// On the rows.
    pub value: f64,
    /// 2.5th percentile of the resamples.
    pub low: f64,
    /// 97.5th percentile of the resamples.
    pub high: f64,
}

/// How well scores tell outcomes.
#[derive(Clone, Debug, PartialEq)]
pub struct Performance {
    /// Rows.
    pub rows: usize,
    /// Rows with the outcome.
    pub positives: usize,
    /// Area under the ROC curve; ties count half.
    pub auc: Estimate,
    /// Average precision.
    pub average_precision: Estimate,
    /// Mean squared error.
    pub brier: Estimate,
    /// Expected calibration error over the bins between `edges`.
    pub calibration_error: Estimate,
    /// Mean score.
    pub mean_score: f64,
}

/// One group's counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupCounts {
    /// Its name.
    pub name: String,
    /// Rows.
    pub rows: u64,
    /// With the outcome.
    pub positives: u64,
    /// With a score of the threshold or more.
    pub selected: u64,
}

/// How differently groups fare.
#[derive(Clone, Debug, PartialEq)]
pub struct Gaps {
    /// Counts by group, by name.
    pub groups: Vec<GroupCounts>,
    /// Largest difference of the share selected.
    pub selection: Estimate,
    /// Largest difference of true positive rates, or of false positive rates if that is larger.
    pub odds: Estimate,
}

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Draws(u64);

impl Draws {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        // The bias is below one in 2^46 for the rows allowed here.
        ((u128::from(z) * bound as u128) >> 64) as usize
    }
}

/// Percentile of sorted values, between neighbours in proportion.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (below, part) = (place.floor() as usize, place.fract());
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + part * (sorted[above] - sorted[below])
}

/// Figures of weighted rows, and of many resamples of them.
fn bootstrap<const N: usize>(
    rows: usize,
    seed: u64,
    figures: impl Fn(&[u32]) -> Option<[f64; N]>,
) -> Option<[Estimate; N]> {
    let values = figures(&vec![1; rows])?;
    let mut draws = Draws(seed);
    let mut found: [Vec<f64>; N] = std::array::from_fn(|_| Vec::with_capacity(DRAWS));
    for _ in 0..DRAWS {
        let mut weights = vec![0u32; rows];
        (0..rows).for_each(|_| weights[draws.below(rows)] += 1);
        // A resample without one kind of outcome has no such figure.
        for (found, value) in found.iter_mut().zip(figures(&weights).iter().flatten()) {
            found.push(*value);
        }
    }
    let mut at = 0;
    Some(values.map(|value| {
        let sorted = &mut found[at];
        at += 1;
        sorted.sort_by(f64::total_cmp);
        if sorted.is_empty() {
            return Estimate { value, low: 0.0, high: 1.0 };
        }
        Estimate { value, low: percentile(sorted, 0.025).min(value), high: percentile(sorted, 0.975).max(value) }
    }))
}

fn check(scores: &[f64], outcomes: &[bool]) -> Result<usize, EvaluateError> {
    let rows = scores.len();
    if !(100..=ROWS).contains(&rows) || outcomes.len() != rows {
        return Err(EvaluateError::Rows(rows));
    }
    if let Some(at) = scores.iter().position(|score| !(0.0..=1.0).contains(score)) {
        return Err(EvaluateError::Score(at, scores[at].to_string()));
    }
    let positives = outcomes.iter().filter(|outcome| **outcome).count();
    if positives < 10 || rows - positives < 10 {
        return Err(EvaluateError::Outcomes(positives, rows));
    }
    Ok(positives)
}

/// How well `scores` tell `outcomes`. `edges` are the interior edges of the bins of the calibration error.
///
/// # Errors
/// When there are too few rows, outcomes of one kind only, or scores that are no probabilities.
pub fn performance(scores: &[f64], outcomes: &[bool], edges: &[f64], seed: u64) -> Result<Performance, EvaluateError> {
    let positives = check(scores, outcomes)?;
    let rows = scores.len();
    let mut order: Vec<usize> = (0..rows).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    let bins: Vec<usize> = scores.iter().map(|score| edges.partition_point(|edge| edge <= score)).collect();
    let figures = |weights: &[u32]| figures(scores, outcomes, &order, (&bins, edges.len() + 1), weights);
    let Some([auc, average_precision, brier, calibration_error]) = bootstrap(rows, seed, figures) else {
        return Err(EvaluateError::Outcomes(positives, rows));
    };
    let mean_score = scores.iter().sum::<f64>() / rows as f64;
    Ok(Performance { rows, positives, auc, average_precision, brier, calibration_error, mean_score })
}

/// Area under the curve, average precision, squared error and calibration error of weighted rows; `order` goes from
/// the highest score to the lowest.
fn figures(
    scores: &[f64],
    outcomes: &[bool],
    order: &[usize],
    (bins, count): (&[usize], usize),
    weights: &[u32],
) -> Option<[f64; 4]> {
    let (mut above, mut pairs, mut precision) = ([0.0; 2], 0.0, 0.0);
    let (mut squares, mut distance) = (0.0, vec![0.0; count]);
    let mut at = 0;
    while at < order.len() {
        let score = scores[order[at]];
        let mut tied = [0.0; 2];
        while at < order.len() && scores[order[at]].total_cmp(&score).is_eq() {
            let row = order[at];
            let (weight, outcome) = (f64::from(weights[row]), f64::from(u8::from(outcomes[row])));
            tied[usize::from(outcomes[row])] += weight;
            squares += weight * (score - outcome) * (score - outcome);
            distance[bins[row]] += weight * (score - outcome);
            at += 1;
        }
        pairs += tied[0] * (above[1] + tied[1] / 2.0);
        above = [above[0] + tied[0], above[1] + tied[1]];
        if tied[1] > 0.0 {
            precision += tied[1] * above[1] / (above[0] + above[1]);
        }
    }
    let [negatives, positives] = above;
    if negatives == 0.0 || positives == 0.0 {
        return None;
    }
    let rows = negatives + positives;
    let distance: f64 = distance.iter().map(|d: &f64| d.abs()).sum();
    Some([pairs / (negatives * positives), precision / positives, squares / rows, distance / rows])
}

/// How differently the groups fare whose rows score `threshold` or more. `groups` names each row's.
///
/// # Errors
/// As [`performance`], or when a group is too small or the only one.
pub fn gaps(
    scores: &[f64],
    outcomes: &[bool],
    groups: &[String],
    threshold: f64,
    seed: u64,
) -> Result<Gaps, EvaluateError> {
    check(scores, outcomes)?;
    if groups.len() != scores.len() {
        return Err(EvaluateError::Rows(groups.len()));
    }
    let mut names: Vec<&String> = groups.iter().collect();
    names.sort_unstable();
    names.dedup();
    let of: Vec<usize> = groups.iter().map(|group| names.partition_point(|name| *name < group)).collect();
    let counts = |weights: &[u32]| {
        // Rows, positives, selected among positives and among the others.
        let mut counts = vec![[0u64; 4]; names.len()];
        for (row, group) in of.iter().enumerate() {
            let (weight, chosen) = (u64::from(weights[row]), scores[row] >= threshold);
            let count = &mut counts[*group];
            count[0] += weight;
            count[1] += weight * u64::from(outcomes[row]);
            count[2] += weight * u64::from(chosen && outcomes[row]);
            count[3] += weight * u64::from(chosen && !outcomes[row]);
        }
        counts
    };
    let all = counts(&vec![1; scores.len()]);
    if names.len() < 2 {
        return Err(EvaluateError::OneGroup);
    }
    if let Some((name, count)) = names.iter().zip(&all).find(|(_, count)| count[0] < GROUP_ROWS) {
        return Err(EvaluateError::Group((*name).clone(), count[0]));
    }
    let few = |count: &[u64; 4]| count[1].min(count[0] - count[1]) < GROUP_OUTCOMES;
    if let Some((name, count)) = names.iter().zip(&all).find(|(_, count)| few(count)) {
        return Err(EvaluateError::GroupOutcomes((*name).clone(), count[1], count[0]));
    }
    let spread = |rates: &mut dyn Iterator<Item = (u64, u64)>| {
        let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
        for (part, whole) in rates.filter(|(_, whole)| *whole > 0) {
            let rate = part as f64 / whole as f64;
            (least, most) = (least.min(rate), most.max(rate));
        }
        (most - least).max(0.0)
    };
    let figures = |weights: &[u32]| {
        let counts = counts(weights);
        let selection = spread(&mut counts.iter().map(|c| (c[2] + c[3], c[0])));
        let hits = spread(&mut counts.iter().map(|c| (c[2], c[1])));
        let alarms = spread(&mut counts.iter().map(|c| (c[3], c[0] - c[1])));
        Some([selection, hits.max(alarms)])
    };
    let Some([selection, odds]) = bootstrap(scores.len(), seed, figures) else { return Err(EvaluateError::OneGroup) };
    let named = names.iter().zip(&all).map(|(name, count)| GroupCounts {
        name: (*name).clone(),
        rows: count[0],
        positives: count[1],
        selected: count[2] + count[3],
    });
    Ok(Gaps { groups: named.collect(), selection, odds })
}
