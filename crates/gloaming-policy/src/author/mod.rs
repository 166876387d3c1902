//! Writing policies: TOML in, compiled policy out, or every problem with its line and remedy.

mod amount;
mod diff;
mod experiment;
mod fairness;
mod learning;
mod leave_out;
mod metric;
mod model;
mod monitor;
mod retrain;
mod sign;
mod special;
mod table;
mod template;

use std::net::Ipv4Addr;

use toml::de::DeTable;

use gloaming_behavior::{Config, GroupKind, MAX_GROUPS, MAX_PAGE_FEATURES};
use gloaming_privacy::Rho;
use gloaming_signal::limits;

use crate::document::{PageFeature, PageFeatureKind, PageGroup, Policy, Purpose};
use crate::gate::Record;
pub use diff::diff;
pub use fairness::SELECTED;
pub use learning::{Learning, LearningRound, LearningTerm, input_source, input_words, page_zero};
pub use leave_out::{Change, Fit, LeftOut, leave_out};
pub use model::{Named, gate_rules, named};
pub use sign::{
    Key, KeyId, Notice, PublicKey, SignError, Signed, announced, announcement, batch_signature, verify_batch,
};
pub use special::newly_special;
pub use table::Problem;
use table::{Source, Table, meant};
pub use template::{TEMPLATES, template};

/// Largest budget a day, millionths.
const MOST_MICRO: u64 = 4_000_000;

/// What the compiler needs to know of a model's manifest.
#[derive(Clone, Debug)]
pub struct ManifestFacts {
    /// SHA-256 of the manifest file.
    pub manifest_sha256: [u8; 32],
    /// SHA-256 of the ONNX file, as the manifest says and the file is.
    pub onnx_sha256: [u8; 32],
    /// Model id in the manifest.
    pub id: String,
    /// Features it takes, `name@version`.
    pub inputs: Vec<String>,
    /// Interior edges of its score bins.
    pub score_edges: Vec<f64>,
    /// Mean score in each of them; empty where the manifest does not say.
    pub score_means: Vec<f64>,
    /// What its bins are called; empty when it tells a probability.
    pub kinds: Vec<String>,
    /// What is being learnt of its next version on devices, as text: `learning.json` beside the manifest.
    pub learning: Option<String>,
}

impl ManifestFacts {
    /// Those of a model that is not at hand: probabilities in twenty bins of the same width, and hashes of no file.
    #[must_use]
    pub fn stand_in(id: &str, inputs: &[&str]) -> Self {
        Self {
            manifest_sha256: [0; 32],
            onnx_sha256: [0; 32],
            id: id.to_owned(),
            inputs: inputs.iter().map(|&input| input.to_owned()).collect(),
            score_edges: (1..20).map(|i| f64::from(i) / 20.0).collect(),
            score_means: Vec::new(),
            kinds: Vec::new(),
            learning: None,
        }
    }
}

/// Reads a manifest by the path the policy gives. An error is one sentence.
pub type Manifests<'a> = &'a dyn Fn(&str) -> Result<ManifestFacts, String>;

/// Languages that a notice may be written in: BCP 47 primary tags, or with a region.
fn is_language(tag: &str) -> bool {
    let mut parts = tag.split('-');
    let primary = parts.next().unwrap_or_default();
    (2..=3).contains(&primary.len())
        && primary.bytes().all(|b| b.is_ascii_lowercase())
        && parts.all(|p| (2..=8).contains(&p.len()) && p.bytes().all(|b| b.is_ascii_alphanumeric()))
}

/// A name: lower-case letters, digits and dashes.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 64
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
}

fn need_name(table: &Table<'_>, key: &'static str) -> String {
    let name = table.need_text(key, "\"a-name\"");
    if !name.is_empty() && !is_name(&name) {
        table.problem(
            format!("`{name}` is not a name"),
            "use lower-case letters, digits, dashes and underscores, 64 at most",
        );
    }
    name
}

