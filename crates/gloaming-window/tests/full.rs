//! The default bounds, filled: what one site may hold open, and what that costs the others.
#![allow(clippy::unwrap_used)]

use gloaming_policy::Policy;
use gloaming_policy::author::{compile, template};
use gloaming_signal::{Reason, Submission, cbor};
use gloaming_window::Bounds;

mod rig;
use rig::*;

const TODAY: u64 = 20_781;

fn of(site: &str) -> Policy {
    let text = template("blog", site, &format!("https://{site}"), "2027-03-01").unwrap();
    compile(&text, TODAY, &|_| Err("none".into())).unwrap()
}

/// Bodies of sixty contributions each, of these ids.
fn bodies(policy: &Policy, window: u64, ids: std::ops::Range<u64>) -> Vec<Vec<u8>> {
    let of_some = |from: u64| {
        let some = from..(from + 60).min(ids.end);
        cbor::to_vec(&Submission {
            site: policy.site.clone(),
            policy_version: policy.version,
            policy_hash: policy.hash(),
            check: false,
            contributions: some.map(|id| one(id, 0, window)).collect(),
        })
    };
    ids.clone().step_by(60).map(of_some).collect()
}

/// Posts them in groups as an edge does; how many were accepted, and how many asked to come again.
fn post(rig: &mut Rig, now: u64, bodies: &[Vec<u8>]) -> [usize; 2] {
    let mut counts = [0; 2];
    for group in bodies.chunks(1_024) {
        for reason in rig.ingest(now, group).unwrap().concat() {
            match reason {
                Reason::Accepted => counts[0] += 1,
                // A body of which nothing fits is answered as a whole.
                Reason::Busy => counts[1] += 1,
                other => assert_eq!(other, Reason::Accepted),
            }
        }
    }
    counts
}

#[test]
fn a_site_that_is_full_by_default_closes_the_edge_to_nobody_else() {
    let (site, other) = (of("blog.example"), of("quiet.example"));
    let most = Bounds::default().site_ids as u64;
    let mut rig = Rig::with(&site, Bounds::default());
    rig.put(&other, START).unwrap();
    assert_eq!(most, 1_000_000, "as docs/capacity.md says");
    // Of two windows that are open at once, neither is full, and the site is.
    let [first, second] = [600_000, 400_000];
    assert_eq!(post(&mut rig, START, &bodies(&site, TODAY, 0..first)), [600_000, 0]);
    let now = START + DAY;
    assert_eq!(post(&mut rig, now, &bodies(&site, TODAY + 1, most..most + second)), [400_000, 0]);
    let more = bodies(&site, TODAY + 1, 2 * most..2 * most + 60);
    assert_eq!(rig.ingest(now, &more).unwrap(), [[Reason::Busy]]);
    // What it holds is still known, by whoever sends it again.
    let again = rig.ingest(now, &bodies(&site, TODAY, 0..60)).unwrap();
    assert_eq!(again, [[Reason::Duplicate; 60]]);
    assert_eq!(post(&mut rig, now, &bodies(&other, TODAY + 1, 0..6_000)), [6_000, 0]);
    // When a window ends there is room again.
    assert_eq!(rig.release(now + 2 * 3_600_000).len(), 2, "today of both sites");
    let answers = rig.ingest(now + 2 * 3_600_000, &more).unwrap();
    assert_eq!(answers, [[Reason::Accepted; 60]]);
}
