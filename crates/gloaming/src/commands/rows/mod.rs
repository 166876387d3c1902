//! `gloaming model rows`: an event log as a table of features, by the code that devices run.
//!
//! One JSON object a line, in the order of time for each device:
//! ```json
//! {"device":"d1","at_ms":1795430000000,"event":"page_view","path":"/p/lamp","referrer":"www.google.com","hour":20}
//! {"device":"d1","at_ms":1795430030000,"event":"add_to_cart","value":89.0}
//! {"device":"d1","at_ms":1795430031000,"event":"feature","feature":"cart-value","value":89.0}
//! ```
//! `device` tells devices of the log apart and is only copied. A row is one session, as a device would have it when it is
//! left, or, with `--at`, as it stood at its first, second, … page, beside what it came to in the end. Numbers come out as a model is given them, so that training and serving cannot differ. Logs of GA4 and Snowplow are
//! read as such lines; what they hold that means nothing here is passed over, and counted.

mod ga4;
mod moments;
mod snowplow;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use gloaming_behavior::definitions::{DEFINITIONS, ENGAGED_TICK_MAX_MS};
use gloaming_behavior::{Features, Tracker};
use gloaming_policy::{PAGE_INPUT, Policy, campaign_of, group_of, referrer_class};
use gloaming_signal::{Event, EventKind};
use serde::Deserialize;

use crate::files;
pub use moments::At;
use moments::{Moment, Taker};

/// Longest line, bytes.
const LINE: usize = 16 * 1024;
/// Most devices of a log: each has a tracker.
const DEVICES: usize = 200_000;

/// In which form a log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Log {
    /// Our own lines, in the order of time for each device.
    Gloaming,
    /// Rows of the GA4 export to BigQuery as JSON, in any order.
    Ga4,
    /// Snowplow's enriched events, tabs between columns, in any order.
    Snowplow,
}

/// A log's form in a word.
///
/// # Errors
/// When the word is another.
pub fn log(word: &str) -> Result<Log, String> {
    Ok(match word {
        "gloaming" => Log::Gloaming,
        "ga4" => Log::Ga4,
        "snowplow" => Log::Snowplow,
        _ => return Err(format!("`{word}` is no log; use gloaming, ga4 or snowplow")),
    })
}

/// What a line of a log is.
enum Read {
    /// Lines of ours.
    Lines(Vec<Line>),
    /// Something of this name that means nothing here.
    Passed(String),
}

/// One line.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    device: String,
    at_ms: u64,
    event: String,
    path: Option<String>,
    referrer: Option<String>,
    campaign: Option<String>,
    device_class: Option<u32>,
    width: Option<u32>,
    weekday: Option<u32>,
    hour: Option<u32>,
    value: Option<f64>,
    feature: Option<String>,
    word: Option<String>,
    a: Option<u32>,
    b: Option<u32>,
    c: Option<u32>,
}

/// A URL's path and its host.
fn path_and_host(url: &str) -> (&str, &str) {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    (
        if path.is_empty() { "/" } else { path },
        host.split('@').next_back().unwrap_or_default().split(':').next().unwrap_or_default(),
    )
}

/// Weekday (0 Monday) and hour at a place so many seconds ahead of UTC.
fn local(at_ms: u64, ahead_s: i64) -> (u32, u32) {
    let hours = (at_ms / 1_000).cast_signed().saturating_add(ahead_s).max(0) / 3_600;
    // 1970 began on a Thursday.
    (((hours / 24 + 3) % 7) as u32, (hours % 24) as u32)
}

/// Engagement as devices tell it: no more than a minute at once.
fn ticks(engaged_ms: f64) -> impl Iterator<Item = u32> {
    let whole = engaged_ms.clamp(0.0, 86_400_000.0) as u32;
    let minutes = whole / ENGAGED_TICK_MAX_MS;
    let rest = Some(whole % ENGAGED_TICK_MAX_MS).filter(|rest| *rest > 0);
    std::iter::repeat_n(ENGAGED_TICK_MAX_MS, minutes as usize).chain(rest)
}

