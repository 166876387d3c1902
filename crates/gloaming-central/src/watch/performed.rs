//! How well scores tell outcomes: over all windows, in the newest beside those before, and as the scores alone would have it.

use gloaming_policy::{Bins, Model, Source};
use gloaming_stats::performance::recalibrate::isotonic;
use gloaming_stats::performance::{Performance, Table, expected, performance};
use gloaming_stats::series::Direction;
use gloaming_stats::{Cells, ratio};
use serde::Serialize;
use utoipa::ToSchema;

use super::Figure;
use super::series::{Point, Series, when};
use super::windows::{Windows, sum};

/// A smaller fall of AUC is called none however sure it is: where visits are many, everything is.
const LEAST: f64 = 0.02;
/// What is to be said wherever the figures are shown.
const BLIND: &str = "what the scores alone would let one expect; does not see when outcomes change (concept drift)";

/// Visits of one score bin.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub struct Bin {
    /// What the bin stands for: the mean score of what the model learnt from, or the middle where that is not known.
    pub score: f64,
    /// About how many visits.
    pub visits: f64,
    /// Share of them with the outcome; absent where noise may be all of them.
    pub share: Option<Figure>,
}

/// How well scores told outcomes, over all windows looked at.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Performed {
    /// Windows.
    pub windows: usize,
    /// Share of visits with the outcome.
    pub base_rate: Figure,
    /// Area under the ROC curve.
    pub auc: Figure,
    /// Average precision.
    pub average_precision: Figure,
    /// Mean squared error of the score bins' middles.
    pub brier: Figure,
    /// Expected calibration error.
    pub calibration_error: Figure,
    /// Score bins, the lowest first: scores that say what comes true have a share with the outcome that is the score.
    pub bins: Vec<Bin>,
}

/// The newest windows beside those before.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Recent {
    /// Start of the first of the newest, ms since 1970: the window since which AUC has lain off, or the newest one where no
    /// change is told.
    pub start_ms: u64,
    /// How many are taken together.
    pub windows: usize,
    /// Windows before.
    pub windows_before: usize,
    /// Area under the ROC curve in the newest.
    pub auc: Figure,
    /// And before.
    pub auc_before: Figure,
    /// The first less the second.
    pub difference: Figure,
    /// Calibration error in the newest.
    pub calibration_error: Figure,
    /// And before.
    pub calibration_error_before: Figure,
    /// How often windows without a change show one of AUC as clear, wherever one looks among them; absent where none is told.
    pub p: Option<f64>,
    /// Start of the window since which AUC has lain off what it was, ms since 1970; absent where no change is told.
    pub since_ms: Option<u64>,
    /// Whether it has fallen: lower since then, by 0.02 at least.
    pub fell: bool,
    /// All of it in a sentence.
    pub words: String,
}

/// What the scores alone would let one expect of the newest windows (CBPE, confidence-based performance estimation).
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Expected {
    /// Start of the first of the newest windows, ms since 1970, as in `recent`.
    pub start_ms: u64,
    /// How many are taken together.
    pub windows: usize,
    /// Share of visits with the outcome. The interval holds chance and the noise of the scores' counts, and not how sure the
    /// calibration is that it rests on.
    pub base_rate: Figure,
    /// Area under the ROC curve, likewise.
    pub auc: Figure,
    /// What says how often a score of a bin comes true: `earlier-windows`, their counts of score and outcome, made never to fall;
    /// or `training`, what the model itself says, where no earlier window has told enough outcomes.
    pub calibration: &'static str,
    /// What these figures do not see.
    pub words: &'static str,
}

/// All that is told by outcomes.
pub(super) struct Told {
    pub(super) performed: Performed,
    pub(super) recent: Option<Recent>,
    pub(super) expected: Option<Expected>,
    pub(super) series: Vec<Series>,
}

/// What the bins of a score stand for.
enum Scores {
    Means(Vec<f64>),
    Edges(Vec<f64>),
}

