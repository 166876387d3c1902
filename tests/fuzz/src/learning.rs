//! What is learnt on devices: a file from between two rounds, and what a device says in the next.

use gloaming_behavior::Tracker;
use gloaming_policy::author::{ManifestFacts, compile, template};
use gloaming_policy::{Beside, Policy};
use gloaming_signal::{Event, EventKind, limits};

const VOTES: &str = r#"
[[retrain]]
model = "purchase-intent"
by = "votes"
window = "day"
rho = 0.005
k = 50
"#;

const LEARNING: &str = r#"{ "format": 1, "model": "purchase-intent", "outcome": "outcome:purchase@1", "rate": 0.2, "round": 2, "version": 1,
"level": -1.0, "clip": 1.0, "terms": [
{ "input": "pages@1", "edges": [0, 2, 9], "values": [-0.5, 0.5], "shares": [0.5, 0.5], "weight": 0.4, "speed": 0.1 },
{ "input": "returning@1", "edges": [0, 1, 2], "values": [1e-6, -3], "shares": [0.9, 0.1], "weight": -99.0 },
{ "input": "device-class@1", "words": ["phone", "tablet", "desktop", "other"], "word": "desktop", "values": [0, 0, 1, 0], "shares": [0.2, 0.2, 0.5, 0.1], "weight": 0.0 } ],
"rounds": [ { "of": "votes:purchase-intent@1 00000000", "until_ms": 9, "visits": 10.5, "length": 0.1, "noise": 0.01 } ] }"#;

/// A policy that asks for votes by this text of `learning.json`, when it is one.
fn asking(learning: &str) -> Option<Policy> {
    let text = template("shop", "app.example", "https://app.example", "2027-03-01")? + VOTES;
    let facts = ManifestFacts {
        learning: Some(learning.to_owned()),
        ..ManifestFacts::stand_in("purchase-intent", &["pages@1", "returning@1"])
    };
    compile(&text, 20_781, &|_| Ok(facts.clone())).ok()
}

/// The file's text.
pub(crate) fn files() -> Vec<Vec<u8>> {
    vec![LEARNING.into()]
}

/// A policy with something to vote on.
pub(crate) fn a_policy() -> Policy {
    asking(LEARNING).expect("the file is one")
}

/// Whatever a policy asks, a vote is one of its metric's cells or none.
pub(crate) fn votes(policy: &Policy) {
    let mut tracker = Tracker::new(policy.behavior.clone());
    (0..3).for_each(|page| tracker.push(Event::new(1_000 + page, EventKind::PageView, 0)));
    let features = tracker.features(true);
    let votes: Vec<u32> = [0, u64::MAX / 3, u64::MAX]
        .iter()
        .flat_map(|draw| policy.learners.iter().map(|learner| learner.vote(&features, *draw).unwrap_or(u32::MAX)))
        .collect();
    for votes in votes.chunks(policy.learners.len().max(1)) {
        for metric in &policy.metrics {
            let cell = metric.cell_of(&features, Beside { votes, ..Beside::default() });
            assert!(cell.is_none_or(|cell| metric.admits(cell.cell, cell.value).is_ok()), "{}", metric.name);
        }
    }
}

/// A file from anywhere is refused, or makes a policy that devices read and vote by.
pub(crate) fn learning(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(policy) = asking(text) {
        assert!(policy.to_bytes().len() <= limits::POLICY_BYTES);
        assert_eq!(Policy::from_bytes(&policy.to_bytes()).as_ref(), Ok(&policy));
        votes(&policy);
    }
}
