//! Sites that were added while the service ran: a folder for each, beside those of the configuration file.
//!
//! ```text
//! sites/blog.example/owner.pub        the key its policies must be signed with
//! sites/blog.example/policy-3.signed  one file for each version
//! sites/blog.example/quota            contributions it may hold open at an edge
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use gloaming_policy::author::{PublicKey, SignError, Signed};
use gloaming_signal::limits;

use crate::config::keys;
use crate::files;

/// Sites in a folder at most.
const SITES: usize = 10_000;

/// Why a site stays as it was.
#[derive(Debug, thiserror::Error)]
pub enum SitesError {
    /// Not what a site is called.
    #[error("`{0}` is no site's name; write it as in the policy: lower-case letters, digits, dots and dashes")]
    Name(String),
    /// Not here.
    #[error("there is no site {0} here; `gloaming site add` adds it")]
    Unknown(String),
    /// Its key is another one.
    #[error(
        "{0} is here with another key; to change it, put a policy in force that is signed with both, then add the site with the new one"
    )]
    OtherKey(String),
    /// Its policy.
    #[error("the policy was refused: {0}")]
    Policy(#[from] SignError),
    /// Another site's policy.
    #[error("the policy is of {0} and not of {1}")]
    OtherSite(String, String),
    /// Too many.
    #[error("there are {SITES} sites here; more need another edge")]
    Full,
    /// In the configuration as well.
    #[error("{0} is in the configuration file and in the folder of sites; take it out of one of them")]
    Twice(String),
    /// The folder.
    #[error("{0}: {1}")]
    Folder(PathBuf, std::io::Error),
}

/// One site as it lies in its folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The key its policies must be signed with.
    pub key: PublicKey,
    /// Signed policies by version.
    pub policies: BTreeMap<u32, Vec<u8>>,
    /// Contributions it may hold open, when it is held to fewer than others.
    pub quota: Option<u64>,
}

/// Which versions of the folder's policies a service asks for.
#[derive(Clone, Copy)]
pub enum Versions {
    /// A centre's: batches of earlier ones may still come.
    All,
    /// An edge's: it keeps the earlier ones itself, and refuses to go back.
    Newest,
}

/// What a service is to know: sites of its configuration file and of its folder together.
#[derive(Default)]
pub struct Known {
    /// The key each site's policies must be signed with.
    pub pins: BTreeMap<String, PublicKey>,
    /// Signed policies.
    pub policies: Vec<Vec<u8>>,
    /// Contributions that single sites may hold open at an edge.
    pub quotas: BTreeMap<String, usize>,
}

impl Known {
    /// Reads both.
    ///
    /// # Errors
    /// The first thing that is not there or not right.
    pub fn read(
        section: &str,
        pins: &BTreeMap<String, String>,
        policies: &[PathBuf],
        folder: Option<&Path>,
        which: Versions,
    ) -> anyhow::Result<Self> {
        let policies = policies.iter().map(|path| files::read(path)).collect::<anyhow::Result<_>>()?;
        let mut known = Self { pins: keys(section, pins)?, policies, quotas: BTreeMap::new() };
        let Some(folder) = folder else { return Ok(known) };
        for (name, site) in Sites::new(folder.to_owned()).all()? {
            if known.pins.insert(name.clone(), site.key).is_some() {
                return Err(SitesError::Twice(name).into());
            }
            // Versions of before a change of keys were believed when they came, and the service kept them itself.
            let believed = |bytes: &Vec<u8>| Signed::verify(bytes, &site.key, 0).is_ok();
            let mut policies = site.policies.into_values().filter(believed);
            match which {
                Versions::All => known.policies.extend(policies),
                Versions::Newest => known.policies.extend(policies.next_back()),
            }
            let quota = site.quota.map(|quota| usize::try_from(quota).unwrap_or(usize::MAX));
            known.quotas.extend(quota.map(|quota| (name, quota)));
        }
        Ok(known)
    }
}

/// The folder of sites.
#[derive(Clone, Debug)]
pub struct Sites(PathBuf);

/// A name is a folder's name too: nothing in it may lead elsewhere.
fn checked(name: &str) -> Result<&str, SitesError> {
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
    let sound = !name.is_empty() && name.len() <= limits::SITE_BYTES && !name.starts_with(['.', '-']);
    if sound && name.bytes().all(good) { Ok(name) } else { Err(SitesError::Name(name.to_owned())) }
}

fn version_of(file: &str) -> Option<u32> {
    file.strip_prefix("policy-")?.strip_suffix(".signed")?.parse().ok()
}

