//! `gloaming model tend`: looks after the models of a policy, as a timer does, as far as the gate.
//!
//! From what the centre released it tells which models still hold what was shown of them. One whose scores no longer come true
//! is put right, one that has lost its grip is learnt again, a round of votes that is due is taken, and what a shadow has shown
//! is stated. Everything lies in files afterwards: nothing is signed, nothing promoted, and no policy is put.
//!
//! A policy has one version of a name. Where the next one stands beside it, it does so under a name of its own, and its manifest
//! says what it was made of: each is judged by its own cells, and only of the newest is another made.

use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use gloaming_policy::author::{Problem, gate_rules, named};
use gloaming_policy::gate::{Record, Said, Stage, Standing, Statement};
use gloaming_policy::{Model, ModelState, Policy};
use gloaming_signal::hash;
use gloaming_stats::performance::{Performance, performance};

use super::released::{Overview, windows};
use super::{devices, learn, recalibrate, retrain};
use crate::files::{self, Brought};

/// What ranks no better than this knows nothing.
const CHANCE: f64 = 0.5;
/// A calibration error whose lower end is above this is none that a gate without a word on it should let pass.
const CALIBRATION: f64 = 0.1;

/// What to read.
pub struct Paths<'p> {
    /// The policy that is in force.
    pub policy: &'p Path,
    /// Where its models lie, when they are not beside it.
    pub models: Option<&'p Path>,
    /// The centre's overview.
    pub from: &'p Path,
}

/// What is asked of a model before it may act, where the policy says so.
struct Asked {
    auc: Option<f64>,
    calibration_error: f64,
}

/// One model of the policy, and where its files lie.
struct Tended<'p> {
    model: &'p Model,
    brought: Brought,
    /// As the policy names it, and where it was found.
    named: String,
    manifest: PathBuf,
    /// Hash of its manifest, hexadecimal.
    own: String,
    /// Those of the versions that it was made of, as it says itself.
    made_of: Vec<String>,
    /// Whether what was released made it of the last of them.
    counted: bool,
}

/// The version after one: its number, as the policy would name it, and the folder where it lies or will.
struct Next {
    version: u32,
    named: String,
    out: PathBuf,
}

impl Next {
    fn is_there(&self) -> bool {
        self.out.join("manifest.json").exists()
    }
}

/// What was found of a model.
enum Found {
    /// It holds what was shown.
    Holds,
    /// Scores are ranked as they were, and do not say how often.
    Off,
    /// It ranks worse than what was shown of it.
    Lost,
}

impl<'p> Tended<'p> {
    fn load(model: &'p Model, named: String, paths: &Paths<'_>) -> Result<Self> {
        let manifest = files::beside(&named, paths.policy, paths.models).map_err(|why| anyhow!(why))?;
        let brought = Brought::load(&manifest)?;
        let said: serde_json::Value = serde_json::from_slice(&brought.manifest)?;
        let how = ["retrained", "recalibrated"].map(|how| &said[how]);
        let line = said["made_of"].as_array().into_iter().flatten();
        // Manifests of before name the last one only.
        let made_of =
            line.chain(how.iter().map(|how| &how["of"])).filter_map(|of| of.as_str().map(str::to_owned)).collect();
        let (own, counted) = (hash::hex(&brought.hash()), how.iter().any(|how| how.is_object()));
        Ok(Self { model, brought, named, manifest, own, made_of, counted })
    }

    fn version(&self) -> u32 {
        self.brought.model.manifest().version
    }

    /// The newest that was made of it and is in use beside it, under a name of its own.
    fn successor<'t>(&self, all: &'t [Tended<'p>]) -> Option<&'t Tended<'p>> {
        all.iter().filter(|other| other.made_of.contains(&self.own)).max_by_key(|other| other.version())
    }

