//! `gloaming component`: which edge component serves, and which runs beside it.
//!
//! Three files beside the store say so: `.component` serves when it is there (else the one that came with the
//! release), `.component.next` runs beside it, `.component.before` served before. A running edge looks at them every
//! minute and at SIGHUP.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use gloaming_edge::Guests;
use gloaming_signal::hash;

use crate::config::{Config, EdgeFile};
use crate::{assets, files};

/// A file that says: the component that came with the release.
const RELEASED: &[u8] = b"released\n";

/// The three files of an edge.
pub struct Components {
    serves: PathBuf,
    next: PathBuf,
    before: PathBuf,
}

/// What an edge is to run.
#[derive(Clone, PartialEq, Eq)]
pub struct Chosen {
    /// The component that serves.
    pub serves: Vec<u8>,
    /// The one beside it.
    pub next: Option<Vec<u8>>,
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    if path.exists() { files::read(path).map(Some) } else { Ok(None) }
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    files::replace(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

impl Components {
    /// Those of an edge.
    #[must_use]
    pub fn of(file: &EdgeFile) -> Self {
        let name = |ending| beside(&file.store, ending);
        Self { serves: name(".component"), next: name(".component.next"), before: name(".component.before") }
    }

    /// What is to run, given the component that came with the release.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn chosen(&self, released: &[u8]) -> Result<Chosen> {
        let serves = read(&self.serves)?.filter(|bytes| bytes != RELEASED).unwrap_or_else(|| released.to_vec());
        Ok(Chosen { serves, next: read(&self.next)? })
    }

    fn stage(&self, component: &Path) -> Result<()> {
        let bytes = files::read(component)?;
        // What cannot run is said here and not in a log.
        Guests::new(&bytes).with_context(|| component.display().to_string())?;
        write(&self.next, &bytes)
    }

    fn switch(&self) -> Result<()> {
        let next = read(&self.next)?.ok_or_else(|| {
            anyhow!("no component runs beside the one that serves: `gloaming component stage FILE` first")
        })?;
        write(&self.before, &read(&self.serves)?.unwrap_or_else(|| RELEASED.to_vec()))?;
        write(&self.serves, &next)?;
        fs::remove_file(&self.next)?;
        Ok(())
    }

    fn rollback(&self) -> Result<()> {
        let Some(before) = read(&self.before)? else {
            bail!("nothing served before the component that serves now: there is nothing to go back to");
        };
        write(&self.serves, &before)?;
        fs::remove_file(&self.before)?;
        Ok(())
    }
}

/// What to do.
pub enum Step<'a> {
    /// Runs a component beside the one that serves.
    Stage(&'a Path),
    /// Lets the one beside serve.
    Switch,
    /// Goes back to the one before.
    Rollback,
    /// Says what runs.
    Show,
}

/// Does it, and says what runs then.
///
/// # Errors
/// When it cannot be done; nothing has changed then.
pub fn run(config: &Path, folder: Option<&Path>, step: &Step<'_>) -> Result<()> {
    let file = Config::load(config)?.edge.ok_or_else(|| anyhow!("{} has no [edge]", config.display()))?;
    let components = Components::of(&file);
    match step {
        Step::Stage(component) => components.stage(component)?,
        Step::Switch => components.switch()?,
        Step::Rollback => components.rollback()?,
        Step::Show => {}
    }
    let assets = assets::find(folder)?;
    let released = assets.bytes("edge/worker.component.wasm").context("the assets lack the edge component")?;
    let chosen = components.chosen(released)?;
    let name = |bytes: &[u8]| {
        let own = if bytes == &released[..] { ", of this release" } else { "" };
        format!("{}{own}", hash::hex(&hash::sha256(bytes)))
    };
    println!("serves   {}", name(&chosen.serves));
    println!("beside   {}", chosen.next.as_deref().map_or_else(|| "none".to_owned(), name));
    let before = read(&components.before)?.map(|bytes| if bytes == RELEASED { released.to_vec() } else { bytes });
    println!("before   {}", before.as_deref().map_or_else(|| "none".to_owned(), name));
    if !matches!(step, Step::Show) {
        println!("a running edge sees it within a minute, or at once when it is reloaded (SIGHUP)");
    }
    Ok(())
}
