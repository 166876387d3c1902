//! With the `embed` feature: lists every file under `GLOAMING_ASSETS` for `include_bytes!`.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs, io};

fn list(folder: &Path, prefix: &str, out: &mut String) -> io::Result<()> {
    let mut entries: Vec<_> = fs::read_dir(folder)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            list(&entry.path(), &format!("{name}/"), out)?;
        } else {
            writeln!(out, "    ({name:?}, include_bytes!({:?})),", entry.path()).map_err(io::Error::other)?;
        }
    }
    Ok(())
}

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-env-changed=GLOAMING_ASSETS");
    if env::var_os("CARGO_FEATURE_EMBED").is_none() {
        return Ok(());
    }
    let folder = env::var("GLOAMING_ASSETS")
        .map_err(|_| io::Error::other("the `embed` feature needs GLOAMING_ASSETS; `cargo xtask dist` sets it"))?;
    println!("cargo::rerun-if-changed={folder}");
    let mut out = String::from("[\n");
    list(Path::new(&folder), "", &mut out)?;
    out.push_str("]\n");
    let target = Path::new(&env::var("OUT_DIR").map_err(io::Error::other)?).join("assets.rs");
    fs::write(target, out)
}
