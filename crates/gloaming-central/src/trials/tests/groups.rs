//! What arms do to groups is planted, and has to be found; what they do not do must not be.

use super::*;

const ASKED: &str = r#"
[[purpose]]
id = "fairness"
text.en = "Compare how groups fare."

[[attribute]]
id = "age-band"
values = ["under-30", "30-59", "60-plus"]
purpose = "fairness"
"#;

/// A policy whose experiment has these arms, and a guardrail by group that permits so much.
fn guarded(arms: &str, permitted: &str) -> Policy {
    let guarded =
        format!("guardrails = [{{ of = \"outcome:purchase@1\", by = \"age-band\", permitted = {permitted} }}]");
    let hint = HINT
        .replace("guardrails = [{ of = \"feature:errors@1\", permitted = 0.01 }]", &guarded)
        .replace("[\"as-is\", \"hint\"]", arms);
    let text = template("shop", "shop.example", "https://shop.example", "2027-03-01").unwrap();
    let text = text.replace("rho_per_device_day = 0.25", "rho_per_device_day = 1.0") + ASKED + &hint;
    let facts = ManifestFacts::stand_in("purchase-intent", &["pages@1"]);
    compile(&text, 20_781, &|_| Ok(facts.clone())).unwrap()
}

/// What each arm's groups do: visits a day, and the share of them that buys. Everybody says of which group they are.
type Planted<'p> = &'p [[(u32, f64); 3]];

/// A window a day of what is counted by group.
fn days(policy: &Policy, planted: Planted<'_>, days: u64, seed: u64) -> Vec<ReleaseRow> {
    let (id, mut draws) = (policy.experiments[0].guardrails[0].metric, Draws::new(seed));
    let metric = policy.metric(id).unwrap();
    let deviation = metric.scales()[0].deviation(metric.mechanism);
    (0..days)
        .map(|day| ReleaseRow {
            metric: id,
            window: 20_000 + day,
            edge: "edge-1".into(),
            policy_version: policy.version,
            state: ReleaseState::Released,
            received_ms: day,
            values: planted.iter().flatten().flat_map(|group| no_and_yes(*group, deviation, &mut draws)).collect(),
        })
        .collect()
}

/// Shares that buy, by group, in the control and in the arm.
fn by_group(shares: [[f64; 2]; 3], visits: [u32; 3], count: u64, seed: u64) -> RailView {
    let planted = [0, 1].map(|arm| [0, 1, 2].map(|group| (visits[group], shares[group][arm])));
    let policy = guarded("[\"as-is\", \"hint\"]", "0.05");
    let rows = days(&policy, &planted, count, seed);
    let view = seen(&[policy], &rows);
    assert_eq!(view.guardrails.len(), 1);
    if view.guardrails[0].verdict == "broken" {
        assert_eq!(view.verdict, "stop");
        println!("{}", view.words);
    }
    view.guardrails[0].clone()
}

#[test]
fn an_arm_that_does_more_for_one_group_than_for_another_is_stopped() {
    // Better for the young, worse for the old: all in all nothing.
    let rail = by_group([[0.10, 0.18], [0.10, 0.10], [0.10, 0.02]], [700; 3], 20, 1);
    println!("{rail:?}");
    assert_eq!((rail.verdict, &*rail.of), ("broken", "outcome:purchase@1 by age-band"));
    assert!(
        rail.reason.starts_with("raised by ")
            && rail.reason.contains("more for `under-30` than for `60-plus` at least, where 5.0 are permitted"),
        "{rail:?}"
    );
    // Better for all alike, whatever they did before.
    let rail = by_group([[0.10, 0.13], [0.20, 0.23], [0.05, 0.08]], [700; 3], 60, 2);
    assert_eq!(rail.verdict, "held", "{rail:?}");
    // Too few to tell, of all and of one group.
    let rail = by_group([[0.10, 0.13]; 3], [700; 3], 1, 3);
    assert!(rail.verdict == "open" && rail.reason.contains("more visits are needed"), "{rail:?}");
    let rail = by_group([[0.10, 0.10]; 3], [700, 700, 1], 60, 4);
    assert!(rail.verdict == "open" && rail.reason.contains("too few people of 60-plus to tell"), "{rail:?}");
    assert!(rail.reason.starts_with("the others are treated alike to "), "{rail:?}");
}

/// Arms that do the same to everybody break it less often than one in twenty.
#[test]
fn alike_arms_are_seldom_called_unfair() {
    let unfair =
        (0..200).filter(|seed| by_group([[0.10, 0.10]; 3], [300; 3], 10, 100 + seed).verdict == "broken").count();
    println!("{unfair} of 200");
    assert!(unfair <= 4);
}

/// However often one looks, where next to nothing is permitted, and a group that is small at first grows.
#[test]
fn looking_every_day_calls_few_alike_arms_unfair() {
    let policy = guarded("[\"as-is\", \"hint\"]", "0.000001");
    let alike = [[(300, 0.10), (300, 0.20), (20, 0.10)]; 2];
    let unfair = |seed: &u64| {
        let rows = days(&policy, &alike, 40, 1_000 + seed);
        (1..=40).any(|day| seen(std::slice::from_ref(&policy), &rows[..day]).guardrails[0].verdict == "broken")
    };
    let unfair = (0..100).filter(unfair).count();
    println!("{unfair} of 100, looked at on 40 days each");
    assert!(unfair <= 5);
}

/// An arm that draws in old people who do not buy does nothing to old people; another arm is judged all the same.
#[test]
fn an_arm_that_changes_who_says_a_group_is_not_judged_by_groups() {
    let policy = guarded("[\"as-is\", \"hint\", \"push\"]", "0.05");
    let as_is = [(700, 0.10), (700, 0.10), (700, 0.20)];
    let judged = |hint, push| {
        let rows = days(&policy, &[as_is, hint, push], 20, 5);
        seen(std::slice::from_ref(&policy), &rows).guardrails
    };
    let (drawn, same) = ([(700, 0.10), (700, 0.10), (1_400, 0.10)], [(700, 0.10), (700, 0.10), (700, 0.10)]);
    let [hint, push] = judged(same, drawn).try_into().unwrap();
    assert_eq!(
        (push.verdict, &*push.reason),
        ("open", "more or fewer than under as-is say that they are of 60-plus: what is done to groups cannot be told")
    );
    assert_eq!(hint.verdict, "broken", "the same shares, of people who are the same");
    let [_, push] = judged(as_is, same).try_into().unwrap();
    assert_eq!(push.verdict, "broken");
}
