//! The record: what was shown, agreed and decided, as a file that only grows.
//!
//! One entry a line, each a DSSE envelope by the site's key over
//! ```json
//! { "seq": 4, "prev": "SHA-256 of line 3", "day": "2026-11-27", "action": { "kind": "move", … } }
//! ```
//! Invariants, checked on every reading and before every writing: `seq` counts from 0; `prev` is the hash of the
//! line before (zeros for the first); days do not go back; the first entry names site and key, later entries are
//! signed by the key in force; every action is allowed by what stands before it. Whoever keeps a copy of the last
//! line's hash notices any change of the past, and entries cut off the end.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::act::computed_here;
use super::judge::judge;
use super::{Envelope, Finding, GateError, Rules, Stage, Statement};
use crate::ModelState;
use crate::author::{Key, PublicKey, date_of, day_of};
use gloaming_signal::hash;

/// Longest record, bytes: some forty models brought from draft to live.
pub const RECORD_BYTES: usize = 512 * 1024;

/// What of it is kept for stopping models.
const RESERVE: usize = 16 * 1024;

const RECORD_TYPE: &str = "application/vnd.gloaming.record+json";

/// One entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Which, from 0.
    pub seq: usize,
    /// SHA-256 of the line before, hexadecimal.
    pub prev: String,
    /// The day it was written, `YYYY-MM-DD`.
    pub day: String,
    /// What was done.
    pub action: Action,
}

/// What an entry does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Action {
    /// Begins a site's record.
    Begin {
        /// The site.
        site: String,
        /// Its public key.
        key: String,
    },
    /// Hands over to the site's next key.
    Key {
        /// The next public key.
        next: String,
    },
    /// Puts the policy's `[gate]` in force.
    Rules {
        /// As the policy says.
        rules: Rules,
    },
    /// Makes a model known, as a draft.
    Model {
        /// What it is.
        facts: Facts,
    },
    /// Adds evidence or an approval.
    Statement {
        /// As it was signed.
        envelope: Envelope,
    },
    /// Moves a model.
    Move {
        /// Its manifest, hexadecimal.
        manifest: String,
        /// From there.
        from: Stage,
        /// To here.
        to: Stage,
        /// Why, in words.
        because: String,
    },
}

/// Records of before say nothing of kinds.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_zero(kinds: &u32) -> bool {
    *kinds == 0
}

/// What the gate knows of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// Its name.
    pub id: String,
    /// Its version.
    pub version: u32,
    /// SHA-256 of the manifest, hexadecimal.
    pub manifest: String,
    /// SHA-256 of the model file, hexadecimal.
    pub onnx: String,
    /// Length of the model file.
    pub bytes: u64,
    /// Features it takes, `name@version`.
    pub features: Vec<String>,
    /// How many kinds or actions it names; 0 for a model that tells a chance.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub kinds: u32,
    /// Who answers for it.
    pub owner: String,
    /// Day by which it is to be looked at again.
    pub next_review: String,
    /// Why the file may be larger than the policy's rules say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oversize: Option<String>,
}

/// A statement in the record.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// The entry that holds it.
    pub at: usize,
    /// Id of the key that signed it, hexadecimal.
    pub key_id: String,
    /// What it says.
    pub statement: Statement,
}

/// One model, as the record has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// What it is.
    pub facts: Facts,
    /// How far it has come.
    pub stage: Stage,
    /// All that was said of it, oldest first.
    pub held: Vec<Held>,
    /// Entries up to this one do not count: it was quarantined there, on this day.
    pub(super) since: (usize, u64),
    /// The entry of its last move: what was approved before it is used up.
    pub(super) moved_at: usize,
    /// The entry of the rules by which it was last judged.
    pub(super) judged_by: usize,
}

impl Standing {
    /// Statements that count: those made since it was last quarantined, oldest first.
    pub fn counting(&self) -> impl DoubleEndedIterator<Item = &Held> {
        self.held.iter().filter(|held| held.at > self.since.0)
    }
}

