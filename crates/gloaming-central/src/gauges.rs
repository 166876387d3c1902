//! The newest figures of one site for Prometheus (text format 0.0.4): every row of `figures` that has a number, as a gauge of its
//! value and gauges of the ends of its interval.
//!
//! Labels are names of the site's policy (models, metrics, words of cells, arms, edges) and never of a person. There are
//! [`MOST`] figures at most, three series each; what comes beyond is left out, and how much that is, is a gauge too.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::figures::{Row, SERIES};
use crate::overview::Overview;

/// Most figures of one scrape: three series each, which is what Prometheus keeps for a small service. A table of scores and
/// outcomes is forty of them, a page of fifty metrics of ten cells five hundred.
pub(crate) const MOST: usize = 2_000;

/// A label's value: backslash, quote and line feed are what the format escapes.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn labels(site: &str, row: &Row) -> String {
    let label = |name: &str, value: &str| format!("{name}=\"{}\"", escaped(value));
    [
        label("site", site),
        label("edge", &row.edge),
        label("model", &row.model),
        label("metric", &row.metric),
        label("name", &row.name),
    ]
    .join(",")
}

fn gauge(text: &mut String, name: &str, help: &str, series: &[(String, f64)]) {
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n");
    for (labels, value) in series {
        let _ = writeln!(text, "{name}{{{labels}}} {value}");
    }
}

/// The text, of rows in the order in which they are kept.
pub(crate) fn gauges(overview: &Overview, rows: &[Row]) -> String {
    let site = &overview.site;
    // Two rows of one name would be two values of one series: the first one stands.
    let mut kept: BTreeMap<String, &Row> = BTreeMap::new();
    let mut left_out = 0usize;
    // Of the past a scrape is told nothing: whoever scrapes has it.
    for row in rows.iter().filter(|row| row.metric != SERIES && row.value.is_some_and(f64::is_finite)) {
        let name = labels(site, row);
        if kept.contains_key(&name) {
            continue;
        }
        if kept.len() < MOST {
            kept.insert(name, row);
        } else {
            left_out += 1;
        }
    }
    let series = |of: fn(&Row) -> Option<f64>| -> Vec<(String, f64)> {
        kept.iter().filter_map(|(name, row)| Some((name.clone(), of(row)?))).collect()
    };
    let mut text = String::new();
    gauge(&mut text, "gloaming_figure", "The newest released figure, noise included.", &series(|row| row.value));
    gauge(&mut text, "gloaming_figure_low", "Lower end of its 95 % interval.", &series(|row| row.low));
    gauge(&mut text, "gloaming_figure_high", "Upper end of its 95 % interval.", &series(|row| row.high));
    let (mut starts, mut released) = (Vec::new(), Vec::new());
    let windows = overview.metrics.iter().flat_map(|metric| metric.windows.last().map(|newest| (metric, newest.index)));
    for (metric, newest) in windows {
        for window in metric.windows.iter().filter(|window| window.index == newest) {
            let (edge, name) = (escaped(&window.edge), escaped(&metric.name));
            let labels = format!("site=\"{}\",edge=\"{edge}\",metric=\"{name}\"", escaped(site));
            let is_released = f64::from(u8::from(window.state == "released"));
            // Of a window that was released under two versions one line is enough; either makes it released.
            match starts.iter().position(|(known, _)| *known == labels) {
                Some(at) => {
                    let (_, known): &mut (String, f64) = &mut released[at];
                    *known = known.max(is_released);
                }
                None => {
                    starts.push((labels.clone(), window.start_ms as f64 / 1e3));
                    released.push((labels, is_released));
                }
            }
        }
    }
    gauge(&mut text, "gloaming_window_start_seconds", "When the newest window began, seconds since 1970.", &starts);
    gauge(&mut text, "gloaming_window_released", "Whether it was released; 0 where too few took part.", &released);
    let left_out = [(format!("site=\"{}\"", escaped(site)), left_out as f64)];
    gauge(&mut text, "gloaming_figures_left_out", "Figures beyond the most that one scrape is told.", &left_out);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overview::Budget;

    #[test]
    fn there_are_so_many_figures_at_most_each_once_and_well_formed() {
        let budget = Budget {
            rho_per_device_day: 0.0,
            declared_rho: 0.0,
            delta: 0.0,
            epsilon_day: 0.0,
            epsilon_month: 0.0,
            epsilon_year: 0.0,
        };
        let overview = Overview {
            site: "shop.example".into(),
            policy_version: 1,
            expires_day: 0,
            now_ms: 0,
            edges: Vec::new(),
            alarms: 0,
            last_alarm: None,
            budget,
            metrics: Vec::new(),
        };
        let row = |at: usize| Row {
            metric: "a \"b\" \\ c\nd".into(),
            name: at.to_string(),
            value: Some(at as f64 + 0.5),
            ..Row::default()
        };
        let mut rows: Vec<Row> = (0..MOST + 7).map(row).collect();
        rows.insert(1, Row { value: Some(-1.0), ..row(0) });
        rows.insert(1, Row { value: None, ..row(0) });
        let text = gauges(&overview, &rows);
        let figures: Vec<&str> = text.lines().filter(|line| line.starts_with("gloaming_figure{")).collect();
        assert_eq!(figures.len(), MOST);
        assert!(text.contains("gloaming_figures_left_out{site=\"shop.example\"} 7\n"), "{text}");
        let first = r#"gloaming_figure{site="shop.example",edge="",model="",metric="a \"b\" \\ c\nd",name="0"} 0.5"#;
        assert_eq!(figures[0], first);
        assert!(!text.contains("gloaming_figure_low{"), "what has no interval has no ends");
    }
}
