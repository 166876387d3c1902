//! `cargo xtask test`: what CI runs, in the order of cheapest failure first.

use anyhow::Result;

use crate::run::{self as exec, Context, step};
use crate::{assets, licences, setup};

/// Runs everything, or only the tests whose name contains `filter`.
pub(crate) fn run(context: &Context, filter: Option<&str>) -> Result<()> {
    setup::native(context)?;
    if filter.is_none() {
        step("format", || exec::run(context.cargo().args(["fmt", "--all", "--check"])))?;
        step("licences", || licences::check(context))?;
    }
    let folder = assets::build(context)?;
    setup::chromium(context)?;
    setup::postgres(context)?;
    setup::programs(context, &[setup::NGINX])?;
    let python = setup::kit(context)?;
    if filter.is_none() {
        step("lints (first time 4 min)", || {
            exec::run(context.cargo().args([
                "clippy",
                "--workspace",
                "--all-targets",
                "--locked",
                "--quiet",
                "--",
                "-D",
                "warnings",
            ]))
        })?;
    }
    // Not a step: the last lines are the runner's own.
    println!("==> tests (first time 10 min, most of it compiling)");
    let mut command = context.cargo();
    command
        .args(["test", "--workspace", "--locked", "--no-fail-fast"])
        .env("GLOAMING_ASSETS", &folder)
        .env("GLOAMING_KIT_PYTHON", &python);
    if let Some(filter) = filter {
        command.arg("--").arg(filter);
    }
    exec::run(&mut command)
}