/// A site's record, replayed.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    text: String,
    hashes: Vec<[u8; 32]>,
    day: u64,
    pub(super) site: String,
    pub(super) keys: Vec<PublicKey>,
    pub(super) rules: Option<(usize, Rules)>,
    pub(super) models: Vec<Standing>,
    /// Hashes of all statements, so that none is said twice.
    pub(super) said: BTreeSet<[u8; 32]>,
}

impl Record {
    /// Begins a site's record. `today` in days since 1970.
    ///
    /// # Errors
    /// When the site's name is none.
    pub fn begin(site: &str, key: &Key, today: u64) -> Result<Self, GateError> {
        let mut record = Self::empty();
        record.append(Action::Begin { site: site.to_owned(), key: key.public().to_text() }, key, today)?;
        Ok(record)
    }

    fn empty() -> Self {
        Self {
            text: String::new(),
            hashes: Vec::new(),
            day: 0,
            site: String::new(),
            keys: Vec::new(),
            rules: None,
            models: Vec::new(),
            said: BTreeSet::new(),
        }
    }

    /// Replays a record: every signature, hash and decision is checked.
    ///
    /// # Errors
    /// The first entry that does not hold, and why.
    pub fn read(bytes: &[u8]) -> Result<Self, GateError> {
        if bytes.len() > RECORD_BYTES {
            return Err(GateError::Full);
        }
        let text = core::str::from_utf8(bytes).map_err(|_| GateError::Form("not UTF-8".into()))?;
        let mut record = Self::empty();
        for (at, line) in text.split_inclusive('\n').enumerate() {
            let in_entry = |why: GateError| GateError::Entry { at, why: Box::new(why) };
            let line =
                line.strip_suffix('\n').ok_or(GateError::Form("cut off in the middle".into())).map_err(in_entry)?;
            record.apply(line).map_err(in_entry)?;
        }
        if record.hashes.is_empty() {
            return Err(GateError::Form("empty".into()));
        }
        Ok(record)
    }

    /// The file.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// SHA-256 of the last line, hexadecimal: whoever keeps it can tell later whether the past was changed.
    #[must_use]
    pub fn head(&self) -> String {
        hash::hex(self.hashes.last().unwrap_or(&[0; 32]))
    }

    /// The day of the last entry, in days since 1970.
    #[must_use]
    pub fn day(&self) -> u64 {
        self.day
    }

    /// Whether a statement is in it already.
    #[must_use]
    pub fn holds(&self, envelope: &Envelope) -> bool {
        envelope.unverified().is_ok_and(|payload| self.said.contains(&hash::sha256(&payload)))
    }

    /// SHA-256 of an entry's line, hexadecimal.
    #[must_use]
    pub fn hash_of(&self, at: usize) -> Option<String> {
        self.hashes.get(at).map(|hash| hash::hex(hash))
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Whether there is no entry; never so for a record that was begun or read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// The site it is of.
    #[must_use]
    pub fn site(&self) -> &str {
        &self.site
    }

    /// Whether this is, or was, the site's key in it.
    #[must_use]
    pub fn knows(&self, key: &PublicKey) -> bool {
        self.keys.contains(key)
    }

    /// The rules in force.
    #[must_use]
    pub fn rules(&self) -> Option<&Rules> {
        self.rules.as_ref().map(|(_, rules)| rules)
    }

    /// The entry that put them in force.
    pub(super) fn rules_at(&self) -> usize {
        self.rules.as_ref().map_or(usize::MAX, |(at, _)| *at)
    }

    /// The entry with this hash.
    pub(super) fn position(&self, hexadecimal: &str) -> Option<usize> {
        let wanted = hash::unhex::<32>(hexadecimal)?;
        self.hashes.iter().position(|hash| *hash == wanted)
    }

    /// All models, in the order in which they became known.
    #[must_use]
    pub fn models(&self) -> &[Standing] {
        &self.models
    }

    /// The model with this manifest.
    #[must_use]
    pub fn standing(&self, manifest: &[u8; 32]) -> Option<&Standing> {
        let wanted = hash::hex(manifest);
        self.models.iter().find(|standing| standing.facts.manifest == wanted)
    }

    /// The entries, oldest first. They were checked when the record was read.
    pub fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        self.text.lines().filter_map(|line| {
            let payload = Envelope::read(line.as_bytes()).ok()?.unverified().ok()?;
            serde_json::from_slice(&payload).ok()
        })
    }

