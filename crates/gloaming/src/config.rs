//! Configuration: TOML, each value overridable by an environment variable, unknown keys refused.
//!
//! `GLOAMING_EDGE_LISTEN` overrides `listen` in `[edge]`; lists are separated by commas.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use gloaming_central::StoreAddress;
use gloaming_edge::Home;
use gloaming_http::Roots;
use gloaming_policy::author::PublicKey;
use serde::Deserialize;
use toml::{Table, Value};

use crate::alerting::{ALERTING, Alerting};
use crate::door::{DOOR, Door};
use crate::files;
use crate::tenants::{OPERATORS, Operators};

/// A working configuration with every key explained.
pub const EXAMPLE: &str = r#"# Gloaming. Every value can be overridden: GLOAMING_EDGE_LISTEN overrides `listen` below [edge],
# GLOAMING_CENTRAL_PASSWORD_FILE `password_file` below [central]. Paths are relative to this file.

[edge]
name = "edge-1"                            # as policies call it in `home_edges`
listen = "127.0.0.1:8787"                  # for the world, or for a proxy in front
# tls_certificate = "fullchain.pem"        # speaks TLS itself; both files are read anew when they change
# tls_key = "privkey.pem"
# trusted_proxies = ["127.0.0.1", "::1"]   # believed about X-Forwarded-For; addresses or networks
# requests_per_second = 50                 # of one address, ten times that at once; 0 is no limit
admin = "127.0.0.1:8789"                   # /healthz /readyz /metrics; keep it private
store = "edge.redb"                        # encrypted open windows
key_file = "edge.key"                      # made by `gloaming policy key --out edge.key`
wrapping_key_file = "wrapping.key"         # made on first start; back it up apart from the store
# anchor_file = "wrapping.key.anchor"      # tells an old copy of the store; never back it up with the store
policies = ["policy.signed"]               # made by `gloaming policy sign`
# models_folder = "models"                 # models/NAME/manifest.json and .onnx files that policies name, read again at SIGHUP
central = ["http://127.0.0.1:8790"]        # tried in turn; https beyond this machine
# former_key_files = ["edge-before.key"]   # while `key_file` changes: opens what relays sealed for it
# share_of_one_network = 5                 # percent of one count, 20 at least; 100 is no limit, for an intranet
# central_ca = "ca.pem"                    # whose certificates to believe there and at homes; the system's when left out
# sites_folder = "sites"                   # sites that `gloaming site` adds while this runs
# admin_token_file = "token"               # what it must know for that; the API is on `admin`, and on the centre's `listen`

[edge.sites]                               # the key each site's policies must be signed with
# "shop.example" = "<public key, base64>"

[edge.relays]                              # edges that pass on what comes to them for this one; ["old", "new"] while a key changes
# "edge-2" = "<its public key, base64>"

[edge.homes]                               # edges that this one passes on to, for sites that are at home there and not here
# "edge-3" = { key = "<its public key, base64>", at = ["https://edge-3.example"] }

[central]
listen = "127.0.0.1:8790"                  # tls_certificate and the three keys below it, sites_folder and admin_token_file too
store = "sqlite:central.sqlite"            # or "postgres://user@host/database"
# retain_days = 400                        # 30 at least; released windows are kept for good when this is left out
policies = ["policy.signed"]
# password_file = "password"               # needed when `listen` is not on this machine
# webhook = "https://ops.example/alerts"   # told of drift, broken guardrails, sudden growth and the like, each once
# webhook_secret_file = "webhook.secret"   # signs what is posted there; 16 bytes at least
# smtp = "smtps://mail.example"            # or smtp:// for STARTTLS: the same by mail, one message for what is new at a site
# smtp_user = "gloaming"                   # with smtp_password_file, where the server wants to know; smtp_ca is an authority of your own
# mail_from = "gloaming@shop.example"
# mail_to = ["ops@shop.example"]
# link = "https://centre.example"          # this centre as people know it, for the alert

[central.sites]
# "shop.example" = "<public key, base64>"

[central.edges]                            # the key each edge signs its batches with; ["old", "new"] while it changes
# "edge-1" = "<public key, base64>"
"#;

