//! `gloaming plan`: what the noise means at a site's traffic.

use std::path::Path;

use anyhow::{Result, bail};
use gloaming_policy::{Experiment, Metric, Policy, WHOLE};
use gloaming_privacy::plan::{empty_release_chance, smallest_visible_share, visits_for_release, visits_in};
use gloaming_stats::experiment::{Design, Looks, TAU};

use crate::files;

const SPANS: [(&str, u64); 3] = [("hour", 3_600_000), ("day", 86_400_000), ("week", 604_800_000)];

/// Cells that `k` is compared with: a sum's report count, or all of them.
fn crowd_cells(metric: &Metric) -> u32 {
    if metric.sum_max().is_some() { 1 } else { metric.cells() }
}

/// The shortest window in which `visits_per_day` reaches `k` reliably and a fifth of the visits stands
/// out of the noise; the longest when none does.
fn advised(metric: &Metric, visits_per_day: f64) -> Option<&'static str> {
    let scale = metric.scales().first().copied()?;
    let needed = visits_for_release(metric.k, scale, metric.mechanism, crowd_cells(metric));
    SPANS
        .iter()
        .find(|(_, span)| {
            let visits = visits_in(*span, visits_per_day);
            visits >= needed && smallest_visible_share(scale, metric.mechanism, visits) <= 0.2
        })
        .map(|(name, _)| *name)
}

fn span_name(span_ms: u64) -> String {
    SPANS
        .iter()
        .find(|(_, ms)| *ms == span_ms)
        .map_or_else(|| format!("{} s", span_ms / 1_000), |(n, _)| (*n).to_owned())
}

/// Home edges that a site's visits are spread over, for comparison.
const EDGES: [u32; 5] = [1, 3, 10, 30, 300];

/// What it costs to release at several home edges: each has its own crowd to reach `k` with, and its own noise.
fn spread(policy: &Policy, visits_per_day: f64) -> String {
    let mut out = "\nSeveral home edges, each with its own k and its own noise, and their releases added up:\n\n\
                   edges  interval of the sum  metrics that reach k at each edge\n"
        .to_owned();
    for edges in EDGES {
        let reached = policy.metrics.iter().filter(|metric| {
            let needed = metric
                .scales()
                .first()
                .map_or(0.0, |scale| visits_for_release(metric.k, *scale, metric.mechanism, crowd_cells(metric)));
            visits_in(metric.span_ms, visits_per_day) / f64::from(edges) >= needed
        });
        let width = format!("{:.1} x", f64::from(edges).sqrt());
        out += &format!("{edges:>5}  {width:>19}  {} of {}\n", reached.count(), policy.metrics.len());
    }
    out + "\nName one home edge for each site, or few: what others take in is theirs to count, and theirs to withhold.\n"
}

/// Shares of visits that an experiment's goal may be true of today.
const SHARES: [f64; 4] = [0.02, 0.10, 0.30, 0.50];

/// How long an experiment has to run: days until its smallest change that matters is found four times in five, looked at as often
/// as one likes, by what its goal is true of today.
fn duration(policy: &Policy, experiment: &Experiment, visits_per_day: f64) -> Option<String> {
    let metric = policy.metric(experiment.goal)?;
    let share = f64::from(experiment.to - experiment.from) / f64::from(WHOLE);
    // The smallest arm decides.
    let portions = experiment.portions();
    let least = portions.iter().copied().fold(f64::INFINITY, f64::min) / portions.iter().sum::<f64>();
    let visits = visits_per_day * share * least;
    // Windows of a day are one release, shorter ones are more. Yes and no are cells of their own, as many of each as there are
    // bins of what was known before, which takes out some of the variance: how much, only the data say.
    let releases = 86_400_000.0 / metric.span_ms as f64 * experiment.points().len() as f64 / 2.0;
    let noise = metric.scales().first()?.deviation(metric.mechanism).powi(2) * releases;
    let effect = f64::from(experiment.least) / f64::from(WHOLE);
    let days = SHARES.map(|control| {
        let arms = [control, control + effect];
        let design = Design {
            effect,
            variance: arms.map(|p| p * (1.0 - p)),
            noise: arms.map(|p| noise * ((1.0 - p).powi(2) + p.powi(2))),
            alpha: 0.05 / (experiment.arms.len() - 1) as f64,
            power: 0.8,
            looks: Looks::Any { tau: TAU },
        };
        design.days(visits).map_or_else(|_| "never".to_owned(), |days| days.to_string())
    });
    let cells: Vec<String> = days.iter().map(|days| format!("{days:>8}")).collect();
    Some(format!(
        "{:<22} {:>4} {:>8.0} {:>7.1}  {}\n",
        experiment.id,
        experiment.arms.len(),
        visits,
        100.0 * effect,
        cells.join(" ")
    ))
}

