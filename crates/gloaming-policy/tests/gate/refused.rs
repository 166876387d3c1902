//! The table of what is refused, with the reason said.

use gloaming_policy::ModelState;
use gloaming_policy::author::{Key, gate_rules};
use gloaming_policy::gate::{
    Action, Attribute, Facts, Fairness, GateError, Group, HeldOut, Kind, Parity, Rules, Runtime, Said, SplitBy, Stage,
    Statement, Turn, Value,
};
use gloaming_signal::hash;

use super::rig::{MANIFEST, Quality, Rig, TODAY, facts, interval};

/// Everything is there but `kind`, which is as `said`; the words of the refusal.
fn refused(said: Said) -> String {
    let mut rig = Rig::shadow();
    for kind in Kind::ALL.into_iter().filter(|kind| Some(*kind) != said.kind() || *kind == Kind::Parity) {
        rig.say(kind, Quality::Good).unwrap();
    }
    rig.add(said, "data").unwrap();
    rig.approve("data", Stage::Experiment).unwrap();
    let error = rig.go(Stage::Experiment).unwrap_err();
    let GateError::Missing { missing, .. } = &error else { panic!("{error}") };
    assert_eq!(missing.iter().filter(|finding| !finding.met).count(), 1, "{error}");
    error.to_string()
}

#[test]
fn evidence_from_a_random_split_however_good() {
    // What delbot's trajectories give when rows are set aside by lot; with a device held out it is chance.
    let rig = Rig::new();
    let Said::HeldOut(HeldOut { on, .. }) = rig.said(Kind::HeldOut, Quality::Lot) else { panic!() };
    let figures = interval(0.9998, 1.0);
    let (day, brier) = ("2026-11-24".into(), interval(0.0, 0.01));
    let said = HeldOut { day, on, auc: figures, average_precision: figures, brier, turns: vec![], curve: vec![] };
    let words = refused(Said::HeldOut(said));
    assert!(words.contains("held-out: a random split: it tells how well the model remembers"), "{words}");
}

#[test]
fn evidence_from_the_easiest_of_several_sources() {
    // delbot: the bot pyhm is told by a model that tells pynput from people no better than chance.
    let rig = Rig::new();
    let of = |turns: &[(&str, f64, f64)]| {
        let Said::HeldOut(mut said) = rig.said(Kind::HeldOut, Quality::Good) else { panic!() };
        (said.auc, said.on.split, said.on.tested) = (interval(0.97, 0.99), SplitBy::Source, "pyhm".into());
        let turn = |(held_out, low, high): &(&str, f64, f64)| Turn {
            held_out: (*held_out).into(),
            rows: 90,
            positives: 40,
            auc: interval(*low, *high),
        };
        said.turns = turns.iter().map(turn).collect();
        Said::HeldOut(said)
    };
    let words = refused(of(&[]));
    assert!(words.contains("one source was held out (pyhm), and nothing says that no other is harder"), "{words}");
    assert!(words.contains("hold out each source in its turn"), "{words}");
    let words = refused(of(&[("pc1", 0.9, 0.95), ("pynput", 0.38, 0.6), ("pc2", 0.7, 0.8)]));
    assert!(words.contains("AUC with pynput held out, the worst of 4, 0.4900 [0.3800, 0.6000]"), "{words}");
    // Where the worst is good, all are.
    let mut rig = Rig::shadow();
    rig.add(of(&[("pc1", 0.9, 0.95), ("pynput", 0.65, 0.7)]), "data").unwrap();
    let found = rig.record.findings(&hash::hex(&MANIFEST), Stage::Experiment, rig.today).unwrap();
    let held = found.iter().find(|finding| finding.need == "held-out").unwrap();
    assert!(held.met && held.found.contains("with pynput held out, the worst of 3"), "{held:?}");
    // A source that takes two turns, or a turn of nobody, is no statement.
    for turns in [&[("pc1", 0.9, 0.95), ("pc1", 0.65, 0.7)][..], &[(" ", 0.9, 0.95)]] {
        let said = Statement::of("purchase-intent", &MANIFEST, of(turns));
        assert!(Statement::read(said.to_json().as_bytes()).is_err());
    }
}

