//! Clocks that are set while an edge runs, and clocks that are wrong when it starts.
#![allow(clippy::unwrap_used)]

mod rig;

use gloaming_policy::Policy;
use gloaming_privacy::Rho;
use gloaming_signal::{Reason, SealedBatch, Submission, cbor};
use gloaming_window::{
    Anchor, Bounds, ClockDoubt, EdgeError, Keeper, MemoryStorage, Opening, Place, Posted, Timekeeper,
};
use rig::{DAY, Rig, START, Wrong, one, policy};

const HOUR: u64 = 3_600_000;
const YEAR: u64 = 365 * DAY;

/// One metric of an hour, so dear that its noise is always zero, and shown however few there are.
fn hourly() -> Policy {
    let mut policy = policy(1);
    policy.budget = Rho::from_micro(1_000_000_000_000_000);
    policy.metrics.retain(|metric| metric.id == 4);
    let metric = &mut policy.metrics[0];
    (metric.span_ms, metric.per_day, metric.k) = (HOUR, 1, 0);
    metric.rho = Rho::from_micro(1_000_000_000_000);
    policy
}

/// What was counted in the cell that everything here is counted in.
fn counted(batches: &[(SealedBatch, [u8; 32])]) -> i64 {
    batches.iter().map(|(batch, _)| batch.releases[0].values[1]).sum()
}

fn sent(id: u64, window: u64) -> Vec<u8> {
    let policy = hourly();
    cbor::to_vec(&Submission {
        site: policy.site.clone(),
        policy_version: 1,
        policy_hash: policy.hash(),
        check: false,
        contributions: vec![one(id, 1, window)],
    })
}

/// Once a step of a year skipped all but the last 400 windows, and the ones that held something with them.
#[test]
fn a_window_that_holds_something_is_released_however_far_the_clock_steps() {
    let mut rig = Rig::with(&hourly(), Bounds::default());
    let hour = START / HOUR;
    assert_eq!(rig.ingest(START, &[sent(1, hour)]).unwrap(), [[Reason::Accepted]]);
    // Late by less than the grace: the step finds two windows that hold something.
    let next = (hour + 1) * HOUR + 60_000;
    assert_eq!(
        rig.ingest(next, &[sent(2, hour), sent(3, hour + 1)]).unwrap(),
        [[Reason::Accepted], [Reason::Accepted]]
    );
    let batches = rig.release(next + YEAR);
    let windows: Vec<u64> = batches.iter().map(|(batch, _)| batch.window).collect();
    assert_eq!(windows[..2], [hour, hour + 1]);
    assert_eq!(windows[2..], (windows[2]..windows[2] + windows.len() as u64 - 2).collect::<Vec<_>>());
    assert_eq!(windows[2] - (hour + 2), rig.edge.tally().skipped_windows, "the rest of the year");
    assert!(rig.edge.tally().skipped_windows > 8_000);
    assert_eq!((counted(&batches), counted(&batches[..2])), (3, 3));
}

/// What could not be released for long was counted in while the edge ran: all of it is released, and what is empty too, or the
/// gaps would tell when nobody was there.
#[test]
fn windows_of_the_time_that_the_edge_ran_are_never_skipped() {
    let mut rig = Rig::with(&hourly(), Bounds { catch_up: 10, ..Bounds::default() });
    rig.guest.wrong = Wrong::TrapOnRelease(HOUR);
    let hour = START / HOUR;
    for passed in 0..30 {
        let bodies: Vec<_> = (passed % 3 == 0).then(|| sent(passed, hour + passed)).into_iter().collect();
        rig.ingest(START + passed * HOUR, &bodies).unwrap();
        assert!(passed < 2 || rig.release_one(START + passed * HOUR).is_err());
    }
    rig.guest.wrong = Wrong::No;
    let windows: Vec<u64> = rig.release(START + 31 * HOUR).iter().map(|(batch, _)| batch.window).collect();
    assert_eq!(windows, (hour..hour + 30).collect::<Vec<_>>());
    assert_eq!(rig.edge.tally().skipped_windows, 0);
}

