//! Centre, edge and shop in one process on this machine: the real parts with short windows.

mod gate;
mod held_back;
mod versions;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use axum::Router;
use gloaming_edge::{Clock, EntropySource, Reload, system_clock, system_entropy};
use gloaming_http::{Assets, Roots, serve};
use gloaming_policy::Policy;
use gloaming_policy::author::{Key, PublicKey, date_of, template};
use gloaming_policy::gate::{Said, Stage};
use gloaming_window::WrappingKey;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, oneshot};
use tokio::task::JoinHandle;

use self::gate::{Force, Gate};
use crate::files;
use crate::shop::{Csp, Shop, routes};

pub use self::gate::{MODEL, Step};

/// The demonstration's site.
pub const SITE: &str = "lantern-and-loom.example";

/// How a demonstration runs.
pub struct Options {
    /// First of four ports (shop, edge, operators, centre); `None` lets the system choose.
    pub port: Option<u16>,
    /// Length of every window, seconds.
    pub window_s: u32,
    /// What is served.
    pub assets: Assets,
    /// Where edge and centre keep what they keep.
    pub folder: PathBuf,
    /// Pages' policy.
    pub csp: Csp,
    /// Edge time; the system's unless a test gives another.
    pub clock: Clock,
    /// Seeds and keys of the edge; the system's unless a test gives another.
    pub entropy: EntropySource,
    /// A last word on the policy's text, for tests.
    pub edit: fn(String) -> String,
    /// Layers around the shop, for tests that watch what reaches it.
    pub around_shop: Box<dyn FnOnce(Router) -> Router + Send>,
}

impl Options {
    /// The ordinary demonstration.
    #[must_use]
    pub fn new(assets: Assets, folder: PathBuf) -> Self {
        Self {
            port: None,
            window_s: 20,
            assets,
            folder,
            csp: Csp::default(),
            clock: system_clock(),
            entropy: system_entropy(),
            edit: std::convert::identity,
            around_shop: Box::new(std::convert::identity),
        }
    }
}

/// Edge and centre, which take new policies while they run.
struct Services {
    edge: gloaming_edge::Running,
    central: gloaming_central::Running,
    pins: BTreeMap<String, PublicKey>,
    edges: BTreeMap<String, Vec<PublicKey>>,
}

impl Services {
    async fn put(&self, signed: Vec<u8>) -> Result<()> {
        // The centre first: it must know the policy before a batch names it.
        self.central.reload(&self.pins, std::slice::from_ref(&signed), self.edges.clone()).await?;
        let reload = Reload { pins: self.pins.clone(), policies: vec![signed], quotas: BTreeMap::new() };
        match self.edge.reload(reload).await.into_iter().next() {
            None => Ok(()),
            Some(refused) => Err(refused.into()),
        }
    }
}

/// A running demonstration.
pub struct Demo {
    /// The shop's address, `http://127.0.0.1:…`.
    pub shop: String,
    /// The edge's public address.
    pub edge: String,
    /// The edge's operators' address.
    pub admin: String,
    /// The centre's address.
    pub central: String,
    /// The policy in force at the start.
    pub policy: Policy,
    /// The owner's public key.
    pub key: PublicKey,
    gate: Arc<Gate>,
    force: Force,
    running: Arc<Mutex<Option<Services>>>,
    stop_shop: oneshot::Sender<()>,
    shop_task: JoinHandle<()>,
}

/// What the template asks consent for, and what more the demonstration does with it.
const WORDS: [(&str, &str); 4] = [
    (
        "Guess on this device whether the visit will end in a purchase, and count how good the guesses are.",
        "Guess on this device what kind of visit this is, whether it or a later one ends in a purchase, whether much will be spent, which goods are worth showing, and whether a program moves the pointer, and count how good the guesses are.",
    ),
    (
        "Auf diesem Gerät schätzen, ob der Besuch mit einem Kauf endet, und zählen, wie gut die Schätzungen sind.",
        "Auf diesem Gerät schätzen, was für ein Besuch das ist, ob er oder ein späterer mit einem Kauf endet, ob viel ausgegeben wird, welche Waren sich zu zeigen lohnen und ob ein Programm den Zeiger bewegt, und zählen, wie gut die Schätzungen sind.",
    ),
    (
        "Estimer sur cet appareil si la visite se terminera par un achat, et compter la qualité des estimations.",
        "Estimer sur cet appareil de quel genre de visite il s'agit, si elle ou une suivante se terminera par un achat, si l'on dépensera beaucoup, quels articles montrer et si un programme déplace le pointeur, et compter la qualité des estimations.",
    ),
    (
        "Estimar en este dispositivo si la visita acabará en compra, y contar lo buenas que son las estimaciones.",
        "Estimar en este dispositivo qué tipo de visita es, si esta u otra posterior acabará en compra, si se gastará mucho, qué artículos conviene mostrar y si un programa mueve el puntero, y contar lo buenas que son las estimaciones.",
    ),
];

