//! `gloaming model evaluate --logged`: what choosing as a model does would have earned.
//!
//! A log says what was done, how likely that was, and what it earned. With that the value of another way to choose can be
//! estimated without letting it choose (`gloaming_stats::experiment::Logged`).

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use gloaming_policy::author::date_of;
use gloaming_policy::gate::{Estimator, Fairness, Interval, Rows, Said, Value};
use gloaming_signal::hash;
use gloaming_stats::Estimate;
use gloaming_stats::experiment::Logged;

use super::evaluate::{Split, Wrong, line};
use crate::files::{self, Brought};
use crate::runtimes::Browser;

/// Rows of a log are said to be worth at most this many; more are read in parts.
const ROWS: usize = 1_000_000;
/// One less the level of intervals.
const ALPHA: f64 = 0.05;
/// The same for the mean weight: right logs must not be refused by chance, and wrong ones are far off.
const WEIGHTS: f64 = 0.001;
/// Column of what was done, by name.
const ACTION: &str = "action";
/// Column of how likely that was.
const PROPENSITY: &str = "propensity";
/// Columns of what each action is expected to earn begin with this.
const EXPECTED: &str = "expected:";

/// A log, and what was earned in it.
pub struct Log {
    /// The CSV.
    pub rows: PathBuf,
    /// Column of the reward.
    pub reward: String,
}

/// Columns as they are needed.
#[derive(Default)]
struct Table {
    inputs: Vec<Vec<f32>>,
    done: Vec<usize>,
    propensities: Vec<f64>,
    rewards: Vec<f64>,
    /// What each action is expected to earn, row by row; empty without such columns.
    expected: Vec<f64>,
}

fn read(bytes: &[u8], path: &Path, features: &[String], kinds: &[String], reward: &str) -> Result<Table> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(bytes);
    let header = reader.headers().with_context(|| path.display().to_string())?.clone();
    let place = |name: &str| header.iter().position(|found| found == name);
    let column = |name: &str| {
        place(name).with_context(|| {
            let has = header.iter().collect::<Vec<_>>().join(", ");
            format!("{} has no column `{name}`; it has {has}", path.display())
        })
    };
    let inputs_at = features.iter().map(|name| column(name)).collect::<Result<Vec<_>>>()?;
    let (action_at, propensity_at, reward_at) = (column(ACTION)?, column(PROPENSITY)?, column(reward)?);
    let expects = header.iter().any(|name| name.starts_with(EXPECTED));
    let expected = kinds.iter().filter(|_| expects).map(|kind| format!("{EXPECTED}{kind}")).collect::<Vec<_>>();
    let expected_at = expected.iter().map(|name| column(name)).collect::<Result<Vec<_>>>()?;
    let (mut table, mut wrong) = (Table::default(), Wrong::default());
    for row in reader.records() {
        let row = row.with_context(|| path.display().to_string())?;
        if table.done.len() == ROWS {
            bail!("{} has more than {ROWS} rows; evaluate a part of them", path.display());
        }
        let line = row.position().map_or(0, csv::Position::line);
        let mut number = |at: usize, name: &str| match row.get(at).unwrap_or_default().parse::<f64>() {
            Ok(number) if number.is_finite() => number,
            _ => {
                wrong.note(format!("no number in `{name}`"), line);
                0.0
            }
        };
        table.inputs.push(inputs_at.iter().zip(features).map(|(at, name)| number(*at, name) as f32).collect());
        table.rewards.push(number(reward_at, reward));
        table.expected.extend(expected_at.iter().zip(&expected).map(|(at, name)| number(*at, name)));
        let propensity = number(propensity_at, PROPENSITY);
        if !(propensity > 0.0 && propensity <= 1.0) {
            wrong.note(format!("a `{PROPENSITY}` that is not above 0 and at most 1"), line);
        }
        table.propensities.push(propensity);
        let action = row.get(action_at).unwrap_or_default();
        let done = kinds.iter().position(|kind| kind == action);
        if done.is_none() {
            wrong.note(format!("an `{ACTION}` that the model does not name ({})", kinds.join(", ")), line);
        }
        table.done.push(done.unwrap_or(0));
    }
    wrong.end(path)?;
    Ok(table)
}

fn interval(estimate: Estimate) -> Interval {
    Interval { value: estimate.value, low: estimate.low, high: estimate.high }
}

