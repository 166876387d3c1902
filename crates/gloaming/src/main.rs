//! The `gloaming` command.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use gloaming::commands::{card, component, demo, doctor, evaluate, gate, model, plan, policy, rows, service, site};
use gloaming::config::EXAMPLE;
use gloaming::files;
use gloaming_policy::gate::Stage;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Behaviour analytics that never sees a person.
///
/// Visits are summed up on the visitor's own device, under consent; an edge folds what devices send and
/// releases noised counts; the centre stores and shows those, and nothing else.
#[derive(Parser)]
#[command(
    name = "gloaming",
    version,
    after_help = "First time here? `gloaming demo` runs everything on this machine.\nOn your own site: policy new, policy key, policy sign, edge, central, doctor; the README walks through it."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Folder of served files, for builds that carry none.
    #[arg(long, global = true, env = "GLOAMING_ASSETS", value_name = "FOLDER", hide_env_values = true)]
    assets: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Centre, edge and a shop on this machine, with windows of seconds.
    Demo {
        /// First of four ports: shop, edge, operators, centre.
        #[arg(long, default_value_t = 8787)]
        port: u16,
        /// Length of a window, seconds.
        #[arg(long, default_value_t = 20, value_name = "SECONDS")]
        window: u32,
        /// Open the shop in a browser when there is a display.
        #[arg(long)]
        open: bool,
    },
    /// Run an edge: serve browsers, fold contributions, release windows.
    Edge {
        #[command(flatten)]
        service: Service,
        /// Start although the clock contradicts the store: windows it seems to have missed are skipped.
        #[arg(long)]
        accept_clock: bool,
        /// Take the store for an old copy although nothing tells so: drop what it held open, begin a new epoch.
        #[arg(long)]
        restored: bool,
    },
    /// Run the centre: store releases, answer queries, show them.
    Central(Service),
    /// Write, check, sign and compare policies.
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// What the noise means at your traffic: sigma, smallest visible share, window to choose, epsilon.
    Plan {
        /// The policy's TOML.
        policy: PathBuf,
        /// Consenting visits on a day.
        #[arg(long)]
        visits_per_day: f64,
        /// Folder to look for models in, when they are not beside the policy.
        #[arg(long, value_name = "FOLDER")]
        models: Option<PathBuf>,
    },
    /// Add sites to a running edge or centre, and give them policies and quotas.
    #[command(subcommand)]
    Site(SiteCommand),
    /// Which edge component serves, and which runs beside it to be compared.
    #[command(subcommand)]
    Component(ComponentCommand),
    /// Bring models and look at them.
    #[command(subcommand)]
    Model(ModelCommand),
    /// Check a gate's record, or a signed policy with the record in it, and tell what happened.
    Verify {
        /// `gate.ndjson`, or what `gloaming policy sign` wrote.
        file: PathBuf,
        /// The site's public key, as in `data-key`.
        #[arg(long)]
        key: Option<String>,
        /// A head that was printed before: the record must still hold that entry.
        #[arg(long, value_name = "SHA-256")]
        head: Option<String>,
    },
    /// Look at a deployment and say everything that is wrong with it.
    Doctor {
        /// The configuration.
        #[arg(long, default_value = "gloaming.toml")]
        config: PathBuf,
    },
}

#[derive(Args)]
struct Service {
    /// The configuration.
    #[arg(long, default_value = "gloaming.toml")]
    config: PathBuf,
    /// Print a configuration with every key explained, and end.
    #[arg(long)]
    example: bool,
}

#[derive(Args)]
struct Source {
    /// The policy's TOML.
    policy: PathBuf,
    /// Folder to look for models in, when they are not beside the policy.
    #[arg(long, value_name = "FOLDER")]
    models: Option<PathBuf>,
}

