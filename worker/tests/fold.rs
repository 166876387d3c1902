//! The component's functions, natively: every reason for refusal, and release against its own noise.
#![allow(clippy::unwrap_used)]

use gloaming_policy::Policy;
use gloaming_policy::author::{compile, template};
use gloaming_privacy::sample;
use gloaming_signal::batch::ExactCells;
use gloaming_signal::fold::ROW;
use gloaming_signal::{CellKey, Reason, Release, ReleaseState, Row, Verdict, cbor, limits};
use gloaming_worker::core::{Fault, Worker};

const DAY: u64 = 86_400_000;
const NOW: u64 = 20_781 * DAY + 1_000;

fn policy() -> Policy {
    let text = template("blog", "blog.example", "https://blog.example", "2027-03-01").unwrap();
    compile(&text, 20_781, &|_| Err("none".into())).unwrap()
}

fn row(metric: u32, cell: u32) -> Row {
    Row { window: 20_781, metric, cell, value: 1, check: false }
}

fn fold(worker: &Worker, policy: &Policy, rows: &[Row]) -> Verdict {
    let mut fold = Vec::new();
    rows.iter().for_each(|row| row.write(&mut fold));
    Verdict::from_bytes(&worker.fold(&policy.hash(), NOW, &fold).unwrap(), rows.len()).unwrap()
}

fn configured() -> (Worker, Policy) {
    let (mut worker, policy) = (Worker::default(), policy());
    assert_eq!(worker.configure(&policy.to_bytes()).unwrap(), policy.hash());
    (worker, policy)
}

#[test]
fn good_rows_add_up_and_bad_ones_are_named_one_by_one() {
    let (worker, policy) = configured();
    let one = |edit: &dyn Fn(&mut Row)| {
        let mut row = row(4, 2);
        edit(&mut row);
        row
    };
    use Reason::*;
    let rows = [
        (one(&|_| {}), Accepted),
        (one(&|row| row.check = true), Checked),
        (one(&|row| row.metric = 99), UnknownMetric),
        (one(&|row| row.cell = 5), UnknownCell),
        (one(&|row| row.value = 2), CapExceeded),
        (one(&|row| row.window = 20_782), FutureWindow),
        (one(&|row| row.window = 20_779), ClosedWindow),
        // Yesterday's window is still within its grace.
        (one(&|row| row.window = 20_780), Accepted),
        (one(&|row| row.window = u64::MAX), FutureWindow),
        (one(&|_| {}), Accepted),
    ];
    let verdict = fold(&worker, &policy, &rows.map(|(row, _)| row));
    assert_eq!(verdict.each, rows.map(|(_, reason)| reason));
    let key = |window| CellKey { metric: 4, window, cell: 2 };
    assert_eq!(verdict.sums, [(key(20_780), 1), (key(20_781), 2)]);
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
    assert_eq!(worker.fold(&policy.hash(), NOW, &[1]), Err(Fault::Malformed("not rows")));
    assert_eq!(worker.fold(&policy.hash(), NOW, &vec![0; limits::FOLD_ROWS * ROW + 1]), Err(Fault::OverLimit));
    assert!(matches!(worker.release(&policy.hash(), &[0; 31], DAY, 1, &[]), Err(Fault::Malformed(_))));
    let short = cbor::to_vec(&vec![ExactCells { metric: 4, values: vec![1] }]);
    assert!(matches!(worker.release(&policy.hash(), &[0; 32], DAY, 1, &short), Err(Fault::Malformed(_))));
    assert!(Worker::default().configure(&[1, 2, 3]).is_err());
}
