//! A browser, asked by a page of this machine: the shipped scorer scores a model's reference rows there.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use gloaming_http::Assets;
use http::header::CONTENT_TYPE;
use serde::Deserialize;
use tokio::sync::oneshot;

use crate::files::Brought;

/// How long a browser that was started here may take, and a person who opens the page.
const STARTED: Duration = Duration::from_secs(120);
const OPENED: Duration = Duration::from_secs(600);

const PAGE: &str = include_str!("page.html");

/// Which browser is asked.
#[derive(Clone, Debug)]
pub enum Browser {
    /// Whichever opens the address that is printed.
    Any,
    /// This one of Chromium's kind, started without a window.
    Program(PathBuf),
}

/// A browser by what follows `--browser`: a program, or nothing for whichever opens the address.
///
/// # Errors
/// Never: what does not start is said later.
pub fn named(program: &str) -> Result<Browser, String> {
    Ok(if program.is_empty() { Browser::Any } else { Browser::Program(program.into()) })
}

/// What the page tells.
#[derive(Deserialize)]
struct Said {
    agent: String,
    #[serde(default)]
    scores: Vec<f32>,
    #[serde(default)]
    error: Option<String>,
}

/// What statements call a browser, by its user agent: all of Chromium's kind are one, because its engine is.
fn engine(agent: &str) -> Option<&'static str> {
    [("Firefox/", "firefox"), ("Chrome/", "chromium"), ("Safari/", "safari")]
        .into_iter()
        .find_map(|(part, name)| agent.contains(part).then_some(name))
}

type Waiting = Arc<Mutex<Option<oneshot::Sender<Said>>>>;

/// Only as JSON, which no page of another site can send without asking first.
async fn said(State(waiting): State<Waiting>, Json(said): Json<Said>) -> &'static str {
    match waiting.lock().unwrap_or_else(PoisonError::into_inner).take() {
        // The command may have given up just now: then nobody needs it.
        Some(waits) => drop(waits.send(said)),
        None => return "another browser was faster",
    }
    "thank you"
}

/// A child that ends with us, and its profile.
struct Started(Child, #[expect(dead_code, reason = "the folder is gone with it")] tempfile::TempDir);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(program: &PathBuf, address: &str) -> Result<Started> {
    let profile = tempfile::tempdir()?;
    let child = Command::new(program)
        // It opens this one page of ours, and containers give it no sandbox of its own.
        .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(address)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("{} does not start; name another, or --browser alone", program.display()))?;
    Ok(Started(child, profile))
}

impl Browser {
    /// What the browser is called, and its scores of the model's reference rows.
    ///
    /// # Errors
    /// When none comes in time, or the module does not load or score there.
    pub(super) fn scores(&self, brought: &Brought, assets: &Assets) -> Result<(String, Vec<f32>)> {
        // Commands may stand within a runtime already, and none can begin within another.
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| {
                tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(self.ask(brought, assets))
            });
            asked.join().unwrap_or_else(|_| Err(anyhow!("the page's server ended")))
        })
    }

    async fn ask(&self, brought: &Brought, assets: &Assets) -> Result<(String, Vec<f32>)> {
        let asset = |name: &str| assets.bytes(name).cloned().with_context(|| format!("the assets lack {name}"));
        let rows = brought.model.manifest().reference.inputs.iter().flatten();
        let rows: Vec<u8> = rows.flat_map(|number| number.to_le_bytes()).collect();
        let mut router = Router::new();
        for (path, kind, bytes) in [
            ("/", "text/html; charset=utf-8", Bytes::from_static(PAGE.as_bytes())),
            ("/g/scorer.js", "text/javascript", asset("g/scorer.js")?),
            ("/g/scorer.wasm", "application/wasm", asset("g/scorer.wasm")?),
            ("/manifest.json", "application/json", Bytes::from(brought.manifest.clone())),
            ("/model.onnx", "application/octet-stream", Bytes::from(brought.onnx.clone())),
            ("/rows", "application/octet-stream", Bytes::from(rows)),
        ] {
            router = router.route(path, get(move || async move { ([(CONTENT_TYPE, kind)], bytes) }));
        }
        let (sender, told) = oneshot::channel();
        let router = router.route("/said", post(said)).with_state(Arc::new(Mutex::new(Some(sender))));
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = format!("http://{}/", listener.local_addr()?);
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        let (started, patience) = match self {
            Self::Program(program) => (Some(start(program, &address)?), STARTED),
            Self::Any => {
                println!(
                    "open {address} in a browser of this machine; it is waited for {} minutes",
                    OPENED.as_secs() / 60
                );
                (None, OPENED)
            }
        };
        let told = tokio::time::timeout(patience, told).await;
        drop(started);
        server.abort();
        let Said { agent, scores, error } = told.map_err(|_| {
            anyhow!("no browser answered within {} s; open the address with --browser alone", patience.as_secs())
        })??;
        if let Some(why) = error {
            bail!("in the browser ({agent}): {why}");
        }
        let name = engine(&agent).with_context(|| format!("no browser that statements have a name for: {agent}"))?;
        Ok((name.to_owned(), scores))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_are_called_by_their_engines() {
        for (agent, name) in [
            (
                "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/156.0.0.0 Safari/537.36",
                Some("chromium"),
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36 Edg/140.0",
                Some("chromium"),
            ),
            ("Mozilla/5.0 (X11; Linux x86_64; rv:146.0) Gecko/20100101 Firefox/146.0", Some("firefox")),
            (
                "Mozilla/5.0 (Macintosh) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/19.0 Safari/605.1.15",
                Some("safari"),
            ),
            ("curl/8.0", None),
        ] {
            assert_eq!(engine(agent), name, "{agent}");
        }
    }
}
