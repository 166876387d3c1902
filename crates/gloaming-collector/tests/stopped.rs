//! An experiment that has ended by itself: every arm is given what the control is given, nobody is counted in it from then on, and
//! whoever says so can do nothing else.
#![allow(missing_docs, clippy::unwrap_used)]

use gloaming_collector::device::{Device, Setup};
use gloaming_policy::author::{ManifestFacts, compile, template};
use gloaming_policy::{ModelState, Policy};
use gloaming_signal::{EventKind, Submission, cbor};

const NOW: u64 = 20_781 * 86_400_000 + 1_000;

/// The shop with an experiment; `stop` is what its policy says of guardrails that break, `model` what the control does not hear.
fn policy(stop: &str, model: bool) -> Policy {
    let text = template("shop", "app.example", "https://app.example", "2027-03-01").unwrap();
    let text = text.replace("rho = 0.05\n", "rho = 0.03\n")
        + "[[experiment]]\nid = \"hint\"\narms = [\"as-is\", \"hint\", \"loud\"]\npurpose = \"prediction\"\n\
           goal = \"outcome:purchase@1\"\nguardrails = [\"feature:errors@1\"]\nwindow = \"day\"\nrho = 0.02\nk = 50\n"
        + stop;
    let facts = |_: &str| Ok::<_, String>(ManifestFacts::stand_in("purchase-intent", &["pages@1"]));
    let mut policy = compile(&text, 20_781, &facts).unwrap();
    if model {
        policy.models[0].state = ModelState::Experiment;
        policy.experiments[0].model = Some(0);
    }
    policy
}

const BY_ITSELF: &str = "stop = \"by-itself\"\n";

/// A page that begins: what was kept, and what the edge said beside the policy.
fn begins(policy: &Policy, state: &[u8], seed: u8, stopped: &[&str]) -> Device {
    let setup = Setup {
        purposes: ["measurement", "prediction"].map(Into::into).to_vec(),
        host: "app.example".into(),
        now_ms: 1e15,
        stopped: stopped.iter().map(ToString::to_string).collect(),
        ..Setup::default()
    };
    let mut device = Device::new(&policy.to_bytes(), setup, state, &[seed; 32]).unwrap();
    device.page(NOW, 0, "/", "", "");
    device
}

fn arm(device: &Device) -> String {
    let status: serde_json::Value = serde_json::from_str(&device.status()).unwrap();
    status["arms"]["hint"].as_str().unwrap().to_owned()
}

/// Cells by arm in what the page would send, were it left now.
fn counted(device: &mut Device, policy: &Policy) -> Vec<u32> {
    let Some(bytes) = device.prepare(NOW).submission else { return Vec::new() };
    let sent: Submission = cbor::from_slice(&bytes).unwrap();
    let by_arm = |id: u32| policy.metric(id).is_some_and(|metric| metric.name.starts_with("hint-by"));
    sent.contributions.iter().filter(|c| by_arm(c.metric)).map(|c| c.cell).collect()
}

#[test]
fn from_the_next_page_on_every_arm_is_the_control_and_nobody_is_counted() {
    let policy = policy(BY_ITSELF, false);
    let mut arms = std::collections::BTreeSet::new();
    for seed in 0..40 {
        let mut before = begins(&policy, &[], seed, &[]);
        arms.insert(arm(&before));
        assert!(before.custom(NOW + 1, "exposure:hint"));
        assert_eq!(counted(&mut before, &policy).len(), 2, "goal and guardrail");

        let mut after = begins(&policy, &[], seed, &["", "hint"]);
        assert_eq!(arm(&after), "as-is", "whatever arm it was in");
        // The control no more than the others: one arm that went on alone would be of another time.
        assert!(!after.custom(NOW + 1, "exposure:hint"));
        assert_eq!(counted(&mut after, &policy), [] as [u32; 0]);
        let unknown: serde_json::Value = serde_json::from_str(&after.status()).unwrap();
        assert_eq!(unknown["unknownEvents"], 0, "a page that goes on as it was is not at fault");
    }
    assert_eq!(arms.len(), 3, "{arms:?}");
}

/// What was met is told to its end in the arm in which it was met, whatever becomes of the visit: the arm may be why.
#[test]
fn a_visit_that_met_it_before_tells_how_it_ended() {
    let policy = policy(BY_ITSELF, false);
    for seed in 0..20 {
        let mut before = begins(&policy, &[], seed, &[]);
        let place = ["as-is", "hint", "loud"].iter().position(|name| *name == arm(&before)).unwrap();
        assert!(before.custom(NOW + 1, "exposure:hint"));
        let kept = before.prepare(NOW).kept;
        let mut after = begins(&policy, &kept, seed, &["hint"]);
        after.push(NOW + 2, EventKind::Purchase.number().into(), 500, 0, 0);
        assert_eq!(arm(&after), "as-is");
        let cell = u32::try_from(place).unwrap() * 2;
        assert!(counted(&mut after, &policy).contains(&(cell + 1)), "it bought, in {place}");
        // The lot is the one it was: were it not stopped, the arm would be the same again.
        let again = begins(&policy, &after.prepare(NOW).kept, seed, &[]);
        assert_eq!(arm(&again), ["as-is", "hint", "loud"][place]);
    }
}

/// Those who signed the policy did not say that anything ends by itself: then nobody can.
#[test]
fn without_the_policys_word_a_stop_is_ignored_and_so_is_one_of_nothing() {
    let people = policy("", false);
    assert_eq!(people.to_bytes(), policy("stop = \"by-people\"\n", false).to_bytes());
    let by_itself = policy(BY_ITSELF, false);
    for seed in 0..20 {
        let free = arm(&begins(&people, &[], seed, &[]));
        let mut told = begins(&people, &[], seed, &["hint"]);
        assert_eq!(arm(&told), free);
        assert!(told.custom(NOW + 1, "exposure:hint"));
        // Nor does a word that is no experiment's name, or an arm's, mean anything.
        for word in ["", "hin", "hint ", "loud", "as-is", "prediction", "purchase-intent"] {
            let mut other = begins(&by_itself, &[], seed, &[word]);
            assert_eq!(arm(&other), free, "{word:?}");
            assert!(other.custom(NOW + 1, "exposure:hint"));
        }
    }
}

#[test]
fn the_model_that_was_tried_is_heard_by_nobody() {
    let policy = policy(BY_ITSELF, true);
    let mut heard = 0;
    for seed in 0..20 {
        let hears = begins(&policy, &[], seed, &[]).set_score(0, 0.5);
        heard += u32::from(hears);
        let mut after = begins(&policy, &[], seed, &["hint"]);
        assert!(!after.set_score(0, 0.5));
        assert_eq!(counted(&mut after, &policy), [] as [u32; 0]);
        let status: serde_json::Value = serde_json::from_str(&after.status()).unwrap();
        assert_eq!(
            (&status["scores"][0]["shown"], &status["scores"][0]["score"]),
            (&false.into(), &serde_json::Value::Null)
        );
    }
    assert!((5..20).contains(&heard), "{heard}");
}
