//! An edge under load for long: what it holds must not grow.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::beacon::Beacons;
use crate::load::Load;
use crate::stand::EdgeStand;
use crate::word;

/// Beacons are sent in slices of this; what the edge holds is looked at after each.
const SLICE: Duration = Duration::from_secs(30);

/// What the edge held at some moment.
struct Look {
    hours: f64,
    memory: f64,
    descriptors: f64,
    disk: f64,
}

/// Least squares: how much a value grows in an hour.
fn slope(looks: &[Look], of: impl Fn(&Look) -> f64) -> f64 {
    let count = looks.len() as f64;
    let (x, y) = (looks.iter().map(|l| l.hours).sum::<f64>() / count, looks.iter().map(&of).sum::<f64>() / count);
    let (mut both, mut square) = (0.0, 0.0);
    for look in looks {
        both += (look.hours - x) * (of(look) - y);
        square += (look.hours - x).powi(2);
    }
    both / square
}

/// Finds what the edge can bear, sends `share` of that for `time`, and tells how what it holds grows. The first sixth of
/// the time does not count: tables find their size, the store's file as well.
pub(crate) async fn run(command: &Path, time: Duration, share: f64, connections: u32) -> Result<()> {
    let edge = EdgeStand::with_centre(command).await?;
    let beacons = Arc::new(Beacons::new(edge.policies(), None)?);
    let closed = Load { connections, time: Duration::from_secs(10), rate: None, addresses: false };
    let reached = closed.run(edge.address(), &beacons, true).await?;
    let rate = share * reached.answered as f64 / reached.seconds;
    println!(
        "{:.0}/s were borne for 10 s; {rate:.0}/s from now on, {:.0} min",
        rate / share,
        time.as_secs_f64() / 60.0
    );
    println!("minute  answered  failed  p99 ms  memory MB  descriptors  store MB");
    let (began, mut looks, mut failed, mut slowest) = (Instant::now(), Vec::new(), 0, Vec::new());
    while began.elapsed() < time {
        let slice = Load { rate: Some(rate), time: SLICE, ..closed }.run(edge.address(), &beacons, true).await?;
        let look = Look {
            hours: began.elapsed().as_secs_f64() / 3_600.0,
            memory: edge.memory()? as f64 / 1e6,
            descriptors: edge.descriptors()? as f64,
            disk: edge.disk()? as f64 / 1e6,
        };
        println!(
            "{:>6.1} {:>9} {:>7} {:>7.2} {:>10.0} {:>12} {:>9.1}",
            look.hours * 60.0,
            slice.answered,
            slice.failed,
            slice.quantile(0.99),
            look.memory,
            look.descriptors,
            look.disk
        );
        failed += slice.failed;
        slowest.push(slice.quantile(0.99));
        looks.push(look);
    }
    let counted = &looks[looks.len() / 6..];
    slowest.sort_by(f64::total_cmp);
    println!(
        "failed: {failed} ({}); p99 of a slice: {:.2} ms in the middle, {:.2} ms at worst",
        word(failed == 0),
        slowest[slowest.len() / 2],
        slowest[slowest.len() - 1]
    );
    println!(
        "in an hour memory grows by {:.1} MB, descriptors by {:.1}, the store by {:.1} MB",
        slope(counted, |l| l.memory),
        slope(counted, |l| l.descriptors),
        slope(counted, |l| l.disk)
    );
    println!("edge: {}", edge.judged().await?);
    Ok(())
}
