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

/// Visits a day that meet an experiment in its smallest arm, which decides how long it takes.
fn smallest_arm(experiment: &Experiment, visits_per_day: f64) -> f64 {
    let share = f64::from(experiment.to - experiment.from) / f64::from(WHOLE);
    let portions = experiment.portions();
    let least = portions.iter().copied().fold(f64::INFINITY, f64::min) / portions.iter().sum::<f64>();
    visits_per_day * share * least
}

/// Variance of the noise on one cell of an experiment's goal in a day: windows of a day are one release, shorter ones are more.
fn noise_a_day(metric: &Metric) -> Option<f64> {
    Some(metric.scales().first()?.deviation(metric.mechanism).powi(2) * 86_400_000.0 / metric.span_ms as f64)
}

/// Days until an experiment's smallest change that matters is found four times in five, looked at as often as one likes, by
/// variances between visits and of a day's noise, of the control and of another arm.
fn days(experiment: &Experiment, visits: f64, variance: [f64; 2], noise: [f64; 2]) -> String {
    let design = Design {
        effect: f64::from(experiment.least) / f64::from(WHOLE),
        variance,
        noise,
        alpha: 0.05 / (experiment.arms.len() - 1) as f64,
        power: 0.8,
        looks: Looks::Any { tau: TAU },
    };
    design.days(visits).map_or_else(|_| "never".to_owned(), |days| days.to_string())
}

/// How long an experiment on a share has to run, by what its goal is true of today.
fn duration(policy: &Policy, experiment: &Experiment, visits_per_day: f64) -> Option<String> {
    let visits = smallest_arm(experiment, visits_per_day);
    // Yes and no are cells of their own, as many of each as there are bins of what was known before, which takes out some of
    // the variance: how much, only the data say.
    let noise = noise_a_day(policy.metric(experiment.goal)?)? * experiment.points().len() as f64 / 2.0;
    let effect = f64::from(experiment.least) / f64::from(WHOLE);
    let cells = SHARES.map(|control| {
        let arms = [control, control + effect];
        let noise = arms.map(|p| noise * ((1.0 - p).powi(2) + p.powi(2)));
        format!("{:>8}", days(experiment, visits, arms.map(|p| p * (1.0 - p)), noise))
    });
    Some(format!(
        "{:<22} {:>4} {:>8.0} {:>7.1}  {}\n",
        experiment.id,
        experiment.arms.len(),
        visits,
        100.0 * effect,
        cells.join(" ")
    ))
}

/// What an owner knows of how visits differ in the goal of an experiment on an amount.
#[derive(Debug, PartialEq)]
pub struct Spread {
    id: String,
    /// Standard deviation between visits, in the goal's unit; of a ratio, that of the goal less the ratio times what it is a
    /// ratio to.
    deviation: f64,
    /// Of a ratio: the mean of what it is a ratio to.
    per: Option<f64>,
}

fn is_ratio(experiment: &Experiment) -> bool {
    experiment.beside.as_ref().is_some_and(|beside| !beside.before)
}

/// Reads `ID=DEVIATION`, and for a ratio `ID=DEVIATION/MEAN`.
fn spread_of(said: &str, policy: &Policy) -> Result<Spread> {
    let above = |text: &str| text.trim().parse::<f64>().ok().filter(|n| (1e-6..=1e9).contains(n));
    let read = || {
        let (id, numbers) = said.split_once('=')?;
        let (deviation, per) = numbers.split_once('/').map_or((numbers, None), |(one, per)| (one, Some(per)));
        let per = per.map(above);
        if per == Some(None) {
            return None;
        }
        Some(Spread { id: id.trim().to_owned(), deviation: above(deviation)?, per: per.flatten() })
    };
    let Some(spread) = read() else {
        bail!("--deviation {said} is no ID=NUMBER; write it as in --deviation basket=35, numbers from 0.000001 to 1e9");
    };
    let amounts = || policy.experiments.iter().filter(|e| !e.is_share());
    let Some(experiment) = amounts().find(|e| e.id == spread.id) else {
        let known: Vec<&str> = amounts().map(|e| e.id.as_str()).collect();
        bail!(
            "--deviation {said}: `{}` is no experiment on an amount; those of this policy: {}",
            spread.id,
            if known.is_empty() { "none".to_owned() } else { known.join(", ") }
        );
    };
    if is_ratio(experiment) != spread.per.is_some() {
        bail!(
            "--deviation {said}: {}",
            if spread.per.is_some() {
                "the goal is no ratio; write the deviation alone, as in ID=35"
            } else {
                "the goal is a ratio; add the mean of what it is a ratio to, as in ID=35/4.2"
            }
        );
    }
    Ok(spread)
}

