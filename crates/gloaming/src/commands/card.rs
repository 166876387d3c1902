//! `gloaming model card` and `gloaming model sign`: what a model is, for people; and that a folder is what it was.
//!
//! The card has the parts of Mitchell and others 2019, "Model Cards for Model Reporting", as far as manifest and evidence
//! say them; what nobody said is said to be missing.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use gloaming_behavior::Definition;
use gloaming_behavior::definitions::DESCRIPTIONS;
use gloaming_model::Manifest;
use gloaming_policy::author::PublicKey;
use gloaming_policy::gate::oms::{self, Bundle};
use gloaming_policy::gate::{Fairness, Rows, Said, SplitBy, Statement};
use gloaming_signal::hash;
use serde_json::Value;

use super::recalibrate;
use super::sheet::{self, Block};
use crate::files::{self, Brought};

/// Most files of a model's folder that are signed.
const FILES: usize = 1_024;

/// Writes the card of a model: Markdown or HTML, by the ending of `out`.
///
/// # Errors
/// When the model does not agree with its manifest, or a statement is of another model.
pub fn card(manifest: &Path, evidence: Option<&Path>, out: &Path) -> Result<()> {
    let brought = Brought::load(manifest)?;
    let (described, sha256) = (brought.model.manifest(), brought.hash());
    let value: Value = serde_json::from_slice(&brought.manifest)?;
    let beside = manifest.with_file_name("evidence");
    let folder = evidence.or(beside.is_dir().then_some(beside.as_path()));
    let statements = folder.map_or(Ok(Vec::new()), |folder| statements(folder, &sha256))?;
    let blocks = blocks(described, &value, &statements, &sha256);
    let title = format!("{}, version {}", described.id, described.version);
    sheet::write(&format!("Model card: {title}"), &blocks, out)?;
    println!("wrote {}, with {} statements of evidence", out.display(), statements.len());
    Ok(())
}

fn statements(folder: &Path, manifest: &[u8; 32]) -> Result<Vec<Said>> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .with_context(|| folder.display().to_string())?
        .map(|file| file.map(|file| file.path()))
        .collect::<Result<_, _>>()?;
    names.retain(|path| path.extension().is_some_and(|ending| ending == "json"));
    names.sort();
    let mut found = Vec::new();
    for path in names {
        let statement = Statement::read(&files::read(&path)?).with_context(|| path.display().to_string())?;
        if statement.manifest() != hash::hex(manifest) {
            bail!("{} is about another manifest; `gloaming model evaluate` makes it anew", path.display());
        }
        found.push(statement.said);
    }
    Ok(found)
}

/// A value of the manifest, as a reader wants it.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(map) => {
            map.iter().map(|(key, value)| format!("{key}: {}", plain(value))).collect::<Vec<_>>().join("; ")
        }
        Value::Array(list) => list.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// What a manifest says as `{ "columns": [names], "rows": [cells] }`: fractions with four digits, everything else as it is.
fn table(value: &Value) -> Option<(Vec<&str>, Vec<Vec<String>>)> {
    let map = value.as_object().filter(|map| map.len() == 2)?;
    let columns = map.get("columns")?.as_array()?.iter().map(Value::as_str).collect::<Option<Vec<_>>>()?;
    let cell = |cell: &Value| match cell.as_f64().filter(|_| cell.is_f64()) {
        Some(fraction) => format!("{fraction:.4}"),
        None => plain(cell),
    };
    let rows = map.get("rows")?.as_array()?.iter().map(Value::as_array).collect::<Option<Vec<_>>>()?;
    let even = rows.iter().all(|row| row.len() == columns.len());
    even.then(|| (columns, rows.into_iter().map(|row| row.iter().map(cell).collect()).collect()))
}

