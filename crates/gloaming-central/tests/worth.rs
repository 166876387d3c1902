//! What a model brings and what it costs, from a centre that runs: what was planted has to be found, each figure is the one that the
//! single views tell, and what is not counted says what would count it.
#![allow(clippy::unwrap_used)]

mod acting;

use acting::centre::{Centre, TODAY, all, holds, line, list, number};
use acting::{ALL, BYTES, PLANTED, Shop, text};
use gloaming_stats::draws::covers;
use serde_json::Value;

#[tokio::test]
async fn what_was_planted_is_told_and_each_figure_is_that_of_the_single_views() {
    let shop = Shop::new(TODAY, &text(TODAY, ALL));
    let (mut held, mut told) = (0, 0);
    for seed in 1..=6 {
        let centre = Centre::of(&shop, Some(seed)).await;
        let found = centre.json("worth").await;
        let [view] = list(&found) else { panic!("{found:#}") };
        assert_eq!((view["id"].as_str(), view["state"].as_str()), (Some("purchase-intent"), Some("experiment")));
        for (kind, what, truth) in PLANTED {
            let line = line(view, kind, what);
            let within = holds(&line["figure"], truth);
            held += u32::from(within);
            told += 1;
            if seed == 1 || !within {
                println!("{seed}: {kind}, {}: {}, planted {truth:.4}", line["what"], line["told"]);
            }
        }
        // Nothing is left that is not counted, and what is exact is so.
        assert!(all(view).all(|line| line["add"].is_null()), "{view:#}");
        let bytes = line(view, "bytes", "file");
        assert_eq!((number(&bytes["figure"]["value"]), bytes["holds"].as_str()), (BYTES as f64, Some("exact")));
        assert_eq!(line(view, "budget", "time")["told"], "20 ms");

        // What another view tells is what stands here, to the last digit.
        let (models, trials) = (centre.json("models").await, centre.json("experiments").await);
        let (model, trial) = (&models[0], &trials[0]);
        assert_eq!(line(view, "value", "purchase-value")["figure"], trial["arms"][1]["lift"]);
        assert_eq!(line(view, "calibration", "off")["figure"], model["performed"]["calibration_error"]);
        let fair = &model["fair"][0];
        for (what, key) in [
            ("who is selected, by", "selection_gap"),
            ("with the same outcome", "odds_gap"),
            ("say nothing", "undeclared_gap"),
        ] {
            assert_eq!(line(view, "gap", what)["figure"], fair[key], "{key}");
        }
        let fared =
            |how: &str| number(&list(&model["fared"]).iter().find(|one| one["how"] == how).unwrap()["visits"]["value"]);
        let late = number(&line(view, "late", "")["figure"]["value"]);
        let of = |how: &str| fared(how) + fared(&format!("{how}-last-good"));
        assert!((late - of("late") / (of("late") + of("scored"))).abs() < 1e-12);
        // A guardrail says here by how much, and there what to make of it: the two go together.
        for rail in list(&trial["guardrails"]) {
            let of = rail["of"].as_str().unwrap();
            let more = |line: &&Value| line["unit"] == "points" && line["what"].as_str().unwrap().contains(of);
            let here = all(view).find(more);
            let words = here.unwrap()["words"].as_str().unwrap();
            assert!(words.ends_with(&format!("guardrail {}", rail["verdict"].as_str().unwrap())), "{words}");
            if rail["verdict"] == "held" {
                assert!(number(&here.unwrap()["figure"]["value"]) < 0.05, "{here:?}");
            }
        }
        centre.running.stop().await;
    }
    println!("{held} of {told} intervals hold what was planted");
    assert!(covers(held, told, 0.95), "{held} of {told}");
}

#[tokio::test]
async fn before_anything_is_released_it_is_said_why_there_is_nothing() {
    let shop = Shop::new(TODAY, &text(TODAY, ALL));
    let centre = Centre::of(&shop, None).await;
    let found = centre.json("worth").await;
    for line in all(&found[0]).filter(|line| !matches!(line["kind"].as_str(), Some("bytes" | "budget"))) {
        assert!(line["figure"].is_null() && line["told"] == "not known" && line["add"].is_null(), "{line:#}");
        assert!(line["unknown"].as_str().unwrap().contains("no window was released yet"), "{line:#}");
    }
    // A policy of nothing more than it must have says what to add, and does so for each.
    let bare = Centre::of(&Shop::new(TODAY, &text(TODAY, "")), Some(1)).await;
    let found = bare.json("worth").await;
    let missing: Vec<&str> =
        all(&found[0]).filter(|line| line["add"].is_string()).map(|line| line["kind"].as_str().unwrap()).collect();
    assert_eq!(missing, ["conversion", "value", "satisfaction", "gap", "opt-outs", "complaints"]);
    centre.running.stop().await;
    bare.running.stop().await;
}

/// An experiment of a share alone, with no guardrail.
const BARE: &str = r#"
[[experiment]]
id = "hears-it"
arms = ["as-is", "heard"]
purpose = "prediction"
model = "purchase-intent"
goal = "outcome:purchase@1"
guardrails = []
minimum_effect = 0.02
window = "day"
rho = 0.05
k = 50
"#;

/// The policy's text with what was said to be added, put where it was said to go.
fn with(more: &str, add: &str) -> String {
    let (tables, line) = match add.split_once("# among the guardrails of [[experiment]] hears-it\n") {
        Some((tables, line)) => (tables, Some(line)),
        None => (add, None),
    };
    let (tables, goal) = match tables.split_once("# in place of the goal") {
        Some((tables, goal)) => (tables, goal.split_once('\n').map(|(_, goal)| goal)),
        None => (tables, None),
    };
    let (top, tables) = match tables.strip_prefix("# at the top of the file\n") {
        Some(rest) => rest.split_once('\n').unwrap(),
        None => ("", tables),
    };
    let mut more = format!("{more}\n{tables}");
    if let Some(line) = line {
        more = more.replacen("guardrails = []", &format!("guardrails = [{}]", line.trim()), 1);
    }
    if let Some(goal) = goal {
        more = more.replacen("goal = \"outcome:purchase@1\"\nguardrails = []\nminimum_effect = 0.02", goal.trim(), 1);
    }
    text(TODAY, &more).replacen("origins =", &format!("{top}\norigins ="), 1)
}

/// Whoever adds what is said to be missing has a policy that compiles, and is not told to add it again.
#[tokio::test]
async fn what_is_said_to_be_missing_can_be_added_as_it_stands() {
    let mut added = 0;
    for more in ["", BARE] {
        let bare = Centre::of(&Shop::new(TODAY, &text(TODAY, more)), None).await;
        let found = bare.json("worth").await;
        for missing in all(&found[0]).filter(|line| line["add"].is_string()) {
            let (kind, add) = (missing["kind"].as_str().unwrap(), missing["add"].as_str().unwrap());
            let centre = Centre::of(&Shop::new(TODAY, &with(more, add)), None).await;
            let now = centre.json("worth").await;
            let still: Vec<_> = all(&now[0]).filter(|line| line["kind"] == kind && line["add"].is_string()).collect();
            assert!(still.is_empty(), "{kind}: {still:#?}");
            added += 1;
            centre.running.stop().await;
        }
        bare.running.stop().await;
    }
    assert_eq!(added, 6 + 5, "of no experiment, and of one that counts a share");
}