impl Sites {
    /// Sites in this folder; it is made when the first one is added.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    fn at<T>(path: &Path, outcome: std::io::Result<T>) -> Result<T, SitesError> {
        outcome.map_err(|error| SitesError::Folder(path.to_owned(), error))
    }

    fn write(&self, name: &str, file: &str, bytes: &[u8]) -> Result<(), SitesError> {
        let path = self.0.join(checked(name)?).join(file);
        Self::at(&path, files::replace(&path, bytes))
    }

    /// All sites by name. What is no site is said in the log and left out: one broken folder must not keep the others
    /// from being served.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn all(&self) -> Result<BTreeMap<String, Site>, SitesError> {
        let mut sites = BTreeMap::new();
        if !self.0.exists() {
            return Ok(sites);
        }
        for entry in Self::at(&self.0, fs::read_dir(&self.0))? {
            let entry = Self::at(&self.0, entry)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            match self.one(&name) {
                Ok(site) => drop(sites.insert(name, site)),
                Err(error) => tracing::error!(%error, name, "a folder of sites_folder is left out"),
            }
            if sites.len() > SITES {
                return Err(SitesError::Full);
            }
        }
        Ok(sites)
    }

    /// One site.
    ///
    /// # Errors
    /// When it is not here, or its files are something else.
    pub fn one(&self, name: &str) -> Result<Site, SitesError> {
        let folder = self.0.join(checked(name)?);
        if !folder.is_dir() {
            return Err(SitesError::Unknown(name.to_owned()));
        }
        let text = |file: &str| {
            let path = folder.join(file);
            Self::at(&path, fs::read_to_string(&path))
        };
        let key = PublicKey::from_text(&text("owner.pub")?)?;
        let quota = if folder.join("quota").exists() { text("quota")?.trim().parse().ok() } else { None };
        let mut policies = BTreeMap::new();
        for entry in Self::at(&folder, fs::read_dir(&folder))? {
            let path = Self::at(&folder, entry)?.path();
            let Some(version) = path.file_name().and_then(|file| version_of(file.to_str()?)) else { continue };
            policies.insert(version, Self::at(&path, fs::read(&path))?);
        }
        Ok(Site { key, policies, quota })
    }

    /// Adds a site; whether it is new.
    ///
    /// # Errors
    /// When it is here with another key, or there is no room.
    pub fn add(&self, name: &str, key: &PublicKey) -> Result<bool, SitesError> {
        match self.one(name) {
            Ok(site) if site.key == *key => return Ok(false),
            Ok(site) => {
                // A change of keys: the newest policy bears both signatures.
                let newest = site.policies.values().next_back();
                if newest.is_none_or(|bytes| Signed::verify(bytes, key, 0).is_err()) {
                    return Err(SitesError::OtherKey(name.to_owned()));
                }
                self.write(name, "owner.pub", format!("{}\n", key.to_text()).as_bytes())?;
                return Ok(true);
            }
            Err(SitesError::Unknown(_)) => {}
            Err(error) => return Err(error),
        }
        if self.all()?.len() >= SITES {
            return Err(SitesError::Full);
        }
        // Made aside: a folder without its key would keep the service from starting.
        let (folder, aside) = (self.0.join(name), self.0.with_extension("adding"));
        let _ = fs::remove_dir_all(&aside);
        Self::at(&aside, fs::create_dir_all(&aside))?;
        let pin = aside.join("owner.pub");
        Self::at(&pin, files::replace(&pin, format!("{}\n", key.to_text()).as_bytes()))?;
        Self::at(&self.0, fs::create_dir_all(&self.0))?;
        Self::at(&folder, fs::rename(&aside, &folder).and_then(|()| files::sync_folder(&folder)))?;
        Ok(true)
    }

    /// Takes a site out.
    ///
    /// # Errors
    /// When it is not here.
    pub fn remove(&self, name: &str) -> Result<(), SitesError> {
        self.one(name)?;
        let (folder, aside) = (self.0.join(name), self.0.with_extension("removing"));
        let _ = fs::remove_dir_all(&aside);
        Self::at(&folder, fs::rename(&folder, &aside))?;
        Self::at(&aside, fs::remove_dir_all(&aside))
    }

    /// Checks that a policy is this site's; returns its version.
    ///
    /// # Errors
    /// When it is not signed by the site's key, expired, or another site's.
    pub fn check_policy(&self, name: &str, bytes: &[u8], today: u64) -> Result<u32, SitesError> {
        let (_, policy) = Signed::verify(bytes, &self.one(name)?.key, today)?;
        if policy.site != name {
            return Err(SitesError::OtherSite(policy.site, name.to_owned()));
        }
        Ok(policy.version)
    }

    /// Keeps a policy that was checked.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put_policy(&self, name: &str, version: u32, bytes: &[u8]) -> Result<(), SitesError> {
        self.write(name, &format!("policy-{version}.signed"), bytes)
    }

    /// Holds a site to a number of open contributions.
    ///
    /// # Errors
    /// When it is not here.
    pub fn put_quota(&self, name: &str, quota: u64) -> Result<(), SitesError> {
        self.one(name)?;
        self.write(name, "quota", format!("{quota}\n").as_bytes())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use gloaming_policy::author::Key;

    use super::*;

    #[test]
    fn a_site_is_added_once_and_keeps_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let sites = Sites::new(folder.path().join("sites"));
        assert!(sites.all().unwrap().is_empty());
        let (key, other) = (Key::from_seed(&[1; 32]).public(), Key::from_seed(&[2; 32]).public());
        assert!(sites.add("blog.example", &key).unwrap());
        assert!(!sites.add("blog.example", &key).unwrap());
        assert!(matches!(sites.add("blog.example", &other), Err(SitesError::OtherKey(_))));
        sites.put_quota("blog.example", 500).unwrap();
        assert_eq!(sites.all().unwrap()["blog.example"].quota, Some(500));
        assert!(matches!(sites.put_quota("shop.example", 1), Err(SitesError::Unknown(_))));
        sites.remove("blog.example").unwrap();
        assert!(matches!(sites.remove("blog.example"), Err(SitesError::Unknown(_))));
        assert!(sites.all().unwrap().is_empty());
    }

    #[test]
    fn no_name_leads_out_of_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let sites = Sites::new(folder.path().join("sites"));
        let key = Key::from_seed(&[1; 32]).public();
        for name in ["", ".", "..", "../x", "a/b", "a\\b", ".hidden", "-x", "A.example", "a b", &"a".repeat(254)] {
            assert!(matches!(sites.add(name, &key), Err(SitesError::Name(_))), "{name}");
        }
    }
}
