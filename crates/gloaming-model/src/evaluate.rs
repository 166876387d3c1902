//! How good a model is on rows it has not seen, with intervals: the figures that evidence is made of.
//!
//! Definitions are those of scikit-learn 1.7 (`roc_auc_score`, `average_precision_score`, `brier_score_loss`) and of
//! Fairlearn 0.12 (`demographic_parity_difference`, `equalized_odds_difference`); goldens in
//! `tests/exporters/evaluate.json` come from them. Variances are those of a bootstrap over rows with a stated seed; the intervals that
//! are made of them lean away from 0 and 1 ([`Mean`]), because percentiles alone hold in 91 to 94 of 100 samples of a few hundred rows.
//!
//! A calibration error is a sum of distances, and resampling only adds to those: percentiles never reach down to a model that is
//! calibrated. With e what chance adds to the distance d of a bin, |d + e| − |d| is |e| at most, so the lower end is the value less the
//! 97.5th percentile of Σ|e|; the upper one is the percentile, which errs upwards. Gaps are those of `gloaming_stats::fairness` for exact counts.

pub use gloaming_stats::Estimate;
use gloaming_stats::draws::Draws;
use gloaming_stats::fairness::{self, Judged};
use gloaming_stats::{Cells, Mean};

/// Resamples of a bootstrap: the ends of a 95 % interval move by a few per cent of its width between seeds.
const DRAWS: usize = 2_000;
/// Most rows: two thousand resamples of as many take a minute.
pub const ROWS: usize = 200_000;
/// A group with fewer rows has no rates worth comparing.
pub const GROUP_ROWS: u64 = fairness::PEOPLE as u64;
/// And one with fewer of either outcome has no rate of right or wrong alarms.
pub const GROUP_OUTCOMES: u64 = fairness::OUTCOMES as u64;

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
    /// Too many.
    #[error("{0} groups; compare {most} at most: merge some", most = fairness::GROUPS)]
    Groups(usize),
    /// None of these.
    #[error("{0}")]
    Gaps(String),
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

/// What a figure of rows does over many resamples of them.
struct Resampled {
    /// On the rows.
    value: f64,
    variance: f64,
    /// 97.5th percentile.
    high: f64,
}

