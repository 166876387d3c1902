//! The edge's core when things go wrong: a full window, a lying component, an old store, a wrong clock.
#![allow(clippy::unwrap_used)]

use gloaming_policy::Policy;
use gloaming_policy::author::{Key, Signed, compile, template};
use gloaming_privacy::Rho;
use gloaming_signal::Reason;
use gloaming_window::{Anchor, Bounds, ClockDoubt, EdgeError, LoadPolicyError, MemoryStorage, Opening};

mod rig;
use rig::*;

const HOUR: u64 = 3_600_000;

/// The blog's policy with one metric counted by the hour.
fn hourly(version: u32) -> Policy {
    let text = template("blog", "blog.example", "https://blog.example", "2027-03-01").unwrap();
    let text = text.replacen("window = \"day\"", "window = \"hour\"", 1);
    let mut policy = compile(&text, 20_781, &|_| Err("none".into())).unwrap();
    policy.version = version;
    policy
}

/// A submission of one contribution to that metric.
fn an_hourly(version: u32, id: u64, window: u64) -> Vec<u8> {
    let policy = hourly(version);
    let metric = policy.metrics.iter().find(|m| m.span_ms == HOUR).unwrap().id;
    gloaming_signal::cbor::to_vec(&gloaming_signal::Submission {
        site: policy.site.clone(),
        policy_version: version,
        policy_hash: policy.hash(),
        check: false,
        contributions: vec![gloaming_signal::Contribution { metric, ..one(id, 0, window) }],
    })
}

#[test]
fn a_full_window_asks_to_come_again_and_forgets_nothing() {
    let mut rig = Rig::with(&policy(1), Bounds { window_ids: 60, ..Bounds::default() });
    let first = body(1, (0..50).map(|i| one(i, 1, 20_781)).collect());
    let more = body(1, (50..70).map(|i| one(i, 1, 20_781)).collect());
    let fits = body(1, (50..60).map(|i| one(i, 2, 20_781)).collect());
    let answers = rig.ingest(START, &[first.clone(), more.clone(), fits]).unwrap();
    // What fits is taken; the third body is of ids that the second brought, and of cells it did not.
    let partly = [vec![Reason::Accepted; 10], vec![Reason::Busy; 10]].concat();
    assert_eq!(answers, [vec![Reason::Accepted; 50], partly, vec![Reason::Duplicate; 10]]);
    let answers = rig.ingest(START, &[first, body(1, (60..70).map(|i| one(i, 1, 20_781)).collect())]).unwrap();
    assert_eq!(answers, [vec![Reason::Duplicate; 50], vec![Reason::Busy]], "nothing of it fits: as a whole, then");
    let tomorrow = body(1, vec![one(99, 1, 20_782)]);
    assert_eq!(rig.ingest(START + DAY, &[tomorrow]).unwrap(), [[Reason::Accepted]], "another window has room");
    let (batch, seed) = rig.release(START + 2 * DAY).remove(0);
    assert_eq!(exact(&batch, &seed), [0, 60, 0, 0, 0]);
}

/// The first of two contributions with one id was refused; the second was once called a duplicate of it and
/// thrown away with an acknowledgement.
#[test]
fn a_duplicate_is_of_something_that_was_counted() {
    let mut rig = Rig::new();
    let beyond = body(1, vec![one(1, 99, 20_781)]);
    let sound = body(1, vec![one(1, 1, 20_781)]);
    let answers = rig.ingest(START, &[beyond, sound.clone(), sound.clone()]).unwrap();
    assert_eq!(answers, [[Reason::UnknownCell], [Reason::Accepted], [Reason::Duplicate]]);
    assert_eq!(rig.ingest(START, &[sound.clone(), sound]).unwrap(), [[Reason::Duplicate], [Reason::Duplicate]]);
}

#[test]
fn all_windows_together_are_bounded_and_a_release_makes_room() {
    let mut rig = Rig::with(&policy(1), Bounds { ids: 60, ..Bounds::default() });
    let today = body(1, (0..60).map(|i| one(i, 1, 20_781)).collect());
    let tomorrow = body(1, vec![one(99, 1, 20_782)]);
    rig.ingest(START, &[today]).unwrap();
    let mut rig = rig.restart();
    assert_eq!(rig.ingest(START + DAY, std::slice::from_ref(&tomorrow)).unwrap(), [[Reason::Busy]]);
    assert_eq!(rig.release(START + 2 * DAY - HOUR).len(), 1);
    assert_eq!(rig.ingest(START + 2 * DAY - HOUR, &[tomorrow]).unwrap(), [[Reason::Accepted]]);
}

