//! Visits are drawn, noised as the policy says, and told: what was planted has to be found, and nothing else.

use gloaming_policy::ModelState;
use gloaming_policy::author::{ManifestFacts, compile, template};
use gloaming_signal::ReleaseState;
use gloaming_stats::draws::Draws;

use super::*;

mod groups;
mod stopped;

const HINT: &str = r#"
[[experiment]]
id = "hint"
arms = ["as-is", "hint"]
purpose = "prediction"
goal = "outcome:purchase@1"
guardrails = [{ of = "feature:errors@1", permitted = 0.01 }]
minimum_effect = 0.02
window = "day"
rho = 0.02
k = 50
"#;

fn policy(version: u32, change: fn(String) -> String) -> Policy {
    compiled(version, &change(HINT.to_owned()))
}

fn compiled(version: u32, experiment: &str) -> Policy {
    let text = template("shop", "shop.example", "https://shop.example", "2027-03-01").unwrap();
    let text = text.replace("rho_per_device_day = 0.25", "rho_per_device_day = 1.0") + experiment;
    let facts = ManifestFacts::stand_in("purchase-intent", &["pages@1"]);
    let mut policy = compile(&text, 20_781, &|_| Ok(facts.clone())).unwrap();
    policy.version = version;
    policy
}

/// Visits a day in each arm, and the shares of them that bought and that met an error.
#[derive(Clone, Copy)]
struct Arms {
    visits: [u32; 2],
    bought: [f64; 2],
    errors: [f64; 2],
}

const SAME: Arms = Arms { visits: [2_000; 2], bought: [0.1; 2], errors: [0.02; 2] };

/// How many of so many visits were not so, and how many were, as they are released.
fn no_and_yes((visits, share): (u32, f64), deviation: f64, draws: &mut Draws) -> [i64; 2] {
    let yes = (0..visits).filter(|_| draws.uniform() < share).count();
    [f64::from(visits) - yes as f64, yes as f64].map(|count| (count + deviation * draws.normal()).round() as i64)
}

/// The releases of these days, a window each.
fn rows(policy: &Policy, days: std::ops::Range<u64>, arms: Arms, draws: &mut Draws) -> Vec<ReleaseRow> {
    let experiment = &policy.experiments[0];
    let mut all = Vec::new();
    for window in days {
        for (id, share) in [(experiment.goal, arms.bought), (experiment.guardrails[0].metric, arms.errors)] {
            let metric = policy.metric(id).unwrap();
            let deviation = metric.scales()[0].deviation(metric.mechanism);
            let mut values = Vec::new();
            for (visits, share) in arms.visits.iter().zip(share) {
                values.extend(no_and_yes((*visits, share), deviation, draws));
            }
            all.push(ReleaseRow {
                metric: id,
                window,
                edge: "edge-1".into(),
                policy_version: policy.version,
                state: ReleaseState::Released,
                received_ms: window,
                values,
            });
        }
    }
    all
}

fn seen(versions: &[Policy], rows: &[ReleaseRow]) -> ExperimentView {
    let known: BTreeMap<u32, Policy> = versions.iter().map(|policy| (policy.version, policy.clone())).collect();
    let newest = versions.last().unwrap();
    let experiment = &newest.experiments[0];
    let by_metric: BTreeMap<u32, Vec<ReleaseRow>> = [experiment.goal, experiment.guardrails[0].metric]
        .map(|id| (id, rows.iter().filter(|row| row.metric == id).cloned().collect()))
        .into();
    let counted = by_metric
        .iter()
        .map(|(id, rows)| (*id, Windows::of(newest.metric(*id).unwrap(), rows, &known, newest)))
        .filter(|(_, windows)| windows.len() > 0)
        .collect();
    view(newest, experiment, &counted)
}

fn found(arms: Arms, days: u64, seed: u64) -> ExperimentView {
    let policy = policy(1, |text| text);
    let rows = rows(&policy, 20_000..20_000 + days, arms, &mut Draws::new(seed));
    seen(&[policy], &rows)
}

#[test]
fn a_better_arm_is_found_with_its_interval() {
    let view = found(Arms { bought: [0.10, 0.13], ..SAME }, 10, 1);
    assert_eq!(view.verdict, "better", "{view:#?}");
    let hint = &view.arms[1];
    let difference = hint.difference.unwrap();
    assert!(difference.low > 0.0 && difference.low <= 0.03 && 0.03 <= difference.high, "{difference:?}");
    let lift = hint.lift.unwrap();
    assert!(lift.low <= 0.3 && 0.3 <= lift.high);
    assert!(hint.q.unwrap() < 0.001 && view.sample_ratio_p.unwrap() > 0.01);
    assert!((view.arms[0].visits - 20_000.0).abs() < 200.0 && view.windows == 10);
    let share = view.arms[0].share.unwrap();
    assert!(share.low <= 0.10 && 0.10 <= share.high);
    assert_eq!(view.guardrails[0].verdict, "held", "{view:#?}");
    assert!(view.words.starts_with("hint is better than as-is: +"), "{}", view.words);
    assert_eq!(view.statement, None, "it is about no model");
}

