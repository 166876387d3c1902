//! A story for the demonstration: visits change, the centre sees it and says so, and the model is put right from counts.
//!
//! Nobody is made up but the visitors: each is a device as browsers run it, with its own consent, account and noise-free
//! cell, whose submission goes to the real edge over HTTP. Windows are closed by putting the demonstration's clock forward.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use futures_util::StreamExt as _;
use gloaming::assets;
use gloaming::commands::recalibrate;
use gloaming::demo::{MODEL, SITE};
use gloaming_collector::device::{Device, Setup};
use gloaming_http::Client;
use gloaming_model::Model;
use gloaming_policy::Policy;
use gloaming_signal::EventKind;
use gloaming_stats::draws::Draws;
use serde_json::Value;

use crate::browser::Browser;
use crate::page::Page;
use crate::stage::{Stage, WINDOW_S};

/// The centre's page, once all that it says of the story is there. Uses of models come at once, what is told of the models
/// themselves when the centre has drawn its thresholds, which takes a while where it is not optimised.
///
/// # Errors
/// When it is not there within two minutes.
pub async fn centre_page(browser: &Browser, stage: &Stage) -> Result<Page> {
    let page = browser.profile().await?.tab("").await?;
    page.goto(&stage.demo.central).await?;
    let mut seen = Ok(());
    for _ in 0..4 {
        seen = page.until("document.querySelectorAll('#models .model table').length > 2").await;
        if seen.is_ok() {
            break;
        }
    }
    seen.map(|()| page)
}

/// Posts on their way at once.
const TOGETHER: usize = 16;

/// What visits are like.
#[derive(Clone, Copy, Debug)]
pub struct Habit {
    /// Product pages of a visit, on average.
    pub pages: f64,
    /// How much likelier a visit is to buy than the model tells that is released.
    pub buys: f64,
    /// How many read the help pages.
    pub reads: f64,
    /// How likely those buy who do not read them, and those who do, where that alone decides.
    pub help: Option<[f64; 2]>,
}

/// As in the model's own data: what it tells comes true.
pub const USUAL: Habit = Habit { pages: 5.0, buys: 1.0, reads: 0.2, help: None };
/// What a campaign's visits have more of.
pub const CAUSE: &str = "feature:pages-product@1";
/// A campaign brings people who look around for long, and buy twice as often as the model tells.
pub const CAMPAIGN: Habit = Habit { pages: 14.0, buys: 2.0, reads: 0.2, help: None };
/// The same people, who now buy for another reason: those do who read about delivery before.
pub const READERS: Habit = Habit { pages: 14.0, buys: 1.0, reads: 0.4, help: Some([0.12, 0.55]) };

/// A score from which the shop offers help, where pages hear scores; and how much likelier such a visit is to buy then.
const OFFERED: f32 = 0.3;
const HELPED: f64 = 1.6;

/// People who visit, by a stream of numbers.
pub struct Crowd {
    policy: Policy,
    models: Vec<Model>,
    /// By which they buy, whatever their devices tell.
    truth: Model,
    client: Client,
    draws: Draws,
    seed: u64,
}

/// The files of a model as they are released.
///
/// # Errors
/// When the assets lack it.
fn released(id: &str) -> Result<(Vec<u8>, Vec<u8>)> {
    let assets = assets::find(None)?;
    let file = |name: &str| {
        let bytes = assets.bytes(&format!("models/{id}/{name}"));
        bytes.map(|bytes| bytes.to_vec()).with_context(|| format!("the assets lack {name} of {id}"))
    };
    Ok((file("manifest.json")?, file("model.onnx")?))
}

impl Crowd {
    /// A crowd of people whose devices hold this policy, and this model under the shop's name.
    ///
    /// # Errors
    /// When the model does not load.
    pub fn new(policy: &Policy, (manifest, onnx): (&[u8], &[u8]), seed: u64) -> Result<Self> {
        let load = |id: &str| {
            if id == MODEL {
                return Ok(Model::load(manifest, onnx)?);
            }
            let (manifest, onnx) = released(id)?;
            Ok(Model::load(&manifest, &onnx)?)
        };
        let models = policy.models.iter().map(|model| load(&model.id)).collect::<Result<_>>()?;
        let (first, its) = released(MODEL)?;
        let (truth, client) = (Model::load(&first, &its)?, Client::new(Duration::from_secs(20)));
        Ok(Self { policy: policy.clone(), models, truth, client, draws: Draws::new(seed), seed })
    }