impl Scores {
    /// `None` when the metric's first axis is no score.
    fn of(windows: &Windows<'_>, model: &Model) -> Option<Self> {
        let score = windows.metric().axes.first()?;
        let (Source::Score(_), Bins::Edges(edges)) = (score.source, &score.bins) else { return None };
        let scores = |millionths: &[u32]| millionths.iter().map(|score| f64::from(*score) / 1e6).collect::<Vec<_>>();
        let means = &model.score_means;
        // Means are of the model's own bins, and not of an author's.
        let known = means.len() + 1 == edges.len() && edges[1..edges.len() - 1] == model.score_edges;
        Some(if known { Self::Means(scores(means)) } else { Self::Edges(scores(edges)) })
    }

    fn table(&self, cells: Cells) -> Result<Table, String> {
        let table = match self {
            Self::Means(means) => Table::new(cells, means.clone()),
            Self::Edges(edges) => Table::from_edges(cells, edges),
        };
        table.map_err(|error| error.to_string())
    }

    fn performance(&self, cells: Cells) -> Result<(Table, Performance), String> {
        let table = self.table(cells)?;
        let found = performance(&table).map_err(|error| error.to_string())?;
        Ok((table, found))
    }

    /// What scores alone let one expect of a histogram of them, by the counts of earlier windows or by what the model says.
    fn expected(&self, newest: &[(u64, Cells)], scores: &Cells, before: Option<Cells>) -> Option<Expected> {
        let start_ms = newest.first()?.0;
        let earlier = before.and_then(|cells| isotonic(&self.table(cells).ok()?).ok());
        let (probabilities, calibration) = match (earlier, self) {
            (Some(earlier), _) => (earlier.probabilities().to_vec(), "earlier-windows"),
            (None, Self::Means(means)) => (means.clone(), "training"),
            (None, Self::Edges(_)) => return None,
        };
        let found = expected(scores, &probabilities).ok()?;
        let (base_rate, auc) = (found.base_rate.into(), found.auc.into());
        Some(Expected { start_ms, windows: newest.len(), base_rate, auc, calibration, words: BLIND })
    }
}

/// What scores alone let one expect of the newest window, where nothing joins them with outcomes.
pub(super) fn by_scores_alone(windows: &Windows<'_>, model: &Model) -> Option<Expected> {
    let each = windows.each();
    let newest = each.last()?;
    Scores::of(windows, model)?.expected(std::slice::from_ref(newest), &newest.1, None)
}

/// All that outcomes tell of a model; `None` when the metric joins no score with an outcome, an error is a sentence.
pub(super) fn told(windows: &Windows<'_>, model: &Model) -> Option<Result<Told, String>> {
    let [_, outcome] = windows.metric().axes.as_slice() else { return None };
    // Other words of two are no outcomes: a visit that is the first of its day has not come true.
    if !matches!(outcome.source, Source::Feature(_)) || !outcome.is_yes_or_no() {
        return None;
    }
    let scores = Scores::of(windows, model)?;
    Some(of_outcomes(windows, &scores).map_err(|why| format!("{}: {why}", windows.metric().of)))
}

