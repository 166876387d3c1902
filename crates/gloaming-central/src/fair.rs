//! Whether a model treats groups of people alike, by what visitors say of themselves: from released cells of group by
//! score by outcome. Where too few said anything, nothing is said of them.

use gloaming_policy::author::SELECTED;
use gloaming_policy::{Axis, Bins, Metric, Model, PageFeatureKind, Policy, Source};
use gloaming_stats::Cells;
use gloaming_stats::fairness::{Fairness, Group, Judged, calibration_by_group, fairness, silent};
use gloaming_stats::performance::Table;
use serde::Serialize;
use utoipa::ToSchema;

use crate::watch::{Figure, Windows};

/// How one group fares.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct FairGroup {
    /// What its people say of themselves.
    pub name: String,
    /// About how many visits.
    pub visits: f64,
    /// Share selected; absent where too few are of the group.
    pub selection: Option<Figure>,
    /// Share selected of those with the outcome.
    pub true_positive: Option<Figure>,
    /// Share selected of those without it.
    pub false_positive: Option<Figure>,
    /// Expected calibration error; absent too where the policy counts two bins of scores alone.
    pub calibration_error: Option<Figure>,
}

/// How differently the groups of one attribute fare.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Fair {
    /// What visitors are asked.
    pub by: String,
    /// Score from which a visit counts as selected.
    pub threshold: f64,
    /// Windows.
    pub windows: usize,
    /// In the policy's order.
    pub groups: Vec<FairGroup>,
    /// Largest difference of the share selected.
    pub selection_gap: Option<Figure>,
    /// Smallest share selected over the largest.
    pub selection_ratio: Option<Figure>,
    /// Largest difference of true positive rates, or of false positive ones where that is larger.
    pub odds_gap: Option<Figure>,
    /// Share of visits whose people said nothing; absent where scores and outcomes of all are not counted by an edge at
    /// the threshold.
    pub undeclared: Option<Figure>,
    /// Share selected of those less that of all who said something.
    pub undeclared_gap: Option<Figure>,
    /// What cannot be said, and why.
    pub unknown: Vec<String>,
}

/// Of (score bin × outcome) cells of everybody the four of [`Group`], with the noise of the one that has most in it.
fn four(windows: &Windows<'_>, cells: &Cells, threshold: u32) -> Option<Cells> {
    let Bins::Edges(edges) = &windows.metric().axes[0].bins else { return None };
    let below = edges.iter().position(|edge| *edge == threshold).filter(|at| (1..edges.len() - 1).contains(at))?;
    let sum = |bins: std::ops::Range<usize>, outcome: usize| -> f64 {
        bins.map(|bin| cells.values()[2 * bin + outcome]).sum()
    };
    let bins = edges.len() - 1;
    let values = vec![sum(below..bins, 1), sum(below..bins, 0), sum(0..below, 1), sum(0..below, 0)];
    Cells::new(values, cells.variance() * below.max(bins - below) as f64).ok()
}

/// Bins of a score, and how many of them lie below the threshold.
#[derive(Clone, Copy)]
struct Scores<'a> {
    edges: &'a [u32],
    below: usize,
}

impl Scores<'_> {
    fn bins(self) -> usize {
        self.edges.len() - 1
    }

    /// One group's row of bins without and with the outcome, as selected or not. Noise is that of the one of the four that has
    /// most bins in it.
    fn group(self, name: &str, row: &[f64], variance: f64) -> Option<Group> {
        let sum = |bins: std::ops::Range<usize>, outcome| bins.map(|bin| row[2 * bin + outcome]).sum::<f64>();
        let (rest, chosen) = (0..self.below, self.below..self.bins());
        let most = rest.len().max(chosen.len()) as f64;
        let four = vec![sum(chosen.clone(), 1), sum(chosen, 0), sum(rest.clone(), 1), sum(rest, 0)];
        Group::new(name, Cells::new(four, variance * most).ok()?).ok()
    }

    /// Mean score of each bin, where it is made of whole bins of the model's own: they hold as many visits each.
    fn means(self, model: &Model) -> Option<Vec<f64>> {
        let own = [&[0], &model.score_edges[..], &[1_000_000]].concat();
        let mean = |ends: &[u32]| {
            let [from, to] = [ends[0], ends[1]].map(|end| own.iter().position(|edge| *edge == end));
            let within = model.score_means.get(from?..to?)?;
            Some(within.iter().map(|mean| f64::from(*mean)).sum::<f64>() / within.len() as f64 / 1e6)
        };
        self.edges.windows(2).map(mean).collect()
    }

    /// One group's row as a table of scores and outcomes.
    fn table(self, row: &[f64], variance: f64, model: &Model) -> Option<Table> {
        let cells = Cells::new(row.to_vec(), variance).ok()?;
        match self.means(model) {
            Some(means) => Table::new(cells, means).ok(),
            None => {
                let edges: Vec<f64> = self.edges.iter().map(|edge| f64::from(*edge) / 1e6).collect();
                Table::from_edges(cells, &edges).ok()
            }
        }
    }
}

