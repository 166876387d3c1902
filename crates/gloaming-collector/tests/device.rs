//! The device without a browser: what it sends, keeps, refuses, and never overspends.
#![allow(clippy::unwrap_used)]

use gloaming_collector::device::{Device, Setup};
use gloaming_policy::author::{ManifestFacts, compile, template};
use gloaming_policy::{ModelState, Policy};
use gloaming_signal::{EventKind, Submission, cbor};
use proptest::prelude::*;

const DAY: u64 = 86_400_000;
const NOW: u64 = 20_781 * DAY + 1_000;

fn policy() -> Policy {
    let text = template("saas", "app.example", "https://app.example", "2027-03-01").unwrap();
    compile(&text, 20_781, &|_| Err("none".into())).unwrap()
}

fn setup(purposes: &[&str]) -> Setup {
    let (purposes, host) = (purposes.iter().map(ToString::to_string).collect(), "app.example".into());
    Setup { purposes, host, device_class: 2, width: 1_300, weekday: 1, hour: 11, now_ms: 1e15, ..Setup::default() }
}

fn device(setup: Setup, state: &[u8]) -> Device {
    Device::new(&policy().to_bytes(), setup, state, &[7; 32]).unwrap()
}

fn read(submission: Option<Vec<u8>>) -> Submission {
    cbor::from_slice(&submission.expect("a submission")).unwrap()
}

#[test]
fn a_visit_contributes_each_agreed_metric_once() {
    let mut device = device(setup(&["measurement"]), &[]);
    assert!(device.prepare(NOW).submission.is_none(), "nothing happened yet");
    device.page(1_000, 0, "/pricing", "www.google.com", "");
    device.push(2_000, EventKind::Scroll.number().into(), 80, 0, 0);
    let prepared = device.prepare(NOW);
    let sent = read(prepared.submission.clone());
    assert_eq!(
        sent.contributions.iter().map(|c| (c.metric, c.cell)).collect::<Vec<_>>(),
        [(1, 0), (2, 1), (3, 1), (4, 3), (5, 0), (6, 1), (7, 0)]
    );
    assert!(sent.contributions.iter().all(|c| c.value == 1));
    assert_eq!(sent.contributions[0].window, 20_781);
    assert_eq!(sent.contributions[6].window, 20_781 / 7, "a weekly window");
    let mut ids: Vec<_> = sent.contributions.iter().map(|c| c.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 7);
    // The same visit, later: nothing more to say.
    device.commit_sent();
    device.push(3_000, EventKind::Scroll.number().into(), 100, 0, 0);
    assert!(device.prepare(NOW).submission.is_none());
    assert_eq!(device.ledger().matches("\"metric\"").count(), 7);
    // And the state that was to be kept when sending says the same.
    let again = self::device(setup(&["measurement"]), &prepared.sent);
    assert_eq!(again.ledger(), device.ledger());
}

#[test]
fn without_agreement_there_is_no_contribution() {
    let mut device = device(setup(&["another"]), &[]);
    device.page(1_000, 0, "/", "", "");
    assert!(device.prepare(NOW).submission.is_none());
}

#[test]
fn a_second_visit_of_the_day_is_held_to_per_day() {
    let mut first = device(setup(&["measurement"]), &[]);
    first.page(1_000, 0, "/", "", "");
    let state = first.prepare(NOW).sent;
    let mut second = device(setup(&["measurement"]), &state);
    second.page(10_000_000, 0, "/", "", "");
    let sent = read(second.prepare(NOW + 10_000_000).submission);
    assert_eq!(
        sent.contributions.iter().map(|c| c.metric).collect::<Vec<_>>(),
        [1],
        "visits has per_day 3, the others 1"
    );
    let mut tomorrow = device(setup(&["measurement"]), &state);
    tomorrow.page(10_000_000, 0, "/", "", "");
    assert_eq!(read(tomorrow.prepare(NOW + DAY).submission).contributions.len(), 7);
}

