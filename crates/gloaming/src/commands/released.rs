//! What the centre released, as its overview tells it (`curl CENTRE/api/v1/sites/SITE/overview`).

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
    of: String,
    rows: usize,
    pub(super) labels: Vec<String>,
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
    state: String,
    comparable: bool,
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

    /// What was counted of a model's scores and what came of them, by the model's own bins.
    pub(super) fn scores_and_outcomes(&self, model: &Manifest, metric: Option<&str>) -> Result<(Table, &Counted)> {
        let of = format!("score:{}, ", model.id);
        let of_it = |m: &&Counted| m.of.starts_with(&of) && metric.is_none_or(|name| m.name == name);
        // Labels say which edges were counted by: those of an author, or of another version, are not this model's.
        let (bins, ends) = (model.score_edges.len() + 1, [&[0.0], &model.score_edges[..], &[1.0]].concat());
        let labels: Vec<String> = ends
            .windows(2)
            .flat_map(|bin| ["no", "yes"].map(|word| format!("{:.3}-{:.3} | {word}", bin[0], bin[1])))
            .collect();
        let own = |m: &&Counted| m.rows == bins && m.labels == labels;
        let mut all = self.metrics.iter().filter(of_it);
        let found = all.clone().find(own).or_else(|| all.next()).ok_or_else(|| {
            let named = metric.map_or(String::new(), |name| format!(" called `{name}`"));
            anyhow!(
                "{} counts nothing{named} of `score:{}` and an outcome; declare a joint metric, or `outcome` in its [[monitor]]",
                self.site,
                model.id
            )
        })?;
        if !own(&found) {
            bail!(
                "`{}` is not by the {bins} bins of this model's score and yes or no: it counts another version of it, or bins of its own",
                found.name
            );
        }
        let cells = found.cells()?;
        let known = !model.score_means.is_empty();
        let table =
            if known { Table::new(cells, model.score_means.clone())? } else { Table::from_edges(cells, &ends)? };
        Ok((table, found))
    }
}

/// How groups of one attribute were counted: what is compared, and their four cells each.
pub(super) struct ByGroup {
    pub(super) attribute: String,
    pub(super) threshold: f64,
    pub(super) groups: Vec<Group>,
}

impl Overview {
    /// What was counted of a model by what visitors say of themselves.
    pub(super) fn by_groups(&self, model: &Manifest) -> Result<Vec<ByGroup>> {
        let mut found = Vec::new();
        let score = format!("score:{}", model.id);
        for metric in &self.metrics {
            let of: Vec<&str> = metric.of.split(", ").collect();
            let (&[page, of, _], Some(attribute)) = (of.as_slice(), metric.of.strip_prefix("page:")) else { continue };
            if of != score || metric.total.windows == 0 {
                continue;
            }
            let cells = metric.cells()?;
            let words: Vec<Vec<&str>> = metric.labels.iter().map(|label| label.split(" | ").collect()).collect();
            // `word | 0.000-0.300 | no`, then yes, then the same for those who are selected.
            let threshold = words.first().and_then(|first| first.get(1)?.split('-').nth(1)?.parse().ok());
            let Some(threshold) = threshold.filter(|_| words.len() == 4 * metric.rows) else {
                bail!("`{}` is not group by selected or not by outcome", metric.name)
            };
            let mut groups = Vec::new();
            for (row, words) in cells.values().chunks(4).zip(words.chunks(4)) {
                let four = Cells::new(vec![row[3], row[2], row[1], row[0]], cells.variance())?;
                groups.push(Group::new(words[0][0], four)?);
            }
            let attribute = attribute.split(',').next().unwrap_or(page).to_owned();
            found.push(ByGroup { attribute, threshold, groups });
        }
        Ok(found)
    }
}

impl Counted {
    /// The sum of what was released, and the noise on it.
    pub(super) fn cells(&self) -> Result<Cells> {
        if self.total.windows == 0 {
            bail!("`{}` was not released yet", self.name);
        }
        let variance = self.total.half_width.iter().fold(0.0, |most: f64, half| most.max(*half)) / HALF;
        Ok(Cells::new(self.total.values.clone(), variance.powi(2))?)
    }

    /// How many windows that sum is of.
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