fn blocks<'a>(manifest: &Manifest, value: &'a Value, statements: &[Said], sha256: &[u8; 32]) -> Vec<Block<'a>> {
    let missing = || "not said".to_owned();
    let said = |key: &str| value.get(key).map_or_else(missing, plain);
    let mut blocks = vec![
        Block::Text(format!("The score is the {}.", manifest.output.meaning)),
        Block::Heading("Details".into()),
        Block::Table(
            vec!["What", "As it is"],
            vec![
                vec!["Owner".into(), said("owner")],
                vec!["Next review".into(), said("next_review")],
                vec!["Licence".into(), said("licence")],
                vec!["Manifest, SHA-256".into(), hash::hex(sha256)],
                vec!["File".into(), format!("{} bytes, SHA-256 {}", manifest.onnx.bytes, manifest.onnx.sha256)],
                vec!["Operators".into(), manifest.onnx.ops.join(", ")],
                vec![
                    "Reference rows".into(),
                    format!("{}, which it agrees with here", manifest.reference.inputs.len()),
                ],
            ],
        ),
        Block::Heading("Use".into()),
        Block::Text(format!("For: {}", said("intended_use"))),
        Block::Text(format!("Not for: {}", said("not_for"))),
        Block::Heading("Inputs".into()),
    ];
    let input = |name: &String| {
        let meaning = Definition::find(name).and_then(|at| DESCRIPTIONS.get(at));
        let otherwise = if name.starts_with("page:") { "given by the page" } else { "no device computes it" };
        let (text, source) = meaning.map_or((otherwise, ""), |m| (m.text, m.source));
        vec![name.clone(), text.to_owned(), source.to_owned()]
    };
    let inputs = manifest.input.features.iter().map(input).collect();
    blocks.push(Block::Table(vec!["Feature", "Meaning", "Definition"], inputs));
    blocks.push(Block::Heading("What it learnt from".into()));
    match value.get("training").and_then(Value::as_object) {
        Some(training) => {
            let (tables, words): (Vec<_>, Vec<_>) = training.iter().partition(|(_, value)| table(value).is_some());
            let rows = words.into_iter().map(|(key, value)| vec![key.clone(), plain(value)]).collect();
            blocks.push(Block::Table(vec!["What", "As it was said"], rows));
            for (key, (columns, rows)) in tables.into_iter().filter_map(|(key, value)| Some((key, table(value)?))) {
                blocks.push(Block::Text(format!("{key}:")));
                blocks.push(Block::Table(columns, rows));
            }
        }
        None => blocks.push(Block::Text("Its manifest does not say.".into())),
    }
    if let Some((how, from)) = recalibrate::told(value) {
        blocks.push(Block::Text(format!("Its scores were put right by {how}, fitted to {from}.")));
    }
    blocks.push(Block::Heading("Evidence".into()));
    if statements.is_empty() {
        blocks.push(Block::Text("There is none. A model without evidence acts on nobody.".into()));
    } else {
        let rows = statements.iter().flat_map(figures).collect();
        blocks.push(Block::Table(vec!["Kind", "Figure", "Value, with its 95 % interval", "On"], rows));
    }
    blocks
}

fn on(rows: &Rows) -> String {
    let split = match rows.split {
        SplitBy::Time => "later in time",
        SplitBy::Source => "another source",
        SplitBy::Group => "other people",
        SplitBy::Random => "set aside by lot, which is no evidence",
    };
    format!(
        "{} rows, {} with the outcome: {} ({split}; trained on {})",
        rows.rows, rows.positives, rows.tested, rows.trained
    )
}

