//! How the story of drift goes on: people act for another reason, which no recalibration mends. The model is learnt again from
//! counts, shows in shadow what it is worth, is tried on half of the pages, and goes live.

use std::path::Path;

use anyhow::{Context as _, Result};
use gloaming::commands::{devices, report, retrain};
use gloaming::demo::MODEL;
use gloaming_policy::author::date_of;
use gloaming_policy::gate::{Ethics, Fairness, HeldOut, Said, Stage as To, Statement};
use serde_json::Value;

use crate::stage::Stage;
use crate::story::{Crowd, READERS, Told, ask, closed, shown};

/// Half of the visitors' pages hear the score, and offer help to those who are likely to buy.
const EXPERIMENT: &str = r#"
[[experiment]]
id = "offer-help"
arms = ["unheard", "heard"]
model = "purchase-intent"
layer = "scores"
purpose = "prediction"
goal = "outcome:purchase@1"
guardrails = [{ of = "outcome:bounce@1", permitted = 0.1 }]
minimum_effect = 0.02
window = "600s"
rho = 0.013
k = 20
"#;

/// What came of it.
#[derive(Clone, Debug)]
pub struct Relearnt {
    /// AUC of the version before, when people had changed, and of the one that was learnt from that.
    pub aucs: [f64; 2],
    /// The centre's words about the experiment.
    pub verdict: String,
    /// The stage that the model is in at the end.
    pub stage: String,
}

/// Statements that lie in a folder, as they were written.
fn said(folder: &Path) -> Result<Vec<Said>> {
    let read = |name: &str| -> Result<Said> {
        Ok(Statement::read(&std::fs::read(folder.join(format!("{name}.json")))?)?.said)
    };
    ["held-out", "calibration"].into_iter().map(read).collect()
}

fn held_out(said: &[Said]) -> Result<&HeldOut> {
    let found = said.iter().find_map(|said| if let Said::HeldOut(found) = said { Some(found) } else { None });
    found.context("no statement on what was held out")
}

/// The site's experiment, as the centre sees it.
async fn experiment(stage: &Stage) -> Result<Value> {
    let all = ask(stage, "experiments").await?;
    let found = all.as_array().and_then(|all| all.iter().find(|one| one["id"] == "offer-help"));
    found.cloned().context("the centre does not know the experiment")
}

/// The newest windows of the centre, saved as somebody does who works with them.
async fn newest(stage: &Stage, last: u32, path: &Path) -> Result<()> {
    Ok(std::fs::write(path, ask(stage, &format!("overview?last={last}")).await?.to_string())?)
}

/// The month's report, from what the owner has and what the centre says, as `report.html`.
async fn report(stage: &Stage, folder: &Path) -> Result<()> {
    let (owned, from) = (folder.join("owned"), folder.join("said"));
    stage.demo.save(&owned).await?;
    std::fs::create_dir_all(&from)?;
    for what in ["overview?last=1000", "models", "experiments", "worth", "alerts"] {
        let name = what.split('?').next().unwrap_or(what);
        std::fs::write(from.join(format!("{name}.json")), ask(stage, what).await?.to_string())?;
    }
    let month = &date_of(stage.now_ms() / 86_400_000)[..7];
    report::run(&owned.join("policy.toml"), None, &from, month, &folder.join("report.html"))
}

