//! Load on the real centre, in the release profile.

use std::process::Command;

use anyhow::{Result, bail};

use crate::run::{Context, run, step};
use crate::{assets, setup};

fn build(context: &Context, binary: &str) -> Result<()> {
    step("compile the command and the load (first time 15 min)", || {
        run(context.cargo().args([
            "build",
            "--release",
            "--locked",
            "--package",
            "gloaming",
            "--package",
            "gloaming-e2e",
            "--bin",
            "gloaming",
            "--bin",
            binary,
        ]))
    })
}

/// Runs the simulation with these arguments of its own.
pub(crate) fn simulate(context: &Context, arguments: &[String]) -> Result<()> {
    setup::postgres(context)?;
    let assets = assets::build(context)?;
    build(context, "gloaming-simulate")?;
    let release = context.target.join("release");
    run(Command::new(release.join("gloaming-simulate"))
        .arg("--command")
        .arg(release.join("gloaming"))
        .args(arguments)
        .env("GLOAMING_ASSETS", assets))
}

/// Measures an edge beside nginx, or a centre.
pub(crate) fn bench(context: &Context, what: &str, arguments: &[String]) -> Result<()> {
    match what {
        "edge" => {
            setup::programs(context, &[setup::NGINX, setup::SLOWHTTPTEST])?;
            let assets = assets::build(context)?;
            build(context, "gloaming-bench")?;
            let release = context.target.join("release");
            run(Command::new(release.join("gloaming-bench"))
                .arg("--command")
                .arg(release.join("gloaming"))
                .args(arguments)
                .env("GLOAMING_ASSETS", assets))
        }
        "central" => {
            let least = ["--store", "sqlite", "--edges", "200", "--storms", "4,16", "--at-least", "1000"];
            let arguments: Vec<String> = least.iter().map(|&word| word.to_owned()).chain(arguments.to_vec()).collect();
            simulate(context, &arguments)
        }
        other => bail!("there is no bench `{other}`: write edge or central"),
    }
}