#[test]
fn one_failing_release_keeps_no_other_window_waiting() {
    let mut rig = Rig::with(&hourly(1), Bounds::default());
    rig.guest.wrong = Wrong::TrapOnRelease(DAY);
    let now = START + 2 * DAY;
    let (mut failures, mut released) = (0, 0);
    loop {
        match rig.release_one(now) {
            Ok(true) => released += 1,
            Ok(false) => break,
            Err(error) => {
                assert!(matches!(error, EdgeError::Guest(_)), "{error}");
                failures += 1;
            }
        }
    }
    assert_eq!(failures, 1, "tried again later, not at once");
    assert_eq!(released, 47, "every hour from the policy's first to the last that is over with its grace");
    rig.guest.wrong = Wrong::No;
    assert!(rig.release_one(now + 60_001).unwrap());
}

#[test]
fn a_component_that_lies_about_what_it_counted_is_not_believed() {
    for wrong in [Wrong::Accept, Wrong::Hide, Wrong::Add, Wrong::Move] {
        let mut rig = Rig::new();
        let posted = body(1, (0..60).map(|i| one(i, 1, 20_781)).collect());
        rig.ingest(START, &[posted]).unwrap();
        rig.guest.wrong = wrong;
        let cell = if wrong == Wrong::Accept { 99 } else { 1 };
        let more = body(1, vec![one(99, cell, 20_781)]);
        assert_eq!(rig.ingest(START, &[more]).unwrap(), [[Reason::Busy]], "{wrong:?}");
        assert_eq!(rig.edge.tally().guest_untrue, 1);
        rig.guest.wrong = Wrong::No;
        let (batch, seed) = rig.release(START + 2 * DAY).remove(0);
        assert_eq!(exact(&batch, &seed), [0, 60, 0, 0, 0], "{wrong:?}");
    }
}

/// What failed is the host's to say: a component that says so is asked again, for each sender alone.
#[test]
fn a_component_that_says_it_failed_puts_nobody_in_quarantine() {
    let mut rig = Rig::new();
    rig.guest.wrong = Wrong::FailOnThirteen;
    let eight = |from: u64| body(1, (from..from + 8).map(|i| one(i, 1, 20_781)).collect());
    let answers = rig.ingest(START, &[eight(0), eight(8)]).unwrap();
    assert_eq!(answers, vec![vec![Reason::Accepted; 8]; 2]);
    assert_eq!((rig.edge.tally().guest_failures, rig.edge.quarantined().len()), (1, 0));
}

#[test]
fn a_component_that_noises_as_it_likes_releases_nothing() {
    for (wrong, count) in [(Wrong::Less, 60), (Wrong::Show, 3)] {
        let mut rig = Rig::new();
        rig.ingest(START, &[body(1, (0..count).map(|i| one(i, 1, 20_781)).collect())]).unwrap();
        rig.guest.wrong = wrong;
        let refused = rig.release_one(START + 2 * DAY);
        assert!(matches!(refused, Err(EdgeError::Untrue(_))), "{wrong:?}: {refused:?}");
        assert_eq!(rig.edge.undelivered(), 0);
    }
}

/// A copy of a store from before a release, under the anchor from after it.
fn restored(now: u64) -> (Rig, Rig, Anchor) {
    let mut rig = Rig::new();
    rig.ingest(START, &[body(1, (0..60).map(|i| one(i, 1, 20_781)).collect())]).unwrap();
    let copy = rig.edge.storage_mut().clone();
    assert_eq!(rig.release(START + 2 * DAY).len(), 1);
    let anchor = rig.edge.anchor();
    let opening = Opening { anchor: Some(anchor), ..rig.opening.clone() };
    let old = Rig::over(copy, now, rig.key.clone(), Native::default(), rig.stream.clone(), opening).unwrap();
    (rig, old, anchor)
}

