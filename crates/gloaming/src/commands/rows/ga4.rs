//! Rows of the GA4 export to BigQuery, as JSON: `bq extract --destination_format NEWLINE_DELIMITED_JSON`.
//!
//! Names are those of the export's schema (support.google.com/analytics/answer/7029846). Numbers may come as texts, which is
//! how BigQuery writes its whole numbers.

use serde::Deserialize;
use serde_json::Value;

use super::{Line, Read, local, path_and_host, ticks};

#[derive(Deserialize)]
struct Row {
    event_timestamp: Value,
    event_name: String,
    user_pseudo_id: Option<String>,
    #[serde(default)]
    event_params: Vec<Param>,
    device: Option<Device>,
    collected_traffic_source: Option<Source>,
    ecommerce: Option<Ecommerce>,
}

#[derive(Deserialize)]
struct Param {
    key: String,
    #[serde(default)]
    value: Value,
}

#[derive(Deserialize)]
struct Device {
    category: Option<String>,
    time_zone_offset_seconds: Option<Value>,
}

#[derive(Deserialize)]
struct Source {
    manual_campaign_name: Option<String>,
}

#[derive(Deserialize)]
struct Ecommerce {
    purchase_revenue: Option<f64>,
}

/// A whole number, as BigQuery writes it or as JSON does.
fn whole(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

impl Row {
    fn param(&self, key: &str) -> Option<&Value> {
        self.event_params.iter().find(|param| param.key == key).map(|param| &param.value)
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.param(key)?["string_value"].as_str()
    }

    fn number(&self, key: &str) -> Option<f64> {
        let value = self.param(key)?;
        ["double_value", "float_value"]
            .iter()
            .find_map(|kind| value[kind].as_f64())
            .or_else(|| whole(&value["int_value"]).map(|whole| whole as f64))
            .or_else(|| value["string_value"].as_str()?.parse().ok())
    }
}

/// What a row is as lines of our own log.
pub(super) fn read(text: &str, own: &[String]) -> Result<Read, String> {
    let row: Row = serde_json::from_str(text).map_err(|error| {
        format!("no row of the export: {}", error.to_string().split(" at line").next().unwrap_or_default())
    })?;
    let micros = whole(&row.event_timestamp).and_then(|micros| u64::try_from(micros).ok());
    let at_ms = micros.ok_or("an event_timestamp that is no time")? / 1_000;
    let device = row.user_pseudo_id.as_deref().filter(|id| !id.is_empty()).ok_or("no user_pseudo_id")?;
    let line = |event: &str| Line { device: device.to_owned(), at_ms, event: event.to_owned(), ..Line::default() };
    // What was engaged since the event before comes with each event.
    let mut lines: Vec<Line> = Vec::new();
    if let Some(engaged) = row.number("engagement_time_msec").filter(|ms| *ms >= 1.0) {
        lines.extend(ticks(engaged).map(|ms| Line { a: Some(ms), ..line("user_engagement") }));
    }
    let value = row.number("value").or_else(|| row.ecommerce.as_ref()?.purchase_revenue);
    let name = row.event_name.as_str();
    match name {
        "page_view" => {
            let (path, _) = path_and_host(row.text("page_location").ok_or("a page_view without page_location")?);
            let offset = row.device.as_ref().and_then(|device| whole(device.time_zone_offset_seconds.as_ref()?));
            let (weekday, hour) = local(at_ms, offset.unwrap_or(0));
            let campaign =
                row.collected_traffic_source.as_ref().and_then(|source| source.manual_campaign_name.as_deref());
            let campaign = campaign.or_else(|| row.text("campaign")).filter(|name| !name.starts_with('('));
            let category = row.device.as_ref().and_then(|device| device.category.as_deref());
            lines.push(Line {
                path: Some(path.to_owned()),
                referrer: row.text("page_referrer").map(|url| path_and_host(url).1.to_owned()),
                campaign: campaign.map(str::to_owned),
                device_class: Some(match category {
                    Some("mobile") => 0,
                    Some("tablet") => 1,
                    Some("desktop") => 2,
                    _ => 3,
                }),
                weekday: Some(weekday),
                hour: Some(hour),
                ..line(name)
            });
        }
        "scroll" => {
            let percent = row.number("percent_scrolled").unwrap_or(90.0).clamp(0.0, 100.0);
            lines.push(Line { a: Some(percent as u32), ..line(name) });
        }
        // Enhanced measurement knows clicks that lead away, and no others.
        "click" => lines.push(line("outbound_click")),
        "view_search_results" => lines.push(line("search")),
        "search" | "view_item" | "file_download" => lines.push(line(name)),
        "form_start" | "form_submit" => lines.push(Line { a: Some(1), ..line(name) }),
        "add_to_cart" | "begin_checkout" | "purchase" => lines.push(Line { value, ..line(name) }),
        _ if own.iter().any(|event| event == name) => lines.push(line(name)),
        _ if lines.is_empty() => return Ok(Read::Passed(name.to_owned())),
        _ => {}
    }
    Ok(Read::Lines(lines))
}
