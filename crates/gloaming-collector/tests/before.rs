//! What a device knows from before: what a goal is adjusted by, as it was when the experiment was first met; what was agreed to; and what a person says of
//! themselves, which is counted by arm where that was agreed to as well.
#![allow(clippy::unwrap_used)]

use gloaming_collector::device::{Device, Setup};
use gloaming_policy::Policy;
use gloaming_policy::author::{ManifestFacts, compile, template};
use gloaming_signal::{EventKind, Submission, cbor};

const DAY: u64 = 86_400_000;
const NOW: u64 = 20_781 * DAY + 1_000;

/// A shop's, with more in it.
fn shop(more: &str) -> Policy {
    let text = template("shop", "app.example", "https://app.example", "2027-03-01").unwrap().replacen(
        "rho_per_device_day = 0.25",
        "rho_per_device_day = 1.0",
        1,
    ) + more;
    compile(&text, 20_781, &|_| Ok(ManifestFacts::stand_in("purchase-intent", &["pages@1"]))).unwrap()
}

/// Everybody takes part in what is adjusted by days with a purchase: none, one or two, three and more.
fn policy(id: &str) -> Policy {
    shop(&format!(
        "[[experiment]]\nid = \"{id}\"\narms = [\"as-is\", \"hint\"]\npurpose = \"measurement\"\ntraffic = 1.0\n\
         goal = \"outcome:purchase@1\"\nbefore = {{ of = \"feature:purchase-days@1\", edges = [1, 3] }}\n\
         window = \"day\"\nrho = 0.02\nk = 50\n"
    ))
}

/// A visit on a day that meets the experiment, where there is one by that name, and buys; what it tells of the days before, and
/// what the device keeps.
fn visit(policy: &Policy, day: u64, meets: &str, state: &[u8]) -> (Option<u32>, Vec<u8>) {
    let at = NOW + day * DAY;
    let setup = Setup {
        purposes: ["measurement", "prediction"].map(Into::into).to_vec(),
        host: "app.example".into(),
        now_ms: at as f64,
        ..Setup::default()
    };
    let mut device = Device::new(&policy.to_bytes(), setup, state, &[7; 32]).unwrap();
    device.page(at, 0, "/", "", "");
    device.custom(at + 1, &format!("exposure:{meets}"));
    device.push(at + 2, EventKind::Purchase.number().into(), 6_400, 0, 0);
    let prepared = device.prepare(at);
    let goal = policy.experiments.first().map(|experiment| experiment.goal);
    let sent: Submission = cbor::from_slice(&prepared.submission.unwrap()).unwrap();
    let cell = sent.contributions.iter().find(|one| Some(one.metric) == goal).map(|one| one.cell);
    // Arm, then what was known, then the outcome.
    (cell.map(|cell| cell / 2 % 3), prepared.sent)
}

#[test]
fn it_is_as_of_the_first_time() {
    let policy = policy("hint");
    // Four days with a purchase, none of which met the experiment.
    let mut state = Vec::new();
    for day in 0..4 {
        let (known, kept) = visit(&policy, day, "nothing", &state);
        assert_eq!(known, None);
        state = kept;
    }
    let bought_before = state;
    // It is met on the fifth, after four; and by another device on its first day, and ever after.
    let (known, mut state) = visit(&policy, 4, "hint", &bought_before);
    assert_eq!(known, Some(2));
    for day in 5..9 {
        let (known, kept) = visit(&policy, day, "hint", &state);
        assert_eq!(known, Some(2));
        state = kept;
    }
    let mut state = Vec::new();
    for day in 0..6 {
        let (known, kept) = visit(&policy, day, "hint", &state);
        assert_eq!(known, Some(0), "what it bought since it met the experiment may be the arm's doing");
        state = kept;
    }
    // Another experiment is met anew, and the first is forgotten with it.
    let other = self::policy("another");
    let (known, state) = visit(&other, 6, "another", &state);
    assert_eq!(known, Some(2));
    let (known, _) = visit(&policy, 7, "hint", &state);
    assert_eq!(known, Some(2));
}

