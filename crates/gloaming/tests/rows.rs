//! An event log as a table: the numbers are those of the device's own code, and lines that are none are counted.
#![allow(clippy::unwrap_used)]

use std::fs;

use gloaming_behavior::definitions::{DEFINITIONS, Kind};
use gloaming_collector::device::{Device, Setup};
use gloaming_policy::author::{compile, template};
use serde_json::json;

mod support;
use support::Folder;

/// 2026-11-23 20:00, a Monday.
const START: u64 = 1_795_464_000_000;

fn folder() -> Folder {
    let folder = Folder::new();
    folder.says(&["policy", "new", "--template", "saas", "--site", "app.example"]);
    folder.edit("policy.toml", HOMES, &with_an_event());
    folder
}

/// The last of a template's plain keys, and an event of the site's own behind it.
const HOMES: &str = "home_edges = [\"edge-1\"]";

fn with_an_event() -> String {
    format!("{HOMES}\nevents = [\"report-shared\"]")
}

#[test]
fn a_log_becomes_what_a_device_would_have_made_of_it() {
    let folder = folder();
    let text = template("saas", "app.example", "https://app.example", "2099-01-01").unwrap();
    let text = text.replace(HOMES, &with_an_event());
    // Any day on which the template has not expired and is not too far off.
    let policy = compile(&text, 47_100, &|_| Err("none".into())).unwrap();
    let own = "report-shared";
    let setup = Setup {
        purposes: policy.purposes.iter().map(|purpose| purpose.id.clone()).collect(),
        host: "app.example".into(),
        device_class: 0,
        width: 400,
        weekday: 0,
        hour: 20,
        ..Setup::default()
    };
    let mut lines = Vec::new();
    let mut wanted = Vec::new();
    for person in 0..40_u64 {
        let name = format!("d{person}");
        let mut device = Device::new(&policy.to_bytes(), setup.clone(), &[], &[1; 32]).unwrap();
        let mut at = START + person * 1_000;
        for step in 0..=person % 7 {
            let (path, referrer) =
                (["/", "/pricing", "/docs/a", "/nowhere"][(person + step) as usize % 4], "www.google.com");
            lines.push(json!({ "device": name, "at_ms": at, "event": "page_view", "path": path, "referrer": referrer,
                "device_class": 0, "width": 400, "weekday": 0, "hour": 20 }));
            device.page(at, 0, path, referrer, "");
            lines.push(json!({ "device": name, "at_ms": at + 900, "event": "user_engagement", "a": 850 + step }));
            device.push(at + 900, 2, u32::try_from(850 + step).unwrap(), 0, 0);
            lines.push(json!({ "device": name, "at_ms": at + 1_000, "event": "purchase", "value": 12.5 }));
            device.push(at + 1_000, 21, 1_250, 0, 0);
            lines.push(json!({ "device": name, "at_ms": at + 1_100, "event": own }));
            assert!(device.custom(at + 1_100, own));
            at += 5_000;
        }
        wanted.push(device.feature_bytes());
    }
    let log: Vec<String> = lines.iter().map(ToString::to_string).collect();
    fs::write(folder.path("log.ndjson"), log.join("\n")).unwrap();
    let said = folder.says(&["model", "rows", "log.ndjson"]);
    assert!(said.contains("40 sessions of 40 devices"), "{said}");
    let table = fs::read_to_string(folder.path("rows.csv")).unwrap();
    let mut rows = table.lines();
    let head: Vec<&str> = rows.next().unwrap().split(',').collect();
    assert_eq!(head[..3], ["device", "started_ms", &format!("{}@{}", DEFINITIONS[0].name, DEFINITIONS[0].version)]);
    for (row, wanted) in rows.zip(&wanted) {
        let cells: Vec<&str> = row.split(',').collect();
        for (at, definition) in DEFINITIONS.iter().enumerate() {
            let found: f32 = cells[2 + at].parse().unwrap();
            // The device's own bytes hold whole steps; a model is given units.
            let steps = u32::from_le_bytes(wanted[4 * at..4 * at + 4].try_into().unwrap());
            let scale = if let Kind::Number { scale, .. } = definition.kind { scale } else { 1 };
            let given = (f64::from(steps) / f64::from(scale)) as f32;
            assert_eq!(found.to_bits(), given.to_bits(), "{} of {}", definition.name, cells[0]);
        }
    }
}

#[test]
fn sessions_of_one_device_are_rows_of_their_own_and_what_is_no_event_is_counted() {
    let folder = folder();
    let view = |at: u64| json!({ "device": "d", "at_ms": at, "event": "page_view", "path": "/" }).to_string();
    let log = [view(START), view(START + 60_000), view(START + 3_600_000)].join("\n");
    fs::write(folder.path("log.ndjson"), &log).unwrap();
    assert!(folder.says(&["model", "rows", "log.ndjson"]).contains("2 sessions of 1 devices, from 3 events"));
    let table = fs::read_to_string(folder.path("rows.csv")).unwrap();
    let column = table.lines().next().unwrap().split(',').position(|name| name == "returning@1").unwrap();
    let returning: Vec<&str> = table.lines().skip(1).map(|row| row.split(',').nth(column).unwrap()).collect();
    assert_eq!(returning, ["0", "1"], "it was here before");
    fs::remove_file(folder.path("rows.csv")).unwrap();
    let bad = [
        view(START),
        "{}".into(),
        "not json".into(),
        r#"{"device":"d","at_ms":1795464000000,"event":"teleport"}"#.into(),
        r#"{"device":"d","at_ms":1795464000000,"event":"teleport"}"#.into(),
        r#"{"device":"d","at_ms":1795464000000,"event":"page_view"}"#.into(),
        r#"{"device":"d","at_ms":1795464000000,"event":"click","email":"a@b"}"#.into(),
        view(START - 1),
        r#"{"device":"d","at_ms":1795464000001,"event":"feature","feature":"shoe-size","value":44}"#.into(),
    ];
    fs::write(folder.path("log.ndjson"), bad.join("\n")).unwrap();
    let words = folder.refuses(&["model", "rows", "log.ndjson"]);
    for expected in [
        "1 lines with no event: missing field `device` (the first is line 2)",
        "2 lines with no event called `teleport` (the first is line 4)",
        "1 lines with a page_view without a path (the first is line 6)",
        "no event: unknown field `email`",
        "a time before the same device's last (the first is line 8)",
        "no [[feature]] called `shoe-size` (the first is line 9)",
    ] {
        assert!(words.contains(expected), "{expected} in {words}");
    }
    assert!(!folder.path("rows.csv").exists());
}
