//! `gloaming model evaluate`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use gloaming_model::Model;
use gloaming_model::evaluate::{Estimate, EvaluateError, Gaps, Performance, gaps, performance};
use gloaming_policy::author::date_of;
use gloaming_policy::gate::{
    Attribute, Calibration, Fairness, Group, HeldOut, Interval, Parity, Point, REASON, Rows, Runtime, Said, SplitBy,
    Statement, TURNS, Turn,
};
use gloaming_signal::hash;

use crate::files::{self, Brought};
use crate::runtimes::{self, Browser};

/// How rows were kept apart, in a word.
///
/// # Errors
/// When the word is another.
pub fn split(word: &str) -> Result<SplitBy> {
    Ok(match word {
        "time" => SplitBy::Time,
        "source" => SplitBy::Source,
        "group" => SplitBy::Group,
        "random" => SplitBy::Random,
        _ => bail!("`{word}` is no split; use time, source, group or random"),
    })
}

/// A file of labelled rows.
pub struct Labelled {
    /// The CSV.
    pub rows: PathBuf,
    /// Column of the outcome.
    pub outcome: String,
    /// Which of the rows are judged.
    pub only: Option<Only>,
    /// Whether to tell how it fares at every value of that column.
    pub curve: bool,
}

/// Rows with a value in a column.
#[derive(Clone, Debug)]
pub struct Only {
    /// The column.
    pub column: String,
    /// The value.
    pub value: String,
}

/// `COLUMN=VALUE`.
///
/// # Errors
/// When there is no `=`.
pub fn only(text: &str) -> Result<Only, String> {
    let (column, value) = text.split_once('=').ok_or("write it as COLUMN=VALUE, as in at=3")?;
    Ok(Only { column: column.to_owned(), value: value.to_owned() })
}

/// How they were kept apart.
pub struct Split {
    /// In a word.
    pub by: SplitBy,
    /// What was learnt from.
    pub trained: String,
    /// What they are.
    pub tested: String,
}

/// What was found with something else held out, by the name that it is told by.
#[derive(Clone, Debug)]
pub struct OtherTurn {
    /// What was held out.
    pub held_out: String,
    /// The statement that `evaluate` wrote then.
    pub statement: PathBuf,
}

/// `NAME=held-out.json`.
///
/// # Errors
/// When there is no `=`.
pub fn other_turn(text: &str) -> Result<OtherTurn, String> {
    let (name, path) = text.split_once('=').ok_or("write it as NAME=held-out.json")?;
    Ok(OtherTurn { held_out: name.to_owned(), statement: path.into() })
}

impl OtherTurn {
    fn read(&self, model: &str, own: &str) -> Result<Turn> {
        let path = self.statement.display();
        let statement = Statement::read(&files::read(&self.statement)?).with_context(|| path.to_string())?;
        let Said::HeldOut(found) = &statement.said else { bail!("{path} does not tell of rows that were held out") };
        if statement.model() != model || found.on.split != SplitBy::Source {
            bail!("{path} is not of `{model}` with a source held out");
        }
        if found.on.sha256 == own {
            bail!("{path} is of the very rows that are evaluated here: a turn is of another source");
        }
        let (rows, positives) = (found.on.rows, found.on.positives);
        Ok(Turn { held_out: self.held_out.clone(), rows, positives, auc: found.auc })
    }
}

/// A reason for comparing no groups that says something to who reads it later.
///
/// # Errors
/// When it is too short for that.
pub fn reason(text: &str) -> Result<String, String> {
    if text.trim().len() < REASON {
        return Err(format!("say in a sentence ({REASON} characters at least) why no groups can be compared"));
    }
    Ok(text.to_owned())
}

/// What groups are compared.
pub struct Groups {
    /// Columns.
    pub columns: Vec<String>,
    /// Why there are none.
    pub none: Option<String>,
    /// Score from which a person counts as selected.
    pub threshold: Option<f64>,
}

/// Columns as they are needed.
#[derive(Default)]
struct Table {
    inputs: Vec<Vec<f32>>,
    outcomes: Vec<bool>,
    groups: Vec<Vec<String>>,
}

