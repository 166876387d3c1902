//! The `gloaming` command.
#![forbid(unsafe_code)]

mod model_cli;
mod model_help;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use gloaming::commands::{component, demo, doctor, gate, plan, policy, report, service, site};
use gloaming::config::EXAMPLE;

use model_cli::ModelCommand;

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

/// How `report` comes by what it tells of.
const REPORT: &str = "What the centre says is saved first:

  mkdir november
  for what in overview?last=1000 models experiments worth alerts; do
    curl -s CENTRE/api/v1/sites/SITE/$what > november/${what%%\\?*}.json
  done
  gloaming report --from november --month 2026-11";

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
        /// Standard deviation between visits in the goal of an experiment on an amount, in its unit; of a ratio ID=NUMBER/MEAN, with
        /// the mean of what it is a ratio to. Once for each experiment.
        #[arg(long, value_name = "ID=NUMBER")]
        deviation: Vec<String>,
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
    /// Write down a month at a site, for those who answer for it: what was counted and what for, what models did, what the gate
    /// decided, and what is not known.
    #[command(after_help = REPORT)]
    Report {
        /// The policy's TOML; the record is gate.ndjson beside it.
        #[arg(long, default_value = "policy.toml")]
        policy: PathBuf,
        /// Folder to look for models in, when they are not beside the policy.
        #[arg(long, value_name = "FOLDER")]
        models: Option<PathBuf>,
        /// Folder with what the centre said.
        #[arg(long, value_name = "FOLDER")]
        from: PathBuf,
        /// The month, UTC.
        #[arg(long, value_name = "YYYY-MM")]
        month: String,
        /// Where to write it; the ending says how, .md or .html.
        #[arg(long, default_value = "report.html")]
        out: PathBuf,
    },
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

fn main() -> ExitCode {
    // Colours are for people at a terminal; in a log they are noise.
    let coloured = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(coloured).with_target(false).init();
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
        Command::Plan { policy, visits_per_day, deviation, models } => {
            plan::run(&policy, models.as_deref(), visits_per_day, &deviation)
        }
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
        Command::Model(command) => model_cli::run(command),
        Command::Report { policy, models, from, month, out } => {
            report::run(&policy, models.as_deref(), &from, &month, &out)
        }
        Command::Verify { file, key, head } => gate::verify(&file, key.as_deref(), head.as_deref()),
        Command::Doctor { config } => doctor::run(&config, assets).await,
    }
}