#[test]
fn an_old_copy_of_the_store_never_noises_a_window_again() {
    let now = START + 2 * DAY;
    let (rig, mut old, before) = restored(now);
    assert!(old.edge.was_restored() && !rig.edge.was_restored());
    assert_ne!(old.edge.anchor().epoch, before.epoch, "a new epoch");
    assert_eq!(old.edge.anchor().releases, 0);
    let state = old.edge.storage_mut().snapshot().unwrap();
    assert!(state.keys.is_empty() && state.chunks.is_empty(), "what it held open is gone");
    // Neither the windows released before nor the one that has begun: whole ones from now on.
    let today = now / DAY;
    for window in [20_781, today - 1, today] {
        assert_eq!(old.ingest(now, &[body(1, vec![one(7, 1, window)])]).unwrap(), [[Reason::ClosedWindow]]);
    }
    assert_eq!(old.ingest(now + DAY, &[body(1, vec![one(7, 1, today + 1)])]).unwrap(), [[Reason::Accepted]]);
    let next: Vec<_> = old.release(now + 3 * DAY).iter().map(|(b, _)| (b.epoch, b.seq, b.window)).collect();
    assert_eq!(next, [(old.edge.anchor().epoch, 0, today + 1)]);
    assert!(!old.restart_at(now + 3 * DAY).edge.was_restored(), "its own anchor fits");
}

#[test]
fn a_store_and_an_anchor_that_do_not_belong_together_are_not_opened_unasked() {
    let rig = Rig::new();
    let anchor = rig.edge.anchor();
    let Rig { key, guest, stream, opening, edge } = rig;
    let storage = edge.into_storage();
    let again = |storage: MemoryStorage, opening: Opening| {
        Rig::over(storage, START, key.clone(), Native::default(), stream.clone(), opening)
            .map(|rig| rig.edge.was_restored())
    };
    let _ = guest;
    assert!(matches!(again(storage.clone(), opening.clone()), Err(EdgeError::NoAnchor)));
    assert!(again(storage.clone(), Opening { restored: true, ..opening.clone() }).unwrap());
    let other = Anchor { epoch: 1, releases: 9, released_ms: START };
    let lost = Opening { anchor: Some(other), ..opening.clone() };
    assert!(matches!(again(MemoryStorage::default(), lost), Err(EdgeError::NoStore)));
    // While it runs the store must stay the same one.
    let same = Opening { anchor: Some(anchor), epoch: Some(anchor.epoch), ..opening.clone() };
    assert!(!again(storage, same.clone()).unwrap());
    assert!(matches!(again(MemoryStorage::default(), same), Err(EdgeError::OtherStore)));
}

/// Monday's backup, brought back on Friday by a machine whose clock says Tuesday: what left until Thursday was
/// once released again.
#[test]
fn an_old_copy_does_not_believe_a_clock_that_the_anchor_contradicts() {
    let mut rig = Rig::new();
    let copy = rig.edge.storage_mut().clone();
    rig.release(START + 4 * DAY);
    let opening = Opening { anchor: Some(rig.edge.anchor()), ..rig.opening.clone() };
    let tuesday = START + DAY;
    let open =
        |opening| Rig::over(copy.clone(), tuesday, rig.key.clone(), Native::default(), rig.stream.clone(), opening);
    let refused = open(opening.clone()).map(|_| ());
    assert!(matches!(refused, Err(EdgeError::Clock(ClockDoubt::Behind { by_ms })) if by_ms == 3 * DAY));
    let mut old = open(Opening { accept_clock: true, ..opening }).unwrap();
    assert!(old.edge.was_restored());
    let first = old.release(START + 9 * DAY).first().map(|(batch, _)| batch.window);
    assert_eq!(first, Some((START + 4 * DAY) / DAY + 1), "nothing that the anchor has seen");
}

#[test]
fn a_clock_that_was_far_ahead_at_the_first_start_is_doubted_at_the_next() {
    let mut rig = Rig::new();
    rig.load(2, START + 60 * DAY).unwrap();
    let anchor = Some(rig.edge.anchor());
    let Rig { key, guest, stream, opening, edge } = rig;
    let refused = Rig::over(edge.into_storage(), START, key, guest, stream, Opening { anchor, ..opening }).map(|_| ());
    assert!(matches!(refused, Err(EdgeError::Clock(ClockDoubt::Behind { .. }))), "{refused:?}");
}

