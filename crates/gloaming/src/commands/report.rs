//! `gloaming report`: a month at a site as those want it who answer for it, from what the centre says and the gate's record.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail};
use gloaming_policy::Policy;
use gloaming_policy::author::{date_of, day_of};
use gloaming_policy::gate::{Record, Stage};
use gloaming_signal::hash;
use serde_json::Value;

use super::gate::told;
use super::sheet::{self, Block};
use crate::files;

const DAY_MS: u64 = 86_400_000;

/// A calendar month, UTC.
struct Month {
    name: String,
    from_ms: u64,
    to_ms: u64,
}

impl Month {
    fn read(name: &str) -> Result<Self> {
        let first = |year: u64, month: u64| day_of(&format!("{year:04}-{month:02}-01"));
        let parts = name.split_once('-').and_then(|(year, month)| Some((year.parse().ok()?, month.parse().ok()?)));
        let days = parts.filter(|_| name.len() == 7).and_then(|(year, month): (u64, u64)| {
            let next = if month == 12 { first(year + 1, 1) } else { first(year, month + 1) };
            Some((first(year, month)?, next?))
        });
        let (from, to) = days.ok_or_else(|| anyhow!("`{name}` is no month; write it as in 2026-11"))?;
        Ok(Self { name: name.to_owned(), from_ms: from * DAY_MS, to_ms: to * DAY_MS })
    }

    fn has_ms(&self, ms: u64) -> bool {
        (self.from_ms..self.to_ms).contains(&ms)
    }
}

/// What the centre said, saved in a folder.
struct Said {
    overview: Value,
    models: Value,
    experiments: Value,
    worth: Value,
    alerts: Value,
}

impl Said {
    fn read(folder: &Path) -> Result<Self> {
        let one = |name: &str| -> Result<Value> {
            let path = folder.join(format!("{name}.json"));
            let ask = format!("`curl CENTRE/api/v1/sites/SITE/{name} > {}` gives it", path.display());
            let bytes = files::read(&path).with_context(|| ask.clone())?;
            serde_json::from_slice(&bytes).with_context(|| format!("{} is no JSON; {ask}", path.display()))
        };
        Ok(Self {
            overview: one("overview")?,
            models: one("models")?,
            experiments: one("experiments")?,
            worth: one("worth")?,
            alerts: one("alerts")?,
        })
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("not said").to_owned()
}

/// A figure with its interval, or why there is none.
fn figure(value: &Value) -> String {
    match [&value["value"], &value["low"], &value["high"]].map(Value::as_f64) {
        [Some(value), Some(low), Some(high)] => format!("{value:.3} [{low:.3}, {high:.3}]"),
        _ => "not known".to_owned(),
    }
}

/// Windows of a metric in the month, by what became of them.
fn windows(metric: &Value, month: &Month) -> [usize; 3] {
    let mut counts = [0; 3];
    for window in list(&metric["windows"]).filter(|w| w["start_ms"].as_u64().is_some_and(|ms| month.has_ms(ms))) {
        let kind = ["released", "below-k", "over-budget"].iter().position(|kind| window["state"] == *kind);
        if let Some(kind) = kind {
            counts[kind] += 1;
        }
    }
    counts
}

fn in_short(policy: &Policy, said: &Said, month: &Month) -> Vec<Block<'static>> {
    let budget = &said.overview["budget"];
    let epsilon = |key: &str| budget[key].as_f64().map_or_else(|| "not known".to_owned(), |e| format!("{e:.2}"));
    let all = list(&said.overview["metrics"]).map(|metric| windows(metric, month));
    let [released, below, over] = all.fold([0; 3], |sum, one| [0, 1, 2].map(|at| sum[at] + one[at]));
    let alerts = list(&said.alerts).filter(|alert| in_month(alert, month)).count();
    let line = |what: &str, is: String| vec![what.to_owned(), is];
    vec![
        Block::Text(format!(
            "What was counted at {} in {}, what models did with it, and who answers for them. Every figure comes from counts that had noise \
             on them before they left the edge; intervals are of 95 % and include it. Nobody's data were looked at for this report: there are none.",
            policy.site, month.name
        )),
        Block::Heading("In short".into()),
        Block::Table(
            vec!["What", "How it was"],
            vec![
                line("Policy", format!("version {}, valid before {}", policy.version, date_of(policy.expires_day))),
                line(
                    "What can be learnt of a device, at most (epsilon)",
                    format!(
                        "{} a day, {} in 30 days, {} in a year, at a delta of {:e}",
                        epsilon("epsilon_day"),
                        epsilon("epsilon_month"),
                        epsilon("epsilon_year"),
                        policy.delta()
                    ),
                ),
                line("Counts released", format!("{released} of {} metric-windows", released + below + over)),
                line("Not released, for too few took part", below.to_string()),
                line("Not released, for the day's budget was spent", over.to_string()),
                line("Alerts", alerts.to_string()),
                line("Batches that were refused, so far", said.overview["alarms"].as_u64().unwrap_or(0).to_string()),
            ],
        ),
    ]
}

