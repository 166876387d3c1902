//! What each kind of entry does, and when it is refused.

use super::record::{Action, Facts, Held, Record, Standing};
use super::{Envelope, GateError, Rules, Said, Stage, Statement};
use crate::author::{PublicKey, day_of, is_name};
use gloaming_behavior::Definition;
use gloaming_signal::{hash, limits};

impl Record {
    /// Does what an entry says, or refuses it and changes nothing.
    pub(super) fn act(&mut self, action: Action, at: usize, day: u64) -> Result<(), GateError> {
        match action {
            Action::Begin { site, .. } => {
                if at > 0 || site.is_empty() || site.len() > limits::SITE_BYTES {
                    return Err(GateError::Form("a record begins once, with a site's name".into()));
                }
                self.site = site;
                Ok(())
            }
            Action::Key { next } => {
                let key = PublicKey::from_text(&next).map_err(|error| GateError::Form(error.to_string()))?;
                if self.knows(&key) {
                    return Err(GateError::refused("that was the site's key before", "make a new one"));
                }
                if self.rules().is_some_and(|rules| rules.keys().any(|role| role == key)) {
                    return Err(GateError::refused("that is a role's key", "who decides must not be who approves"));
                }
                self.keys.push(key);
                Ok(())
            }
            Action::Rules { rules } => self.take_rules(rules, at),
            Action::Model { facts } => self.take_model(facts, day),
            Action::Statement { envelope } => self.take_statement(&envelope, at, day),
            Action::Move { manifest, from, to, because } => self.take_move(&manifest, (from, to), &because, at, day),
        }
    }

    fn take_rules(&mut self, rules: Rules, at: usize) -> Result<(), GateError> {
        if let Some((cause, remedy)) = rules.problems().into_iter().next() {
            return Err(GateError::Refused { cause, remedy });
        }
        if rules.keys().any(|key| self.knows(&key)) {
            return Err(GateError::refused(
                "a role has the key that signs the site's policies",
                "give every role a key of its own: who decides must not be who approves",
            ));
        }
        self.rules = Some((at, rules));
        Ok(())
    }

    fn take_model(&mut self, facts: Facts, day: u64) -> Result<(), GateError> {
        let refuse = |cause: String, remedy: &str| Err(GateError::refused(cause, remedy));
        let Some(rules) = self.rules() else {
            return refuse("there are no rules yet".into(), "put [gate] into the policy");
        };
        let hashes = [&facts.manifest, &facts.onnx];
        if !is_name(&facts.id) || hashes.iter().any(|h| hash::unhex::<32>(h).is_none()) || facts.owner.trim().is_empty()
        {
            return refuse(
                format!("the model `{}` lacks a name, hashes or an owner", facts.id),
                "complete its manifest",
            );
        }
        if day_of(&facts.next_review).is_none_or(|review| review <= day) {
            return refuse(
                format!("the review of {} was due on `{}`", facts.id, facts.next_review),
                "review it, and bring a version of its manifest with a later next_review",
            );
        }
        let excused = facts.oversize.as_ref().is_some_and(|why| why.trim().len() >= 10);
        if facts.bytes > rules.model_bytes && !excused {
            return refuse(
                format!("{} has {} bytes, the rules allow {}", facts.id, facts.bytes, rules.model_bytes),
                "make it smaller; or say why visitors should load it, with --oversize REASON",
            );
        }
        let newest = self.models.iter().filter(|m| m.facts.id == facts.id).map(|m| m.facts.version).max();
        if newest.is_some_and(|newest| newest >= facts.version) {
            return refuse(
                format!("version {} of {} is known already", newest.unwrap_or(0), facts.id),
                "raise the manifest's version above it: two models never share one",
            );
        }
        self.models.push(Standing {
            facts,
            stage: Stage::Draft,
            held: Vec::new(),
            since: (0, 0),
            moved_at: 0,
            judged_by: usize::MAX,
        });
        Ok(())
    }

