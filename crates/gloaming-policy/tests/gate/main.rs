//! The gate: what is refused and with which words, that a record cannot be changed, and that no sequence of commands
//! lets a model act before it has shown what was asked.
#![allow(clippy::unwrap_used)]

mod refused;
mod rig;
mod sequences;

use gloaming_policy::ModelState;
use gloaming_policy::author::{Key, SignError, Signed, compile_with, template};
use gloaming_policy::gate::{
    Action, ENVELOPE_BYTES, Envelope, GateError, Kind, RECORD_BYTES, Record, Stage, Statement, oms,
};

use rig::{MANIFEST, Quality, Rig, TODAY, manifests, shop};

#[test]
fn a_model_is_brought_from_draft_to_live_and_acts_where_the_record_says() {
    let mut rig = Rig::new();
    let policy = |rig: &Rig, state: &str| {
        compile_with(&shop(&rig.gate, state), TODAY, &manifests, Some(&rig.record)).map_err(|p| p[0].to_string())
    };
    assert!(policy(&rig, "experiment").unwrap_err().contains("purchase-intent is draft in the record"));
    rig.say(Kind::Parity, Quality::Good).unwrap();
    rig.go(Stage::Shadow).unwrap();
    assert!(policy(&rig, "shadow").is_ok());
    assert!(policy(&rig, "experiment").unwrap_err().contains("purchase-intent is shadow in the record"));
    for kind in Kind::ALL {
        rig.say(kind, Quality::Good).unwrap();
    }
    for (to, state) in [(Stage::Experiment, "experiment"), (Stage::Live, "live")] {
        let GateError::Missing { missing, .. } = rig.go(to).unwrap_err() else { panic!() };
        assert!(missing.iter().any(|finding| !finding.met && finding.need == "approval by data"));
        for role in ["data", "compliance", "product"] {
            rig.approve(role, to).unwrap();
        }
        rig.go(to).unwrap();
        let policy = policy(&rig, state).unwrap();
        assert!(policy.models[0].state.acts());
        let bytes = Signed::sign(&policy, &[&rig.owner]).with_record(&rig.record).to_bytes();
        let (signed, _) = Signed::verify(&bytes, &rig.owner.public(), TODAY).unwrap();
        assert_eq!(signed.record().unwrap().unwrap(), rig.record);
    }
    // Less than the record permits is always allowed, and what was quarantined is not.
    assert!(policy(&rig, "shadow").is_ok());
    rig.go(Stage::Quarantined).unwrap();
    assert!(policy(&rig, "shadow").unwrap_err().contains("quarantined"));
    assert_eq!(policy(&rig, "quarantined").unwrap().models[0].state, ModelState::Off);
    // Everything it had shown counts no more.
    let findings = rig.record.findings(&rig.manifest, Stage::Shadow, TODAY).unwrap();
    assert!(findings.iter().any(|f| !f.met && f.found == "none since it was quarantined"), "{findings:?}");
    rig.say(Kind::Parity, Quality::Good).unwrap();
    rig.go(Stage::Shadow).unwrap();
    assert!(rig.go(Stage::Experiment).is_err());
    rig.go(Stage::Retired).unwrap();
    for to in Stage::ALL {
        assert!(rig.go(to).is_err(), "{to:?}");
    }
}

/// Whoever acts on people has somebody who answers for it and somebody else who looks at it, and the gate asks the latter.
#[test]
fn a_model_that_acts_has_an_owner_and_a_reviewer() {
    let rig = Rig::acting();
    let of = |text: String| compile_with(&text, TODAY, &manifests, Some(&rig.record)).map(|_| ());
    let text = shop(&rig.gate, "experiment");
    assert_eq!(of(text.clone()), Ok(()));
    let without =
        |key: &str| text.lines().filter(|line| !line.starts_with(key)).map(|line| format!("{line}\n")).collect();
    let reviewed_by = |role: &str| text.replace("reviewer = \"compliance\"", &format!("reviewer = \"{role}\""));
    let unasked =
        text.replace("approved_by = [\"data\", \"compliance\", \"product\"]", "approved_by = [\"data\", \"product\"]");
    for (text, words) in [
        (without("owner"), "nobody is named who answers for it and who looks at it"),
        (without("reviewer"), "nobody is named who answers for it and who looks at it"),
        (reviewed_by("data"), "`data` owns `purchase-intent` and reviews it"),
        (reviewed_by("complianse"), "did you mean `compliance`?"),
        (unasked, "`compliance` reviews `purchase-intent`, and gate.live does not ask for their approval"),
    ] {
        let problems = of(text).unwrap_err();
        assert!(problems.iter().any(|problem| problem.to_string().contains(words)), "{words:?}: {problems:?}");
    }
    // In shadow it may go without.
    let shadow = shop(&rig.gate, "shadow").replace("owner = \"data\"", "").replace("reviewer = \"compliance\"", "");
    assert_eq!(of(shadow), Ok(()));
}

