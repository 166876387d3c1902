//! One site's releases as the dashboard and programs read them.

use std::collections::BTreeMap;

use gloaming_policy::{Bins, Metric, Policy, Source};
use gloaming_signal::ReleaseState;
use gloaming_signal::hash::hex;
use serde::Serialize;
use utoipa::ToSchema;

use crate::ingest::Policies;
use crate::store::{ReleaseRow, Store, StoreError};
use crate::sudden::{Sudden, sudden};
use crate::watch::alike;

/// A site in the list.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SiteRow {
    /// The site.
    pub site: String,
    /// Newest policy version known here.
    pub policy_version: u32,
}

/// What may be learnt of one device, by the policy. Every number is an upper bound.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Budget {
    /// Zero-concentrated differential privacy a device may spend a day.
    pub rho_per_device_day: f64,
    /// What the declared metrics cost together when each is contributed as often as allowed.
    pub declared_rho: f64,
    /// The delta that the epsilons hold at.
    pub delta: f64,
    /// (epsilon, delta) after a day.
    pub epsilon_day: f64,
    /// After 30 days, each spent to the declared amount.
    pub epsilon_month: f64,
    /// After 365 days.
    pub epsilon_year: f64,
}

/// One window of one metric from one edge.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct WindowView {
    /// Window index: `start_ms / window_ms`.
    pub index: u64,
    /// Its start, ms since 1970 in edge time.
    pub start_ms: u64,
    /// Its end.
    pub end_ms: u64,
    /// The edge.
    pub edge: String,
    /// The policy it was released under.
    pub policy_version: u32,
    /// `released`, `below-k` or `over-budget`.
    pub state: &'static str,
    /// Noised value of each cell in the order of `labels`; empty unless released. May be negative.
    pub values: Vec<i64>,
    /// Half the width of its 95 % interval, by cell, from the noise of its own version; empty unless released.
    pub half_width: Vec<f64>,
    /// Whether its cells are those of `labels`; an earlier version of the policy may have cut others.
    pub comparable: bool,
    /// When it arrived, ms since 1970.
    pub received_ms: u64,
}

/// Released windows added up.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Total {
    /// How many windows.
    pub windows: usize,
    /// Sum of each cell.
    pub values: Vec<i64>,
    /// Half the width of each sum's 95 % interval, from the noise alone.
    pub half_width: Vec<f64>,
    /// Whether a sum passed 2^63 and stands at that bound; there is an alarm then, for no crowd is so large.
    pub saturated: bool,
}

/// One metric with its windows.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct MetricView {
    /// Number in the policy.
    pub id: u32,
    /// Name.
    pub name: String,
    /// What it is of, as the author wrote it.
    pub of: String,
    /// Whether no author wrote it: a monitor, a retraining or an experiment did.
    pub written_out: bool,
    /// histogram, category, sum, joint, funnel or journey.
    pub kind: String,
    /// A word for each cell. A sum has two: reports and the sum.
    pub labels: Vec<String>,
    /// Rows of a joint or journey metric: cells are row by row.
    pub rows: usize,
    /// SHA-256 of the manifest of the model whose score, or fate, it counts; windows of another version are not comparable.
    pub manifest: Option<String>,
    /// Edges of the score's bins, from 0 to 1, where it counts one; labels are rounded.
    pub score_edges: Vec<f64>,
    /// Purpose that visitors agreed to.
    pub purpose: String,
    /// Privacy tier.
    pub tier: &'static str,
    /// Window length, ms.
    pub window_ms: u64,
    /// Contributions a device may make a day.
    pub per_day: u32,
    /// Price of one contribution.
    pub rho: f64,
    /// Smallest noised crowd that is released.
    pub k: u32,
    /// Standard deviation of each cell's noise.
    pub sigma: Vec<f64>,
    /// Half the width of one window's 95 % interval, by cell.
    pub half_width: Vec<f64>,
    /// Newest windows, oldest first.
    pub windows: Vec<WindowView>,
    /// Sums over the released ones among them whose cells mean the same.
    pub total: Total,
    /// Cells among the latest 96 of each edge that grew suddenly and alone: a campaign, or somebody who posts what nobody did.
    pub sudden: Vec<Sudden>,
}

