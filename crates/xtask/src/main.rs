//! `cargo xtask`: the one door for chores. `cargo xtask help` lists them.

mod assets;
mod dist;
mod fuzz;
mod licences;
mod minify;
mod run;
mod setup;
mod simulate;
mod sizes;
mod test;
mod wasm;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Builds, tests and shows Gloaming. Everything here installs what it lacks, after asking.
#[derive(Parser)]
#[command(
    name = "cargo xtask",
    after_help = "First time here? `cargo xtask demo` builds all and opens a shop to visit."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Install what is missing without asking (also when there is no terminal to ask at).
    #[arg(long, global = true)]
    yes: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Install what building and testing need: the wasm target, and what is asked for beside it.
    Setup {
        /// Chromium as well, for `test` and `demo --drive`.
        #[arg(long)]
        browser: bool,
        /// PostgreSQL as well, for `test`, which starts servers of its own and never uses the one Debian starts.
        #[arg(long)]
        postgres: bool,
    },
    /// Build the wasm modules, the edge component and all files that are served.
    Build,
    /// Centre, edge and a demo shop on this machine; prints the addresses and waits.
    Demo {
        /// Instead of waiting, let headless Chromium visit this many times and compare what the
        /// centre learnt with what was done.
        #[arg(long, value_name = "N")]
        drive: Option<u32>,
        /// Instead of waiting, tell a story: with `drift` visits change, the centre sees it and says so, and the model is
        /// put right from counts.
        #[arg(long, value_parser = ["drift"], conflicts_with = "drive")]
        story: Option<String>,
        /// First port of three.
        #[arg(long, default_value_t = 8787)]
        port: u16,
    },
    /// Format, lints, licences, sizes and every test, those in Chromium included. What CI runs.
    Test {
        /// Only tests whose name contains this; skips format, lints and licences.
        filter: Option<String>,
    },
    /// Bytes of everything a browser loads, and whether the budgets hold.
    Sizes,
    /// One binary with all assets inside, checksums, a systemd unit and a Containerfile, in dist/.
    Dist,
    /// Fuzz one of the readers of outside bytes with libFuzzer, beginning with its corpus.
    Fuzz {
        /// Its name, as docs/fuzzing.md lists them.
        target: String,
        /// How long.
        #[arg(long, default_value_t = 60)]
        seconds: u32,
        /// Then put what reaches code that the committed corpus does not reach into it.
        #[arg(long)]
        keep: bool,
    },
    /// Feed a real centre with the batches of many synthetic edges: rates, bytes, money, and what broke first.
    /// Arguments go through: `cargo xtask simulate --edges 100 --store sqlite`, `cargo xtask simulate --help`.
    #[command(disable_help_flag = true)]
    Simulate {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Processor time and latency of a durable beacon beside nginx's log line (`bench edge`), or batches a second
    /// on SQLite (`bench central`). Figures of this machine; they decide nothing.
    #[command(disable_help_flag = true)]
    Bench {
        /// edge or central.
        what: String,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Licences and duplicate versions of all dependencies against the lists in licences.rs.
    Licences,
}

fn main() -> std::process::ExitCode {
    match chore(Arguments::parse()) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn chore(arguments: Arguments) -> Result<()> {
    let context = run::Context::new(arguments.yes)?;
    match arguments.command {
        Command::Setup { browser, postgres } => {
            setup::wasm_target(&context)?;
            if browser {
                setup::chromium(&context)?;
            }
            if postgres {
                setup::postgres(&context)?;
            }
            println!("ready");
            Ok(())
        }
        Command::Demo { drive, story, port } => dist::demo(&context, drive, story.as_deref(), port),
        Command::Test { filter } => test::run(&context, filter.as_deref()),
        // A build ends with the table, and fails with it.
        Command::Build | Command::Sizes => assets::build(&context).map(|_| ()),
        Command::Dist => dist::build(&context),
        Command::Fuzz { target, seconds, keep } => fuzz::run_target(&context, &target, seconds, keep),
        Command::Bench { what, arguments } => simulate::bench(&context, &what, &arguments),
        Command::Simulate { arguments } => simulate::simulate(&context, &arguments),
        Command::Licences => licences::check(&context),
    }
}
