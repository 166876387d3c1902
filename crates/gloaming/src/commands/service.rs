//! `gloaming edge` and `gloaming central`: services that run until they are asked to stop.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, bail};
use gloaming_edge::{EngineError, Reload, system_clock, system_entropy};
use tokio::net::TcpListener;

use crate::commands::component::{Chosen, Components};
use crate::config::{CentralFile, Config, EdgeFile, edge_keys};
use crate::door::LOOK;
use crate::sites::{Known, Versions};
use crate::tenants::{Answer, Ask, Said};
use crate::{assets, files};

/// What a service manager asks for.
enum Asked {
    Stop,
    Reload,
}

/// Signals, from the moment this is made on.
struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    hangup: tokio::signal::unix::Signal,
}

impl Signals {
    #[cfg(unix)]
    fn new() -> Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { terminate: signal(SignalKind::terminate())?, hangup: signal(SignalKind::hangup())? })
    }

    #[cfg(unix)]
    async fn next(&mut self) -> Result<Asked> {
        tokio::select! {
            _ = self.terminate.recv() => Ok(Asked::Stop),
            _ = self.hangup.recv() => Ok(Asked::Reload),
            outcome = tokio::signal::ctrl_c() => outcome.map(|()| Asked::Stop).map_err(Into::into),
        }
    }

    #[cfg(not(unix))]
    fn new() -> Result<Self> {
        Ok(Self {})
    }

    #[cfg(not(unix))]
    async fn next(&mut self) -> Result<Asked> {
        tokio::signal::ctrl_c().await?;
        Ok(Asked::Stop)
    }
}

async fn listen(what: &str, address: &str) -> Result<TcpListener> {
    gloaming_http::bind(address).await.with_context(|| format!("cannot listen on {what} = {address:?}"))
}

/// What an operator says once, at a start that would otherwise be refused.
#[derive(Clone, Copy, Debug, Default)]
pub struct Start {
    /// The clock is right although the store says otherwise.
    pub accept_clock: bool,
    /// The store is an old copy.
    pub restored: bool,
}

fn known_edge(file: &EdgeFile) -> Result<Known> {
    Known::read("edge.sites", &file.sites, &file.policies, file.operators.sites_folder.as_deref(), Versions::Newest)
}