#[test]
fn a_worse_one_too_and_less_may_be_the_better() {
    let worse = Arms { bought: [0.13, 0.10], ..SAME };
    assert_eq!(found(worse, 10, 2).verdict, "worse");
    let policy = policy(1, |text| text.replace("minimum_effect", "better = \"lower\"\nminimum_effect"));
    let rows = rows(&policy, 20_000..20_010, worse, &mut Draws::new(2));
    assert_eq!(seen(&[policy], &rows).verdict, "better");
}

#[test]
fn a_broken_guardrail_comes_before_what_was_gained() {
    let view = found(Arms { bought: [0.10, 0.13], errors: [0.02, 0.06], ..SAME }, 10, 3);
    assert_eq!((view.verdict, view.guardrails[0].verdict), ("stop", "broken"));
    assert!(view.words.starts_with("Stop hint: visits with feature:errors@1 are more frequent by"), "{}", view.words);
}

/// What must not become more frequent, and never happens, has held once there are enough visits to say so.
#[test]
fn a_guardrail_that_nobody_meets_holds() {
    let never = Arms { bought: [0.10, 0.13], errors: [0.0, 0.0], ..SAME };
    for seed in 1..=20 {
        let view = found(never, 10, seed);
        assert_eq!((view.verdict, view.guardrails[0].verdict), ("better", "held"), "{view:#?}");
        let little = found(Arms { visits: [60; 2], ..never }, 1, seed);
        assert_ne!(little.guardrails[0].verdict, "held", "{little:#?}");
    }
}

#[test]
fn arms_that_are_unevenly_filled_come_before_everything() {
    let view = found(Arms { visits: [2_000, 1_800], bought: [0.10, 0.13], ..SAME }, 10, 4);
    assert_eq!(view.verdict, "uneven");
    assert!(view.words.contains("trust no figure of it") && view.sample_ratio_p.unwrap() < 0.001);
}

