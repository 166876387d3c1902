//! A relay before a home edge: what it takes is counted there once, whatever fails in between.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use gloaming_policy::Policy;
use gloaming_policy::author::{Key, Signed};
use gloaming_signal::{Reason, Submission, cbor};
use gloaming_window::{
    Bounds, Delivered, EdgeError, Load, LoadPolicyError, MemoryRelayStore, Posted, Relay, RelayBounds, open_load,
};

mod rig;
use rig::*;

const WINDOW: u64 = 20_781;

/// A relay that knows the rig's edge.
fn relay(rig: &Rig, store: MemoryRelayStore, bounds: RelayBounds) -> Relay<MemoryRelayStore> {
    let homes = BTreeMap::from([("edge-1".to_owned(), rig.key.public())]);
    Relay::open(store, "edge-9", homes, &rig.opening.pins, bounds).unwrap()
}

fn serving(rig: &Rig, version: u32) -> Relay<MemoryRelayStore> {
    let mut relay = relay(rig, MemoryRelayStore::default(), RelayBounds::default());
    relay.load_policy(&signed(rig, &policy(version)), &rig.key.public(), START).unwrap();
    relay
}

fn signed(rig: &Rig, policy: &Policy) -> Vec<u8> {
    Signed::sign(policy, &[&rig.key]).to_bytes()
}

fn take(relay: &mut Relay<MemoryRelayStore>, stream: &mut Stream, now: u64, bodies: &[Vec<u8>]) -> Vec<Vec<Reason>> {
    let posted: Vec<_> = bodies.iter().map(|body| Posted { body, network: Some(7) }).collect();
    let answers = relay.take(now, &posted, &mut |bytes| stream.fill(bytes)).unwrap();
    let each = |answer: gloaming_window::Answer| if answer.each.is_empty() { vec![answer.whole] } else { answer.each };
    answers.into_iter().map(each).collect()
}

/// The home edge takes a load, as its HTTP side does.
fn arrive(rig: &mut Rig, now: u64, load: &Load) -> Vec<Vec<Reason>> {
    let parcels = open_load(std::slice::from_ref(&rig.key), &load.bytes).unwrap();
    let bodies: Vec<_> = parcels.into_iter().flat_map(|parcel| parcel.relayed).map(|relayed| relayed.body).collect();
    rig.ingest(now, &bodies).unwrap()
}

#[test]
fn what_is_relayed_is_counted_at_home_once() {
    let mut rig = Rig::new();
    let mut relay = serving(&rig, 1);
    let mut stream = Stream::default();
    let bodies: Vec<_> = (0..3).map(|i| body(1, (i * 20..i * 20 + 20).map(|i| one(i, 1, WINDOW)).collect())).collect();
    assert_eq!(take(&mut relay, &mut stream, START, &bodies[..2]), [[Reason::Relayed], [Reason::Relayed]]);
    assert_eq!(take(&mut relay, &mut stream, START, &bodies[1..]), [[Reason::Relayed], [Reason::Relayed]]);
    assert_eq!(relay.waiting(), 2);
    // A restart forgets nothing of it.
    let mut relay = self::relay(&rig, relay.into_store(), RelayBounds::default());
    assert_eq!(relay.sites().collect::<Vec<_>>(), ["blog.example"]);
    let load = relay.next("edge-1", START).unwrap().unwrap();
    assert_eq!(load.names.len(), 2, "what goes together goes together");
    let all = arrive(&mut rig, START, &load);
    assert_eq!(all.concat().iter().filter(|reason| **reason == Reason::Accepted).count(), 60);
    // The answer was lost.
    relay.after("edge-1", &load.names, Delivered::NotNow(None), START, 0).unwrap();
    let again = relay.next("edge-1", START).unwrap().unwrap();
    assert_eq!(again, load, "the same bytes");
    assert!(arrive(&mut rig, START, &again).concat().iter().all(|reason| *reason == Reason::Duplicate));
    relay.after("edge-1", &again.names, Delivered::Yes, START, 0).unwrap();
    assert_eq!((relay.waiting(), relay.next("edge-1", START).unwrap()), (0, None));
    assert_eq!(relay.store_mut().all_bytes().count(), 0);
    let (batch, seed) = rig.release(START + 2 * DAY).remove(0);
    assert_eq!(exact(&batch, &seed), [0, 60, 0, 0, 0]);
}

#[test]
fn a_relay_cannot_read_what_it_keeps() {
    let rig = Rig::new();
    let (mut relay, mut stream) = (serving(&rig, 1), Stream::default());
    let sent = body(1, (0..60).map(|i| one(i, 1, WINDOW)).collect());
    take(&mut relay, &mut stream, START, std::slice::from_ref(&sent));
    let load = relay.next("edge-1", START).unwrap().unwrap();
    for planted in sent.windows(12) {
        let found = |bytes: &[u8]| bytes.windows(12).any(|kept| kept == planted);
        assert!(!relay.store_mut().all_bytes().any(found) && !found(&load.bytes), "twelve bytes in the clear");
    }
    assert!(open_load(&[Key::from_seed(&[77; 32])], &load.bytes).is_none());
}

