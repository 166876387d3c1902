//! Where the served files are: in this binary, or in a folder.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use gloaming_http::Assets;

/// Files of this binary; none in a development build.
#[cfg(feature = "embed")]
fn embedded() -> Option<Assets> {
    use bytes::Bytes;
    static FILES: &[(&str, &[u8])] = &include!(concat!(env!("OUT_DIR"), "/assets.rs"));
    Some(Assets::from_files(FILES.iter().map(|(name, bytes)| ((*name).to_owned(), Bytes::from_static(bytes)))))
}

#[cfg(not(feature = "embed"))]
fn embedded() -> Option<Assets> {
    None
}

/// The folder when one is given (or `GLOAMING_ASSETS` names one), else the binary's own.
///
/// # Errors
/// When there are none, or a file that everything needs is missing.
pub fn find(folder: Option<&Path>) -> Result<Assets> {
    let from_environment = std::env::var_os("GLOAMING_ASSETS");
    let folder = folder.or(from_environment.as_deref().map(Path::new));
    let assets = match (folder, embedded()) {
        (Some(folder), _) => Assets::from_folder(folder).with_context(|| format!("assets in {}", folder.display()))?,
        (None, Some(own)) => own,
        (None, None) => bail!(
            "this build carries no assets: run `cargo xtask demo`, or build them with `cargo xtask build` and set GLOAMING_ASSETS to the folder it prints"
        ),
    };
    for needed in
        ["g/gloaming.js", "g/worker.js", "g/collector.wasm", "edge/worker.component.wasm", "dashboard/index.html"]
    {
        if assets.bytes(needed).is_none() {
            bail!("the assets lack {needed}; run `cargo xtask build` again");
        }
    }
    Ok(assets)
}