/// Three versions within a week whose window is a week: the first one's contributions were once thrown away.
#[test]
fn a_version_stays_until_its_windows_are_released() {
    let weekly = |version: u32| {
        let mut policy = policy(version);
        policy.metrics.iter_mut().for_each(|metric| metric.span_ms = 7 * DAY);
        policy
    };
    let sent = |version: u32, id: u64| {
        let policy = weekly(version);
        let contributions = vec![one(id, 1, START / (7 * DAY))];
        gloaming_signal::cbor::to_vec(&gloaming_signal::Submission {
            site: policy.site.clone(),
            policy_version: version,
            policy_hash: policy.hash(),
            check: false,
            contributions,
        })
    };
    let mut rig = Rig::with(&weekly(1), Bounds::default());
    assert_eq!(rig.ingest(START, &[sent(1, 1)]).unwrap(), [[Reason::Accepted]]);
    for version in 2..=4 {
        rig.put(&weekly(version), START + u64::from(version)).unwrap();
    }
    let now = START + 10;
    assert_eq!(rig.ingest(now, &[sent(1, 2)]).unwrap(), [[Reason::UnknownPolicy]], "two versions take contributions");
    assert_eq!(rig.ingest(now, &[sent(3, 3)]).unwrap(), [[Reason::Accepted]]);
    let mut rig = rig.restart();
    let versions: Vec<u32> = rig.release(START + 8 * DAY).iter().map(|(batch, _)| batch.policy_version).collect();
    assert_eq!(versions, [1, 2, 3, 4]);
    rig.put(&weekly(5), START + 8 * DAY).unwrap();
    assert_eq!(rig.edge.storage_mut().snapshot().unwrap().policies.len(), 2, "and then it goes");
    for version in 6..=19 {
        rig.put(&weekly(version), START + 8 * DAY).unwrap();
    }
    let refused = rig.put(&weekly(20), START + 8 * DAY);
    assert!(matches!(refused, Err(LoadPolicyError::TooMany(4))), "{refused:?}");
}

/// An hour's window was counted in by a clock that was an hour ahead; the clock was mended; a new version came.
/// The old version's last window then lay before the one that held something. Found by the simulation, seed 388.
#[test]
fn a_window_that_holds_something_is_released_whatever_the_clock_says_later() {
    let mut rig = Rig::with(&hourly(1), Bounds::default());
    let ahead = START + HOUR;
    assert_eq!(rig.ingest(ahead, &[an_hourly(1, 1, ahead / HOUR)]).unwrap(), [[Reason::Accepted]]);
    let mut rig = rig.restart_at(ahead - 2 * 60_000);
    rig.put(&hourly(2), ahead - 2 * 60_000).unwrap();
    let first: Vec<_> = rig.release(ahead + 3 * HOUR).iter().map(|(b, _)| (b.policy_version, b.window)).collect();
    assert!(first.contains(&(1, ahead / HOUR)), "{first:?}");
}

/// The owner's key is changed as the operators' page says: a version signed by both, then the pin.
#[test]
fn a_changed_pin_leaves_an_earlier_version_its_windows() {
    let mut rig = Rig::new();
    rig.ingest(START, &[body(1, (0..60).map(|i| one(i, 1, 20_781)).collect())]).unwrap();
    let next = Key::from_seed(&[9; 32]);
    let both = Signed::sign(&policy(2), &[&rig.key, &next]).to_bytes();
    rig.edge.load_policy(&both, &rig.key.public(), START, &mut rig.guest).unwrap();
    let pins = std::collections::BTreeMap::from([("blog.example".to_owned(), next.public())]);
    let rig = Rig { opening: Opening { pins, ..rig.opening.clone() }, ..rig };
    let mut rig = rig.restart();
    assert_eq!(rig.edge.aside().count(), 0);
    let versions: Vec<u32> = rig.release(START + 2 * DAY).iter().map(|(batch, _)| batch.policy_version).collect();
    assert_eq!(versions, [1, 2]);
}

#[test]
fn a_site_whose_key_is_not_pinned_any_more_is_set_aside_and_comes_back() {
    let rig = Rig::new();
    let (anchor, pins) = (Some(rig.edge.anchor()), rig.opening.pins.clone());
    let Rig { key, guest, stream, opening, edge } = rig;
    let without = Opening { anchor, pins: std::collections::BTreeMap::new(), ..opening };
    let rig = Rig::over(edge.into_storage(), START, key, guest, stream, without).unwrap();
    assert_eq!(rig.edge.aside().collect::<Vec<_>>(), ["blog.example"]);
    let mut rig = Rig { opening: Opening { pins, ..rig.opening.clone() }, ..rig };
    assert!(rig.release(START + 3 * DAY).is_empty(), "its windows wait");
    let mut rig = rig.restart();
    assert_eq!(rig.release(START + 3 * DAY).len(), 2);
}