/// What somebody says of themselves is counted with their score and outcome, in one cell, and only where they agreed to both
/// the score and the comparison.
#[test]
fn a_group_is_counted_where_somebody_said_it_and_agreed() {
    let text = template("shop", "app.example", "https://app.example", "2027-03-01").unwrap()
        .replace("rho_per_device_day = 0.25", "rho_per_device_day = 1.0")
        + "\n[[purpose]]\nid = \"fairness\"\ntext.en = \"Compare how groups fare.\"\n
[[attribute]]\nid = \"age-band\"\nvalues = [\"under-30\", \"30-59\", \"60-plus\"]\npurpose = \"fairness\"\n
[[fairness]]\nmodel = \"purchase-intent\"\nby = [\"age-band\"]\nthreshold = 0.3\noutcome = \"outcome:purchase@1\"\nwindow = \"week\"\nrho = 0.02\nk = 100\n";
    let facts = ManifestFacts::stand_in("purchase-intent", &["pages@1"]);
    let policy = compile(&text, 20_781, &|_| Ok(facts.clone())).unwrap();
    let fair = policy.metrics.iter().find(|metric| metric.name == "purchase-intent-fair-age-band").unwrap().id;
    let counted = |purposes: &[&str], says: Option<&str>, bought: bool| {
        let mut device = Device::new(&policy.to_bytes(), setup(purposes), &[], &[7; 32]).unwrap();
        device.page(1_000, 0, "/", "", "");
        if let Some(word) = says {
            device.feature(1_500, "age-band", |feature| feature.word(word));
        }
        device.set_score(0, 0.42);
        if bought {
            device.push(2_000, EventKind::Purchase.number().into(), 6_400, 0, 0);
        }
        cells(&mut device, NOW)
            .into_iter()
            .filter(|(metric, _)| *metric == fair)
            .map(|(_, cell)| cell)
            .collect::<Vec<_>>()
    };
    let both = ["prediction", "fairness"];
    // Rows of four: not selected without and with the outcome, then selected.
    assert_eq!(counted(&both, Some("60-plus"), false), [8 + 2]);
    assert_eq!(counted(&both, Some("30-59"), true), [4 + 3]);
    for (purposes, says) in [
        (&both[..], None),
        (&both, Some("of no word")),
        (&["prediction"], Some("60-plus")),
        (&["fairness"], Some("60-plus")),
    ] {
        assert_eq!(counted(purposes, says, true), [0u32; 0], "{purposes:?} {says:?}");
    }
}

const HOUR: u64 = 3_600_000;

/// Metric and cell of what a device would send.
fn cells(device: &mut Device, now: u64) -> Vec<(u32, u32)> {
    let submission = device.prepare(now).submission.map(|bytes| cbor::from_slice::<Submission>(&bytes).unwrap());
    submission.map_or_else(Vec::new, |s| s.contributions.iter().map(|c| (c.metric, c.cell)).collect())
}

/// A tab stays open for hours: what ended while nobody left is told, by itself and once.
#[test]
fn a_session_that_ended_by_idling_is_told_alone_and_before_the_next() {
    let mut device = device(setup(&["measurement"]), &[]);
    device.page(NOW, 0, "/pricing", "www.google.com", "");
    let first = cells(&mut device, NOW);
    device.push(NOW + 2 * HOUR, EventKind::Scroll.number().into(), 80, 0, 0);
    assert_eq!(cells(&mut device, NOW + 2 * HOUR), first, "not a word of the second");
    let sent = device.prepare(NOW + 2 * HOUR).sent;
    let mut next = self::device(setup(&["measurement"]), &sent);
    let second = cells(&mut next, NOW + 2 * HOUR + 1);
    assert_eq!(second.iter().map(|(metric, _)| *metric).collect::<Vec<_>>(), [1], "the day pays for one more visit");
    next.commit_sent();
    assert!(cells(&mut next, NOW + 2 * HOUR + 2).is_empty(), "and that is all");
}

#[test]
fn a_session_that_could_not_be_told_for_a_day_is_let_go() {
    let mut device = device(setup(&["measurement"]), &[]);
    device.page(NOW, 0, "/pricing", "", "");
    let kept = device.prepare(NOW).kept;
    for (after, told) in [(23 * HOUR, true), (25 * HOUR, false)] {
        let mut next = self::device(setup(&["measurement"]), &kept);
        next.page(NOW + after, 0, "/", "", "");
        let pricing = cells(&mut next, NOW + after) == cells(&mut device, NOW);
        assert_eq!(pricing, told, "after {} hours", after / HOUR);
    }
}

