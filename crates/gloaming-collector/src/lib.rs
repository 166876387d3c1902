//! The browser's collector: behaviour, consent's consequences, the accountant, and contributions.
//!
//! It runs in one dedicated worker that the loader starts after consent. Numbers come in, bytes go out:
//! [`Collector::push_batch`] takes events without strings or objects; [`Collector::prepare`] returns
//! what would be sent were the page left now, together with the state to keep in either case, so that
//! the page's thread has everything at hand at the moment it is hidden.
//!
//! All of it is [`device::Device`], plain Rust tested natively; this file is the surface.
#![forbid(unsafe_code)]

pub mod device;
mod state;

use gloaming_signal::EventKind;
use gloo::timers::callback::Timeout;
use js_sys::{Array, Float64Array, Function, Reflect};
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast as _, JsValue};
use web_sys::WorkerGlobalScope;

use device::{Device, Setup};

/// See the crate's page.
#[wasm_bindgen]
pub struct Collector {
    device: Device,
    quiet: Option<Function>,
    timer: Option<Timeout>,
}

/// How long no event must come before features are scored and a submission is prepared, ms. Shorter
/// costs a phone's battery in bursts of events; longer loses what came just before the page is left.
const QUIET_MS: u32 = 40;

/// Numbers of one event in a batch: time, kind, a, b, c.
const STRIDE: usize = 5;

/// 32 random bytes of the worker's own crypto.
fn entropy() -> Result<[u8; 32], String> {
    let scope: WorkerGlobalScope = js_sys::global().dyn_into().map_err(|_| "not in a worker".to_owned())?;
    let mut seed = [0; 32];
    let crypto = scope.crypto().map_err(|_| "no crypto here".to_owned())?;
    crypto.get_random_values_with_u8_array(&mut seed).map_err(|_| "no random bytes".to_owned())?;
    Ok(seed)
}

/// The setup object, field by field. Serde would do it, and brings along how floating-point numbers are written in its errors:
/// a tenth of this module.
fn read(setup: &JsValue) -> Result<Setup, String> {
    let get = |name: &str| Reflect::get(setup, &name.into()).map_err(|_| "the setup is no object".to_owned());
    let lacks = |name: &str| ["the setup lacks ", name].concat();
    let number = |name: &str| get(name)?.as_f64().ok_or_else(|| lacks(name));
    let words = |name: &str| {
        get(name).map(|list| Array::from(&list).iter().filter_map(|word| word.as_string()).collect::<Vec<_>>())
    };
    // The casts clip and turn NaN into zero.
    Ok(Setup {
        purposes: words("purposes")?,
        stopped: words("stopped")?,
        host: get("host")?.as_string().ok_or_else(|| lacks("host"))?,
        device_class: number("deviceClass")? as u32,
        width: number("width")? as u32,
        weekday: number("weekday")? as u32,
        hour: number("hour")? as u32,
        check: get("check")?.is_truthy(),
        now_ms: number("nowMs")?,
    })
}

/// What to keep, and what to send, if the page were left now.
#[wasm_bindgen(getter_with_clone)]
pub struct Prepared {
    /// State when the visit goes on.
    pub kept: Vec<u8>,
    /// State when `submission` is sent.
    pub sent: Vec<u8>,
    /// A submission, or nothing.
    pub submission: Option<Vec<u8>>,
    /// Edge time at which the first of its windows ends, ms; without a submission long after everything.
    pub until_ms: f64,
}

#[wasm_bindgen]
impl Collector {
    /// Starts with a policy's bytes, a setup object (`Setup` in the source) and the state kept on the
    /// device (empty when there is none).
    ///
    /// # Errors
    /// When policy or setup cannot be read; state that cannot be read is begun anew.
    #[wasm_bindgen(constructor)]
    pub fn new(policy: &[u8], setup: &JsValue, state: &[u8]) -> Result<Collector, String> {
        Device::new(policy, read(setup)?, state, &entropy()?).map(|device| Self { device, quiet: None, timer: None })
    }

