//! Figures as rows and as gauges, from a centre that runs: they say what JSON says, and what a dashboard of Grafana's names is
//! there.
#![allow(clippy::unwrap_used)]

mod acting;

use std::collections::{BTreeMap, BTreeSet};

use acting::centre::{Centre, TODAY, all, list, number};
use acting::{ALL, DAY, SITE, Shop, text};
use serde_json::Value;

async fn csv_of(centre: &Centre, what: &str) -> Vec<BTreeMap<String, String>> {
    let and = if what.contains('?') { '&' } else { '?' };
    let (status, text) = centre.text(&format!("/api/v1/sites/{SITE}/{what}{and}format=csv")).await;
    assert_eq!(status, 200, "{text}");
    assert!(text.lines().count() > 1 && text.ends_with("\r\n"), "{text}");
    csv::Reader::from_reader(text.as_bytes()).deserialize().map(|row| row.unwrap()).collect()
}

fn cell(row: &BTreeMap<String, String>, column: &str) -> Option<f64> {
    Some(&row[column]).filter(|text| !text.is_empty()).map(|text| text.parse().unwrap())
}

/// The rows of a name: value, low and high.
fn ends(rows: &[BTreeMap<String, String>], metric: &str, name: &str) -> [Option<f64>; 3] {
    let mut found = rows.iter().filter(|row| row["metric"] == metric && row["name"] == name);
    let row = found.next().unwrap_or_else(|| panic!("{metric}, {name}: not in {rows:#?}"));
    assert!(found.next().is_none(), "{metric}, {name} is there twice");
    ["value", "low", "high"].map(|column| cell(row, column))
}

fn of_figure(figure: &Value) -> [Option<f64>; 3] {
    ["value", "low", "high"].map(|end| figure[end].as_f64())
}

/// Whether they are one number: JSON is read to the last digit but one.
fn same(one: Option<f64>, other: Option<f64>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => (one - other).abs() <= 1e-12 * one.abs().max(1e-3),
        (one, other) => one == other,
    }
}

#[track_caller]
fn agree(found: [Option<f64>; 3], wanted: [Option<f64>; 3]) {
    assert!(found.into_iter().zip(wanted).all(|(one, other)| same(one, other)), "{found:?}, not {wanted:?}");
}

