//! The month's report: what it tells of what was saved, and what it says of what is missing.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;

use serde_json::{Value, json};
use support::Folder;

const REPORT: [&str; 7] = ["report", "--from", "said", "--month", "2026-11", "--out", "report.md"];
/// 2026-11-02.
const NOVEMBER: u64 = 1_793_577_600_000;

fn folder() -> Folder {
    let folder = Folder::new();
    folder.says(&["policy", "new", "--template", "blog", "--site", "blog.example"]);
    fs::create_dir(folder.path("said")).unwrap();
    let window =
        |start_ms: u64, state: &str| json!({ "start_ms": start_ms, "end_ms": start_ms + 86_400_000, "state": state });
    let overview = json!({
        "site": "blog.example", "policy_version": 1, "alarms": 2,
        "budget": { "epsilon_day": 3.25, "epsilon_month": 24.0, "epsilon_year": 140.0 },
        "metrics": [{
            "name": "visits", "of": "feature:visit-day@1", "purpose": "measurement", "rho": 0.01,
            "windows": [
                window(NOVEMBER - 5 * 86_400_000, "released"),
                window(NOVEMBER, "released"),
                window(NOVEMBER + 86_400_000, "below-k"),
                window(NOVEMBER + 2 * 86_400_000, "over-budget"),
            ],
        }],
    });
    let visits = |value: f64| json!({ "value": value, "low": value - 9.0, "high": value + 9.0 });
    let models = json!([{
        "id": "reads-on", "state": "shadow", "drift": [{ "drifted": true, "words": "feature:pages@1: | fell" }],
        "fared": [{ "how": "failed", "visits": visits(20.0) }, { "how": "failed-fallback", "visits": visits(30.0) }],
        "scored_by": [{ "who": "last-good", "visits": visits(40.0) }],
        "performed": null, "unknown": ["nothing | yet"],
        "fair": [{ "by": "age-band", "selection_gap": { "value": 0.05, "low": 0.03, "high": 0.07 }, "odds_gap": null,
            "undeclared": null, "unknown": [] }],
    }]);
    let alerts = json!([
        { "kind": "drift", "words": "in October", "since_ms": NOVEMBER - 9 * 86_400_000, "last_ms": NOVEMBER - 8 * 86_400_000 },
        { "kind": "drift", "words": "in November", "since_ms": NOVEMBER, "last_ms": NOVEMBER, "told_ms": 1 },
    ]);
    let line = |kind: &str, what: &str, told: &str| {
        let figure = json!({ "value": 0.1, "low": 0.0, "high": 0.2 });
        json!({ "kind": kind, "what": what, "arm": null, "unit": "share", "figure": figure, "told": told, "holds": "one-look",
            "words": null, "unknown": null, "add": null })
    };
    let mut lift = line("conversion", "outcome:purchase@1, hears-it", "+31.0 % [+24.0, +38.0]");
    (lift["arm"], lift["holds"], lift["words"]) = (json!("heard"), json!("every-look"), json!("a | word"));
    let mut complaints = line("complaints", "visits in which somebody complained", "not counted");
    (complaints["figure"], complaints["unknown"], complaints["add"]) =
        (Value::Null, json!("nothing counts complaints"), json!("[[metric]]"));
    let late = line("late", "visits in which it was late", "2.00 % [1.60, 2.40]");
    let worth = json!([{ "id": "buys", "state": "live", "brings": [lift], "costs": [late, complaints] }]);
    let all =
        [("overview", overview), ("models", models), ("experiments", json!([])), ("worth", worth), ("alerts", alerts)];
    for (name, value) in all {
        fs::write(folder.path(&format!("said/{name}.json")), value.to_string()).unwrap();
    }
    folder
}

#[test]
fn a_month_is_told_with_what_is_not_known_of_it() {
    let folder = folder();
    folder.says(&REPORT);
    let told = fs::read_to_string(folder.path("report.md")).unwrap();
    for words in [
        "# Responsible use: blog.example, 2026-11",
        "| Counts released | 1 of 3 metric-windows |",
        "| Not released, for too few took part | 1 |",
        "3.25 a day, 24.00 in 30 days, 140.00 in a year, at a delta of 1e-6",
        "| Alerts | 1 |",
        "## Model: reads-on",
        "| Drift in the newest window | feature:pages@1: \\| fell |",
        "| Visits in which it was given up | 20 [11, 29] |",
        "| Visits in which it was given up, and its fallback scored | 30 [21, 39] |",
        "| Visits with a score of: last-good | 40 [31, 49] |",
        "| Gap by age-band in who is selected | 0.050 [0.030, 0.070] |",
        "| Gap by age-band, with the same outcome | not known |",
        "| Not known | nothing \\| yet |",
        "buys (live):",
        "| What it brings | How much | Beside it |",
        "| conversion: outcome:purchase@1, hears-it: heard | +31.0 % [+24.0, +38.0] at every look | a \\| word |",
        "| late: visits in which it was late | 2.00 % [1.60, 2.40] |  |",
        "| complaints: visits in which somebody complained | not counted | nothing counts complaints |",
        "Not counted: visits in which somebody complained. The centre's page has the lines",
        "There is no record: no model may act on anybody.",
        "| drift | 2026-11-02 | in November | yes |",
        "| visits | feature:visit-day@1 | 0.01 | 1 | 2 |",
        "## What this does not tell",
    ] {
        assert!(told.contains(words), "{words:?} is not in {told}");
    }
    assert!(!told.contains("in October"), "{told}");
}

#[test]
fn what_is_missing_is_named_with_how_to_come_by_it() {
    let folder = folder();
    let mut said: Value = serde_json::from_slice(&fs::read(folder.path("said/overview.json")).unwrap()).unwrap();
    assert!(folder.refuses(&["report", "--from", "said", "--month", "11/2026"]).contains("write it as in 2026-11"));
    assert!(
        folder
            .refuses(&["report", "--from", "said", "--month", "2026-11", "--out", "report.pdf"])
            .contains(".md or as .html")
    );
    said["site"] = "other.example".into();
    fs::write(folder.path("said/overview.json"), said.to_string()).unwrap();
    assert!(folder.refuses(&REPORT).contains("is of other.example, and the policy of blog.example"));
    fs::remove_file(folder.path("said/alerts.json")).unwrap();
    assert!(folder.refuses(&REPORT).contains("`curl CENTRE/api/v1/sites/SITE/alerts > said/alerts.json` gives it"));
    assert!(!folder.path("report.md").exists());
}