#[test]
fn a_selection_gap_of_more_than_a_third() {
    // OULAD: the learners flagged by a model of 2013 in 2014, by disability.
    let rig = Rig::new();
    let Said::Fairness(Fairness { day, on, .. }) = rig.said(Kind::Fairness, Quality::Good) else { panic!() };
    let group = |name: &str, rows, selected| Group { name: name.into(), rows, positives: rows / 3, selected };
    let by = Attribute {
        name: "disability".into(),
        groups: vec![group("declared", 1_634, 1_050), group("none", 15_561, 4_100)],
        selection_gap: interval(0.345, 0.393),
        odds_gap: interval(0.35, 0.41),
    };
    let words = refused(Said::Fairness(Fairness { day, on, threshold: 0.4, by: vec![by], none: None }));
    assert!(words.contains("fairness: selection gap by disability 0.3690 [0.3450, 0.3930] is above 0.1"), "{words}");
}

#[test]
fn what_the_interval_leaves_open_is_old_or_differs() {
    let rig = Rig::new();
    for (said, words) in [
        (rig.said(Kind::HeldOut, Quality::Weak), "AUC 0.6100 [0.5500, 0.6700] may be below 0.6"),
        (rig.said(Kind::HeldOut, Quality::Stale), "is of 2026-05-08, more than 180 days ago"),
        (rig.said(Kind::Calibration, Quality::Weak), "calibration error 0.1000 [0.0900, 0.1100] may be above 0.1"),
        (rig.said(Kind::Parity, Quality::Weak), "rows differ by 2e-5, more than 1e-5"),
        (
            Said::Parity(Parity { day: "2026-11-24".into(), rows: 64, runtimes: vec![] }),
            "rows were not compared on native, wasmtime, as [gate] asks",
        ),
    ] {
        let found = refused(said);
        assert!(found.contains(words), "{found}");
    }
}

/// Rows were compared on these runtimes, and the rules ask for `asked`; what the gate finds.
fn compared(asked: &str, on: &[&str]) -> gloaming_policy::gate::Finding {
    let mut rig = Rig::bare();
    let gate = rig.gate.replacen("max_age_days = 180", &format!("max_age_days = 180\n{asked}"), 1);
    rig.rules(&gate).unwrap();
    rig.record.append(Action::Model { facts: facts(1, &MANIFEST) }, &rig.owner, TODAY).unwrap();
    let runtimes = on.iter().map(|name| Runtime { name: (*name).into(), largest: 3e-8 }).collect();
    rig.add(Said::Parity(Parity { day: "2026-11-24".into(), rows: 64, runtimes }), "data").unwrap();
    let found = rig.record.findings(&hash::hex(&MANIFEST), Stage::Shadow, TODAY).unwrap();
    assert_eq!(rig.go(Stage::Shadow).is_ok(), found.iter().all(|finding| finding.met));
    found.into_iter().find(|finding| finding.need == "parity").unwrap()
}

#[test]
fn rows_that_were_not_compared_where_the_rules_say() {
    for (asked, on, words, remedy) in [
        ("", &["native"][..], "rows were not compared on wasmtime, as [gate] asks", "of a build with its assets"),
        ("", &["wasmtime"], "rows were not compared on native, as [gate] asks", "`gloaming model evaluate`"),
        ("", &[], "rows were not compared on native, wasmtime, as [gate] asks", "`gloaming model evaluate`"),
        (
            "runtimes = [\"native\", \"wasmtime\", \"chromium\"]",
            &["native", "wasmtime"],
            "rows were not compared on chromium, as [gate] asks",
            "`gloaming model evaluate --browser=PROGRAM`",
        ),
    ] {
        let found = compared(asked, on);
        assert!(!found.met && found.found == words && found.remedy.contains(remedy), "{found:?}");
    }
    for (asked, on) in [
        ("", &["native", "wasmtime"][..]),
        ("", &["native", "wasmtime", "firefox"]),
        ("runtimes = [\"native\"]", &["native"]),
        ("runtimes = [\"native\", \"wasmtime\", \"chromium\"]", &["native", "wasmtime", "chromium"]),
    ] {
        let found = compared(asked, on);
        assert!(found.met, "{found:?}");
        assert!(found.found.contains(&format!("at most on {} (data", on.join(", "))), "{found:?}");
    }
}

