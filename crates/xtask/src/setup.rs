//! What building and testing need beyond rustup: the wasm target, a browser, and PostgreSQL.
//!
//! The ordinary way to the wasm target is `rustup target add`. Where rustup cannot fetch it, Debian's
//! own packages have a compiler and the standard library's source, and the library is built from that
//! (`-Zbuild-std`). Either way nothing is downloaded but from the package managers.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::run::{Context, answers, output, run};

const TARGET: &str = "wasm32-unknown-unknown";
const DEBIAN: [&str; 5] = ["rustc-web", "cargo-web", "rust-web-src", "libstd-rust-web-dev", "lld-19"];

/// Which compiler builds for wasm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Toolchain {
    /// The checkout's own, with the target added.
    Rustup,
    /// Debian's, which builds the standard library itself.
    Debian,
}

fn ask(context: &Context, what: &str) -> Result<()> {
    println!("    to be installed: {what}");
    if context.yes || !std::io::stdin().is_terminal() {
        return Ok(());
    }
    print!("    go on? [Y/n] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    if answer.trim().to_lowercase().starts_with('n') {
        bail!("not installed. Install {what} yourself, then call this again");
    }
    Ok(())
}

fn apt(context: &Context, packages: &[&str]) -> Result<()> {
    if !answers("apt-get") {
        bail!("there is no apt-get here: install the equivalents of {} yourself", packages.join(", "));
    }
    ask(context, &format!("Debian packages {}", packages.join(" ")))?;
    run(Command::new("apt-get").args(["update", "-q"]))?;
    run(Command::new("apt-get")
        .args(["install", "-q", "-y", "--no-install-recommends"])
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive"))
}

fn has_rustup_target(context: &Context) -> bool {
    let sysroot = output(Command::new("rustc").args(["--print", "sysroot"]).current_dir(&context.root));
    sysroot.is_ok_and(|s| Path::new(s.trim()).join("lib/rustlib").join(TARGET).join("lib").is_dir())
}

fn has_debian() -> bool {
    Path::new("/usr/bin/wasm-ld-19").exists()
        && output(Command::new("/usr/bin/rustc").args(["--print", "sysroot"]))
            .is_ok_and(|s| Path::new(s.trim()).join("lib/rustlib/src/rust/library/std").is_dir())
}

/// Makes sure that something here compiles for wasm, and says what.
pub(crate) fn wasm_target(context: &Context) -> Result<Toolchain> {
    if has_rustup_target(context) {
        return Ok(Toolchain::Rustup);
    }
    if !has_debian() {
        println!("==> the wasm target is missing: asking rustup for it");
        let added = Command::new("rustup").args(["target", "add", TARGET]).current_dir(&context.root).status();
        if added.is_ok_and(|s| s.success()) && has_rustup_target(context) {
            return Ok(Toolchain::Rustup);
        }
        println!("    rustup could not; Debian's packages have what is needed");
        apt(context, &DEBIAN)?;
    }
    let linked = output(Command::new("rustup").args(["toolchain", "list"]))?.lines().any(|l| l.starts_with("debian"));
    if !linked {
        run(Command::new("rustup").args(["toolchain", "link", "debian", "/usr"]))?;
    }
    Ok(Toolchain::Debian)
}

/// A cargo command that builds for wasm.
pub(crate) fn wasm_cargo(context: &Context, toolchain: Toolchain, profile: &str, packages: &[&str]) -> Command {
    // Entropy is an argument everywhere; a crate that reaches for it must not find any.
    let no_entropy = "--cfg getrandom_backend=\"unsupported\"";
    let mut command = context.cargo();
    if toolchain == Toolchain::Debian {
        command
            .arg("+debian")
            .env("RUSTC_BOOTSTRAP", "1")
            .env("RUSTFLAGS", format!("-Clinker=wasm-ld-19 {no_entropy}"));
    } else {
        command.env("RUSTFLAGS", no_entropy);
    }
    command.args(["build", "--profile", profile, "--lib", "--target", TARGET, "--locked"]);
    command.args(packages.iter().flat_map(|package| ["--package", package]));
    if toolchain == Toolchain::Debian {
        command.arg("-Zbuild-std=std,panic_abort");
    }
    command
}

/// A C compiler and linker, which Rust needs natively; a bare Debian has none.
pub(crate) fn native(context: &Context) -> Result<()> {
    if answers("cc") { Ok(()) } else { apt(context, &["gcc", "libc6-dev"]) }
}

/// Chromium, for tests and driven demos.
pub(crate) fn chromium(context: &Context) -> Result<()> {
    if answers("chromium") {
        return Ok(());
    }
    println!("==> Chromium is missing");
    apt(context, &["chromium", "fonts-dejavu-core"])
}

/// nginx, for its recipe and for `bench edge`.
pub(crate) const NGINX: (&str, &str) = ("nginx", "nginx-light");
/// What attacks in `bench edge --hostile`.
pub(crate) const SLOWHTTPTEST: (&str, &str) = ("slowhttptest", "slowhttptest");

/// Programs and the packages they come in.
pub(crate) fn programs(context: &Context, wanted: &[(&str, &str)]) -> Result<()> {
    // Services lie where only root's path goes.
    let here = |program: &str| ["/usr/sbin", "/usr/bin"].iter().any(|folder| Path::new(folder).join(program).exists());
    let missing: Vec<&str> = wanted.iter().filter(|(name, _)| !here(name)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("==> {} is missing", missing.join(", "));
    apt(context, &missing)
}

/// A Python with what the training kit needs, in versions that are pinned; made anew when they change.
pub(crate) fn kit(context: &Context) -> Result<PathBuf> {
    let (venv, wanted) = (context.target.join("kit-python"), context.root.join("models/kit/tests/requirements.txt"));
    let (python, stamp) = (venv.join("bin/python"), venv.join("requirements.txt"));
    let text = std::fs::read(&wanted)?;
    if std::fs::read(&stamp).is_ok_and(|made| made == text) {
        return Ok(python);
    }
    println!("==> Python packages for the training kit");
    if output(Command::new("python3").args(["-c", "import ensurepip, venv"])).is_err() {
        apt(context, &["python3", "python3-venv"])?;
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
    run(Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"])
        .arg(&wanted))?;
    std::fs::write(stamp, text)?;
    Ok(python)
}

/// PostgreSQL's programs, for tests and `simulate`, which start servers of their own.
pub(crate) fn postgres(context: &Context) -> Result<()> {
    let here = std::fs::read_dir("/usr/lib/postgresql")
        .is_ok_and(|versions| versions.flatten().any(|version| version.path().join("bin/initdb").exists()));
    if here {
        return Ok(());
    }
    println!("==> PostgreSQL is missing");
    apt(context, &["postgresql"])
}
