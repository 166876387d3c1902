//! `gloaming edge` and `gloaming central`: services that run until they are asked to stop.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail};
use gloaming_edge::{system_clock, system_entropy};
use tokio::net::TcpListener;

use crate::config::{CentralFile, Config, EdgeFile, keys};
use crate::{assets, files};

/// Ctrl-C, or the signal that service managers send.
async fn asked_to_stop() -> Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            _ = terminate.recv() => {}
            outcome = tokio::signal::ctrl_c() => outcome?,
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await?;
    Ok(())
}

async fn listen(what: &str, address: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {what} = {address:?}"))
}

/// What an operator says once, at a start that would otherwise be refused.
#[derive(Clone, Copy, Debug, Default)]
pub struct Start {
    /// The clock is right although the store says otherwise.
    pub accept_clock: bool,
    /// The store is an old copy.
    pub restored: bool,
}

/// An edge's whole configuration from its file.
///
/// # Errors
/// The first thing that is not there or not right.
pub fn edge_config(file: &EdgeFile, component: Vec<u8>, loopback: bool, start: Start) -> Result<gloaming_edge::Config> {
    let beside = || {
        let mut name = file.wrapping_key_file.clone().into_os_string();
        name.push(".anchor");
        name.into()
    };
    // A new key would open nothing of what an old store holds.
    if file.store.exists() && !file.wrapping_key_file.exists() {
        bail!(
            "the wrapping key {} is missing, and the store {} cannot be read without it: bring it back, or move both the store and its anchor away to begin anew",
            file.wrapping_key_file.display(),
            file.store.display()
        );
    }
    Ok(gloaming_edge::Config {
        name: file.name.clone(),
        store: file.store.clone(),
        key: files::key(&file.key_file)?,
        wrapping: files::wrapping_key(&file.wrapping_key_file)?,
        anchor: file.anchor_file.clone().unwrap_or_else(beside),
        accept_clock: start.accept_clock,
        restored: start.restored,
        pins: keys("edge.sites", &file.sites)?,
        policies: file.policies.iter().map(|p| files::read(p)).collect::<Result<_>>()?,
        component,
        central: file.central.clone(),
        loopback,
        clock: system_clock(),
        entropy: system_entropy(),
    })
}

/// Runs an edge.
///
/// # Errors
/// Whatever keeps it from starting.
pub async fn edge(path: &Path, folder: Option<&Path>, start: Start) -> Result<()> {
    let file = Config::load(path)?.edge.ok_or_else(|| anyhow!("{} has no [edge]", path.display()))?;
    let assets = assets::find(folder)?;
    let component = assets.bytes("edge/worker.component.wasm").context("the assets lack the edge component")?.to_vec();
    let (public, admin) = (listen("edge.listen", &file.listen).await?, listen("edge.admin", &file.admin).await?);
    let loopback = public.local_addr()?.ip().is_loopback() && admin.local_addr()?.ip().is_loopback();
    let config = edge_config(&file, component, loopback, start)?;
    let (public_at, admin_at) = (public.local_addr()?, admin.local_addr()?);
    let running = gloaming_edge::start(config, assets, public, admin).await?;
    tracing::info!(edge = file.name, listen = %public_at, admin = %admin_at, "the edge is ready");
    let defect = tokio::select! {
        asked = asked_to_stop() => asked.map(|()| false)?,
        () = running.failed() => true,
    };
    tracing::info!("stopping: open requests are finished, then the log is closed");
    running.stop().await;
    if defect {
        bail!("the edge's thread ended by itself, which is a defect of ours: report what the log says before this");
    }
    Ok(())
}

/// A centre's whole configuration from its file.
///
/// # Errors
/// The first thing that is not there or not right.
pub fn central_config(file: &CentralFile, assets: gloaming_http::Assets) -> Result<gloaming_central::Config> {
    let password = file.password_file.as_deref().map(files::read_text).transpose()?;
    Ok(gloaming_central::Config {
        store: file.store.clone(),
        pins: keys("central.sites", &file.sites)?,
        policies: file.policies.iter().map(|p| files::read(p)).collect::<Result<_>>()?,
        edges: keys("central.edges", &file.edges)?,
        password: password.map(|p| p.trim().to_owned()).filter(|p| !p.is_empty()),
        assets,
        clock: system_clock(),
    })
}

/// Runs a centre.
///
/// # Errors
/// Whatever keeps it from starting.
pub async fn central(path: &Path, folder: Option<&Path>) -> Result<()> {
    let file = Config::load(path)?.central.ok_or_else(|| anyhow!("{} has no [central]", path.display()))?;
    let config = central_config(&file, assets::find(folder)?)?;
    let listener = listen("central.listen", &file.listen).await?;
    let address = listener.local_addr()?;
    let running = gloaming_central::start(config, listener).await?;
    tracing::info!(listen = %address, "the centre is ready");
    asked_to_stop().await?;
    tracing::info!("stopping");
    running.stop().await;
    Ok(())
}