/// What cannot count is refused by the relay as far as it can tell without reading.
#[test]
fn a_relay_tells_what_it_does_not_serve() {
    let mut rig = Rig::new();
    let (mut relay, mut stream) = (serving(&rig, 2), Stream::default());
    let now = START + DAY;
    let sound = body(2, vec![one(1, 1, WINDOW)]);
    let mut elsewhere: Submission = cbor::from_slice(&sound).unwrap();
    elsewhere.site = "other.example".into();
    let bodies = [
        sound[1..].to_vec(),
        vec![0; 17_000],
        cbor::to_vec(&elsewhere),
        body(1, vec![one(1, 1, WINDOW)]),
        sound.clone(),
    ];
    let want = [Reason::Malformed, Reason::TooLarge, Reason::UnknownSite, Reason::UnknownPolicy, Reason::Relayed];
    assert_eq!(take(&mut relay, &mut stream, now, &bodies), want.map(|reason| vec![reason]));
    // The next version: the one before goes on being taken, the one before that is not.
    for version in [3, 4] {
        relay.load_policy(&signed(&rig, &policy(version)), &rig.key.public(), now).unwrap();
    }
    let answers = take(&mut relay, &mut stream, now, &[sound, body(3, vec![one(2, 1, WINDOW)])]);
    assert_eq!(answers, [[Reason::UnknownPolicy], [Reason::Relayed]]);
    let refused = relay.load_policy(&signed(&rig, &policy(3)), &rig.key.public(), now);
    assert!(matches!(refused, Err(LoadPolicyError::RolledBack { given: 3, in_force: 4 })), "{refused:?}");
    let strange = Policy { home_edges: vec!["edge-5".into()], ..policy(5) };
    let refused = relay.load_policy(&signed(&rig, &strange), &rig.key.public(), now);
    assert!(matches!(refused, Err(LoadPolicyError::NotHome(_))), "{refused:?}");
    let other = Policy { expires_day: 40_000, ..policy(4) };
    let refused = relay.load_policy(&signed(&rig, &other), &rig.key.public(), now);
    assert!(matches!(refused, Err(LoadPolicyError::SameVersion(4))), "{refused:?}");
    assert!(relay.forget("blog.example").unwrap() && !relay.forget("blog.example").unwrap());
    let gone = take(&mut relay, &mut stream, now, &[body(4, vec![one(2, 1, WINDOW)])]);
    assert_eq!(gone, [[Reason::UnknownSite]]);
    assert_eq!(relay.waiting(), 2, "what was taken is delivered all the same");
    // Whoever pins another key now serves nothing that the old one signed.
    let mut relay = serving(&rig, 1);
    rig.opening.pins.insert("blog.example".into(), Key::from_seed(&[8; 32]).public());
    relay = self::relay(&rig, relay.into_store(), RelayBounds::default());
    assert_eq!(relay.sites().count(), 0);
}

#[test]
fn a_check_is_answered_by_the_relay_as_at_home() {
    let mut rig = Rig::new();
    let (mut relay, mut stream) = (serving(&rig, 1), Stream::default());
    let contributions = vec![one(1, 1, WINDOW), one(2, 99, WINDOW), one(3, 1, WINDOW + 1), one(4, 1, WINDOW - 9)];
    let mut submission: Submission = cbor::from_slice(&body(1, contributions)).unwrap();
    submission.check = true;
    let check = cbor::to_vec(&submission);
    let here = take(&mut relay, &mut stream, START, std::slice::from_ref(&check));
    assert_eq!(here, rig.ingest(START, &[check]).unwrap());
    assert_eq!(here[0][..2], [Reason::Checked, Reason::UnknownCell]);
    assert_eq!(relay.waiting(), 0);
}

#[test]
fn what_waits_is_bounded_and_what_is_too_old_is_said_to_be_lost() {
    let rig = Rig::new();
    let mut stream = Stream::default();
    let sent = |i: u64| body(1, (i * 60..i * 60 + 60).map(|i| one(i, 1, WINDOW)).collect());
    let mut relay = relay(&rig, MemoryRelayStore::default(), RelayBounds { bytes: 2_000, ..RelayBounds::default() });
    relay.load_policy(&signed(&rig, &policy(1)), &rig.key.public(), START).unwrap();
    let answers = take(&mut relay, &mut stream, START, &[sent(0), sent(1), sent(2)]);
    assert_eq!(answers, [[Reason::Relayed], [Reason::Busy], [Reason::Busy]]);
    assert_eq!(take(&mut relay, &mut stream, START, &[sent(1)]), [[Reason::Busy]]);
    assert_eq!(relay.next("edge-1", START + 9 * DAY).unwrap(), None);
    assert_eq!((relay.tally().lost, relay.waiting()), (1, 0));
    assert_eq!(take(&mut relay, &mut stream, START, &[sent(1)]), [[Reason::Relayed]]);
    assert_eq!(relay.tally().reasons[&Reason::Busy], 3);
}

