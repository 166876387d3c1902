//! Where things are, and running other programs with their progress in view.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

/// Paths and answers that every chore needs.
pub(crate) struct Context {
    /// The checkout.
    pub(crate) root: PathBuf,
    /// Cargo's target folder: outside the checkout, so that all checkouts share what they build.
    pub(crate) target: PathBuf,
    /// Install without asking.
    pub(crate) yes: bool,
}

impl Context {
    pub(crate) fn new(yes: bool) -> Result<Self> {
        // As it is now and not as it was when this was compiled: checkouts share what they build.
        let own = std::env::var_os("CARGO_MANIFEST_DIR").context("run this as `cargo xtask`")?;
        let root = Path::new(&own).ancestors().nth(2).context("the checkout")?.to_path_buf();
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(folder) => PathBuf::from(folder),
            None => {
                let home = std::env::var_os("HOME").context("HOME is not set: set CARGO_TARGET_DIR to a folder")?;
                Path::new(&home).join(".cache/gloaming/target")
            }
        };
        Ok(Self { root, target, yes })
    }

    /// Files that are served, as `assets::build` leaves them. One folder a checkout, or two checkouts
    /// would serve each other's.
    pub(crate) fn assets(&self) -> PathBuf {
        let name = self
            .root
            .to_string_lossy()
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        self.target.join("assets").join(format!("{name:016x}"))
    }

    /// `cargo` in the checkout with the shared target folder.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new("cargo");
        command.current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target);
        // The variables cargo sets for `cargo run` would make the inner cargo rebuild.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("CARGO_PKG_")
                || text.starts_with("CARGO_MANIFEST")
                || text == "CARGO"
                || text == "RUSTUP_TOOLCHAIN"
            {
                command.env_remove(&name);
            }
        }
        command
    }
}

/// Says what is done, does it, says how long it took.
pub(crate) fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    println!("==> {what}");
    let start = Instant::now();
    let done = work().with_context(|| format!("failed: {what}"))?;
    println!("    {what}: {:.0} s", start.elapsed().as_secs_f64());
    Ok(done)
}

/// Runs a command with its output in view.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = format!(
        "{} {}",
        command.get_program().to_string_lossy(),
        command.get_args().map(|a| a.to_string_lossy()).collect::<Vec<_>>().join(" ")
    );
    let status = command.status().with_context(|| format!("cannot start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` ended with {status}");
    }
    Ok(())
}

/// Runs a command and returns what it printed.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot start `{program}`"))?;
    if !output.status.success() {
        bail!("`{program}` ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a program answers `--version`.
pub(crate) fn answers(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success())
}