/// How long an experiment on an amount, or on a ratio, has to run, by how visits differ: as was said, or as much as its bins allow.
fn of_amount(policy: &Policy, experiment: &Experiment, visits_per_day: f64, spreads: &[Spread]) -> Option<String> {
    let (id, visits) = (&experiment.id, smallest_arm(experiment, visits_per_day));
    let said = spreads.iter().find(|spread| spread.id == *id);
    if said.is_none() && is_ratio(experiment) {
        return Some(format!(
            "{id:<22} not known: say how much visits differ, and the mean of what it is a ratio to, by --deviation {id}=DEVIATION/MEAN\n"
        ));
    }
    let points = experiment.points();
    let worth = || points.iter().map(|(y, _)| *y);
    let (least, most) = (worth().fold(f64::INFINITY, f64::min), worth().fold(0.0, f64::max));
    // Numbers that lie between two ends differ most where half of them lie at each (Popoviciu 1935).
    let widest = (most - least) / 2.0;
    let deviation = said.map_or(widest, |spread| spread.deviation);
    let per = said.and_then(|spread| spread.per).unwrap_or(1.0);
    // Noise on the sum of y - rate x, over all cells of an arm; the rate is not known, and the worst lies at an end.
    let off = |rate: f64| {
        let of = |(y, x): &(f64, f64)| (y - rate * if is_ratio(experiment) { *x } else { 1.0 }).powi(2);
        points.iter().map(of).sum::<f64>()
    };
    let noise = noise_a_day(policy.metric(experiment.goal)?)? * off(least / per).max(off(most / per));
    let scaled = |variance: f64| [variance / (per * per); 2];
    Some(format!(
        "{id:<22} {:>4} {visits:>8.0} {:>10} {deviation:>10.3} {:>6}{}\n",
        experiment.arms.len(),
        f64::from(experiment.least) / f64::from(WHOLE),
        days(experiment, visits, scaled(deviation * deviation), scaled(noise)),
        if said.is_some() {
            String::new()
        } else {
            format!("  at most: the bins allow no larger deviation; say yours by --deviation {id}=NUMBER")
        }
    ))
}

fn durations(policy: &Policy, visits_per_day: f64, spreads: &[Spread]) -> String {
    let (shares, amounts): (Vec<_>, Vec<_>) = policy.experiments.iter().partition(|e| e.is_share());
    let mut out = String::new();
    if !shares.is_empty() {
        let heads = SHARES.map(|share| format!("{:>8}", format!("{:.0} %", 100.0 * share)));
        let rows: String = shares.iter().filter_map(|e| duration(policy, e, visits_per_day)).collect();
        out += &format!(
            "\nExperiments: days until a change by so many points is found four times in five, looking as often as one likes, if every\nvisit is exposed; by the share of visits that the goal is true of today:\n\n{:<22} {:>4} {:>8} {:>7}  {}\n{rows}",
            "experiment",
            "arms",
            "each day",
            "points",
            heads.join(" ")
        );
    }
    if !amounts.is_empty() {
        let rows: String = amounts.iter().filter_map(|e| of_amount(policy, e, visits_per_day, spreads)).collect();
        out += &format!(
            "\nExperiments on amounts and ratios: days until a change by so much is found likewise, by the standard deviation between visits,\nboth in the goal's unit:\n\n{:<22} {:>4} {:>8} {:>10} {:>10} {:>6}\n{rows}",
            "experiment", "arms", "each day", "change", "deviation", "days"
        );
    }
    out
}

