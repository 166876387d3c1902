//! Names without end: ids, buckets and sites by the million, from many networks, while honest beacons come to other sites.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use gloaming_policy::Policy;
use gloaming_signal::cbor;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::beacon::{Beacons, id, request, submission};
use crate::hostile::RATE;
use crate::load::Load;
use crate::stand::EdgeStand;
use crate::word;

/// Sites that do not exist.
const SITES: u64 = 1_000_000;
/// Submissions of buckets that do not exist, sixty-four in each: a million.
const BUCKETS: u64 = 15_625;
/// Submissions of sixty-four ids to each flooded site: a tenth more than the million that a site may hold open.
const IDS: u64 = 17_188;
/// The attacker's networks. One may make a twentieth of a count, so that few are enough for all of it.
const NETWORKS: u64 = 120;
/// Requests that are on their way at once on one connection.
const AHEAD: u64 = 32;
/// Most memory that the edge may have, bytes: 40 for each of three million ids and of the tables that grow beside them, as
/// docs/capacity.md says, and what it has when nothing is in it.
const MEMORY: u64 = 400_000_000;

/// What one connection of the attacker posts, by number.
type Bodies = Arc<dyn Fn(u64) -> Vec<u8> + Send + Sync>;

/// Posts on one connection, and counts answers.
async fn line(address: SocketAddr, source: SocketAddr, numbers: Vec<u64>, bodies: Bodies) -> Result<u64> {
    let connect = async || -> Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(source)?;
        Ok(socket.connect(address).await?)
    };
    let (mut stream, mut answered, mut buffer) = (connect().await?, 0, Vec::new());
    for some in numbers.chunks(AHEAD as usize) {
        let requests: Vec<u8> = some.iter().flat_map(|number| request("x", &bodies(*number))).collect();
        stream.write_all(&requests).await?;
        let (mut left, mut closed) = (some.len(), false);
        buffer.clear();
        // Of an answer all that is looked at is where it begins: none holds the words of another one.
        while left > 0 && !closed {
            closed = stream.read_buf(&mut buffer).await? == 0;
            let begin = b"HTTP/1.1 ";
            while let Some(at) = buffer.windows(begin.len()).position(|some| some == begin) {
                buffer.drain(..at + begin.len());
                left -= 1;
            }
        }
        answered += (some.len() - left) as u64;
        // Its two minutes may be over.
        if closed {
            stream = connect().await?;
        }
    }
    Ok(answered)
}

/// Posts numbers below `posts` from all networks; how many were answered.
async fn flood(address: &str, posts: u64, bodies: Bodies) -> Result<u64> {
    let (mut lines, address) = (JoinSet::new(), address.parse()?);
    for network in 0..NETWORKS {
        let source = SocketAddr::from(([127, 200, u8::try_from(network)?, 1], 0));
        let numbers = (network..posts).step_by(NETWORKS as usize).collect();
        lines.spawn(line(address, source, numbers, Arc::clone(&bodies)));
    }
    let mut answered = 0;
    while let Some(line) = lines.join_next().await {
        answered += line??;
    }
    Ok(answered)
}

/// All that the attacker posts, in this order; how many were answered.
async fn attack(address: &str, flooded: &[Arc<Policy>]) -> Result<u64> {
    let mut answered = 0;
    for policy in flooded {
        let policy = Arc::clone(policy);
        let ids = move |number| {
            // Spread over the policy's metrics, beginning with another one each time.
            let whole =
                submission(&policy, 64, |place| id(1 << 40 | number, place), |place, cells| place as u32 % cells);
            cbor::to_vec(&whole)
        };
        answered += flood(address, IDS, Arc::new(ids)).await?;
    }
    let policy = Arc::clone(flooded.first().context("no site")?);
    let made_up = Arc::clone(&policy);
    let buckets = move |number| {
        let cell = |place, _| u32::try_from(number * 64 + place).unwrap_or(u32::MAX).saturating_add(5_000);
        cbor::to_vec(&submission(&policy, 64, |place| id(1 << 41 | number, place), cell))
    };
    answered += flood(address, BUCKETS, Arc::new(buckets)).await?;
    let sites = move |number| {
        let mut whole = submission(&made_up, 1, |place| id(1 << 42 | number, place), |_, _| 0);
        whole.site = format!("x{number}.example");
        cbor::to_vec(&whole)
    };
    answered += flood(address, SITES, Arc::new(sites)).await?;
    Ok(answered)
}

/// Floods three sites with more ids than a site may hold open, then buckets, then sites, none of them real, while honest
/// beacons come to the other sites; whether the edge held, and counted those as if nobody else had come.
pub(crate) async fn run(command: &Path, time: Duration) -> Result<bool> {
    let (edge, flooded) = EdgeStand::beside_floods(command).await?;
    let beacons = Arc::new(Beacons::new(edge.policies(), None)?);
    let (before, began) = (edge.peak_memory()?, Instant::now());
    let took = Arc::new(AtomicU64::new(0));
    let (address, ended) = (edge.address().to_owned(), Arc::clone(&took));
    let attack = tokio::spawn(async move {
        let answered = attack(&address, &flooded).await;
        ended.store(began.elapsed().as_millis().try_into()?, Ordering::Relaxed);
        answered
    });
    // Honest beacons as long as the attack lasts, and for the measurement's time at least.
    let (mut answered, mut failed, mut p99) = (0, 0, 0f64);
    let slice = Load { connections: 60, time: Duration::from_secs(5), rate: Some(RATE / 5.0), addresses: true };
    while !attack.is_finished() || began.elapsed() < time {
        let outcome = slice.run(edge.address(), &beacons, true).await?;
        (answered, failed) = (answered + outcome.answered, failed + outcome.failed);
        p99 = p99.max(outcome.quantile(0.99));
    }
    let posts = attack.await??;
    let expected = 3 * IDS + BUCKETS + SITES;
    if posts != expected {
        bail!("{posts} of the attacker's {expected} posts were answered");
    }
    let judged = edge.judged().await?;
    let (sent, counted) = (answered * beacons.contributions() as u64, edge.counted_at_centre().await?);
    let peak = edge.peak_memory()?;
    println!(
        "names: {} ids for three sites, {} buckets, {SITES} sites in {posts} posts from {NETWORKS} networks within {:.0} s",
        3 * IDS * 64,
        BUCKETS * 64,
        took.load(Ordering::Relaxed) as f64 / 1e3
    );
    println!("  judged: {judged}");
    println!(
        "  {answered} honest beacons to other sites, {failed} failed, p99 of the worst slice {p99:.2} ms; {sent} contributions sent, {counted} counted at the centre ({})",
        word(failed == 0 && sent == counted)
    );
    println!(
        "  the edge had {} MB of memory at most, {} before (bound {}: {})",
        peak / 1_000_000,
        before / 1_000_000,
        MEMORY / 1_000_000,
        word(peak <= MEMORY)
    );
    // Whether what was to be filled was filled: three sites, each up to its bound.
    let full = number(&judged, "accepted") == sent + 3_000_000;
    println!("  three sites held a million ids each ({})", word(full));
    Ok(failed == 0 && sent == counted && peak <= MEMORY && full)
}

/// A number behind its word.
fn number(counts: &str, word: &str) -> u64 {
    let found = counts.split(", ").find_map(|one| one.strip_prefix(word)?.trim().parse().ok());
    found.unwrap_or(0)
}