    /// One visit on a device of its own; what it sends.
    fn visit(&mut self, bytes: &[u8], habit: Habit, now_ms: u64) -> Result<Option<Vec<u8>>> {
        self.seed += 1;
        let setup = Setup {
            purposes: self.policy.purposes.iter().map(|purpose| purpose.id.clone()).collect(),
            host: SITE.to_owned(),
            device_class: 2,
            width: 1_280,
            weekday: 2,
            hour: 15,
            check: false,
            now_ms: now_ms as f64,
            stopped: Vec::new(),
        };
        let lot = gloaming_signal::hash::sha256(&self.seed.to_be_bytes());
        let mut device = Device::new(bytes, setup, &[], &lot).map_err(anyhow::Error::msg)?;
        let mut at = now_ms;
        let mut look = |device: &mut Device, path: &str, seconds: f64| {
            device.page(at, 0, path, "", "");
            at += 500;
            device.push(at, EventKind::EngagedTime.number().into(), (seconds * 1_000.0) as u32, 0, 0);
            at += 500;
        };
        look(&mut device, "/", 5.0);
        let products = 1 + (-self.draws.uniform().ln() * (habit.pages - 1.0)) as u32;
        for _ in 0..products.min(60) {
            look(&mut device, "/p/harbour-lantern", 15.0 + 40.0 * self.draws.uniform());
        }
        if self.draws.uniform() < 0.4 {
            look(&mut device, "/account", 20.0);
        }
        let reads = self.draws.uniform() < habit.reads;
        if reads {
            look(&mut device, "/help", 30.0);
        }
        // The shop's experiment: the note helps.
        device.custom(at, "exposure:delivery-note");
        let status: Value = serde_json::from_str(&device.status())?;
        if self.draws.uniform() < if status["arms"]["delivery-note"] == "note" { 0.37 } else { 0.3 } {
            device.push(at, EventKind::AddToCart.number().into(), 6_400, 0, 0);
        }
        let (mut likely, mut offered) = (0.0, false);
        for (index, model) in self.models.iter().enumerate() {
            let inputs = device.model_inputs(index);
            let score = model.score(&inputs)?;
            let heard = device.set_score(index, score);
            device.fared(index, 1);
            if model.manifest().id == MODEL {
                offered = heard && score >= OFFERED;
                likely = habit.buys * f64::from(self.truth.score(&inputs)?);
            }
        }
        likely = habit.help.map_or(likely, |of| of[usize::from(reads)]);
        if self.draws.uniform() < if offered { HELPED * likely } else { likely } {
            device.push(at + 10, EventKind::Purchase.number().into(), 6_400, 0, 0);
        }
        Ok(device.prepare(now_ms).submission)
    }

    /// So many visits, in the window that is open.
    ///
    /// # Errors
    /// When a visit is not taken.
    pub async fn visits(&mut self, stage: &Stage, count: u32, habit: Habit) -> Result<()> {
        let (bytes, now_ms) = (self.policy.to_bytes(), stage.now_ms());
        let mut bodies = Vec::new();
        for _ in 0..count {
            bodies.extend(self.visit(&bytes, habit, now_ms)?);
        }
        let address = format!("{}/g/v1/contributions", stage.demo.shop);
        let post = |body: Vec<u8>| {
            let (client, address) = (self.client.clone(), address.clone());
            async move {
                let (status, _, answer) = client.post(&address, Bytes::from(body)).await?;
                if !status.is_success() {
                    bail!("a visit was answered with {status}: {}", String::from_utf8_lossy(&answer));
                }
                Ok(())
            }
        };
        let mut answers = futures_util::stream::iter(bodies).map(post).buffer_unordered(TOGETHER);
        while let Some(answer) = answers.next().await {
            answer?;
        }
        Ok(())
    }
}

/// What the centre says under an address of the site.
///
/// # Errors
/// When it does not answer.
pub async fn ask(stage: &Stage, what: &str) -> Result<Value> {
    let client = Client::new(Duration::from_secs(20)).answers(16 * 1024 * 1024);
    let (_, _, body) = client.get(&format!("{}/api/v1/sites/{SITE}/{what}", stage.demo.central)).await?;
    Ok(serde_json::from_slice(&body)?)
}