/// A purpose that is taken back while another stays is counted under the other, once; who takes back everything says nothing.
#[test]
fn purposes_that_are_taken_back_are_counted_under_those_that_stay() {
    let text = template("shop", "app.example", "https://app.example", "2027-03-01").unwrap().replacen(
        "rho_per_device_day = 0.25",
        "rho_per_device_day = 1.0",
        1,
    ) + "[[metric]]\nid = 90\nname = \"taken-back\"\nof = \"feature:purposes-withdrawn@1\"\nhistogram = { edges = [0, 1, 9] }\n\
         purpose = \"measurement\"\ntier = \"edge\"\nwindow = \"day\"\nrho = 0.02\nper_day = 3\nk = 50\n";
    let policy = compile(&text, 20_781, &|_| Ok(ManifestFacts::stand_in("purchase-intent", &["pages@1"]))).unwrap();
    let told = |purposes: &[&str], at: u64, state: &[u8], views: bool| {
        let setup = Setup {
            purposes: purposes.iter().map(ToString::to_string).collect(),
            host: "app.example".into(),
            now_ms: at as f64,
            ..Setup::default()
        };
        let mut device = Device::new(&policy.to_bytes(), setup, state, &[7; 32]).unwrap();
        if views {
            device.page(at, 0, "/", "", "");
        }
        let prepared = device.prepare(at);
        let sent: Option<Submission> = prepared.submission.map(|bytes| cbor::from_slice(&bytes).unwrap());
        let cell = sent.and_then(|sent| sent.contributions.iter().find(|one| one.metric == 90).map(|one| one.cell));
        (cell, prepared.kept, prepared.sent)
    };
    let (cell, kept, _) = told(&["measurement", "prediction"], NOW, &[], true);
    assert_eq!(cell, Some(0));
    // In the same visit, a moment later, and before anything else happens.
    let (cell, kept, sent) = told(&["measurement"], NOW + 5_000, &kept, false);
    assert_eq!(cell, Some(1));
    // The page after that takes back nothing, and the visit is the same.
    assert_eq!(told(&["measurement"], NOW + 9_000, &kept, true).0, Some(1));
    // The next visit has taken back nothing.
    assert_eq!(told(&["measurement"], NOW + 7_200_000, &sent, true).0, Some(0));
    // What is agreed to again is not taken back, and who agrees to nothing says nothing.
    assert_eq!(told(&["measurement", "prediction"], NOW + 7_200_000, &sent, true).0, Some(0));
    assert_eq!(told(&[], NOW + 7_200_000, &sent, true).0, None);
}

#[test]
fn arms_are_counted_by_group_where_both_were_agreed_to() {
    let text = template("shop", "app.example", "https://app.example", "2027-03-01").unwrap().replacen(
        "rho_per_device_day = 0.25",
        "rho_per_device_day = 1.0",
        1,
    ) + "\n[[purpose]]\nid = \"fairness\"\ntext.en = \"Compare how groups fare.\"\n
[[attribute]]\nid = \"age-band\"\nvalues = [\"under-30\", \"30-59\", \"60-plus\"]\npurpose = \"fairness\"\n
[[experiment]]\nid = \"hint\"\narms = [\"as-is\", \"hint\"]\npurpose = \"measurement\"\ntraffic = 1.0\n\
         goal = \"outcome:purchase@1\"\nbefore = { of = \"feature:purchase-days@1\", edges = [1, 3] }\n\
         guardrails = [{ of = \"outcome:purchase@1\", by = \"age-band\", permitted = 0.05 }]\n\
         window = \"day\"\nrho = 0.02\nk = 50\n";
    let policy = compile(&text, 20_781, &|_| Ok(ManifestFacts::stand_in("purchase-intent", &["pages@1"]))).unwrap();
    let rail = policy.experiments[0].guardrails[0].metric;
    let told = |purposes: &[&str], says: Option<&str>, meets: bool| {
        let setup = Setup {
            purposes: purposes.iter().map(ToString::to_string).collect(),
            host: "app.example".into(),
            now_ms: NOW as f64,
            ..Setup::default()
        };
        let mut device = Device::new(&policy.to_bytes(), setup, &[], &[7; 32]).unwrap();
        device.page(NOW, 0, "/", "", "");
        if meets {
            device.custom(NOW + 1, "exposure:hint");
        }
        if let Some(word) = says {
            device.feature(NOW + 2, "age-band", |feature| feature.word(word));
        }
        device.push(NOW + 3, EventKind::Purchase.number().into(), 6_400, 0, 0);
        let sent = device.prepare(NOW).submission.map(|bytes| cbor::from_slice::<Submission>(&bytes).unwrap());
        sent.and_then(|sent| sent.contributions.iter().find(|one| one.metric == rail).map(|one| one.cell % 6))
    };
    // Of the third group, and bought: what was known before is another count's business.
    assert_eq!(told(&["measurement", "fairness"], Some("60-plus"), true), Some(5));
    assert_eq!(told(&["measurement", "fairness"], Some("under-30"), true), Some(1));
    assert_eq!(told(&["measurement", "fairness"], None, true), None, "nobody is put into a group");
    assert_eq!(told(&["measurement", "fairness"], Some("60-plus"), false), None);
    assert_eq!(told(&["measurement"], Some("60-plus"), true), None);
    assert_eq!(told(&["fairness"], Some("60-plus"), true), None);
}