    /// Calls back whenever events were pushed and none has come for a moment.
    pub fn on_quiet(&mut self, callback: Function) {
        self.quiet = Some(callback);
    }

    /// A batch of events, five numbers each: time, kind, a, b, c. Numbers that are not in range are
    /// clipped to it; an unknown kind is counted.
    pub fn push_batch(&mut self, numbers: &Float64Array) {
        let mut news = false;
        for event in numbers.to_vec().chunks_exact(STRIDE) {
            news |= event[1] as u32 != u32::from(EventKind::PointerMove.number());
            // The casts clip and turn NaN into zero.
            self.device.push(event[0] as u64, event[1] as u32, event[2] as u32, event[3] as u32, event[4] as u32);
        }
        // A pointer that goes on moving is no news, and must not keep what is from being prepared.
        if news {
            self.wait();
        }
    }

    fn wait(&mut self) {
        if let Some(callback) = self.quiet.clone() {
            // Replacing the timer cancels the one before.
            self.timer = Some(Timeout::new(QUIET_MS, move || {
                // An exception in the callback is the worker script's to catch; it does so globally.
                let _ = callback.call0(&JsValue::NULL);
            }));
        }
    }

    /// Models the person agreed to, as JSON text: index, name, hashes.
    #[must_use]
    pub fn models(&self) -> String {
        self.device.models()
    }

    /// Whether anything that was agreed to is made of the pointer's movements; if not, nobody listens for them.
    #[wasm_bindgen(getter)]
    #[must_use]
    pub fn moves(&self) -> bool {
        self.device.moves()
    }

    /// A page load's address and surroundings; a route change has only a path.
    pub fn page(&mut self, at_ms: f64, nav: u32, path: &str, referrer_host: &str, campaign: &str) {
        self.device.page(at_ms as u64, nav, path, referrer_host, campaign);
        self.wait();
    }

    /// One of the policy's own events by name; `false` when it is not declared.
    pub fn custom(&mut self, at_ms: f64, name: &str) -> bool {
        self.wait();
        self.device.custom(at_ms as u64, name)
    }

    /// A page-given number; `false` when it is not declared or not a number.
    pub fn feature_number(&mut self, at_ms: f64, id: &str, value: f64) -> bool {
        self.wait();
        self.device.feature(at_ms as u64, id, |feature| feature.steps(value))
    }

    /// A page-given word; `false` when it is not declared.
    pub fn feature_word(&mut self, at_ms: f64, id: &str, word: &str) -> bool {
        self.wait();
        self.device.feature(at_ms as u64, id, |feature| feature.word(word))
    }

    /// Inputs of a model by its place in the policy.
    #[must_use]
    pub fn model_inputs(&self, model: usize) -> Vec<f32> {
        self.device.model_inputs(model)
    }

    /// Takes a score; tells whether a page may be given it (an experiment, and consent to its purpose).
    pub fn set_score(&mut self, model: usize, score: f32) -> bool {
        self.device.set_score(model, score)
    }

    /// Takes how a model fared: 0 it had nothing to score, 1 it scored, 2 it scored after its time, 3 it was given up; 4 more where
    /// its fallback has a score, or where it is its last good version that scored.
    pub fn fared(&mut self, model: usize, how: u32) {
        self.device.fared(model, how);
    }

    /// What to keep and what to send, were the page left at this edge time.
    pub fn prepare(&mut self, edge_ms: f64) -> Prepared {
        let device::Prepared { kept, sent, submission, until_ms } = self.device.prepare(edge_ms as u64);
        Prepared { kept, sent, submission, until_ms: until_ms as f64 }
    }

    /// Features, models and counts as JSON text, for the panel and the check overlay.
    #[must_use]
    pub fn status(&self) -> String {
        self.device.status()
    }

    /// What has left this device, as JSON text.
    #[must_use]
    pub fn ledger(&self) -> String {
        self.device.ledger()
    }

    /// Bytes of all features, for parity checks.
    #[must_use]
    pub fn feature_bytes(&self) -> Vec<u8> {
        self.device.feature_bytes()
    }
}