/// Days are few even in a year: a start a year ahead once passed for a long absence, and everything after it for the past.
#[test]
fn a_clock_that_is_a_year_off_at_start_is_doubted_whatever_the_windows() {
    let mut rig = Rig::new();
    rig.release(START + 2 * DAY);
    let (anchor, floor) = (Some(rig.edge.anchor()), rig.edge.floor_ms());
    assert_eq!(rig.edge.clock_doubt(floor + 30 * DAY), None, "a month's absence is nothing unusual");
    assert!(matches!(rig.edge.clock_doubt(floor - YEAR), Some(ClockDoubt::Behind { by_ms: YEAR })));
    let Rig { key, guest, stream, opening, edge } = rig;
    let opening = Opening { anchor, ..opening };
    let refused = Rig::over(edge.into_storage(), floor + YEAR, key, guest, stream, opening).map(|_| ()).unwrap_err();
    assert!(matches!(refused, EdgeError::Clock(ClockDoubt::Ahead { by_ms: YEAR, windows: 0 })), "{refused}");
    assert!(refused.to_string().starts_with("the clock is 365 days ahead of what the store has seen"), "{refused}");
}

/// An edge under load whose clock is set there and back: nothing is refused, and all is counted once.
#[test]
fn steps_of_an_hour_and_a_year_change_no_total_of_a_running_edge() {
    for step in [HOUR as i64, -(HOUR as i64), YEAR as i64, -(YEAR as i64)] {
        let mut rig = Rig::with(&hourly(), Bounds::default());
        let mut time = Timekeeper::new(START, START);
        let (mut batches, mut doubted) = (Vec::new(), 0);
        for minute in 0..10 * 60_u64 {
            let steady = START + minute * 60_000;
            // For two hours it is wrong, and once more for three.
            let wrong = if (60..180).contains(&minute) || (300..480).contains(&minute) { step } else { 0 };
            let now = time.now(steady.saturating_add_signed(wrong), steady);
            doubted += u32::from(time.doubt_ms().is_some());
            if minute < 8 * 60 {
                assert_eq!(rig.ingest(now, &[sent(minute, now / HOUR)]).unwrap(), [[Reason::Accepted]], "{minute}");
            }
            batches.extend(rig.release(now));
        }
        assert_eq!((counted(&batches), doubted), (480, 300), "{step}");
        assert!(batches.windows(2).all(|two| two[0].0.window + 1 == two[1].0.window), "one after the other");
    }
}

/// A store that is always the same, and an anchor that cannot be written once.
struct Shelf {
    store: MemoryStorage,
    anchor: Anchor,
    fails: bool,
}

impl Place for Shelf {
    type Store = MemoryStorage;

    fn store(&mut self, _: bool) -> Result<MemoryStorage, EdgeError> {
        Ok(self.store.clone())
    }

    fn anchor(&mut self) -> Result<Option<Anchor>, EdgeError> {
        Ok(Some(self.anchor))
    }

    fn put_anchor(&mut self, anchor: Anchor) -> Result<(), EdgeError> {
        if std::mem::take(&mut self.fails) {
            return Err(EdgeError::Anchor("fails".to_owned()));
        }
        self.anchor = anchor;
        Ok(())
    }
}

/// After a failure of the store any clock was once good enough.
#[test]
fn a_store_that_is_opened_again_doubts_the_clock_as_at_start() {
    let mut rig = Rig::with(&hourly(), Bounds::default());
    rig.ingest(START, &[sent(1, START / HOUR)]).unwrap();
    let Rig { mut guest, mut stream, opening, edge, .. } = rig;
    let anchor = edge.anchor();
    let shelf = Shelf { store: edge.into_storage(), anchor, fails: false };
    let mut keeper = Keeper::open(shelf, opening, START, &mut guest, &mut |b| stream.fill(b)).unwrap();
    keeper.place_mut().fails = true;
    let now = START + 2 * HOUR;
    assert_eq!(keeper.release(now, false, &mut guest, &mut |b| stream.fill(b)).len(), 1);
    assert!(keeper.edge().is_none());
    let outcome = keeper.reopen(now + YEAR, &mut guest, &mut |b| stream.fill(b));
    assert!(matches!(outcome, Some(Err(EdgeError::Clock(ClockDoubt::Ahead { .. })))), "{outcome:?}");
    let posted = [Posted { body: b"", network: None }];
    assert!(keeper.ingest(now, &posted, &mut guest, &mut |b| stream.fill(b)).is_err(), "it is still closed");
    let outcome = keeper.reopen(now + YEAR + 2_000, &mut guest, &mut |b| stream.fill(b));
    assert!(matches!(outcome, Some(Err(_))));
}