fn of_outcomes(windows: &Windows<'_>, scores: &Scores) -> Result<Told, String> {
    let all = windows.all().ok_or_else(|| "no window was released yet".to_owned())?;
    let (table, found) = scores.performance(all)?;
    let performed = Performed {
        windows: windows.len(),
        base_rate: found.base_rate.into(),
        auc: found.auc.into(),
        average_precision: found.average_precision.into(),
        brier: found.brier.into(),
        calibration_error: found.calibration_error.into(),
        bins: bins(&table),
    };
    let (each, span_ms) = (windows.each(), windows.metric().span_ms);
    let by_window = each.iter().filter_map(|(start_ms, cells)| {
        let (_, found) = scores.performance(cells.clone()).ok()?;
        let point = |figure: Figure| Point { start_ms: *start_ms, figure };
        Some((point(found.auc.into()), point(found.calibration_error.into())))
    });
    let (aucs, errors): (Vec<Point>, Vec<Point>) = by_window.unzip();
    let mut series = [Series::new("auc", aucs), Series::new("calibration-error", errors), Series::visits(&each)];
    let [change, ..] = series.each_mut().map(|one| one.search(span_ms));
    let since_ms = series[0].since_ms;
    let cut = since_ms.map_or(each.len().saturating_sub(1), |start_ms| each.partition_point(|(at, _)| *at < start_ms));
    let (before, newest) = each.split_at(cut);
    let (now, earlier) = (sum(newest.iter().map(|(_, cells)| cells)), sum(before.iter().map(|(_, cells)| cells)));
    let beside = now.clone().zip(earlier.clone()).and_then(|(now, earlier)| {
        let ((_, now), (_, earlier)) = (scores.performance(now).ok()?, scores.performance(earlier).ok()?);
        Some((now, earlier))
    });
    let recent = beside.map(|(now, earlier)| {
        let mut recent = recent((newest, before.len()), (now, earlier), span_ms);
        (recent.since_ms, recent.p) = (since_ms, change.map(|change| change.p));
        recent.fell = change.is_some_and(|change| change.direction == Direction::Down)
            && recent.difference.high < 0.0
            && recent.difference.value <= -LEAST;
        recent
    });
    let expected = now.and_then(|now| scores.expected(newest, &of_scores(&now)?, earlier));
    Ok(Told { performed, recent, expected, series: series.into() })
}

/// Scores, whatever came of them. The noise of both cells adds up.
fn of_scores(cells: &Cells) -> Option<Cells> {
    let values = cells.values().chunks(2).map(|row| row.iter().sum()).collect();
    Cells::new(values, 2.0 * cells.variance()).ok()
}

fn recent(
    (newest, windows_before): (&[(u64, Cells)], usize),
    (now, before): (Performance, Performance),
    span_ms: u64,
) -> Recent {
    let (auc, auc_before): (Figure, Figure) = (now.auc.into(), before.auc.into());
    // Ends may be cut off at 0 and 1; the other one is not.
    let half = |of: Figure| (of.high - of.value).max(of.value - of.low);
    let (value, half) = (auc.value - auc_before.value, half(auc).hypot(half(auc_before)));
    let difference = Figure::around(value, half);
    let start_ms = newest.first().map_or(0, |(start_ms, _)| *start_ms);
    let told = |of: Figure| format!("{:.3} [{:.3}, {:.3}]", of.value, of.low, of.high);
    let which = if newest.len() == 1 { "in" } else { "since" };
    let words = format!(
        "AUC is {} {which} the window of {}, and was {} in the {windows_before} before: {:+.3} [{:+.3}, {:+.3}]",
        told(auc),
        when(start_ms, span_ms),
        told(auc_before),
        difference.value,
        difference.low,
        difference.high
    );
    Recent {
        start_ms,
        windows: newest.len(),
        windows_before,
        auc,
        auc_before,
        difference,
        calibration_error: now.calibration_error.into(),
        calibration_error_before: before.calibration_error.into(),
        p: None,
        since_ms: None,
        fell: false,
        words,
    }
}

/// Each score bin's visits, and the share of them with the outcome.
fn bins(table: &Table) -> Vec<Bin> {
    let variance = table.cells().variance();
    let bin = |(score, pair): (&f64, &[f64])| {
        let visits = pair[0] + pair[1];
        let told = visits > 3.0 * (2.0 * variance).sqrt() && visits >= 1.0;
        let cells = Cells::new(pair.to_vec(), variance).ok().filter(|_| told);
        let share = cells.and_then(|cells| ratio(&[(0.0, 1.0), (1.0, 1.0)], &cells)).map(Figure::from);
        Bin { score: *score, visits, share }
    };
    table.scores().iter().zip(table.cells().values().chunks(2)).map(bin).collect()
}