/// A record from before there was a choice: its rules name no runtime, and what it decided stands.
#[test]
fn rules_that_name_no_runtime_ask_for_what_they_asked() {
    let rig = Rig::bare();
    let before = gate_rules(&rig.gate.replacen("[gate]", "[gate]\nruntimes = [\"native\"]", 1)).unwrap().unwrap();
    let text = serde_json::to_string(&before).unwrap();
    assert!(!text.contains("runtimes"), "{text}");
    assert_eq!(serde_json::from_str::<Rules>(&text).unwrap(), before);
    let now = gate_rules(&rig.gate).unwrap().unwrap();
    assert!(serde_json::to_string(&now).unwrap().contains(r#""runtimes":["native","wasmtime"]"#));
}

#[test]
fn figures_that_cannot_be() {
    let rig = Rig::new();
    let json = |kind| Statement::of("purchase-intent", &MANIFEST, rig.said(kind, Quality::Good)).to_json();
    for (kind, from, to) in [
        (Kind::HeldOut, "0.63", "null"),
        (Kind::HeldOut, "0.63", "NaN"),
        (Kind::HeldOut, "0.63", "0.99"),
        (Kind::HeldOut, "0.67", "1.3"),
        (Kind::HeldOut, "760", "76000"),
        (Kind::Parity, "3e-8", "1e999"),
        (Kind::HeldOut, "2026-11-24", "soon"),
        (Kind::HeldOut, "urn:gloaming:held-out:1", "urn:gloaming:hearsay:1"),
        (Kind::HeldOut, "in-toto.io/Statement/v1", "in-toto.io/Statement/v0.1"),
        (Kind::Fairness, "\"by\"", "\"none\": \"short\", \"because\""),
        (Kind::Ethics, "the board", " "),
    ] {
        let text = json(kind);
        assert!(text.contains(from), "{text}");
        assert!(Statement::read(text.replacen(from, to, 1).as_bytes()).is_err(), "{from} -> {to}");
    }
}

#[test]
fn models_that_devices_cannot_run_or_nobody_answers_for() {
    let known = |change: &dyn Fn(&mut Facts)| {
        let mut rig = Rig::bare();
        let gate = rig.gate.clone();
        rig.rules(&gate).unwrap();
        let mut facts = facts(2, &MANIFEST);
        change(&mut facts);
        rig.record.append(Action::Model { facts }, &rig.owner, TODAY).map_err(|error| error.to_string())
    };
    known(&|_| {}).unwrap();
    let refused = |change: &dyn Fn(&mut Facts), words: &str| {
        let error = known(change).unwrap_err();
        assert!(error.contains(words), "{error}");
    };
    // A model of Online Shoppers with its leaky column: computed from later purchases, on no device.
    refused(&|f| f.features.push("page-values@1".into()), "takes `page-values@1`, which devices do not compute");
    refused(&|f| f.features[0] = "pages@2".into(), "takes `pages@2`, which devices do not compute in that version");
    refused(&|f| f.next_review = "2026-11-24".into(), "the review of purchase-intent was due on `2026-11-24`");
    refused(&|f| f.next_review = "next year".into(), "was due on `next year`");
    refused(&|f| f.bytes = 100_001, "has 100001 bytes, the rules allow 100000");
    refused(&|f| (f.bytes, f.oversize) = (100_001, Some("why not".into())), "has 100001 bytes");
    known(&|f| (f.bytes, f.oversize) = (100_001, Some("a transformer, for shops in Basque".into()))).unwrap();
    refused(&|f| f.owner = " ".into(), "lacks a name, hashes or an owner");
    refused(&|f| f.manifest.truncate(60), "lacks a name, hashes or an owner");
}

#[test]
fn an_expired_review_and_a_policy_that_would_outlive_it() {
    let mut rig = Rig::acting();
    rig.today = TODAY + 200;
    let findings = rig.record.findings(&rig.manifest, Stage::Experiment, rig.today).unwrap();
    assert_eq!((findings[0].need.as_str(), findings[0].found.as_str()), ("review", "was due on 2027-06-01"));
    // 2027-06-01 is day 20970.
    rig.record.permits(&MANIFEST, ModelState::Experiment, 20_970).unwrap();
    let error = rig.record.permits(&MANIFEST, ModelState::Experiment, 20_971).unwrap_err().to_string();
    assert!(error.contains("to be reviewed on 2027-06-01, before the policy expires"), "{error}");
}

#[test]
fn a_manifest_older_than_the_one_in_force() {
    let mut rig = Rig::acting();
    let newer = [3; 32];
    let error = rig.record.append(Action::Model { facts: facts(1, &newer) }, &rig.owner, TODAY).unwrap_err();
    assert!(error.to_string().contains("version 1 of purchase-intent is known already"), "{error}");
    rig.record.append(Action::Model { facts: facts(2, &newer) }, &rig.owner, TODAY).unwrap();
    // The new one is brought to live the whole way.
    let sign =
        |rig: &Rig, said: Said, role: &str| Statement::of("purchase-intent", &newer, said).sign(&rig.roles[role]);
    for kind in Kind::ALL {
        let envelope = sign(&rig, rig.said(kind, Quality::Good), "data");
        rig.record.add(envelope, &rig.owner, TODAY).unwrap();
    }
    for to in [Stage::Shadow, Stage::Experiment, Stage::Live] {
        for role in ["data", "compliance", "product"] {
            let seen = rig.record.head();
            let yes = gloaming_policy::gate::Approval { day: "2026-11-24".into(), role: role.into(), to, seen };
            let envelope = sign(&rig, Said::Approval(yes), role);
            rig.record.add(envelope, &rig.owner, TODAY).unwrap();
        }
        rig.record.permits(&MANIFEST, ModelState::Experiment, 20_970).unwrap();
        rig.record.move_to(&newer, to, "it is better", &rig.owner, TODAY).unwrap();
    }
    let error = rig.record.permits(&MANIFEST, ModelState::Experiment, 20_970).unwrap_err().to_string();
    assert!(error.contains("version 1 of purchase-intent is older than version 2, which is live"), "{error}");
    assert!(rig.go(Stage::Experiment).is_err());
    // It fails: the older one is there to fall back to.
    rig.record.move_to(&newer, Stage::Quarantined, "it flags everybody", &rig.owner, TODAY).unwrap();
    rig.record.permits(&MANIFEST, ModelState::Experiment, 20_970).unwrap();
}

#[test]
fn statements_of_strangers_of_other_models_and_of_tomorrow() {
    let mut rig = Rig::new();
    let said = rig.said(Kind::Parity, Quality::Good);
    let refused = |rig: &mut Rig, envelope, words: &str| {
        let before = rig.record.clone();
        let error = rig.record.add(envelope, &rig.owner, TODAY).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
        assert_eq!(rig.record, before);
    };
    let of = |name: &str, manifest: &[u8; 32]| Statement::of(name, manifest, said.clone());
    let (data, stranger) = (rig.roles["data"].clone(), Key::from_seed(&[66; 32]));
    refused(&mut rig, of("purchase-intent", &MANIFEST).sign(&stranger), "which is no role's key");
    refused(&mut rig, of("purchase-intent", &[8; 32]).sign(&data), "knows no model with the manifest 0808");
    refused(&mut rig, of("churn", &MANIFEST).sign(&data), "the statement is of `churn`");
    rig.today += 1;
    let tomorrow = rig.said(Kind::Parity, Quality::Good);
    refused(&mut rig, Statement::of("purchase-intent", &MANIFEST, tomorrow).sign(&data), "which has not come");
    let yes = gloaming_policy::gate::Approval {
        day: "2026-11-24".into(),
        role: "compliance".into(),
        to: Stage::Shadow,
        seen: hash::hex(&[0; 32]),
    };
    let yes = Statement::of("purchase-intent", &MANIFEST, Said::Approval(yes)).sign(&data);
    refused(&mut rig, yes, "an approval by `compliance` with the key of `data`");
}

#[test]
fn rules_that_ask_too_little() {
    let rig = Rig::bare();
    let problems = |text: &str| match gate_rules(text) {
        Ok(_) => panic!("{text}"),
        Err(problems) => problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
    };
    let data = rig.roles["data"].public().to_text();
    for (from, to, words) in [
        ("\"held-out\", \"calibration\", \"fairness\", \"parity\"]", "\"parity\"]", "does not ask for `held-out`"),
        (", \"experiment\", \"ethics\"]", "]", "gate.live does not ask for `experiment`"),
        ("approved_by = [\"data\"]", "approved_by = []", "asks 0 roles for approval"),
        ("[\"data\", \"compliance\", \"product\"]", "[\"data\"]", "asks 1 roles for approval"),
        ("approved_by = [\"data\"]", "approved_by = [\"law\"]", "asks `law`, which is no role"),
        ("auc = 0.6", "auc = 0.5", "that is what a coin gets"),
        ("auc = 0.6", "", "asks for `held-out` and gives no `auc`"),
        ("lift = 0.0", "lifts = 0.0", "has no key `lifts`"),
        ("\"fairness\"", "\"fairnes\"", "did you mean `fairness`?"),
        (&rig.roles["compliance"].public().to_text(), &data, "have a key in common"),
        (&data, "AAAA", "a public key has 32 bytes"),
        ("max_age_days = 180", "max_age_days = 1800", "a whole number from 1 to 400"),
        ("max_age_days", "runtimes = [\"wasmtime\"]\nmax_age_days", "gate.runtimes does not ask for `native`"),
        (
            "max_age_days",
            "runtimes = [\"native\", \"chrome\"]\nmax_age_days",
            "asks for `chrome`, which no statement names",
        ),
    ] {
        let text = rig.gate.replacen(from, to, 1);
        assert_ne!(text, rig.gate, "{from}");
        let found = problems(&text);
        assert!(found.contains(words), "{found}");
    }
    // The key that signs policies approves none.
    let mut rig = rig;
    let with_owner = rig.gate.replace(&data, &rig.owner.public().to_text());
    let error = rig.rules(&with_owner).unwrap_err().to_string();
    assert!(error.contains("who decides must not be who approves"), "{error}");
}

/// A model that names kinds, with everything said but `value`.
fn choosing(value: Option<Said>) -> Result<(), GateError> {
    let mut rig = Rig::bare();
    let gate = rig.gate.clone();
    rig.rules(&gate).unwrap();
    rig.record.append(Action::Model { facts: Facts { kinds: 4, ..facts(1, &MANIFEST) } }, &rig.owner, TODAY).unwrap();
    rig.say(Kind::Parity, Quality::Good).unwrap();
    rig.go(Stage::Shadow).unwrap();
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Value) {
        rig.say(kind, Quality::Good).unwrap();
    }
    value.into_iter().for_each(|said| rig.add(said, "data").unwrap());
    rig.approve("data", Stage::Experiment).unwrap();
    rig.go(Stage::Experiment)
}

#[test]
fn a_choice_that_earns_no_more_than_chance() {
    let rig = Rig::new();
    let value = |quality| rig.said(Kind::Value, quality);
    choosing(Some(value(Quality::Good))).unwrap();
    // Being right about an outcome is nothing that a model of kinds can be.
    let words = choosing(None).unwrap_err().to_string();
    assert!(words.contains("value: none (`gloaming model evaluate --logged` makes it"), "{words}");
    let words = choosing(Some(value(Quality::Weak))).unwrap_err().to_string();
    assert!(words.contains("gain in clicks (813 rows of its own) 0.0100 [-0.0020, 0.0220] may be below 0"), "{words}");
    let words = choosing(Some(value(Quality::Lot))).unwrap_err().to_string();
    assert!(words.contains("value: a random split"), "{words}");
    let Said::Value(few) = value(Quality::Good) else { panic!() };
    let words = choosing(Some(Said::Value(Value { telling: 7, ..few }))).unwrap_err().to_string();
    assert!(words.contains("7 of 760 rows that earned something are of actions that it would have chosen"), "{words}");
    // A log of a rule that never tried the one on half of the people, and says that it was sure to do what it did.
    let Said::Value(rule) = value(Quality::Good) else { panic!() };
    let words = choosing(Some(Said::Value(Value { weight: interval(0.48, 0.52), ..rule }))).unwrap_err().to_string();
    assert!(words.contains("was not tried as often as the log says: weights of 0.5000 [0.4800, 0.5200]"), "{words}");
    // And a model that tells a chance is asked for none.
    let mut rig = Rig::shadow();
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Value) {
        rig.say(kind, Quality::Good).unwrap();
    }
    rig.approve("data", Stage::Experiment).unwrap();
    rig.go(Stage::Experiment).unwrap();
}
