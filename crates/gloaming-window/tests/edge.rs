//! The edge's core over memory and the component's functions natively: when all goes as it should.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use gloaming_policy::author::{Key, Signed};
use gloaming_policy::gate::{Action, Record};
use gloaming_policy::{Model, ModelState};
use gloaming_signal::{Reason, ReleaseState, Submission, cbor, limits};
use gloaming_window::{Delivered, EdgeError, LoadPolicyError, Opening, WrappingKey};
use proptest::prelude::*;

mod rig;
use rig::*;

#[test]
fn a_retry_counts_once_even_over_a_restart() {
    let mut rig = Rig::new();
    let first = body(1, (0..60).map(|i| one(i, 1, 20_781)).collect());
    assert_eq!(rig.ingest(START, std::slice::from_ref(&first)).unwrap()[0], vec![Reason::Accepted; 60]);
    let mut rig = rig.restart();
    let again = rig
        .ingest(START, &[first.clone(), body(1, vec![one(99, 2, 20_781)]), body(1, vec![one(99, 2, 20_781)])])
        .unwrap();
    assert_eq!(again, [vec![Reason::Duplicate; 60], vec![Reason::Accepted], vec![Reason::Duplicate]]);
    let batches = rig.release(START + 2 * DAY);
    assert_eq!(batches.len(), 1, "tomorrow's window is open still");
    assert_eq!(exact(&batches[0].0, &batches[0].1), [0, 60, 1, 0, 0]);
}

#[test]
fn a_window_is_released_whether_or_not_anybody_came() {
    let mut rig = Rig::new();
    let batches = rig.release(START + 3 * DAY);
    assert_eq!(batches.iter().map(|(b, _)| (b.seq, b.window)).collect::<Vec<_>>(), [(0, 20_781), (1, 20_782)]);
    for (batch, _) in &batches {
        assert!(batch.releases.iter().all(|r| r.state == ReleaseState::BelowK && r.values.is_empty()));
        assert_eq!(batch.releases.len(), 5);
    }
    assert!(rig.release(START + 3 * DAY).is_empty());
}

#[test]
fn after_its_release_a_window_stays_closed_whatever_the_clock_says() {
    let mut rig = Rig::new();
    rig.release(START + 2 * DAY);
    let late = body(1, vec![one(1, 1, 20_781)]);
    assert_eq!(rig.ingest(START, std::slice::from_ref(&late)).unwrap(), [[Reason::ClosedWindow]]);
    let mut rig = rig.restart();
    assert_eq!(rig.ingest(START, &[late]).unwrap(), [[Reason::ClosedWindow]]);
}

#[test]
fn when_the_store_fails_nothing_is_acknowledged_and_nothing_is_counted() {
    let mut rig = Rig::new();
    let posted = [0, 60].map(|n| body(1, (n..n + 60).map(|i| one(i, 1, 20_781)).collect()));
    rig.edge.storage_mut().fail_next = true;
    assert!(matches!(rig.ingest(START, &posted), Err(EdgeError::Storage(_))));
    assert_eq!(rig.ingest(START, &posted).unwrap()[1], vec![Reason::Accepted; 60]);
    rig.edge.storage_mut().fail_next = true;
    assert!(rig.release_one(START + 2 * DAY).is_err());
    let batches = rig.release(START + 2 * DAY);
    assert_eq!((batches.len(), batches[0].0.seq), (1, 0));
    assert_eq!(exact(&batches[0].0, &batches[0].1), [0, 120, 0, 0, 0]);
}

#[test]
fn only_the_submission_that_traps_the_guest_pays() {
    let mut rig = Rig::new();
    rig.guest.wrong = Wrong::TrapOnThirteen;
    let bad = body(1, (100..113).map(|i| one(i, 1, 20_781)).collect());
    let answers =
        rig.ingest(START, &[body(1, vec![one(1, 1, 20_781)]), bad.clone(), body(1, vec![one(2, 1, 20_781)])]).unwrap();
    assert_eq!(answers, [[Reason::Accepted], [Reason::Fault], [Reason::Accepted]]);
    assert_eq!(rig.edge.tally().guest_failures, 2);
    // The same bytes are not tried again, and others of their kind are as welcome as before.
    let hash = gloaming_signal::hash::sha256(&bad);
    assert_eq!((rig.edge.quarantined(), rig.edge.quarantined()), (vec![hash], vec![]));
    assert_eq!(rig.ingest(START, &[bad]).unwrap(), [[Reason::Fault]]);
    assert_eq!(rig.edge.tally().guest_failures, 2);
    rig.guest.wrong = Wrong::No;
    let good = body(1, (200..213).map(|i| one(i, 1, 20_781)).collect());
    assert_eq!(rig.ingest(START, &[good]).unwrap(), [vec![Reason::Accepted; 13]]);
}

