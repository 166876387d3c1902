//! Starts the demonstration, lets real Chromium visit it, and holds what the centre learnt against what
//! truly happened. `cargo xtask demo --drive N` runs it.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use gloaming_e2e::browser::Browser;
use gloaming_e2e::crowd::all_visits;
use gloaming_e2e::stage::{Setting, Stage, WINDOW_S};
use gloaming_e2e::truth::{Cells, done, sent};
use gloaming_edge::system_entropy;
use gloaming_policy::Policy;
use serde_json::Value;

/// Visits the demonstration shop with headless Chromium and compares what was learnt with what was done.
#[derive(Parser)]
struct Arguments {
    /// Visits with a fresh profile each; about seven in ten agree to be counted, and a window needs
    /// about 20 of those to be released.
    #[arg(default_value_t = 60)]
    visits: u32,
    /// Visits at the same time.
    #[arg(long, default_value_t = 3)]
    together: usize,
    /// Pictures of the shop and of the centre's page go here.
    #[arg(long, value_name = "FOLDER")]
    pictures: Option<std::path::PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match drive(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn drive(arguments: Arguments) -> Result<()> {
    tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).init();
    let mut seed = [0; 32];
    system_entropy()(&mut seed);
    let stage = Stage::start(Setting { seed, ..Setting::default() }).await?;
    println!("shop {}   centre {}", stage.demo.shop, stage.demo.central);
    println!(
        "{} visits with a fresh profile each, {} at a time, and one profile ten times",
        arguments.visits, arguments.together
    );

    let browser = Browser::launch().await?;
    let visits = all_visits(&browser, &stage.demo.shop, arguments.visits, arguments.together.clamp(1, 16)).await?;
    if let Some(folder) = &arguments.pictures {
        picture_of_shop(&browser, &stage.demo.shop, folder).await?;
    }
    println!("all left; the window of {WINDOW_S} s is closed by putting the demonstration's clock forward");
    stage.close_window();
    let overview = stage.released().await?;
    if let Some(folder) = &arguments.pictures {
        let profile = browser.profile().await?;
        let page = profile.tab("").await?;
        page.goto(&stage.demo.central).await?;
        page.until("document.querySelectorAll('.metric').length > 5").await?;
        page.picture(&folder.join("centre.png"), false).await?;
    }
    if stage.wire.refused() > 0 {
        println!("{} posts were not accepted", stage.wire.refused());
    }
    let policy = &stage.demo.policy;
    report(policy, &overview, &done(policy, &visits)?, &sent(policy, &stage.wire.submissions()));
    stage.demo.stop().await;
    Ok(())
}

async fn picture_of_shop(browser: &Browser, shop: &str, folder: &std::path::Path) -> Result<()> {
    let profile = browser.profile().await?;
    let page = profile.tab("").await?;
    page.goto(shop).await?;
    page.until("!!document.querySelector('#gl-accept')").await?;
    page.picture(&folder.join("shop.png"), false).await
}

fn report(policy: &Policy, overview: &Value, done: &Cells, sent: &Cells) {
    println!();
    println!(
        "{:<22} {:<28} {:>7} {:>7} {:>7} {:>9}  inside 95 %",
        "metric", "cell", "done", "sent", "learnt", "interval"
    );
    let (mut inside, mut cells, mut below) = (0, 0, 0);
    for (metric, view) in policy.metrics.iter().zip(overview["metrics"].as_array().into_iter().flatten()) {
        let released = view["windows"][0]["values"].as_array().filter(|v| !v.is_empty());
        let labels =
            if metric.sum_max().is_some() { vec!["reports".to_owned(), "sum".to_owned()] } else { metric.labels() };
        let Some(values) = released else {
            below += 1;
            let all: u64 = if metric.sum_max().is_some() { sent[&metric.id][0] } else { sent[&metric.id].iter().sum() };
            println!(
                "{:<22} {} (k {}, {all} sent): nothing was learnt",
                metric.name, view["windows"][0]["state"], metric.k
            );
            continue;
        };
        let mut name = metric.name.as_str();
        for (cell, label) in labels.iter().enumerate() {
            let (value, half) = (values[cell].as_i64().unwrap_or(0), view["half_width"][cell].as_f64().unwrap_or(0.0));
            let truth = sent[&metric.id][cell];
            let hit = (value - i64::try_from(truth).unwrap_or(i64::MAX)).abs() as f64 <= half;
            cells += 1;
            inside += u32::from(hit);
            // Large joints: only cells where something is.
            if labels.len() > 12 && truth == 0 {
                continue;
            }
            let told = done.get(&metric.id).map_or("-".to_owned(), |c| c[cell].to_string());
            println!(
                "{:<22} {:<28} {told:>7} {truth:>7} {value:>7} {:>9}  {}",
                std::mem::take(&mut name),
                label.chars().take(28).collect::<String>(),
                format!("+-{half:.1}"),
                if hit { "yes" } else { "no" }
            );
        }
    }
    println!();
    println!("done: what visitors know they did; sent: what devices contributed; learnt: what the centre holds.");
    println!("{inside} of {cells} released cells lie inside their 95 % interval; {below} metrics stayed below k.");
}
