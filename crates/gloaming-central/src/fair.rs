//! Whether a model treats groups of people alike, by what visitors say of themselves: from released cells of group by
//! selected by outcome. Where too few said anything, nothing is said of them.

use gloaming_policy::{Axis, Bins, Metric, PageFeatureKind, Policy, Source};
use gloaming_stats::Cells;
use gloaming_stats::fairness::{Fairness, Group, Judged, fairness, silent};
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

/// The cells of one group's row: without and with the outcome, not selected, then selected.
fn group(name: &str, row: &[f64], variance: f64) -> Option<Group> {
    let [rest, missed, wrong, hits] = *row else { return None };
    Group::new(name, Cells::new(vec![hits, wrong, missed, rest], variance).ok()?).ok()
}

/// Whether a metric joins a group that visitors say they are of, a model's score on two bins, and an outcome.
fn of_groups<'a>(policy: &'a Policy, place: u32, metric: &'a Metric) -> Option<(&'a Axis, u32, &'a Axis, &'a str)> {
    let ([groups, selected, _], Some(outcome)) = (metric.axes.as_slice(), metric.outcome()) else { return None };
    let (Source::Page(page), Source::Score(of), Bins::Edges(edges)) = (groups.source, selected.source, &selected.bins)
    else {
        return None;
    };
    let feature = policy.page_features.get(page as usize)?;
    let words = matches!(feature.kind, PageFeatureKind::Category(_));
    let &[_, threshold, _] = edges.as_slice() else { return None };
    (of == place && words).then_some((groups, threshold, outcome, &feature.id))
}

/// How a model treats groups, by every attribute that is counted for it.
pub(crate) fn fair(policy: &Policy, place: u32, all: &[Windows<'_>]) -> Vec<Fair> {
    let judged = |windows: &Windows<'_>| {
        let (groups, threshold, outcome, by) = of_groups(policy, place, windows.metric())?;
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
            let rows = groups.labels.iter().zip(cells.values().chunks(4));
            rows.map(|(name, row)| group(name, row, cells.variance())).collect()
        };
        match named(&cells).map(|groups| fairness(&groups, None)) {
            Some(Ok(found)) => tell(&mut fair, &found),
            Some(Err(error)) => fair.unknown.push(format!("by {by}: {error}")),
            None => return None,
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
        })
        .collect();
    fair.selection_gap = figure(&found.selection_difference, unknown);
    fair.selection_ratio = figure(&found.selection_ratio, unknown);
    fair.odds_gap = figure(&found.odds_difference, unknown);
}

#[cfg(test)]
mod tests;
