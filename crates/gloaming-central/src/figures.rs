//! Every view of the centre as rows, one figure each: what spreadsheets, Grafana and Prometheus read.
//!
//! ```text
//! window,windows,edge,model,metric,name,value,low,high,unknown
//! 2026-11-23T00:00:00Z,1,edge-1,,scroll-depth,25-50,117,101.3,132.7,
//! 2026-11-23T00:00:00Z,1,edge-1,,source,,,,,below-k
//! ,5,,purchase-intent,performance,auc,0.662,0.641,0.683,
//! ```
//! RFC 4180, with a header. A figure is a number as JSON has it; `low` and `high` are the ends of its 95 % interval, and empty where
//! it has none. What has no figure is a row as well, with the reason in `unknown`.

use gloaming_policy::author::date_of;
use serde::Serialize;
use utoipa::ToSchema;

use crate::fair::Fair;
use crate::overview::{MetricView, Overview, WindowView};
use crate::trials::ExperimentView;
use crate::watch::{Drift, Figure, ModelView, Point};
use crate::worth::Worth;

const DAY_MS: u64 = 86_400_000;

/// One figure, or one thing of which there is none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct Row {
    /// Start of the window that it is of (RFC 3339, UTC); empty where several are added up.
    pub window: String,
    /// How many windows are added up, where that is known.
    pub windows: Option<usize>,
    /// The edge that released it; empty where all are added up.
    pub edge: String,
    /// The model that it is about; empty for others.
    pub model: String,
    /// The metric, the experiment, or the part of the model's view.
    pub metric: String,
    /// Which of its figures.
    pub name: String,
    /// The figure.
    pub value: Option<f64>,
    /// Lower end of its 95 % interval.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
    /// Why there is no figure.
    pub unknown: String,
}

impl Row {
    /// Of a model or an experiment, and a part of its view.
    fn of(model: &str, metric: impl Into<String>, windows: Option<usize>) -> Self {
        Self { model: model.to_owned(), metric: metric.into(), windows, ..Self::default() }
    }

    fn named(&self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self.clone() }
    }

    /// A number without an interval.
    fn plain(&self, name: impl Into<String>, value: f64) -> Self {
        Self { value: Some(value), ..self.named(name) }
    }

    fn figure(&self, name: impl Into<String>, Figure { value, low, high }: Figure) -> Self {
        Self { low: Some(low), high: Some(high), ..self.plain(name, value) }
    }

    fn unknown(&self, name: impl Into<String>, why: impl Into<String>) -> Self {
        Self { unknown: why.into(), ..self.named(name) }
    }
}

/// A time as RFC 3339, UTC.
fn time(ms: u64) -> String {
    let (day, rest) = (ms / DAY_MS, ms % DAY_MS / 1_000);
    format!("{}T{:02}:{:02}:{:02}Z", date_of(day), rest / 3_600, rest / 60 % 60, rest % 60)
}

/// Rows as text.
///
/// # Errors
/// When a row cannot be written, which no row of ours is.
pub(crate) fn csv(rows: &[Row]) -> Result<Vec<u8>, csv::Error> {
    let mut writer =
        csv::WriterBuilder::new().has_headers(false).terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    // By hand, so that there is one where there is no row.
    writer.write_record(HEADER)?;
    for row in rows {
        writer.serialize(row)?;
    }
    writer.into_inner().map_err(|error| csv::Error::from(error.into_error()))
}

/// Names of the columns, as in [`Row`].
pub(crate) const HEADER: [&str; 10] =
    ["window", "windows", "edge", "model", "metric", "name", "value", "low", "high", "unknown"];

/// The model that a metric is of, by what it is of.
fn model_of(of: &str) -> &str {
    let found = of.split(", ").find_map(|one| one.strip_prefix("score:").or_else(|| one.strip_prefix("fared:")));
    found.unwrap_or_default()
}

fn of_window(metric: &MetricView, window: &WindowView) -> Vec<Row> {
    let row = Row {
        window: time(window.start_ms),
        edge: window.edge.clone(),
        ..Row::of(model_of(&metric.of), &metric.name, Some(1))
    };
    if window.state != "released" {
        return vec![row.unknown("", window.state)];
    }
    let cell = |(at, (value, half)): (usize, (&i64, &f64))| {
        // Cells of an earlier version of the policy may be other ones.
        let name = match metric.labels.get(at).filter(|_| window.comparable) {
            Some(label) => label.clone(),
            None => format!("cell {at} of version {}", window.policy_version),
        };
        let value = *value as f64;
        row.figure(name, Figure::around(value, *half))
    };
    // Of a window whose version is not known any more there are values, and nobody knows their noise.
    if window.half_width.len() == window.values.len() {
        window.values.iter().zip(&window.half_width).enumerate().map(cell).collect()
    } else {
        let bare = |(at, value): (usize, &i64)| {
            row.plain(format!("cell {at} of version {}", window.policy_version), *value as f64)
        };
        window.values.iter().enumerate().map(bare).collect()
    }
}

