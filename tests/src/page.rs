//! One tab: what a person does in it, and what can be seen from outside.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::browser::{Browser, Profile, text};

/// A request the page or one of its workers made, as the browser saw it.
#[derive(Clone, Debug)]
pub struct Requested {
    /// Where to.
    pub url: String,
    /// GET or POST.
    pub method: String,
}

/// What happened in a tab that nobody asked for.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Requests in order.
    pub requests: Vec<Requested>,
    /// Errors and warnings on the console, uncaught exceptions, refused loads.
    pub complaints: Vec<String>,
}

/// A tab.
pub struct Page {
    browser: Browser,
    session: String,
    seen: Arc<Mutex<Seen>>,
    listener: JoinHandle<()>,
}

impl Drop for Page {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

fn note(seen: &Mutex<Seen>, method: &str, params: &Value) {
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    match method {
        "Network.requestWillBeSent" => seen.requests.push(Requested {
            url: params["request"]["url"].as_str().unwrap_or_default().to_owned(),
            method: params["request"]["method"].as_str().unwrap_or_default().to_owned(),
        }),
        "Log.entryAdded" if matches!(params["entry"]["level"].as_str(), Some("error" | "warning")) => {
            seen.complaints.push(format!("{}: {}", params["entry"]["source"], params["entry"]["text"]));
        }
        "Runtime.exceptionThrown" => seen.complaints.push(params["exceptionDetails"].to_string()),
        "Runtime.consoleAPICalled" if matches!(params["type"].as_str(), Some("error" | "warning" | "assert")) => {
            seen.complaints.push(params["args"].to_string());
        }
        _ => {}
    }
}

impl Page {
    pub(crate) async fn open(profile: &Profile, prelude: &str) -> Result<Self> {
        let browser = profile.browser.clone();
        let wanted = json!({ "url": "about:blank", "browserContextId": profile.id, "width": 1280, "height": 900, "newWindow": true });
        let target = text(&browser.call(None, "Target.createTarget", wanted).await?, "targetId")?;
        let mut events = browser.events();
        let attached =
            browser.call(None, "Target.attachToTarget", json!({ "targetId": target, "flatten": true })).await?;
        let session = text(&attached, "sessionId")?;
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (noted, own, worker_browser) = (Arc::clone(&seen), session.clone(), browser.clone());
        let listener = tokio::spawn(async move {
            let mut sessions = vec![own];
            loop {
                let event = match events.recv().await {
                    Ok(event) => event,
                    Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => continue,
                    Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
                };
                if !sessions.contains(&event.session) {
                    continue;
                }
                note(&noted, &event.method, &event.params);
                // Workers wait until they are watched, so that no request of theirs goes unseen.
                if event.method == "Target.attachedToTarget"
                    && let Some(worker) = event.params["sessionId"].as_str()
                {
                    sessions.push(worker.to_owned());
                    for method in ["Network.enable", "Runtime.enable", "Log.enable", "Runtime.runIfWaitingForDebugger"]
                    {
                        worker_browser.tell(worker, method, &json!({}));
                    }
                }
            }
        });
        let page = Self { browser, session, seen, listener };
        for method in ["Page.enable", "Network.enable", "Runtime.enable", "Log.enable"] {
            page.call(method, json!({})).await?;
        }
        let watch = json!({ "autoAttach": true, "waitForDebuggerOnStart": true, "flatten": true });
        page.call("Target.setAutoAttach", watch).await?;
        page.call("Emulation.setFocusEmulationEnabled", json!({ "enabled": true })).await?;
        if !prelude.is_empty() {
            page.call("Page.addScriptToEvaluateOnNewDocument", json!({ "source": prelude })).await?;
        }
        Ok(page)
    }

    /// Calls a method of the protocol for this tab.
    ///
    /// # Errors
    /// What the browser says.
    pub async fn call(&self, method: &str, params: Value) -> Result<Value> {
        self.browser.call(Some(&self.session), method, params).await
    }

    /// Goes to an address and waits until the page is complete.
    ///
    /// # Errors
    /// When it does not load.
    pub async fn goto(&self, url: &str) -> Result<()> {
        let gone = self.call("Page.navigate", json!({ "url": url })).await?;
        if let Some(error) = gone["errorText"].as_str() {
            bail!("{url}: {error}");
        }
        self.until("document.readyState === 'complete'").await
    }

    /// Evaluates an expression (a promise is awaited) and returns its value as JSON.
    ///
    /// # Errors
    /// When it throws.
    pub async fn eval(&self, expression: &str) -> Result<Value> {
        let asked =
            json!({ "expression": expression, "awaitPromise": true, "returnByValue": true, "userGesture": true });
        let answer = self.call("Runtime.evaluate", asked).await?;
        if let Some(exception) = answer.get("exceptionDetails") {
            bail!("`{expression}`: {}", exception["exception"]["description"].as_str().unwrap_or("threw"));
        }
        Ok(answer["result"]["value"].clone())
    }

