//! One site's releases as the dashboard and programs read them.

use gloaming_policy::{Metric, Policy};
use gloaming_signal::ReleaseState;
use serde::Serialize;
use utoipa::ToSchema;

use crate::store::{ReleaseRow, Store};

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
    /// histogram, category, sum, joint, funnel or journey.
    pub kind: String,
    /// A word for each cell. A sum has two: reports and the sum.
    pub labels: Vec<String>,
    /// Rows of a joint or journey metric: cells are row by row.
    pub rows: usize,
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
    /// Sums over the released ones among them.
    pub total: Total,
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
    /// Batches refused because another bore their name. Not zero: look at the edge's store.
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

fn metric_view(policy: &Policy, metric: &Metric, rows: Vec<ReleaseRow>) -> MetricView {
    let scales = metric.scales();
    let half_width: Vec<f64> = scales.iter().map(|s| s.half_width_95(metric.mechanism)).collect();
    let labels =
        if metric.sum_max().is_some() { vec!["reports".to_owned(), "sum".to_owned()] } else { metric.labels() };
    let released: Vec<&ReleaseRow> = rows.iter().filter(|r| r.values.len() == labels.len()).collect();
    let count = released.len();
    let total = Total {
        windows: count,
        values: (0..labels.len()).map(|cell| released.iter().map(|r| r.values[cell]).sum()).collect(),
        // Noise of different windows is independent. For the Laplace the normal interval of a sum is
        // the right one from a few windows on, and for one window its own.
        half_width: scales
            .iter()
            .zip(&half_width)
            .map(|(scale, one)| match count {
                0 => 0.0,
                1 => *one,
                _ => 1.959_963_985 * scale.deviation(metric.mechanism) * (count as f64).sqrt(),
            })
            .collect(),
    };
    MetricView {
        id: metric.id,
        name: metric.name.clone(),
        of: metric.of.clone(),
        kind: metric.kind.clone(),
        rows: if metric.axes.len() == 2 { metric.axes[0].labels.len() } else { 1 },
        labels,
        purpose: policy.purposes.get(metric.purpose as usize).map(|p| p.id.clone()).unwrap_or_default(),
        tier: "edge",
        window_ms: metric.span_ms,
        per_day: metric.per_day,
        rho: metric.rho.as_f64(),
        k: metric.k,
        sigma: scales.iter().map(|s| s.deviation(metric.mechanism)).collect(),
        half_width,
        windows: rows
            .into_iter()
            .map(|row| WindowView {
                index: row.window,
                start_ms: row.window * metric.span_ms,
                end_ms: (row.window + 1) * metric.span_ms,
                edge: row.edge,
                policy_version: row.policy_version,
                state: word(row.state),
                values: row.values,
                received_ms: row.received_ms,
            })
            .collect(),
        total,
    }
}

/// Reads a site's overview: the newest `last` windows of each metric that the newest policy declares.
///
/// # Errors
/// When the database fails.
pub async fn overview(store: &Store, policy: &Policy, last: u32, now_ms: u64) -> Result<Overview, sqlx::Error> {
    let mut metrics = Vec::with_capacity(policy.metrics.len());
    for metric in &policy.metrics {
        let rows = store.releases(&policy.site, metric.id, last).await?;
        metrics.push(metric_view(policy, metric, rows));
    }
    let (alarms, last_alarm) = store.alarms(&policy.site).await?;
    Ok(Overview {
        site: policy.site.clone(),
        policy_version: policy.version,
        expires_day: policy.expires_day,
        now_ms,
        edges: store.edges(&policy.site).await?,
        alarms,
        last_alarm,
        budget: budget(policy),
        metrics,
    })
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