    /// Where that version goes: beside this one, by its number.
    fn at(&self, version: u32) -> Next {
        let folder = format!("{}-v{version}", self.model.id);
        let above = Path::new(&self.named).parent().and_then(Path::parent).unwrap_or(Path::new(""));
        let named = above.join(&folder).join("manifest.json");
        // Where the folder lies that the policy's names begin in.
        let depth = Path::new(&self.named).components().filter(|part| *part != Component::CurDir).count();
        let root = self.manifest.ancestors().nth(depth).unwrap_or(Path::new("."));
        let out = root.join(&named).parent().unwrap_or(root).to_path_buf();
        // Policies are written with slashes everywhere.
        Next { version, named: named.to_string_lossy().replace('\\', "/"), out }
    }

    /// The next version: the newest that lies there already, unless it was retired; else the first of which the record knows
    /// nothing, for no two versions share a number and what is retired never comes back.
    fn next(&self, record: Option<&Record>) -> Next {
        let later = |known: &&Standing| known.facts.id == self.model.id && known.facts.version > self.version();
        let known: Vec<&Standing> = record.into_iter().flat_map(Record::models).filter(later).collect();
        let last = known.iter().map(|known| known.facts.version).fold(self.version(), u32::max);
        let unknown = last.saturating_add(1);
        let drafts = (unknown..=u32::MAX).map(|version| self.at(version)).take_while(Next::is_there);
        let kept = known.iter().filter(|known| known.stage != Stage::Retired).map(|known| self.at(known.facts.version));
        let newest = drafts.last().or_else(|| kept.filter(Next::is_there).max_by_key(|next| next.version));
        newest.unwrap_or_else(|| self.at(unknown))
    }

    /// The lower end of what was shown of it: what lies beside its manifest, else what the gate asks for.
    fn shown(&self, asked: &Asked) -> (f64, &'static str) {
        let path = self.manifest.with_file_name("evidence").join("held-out.json");
        let statement = files::read(&path).ok().and_then(|bytes| Statement::read(&bytes).ok());
        let of_it = statement.filter(|s| s.model() == self.model.id && s.manifest() == self.own);
        match of_it.map(|statement| statement.said) {
            // What holds at a page holds of no other moment, and devices tell of the last.
            Some(Said::HeldOut(shown)) if shown.curve.is_empty() => (shown.worst().1.low, "was shown of it"),
            _ => asked.auc.map_or((CHANCE, "chance has"), |auc| (auc, "the gate asks for")),
        }
    }

    fn found(&self, told: &Performance, asked: &Asked) -> Found {
        let (wanted, whence) = self.shown(asked);
        let (auc, error) = (&told.auc, &told.calibration_error);
        if auc.high < wanted {
            println!("  it has lost its grip: AUC {:.4} at most, where {wanted:.4} {whence}", auc.high);
            Found::Lost
        } else if error.low > asked.calibration_error {
            println!(
                "  its scores do not come true: {:.4} off at least, where {:.4} is borne",
                error.low, asked.calibration_error
            );
            Found::Off
        } else {
            println!("  it holds what it has to: {wanted:.4} {whence}");
            Found::Holds
        }
    }
}

/// What the policy would have to say of a model: another manifest, in shadow; or the same again, signed anew.
struct Proposal {
    id: String,
    version: u32,
    manifest: Option<String>,
}

/// The value of `key` on a line of plain TOML.
fn value<'l>(line: &'l str, key: &str) -> Option<&'l str> {
    line.trim_start().strip_prefix(key)?.trim_start().strip_prefix('=').map(str::trim)
}

/// The policy's text with all of that and the next version; `None` where it is not written plainly.
fn proposed(text: &str, proposals: &[Proposal]) -> Option<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let is_head = |line: &String| line.trim_start().starts_with('[');
    let top = lines.iter().position(is_head).unwrap_or(lines.len());
    let at = lines[..top].iter().position(|line| value(line, "version").is_some())?;
    let digits: String = value(&lines[at], "version")?.chars().take_while(char::is_ascii_digit).collect();
    let next = digits.parse::<u32>().ok()?.checked_add(1)?;
    lines[at] = lines[at].replacen(&digits, &next.to_string(), 1);
    for Proposal { id, manifest, .. } in proposals {
        let Some(manifest) = manifest else { continue };
        let block = |start: &usize| {
            let end = (start + 1..lines.len()).find(|at| is_head(&lines[*at])).unwrap_or(lines.len());
            let place = |key: &str| (start + 1..end).find(|at| value(&lines[*at], key).is_some());
            let own = value(&lines[place("id")?], "id")?.starts_with(&format!("\"{id}\""));
            own.then(|| Some((place("manifest")?, place("state")?)))?
        };
        let heads = (0..lines.len()).filter(|at| lines[*at].trim_start().starts_with("[[model]]"));
        let (at, state) = heads.collect::<Vec<_>>().iter().find_map(block)?;
        lines[at] = format!("manifest = \"{manifest}\"");
        lines[state] = "state = \"shadow\"".to_owned();
    }
    Some(lines.join("\n") + "\n")
}