    fn take_statement(&mut self, envelope: &Envelope, at: usize, day: u64) -> Result<(), GateError> {
        let rules =
            self.rules().ok_or_else(|| GateError::refused("there are no rules yet", "put [gate] into the policy"))?;
        let ids: Vec<&str> = envelope.key_ids().collect();
        let Some(key) = rules.keys().find(|key| ids.contains(&hash::hex(&key.id()).as_str())) else {
            return Err(GateError::refused(
                format!("signed by {}, which is no role's key", ids.join(", ")),
                "sign it with the key of a role in [gate]",
            ));
        };
        let statement = Statement::open(envelope, &key)?;
        if day_of(statement.said.day()).is_none_or(|made| made > day) {
            return Err(GateError::refused(
                format!("the statement is dated {}, which has not come", statement.said.day()),
                "set the clock",
            ));
        }
        let key_id = hash::hex(&key.id());
        if let Said::Approval(yes) = &statement.said
            && rules.role_of(&key_id) != Some(&yes.role)
        {
            return Err(GateError::refused(
                format!(
                    "an approval by `{}` with the key of `{}`",
                    yes.role,
                    rules.role_of(&key_id).unwrap_or_default()
                ),
                "everybody approves with the key of their own role",
            ));
        }
        let manifest = statement.manifest().to_owned();
        let standing = self.known(&manifest)?;
        let known = &standing.facts.id;
        let digest = hash::sha256(&envelope.unverified()?);
        if self.said.contains(&digest) {
            return Err(GateError::refused(
                "that statement is in the record already",
                "make a new one: what was said once does not become newer",
            ));
        }
        let (made, kind) = (day_of(statement.said.day()), statement.said.kind());
        let newest = standing.held.iter().filter(|held| held.statement.said.kind() == kind);
        let newest = newest.filter_map(|held| day_of(held.statement.said.day())).max();
        if kind.is_some() && made < newest.max(Some(standing.since.1)) {
            return Err(GateError::refused(
                format!(
                    "the statement is of {}, older than what is there or than the model's quarantine",
                    statement.said.day()
                ),
                "evaluate again: an older figure does not take the place of a newer one",
            ));
        }
        if known != statement.model() {
            return Err(GateError::refused(
                format!("the statement is of `{}`, and that manifest is of `{known}`", statement.model()),
                "make it anew",
            ));
        }
        if let Some(standing) = self.models.iter_mut().find(|standing| standing.facts.manifest == manifest) {
            standing.held.push(Held { at, key_id, statement });
            self.said.insert(digest);
        }
        Ok(())
    }

    fn take_move(
        &mut self,
        manifest: &str,
        (from, to): (Stage, Stage),
        because: &str,
        at: usize,
        day: u64,
    ) -> Result<(), GateError> {
        let standing = self.known(manifest)?;
        if standing.stage != from {
            return Err(GateError::Form(format!(
                "it moves a model from {}, which is {}",
                from.name(),
                standing.stage.name()
            )));
        }
        if because.trim().is_empty() {
            return Err(GateError::refused("no reason was given", "say why with --because"));
        }
        let findings = self.findings(manifest, to, day)?;
        if findings.iter().any(|finding| !finding.met) {
            return Err(GateError::Missing { model: standing.facts.id.clone(), to, missing: findings });
        }
        let (rules_at, earned) = (self.rules_at(), from.must_earn(to));
        if let Some(standing) = self.models.iter_mut().find(|standing| standing.facts.manifest == manifest) {
            (standing.stage, standing.moved_at) = (to, at);
            if to == Stage::Quarantined {
                standing.since = (at, day);
            }
            if earned {
                standing.judged_by = rules_at;
            }
        }
        Ok(())
    }
}

/// Whether devices of this release compute what a model takes: asked when it is brought, and not of history, which later
/// releases read too. What the page gives is the policy's to declare, and looked for when that is compiled.
pub(super) fn computed_here(facts: &Facts) -> Result<(), GateError> {
    let known = |feature: &&String| match feature.strip_prefix("page:") {
        Some(given) => is_name(given),
        None => Definition::find(feature).is_some(),
    };
    match facts.features.iter().find(|feature| !known(feature)) {
        None => Ok(()),
        Some(unknown) => Err(GateError::refused(
            format!("{} takes `{unknown}`, which devices do not compute in that version", facts.id),
            "train it on features that `gloaming policy features` lists",
        )),
    }
}