/// `[edge]`.
#[derive(Clone, Debug, Deserialize)]
pub struct EdgeFile {
    /// See [`EXAMPLE`].
    pub name: String,
    /// Public listener.
    pub listen: String,
    /// Operators' listener.
    pub admin: String,
    /// The log.
    pub store: PathBuf,
    /// Signing key.
    pub key_file: PathBuf,
    /// Wrapping key.
    pub wrapping_key_file: PathBuf,
    /// What has left; beside the wrapping key when nothing is said.
    pub anchor_file: Option<PathBuf>,
    /// Signed policies.
    pub policies: Vec<PathBuf>,
    /// Models that they name.
    pub models_folder: Option<PathBuf>,
    /// Whose certificates the centres show.
    pub central_ca: Option<PathBuf>,
    /// Share of one count that may come from one network, percent.
    pub share_of_one_network: Option<u32>,
    /// How strangers are treated.
    #[serde(flatten)]
    pub door: Door,
    /// How sites are added.
    #[serde(flatten)]
    pub operators: Operators,
    /// Centres.
    pub central: Vec<String>,
    /// Keys that it signed with before.
    #[serde(default)]
    pub former_key_files: Vec<PathBuf>,
    /// Pins.
    #[serde(default)]
    pub sites: BTreeMap<String, String>,
    /// Relays that are believed.
    #[serde(default)]
    pub relays: BTreeMap<String, Keys>,
    /// Home edges that are relayed to.
    #[serde(default)]
    pub homes: BTreeMap<String, HomeFile>,
}

/// One of `[edge.homes]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HomeFile {
    /// Its public key.
    pub key: String,
    /// Where it is.
    pub at: Vec<String>,
}

impl EdgeFile {
    /// Who may vouch for the centres.
    #[must_use]
    pub fn roots(&self) -> Roots {
        match &self.central_ca {
            Some(path) => Roots::File(path.clone()),
            None => {
                let homes = self.homes.values().flat_map(|home| &home.at);
                let tls = self.central.iter().chain(homes).any(|address| address.starts_with("https://"));
                if tls { Roots::System } else { Roots::Nobody }
            }
        }
    }

    /// The home edges that are relayed to.
    ///
    /// # Errors
    /// With the name of the one that has no key or is nowhere.
    pub fn known_homes(&self) -> Result<BTreeMap<String, Home>> {
        let of = |(name, home): (&String, &HomeFile)| {
            let what = || format!("{name:?} in [edge.homes]");
            let key = PublicKey::from_text(&home.key).with_context(what)?;
            let sound = |at: &String| at.starts_with("https://") || at.starts_with("http://");
            if home.at.is_empty() || !home.at.iter().all(sound) {
                bail!("{}: `at` must list addresses with http or https, such as \"https://{name}.example\"", what());
            }
            if *name == self.name {
                bail!("{}: an edge is no relay of its own", what());
            }
            let at = home.at.iter().map(|at| at.trim_end_matches('/').to_owned()).collect();
            Ok((name.clone(), Home { key, at }))
        };
        self.homes.iter().map(of).collect()
    }
}

/// `[central]`.
#[derive(Clone, Debug, Deserialize)]
pub struct CentralFile {
    /// See [`EXAMPLE`].
    pub listen: String,
    /// The database's address.
    pub store: String,
    /// Days that released windows are kept.
    pub retain_days: Option<u32>,
    /// Signed policies.
    pub policies: Vec<PathBuf>,
    /// Password for reading.
    pub password_file: Option<PathBuf>,
    /// How strangers are treated.
    #[serde(flatten)]
    pub door: Door,
    /// Where alerts are told.
    #[serde(flatten)]
    pub alerting: Alerting,
    /// How sites are added.
    #[serde(flatten)]
    pub operators: Operators,
    /// Pins.
    #[serde(default)]
    pub sites: BTreeMap<String, String>,
    /// Edges.
    #[serde(default)]
    pub edges: BTreeMap<String, Keys>,
}

const EDGE: [&str; 16] = [
    "name",
    "listen",
    "admin",
    "store",
    "key_file",
    "wrapping_key_file",
    "anchor_file",
    "models_folder",
    "policies",
    "central",
    "central_ca",
    "share_of_one_network",
    "former_key_files",
    "sites",
    "relays",
    "homes",
];
const CENTRAL: [&str; 7] = ["listen", "store", "retain_days", "policies", "password_file", "sites", "edges"];
const LISTS: [&str; 4] = ["policies", "central", "trusted_proxies", "former_key_files"];
const NUMBERS: [&str; 3] = ["share_of_one_network", "retain_days", "requests_per_second"];
const TABLES: [&str; 4] = ["sites", "edges", "relays", "homes"];