/// Days since 1970 of `YYYY-MM-DD`, by Hinnant's `days_from_civil`.
#[must_use]
pub fn day_of(date: &str) -> Option<u64> {
    let parts: Vec<&str> = date.split('-').collect();
    let [y, m, d] = parts.as_slice() else { return None };
    if (y.len(), m.len(), d.len()) != (4, 2, 2) {
        return None;
    }
    let (y, m, d): (i64, i64, i64) = (y.parse().ok()?, m.parse().ok()?, d.parse().ok()?);
    let leap = y % 4 == 0 && (y % 100 != 0 || y % 400 == 0);
    let days = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    if !(1..=12).contains(&m) || !(1..=days[usize::try_from(m - 1).ok()?]).contains(&d) {
        return None;
    }
    let y = if m <= 2 { y - 1 } else { y };
    let (era, yoe) = (y.div_euclid(400), y.rem_euclid(400));
    let doy = (153 * ((m + 9) % 12) + 2) / 5 + d - 1;
    u64::try_from(era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468).ok()
}

/// `YYYY-MM-DD` of days since 1970.
#[must_use]
pub fn date_of(day: u64) -> String {
    let z = day + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let m = if mp < 10 { mp + 3 } else { mp - 9 };
    let y = yoe + era * 400 + u64::from(m <= 2);
    format!("{y:04}-{m:02}-{:02}", doy - (153 * mp + 2) / 5 + 1)
}