/// Waits until something is true of what the centre says.
async fn until<T>(stage: &Stage, what: &str, found: impl Fn(&Value) -> Option<T>) -> Result<T> {
    for _ in 0..600 {
        if let Some(found) = found(&ask(stage, what).await?) {
            return Ok(found);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!("the centre's {what} does not say in a minute what was waited for")
}

/// Closes the window, and waits until it is at the centre.
pub(crate) async fn closed(stage: &Stage) -> Result<()> {
    let length_ms = u64::from(WINDOW_S) * 1_000;
    let start_ms = stage.now_ms() / length_ms * length_ms;
    stage.close_window();
    let name = format!("{MODEL}-fared");
    until(stage, "overview?last=100", |overview| {
        let metrics = overview["metrics"].as_array()?;
        let fared = metrics.iter().find(|metric| metric["name"] == name.as_str())?;
        fared["windows"].as_array()?.iter().any(|window| window["start_ms"] == start_ms).then_some(())
    })
    .await
}

/// The shop's model as the centre sees it.
async fn model(stage: &Stage) -> Result<Value> {
    let models = ask(stage, "models").await?;
    let found = models.as_array().and_then(|all| all.iter().find(|model| model["id"] == MODEL));
    found.cloned().context("the centre does not know the model")
}

/// A figure with its interval.
pub(crate) fn shown(figure: &Value) -> String {
    let of = |end: &str| figure[end].as_f64().unwrap_or(f64::NAN);
    format!("{:.3} [{:.3}, {:.3}]", of("value"), of("low"), of("high"))
}

/// What came of a story.
pub struct Told {
    /// The people who come, and how many windows were closed.
    pub(crate) crowd: Crowd,
    pub(crate) windows: usize,
    /// The alert's words.
    pub alert: String,
    /// Calibration error, and the lower end of its interval: while visits were usual, in the campaign, and of the version that was put right.
    pub errors: [[f64; 2]; 3],
}

/// Visits change; it is seen, told, and put right. `say` is told how far it is, and `see` may look at the pages.
///
/// # Errors
/// When something is not seen that should be, or a step is refused.
pub async fn drift<See: AsyncFn(&str) -> Result<()>>(
    stage: &Stage,
    visits: u32,
    folder: &Path,
    say: impl Fn(&str),
    see: See,
) -> Result<Told> {
    let error = |model: &Value| -> Result<[f64; 2]> {
        let of = |end| model["performed"]["calibration_error"][end].as_f64().context("no calibration error");
        Ok([of("value")?, of("low")?])
    };
    let (manifest, onnx) = released(MODEL)?;
    let mut crowd = Crowd::new(&stage.demo.policy, (&manifest, &onnx), 1)?;
    for window in 1..=4 {
        crowd.visits(stage, visits, USUAL).await?;
        closed(stage).await?;
        say(&format!("window {window}: {visits} visits as usual"));
    }
    let usual = model(stage).await?;
    say(&format!(
        "{MODEL} tells what comes true: calibration error {}",
        shown(&usual["performed"]["calibration_error"])
    ));
    see("usual").await?;

    for window in 5..=6 {
        crowd.visits(stage, visits, CAMPAIGN).await?;
        closed(stage).await?;
        say(&format!("window {window}: {visits} visits of a campaign, which look around for long and buy more"));
    }
    let alert = until(stage, "alerts", |alerts| {
        // Others may be told besides, and before: scores change with what they are made of.
        let mut drifts = alerts.as_array()?.iter().filter(|alert| alert["kind"] == "drift");
        let cause = drifts.find(|alert| alert["words"].as_str().is_some_and(|words| words.contains(CAUSE)))?;
        Some(cause["words"].as_str()?.to_owned())
    })
    .await?;
    say(&format!("the centre raises an alarm: {alert}"));
    let seen = model(stage).await?;
    say(&format!("over all windows its calibration error is {}", shown(&seen["performed"]["calibration_error"])));
    // The two newest windows alone, as somebody asks who has read the alarm.
    let overview = ask(stage, "overview?last=2").await?;
    let from = folder.join("overview.json");
    std::fs::write(&from, overview.to_string())?;
    see("alarm").await?;

    // What the owner has: the manifest that devices hold, and not the one that was shipped before its review was put off.
    let (owned, next) = (folder.join("now"), folder.join("next"));
    stage.demo.save(&owned).await?;
    let before = owned.join("models").join(MODEL);
    recalibrate::run(&before.join("manifest.json"), &from, None, recalibrate::Method::Platt, (&next, None))?;
    let (manifest, onnx) = (std::fs::read(next.join("manifest.json"))?, std::fs::read(next.join("model.onnx"))?);
    let policy = stage.demo.bring(manifest.clone(), onnx.clone()).await?;
    say(&format!("version 3 of {MODEL} runs in shadow, under version {} of the policy", policy.version));

    let mut crowd = Crowd::new(&policy, (&manifest, &onnx), 1_000_000)?;
    for window in 7..=8 {
        crowd.visits(stage, visits, CAMPAIGN).await?;
        closed(stage).await?;
        say(&format!("window {window}: {visits} more of the campaign's visits"));
    }
    let right = model(stage).await?;
    say(&format!(
        "its next version tells what comes true: calibration error {}",
        shown(&right["performed"]["calibration_error"])
    ));
    see("right").await?;
    Ok(Told { crowd, windows: 8, alert, errors: [error(&usual)?, error(&seen)?, error(&right)?] })
}
