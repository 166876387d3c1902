//! Honest beacons while somebody attacks.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};

use crate::beacon::Beacons;
use crate::load::Load;
use crate::names;
use crate::stand::EdgeStand;
use crate::word;

/// Honest beacons a second.
pub(crate) const RATE: f64 = 1_000.0;
/// Connections of the attacker, more than the listener has places.
const ATTACK: &str = "5000";
/// Share of the measurement in which the attack must have run: between two runs of the tool lies its start.
const ATTACKED: f64 = 0.95;

/// slowhttptest's modes, with what they do.
const MODES: [(&str, &[&str]); 3] = [
    ("H: heads that never end", &["-H", "-i", "5"]),
    ("B: bodies that trickle", &["-B", "-i", "5", "-s", "8192"]),
    ("X: answers read a few bytes at a time", &["-X", "-w", "1", "-y", "2", "-n", "5", "-z", "4"]),
];

/// slowhttptest, run again whenever it ends: it gives up when all its connections were ended, and nobody who attacks does.
struct Attack {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<(u32, Duration)>>,
    began: Instant,
}

fn attacker(mode: &[&str], url: &str, time: Duration) -> Result<Child> {
    // It ends by itself long after it is ended.
    let seconds = (2 * time.as_secs() + 60).to_string();
    Command::new("slowhttptest")
        .args(mode)
        .args(["-c", ATTACK, "-r", "2000", "-l", &seconds, "-x", "10", "-u", url])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot run slowhttptest; install Debian's package")
}

impl Attack {
    fn begin(mode: &'static [&'static str], url: String, time: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (mut runs, mut attacked) = (0, Duration::ZERO);
            while !stopped.load(Ordering::Relaxed) {
                let (mut tool, began) = (attacker(mode, &url, time)?, Instant::now());
                while tool.try_wait()?.is_none() && !stopped.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(10));
                }
                (runs, attacked) = (runs + 1, attacked + began.elapsed());
                let _ = tool.kill();
                tool.wait()?;
            }
            Ok((runs, attacked))
        });
        Self { stop, thread, began: Instant::now() }
    }

    /// Ends it: how often it was begun anew, and whether it lasted.
    fn end(self) -> Result<u32> {
        let time = self.began.elapsed();
        self.stop.store(true, Ordering::Relaxed);
        let (runs, attacked) = self.thread.join().map_err(|_| anyhow!("the attack's thread failed"))??;
        let share = attacked.as_secs_f64() / time.as_secs_f64();
        if share < ATTACKED {
            bail!("slowhttptest ran for {:.0} % of the time only, in {runs} runs: is it the right one?", 100.0 * share);
        }
        Ok(runs)
    }
}

pub(crate) async fn run(command: &Path, time: Duration) -> Result<()> {
    // Attacker and honest come from other addresses of this machine; none of them is a proxy.
    let edge = EdgeStand::start(command, "trusted_proxies = []").await?;
    let beacons = Arc::new(Beacons::new(edge.policies(), None)?);
    let load = Load { connections: 60, time, rate: Some(RATE), addresses: true };
    let mut held = true;
    for (name, mode) in MODES {
        let attack = Attack::begin(mode, format!("http://{}/g/gloaming.js", edge.address()), time);
        // It is at full strength after a few seconds.
        tokio::time::sleep(Duration::from_secs(4)).await;
        let outcome = load.run(edge.address(), &beacons, true).await?;
        let runs = attack.end()?;
        let p99 = outcome.quantile(0.99);
        let good = outcome.failed == 0 && p99 <= 50.0;
        held &= good;
        println!(
            "{name}, in {runs} runs: {} honest beacons, {} failed, p50 {:.2} ms, p99 {p99:.2} ms (aim none, 50 ms: {})",
            outcome.answered,
            outcome.failed,
            outcome.quantile(0.5),
            word(good)
        );
        println!("  turned away so far: {}", edge.turned_away().await?);
    }
    println!("edge: {} MB of memory at most", edge.peak_memory()? / 1_000_000);
    drop(edge);
    held &= names::run(command, time).await?;
    if held { Ok(()) } else { bail!("the edge did not hold") }
}