/// A configuration file.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// `[edge]`, when there is one.
    pub edge: Option<EdgeFile>,
    /// `[central]`.
    pub central: Option<CentralFile>,
}

fn unknown(what: &str, name: &str, known: &[&str]) -> anyhow::Error {
    let near = known.iter().max_by(|a, b| strsim::jaro_winkler(a, name).total_cmp(&strsim::jaro_winkler(b, name)));
    match near.filter(|n| strsim::jaro_winkler(n, name) > 0.7) {
        Some(near) => anyhow!("{what} `{name}` is unknown; did you mean `{near}`?"),
        None => anyhow!("{what} `{name}` is unknown; known are {}", known.join(", ")),
    }
}

fn section(
    file: &mut Table,
    name: &str,
    known: &[&str],
    environment: &BTreeMap<String, String>,
) -> Result<Option<Table>> {
    let mut table = match file.remove(name) {
        Some(Value::Table(table)) => Some(table),
        Some(_) => bail!("`{name}` must be a section: write [{name}] and its keys below"),
        None => None,
    };
    let prefix = format!("GLOAMING_{}_", name.to_uppercase());
    for (variable, value) in environment {
        let Some(key) = variable.strip_prefix(&prefix).map(str::to_lowercase) else { continue };
        if TABLES.contains(&key.as_str()) || !known.contains(&key.as_str()) {
            return Err(unknown("the environment variable", variable, &[]).context(format!(
                "keys of [{name}] that an environment variable may override: {}",
                known
                    .iter()
                    .filter(|k| !TABLES.contains(k))
                    .map(|k| format!("{prefix}{}", k.to_uppercase()))
                    .collect::<Vec<_>>()
                    .join(", ")
            )));
        }
        let value = if LISTS.contains(&key.as_str()) {
            Value::Array(value.split(',').map(|v| Value::String(v.trim().to_owned())).collect())
        } else if NUMBERS.contains(&key.as_str()) {
            let number = value.trim().parse().map_err(|_| anyhow!("{variable} is `{value}`; write a whole number"))?;
            Value::Integer(number)
        } else {
            Value::String(value.clone())
        };
        table.get_or_insert_default().insert(key, value);
    }
    for key in table.iter().flat_map(Table::keys) {
        if !known.contains(&key.as_str()) {
            return Err(unknown(&format!("the key in [{name}]"), key, known));
        }
    }
    Ok(table)
}

impl Config {
    /// Reads TOML with overrides from `environment`.
    ///
    /// # Errors
    /// The first thing wrong, with what it should be.
    pub fn parse(text: &str, environment: &BTreeMap<String, String>) -> Result<Self> {
        let mut file: Table = text.parse().map_err(|error| anyhow!("not TOML: {error}"))?;
        let edge = section(&mut file, "edge", &[&EDGE[..], &DOOR, &OPERATORS].concat(), environment)?;
        let central =
            section(&mut file, "central", &[&CENTRAL[..], &DOOR, &OPERATORS, &ALERTING].concat(), environment)?;
        if let Some(key) = file.keys().next() {
            return Err(unknown("the section", key, &["edge", "central"]));
        }
        let edge =
            edge.map(|t| t.try_into::<EdgeFile>().map_err(|e| anyhow!("in [edge]: {}", e.message()))).transpose()?;
        let central = central
            .map(|t| t.try_into::<CentralFile>().map_err(|e| anyhow!("in [central]: {}", e.message())))
            .transpose()?;
        Ok(Self { edge, central })
    }

