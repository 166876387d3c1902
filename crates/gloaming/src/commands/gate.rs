//! `gloaming model promote|withdraw|evidence|approve` and `gloaming verify`: the gate's record beside a policy.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use gloaming_model::Manifest;
use gloaming_policy::author::{Key, Named, PublicKey, Signed, date_of, gate_rules, named};
use gloaming_policy::gate::{
    Action, Approval, Envelope, Facts, Finding, Record, Rules, Said, Stage, Standing, Statement,
};
use gloaming_signal::hash;

use crate::files::{self, Brought};

/// A policy's text, its models' folders, its record.
pub struct Beside<'a> {
    /// The policy's TOML.
    pub policy: &'a Path,
    /// Folder to look for models in, when they are not beside the policy.
    pub models: Option<&'a Path>,
}

/// A model as its files are.
struct Found {
    facts: Facts,
    manifest: [u8; 32],
}

/// What the gate knows of the model with this manifest.
///
/// # Errors
/// When nobody answers for it, or nobody says when it is looked at again.
pub fn facts(described: &Manifest, sha256: &[u8; 32], oversize: Option<&str>) -> Result<Facts> {
    let lacks = |key: &str, example: &str| {
        anyhow!("the manifest names no `{key}`; add \"{key}\": \"{example}\" and raise its version")
    };
    Ok(Facts {
        id: described.id.clone(),
        version: described.version,
        manifest: hash::hex(sha256),
        onnx: described.onnx.sha256.clone(),
        bytes: described.onnx.bytes,
        features: described.input.features.clone(),
        kinds: u32::try_from(described.output.kinds.len()).unwrap_or(u32::MAX),
        owner: described.owner.clone().ok_or_else(|| lacks("owner", "who answers for it"))?,
        next_review: described.next_review.clone().ok_or_else(|| lacks("next_review", "2027-05-01"))?,
        oversize: oversize.map(str::to_owned),
    })
}

impl Beside<'_> {
    fn path(&self) -> PathBuf {
        files::record_path(self.policy)
    }

    fn text(&self) -> Result<String> {
        files::read_text(self.policy)
    }

    fn rules(&self) -> Result<Rules> {
        gate_rules(&self.text()?)
            .map_err(|problems| anyhow!("{}", files::shown(self.policy, &problems)))?
            .ok_or_else(|| anyhow!(NO_GATE.replace("POLICY", &self.policy.display().to_string())))
    }

    fn named(&self) -> Result<Named> {
        named(&self.text()?).map_err(|problems| anyhow!("{}", files::shown(self.policy, &problems)))
    }

    /// The model that the policy calls `id`, proven against its manifest.
    fn model(&self, id: &str, oversize: Option<&str>) -> Result<Found> {
        let models = self.named()?.models;
        let Some((_, path)) = models.iter().find(|(known, _)| known == id) else {
            let known: Vec<&str> = models.iter().map(|(known, _)| known.as_str()).collect();
            bail!("{} has no model `{id}`; it has {}", self.policy.display(), known.join(", "));
        };
        let path = files::beside(path, self.policy, self.models).map_err(|why| anyhow!(why))?;
        let brought = Brought::load(&path)?;
        let manifest = brought.hash();
        let facts = facts(brought.model.manifest(), &manifest, oversize).with_context(|| path.display().to_string())?;
        Ok(Found { facts, manifest })
    }

    fn record(&self) -> Result<Record> {
        files::record(self.policy)?
            .ok_or_else(|| anyhow!("there is no {} yet; `gloaming model promote` begins it", self.path().display()))
    }

    fn keep(&self, record: &Record) -> Result<()> {
        let path = self.path();
        files::replace(&path, record.bytes()).with_context(|| path.display().to_string())
    }
}

const NO_GATE: &str = "POLICY has no [gate]: it has to say what its models must show. To start from:

[gate]
max_age_days = 180
model_bytes = 1000000
runtimes = [\"native\", \"wasmtime\"]
roles = { data = [\"KEY\"], compliance = [\"KEY\"] }      # public keys, as `gloaming policy key` prints them

[gate.experiment]
evidence = [\"held-out\", \"calibration\", \"fairness\", \"parity\"]
approved_by = [\"data\"]
auc = 0.6
calibration_error = 0.1
group_gap = 0.1

[gate.live]
evidence = [\"held-out\", \"calibration\", \"fairness\", \"parity\", \"experiment\", \"ethics\"]
approved_by = [\"data\", \"compliance\"]
auc = 0.6
calibration_error = 0.1
group_gap = 0.1
lift = 0.0";

fn show(findings: &[Finding]) {
    for finding in findings {
        println!("  {:<4} {:<24} {}", if finding.met { "yes" } else { "no" }, finding.need, finding.found);
        if !finding.met {
            println!("       {:<24} -> {}", "", finding.remedy);
        }
    }
}

fn name(standing: &Standing) -> String {
    format!("{} version {}", standing.facts.id, standing.facts.version)
}

/// Moves a model towards pages, when it has earned it; says what is missing when it has not. Rules and model are put
/// into the record either way, so that evidence can be added.
///
/// # Errors
/// What is missing.
pub fn promote(
    beside: &Beside<'_>,
    id: &str,
    to: Stage,
    key: &Key,
    because: &str,
    oversize: Option<&str>,
) -> Result<()> {
    let (rules, found, today) = (beside.rules()?, beside.model(id, oversize)?, files::today());
    let site = beside.named()?.site;
    let mut record = match files::record(beside.policy)? {
        Some(record) if record.site() != site => bail!("{} is of {}", beside.path().display(), record.site()),
        Some(record) => record,
        None => Record::begin(&site, key, today)?,
    };
    if record.rules() != Some(&rules) {
        record.append(Action::Rules { rules }, key, today)?;
        println!("the rules of [gate] are in force from here on");
    }
    if record.standing(&found.manifest).is_none() {
        record.append(Action::Model { facts: found.facts.clone() }, key, today)?;
        println!("{id} version {} is known, as a draft", found.facts.version);
    }
    beside.keep(&record)?;
    let standing = record.standing(&found.manifest).context("a model that was just added")?;
    let from = standing.stage;
    println!("{}: {} -> {}", name(standing), from.name(), to.name());
    let findings = record.findings(&found.facts.manifest, to, today)?;
    show(&findings);
    let missing = findings.iter().filter(|finding| !finding.met).count();
    if missing > 0 {
        bail!("{id} stays {}: {missing} of {} conditions are not met", from.name(), findings.len());
    }
    record.move_to(&found.manifest, to, because, key, today)?;
    beside.keep(&record)?;
    println!("{id} is {} in {}; head {}", to.name(), beside.path().display(), record.head());
    println!(
        "next: state = \"{}\" for `{id}` in {}, a higher version, and `gloaming policy sign`",
        to.name(),
        beside.policy.display()
    );
    Ok(())
}

/// Moves a model away from pages.
///
/// # Errors
/// When there is no such way, or that would be towards them.
pub fn withdraw(
    beside: &Beside<'_>,
    id: &str,
    version: Option<u32>,
    to: Stage,
    key: &Key,
    because: &str,
) -> Result<()> {
    let mut record = beside.record()?;
    let running = |s: &&Standing| {
        s.facts.id == id && s.stage != Stage::Retired && version.is_none_or(|version| version == s.facts.version)
    };
    let all: Vec<&Standing> = record.models().iter().filter(running).collect();
    // What acts is what an emergency is about.
    let acting: Vec<&Standing> = all.iter().copied().filter(|standing| standing.stage.acts()).collect();
    let standing = match (acting.as_slice(), all.as_slice()) {
        ([one], _) | ([], [one]) => *one,
        ([], []) => bail!("{} knows no model `{id}` in use", beside.path().display()),
        (many, _) => {
            let many = if many.is_empty() { &all } else { &acting };
            let known: Vec<String> =
                many.iter().map(|s| format!("{} is {}", s.facts.version, s.stage.name())).collect();
            bail!("which version of {id}? {}; say it with --version", known.join(", "))
        }
    };
    let (from, what) = (standing.stage, name(standing));
    if from.must_earn(to) {
        bail!("{what} is {}: to become {} it has to be promoted", from.name(), to.name());
    }
    let manifest = hash::unhex(&standing.facts.manifest).context("a hash in the record")?;
    record.move_to(&manifest, to, because, key, files::today())?;
    beside.keep(&record)?;
    println!("{what}: {} -> {}; head {}", from.name(), to.name(), record.head());
    let state =
        if to == Stage::Retired { "take it out of".to_owned() } else { format!("state = \"{}\" in", to.name()) };
    println!("next: {state} {}, a higher version, and `gloaming policy sign`", beside.policy.display());
    Ok(())
}

/// Hands the record over to the site's next key.
///
/// # Errors
/// When it was the site's key before, or is a role's.
pub fn rotate(beside: &Beside<'_>, key: &Key, next: &Key) -> Result<()> {
    let mut record = beside.record()?;
    record.append(Action::Key { next: next.public().to_text() }, key, files::today())?;
    beside.keep(&record)?;
    println!("entries of {} are signed with {} from here on", beside.path().display(), next.public().to_text());
    println!("next: sign the policy with both keys, and pin the new one when every edge has that version");
    Ok(())
}

/// Adds statements to the record: signed ones as they are, others signed with a role's key.
///
/// # Errors
/// The first that cannot be added; none is added then.
pub fn evidence(beside: &Beside<'_>, statements: &[PathBuf], key: &Key, signer: Option<&Key>) -> Result<()> {
    let mut record = beside.record()?;
    for path in statements {
        let bytes = files::read(path)?;
        let at = || path.display().to_string();
        let envelope = match (Envelope::read(&bytes), signer) {
            (Ok(envelope), _) => envelope,
            (Err(_), Some(signer)) => Statement::read(&bytes).with_context(at)?.sign(signer),
            (Err(_), None) => {
                Statement::read(&bytes).with_context(at)?;
                bail!("{} is signed by nobody; give the key of a role with --signer", path.display());
            }
        };
        if record.holds(&envelope) {
            println!("{} is in the record already", path.display());
            continue;
        }
        record.add(envelope, key, files::today()).with_context(at)?;
        println!("added {}", path.display());
    }
    beside.keep(&record)?;
    println!("{} has {} entries; head {}", beside.path().display(), record.len(), record.head());
    Ok(())
}

/// Writes a role's signed yes to a move, as the record stands.
///
/// # Errors
/// When the model is not known, or the key is not the role's.
pub fn approve(beside: &Beside<'_>, id: &str, to: Stage, role: &str, signer: &Key, out: &Path) -> Result<()> {
    let (record, found) = (beside.record()?, beside.model(id, None)?);
    let rules = record.rules().context("the record has no rules yet; `gloaming model promote` puts them in force")?;
    let key_id = hash::hex(&signer.public().id());
    match rules.role_of(&key_id) {
        Some(its) if its == role => {}
        Some(its) => bail!("that key is of the role `{its}`, not of `{role}`"),
        None => bail!("that key is of no role; its public half is {}", signer.public().to_text()),
    }
    let findings = record.findings(&found.facts.manifest, to, files::today())?;
    println!("{id} version {}, to become {}:", found.facts.version, to.name());
    show(&findings);
    let said =
        Said::Approval(Approval { day: date_of(files::today()), role: role.to_owned(), to, seen: record.head() });
    let envelope = Statement::of(id, &found.manifest, said).sign(signer);
    files::replace(out, envelope.to_json().as_bytes()).with_context(|| out.display().to_string())?;
    println!("{role} approves what is listed above: {}", out.display());
    println!("next: the owner adds it with `gloaming model evidence {}`", out.display());
    Ok(())
}

/// Checks a record, or a signed policy with the record in it, and tells what happened.
///
/// # Errors
/// The first thing that does not hold.
pub fn verify(path: &Path, key: Option<&str>, head: Option<&str>) -> Result<()> {
    let bytes = files::read(path)?;
    let pinned = key.map(PublicKey::from_text).transpose()?;
    // A record is lines of JSON; a signed policy is CBOR, and that never begins with a brace.
    let record = if bytes.first() == Some(&b'{') {
        Record::read(&bytes).with_context(|| path.display().to_string())?
    } else {
        let pinned =
            pinned.as_ref().context("a signed policy is checked against its site's key; give it with --key")?;
        let (signed, policy) =
            Signed::verify(&bytes, pinned, files::today()).with_context(|| path.display().to_string())?;
        println!("{} version {}: signed, and every model may do what it does", policy.site, policy.version);
        for model in &policy.models {
            println!("  {} is {:?}, manifest {}", model.id, model.state, hash::hex(&model.manifest_sha256));
        }
        let Some(record) = signed.record()? else {
            println!("no record: no model acts");
            return Ok(());
        };
        record
    };
    if let Some(pinned) = pinned.as_ref().filter(|pinned| !record.knows(pinned)) {
        bail!("the record was never kept under the key {}", pinned.to_text());
    }
    for entry in record.entries() {
        println!("{:>4} {} {}", entry.seq, entry.day, told(&entry.action));
    }
    if let Some(head) = head {
        let entries = record.len();
        if !(0..entries).any(|at| record.hash_of(at).as_deref() == Some(head)) {
            bail!("no entry has the hash {head}: the record was changed, or cut off before it");
        }
        println!("the entry {head} is still in it");
    }
    for standing in record.models() {
        println!("{} is {}", name(standing), standing.stage.name());
    }
    println!("{} entries of {} hold; head {}", record.len(), record.site(), record.head());
    if pinned.is_none() {
        println!("give the site's key with --key to be sure that it is theirs");
    }
    Ok(())
}

/// An entry, in a line.
#[must_use]
pub fn told(action: &Action) -> String {
    match action {
        Action::Begin { site, key } => format!("{site} begins, under the key {key}"),
        Action::Key { next } => format!("the next key is {next}"),
        Action::Rules { rules } => {
            let roles: Vec<&str> = rules.roles.keys().map(String::as_str).collect();
            format!("rules, with the roles {}", roles.join(", "))
        }
        Action::Model { facts } => format!("{} version {} is known, of {}", facts.id, facts.version, facts.owner),
        Action::Statement { envelope } => match Statement::unchecked(envelope) {
            Ok(statement) => match &statement.said {
                Said::Approval(yes) => format!("{}: {} approves {}", statement.model(), yes.role, yes.to.name()),
                said => {
                    let kind = said.kind().map_or("", |kind| kind.name());
                    format!("{}: evidence, {kind}", statement.model())
                }
            },
            Err(_) => "a statement".to_owned(),
        },
        Action::Move { manifest, from, to, because } => {
            format!("{}: {} -> {}, because {because}", &manifest[..8.min(manifest.len())], from.name(), to.name())
        }
    }
}
