//! Snowplow's enriched events: lines of 131 columns, tabs between them (docs.snowplow.io, "canonical event model").

use gloaming_policy::author::day_of;
use serde_json::Value;

use super::{Line, Read, local, ticks};

/// Columns of an enriched event.
const COLUMNS: usize = 131;
/// Those that are read, by their place.
const COLLECTOR: usize = 3;
const CREATED: usize = 4;
const EVENT: usize = 5;
const DOMAIN_USER: usize = 15;
const NETWORK_USER: usize = 17;
const PATH: usize = 35;
const REFERRER: usize = 39;
const CAMPAIGN: usize = 51;
const ACTION: usize = 54;
const UNSTRUCT: usize = 58;
const TOTAL: usize = 61;
const BOTTOM: usize = 76;
const VIEW_WIDTH: usize = 95;
const VIEW_HEIGHT: usize = 96;
const DEVICE: usize = 101;
const DOC_HEIGHT: usize = 107;
const DERIVED: usize = 124;
const NAME: usize = 126;

/// A page ping says that somebody was there for this long, ms: the trackers' usual heartbeat.
const PING_MS: f64 = 10_000.0;

/// Milliseconds since 1970 of `2026-03-01 10:00:00.123`, UTC.
fn time(text: &str) -> Option<u64> {
    let (date, clock) = text.split_once([' ', 'T'])?;
    let (clock, fraction) = clock.trim_end_matches('Z').split_once('.').unwrap_or((clock.trim_end_matches('Z'), "0"));
    let parts: Vec<u64> = clock.split(':').map(str::parse).collect::<Result<_, _>>().ok()?;
    let [hours @ 0..24, minutes @ 0..60, seconds @ 0..61] = *parts.as_slice() else { return None };
    let milliseconds: u64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    Some(day_of(date)? * 86_400_000 + ((hours * 60 + minutes) * 60 + seconds) * 1_000 + milliseconds)
}

/// Which event a self-describing one is as ours, and its value.
fn described(name: &str, text: &str) -> (String, Option<f64>) {
    let ours = match name {
        "link_click" => "outbound_click",
        "submit_form" => "form_submit",
        "focus_form" | "change_form" => "form_start",
        "site_search" => "search",
        "file_download" => "file_download",
        "snowplow_ecommerce_action" => {
            let data: Value = serde_json::from_str(text).unwrap_or_default();
            let data = &data["data"]["data"];
            let value = ["total_value", "revenue", "price"].iter().find_map(|key| data[key].as_f64());
            let ours = match data["type"].as_str() {
                Some("product_view") => "view_item",
                Some("add_to_cart") => "add_to_cart",
                Some("checkout_step") => "begin_checkout",
                Some("transaction") => "purchase",
                _ => name,
            };
            return (ours.to_owned(), value);
        }
        other => other,
    };
    (ours.to_owned(), None)
}

/// What a line is as lines of our own log.
pub(super) fn read(text: &str, own: &[String]) -> Result<Read, String> {
    let columns: Vec<&str> = text.split('\t').collect();
    if columns.len() != COLUMNS {
        return Err(format!("{} columns and not {COLUMNS}, as enriched events have", columns.len()));
    }
    let of = |at: usize| Some(columns[at]).filter(|text| !text.is_empty());
    let number = |at: usize| of(at).and_then(|text| text.parse::<f64>().ok());
    let at_ms =
        [DERIVED, CREATED, COLLECTOR].into_iter().find_map(of).and_then(time).ok_or("no time that can be read")?;
    let device = of(DOMAIN_USER).or_else(|| of(NETWORK_USER)).ok_or("neither domain_userid nor network_userid")?;
    let line = |event: &str| Line { device: device.to_owned(), at_ms, event: event.to_owned(), ..Line::default() };
    let known = |event: &str| own.iter().any(|name| name == event);
    let lines = match of(EVENT).unwrap_or_default() {
        "page_view" => {
            let (weekday, hour) = local(at_ms, 0);
            vec![Line {
                path: Some(of(PATH).unwrap_or("/").to_owned()),
                referrer: of(REFERRER).map(str::to_owned),
                campaign: of(CAMPAIGN).map(str::to_owned),
                device_class: Some(match of(DEVICE) {
                    Some("Mobile") => 0,
                    Some("Tablet") => 1,
                    Some("Computer") => 2,
                    _ => 3,
                }),
                width: number(VIEW_WIDTH).map(|width| width as u32),
                weekday: Some(weekday),
                hour: Some(hour),
                ..line("page_view")
            }]
        }
        "page_ping" => {
            let seen = number(BOTTOM).zip(number(VIEW_HEIGHT)).zip(number(DOC_HEIGHT).filter(|height| *height > 0.0));
            let percent = seen.map(|((offset, view), height)| (100.0 * (offset + view) / height).clamp(0.0, 100.0));
            let scrolled = percent.map(|percent| Line { a: Some(percent as u32), ..line("scroll") });
            ticks(PING_MS).map(|ms| Line { a: Some(ms), ..line("user_engagement") }).chain(scrolled).collect()
        }
        "transaction" => vec![Line { value: number(TOTAL), ..line("purchase") }],
        "struct" => match of(ACTION) {
            Some(action) if known(action) => vec![line(action)],
            action => return Ok(Read::Passed(format!("struct {}", action.unwrap_or("without an action")))),
        },
        "unstruct" => {
            let (event, value) = described(of(NAME).unwrap_or_default(), of(UNSTRUCT).unwrap_or_default());
            let ours = ["outbound_click", "search", "file_download", "view_item"];
            match event.as_str() {
                "form_start" | "form_submit" => vec![Line { a: Some(1), ..line(&event) }],
                "add_to_cart" | "begin_checkout" | "purchase" => vec![Line { value, ..line(&event) }],
                name if ours.contains(&name) || known(name) => vec![line(name)],
                _ => return Ok(Read::Passed(event)),
            }
        }
        other => return Ok(Read::Passed(other.to_owned())),
    };
    Ok(Read::Lines(lines))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_collectors_write_them() {
        // By Python's datetime.
        assert_eq!(time("2026-03-01 10:00:00.123"), Some(1_772_359_200_123));
        assert_eq!(time("2026-03-01T10:00:00Z"), Some(1_772_359_200_000));
        assert_eq!(time("2026-03-01 10:00:00.5"), Some(1_772_359_200_500));
        for wrong in ["", "2026-03-01", "2026-13-01 10:00:00", "2026-03-01 24:00:00", "2026-03-01 10:00", "x y"] {
            assert_eq!(time(wrong), None, "{wrong}");
        }
    }
}
