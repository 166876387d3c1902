//! The demonstration's gate: the shop's model begins in shadow, and is brought to an experiment before one's eyes.
//!
//! Keys, roles and record are made when the demonstration starts and gone when it ends. The evidence is what
//! `models/purchase-intent/evidence` holds, with the day it is signed here and the manifest's hash put in: the
//! demonstration's manifest is to be reviewed half a year after it starts, so that its hash differs from the shipped one.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use gloaming_edge::Clock;
use gloaming_http::Assets;
use gloaming_model::Manifest;
use gloaming_policy::Policy;
use gloaming_policy::author::{Key, PublicKey, Signed, compile_with, date_of, gate_rules};
use gloaming_policy::gate::{Action, Approval, Finding, GateError, Kind, Record, Said, Stage, Statement};
use gloaming_signal::hash;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::SITE;
use super::held_back::held_back;
use crate::commands::gate::facts;
use crate::files;

/// The model that the shop uses.
pub const MODEL: &str = "purchase-intent";
pub(super) const FOLDER: &str = "models/purchase-intent";
/// Evidence that is shipped with it.
const SHIPPED: [Kind; 4] = [Kind::Parity, Kind::HeldOut, Kind::Calibration, Kind::Fairness];
const DAY_MS: u64 = 86_400_000;

/// What the demonstration's owner can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Let the roles sign what is shipped, and say yes.
    Evidence,
    /// Move to the experiment, and put a policy in force that says so.
    Promote,
    /// Take it back to shadow, for no more than a reason.
    Withdraw,
    /// Ship a second version of the model, of whose manifest one byte was lost on the way to the edge.
    Break,
}

impl Step {
    fn named(word: &str) -> Option<Self> {
        Some(match word {
            "evidence" => Self::Evidence,
            "promote" => Self::Promote,
            "withdraw" => Self::Withdraw,
            "break" => Self::Break,
            _ => return None,
        })
    }
}

/// Puts a signed policy in force.
pub(super) type Force = Arc<dyn Fn(Vec<u8>) -> Forced + Send + Sync>;
/// Whether it is.
pub(super) type Forced = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

pub(super) struct Inner {
    pub(super) record: Record,
    pub(super) policy: Policy,
    /// The last version that a policy was given, in force or not.
    issued: u32,
    /// The newest version of the model, by its manifest, and assets that have its files.
    pub(super) current: [u8; 32],
    pub(super) assets: Assets,
    /// What the policy's text has beside what it began with.
    pub(super) more: String,
}

/// The gate of a running demonstration.
pub(super) struct Gate {
    pub(super) owner: Key,
    pub(super) roles: BTreeMap<&'static str, Key>,
    pub(super) assets: Assets,
    clock: Clock,
    text: String,
    manifest: [u8; 32],
    /// Where the edge looks for further versions.
    models: tempfile::TempDir,
    pub(super) inner: Mutex<Inner>,
    /// What the page says of the model that is held back, as JSON.
    held_back: Value,
}

/// The assets, with a manifest that is to be reviewed half a year from `today`.
///
/// # Errors
/// When the manifest is not there or names no such day.
pub(super) fn staged(assets: &Assets, today: u64) -> Result<Assets> {
    let name = format!("{FOLDER}/manifest.json");
    let text = String::from_utf8(assets.bytes(&name).context("the assets lack the model's manifest")?.to_vec())?;
    let described = Manifest::parse(text.as_bytes())?;
    let review = described.next_review.context("the shipped manifest names no next_review")?;
    let staged = text.replace(&format!("\"{review}\""), &format!("\"{}\"", date_of(today + 180)));
    Ok(assets.with(&name, Bytes::from(staged.into_bytes())))
}

