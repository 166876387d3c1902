//! `gloaming model score`: what a device would score, for rows of a source that has none.
//!
//! A row is one of a table with a header, or an object a line; of each comes an object a line. The model is loaded and scored by the code
//! that devices run, and proven first as there, so that a score is what a visitor's browser would have come to.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
pub use gloaming_behavior::words::Language;
use gloaming_model::Model;
use serde_json::{Map, Value, json};

use crate::files::{self, Brought};

/// What is told beside a score.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Columns that are copied.
    pub keep: Vec<String>,
    /// Reasons, in this language.
    pub reasons: Option<Language>,
}

/// A language that reasons are told in.
///
/// # Errors
/// When it is none of four.
pub fn language(tag: &str) -> Result<Language, String> {
    let known = Language::ALL.into_iter().find(|language| language.tag() == tag);
    known.ok_or_else(|| format!("no reasons are told in `{tag}`; use {}", Language::ALL.map(Language::tag).join(", ")))
}

/// A row: the line it begins on, and its values by column, or why there are none.
struct Row {
    line: u64,
    values: Result<Map<String, Value>, String>,
}

/// An object a line.
fn objects(text: &str) -> Vec<Row> {
    let lines = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty());
    let row = |(text, line): (&str, u64)| {
        let why = |error: serde_json::Error| {
            format!("no object: {}", error.to_string().split(" at line").next().unwrap_or_default())
        };
        Row { line, values: serde_json::from_str(text).map_err(why) }
    };
    lines.map(row).collect()
}

/// Columns of a table with a header: all of the model's features, and what is to be kept.
fn table(text: &str, path: &Path, features: &[String], keep: &[String]) -> Result<Vec<Row>> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).flexible(true).from_reader(text.as_bytes());
    let head: Vec<String> =
        reader.headers().with_context(|| path.display().to_string())?.iter().map(str::to_owned).collect();
    if let Some(missing) = features.iter().chain(keep).find(|column| !head.contains(column)) {
        bail!("{} has no column `{missing}`; it has {}", path.display(), head.join(", "));
    }
    // The others of a table of all features would be gigabytes.
    let wanted = |name: &String| features.contains(name) || keep.contains(name);
    let columns: Vec<(usize, &String)> = head.iter().enumerate().filter(|(_, name)| wanted(name)).collect();
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.with_context(|| path.display().to_string())?;
        let line = record.position().map_or(0, csv::Position::line);
        let values = if record.len() == head.len() {
            Ok(columns.iter().map(|(at, name)| ((*name).clone(), Value::from(&record[*at]))).collect())
        } else {
            Err(format!("{} cells and not {}", record.len(), head.len()))
        };
        rows.push(Row { line, values });
    }
    Ok(rows)
}

/// A feature's value, as models take it.
fn number(values: &Map<String, Value>, feature: &str, cells: bool) -> Result<f32, String> {
    let found = match values.get(feature) {
        None => return Err(format!("no `{feature}`")),
        Some(Value::Number(number)) => number.as_f64().map(|number| number as f32),
        // A table has nothing but text.
        Some(Value::String(text)) if cells => text.parse().ok(),
        Some(_) => None,
    };
    found.filter(|number| number.is_finite()).ok_or_else(|| format!("no number in `{feature}`"))
}

/// What is said of a row that has a score.
fn scored(model: &Model, row: &[f32], reasons: Option<Language>) -> Result<Map<String, Value>, String> {
    let score = model.score(row).map_err(|error| error.to_string())?;
    if !score.is_finite() {
        return Err("a score that is no number".into());
    }
    let mut said = Map::from_iter([("score".to_owned(), json!(f64::from(score)))]);
    if let Some(kind) = model.manifest().kind(score) {
        said.insert("kind".into(), kind.into());
    } else if let Some(language) = reasons {
        let explained = model.explain(row).map_err(|error| error.to_string())?;
        said.insert("reasons".into(), json!(explained.reasons(&model.manifest().input.features, row, language)));
        said.insert("exact".into(), explained.exact.into());
    }
    Ok(said)
}

/// Lines of scores, how many rows have one, and why others have none: how often, and where first.
struct Scored {
    lines: String,
    rows: usize,
    wrong: BTreeMap<String, (usize, u64)>,
}

