//! Models are looked after from what was released, as far as the gate.
#![allow(clippy::unwrap_used)]

#[path = "support/shop.rs"]
mod shop;
mod support;
#[path = "support/visits.rs"]
mod visits;

use std::fs;
use std::path::{Path, PathBuf};

use gloaming::files::compile_policy;
use serde_json::Value;
use shop::{MODEL, overview, overview_of, says_policy, site};
use support::Folder;
use visits::{Visit, auc, load, scored, visits};

const COUNTS: &str = "[[retrain]]
model = \"purchase-intent\"
outcome = \"outcome:purchase@1\"
pairs = [[\"pages-product@1\", \"time-product@1\"], [\"pages-info@1\", \"time-info@1\"]]
window = \"day\"
rho = 0.05
k = 50
";

const TEND: [&str; 4] = ["model", "tend", "--from", "overview.json"];

/// A day of visits whose devices run the policy and the model of this folder; what looking after it says.
fn day(folder: &Folder, model: &str, visits: &[Visit], day: u64) -> String {
    let (policy, _) = compile_policy(&folder.path("policy.toml"), None).unwrap();
    let told = overview(&policy, &folder.path(model).join("manifest.json"), visits, day, Some(1));
    fs::write(folder.path("overview.json"), told.to_string()).unwrap();
    folder.says(&TEND)
}

/// The same of devices that run several of its models, in the policy's order.
fn day_of(folder: &Folder, models: &[&str], visits: &[Visit], day: u64) -> String {
    let (policy, _) = compile_policy(&folder.path("policy.toml"), None).unwrap();
    let manifests: Vec<PathBuf> = models.iter().map(|model| folder.path(model).join("manifest.json")).collect();
    let manifests: Vec<&Path> = manifests.iter().map(PathBuf::as_path).collect();
    fs::write(folder.path("overview.json"), overview_of(&policy, &manifests, visits, day, Some(1)).to_string())
        .unwrap();
    folder.says(&TEND)
}

/// The shipped model's own scores come true, or as much likelier as this.
fn as_told(count: usize, seed: u64, odds: f64) -> Vec<Visit> {
    let model = load(Path::new(visits::MANIFEST));
    let mut draws = gloaming_stats::draws::Draws::new(seed ^ 77);
    let buys = |(row, _): Visit| {
        let score = f64::from(model.score(&row).unwrap());
        let odds = odds * score / (1.0 - score);
        (row, draws.uniform() < odds / (1.0 + odds))
    };
    visits(count, seed).into_iter().map(buys).collect()
}

#[test]
fn what_has_lost_its_grip_is_learnt_again_and_shows_itself_in_shadow() {
    let folder = site(COUNTS);
    // What was shown of it, in the month that it was made in.
    let evidence = folder.path(MODEL).join("evidence");
    fs::create_dir_all(&evidence).unwrap();
    fs::copy(visits::MANIFEST.replace("manifest.json", "evidence/held-out.json"), evidence.join("held-out.json"))
        .unwrap();
    let shown: Value = serde_json::from_slice(&fs::read(evidence.join("held-out.json")).unwrap()).unwrap();
    assert!(shown["predicate"]["auc"]["low"].as_f64().unwrap() > 0.6);
    // People whom it can tell apart: nothing is to be done, and nothing is written.
    let said = day(&folder, MODEL, &visits(6_000, 1), 1);
    println!("{said}");
    assert!(said.contains("it holds what it has to: 0.6") && said.contains("was shown of it"), "{said}");
    assert!(!folder.path("policy.next.toml").exists());
    // Nor is a version that lies there, and that its owner does not want.
    fs::create_dir_all(folder.path("models/purchase-intent-v3")).unwrap();
    fs::copy(folder.path(MODEL).join("manifest.json"), folder.path("models/purchase-intent-v3/manifest.json")).unwrap();
    folder.says(&TEND);
    assert!(!folder.path("policy.next.toml").exists());
    fs::remove_dir_all(folder.path("models/purchase-intent-v3")).unwrap();
    // People who do the reverse of what it goes by.
    let turned = |seed| -> Vec<Visit> {
        visits(6_000, seed)
            .into_iter()
            .map(|(row, bought)| {
                let few = row[4] < 3.0;
                (row, bought != few)
            })
            .collect()
    };
    let said = day(&folder, MODEL, &turned(2), 2);
    println!("{said}");
    assert!(
        said.contains("it has lost its grip: AUC 0.")
            && said.contains("left to you, for purchase-intent version 3: look at"),
        "{said}"
    );
    let next = folder.path("models/purchase-intent-v3");
    let (old, new) = (load(&folder.path(MODEL).join("manifest.json")), load(&next.join("manifest.json")));
    let later = turned(3);
    let (before, after) = (auc(&scored(&old, &later)), auc(&scored(&new, &later)));
    println!("AUC on later visits: {before:.4}, learnt again {after:.4}");
    assert!(after > before + 0.1, "{before} {after}");
    // A second time nothing is made; the owner takes up what is proposed, and the new version shows itself.
    let said = folder.says(&TEND);
    assert!(said.contains("models/purchase-intent-v3 lies there already, and waits for you"), "{said}");
    let text = fs::read_to_string(folder.path("policy.next.toml")).unwrap();
    assert!(text.contains("manifest = \"models/purchase-intent-v3/manifest.json\"\nstate = \"shadow\""), "{text}");
    fs::rename(folder.path("policy.next.toml"), folder.path("policy.toml")).unwrap();
    let said = day(&folder, "models/purchase-intent-v3", &later, 3);
    println!("{said}");
    assert!(
        said.contains("purchase-intent version 3: AUC") && said.contains("`gloaming model promote purchase-intent`"),
        "{said}"
    );
    for name in ["held-out", "calibration", "parity"] {
        assert!(next.join(format!("evidence/{name}.json")).exists(), "{name}");
    }
    assert!(!folder.path("policy.next.toml").exists(), "nothing is proposed where nothing is to be done");
}

#[test]
fn scores_that_do_not_come_true_are_put_right() {
    let folder = site("");
    let said = day(&folder, MODEL, &as_told(20_000, 4, 6.0), 1);
    println!("{said}");
    assert!(said.contains("its scores do not come true: 0.") && said.contains("where 0.1000 is borne"), "{said}");
    assert!(said.contains("purchase-intent version 3: slope"), "{said}");
    let text = fs::read_to_string(folder.path("policy.next.toml")).unwrap();
    assert!(text.contains("version = 2 ") && text.contains("purchase-intent-v3"), "{text}");
    // Where the order is lost, and nothing was counted to learn from, that is said, and nothing is made of it. What was shown of
    // another model is no measure.
    let folder = site("");
    fs::create_dir_all(folder.path(MODEL).join("evidence")).unwrap();
    let other = visits::MANIFEST.replace("purchase-intent/manifest.json", "pointer-bot/evidence/held-out.json");
    fs::copy(other, folder.path(MODEL).join("evidence/held-out.json")).unwrap();
    let turned: Vec<Visit> = as_told(6_000, 5, 1.0)
        .into_iter()
        .map(|(row, bought)| {
            let few = row[4] < 3.0;
            (row, bought != few)
        })
        .collect();
    let said = day(&folder, MODEL, &turned, 1);
    assert!(said.contains("it has lost its grip") && said.contains("where 0.5000 chance has"), "{said}");
    assert!(said.contains("add [[retrain]] with model = \"purchase-intent\", or take it back"), "{said}");
    assert!(!folder.path("policy.next.toml").exists() && !folder.path("models/purchase-intent-v3").exists());
    // Nothing was released yet.
    fs::write(folder.path("overview.json"), "{\"site\":\"shop.example\",\"metrics\":[]}").unwrap();
    let said = folder.says(&TEND);
    assert!(
        said.contains("shop.example counts nothing called `purchase-calibration` of `score:purchase-intent`")
            && said.contains("of 1 model nothing could be said"),
        "{said}"
    );
    says_policy(&folder, "nonsense");
    assert!(folder.refuses(&TEND).contains("policy.toml:"));
}

/// What a model is to tell has to be said where an author counts its score with several outcomes.
#[test]
fn a_model_is_judged_by_its_own_outcome() {
    let other = "[[metric]]\nid = 30\nname = \"intent-and-bounce\"\nof = [\"score:purchase-intent\", \"outcome:purchase@1\"]\njoint = [20, 2]\n\
        purpose = \"prediction\"\ntier = \"edge\"\nwindow = \"week\"\nrho = 0.02\nper_day = 1\nk = 100\n";
    let folder = site(other);
    let said = day(&folder, MODEL, &visits(6_000, 1), 1);
    assert!(said.contains("intent-and-bounce and purchase-calibration join its score with outcomes"), "{said}");
    assert!(!folder.path("policy.next.toml").exists());
}

/// However the policy writes the path.
#[test]
fn the_next_version_lies_inside_the_site() {
    let folder = site("");
    let dotted = fs::read_to_string(folder.path("policy.toml")).unwrap();
    let dotted = dotted.replace("manifest = \"models/", "manifest = \"./models/");
    fs::write(folder.path("policy.toml"), &dotted).unwrap();
    let said = day(&folder, MODEL, &as_told(20_000, 4, 6.0), 1);
    assert!(said.contains("its scores do not come true"), "{said}");
    assert!(folder.path("models/purchase-intent-v3/manifest.json").exists(), "{said}");
    let text = fs::read_to_string(folder.path("policy.next.toml")).unwrap();
    assert!(text.contains("models/purchase-intent-v3/manifest.json"), "{text}");
    fs::rename(folder.path("policy.next.toml"), folder.path("policy.toml")).unwrap();
    compile_policy(&folder.path("policy.toml"), None).unwrap();
}

/// A second model of the shop's, watched.
const BESIDE: &str = "[[model]]
id = \"purchase-intent-next\"
manifest = \"models/purchase-intent-next/manifest.json\"
state = \"shadow\"
purpose = \"prediction\"

[[monitor]]
model = \"purchase-intent-next\"
window = \"week\"
rho = 0.15
k = 100
inputs = [\"pages-product@1\"]
outcome = \"outcome:purchase@1\"
";

/// Changes what a manifest says.
fn rewrite(manifest: &Path, key: &str, value: &str) {
    let mut said: Value = serde_json::from_slice(&fs::read(manifest).unwrap()).unwrap();
    said[key] = value.into();
    fs::write(manifest, serde_json::to_vec_pretty(&said).unwrap()).unwrap();
}

/// The version that acts is judged like the one that is to come after it, by its own cells, and another is made of the newest alone.
#[test]
fn of_versions_side_by_side_another_is_made_of_the_newest() {
    let folder = site("");
    let said = day(&folder, MODEL, &as_told(20_000, 4, 6.0), 1);
    assert!(said.contains("left to you, for purchase-intent version 3: look at"), "{said}");
    // Its owner does not take the old one away for it, and gives it a name of its own.
    fs::remove_file(folder.path("policy.next.toml")).unwrap();
    fs::rename(folder.path("models/purchase-intent-v3"), folder.path("models/purchase-intent-next")).unwrap();
    rewrite(&folder.path("models/purchase-intent-next/manifest.json"), "id", "purchase-intent-next");
    says_policy(&folder, BESIDE);
    let said = day_of(&folder, &[MODEL, "models/purchase-intent-next"], &as_told(8_000, 7, 6.0), 2);
    println!("{said}");
    let (old, new) = said.split_once("purchase-intent-next version 3: AUC").unwrap();
    assert!(old.contains("purchase-intent version 2: AUC") && old.contains("its scores do not come true"), "{said}");
    let left = "nothing more is made of it: purchase-intent-next version 3 was, and stands beside it in the policy";
    assert!(old.contains(left) && new.contains("it holds what it has to"), "{said}");
    assert!(new.contains("`gloaming model promote purchase-intent-next`"), "{said}");
    let evidence = folder.path("models/purchase-intent-next/evidence");
    assert!(evidence.join("calibration.json").exists());
    assert!(!folder.path("models/purchase-intent-v3").exists() && !folder.path("policy.next.toml").exists());
    // What was shown of it is of no use here, where only how often counts.
    fs::remove_dir_all(&evidence).unwrap();
    // People are as they were at first: now the old one is right, and the newest is put right.
    let said = day_of(&folder, &[MODEL, "models/purchase-intent-next"], &as_told(8_000, 9, 1.0), 3);
    println!("{said}");
    let (old, new) = said.split_once("purchase-intent-next version 3: AUC").unwrap();
    assert!(old.contains("it holds what it has to") && new.contains("its scores do not come true"), "{said}");
    assert!(new.contains("left to you, for purchase-intent-next version 4: look at"), "{said}");
    assert!(!new.contains("before it can be signed"), "{said}");
    let text = fs::read_to_string(folder.path("policy.next.toml")).unwrap();
    assert!(text.contains("manifest = \"models/purchase-intent/manifest.json\""), "{text}");
    assert!(text.contains("manifest = \"models/purchase-intent-next-v4/manifest.json\""), "{text}");
    // The one in between is gone from the policy, and the newest still is the old one's.
    fs::rename(folder.path("policy.next.toml"), folder.path("policy.toml")).unwrap();
    let said = day_of(&folder, &[MODEL, "models/purchase-intent-next-v4"], &as_told(8_000, 11, 6.0), 4);
    println!("{said}");
    assert!(said.contains("nothing more is made of it: purchase-intent-next version 4 was"), "{said}");
    assert!(said.contains("left to you, for purchase-intent-next version 5: look at"), "{said}");
    assert!(!folder.path("models/purchase-intent-v3").exists(), "{said}");
    // Where the newest was stopped, the old one is what there is.
    fs::remove_file(folder.path("policy.next.toml")).unwrap();
    folder.edit("policy.toml", "state = \"shadow\"\npurpose", "state = \"quarantined\"\npurpose");
    let said = folder.says(&TEND);
    assert!(said.contains("left to you, for purchase-intent version 3: look at"), "{said}");
    assert!(!said.contains("purchase-intent-next version"), "{said}");
}

/// What was retired is not proposed again, and its number is not given to another.
#[test]
fn a_version_that_was_retired_stays_where_it_is() {
    let folder = site("");
    let key = |name: &str| support::public(&folder.says(&["policy", "key", "--out", &format!("{name}.key")]));
    let (_, data, compliance) = (key("owner"), key("data"), key("compliance"));
    let step = "approved_by = [\"data\", \"compliance\"]\nauc = 0.501\ncalibration_error = 0.1\ngroup_gap = 0.2";
    let gate = format!(
        "[gate]
max_age_days = 180
model_bytes = 1000000
roles = {{ data = [\"{data}\"], compliance = [\"{compliance}\"] }}
[gate.experiment]
evidence = [\"held-out\", \"calibration\", \"fairness\", \"parity\"]
{step}
[gate.live]
evidence = [\"held-out\", \"calibration\", \"fairness\", \"parity\", \"experiment\"]
{step}
lift = 0.0
"
    );
    says_policy(&folder, &gate);
    // Reviewed later than any day this test may run on.
    rewrite(&folder.path(MODEL).join("manifest.json"), "next_review", "2099-01-01");
    let policy = fs::read_to_string(folder.path("policy.toml")).unwrap();
    let said = day(&folder, MODEL, &as_told(20_000, 4, 6.0), 1);
    assert!(said.contains("left to you, for purchase-intent version 3: look at"), "{said}");
    // Version 3 becomes known to the gate, does not please, and is retired; version 2 is what is left.
    fs::rename(folder.path("policy.next.toml"), folder.path("policy.toml")).unwrap();
    folder.refuses(&["model", "promote", "purchase-intent", "--to", "shadow", "--key", "owner.key"]);
    let down = ["model", "withdraw", "purchase-intent", "--to", "retired", "--key", "owner.key"];
    folder.says(&[&down[..], &["--because", "it sends everybody away"]].concat());
    fs::write(folder.path("policy.toml"), &policy).unwrap();
    let said = folder.says(&TEND);
    println!("{said}");
    assert!(said.contains("purchase-intent version 4: slope") && !said.contains("lies there already"), "{said}");
    assert!(said.contains("left to you, for purchase-intent version 4: look at"), "{said}");
    let text = fs::read_to_string(folder.path("policy.next.toml")).unwrap();
    assert!(text.contains("manifest = \"models/purchase-intent-v4/manifest.json\""), "{text}");
    assert!(
        folder
            .says(&["model", "check", "models/purchase-intent-v4/manifest.json"])
            .contains("purchase-intent version 4")
    );
    // It lies there now, and waits.
    let said = folder.says(&TEND);
    assert!(said.contains("models/purchase-intent-v4 lies there already, and waits for you"), "{said}");
    assert!(said.contains("left to you, for purchase-intent version 4: look at"), "{said}");
}