fn purposes(policy: &Policy, said: &Said, month: &Month) -> Vec<Block<'static>> {
    let mut blocks = vec![Block::Heading("What was counted, and what for".into())];
    for purpose in &policy.purposes {
        let words = purpose.texts.iter().find(|(language, _)| language == "en").or(purpose.texts.first());
        blocks.push(Block::Text(format!("{}: {}", purpose.id, words.map_or("", |(_, text)| text))));
        let rows: Vec<Vec<String>> = list(&said.overview["metrics"])
            .filter(|metric| metric["purpose"] == purpose.id.as_str())
            .map(|metric| {
                let [released, below, over] = windows(metric, month);
                let rho = metric["rho"].as_f64().unwrap_or(f64::NAN);
                vec![
                    text(&metric["name"]),
                    text(&metric["of"]),
                    format!("{rho}"),
                    released.to_string(),
                    (below + over).to_string(),
                ]
            })
            .collect();
        if rows.is_empty() {
            blocks.push(Block::Text("Nothing was counted for it.".into()));
        } else {
            blocks.push(Block::Table(vec!["Metric", "Of", "rho", "Released", "Not released"], rows));
        }
    }
    blocks
}

/// What is known of one model.
fn model(policy: &Policy, record: Option<&Record>, view: &Value) -> Vec<Block<'static>> {
    let id = text(&view["id"]);
    let declared = policy.models.iter().find(|model| model.id == id);
    let standing = declared.and_then(|model| record?.standing(&model.manifest_sha256));
    let line = |what: &str, is: String| vec![what.to_owned(), is];
    let mut rows = vec![line("Stage", text(&view["state"]))];
    if let Some(standing) = standing {
        rows.push(line("Version", standing.facts.version.to_string()));
        rows.push(line("Owner", standing.facts.owner.clone()));
        rows.push(line("Next review", standing.facts.next_review.clone()));
        rows.push(line("On the visitor's device", format!("{} bytes", standing.facts.bytes)));
    } else {
        rows.push(line("Owner", "not said: no record of the gate names it".into()));
    }
    if let Some(model) = declared {
        rows.push(line("Time it may take there", format!("{} ms a score", model.budget_ms)));
    }
    match &view["performed"] {
        Value::Null => rows.push(line("How well it told outcomes", "not known".into())),
        performed => {
            rows.push(line("AUC", figure(&performed["auc"])));
            rows.push(line("Calibration error", figure(&performed["calibration_error"])));
            rows.push(line("Share with the outcome", figure(&performed["base_rate"])));
            if let Some(words) = view["recent"]["words"].as_str() {
                rows.push(line("Of late", words.to_owned()));
            }
        }
    }
    let drifted: Vec<String> =
        list(&view["drift"]).filter(|d| d["drifted"] == true).map(|d| text(&d["words"])).collect();
    rows.push(line("Drift in the newest window", if drifted.is_empty() { "none".into() } else { drifted.join("; ") }));
    let visits = |one: &Value| {
        let of = |key: &str| one["visits"][key].as_f64().unwrap_or(f64::NAN);
        format!("{:.0} [{:.0}, {:.0}]", of("value"), of("low"), of("high"))
    };
    for (how, what) in [
        ("failed", "Visits in which it was given up"),
        ("failed-fallback", "Visits in which it was given up, and its fallback scored"),
    ] {
        let here = list(&view["fared"]).filter(|fared| fared["how"] == how);
        rows.extend(here.map(|fared| line(what, visits(fared))));
    }
    for scored in list(&view["scored_by"]) {
        rows.push(line(&format!("Visits with a score of: {}", text(&scored["who"])), visits(scored)));
    }
    if view["fair"].as_array().is_none_or(Vec::is_empty) {
        rows.push(line("Groups", "none are compared".into()));
    }
    for fair in list(&view["fair"]) {
        let by = text(&fair["by"]);
        rows.push(line(&format!("Gap by {by} in who is selected"), figure(&fair["selection_gap"])));
        rows.push(line(&format!("Gap by {by}, with the same outcome"), figure(&fair["odds_gap"])));
        rows.push(line(&format!("Who said nothing of {by}"), figure(&fair["undeclared"])));
    }
    let unknown: Vec<String> =
        list(&view["unknown"]).chain(list(&view["fair"]).flat_map(|f| list(&f["unknown"]))).map(text).collect();
    if !unknown.is_empty() {
        rows.push(line("Not known", unknown.join("; ")));
    }
    vec![Block::Heading(format!("Model: {id}")), Block::Table(vec!["What", "How it was"], rows)]
}

