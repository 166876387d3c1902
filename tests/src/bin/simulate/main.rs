//! Feeds a real centre, on a real database, with the batches of many synthetic edges, and says what that took
//! and what broke first. `cargo xtask simulate` builds and runs it.
#![forbid(unsafe_code)]

mod fleet;
mod stand;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::{Parser, ValueEnum};
use gloaming_http::Client;

use fleet::{Fleet, Storm};
use stand::Stand;

/// The database under the centre.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Engine {
    Sqlite,
    Postgres,
}

/// Many edges, one centre, one database: rates, bytes, processor time, and what broke first.
#[derive(Parser)]
struct Arguments {
    /// Edges; each keeps one connection and delivers its batches in order, as real ones do.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    edges: u32,
    /// Sites that each edge is home to; there are as many sites as edges.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    sites_per_edge: u32,
    /// Cells of a batch, in four metrics of one window.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(8..=4_000))]
    cells: u32,
    /// Outages that are caught up with, in windows: after each, every edge delivers that many at once.
    #[arg(long, value_delimiter = ',', default_value = "1,1,4,12")]
    storms: Vec<u32>,
    #[arg(long, value_enum, default_value = "postgres")]
    store: Engine,
    /// The command to run as the centre.
    #[arg(long, default_value = "gloaming")]
    command: std::path::PathBuf,
    /// Fail when fewer batches than this are stored in a second of the last storm.
    #[arg(long)]
    at_least: Option<f64>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match simulate(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Prices that the page's money is worked out with; change them to yours.
const GB_MONTH: f64 = 0.12;
const CORE_HOUR: f64 = 0.04;

async fn simulate(arguments: Arguments) -> Result<()> {
    let Arguments { edges, sites_per_edge, cells, .. } = arguments;
    let fleet = Fleet::new(edges, sites_per_edge, cells)?;
    let mut stand = Stand::start(&fleet, matches!(arguments.store, Engine::Postgres), &arguments.command).await?;
    println!(
        "{edges} edges, {} sites, {} batches of {} cells a window, on {:?}",
        fleet.sites(),
        fleet.batches_a_window(),
        fleet.cells(),
        arguments.store
    );
    println!(
        "storm   batches  seconds  batches/s  p50 ms  p99 ms  worst ms  centre CPU us  database CPU us  not taken at once"
    );
    let (mut first_window, mut broke, mut rate) = (0, None, 0.0);
    for (number, windows) in arguments.storms.iter().enumerate() {
        let (centre, database) = stand.cpu_seconds()?;
        let began = Instant::now();
        let storm = fleet.storm(stand.address(), first_window, *windows).await?;
        let seconds = began.elapsed().as_secs_f64();
        let (centre_after, database_after) = stand.cpu_seconds()?;
        let each = |seconds: f64| 1e6 * seconds / storm.stored as f64;
        rate = storm.stored as f64 / seconds;
        println!(
            "{:<6} {:>8} {:>8.1} {:>10.0} {:>7.0} {:>7.0} {:>9.0} {:>14.0} {:>16.0}  {}",
            format!("{}x", windows),
            storm.stored,
            seconds,
            rate,
            storm.quantile(0.5),
            storm.quantile(0.99),
            storm.quantile(1.0),
            each(centre_after - centre),
            each(database_after - database),
            storm.troubles()
        );
        if broke.is_none() && storm.refused() > 0 {
            broke = Some(format!("storm {} ({windows} windows at once): {}", number + 1, storm.troubles()));
        }
        first_window += windows;
    }
    let sent = u64::from(first_window) * u64::from(fleet.batches_a_window());
    report(&arguments, &fleet, &mut stand, sent).await?;
    println!("broke first: {}", broke.as_deref().unwrap_or("nothing, up to here"));
    if let Some(wanted) = arguments.at_least.filter(|wanted| rate < *wanted) {
        bail!("{rate:.0} batches a second, fewer than the {wanted:.0} asked for");
    }
    Ok(())
}

async fn report(arguments: &Arguments, fleet: &Fleet, stand: &mut Stand, sent: u64) -> Result<()> {
    let client = Client::new(Duration::from_secs(60)).answers(64 << 20);
    let began = Instant::now();
    let site = fleet.site(0);
    let (status, _, body) = client.get(&format!("{}/api/v1/sites/{site}/overview", stand.address())).await?;
    let page = 1e3 * began.elapsed().as_secs_f64();
    let overview: serde_json::Value = serde_json::from_slice(&body)?;
    let windows = overview["metrics"][0]["windows"].as_array().map_or(0, Vec::len);
    println!("a site's page of {windows} windows x edges: {status}, {page:.0} ms, {} bytes", body.len());
    let (bytes, rows) = stand.size().await?;
    let each = bytes as f64 / sent as f64;
    println!("database: {bytes} bytes, {rows} rows in `release`, {each:.0} bytes a batch with its keys");
    println!("centre: {} MB of memory at most", stand.peak_memory()? / 1_000_000);
    let (centre, database) = stand.cpu_seconds()?;
    let core = (centre + database) / sent as f64;
    println!();
    println!(
        "With hourly windows, {} sites an edge, {} cells a batch, {GB_MONTH} a GB-month, {CORE_HOUR} a core-hour:",
        arguments.sites_per_edge,
        fleet.cells()
    );
    println!("edges   batches/hour  rows/hour  GB/year  core-seconds/hour  money/month after a year");
    for edges in [1u32, 100, 10_000] {
        let batches = f64::from(edges * arguments.sites_per_edge);
        let (year, load) = (batches * each * 24.0 * 365.0 / 1e9, batches * core);
        let money = year * GB_MONTH + load / 3_600.0 * 730.0 * CORE_HOUR;
        let rows = batches * f64::from(fleet.metrics());
        println!("{edges:<7} {batches:>12.0} {rows:>10.0} {year:>8.2} {load:>18.2} {money:>25.2}");
    }
    println!();
    Ok(())
}

impl Storm {
    /// Milliseconds below which this share of the deliveries were answered.
    fn quantile(&self, share: f64) -> f64 {
        let place = ((self.answered.len() - 1) as f64 * share) as usize;
        self.answered.get(place).map_or(0.0, |time| time.as_secs_f64() * 1e3)
    }
}