/// Whether an address is on this machine, whatever its scheme, port and path.
#[must_use]
pub fn is_loopback(address: &str) -> bool {
    let host = address.split("://").nth(1).unwrap_or(address);
    let host = if host.starts_with('[') {
        host.split(']').next().unwrap_or(host)
    } else {
        host.split([':', '/']).next().unwrap_or(host)
    };
    // A name may begin with 127 and be anybody's.
    host == "localhost" || host == "[::1" || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

fn purposes(root: &Table<'_>) -> Vec<Purpose> {
    let mut purposes: Vec<Purpose> = Vec::new();
    for table in root.tables("purpose") {
        let id = need_name(&table, "id");
        let texts =
            table.need("text", "{ en = \"…\" }").and_then(|v| v.table()).map_or_else(Vec::new, |t| t.all_texts());
        for (language, text) in &texts {
            if !is_language(language) {
                table.problem(format!("`{language}` is not a language tag"), "write it as in text.en or text.pt-BR");
            }
            if text.len() > 400 {
                table.problem(format!("the text of `{id}` is longer than 400 bytes"), "say it in one or two sentences");
            }
        }
        if texts.is_empty() {
            table.problem(format!("purpose `{id}` has no text"), "a person must be able to read what they agree to");
        }
        match table.get("default").and_then(|v| v.text()).as_deref() {
            None | Some("deny") => {}
            Some(other) => table.problem(
                format!("default = \"{other}\": no purpose is on before a person says so"),
                "write default = \"deny\"",
            ),
        }
        if purposes.iter().any(|p| p.id == id) {
            table.problem(format!("purpose `{id}` is declared twice"), "remove one");
        }
        table.finish();
        purposes.push(Purpose { id, texts });
    }
    if purposes.is_empty() {
        root.problem("the policy declares no purpose", "add [[purpose]] with id and text.en");
    }
    purposes
}

fn purpose_of(table: &Table<'_>, purposes: &[Purpose]) -> u32 {
    let id = table.need_text("purpose", "\"measurement\"");
    match purposes.iter().position(|p| p.id == id) {
        Some(index) => u32::try_from(index).unwrap_or(0),
        None => {
            if !id.is_empty() {
                let remedy = meant(&id, purposes.iter().map(|p| p.id.as_str()), "declare it");
                table.problem(format!("no [[purpose]] is called `{id}`"), remedy);
            }
            0
        }
    }
}

fn page_groups(root: &Table<'_>) -> (Vec<PageGroup>, Vec<GroupKind>) {
    let (mut groups, mut kinds): (Vec<PageGroup>, Vec<GroupKind>) = (Vec::new(), Vec::new());
    for table in root.tables("page_group") {
        let id = need_name(&table, "id");
        if id == "other" {
            table.problem("the group `other` is there already", "it holds every page that no group matches");
        }
        let paths = table.need("paths", "[\"/products/*\"]").map_or_else(Vec::new, |v| v.texts());
        for path in &paths {
            let body = path.strip_suffix('*').unwrap_or(path);
            if !path.starts_with('/') || body.contains('*') || path.len() > 200 {
                table.problem(
                    format!("`{path}` is not a path pattern"),
                    "begin with /, end with * for a prefix, and put no other * in it",
                );
            }
        }
        let kind = match table.get("kind").and_then(|v| v.text()).as_deref() {
            None | Some("other") => GroupKind::Other,
            Some("account") => GroupKind::Account,
            Some("info") => GroupKind::Info,
            Some("product") => GroupKind::Product,
            Some(unknown) => {
                table.problem(format!("kind `{unknown}` is unknown"), "use account, info, product or other");
                GroupKind::Other
            }
        };
        if groups.iter().any(|g| g.id == id) {
            table.problem(format!("page group `{id}` is declared twice"), "put all its paths into one");
        }
        table.finish();
        groups.push(PageGroup { id, paths });
        kinds.push(kind);
    }
    if groups.len() > MAX_GROUPS {
        root.problem(
            format!("more than {MAX_GROUPS} page groups"),
            "put pages that you will not tell apart into one group",
        );
    }
    (groups, kinds)
}

fn page_features(root: &Table<'_>, purposes: &[Purpose]) -> Vec<PageFeature> {
    let mut features: Vec<PageFeature> = Vec::new();
    for table in root.tables("feature") {
        let id = need_name(&table, "id");
        let kind = match table.need_text("kind", "\"number\"").as_str() {
            "number" => {
                let bound = |key, example| table.need(key, example).and_then(|v| v.number()).unwrap_or(0.0);
                let (min, max) = (bound("min", "0"), bound("max", "500"));
                let steps = (max - min) * 100.0;
                if !(1.0..=4e9).contains(&steps) || min.abs() > 1e12 {
                    table.problem(
                        format!("`{id}` goes from {min} to {max}"),
                        "let max be above min, by 40 million at most",
                    );
                }
                PageFeatureKind::Number { min: (min * 100.0).round() as i64, max_steps: steps.round() as u32 }
            }
            "category" => {
                let values = table.need("values", "[\"a\", \"b\", \"other\"]").map_or_else(Vec::new, |v| v.texts());
                if values.is_empty() || values.len() > 256 {
                    table.problem(format!("`{id}` has {} values", values.len()), "list 1 to 256 words");
                }
                PageFeatureKind::Category(values)
            }
            other => {
                table.problem(format!("kind `{other}` is unknown"), "use number or category");
                PageFeatureKind::Category(vec![])
            }
        };
        let unit = table.get("unit").and_then(|v| v.text()).unwrap_or_default();
        let purpose = purpose_of(&table, purposes);
        if features.iter().any(|f| f.id == id) {
            table.problem(format!("feature `{id}` is declared twice"), "remove one");
        }
        table.finish();
        features.push(PageFeature { id, kind, unit, purpose, special: false });
    }
    if features.len() > MAX_PAGE_FEATURES {
        root.problem(format!("more than {MAX_PAGE_FEATURES} page-given features"), "give fewer");
    }
    features
}

/// Reads a policy's text; nothing of it when there is a problem.
fn on_text<T>(text: &str, read: impl FnOnce(&Source<'_>, &Table<'_>) -> T) -> Result<T, Vec<Problem>> {
    if text.len() > limits::POLICY_BYTES {
        let cause = format!("the policy is longer than {} bytes", limits::POLICY_BYTES);
        return Err(vec![Problem { line: 1, cause, remedy: "declare less".into() }]);
    }
    let source = Source::new(text);
    let parsed = match DeTable::parse(text) {
        Ok(parsed) => parsed,
        Err(error) => {
            let at = error.span().map_or(0, |s| s.start);
            source.problem(at, format!("not TOML: {}", error.message()), "mend the syntax here");
            return Err(source.into_problems());
        }
    };
    let found = read(&source, &Table::new(&source, parsed.get_ref(), 0, String::new()));
    if source.has_problems() { Err(source.into_problems()) } else { Ok(found) }
}

/// Compiles a policy's TOML by which no model acts. `today` is in days since 1970.
///
/// # Errors
/// Everything that is wrong with it, by line.
pub fn compile(text: &str, today: u64, manifests: Manifests<'_>) -> Result<Policy, Vec<Problem>> {
    compile_with(text, today, manifests, None)
}

/// Compiles a policy's TOML; models may do what the gate's record permits.
///
/// # Errors
/// Everything that is wrong with it, by line.
pub fn compile_with(
    text: &str,
    today: u64,
    manifests: Manifests<'_>,
    record: Option<&Record>,
) -> Result<Policy, Vec<Problem>> {
    let policy = on_text(text, |source, root| document(source, root, today, (manifests, record)))?;
    if !policy.sound() || policy.to_bytes().len() > limits::POLICY_BYTES {
        let cause = "the compiled policy breaks a limit of its own format".to_owned();
        return Err(vec![Problem {
            line: 1,
            cause,
            remedy: "report this as a fault of Gloaming, with the file".into(),
        }]);
    }
    Ok(policy)
}

fn document(
    source: &Source<'_>,
    root: &Table<'_>,
    today: u64,
    (manifests, record): (Manifests<'_>, Option<&Record>),
) -> Policy {
    let site = root.need_text("site", "\"shop.example\"");
    if site.len() > limits::SITE_BYTES || site.bytes().any(|b| !(b.is_ascii_alphanumeric() || b"-.:".contains(&b))) {
        root.problem(format!("site `{site}` is not a host name"), "write it as in shop.example");
    }
    let version = root.need("version", "1").and_then(|v| v.whole(1..u64::from(u32::MAX))).unwrap_or(1);
    let expires_day = root.need("expires", "\"2027-03-01\"").map_or(0, |value| {
        let date = value.text().unwrap_or_default();
        let Some(day) = day_of(&date) else {
            value.problem(format!("expires = \"{date}\" is not a date"), "write it as in \"2027-03-01\"");
            return 0;
        };
        if day <= today {
            value.problem(format!("the policy expired on {date}"), "set a later date, at most 400 days from now");
        } else if day > today + 400 {
            value.problem(format!("expires = \"{date}\" is more than 400 days away"), "review a policy once a year");
        }
        day
    });
    let budget = root.need("budget", "{ rho_per_device_day = 0.25, delta = 1e-6 }").and_then(|v| v.table());
    let (mut rho, mut delta_pico) = (Rho::default(), 0);
    if let Some(budget) = &budget {
        rho = Rho::from_micro(budget.need("rho_per_device_day", "0.25").and_then(|v| v.micro()).unwrap_or(0));
        let delta = budget.need("delta", "1e-6").and_then(|v| v.number()).unwrap_or(1e-6);
        if !(1e-12..=1e-4).contains(&delta) {
            budget.problem(
                format!("delta = {delta}"),
                "choose it well below one over the number of visitors: 1e-12 to 1e-4",
            );
        }
        delta_pico = (delta * 1e12).round() as u64;
        if rho.micro() > MOST_MICRO {
            budget.problem("a budget above rho 4 a day protects nobody", "choose 1 or less; 0.25 is a good start");
        }
        budget.finish();
    }
    let origins = root.need("origins", "[\"https://shop.example\"]").map_or_else(Vec::new, |value| {
        let origins = value.texts();
        for origin in &origins {
            let secure = origin.starts_with("https://") || (origin.starts_with("http://") && is_loopback(origin));
            if !secure || origin.matches('/').count() != 2 || origin.len() > 300 {
                value.problem(
                    format!("`{origin}` is not an origin"),
                    "write scheme and host only, as in https://shop.example; http is for loopback",
                );
            }
        }
        if origins.is_empty() {
            value.problem("no origin may post", "list the site's origins");
        }
        origins
    });
    let home_edges = root.need("home_edges", "[\"eu-1\"]").map_or_else(Vec::new, |v| v.texts());
    let mut purposes = purposes(root);
    let (groups, kinds) = page_groups(root);
    let campaigns = root.get("campaigns").map_or_else(Vec::new, |v| v.texts());
    let events = root.get("events").map_or_else(Vec::new, |v| v.texts());
    let mut page_features = page_features(root, &purposes);
    let attributes_from = fairness::attributes(root, &mut purposes, &mut page_features);
    let (models, learnings) = model::models(root, &purposes, &page_features, manifests, (record, expires_day));
    let mut policy = Policy {
        site,
        version: u32::try_from(version).unwrap_or(1),
        expires_day,
        budget: rho,
        delta_pico,
        origins,
        home_edges,
        purposes,
        groups,
        campaigns,
        events,
        page_features,
        behavior: Config { groups: kinds, funnels: Vec::new() },
        metrics: Vec::new(),
        models,
        experiments: Vec::new(),
        learners: Vec::new(),
    };
    metric::metrics(source, root, &mut policy);
    retrain::retrainings(root, &learnings, &mut policy);
    monitor::monitors(root, &mut policy);
    experiment::experiments(root, attributes_from, &mut policy);
    fairness::fairness(root, attributes_from, &mut policy);
    if policy.metrics.len() > limits::CONTRIBUTIONS {
        root.problem(
            format!(
                "{} metrics, and a visit tells of {} at most: which are left out would be drawn by lot, and every count be too small",
                policy.metrics.len(),
                limits::CONTRIBUTIONS
            ),
            "declare fewer; `inputs` of a [[monitor]], and `pairs` and `inputs` of a [[retrain]], name those that matter",
        );
    }
    root.finish();
    if let Some(budget) = &budget {
        let declared = policy.declared();
        if declared > policy.budget {
            budget.problem(
                format!(
                    "all metrics together cost rho {} a day, the budget is {}",
                    declared.as_f64(),
                    policy.budget.as_f64()
                ),
                // Of what was read only in part nobody can say what else to leave out.
                if source.has_problems() {
                    "mend what else is wrong; then it is said what to leave out".to_owned()
                } else {
                    leave_out::remedy(&policy)
                },
            );
        }
    }
    policy
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(day_of("1970-01-01"), Some(0));
        assert_eq!(day_of("2026-11-24"), Some(20_781));
        assert_eq!(day_of("2024-02-29"), Some(19_782));
        assert_eq!(day_of("2025-02-29"), None);
        assert_eq!(day_of("2025-13-01"), None);
        assert_eq!(day_of("25-1-1"), None);
        for day in [0, 19_782, 20_781, 40_000] {
            assert_eq!(day_of(&date_of(day)), Some(day));
        }
    }

    #[test]
    fn loopback_is_this_machine_only() {
        for yes in
            ["http://localhost:8080", "http://127.0.0.1:1", "http://[::1]:80", "smtp://127.8.0.1", "http://localhost/x"]
        {
            assert!(is_loopback(yes), "{yes}");
        }
        for no in [
            "http://127.0.0.1.evil.example",
            "http://127.evil.example.com",
            "http://127.0.0.1@evil.example",
            "https://shop.example",
            "http://localhost.example",
        ] {
            assert!(!is_loopback(no), "{no}");
        }
    }
}
