//! Load on the real centre, in the release profile.

use std::process::Command;

use anyhow::{Result, bail};

use crate::run::{Context, run, step};
use crate::{assets, setup};

/// Builds the command and a load in the release profile, and lets one run the other with arguments of its own.
fn load(context: &Context, binary: &str, arguments: &[String]) -> Result<()> {
    let assets = assets::build(context)?;
    step("compile the command and the load (first time 15 min)", || {
        let packages = ["--package", "gloaming", "--package", "gloaming-e2e"];
        let build = ["build", "--release", "--locked", "--bin", "gloaming", "--bin", binary];
        run(context.cargo().args(build).args(packages))
    })?;
    let release = context.target.join("release");
    run(Command::new(release.join(binary))
        .arg("--command")
        .arg(release.join("gloaming"))
        .args(arguments)
        .env("GLOAMING_ASSETS", assets))
}

/// Runs the simulation.
pub(crate) fn simulate(context: &Context, arguments: &[String]) -> Result<()> {
    setup::postgres(context)?;
    load(context, "gloaming-simulate", arguments)
}

/// Measures an edge beside nginx, or a centre.
pub(crate) fn bench(context: &Context, what: &str, arguments: &[String]) -> Result<()> {
    match what {
        "edge" => {
            setup::programs(context, &[setup::NGINX, setup::SLOWHTTPTEST])?;
            load(context, "gloaming-bench", arguments)
        }
        "central" => {
            let least = ["--store", "sqlite", "--edges", "200", "--storms", "4,16", "--at-least", "1000"];
            let arguments: Vec<String> = least.iter().map(|&word| word.to_owned()).chain(arguments.to_vec()).collect();
            simulate(context, &arguments)
        }
        other => bail!("there is no bench `{other}`: write edge or central"),
    }
}