/// The statements about a model that names actions, and what was printed of them.
///
/// # Errors
/// What is wrong with model, log or words.
pub fn run(
    manifest: &Path,
    log: &Log,
    split: Split,
    no_group: Option<String>,
    browser: Option<&Browser>,
    out: &Path,
) -> Result<()> {
    let day = date_of(files::today());
    let brought = Brought::load(manifest)?;
    let described = brought.model.manifest();
    let kinds = &described.output.kinds;
    if kinds.is_empty() {
        bail!(
            "{} tells a probability and names no action; --rows and --outcome evaluate it, --logged is for models with `output.kinds`",
            described.id
        );
    }
    let bytes = files::read(&log.rows)?;
    let table = read(&bytes, &log.rows, &described.input.features, kinds, &log.reward)?;
    let mut policy = vec![0.0; table.done.len() * kinds.len()];
    for (row, inputs) in table.inputs.iter().enumerate() {
        let chosen = described.kind(brought.model.score(inputs)?);
        let chosen = kinds.iter().position(|kind| Some(kind.as_str()) == chosen).unwrap_or(0);
        policy[row * kinds.len() + chosen] = 1.0;
    }
    let logged = Logged::new(kinds.len(), &table.done, &table.rewards, &table.propensities, &policy)?;
    let predicted = (!table.expected.is_empty()).then_some(table.expected.as_slice());
    let found = logged.gain(predicted, ALPHA)?;
    let estimator = if predicted.is_some() { Estimator::DoublyRobust } else { Estimator::SelfNormalised };
    let usual = logged.usual();
    let on = Rows {
        data: log.rows.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
        sha256: hash::hex(&hash::sha256(&bytes)),
        split: split.by,
        trained: split.trained,
        tested: split.tested,
        rows: table.done.len() as u64,
        positives: table.rewards.iter().filter(|reward| **reward != usual).count() as u64,
    };
    println!(
        "{} version {} on {} rows, {} with another reward than most:",
        described.id, described.version, on.rows, on.positives
    );
    for (at, kind) in kinds.iter().enumerate() {
        let share = policy.iter().skip(at).step_by(kinds.len()).sum::<f64>() / on.rows as f64;
        let done = table.done.iter().filter(|done| **done == at).count() as f64 / on.rows as f64;
        println!("  {:<28} chosen {share:.4}, done {done:.4}", kind);
    }
    line("inverse propensity", &interval(logged.weighted(ALPHA)?));
    line("self-normalised", &interval(logged.self_normalised(ALPHA)?));
    if let Some(predicted) = predicted {
        println!("  {:<28} {:.4}", "direct method", logged.direct(predicted)?);
        line("doubly robust", &interval(logged.doubly_robust(predicted, ALPHA)?));
    }
    line("as it was", &interval(found.logged));
    line(&format!("gain, {}", estimator.name()), &interval(found.gain));
    let (effective_rows, telling) = (logged.effective_rows(), logged.telling() as u64);
    println!("  worth {:.0} rows of its own; {telling} rewards tell of it", effective_rows);
    let weight = interval(logged.mean_weight(WEIGHTS)?);
    line("mean weight, 1 when all is true", &weight);
    let parity = brought.parity(browser)?;
    let value = Value {
        day: day.clone(),
        on: on.clone(),
        reward: log.reward.clone(),
        estimator,
        value: interval(found.value),
        logged: interval(found.logged),
        gain: interval(found.gain),
        weight,
        effective_rows,
        telling,
    };
    let mut said = vec![Said::Value(value), Said::Parity(parity)];
    match no_group {
        None => println!(
            "no statement on fairness: say with --no-group why no groups are compared; experiments compare them by what is earned"
        ),
        Some(why) => {
            let (by, none) = (Vec::new(), Some(why));
            said.push(Said::Fairness(Fairness { day, on, threshold: 0.0, by, none }));
        }
    }
    brought.write(said, out)?;
    if split.by == gloaming_policy::gate::SplitBy::Random {
        println!("these rows were set aside by lot: no gate takes them for evidence");
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(csv: &str) -> Result<Table> {
        let kinds = ["a".to_owned(), "b".to_owned()];
        super::read(csv.as_bytes(), Path::new("log.csv"), &["pages@1".to_owned()], &kinds, "clicked")
    }

    #[test]
    fn a_log_is_read_with_and_without_what_is_expected() {
        let table = read("clicked,pages@1,propensity,action\n1,3,0.25,b\n0,4.5,1,a\n").unwrap();
        assert_eq!((table.done, table.propensities, table.rewards), (vec![1, 0], vec![0.25, 1.0], vec![1.0, 0.0]));
        assert_eq!((table.inputs, table.expected), (vec![vec![3.0], vec![4.5]], vec![]));
        let table = read("expected:b,clicked,pages@1,propensity,action,expected:a\n.2,1,3,0.25,b,.1\n").unwrap();
        assert_eq!(table.expected, [0.1, 0.2]);
    }

    #[test]
    fn what_is_wrong_is_counted_by_reason() {
        let error = read("clicked,pages@1,propensity,action\n1,x,0,c\n0,4,1,a\n0,y,2,a\n").err().unwrap().to_string();
        assert!(error.contains("2 rows with no number in `pages@1` (the first on line 2)"), "{error}");
        assert!(error.contains("2 rows with a `propensity` that is not above 0 and at most 1"), "{error}");
        assert!(error.contains("1 rows with an `action` that the model does not name (a, b)"), "{error}");
        let error = read("clicked,pages@1,propensity,action,expected:a\n1,1,1,a,0\n").err().unwrap().to_string();
        assert!(error.contains("no column `expected:b`; it has clicked, pages@1"), "{error}");
    }
}
