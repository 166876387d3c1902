//! Random sequences of commands against a second account of the rules, kept in another way: what it allows must be
//! allowed, and what it does not must not be.

use std::collections::BTreeMap;

use gloaming_policy::ModelState;
use gloaming_policy::author::date_of;
use gloaming_policy::gate::{Approval, GateError, Kind, Record, Said, Stage, Statement};
use proptest::prelude::*;

use super::rig::{MANIFEST, Quality, Rig, TODAY};

#[derive(Clone, Debug)]
enum Command {
    Say(Kind, Quality),
    Approve(&'static str, Stage, bool),
    Move(Stage),
    Wait(u64),
    Rules,
}

fn command() -> impl Strategy<Value = Command> {
    let kind = prop::sample::select(Kind::ALL.to_vec());
    let quality = prop::sample::select(vec![
        Quality::Good,
        Quality::Good,
        Quality::Good,
        Quality::Good,
        Quality::Weak,
        Quality::Lot,
        Quality::Stale,
    ]);
    let stage = prop::sample::select(vec![
        Stage::Shadow,
        Stage::Experiment,
        Stage::Experiment,
        Stage::Live,
        Stage::Live,
        Stage::Quarantined,
    ]);
    let role = prop::sample::select(vec!["data", "compliance", "product"]);
    prop_oneof![
        6 => (kind, quality).prop_map(|(kind, quality)| Command::Say(kind, quality)),
        5 => (role, stage.clone(), prop::bool::weighted(0.9)).prop_map(|(role, to, fresh)| Command::Approve(role, to, fresh)),
        5 => stage.prop_map(Command::Move),
        1 => (1u64..120).prop_map(Command::Wait),
        1 => Just(Command::Rules),
    ]
}

/// The second account: when each thing was last said, on a count of its own.
#[derive(Default)]
struct Account {
    clock: u64,
    rules_at: u64,
    said: BTreeMap<&'static str, (u64, bool, u64)>,
    approved: BTreeMap<(&'static str, &'static str), (u64, u64)>,
    judged_under: u64,
    /// The newest day of each kind, whatever became of it.
    newest_day: BTreeMap<&'static str, u64>,
    quarantined_day: u64,
    moved_at: u64,
}

impl Account {
    fn enough(&self, to: Stage, day: u64) -> bool {
        let (kinds, roles): (&[&str], &[&str]) = match to {
            Stage::Shadow => (&["parity"], &[]),
            Stage::Experiment => (&["held-out", "calibration", "fairness", "parity"], &["data"]),
            _ => (
                &["held-out", "calibration", "fairness", "parity", "experiment", "ethics"],
                &["data", "compliance", "product"],
            ),
        };
        let fresh = |made: u64| day - made <= 180;
        let newest = kinds.iter().filter_map(|kind| self.said.get(kind)).map(|said| said.0).max().unwrap_or(0);
        kinds.iter().all(|kind| self.said.get(kind).is_some_and(|(_, good, made)| *good && fresh(*made)))
            && roles.iter().all(|role| {
                self.approved
                    .get(&(role, to.name()))
                    .is_some_and(|(seen, made)| {
                        *seen >= newest && *seen >= self.rules_at && *seen >= self.moved_at && fresh(*made)
                    })
            })
            // The model's review is due on 2027-06-01.
            && day < 20_970
    }
}

/// Where each stage leads, and whether that is free.
fn way(from: Stage, to: Stage) -> Option<bool> {
    use Stage::{Draft, Experiment, Live, Quarantined, Shadow};
    match (from, to) {
        (Draft | Quarantined, Shadow) | (Shadow | Experiment, Experiment) | (Experiment | Live, Live) => Some(false),
        (Live, Experiment | Shadow) | (Experiment, Shadow) | (Shadow | Experiment | Live, Quarantined) => Some(true),
        _ => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_commands_lets_a_model_act_before_it_has_shown_what_was_asked(
        commands in prop::collection::vec(command(), 1..70)
    ) {
        let mut rig = Rig::new();
        let mut account = Account::default();
        let mut stage = Stage::Draft;
        let mut earlier = rig.record.head();
        for command in commands {
            account.clock += 1;
            match command {
                Command::Say(kind, quality) => {
                    let made = if quality == Quality::Stale { rig.today - 200 } else { rig.today };
                    let newest = account.newest_day.get(kind.name()).copied().unwrap_or(0);
                    let taken = made >= newest && made >= account.quarantined_day;
                    prop_assert_eq!(rig.say(kind, quality).is_ok(), taken);
                    if !taken {
                        continue;
                    }
                    account.newest_day.insert(kind.name(), made);
                    account.said.insert(kind.name(), (account.clock, matches!(quality, Quality::Good | Quality::Stale), made));
                }
                Command::Approve(role, to, fresh) => {
                    // An approval of what one saw a while ago is an approval of that.
                    let seen = if fresh { rig.record.head() } else { earlier.clone() };
                    let yes = Approval { day: date_of(rig.today), role: role.into(), to, seen };
                    let envelope = Statement::of("purchase-intent", &MANIFEST, Said::Approval(yes)).sign(&rig.roles[role]);
                    // What was said in the same words before is not said again.
                    if rig.record.add(envelope, &rig.owner, rig.today).is_ok() {
                        account.approved.insert((role, to.name()), (if fresh { account.clock } else { 0 }, rig.today));
                    }
                }
                Command::Wait(days) => rig.today += days,
                Command::Rules => {
                    let gate = rig.gate.clone();
                    rig.rules(&gate).unwrap();
                    account.rules_at = account.clock;
                }
                Command::Move(to) => {
                    let moved = rig.go(to);
                    let expected = match way(stage, to) {
                        None => false,
                        Some(free) => free || account.enough(to, rig.today),
                    };
                    prop_assert_eq!(moved.is_ok(), expected, "{:?} -> {:?}: {:?}", stage, to, moved);
                    if expected {
                        if way(stage, to) == Some(false) {
                            account.judged_under = account.rules_at;
                        }
                        stage = to;
                        account.moved_at = account.clock;
                        if to == Stage::Quarantined {
                            account.quarantined_day = rig.today;
                            account.said.clear();
                            account.approved.clear();
                            earlier = rig.record.head();
                        }
                    } else if let Err(error) = moved {
                        let named = matches!(error, GateError::Missing { .. } | GateError::Refused { .. });
                        prop_assert!(named, "{}", error);
                    }
                }
            }
            // The one way to a page: what a policy may say.
            let known = rig.record.standing(&MANIFEST).unwrap();
            prop_assert_eq!(known.stage, stage);
            for (state, wanted) in [(ModelState::Experiment, stage.acts()), (ModelState::Live, stage == Stage::Live)] {
                let permitted = rig.record.permits(&MANIFEST, state, TODAY + 100).is_ok();
                prop_assert_eq!(permitted, wanted && account.judged_under == account.rules_at);
            }
        }
        prop_assert_eq!(&Record::read(rig.record.bytes()).unwrap(), &rig.record);
    }
}