#[test]
fn a_policy_that_lets_a_model_act_is_believed_with_its_record_only() {
    let mut rig = Rig::acting();
    let policy = compile_with(&shop(&rig.gate, "experiment"), TODAY, &manifests, Some(&rig.record)).unwrap();
    let signed = Signed::sign(&policy, &[&rig.owner]);
    let refuses = |bytes: &[u8], rig: &Rig, words: &str| {
        let error = Signed::verify(bytes, &rig.owner.public(), TODAY).unwrap_err();
        assert!(matches!(error, SignError::Gate(_)) && error.to_string().contains(words), "{error}");
    };
    refuses(&signed.to_bytes(), &rig, "there is no record");
    // A record of before the model had come that far, of another site, and of somebody else.
    refuses(&signed.clone().with_record(&Rig::shadow().record).to_bytes(), &rig, "is shadow in the record");
    let mut elsewhere = Record::begin("other.example", &rig.owner, TODAY).unwrap();
    rig.replay_into(&mut elsewhere);
    refuses(&signed.clone().with_record(&elsewhere).to_bytes(), &rig, "is of other.example");
    let stranger = Key::from_seed(&[99; 32]);
    let mut theirs = Record::begin("shop.example", &stranger, TODAY).unwrap();
    let mut by_stranger = Rig { owner: stranger, ..Rig::acting() };
    by_stranger.replay_into(&mut theirs);
    let rig = Rig::acting();
    refuses(&signed.clone().with_record(&theirs).to_bytes(), &rig, "never kept under the key");
    // A device's policy without models needs none.
    let text = template("blog", "shop.example", "https://shop.example", "2027-03-01").unwrap();
    let plain = compile_with(&text, TODAY, &manifests, None).unwrap();
    assert!(Signed::verify(&Signed::sign(&plain, &[&rig.owner]).to_bytes(), &rig.owner.public(), TODAY).is_ok());
}

