//! The component's functions, natively: every reason for refusal, and release against its own noise.
#![allow(clippy::unwrap_used)]

use gloaming_policy::Policy;
use gloaming_policy::author::{compile, template};
use gloaming_privacy::sample;
use gloaming_signal::batch::ExactCells;
use gloaming_signal::cbor::{self, Bytes};
use gloaming_signal::{
    CellKey, Contribution, Fold, FoldItem, Reason, Release, ReleaseState, Submission, Verdict, limits,
};
use gloaming_worker::core::{Fault, Worker};

const DAY: u64 = 86_400_000;
const NOW: u64 = 20_781 * DAY + 1_000;

fn policy() -> Policy {
    let text = template("blog", "blog.example", "https://blog.example", "2027-03-01").unwrap();
    compile(&text, 20_781, &|_| Err("none".into())).unwrap()
}

fn contribution(metric: u32, cell: u32) -> Contribution {
    Contribution { id: [cell as u8; 16], metric, window: 20_781, cell, value: 1 }
}

fn submission(policy: &Policy, contributions: Vec<Contribution>) -> Submission {
    Submission { site: policy.site.clone(), policy_version: 1, policy_hash: policy.hash(), check: false, contributions }
}

fn fold(worker: &Worker, policy: &Policy, items: Vec<(Vec<u8>, u64)>) -> Verdict {
    let fold = Fold { items: items.into_iter().map(|(b, skip)| FoldItem { submission: Bytes(b), skip }).collect() };
    cbor::from_slice(&worker.fold(&policy.hash(), NOW, &cbor::to_vec(&fold)).unwrap()).unwrap()
}

fn configured() -> (Worker, Policy) {
    let (mut worker, policy) = (Worker::default(), policy());
    assert_eq!(worker.configure(&policy.to_bytes()).unwrap(), policy.hash());
    (worker, policy)
}

#[test]
fn good_contributions_add_up_and_bad_ones_are_named_one_by_one() {
    let (worker, policy) = configured();
    let one = |edit: &dyn Fn(&mut Contribution)| {
        let mut contribution = contribution(4, 2);
        edit(&mut contribution);
        contribution
    };
    let body = cbor::to_vec(&submission(
        &policy,
        vec![
            one(&|_| {}),
            one(&|_| {}),
            one(&|c| c.metric = 99),
            one(&|c| c.cell = 5),
            one(&|c| c.value = 2),
            one(&|c| c.window = 20_782),
            one(&|c| c.window = 20_779),
            one(&|c| c.window = 20_780),
            one(&|c| c.window = u64::MAX),
        ],
    ));
    let verdict = fold(&worker, &policy, vec![(body, 0b10)]);
    use Reason::*;
    let want = [
        Accepted,
        Duplicate,
        UnknownMetric,
        UnknownCell,
        CapExceeded,
        FutureWindow,
        ClosedWindow,
        Accepted,
        FutureWindow,
    ];
    assert_eq!(verdict.items[0].each, want, "yesterday's window is still within its grace");
    let key = |window| CellKey { metric: 4, window, cell: 2 };
    assert_eq!(verdict.delta, [(key(20_780), 1), (key(20_781), 1)]);
}

#[test]
fn a_bad_submission_costs_its_neighbours_nothing() {
    let (worker, policy) = configured();
    let good = submission(&policy, vec![contribution(4, 1)]);
    let bytes = cbor::to_vec(&good);
    let mut lax = bytes.clone();
    lax.push(0);
    let other_site = cbor::to_vec(&Submission { site: "other.example".into(), ..good.clone() });
    let other_version = cbor::to_vec(&Submission { policy_version: 2, ..good.clone() });
    let other_hash = cbor::to_vec(&Submission { policy_hash: [0; 32], ..good.clone() });
    let check = cbor::to_vec(&Submission { check: true, ..good.clone() });
    let huge = vec![0; limits::SUBMISSION_BYTES + 1];
    let items =
        [bytes.clone(), lax, bytes[..20].to_vec(), other_site, other_version, other_hash, check, huge, bytes.clone()];
    let verdict = fold(&worker, &policy, items.into_iter().map(|b| (b, 0)).collect());
    use Reason::*;
    let wholes: Vec<_> = verdict.items.iter().map(|i| i.whole).collect();
    assert_eq!(
        wholes,
        [Accepted, Malformed, Malformed, UnknownSite, UnknownPolicy, UnknownPolicy, Accepted, TooLarge, Accepted]
    );
    assert_eq!(verdict.items[6].each, [Checked], "the check lane is judged and not counted");
    assert_eq!(verdict.delta, [(CellKey { metric: 4, window: 20_781, cell: 1 }, 2)]);
}

#[test]
fn releases_are_exact_cells_plus_the_seeds_noise_or_nothing() {
    let (worker, policy) = configured();
    let seed = [5; 32];
    let metric = policy.metric(4).unwrap();
    let release = |values: Vec<u64>| -> Release {
        let cells = cbor::to_vec(&vec![ExactCells { metric: 4, values }]);
        let out = worker.release(&policy.hash(), &seed, DAY, 20_781, &cells).unwrap();
        cbor::from_slice::<Vec<Release>>(&out).unwrap().remove(0)
    };
    let exact = vec![100, 0, 7, 30, 1];
    let released = release(exact.clone());
    assert_eq!(released.state, ReleaseState::Released);
    let noise = sample(&seed, DAY, 20_781, 4, metric.mechanism, &metric.scales());
    let back: Vec<i64> = released.values.iter().zip(&noise).map(|(v, n)| v - n).collect();
    assert_eq!(back, exact.iter().map(|v| i64::try_from(*v).unwrap()).collect::<Vec<_>>());
    assert!(noise.iter().any(|n| *n != 0));
    let few = release(vec![1, 0, 0, 0, 0]);
    assert_eq!((few.state, few.values.len()), (ReleaseState::BelowK, 0));
    assert_eq!(release(exact.clone()), released, "same seed, same bytes");
}

#[test]
fn faults_have_names() {
    let (worker, policy) = configured();
    assert_eq!(worker.fold(&[0; 32], NOW, &[]), Err(Fault::UnknownPolicy));
    assert_eq!(worker.fold(&policy.hash(), NOW, &[1]), Err(Fault::Malformed("not a fold")));
    assert_eq!(worker.fold(&policy.hash(), NOW, &vec![0; limits::FOLD_BYTES + 1]), Err(Fault::OverLimit));
    assert!(matches!(worker.release(&policy.hash(), &[0; 31], DAY, 1, &[]), Err(Fault::Malformed(_))));
    let short = cbor::to_vec(&vec![ExactCells { metric: 4, values: vec![1] }]);
    assert!(matches!(worker.release(&policy.hash(), &[0; 32], DAY, 1, &short), Err(Fault::Malformed(_))));
    assert!(Worker::default().configure(&[1, 2, 3]).is_err());
}
