//! Honest beacons while somebody attacks.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use gloaming_http::Client;
use gloaming_signal::cbor;

use crate::beacon::{Beacons, id, submission};
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

/// Posts of each kind, sixty-four contributions each: a million.
const POSTS: u64 = 15_625;

/// A million distinct ids, buckets that do not exist, and sites that do not, from one network, while honest beacons come
/// from others. No limit on requests, so that names are what is measured.
async fn many_names(command: &Path, time: Duration) -> Result<bool> {
    let edge = EdgeStand::start(command, "trusted_proxies = []\nrequests_per_second = 0").await?;
    let policy = Arc::clone(&edge.policies()[0]);
    let beacons = Arc::new(Beacons::new(edge.policies())?);
    let load = Load { connections: 60, time, rate: Some(RATE / 5.0), addresses: true };
    let before = edge.peak_memory()?;
    let (address, honest_address) =
        (format!("http://{}/g/v1/contributions", edge.address()), edge.address().to_owned());
    let attack = tokio::spawn(async move {
        let client = Client::new(Duration::from_secs(10));
        let (mut posts, began) = (0u64, std::time::Instant::now());
        for number in 0..POSTS {
            let far = 1 << 40 | number;
            let ids = submission(&policy, 64, |place| id(far, place), |_, _| 0);
            let cells = submission(&policy, 64, |place| id(far, place), |place, _| (number * 64 + place) as u32 + 100);
            let mut site = submission(&policy, 1, |place| id(far, place), |_, _| 0);
            site.site = format!("x{number}.example");
            for body in [&ids, &cells, &site] {
                client.post(&address, Bytes::from(cbor::to_vec(body))).await?;
                posts += 1;
            }
        }
        Ok::<_, anyhow::Error>((posts, began.elapsed()))
    });
    let outcome = load.run(&honest_address, &beacons, true).await?;
    let (posts, took) = attack.await??;
    let (grown, p99) = (edge.peak_memory()?.saturating_sub(before), outcome.quantile(0.99));
    println!(
        "names: {} ids, as many buckets, {POSTS} sites in {posts} posts within {:.0} s; {} honest beacons, {} failed, p99 {p99:.2} ms",
        POSTS * 64,
        took.as_secs_f64(),
        outcome.answered,
        outcome.failed
    );
    println!("  the edge grew by {} MB; {}", grown / 1_000_000, edge.judged().await?);
    Ok(outcome.failed == 0)
}

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
    held &= many_names(command, time).await?;
    if held { Ok(()) } else { bail!("the edge did not hold") }
}