/// What a line is as events, or why it is none.
fn events(policy: &Policy, host: &str, line: &Line) -> Result<Vec<Event>, String> {
    let at_ms = line.at_ms;
    let one = |kind, a, b, c| Event { at_ms, kind, a, b, c };
    let word = |text: &Option<String>| text.clone().unwrap_or_default();
    let numbers = |a: u32| (line.a.unwrap_or(a), line.b.unwrap_or(0), line.c.unwrap_or(0));
    if line.event == EventKind::PageView.name() {
        let path = line.path.as_deref().ok_or("a page_view without a path")?;
        // As a device has it; see `Device::page` of the collector.
        let viewport = [576, 768, 992, 1200].iter().filter(|edge| line.width.unwrap_or(1_280) >= **edge).count();
        let (weekday, hour) = (line.weekday.unwrap_or(0).min(6), line.hour.unwrap_or(12).min(23));
        let class = line.device_class.unwrap_or(2).min(3) + 16 * u32::try_from(viewport).unwrap_or(0);
        let when = campaign_of(policy, &word(&line.campaign)) << 8 | weekday << 5 | hour;
        let visit = one(EventKind::Visit, referrer_class(&word(&line.referrer), host), class, when);
        return Ok(vec![visit, one(EventKind::PageView, group_of(policy, path), line.b.unwrap_or(0), 0)]);
    }
    if line.event == "feature" {
        let id = line.feature.as_deref().ok_or("a feature without a name")?;
        let index = policy.page_features.iter().position(|feature| feature.id == id);
        let index = index.ok_or_else(|| format!("no [[feature]] called `{id}`"))?;
        let feature = &policy.page_features[index];
        let steps = match (line.value, &line.word) {
            (Some(value), _) => feature.steps(value),
            (None, Some(word)) => feature.word(word),
            _ => None,
        };
        let steps = steps.ok_or_else(|| format!("no value that `{id}` may have"))?;
        return Ok(vec![one(EventKind::PageFeature, u32::try_from(index).unwrap_or(u32::MAX), steps, 0)]);
    }
    if let Some(index) = policy.events.iter().position(|name| *name == line.event) {
        return Ok(vec![one(EventKind::Custom, u32::try_from(index).unwrap_or(u32::MAX), 0, 0)]);
    }
    let kinds = EventKind::ALL.iter().filter(|kind| !matches!(kind, EventKind::Custom | EventKind::PageFeature));
    let kind = kinds.copied().find(|kind| kind.name() == line.event);
    let kind = kind.ok_or_else(|| format!("no event called `{}`", line.event))?;
    // What things cost comes in units and is kept in hundredths.
    let hundredths = line.value.map_or(0, |value| (value * 100.0).round().clamp(0.0, f64::from(u32::MAX)) as u32);
    let (a, b, c) = numbers(hundredths);
    Ok(vec![one(kind, a, b, c)])
}

/// The table as it is made.
struct Sheet<'p> {
    policy: &'p Policy,
    at: &'p At,
    ends: Vec<u32>,
    sessions: usize,
    rows: Vec<Vec<String>>,
}

impl Sheet<'_> {
    fn head(&self) -> Vec<String> {
        let names = DEFINITIONS.iter().map(|definition| format!("{}@{}", definition.name, definition.version));
        let pages = self.policy.page_features.iter().map(|feature| format!("page:{}", feature.id));
        let own = ["device".to_owned(), "started_ms".to_owned()];
        let when = (!self.at.pages.is_empty()).then(|| "at".to_owned());
        let ends = self.ends.iter().zip(&self.at.ends).map(|(_, name)| format!("end:{name}"));
        own.into_iter().chain(when).chain(names).chain(pages).chain(ends).collect()
    }

    fn shown(&self, features: &Features, input: u32) -> String {
        self.policy.model_input(features, input).map_or_else(String::new, |value| value.to_string())
    }

    /// A visit as it stood, and what of its end stands beside it.
    fn row(&mut self, device: &str, (started_ms, at): (u64, Option<u32>), features: &Features, end: &Features) {
        let pages = (0..self.policy.page_features.len()).map(|page| PAGE_INPUT + u32::try_from(page).unwrap_or(0));
        let inputs = (0..u32::try_from(DEFINITIONS.len()).unwrap_or(0)).chain(pages);
        let own = [device.to_owned(), started_ms.to_string()].into_iter().chain(at.map(|at| at.to_string()));
        let cells = own
            .chain(inputs.map(|input| self.shown(features, input)))
            .chain(self.ends.iter().map(|input| self.shown(end, *input)));
        let cells = cells.collect();
        self.rows.push(cells);
    }

    /// A visit that has ended.
    fn ended(&mut self, device: &str, started_ms: u64, end: &Features, moments: Vec<Moment>) {
        self.sessions += 1;
        if self.at.pages.is_empty() {
            return self.row(device, (started_ms, None), end, end);
        }
        for moment in moments {
            self.row(device, (started_ms, Some(moment.pages)), &moment.features, end);
        }
    }
}

/// A log's lines as ours; what was passed over, and what is wrong: by reason, how often and where first.
#[derive(Default)]
struct Lines {
    lines: Vec<(usize, Line)>,
    passed: BTreeMap<String, (usize, usize)>,
    wrong: BTreeMap<String, (usize, usize)>,
}

/// Notes a reason.
fn note(of: &mut BTreeMap<String, (usize, usize)>, why: String, at: usize) {
    of.entry(why).or_insert((0, at + 1)).0 += 1;
}