#[derive(Subcommand)]
enum PolicyCommand {
    /// Write a policy that works, to start from.
    New {
        /// shop, blog, docs or saas.
        #[arg(long)]
        template: String,
        /// The site's name; pages carry it in `data-site`.
        #[arg(long)]
        site: String,
        /// Origin of the site's pages, when it is not https://SITE.
        #[arg(long)]
        origin: Option<String>,
        /// Where to write it.
        #[arg(long, default_value = "policy.toml")]
        out: PathBuf,
    },
    /// Compile a policy; every problem comes with its line and remedy.
    Check(Source),
    /// Make a signing key, for an owner or an edge.
    Key {
        /// Where to write it; only you can read it.
        #[arg(long)]
        out: PathBuf,
    },
    /// Sign a policy; prints the snippet for your pages.
    Sign {
        #[command(flatten)]
        source: Source,
        /// The key; give it again with another file to rotate keys.
        #[arg(long, required = true)]
        key: Vec<PathBuf>,
        /// Where to write it.
        #[arg(long, default_value = "policy.signed")]
        out: PathBuf,
    },
    /// List the features that metrics and models can be made of, with their definitions.
    Features,
    /// What changed between two policies, in sentences.
    Diff {
        /// The one in force.
        old: PathBuf,
        /// The one to come.
        new: PathBuf,
        /// Folder to look for models in, when they are not beside the policies.
        #[arg(long, value_name = "FOLDER")]
        models: Option<PathBuf>,
    },
}

#[derive(Args)]
struct At {
    /// The service: an edge's `admin` or a centre's `listen`.
    #[arg(long, env = "GLOAMING_AT", value_name = "http://HOST:PORT")]
    at: String,
    /// File with the token, as in the service's `admin_token_file`.
    #[arg(long, default_value = "token", value_name = "FILE")]
    token: PathBuf,
    /// Whose certificate to believe, when the system does not know it.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

#[derive(Subcommand)]
enum SiteCommand {
    /// Pin the key that a site's policies must be signed with.
    Add {
        /// The site's name, as in its policy.
        site: String,
        /// The public key, as `gloaming policy key` printed it.
        #[arg(long)]
        key: String,
        #[command(flatten)]
        at: At,
    },
    /// Put a signed policy in force.
    Policy {
        /// What `gloaming policy sign` wrote.
        policy: PathBuf,
        #[command(flatten)]
        at: At,
    },
    /// Hold a site to a number of contributions that are open at once; an edge's, not a centre's.
    Quota {
        /// The site.
        site: String,
        /// How many.
        contributions: u64,
        #[command(flatten)]
        at: At,
    },
    /// Take a site out: it is served until the next start, and what is open then is never released.
    Remove {
        /// The site.
        site: String,
        #[command(flatten)]
        at: At,
    },
    /// Say which sites were added.
    List {
        #[command(flatten)]
        at: At,
    },
}

async fn site(command: SiteCommand) -> Result<()> {
    let service = |At { at, token, ca }| site::Service { at, token, ca };
    match command {
        SiteCommand::Add { site: name, key, at } => site::add(&service(at), &name, &key).await,
        SiteCommand::Policy { policy, at } => site::policy(&service(at), &policy).await,
        SiteCommand::Quota { site: name, contributions, at } => site::quota(&service(at), &name, contributions).await,
        SiteCommand::Remove { site: name, at } => site::remove(&service(at), &name).await,
        SiteCommand::List { at } => site::list(&service(at)).await,
    }
}

#[derive(Args)]
struct OfEdge {
    /// The configuration.
    #[arg(long, default_value = "gloaming.toml")]
    config: PathBuf,
}

#[derive(Subcommand)]
enum ComponentCommand {
    /// Run a component beside the one that serves: given everything, believed in nothing, differences counted in
    /// gloaming_shadow_differences_total.
    Stage {
        /// The component.
        component: PathBuf,
        #[command(flatten)]
        edge: OfEdge,
    },
    /// Let the component beside serve.
    Switch(OfEdge),
    /// Go back to the component that served before.
    Rollback(OfEdge),
    /// Say what runs.
    Show(OfEdge),
}

/// What `model add` wants to be told.
const ADD: &str = "The file of --says:

  { \"id\": \"churn\", \"version\": 1,
    \"input\": { \"features\": [\"pages-product@1\", \"returning@1\"] },
    \"output\": { \"meaning\": \"probability that nobody comes back within 30 days\" },
    \"score_edges\": [19 growing numbers: the edges of 20 bins with as many people in each],
    \"reference\": { \"inputs\": [[3, 1], …], \"outputs\": [0.25, …] } }

`reference` holds 8 rows at least and what onnxruntime computes from them with the exported file. Anything else in it
(training, evidence, owner, licence) goes into the manifest as it is. `docs/models.md` says what runs.";

#[derive(Subcommand)]
enum ModelCommand {
    /// Take a model that scikit-learn, LightGBM, XGBoost or PyTorch exported, rewrite it into what devices run, and
    /// prove it against rows that its trainer computed.
    #[command(after_help = ADD)]
    Add {
        /// The exported file.
        onnx: PathBuf,
        /// What the trainer says of it, as JSON.
        #[arg(long)]
        says: PathBuf,
        /// The output that holds the score, where it cannot be guessed.
        #[arg(long)]
        output: Option<String>,
        /// The column of it, from 0; the second of two when nothing is said.
        #[arg(long)]
        column: Option<usize>,
        /// The folder for `model.onnx` and `manifest.json`.
        #[arg(long)]
        out: PathBuf,
    },
    /// Load a model as devices do: hash, op set, names, shapes, reference rows.
    Check {
        /// Its manifest; `model.onnx` lies beside it.
        manifest: PathBuf,
        /// Also check that this public key signed the folder (`gloaming model sign`).
        #[arg(long)]
        key: Option<String>,
    },
    /// Write a model card from manifest and evidence, as Markdown or HTML.
    Card {
        /// The manifest; `model.onnx` lies beside it.
        manifest: PathBuf,
        /// Folder of statements; `evidence` beside the manifest when nothing is said.
        #[arg(long, value_name = "FOLDER")]
        evidence: Option<PathBuf>,
        /// Where to write it; the ending says how.
        #[arg(long, default_value = "card.html")]
        out: PathBuf,
    },
    /// Sign a model's folder, every file of it, as an OpenSSF Model Signing bundle in model.sig.
    Sign {
        /// The folder with `manifest.json` and `model.onnx`.
        folder: PathBuf,
        /// The key.
        #[arg(long)]
        key: PathBuf,
    },
    /// Turn an event log into a table of features, by the code that devices run: for training, and for `evaluate`.
    #[command(after_help = ROWS)]
    Rows {
        /// The log, one JSON object a line.
        events: PathBuf,
        /// The policy: it names page groups, campaigns, events and page-given features.
        #[arg(long, default_value = "policy.toml")]
        policy: PathBuf,
        /// Folder to look for models in, when they are not beside the policy.
        #[arg(long, value_name = "FOLDER")]
        models: Option<PathBuf>,
        /// Where to write the table.
        #[arg(long, default_value = "rows.csv")]
        out: PathBuf,
    },
    /// Say how good a model is on rows it has not seen, as statements that a role can sign.
    #[command(after_help = EVALUATE)]
    Evaluate(Evaluate),
    /// Move a model towards pages: to shadow, experiment or live, when it has shown what the policy's [gate] asks for.
    /// Says what is missing when it has not.
    Promote {
        #[command(flatten)]
        which: Which,
        /// The site's key.
        #[arg(long)]
        key: PathBuf,
        /// Why, for the record.
        #[arg(long, default_value = "it has shown what was asked")]
        because: String,
        /// Why visitors should load a file that is larger than model_bytes.
        #[arg(long, value_name = "REASON")]
        oversize: Option<String>,
    },
    /// Move a model away from pages, at once and for no more than a reason: to experiment, shadow, quarantined or
    /// retired.
    Withdraw {
        #[command(flatten)]
        which: Which,
        /// The site's key.
        #[arg(long)]
        key: PathBuf,
        /// Why, for the record.
        #[arg(long)]
        because: String,
    },
    /// Add evidence and approvals to the record beside a policy.
    Evidence {
        /// Statements: signed ones, or what `gloaming model evaluate` wrote.
        #[arg(required = true)]
        statements: Vec<PathBuf>,
        /// The policy's TOML; the record is gate.ndjson beside it.
        #[arg(long, default_value = "policy.toml")]
        policy: PathBuf,
        /// The site's key, which signs the record's entries.
        #[arg(long)]
        key: PathBuf,
        /// Key of the role that answers for statements that nobody signed yet.
        #[arg(long)]
        signer: Option<PathBuf>,
    },
    /// Say yes to a move, in a role, having seen what is there.
    Approve {
        #[command(flatten)]
        which: Which,
        /// The role, as in [gate].
        #[arg(long)]
        role: String,
        /// Its key.
        #[arg(long)]
        signer: PathBuf,
        /// Where to write the approval.
        #[arg(long, default_value = "approval.json")]
        out: PathBuf,
    },
}

#[derive(Args)]
struct Which {
    /// The model's name in the policy.
    id: String,
    /// The stage.
    #[arg(long, value_name = "STAGE")]
    to: Stage,
    /// The policy's TOML; the record is gate.ndjson beside it.
    #[arg(long, default_value = "policy.toml")]
    policy: PathBuf,
    /// Folder to look for models in, when they are not beside the policy.
    #[arg(long, value_name = "FOLDER")]
    models: Option<PathBuf>,
}

/// What `model rows` reads.
const ROWS: &str = "A line for each event, for each device in the order of time; a row comes out for each session:

  {\"device\":\"d1\",\"at_ms\":1795430000000,\"event\":\"page_view\",\"path\":\"/p/lamp\",\"referrer\":\"www.google.com\",\"hour\":20}
  {\"device\":\"d1\",\"at_ms\":1795430030000,\"event\":\"add_to_cart\",\"value\":89.0}
  {\"device\":\"d1\",\"at_ms\":1795430031000,\"event\":\"feature\",\"feature\":\"cart-value\",\"value\":89.0}

Events have GA4's names where GA4 has one, or are the policy's own. A page_view takes path, referrer, campaign, device_class
(0 phone, 1 tablet, 2 desktop), width, weekday (0 Monday) and hour. Such a log says what people did: keep it as you keep
people's data, and delete it when the model is trained.";

/// What `model evaluate` wants.
const EVALUATE: &str = "ROWS.csv has a header: a column for each feature of the model, named as in its manifest
(`pages-product@1`), one for the outcome (0 or 1), and one for each attribute that groups are compared by.

  gloaming model evaluate models/churn/manifest.json --rows march.csv --outcome left \\
    --split time --trained 'to February' --tested March --group gender

writes held-out.json, calibration.json, fairness.json and parity.json. Rows that were set aside by lot make evidence
that no gate takes: a random split tells how well a model remembers, and not how well it will do.";

#[derive(Args)]
struct Evaluate {
    /// The manifest; `model.onnx` lies beside it.
    manifest: PathBuf,
    /// Rows that the model has not seen.
    #[arg(long, value_name = "FILE.csv")]
    rows: PathBuf,
    /// Column of the outcome.
    #[arg(long)]
    outcome: String,
    /// How the rows were kept apart: time, source, group or random.
    #[arg(long)]
    split: String,
    /// What the model learnt from, in words.
    #[arg(long)]
    trained: String,
    /// What the rows are, in words.
    #[arg(long)]
    tested: String,
    /// Column of an attribute to compare groups by; may be given again.
    #[arg(long)]
    group: Vec<String>,
    /// Why there is no attribute to compare groups by.
    #[arg(long, value_name = "REASON", conflicts_with = "group")]
    no_group: Option<String>,
    /// Score from which a person counts as selected; the manifest's 70th percentile when nothing is said.
    #[arg(long)]
    threshold: Option<f64>,
    /// Folder for the statements.
    #[arg(long, default_value = "evidence")]
    out: PathBuf,
}

fn gated(command: ModelCommand) -> Result<()> {
    let beside = |which: &Which| (which.policy.clone(), which.models.clone());
    match command {
        ModelCommand::Promote { which, key, because, oversize } => {
            let (policy, models) = beside(&which);
            let beside = gate::Beside { policy: &policy, models: models.as_deref() };
            gate::promote(&beside, &which.id, which.to, &files::key(&key)?, &because, oversize.as_deref())
        }
        ModelCommand::Withdraw { which, key, because } => {
            let (policy, models) = beside(&which);
            let beside = gate::Beside { policy: &policy, models: models.as_deref() };
            gate::withdraw(&beside, &which.id, which.to, &files::key(&key)?, &because)
        }
        ModelCommand::Approve { which, role, signer, out } => {
            let (policy, models) = beside(&which);
            let beside = gate::Beside { policy: &policy, models: models.as_deref() };
            gate::approve(&beside, &which.id, which.to, &role, &files::key(&signer)?, &out)
        }
        ModelCommand::Evidence { statements, policy, key, signer } => {
            let signer = signer.map(|path| files::key(&path)).transpose()?;
            let beside = gate::Beside { policy: &policy, models: None };
            gate::evidence(&beside, &statements, &files::key(&key)?, signer.as_ref())
        }
        ModelCommand::Add { onnx, says, output, column, out } => {
            model::add(&onnx, &says, &gloaming_model::Choice { output, column }, &out)
        }
        ModelCommand::Check { manifest, key } => {
            model::check(&manifest)?;
            key.map_or(Ok(()), |key| card::check(&manifest, &key))
        }
        ModelCommand::Rows { events, policy, models, out } => rows::run(&events, &policy, models.as_deref(), &out),
        ModelCommand::Card { manifest, evidence, out } => card::card(&manifest, evidence.as_deref(), &out),
        ModelCommand::Sign { folder, key } => card::sign(&folder, &key),
        ModelCommand::Evaluate(Evaluate {
            manifest,
            rows,
            outcome,
            split,
            trained,
            tested,
            group,
            no_group,
            threshold,
            out,
        }) => {
            let split = evaluate::Split { by: evaluate::split(&split)?, trained, tested };
            let groups = evaluate::Groups { columns: group, none: no_group, threshold };
            evaluate::run(&manifest, &evaluate::Labelled { rows, outcome }, split, groups, &out)
        }
    }
}

fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_target(false).init();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: no threads to run on: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(Arguments::parse())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<()> {
    let assets = arguments.assets.as_deref();
    match arguments.command {
        Command::Demo { port, window, open } => demo::run(port, window, open, assets).await,
        Command::Edge { service: Service { example: true, .. }, .. }
        | Command::Central(Service { example: true, .. }) => {
            print!("{EXAMPLE}");
            Ok(())
        }
        Command::Edge { service, accept_clock, restored } => {
            service::edge(&service.config, assets, service::Start { accept_clock, restored }).await
        }
        Command::Central(Service { config, .. }) => service::central(&config, assets).await,
        Command::Policy(PolicyCommand::New { template, site, origin, out }) => {
            policy::new(&template, &site, origin.as_deref(), &out)
        }
        Command::Policy(PolicyCommand::Check(Source { policy: path, models })) => {
            policy::check(&path, models.as_deref())
        }
        Command::Policy(PolicyCommand::Key { out }) => policy::key(&out),
        Command::Policy(PolicyCommand::Sign { source, key, out }) => {
            policy::sign(&source.policy, source.models.as_deref(), &key, &out)
        }
        Command::Policy(PolicyCommand::Features) => {
            policy::features();
            Ok(())
        }
        Command::Policy(PolicyCommand::Diff { old, new, models }) => policy::compare(&old, &new, models.as_deref()),
        Command::Plan { policy, visits_per_day, models } => plan::run(&policy, models.as_deref(), visits_per_day),
        Command::Site(command) => site(command).await,
        Command::Component(command) => {
            let (edge, step) = match &command {
                ComponentCommand::Stage { component, edge } => (edge, component::Step::Stage(component)),
                ComponentCommand::Switch(edge) => (edge, component::Step::Switch),
                ComponentCommand::Rollback(edge) => (edge, component::Step::Rollback),
                ComponentCommand::Show(edge) => (edge, component::Step::Show),
            };
            component::run(&edge.config, assets, &step)
        }
        Command::Model(command) => gated(command),
        Command::Verify { file, key, head } => gate::verify(&file, key.as_deref(), head.as_deref()),
        Command::Doctor { config } => doctor::run(&config, assets).await,
    }
}
