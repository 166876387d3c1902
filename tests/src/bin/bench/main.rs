//! What a beacon costs: an edge that makes each durable, beside nginx that writes a line for each, and the edge
//! component beside the same functions compiled natively. `cargo xtask bench edge` builds and runs it.
//!
//! Figures are printed and decide nothing: they are this machine's, and the load comes from the same machine.
#![forbid(unsafe_code)]

mod beacon;
mod guest;
mod hostile;
mod load;
mod names;
mod soak;
mod stand;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;

use beacon::Beacons;
use load::{Load, Outcome};
use stand::{EdgeStand, Nginx};

/// The edge beside nginx, and the guest beside native code.
#[derive(Parser)]
struct Arguments {
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(2..=3_600))]
    seconds: u64,
    /// Measurements of edge and nginx, in turn; the middle one counts.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    pairs: u32,
    /// Connections that are kept open.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=2_000))]
    connections: u32,
    /// Contributions of a beacon; as many as 512 bytes hold when left out.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=63))]
    contributions: Option<u8>,
    /// Beacons a second of the open-loop measurement; half of what was reached when left out.
    #[arg(long)]
    rate: Option<f64>,
    /// Instead, serve a thousand honest beacons a second while slowhttptest attacks from one address, in its modes H
    /// (slow heads), B (slow bodies) and X (slow reading).
    #[arg(long)]
    hostile: bool,
    /// Instead, send seventy hundredths of what is reached for so many minutes, and tell how memory, descriptors and disk
    /// grow.
    #[arg(long, value_name = "MINUTES", value_parser = clap::value_parser!(u64).range(2..=10_000))]
    soak: Option<u64>,
    /// The command to run as the edge.
    #[arg(long, default_value = "gloaming")]
    command: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    match bench(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn word(reached: bool) -> &'static str {
    if reached { "reached" } else { "NOT reached" }
}

async fn bench(arguments: Arguments) -> Result<()> {
    if arguments.hostile {
        return hostile::run(&arguments.command, Duration::from_secs(arguments.seconds.max(20))).await;
    }
    if let Some(minutes) = arguments.soak {
        let time = Duration::from_secs(60 * minutes);
        return soak::run(&arguments.command, time, 0.7, arguments.connections).await;
    }
    let ratios = guest::ratios()?;
    println!("edge component against the same fold natively, by submissions in a fold:");
    for (items, ratio) in &ratios {
        println!("  {items:>5}  {ratio:.2} x  (aim 1.5: {})", word(*ratio <= 1.5));
    }

    let edge = EdgeStand::start(&arguments.command, "").await?;
    let nginx = Nginx::start()?;
    let beacons = Arc::new(Beacons::new(edge.policies(), arguments.contributions.map(usize::from))?);
    println!(
        "beacons of {} bytes, {} contributions each, {} connections",
        beacons.bytes(),
        beacons.contributions(),
        arguments.connections
    );
    let load = Load {
        connections: arguments.connections,
        time: Duration::from_secs(arguments.seconds),
        rate: None,
        addresses: false,
    };
    let (mut at_edge, mut at_nginx, mut reached) = (Vec::new(), Vec::new(), Vec::new());
    println!("pair  server   beacons/s  CPU us each  failed");
    for pair in 1..=arguments.pairs {
        for server in ["edge", "nginx"] {
            let (address, cpu): (_, &dyn Fn() -> Result<f64>) = match server {
                "edge" => (edge.address(), &|| edge.cpu_seconds()),
                _ => (nginx.address(), &|| nginx.cpu_seconds()),
            };
            let before = cpu()?;
            let outcome = load.run(address, &beacons, server == "edge").await?;
            let each = 1e6 * (cpu()? - before) / outcome.answered as f64;
            let rate = outcome.answered as f64 / outcome.seconds;
            println!("{pair:<5} {server:<7} {rate:>10.0} {each:>12.1} {:>7}", outcome.failed);
            if server == "edge" {
                at_edge.push(each)
            } else {
                at_nginx.push(each)
            }
            if server == "edge" {
                reached.push(rate);
            }
        }
    }
    let (edge_us, nginx_us) = (middle(at_edge), middle(at_nginx));
    println!("edge {edge_us:.1} us of processor time a durable beacon (aim 20: {})", word(edge_us <= 20.0));
    let ratio = edge_us / nginx_us;
    println!("nginx {nginx_us:.1} us a logged one; ratio {ratio:.2} (aim 1.8: {})", word(ratio <= 1.8));

    let rate = arguments.rate.unwrap_or(middle(reached) / 2.0);
    let open = Load { rate: Some(rate), ..load };
    let outcome = open.run(edge.address(), &beacons, true).await?;
    println!("open loop at {rate:.0}/s: {} answered, {} failed", outcome.answered, outcome.failed);
    let p99 = outcome.quantile(0.99);
    println!(
        "  from when each was due: p50 {:.2} ms, p99 {p99:.2} ms (aim 10: {}), p99.9 {:.2} ms, worst {:.2} ms",
        outcome.quantile(0.5),
        word(p99 <= 10.0),
        outcome.quantile(0.999),
        outcome.quantile(1.0)
    );
    println!("edge: {} MB of memory at most; {}", edge.peak_memory()? / 1_000_000, edge.judged().await?);
    Ok(())
}

impl Outcome {
    /// Milliseconds within which this share was answered.
    fn quantile(&self, share: f64) -> f64 {
        let place = ((self.times.len().max(1) - 1) as f64 * share) as usize;
        self.times.get(place).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
    }
}