/// Cookie Cats' players and Hillstrom's customers by arm, as counted; the centre takes them for released ones, with noise.
#[test]
fn cookie_cats_arms_are_a_warning_and_hillstroms_are_none() {
    let seen_with = |visits: &[i64], arms: &str| {
        let policy = compiled(1, &HINT.replace(r#"["as-is", "hint"]"#, arms).replace("rho = 0.02", "rho = 0.1"));
        let row = |metric| ReleaseRow {
            metric,
            window: 20_000,
            edge: "edge-1".into(),
            policy_version: policy.version,
            state: ReleaseState::Released,
            received_ms: 20_000,
            values: visits.iter().flat_map(|visits| [visits - visits / 5, visits / 5]).collect(),
        };
        let experiment = &policy.experiments[0];
        seen(std::slice::from_ref(&policy), &[row(experiment.goal), row(experiment.guardrails[0].metric)])
    };
    let cats = seen_with(&[44_700, 45_489], r#"["gate-30", "gate-40"]"#);
    let (once, always) = (cats.sample_ratio_one_look_p.unwrap(), cats.sample_ratio_p.unwrap());
    println!("Cookie Cats: p = {once:.6} at one look, {always:.4} at any; {:?}", cats.warnings);
    // Exact counts give .008608; what is released is known to bear noise, which makes such arms a little likelier.
    assert!((once - 0.008_608).abs() < 0.000_05 && always > 0.01, "{once} {always}");
    assert!(cats.warnings.len() == 1 && cats.warnings[0].contains("p = 0.0086"), "{:?}", cats.warnings);
    assert!(cats.verdict != "uneven" && cats.arms[1].difference.is_some(), "a warning stops nothing: {cats:#?}");

    let hillstrom = seen_with(&[21_306, 21_307, 21_387], r#"["no-mail", "men", "women"]"#);
    let once = hillstrom.sample_ratio_one_look_p.unwrap();
    println!("Hillstrom: p = {once:.3} at one look; {:?}", hillstrom.warnings);
    assert!((once - 0.904).abs() < 0.001 && hillstrom.warnings.is_empty(), "{once} {:?}", hillstrom.warnings);
}

#[test]
fn arms_that_do_not_differ_are_told_when_that_is_sure_and_not_before() {
    assert_eq!(found(Arms { visits: [200; 2], ..SAME }, 2, 5).verdict, "open");
    assert_eq!(found(Arms { visits: [20_000; 2], ..SAME }, 10, 5).verdict, "alike");
}

/// Of twenty experiments without a difference, looked at on forty days each, one at most is called at five in a hundred.
#[test]
fn without_a_difference_none_is_called_however_often_one_looks() {
    let policy = policy(1, |text| text);
    let mut called = 0;
    for seed in 0..20 {
        let rows = rows(&policy, 20_000..20_040, Arms { visits: [300; 2], ..SAME }, &mut Draws::new(100 + seed));
        let wrong = |days: usize| {
            let verdict = seen(std::slice::from_ref(&policy), &rows[..2 * days]).verdict;
            verdict == "better" || verdict == "worse"
        };
        called += usize::from((1..=40).any(wrong));
    }
    assert!(called <= 1, "{called} of 20");
}

#[test]
fn another_design_begins_anew_and_another_price_does_not() {
    let first = policy(1, |text| text);
    let mut draws = Draws::new(6);
    let mut all = rows(&first, 20_000..20_005, SAME, &mut draws);
    let dearer = policy(2, |text| text.replace("rho = 0.02", "rho = 0.04"));
    all.extend(rows(&dearer, 20_005..20_010, SAME, &mut draws));
    assert_eq!(seen(&[first.clone(), dearer], &all).windows, 10);
    let wider = policy(2, |text| text.replace("window =", "traffic = 0.5\nwindow ="));
    assert_eq!(seen(&[first, wider], &all).windows, 5, "the five that were released under it");
}

#[test]
fn before_there_is_anything_to_say_it_is_said_why() {
    let policy = policy(1, |text| text);
    let view = seen(&[policy], &[]);
    assert_eq!((view.verdict, view.windows), ("open", 0));
    assert_eq!(view.unknown.len(), 2, "{:?}", view.unknown);
    assert!(view.unknown.iter().all(|why| why.ends_with("no window was released yet")), "{:?}", view.unknown);
    let little = found(Arms { visits: [30; 2], ..SAME }, 1, 7);
    assert!(little.arms[0].share.is_none() && !little.unknown.is_empty(), "{little:#?}");
}

/// A policy whose experiment decides who hears the model.
fn trying(version: u32, change: fn(String) -> String) -> Policy {
    let mut policy = policy(version, change);
    policy.models[0].state = ModelState::Experiment;
    policy.experiments[0].model = Some(0);
    policy
}

fn evidence(view: &ExperimentView) -> gate::Experiment {
    let statement = Statement::read(view.statement.clone().unwrap().to_string().as_bytes()).unwrap();
    let Said::Experiment(said) = statement.said else { panic!() };
    said
}

/// What one version of a model earned is no evidence of the next, whatever the experiment is called.
#[test]
fn another_version_of_the_model_begins_anew() {
    let (first, mut second) = (trying(1, |text| text), trying(2, |text| text));
    second.models[0].manifest_sha256 = [9; 32];
    let all = rows(&first, 20_000..20_010, Arms { bought: [0.10, 0.13], ..SAME }, &mut Draws::new(8));
    assert!(seen(std::slice::from_ref(&first), &all).statement.is_some());
    let view = seen(&[first, second], &all);
    assert_eq!((view.windows, view.statement), (0, None));
}

/// Where less is better the gate is told what became less.
#[test]
fn what_became_less_is_what_was_gained() {
    let lower = |text: String| text.replace("minimum_effect", "better = \"lower\"\nminimum_effect");
    let policy = trying(1, lower);
    let more = rows(&policy, 20_000..20_010, Arms { bought: [0.10, 0.13], ..SAME }, &mut Draws::new(8));
    let view = seen(std::slice::from_ref(&policy), &more);
    assert_eq!(view.verdict, "worse");
    let lift = evidence(&view).lift;
    assert!(lift.high < 0.0 && lift.low <= -0.3 && -0.3 <= lift.high, "{lift:?}");
    let less = rows(&policy, 20_000..20_010, Arms { bought: [0.13, 0.10], ..SAME }, &mut Draws::new(8));
    assert!(evidence(&seen(&[policy], &less)).lift.low > 0.0);
}

/// A guardrail that was never released has not held.
#[test]
fn a_guardrail_that_cannot_be_told_is_not_left_out() {
    let policy = trying(1, |text| text);
    let mut all = rows(&policy, 20_000..20_010, Arms { bought: [0.10, 0.13], ..SAME }, &mut Draws::new(8));
    all.retain(|row| row.metric == policy.experiments[0].goal);
    let view = seen(&[policy], &all);
    let [rail] = view.guardrails.as_slice() else { panic!("{view:#?}") };
    assert_eq!((rail.verdict, &*rail.reason), ("open", "no window was released yet"));
    assert!(!evidence(&view).guardrails[0].held);
}

/// What the gate asks of an experiment is what is told here.
#[test]
fn an_experiment_with_a_model_is_evidence() {
    let policy = trying(1, |text| text);
    let rows = rows(&policy, 20_000..20_010, Arms { bought: [0.10, 0.13], ..SAME }, &mut Draws::new(8));
    let view = seen(std::slice::from_ref(&policy), &rows);
    let statement = Statement::read(view.statement.unwrap().to_string().as_bytes()).unwrap();
    assert_eq!((statement.model(), statement.manifest()), ("purchase-intent", &*"00".repeat(32)));
    let Said::Experiment(said) = statement.said else { panic!() };
    assert_eq!((&*said.day, &*said.metric), ("2024-10-13", "outcome:purchase@1"));
    assert!(said.exposed.iter().all(|visits| visits.abs_diff(20_000) < 200));
    assert!(said.lift.low <= 0.3 && 0.3 <= said.lift.high && said.guardrails[0].held);
    assert_eq!(view.model.as_deref(), Some("purchase-intent"));
}

/// Releases of a goal whose cells of each arm have these expected counts a day.
fn told(policy: &Policy, days: u64, arms: &[&[f64]], draws: &mut Draws) -> Vec<ReleaseRow> {
    let metric = policy.metric(policy.experiments[0].goal).unwrap();
    let deviation = metric.scales()[0].deviation(metric.mechanism);
    let mut day = |window| ReleaseRow {
        metric: metric.id,
        window,
        edge: "edge-1".into(),
        policy_version: policy.version,
        state: ReleaseState::Released,
        received_ms: window,
        // Counts of many are as good as normal, with their mean as variance.
        values: (arms.concat().iter())
            .map(|mean| (mean + mean.sqrt() * draws.normal() + deviation * draws.normal()).round() as i64)
            .collect(),
    };
    (20_000..20_000 + days).map(&mut day).collect()
}

#[test]
fn what_was_known_before_narrows_the_interval() {
    let before = |text: String| {
        text.replace("minimum", "before = { of = \"feature:purchase-days@1\", edges = [1, 3] }\nminimum")
    };
    let policy = policy(1, before);
    let experiment = &policy.experiments[0];
    assert_eq!(policy.metric(experiment.goal).unwrap().of, "arm:hint, feature:purchase-days@1, outcome:purchase@1");
    // The same cells without it.
    let mut plain = policy.clone();
    plain.experiments[0].beside = None;
    let goal = plain.metrics.iter_mut().find(|metric| metric.id == plain.experiments[0].goal).unwrap();
    goal.axes.remove(1);
    let folded = |values: &[i64]| -> Vec<i64> {
        values.chunks(6).flat_map(|arm| [arm[0] + arm[2] + arm[4], arm[1] + arm[3] + arm[5]]).collect()
    };
    let width = |figure: Figure| figure.high - figure.low;
    let narrower = |visits: f64| {
        // Who bought before buys again: 2 of 100, 30 and 80; the hint adds two points to each.
        let arm = |more: f64| {
            let groups = [(0.7, 0.02), (0.2, 0.3), (0.1, 0.8)].into_iter();
            let cells =
                |(part, share): (f64, f64)| [visits * part * (1.0 - share - more), visits * part * (share + more)];
            groups.flat_map(cells).collect::<Vec<f64>>()
        };
        let rows = told(&policy, 20, &[&arm(0.0), &arm(0.02)], &mut Draws::new(3));
        let view = seen(std::slice::from_ref(&policy), &rows);
        let adjusted = view.arms[1].difference.unwrap();
        assert_eq!((view.figure, view.adjusted_by.as_deref()), ("share", Some("feature:purchase-days@1")));
        assert!(adjusted.low <= 0.02 && 0.02 <= adjusted.high, "{adjusted:?}");
        let folded: Vec<ReleaseRow> =
            rows.iter().map(|row| ReleaseRow { values: folded(&row.values), ..row.clone() }).collect();
        width(adjusted) / width(seen(std::slice::from_ref(&plain), &folded).arms[1].difference.unwrap())
    };
    // An arm that makes people come back changes what is known at their next visit: it is not adjusted by that.
    let come_back = [vec![1_372.0, 28.0, 280.0, 120.0, 40.0, 160.0], vec![1_078.0, 22.0, 420.0, 180.0, 60.0, 240.0]];
    let rows = told(&policy, 20, &[&come_back[0], &come_back[1]], &mut Draws::new(4));
    let view = seen(std::slice::from_ref(&policy), &rows);
    assert_eq!(view.adjusted_by, None);
    assert!(view.unknown.iter().any(|why| why.starts_with("the arms differ in feature:purchase-days@1")), "{view:#?}");
    // 308 and 442 of 2,000 bought: with people who were drawn back the arm is better by all of it.
    let difference = view.arms[1].difference.unwrap();
    assert!(difference.low <= 0.067 && 0.067 <= difference.high, "{difference:?}");

    // It explains nearly half of who buys, which narrows by a quarter; its bins bring noise of their own, which many outweigh.
    let (few, many) = (narrower(2_000.0), narrower(20_000.0));
    println!("as wide as without it: {few:.3} at 2,000 visits a day, {many:.3} at 20,000");
    assert!(few < 1.0 && many < 0.8, "{few} {many}");
}

#[test]
fn amounts_ratios_and_arms_of_other_sizes() {
    let amounts = |text: String| {
        text.replace("arms = [\"as-is\", \"hint\"]", "arms = [\"as-is\", \"hint\"]\nshares = [0.8, 0.2]")
            .replace(
                "\"outcome:purchase@1\"",
                "{ of = \"feature:purchase-value@1\", edges = [20, 50], worth = [0, 35, 80] }",
            )
            .replace("minimum_effect = 0.02", "minimum_effect = 1.0")
    };
    let declared = policy(1, amounts);
    let rows = told(&declared, 20, &[&[7_200.0, 600.0, 200.0], &[1_700.0, 200.0, 100.0]], &mut Draws::new(5));
    let view = seen(std::slice::from_ref(&declared), &rows);
    // 37,000 of 8,000 visits, and 15,000 of 2,000.
    let means = [4.625, 7.5];
    for (arm, mean) in view.arms.iter().zip(means) {
        let share = arm.share.unwrap();
        assert!(share.low <= mean && mean <= share.high, "{share:?}");
    }
    assert!(view.sample_ratio_p.unwrap() > 0.01, "one in five is what was asked for");
    assert_eq!((view.figure, view.verdict), ("mean", "better"), "{view:#?}");
    let difference = view.arms[1].difference.unwrap();
    assert!(difference.low <= 2.875 && 2.875 <= difference.high, "{difference:?}");
    assert!(view.words.starts_with("hint is better than as-is: +3.04 money ["), "{}", view.words);
    assert!(view.arms.iter().all(|arm| arm.next.is_none()), "it is about no model");

    let ratio = |text: String| {
        text.replace(
            "goal = \"outcome:purchase@1\"",
            "goal = { of = \"feature:cart-adds@1\", edges = [1], worth = [0, 1] }\nper = { of = \"feature:pages@1\", edges = [3], worth = [1, 5] }",
        )
        .replace("minimum_effect = 0.02", "minimum_effect = 0.01")
    };
    let declared = policy(1, ratio);
    // Few pages: 900 and 100 that put something in; many: 700 and 300. The hint: 850 and 150, 600 and 400.
    let rows = told(&declared, 20, &[&[900.0, 100.0, 700.0, 300.0], &[850.0, 150.0, 600.0, 400.0]], &mut Draws::new(6));
    let view = seen(std::slice::from_ref(&declared), &rows);
    for (arm, ratio) in view.arms.iter().zip([400.0 / 6_000.0, 550.0 / 6_000.0]) {
        let share = arm.share.unwrap();
        assert!(share.low <= ratio && ratio <= share.high, "{share:?}");
    }
    assert_eq!((view.figure, view.unit.as_str(), view.verdict), ("ratio", "items per pages", "better"), "{view:#?}");
}

#[test]
fn thompson_sampling_is_for_models_that_passed_the_gate() {
    let tried = |state| {
        let mut policy = policy(1, |text| text);
        (policy.models[0].state, policy.experiments[0].model) = (state, Some(0));
        let rows = rows(&policy, 20_000..20_010, Arms { bought: [0.10, 0.13], ..SAME }, &mut Draws::new(1));
        seen(&[policy], &rows).arms.iter().map(|arm| arm.next).collect::<Vec<_>>()
    };
    let next = tried(ModelState::Experiment);
    let shares: Vec<f64> = next.into_iter().flatten().collect();
    assert!(shares.len() == 2 && shares[1] > 0.9 && shares[0] >= 0.04, "{shares:?}");
    assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
    assert_eq!(tried(ModelState::Shadow), [None, None]);
}