    /// Adds an entry, or leaves the record as it was.
    ///
    /// # Errors
    /// What replaying would refuse: this is the same check.
    pub fn append(&mut self, action: Action, key: &Key, today: u64) -> Result<(), GateError> {
        let entry = Entry { seq: self.len(), prev: self.head(), day: date_of(today), action };
        let Ok(payload) = serde_json::to_vec(&entry) else { unreachable!("texts and numbers always serialise") };
        let line = Envelope::sign(RECORD_TYPE, &payload, key).to_json();
        // There is always room to stop a model.
        let down = matches!(&entry.action, Action::Move { to, .. } if !to.acts());
        if self.text.len() + line.len() + 1 > if down { RECORD_BYTES } else { RECORD_BYTES - RESERVE } {
            return Err(GateError::Full);
        }
        if let Action::Model { facts } = &entry.action {
            computed_here(facts)?;
        }
        let mut next = self.clone();
        next.apply(&line)?;
        *self = next;
        Ok(())
    }

    /// Adds what a role signed.
    ///
    /// # Errors
    /// When no role's key signed it, it speaks of no known model, or it says what cannot be.
    pub fn add(&mut self, envelope: Envelope, key: &Key, today: u64) -> Result<(), GateError> {
        self.append(Action::Statement { envelope }, key, today)
    }

    /// Moves a model.
    ///
    /// # Errors
    /// [`GateError::Missing`] with every finding when it has not earned it; others when there is no such way.
    pub fn move_to(
        &mut self,
        manifest: &[u8; 32],
        to: Stage,
        because: &str,
        key: &Key,
        today: u64,
    ) -> Result<(), GateError> {
        let from = self.known(&hash::hex(manifest))?.stage;
        let action = Action::Move { manifest: hash::hex(manifest), from, to, because: because.to_owned() };
        self.append(action, key, today)
    }

    pub(super) fn known(&self, manifest: &str) -> Result<&Standing, GateError> {
        let found = self.models.iter().find(|standing| standing.facts.manifest == manifest);
        found.ok_or_else(|| {
            GateError::refused(
                format!("the record knows no model with the manifest {manifest}"),
                "`gloaming model promote` makes it known; was the manifest changed since?",
            )
        })
    }

    /// What a move asks for, and what of it is there. Empty for moves that are free.
    ///
    /// # Errors
    /// When there is no such model or no such way, whatever is shown.
    pub fn findings(&self, manifest: &str, to: Stage, today: u64) -> Result<Vec<Finding>, GateError> {
        let standing = self.known(manifest)?;
        let (id, from) = (&standing.facts.id, standing.stage);
        if !from.leads_to(to) {
            let ways: Vec<&str> = Stage::ALL.into_iter().filter(|to| from.leads_to(*to)).map(Stage::name).collect();
            let ways = if ways.is_empty() { "nowhere".to_owned() } else { ways.join(", ") };
            return Err(GateError::refused(
                format!("{id} is {} and cannot become {}", from.name(), to.name()),
                format!("from there it goes to {ways}"),
            ));
        }
        if !from.must_earn(to) {
            return Ok(Vec::new());
        }
        if to.acts() {
            self.not_overtaken(standing)?;
        }
        let rules = self.rules().ok_or_else(|| {
            GateError::refused("the record has no rules", "put [gate] into the policy and promote again")
        })?;
        Ok(judge(self, rules, standing, to, today))
    }