#[tokio::test]
async fn rows_say_what_json_says() {
    let centre = Centre::of(&Shop::new(TODAY, &text(TODAY, ALL)), Some(1)).await;
    // Every cell of every window, once.
    let (overview, rows) = (centre.json("overview?last=5").await, csv_of(&centre, "overview?last=5").await);
    let mut place = rows.iter();
    for written in [false, true] {
        for metric in list(&overview["metrics"]).iter().filter(|metric| metric["written_out"] == written) {
            for window in list(&metric["windows"]) {
                let values = list(&window["values"]);
                if values.is_empty() {
                    let row = place.next().unwrap();
                    assert_eq!(
                        (row["unknown"].as_str(), cell(row, "value")),
                        (window["state"].as_str().unwrap(), None)
                    );
                }
                for (at, value) in values.iter().enumerate() {
                    let (row, value, half) = (place.next().unwrap(), number(value), number(&window["half_width"][at]));
                    assert_eq!(row["metric"], metric["name"].as_str().unwrap());
                    assert_eq!(row["name"], metric["labels"][at].as_str().unwrap());
                    assert_eq!(row["edge"], window["edge"].as_str().unwrap());
                    let told = ["value", "low", "high"].map(|column| cell(row, column));
                    agree(told, [value, value - half, value + half].map(Some));
                    let day = gloaming_policy::author::date_of(window["start_ms"].as_u64().unwrap() / DAY);
                    assert_eq!((row["window"].as_str(), row["windows"].as_str()), (&*format!("{day}T00:00:00Z"), "1"));
                }
            }
        }
    }
    assert!(place.next().is_none() && rows.len() > 400, "{} rows", rows.len());
    assert!(rows.iter().any(|row| row["unknown"] == "below-k" && row["metric"] == "source"));

    let (models, rows) = (centre.json("models").await, csv_of(&centre, "models").await);
    let model = &models[0];
    assert!(rows.iter().all(|row| row["model"] == "purchase-intent"));
    for (name, key) in [("auc", "auc"), ("calibration-error", "calibration_error"), ("base-rate", "base_rate")] {
        agree(ends(&rows, "performance", name), of_figure(&model["performed"][key]));
    }
    for drift in list(&model["drift"]) {
        let of = drift["of"].as_str().unwrap();
        agree(ends(&rows, of, "psi"), [drift["psi"].as_f64(), None, None]);
        assert!(same(ends(&rows, of, "q")[0], drift["q"].as_f64()));
        assert_eq!(ends(&rows, of, "drifted")[0], Some(f64::from(u8::from(drift["drifted"] == true))));
    }
    assert_eq!(list(&model["drift"]).len(), 4);
    for fared in list(&model["fared"]) {
        agree(ends(&rows, "fared", fared["how"].as_str().unwrap()), of_figure(&fared["visits"]));
    }
    let scored_by = list(&model["scored_by"]);
    let who: Vec<&str> = scored_by.iter().map(|one| one["who"].as_str().unwrap()).collect();
    assert_eq!(who, ["itself", "last-good", "fallback", "nobody"]);
    for one in scored_by {
        agree(ends(&rows, "scored-by", one["who"].as_str().unwrap()), of_figure(&one["visits"]));
    }
    let points: usize = list(&model["series"]).iter().map(|series| list(&series["windows"]).len()).sum();
    assert!(points > 6 && rows.iter().filter(|row| row["metric"] == "series").count() == points, "{points}");
    let fair = &model["fair"][0];
    agree(ends(&rows, "by age-band", "odds-gap"), of_figure(&fair["odds_gap"]));
    for group in list(&fair["groups"]) {
        let name = format!("selection | {}", group["name"].as_str().unwrap());
        agree(ends(&rows, "by age-band", &name), of_figure(&group["selection"]));
    }

    let (trials, rows) = (centre.json("experiments").await, csv_of(&centre, "experiments").await);
    let trial = &trials[0];
    for (what, key) in [("mean", "share"), ("difference", "difference"), ("lift", "lift")] {
        agree(ends(&rows, "hears-it", &format!("{what} | heard")), of_figure(&trial["arms"][1][key]));
    }
    assert!(same(ends(&rows, "hears-it", "sample-ratio-p")[0], trial["sample_ratio_p"].as_f64()));
    let rails = rows.iter().filter(|row| row["name"].starts_with("broken | ")).count();
    assert_eq!(rails, list(&trial["guardrails"]).len());

    let (worth, rows) = (centre.json("worth").await, csv_of(&centre, "worth").await);
    assert_eq!(rows.len(), all(&worth[0]).count());
    for line in all(&worth[0]) {
        let text = |key: &str| line[key].as_str().unwrap_or_default();
        let arm = if text("arm").is_empty() { String::new() } else { format!(" | {}", text("arm")) };
        let name = format!("{} | {}{arm}", text("kind"), text("what"));
        let part = if matches!(text("kind"), "conversion" | "value" | "satisfaction") { "brings" } else { "costs" };
        agree(ends(&rows, part, &name), of_figure(&line["figure"]));
    }

    // By `Accept` as by `format`; what is neither is refused, and a site that is not known is not known in either form.
    let ask = async |accept: &str, path: &str| accepting(&centre.base, path, accept).await;
    let path = format!("/api/v1/sites/{SITE}/models");
    let (head, body) = ask("text/csv", &path).await;
    assert!(
        head.contains("content-type: text/csv; charset=utf-8; header=present") && head.contains("vary: accept"),
        "{head}"
    );
    assert!(body.starts_with("window,windows,edge,model,metric,name,value,low,high,unknown\r\n"), "{body}");
    for accept in ["*/*", "application/json, text/csv", "text/html,*/*;q=0.8"] {
        let (head, _) = ask(accept, &path).await;
        assert!(head.contains("content-type: application/json"), "{accept}: {head}");
    }
    let (status, refused) = centre.text(&format!("{path}?format=xml")).await;
    assert!(status == 400 && refused.contains("format=csv"), "{refused}");
    assert_eq!(centre.text("/api/v1/sites/no.example/worth?format=csv").await.0, 404);
    centre.running.stop().await;
}