    /// Waits until an expression is true; errors of pages being replaced meanwhile are part of waiting.
    ///
    /// # Errors
    /// When it stays false for half a minute.
    pub async fn until(&self, expression: &str) -> Result<()> {
        let start = Instant::now();
        let mut last = String::new();
        while start.elapsed() < Duration::from_secs(30) {
            match self.eval(expression).await {
                Ok(Value::Bool(true)) => return Ok(()),
                Ok(other) => last = other.to_string(),
                Err(error) => last = format!("{error:#}"),
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        let status = self.eval("Promise.race([window.gloaming?.('status').then(JSON.stringify), new Promise((r) => setTimeout(r, 500, 'no status'))])").await;
        bail!(
            "`{expression}` did not come true in half a minute; last: {last}; complaints: {:?}; status: {status:?}; requests: {:?}",
            self.seen().complaints,
            self.seen().requests.iter().map(|r| r.url.as_str()).collect::<Vec<_>>()
        )
    }

    /// Clicks what a selector finds, as a mouse does: it is scrolled to, pointed at, pressed, released. Waits
    /// until it lies still and nothing lies over it, as a person would.
    ///
    /// # Errors
    /// When it is not found, or stays covered.
    pub async fn click(&self, selector: &str) -> Result<()> {
        let quoted = serde_json::to_string(selector)?;
        let look = format!(
            "(async () => {{
              const e = document.querySelector({quoted}), frame = () => new Promise(requestAnimationFrame)
              if (!e) return
              e.scrollIntoView({{ block: 'center', behavior: 'instant' }})
              const before = e.getBoundingClientRect()
              await frame(); await frame()
              const r = e.getBoundingClientRect(), x = r.x + r.width / 2, y = r.y + r.height / 2
              return before.x == r.x && before.y == r.y && e.contains(document.elementFromPoint(x, y)) && (window.__place = [x, y], true)
            }})()"
        );
        self.until(&look).await.with_context(|| format!("{selector} cannot be clicked"))?;
        let place = self.eval("window.__place").await?;
        let (x, y) = (place[0].as_f64().context("a place")?, place[1].as_f64().context("a place")?);
        for (kind, buttons) in [("mouseMoved", 0), ("mousePressed", 1), ("mouseReleased", 0)] {
            let button = if kind == "mouseMoved" { "none" } else { "left" };
            let event = json!({ "type": kind, "x": x, "y": y, "button": button, "buttons": buttons, "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", event).await?;
        }
        Ok(())
    }

    /// Clicks a link or button that leads to another page, and waits for that page.
    ///
    /// # Errors
    /// When the page stays.
    pub async fn follow(&self, selector: &str) -> Result<()> {
        self.eval("window.__stays = true").await?;
        let gone = "!window.__stays && document.readyState === 'complete'";
        self.click(selector).await?;
        // A page that is still scrolling may take the press for the end of that; a person presses again.
        for _ in 0..200 {
            tokio::time::sleep(Duration::from_millis(25)).await;
            if matches!(self.eval(gone).await, Ok(Value::Bool(true))) {
                return Ok(());
            }
        }
        if matches!(self.eval("!!window.__stays").await, Ok(Value::Bool(true))) {
            self.click(selector).await?;
        }
        self.until(gone).await
    }

    /// Presses the check overlay's button, once there is one.
    ///
    /// # Errors
    /// When there is none within half a minute.
    pub async fn ask_the_edge(&self) -> Result<()> {
        let button = "document.querySelector('gloaming-check')?.shadowRoot.querySelector('li button')";
        self.until(&format!("!!{button}")).await?;
        self.eval(&format!("{button}.click()")).await.map(|_| ())
    }

    /// Types into the focused field.
    ///
    /// # Errors
    /// When the browser refuses.
    pub async fn type_text(&self, text: &str) -> Result<()> {
        self.call("Input.insertText", json!({ "text": text })).await.map(|_| ())
    }

    /// Starts a module worker of the page's origin, posts it something, and returns what it posts back.
    ///
    /// # Errors
    /// When it fails, or the browser is gone.
    pub async fn ask_worker(&self, path: &str, input: &Value) -> Result<Value> {
        self.eval(&format!(
            "new Promise((resolve, reject) => {{ const worker = new Worker('{path}', {{ type: 'module' }}); worker.onmessage = (event) => resolve(event.data); worker.onerror = (event) => reject(new Error(event.message)); worker.postMessage({input}) }})"
        ))
        .await
    }

    /// Leaves the site, as by typing another address. The tab stays until its profile is closed: closing it
    /// at once would end the page's process before it has said goodbye, which a browser's own tabs do not.
    ///
    /// # Errors
    /// When the browser refuses.
    pub async fn leave(self) -> Result<()> {
        self.goto("about:blank").await
    }

    /// Everything this origin stores: cookies, local and session storage, databases, caches.
    ///
    /// # Errors
    /// When the page cannot be asked.
    pub async fn storage(&self) -> Result<Value> {
        let mut found = self
            .eval(
                "(async () => ({ local: { ...localStorage }, session: { ...sessionStorage }, cookie: document.cookie, databases: (await indexedDB.databases()).map((d) => d.name), caches: await caches.keys(), workers: (await navigator.serviceWorker.getRegistrations()).length }))()",
            )
            .await?;
        let cookies = self.call("Network.getCookies", json!({})).await?;
        found["jar"] = cookies["cookies"].clone();
        Ok(found)
    }

    /// What was seen so far.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes a picture of the window, or of the whole page.
    ///
    /// # Errors
    /// When it cannot be taken or written.
    pub async fn picture(&self, path: &Path, whole: bool) -> Result<()> {
        let shot =
            self.call("Page.captureScreenshot", json!({ "format": "png", "captureBeyondViewport": whole })).await?;
        let bytes = STANDARD.decode(text(&shot, "data")?).ok().context("the picture is not base64")?;
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(path, bytes).with_context(|| path.display().to_string())
    }

    /// Makes the tab a phone's: narrow, touch, coarse pointer.
    ///
    /// # Errors
    /// When the browser refuses.
    pub async fn phone(&self) -> Result<()> {
        let metrics = json!({ "width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": true, "screenWidth": 390, "screenHeight": 844 });
        self.call("Emulation.setDeviceMetricsOverride", metrics).await?;
        self.call("Emulation.setTouchEmulationEnabled", json!({ "enabled": true })).await?;
        self.call("Emulation.setEmitTouchEventsForMouse", json!({ "enabled": false })).await.map(|_| ())
    }
}