/// Models that stay in shadow: counted, and seen by no page.
const SHADOW: [&str; 6] =
    ["visit-kind", "unusual-visit", "buys-again", "customer-value", "next-best-action", "pointer-bot"];

/// Those that say something of later visits: their scores are joined with whether this visit bought.
const JOINED: [&str; 2] = ["buys-again", "customer-value"];

/// A model in shadow and how it fares. What it takes is counted by the other metrics already.
fn in_shadow(id: &str) -> String {
    let outcome = if JOINED.contains(&id) { "outcome = \"outcome:purchase@1\"\n" } else { "" };
    format!(
        r#"
[[model]]
id = "{id}"
manifest = "models/{id}/manifest.json"
state = "shadow"
purpose = "prediction"

[[monitor]]
model = "{id}"
{outcome}inputs = []
window = "week"
rho = 0.004
k = 100
"#
    )
}

/// Half of the visitors read on a product's page when it would leave.
const EXPERIMENT: &str = r#"
[[experiment]]
id = "delivery-note"
arms = ["as-is", "note"]
purpose = "measurement"
goal = { of = "feature:cart-adds@1", at_least = 1 }
guardrails = [{ of = "outcome:bounce@1", permitted = 0.05 }]
minimum_effect = 0.02
window = "day"
rho = 0.008
k = 50
"#;

/// One question after an order, answered or not: a count like any other.
const SURVEY: &str = r#"
[[feature]]
id = "satisfaction"
kind = "category"
values = ["unhappy", "neutral", "happy"]
purpose = "measurement"

[[metric]]
id = 50
name = "satisfaction"
of = "page:satisfaction"
category = ["unhappy", "neutral", "happy"]
purpose = "measurement"
tier = "edge"
window = "day"
per_day = 1
rho = 0.004
k = 50
"#;

/// What the shop's model can be learnt from again: its inputs with the outcome, and those that go together.
const RETRAIN: &str = r#"
[[retrain]]
model = "purchase-intent"
outcome = "outcome:purchase@1"
pairs = [
    ["pages-product@1", "time-product@1"], ["pages-info@1", "time-info@1"], ["pages-account@1", "time-account@1"],
]
window = "week"
rho = 0.016
k = 100
"#;

/// The text of the demonstration's policy: the shop's template with further models, short windows and the smallest `k` there is.
fn text(origin: &str, window_s: u32, today: u64, edit: fn(String) -> String) -> Result<String> {
    let text = template("shop", SITE, origin, &date_of(today + 30)).ok_or_else(|| anyhow!("no template"))?;
    let text = WORDS.iter().fold(text, |text, (little, all)| text.replace(little, all));
    // They are paid for by one metric, which has the most.
    let text = text.replace("rho = 0.05\n", "rho = 0.014\n");
    // What is learnt from again is watched by the same counts, and paid by what watching it would cost.
    let text = text.replace("rho = 0.02                         #", "rho = 0.004                        #");
    let text = text + SURVEY + RETRAIN + &SHADOW.map(in_shadow).concat() + EXPERIMENT;
    let text = text
        .replace("window = \"day\"", &format!("window = \"{window_s}s\""))
        .replace("window = \"week\"", &format!("window = \"{window_s}s\""))
        .replace("k = 50", "k = 20")
        .replace("k = 100", "k = 20");
    Ok(edit(text))
}

async fn listen(port: Option<u16>, offset: u16) -> Result<TcpListener> {
    let port = port.map_or(0, |port| port.saturating_add(offset));
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}; is another demo running? `--port` chooses other ports"))
}