/// A machine whose clock is a year ahead when it starts: what waited was once thrown away at the first look.
#[test]
fn a_relay_whose_clock_is_wrong_at_start_offers_what_it_has() {
    let rig = Rig::new();
    let mut stream = Stream::default();
    let mut before = serving(&rig, 1);
    let sent = body(1, (0..60).map(|i| one(i, 1, WINDOW)).collect());
    assert_eq!(take(&mut before, &mut stream, START, &[sent])[0][0], Reason::Relayed);
    let mut relay = relay(&rig, before.into_store(), RelayBounds::default());
    let year = START + 365 * DAY;
    relay.expire(year).unwrap();
    let load = relay.next("edge-1", year + 1_000).unwrap().unwrap();
    relay.after("edge-1", &load.names, Delivered::NotNow(None), year + 1_000, 0).unwrap();
    assert_eq!((relay.tally().lost, relay.waiting()), (0, 1));
    // Nobody takes it for an hour: then it is as old as it seems.
    assert_eq!(relay.next("edge-1", year + 3_600_000).unwrap(), None);
    assert_eq!((relay.tally().lost, relay.waiting()), (1, 0));
}

/// A load of several parcels is refused: each is tried alone, the culprit is put aside, and the rest arrives.
#[test]
fn one_parcel_that_is_refused_keeps_no_other_waiting() {
    let rig = Rig::new();
    let (mut relay, mut stream) = (serving(&rig, 1), Stream::default());
    for i in 0..4 {
        take(&mut relay, &mut stream, START, &[body(1, vec![one(i, 1, WINDOW)])]);
    }
    let mut arrived = Vec::new();
    for _ in 0..20 {
        let Some(Load { names, .. }) = relay.next("edge-1", START).unwrap() else { break };
        let bad = names.iter().any(|name| name.seq == 1);
        if !bad {
            arrived.extend(names.iter().map(|name| name.seq));
        }
        let outcome = if bad { Delivered::Refused } else { Delivered::Yes };
        relay.after("edge-1", &names, outcome, START, u64::MAX - 1).unwrap();
    }
    assert_eq!((arrived, relay.waiting()), (vec![0, 2, 3], 1));
}

/// A crowd at two relays, stores that fail, answers that get lost, restarts: what was acknowledged is counted once, and
/// what was not, at most once.
#[test]
fn whatever_fails_on_the_way_each_contribution_counts_once() {
    for seed in 0..60_u64 {
        let mut dice = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut roll = move |sides: u64| {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            dice % sides
        };
        let mut rig = Rig::with(&policy(1), Bounds { network_floor: u64::MAX, ..Bounds::default() });
        let mut stream = Stream::default();
        let mut relays = [serving(&rig, 1), serving(&rig, 1)];
        let (mut taken, mut sent, mut now) = (BTreeSet::<u64>::new(), BTreeSet::<u64>::new(), START);
        for step in 0..120 {
            now += roll(20_000);
            let relay = &mut relays[roll(2) as usize];
            if roll(3) == 0 {
                relay.store_mut().fail_after = Some(roll(3) as u32);
            }
            // New people, or one who comes again as no answer came.
            let first = if roll(4) == 0 { roll(step + 1) } else { step } * 10;
            let ids: Vec<u64> = (first..first + 1 + roll(9)).collect();
            let posted = body(1, ids.iter().map(|id| one(*id, 1, WINDOW)).collect());
            sent.extend(&ids);
            let posted = [Posted { body: &posted, network: None }];
            match relay.take(now, &posted, &mut |bytes| stream.fill(bytes)) {
                Ok(answers) => {
                    assert_eq!(answers[0].each, [Reason::Relayed]);
                    taken.extend(&ids);
                }
                Err(error) => assert!(matches!(error, EdgeError::Storage(_)), "{error}"),
            }
            if let Ok(Some(load)) = relay.next("edge-1", now) {
                let outcome = match roll(4) {
                    0 => Delivered::NotNow(None),
                    1 => {
                        arrive(&mut rig, now, &load);
                        Delivered::NotNow(None)
                    }
                    _ => {
                        arrive(&mut rig, now, &load);
                        Delivered::Yes
                    }
                };
                let _ = relay.after("edge-1", &load.names, outcome, now, roll(u64::MAX));
            }
            if relay.store_mut().fail_after == Some(0) || roll(10) == 0 {
                let old = std::mem::replace(relay, serving(&rig, 1));
                let mut store = old.into_store();
                store.fail_after = None;
                *relay = self::relay(&rig, store, RelayBounds::default());
            }
        }
        for relay in &mut relays {
            relay.store_mut().fail_after = None;
            let later = now + 3_600_000;
            while let Some(load) = relay.next("edge-1", later).unwrap() {
                arrive(&mut rig, now, &load);
                relay.after("edge-1", &load.names, Delivered::Yes, later, 0).unwrap();
            }
            assert_eq!(relay.waiting(), 0);
        }
        let (batch, key) = rig.release(START + 2 * DAY).remove(0);
        let counted = exact(&batch, &key)[1] as usize;
        assert!((taken.len()..=sent.len()).contains(&counted), "seed {seed}: {} {counted}", taken.len());
    }
}