    /// No manifest acts that is older than the one in force.
    fn not_overtaken(&self, standing: &Standing) -> Result<(), GateError> {
        let (id, version) = (&standing.facts.id, standing.facts.version);
        let newer = self
            .models
            .iter()
            .find(|other| other.facts.id == *id && other.facts.version > version && other.stage == Stage::Live);
        newer.map_or(Ok(()), |newer| {
            Err(GateError::refused(
                format!("version {version} of {id} is older than version {}, which is live", newer.facts.version),
                "use the newer one, or quarantine it first",
            ))
        })
    }

    /// Whether a policy may have this model in this state. `expires_day` is the policy's.
    ///
    /// # Errors
    /// Why not.
    pub fn permits(&self, manifest: &[u8; 32], state: ModelState, expires_day: u64) -> Result<(), GateError> {
        let wanted = match state {
            ModelState::Off => return Ok(()),
            ModelState::Shadow => Stage::Shadow,
            ModelState::Experiment => Stage::Experiment,
            ModelState::Live => Stage::Live,
        };
        let manifest = hash::hex(manifest);
        let standing = match self.known(&manifest) {
            Err(_) if !wanted.acts() => return Ok(()),
            known => known?,
        };
        let Facts { id, next_review, .. } = &standing.facts;
        let enough = match wanted {
            Stage::Live => standing.stage == Stage::Live,
            Stage::Experiment => standing.stage.acts(),
            _ => standing.stage.acts() || standing.stage == Stage::Shadow,
        };
        if !enough {
            return Err(GateError::refused(
                format!("{id} is {} in the record, not {}", standing.stage.name(), wanted.name()),
                format!("`gloaming model promote {id} --to {}` says what is missing", wanted.name()),
            ));
        }
        if !wanted.acts() {
            return Ok(());
        }
        self.not_overtaken(standing)?;
        if standing.judged_by != self.rules_at() {
            return Err(GateError::refused(
                format!("the rules of [gate] changed since {id} was judged"),
                format!("`gloaming model promote {id} --to {}` judges it again", standing.stage.name()),
            ));
        }
        if day_of(next_review).is_none_or(|day| day < expires_day) {
            return Err(GateError::refused(
                format!("{id} is to be reviewed on {next_review}, before the policy expires"),
                "let the policy expire on that day or earlier",
            ));
        }
        Ok(())
    }

    /// Reads one line and does what it says.
    fn apply(&mut self, line: &str) -> Result<(), GateError> {
        let envelope = Envelope::read(line.as_bytes())?;
        let payload = match self.keys.last() {
            Some(key) => envelope.open(RECORD_TYPE, key)?,
            None => {
                let key = Self::first_key(&envelope)?;
                let payload = envelope.open(RECORD_TYPE, &key)?;
                self.keys.push(key);
                payload
            }
        };
        let entry: Entry = serde_json::from_slice(&payload).map_err(|error| GateError::Form(error.to_string()))?;
        if entry.seq != self.len() || entry.prev != self.head() {
            return Err(GateError::Chain);
        }
        let day = day_of(&entry.day).ok_or_else(|| GateError::Form(format!("`{}` is no day", entry.day)))?;
        if day < self.day {
            return Err(GateError::refused(
                format!("it is dated {}, before the entry before it", entry.day),
                "set the clock",
            ));
        }
        self.act(entry.action, entry.seq, day)?;
        self.day = day;
        self.hashes.push(hash::sha256(line.as_bytes()));
        self.text.push_str(line);
        self.text.push('\n');
        Ok(())
    }

    /// The first entry brings its key with it; who reads the record compares it with the one they know.
    fn first_key(envelope: &Envelope) -> Result<PublicKey, GateError> {
        match serde_json::from_slice::<Entry>(&envelope.unverified()?) {
            Ok(Entry { action: Action::Begin { key, .. }, .. }) => {
                PublicKey::from_text(&key).map_err(|error| GateError::Form(error.to_string()))
            }
            Ok(_) => Err(GateError::Form("it does not begin with a site and its key".into())),
            Err(error) => Err(GateError::Form(error.to_string())),
        }
    }
}