/// What each model that acts brings, beside what it costs people: the lines of the centre's own table, in its words.
fn worth(said: &Said) -> Vec<Block<'static>> {
    let mut blocks = vec![Block::Heading("What models bring, and what they cost people".into())];
    if list(&said.worth).next().is_none() {
        blocks.push(Block::Text(
            "Pages hear no model: none brings or costs anybody anything but what its monitoring counts.".into(),
        ));
        return blocks;
    }
    for model in list(&said.worth) {
        blocks.push(Block::Text(format!("{} ({}):", text(&model["id"]), text(&model["state"]))));
        let rows = |part: &str| -> Vec<Vec<String>> { list(&model[part]).map(line).collect() };
        blocks.push(Block::Table(vec!["What it brings", "How much", "Beside it"], rows("brings")));
        blocks.push(Block::Table(vec!["What it costs people", "How much", "Beside it"], rows("costs")));
        let missing: Vec<String> = list(&model["brings"])
            .chain(list(&model["costs"]))
            .filter(|line| line["add"].is_string())
            .map(|line| text(&line["what"]))
            .collect();
        if !missing.is_empty() {
            blocks.push(Block::Text(format!(
                "Not counted: {}. The centre's page has the lines of policy that would count each.",
                missing.join("; ")
            )));
        }
    }
    blocks
}

fn line(line: &Value) -> Vec<String> {
    let of_arm = line["arm"].as_str().map_or_else(String::new, |arm| format!(": {arm}"));
    let look = if line["holds"] == "every-look" && !line["figure"].is_null() { " at every look" } else { "" };
    let beside: Vec<&str> = ["words", "unknown"].iter().filter_map(|key| line[key].as_str()).collect();
    vec![
        format!("{}: {}{of_arm}", text(&line["kind"]), text(&line["what"])),
        format!("{}{look}", text(&line["told"])),
        beside.join(". "),
    ]
}

fn experiments(said: &Said) -> Vec<Block<'static>> {
    let rows: Vec<Vec<String>> = list(&said.experiments)
        .map(|one| {
            let lifts =
                list(&one["arms"]).skip(1).map(|arm| format!("{}: {}", text(&arm["name"]), figure(&arm["lift"])));
            let rails =
                list(&one["guardrails"]).map(|rail| format!("{} {}", text(&rail["of"]), text(&rail["verdict"])));
            vec![
                text(&one["id"]),
                text(&one["goal"]),
                text(&one["words"]),
                lifts.collect::<Vec<_>>().join("; "),
                rails.collect::<Vec<_>>().join("; "),
            ]
        })
        .collect();
    let told = if rows.is_empty() {
        Block::Text("None ran.".into())
    } else {
        Block::Table(vec!["Experiment", "Goal", "What was found", "Lift", "Guardrails"], rows)
    };
    vec![Block::Heading("Experiments".into()), told]
}

fn gate(record: Option<&Record>, month: &Month) -> Vec<Block<'static>> {
    let heading = Block::Heading("What the gate decided".into());
    let Some(record) = record else {
        return vec![heading, Block::Text("There is no record: no model may act on anybody.".into())];
    };
    let here = |day: &str| day_of(day).is_some_and(|day| month.has_ms(day * DAY_MS));
    let rows: Vec<Vec<String>> = record
        .entries()
        .filter(|entry| here(&entry.day))
        .map(|entry| vec![entry.seq.to_string(), entry.day.clone(), told(&entry.action)])
        .collect();
    let acting: Vec<String> = record
        .models()
        .iter()
        .filter(|model| matches!(model.stage, Stage::Experiment | Stage::Live))
        .map(|model| format!("{} version {} ({})", model.facts.id, model.facts.version, model.stage.name()))
        .collect();
    let acting = if acting.is_empty() {
        "Pages hear no model.".to_owned()
    } else {
        format!("Pages hear {}.", acting.join(", "))
    };
    let entries = if rows.is_empty() {
        Block::Text("Nothing was decided in this month.".into())
    } else {
        Block::Table(vec!["Entry", "Day", "What"], rows)
    };
    let chain = format!(
        "{acting} The record's {} entries follow from each other and are signed; its last is {}.",
        record.len(),
        hash_short(&record.head())
    );
    vec![heading, Block::Text(chain), entries]
}

