//! Starts the demonstration and tells a story in it; `cargo xtask demo --story drift` runs it. What happened stays on the
//! pages until Ctrl-C.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use gloaming_e2e::browser::Browser;
use gloaming_e2e::relearn::relearn;
use gloaming_e2e::stage::{Setting, Stage};
use gloaming_e2e::story::{centre_page, drift};
use gloaming_edge::system_entropy;

/// The stories.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Story {
    /// Visits change; the centre sees it and says so, and the model is put right from counts, learnt again, tried and taken live.
    Drift,
}

/// Tells a story in the demonstration, with devices that are made up and everything else real.
#[derive(Parser)]
struct Arguments {
    /// Which.
    #[arg(value_enum)]
    story: Story,
    /// Visits in each window.
    #[arg(long, default_value_t = 1_500)]
    visits: u32,
    /// Pictures of the centre's page go here.
    #[arg(long, value_name = "FOLDER")]
    pictures: Option<PathBuf>,
    /// Ends with the story.
    #[arg(long)]
    once: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    match tell(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn tell(Arguments { story: Story::Drift, visits, pictures, once }: Arguments) -> Result<()> {
    tracing_subscriber::fmt().with_max_level(tracing::Level::ERROR).init();
    let mut seed = [0; 32];
    system_entropy()(&mut seed);
    let stage = Stage::start(Setting { seed, ..Setting::default() }).await?;
    println!("the centre's page: {}/", stage.demo.central);
    let browser = match &pictures {
        Some(_) => Some(Browser::launch().await?),
        None => None,
    };
    let see = async |name: &str| {
        let (Some(folder), Some(browser)) = (&pictures, &browser) else { return Ok(()) };
        std::fs::create_dir_all(folder)?;
        centre_page(browser, &stage).await?.picture(&folder.join(format!("{name}.png")), false).await
    };
    let folder = tempfile::tempdir()?;
    let say = |line: &str| println!("{line}");
    let told = drift(&stage, visits, folder.path(), say, &see).await?;
    let [usual, campaign, right] = told.errors;
    println!(
        "calibration error: {:.3} as usual, {:.3} with the campaign in it, {:.3} put right",
        usual[0], campaign[0], right[0]
    );
    let learnt = relearn(&stage, (told, visits), folder.path(), say, &see).await?;
    println!("AUC: {:.3} before, {:.3} learnt again; the model is {}", learnt.aucs[0], learnt.aucs[1], learnt.stage);
    if !once {
        println!("all of it stands at {}/ until Ctrl-C; nothing is kept", stage.demo.central);
        tokio::signal::ctrl_c().await?;
    }
    stage.demo.stop().await;
    Ok(())
}