/// What a reviewer found: the same signed statement, added again, became the newest.
#[test]
fn a_statement_is_said_once_and_an_older_one_does_not_come_back() {
    let mut rig = Rig::shadow();
    let good =
        Statement::of("purchase-intent", &MANIFEST, rig.said(Kind::HeldOut, Quality::Good)).sign(&rig.roles["data"]);
    rig.record.add(good.clone(), &rig.owner, TODAY).unwrap();
    assert!(rig.record.holds(&good));
    rig.say(Kind::HeldOut, Quality::Weak).unwrap();
    let refused = |rig: &mut Rig, envelope: &Envelope, words: &str| {
        let error = rig.record.add(envelope.clone(), &rig.owner, rig.today).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    refused(&mut rig, &good, "is in the record already");
    // Signed by another role it says the same.
    let again = Statement::of("purchase-intent", &MANIFEST, rig.said(Kind::Parity, Quality::Good));
    rig.record.add(again.sign(&rig.roles["data"]), &rig.owner, TODAY).unwrap();
    let again = again.sign(&rig.roles["compliance"]);
    refused(&mut rig, &again, "is in the record already");
    assert!(rig.say(Kind::HeldOut, Quality::Stale).unwrap_err().to_string().contains("older than what is there"));
    // After a quarantine, what was made before it is no evidence, whoever signs it.
    let mut rig = Rig::acting();
    rig.today += 10;
    rig.go(Stage::Quarantined).unwrap();
    let before = rig.said(Kind::Parity, Quality::Good);
    rig.today -= 1;
    let earlier = Statement::of("purchase-intent", &MANIFEST, rig.said(Kind::Parity, Quality::Good));
    rig.today += 1;
    let earlier = earlier.sign(&rig.roles["data"]);
    refused(&mut rig, &earlier, "older than what is there or than the model's quarantine");
    rig.add(before, "data").unwrap();
}

/// What a reviewer found: an approval served for every later move to the same stage.
#[test]
fn an_approval_is_used_up_by_a_move() {
    let mut rig = Rig::acting();
    rig.go(Stage::Shadow).unwrap();
    let GateError::Missing { missing, .. } = rig.go(Stage::Experiment).unwrap_err() else { panic!() };
    let unmet: Vec<&str> = missing.iter().filter(|f| !f.met).map(|f| f.found.as_str()).collect();
    assert_eq!(unmet, ["given for an earlier move"]);
    rig.approve("data", Stage::Experiment).unwrap();
    rig.go(Stage::Experiment).unwrap();
}

/// What a reviewer found: only the manifest's hash tied a policy's model to the record.
#[test]
fn what_acts_is_what_was_judged_and_a_record_forgets_nothing() {
    let rig = Rig::acting();
    let policy = compile_with(&shop(&rig.gate, "experiment"), TODAY, &manifests, Some(&rig.record)).unwrap();
    let signed = |policy: &gloaming_policy::Policy| Signed::sign(policy, &[&rig.owner]).with_record(&rig.record);
    let verify = |signed: &Signed, today| Signed::verify(&signed.to_bytes(), &rig.owner.public(), today).map(drop);
    verify(&signed(&policy), TODAY).unwrap();
    let changes: [fn(&mut gloaming_policy::Model); 3] =
        [|model| model.inputs[0] += 1, |model| model.onnx_sha256 = [7; 32], |model| model.id = "churn".into()];
    for change in changes {
        let mut other = policy.clone();
        change(&mut other.models[0]);
        let error = verify(&signed(&other), TODAY).unwrap_err().to_string();
        assert!(error.contains("another name, file, other inputs or kinds"), "{error}");
    }
    let error = verify(&signed(&policy), TODAY - 2).unwrap_err().to_string();
    assert!(error.contains("is dated 2026-11-24, which has not come"), "{error}");
    // A record of before, in a later policy: believed alone, and not after what is in force.
    let before = Signed::sign(&policy, &[&rig.owner]).with_record(&Rig::shadow().record);
    assert!(signed(&policy).follows(&before) && !before.follows(&signed(&policy)));
}

#[test]
fn what_is_too_long_is_refused_and_a_full_record_still_stops_a_model() {
    assert!(matches!(Record::read(&vec![b'{'; RECORD_BYTES + 1]), Err(GateError::Full)));
    assert!(Envelope::read(&vec![b' '; ENVELOPE_BYTES + 1]).unwrap_err().to_string().contains("longer than"));
    assert!(oms::Bundle::read(&vec![b' '; 1024 * 1024 + 1]).is_err());
    let mut rig = Rig::acting();
    let gate = rig.gate.clone();
    let full = loop {
        if let Err(error) = rig.rules(&gate) {
            break error;
        }
    };
    assert_eq!(full, GateError::Full);
    assert_eq!(rig.say(Kind::Parity, Quality::Good), Err(GateError::Full));
    rig.go(Stage::Quarantined).unwrap();
    assert_eq!(Record::read(rig.record.bytes()).unwrap(), rig.record);
}

#[test]
fn a_site_hands_its_record_over_to_its_next_key() {
    let mut rig = Rig::acting();
    let (first, next) = (rig.owner.clone(), Key::from_seed(&[77; 32]));
    rig.record.append(Action::Key { next: next.public().to_text() }, &first, TODAY).unwrap();
    assert!(matches!(rig.go(Stage::Shadow), Err(GateError::Unsigned(_))), "the old key writes no more");
    rig.owner = next;
    rig.go(Stage::Shadow).unwrap();
    assert!(rig.record.knows(&first.public()) && rig.record.knows(&rig.owner.public()));
    assert_eq!(Record::read(rig.record.bytes()).unwrap(), rig.record);
    let role = Action::Key { next: rig.roles["data"].public().to_text() };
    assert!(rig.record.append(role, &rig.owner, TODAY).unwrap_err().to_string().contains("a role's key"));
    let back = Action::Key { next: first.public().to_text() };
    assert!(rig.record.append(back, &rig.owner, TODAY).is_err());
}

#[test]
fn no_byte_of_a_record_can_be_changed_and_no_entry_left_out_moved_or_repeated() {
    let record = Rig::acting().record;
    let bytes = record.bytes().to_vec();
    assert_eq!(Record::read(&bytes).unwrap(), record);
    for at in (0..bytes.len()).step_by(3) {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 7);
        // What JSON and base64 do not care about may change; what was recorded may not.
        if let Ok(read) = Record::read(&changed) {
            assert!(read.entries().eq(record.entries()), "byte {at}");
        }
    }
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    for at in 0..lines.len() {
        let (mut without, mut moved, mut twice) = (lines.clone(), lines.clone(), lines.clone());
        without.remove(at);
        twice.insert(at, lines[at]);
        moved.swap(at, (at + 1) % lines.len());
        // Cut off the end it is a record of earlier: whoever kept the head notices.
        let cut = at + 1 == lines.len();
        for (what, lines) in [("without", without), ("moved", moved), ("twice", twice)] {
            let read = Record::read(&lines.concat());
            assert!(read.is_err() || (cut && what == "without"), "{what} {at}");
        }
    }
    assert!(matches!(Record::read(&bytes[..bytes.len() - 1]), Err(GateError::Entry { .. })));
    assert!(matches!(Record::read(b""), Err(GateError::Form(_))));
}

