//! What the centre released, as its overview tells it (`curl CENTRE/api/v1/sites/SITE/overview`).

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail};
use gloaming_model::Manifest;
use gloaming_stats::Cells;
use gloaming_stats::fairness::Group;
use gloaming_stats::performance::Table;
use serde::Deserialize;

use crate::files;

/// Half a 95 % interval in standard deviations.
const HALF: f64 = 1.959_963_985;
/// Edges of bins are kept in millionths.
pub(super) const MILLIONTH: f64 = 1e-6;

/// What is read of it.
#[derive(Deserialize)]
pub(super) struct Overview {
    pub(super) site: String,
    pub(super) metrics: Vec<Counted>,
}

/// One metric.
#[derive(Deserialize)]
pub(super) struct Counted {
    pub(super) name: String,
    pub(super) of: String,
    rows: usize,
    pub(super) labels: Vec<String>,
    /// Of the model that it counts; the centre adds up no other version's windows.
    manifest: Option<String>,
    #[serde(default)]
    score_edges: Vec<f64>,
    total: Total,
    #[serde(default)]
    windows: Vec<Window>,
}

#[derive(Deserialize)]
struct Total {
    windows: usize,
    values: Vec<f64>,
    half_width: Vec<f64>,
}

#[derive(Deserialize)]
struct Window {
    start_ms: u64,
    end_ms: u64,
    #[serde(default)]
    edge: String,
    #[serde(default)]
    policy_version: u32,
    state: String,
    comparable: bool,
    #[serde(default)]
    values: Vec<f64>,
    #[serde(default)]
    half_width: Vec<f64>,
}

/// A release: when its window began and ended, of which edge, under which version of the policy.
pub(super) type Place = (u64, u64, String, u32);

/// How groups of one attribute were counted: what is compared, and their four cells each; none where none was released.
pub(super) struct ByGroup {
    pub(super) attribute: String,
    pub(super) threshold: f64,
    pub(super) span_ms: Option<(u64, u64)>,
    pub(super) groups: Vec<Group>,
}

impl Overview {
    /// Reads one that was saved; its bytes too.
    pub(super) fn read(path: &Path) -> Result<(Self, Vec<u8>)> {
        let bytes = files::read(path)?;
        let overview = serde_json::from_slice(&bytes).with_context(|| {
            format!("{} is no overview; `curl CENTRE/api/v1/sites/SITE/overview` gives one", path.display())
        })?;
        Ok((overview, bytes))
    }

    /// Reads one that was saved, of a policy's site and of no other.
    pub(super) fn of_site(path: &Path, site: &str) -> Result<Self> {
        let (overview, _) = Self::read(path)?;
        if overview.site != site {
            bail!("{} is of {}, and the policy of {site}", path.display(), overview.site);
        }
        Ok(overview)
    }

    /// What was counted of the scores of a model with this manifest and what came of them, by the model's own bins.
    pub(super) fn scores_and_outcomes(
        &self,
        model: &Manifest,
        manifest: &str,
        metric: Option<&str>,
    ) -> Result<(Table, &Counted)> {
        let of = format!("score:{}, ", model.id);
        let of_it = |m: &&Counted| m.of.starts_with(&of) && metric.is_none_or(|name| m.name == name);
        let ends = [&[0.0], &model.score_edges[..], &[1.0]].concat();
        let own = |m: &&Counted| m.manifest.as_deref() == Some(manifest) && alike(&m.score_edges, &ends);
        let mut all = self.metrics.iter().filter(of_it);
        let found = all.clone().find(own).or_else(|| all.next()).ok_or_else(|| {
            let named = metric.map_or(String::new(), |name| format!(" called `{name}`"));
            anyhow!(
                "{} counts nothing{named} of `score:{}` and an outcome; declare a joint metric, or `outcome` in its [[monitor]]",
                self.site,
                model.id
            )
        })?;
        if !own(&found) || found.labels.len() != 2 * found.rows || found.rows + 1 != ends.len() {
            bail!(
                "`{}` is not by the {} bins of this very model's score and yes or no: the centre counts another version of it, or bins of an author",
                found.name,
                ends.len() - 1
            );
        }
        let cells = found.cells()?;
        let known = !model.score_means.is_empty();
        let table =
            if known { Table::new(cells, model.score_means.clone())? } else { Table::from_edges(cells, &ends)? };
        Ok((table, found))
    }