/// Goes on after [`crate::story::drift`], with the same people.
///
/// # Errors
/// When something is not seen that should be, or a step is refused.
pub async fn relearn<See: AsyncFn(&str) -> Result<()>>(
    stage: &Stage,
    (told, visits): (Told, u32),
    folder: &Path,
    say: impl Fn(&str),
    see: See,
) -> Result<Relearnt> {
    let Told { mut crowd, windows, .. } = told;
    let (before, next) = (folder.join("next"), folder.join("learnt"));
    for window in windows + 1..=windows + 2 {
        crowd.visits(stage, visits, READERS).await?;
        closed(stage).await?;
        say(&format!("window {window}: {visits} visits by people who buy when they have read about delivery"));
    }
    let from = folder.join("readers.json");
    newest(stage, 2, &from).await?;
    devices::released(&before.join("manifest.json"), &from, None, "", None, &folder.join("shown-before"))?;
    let lost = held_out(&said(&folder.join("shown-before"))?)?.auc.value;
    say(&format!("version 3 of {MODEL} tells them apart with an AUC of {lost:.3}: no recalibration mends an order"));
    see("lost").await?;

    let owned = folder.join("owned");
    stage.demo.save(&owned).await?;
    retrain::run(&retrain::Paths {
        manifest: &before.join("manifest.json"),
        policy: &owned.join("policy.toml"),
        models: None,
        from: &from,
        out: &next,
        version: None,
        sessions: None,
    })?;
    let (manifest, onnx) = (std::fs::read(next.join("manifest.json"))?, std::fs::read(next.join("model.onnx"))?);
    let policy = stage.demo.bring(manifest.clone(), onnx.clone()).await?;
    say(&format!(
        "version 4 was learnt from those counts, and runs in shadow under version {} of the policy",
        policy.version
    ));
    let mut crowd = Crowd::new(&policy, (&manifest, &onnx), 2_000_000)?;
    for window in windows + 3..=windows + 5 {
        crowd.visits(stage, visits, READERS).await?;
        closed(stage).await?;
        say(&format!("window {window}: {visits} more of them"));
    }
    newest(stage, 3, &from).await?;
    devices::released(&next.join("manifest.json"), &from, None, "", None, &folder.join("shown"))?;
    let mut shown_of = said(&folder.join("shown"))?;
    let found = held_out(&shown_of)?.clone();
    say(&format!(
        "on devices it tells them apart with an AUC of {:.3} [{:.3}, {:.3}]",
        found.auc.value, found.auc.low, found.auc.high
    ));
    see("learnt").await?;

    shown_of.push(Said::Fairness(Fairness {
        day: found.day.clone(),
        on: found.on.clone(),
        threshold: 0.5,
        by: Vec::new(),
        none: Some("Visitors of this shop are asked for no attribute that groups could be compared by.".into()),
    }));
    let policy = stage.demo.earn(shown_of, To::Experiment, EXPERIMENT).await?;
    say(&format!(
        "the gate is content: from tomorrow on version {} of the policy tries it on half of the pages",
        policy.version
    ));
    // What is left of this day's budget does not pay for one more experiment.
    stage.next_day();
    let mut crowd = Crowd::new(&policy, (&manifest, &onnx), 4_000_000)?;
    for window in windows + 6..=windows + 9 {
        crowd.visits(stage, visits, READERS).await?;
        closed(stage).await?;
        say(&format!("window {window}: {visits} visits, half of them on pages that hear the score"));
    }
    let tried = experiment(stage).await?;
    let verdict = tried["words"].as_str().unwrap_or_default().to_owned();
    say(&format!("{verdict} Lift {}", shown(&tried["arms"][1]["lift"])));
    see("experiment").await?;
    let evidence = Statement::read(tried["statement"].to_string().as_bytes()).context("the centre's statement")?.said;
    let ethics = Said::Ethics(Ethics {
        day: date_of(stage.now_ms() / 86_400_000),
        by: "the shop's council on responsible use".into(),
        accepted: true,
        conclusion: "Help is offered and nothing is withheld; nobody is told a price by it.".into(),
    });
    let policy = stage.demo.earn(vec![evidence, ethics], To::Live, "").await?;
    let state = policy.models.iter().find(|model| model.id == MODEL).context("the policy lost the model")?.state;
    say(&format!("version 4 of {MODEL} is live, by version {} of the policy", policy.version));
    see("live").await?;
    report(stage, folder).await?;
    say("what happened is written down for those who answer for it");
    Ok(Relearnt { aucs: [lost, found.auc.value], verdict, stage: format!("{state:?}") })
}