/// Every cell of every window, in the policy's order; what authors wrote first.
pub(crate) fn of_overview(overview: &Overview) -> Vec<Row> {
    let of = |written_out: bool| {
        let metrics = overview.metrics.iter().filter(move |metric| metric.written_out == written_out);
        metrics.flat_map(|metric| metric.windows.iter().flat_map(move |window| of_window(metric, window)))
    };
    of(false).chain(of(true)).collect()
}

fn of_drift(model: &str, drift: &Drift) -> Vec<Row> {
    let row = Row { window: time(drift.start_ms), ..Row::of(model, &drift.of, Some(1)) };
    vec![
        row.plain("psi", drift.psi),
        row.plain("threshold", drift.threshold),
        row.plain("q", drift.q),
        row.plain("drifted", f64::from(u8::from(drift.drifted))),
        row.plain("visits", drift.visits),
    ]
}

fn of_fair(model: &str, fair: &Fair) -> Vec<Row> {
    let row = Row::of(model, format!("by {}", fair.by), Some(fair.windows));
    let why = fair.unknown.first().map_or("too little was released", String::as_str);
    let maybe = |name: String, figure: Option<Figure>| match figure {
        Some(figure) => row.figure(name, figure),
        None => row.unknown(name, why),
    };
    let mut rows = vec![
        maybe("selection-gap".into(), fair.selection_gap),
        maybe("selection-ratio".into(), fair.selection_ratio),
        maybe("odds-gap".into(), fair.odds_gap),
        maybe("undeclared".into(), fair.undeclared),
        maybe("undeclared-gap".into(), fair.undeclared_gap),
    ];
    for group in &fair.groups {
        rows.push(row.plain(format!("visits | {}", group.name), group.visits));
        for (what, figure) in [
            ("selection", group.selection),
            ("true-positive", group.true_positive),
            ("false-positive", group.false_positive),
            ("calibration-error", group.calibration_error),
        ] {
            rows.push(maybe(format!("{what} | {}", group.name), figure));
        }
    }
    rows
}

/// The part of a model's view that has a row for each window, where all others have one for each figure.
pub(crate) const SERIES: &str = "series";

/// What the newest windows tell beside those before, and what scores alone let one expect; then every window by itself.
fn of_late(view: &ModelView) -> Vec<Row> {
    let mut rows = Vec::new();
    if let Some(recent) = &view.recent {
        let row = Row { window: time(recent.start_ms), ..Row::of(&view.id, "recent", Some(recent.windows)) };
        rows.extend([
            row.figure("auc", recent.auc),
            row.figure("auc-before", recent.auc_before),
            row.figure("auc-difference", recent.difference),
            row.figure("calibration-error", recent.calibration_error),
            row.figure("calibration-error-before", recent.calibration_error_before),
            row.plain("fell", f64::from(u8::from(recent.fell))),
        ]);
    }
    if let Some(expected) = &view.expected {
        let row = Row { window: time(expected.start_ms), ..Row::of(&view.id, "expected", Some(expected.windows)) };
        rows.extend([row.figure("auc", expected.auc), row.figure("base-rate", expected.base_rate)]);
    }
    let row = Row::of(&view.id, SERIES, Some(1));
    for series in &view.series {
        let point = |point: &Point| Row { window: time(point.start_ms), ..row.figure(&series.of, point.figure) };
        rows.extend(series.windows.iter().map(point));
    }
    rows
}

