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

/// One visit in three forms: what happened when, and what of it an export can say.
struct Step {
    device: &'static str,
    after_ms: u64,
    path: &'static str,
    engaged_ms: u64,
    bought: Option<f64>,
}

const STEPS: [Step; 4] = [
    Step { device: "d1", after_ms: 0, path: "/", engaged_ms: 0, bought: None },
    Step { device: "d2", after_ms: 500, path: "/pricing/pro", engaged_ms: 0, bought: None },
    Step { device: "d1", after_ms: 70_000, path: "/pricing", engaged_ms: 65_000, bought: None },
    Step { device: "d1", after_ms: 90_000, path: "/app/a", engaged_ms: 12_345, bought: Some(12.5) },
];

/// Our own lines of these visits.
fn ours() -> String {
    let mut lines = Vec::new();
    for Step { device, after_ms, path, engaged_ms, bought } in STEPS {
        let at_ms = START + after_ms;
        for ms in [engaged_ms.min(60_000), engaged_ms.saturating_sub(60_000)].into_iter().filter(|ms| *ms > 0) {
            lines.push(json!({ "device": device, "at_ms": at_ms, "event": "user_engagement", "a": ms }));
        }
        lines.push(json!({ "device": device, "at_ms": at_ms, "event": "page_view", "path": path,
            "referrer": "www.google.com", "campaign": "spring", "device_class": 0, "weekday": 0, "hour": 20 }));
        if let Some(value) = bought {
            lines.push(json!({ "device": device, "at_ms": at_ms + 1, "event": "purchase", "value": value }));
            lines.push(json!({ "device": device, "at_ms": at_ms + 2, "event": "report-shared" }));
        }
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// The same as rows of GA4's export, the last first.
fn ga4() -> Vec<String> {
    let mut lines = Vec::new();
    for Step { device, after_ms, path, engaged_ms, bought } in STEPS {
        let row = |plus: u64, name: &str, params: serde_json::Value| {
            json!({ "event_date": "20261123", "event_timestamp": ((START + after_ms + plus) * 1_000).to_string(), "event_name": name,
                "user_pseudo_id": device, "event_params": params, "device": { "category": "mobile", "time_zone_offset_seconds": "0" },
                "collected_traffic_source": { "manual_campaign_name": "spring" }, "geo": { "country": "DE" } })
            .to_string()
        };
        let text = |key: &str, value: &str| json!({ "key": key, "value": { "string_value": value } });
        lines.push(row(
            0,
            "page_view",
            json!([
                text("page_location", &format!("https://app.example{path}?secret=1#top")),
                text("page_referrer", "https://www.google.com/search"),
                { "key": "engagement_time_msec", "value": { "int_value": engaged_ms.to_string() } },
            ]),
        ));
        lines.push(row(0, "session_start", json!([])));
        if let Some(value) = bought {
            lines.push(row(1, "purchase", json!([{ "key": "value", "value": { "double_value": value } }])));
            lines.push(row(2, "report-shared", json!([])));
        }
    }
    lines.reverse();
    lines
}

/// And as Snowplow's enriched events, whose engagement comes in pings of ten seconds.
fn snowplow(columns: &[(usize, &str)]) -> String {
    let mut all = vec![""; 131];
    columns.iter().for_each(|(at, text)| all[*at] = text);
    all.join("\t")
}

#[test]
fn exports_of_others_become_the_same_table() {
    let folder = folder();
    folder.edit("policy.toml", "events = [", "campaigns = [\"spring\"]\nevents = [");
    let table = |log: String, form: &str| {
        fs::write(folder.path("log"), log).unwrap();
        let said = folder.says(&["model", "rows", "log", "--log", form]);
        (said, fs::read_to_string(folder.path("rows.csv")).unwrap())
    };
    let (_, own) = table(ours(), "gloaming");
    let (said, exported) = table(ga4().join("\n"), "ga4");
    assert_eq!(exported, own);
    assert!(said.contains("passed over: 4 rows of `session_start`, which means nothing here"), "{said}");

    let mut lines = Vec::new();
    for (at, path) in [("2026-11-23 20:00:00.000", "/"), ("2026-11-23 20:01:00.000", "/pricing")] {
        let common = [(15, "d1"), (39, "www.google.com"), (51, "spring"), (95, "400"), (101, "Mobile"), (124, at)];
        lines.push(snowplow(&[&common[..], &[(5, "page_view"), (35, path)]].concat()));
        lines.push(snowplow(&[&common[..], &[(5, "page_ping"), (76, "500"), (96, "500"), (107, "2000")]].concat()));
    }
    let action = r#"{"data":{"data":{"type":"transaction","revenue":12.5}}}"#;
    let end = (124, "2026-11-23 20:01:00.001");
    lines.push(snowplow(&[(5, "unstruct"), (15, "d1"), (58, action), (126, "snowplow_ecommerce_action"), end]));
    lines.push(snowplow(&[(5, "struct"), (15, "d1"), (54, "report-shared"), end]));
    lines.push(snowplow(&[(5, "transaction_item"), (15, "d1"), end]));
    let mut own = Vec::new();
    for (plus, path) in [(0, "/"), (60_000, "/pricing")] {
        let line = |event: &str| json!({ "device": "d1", "at_ms": START + plus, "event": event });
        let mut page = line("page_view");
        page["path"] = path.into();
        page["referrer"] = "www.google.com".into();
        page["campaign"] = "spring".into();
        for (key, value) in [("device_class", 0), ("width", 400), ("weekday", 0), ("hour", 20)] {
            page[key] = value.into();
        }
        let (mut ping, mut scroll) = (line("user_engagement"), line("scroll"));
        (ping["a"], scroll["a"]) = (10_000.into(), 50.into());
        own.extend([page, ping, scroll]);
    }
    own.push(json!({ "device": "d1", "at_ms": START + 60_001, "event": "purchase", "value": 12.5 }));
    own.push(json!({ "device": "d1", "at_ms": START + 60_001, "event": "report-shared" }));
    let (_, own) = table(own.iter().map(|line| format!("{line}\n")).collect(), "gloaming");
    let (said, exported) = table(lines.join("\n"), "snowplow");
    assert_eq!(exported, own);
    assert!(said.contains("passed over: 1 rows of `transaction_item`"), "{said}");
}

#[test]
fn rows_that_are_none_are_counted_by_reason_whatever_the_export() {
    let folder = folder();
    fs::write(folder.path("log"), "{}\n{\"event_name\":\"page_view\",\"event_timestamp\":\"1\"}\n{\"event_name\":\"page_view\",\"event_timestamp\":\"x\",\"user_pseudo_id\":\"d\"}\n").unwrap();
    let error = folder.refuses(&["model", "rows", "log", "--log", "ga4"]);
    for words in
        ["no row of the export: missing field", "1 lines with no user_pseudo_id", "an event_timestamp that is no time"]
    {
        assert!(error.contains(words), "{words:?} is not in {error}");
    }
    let late = snowplow(&[(5, "page_view"), (15, "d1"), (124, "yesterday")]);
    fs::write(
        folder.path("log"),
        format!("a\tb\n{late}\n{}\n", snowplow(&[(5, "page_view"), (124, "2026-11-23 20:00:00")])),
    )
    .unwrap();
    let error = folder.refuses(&["model", "rows", "log", "--log", "snowplow"]);
    for words in ["2 columns and not 131", "no time that can be read", "neither domain_userid nor network_userid"] {
        assert!(error.contains(words), "{words:?} is not in {error}");
    }
    assert!(folder.refuses(&["model", "rows", "log", "--log", "matomo"]).contains("use gloaming, ga4 or snowplow"));
}

/// What stands at a page is what a device has when it scores there, and what the visit came to stands beside it.
#[test]
fn visits_as_they_stood_at_a_page_know_nothing_of_what_came_later() {
    let folder = folder();
    let view = |device: &str, at: u64, path: &str| json!({ "device": device, "at_ms": at, "event": "page_view", "path": path });
    let event =
        |device: &str, at: u64, event: &str| json!({ "device": device, "at_ms": at, "event": event, "value": 9.5 });
    let log = [
        view("a", START, "/"),
        event("a", START, "view_item"),
        event("a", START + 10, "purchase"),
        view("a", START + 1_000, "/pricing"),
        // Half an hour later it is another visit.
        view("a", START + 3_600_000, "/"),
        view("b", START, "/docs/a"),
        view("b", START + 5_000, "/docs/b"),
        view("b", START + 9_000, "/pricing"),
        event("b", START + 20_000, "purchase"),
    ];
    fs::write(folder.path("log.ndjson"), log.map(|line| line.to_string()).join("\n")).unwrap();
    let said = folder.says(&["model", "rows", "log.ndjson", "--at", "1,3", "--end", "purchase@1", "--end", "pages@1"]);
    assert!(said.contains("3 sessions of 2 devices, from 9 events, 4 moments of them"), "{said}");
    let table = fs::read_to_string(folder.path("rows.csv")).unwrap();
    let head: Vec<&str> = table.lines().next().unwrap().split(',').collect();
    let wanted = ["device", "at", "pages@1", "items-viewed@1", "purchase@1", "end:purchase@1", "end:pages@1"];
    let places =
        wanted.map(|name| head.iter().position(|column| *column == name).unwrap_or_else(|| panic!("{name}: {head:?}")));
    let rows: Vec<[&str; 7]> = table
        .lines()
        .skip(1)
        .map(|row| {
            let cells: Vec<&str> = row.split(',').collect();
            places.map(|place| cells[place])
        })
        .collect();
    assert_eq!(
        rows,
        [
            // What came with the page, at the very same time, was known; what was bought ten milliseconds later was not.
            ["a", "1", "1", "1", "0", "1", "2"],
            ["a", "1", "1", "0", "0", "0", "1"],
            ["b", "1", "1", "0", "0", "1", "3"],
            ["b", "3", "3", "0", "0", "1", "3"],
        ]
    );
    for (arguments, words) in [
        (&["--at", "0"][..], "--at takes up to 64 numbers of pages, each at least 1"),
        (&["--at", "1", "--end", "shoe-size@1"], "--end shoe-size@1: no device computes it"),
    ] {
        let error = folder.refuses(&[&["model", "rows", "log.ndjson"], arguments].concat());
        assert!(error.contains(words), "{error}");
    }
}