/// The plan's text.
#[must_use]
pub fn text(policy: &Policy, visits_per_day: f64, spreads: &[Spread]) -> String {
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
    out + &durations(policy, visits_per_day, spreads) + &spread
}

/// Prints the plan of a policy file; `deviations` say how visits differ in the goals of experiments on amounts.
///
/// # Errors
/// When the policy does not compile, or a deviation is none or of no such experiment.
pub fn run(policy: &Path, models: Option<&Path>, visits_per_day: f64, deviations: &[String]) -> Result<()> {
    if !(visits_per_day.is_finite() && visits_per_day > 0.0) {
        bail!("--visits-per-day must be more than zero; count consenting visits only");
    }
    let (policy, _) = files::compile_policy(policy, models)?;
    let spreads = deviations.iter().map(|said| spread_of(said, &policy)).collect::<Result<Vec<_>>>()?;
    print!("{}", text(&policy, visits_per_day, &spreads));
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
            let told = durations(&policy, visits, &[]);
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

    /// The blog with an experiment on an amount, and these lines on it.
    fn on_an_amount(lines: &str) -> Policy {
        let text = gloaming_policy::author::template("blog", "b.example", "https://b.example", "2027-06-01").unwrap()
            + "[[experiment]]\nid = \"longer\"\narms = [\"as-is\", \"more\"]\npurpose = \"measurement\"\n\
               goal = { of = \"feature:pages@1\", edges = [2, 5], worth = [1, 3, 9] }\nminimum_effect = 0.05\nwindow = \"day\"\nrho = 0.02\nk = 50\n"
            + lines;
        gloaming_policy::author::compile(&text, 20_781, &|_| Err("no models".to_owned())).unwrap()
    }

    /// The days in the line of the experiment on an amount.
    fn days_of(policy: &Policy, deviations: &[&str]) -> f64 {
        let spreads: Vec<Spread> = deviations.iter().map(|said| spread_of(said, policy).unwrap()).collect();
        let told = durations(policy, 4_000.0, &spreads);
        let line = told.lines().find(|line| line.starts_with("longer")).unwrap();
        line.split_whitespace().nth(5).unwrap().parse().unwrap()
    }

    /// Twice the deviation takes about four times as long, and what is not said is taken for as wide as bins allow.
    #[test]
    fn how_long_an_experiment_on_an_amount_has_to_run() {
        let policy = on_an_amount("");
        let (one, two) = (days_of(&policy, &["longer=2"]), days_of(&policy, &["longer=4"]));
        assert!((2.5..5.5).contains(&(two / one)), "{one} {two}");
        assert_eq!(days_of(&policy, &[]), two, "half of what lies between 1 and 9");
        assert!(durations(&policy, 4_000.0, &[]).contains("say yours by --deviation longer=NUMBER"));
        let ratio = on_an_amount("per = { of = \"feature:clicks@1\", edges = [3], worth = [1, 5] }\n");
        assert!(durations(&ratio, 4_000.0, &[]).contains("--deviation longer=DEVIATION/MEAN"));
        let (one, two) = (days_of(&ratio, &["longer=4/2"]), days_of(&ratio, &["longer=8/2"]));
        // Less than four times, because the noise is no wider for it.
        assert!((2.0..5.5).contains(&(two / one)), "{one} {two}");
        assert!(days_of(&ratio, &["longer=4/4"]) < one, "the same change of a ratio to more is a larger one");
    }

    #[test]
    fn a_deviation_that_is_none_is_refused_with_a_remedy() {
        let (mean, ratio) =
            (on_an_amount(""), on_an_amount("per = { of = \"feature:clicks@1\", edges = [3], worth = [1, 5] }\n"));
        for (policy, said, wanted) in [
            (&mean, "longer", "is no ID=NUMBER"),
            (&mean, "longer=0", "is no ID=NUMBER"),
            (&mean, "longer=NaN", "is no ID=NUMBER"),
            (&ratio, "longer=2/x", "is no ID=NUMBER"),
            (&mean, "shorter=2", "those of this policy: longer"),
            (&mean, "longer=2/3", "the goal is no ratio"),
            (&ratio, "longer=2", "the goal is a ratio"),
        ] {
            let error = spread_of(said, policy).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
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