/// One request as it goes over the wire, because the client of the workspace chooses its own headers: head and body.
async fn accepting(base: &str, path: &str, accept: &str) -> (String, String) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let address = base.trim_start_matches("http://");
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\naccept: {accept}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_ascii_lowercase(), body.to_owned())
}

/// Series of a scrape: name, labels as they stand, value.
fn series(text: &str) -> Vec<(String, String, f64)> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let read = |line: &str| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) =
            series.split_once('{').map_or((series, ""), |(name, rest)| (name, rest.trim_end_matches('}')));
        (name.to_owned(), labels.to_owned(), value.parse().unwrap())
    };
    lines.map(read).collect()
}

#[tokio::test]
async fn a_scrape_of_a_site_holds_its_newest_figures() {
    let centre = Centre::of(&Shop::new(TODAY, &text(TODAY, ALL)), Some(1)).await;
    let (_, without) = centre.text("/metrics").await;
    assert!(without.contains("gloaming_alerts{kind=") && !without.contains("gloaming_figure"), "{without}");
    let (status, text) = centre.text(&format!("/metrics?site={SITE}")).await;
    assert_eq!(status, 200);
    assert_eq!(centre.text("/metrics?site=no.example").await.0, 404);
    let found = series(&text);
    let each: BTreeSet<(&str, &str)> = found.iter().map(|(name, labels, _)| (&**name, &**labels)).collect();
    assert_eq!(each.len(), found.len(), "no series twice");
    let of = |name: &str, model: &str, metric: &str, what: &str| {
        let labels = format!("model=\"{model}\",metric=\"{metric}\",name=\"{what}\"");
        let one = found.iter().find(|(of, all, _)| of == name && all.ends_with(&labels));
        one.map(|(_, _, value)| *value)
    };
    let models = centre.json("models").await;
    for (name, end) in [("gloaming_figure", "value"), ("gloaming_figure_low", "low"), ("gloaming_figure_high", "high")]
    {
        let auc = of(name, "purchase-intent", "performance", "auc");
        assert!(auc.is_some() && same(auc, models[0]["performed"]["auc"][end].as_f64()), "{name}: {auc:?}");
    }
    // Of windows the newest alone, and of one that stayed below k nothing but that.
    let overview = centre.json("overview?last=1").await;
    let metric = list(&overview["metrics"]).iter().find(|metric| metric["name"] == "scroll-depth").unwrap();
    let newest = list(&metric["windows"]).last().unwrap();
    let label = metric["labels"][1].as_str().unwrap();
    assert_eq!(of("gloaming_figure", "", "scroll-depth", label), newest["values"][1].as_f64());
    let source = |name: &str| {
        found
            .iter()
            .filter(|(of, labels, _)| of == name && labels.contains("metric=\"source\""))
            .map(|(.., v)| *v)
            .collect::<Vec<_>>()
    };
    assert_eq!((source("gloaming_window_released"), source("gloaming_figure")), (vec![0.0], vec![]));
    assert!(source("gloaming_window_start_seconds")[0] > 1.7e9);
    let count = found.iter().filter(|(name, ..)| name == "gloaming_figure").count();
    println!("{count} figures, {} series, {} bytes", found.len(), text.len());
    assert!(count <= 2_000 && found.iter().any(|(name, _, left)| name == "gloaming_figures_left_out" && *left == 0.0));
    centre.running.stop().await;
}

const DASHBOARD: &str = include_str!("../../../docs/recipes/grafana/dashboard.json");

/// A dashboard with its variables as they stand in it; the site is that of this test.
fn dashboard() -> Value {
    let text: Value = serde_json::from_str(DASHBOARD).unwrap();
    let mut filled = DASHBOARD.to_owned();
    for variable in list(&text["templating"]["list"]) {
        let [name, value] = [&variable["name"], &variable["current"]["value"]].map(|text| text.as_str().unwrap());
        filled = filled.replace(&format!("${name}"), if name == "site" { SITE } else { value });
    }
    serde_json::from_str(&filled).unwrap()
}

/// A label, whether what it must be is a pattern, and what it must be.
type Label = (String, bool, String);