    /// What was counted of a model by what visitors say of themselves.
    pub(super) fn by_groups(&self, model: &Manifest, manifest: &str) -> Result<Vec<ByGroup>> {
        let mut found = Vec::new();
        let score = format!("score:{}", model.id);
        for metric in &self.metrics {
            let of: Vec<&str> = metric.of.split(", ").collect();
            let &[page, of, _] = of.as_slice() else { continue };
            let Some(attribute) = page.strip_prefix("page:").filter(|_| of == score) else { continue };
            let &[_, threshold, _] = metric.score_edges.as_slice() else {
                bail!("`{}` does not say from which score on a visit is selected", metric.name)
            };
            if metric.manifest.as_deref() != Some(manifest) || metric.labels.len() != 4 * metric.rows {
                bail!("`{}` counts groups by another version of {}", metric.name, model.id);
            }
            let (attribute, span_ms) = (attribute.to_owned(), metric.span_ms());
            let mut groups = Vec::new();
            if metric.total.windows > 0 {
                let cells = metric.cells()?;
                // Not selected without and with the outcome, then the same of who is selected.
                for (row, label) in cells.values().chunks(4).zip(metric.labels.iter().step_by(4)) {
                    let &[rest, missed, wrong, hits] = row else { bail!("`{}` lacks cells", metric.name) };
                    let name = label.split(" | ").next().unwrap_or_default();
                    groups.push(Group::new(name, Cells::new(vec![hits, wrong, missed, rest], cells.variance())?)?);
                }
            }
            found.push(ByGroup { attribute, threshold, span_ms, groups });
        }
        Ok(found)
    }
}

/// How many windows, in words.
pub(super) fn windows(count: usize) -> String {
    format!("{count} released {}", if count == 1 { "window" } else { "windows" })
}

/// Whether edges are the same, to the millionth that policies keep.
fn alike(one: &[f64], other: &[f64]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| (one - other).abs() <= MILLIONTH)
}

impl Counted {
    /// Values with the variance of the largest noise on any.
    fn noised(&self, values: &[f64], half_width: &[f64]) -> Result<Cells> {
        let cells = self.labels.len();
        if values.len() != cells || half_width.len() != cells || !half_width.iter().all(|half| *half > 0.0) {
            bail!("`{}` has not a value and an interval for each of its {cells} cells", self.name);
        }
        let half = half_width.iter().fold(0.0, |most: f64, half| most.max(*half));
        Ok(Cells::new(values.to_vec(), (half / HALF).powi(2))?)
    }

    /// The sum of what was released, and the noise on it.
    pub(super) fn cells(&self) -> Result<Cells> {
        if self.total.windows == 0 {
            bail!("`{}` was not released yet", self.name);
        }
        self.noised(&self.total.values, &self.total.half_width)
    }

    /// What was released, one by one.
    pub(super) fn releases(&self) -> Result<BTreeMap<Place, Cells>> {
        let counts = |window: &&Window| window.state == "released" && window.comparable;
        let of = |window: &Window| {
            let place = (window.start_ms, window.end_ms, window.edge.clone(), window.policy_version);
            Ok((place, self.noised(&window.values, &window.half_width)?))
        };
        self.windows.iter().filter(counts).map(of).collect()
    }

    /// How many windows the sum is of.
    pub(super) fn windows(&self) -> usize {
        self.total.windows
    }

    /// When the first of them began and the last ended, ms; `None` where the overview does not tell.
    pub(super) fn span_ms(&self) -> Option<(u64, u64)> {
        let counts = |window: &&Window| window.state == "released" && window.comparable;
        let of = self.windows.iter().filter(counts).map(|window| (window.start_ms, window.end_ms));
        of.reduce(|all, one| (all.0.min(one.0), all.1.max(one.1)))
    }
}