fn first(problems: Vec<Problem>) -> anyhow::Error {
    problems
        .first()
        .map_or_else(|| anyhow!("the policy"), |one| anyhow!("line {}: {}; {}", one.line, one.cause, one.remedy))
}

/// Learns a model again, by what the policy has counted for it; says so where that is nothing.
fn again(tended: &Tended<'_>, policy: &Policy, paths: &Paths<'_>, next: &Next) -> Result<()> {
    let id = &tended.model.id;
    if retrain::is_declared(policy, tended.brought.model.manifest()) {
        retrain::run(&retrain::Paths {
            manifest: &tended.manifest,
            policy: paths.policy,
            models: paths.models,
            from: paths.from,
            out: &next.out,
            version: Some(next.version),
            sessions: None,
        })?;
    } else if policy
        .learners
        .iter()
        .any(|learner| policy.models.get(learner.model as usize).is_some_and(|model| model.id == *id))
    {
        learn(tended, paths, Some(next))?;
    } else {
        println!(
            "  nothing is counted that it could be learnt from: add [[retrain]] with model = \"{id}\", or take it back"
        );
    }
    Ok(())
}

fn learn(tended: &Tended<'_>, paths: &Paths<'_>, next: Option<&Next>) -> Result<()> {
    learn::run(&learn::Paths {
        manifest: &tended.manifest,
        policy: paths.policy,
        models: paths.models,
        from: Some(paths.from),
        outcome: None,
        out: next.map(|next| next.out.as_path()),
        version: next.map(|next| next.version),
    })
}

/// Writes what the policy would say, for its owner to sign; and says what is left to people.
fn propose(paths: &Paths<'_>, text: &str, proposals: &[Proposal]) -> Result<()> {
    let next = paths.policy.with_file_name("policy.next.toml");
    let all: Vec<String> = proposals.iter().map(|one| format!("{} version {}", one.id, one.version)).collect();
    let all = all.join(", ");
    let Some(changed) = proposed(text, proposals) else {
        println!("left to you, for {all}: name the next manifest in the policy, in shadow, and raise the version");
        return Ok(());
    };
    files::replace(&next, changed.as_bytes()).with_context(|| next.display().to_string())?;
    println!("left to you, for {all}: look at {}, `gloaming policy sign` it, and put it", next.display());
    // What the text as a whole makes of that only its owner can settle: an experiment on a model that now is in shadow.
    if let Err(problems) = files::compile_policy(&next, paths.models) {
        println!("before it can be signed:\n{problems:#}");
    }
    Ok(())
}

/// The metric that joins a model's score with what it is to tell: the monitor's; else the only one with an outcome.
fn outcomes_of<'p>(policy: &'p Policy, tended: &Tended<'_>) -> Result<&'p str> {
    let id = &tended.model.id;
    let of_it = |metric: &&gloaming_policy::Metric| {
        metric.of.starts_with(&format!("score:{id}, outcome:")) && metric.axes.len() == 2 && metric.outcome().is_some()
    };
    let all: Vec<&str> = policy.metrics.iter().filter(of_it).map(|metric| metric.name.as_str()).collect();
    let own = format!("{id}-outcomes");
    match all.as_slice() {
        [] => bail!("nothing joins its score with an outcome: give it a [[monitor]] with `outcome`"),
        [one] => Ok(one),
        many => many.iter().copied().find(|name| *name == own).ok_or_else(|| {
            anyhow!("{} join its score with outcomes, and which it is to tell is not said: give it a [[monitor]] with `outcome`", many.join(" and "))
        }),
    }
}