/// Everything released about a site, newest windows first in time to be cut.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Overview {
    /// The site.
    pub site: String,
    /// Newest policy version.
    pub policy_version: u32,
    /// First day on which that policy no longer holds, days since 1970.
    pub expires_day: u64,
    /// The centre's time, ms since 1970.
    pub now_ms: u64,
    /// Edges that delivered.
    pub edges: Vec<String>,
    /// Batches refused because another bore their name, and batches with cells that no crowd can have.
    pub alarms: u64,
    /// The latest alarm.
    pub last_alarm: Option<String>,
    /// Budget.
    pub budget: Budget,
    /// Metrics in the policy's order.
    pub metrics: Vec<MetricView>,
}

fn budget(policy: &Policy) -> Budget {
    let (declared, delta) = (policy.declared(), policy.delta());
    let epsilon = |days: u64| declared.times(days).epsilon(delta);
    Budget {
        rho_per_device_day: policy.budget.as_f64(),
        declared_rho: declared.as_f64(),
        delta,
        epsilon_day: epsilon(1),
        epsilon_month: epsilon(30),
        epsilon_year: epsilon(365),
    }
}

fn word(state: ReleaseState) -> &'static str {
    match state {
        ReleaseState::Released => "released",
        ReleaseState::BelowK => "below-k",
        ReleaseState::OverBudget => "over-budget",
    }
}

/// Releases that count the same things in the same cells, added up. What an earlier version of the policy
/// cut into other bins is shown and not added; the noise of each window is that of the version it came from.
fn total<'p>(metric: &Metric, rows: &[ReleaseRow], same: &dyn Fn(u32) -> Option<&'p Metric>) -> Total {
    let cells = metric.cells() as usize;
    let (mut windows, mut values, mut saturated) = (0, vec![0i64; cells], false);
    let mut squares = vec![0.0; cells];
    for row in rows.iter().filter(|row| row.values.len() == cells) {
        let Some(version) = same(row.policy_version) else { continue };
        windows += 1;
        for (cell, scale) in version.scales().iter().enumerate() {
            saturated |= values[cell].checked_add(row.values[cell]).is_none();
            values[cell] = values[cell].saturating_add(row.values[cell]);
            squares[cell] += scale.half_width_95(version.mechanism).powi(2);
        }
    }
    // Noise of different windows is independent. Of the Laplace's a sum has shorter tails than one has, so this is a little wide.
    let half_width = squares.into_iter().map(f64::sqrt).collect();
    Total { windows, values, half_width, saturated }
}

/// Windows of an edge that are looked at for what stands out, from the newest: four days of hours.
const LOOKED_AT: usize = 96;

/// What stands out among the latest releases, each edge by itself.
fn outliers<'p>(metric: &Metric, rows: &[ReleaseRow], same: &dyn Fn(u32) -> Option<&'p Metric>) -> Vec<Sudden> {
    // The spread of a sum is that of what people bring, not of how many come.
    if metric.sum_max().is_some() {
        return Vec::new();
    }
    let deviation: Vec<f64> = metric.scales().iter().map(|scale| scale.deviation(metric.mechanism)).collect();
    let mut by_edge: BTreeMap<&str, Vec<&ReleaseRow>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.values.len() == metric.cells() as usize) {
        if same(row.policy_version).is_some() {
            by_edge.entry(&row.edge).or_default().push(row);
        }
    }
    let mut found = Vec::new();
    for rows in by_edge.values() {
        let windows: Vec<&[i64]> = rows.iter().map(|row| &row.values[..]).collect();
        for (place, row) in rows.iter().enumerate().skip(rows.len().saturating_sub(LOOKED_AT)) {
            for (cell, value, usual) in sudden(&windows[..=place], &deviation) {
                let (start_ms, edge) = (row.window * metric.span_ms, row.edge.clone());
                found.push(Sudden { start_ms, edge, cell, value, usual });
            }
        }
    }
    found
}

fn half_width_of(metric: &Metric) -> Vec<f64> {
    metric.scales().iter().map(|scale| scale.half_width_95(metric.mechanism)).collect()
}