impl Table {
    /// Without the last column of groups, by whose values it is taken apart.
    fn apart(mut self) -> BTreeMap<String, Self> {
        let by = self.groups.pop().unwrap_or_default();
        let mut parts = BTreeMap::<String, Self>::new();
        for (row, value) in by.into_iter().enumerate() {
            let part = parts
                .entry(value)
                .or_insert_with(|| Self { groups: vec![vec![]; self.groups.len()], ..Self::default() });
            part.inputs.push(std::mem::take(&mut self.inputs[row]));
            part.outcomes.push(self.outcomes[row]);
            for (own, all) in part.groups.iter_mut().zip(&mut self.groups) {
                own.push(std::mem::take(&mut all[row]));
            }
        }
        parts
    }
}

/// What is wrong in a column, how often, and where first.
#[derive(Default)]
pub(super) struct Wrong(BTreeMap<String, (usize, u64)>);

impl Wrong {
    pub(super) fn note(&mut self, what: String, line: u64) {
        self.0.entry(what).or_insert((0, line)).0 += 1;
    }

    pub(super) fn end(self, path: &Path) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let parts: Vec<String> = self
            .0
            .into_iter()
            .map(|(what, (count, line))| format!("{count} rows with {what} (the first on line {line})"))
            .collect();
        bail!("{}: {}; mend or leave out those rows, nothing was evaluated", path.display(), parts.join("; "))
    }
}

fn read(bytes: &[u8], path: &Path, features: &[String], outcome: &str, groups: &[String]) -> Result<Table> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(bytes);
    let header = reader.headers().with_context(|| path.display().to_string())?.clone();
    let column = |name: &String| {
        header.iter().position(|found| found == name).with_context(|| {
            format!(
                "{} has no column `{name}`; it has {}",
                path.display(),
                header.iter().collect::<Vec<_>>().join(", ")
            )
        })
    };
    let inputs_at = features.iter().map(column).collect::<Result<Vec<_>>>()?;
    let groups_at = groups.iter().map(column).collect::<Result<Vec<_>>>()?;
    let outcome_at = column(&outcome.to_owned())?;
    let (mut table, mut wrong) =
        (Table { inputs: vec![], outcomes: vec![], groups: vec![vec![]; groups.len()] }, Wrong::default());
    for row in reader.records() {
        let row = row.with_context(|| path.display().to_string())?;
        let line = row.position().map_or(0, csv::Position::line);
        let cell = |at: usize| row.get(at).unwrap_or_default();
        let mut inputs = Vec::with_capacity(inputs_at.len());
        for (at, name) in inputs_at.iter().zip(features) {
            match cell(*at).parse::<f32>() {
                Ok(number) if number.is_finite() => inputs.push(number),
                _ => wrong.note(format!("no number in `{name}`"), line),
            }
        }
        let label = match cell(outcome_at) {
            "0" | "false" => false,
            "1" | "true" => true,
            _ => {
                wrong.note(format!("neither 0 nor 1 in `{outcome}`"), line);
                false
            }
        };
        for ((at, name), column) in groups_at.iter().zip(groups).zip(&mut table.groups) {
            if cell(*at).is_empty() {
                wrong.note(format!("nothing in `{name}`"), line);
            }
            column.push(cell(*at).to_owned());
        }
        table.inputs.push(inputs);
        table.outcomes.push(label);
    }
    wrong.end(path)?;
    Ok(table)
}

fn scores(model: &Model, table: &Table) -> Result<Vec<f64>> {
    let score = |inputs: &Vec<f32>| model.score(inputs).map(|score| f64::from(score).clamp(0.0, 1.0));
    Ok(table.inputs.iter().map(score).collect::<Result<_, _>>()?)
}

/// One part of the rows, and how good a model is there.
fn point(column: &str, value: &str, found: &Performance) -> Point {
    let (rows, positives) = (found.rows as u64, found.positives as u64);
    Point { at: format!("{column} {value}"), rows, positives, auc: interval(found.auc) }
}