/// A version that goes on being learnt has what it goes on from beside it.
fn keep_learning(tended: &Tended<'_>, out: &Path) -> Result<()> {
    let file = tended.manifest.with_file_name(files::LEARNING);
    if file.exists() {
        files::replace(&out.join(files::LEARNING), &files::read(&file)?).with_context(|| out.display().to_string())?;
    }
    Ok(())
}

/// What models are judged by: the policy, what was counted under it, and how far each has come.
struct Known<'k> {
    policy: &'k Policy,
    overview: &'k Overview,
    record: Option<&'k Record>,
    asked: Asked,
}

/// Looks after one model; the version that the policy should name next, where there is one.
fn tend(tended: &Tended<'_>, all: &[Tended<'_>], known: &Known<'_>, paths: &Paths<'_>) -> Result<Option<Next>> {
    let (model, described) = (tended.model, tended.brought.model.manifest());
    let metric = outcomes_of(known.policy, tended)?;
    let (table, counted) = known.overview.scores_and_outcomes(described, &tended.own, Some(metric))?;
    let told = performance(&table)?;
    println!(
        "{} version {}: AUC {:.4} [{:.4}, {:.4}], calibration error {:.4} [{:.4}, {:.4}], of {}",
        model.id,
        described.version,
        told.auc.value,
        told.auc.low,
        told.auc.high,
        told.calibration_error.value,
        told.calibration_error.low,
        told.calibration_error.high,
        windows(counted.windows())
    );
    let lost = match tended.found(&told, &known.asked) {
        Found::Holds => return holds(tended, metric, paths).map(|()| None),
        Found::Lost => true,
        Found::Off => false,
    };
    // What is to come after it is there already, and is looked after like any other.
    if let Some(newer) = tended.successor(all) {
        let (id, version) = (&newer.model.id, newer.version());
        println!("  nothing more is made of it: {id} version {version} was, and stands beside it in the policy");
        return Ok(None);
    }
    let next = tended.next(known.record);
    if next.is_there() {
        // What lies there and is not wanted any more is its owner's to keep or to take away.
        println!("  {} lies there already, and waits for you", next.out.display());
    } else if lost {
        again(tended, known.policy, paths, &next)?;
    } else {
        let out = (&*next.out, Some(next.version));
        recalibrate::run(&tended.manifest, paths.from, Some(metric), recalibrate::Method::Platt, out)?;
        keep_learning(tended, &next.out)?;
    }
    Ok(Some(next).filter(Next::is_there))
}

/// States what a version in shadow has shown that was made of another.
fn holds(tended: &Tended<'_>, metric: &str, paths: &Paths<'_>) -> Result<()> {
    if tended.model.state != ModelState::Shadow || !tended.counted {
        return Ok(());
    }
    let evidence = tended.manifest.with_file_name("evidence");
    devices::released(&tended.manifest, paths.from, Some(metric), "", None, &evidence)?;
    println!(
        "  left to you: `gloaming model evidence` signs what it has shown, and `gloaming model promote {}` tells what is missing",
        tended.model.id
    );
    Ok(())
}

/// Takes the round of votes that is due; whether there was one.
fn vote(tended: &Tended<'_>, known: &Known<'_>, paths: &Paths<'_>) -> Result<bool> {
    let asks = |metric: &&gloaming_policy::Metric| metric.name == format!("{}-votes", tended.model.id);
    let Some(metric) = known.policy.metrics.iter().find(asks) else { return Ok(false) };
    // When it has lost its grip the round was taken above, and the policy asks for it no more.
    let file = tended.manifest.with_file_name(files::LEARNING);
    let round = gloaming_policy::author::Learning::read(&files::read_text(&file)?).map_err(|why| anyhow!("{why}"))?;
    if round.name() != metric.of || !known.overview.metrics.iter().any(|counted| counted.of == metric.of) {
        return Ok(false);
    }
    learn(tended, paths, None)?;
    Ok(true)
}