impl Resampled {
    /// With its interval, of a figure between 0 and 1 that varies most by the rows of the rarer kind of outcome.
    fn estimate(&self, fewer: f64) -> Estimate {
        // What few vary by is guessed from one fewer than there are.
        let chance = self.variance * fewer / (fewer - 1.0);
        let mean =
            Mean { value: self.value, ends: [0.0, 1.0], chance, degrees: fewer - 1.0, people: fewer, noise: 0.0 };
        let Estimate { value, low, high } = mean.estimate();
        Estimate { value, low: low.clamp(0.0, 1.0), high: high.clamp(0.0, 1.0) }
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
) -> Option<[Resampled; N]> {
    let values = figures(&vec![1; rows])?;
    let mut draws = Draws::new(seed);
    let mut found: [Vec<f64>; N] = std::array::from_fn(|_| Vec::with_capacity(DRAWS));
    for _ in 0..DRAWS {
        let mut weights = vec![0u32; rows];
        // The bias is below one in 2^46 for the rows allowed here.
        let mut any = || ((u128::from(draws.bits()) * rows as u128) >> 64) as usize;
        (0..rows).for_each(|_| weights[any()] += 1);
        // A resample without one kind of outcome has no such figure.
        for (found, value) in found.iter_mut().zip(figures(&weights).iter().flatten()) {
            found.push(*value);
        }
    }
    // Of ten rows of either kind hardly any resample is without one.
    if found.iter().any(|found| found.len() < 2) {
        return None;
    }
    let mut at = 0;
    Some(values.map(|value| {
        let sorted = &mut found[at];
        at += 1;
        sorted.sort_by(f64::total_cmp);
        let count = sorted.len() as f64;
        let mean = sorted.iter().sum::<f64>() / count;
        let variance = sorted.iter().map(|one| (one - mean).powi(2)).sum::<f64>() / (count - 1.0);
        Resampled { value, variance, high: percentile(sorted, 0.975) }
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
    let told = |weights: &[u32]| figures(scores, outcomes, &order, (&bins, edges.len() + 1), weights);
    let as_it_is = told(&vec![1u32; rows]).map_or_else(Vec::new, |(_, distances)| distances);
    let resampled = |weights: &[u32]| {
        let ([auc, average_precision, brier], distances) = told(weights)?;
        let error = distances.iter().map(|distance| distance.abs()).sum();
        let moved = distances.iter().zip(&as_it_is).map(|(now, was)| (now - was).abs()).sum();
        Some([auc, average_precision, brier, error, moved])
    };
    let Some([auc, average_precision, brier, error, moved]) = bootstrap(rows, seed, resampled) else {
        return Err(EvaluateError::Outcomes(positives, rows));
    };
    let fewer = positives.min(rows - positives) as f64;
    let [auc, average_precision, brier] = [auc, average_precision, brier].map(|figure| figure.estimate(fewer));
    let (low, high) = ((error.value - moved.high).max(0.0), error.high.max(error.value));
    let calibration_error = Estimate { value: error.value, low, high };
    let mean_score = scores.iter().sum::<f64>() / rows as f64;
    Ok(Performance { rows, positives, auc, average_precision, brier, calibration_error, mean_score })
}

/// Area under the curve, average precision and squared error of weighted rows, and how far off each bin's scores are, as a part of
/// all rows; `order` goes from the highest score to the lowest.
fn figures(
    scores: &[f64],
    outcomes: &[bool],
    order: &[usize],
    (bins, count): (&[usize], usize),
    weights: &[u32],
) -> Option<([f64; 3], Vec<f64>)> {
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
    let distances = distance.into_iter().map(|distance: f64| distance / rows).collect();
    Some(([pairs / (negatives * positives), precision / positives, squares / rows], distances))
}

/// How differently the groups fare whose rows score `threshold` or more. `groups` names each row's.
///
/// # Errors
/// As [`performance`], or when a group is too small or the only one, or there are too many.
pub fn gaps(scores: &[f64], outcomes: &[bool], groups: &[String], threshold: f64) -> Result<Gaps, EvaluateError> {
    check(scores, outcomes)?;
    if groups.len() != scores.len() {
        return Err(EvaluateError::Rows(groups.len()));
    }
    let mut names: Vec<&String> = groups.iter().collect();
    names.sort_unstable();
    names.dedup();
    // Selected with and without the outcome, then not selected with and without it.
    let mut all = vec![[0u64; 4]; names.len()];
    for (row, group) in groups.iter().enumerate() {
        let place = 2 * usize::from(scores[row] < threshold) + usize::from(!outcomes[row]);
        all[names.partition_point(|name| *name < group)][place] += 1;
    }
    if names.len() < 2 {
        return Err(EvaluateError::OneGroup);
    }
    if names.len() > fairness::GROUPS {
        return Err(EvaluateError::Groups(names.len()));
    }
    let counts: Vec<GroupCounts> = names.iter().zip(&all).map(|(name, count)| counted(name, count)).collect();
    if let Some(small) = counts.iter().find(|group| group.rows < GROUP_ROWS) {
        return Err(EvaluateError::Group(small.name.clone(), small.rows));
    }
    if let Some(few) = counts.iter().find(|group| group.positives.min(group.rows - group.positives) < GROUP_OUTCOMES) {
        return Err(EvaluateError::GroupOutcomes(few.name.clone(), few.positives, few.rows));
    }
    let group = |(name, count): (&&String, &[u64; 4])| {
        let cells = Cells::new(count.map(|count| count as f64).to_vec(), 0.0)?;
        fairness::Group::new(name.as_str(), cells)
    };
    let compared = names.iter().zip(&all).map(group).collect::<Result<Vec<_>, _>>();
    let found = compared.and_then(|groups| fairness::fairness(&groups, None));
    let found = found.map_err(|error| EvaluateError::Gaps(error.to_string()))?;
    let (selection, odds) = (known(found.selection_difference)?, known(found.odds_difference)?);
    Ok(Gaps { groups: counts, selection, odds })
}

fn counted(name: &str, [hits, wrong, missed, rest]: &[u64; 4]) -> GroupCounts {
    let rows = hits + wrong + missed + rest;
    GroupCounts { name: name.to_owned(), rows, positives: hits + missed, selected: hits + wrong }
}

/// A gap, whose interval starts at none: the largest of several is never less.
fn known(judged: Judged) -> Result<Estimate, EvaluateError> {
    match judged {
        Judged::Known(Estimate { value, low, high }) => Ok(Estimate { value, low: low.max(0.0), high }),
        Judged::Abstained(why) => Err(EvaluateError::Gaps(why)),
    }
}
