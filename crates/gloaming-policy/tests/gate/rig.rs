//! A site with three roles and one model.

use std::collections::BTreeMap;

use gloaming_policy::author::{Key, ManifestFacts, date_of, gate_rules, template};
use gloaming_policy::gate::{
    Action, Approval, Attribute, Calibration, Estimator, Ethics, Experiment, Facts, Fairness, GateError, Group,
    Guardrail, HeldOut, Interval, Kind, Parity, Record, Rows, Runtime, Said, SplitBy, Stage, Statement, Value,
};
use gloaming_signal::hash;

pub(crate) const TODAY: u64 = 20_781;
pub(crate) const MANIFEST: [u8; 32] = [1; 32];

/// How good a piece of evidence is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quality {
    Good,
    /// Its interval's worse end is beyond the threshold.
    Weak,
    /// Rows set aside by lot; weak, for kinds without rows.
    Lot,
    /// Good, 200 days ago.
    Stale,
}

pub(crate) fn manifests(_: &str) -> Result<ManifestFacts, String> {
    Ok(ManifestFacts {
        manifest_sha256: MANIFEST,
        onnx_sha256: [2; 32],
        ..ManifestFacts::stand_in("purchase-intent", &["pages@1", "returning@1"])
    })
}

/// The shop's policy with these rules and the model in this state.
pub(crate) fn shop(gate: &str, state: &str) -> String {
    let text = template("shop", "shop.example", "https://shop.example", "2027-03-01").unwrap();
    format!("{}\n{gate}", text.replace("state = \"shadow\"", &format!("state = \"{state}\"")))
}

pub(crate) fn gate(roles: &BTreeMap<&'static str, Key>) -> String {
    let key = |role: &str| roles[role].public().to_text();
    format!(
        r#"
[gate]
max_age_days = 180
model_bytes = 100000
roles = {{ data = ["{}"], compliance = ["{}"], product = ["{}"] }}
[gate.experiment]
evidence = ["held-out", "calibration", "fairness", "parity"]
approved_by = ["data"]
auc = 0.6
calibration_error = 0.1
group_gap = 0.1
[gate.live]
evidence = ["held-out", "calibration", "fairness", "parity", "experiment", "ethics"]
approved_by = ["data", "compliance", "product"]
auc = 0.6
calibration_error = 0.1
group_gap = 0.1
lift = 0.0
"#,
        key("data"),
        key("compliance"),
        key("product")
    )
}

pub(crate) fn facts(version: u32, manifest: &[u8; 32]) -> Facts {
    Facts {
        id: "purchase-intent".into(),
        version,
        manifest: hash::hex(manifest),
        onnx: hash::hex(&[2; 32]),
        bytes: 1_375,
        features: vec!["pages@1".into(), "returning@1".into()],
        kinds: 0,
        owner: "data@shop.example".into(),
        next_review: "2027-06-01".into(),
        oversize: None,
    }
}

pub(crate) fn interval(low: f64, high: f64) -> Interval {
    Interval { value: (f64::midpoint(low, high) * 1e4).round() / 1e4, low, high }
}

pub(crate) struct Rig {
    pub(crate) owner: Key,
    pub(crate) roles: BTreeMap<&'static str, Key>,
    pub(crate) gate: String,
    pub(crate) record: Record,
    pub(crate) manifest: String,
    pub(crate) today: u64,
}

impl Rig {
    /// Rules in force, and the model a draft.
    pub(crate) fn new() -> Self {
        let mut rig = Self::bare();
        let gate = rig.gate.clone();
        rig.rules(&gate).unwrap();
        rig.record.append(Action::Model { facts: facts(1, &MANIFEST) }, &rig.owner, TODAY).unwrap();
        rig
    }

    /// Nothing but a record.
    pub(crate) fn bare() -> Self {
        let owner = Key::from_seed(&[10; 32]);
        let roles: BTreeMap<&str, Key> =
            [("data", 11), ("compliance", 12), ("product", 13)].map(|(r, s)| (r, Key::from_seed(&[s; 32]))).into();
        let gate = gate(&roles);
        let record = Record::begin("shop.example", &owner, TODAY).unwrap();
        Self { owner, roles, gate, record, manifest: hash::hex(&MANIFEST), today: TODAY }
    }

    pub(crate) fn shadow() -> Self {
        let mut rig = Self::new();
        rig.say(Kind::Parity, Quality::Good).unwrap();
        rig.go(Stage::Shadow).unwrap();
        rig
    }

    /// In an experiment.
    pub(crate) fn acting() -> Self {
        let mut rig = Self::shadow();
        for kind in Kind::ALL {
            rig.say(kind, Quality::Good).unwrap();
        }
        rig.approve("data", Stage::Experiment).unwrap();
        rig.go(Stage::Experiment).unwrap();
        rig
    }

    pub(crate) fn rules(&mut self, gate: &str) -> Result<(), GateError> {
        let rules = gate_rules(gate).unwrap().unwrap();
        self.record.append(Action::Rules { rules }, &self.owner, self.today)
    }