/// The names in an expression of Prometheus' that a scrape must hold: a metric, and its labels with what they must be.
fn selectors(expr: &str) -> Vec<(String, Vec<Label>)> {
    let mut found = Vec::new();
    for (at, _) in expr.match_indices("gloaming_") {
        let rest = &expr[at..];
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        let inside = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or("", |(inside, _)| inside);
        let labels = inside.split("\",").filter(|one| !one.is_empty()).map(|one| {
            let (label, value) = one.split_once("=").unwrap();
            let is_pattern = value.starts_with('~');
            (label.trim().to_owned(), is_pattern, value.trim_start_matches('~').trim_matches('"').to_owned())
        });
        found.push((name.to_owned(), labels.collect()));
    }
    found
}

/// Whether a series has a label of this value; of a pattern, any of its parts with `.*` at the end.
fn matches(labels: &str, (label, is_pattern, wanted): &(String, bool, String)) -> bool {
    let start = format!("{label}=\"");
    let Some((_, rest)) = labels.split_once(&start) else { return false };
    let value = rest.split_once('"').unwrap().0;
    if !is_pattern {
        return value == *wanted;
    }
    wanted.split('|').any(|one| match one.strip_suffix(".*") {
        Some(start) => value.starts_with(start),
        None => value == one,
    })
}

/// Grafana is not here to be asked: every path, column, value and series that the dashboard names is looked for in what a centre
/// answers.
#[tokio::test]
async fn what_the_dashboard_for_grafana_names_is_there() {
    let centre = Centre::of(&Shop::new(TODAY, &text(TODAY, ALL)), Some(1)).await;
    let (_, scrape) = centre.text(&format!("/metrics?site={SITE}")).await;
    let found = series(&scrape);
    let dashboard = dashboard();
    let (mut urls, mut series_named) = (0, 0);
    for panel in list(&dashboard["panels"]) {
        let mut columns = BTreeSet::new();
        let mut rows = Vec::new();
        for target in list(&panel["targets"]) {
            if let Some(expr) = target["expr"].as_str() {
                for (name, labels) in selectors(expr) {
                    let there =
                        found.iter().any(|(of, all, _)| *of == name && labels.iter().all(|one| matches(all, one)));
                    assert!(there, "{name}{labels:?} of {} is in no scrape", panel["title"]);
                    series_named += 1;
                }
                assert!(expr.contains("gloaming_"), "{expr}");
                continue;
            }
            let url = target["url"].as_str().unwrap();
            let (status, text) = centre.text(url).await;
            assert_eq!(status, 200, "{url}: {text}");
            assert!(target["type"] == "csv" && url.contains("format=csv"), "{url}");
            let mut reader = csv::Reader::from_reader(text.as_bytes());
            let headers = reader.headers().unwrap().clone();
            for column in list(&target["columns"]) {
                let selector = column["selector"].as_str().unwrap();
                assert!(headers.iter().any(|name| name == selector), "{selector} is no column of {url}");
                columns.insert(column["text"].as_str().unwrap().to_owned());
            }
            rows.extend(reader.deserialize().map(|row| row.unwrap()).collect::<Vec<BTreeMap<String, String>>>());
            urls += 1;
        }
        // What a panel filters by and sorts into fields is there as well.
        for step in panel["transformations"].as_array().map_or(&[][..], Vec::as_slice) {
            for filter in step["options"]["filters"].as_array().map_or(&[][..], Vec::as_slice) {
                let field = filter["fieldName"].as_str().unwrap();
                assert!(columns.contains(field), "{field} is no field of {}", panel["title"]);
                if let Some(value) = filter["config"]["options"]["value"].as_str() {
                    let is_there = |row: &BTreeMap<String, String>| match filter["config"]["id"].as_str() {
                        Some("equal") => row[field] == value,
                        Some("substring") => row[field].contains(value),
                        other => panic!("{other:?}"),
                    };
                    assert!(rows.iter().any(is_there), "no row of {} has {field} {value}", panel["title"]);
                }
            }
            for field in step["options"]["fields"].as_array().map_or(&[][..], Vec::as_slice) {
                assert!(columns.contains(field.as_str().unwrap()), "{field}");
            }
        }
    }
    println!("{urls} paths and {series_named} series of the dashboard are there");
    assert!(urls >= 3 && series_named >= 6);
    centre.running.stop().await;
}
