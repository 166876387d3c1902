//! The model that would choose what the shop shows first: with all the evidence that ships with it, and held back by the gate.

use anyhow::{Context as _, Result};
use gloaming_http::Assets;
use gloaming_model::Manifest;
use gloaming_policy::author::{Key, date_of};
use gloaming_policy::gate::{Action, Kind, Record, Rules, Said, Stage, Statement};
use gloaming_signal::hash;
use serde_json::{Value, json};

use super::SITE;
use crate::commands::gate::facts;

const MODEL: &str = "next-best-action";
const SHIPPED: [Kind; 3] = [Kind::Parity, Kind::Value, Kind::Fairness];

/// What the page about the gate says of it: what it would choose from, what that would have earned, and what the gate lacks.
///
/// Its record is one of its own, by the same rules: the shop's moves only the model that the shop uses.
pub(super) fn held_back(assets: &Assets, rules: &Rules, owner: &Key, data: &Key, today: u64) -> Result<Value> {
    let bytes = |name: &str| {
        let name = format!("models/{MODEL}/{name}");
        assets.bytes(&name).with_context(|| format!("the assets lack {name}"))
    };
    let (manifest, described) = (hash::sha256(bytes("manifest.json")?), Manifest::parse(bytes("manifest.json")?)?);
    let mut record = Record::begin(SITE, owner, today)?;
    record.append(Action::Rules { rules: rules.clone() }, owner, today)?;
    record.append(Action::Model { facts: facts(&described, &manifest, None)? }, owner, today)?;
    let mut value = Value::Null;
    for kind in SHIPPED {
        let mut shipped: Value = serde_json::from_slice(bytes(&format!("evidence/{}.json", kind.name()))?)?;
        shipped["predicate"]["day"] = date_of(today).into();
        let statement = Statement::read(shipped.to_string().as_bytes())?;
        if let Said::Value(said) = &statement.said {
            value = json!({
                "reward": said.reward, "rows": said.on.rows, "value": said.value.to_string(), "logged": said.logged.to_string(),
                "gain": said.gain.to_string(), "telling": said.telling,
            });
        }
        record.add(statement.sign(data), owner, today)?;
    }
    record.move_to(&manifest, Stage::Shadow, "to see what it would choose", owner, today)?;
    let findings = record.findings(&hash::hex(&manifest), Stage::Experiment, today)?;
    let finding = |f: &gloaming_policy::gate::Finding| json!({ "need": f.need, "met": f.met, "found": f.found, "remedy": f.remedy });
    Ok(json!({
        "model": MODEL, "kinds": described.output.kinds, "value": value, "findings": findings.iter().map(finding).collect::<Vec<_>>(),
    }))
}