impl Demo {
    /// Starts all three.
    ///
    /// # Errors
    /// Whatever keeps one of them from starting.
    pub async fn start(options: Options) -> Result<Self> {
        let Options { port, window_s, assets, folder, csp, clock, entropy, edit, around_shop } = options;
        if !(1..=600).contains(&window_s) {
            bail!("a demonstration's windows last 1 to 600 seconds, not {window_s}");
        }
        let shop = listen(port, 0).await?;
        let (edge, admin, central) = (listen(port, 1).await?, listen(port, 2).await?, listen(port, 3).await?);
        let address = |listener: &TcpListener| Ok::<_, anyhow::Error>(format!("http://{}", listener.local_addr()?));
        let (shop_at, edge_at, admin_at, central_at) =
            (address(&shop)?, address(&edge)?, address(&admin)?, address(&central)?);

        let (owner, edge_key) = (Key::from_seed(&files::entropy()?), Key::from_seed(&files::entropy()?));
        let today = clock.now_ms() / 86_400_000;
        let assets = gate::staged(&assets, today)?;
        let gate = Gate::new(&text(&shop_at, window_s, today, edit)?, assets.clone(), owner, clock.clone())?;
        let (policy, signed) = gate.signed().await;
        let pins = BTreeMap::from([(SITE.to_owned(), gate.key())]);
        let edges = BTreeMap::from([("edge-1".to_owned(), vec![edge_key.public()])]);

        let at_centre = clock.clone();
        let central_service = gloaming_central::start(
            gloaming_central::Config {
                store: gloaming_central::StoreAddress::Sqlite(folder.join("central.sqlite")),
                retain_days: None,
                pins: pins.clone(),
                policies: vec![signed.clone()],
                edges: edges.clone(),
                password: None,
                assets: assets.clone(),
                telling: gloaming_central::Telling::default(),
                look: Duration::from_secs(2),
                more: Router::new(),
                clock: Arc::new(move || at_centre.now_ms()),
            },
            central,
        )
        .await?;
        let component = assets.bytes("edge/worker.component.wasm").context("the assets lack the edge component")?;
        let edge_service = gloaming_edge::start(
            gloaming_edge::Config {
                name: "edge-1".to_owned(),
                store: folder.join("edge.redb"),
                models: Some(gate.models()),
                key: edge_key,
                wrapping: WrappingKey::new(files::entropy()?),
                anchor: folder.join("edge.anchor"),
                accept_clock: true,
                restored: false,
                pins: pins.clone(),
                policies: vec![signed],
                component: component.to_vec(),
                central: vec![central_at.clone()],
                roots: Roots::Nobody,
                homes: BTreeMap::new(),
                relays: BTreeMap::new(),
                former_keys: Vec::new(),
                quotas: BTreeMap::new(),
                more: Router::new(),
                share_of_one_network: 100,
                loopback: true,
                clock,
                entropy,
            },
            assets.clone(),
            edge,
            admin,
        )
        .await?;
        let running = Services { edge: edge_service, central: central_service, pins, edges };
        let running = Arc::new(Mutex::new(Some(running)));
        let (key, gate, services) = (gate.key(), Arc::new(gate), Arc::clone(&running));
        let force: Force = Arc::new(move |signed| {
            let services = Arc::clone(&services);
            Box::pin(async move {
                match &*services.lock().await {
                    Some(services) => services.put(signed).await,
                    None => Ok(()),
                }
            })
        });
        let pages = gate.routes(Arc::clone(&force));
        let router = around_shop(pages.merge(routes(Shop {
            assets,
            edge: edge_at.clone(),
            site: SITE.to_owned(),
            key: key.to_text(),
            csp,
        })));
        let (stop_shop, stopped) = oneshot::channel();
        let shop_task = tokio::spawn(serve(shop, router, async move {
            let _ = stopped.await;
        }));
        Ok(Self {
            shop: shop_at,
            edge: edge_at,
            admin: admin_at,
            central: central_at,
            policy,
            key,
            gate,
            force,
            running,
            stop_shop,
            shop_task,
        })
    }

    /// Takes a step at the gate, as the page about it does.
    ///
    /// # Errors
    /// When a policy could not be put in force.
    pub async fn step(&self, step: Step) -> Result<serde_json::Value> {
        self.gate.step(step, &self.force).await
    }

    /// Brings the next version of the shop's model, in shadow; the policy that is in force then.
    ///
    /// # Errors
    /// When the gate or the edge refuses it.
    pub async fn bring(&self, manifest: Vec<u8>, onnx: Vec<u8>) -> Result<Policy> {
        self.gate.bring(manifest, onnx, &self.force).await
    }

    /// Moves the newest version of the shop's model on, by these statements and with everybody's yes; the policy that is in force
    /// then, which also says `more`.
    ///
    /// # Errors
    /// When the gate is not content, or the edge does not take the policy.
    pub async fn earn(&self, said: Vec<Said>, to: Stage, more: &str) -> Result<Policy> {
        self.gate.earn(said, to, more, &self.force).await
    }

    /// Writes down what the shop's owner has: the policy's text, the gate's record beside it, and the models, for commands that
    /// take files.
    ///
    /// # Errors
    /// When they cannot be written.
    pub async fn save(&self, folder: &Path) -> Result<()> {
        self.gate.save(folder).await
    }

    /// Stops the shop, then the edge, then the centre: in the order in which data flows.
    pub async fn stop(self) {
        let _ = self.stop_shop.send(());
        let _ = self.shop_task.await;
        if let Some(Services { edge, central, .. }) = self.running.lock().await.take() {
            edge.stop().await;
            central.stop().await;
        }
    }
}