/// Looks after all models of a policy.
///
/// # Errors
/// When the policy, a model's files or the overview are none. What goes wrong with one model after that is said, and the others
/// are looked after.
pub fn run(paths: &Paths<'_>) -> Result<()> {
    let (policy, record) = files::compile_policy(paths.policy, paths.models)?;
    let text = files::read_text(paths.policy)?;
    let overview = Overview::of_site(paths.from, &policy.site)?;
    let rules = gate_rules(&text).map_err(first)?;
    let step = rules.as_ref().map(|rules| &rules.live);
    let asked = Asked {
        auc: step.and_then(|step| step.auc),
        calibration_error: step.and_then(|step| step.calibration_error).unwrap_or(CALIBRATION),
    };
    let known = Known { policy: &policy, overview: &overview, record: record.as_ref(), asked };
    // What is off is not counted, and kinds have no outcome that says whether they are right.
    let in_use = |model: &Model| model.state != ModelState::Off && model.kinds.is_empty();
    let all = policy
        .models
        .iter()
        .zip(named(&text).map_err(first)?.models)
        .filter(|(model, _)| in_use(model))
        .map(|(model, (_, name))| Tended::load(model, name, paths).with_context(|| model.id.clone()))
        .collect::<Result<Vec<_>>>()?;
    let (mut wrong, mut proposals) = (0, Vec::new());
    for tended in &all {
        let (model, version) = (tended.model, tended.version());
        let mut look = || -> Result<()> {
            let looked = tend(tended, &all, &known, paths);
            let voted = vote(tended, &known, paths);
            if matches!(voted, Ok(true)) {
                proposals.push(Proposal { id: model.id.clone(), version, manifest: None });
                let out = tended.next(known.record).out;
                if out.exists() {
                    keep_learning(tended, &out)?;
                }
            }
            // One that goes wrong takes nothing from the other.
            if let (Err(why), true) = (&voted, looked.is_ok()) {
                println!("{} version {version}: {why:#}", model.id);
            }
            let proposal =
                |next: Next| Proposal { id: model.id.clone(), version: next.version, manifest: Some(next.named) };
            proposals.extend(looked?.map(proposal));
            Ok(())
        };
        if let Err(why) = look() {
            println!("{} version {version}: {why:#}", model.id);
            wrong += 1;
        }
    }
    if wrong > 0 {
        println!("of {wrong} {} nothing could be said", if wrong == 1 { "model" } else { "models" });
    }
    if proposals.is_empty() { Ok(()) } else { propose(paths, &text, &proposals) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "site = \"a\"\nversion = 7   # grows\n\n[[model]] # first\nid = \"one\"\nmanifest = \"models/one/manifest.json\"\nstate = \"live\"\n\n[[model]]\nid = \"two\"\nstate = \"experiment\" # tried\nmanifest = \"m/two/manifest.json\"\n\n[[metric]]\nversion = 3\n";

    #[test]
    fn a_policy_is_changed_where_it_has_to_be_and_nowhere_else() {
        let of = |id: &str, manifest: Option<&str>| {
            let (id, manifest) = (id.into(), manifest.map(Into::into));
            Proposal { id, version: 2, manifest }
        };
        let next = proposed(TEXT, &[of("two", Some("m/two-v2/manifest.json"))]).unwrap();
        let wanted = TEXT
            .replace("version = 7 ", "version = 8 ")
            .replace("state = \"experiment\" # tried", "state = \"shadow\"")
            .replace("m/two/", "m/two-v2/");
        assert_eq!(next, wanted);
        // Several at once, and one version more.
        let both = [
            of("one", Some("models/one-v2/manifest.json")),
            of("one", None),
            of("two", Some("m/two-v2/manifest.json")),
        ];
        let wanted = wanted.replace("models/one/", "models/one-v2/").replace("state = \"live\"", "state = \"shadow\"");
        assert_eq!(proposed(TEXT, &both).unwrap(), wanted);
        assert_eq!(proposed(TEXT, &[of("one", None)]).unwrap(), TEXT.replace("version = 7 ", "version = 8 "));
        assert_eq!(proposed(TEXT, &[of("three", Some("x"))]), None);
        assert_eq!(proposed("site = \"a\"\n", &[of("one", None)]), None);
    }
}