fn durations(policy: &Policy, visits_per_day: f64) -> String {
    if policy.experiments.is_empty() {
        return String::new();
    }
    let (shares, amounts): (Vec<_>, Vec<_>) = policy.experiments.iter().partition(|e| e.is_share());
    let unsaid = |e: &&Experiment| {
        format!(
            "{}: how long it takes depends on how much visits differ in what is asked, which is not known here\n",
            e.id
        )
    };
    let unsaid: String = amounts.iter().map(unsaid).collect();
    let heads: Vec<String> = SHARES.iter().map(|share| format!("{:>8}", format!("{:.0} %", 100.0 * share))).collect();
    let rows: String = shares.iter().filter_map(|e| duration(policy, e, visits_per_day)).collect();
    format!(
        "\nExperiments: days until a change by so many points is found four times in five, looking as often as one likes, if every\nvisit is exposed; by the share of visits that the goal is true of today:\n\n{:<22} {:>4} {:>8} {:>7}  {}\n{rows}",
        "experiment",
        "arms",
        "each day",
        "points",
        heads.join(" ")
    ) + &unsaid
}

/// The plan's text.
#[must_use]
pub fn text(policy: &Policy, visits_per_day: f64) -> String {
    // A sum stands on two lines, each with a word after its name.
    let width = policy.metrics.iter().map(|metric| metric.name.len() + if metric.sum_max().is_some() { 12 } else { 0 });
    let width = width.max().unwrap_or(0).max(22);
    let mut out = format!(
        "{} version {} at {visits_per_day} consenting visits a day\n\n{:<width$} {:<7} {:>5} {:>9} {:>9} {:>10} {:>9} {:>8}  {}\n",
        policy.site,
        policy.version,
        "metric",
        "window",
        "cells",
        "sigma",
        "+-95 %",
        "visible",
        "release",
        "empty",
        "choose"
    );
    for metric in &policy.metrics {
        let scales = metric.scales();
        let visits = visits_in(metric.span_ms, visits_per_day);
        for (cell, scale) in scales.iter().enumerate().take(if metric.sum_max().is_some() { 2 } else { 1 }) {
            let name = match (metric.sum_max(), cell) {
                (Some(_), 0) => format!("{} reports", metric.name),
                (Some(max), _) => format!("{} (max {max})", metric.name),
                _ => metric.name.clone(),
            };
            // A sum is compared with the most it can be.
            let scale_of_one = f64::from(metric.sum_max().filter(|_| cell == 1).unwrap_or(1));
            let share = smallest_visible_share(*scale, metric.mechanism, visits * scale_of_one);
            let needed = visits_for_release(metric.k, scales[0], metric.mechanism, crowd_cells(metric));
            let released = if visits >= needed { "yes" } else { "rarely" };
            out += &format!(
                "{:<width$} {:<7} {:>5} {:>9.1} {:>9.1} {:>9.1}% {:>9} {:>7.1}%  {}\n",
                name,
                span_name(metric.span_ms),
                metric.cells(),
                scale.deviation(metric.mechanism),
                scale.half_width_95(metric.mechanism),
                100.0 * share,
                released,
                100.0 * empty_release_chance(metric.k, scales[0], metric.mechanism, crowd_cells(metric)),
                advised(metric, visits_per_day).unwrap_or("nothing: too few visits even in a week")
            );
        }
    }
    let spread = spread(policy, visits_per_day);
    let (declared, delta) = (policy.declared(), policy.delta());
    let epsilon = |days: u64| declared.times(days).epsilon(delta);
    out += &format!(
        "\nsigma    standard deviation of each cell's noise in one window\nvisible  smallest share of a window's visits whose cell stands out by three sigma\nrelease  whether a window reaches k ({} visits at most) nearly always\nempty    chance that a window nobody visited passes k on noise alone: private, and worth nothing; raise k\n\nA device spends at most rho {} a day of {}. That is epsilon {:.2} a day, {:.1} in 30 days, {:.1} in a year (delta {delta:e}),\nfor a device that visits every day and contributes all it may. The numbers are upper bounds.\n",
        policy
            .metrics
            .iter()
            .map(|m| m.scales().first().map_or(0.0, |s| visits_for_release(m.k, *s, m.mechanism, crowd_cells(m))))
            .fold(0.0, f64::max)
            .ceil(),
        declared.as_f64(),
        policy.budget.as_f64(),
        epsilon(1),
        epsilon(30),
        epsilon(365)
    );
    out + &durations(policy, visits_per_day) + &spread
}