/// Something of a special category, asked for by a purpose of its own.
const SPECIAL: &str = r#"
[[purpose]]
id = "fairness-disability"
text.en = "Compare how people with and without a disability fare."

[[attribute]]
id = "disability"
values = ["yes", "no", "other"]
special = true
purpose = "fairness-disability"

[[fairness]]
model = "purchase-intent"
by = ["disability"]
outcome = "outcome:purchase@1"
window = "week"
rho = 0.02
k = 100
"#;

/// What Article 9 of the GDPR protects is neither kept nor told without a yes to just that, and forgotten when the yes is taken back.
#[test]
fn what_is_special_comes_and_goes_with_its_own_yes() {
    let policy = shop(SPECIAL);
    let fair = policy.metrics.iter().find(|metric| metric.name == "purchase-intent-fair-disability").unwrap().id;
    let (others, all) = (["measurement", "prediction"], ["measurement", "prediction", "fairness-disability"]);
    // What is told of it; the ledger before that; state when the visit goes on, and when it was told.
    let visit = |policy: &Policy, purposes: &[&str], state: &[u8], says: Option<&str>| {
        let setup = Setup {
            purposes: purposes.iter().map(ToString::to_string).collect(),
            host: "app.example".into(),
            now_ms: NOW as f64,
            ..Setup::default()
        };
        let mut device = Device::new(&policy.to_bytes(), setup, state, &[7; 32]).unwrap();
        device.page(NOW, 0, "/", "", "");
        device.set_score(0, 0.1);
        if let Some(word) = says {
            device.feature(NOW + 1, "disability", |feature| feature.word(word));
        }
        let ledger: serde_json::Value = serde_json::from_str(&device.ledger()).unwrap();
        let prepared = device.prepare(NOW);
        let sent = prepared.submission.map(|bytes| cbor::from_slice::<Submission>(&bytes).unwrap());
        let cell = sent.and_then(|sent| sent.contributions.iter().find(|one| one.metric == fair).map(|one| one.cell));
        (cell, ledger, prepared.kept, prepared.sent)
    };
    // Said without the yes it is as if it had not been said, to the byte.
    let (cell, _, kept, sent) = visit(&policy, &others, &[], Some("yes"));
    let (_, _, silent_kept, silent_sent) = visit(&policy, &others, &[], None);
    assert_eq!((cell, kept, sent), (None, silent_kept, silent_sent));
    // Nor is anybody put into a group.
    assert_eq!(visit(&policy, &all, &[], Some("undefined")).0, None);

    let (cell, _, kept, sent) = visit(&policy, &all, &[], Some("yes"));
    assert_eq!(cell, Some(0));
    assert_eq!(visit(&policy, &all, &kept, None).0, Some(0), "on the next page, too");
    // Taken back in the same visit; agreed to once more, it is to be said once more.
    let (cell, _, taken_back, _) = visit(&policy, &others, &kept, None);
    assert_eq!(cell, None);
    assert_eq!(visit(&policy, &all, &taken_back, None).0, None);

    // What was told stands in the ledger as long as the yes does; after that only that something was told.
    let line = |ledger: &serde_json::Value| {
        let lines = ledger.as_array().unwrap();
        lines.iter().find(|line| line["metric"] == fair).map(|line| (line["label"].clone(), line["cell"].clone()))
    };
    let holds = |state: &[u8]| state.windows(6).any(|bytes| bytes == b"yes | ");
    let (_, ledger, _, _) = visit(&policy, &all, &sent, None);
    assert_eq!(line(&ledger).unwrap(), ("yes | 0.000-0.700 | no".into(), 0.into()));
    assert!(holds(&sent));
    let forgotten = (serde_json::Value::from(""), serde_json::Value::Null);
    let (_, ledger, kept, _) = visit(&policy, &others, &sent, None);
    assert_eq!(line(&ledger), Some(forgotten.clone()));
    assert!(!holds(&kept));
    let (_, ledger, _, _) = visit(&policy, &all, &kept, None);
    assert_eq!(line(&ledger), Some(forgotten.clone()), "a new yes brings nothing back");
    // Nor does a policy that asks no longer leave it there.
    let (_, ledger, kept, _) = visit(&shop(""), &others, &sent, None);
    assert_eq!((line(&ledger), holds(&kept)), (Some(forgotten), false));
}
