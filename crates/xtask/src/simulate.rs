//! Load on the real centre, in the release profile.

use std::process::Command;

use anyhow::Result;

use crate::run::{Context, run, step};
use crate::setup;

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
    build(context, "gloaming-simulate")?;
    let release = context.target.join("release");
    run(Command::new(release.join("gloaming-simulate")).arg("--command").arg(release.join("gloaming")).args(arguments))
}