    fn rows(&self, split: SplitBy) -> Rows {
        Rows {
            data: "november.csv".into(),
            sha256: "ab".repeat(32),
            split,
            trained: "February to September".into(),
            tested: "November".into(),
            // No two statements are the same.
            rows: 2_998 + self.record.len() as u64,
            positives: 760,
        }
    }

    pub(crate) fn said(&self, kind: Kind, quality: Quality) -> Said {
        let day = date_of(if quality == Quality::Stale { self.today - 200 } else { self.today });
        let weak = quality == Quality::Weak;
        let bad = weak || quality == Quality::Lot;
        let split = if quality == Quality::Lot { SplitBy::Random } else { SplitBy::Time };
        let on = self.rows(split);
        let gap = if weak { interval(0.02, 0.16) } else { interval(0.01, 0.05) };
        match kind {
            Kind::HeldOut => Said::HeldOut(HeldOut {
                day,
                on,
                auc: if weak { interval(0.55, 0.67) } else { interval(0.63, 0.67) },
                average_precision: interval(0.31, 0.37),
                brier: interval(0.18, 0.2),
                turns: vec![],
                curve: vec![],
            }),
            Kind::Calibration => Said::Calibration(Calibration {
                day,
                on,
                error: if weak { interval(0.09, 0.11) } else { interval(0.02, 0.06) },
                mean_score: 0.24,
                base_rate: 0.25,
            }),
            Kind::Value => Said::Value(Value {
                day,
                on,
                reward: "clicks".into(),
                estimator: Estimator::DoublyRobust,
                value: interval(0.02, 0.04),
                logged: interval(0.01, 0.03),
                gain: if weak { interval(-0.002, 0.022) } else { interval(0.002, 0.018) },
                weight: interval(0.9, 1.1),
                effective_rows: 812.5,
                telling: 90,
            }),
            Kind::Fairness => {
                let group = |name: &str| Group { name: name.into(), rows: 1_499, positives: 380, selected: 450 };
                let groups = vec![group("a"), group("b")];
                let by = vec![Attribute { name: "age".into(), groups, selection_gap: gap, odds_gap: gap }];
                Said::Fairness(Fairness { day, on, threshold: 0.2, by, none: None })
            }
            Kind::Parity => {
                let largest = if bad { 2e-5 } else { 3e-8 };
                Said::Parity(Parity {
                    day,
                    rows: 64 + self.record.len() as u64,
                    runtimes: ["native", "wasmtime"].map(|name| Runtime { name: name.into(), largest }).into(),
                })
            }
            Kind::Experiment => Said::Experiment(Experiment {
                day,
                metric: "purchase".into(),
                exposed: [5_000 + self.record.len() as u64, 5_020],
                lift: if bad { interval(-0.01, 0.05) } else { interval(0.01, 0.05) },
                sample_ratio_p: 0.84,
                guardrails: vec![Guardrail { name: "withdrawals".into(), held: true }],
            }),
            Kind::Ethics => Said::Ethics(Ethics {
                day,
                by: "the board".into(),
                accepted: !bad,
                conclusion: format!("no person is worse off for a low score ({})", self.record.len()),
            }),
        }
    }

    /// Evidence of the model, signed in the role of data.
    pub(crate) fn say(&mut self, kind: Kind, quality: Quality) -> Result<(), GateError> {
        let said = self.said(kind, quality);
        self.add(said, "data")
    }

    pub(crate) fn add(&mut self, said: Said, role: &str) -> Result<(), GateError> {
        let envelope = Statement::of("purchase-intent", &MANIFEST, said).sign(&self.roles[role]);
        self.record.add(envelope, &self.owner, self.today)
    }

    pub(crate) fn approve(&mut self, role: &str, to: Stage) -> Result<(), GateError> {
        let yes = Approval { day: date_of(self.today), role: role.into(), to, seen: self.record.head() };
        self.add(Said::Approval(yes), role)
    }

    pub(crate) fn go(&mut self, to: Stage) -> Result<(), GateError> {
        self.record.move_to(&MANIFEST, to, "to see what happens", &self.owner, self.today)
    }

    /// Brings the model to the experiment in another record.
    pub(crate) fn replay_into(&mut self, record: &mut Record) {
        std::mem::swap(&mut self.record, record);
        let gate = self.gate.clone();
        self.rules(&gate).unwrap();
        self.record.append(Action::Model { facts: facts(1, &MANIFEST) }, &self.owner, TODAY).unwrap();
        self.say(Kind::Parity, Quality::Good).unwrap();
        self.go(Stage::Shadow).unwrap();
        for kind in Kind::ALL {
            self.say(kind, Quality::Good).unwrap();
        }
        self.approve("data", Stage::Experiment).unwrap();
        self.go(Stage::Experiment).unwrap();
        std::mem::swap(&mut self.record, record);
    }
}