/// Lines of the evidence table: kind, figure, value, rows.
fn figures(said: &Said) -> Vec<Vec<String>> {
    let kind = said.kind().map_or("approval", |kind| kind.name());
    let place = said.rows().map_or_else(String::new, on);
    let line = |what: &str, value: String| vec![kind.to_owned(), what.to_owned(), value, place.clone()];
    match said {
        Said::HeldOut(s) => {
            let own = [
                line("area under the ROC curve", s.auc.to_string()),
                line("average precision", s.average_precision.to_string()),
                line("Brier score", s.brier.to_string()),
            ];
            let counted = |rows: u64, positives: u64| format!("{rows} rows, {positives} with the outcome");
            let other = |what: String, auc: String, on: String| vec![kind.to_owned(), what, auc, on];
            let turns = s.turns.iter().map(|turn| {
                let what = format!("area under the ROC curve, {} held out instead", turn.held_out);
                other(what, turn.auc.to_string(), counted(turn.rows, turn.positives))
            });
            let curve = s.curve.iter().map(|point| {
                let what = format!("area under the ROC curve, {}", point.at);
                other(what, point.auc.to_string(), counted(point.rows, point.positives))
            });
            own.into_iter().chain(turns).chain(curve).collect()
        }
        Said::Calibration(s) => vec![
            line("calibration error", s.error.to_string()),
            line("mean score and base rate", format!("{:.4} and {:.4}", s.mean_score, s.base_rate)),
        ],
        Said::Value(s) => {
            let rows = format!("{} of {} rows", s.effective_rows.round(), s.on.rows);
            vec![
                line(&format!("{}, had it chosen ({})", s.reward, s.estimator.name()), s.value.to_string()),
                line(&format!("{}, as it was", s.reward), s.logged.to_string()),
                line("gain", s.gain.to_string()),
                line("mean weight, 1 when the log is true", s.weight.to_string()),
                line("what the log is worth for it", format!("{rows}; {} of them tell", s.telling)),
            ]
        }
        Said::Fairness(Fairness { none: Some(why), .. }) => vec![line("no groups compared", why.clone())],
        Said::Fairness(s) => {
            s.by.iter()
                .flat_map(|a| {
                    [
                        line(&format!("selection gap by {}", a.name), a.selection_gap.to_string()),
                        line(&format!("odds gap by {}", a.name), a.odds_gap.to_string()),
                    ]
                })
                .collect()
        }
        Said::Parity(s) => s
            .runtimes
            .iter()
            .map(|r| {
                line(&format!("largest difference, {}", r.name), format!("{:.1e} over {} rows", r.largest, s.rows))
            })
            .collect(),
        Said::Experiment(s) => vec![line(&format!("lift of {}", s.metric), s.lift.to_string())],
        Said::Ethics(s) => {
            let word = if s.accepted { "accepted" } else { "refused" };
            vec![line(&format!("{word} by {}", s.by), s.conclusion.clone())]
        }
        Said::Approval(s) => vec![line(&format!("by {}", s.role), format!("to become {}", s.to.name()))],
    }
}

/// Every file of a model's folder by its path, with its SHA-256; the signature itself excepted.
fn digests(root: &Path) -> Result<BTreeMap<String, [u8; 32]>> {
    let (mut found, mut open) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            let name = path.strip_prefix(root)?.to_string_lossy().replace('\\', "/");
            if kind.is_dir() {
                open.push(path);
            } else if kind.is_symlink() {
                bail!("{name} is a link; a signature is over files");
            } else if name != oms::FILE {
                found.insert(name, hash::sha256(&files::read(&path)?));
            }
            if found.len() > FILES {
                bail!(
                    "{} has more than {FILES} files; a model's folder holds the model and what is said of it",
                    root.display()
                );
            }
        }
    }
    Ok(found)
}

/// Signs a model's folder.
///
/// # Errors
/// When it cannot be read.
pub fn sign(folder: &Path, key: &Path) -> Result<()> {
    let manifest = Manifest::parse(&files::read(&folder.join("manifest.json"))?)?;
    let (digests, key) = (digests(folder)?, files::key(key)?);
    let out = folder.join(oms::FILE);
    files::replace(&out, Bundle::sign(&manifest.id, &digests, &key).as_bytes())?;
    println!("signed {} files of {}: {}", digests.len(), manifest.id, out.display());
    println!(
        "check it with `gloaming model check {} --key {}`",
        folder.join("manifest.json").display(),
        key.public().to_text()
    );
    Ok(())
}

/// Checks the signature of the folder that a manifest lies in.
///
/// # Errors
/// When it is not signed by `key`, or is not what was signed.
pub fn check(manifest: &Path, key: &str) -> Result<()> {
    let folder = manifest.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let path = folder.join(oms::FILE);
    let bundle = Bundle::read(&files::read(&path)?).with_context(|| path.display().to_string())?;
    let digests = digests(folder)?;
    bundle.verify(&PublicKey::from_text(key)?, &digests).with_context(|| path.display().to_string())?;
    println!("{} files are as they were signed", digests.len());
    Ok(())
}
