//! `gloaming policy …`.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use gloaming_behavior::definitions::{DEFINITIONS, DESCRIPTIONS, Kind, Labels};
use gloaming_policy::Policy;
use gloaming_policy::author::{Key, Signed, TEMPLATES, date_of, diff, newly_special, template};
use gloaming_signal::hash;

use crate::files;

/// Writes a policy to start from.
///
/// # Errors
/// When the template is unknown or the file exists.
pub fn new(name: &str, site: &str, origin: Option<&str>, out: &Path) -> Result<()> {
    let origin = origin.map_or_else(|| format!("https://{site}"), str::to_owned);
    let Some(text) = template(name, site, &origin, &date_of(files::today() + 365)) else {
        bail!("there is no template `{name}`; there are {}", TEMPLATES.join(", "));
    };
    if out.exists() {
        bail!("{} exists; choose another --out, or move it away", out.display());
    }
    fs::write(out, text).with_context(|| out.display().to_string())?;
    println!("wrote {}; next: gloaming policy check {0}", out.display());
    Ok(())
}

/// Compiles a policy and says what it is.
///
/// # Errors
/// All problems.
pub fn check(path: &Path, models: Option<&Path>) -> Result<()> {
    let (policy, _) = files::compile_policy(path, models)?;
    summary(&policy);
    Ok(())
}

/// Lists every feature that a metric can be `of` and a model can take.
pub fn features() {
    println!("{:<24} {:<36} meaning (definition)", "feature", "values");
    for (definition, words) in DEFINITIONS.iter().zip(DESCRIPTIONS) {
        let values = match definition.kind {
            Kind::Number { unit, scale: 1, .. } => format!("whole {unit}"),
            Kind::Number { unit, scale, .. } => format!("{unit}, in steps of 1/{scale}"),
            Kind::Category { labels: Labels::Fixed(labels), .. } => labels.join(" "),
            Kind::Category { labels: Labels::Groups, .. } => "the policy's page groups, other".to_owned(),
            Kind::Category { labels: Labels::Campaigns, .. } => "the policy's campaigns, other, none".to_owned(),
            Kind::Category { labels: Labels::GroupPairs, .. } => "pairs of page groups, none".to_owned(),
        };
        println!(
            "{:<24} {values:<36} {} ({})",
            format!("{}@{}", definition.name, definition.version),
            words.text,
            words.source
        );
    }
}

fn summary(policy: &Policy) {
    let declared = policy.declared();
    println!("{} version {}, valid before {}", policy.site, policy.version, date_of(policy.expires_day));
    println!("hash {}", hash::hex(&policy.hash()));
    println!(
        "{} metrics, {} models, {} purposes; a device spends at most rho {} of {} a day (epsilon {:.2} at delta {:e})",
        policy.metrics.len(),
        policy.models.len(),
        policy.purposes.len(),
        declared.as_f64(),
        policy.budget.as_f64(),
        declared.epsilon(policy.delta()),
        policy.delta()
    );
}

/// Signs a policy.
///
/// # Errors
/// When it does not compile or the key is none.
pub fn sign(path: &Path, models: Option<&Path>, keys: &[impl AsRef<Path>], out: &Path) -> Result<()> {
    let (policy, record) = files::compile_policy(path, models)?;
    if let Ok(before) = files::read(out) {
        let first = files::key(keys.first().context("a key")?.as_ref())?.public();
        if let Ok((_, old)) = Signed::verify(&before, &first, 0)
            && old.site == policy.site
        {
            if old.version >= policy.version && old.hash() != policy.hash() {
                bail!(
                    "{} holds version {} already; raise `version` in {} above it, edges refuse to go back",
                    out.display(),
                    old.version,
                    path.display()
                );
            }
            if let Some(id) = newly_special(&old, &policy) {
                bail!(
                    "purpose `{id}` asks for a special category (GDPR, Article 9) and asked for something else in version {}, a yes to which is none to this; give it an id of its own in {}",
                    old.version,
                    path.display()
                );
            }
        }
    }
    let keys: Vec<Key> = keys.iter().map(|k| files::key(k.as_ref())).collect::<Result<_>>()?;
    let mut signed = Signed::sign(&policy, &keys.iter().collect::<Vec<_>>());
    if let Some(record) = &record {
        signed = signed.with_record(record);
    }
    if let Ok(before) = files::read(out).and_then(|bytes| Ok(Signed::verified_before(&bytes)?.0))
        && !policy.models.is_empty()
        && !signed.follows(&before)
    {
        bail!(
            "{} is not the record that {} was signed with and what came since: bring that one back; edges refuse a record that forgets",
            files::record_path(path).display(),
            out.display()
        );
    }
    // As an edge will read it: what is not believed here is believed nowhere.
    Signed::verify(&signed.to_bytes(), &keys.first().context("a key")?.public(), files::today())?;
    fs::write(out, signed.to_bytes()).with_context(|| out.display().to_string())?;
    summary(&policy);
    println!("wrote {}; give it to edges and centre, and to pages:", out.display());
    if let Some(key) = keys.first() {
        println!();
        println!(
            "<script defer src=\"/g/gloaming.js\" data-site=\"{}\" data-key=\"{}\" referrerpolicy=\"no-referrer\"></script>",
            policy.site,
            key.public().to_text()
        );
    }
    Ok(())
}

/// Says what changed, in sentences.
///
/// # Errors
/// When one of them does not compile.
pub fn compare(old: &Path, new: &Path, models: Option<&Path>) -> Result<()> {
    let ((old, _), (new, _)) = (files::compile_policy(old, models)?, files::compile_policy(new, models)?);
    let lines = diff(&old, &new);
    if lines.is_empty() {
        println!("nothing but the version differs");
    }
    for line in lines {
        println!("{line}");
    }
    if new.version <= old.version {
        bail!("the new version is {}, the old one {}; versions must grow", new.version, old.version);
    }
    Ok(())
}

/// Makes a signing key.
///
/// # Errors
/// When the file exists.
pub fn key(out: &Path) -> Result<()> {
    let key = Key::from_seed(&files::entropy()?);
    files::write_secret(out, &key.to_text())?;
    println!("wrote {} (secret; back it up)", out.display());
    println!("public key {}", key.public().to_text());
    Ok(())
}
