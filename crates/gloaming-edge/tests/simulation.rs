//! Power cuts, torn writes, full disks, wrong clocks, old copies, lost and doubled messages: in every order that
//! ten thousand seeds bring about, no contribution is counted twice, and none is lost that was acknowledged.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::panic::{AssertUnwindSafe, catch_unwind};

mod sim;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// `GLOAMING_SEEDS=100000` runs more of them, `GLOAMING_FIRST_SEED=…` others.
#[test]
fn whatever_fails_nothing_is_counted_twice_and_nothing_acknowledged_is_lost() {
    let (first, seeds) = (number("GLOAMING_FIRST_SEED", 0), number("GLOAMING_SEEDS", 10_000));
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let reports: Vec<sim::Report> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn(move || {
                    let mut all = Vec::new();
                    for seed in (first + thread..first + seeds).step_by(threads as usize) {
                        let outcome = catch_unwind(AssertUnwindSafe(|| sim::run(seed)));
                        all.push(outcome.unwrap_or_else(|_| {
                            panic!("seed {seed} fails: GLOAMING_FIRST_SEED={seed} GLOAMING_SEEDS=1 repeats it")
                        }));
                    }
                    all
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    let total = |of: fn(&sim::Report) -> u64| reports.iter().map(of).sum::<u64>();
    println!(
        "{} seeds: {} contributions acknowledged, {} counted, {} windows; {} power cuts, {} failures of the store, {} old copies, {} doubts of the clock, {} departures; the clock was set wrongly {} times while the edge ran and right again {}, and not believed at {} looks",
        reports.len(),
        total(|r| r.acknowledged),
        total(|r| r.counted),
        total(|r| r.windows),
        total(|r| r.power_cuts),
        total(|r| r.store_failures),
        total(|r| r.restored),
        total(|r| r.clock_doubts),
        total(|r| r.left),
        total(|r| r.clock_steps[0]),
        total(|r| r.clock_steps[1]),
        total(|r| r.clock_unbelieved),
    );
    // A simulation in which nothing happens proves nothing.
    if seeds >= 1_000 {
        for (what, count) in [
            ("acknowledged", total(|r| r.acknowledged)),
            ("power cuts", total(|r| r.power_cuts)),
            ("store failures", total(|r| r.store_failures)),
            ("old copies", total(|r| r.restored)),
            ("clock doubts", total(|r| r.clock_doubts)),
            ("departures", total(|r| r.left)),
            ("steps of the clock", total(|r| r.clock_steps[0]) / 10),
            ("looks at a clock that is not believed", total(|r| r.clock_unbelieved) / 10),
        ] {
            assert!(count > seeds / 10, "{what}: only {count}");
        }
    }
}