#[test]
fn a_bad_submission_costs_its_neighbours_nothing() {
    let mut rig = Rig::new();
    let good = |id| body(1, vec![one(id, 1, 20_781)]);
    let read: Submission = cbor::from_slice(&good(2)).unwrap();
    let changed = |edit: &dyn Fn(&mut Submission)| {
        let mut other = read.clone();
        edit(&mut other);
        cbor::to_vec(&other)
    };
    // The same value in another encoding: a policy version of two bytes where one would do.
    let mut lax = good(3);
    let version = 1 + 1 + 1 + read.site.len();
    lax.splice(version..=version, [0x18, 1]);
    let mut longer = good(4);
    longer.push(0);
    let posted = [
        good(1),
        lax,
        longer,
        good(5)[..20].to_vec(),
        changed(&|s| s.site = "other.example".into()),
        changed(&|s| s.policy_version = 2),
        changed(&|s| s.policy_hash = [0; 32]),
        changed(&|s| s.check = true),
        vec![0; limits::SUBMISSION_BYTES + 1],
        good(6),
    ];
    use Reason::*;
    let want = [
        Accepted,
        Malformed,
        Malformed,
        Malformed,
        UnknownSite,
        UnknownPolicy,
        UnknownPolicy,
        Checked,
        TooLarge,
        Accepted,
    ];
    assert_eq!(rig.ingest(START, &posted).unwrap(), want.map(|reason| vec![reason]));
    assert_eq!(rig.ingest(START, &[good(1), good(2), good(6)]).unwrap(), [[Duplicate], [Accepted], [Duplicate]]);
}

#[test]
fn versions_grow_and_the_old_one_closes_its_windows() {
    let mut rig = Rig::new();
    assert!(matches!(rig.load(1, START), Ok(())));
    rig.ingest(START, &[body(1, (0..60).map(|i| one(i, 1, 20_781)).collect())]).unwrap();
    rig.load(2, START + 5).unwrap();
    assert!(matches!(rig.load(1, START + 6), Err(LoadPolicyError::RolledBack { given: 1, in_force: 2 })));
    assert_eq!(
        rig.ingest(START + 7, &[body(1, vec![one(70, 1, 20_781)]), body(2, vec![one(71, 1, 20_781)])]).unwrap(),
        [[Reason::Accepted], [Reason::Accepted]]
    );
    let rig = rig.restart();
    let mut rig = rig;
    let batches = rig.release(START + 3 * DAY);
    let seen: Vec<_> = batches.iter().map(|(b, _)| (b.policy_version, b.window)).collect();
    assert_eq!(seen, [(1, 20_781), (2, 20_781), (2, 20_782)]);
    assert_eq!(exact(&batches[0].0, &batches[0].1), [0, 61, 0, 0, 0]);
    // The same metric at the same price is paid once for the day, so version 2 was not over budget.
    assert!(batches[1].0.releases.iter().all(|r| r.state == ReleaseState::BelowK));
    rig.load(3, START + 3 * DAY).unwrap();
    assert_eq!(rig.ingest(START + 3 * DAY, &[body(1, vec![one(70, 1, 20_784)])]).unwrap(), [[Reason::UnknownPolicy]]);
}

/// An old version's tab, closed after the new version's first window had begun, was once acknowledged for a
/// window that nobody would ever release.
#[test]
fn what_is_acknowledged_is_for_a_window_that_will_be_released() {
    let mut rig = Rig::new();
    let day = START / DAY;
    assert_eq!(rig.ingest(START, &[body(1, vec![one(1, 0, day - 1)])]).unwrap(), [[Reason::ClosedWindow]]);
    rig.load(2, START + 1).unwrap();
    assert_eq!(rig.ingest(START + 2, &[body(1, vec![one(2, 0, day)])]).unwrap(), [[Reason::Accepted]]);
    let tomorrow = START + DAY;
    assert_eq!(rig.ingest(tomorrow, &[body(1, vec![one(3, 0, day + 1)])]).unwrap(), [[Reason::ClosedWindow]]);
    assert_eq!(rig.ingest(tomorrow, &[body(2, vec![one(4, 0, day + 1)])]).unwrap(), [[Reason::Accepted]]);
}