/// Whether a metric joins a group that visitors say they are of, a model's score, and an outcome.
fn of_groups<'a>(
    policy: &'a Policy,
    place: u32,
    metric: &'a Metric,
) -> Option<(&'a Axis, Scores<'a>, &'a Axis, &'a str)> {
    let ([groups, selected, _], Some(outcome)) = (metric.axes.as_slice(), metric.outcome()) else { return None };
    let (Source::Page(page), Source::Score(of), Bins::Edges(edges)) = (groups.source, selected.source, &selected.bins)
    else {
        return None;
    };
    let feature = policy.page_features.get(page as usize)?;
    let words = matches!(feature.kind, PageFeatureKind::Category(_));
    // Of two bins the upper one is selected; of more, those that say so.
    let said = selected.labels.iter().position(|label| label.ends_with(SELECTED));
    let below = if edges.len() == 3 { Some(1) } else { said }?;
    (of == place && words).then_some((groups, Scores { edges, below }, outcome, &feature.id))
}

/// How a model treats groups, by every attribute that is counted for it.
pub(crate) fn fair(policy: &Policy, place: u32, all: &[Windows<'_>]) -> Vec<Fair> {
    let judged = |windows: &Windows<'_>| {
        let (groups, scores, outcome, by) = of_groups(policy, place, windows.metric())?;
        let threshold = *scores.edges.get(scores.below)?;
        let mut fair = Fair {
            by: by.to_owned(),
            threshold: f64::from(threshold) / 1e6,
            windows: windows.len(),
            groups: Vec::new(),
            selection_gap: None,
            selection_ratio: None,
            odds_gap: None,
            undeclared: None,
            undeclared_gap: None,
            unknown: Vec::new(),
        };
        let Some(cells) = windows.all() else {
            fair.unknown.push(format!("by {by}: no window was released yet"));
            return Some(fair);
        };
        let named = |cells: &Cells| -> Option<Vec<Group>> {
            let rows = groups.labels.iter().zip(cells.values().chunks(2 * scores.bins()));
            rows.map(|(name, row)| scores.group(name, row, cells.variance())).collect()
        };
        match named(&cells).map(|groups| fairness(&groups, None)) {
            Some(Ok(found)) => tell(&mut fair, &found),
            Some(Err(error)) => fair.unknown.push(format!("by {by}: {error}")),
            None => return None,
        }
        if scores.bins() > 2
            && let Some(model) = policy.models.get(place as usize)
        {
            let rows = groups.labels.iter().zip(cells.values().chunks(2 * scores.bins()));
            let tables = rows.filter_map(|(name, row)| Some((&**name, scores.table(row, cells.variance(), model)?)));
            let found = calibration_by_group(&tables.collect::<Vec<_>>());
            for (group, (_, error)) in fair.groups.iter_mut().zip(&found) {
                group.calibration_error = figure(error, &mut fair.unknown);
            }
        }
        // Everybody is counted by score and outcome, in windows as long; who is not among the groups said nothing.
        let of_all = |other: &&Windows<'_>| {
            let metric = other.metric();
            let of = metric.axes.len() == 2 && metric.axes[0].source == Source::Score(place);
            of && metric.outcome() == Some(outcome) && metric.span_ms == windows.metric().span_ms
        };
        let both = all.iter().filter(of_all).find_map(|other| {
            let (said, all) = windows.beside_of(other)?;
            Some((named(&said)?, four(other, &all, threshold)?))
        });
        match both.map(|(groups, all)| silent(&groups, &all)) {
            Some(Ok(silent)) => {
                fair.undeclared = figure(&silent.share, &mut fair.unknown);
                fair.undeclared_gap = figure(&silent.selection_gap, &mut fair.unknown);
            }
            Some(Err(error)) => fair.unknown.push(format!("by {by}: {error}")),
            None => fair.unknown.push(format!(
                "by {by}: how many said nothing is not known, for no metric of such windows counts everybody's score by an edge at {}, with the outcome",
                fair.threshold
            )),
        }
        Some(fair)
    };
    all.iter().filter_map(judged).collect()
}

/// A figure; or why there is none, once.
fn figure(judged: &Judged, unknown: &mut Vec<String>) -> Option<Figure> {
    match judged {
        Judged::Known(estimate) => Some((*estimate).into()),
        Judged::Abstained(why) => {
            if !unknown.contains(why) {
                unknown.push(why.clone());
            }
            None
        }
    }
}

fn tell(fair: &mut Fair, found: &Fairness) {
    let unknown = &mut fair.unknown;
    fair.groups = found
        .groups
        .iter()
        .map(|rates| FairGroup {
            name: rates.name.clone(),
            visits: rates.people,
            selection: figure(&rates.selection, unknown),
            true_positive: figure(&rates.true_positive, unknown),
            false_positive: figure(&rates.false_positive, unknown),
            calibration_error: None,
        })
        .collect();
    fair.selection_gap = figure(&found.selection_difference, unknown);
    fair.selection_ratio = figure(&found.selection_ratio, unknown);
    fair.odds_gap = figure(&found.odds_difference, unknown);
}

#[cfg(test)]
mod tests;