/// Prints the plan of a policy file.
///
/// # Errors
/// When the policy does not compile.
pub fn run(policy: &Path, models: Option<&Path>, visits_per_day: f64) -> Result<()> {
    if !(visits_per_day.is_finite() && visits_per_day > 0.0) {
        bail!("--visits-per-day must be more than zero; count consenting visits only");
    }
    print!("{}", text(&files::compile_policy(policy, models)?.0, visits_per_day));
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Twice the effect takes about a quarter of the time, and a price that buys more noise takes longer.
    #[test]
    fn how_long_an_experiment_has_to_run() {
        let plan = |effect: f64, rho: f64, visits: f64| {
            let text = gloaming_policy::author::template("blog", "b.example", "https://b.example", "2027-06-01")
                .unwrap()
                + &format!(
                    "[[experiment]]\nid = \"below\"\narms = [\"as-is\", \"below\"]\npurpose = \"measurement\"\n\
                     goal = {{ of = \"feature:pages@1\", at_least = 2 }}\nminimum_effect = {effect}\nwindow = \"day\"\nrho = {rho}\nk = 50\n"
                );
            let policy = gloaming_policy::author::compile(&text, 20_781, &|_| Err("no models".to_owned())).unwrap();
            let told = durations(&policy, visits);
            let line = told.lines().find(|line| line.starts_with("below")).unwrap().to_owned();
            line.split_whitespace().skip(4).map(str::to_owned).collect::<Vec<_>>()
        };
        let days = |cells: &[String]| cells.iter().map(|cell| cell.parse::<f64>().unwrap()).collect::<Vec<_>>();
        let (one, two) = (days(&plan(0.01, 0.02, 4_000.0)), days(&plan(0.02, 0.02, 4_000.0)));
        assert!(one.iter().zip(&two).all(|(one, two)| (2.5..5.5).contains(&(one / two))), "{one:?} {two:?}");
        assert!(one[3] > one[1], "half is the hardest share");
        let noisy = days(&plan(0.02, 0.002, 400.0));
        assert!(noisy.iter().zip(days(&plan(0.02, 0.02, 400.0))).all(|(noisy, clear)| *noisy > clear));
        assert!(plan(0.0001, 0.002, 20.0).iter().all(|cell| cell == "never"));
    }

    #[test]
    fn three_hundred_edges_release_what_one_edge_can_and_they_cannot() {
        let text = gloaming_policy::author::template("blog", "b.example", "https://b.example", "2027-06-01").unwrap();
        let policy = gloaming_policy::author::compile(&text, 20_781, &|_| Err("no models".to_owned())).unwrap();
        // 85 visits a day are needed at each: enough for 3, 10 and 30 edges, and not for 300.
        let text = spread(&policy, 4_000.0);
        for line in [
            "    1                1.0 x  5 of 5",
            "   30                5.5 x  5 of 5",
            "  300               17.3 x  0 of 5",
        ] {
            assert!(text.contains(line), "{line:?} is not in {text}");
        }
    }
}
