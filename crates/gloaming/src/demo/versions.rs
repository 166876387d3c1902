//! Further versions of the shop's model: brought into shadow, and moved on by what was shown of them.

use std::path::Path;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use gloaming_model::Model;
use gloaming_policy::Policy;
use gloaming_policy::author::date_of;
use gloaming_policy::gate::{Action, Kind, Said, Stage, Statement};
use gloaming_signal::hash;

use super::gate::{FOLDER, Force, Gate, MODEL};
use crate::commands::gate::facts;
use crate::files::Brought;
use crate::runtimes;

impl Gate {
    /// The next version of the model, proven here and put into shadow by a policy that names it.
    ///
    /// # Errors
    /// When it does not load, or the gate or the edge refuses it.
    pub(super) async fn bring(&self, manifest: Vec<u8>, onnx: Vec<u8>, force: &Force) -> Result<Policy> {
        let (today, model, sha256) = (self.today(), Model::load(&manifest, &onnx)?, hash::sha256(&manifest));
        let brought = Brought { model, manifest, onnx };
        // Compiling for wasmtime takes seconds, in which others are to be served.
        let (brought, parity) = tokio::task::spawn_blocking(move || {
            let parity = runtimes::parity(&brought, None, date_of(today));
            (brought, parity)
        })
        .await?;
        let Brought { model, manifest, onnx } = brought;
        let (described, mut inner) = (model.manifest(), self.inner.lock().await);
        inner.record.append(Action::Model { facts: facts(described, &sha256, None)? }, &self.owner, today)?;
        let parity = Said::Parity(parity?);
        inner.record.add(Statement::of(MODEL, &sha256, parity).sign(&self.roles["data"]), &self.owner, today)?;
        inner.record.move_to(&sha256, Stage::Shadow, "to see whether it is right", &self.owner, today)?;
        let folder = self.models().join(format!("{MODEL}-{}", described.version));
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("manifest.json"), &manifest)?;
        std::fs::write(folder.join("model.onnx"), &onnx)?;
        let assets = self.assets.with(&format!("{FOLDER}/manifest.json"), Bytes::from(manifest));
        inner.assets = assets.with(&format!("{FOLDER}/model.onnx"), Bytes::from(onnx));
        inner.current = sha256;
        self.next_version(&mut inner, today)?;
        force(self.sign(&inner)).await?;
        Ok(inner.policy.clone())
    }

    /// Moves the newest version on, by these statements and with everybody's yes. `more` is what the policy's text says beside
    /// what it began with: an experiment, while there is one.
    ///
    /// # Errors
    /// When the gate is not content, or the edge does not take the policy.
    pub(super) async fn earn(&self, said: Vec<Said>, to: Stage, more: &str, force: &Force) -> Result<Policy> {
        let (today, mut inner) = (self.today(), self.inner.lock().await);
        let current = inner.current;
        for said in said {
            // Whether it should be done at all is not for those to say who made it.
            let role = if said.kind() == Some(Kind::Ethics) { "compliance" } else { "data" };
            let envelope = Statement::of(MODEL, &current, said).sign(&self.roles[role]);
            if !inner.record.holds(&envelope) {
                inner.record.add(envelope, &self.owner, today)?;
            }
        }
        self.approve(&mut inner, &current, to, today)?;
        inner.record.move_to(&current, to, "it has shown what was asked", &self.owner, today)?;
        more.clone_into(&mut inner.more);
        self.next_version(&mut inner, today)?;
        force(self.sign(&inner)).await?;
        Ok(inner.policy.clone())
    }

    /// Writes down what an owner has: the policy's text, the record beside it, and the models, for commands that take files.
    ///
    /// # Errors
    /// When they cannot be written.
    pub(super) async fn save(&self, folder: &Path) -> Result<()> {
        let inner = self.inner.lock().await;
        let stage = inner.record.standing(&inner.current).map_or(Stage::Shadow, |standing| standing.stage);
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join("policy.toml"), self.text_of(&inner, stage))?;
        std::fs::write(folder.join("gate.ndjson"), inner.record.bytes())?;
        for name in inner.assets.names().filter(|name| name.starts_with("models/")) {
            let path = folder.join(name);
            path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            std::fs::write(path, inner.assets.bytes(name).context("an asset by its own name")?)?;
        }
        Ok(())
    }
}
