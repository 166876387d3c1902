//! `gloaming doctor`: looks at everything a deployment needs and says what is wrong, all at once.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};
use gloaming_http::Client;
use gloaming_policy::author::{PublicKey, Signed, date_of};

use crate::config::{Config, EdgeFile, edge_keys, keys};
use crate::door::Door;
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

    fn door(&mut self, door: &Door) {
        self.take("trusted proxies", door.proxies(), "write addresses or networks, or leave the key out");
        self.take("certificate", door.certificate(), "both files in PEM, of the same renewal");
        if let Some(key) = &door.tls_key {
            self.secret(key);
        }
    }

    fn secret(&mut self, path: &Path) {
        if files::readable_by_others(path) {
            self.wrong(&format!("others may read {}", path.display()), &format!("chmod 600 {}", path.display()));
        }
    }

    fn policies(
        &mut self,
        section: &str,
        paths: &[PathBuf],
        pins: &BTreeMap<String, PublicKey>,
        edge: Option<&EdgeFile>,
    ) {
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
            let known = |edge: &&EdgeFile| {
                policy.home_edges.iter().any(|home| *home == edge.name || edge.homes.contains_key(home))
            };
            if let Some(edge) = edge.filter(|edge| !known(edge)) {
                self.wrong(
                    &format!("{} names neither {} in home_edges nor an edge of [edge.homes]", policy.site, edge.name),
                    "add it in the policy and sign it again, change [edge] name, or write its home edge into [edge.homes] to relay",
                );
            }
        }
    }
}

/// Whether an address is of this machine, or in TLS.
fn is_private(address: &str) -> bool {
    let Ok(uri) = address.parse::<http::Uri>() else { return false };
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let local = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    local || uri.scheme_str() == Some("https")
}

async fn edge(findings: &mut Findings, file: &EdgeFile) {
    println!("[edge]");
    findings.door(&file.door);
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
        findings.policies("edge", &file.policies, &pins, Some(file));
    }
    if !file.homes.is_empty() {
        findings.take("home edges in [edge.homes]", file.known_homes(), "`gloaming edge --example` shows one");
    }
    if !file.relays.is_empty() {
        let keys = edge_keys("edge.relays", &file.relays);
        findings.take("relays' keys in [edge.relays]", keys, "paste what `gloaming policy key` printed");
    }
    for path in &file.former_key_files {
        findings.take(&format!("former key {}", path.display()), files::key(path), "bring it back, or take it out");
        findings.secret(path);
    }
    let homes = || file.homes.iter().flat_map(|(name, home)| home.at.iter().map(move |at| (name, at)));
    for (name, at) in homes().filter(|(_, at)| !is_private(at)) {
        findings.wrong(
            &format!("home edge {name} at {at} is beyond this machine and not in TLS"),
            "give it a certificate and write https: whoever is on the way could say that it has what it has not",
        );
    }
    for address in file.central.iter().filter(|address| !is_private(address)) {
        findings.wrong(
            &format!("the centre {address} is beyond this machine and not in TLS"),
            "give the centre a certificate and write https: whoever is on the way could say that a batch is stored, and drop it",
        );
    }
    let roots = Client::trusting(Duration::from_secs(3), &file.roots()).map_err(Into::into);
    let remedy = "name the file that vouches for the centre in `central_ca`, or install `ca-certificates`";
    let Some(client) = findings.take("whom to believe about the centre and home edges", roots, remedy) else { return };
    for (what, address) in file
        .central
        .iter()
        .map(|c| ("centre", format!("{c}/readyz")))
        .chain(homes().map(|(_, at)| ("home edge", format!("{at}/g/gloaming.js"))))
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
    if let Some(file) = &config.edge {
        edge(&mut findings, file).await;
    }
    if let Some(file) = &config.central {
        println!("[central]");
        findings.door(&file.door);
        if let Some(pins) = findings.take(
            "pinned keys in [central.sites]",
            keys("central.sites", &file.sites),
            "paste what `gloaming policy key` printed",
        ) {
            findings.policies("central", &file.policies, &pins, None);
        }
        findings.take(
            "edges' keys in [central.edges]",
            edge_keys("central.edges", &file.edges),
            "paste what `gloaming policy key` printed",
        );
        findings.take(
            "the store's address",
            file.store.parse::<gloaming_central::StoreAddress>().map_err(Into::into),
            "`gloaming edge --example` shows one",
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