#[test]
fn the_same_version_with_other_bytes_is_an_alarm() {
    let mut rig = Rig::new();
    let mut other = policy(1);
    other.metrics[0].k += 1;
    let bytes = Signed::sign(&other, &[&rig.key]).to_bytes();
    let refused = rig.edge.load_policy(&bytes, &rig.key.public(), START, &mut rig.guest);
    assert!(matches!(refused, Err(LoadPolicyError::SameVersion(1))));
    other.home_edges = vec!["elsewhere".into()];
    other.version = 2;
    let bytes = Signed::sign(&other, &[&rig.key]).to_bytes();
    assert!(matches!(
        rig.edge.load_policy(&bytes, &rig.key.public(), START, &mut rig.guest),
        Err(LoadPolicyError::NotHome(_))
    ));
}

/// A record that ends before the one in force, replayed from a backup perhaps, could forget that a model was stopped.
#[test]
fn a_record_that_forgets_is_not_put_in_force() {
    let mut rig = Rig::new();
    let today = START / DAY;
    let before = Record::begin(&policy(2).site, &rig.key, today).unwrap();
    let mut after = before.clone();
    after.append(Action::Key { next: Key::from_seed(&[9; 32]).public().to_text() }, &rig.key, today).unwrap();
    let mut put = |version: u32, record: &Record| {
        let mut policy = policy(version);
        policy.models.push(Model {
            id: "intent".into(),
            state: ModelState::Shadow,
            purpose: 0,
            manifest_sha256: [1; 32],
            onnx_sha256: [2; 32],
            inputs: vec![0],
            score_edges: vec![1, 2],
            score_means: vec![],
            kinds: vec![],
            budget_ms: 20,
            fallback: None,
        });
        let bytes = Signed::sign(&policy, &[&rig.key]).with_record(record).to_bytes();
        rig.edge.load_policy(&bytes, &rig.key.public(), START + u64::from(version), &mut rig.guest)
    };
    put(2, &after).unwrap();
    assert!(matches!(put(3, &before), Err(LoadPolicyError::RecordCut(3))));
    put(3, &after).unwrap();
}

#[test]
fn what_lies_in_the_store_does_not_open_without_the_wrapping_key() {
    let mut rig = Rig::new();
    rig.ingest(START, &[body(1, vec![one(1, 1, 20_781)])]).unwrap();
    let anchor = Some(rig.edge.anchor());
    let Rig { key, guest, stream, opening, edge } = rig;
    let opening = Opening { wrapping: WrappingKey::new([4; 32]), anchor, ..opening };
    let opened = Rig::over(edge.into_storage(), START, key, guest, stream, opening);
    assert!(matches!(opened, Err(EdgeError::Unreadable(_))));
}

#[test]
fn deliveries_keep_their_order_and_their_bytes_until_acknowledged() {
    let mut rig = Rig::new();
    while rig.release_one(START + 4 * DAY).unwrap() {}
    let now = START + 4 * DAY;
    let first = rig.edge.next_delivery(now).unwrap().unwrap();
    rig.edge.delivered(&first, Delivered::NotNow(Some(1_000)), now, 7).unwrap();
    assert_eq!(rig.edge.next_delivery(now).unwrap(), None);
    assert_eq!(rig.edge.next_delivery(now + 1_000).unwrap().as_ref(), Some(&first));
    let mut rig = rig.restart();
    assert_eq!(rig.edge.next_delivery(now).unwrap().as_ref(), Some(&first));
    rig.edge.delivered(&first, Delivered::Yes, now, 0).unwrap();
    rig.edge.delivered(&first, Delivered::Yes, now, 0).unwrap();
    assert_eq!(rig.edge.next_delivery(now).unwrap().unwrap().seq, 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    /// Whatever arrives, in whatever rounds, with duplicates and restarts: released minus noise is
    /// exactly the set of distinct ids.
    #[test]
    fn released_minus_noise_is_what_was_sent(sent in prop::collection::vec((0u64..150, 0u32..5), 120..300), cuts in prop::collection::vec(0usize..300, 0..4)) {
        let mut rig = Rig::new();
        let mut want: BTreeMap<u64, u32> = BTreeMap::new();
        for (i, (id, cell)) in sent.iter().enumerate() {
            if cuts.contains(&i) {
                rig = rig.restart();
            }
            let answer = rig.ingest(START, &[body(1, vec![one(*id, *cell, 20_781)])]).unwrap();
            let fresh = !want.contains_key(id);
            want.entry(*id).or_insert(*cell);
            prop_assert_eq!(&answer[0], &[if fresh { Reason::Accepted } else { Reason::Duplicate }]);
        }
        let batches = rig.release(START + 2 * DAY);
        let release = batches[0].0.releases.iter().find(|r| r.metric == 4).unwrap();
        if release.state == ReleaseState::Released {
            let count = |cell: u32| i64::try_from(want.values().filter(|c| **c == cell).count()).unwrap();
            prop_assert_eq!(exact(&batches[0].0, &batches[0].1), (0..5).map(count).collect::<Vec<_>>());
        }
    }
}