fn known_central(file: &CentralFile) -> Result<Known> {
    Known::read("central.sites", &file.sites, &file.policies, file.operators.sites_folder.as_deref(), Versions::All)
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
    let Known { pins, policies, quotas } = known_edge(file)?;
    Ok(gloaming_edge::Config {
        name: file.name.clone(),
        store: file.store.clone(),
        models: file.models_folder.clone(),
        key: files::key(&file.key_file)?,
        wrapping: files::wrapping_key(&file.wrapping_key_file)?,
        anchor: file.anchor_file.clone().unwrap_or_else(beside),
        accept_clock: start.accept_clock,
        restored: start.restored,
        pins,
        policies,
        homes: file.known_homes()?,
        relays: edge_keys("edge.relays", &file.relays)?,
        former_keys: file.former_key_files.iter().map(|path| files::key(path)).collect::<Result<_>>()?,
        quotas,
        more: axum::Router::new(),
        component,
        central: file.central.clone(),
        roots: file.roots(),
        share_of_one_network: file.share_of_one_network.unwrap_or(5),
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
    let mut signals = Signals::new()?;
    let file = Config::load(path)?.edge.ok_or_else(|| anyhow!("{} has no [edge]", path.display()))?;
    let assets = assets::find(folder)?;
    let released = assets.bytes("edge/worker.component.wasm").context("the assets lack the edge component")?.to_vec();
    let components = Components::of(&file);
    let mut chosen = components.chosen(&released)?;
    let (public, admin) = (listen("edge.listen", &file.listen).await?, listen("edge.admin", &file.admin).await?);
    let loopback = public.local_addr()?.ip().is_loopback() && admin.local_addr()?.ip().is_loopback();
    let (more, mut asks) = file.operators.open()?;
    let config = gloaming_edge::Config { more, ..edge_config(&file, chosen.serves.clone(), loopback, start)? };
    let (public_at, admin_at) = (public.local_addr()?, admin.local_addr()?);
    let mut certificate = file.door.certificate()?;
    let public = file.door.listener(public, certificate.as_ref())?;
    let running = gloaming_edge::start(config, assets, public, admin).await?;
    if chosen.next.is_some() {
        // What is only to be compared keeps no edge from serving.
        if let Err(error) = running.components(chosen.serves.clone(), chosen.next.clone()).await {
            tracing::error!(%error, "no component runs beside the one that serves");
        }
    }
    tracing::info!(edge = file.name, listen = %public_at, admin = %admin_at, "the edge is ready");
    let mut look = tokio::time::interval(LOOK);
    let defect = loop {
        let asked = tokio::select! {
            asked = signals.next() => asked?,
            () = running.failed() => break true,
            (ask, answer) = asks.next() => {
                let _ = answer.send(reload_edge(path, &running, ask).await);
                continue;
            }
            _ = look.tick() => {
                certificate.iter_mut().for_each(|certificate| certificate.renew(false));
                look_at_components(&running, &components, &released, &mut chosen).await;
                continue;
            }
        };
        match asked {
            Asked::Stop => break false,
            Asked::Reload => {
                certificate.iter_mut().for_each(|certificate| certificate.renew(true));
                look_at_components(&running, &components, &released, &mut chosen).await;
                // What is wrong is in the log.
                let _ = reload_edge(path, &running, Ask::All).await;
            }
        }
    };
    tracing::info!("stopping: open requests are finished, then the log is closed");
    running.stop().await;
    if defect {
        bail!("the edge's thread ended by itself, which is a defect of ours: report what the log says before this");
    }
    Ok(())
}

/// Lets an edge run what its files say, when they say something new.
async fn look_at_components(
    running: &gloaming_edge::Running,
    components: &Components,
    released: &[u8],
    chosen: &mut Chosen,
) {
    let look = async {
        let now = components.chosen(released)?;
        if now != *chosen {
            running.components(now.serves.clone(), now.next.clone()).await?;
            *chosen = now;
        }
        Ok::<_, anyhow::Error>(())
    };
    if let Err(error) = look.await {
        tracing::error!(error = format!("{error:#}"), "the edge components stay as they were");
    }
}

/// Sites and policies from file and folder as they are now; of policies only the one that is asked about. Returns what
/// was refused. What is wrong is said, and what was in force stays.
async fn reload_edge(path: &Path, running: &gloaming_edge::Running, ask: Ask) -> Answer {
    if let Ask::Leave(site) = ask {
        return match running.leave(&site).await {
            Ok(_) => Ok(Vec::new()),
            Err(error) => Err(error.to_string()),
        };
    }
    let read = || {
        let file = Config::load(path)?.edge.ok_or_else(|| anyhow!("{} has no [edge]", path.display()))?;
        known_edge(&file)
    };
    match read() {
        Ok(Known { pins, policies, quotas }) => {
            let one = matches!(ask, Ask::Policy(_));
            let policies = if let Ask::Policy(policy) = ask { vec![policy] } else { policies };
            let count = policies.len();
            let mut refused = running.reload(Reload { pins, policies, quotas }).await;
            for error in &refused {
                tracing::error!(%error, "not loaded");
            }
            tracing::info!(policies = count, refused = refused.len(), "the configuration was read anew");
            // That another site keeps its pin is no answer to whether this policy is in force.
            refused.retain(|error| !one || !matches!(error, EngineError::PinKept(_)));
            Ok(refused.iter().map(said).collect())
        }
        Err(error) => unread(&error),
    }
}

fn said(error: &EngineError) -> Said {
    let site = if let EngineError::PinKept(site) = error { Some(site.clone()) } else { None };
    Said { site, why: error.to_string() }
}

fn unread(error: &anyhow::Error) -> Answer {
    tracing::error!(error = format!("{error:#}"), "nothing was loaded anew");
    Err(format!("{error:#}"))
}

/// A centre's whole configuration from its file.
///
/// # Errors
/// The first thing that is not there or not right.
pub fn central_config(file: &CentralFile, assets: gloaming_http::Assets) -> Result<gloaming_central::Config> {
    let password = file.password_file.as_deref().map(files::read_text).transpose()?;
    let Known { pins, policies, .. } = known_central(file)?;
    let clock = system_clock();
    Ok(gloaming_central::Config {
        store: file.store.parse().context("`store` in [central]")?,
        retain_days: file.retain_days,
        pins,
        policies,
        edges: edge_keys("central.edges", &file.edges)?,
        password: password.map(|p| p.trim().to_owned()).filter(|p| !p.is_empty()),
        assets,
        telling: file.alerting.open()?,
        look: gloaming_central::LOOK,
        more: axum::Router::new(),
        clock: Arc::new(move || clock.now_ms()),
    })
}

/// Runs a centre.
///
/// # Errors
/// Whatever keeps it from starting.
pub async fn central(path: &Path, folder: Option<&Path>) -> Result<()> {
    let mut signals = Signals::new()?;
    let file = Config::load(path)?.central.ok_or_else(|| anyhow!("{} has no [central]", path.display()))?;
    let (more, mut asks) = file.operators.open()?;
    let config = gloaming_central::Config { more, ..central_config(&file, assets::find(folder)?)? };
    let listener = listen("central.listen", &file.listen).await?;
    let address = listener.local_addr()?;
    let mut certificate = file.door.certificate()?;
    let listener = file.door.listener(listener, certificate.as_ref())?;
    let running = gloaming_central::start(config, listener).await?;
    tracing::info!(listen = %address, "the centre is ready");
    let mut look = tokio::time::interval(LOOK);
    loop {
        let asked = tokio::select! {
            asked = signals.next() => asked?,
            (ask, answer) = asks.next() => {
                let _ = answer.send(reload_central(path, &running, ask).await);
                continue;
            }
            _ = look.tick() => {
                certificate.iter_mut().for_each(|certificate| certificate.renew(false));
                continue;
            }
        };
        if let Asked::Stop = asked {
            break;
        }
        certificate.iter_mut().for_each(|certificate| certificate.renew(true));
        let _ = reload_central(path, &running, Ask::All).await;
    }
    tracing::info!("stopping");
    running.stop().await;
    Ok(())
}

/// Sites, policies and edges as they are now, and a policy that is asked about. Returns why nothing was taken.
async fn reload_central(path: &Path, running: &gloaming_central::Running, ask: Ask) -> Answer {
    // A centre has nothing open: a site is gone when it is not here any more.
    if let Ask::Leave(_) = ask {
        return Ok(Vec::new());
    }
    let load = async {
        let file = Config::load(path)?.central.ok_or_else(|| anyhow!("{} has no [central]", path.display()))?;
        let Known { pins, mut policies, .. } = known_central(&file)?;
        if let Ask::Policy(policy) = ask {
            policies.push(policy);
        }
        running.reload(&pins, &policies, edge_keys("central.edges", &file.edges)?).await?;
        Ok::<_, anyhow::Error>(policies.len())
    };
    match load.await {
        Ok(policies) => {
            tracing::info!(policies, "policies and edges were loaded anew");
            Ok(Vec::new())
        }
        Err(error) => unread(&error),
    }
}