impl Gate {
    /// Begins a record, with the model in shadow. `text` is the policy's, to which the rules are added.
    pub(super) fn new(text: &str, assets: Assets, owner: Key, clock: Clock) -> Result<Self> {
        let roles = ["data", "compliance"];
        let roles: BTreeMap<&str, Key> =
            roles.into_iter().map(|role| Ok((role, Key::from_seed(&files::entropy()?)))).collect::<Result<_>>()?;
        let key = |role: &str| roles.get(role).map_or_else(String::new, |key| key.public().to_text());
        let text = format!(
            r#"{text}
[gate]
max_age_days = 180
model_bytes = 100000
roles = {{ data = ["{}"], compliance = ["{}"] }}
[gate.experiment]
evidence = ["held-out", "calibration", "fairness", "parity"]
approved_by = ["data", "compliance"]
auc = 0.6
calibration_error = 0.12
group_gap = 0.1
[gate.live]
evidence = ["held-out", "calibration", "fairness", "parity", "experiment", "ethics"]
approved_by = ["data", "compliance"]
auc = 0.6
calibration_error = 0.12
group_gap = 0.1
lift = 0.0
"#,
            key("data"),
            key("compliance")
        );
        let bytes = assets.bytes(&format!("{FOLDER}/manifest.json")).context("the assets lack the model's manifest")?;
        let manifest = hash::sha256(bytes);
        let facts = facts(&Manifest::parse(bytes)?, &manifest, None)?;
        let today = clock.now_ms() / DAY_MS;
        let mut record = Record::begin(SITE, &owner, today)?;
        let rules = gate_rules(&text).map_err(|problems| shown(&problems))?.context("the rules above")?;
        record.append(Action::Rules { rules: rules.clone() }, &owner, today)?;
        record.append(Action::Model { facts }, &owner, today)?;
        let policy = compiled(&text, &assets, None, today)?;
        let inner = Inner { record, policy, issued: 1, current: manifest, assets: assets.clone(), more: String::new() };
        let inner = Mutex::new(inner);
        let models = tempfile::tempdir()?;
        let held_back = held_back(&assets, &rules, &owner, &roles["data"], today)?;
        let mut gate = Self { held_back, owner, roles, assets, clock, text, manifest, models, inner };
        gate.say(Kind::Parity)?;
        let (owner, manifest) = (gate.owner.clone(), gate.manifest);
        let inner = gate.inner.get_mut();
        inner.record.move_to(&manifest, Stage::Shadow, "to see whether it is right", &owner, today)?;
        inner.policy = compiled(&gate.text, &gate.assets, Some(&inner.record), today)?;
        Ok(gate)
    }

    fn say(&mut self, kind: Kind) -> Result<()> {
        let envelope = self.shipped(kind, &self.manifest)?.sign(&self.roles["data"]);
        let today = self.today();
        Ok(self.inner.get_mut().record.add(envelope, &self.owner, today)?)
    }

    pub(super) fn today(&self) -> u64 {
        self.clock.now_ms() / DAY_MS
    }

    /// A shipped statement, as of today and of the staged manifest.
    fn shipped(&self, kind: Kind, manifest: &[u8; 32]) -> Result<Statement> {
        let name = format!("{FOLDER}/evidence/{}.json", kind.name());
        let bytes = self.assets.bytes(&name).with_context(|| format!("the assets lack {name}"))?;
        let mut value: Value = serde_json::from_slice(bytes)?;
        value["subject"][0]["digest"]["sha256"] = hash::hex(manifest).into();
        value["predicate"]["day"] = date_of(self.today()).into();
        Ok(Statement::read(value.to_string().as_bytes())?)
    }

    /// Where further versions of the model come while the demonstration runs.
    pub(super) fn models(&self) -> PathBuf {
        self.models.path().to_owned()
    }

    /// The owner's public key.
    pub(super) fn key(&self) -> PublicKey {
        self.owner.public()
    }

    /// The policy in force, and its signed bundle.
    pub(super) async fn signed(&self) -> (Policy, Vec<u8>) {
        let inner = self.inner.lock().await;
        (inner.policy.clone(), self.sign(&inner))
    }

    pub(super) fn sign(&self, inner: &Inner) -> Vec<u8> {
        Signed::sign(&inner.policy, &[&self.owner]).with_record(&inner.record).to_bytes()
    }

