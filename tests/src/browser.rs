//! Chromium over its DevTools protocol: one process, any number of fresh profiles.
//!
//! Written against the protocol itself, about two hundred lines, because what a test of this project
//! must know (every header of every request, of workers too) lies below what drivers offer.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_tungstenite::tungstenite::Message;

use crate::page::Page;

/// Longest wait for an answer of the browser.
const PATIENCE: Duration = Duration::from_secs(60);

/// Something the browser told without being asked.
#[derive(Clone, Debug)]
pub struct Event {
    /// The page or worker it is about; empty for the browser itself.
    pub session: String,
    /// `Network.requestWillBeSent` and the like.
    pub method: String,
    /// Its parameters.
    pub params: Value,
}

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Result<Value>>>>>;

struct Inner {
    send: mpsc::UnboundedSender<String>,
    waiting: Waiting,
    next: AtomicU64,
    events: broadcast::Sender<Event>,
    child: Mutex<Child>,
    _profile: tempfile::TempDir,
}

impl Drop for Inner {
    fn drop(&mut self) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// A running Chromium.
#[derive(Clone)]
pub struct Browser(Arc<Inner>);

/// Chromium as the system has it.
///
/// # Errors
/// When there is none.
pub fn program() -> Result<PathBuf> {
    let named = std::env::var_os("GLOAMING_CHROMIUM").map(PathBuf::from);
    let known = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].map(PathBuf::from);
    named
        .into_iter()
        .chain(known)
        .find(|path| path.is_file())
        .context("there is no Chromium; `cargo xtask setup --browser` gets it, or set GLOAMING_CHROMIUM to one")
}

async fn port_of(folder: &Path, child: &mut Child) -> Result<String> {
    let (file, start) = (folder.join("DevToolsActivePort"), Instant::now());
    while start.elapsed() < PATIENCE {
        if let Ok(text) = std::fs::read_to_string(&file)
            && let Some((port, path)) = text.trim().split_once('\n')
        {
            return Ok(format!("ws://127.0.0.1:{port}{path}"));
        }
        if let Some(status) = child.try_wait()? {
            bail!("Chromium ended at once, with {status}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("Chromium opened no port within {PATIENCE:?}")
}

impl Browser {
    /// Starts Chromium without a window, looking to pages like one with a window.
    ///
    /// # Errors
    /// When there is none or it does not start.
    pub async fn launch() -> Result<Self> {
        Self::speaking("en-GB").await
    }

    /// The same, with a person before it whose language this is.
    ///
    /// # Errors
    /// When it is not there, or does not start.
    pub async fn speaking(language: &str) -> Result<Self> {
        let profile = tempfile::tempdir()?;
        let agent =
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36";
        let mut child = Command::new(program()?)
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync", "--mute-audio"])
            .args(["--disable-blink-features=AutomationControlled", "--remote-debugging-port=0"])
            .arg(format!("--lang={language}"))
            .arg(format!("--accept-lang={language}"))
            .args(["--disable-background-timer-throttling", "--disable-renderer-backgrounding"])
            .args(["--disable-backgrounding-occluded-windows", "--window-size=1280,900"])
            .arg(format!("--user-agent={agent}"))
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("Chromium does not start")?;
        let address = port_of(profile.path(), &mut child).await?;
        let (socket, _) = tokio_tungstenite::connect_async(&address).await.context("Chromium's DevTools port")?;
        let (mut sink, mut stream) = socket.split();
        let (send, mut outgoing) = mpsc::unbounded_channel::<String>();
        let waiting = Waiting::default();
        let (events, _) = broadcast::channel(65_536);
        tokio::spawn(async move {
            while let Some(text) = outgoing.recv().await {
                if sink.send(Message::text(text)).await.is_err() {
                    break;
                }
            }
        });
        let (answers, told) = (Arc::clone(&waiting), events.clone());
        tokio::spawn(async move {
            while let Some(Ok(message)) = stream.next().await {
                let Ok(text) = message.to_text() else { continue };
                let Ok(value) = serde_json::from_str::<Value>(text) else { continue };
                dispatch(value, &answers, &told);
            }
            // Whoever still waits learns that nothing will come.
            answers.lock().unwrap_or_else(PoisonError::into_inner).clear();
        });
        let inner =
            Inner { send, waiting, next: AtomicU64::new(1), events, child: Mutex::new(child), _profile: profile };
        Ok(Self(Arc::new(inner)))
    }

    /// Calls a method of the protocol, for a page's session or the browser itself.
    ///
    /// # Errors
    /// What the browser says, or that it says nothing.
    pub async fn call(&self, session: Option<&str>, method: &str, params: Value) -> Result<Value> {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(id, sender);
        let mut message = json!({ "id": id, "method": method, "params": params });
        if let Some(session) = session {
            message["sessionId"] = json!(session);
        }
        self.0.send.send(message.to_string()).map_err(|_| anyhow!("Chromium is gone"))?;
        let answer = tokio::time::timeout(PATIENCE, answer).await.with_context(|| format!("{method}: no answer"))?;
        answer.map_err(|_| anyhow!("{method}: Chromium is gone"))?.with_context(|| method.to_owned())
    }

    /// Sends a call whose answer nobody needs.
    pub fn tell(&self, session: &str, method: &str, params: &Value) {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let message = json!({ "id": id, "method": method, "params": params, "sessionId": session });
        let _ = self.0.send.send(message.to_string());
    }

    /// From now on, everything the browser tells.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.0.events.subscribe()
    }

    /// A new profile: its own cookies, storage and cache.
    ///
    /// # Errors
    /// When the browser makes none.
    pub async fn profile(&self) -> Result<Profile> {
        let made = self.call(None, "Target.createBrowserContext", json!({ "disposeOnDetach": true })).await?;
        Ok(Profile { browser: self.clone(), id: text(&made, "browserContextId")? })
    }
}

fn dispatch(value: Value, waiting: &Waiting, events: &broadcast::Sender<Event>) {
    let Some(id) = value["id"].as_u64() else {
        let session = value["sessionId"].as_str().unwrap_or_default().to_owned();
        let method = value["method"].as_str().unwrap_or_default().to_owned();
        let _ = events.send(Event { session, method, params: value["params"].clone() });
        return;
    };
    if let Some(sender) = waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&id) {
        let _ = sender.send(match value.get("error") {
            Some(error) => Err(anyhow!("{error}")),
            None => Ok(value["result"].clone()),
        });
    }
}

/// A string in an answer.
pub(crate) fn text(value: &Value, key: &str) -> Result<String> {
    Ok(value[key].as_str().with_context(|| format!("no {key} in {value}"))?.to_owned())
}

/// One person's browser profile.
pub struct Profile {
    pub(crate) browser: Browser,
    pub(crate) id: String,
}

impl Profile {
    /// Opens an empty tab. `prelude` runs before every script of every page in it.
    ///
    /// # Errors
    /// When the browser opens none.
    pub async fn tab(&self, prelude: &str) -> Result<Page> {
        Page::open(self, prelude).await
    }

    /// Forgets everything of this profile.
    ///
    /// # Errors
    /// When the browser does not.
    pub async fn close(self) -> Result<()> {
        self.browser
            .call(None, "Target.disposeBrowserContext", json!({ "browserContextId": self.id }))
            .await
            .map(|_| ())
    }
}