/// A tab used in the morning, at noon and in the evening, and left only then: three visits, told one by one.
#[test]
fn sessions_that_wait_are_told_oldest_first_and_each_once() {
    let mut device = device(setup(&["measurement"]), &[]);
    for (i, path) in ["/pricing", "/docs/a", "/"].iter().enumerate() {
        device.page(NOW + 3 * HOUR * i as u64, 0, path, "", "");
    }
    let mut state = device.prepare(NOW + 6 * HOUR).kept;
    let mut told = Vec::new();
    for day in 1.. {
        let mut next = self::device(setup(&["measurement"]), &state);
        let prepared = next.prepare(NOW + day * DAY);
        let Some(bytes) = prepared.submission else { break };
        let sent: Submission = cbor::from_slice(&bytes).unwrap();
        told.push(sent.contributions.iter().find(|c| c.metric == 2).unwrap().cell);
        state = prepared.sent;
    }
    let mut alone = Vec::new();
    for path in ["/pricing", "/docs/a", "/"] {
        let mut one = self::device(setup(&["measurement"]), &[]);
        one.page(NOW, 0, path, "", "");
        alone.push(cells(&mut one, NOW).iter().find(|(metric, _)| *metric == 2).unwrap().1);
    }
    assert_eq!(told, alone);
}

/// The clock was a year ahead when the state was stored.
#[test]
fn a_clock_that_was_far_ahead_costs_one_session() {
    let mut device = device(setup(&["measurement"]), &[]);
    device.page(NOW + 365 * DAY, 0, "/pricing", "", "");
    let kept = device.prepare(NOW).kept;
    let mut later = self::device(Setup { now_ms: (NOW + HOUR) as f64, ..setup(&["measurement"]) }, &kept);
    later.page(NOW + HOUR, 0, "/", "", "");
    later.push(NOW + HOUR + 60_000, EventKind::Scroll.number().into(), 10, 0, 0);
    assert!(later.status().contains("\"session-length@1\",\"value\":60"), "{}", later.status());
}

#[test]
fn a_submission_says_until_when_it_makes_sense() {
    let mut device = device(setup(&["measurement"]), &[]);
    assert_eq!(device.prepare(NOW).until_ms, u64::MAX);
    device.page(NOW, 0, "/", "", "");
    assert_eq!(device.prepare(NOW).until_ms, NOW / DAY * DAY + DAY, "the day ends before the week");
}

/// What the manifest at a path says: of the shop's model, or of the one that stands in for it.
fn facts(path: &str) -> Result<ManifestFacts, String> {
    Ok(ManifestFacts::stand_in(if path == "small.json" { "small" } else { "purchase-intent" }, &["pages@1"]))
}

/// A shop, whose policy has a model.
fn shop(purposes: &[&str], state: &[u8]) -> Device {
    let text = template("shop", "app.example", "https://app.example", "2027-03-01").unwrap();
    let policy = compile(&text, 20_781, &facts).unwrap();
    Device::new(&policy.to_bytes(), setup(purposes), state, &[7; 32]).unwrap()
}

/// A score belongs to the session whose features it was made of, and to the consent it was made under.
#[test]
fn scores_outlive_neither_their_session_nor_their_purpose() {
    let both = ["measurement", "prediction"];
    let mut device = shop(&both, &[]);
    device.page(NOW, 0, "/", "", "");
    assert!(!device.set_score(0, 0.99), "a shadow model's score is no page's business");
    let with = cells(&mut device, NOW);
    let kept = device.prepare(NOW).kept;
    assert!(
        device.status().contains("\"model\":\"purchase-intent\",\"score\":null,\"shown\":false"),
        "that there is one"
    );

    let mut narrowed = shop(&["measurement"], &kept);
    assert!(!narrowed.status().contains("\"model\""));
    let without = cells(&mut narrowed, NOW);
    assert!(with.len() > without.len() && without.iter().all(|cell| with.contains(cell)));

    let mut later = shop(&both, &kept);
    later.page(NOW + 2 * HOUR, 0, "/", "", "");
    assert!(!later.status().contains("\"model\""), "another session");
    assert_eq!(cells(&mut later, NOW + 2 * HOUR), with, "the one that ended keeps its score");
    later.set_score(0, 0.01);
    assert_eq!(cells(&mut later, NOW + 2 * HOUR), with);
    later.commit_sent();
    let next = cells(&mut later, NOW + 2 * HOUR + 1);
    assert!(next.iter().all(|cell| !with.contains(cell) || cell.0 == 1), "{next:?} after {with:?}");
}