/// Enough of a hash to compare by eye.
fn hash_short(hash: &str) -> &str {
    hash.get(..16).unwrap_or(hash)
}

/// Whether an alert was found in the month.
fn in_month(alert: &Value, month: &Month) -> bool {
    let of = |key: &str| alert[key].as_u64().unwrap_or(0);
    of("since_ms") < month.to_ms && of("last_ms") >= month.from_ms
}

fn alerts(said: &Said, month: &Month) -> Vec<Block<'static>> {
    let mut by_kind: BTreeMap<String, Vec<Vec<String>>> = BTreeMap::new();
    for alert in list(&said.alerts).filter(|alert| in_month(alert, month)) {
        let since = date_of(alert["since_ms"].as_u64().unwrap_or(0) / DAY_MS);
        let told = if alert["told_ms"].as_u64().unwrap_or(0) > 0 { "yes" } else { "no" };
        let kind = text(&alert["kind"]);
        by_kind.entry(kind.clone()).or_default().push(vec![kind, since, text(&alert["words"]), told.to_owned()]);
    }
    let rows: Vec<Vec<String>> = by_kind.into_values().flatten().collect();
    let table = if rows.is_empty() {
        Block::Text("Nothing called for anybody.".into())
    } else {
        Block::Table(vec!["Kind", "Since", "What", "Told"], rows)
    };
    vec![Block::Heading("What called for somebody".into()), table]
}

/// Writes the report of a month: Markdown or HTML, by the ending of `out`.
///
/// # Errors
/// When the policy does not compile, the record does not hold, or what the centre said is not there or of another site.
pub fn run(policy: &Path, models: Option<&Path>, from: &Path, month: &str, out: &Path) -> Result<()> {
    let month = Month::read(month)?;
    let (policy, record) = files::compile_policy(policy, models)?;
    let said = Said::read(from)?;
    if said.overview["site"] != policy.site.as_str() {
        bail!("{} is of {}, and the policy of {}", from.display(), text(&said.overview["site"]), policy.site);
    }
    if said.overview["policy_version"] != policy.version {
        println!(
            "the centre goes by version {} of the policy, this is version {}: models are told as far as both know them",
            said.overview["policy_version"], policy.version
        );
    }
    let mut blocks = in_short(&policy, &said, &month);
    blocks.extend(worth(&said));
    blocks.extend(list(&said.models).flat_map(|view| model(&policy, record.as_ref(), view)));
    blocks.extend(experiments(&said));
    blocks.extend(gate(record.as_ref(), &month));
    blocks.extend(alerts(&said, &month));
    blocks.extend(purposes(&policy, &said, &month));
    blocks.push(Block::Heading("What this does not tell".into()));
    blocks.push(Block::Text(
        "How many visitors declined, or took back all that they had agreed to: those who do are not counted. What people think of all this, beyond what is counted above. Figures of \
         models and experiments are of the newest windows, those before the month among them."
            .into(),
    ));
    let digest = hash::hex(&hash::sha256(said.overview.to_string().as_bytes()));
    blocks.push(Block::Text(format!(
        "Made from what the centre said ({} of the overview) and policy {}.",
        hash_short(&digest),
        hash_short(&hash::hex(&policy.hash()))
    )));
    sheet::write(&format!("Responsible use: {}, {}", policy.site, month.name), &blocks, out)?;
    println!("wrote {}", out.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_are_those_of_the_calendar() {
        let month = Month::read("2026-12").unwrap();
        assert_eq!((month.to_ms - month.from_ms) / DAY_MS, 31);
        assert!(month.has_ms(month.from_ms) && !month.has_ms(month.to_ms));
        assert_eq!((Month::read("2028-02").unwrap().to_ms - Month::read("2028-02").unwrap().from_ms) / DAY_MS, 29);
        for wrong in ["", "2026", "2026-13", "2026-00", "26-11", "2026-11-01", "november"] {
            assert!(Month::read(wrong).is_err(), "{wrong}");
        }
    }
}
