//! How a model fared in a visit and whose score it was, as the one cell that a device tells of it.
#![allow(clippy::unwrap_used)]

use gloaming_collector::device::{Device, Setup};
use gloaming_policy::author::{ManifestFacts, compile, template};
use gloaming_policy::{Bins, Policy};
use gloaming_signal::{Submission, cbor};

const NOW: u64 = 20_781 * 86_400_000 + 1_000;
/// The metric's number, which stays over versions.
const FARED: u32 = 1_900_122_828;

fn policy() -> Policy {
    let text = template("shop", "app.example", "https://app.example", "2027-03-01").unwrap();
    compile(&text, 20_781, &|_| Ok(ManifestFacts::stand_in("purchase-intent", &["pages@1"]))).unwrap()
}

/// The cell that is told of a visit whose scorings came to these codes, by somebody who agreed to these purposes.
fn fared(policy: &Policy, codes: &[u32], purposes: &[&str]) -> Option<u32> {
    let (purposes, host) = (purposes.iter().map(ToString::to_string).collect(), "app.example".into());
    let setup = Setup { purposes, host, device_class: 2, width: 1_300, now_ms: 1e15, ..Setup::default() };
    let mut device = Device::new(&policy.to_bytes(), setup, &[], &[7; 32]).unwrap();
    device.page(NOW, 0, "/", "", "");
    codes.iter().for_each(|code| device.fared(0, *code));
    let told: Submission = cbor::from_slice(&device.prepare(NOW).submission?).unwrap();
    told.contributions.iter().find(|one| one.metric == FARED).map(|one| one.cell)
}

/// Of several scorings in a visit the worst is told, and without the purpose nothing.
#[test]
fn how_a_model_fared_is_a_cell_like_any_other() {
    let (policy, both) = (policy(), ["measurement", "prediction"]);
    let fared = |codes: &[u32]| fared(&policy, codes, &both);
    assert_eq!(fared(&[]), None, "not tried");
    assert_eq!(fared(&[0, 1, 1]), Some(1), "it lacked something at first");
    assert_eq!(fared(&[1, 2, 1]), Some(2));
    assert_eq!(fared(&[1, 3, 2, 8]), Some(3), "there is no ninth way");
    assert_eq!(self::fared(&policy, &[3], &["measurement"]), None);
}

/// Nobody's score it was where nobody ever had one, and a last good version's is a worse one than the model's own.
#[test]
fn whose_score_it_was_is_told_in_the_same_cell() {
    let policy = policy();
    let fared = |codes: &[u32]| fared(&policy, codes, &["prediction"]);
    assert_eq!(fared(&[3, 7, 3]), Some(7));
    assert_eq!(fared(&[4, 0]), Some(4));
    assert_eq!(fared(&[4, 1]), Some(1), "it scored after all");
    assert_eq!(fared(&[5, 1]), Some(5));
    assert_eq!((fared(&[5, 2]), fared(&[6, 3])), (Some(2), Some(3)));
    let metric = policy.metric(FARED).unwrap();
    let words = [4, 5, 6, 7].map(|cell| metric.label(cell).unwrap());
    assert_eq!(words, ["lacking-fallback", "scored-last-good", "late-last-good", "failed-fallback"]);
}

/// A policy that was signed before it was told whose score it was loads as before, and counts how the model itself did.
#[test]
fn a_policy_of_before_counts_as_before() {
    let mut policy = policy();
    let axis = &mut policy.metrics.iter_mut().find(|metric| metric.id == FARED).unwrap().axes[0];
    axis.labels.truncate(4);
    axis.bins = Bins::Map(vec![0, 1, 2, 3]);
    assert_eq!(Policy::from_bytes(&policy.to_bytes()).unwrap(), policy);
    for (code, cell) in [(0, 0), (1, 1), (2, 2), (3, 3), (4, 0), (5, 1), (6, 2), (7, 3)] {
        assert_eq!(fared(&policy, &[code], &["prediction"]), Some(cell), "{code}");
    }
}
