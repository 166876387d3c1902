//! Whether what a model takes or says has drifted, and since when.

use gloaming_policy::Axis;
use gloaming_privacy::Mechanism;
use gloaming_stats::drift::{
    Change, DriftError, Finding, Noise, Null, Reference, Setting, Statistic, benjamini_hochberg, finding,
};
use gloaming_stats::series::{Direction, dated};
use gloaming_stats::{Cells, ratio};
use serde::Serialize;
use utoipa::ToSchema;

use super::series::{Point, Series, when};
use super::windows::{Beside, Windows, stands_clear, sum};
use super::{DAY_MS, Figure, LEVEL};

/// Draws of a threshold: it is exceeded by 1 % ± 0.45 of windows without drift.
const RUNS: usize = 2_000;
/// And of what is rarer than that.
const MOST_RUNS: usize = 60_000;
/// A smaller index is called no drift however sure it is: where visits are many, everything is.
const LEAST: f64 = 0.02;

/// The newest window of something that a model takes or says, beside the windows before.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Drift {
    /// What it is of, as in the policy.
    pub of: String,
    /// Start of the newest window, ms since 1970.
    pub start_ms: u64,
    /// About how many visits it holds.
    pub visits: f64,
    /// Windows before it that it is compared with.
    pub windows: usize,
    /// Population stability index.
    pub psi: f64,
    /// What the index would pass once in a hundred windows without drift, with this many visits and this noise.
    pub threshold: f64,
    /// How often chance and noise alone part two such windows as far, by the Jensen-Shannon distance; over all that
    /// the model takes (Benjamini and Hochberg).
    pub q: f64,
    /// Whether that is less than once in a hundred, and the index 0.02 at least.
    pub drifted: bool,
    /// Start of the window since which it has lain off, ms since 1970: the newest one where that drifted alone, absent where none
    /// drifted. Where days are compared with the same day of the week, it is one of those.
    pub since_ms: Option<u64>,
    /// Which bins grew and which fell, in words; and since when, where it drifted.
    pub words: String,
}

/// What was found, and what it takes to date it.
pub(super) struct Judged {
    pub(super) drift: Drift,
    p: f64,
    seed: u64,
    span_ms: u64,
    /// By bin: 1 if it grew, -1 if it fell, 0 if neither is sure.
    ways: Vec<f64>,
    /// All windows that are compared, the newest last.
    each: Vec<(u64, Cells)>,
}

/// The newest window beside those before; an error is a sentence. `many` is how many are judged together.
pub(super) fn judge(of: &str, axis: &Axis, windows: &Windows<'_>, many: usize) -> Result<Judged, String> {
    let Some(Beside { start_ms, newest, mut usual }) = windows.beside() else {
        return Err(format!("{of}: no window was released yet"));
    };
    if !stands_clear(&newest) {
        return Err(format!("{of}: the newest window holds so few visits that noise alone may be all of it"));
    }
    let Some(before) = sum(usual.iter().map(|(_, cells)| cells)) else {
        return Err(format!("{of}: one window was released with more than noise in it; drift shows from the second"));
    };
    let metric = windows.metric();
    let noise = if metric.mechanism == Mechanism::Laplace { Noise::Laplace } else { Noise::Gaussian };
    let reference = Reference::Cells(before);
    let labels: Vec<&str> = axis.labels.iter().map(String::as_str).collect();
    let seed = u64::from(metric.id) ^ start_ms.rotate_left(32);
    let judged = || {
        let setting = Setting::of(&reference, &newest, noise)?;
        let psi = Statistic::Psi.between(&reference, &newest)?;
        let threshold = Null::simulate(&setting, &Statistic::Psi, RUNS, seed)?.threshold(LEVEL)?;
        // Where few visits are expected in a bin, whether it is empty decides the index; this distance is steadier.
        let apart = Statistic::JensenShannon.between(&reference, &newest)?;
        let chance =
            |runs| Ok::<_, DriftError>(Null::simulate(&setting, &Statistic::JensenShannon, runs, seed)?.p(apart));
        let mut p = chance(RUNS)?;
        // One in two thousand is not rare enough to stand out among dozens; only what is that rare is drawn again.
        if p < 3.0 / RUNS as f64 && many > 4 {
            p = chance((RUNS * many).min(MOST_RUNS))?;
        }
        Ok((psi, threshold, p, finding(of, &labels, &reference, &newest, noise)?))
    };
    let (psi, threshold, p, found) = judged().map_err(|error: DriftError| format!("{of}: {error}"))?;
    let words = if found.changes.iter().any(Change::is_sure) {
        found.to_string()
    } else {
        format!("{of}: many bins changed a little, none by itself by more than chance and noise explain")
    };
    let (of, visits, windows) = (of.to_owned(), newest.total(), usual.len());
    let drift = Drift { of, start_ms, visits, windows, psi, threshold, q: p, drifted: false, since_ms: None, words };
    usual.push((start_ms, newest));
    Ok(Judged { drift, p, seed, span_ms: metric.span_ms, ways: ways(&found), each: usual })
}

