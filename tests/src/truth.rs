//! What truly happened, in the cells of a policy.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use gloaming_policy::{Metric, Policy};
use gloaming_signal::Submission;

use crate::persona::Visit;

/// Exact cells by metric.
pub type Cells = BTreeMap<u32, Vec<u64>>;

fn empty(policy: &Policy) -> Cells {
    policy.metrics.iter().map(|m| (m.id, vec![0; m.cells() as usize])).collect()
}

/// Cells of what people say they did; only metrics that somebody knows the answer to.
///
/// # Errors
/// When a fact names a metric or label that the policy does not have.
pub fn done(policy: &Policy, visits: &[Visit]) -> Result<Cells> {
    let mut cells = Cells::new();
    for (name, label, value) in visits.iter().flat_map(|v| &v.facts) {
        let metric = policy.metrics.iter().find(|m| m.name == *name).with_context(|| format!("no metric {name}"))?;
        let row = cells.entry(metric.id).or_insert_with(|| vec![0; metric.cells() as usize]);
        if metric.sum_max().is_some() {
            row[0] += 1;
            row[1] += value;
        } else {
            row[cell_of(metric, label)?] += value;
        }
    }
    Ok(cells)
}

fn cell_of(metric: &Metric, label: &str) -> Result<usize> {
    let labels = metric.labels();
    labels
        .iter()
        .position(|l| l == label)
        .with_context(|| format!("{} has no label {label:?}: {labels:?}", metric.name))
}

/// Cells of what devices sent, as it passed over the wire.
#[must_use]
pub fn sent(policy: &Policy, submissions: &[Submission]) -> Cells {
    let mut cells = empty(policy);
    for contribution in submissions.iter().flat_map(|s| &s.contributions) {
        let Some(metric) = policy.metric(contribution.metric) else { continue };
        let Some(row) = cells.get_mut(&contribution.metric) else { continue };
        row[contribution.cell as usize] += u64::from(contribution.value);
        if metric.sum_max().is_some() {
            row[0] += 1;
        }
    }
    cells
}
