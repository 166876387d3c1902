//! What one laptop can do to a count that a thousand honest devices make.
#![allow(clippy::unwrap_used)]

use gloaming_signal::Reason;
use gloaming_window::Bounds;

mod rig;
use rig::*;

const WINDOW: u64 = 20_781;
/// Posts of the liar, sixty contributions each; at the fifty a second that one address may make, these take forty
/// seconds. The test shows that all after them count nothing, so that an hour is no more.
const POSTS: u64 = 2_000;

/// Honest devices on four hundred networks, each with one contribution to cell 1, and a laptop that votes for cell 3
/// before, between and after them. Returns how many of its votes counted, in each third.
fn laptop(bounds: Bounds, network: Option<u64>) -> ([usize; 3], Vec<i64>) {
    let mut rig = Rig::with(&policy(1), bounds);
    let mut id = 1_000_000;
    let mut lie = |rig: &mut Rig, posts: u64| {
        let mut counted = 0;
        for _ in 0..posts {
            let vote = body(1, (id..id + 60).map(|id| one(id, 3, WINDOW)).collect());
            id += 60;
            let answer = rig.ingest_from(START, &[vote], network).unwrap();
            counted += answer[0].iter().filter(|reason| **reason == Reason::Accepted).count();
        }
        counted
    };
    let first = lie(&mut rig, POSTS / 4);
    for device in 0..1_000 {
        let vote = body(1, vec![one(device, 1, WINDOW)]);
        assert_eq!(rig.ingest_from(START, &[vote], Some(100 + device % 400)).unwrap(), [[Reason::Accepted]]);
    }
    let second = lie(&mut rig, POSTS / 4);
    let third = lie(&mut rig, POSTS / 2);
    let (batch, seed) = rig.release(START + 2 * DAY).remove(0);
    ([first, second, third], exact(&batch, &seed))
}

#[test]
fn one_laptop_shifts_a_thousand_devices_by_a_twentieth() {
    let (counted, cells) = laptop(Bounds::default(), Some(7));
    assert_eq!(counted[0], 20, "fewer than any k: a network alone releases nothing");
    assert_eq!(counted[2], 0, "whoever goes on gains nothing");
    let lies: usize = counted.iter().sum();
    assert_eq!(cells, [0, 1_000, 0, lies as i64, 0]);
    let shift = lies as f64 / (1_000 + lies) as f64;
    println!("one laptop, {} contributions: {lies} counted, {:.1} % of the metric", POSTS * 60, 100.0 * shift);
    assert!(shift <= 0.0501, "{shift}");

    let open = Bounds { network_floor: u64::MAX, ..Bounds::default() };
    let (counted, _) = laptop(open, Some(7));
    println!("without shares: {} counted", counted.iter().sum::<usize>());
    assert_eq!(counted.iter().sum::<usize>() as u64, POSTS * 60);
}

/// The contributions that are too many are named, and the sender's others count.
#[test]
fn a_crowded_network_is_told_so() {
    let mut rig = Rig::new();
    let vote = |ids: std::ops::Range<u64>, metric: u32| {
        let contributions = ids.map(|id| gloaming_signal::Contribution { metric, ..one(id, 0, WINDOW) }).collect();
        body(1, contributions)
    };
    let metric = one(0, 0, WINDOW).metric;
    let answers = rig.ingest_from(START, &[vote(0..30, metric), vote(30..60, metric + 1)], Some(7)).unwrap();
    let partly = [vec![Reason::Accepted; 20], vec![Reason::Crowded; 10]].concat();
    assert_eq!(answers, [partly.clone(), partly]);
    assert_eq!(rig.ingest_from(START, &[vote(20..21, metric)], Some(7)).unwrap(), [[Reason::Crowded]]);
    assert_eq!(rig.ingest_from(START, &[vote(20..21, metric)], Some(8)).unwrap(), [[Reason::Accepted]]);
    assert_eq!(
        rig.ingest_from(START, &[vote(0..1, metric)], Some(8)).unwrap(),
        [[Reason::Duplicate]],
        "not counted twice"
    );
}