/// Which way each bin went; where none is sure by itself, as it looks.
fn ways(found: &Finding) -> Vec<f64> {
    let any = found.changes.iter().any(Change::is_sure);
    let mut ways = vec![0.0; found.changes.len()];
    for change in found.changes.iter().filter(|change| change.is_sure() || !any) {
        ways[change.bin] = change.change.value.signum();
    }
    ways
}

/// Calls drift over all that a model takes, which has many ways to look drifted by chance, and dates what is called. The series
/// that it is dated by are given beside.
pub(super) fn call(mut all: Vec<Judged>) -> (Vec<Drift>, Vec<Series>) {
    let chances: Vec<f64> = all.iter().map(|one| one.p).collect();
    let mut series = Vec::new();
    if let Ok(adjusted) = benjamini_hochberg(&chances) {
        for (one, q) in all.iter_mut().zip(adjusted) {
            one.drift.q = q;
            one.drift.drifted = q < LEVEL && one.drift.psi >= LEAST;
            if one.drift.drifted {
                series.push(one.date());
            }
        }
    }
    let mut drift: Vec<Drift> = all.into_iter().map(|one| one.drift).collect();
    drift.sort_by(|one, other| one.q.total_cmp(&other.q).then(other.psi.total_cmp(&one.psi)));
    (drift, series)
}

impl Judged {
    /// Since when what has drifted lies off.
    fn date(&mut self) -> Series {
        let point = |(start_ms, cells): &(u64, Cells)| Point { start_ms: *start_ms, figure: moved(cells, &self.ways) };
        let mut series = Series::new(&self.drift.of, self.each.iter().map(point).collect());
        // It is known to lie off; how sure it must be that it has ended in between is all that an error rate is for.
        let at = dated(&series.releases(), Direction::Up, LEVEL, self.seed).ok();
        let start_ms = at.and_then(|at| series.windows.get(at)).map_or(self.drift.start_ms, |point| point.start_ms);
        let (days, first) = (self.span_ms == DAY_MS, self.each.first().map_or(start_ms, |(first, _)| *first));
        let weekly = days && self.each.iter().all(|(other, _)| (other - first).is_multiple_of(7 * DAY_MS));
        let by = if weekly && self.each.len() > 2 { ", by that day of the week" } else { "" };
        let since = format!("since the window of {}{by}", when(start_ms, self.span_ms));
        self.drift.words = format!("{}; {since}", self.drift.words);
        self.drift.since_ms = Some(start_ms);
        (series.since_ms, series.words) = (Some(start_ms), Some(format!("{} has drifted {since}", self.drift.of)));
        series
    }
}

/// Share of visits in the bins that grew, less that in the bins that fell, with the interval of chance and noise.
fn moved(cells: &Cells, ways: &[f64]) -> Figure {
    let points: Vec<(f64, f64)> = ways.iter().map(|way| (*way, 1.0)).collect();
    // Of nobody it may be anything.
    ratio(&points, cells).map_or(Figure { value: 0.0, low: -1.0, high: 1.0 }, Figure::from)
}