/// Reads lines.
fn lines(text: &str, log: Log, own: &[String]) -> Lines {
    let mut found = Lines::default();
    for (at, text) in text.lines().enumerate().filter(|(_, text)| !text.trim().is_empty()) {
        if text.len() > LINE {
            note(&mut found.wrong, format!("more than {LINE} bytes"), at);
            continue;
        }
        let read = match log {
            Log::Gloaming => serde_json::from_str(text).map(|line| Read::Lines(vec![line])).map_err(|error| {
                format!("no event: {}", error.to_string().split(" at line").next().unwrap_or_default())
            }),
            Log::Ga4 => ga4::read(text, own),
            Log::Snowplow => snowplow::read(text, own),
        };
        match read {
            Ok(Read::Lines(lines)) => found.lines.extend(lines.into_iter().map(|line| (at, line))),
            Ok(Read::Passed(name)) => note(&mut found.passed, name, at),
            Err(why) => note(&mut found.wrong, why, at),
        }
    }
    if log != Log::Gloaming {
        // Exports are in no order; what happened at one time stays as it came.
        found.lines.sort_by_key(|(_, line)| line.at_ms);
    }
    found
}

/// Reads a log and writes its table.
///
/// # Errors
/// When the policy does not compile, or a line is none: then all reasons are said with how often each occurs.
pub fn run(events_in: &Path, form: Log, policy: &Path, models: Option<&Path>, at: &At, out: &Path) -> Result<()> {
    let (policy, _) = files::compile_policy(policy, models)?;
    let host = policy.site.clone();
    let text = files::read_text(events_in)?;
    let Lines { lines, passed, mut wrong } = lines(&text, form, &policy.events);
    let (mut devices, mut order) = (BTreeMap::<String, (Tracker, u64, Option<u64>, Taker)>::new(), Vec::new());
    let ends = if at.pages.is_empty() { Vec::new() } else { at.ends()? };
    let mut sheet = Sheet { policy: &policy, at, ends, sessions: 0, rows: Vec::new() };
    let count = lines.len();
    for (number, line) in lines {
        let events = match events(&policy, &host, &line) {
            Ok(events) => events,
            Err(why) => {
                note(&mut wrong, why, number);
                continue;
            }
        };
        if !devices.contains_key(&line.device) {
            if devices.len() >= DEVICES {
                bail!("{} has more than {DEVICES} devices; split it", events_in.display());
            }
            order.push(line.device.clone());
            devices.insert(line.device.clone(), (Tracker::new(policy.behavior.clone()), 0, None, Taker::default()));
        }
        let Some((tracker, last_ms, told_ms, taker)) = devices.get_mut(&line.device) else { continue };
        if line.at_ms < *last_ms {
            note(&mut wrong, "a time before the same device's last".to_owned(), number);
            continue;
        }
        *last_ms = line.at_ms;
        taker.before(line.at_ms, tracker, at);
        if events.iter().any(|event| event.kind == EventKind::PageView) {
            taker.page(line.at_ms);
        }
        events.into_iter().for_each(|event| tracker.push(event));
        // Told by when they began, and not forgotten: to forget applies what waits, and what else happens at this time must be
        // put in order with it.
        let told = *told_ms;
        for finished in tracker.finished().into_iter().filter(|finished| Some(finished.started_ms) > told) {
            *told_ms = Some(finished.started_ms);
            sheet.ended(&line.device, finished.started_ms, &finished.features, taker.of(finished.started_ms));
        }
    }
    if !wrong.is_empty() {
        let mut said = String::new();
        for (why, (count, first)) in wrong {
            let _ = write!(said, "\n  {count} lines with {why} (the first is line {first})");
        }
        bail!("{}: nothing was written, for{said}", events_in.display());
    }
    for device in &order {
        if let Some((tracker, _, _, taker)) = devices.get_mut(device)
            && let Some(started_ms) = tracker.session_started_ms()
        {
            taker.before(u64::MAX, tracker, at);
            sheet.ended(device, started_ms, &tracker.features(true), taker.of(started_ms));
        }
    }
    let mut writer = csv::Writer::from_writer(Vec::new());
    let head = sheet.head();
    writer.write_record(&head)?;
    for row in &sheet.rows {
        writer.write_record(row)?;
    }
    let bytes = writer.into_inner().context("a table in memory")?;
    files::replace(out, &bytes).with_context(|| out.display().to_string())?;
    let moments = if at.pages.is_empty() { String::new() } else { format!(", {} moments of them", sheet.rows.len()) };
    println!(
        "{} sessions of {} devices, from {count} events{moments}, with {} columns: {}",
        sheet.sessions,
        order.len(),
        head.len(),
        out.display()
    );
    for (name, (count, first)) in passed {
        println!("passed over: {count} rows of `{name}`, which means nothing here (the first is line {first})");
    }
    Ok(())
}