    /// Takes a step, and says what the gate said.
    ///
    /// # Errors
    /// When a policy could not be put in force.
    pub(super) async fn step(&self, step: Step, force: &Force) -> Result<Value> {
        let (today, mut inner) = (self.today(), self.inner.lock().await);
        let current = inner.current;
        let refused = match step {
            Step::Promote => self.promote(&mut inner, today)?.map(|error| error.to_string()),
            // What is shipped speaks of the first version alone.
            Step::Evidence if current != self.manifest => {
                Some("the evidence that is shipped speaks of the first version".to_owned())
            }
            Step::Evidence => {
                self.give(&mut inner, &current, today)?;
                self.approve(&mut inner, &current, Stage::Experiment, today)?;
                None
            }
            Step::Break => return self.ship_broken(&mut inner, force, today).await,
            Step::Withdraw => {
                let because = "the owner changed their mind";
                let moved = inner.record.move_to(&current, Stage::Shadow, because, &self.owner, today);
                if moved.is_ok() {
                    self.next_version(&mut inner, today)?;
                }
                moved.err().map(|error| error.to_string())
            }
        };
        let moved = refused.is_none() && step != Step::Evidence;
        let mut view = self.view(&inner, today);
        view["refused"] = refused.map_or(Value::Null, Value::from);
        let bytes = self.sign(&inner);
        if moved {
            force(bytes).await?;
        }
        Ok(view)
    }

    fn promote(&self, inner: &mut Inner, today: u64) -> Result<Option<GateError>> {
        let (current, because) = (inner.current, "to find out what it changes");
        let moved = inner.record.move_to(&current, Stage::Experiment, because, &self.owner, today);
        if moved.is_ok() {
            self.next_version(inner, today)?;
        }
        Ok(moved.err())
    }

    pub(super) fn next_version(&self, inner: &mut Inner, today: u64) -> Result<()> {
        let stage = inner.record.standing(&inner.current).map_or(Stage::Shadow, |standing| standing.stage);
        inner.policy = compiled(&self.next_text(inner, stage), &inner.assets, Some(&inner.record), today)?;
        Ok(())
    }

    /// The policy's text with the next version, and the model in this stage.
    fn next_text(&self, inner: &mut Inner, stage: Stage) -> String {
        inner.issued += 1;
        self.text_of(inner, stage)
    }

    /// The policy's text with the last version, and the model in this stage.
    pub(super) fn text_of(&self, inner: &Inner, stage: Stage) -> String {
        let text = match inner.more.as_str() {
            "" => self.text.clone(),
            // One experiment at a time is paid for, and the rules come after it.
            _ => match (self.text.find("\n[[experiment]]"), self.text.find("\n[gate]")) {
                (Some(from), Some(to)) => [&self.text[..from], &self.text[to..]].concat(),
                _ => self.text.clone(),
            },
        };
        text.replacen("version = 1", &format!("version = {}", inner.issued), 1)
            // The template's own model comes first; the others stay in shadow.
            .replacen("state = \"shadow\"", &format!("state = \"{}\"", stage.name()), 1)
            + &inner.more
    }

    /// A second version goes the whole way through the gate, and is signed for; then a byte of it is lost.
    async fn ship_broken(&self, inner: &mut Inner, force: &Force, today: u64) -> Result<Value> {
        let stage = inner.record.standing(&self.manifest).map_or(Stage::Shadow, |standing| standing.stage);
        let name = format!("{FOLDER}/manifest.json");
        let first = self.assets.bytes(&name).context("the assets lack the model's manifest")?;
        let shipped = Manifest::parse(first)?.version;
        let version = shipped as usize + inner.record.models().len();
        let (was, is) = (format!("\"version\": {shipped}"), format!("\"version\": {version}"));
        let whole = String::from_utf8(first.to_vec())?.replacen(&was, &is, 1);
        let manifest = hash::sha256(whole.as_bytes());
        let facts = facts(&Manifest::parse(whole.as_bytes())?, &manifest, None)?;
        inner.record.append(Action::Model { facts }, &self.owner, today)?;
        self.give(inner, &manifest, today)?;
        inner.record.move_to(&manifest, Stage::Shadow, "it learnt from the autumn", &self.owner, today)?;
        self.approve(inner, &manifest, Stage::Experiment, today)?;
        inner.record.move_to(&manifest, Stage::Experiment, "it learnt from the autumn", &self.owner, today)?;
        let text = self.next_text(inner, stage);
        let assets = self.assets.with(&name, Bytes::from(whole.clone().into_bytes()));
        let policy = compiled(&text, &assets, Some(&inner.record), today)?;
        let signed = Signed::sign(&policy, &[&self.owner]).with_record(&inner.record).to_bytes();
        let folder = self.models.path().join(format!("{MODEL}-{version}"));
        std::fs::create_dir_all(&folder)?;
        let mut broken = whole.into_bytes();
        let middle = broken.len() / 2;
        broken[middle] ^= 1;
        std::fs::write(folder.join("manifest.json"), broken)?;
        let refused = force(signed).await.err();
        let mut view = self.view(inner, today);
        view["refused"] = refused.map_or(Value::Null, |error| format!("{error:#}").into());
        view["by"] = "edge".into();
        Ok(view)
    }