#[test]
fn a_site_that_leaves_takes_nothing_and_ends_its_windows() {
    let mut rig = Rig::new();
    let site = "blog.example";
    let sent = |from: u8, window| body(1, (from..from + 60).map(|id| one(id.into(), 1, window)).collect());
    rig.ingest(START, &[sent(0, 20_781)]).unwrap();
    assert!(rig.edge.leave(site, START + 1).unwrap());
    assert!(!rig.edge.leave(site, START + 2).unwrap());
    assert_eq!(rig.ingest(START + 2, &[sent(60, 20_781)]).unwrap(), [[Reason::UnknownSite]]);
    assert_eq!(rig.edge.sites().count(), 0);
    // It comes back within the window, and nothing is lost of it.
    rig.load(1, START + 3).unwrap();
    assert_eq!(rig.ingest(START + 4, &[sent(60, 20_781)]).unwrap(), [vec![Reason::Accepted; 60]]);
    assert!(rig.edge.leave(site, START + 5).unwrap());

    // No pin is needed for what only ends, nor does it matter that nobody comes by for a while.
    let anchor = Some(rig.edge.anchor());
    let Rig { key, guest, stream, opening, edge } = rig;
    let pins = opening.pins.clone();
    let without = Opening { anchor, pins: std::collections::BTreeMap::new(), ..opening };
    let mut rig = Rig::over(edge.into_storage(), START + 6, key, guest, stream, without).unwrap();
    assert_eq!(rig.edge.aside().count(), 0);
    let batches = rig.release(START + 9 * DAY);
    assert_eq!(batches.iter().map(|(batch, _)| batch.window).collect::<Vec<_>>(), [20_781]);
    assert_eq!(exact(&batches[0].0, &batches[0].1), [0, 120, 0, 0, 0]);
    assert!(rig.edge.policy(site).is_none());
    assert!(rig.guest.kept.is_empty(), "nor has the component anything of it");
    let state = rig.edge.storage_mut().snapshot().unwrap();
    assert!(state.policies.is_empty() && state.cursors.is_empty() && state.keys.is_empty() && state.left.is_empty());
    assert!(state.ledgers.contains_key(site) && state.next_seq.contains_key(site), "what it cost is remembered");
    rig.opening.pins = pins;
    rig.load(1, START + 9 * DAY).unwrap();
    assert_eq!(rig.ingest(START + 9 * DAY, &[sent(0, 20_790)]).unwrap(), [vec![Reason::Accepted; 60]]);
}

/// The owner's key may be another by the time a site comes back; what is kept of it is then signed by that one.
#[test]
fn a_site_comes_back_under_the_key_that_is_pinned_then() {
    let site = "blog.example";
    let mut rig = Rig::new();
    assert!(rig.edge.leave(site, START + 1).unwrap());
    let next = Key::from_seed(&[9; 32]);
    let by_next = Signed::sign(&policy(1), &[&next]).to_bytes();
    rig.edge.load_policy(&by_next, &next.public(), START + 2, &mut rig.guest).unwrap();
    rig.opening.pins.insert(site.to_owned(), next.public());
    let mut rig = rig.restart();
    assert_eq!((rig.edge.aside().count(), rig.edge.sites().collect::<Vec<_>>()), (0, vec![site]));
    let state = rig.edge.storage_mut().snapshot().unwrap();
    assert_eq!((state.left.len(), state.policies.len()), (0, 1));
    assert_eq!(state.policies.values().next().unwrap().since_ms, START, "in force since it came first");
}

/// It is not half back: neither for a version that is refused, nor where there is no room for it any more.
#[test]
fn a_site_whose_return_is_refused_stays_away() {
    let mut rig = Rig::with(&policy(1), Bounds { sites: 1, policies: 2, ..Bounds::default() });
    let site = "blog.example";
    assert!(rig.edge.leave(site, START + 1).unwrap());
    let other = Policy { site: "other.example".to_owned(), ..policy(1) };
    rig.put(&other, START + 2).unwrap();
    let full = rig.load(1, START + 3);
    assert!(matches!(full, Err(LoadPolicyError::Edge(EdgeError::Full("sites")))), "{full:?}");
    assert!(rig.edge.leave("other.example", START + 4).unwrap());
    let full = rig.load(2, START + 5);
    assert!(matches!(full, Err(LoadPolicyError::Edge(EdgeError::Full("policies")))), "{full:?}");
    assert_eq!(rig.edge.sites().count(), 0);
    assert_eq!(rig.edge.storage_mut().snapshot().unwrap().left.len(), 2);
    rig.load(1, START + 6).unwrap();
    assert_eq!(rig.edge.sites().collect::<Vec<_>>(), [site]);
}

