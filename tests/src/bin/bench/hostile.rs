//! Honest beacons while somebody attacks.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::beacon::Beacons;
use crate::load::Load;
use crate::stand::EdgeStand;
use crate::word;

/// Honest beacons a second.
const RATE: f64 = 1_000.0;
/// Connections of the attacker, more than the listener has places.
const ATTACK: &str = "5000";

/// slowhttptest's modes, with what they do.
const MODES: [(&str, &[&str]); 3] = [
    ("H: heads that never end", &["-H", "-i", "5"]),
    ("B: bodies that trickle", &["-B", "-i", "5", "-s", "8192"]),
    ("X: answers read a few bytes at a time", &["-X", "-w", "1", "-y", "2", "-n", "5", "-z", "4"]),
];

pub(crate) async fn run(command: &Path, time: Duration) -> Result<()> {
    // Attacker and honest come from other addresses of this machine; none of them is a proxy.
    let edge = EdgeStand::start(command, "trusted_proxies = []").await?;
    let beacons = Arc::new(Beacons::new(edge.policies())?);
    let load = Load { connections: 60, time, rate: Some(RATE), addresses: true };
    let mut held = true;
    for (name, mode) in MODES {
        let url = format!("http://{}/g/gloaming.js", edge.address());
        let seconds = time.as_secs().to_string();
        let mut attack = Command::new("slowhttptest")
            .args(mode)
            .args(["-c", ATTACK, "-r", "2000", "-l", &seconds, "-x", "10", "-u", &url])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot run slowhttptest; install Debian's package")?;
        // It is at full strength after a few seconds.
        tokio::time::sleep(Duration::from_secs(4)).await;
        let outcome = load.run(edge.address(), &beacons, true).await?;
        let ended = attack.try_wait()?.is_some();
        let _ = attack.kill();
        attack.wait()?;
        if ended && time.as_secs() > 60 {
            bail!("the attack ended before the measurement");
        }
        let p99 = outcome.quantile(0.99);
        let good = outcome.failed == 0 && p99 <= 50.0;
        held &= good;
        println!(
            "{name}: {} honest beacons, {} failed, p50 {:.2} ms, p99 {p99:.2} ms (aim none, 50 ms: {})",
            outcome.answered,
            outcome.failed,
            outcome.quantile(0.5),
            word(good)
        );
        println!("  turned away so far: {}", edge.turned_away().await?);
    }
    println!("edge: {} MB of memory at most", edge.peak_memory()? / 1_000_000);
    if held { Ok(()) } else { bail!("the edge did not hold") }
}