    fn give(&self, inner: &mut Inner, manifest: &[u8; 32], today: u64) -> Result<()> {
        for kind in SHIPPED {
            let envelope = self.shipped(kind, manifest)?.sign(&self.roles["data"]);
            if !inner.record.holds(&envelope) {
                inner.record.add(envelope, &self.owner, today)?;
            }
        }
        Ok(())
    }

    pub(super) fn approve(&self, inner: &mut Inner, manifest: &[u8; 32], to: Stage, today: u64) -> Result<()> {
        for (role, key) in &self.roles {
            let yes = Approval { day: date_of(today), role: (*role).to_owned(), to, seen: inner.record.head() };
            let statement = Statement::of(MODEL, manifest, Said::Approval(yes));
            inner.record.add(statement.sign(key), &self.owner, today)?;
        }
        Ok(())
    }

    fn view(&self, inner: &Inner, today: u64) -> Value {
        let stage = inner.record.standing(&inner.current).map_or(Stage::Draft, |standing| standing.stage);
        let to =
            if stage == Stage::Experiment && inner.current != self.manifest { Stage::Live } else { Stage::Experiment };
        let findings = inner.record.findings(&hash::hex(&inner.current), to, today).unwrap_or_default();
        let finding = |f: &Finding| json!({ "need": f.need, "met": f.met, "found": f.found, "remedy": f.remedy });
        let line = |entry: gloaming_policy::gate::Entry| json!({ "seq": entry.seq, "day": entry.day, "what": crate::commands::gate::told(&entry.action) });
        json!({
            "model": MODEL,
            "stage": stage.name(),
            "version": inner.policy.version,
            "findings": findings.iter().map(finding).collect::<Vec<_>>(),
            "entries": inner.record.entries().map(line).collect::<Vec<_>>(),
            "head": inner.record.head(),
            "held_back": self.held_back,
        })
    }

    /// What the page about the gate asks for.
    pub(super) fn routes(self: &Arc<Self>, force: Force) -> Router {
        Router::new()
            .route("/gate.json", get(look))
            .route("/gate/{step}", post(go))
            .with_state((Arc::clone(self), force))
    }
}

async fn look(State((gate, _)): State<(Arc<Gate>, Force)>) -> Response {
    let inner = gate.inner.lock().await;
    Json(gate.view(&inner, gate.today())).into_response()
}

async fn go(State((gate, force)): State<(Arc<Gate>, Force)>, Path(word): Path<String>, headers: HeaderMap) -> Response {
    // Another site's page cannot send this header without asking first.
    if !headers.contains_key("x-gloaming-demo") {
        return (StatusCode::FORBIDDEN, "send the header x-gloaming-demo: 1\n").into_response();
    }
    let Some(step) = Step::named(&word) else {
        return (StatusCode::NOT_FOUND, "use evidence, promote, withdraw or break\n").into_response();
    };
    match gate.step(step, &force).await {
        Ok(view) => Json(view).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}\n")).into_response(),
    }
}

fn shown(problems: &[gloaming_policy::author::Problem]) -> anyhow::Error {
    anyhow!("{}", files::shown(std::path::Path::new("the demonstration's policy"), problems))
}

fn compiled(text: &str, assets: &Assets, record: Option<&Record>, today: u64) -> Result<Policy> {
    let manifests = |name: &str| {
        let model = name.strip_suffix("manifest.json").ok_or("a manifest is called manifest.json")?;
        let bytes = |name: String| assets.bytes(&name).cloned().ok_or(format!("the assets lack {name}"));
        files::manifest_facts(&bytes(name.to_owned())?, &bytes(format!("{model}model.onnx"))?)
    };
    compile_with(text, today, &manifests, record).map_err(|problems| shown(&problems))
}