#[test]
fn an_expired_policy_takes_nothing_and_still_closes_its_windows() {
    let mut policy = policy(1);
    policy.expires_day = 20_782;
    let mut rig = Rig::with(&policy, Bounds::default());
    let sent = |window| {
        let submission = gloaming_signal::Submission {
            site: policy.site.clone(),
            policy_version: 1,
            policy_hash: policy.hash(),
            check: false,
            contributions: vec![one(window, 1, window)],
        };
        gloaming_signal::cbor::to_vec(&submission)
    };
    assert_eq!(rig.ingest(START, &[sent(20_781)]).unwrap(), [[Reason::Accepted]]);
    assert_eq!(rig.ingest(START + DAY, &[sent(20_782)]).unwrap(), [[Reason::Expired]]);
    assert_eq!(rig.release(START + 2 * DAY).len(), 1);
    let rig = rig.restart();
    assert!(rig.edge.policy("blog.example").is_some(), "a restart is not stopped by it");
}

#[test]
fn windows_that_are_skipped_leave_nothing_in_the_store() {
    let mut rig = Rig::with(&hourly(1), Bounds { catch_up: 10, ..Bounds::default() });
    let hour = START / HOUR;
    assert_eq!(rig.ingest(START, &[an_hourly(1, hour, hour)]).unwrap(), [[Reason::Accepted]]);
    assert_eq!(rig.edge.storage_mut().snapshot().unwrap().keys.len(), 1);
    let now = START + 20 * HOUR;
    assert_eq!(rig.edge.clock_doubt(now), Some(ClockDoubt::Ahead { by_ms: 20 * HOUR, windows: 9 }));
    let released: Vec<u64> =
        rig.release(now).iter().filter(|(b, _)| b.span_ms == HOUR).map(|(b, _)| b.window).collect();
    assert_eq!(released, std::iter::once(hour).chain(hour + 10..hour + 19).collect::<Vec<_>>());
    assert_eq!(rig.edge.tally().skipped_windows, 9);
    assert!(rig.edge.storage_mut().snapshot().unwrap().keys.is_empty());
    assert_eq!(rig.edge.clock_doubt(now), None);
}

#[test]
fn a_clock_behind_the_last_release_is_doubted_and_edge_time_stays() {
    let mut rig = Rig::new();
    rig.release(START + 2 * DAY);
    let mut rig = rig.restart_at(START + 2 * DAY);
    assert_eq!(rig.edge.clock_doubt(START), Some(ClockDoubt::Behind { by_ms: 2 * DAY }));
    assert_eq!(rig.edge.clock_doubt(START + 2 * DAY - 60_000), None, "clocks are set by a minute now and then");
    assert_eq!(rig.edge.floor_ms(), START + 2 * DAY);
    let today = (START + 2 * DAY) / DAY;
    assert_eq!(rig.ingest(START, &[body(1, vec![one(1, 1, today)])]).unwrap(), [[Reason::Accepted]]);
}

#[test]
fn what_a_day_has_cost_is_remembered_while_one_of_its_windows_is_unreleased() {
    let mut rig = Rig::with(&hourly(1), Bounds { catch_up: 1_000, ..Bounds::default() });
    rig.guest.wrong = Wrong::TrapOnRelease(DAY);
    let (day, now) = (START / DAY, START + 30 * DAY);
    let spent = |rig: &mut Rig| rig.edge.storage_mut().snapshot().unwrap().ledgers["blog.example"].spent(day);
    while !matches!(rig.release_one(now), Ok(false)) {}
    let hours = spent(&mut rig);
    assert!(hours > Rho::default(), "all its hours are released, the day itself is not");
    rig.guest.wrong = Wrong::No;
    assert!(rig.release_one(now + 120_000).unwrap());
    assert!(spent(&mut rig) > hours);
    while rig.release_one(now + 120_000).unwrap() {}
    assert_eq!(spent(&mut rig), Rho::default(), "and then it is forgotten");
}