/// How good a model is on each of the other parts of the rows, and on the one that is judged, in the order of their numbers.
fn curve(
    model: &Model,
    only: &Only,
    (judged, others): (&Performance, &BTreeMap<String, Table>),
    seed: u64,
) -> Result<Vec<Point>> {
    let number = |value: &str| value.parse::<u64>().ok();
    let mut points = vec![(number(&only.value), point(&only.column, &only.value, judged))];
    for (value, part) in others {
        match performance(&scores(model, part)?, &part.outcomes, &model.manifest().score_edges, seed) {
            Ok(found) => points.push((number(value), point(&only.column, value, &found))),
            // One kind alone ranks nothing, and few come as far as the last pages.
            Err(why @ (EvaluateError::Rows(..) | EvaluateError::Outcomes(..))) => {
                println!("  nothing can be told where {} is {value}: {why}", only.column);
            }
            Err(why) => return Err(why.into()),
        }
    }
    if points.len() > TURNS {
        bail!(
            "{} of {} values of `{}` can be judged, and a curve has {TURNS} points: leave out --curve, or make fewer",
            points.len(),
            others.len() + 1,
            only.column
        );
    }
    points.sort_by_key(|(number, _)| *number);
    Ok(points.into_iter().map(|(_, point)| point).collect())
}

fn interval(estimate: Estimate) -> Interval {
    Interval { value: estimate.value, low: estimate.low, high: estimate.high }
}

fn attribute(name: &str, gaps: Gaps) -> Attribute {
    let group = |g: gloaming_model::evaluate::GroupCounts| Group {
        name: g.name,
        rows: g.rows,
        positives: g.positives,
        selected: g.selected,
    };
    Attribute {
        name: name.to_owned(),
        groups: gaps.groups.into_iter().map(group).collect(),
        selection_gap: interval(gaps.selection),
        odds_gap: interval(gaps.odds),
    }
}

fn shown(interval: &Interval) -> String {
    format!("{:.4}  [{:.4}, {:.4}]", interval.value, interval.low, interval.high)
}

pub(super) fn line(what: &str, interval: &Interval) {
    println!("  {what:<28} {}", shown(interval));
}

impl Brought {
    pub(super) fn parity(&self, browser: Option<&Browser>) -> Result<Parity> {
        let parity = runtimes::parity(self, browser, date_of(files::today()))?;
        for Runtime { name, largest } in &parity.runtimes {
            println!("  {} reference rows differ by {largest:.1e} at most, {name}", parity.rows);
        }
        Ok(parity)
    }

    pub(super) fn write(&self, said: Vec<Said>, out: &Path) -> Result<()> {
        std::fs::create_dir_all(out).with_context(|| out.display().to_string())?;
        for said in said {
            let name = said.kind().map_or("", |kind| kind.name());
            let path = out.join(format!("{name}.json"));
            let statement = Statement::of(&self.model.manifest().id, &self.hash(), said);
            // What is written can be read: reasons are long enough, ends are in order.
            Statement::read(statement.to_json().as_bytes())?;
            files::replace(&path, statement.to_json().as_bytes()).with_context(|| path.display().to_string())?;
            println!("wrote {}", path.display());
        }
        Ok(())
    }
}

/// The statement about a model that needs no rows: that it computes what its trainer computed.
///
/// # Errors
/// What is wrong with the model.
pub fn parity(manifest: &Path, browser: Option<&Browser>, out: &Path) -> Result<()> {
    let brought = Brought::load(manifest)?;
    println!("{} version {}:", brought.model.manifest().id, brought.model.manifest().version);
    let parity = brought.parity(browser)?;
    brought.write(vec![Said::Parity(parity)], out)
}