    /// Reads a file with this process's environment; paths become relative to the file.
    ///
    /// # Errors
    /// As [`Config::parse`], with the file's name.
    pub fn load(path: &Path) -> Result<Self> {
        let text = files::read_text(path)
            .with_context(|| "no configuration; `gloaming edge --example > gloaming.toml` writes one to start from")?;
        let environment = std::env::vars().filter(|(name, _)| name.starts_with("GLOAMING_")).collect();
        let mut config = Self::parse(&text, &environment).with_context(|| path.display().to_string())?;
        let base = path.parent().unwrap_or(Path::new("")).to_path_buf();
        let against = |path: &mut PathBuf| *path = base.join(&*path);
        if let Some(edge) = &mut config.edge {
            [&mut edge.store, &mut edge.key_file, &mut edge.wrapping_key_file].into_iter().for_each(against);
            edge.anchor_file.iter_mut().for_each(against);
            edge.models_folder.iter_mut().for_each(against);
            edge.policies.iter_mut().for_each(against);
            edge.former_key_files.iter_mut().for_each(against);
            edge.central_ca.iter_mut().for_each(against);
            edge.door.paths(against);
            edge.operators.paths(against);
        }
        if let Some(central) = &mut config.central {
            // What is no address is said when the centre starts.
            if let Ok(address @ StoreAddress::Sqlite(_)) = central.store.parse::<StoreAddress>() {
                central.store = address.against(&base).to_string();
            }
            central.password_file.iter_mut().for_each(against);
            central.policies.iter_mut().for_each(against);
            central.door.paths(against);
            central.alerting.paths(against);
            central.operators.paths(against);
        }
        Ok(config)
    }
}

/// One public key, or those of a change of keys.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "a public key in quotes, or a list of them")]
pub enum Keys {
    /// `"key"`.
    One(String),
    /// `["old", "new"]`.
    Several(Vec<String>),
}

/// The keys of each edge in a section.
///
/// # Errors
/// With the name of the one that is no key.
pub fn edge_keys(section: &str, edges: &BTreeMap<String, Keys>) -> Result<BTreeMap<String, Vec<PublicKey>>> {
    let of = |(name, keys): (&String, &Keys)| {
        let texts = match keys {
            Keys::One(text) => std::slice::from_ref(text),
            Keys::Several(texts) => texts,
        };
        let keys = texts.iter().map(|text| PublicKey::from_text(text)).collect::<Result<Vec<_>, _>>();
        Ok((name.clone(), keys.with_context(|| format!("{name:?} in [{section}]"))?))
    };
    edges.iter().map(of).collect()
}

/// Public keys by name.
///
/// # Errors
/// With the name of the one that is no key.
pub fn keys(section: &str, pins: &BTreeMap<String, String>) -> Result<BTreeMap<String, PublicKey>> {
    pins.iter()
        .map(|(name, text)| {
            let key = PublicKey::from_text(text).with_context(|| format!("{name:?} in [{section}]"))?;
            Ok((name.clone(), key))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    #[test]
    fn the_example_is_one() {
        let config = Config::parse(EXAMPLE, &BTreeMap::new()).unwrap();
        assert_eq!(config.edge.unwrap().name, "edge-1");
        assert_eq!(config.central.unwrap().listen, "127.0.0.1:8790");
    }

    #[test]
    fn the_environment_overrides_and_is_checked_too() {
        let changes =
            environment(&[("GLOAMING_EDGE_LISTEN", "127.0.0.1:1"), ("GLOAMING_EDGE_CENTRAL", "http://a, http://b")]);
        let edge = Config::parse(EXAMPLE, &changes).unwrap().edge.unwrap();
        assert_eq!((edge.listen.as_str(), edge.central.len()), ("127.0.0.1:1", 2));
        let wrong = environment(&[("GLOAMING_EDGE_LISTN", "x")]);
        let error = format!("{:#}", Config::parse(EXAMPLE, &wrong).unwrap_err());
        assert!(error.contains("GLOAMING_EDGE_LISTN") && error.contains("GLOAMING_EDGE_LISTEN"), "{error}");
    }

    #[test]
    fn a_wrong_key_is_an_error_that_suggests_the_right_one() {
        for (text, suggestion) in [
            ("[edge]\nlissten = \"x\"", "`listen`"),
            ("[edge]\nwrapping_key = \"x\"", "`wrapping_key_file`"),
            ("[centre]\nlisten = \"x\"", "`central`"),
            ("[edge]\nlisten = \"x\"", "missing field `name`"),
            ("edge = 3", "[edge]"),
            ("[edge", "not TOML"),
        ] {
            let error = format!("{:#}", Config::parse(text, &BTreeMap::new()).unwrap_err());
            assert!(error.contains(suggestion), "{text}: {error}");
        }
    }
}