fn all(model: &Model, rows: &[Row], cells: bool, told: &Told) -> Scored {
    let features = &model.manifest().input.features;
    let mut done = Scored { lines: String::new(), rows: 0, wrong: BTreeMap::new() };
    for Row { line, values } in rows {
        let inputs = values.as_ref().map_err(Clone::clone).and_then(|values| {
            features.iter().map(|feature| number(values, feature, cells)).collect::<Result<Vec<f32>, _>>()
        });
        let mut said = match inputs.and_then(|inputs| scored(model, &inputs, told.reasons)) {
            Ok(said) => {
                done.rows += 1;
                said
            }
            Err(why) => {
                done.wrong.entry(why.clone()).or_insert((0, *line)).0 += 1;
                Map::from_iter([("error".to_owned(), why.into())])
            }
        };
        said.insert("line".into(), (*line).into());
        for column in &told.keep {
            let kept = values.as_ref().ok().and_then(|values| values.get(column)).cloned();
            said.insert(column.clone(), kept.unwrap_or_default());
        }
        let _ = writeln!(done.lines, "{}", Value::Object(said));
    }
    done
}

/// Scores a file of rows, each for itself: one that has no score says why, and the others have theirs.
///
/// # Errors
/// When the model does not load, the file is none of the two forms, or no row of it has a score.
pub fn run(manifest: &Path, rows: &Path, told: &Told, out: Option<&Path>) -> Result<()> {
    let model = Brought::load(manifest)?.model;
    let own = ["line", "score", "kind", "reasons", "exact", "error"];
    if let Some(column) = told.keep.iter().find(|column| own.contains(&column.as_str())) {
        bail!("--keep {column}: that is what a line of scores has itself; rename the column");
    }
    let text = files::read_text(rows)?;
    let cells = !text.trim_start().starts_with('{');
    let read = if cells { table(&text, rows, &model.manifest().input.features, &told.keep)? } else { objects(&text) };
    if read.is_empty() {
        bail!("{} has no rows", rows.display());
    }
    let done = all(&model, &read, cells, told);
    let mut why = String::new();
    for (reason, (count, first)) in &done.wrong {
        let _ = write!(why, "\n  {count} rows with {reason} (the first on line {first})");
    }
    if done.rows == 0 {
        bail!("{}: no row has a score, for{why}", rows.display());
    }
    match out {
        Some(out) => files::replace(out, done.lines.as_bytes()).with_context(|| out.display().to_string())?,
        None => std::io::stdout().write_all(done.lines.as_bytes()).context("the standard output")?,
    }
    let described = model.manifest();
    eprintln!("{} version {}: {} of {} rows have a score{why}", described.id, described.version, done.rows, read.len());
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_a_number_for_each_feature_or_says_what_is_wrong() {
        let rows = objects("{\"pages@1\":3,\"time@1\":\"9\",\"clicks@1\":1e99}\n\n[1]\n{\"pages@1\"");
        assert_eq!(rows.iter().map(|row| row.line).collect::<Vec<_>>(), [1, 3, 4]);
        let values = rows[0].values.as_ref().unwrap();
        assert_eq!(number(values, "pages@1", false), Ok(3.0));
        assert_eq!(number(values, "time@1", false), Err("no number in `time@1`".into()));
        assert_eq!(number(values, "time@1", true), Ok(9.0));
        assert_eq!(number(values, "clicks@1", false), Err("no number in `clicks@1`".into()));
        assert_eq!(number(values, "visits@1", false), Err("no `visits@1`".into()));
        let why: Vec<&String> = rows.iter().filter_map(|row| row.values.as_ref().err()).collect();
        assert!(why[0].starts_with("no object: invalid type") && why[1].starts_with("no object: EOF"), "{why:?}");
    }

    #[test]
    fn a_table_has_every_feature_or_is_none() {
        let features = ["pages@1".to_owned()];
        let rows = table("device,pages@1\nd1, 2\nd2\n", Path::new("rows.csv"), &features, &[]).unwrap();
        assert_eq!(number(rows[0].values.as_ref().unwrap(), "pages@1", true), Ok(2.0));
        assert_eq!((rows[1].line, rows[1].values.as_ref().unwrap_err().as_str()), (3, "1 cells and not 2"));
        let error = table("device,pages\n", Path::new("rows.csv"), &features, &[]).err().unwrap().to_string();
        assert_eq!(error, "rows.csv has no column `pages@1`; it has device, pages");
    }

    #[test]
    fn reasons_are_told_in_four_languages() {
        assert_eq!(language("fr"), Ok(Language::Fr));
        assert_eq!(language("it").unwrap_err(), "no reasons are told in `it`; use en, de, fr, es");
    }
}
