//! `gloaming demo`.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use crate::assets;
use crate::demo::{Demo, Options};

/// Starts the demonstration and waits for Ctrl-C.
///
/// # Errors
/// Whatever keeps it from starting.
pub async fn run(port: u16, window_s: u32, open: bool, folder: Option<&Path>) -> Result<()> {
    let temporary = tempfile::tempdir().context("no folder for the demonstration's files")?;
    let mut options = Options::new(assets::find(folder)?, temporary.path().to_path_buf());
    (options.port, options.window_s) = (Some(port), window_s);
    let demo = Demo::start(options).await?;
    let k = demo.policy.metrics.iter().map(|m| m.k).min().unwrap_or(0);
    println!("Gloaming is running on this machine, with windows of {window_s} seconds.");
    println!();
    println!("  shop     {}/            visit it, and say yes or no to the question it asks", demo.shop);
    println!("  check    {}/?gloaming-check  follows one visit through all steps", demo.shop);
    println!("  centre   {}/            what was learnt, with intervals", demo.central);
    println!("  metrics  {}/metrics     the edge's, for operators", demo.admin);
    println!();
    println!("Fewer than about {k} visits in a window release nothing. `cargo xtask demo --drive 60` makes some.");
    println!("Ctrl-C stops it; nothing is kept.");
    if open {
        open_browser(&demo.shop);
    }
    tokio::signal::ctrl_c().await?;
    println!("stopping");
    demo.stop().await;
    Ok(())
}

/// Opens the shop when there is a screen to open it on.
fn open_browser(address: &str) {
    if std::env::var_os("DISPLAY").is_some()
        || std::env::var_os("WAYLAND_DISPLAY").is_some()
        || cfg!(target_os = "macos")
    {
        let program = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
        let _ = Command::new(program).arg(address).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    }
}