fn metric_view<'p>(
    policy: &Policy,
    metric: &Metric,
    rows: Vec<ReleaseRow>,
    earlier: &dyn Fn(u32) -> Option<(&'p Policy, &'p Metric)>,
) -> MetricView {
    // What counts the same things in the same cells, of the same version of a model.
    let same = |version: u32| {
        earlier(version).filter(|(of, version)| alike((policy, metric), (of, version))).map(|(_, version)| version)
    };
    let scales = metric.scales();
    let labels =
        if metric.sum_max().is_some() { vec!["reports".to_owned(), "sum".to_owned()] } else { metric.labels() };
    let (total, sudden) = (total(metric, &rows, &same), outliers(metric, &rows, &same));
    MetricView {
        id: metric.id,
        name: metric.name.clone(),
        of: metric.of.clone(),
        written_out: metric.is_written_out(),
        kind: metric.kind.clone(),
        rows: if metric.axes.len() > 1 { metric.axes[0].labels.len() } else { 1 },
        labels,
        manifest: metric.axes.iter().find_map(|axis| match axis.source {
            Source::Score(place) | Source::Fared(place) => {
                Some(hex(&policy.models.get(place as usize)?.manifest_sha256))
            }
            _ => None,
        }),
        score_edges: metric
            .axes
            .iter()
            .find_map(|axis| match (axis.source, &axis.bins) {
                (Source::Score(_), Bins::Edges(edges)) => {
                    Some(edges.iter().map(|edge| f64::from(*edge) / 1e6).collect())
                }
                _ => None,
            })
            .unwrap_or_default(),
        purpose: policy.purposes.get(metric.purpose as usize).map(|p| p.id.clone()).unwrap_or_default(),
        tier: "edge",
        window_ms: metric.span_ms,
        per_day: metric.per_day,
        rho: metric.rho.as_f64(),
        k: metric.k,
        sigma: scales.iter().map(|s| s.deviation(metric.mechanism)).collect(),
        half_width: half_width_of(metric),
        windows: rows
            .into_iter()
            .map(|row| WindowView {
                half_width: earlier(row.policy_version)
                    .filter(|(_, version)| version.cells() as usize == row.values.len())
                    .map_or_else(Vec::new, |(_, version)| half_width_of(version)),
                index: row.window,
                start_ms: row.window * metric.span_ms,
                end_ms: (row.window + 1) * metric.span_ms,
                edge: row.edge,
                policy_version: row.policy_version,
                state: word(row.state),
                comparable: same(row.policy_version).is_some(),
                values: row.values,
                received_ms: row.received_ms,
            })
            .collect(),
        total,
        sudden,
    }
}

/// Reads a site's overview: the newest `last` windows of each metric that the newest policy declares.
/// `None` when no policy is known.
///
/// # Errors
/// When the database fails.
pub(crate) async fn overview(
    store: &Store,
    policies: &Policies,
    site: &str,
    last: u32,
    now_ms: u64,
) -> Result<Option<Overview>, StoreError> {
    let versions = || policies.range((site.to_owned(), 0)..=(site.to_owned(), u32::MAX));
    let Some((_, (policy, _))) = versions().next_back() else { return Ok(None) };
    let mut metrics = Vec::with_capacity(policy.metrics.len());
    for metric in &policy.metrics {
        let rows = store.releases(site, metric.id, metric.span_ms, last).await?;
        let earlier = |version: u32| {
            let (policy, _) = policies.get(&(site.to_owned(), version))?;
            Some((policy, policy.metric(metric.id)?))
        };
        metrics.push(metric_view(policy, metric, rows, &earlier));
    }
    let (alarms, last_alarm) = store.alarms(site).await?;
    Ok(Some(Overview {
        site: site.to_owned(),
        policy_version: policy.version,
        expires_day: policy.expires_day,
        now_ms,
        edges: store.edges(site).await?,
        alarms,
        last_alarm,
        budget: budget(policy),
        metrics,
    }))
}

/// A bound that a caller may ask for.
pub(crate) fn bounded(last: Option<u32>) -> u32 {
    last.unwrap_or(100).clamp(1, 1_000)
}

#[cfg(test)]
mod tests {
    use gloaming_privacy::Rho;

    use super::*;

    #[test]
    fn a_year_costs_less_than_365_days_one_by_one() {
        let day = Rho::from_micro(250_000);
        assert!(day.times(365).epsilon(1e-6) < 365.0 * day.epsilon(1e-6));
        assert_eq!((bounded(None), bounded(Some(0)), bounded(Some(u32::MAX))), (100, 1, 1_000));
    }
}