#[test]
fn an_entry_that_would_be_refused_is_not_believed_when_somebody_wrote_it_all_the_same() {
    // The owner's own key over a move that was not earned, in the right place of the chain.
    let rig = Rig::shadow();
    let entry = serde_json::json!({
        "seq": rig.record.len(), "prev": rig.record.head(), "day": "2026-11-24",
        "action": { "kind": "move", "manifest": rig.manifest, "from": "shadow", "to": "live", "because": "we are in a hurry" },
    });
    let forge = |entry: &serde_json::Value, key: &Key| {
        let line = Envelope::sign("application/vnd.gloaming.record+json", entry.to_string().as_bytes(), key).to_json();
        Record::read(&[rig.record.bytes(), line.as_bytes(), b"\n"].concat()).unwrap_err().to_string()
    };
    assert!(forge(&entry, &rig.owner).contains("cannot become live"));
    let mut step = entry.clone();
    step["action"]["to"] = "experiment".into();
    assert!(forge(&step, &rig.owner).contains("may not become experiment: held-out: none"));
    step["action"]["from"] = "live".into();
    step["action"]["to"] = "live".into();
    assert!(forge(&step, &rig.owner).contains("moves a model from live, which is shadow"));
    step["seq"] = 0.into();
    assert!(forge(&step, &rig.owner).contains("does not follow"));
    assert!(forge(&entry, &Key::from_seed(&[5; 32])).contains("not signed by the key"));
}

#[test]
fn the_newest_statement_decides_and_new_evidence_has_to_be_looked_at_again() {
    let mut rig = Rig::shadow();
    for kind in [Kind::HeldOut, Kind::Calibration, Kind::Fairness] {
        rig.say(kind, Quality::Good).unwrap();
    }
    rig.approve("data", Stage::Experiment).unwrap();
    rig.say(Kind::HeldOut, Quality::Weak).unwrap();
    let unmet = |rig: &Rig| -> Vec<(String, String)> {
        let findings = rig.record.findings(&rig.manifest, Stage::Experiment, TODAY).unwrap();
        findings.into_iter().filter(|finding| !finding.met).map(|f| (f.need, f.found)).collect()
    };
    let found = unmet(&rig);
    assert_eq!(found[0].0, "held-out");
    assert!(found[0].1.starts_with("AUC 0.6100 [0.5500, 0.6700] may be below 0.6"), "{found:?}");
    assert_eq!(found[1], ("approval by data".into(), "given before the newest evidence or rules".into()));
    rig.say(Kind::HeldOut, Quality::Good).unwrap();
    rig.approve("data", Stage::Experiment).unwrap();
    assert_eq!(unmet(&rig), []);
    // Other rules, and the same yes does not do.
    let text = rig.gate.replace("auc = 0.6", "auc = 0.62");
    rig.rules(&text).unwrap();
    assert_eq!(unmet(&rig).len(), 1);
    rig.approve("data", Stage::Experiment).unwrap();
    rig.go(Stage::Experiment).unwrap();
}

#[test]
fn other_rules_are_judged_by_before_a_policy_is_signed_again() {
    let mut rig = Rig::acting();
    let stricter = rig.gate.replace("auc = 0.6", "auc = 0.62");
    let compiled = |rig: &Rig, gate: &str| {
        let text = shop(gate, "experiment");
        compile_with(&text, TODAY, &manifests, Some(&rig.record)).map_err(|problems| problems[0].to_string())
    };
    assert!(compiled(&rig, &stricter).unwrap_err().contains("[gate] says something else"));
    rig.rules(&stricter).unwrap();
    assert!(compiled(&rig, &stricter).unwrap_err().contains("changed since purchase-intent was judged"));
    assert!(rig.go(Stage::Experiment).is_err(), "the yes was to other rules");
    rig.approve("data", Stage::Experiment).unwrap();
    rig.go(Stage::Experiment).unwrap();
    assert!(compiled(&rig, &stricter).is_ok());
    // Stricter than what was shown: it acts no more.
    let strictest = rig.gate.replace("auc = 0.6", "auc = 0.9");
    rig.rules(&strictest).unwrap();
    rig.approve("data", Stage::Experiment).unwrap();
    assert!(rig.go(Stage::Experiment).is_err());
    assert!(compiled(&rig, &strictest).is_err());
}

#[test]
fn statements_come_back_from_their_bytes() {
    let rig = Rig::new();
    for kind in Kind::ALL {
        let statement = Statement::of("purchase-intent", &MANIFEST, rig.said(kind, Quality::Good));
        assert_eq!(Statement::read(statement.to_json().as_bytes()).unwrap(), statement);
        let envelope = statement.sign(&rig.roles["data"]);
        let read = Envelope::read(envelope.to_json().as_bytes()).unwrap();
        assert_eq!(Statement::open(&read, &rig.roles["data"].public()).unwrap(), statement);
    }
}
