//! `gloaming doctor`: looks at everything a deployment needs and says what is wrong, all at once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};
use gloaming_http::Client;
use gloaming_policy::author::{PublicKey, Signed, date_of};

use crate::config::{Config, EdgeFile, keys};
use crate::{assets, files};

/// Days before expiry from which it is a finding.
const SOON: u64 = 30;

#[derive(Default)]
struct Findings {
    wrong: usize,
}

impl Findings {
    fn good(&self, text: &str) {
        println!("  ok    {text}");
    }

    fn wrong(&mut self, text: &str, remedy: &str) {
        self.wrong += 1;
        println!("  WRONG {text}");
        println!("        {remedy}");
    }

    fn take<T>(&mut self, what: &str, result: Result<T>, remedy: &str) -> Option<T> {
        match result {
            Ok(value) => {
                self.good(what);
                Some(value)
            }
            Err(error) => {
                self.wrong(&format!("{what}: {error:#}"), remedy);
                None
            }
        }
    }

    fn secret(&mut self, path: &Path) {
        if files::readable_by_others(path) {
            self.wrong(&format!("others may read {}", path.display()), &format!("chmod 600 {}", path.display()));
        }
    }

    fn policies(&mut self, section: &str, paths: &[PathBuf], pins: &BTreeMap<String, PublicKey>, edge: Option<&str>) {
        for path in paths {
            let verified = files::read(path).and_then(|bytes| {
                let found = pins.values().find_map(|pin| Signed::verify(&bytes, pin, files::today()).ok());
                match (found, pins.values().next()) {
                    (Some((_, policy)), _) => Ok(policy),
                    (None, Some(pin)) => bail!(
                        "{}",
                        Signed::verify(&bytes, pin, files::today()).err().map_or(String::new(), |e| e.to_string())
                    ),
                    (None, None) => bail!("no key is pinned"),
                }
            });
            let remedy =
                format!("sign it with the key in [{section}.sites], or put the signing key's public half there");
            let Some(policy) = self.take(&format!("policy {}", path.display()), verified, &remedy) else { continue };
            let left = policy.expires_day.saturating_sub(files::today());
            if left <= SOON {
                self.wrong(
                    &format!("{} expires on {}, in {left} days", policy.site, date_of(policy.expires_day)),
                    "raise `version` and `expires`, sign, and give it to edges and centre",
                );
            }
            if let Some(edge) = edge.filter(|edge| !policy.home_edges.iter().any(|home| home == edge)) {
                self.wrong(
                    &format!("{} does not name {edge} in home_edges", policy.site),
                    "add it in the policy and sign it again, or change [edge] name",
                );
            }
        }
    }
}

async fn edge(findings: &mut Findings, file: &EdgeFile, client: &Client) {
    println!("[edge]");
    findings.take(
        &format!("key {}", file.key_file.display()),
        files::key(&file.key_file),
        "gloaming policy key --out FILE",
    );
    findings.secret(&file.key_file);
    if file.wrapping_key_file.exists() {
        findings.take(
            &format!("wrapping key {}", file.wrapping_key_file.display()),
            files::wrapping_key(&file.wrapping_key_file),
            "restore it from its backup; without it the open windows are lost",
        );
        findings.secret(&file.wrapping_key_file);
    } else if file.store.exists() {
        findings.wrong("there is a store and no wrapping key", "restore the wrapping key from its backup");
    } else {
        findings.good("no wrapping key yet; it is made on first start");
    }
    if let Some(pins) = findings.take(
        "pinned keys in [edge.sites]",
        keys("edge.sites", &file.sites),
        "paste what `gloaming policy key` printed",
    ) {
        findings.policies("edge", &file.policies, &pins, Some(&file.name));
    }
    for (what, address) in file
        .central
        .iter()
        .map(|c| ("centre", format!("{c}/readyz")))
        .chain([("this edge", format!("http://{}/readyz", file.admin))])
    {
        match client.get(&address).await {
            Ok((status, _, _)) if status.is_success() => findings.good(&format!("{what} answers at {address}")),
            Ok((status, _, _)) => findings.wrong(&format!("{what} at {address} says {status}"), "look at its log"),
            Err(error) => findings.wrong(&format!("{what} at {address}: {error}"), "start it, or correct the address"),
        }
    }
}

/// Looks at a configuration.
///
/// # Errors
/// When anything is wrong; the findings are printed before.
pub async fn run(path: &Path, folder: Option<&Path>) -> Result<()> {
    let mut findings = Findings::default();
    println!("[assets]");
    findings.take("assets", assets::find(folder), "use the binary of `cargo xtask dist`, or set GLOAMING_ASSETS");
    let remedy = "`gloaming edge --example` prints a configuration to start from";
    let Some(config) = findings.take(&format!("configuration {}", path.display()), Config::load(path), remedy) else {
        bail!("{} finding(s)", findings.wrong);
    };
    let client = Client::new(Duration::from_secs(3));
    if let Some(file) = &config.edge {
        edge(&mut findings, file, &client).await;
    }
    if let Some(file) = &config.central {
        println!("[central]");
        if let Some(pins) = findings.take(
            "pinned keys in [central.sites]",
            keys("central.sites", &file.sites),
            "paste what `gloaming policy key` printed",
        ) {
            findings.policies("central", &file.policies, &pins, None);
        }
        findings.take(
            "edges' keys in [central.edges]",
            keys("central.edges", &file.edges),
            "paste what `gloaming policy key` printed",
        );
        if let Some(password) = &file.password_file {
            findings.take(
                &format!("password {}", password.display()),
                files::read_text(password),
                "write one line of it",
            );
            findings.secret(password);
        }
    }
    if findings.wrong > 0 {
        bail!("{} finding(s)", findings.wrong);
    }
    println!("nothing is wrong");
    Ok(())
}