/// The four statements about a model, and what was printed of them.
///
/// # Errors
/// What is wrong with model, rows or words.
pub fn run(
    manifest: &Path,
    labelled: &Labelled,
    split: Split,
    turns: &[OtherTurn],
    groups: Groups,
    browser: Option<&Browser>,
    out: &Path,
) -> Result<()> {
    let brought = Brought::load(manifest)?;
    let (model, described) = (&brought.model, brought.model.manifest());
    if !described.output.kinds.is_empty() {
        bail!(
            "{} sorts visits into kinds, of which no outcome can show whether they are right: --logged tells what acting on them would have earned, and without rows its parity is stated",
            described.id
        );
    }
    if split.by != SplitBy::Source && !turns.is_empty() {
        bail!("sources take turns in being held out: --turn goes with --split source");
    }
    let rows = files::read(&labelled.rows)?;
    let by: Vec<String> = groups.columns.iter().chain(labelled.only.iter().map(|only| &only.column)).cloned().collect();
    let table = read(&rows, &labelled.rows, &described.input.features, &labelled.outcome, &by)?;
    let digest = hash::sha256(&rows);
    let (table, others) = match &labelled.only {
        None => (table, BTreeMap::new()),
        Some(Only { column, value }) => {
            let mut parts = table.apart();
            let known = parts.keys().cloned().collect::<Vec<_>>().join(", ");
            let own = parts.remove(value);
            (own.with_context(|| format!("no row has {value} in `{column}`; there is {known}"))?, parts)
        }
    };
    let scores = scores(model, &table)?;
    let own = hash::hex(&digest);
    let turns = turns.iter().map(|turn| turn.read(&described.id, &own)).collect::<Result<Vec<_>>>()?;
    let seed = u64::from_be_bytes(*digest.first_chunk().unwrap_or(&[0; 8]));
    let found = performance(&scores, &table.outcomes, &described.score_edges, seed)?;
    let day = date_of(files::today());
    let on = Rows {
        data: labelled.rows.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
        sha256: hash::hex(&digest),
        split: split.by,
        trained: split.trained,
        tested: match &labelled.only {
            Some(Only { column, value }) => format!("{}, where {column} is {value}", split.tested),
            None => split.tested,
        },
        rows: found.rows as u64,
        positives: found.positives as u64,
    };
    println!(
        "{} version {} on {} rows, {} with the outcome:",
        described.id, described.version, found.rows, found.positives
    );
    // What was judged at one point of visits says so, whether or not others are told beside it.
    let curve = match &labelled.only {
        None => Vec::new(),
        Some(only) if labelled.curve => curve(model, only, (&found, &others), seed)?,
        Some(Only { column, value }) => vec![point(column, value, &found)],
    };
    let held_out = HeldOut {
        day: day.clone(),
        on: on.clone(),
        auc: interval(found.auc),
        average_precision: interval(found.average_precision),
        brier: interval(found.brier),
        turns,
        curve,
    };
    line("AUC", &held_out.auc);
    line("average precision", &held_out.average_precision);
    line("Brier score", &held_out.brier);
    let calibration = Calibration {
        day: day.clone(),
        on: on.clone(),
        error: interval(found.calibration_error),
        mean_score: found.mean_score,
        base_rate: found.positives as f64 / found.rows as f64,
    };
    line("calibration error", &calibration.error);
    let threshold = groups.threshold.or_else(|| described.score_edges.get(13).copied()).unwrap_or(0.5);
    let mut by = Vec::new();
    for (name, column) in groups.columns.iter().zip(&table.groups) {
        let found = attribute(name, gaps(&scores, &table.outcomes, column, threshold)?);
        line(&format!("selection gap by {name}"), &found.selection_gap);
        line(&format!("odds gap by {name}"), &found.odds_gap);
        by.push(found);
    }
    if !held_out.turns.is_empty() {
        let (hardest, auc) = held_out.worst();
        println!("  the hardest of {} is {hardest}: {}", held_out.turns.len() + 1, shown(auc));
    }
    if labelled.curve {
        println!("AUC, as a visit goes on:");
        for point in &held_out.curve {
            println!(
                "  {:<12} {}  of {} rows, {} with the outcome",
                point.at,
                shown(&point.auc),
                point.rows,
                point.positives
            );
        }
    }
    let parity = brought.parity(browser)?;
    let mut said = vec![Said::HeldOut(held_out), Said::Calibration(calibration), Said::Parity(parity)];
    if by.is_empty() && groups.none.is_none() {
        println!("no statement on fairness: compare groups with --group, or say with --no-group why there are none");
    } else {
        said.push(Said::Fairness(Fairness { day, on, threshold, by, none: groups.none }));
    }
    brought.write(said, out)?;
    if split.by == SplitBy::Random {
        println!("these rows were set aside by lot: no gate takes them for evidence");
    }
    Ok(())
}