/// Drift, performance, calibration, fairness, how models fared, and whose scores there were.
pub(crate) fn of_models(views: &[ModelView]) -> Vec<Row> {
    let mut rows = Vec::new();
    for view in views {
        if let Some(performed) = &view.performed {
            let row = Row::of(&view.id, "performance", Some(performed.windows));
            rows.extend([
                row.figure("auc", performed.auc),
                row.figure("average-precision", performed.average_precision),
                row.figure("brier", performed.brier),
                row.figure("calibration-error", performed.calibration_error),
                row.figure("base-rate", performed.base_rate),
            ]);
        }
        rows.extend(of_late(view));
        rows.extend(view.drift.iter().flat_map(|drift| of_drift(&view.id, drift)));
        rows.extend(view.fair.iter().flat_map(|fair| of_fair(&view.id, fair)));
        let fared = Row::of(&view.id, "fared", None);
        rows.extend(view.fared.iter().map(|one| fared.figure(&one.how, one.visits)));
        let scored_by = Row::of(&view.id, "scored-by", None);
        rows.extend(view.scored_by.iter().map(|one| scored_by.figure(one.who, one.visits)));
        let unknown = Row::of(&view.id, "", None);
        rows.extend(view.unknown.iter().map(|why| unknown.unknown("", why)));
    }
    rows
}

/// Arms, differences and lifts, sample ratios and guardrails.
pub(crate) fn of_experiments(views: &[ExperimentView]) -> Vec<Row> {
    let mut rows = Vec::new();
    for view in views {
        let row = Row::of(view.model.as_deref().unwrap_or_default(), &view.id, Some(view.windows));
        for (at, arm) in view.arms.iter().enumerate() {
            let name = |what: &str| format!("{what} | {}", arm.name);
            rows.push(row.plain(name("visits"), arm.visits));
            let figures = [(view.figure, arm.share), ("difference", arm.difference), ("lift", arm.lift)];
            // The control is compared with nothing.
            for (what, figure) in figures.into_iter().take(if at == 0 { 1 } else { 3 }) {
                rows.push(
                    figure
                        .map_or_else(|| row.unknown(name(what), view.lacks()), |figure| row.figure(name(what), figure)),
                );
            }
            rows.extend(arm.q.map(|q| row.plain(name("q"), q)));
            rows.extend(arm.next.map(|next| row.plain(name("next"), next)));
        }
        rows.extend(view.sample_ratio_p.map(|p| row.plain("sample-ratio-p", p)));
        rows.extend(view.sample_ratio_one_look_p.map(|p| row.plain("sample-ratio-one-look-p", p)));
        for rail in &view.guardrails {
            let name = format!("broken | {} | {}", rail.of, rail.arm);
            rows.push(match rail.verdict {
                "broken" => row.plain(name, 1.0),
                "held" => row.plain(name, 0.0),
                _ => row.unknown(name, &rail.reason),
            });
        }
        rows.extend(view.unknown.iter().map(|why| row.unknown("", why)));
    }
    rows
}

/// What models bring and cost.
pub(crate) fn of_worth(all: &[Worth]) -> Vec<Row> {
    let mut rows = Vec::new();
    for worth in all {
        for (part, lines) in [("brings", &worth.brings), ("costs", &worth.costs)] {
            let row = Row::of(&worth.id, part, None);
            for line in lines {
                let arm = line.arm.as_ref().map_or_else(String::new, |arm| format!(" | {arm}"));
                let name = format!("{} | {}{arm}", line.kind, line.what);
                rows.push(match (line.figure, &line.unknown) {
                    (Some(figure), _) => row.figure(name, figure),
                    (None, why) => row.unknown(name, why.as_ref().unwrap_or(&line.told)),
                });
            }
        }
    }
    rows
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_what_rfc_4180_asks_for() {
        let row = Row::of("a,b", "quoted \"word\"", None);
        let rows =
            [row.figure("two\nlines", Figure { value: 1.5, low: -0.25, high: 1e-7 }), row.unknown("", "none, yet")];
        let text = String::from_utf8(csv(&rows).unwrap()).unwrap();
        assert_eq!(
            text,
            "window,windows,edge,model,metric,name,value,low,high,unknown\r\n\
             ,,,\"a,b\",\"quoted \"\"word\"\"\",\"two\nlines\",1.5,-0.25,1e-7,\r\n\
             ,,,\"a,b\",\"quoted \"\"word\"\"\",,,,,\"none, yet\"\r\n"
        );
        assert_eq!(String::from_utf8(csv(&[]).unwrap()).unwrap(), HEADER.join(",") + "\r\n");
        // What is written by hand is what serde would write.
        let mut writer = csv::WriterBuilder::new().from_writer(Vec::new());
        writer.serialize(Row::default()).unwrap();
        let named = String::from_utf8(writer.into_inner().unwrap()).unwrap();
        assert_eq!(named.lines().next(), Some(&*HEADER.join(",")));
    }

    #[test]
    fn windows_begin_at_a_time_that_everybody_reads() {
        assert_eq!(time(1_795_737_600_000 + 3_723_000), "2026-11-27T01:02:03Z");
    }
}