/// One that stands in for another that acts does not speak beside it.
#[test]
fn the_worker_is_told_who_speaks_and_for_whom() {
    let text = template("shop", "app.example", "https://app.example", "2027-03-01").unwrap();
    let text = text.replace("state = \"shadow\" ", "fallback = \"small\"\nstate = \"shadow\" ")
        + "[[model]]\nid = \"small\"\nmanifest = \"small.json\"\nstate = \"shadow\"\npurpose = \"prediction\"\n";
    let policy = compile(&text, 20_781, &facts).unwrap();
    let said = |first: ModelState, second: ModelState| {
        let mut policy = policy.clone();
        (policy.models[0].state, policy.models[1].state) = (first, second);
        let device = Device::new(&policy.to_bytes(), setup(&["prediction"]), &[], &[7; 32]).unwrap();
        let models: serde_json::Value = serde_json::from_str(&device.models()).unwrap();
        let of = |model: &serde_json::Value| (model["speaks"] == true, model["fallback"].as_i64().unwrap());
        models.as_array().unwrap().iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(said(ModelState::Shadow, ModelState::Shadow), [(false, 1), (false, -1)]);
    assert_eq!(said(ModelState::Live, ModelState::Live), [(true, 1), (false, -1)]);
    assert_eq!(said(ModelState::Off, ModelState::Live), [(true, -1)], "what is quarantined has no voice to take over");
}

#[test]
fn a_check_is_marked_and_costs_nothing() {
    let mut check = device(Setup { check: true, ..setup(&["measurement"]) }, &[]);
    check.page(1_000, 0, "/", "", "");
    let prepared = check.prepare(NOW);
    assert!(read(prepared.submission).check);
    assert_eq!(prepared.sent, prepared.kept);
    // Even of a visit that was told already.
    let mut real = device(setup(&["measurement"]), &[]);
    real.page(1_000, 0, "/", "", "");
    let mut check = device(Setup { check: true, ..setup(&["measurement"]) }, &real.prepare(NOW).sent);
    assert_eq!(read(check.prepare(NOW).submission).contributions.len(), 7);
}

#[test]
fn state_that_cannot_be_read_is_begun_anew_and_policies_must_be_real() {
    let mut device = device(setup(&["measurement"]), &[1, 2, 3]);
    device.page(1, 0, "/", "", "");
    assert!(device.prepare(NOW).submission.is_some());
    assert!(Device::new(&[1], setup(&[]), &[], &[0; 32]).is_err());
    assert!(Device::new(&policy().to_bytes(), setup(&[]), &[], &[0; 31]).is_err());
}

#[test]
fn unknown_events_and_undeclared_features_are_counted_not_taken() {
    let mut device = device(setup(&["measurement"]), &[]);
    device.push(1, 200, 0, 0, 0);
    device.push(1, EventKind::PageFeature.number().into(), 0, 5, 0);
    assert!(!device.custom(1, "no-such-event"));
    assert!(!device.feature(1, "no-such-feature", |_| Some(1)));
    assert!(device.status().contains("\"unknownEvents\":4"));
}

proptest! {
    /// Random histories of visits, with policies that change under way: what leaves in a day never
    /// costs more than the declared budget, counted here from the submissions alone.
    #[test]
    fn no_history_of_visits_overspends_a_day(visits in prop::collection::vec((0u64..40_000_000, 0u32..6, any::<bool>()), 1..40), factor in 1u64..3) {
        let mut dear = policy();
        for metric in &mut dear.metrics {
            metric.rho = gloaming_privacy::Rho::from_micro(metric.rho.micro() / factor);
        }
        dear.version = 2;
        let policies = [policy(), dear];
        let (mut state, mut at) = (Vec::new(), NOW);
        let mut spent: std::collections::BTreeMap<u64, u64> = std::collections::BTreeMap::new();
        for (gap, scroll, second) in visits {
            at += gap;
            let policy = &policies[usize::from(second)];
            let mut device = Device::new(&policy.to_bytes(), setup(&["measurement"]), &state, &[3; 32]).unwrap();
            device.page(at, 0, "/", "", "");
            device.push(at + 1, EventKind::Scroll.number().into(), scroll * 20, 0, 0);
            let prepared = device.prepare(at);
            if let Some(bytes) = prepared.submission {
                let sent: Submission = cbor::from_slice(&bytes).unwrap();
                for contribution in sent.contributions {
                    *spent.entry(at / DAY).or_default() += policy.metric(contribution.metric).unwrap().rho.micro();
                }
            }
            state = prepared.sent;
        }
        for cost in spent.values() {
            prop_assert!(*cost <= policies[0].budget.micro());
        }
    }
}

/// The shop with an experiment; `model` is what the control does not hear.
fn trial(purposes: &[&str], state: &[u8], seed: u8, model: bool) -> Device {
    let text = template("shop", "app.example", "https://app.example", "2027-03-01").unwrap();
    let text = text.replace("rho = 0.05\n", "rho = 0.03\n")
        + "[[experiment]]\nid = \"hint\"\narms = [\"as-is\", \"hint\"]\npurpose = \"prediction\"\ntraffic = 0.5\n\
           goal = \"outcome:purchase@1\"\nwindow = \"day\"\nrho = 0.02\nk = 50\n";
    let mut policy = compile(&text, 20_781, &facts).unwrap();
    if model {
        policy.models[0].state = ModelState::Experiment;
        policy.experiments[0].model = Some(0);
    }
    Device::new(&policy.to_bytes(), setup(purposes), state, &[seed; 32]).unwrap()
}

fn arm(device: &Device) -> Option<String> {
    let status: serde_json::Value = serde_json::from_str(&device.status()).unwrap();
    status["arms"]["hint"].as_str().map(str::to_owned)
}

/// The cell of the experiment's goal among those of the device's next submission.
fn goal(device: &mut Device, at: u64) -> Option<u32> {
    let text = "hint-by-purchase arm:hint, outcome:purchase@1";
    let hash = text.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let metric = 1_000_000_000 + hash % 1_000_000_000;
    cells(device, at).into_iter().find(|(id, _)| *id == metric).map(|(_, cell)| cell)
}

#[test]
fn a_device_keeps_its_arm_and_counts_once_it_was_exposed() {
    let both = ["measurement", "prediction"];
    let mut count = [0; 3];
    for seed in 0..200 {
        let mut device = trial(&both, &[], seed, false);
        let arm = arm(&device);
        let place = match arm.as_deref() {
            Some("as-is") => 0,
            Some("hint") => 1,
            None => 2,
            Some(other) => panic!("{other}"),
        };
        count[place] += 1;
        device.page(NOW, 0, "/", "", "");
        assert_eq!(goal(&mut device, NOW), None, "nobody was exposed");
        assert_eq!(device.custom(NOW + 1, "exposure:hint"), arm.is_some());
        assert!(!device.custom(NOW + 1, "exposure:nothing"));
        device.push(NOW + 2, EventKind::Purchase.number().into(), 500, 0, 0);
        let told = (place < 2).then(|| u32::try_from(place).unwrap() * 2 + 1);
        assert_eq!(goal(&mut device, NOW), told);
        let kept = device.prepare(NOW).kept;
        // Another page, another seed: the arm stays, and what was met stays with the session.
        let mut again = trial(&both, &kept, 255 - seed, false);
        assert_eq!(self::arm(&again), arm);
        assert_eq!(goal(&mut again, NOW), told);
        // The purpose taken back takes it along.
        let mut narrowed = trial(&["measurement"], &kept, 1, false);
        assert_eq!((self::arm(&narrowed), goal(&mut narrowed, NOW)), (None, None));
    }
    // Half of 200 take part, half of them in each arm: within four deviations.
    assert!((72..=128).contains(&count[2]) && count[..2].iter().all(|arm| (26..=75).contains(arm)), "{count:?}");
}

/// Nor does it hear who stands in for that model, and `status` tells it no more.
#[test]
fn who_does_not_hear_a_model_does_not_hear_its_stand_in() {
    let text = template("shop", "app.example", "https://app.example", "2027-03-01").unwrap();
    let text = text
        .replace("rho = 0.05\n", "rho = 0.02\n")
        .replace("state = \"shadow\" ", "fallback = \"small\"\nstate = \"shadow\" ")
        + "[[model]]\nid = \"small\"\nmanifest = \"small.json\"\nstate = \"shadow\"\npurpose = \"prediction\"\n\
           [[experiment]]\nid = \"hint\"\narms = [\"as-is\", \"hint\"]\npurpose = \"prediction\"\ntraffic = 0.5\n\
           goal = \"outcome:purchase@1\"\nwindow = \"day\"\nrho = 0.02\nk = 50\n";
    let mut policy = compile(&text, 20_781, &facts).unwrap();
    policy.models.iter_mut().for_each(|model| model.state = ModelState::Live);
    policy.experiments[0].model = Some(0);
    for seed in 0..40 {
        let mut device = Device::new(&policy.to_bytes(), setup(&["prediction"]), &[], &[seed; 32]).unwrap();
        device.page(NOW, 0, "/", "", "");
        let hears = arm(&device).as_deref() == Some("hint");
        assert_eq!((device.set_score(1, 0.25), device.set_score(0, 0.5)), (hears, hears), "seed {seed}");
        let status: serde_json::Value = serde_json::from_str(&device.status()).unwrap();
        for score in status["scores"].as_array().unwrap() {
            assert_eq!((score["shown"] == true, score["score"].is_number()), (hears, hears), "{score}");
        }
    }
}

/// Arms of one experiment leave in one submission, and nothing that follows from them is kept without one.
#[test]
fn a_submission_bears_the_arms_of_one_experiment() {
    let two = |ids: &[&str], purposes: &[&str], state: &[u8], seed: u8| {
        let mut text = template("blog", "app.example", "https://app.example", "2027-03-01").unwrap();
        for id in ids {
            text += &format!(
                "[[experiment]]\nid = \"{id}\"\narms = [\"a\", \"b\"]\npurpose = \"measurement\"\ngoal = \"outcome:bounce@1\"\n\
                 guardrails = [\"feature:errors@1\"]\nwindow = \"day\"\nrho = 0.02\nk = 50\n"
            );
        }
        let policy = compile(&text, 20_781, &|_| Err("no models here".to_owned())).unwrap();
        (Device::new(&policy.to_bytes(), setup(purposes), state, &[seed; 32]).unwrap(), policy)
    };
    let mut met = std::collections::BTreeSet::new();
    for seed in 0..20 {
        let (mut device, policy) = two(&["one", "two"], &["measurement"], &[], seed);
        device.page(NOW, 0, "/", "", "");
        assert!(device.custom(NOW, "exposure:one") && device.custom(NOW, "exposure:two"));
        let sent = cells(&mut device, NOW);
        let of = |name: &str| {
            let metrics = policy.metrics.iter().filter(|metric| metric.name.starts_with(name));
            metrics.filter(|metric| sent.iter().any(|(id, _)| *id == metric.id)).count()
        };
        assert!(matches!((of("one-by"), of("two-by")), (2, 0) | (0, 2)), "goal and guardrail of one");
        met.insert(of("one-by") > 0);
    }
    assert_eq!(met.len(), 2, "now this one and now that");
    // The lot goes with the last experiment: what comes later is drawn anew.
    let arms = |device: &Device| serde_json::from_str::<serde_json::Value>(&device.status()).unwrap()["arms"].clone();
    let differs = (0..20).any(|seed| {
        let (mut with, _) = two(&["one", "two"], &["measurement"], &[], seed);
        with.page(NOW, 0, "/", "", "");
        let (mut without, _) = two(&[], &["measurement"], &with.prepare(NOW).kept, seed + 50);
        without.page(NOW, 0, "/", "", "");
        let (again, _) = two(&["one", "two"], &["measurement"], &without.prepare(NOW).kept, seed + 100);
        arms(&with) != arms(&again)
    });
    assert!(differs);
}

#[test]
fn the_control_does_not_hear_the_model_that_is_tried_and_is_exposed_all_the_same() {
    let both = ["measurement", "prediction"];
    let mut heard = 0;
    for seed in 0..60 {
        let mut device = trial(&both, &[], seed, true);
        device.page(NOW, 0, "/", "", "");
        let arm = arm(&device);
        assert_eq!(device.set_score(0, 0.5), arm.as_deref() == Some("hint"));
        heard += u32::from(arm.as_deref() == Some("hint"));
        assert_eq!(goal(&mut device, NOW).is_some(), arm.is_some(), "seed {seed}");
        assert!(!device.set_score(0, f32::NAN), "no number is nothing to hear");
    }
    assert!((4..=27).contains(&heard), "{heard}");
}
