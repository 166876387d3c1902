//! Visits of people of three groups are drawn, noised as the policy says, and told: what was planted has to be found.

use std::collections::BTreeMap;

use gloaming_policy::author::{ManifestFacts, compile, template};
use gloaming_signal::ReleaseState;
use gloaming_stats::draws::{Draws, covers};

use super::*;
use crate::store::ReleaseRow;

const FAIR: &str = r#"
[[purpose]]
id = "fairness"
text.en = "Compare how groups fare."

[[attribute]]
id = "age-band"
values = ["under-30", "30-59", "60-plus"]
purpose = "fairness"

[[fairness]]
model = "purchase-intent"
by = ["age-band"]
threshold = 0.6
outcome = "outcome:purchase@1"
window = "week"
rho = 0.05
k = 100
"#;

fn policy(more: &str) -> Policy {
    let text = template("shop", "shop.example", "https://shop.example", "2027-03-01").unwrap();
    let text = text.replace("rho_per_device_day = 0.25", "rho_per_device_day = 1.0");
    let text = text + &FAIR.replace("threshold = 0.6\n", &format!("threshold = 0.6\n{more}"));
    let facts = ManifestFacts::stand_in("purchase-intent", &["pages@1"]);
    compile(&text, 20_781, &|_| Ok(facts.clone())).unwrap()
}

/// Share of each group that is selected, and of those who say nothing; half of all say something.
struct World {
    visits: u32,
    selected: [f64; 3],
    silent: f64,
}

fn seen(world: &World, seed: u64) -> Fair {
    let (policy, mut draws) = (policy(""), Draws::new(seed));
    let find = |name: &str| policy.metrics.iter().find(|metric| metric.name == name).unwrap();
    let (groups, scores) = (find("purchase-intent-fair-age-band"), find("purchase-calibration"));
    let mut all = Vec::new();
    for window in 0..3u64 {
        let (mut by_group, mut by_score) = (vec![0.0; 12], vec![0.0; 40]);
        for _ in 0..world.visits {
            let says = draws.uniform() < 0.5;
            let group = (draws.uniform() * 3.0) as usize;
            let share = if says { world.selected[group] } else { world.silent };
            let selected = draws.uniform() < share;
            let bought = draws.uniform() < if selected { 0.5 } else { 0.1 };
            // Twelve bins lie below the threshold.
            let bin = if selected { 12 + (draws.uniform() * 8.0) as usize } else { (draws.uniform() * 12.0) as usize };
            by_score[2 * bin + usize::from(bought)] += 1.0;
            if says {
                by_group[4 * group + 2 * usize::from(selected) + usize::from(bought)] += 1.0;
            }
        }
        for (metric, cells) in [(groups, by_group), (scores, by_score)] {
            // Scores of the last window fell below the crowd: it is left out of what both are needed for.
            let state =
                if window == 2 && metric.id == scores.id { ReleaseState::BelowK } else { ReleaseState::Released };
            let deviation = metric.scales()[0].deviation(metric.mechanism);
            let values = cells.iter().map(|count| (count + deviation * draws.normal()).round() as i64).collect();
            let (edge, received_ms) = ("edge-1".to_owned(), window);
            all.push(ReleaseRow { metric: metric.id, window, edge, policy_version: 1, state, received_ms, values });
        }
    }
    let versions = BTreeMap::from([(1, policy.clone())]);
    let rows = |id: u32| all.iter().filter(|row| row.metric == id).cloned().collect::<Vec<_>>();
    let (by_group, by_score) = (rows(groups.id), rows(scores.id));
    let windows =
        [Windows::of(groups, &by_group, &versions, &policy), Windows::of(scores, &by_score, &versions, &policy)];
    let found = fair(&policy, 0, &windows);
    assert_eq!(found.len(), 1);
    found[0].clone()
}

fn holds(figure: Option<Figure>, value: f64) -> bool {
    figure.is_some_and(|figure| figure.low <= value && value <= figure.high)
}

#[test]
fn groups_that_fare_differently_are_told_apart_with_those_who_say_nothing() {
    let world = World { visits: 9_000, selected: [0.3, 0.3, 0.15], silent: 0.4 };
    let mut held = 0;
    for seed in 1..=20 {
        let fair = seen(&world, seed);
        let (gap, odds) = (fair.selection_gap.unwrap(), fair.odds_gap.unwrap());
        // Of the selected half buy, of the others a tenth.
        let right = |share: f64| share * 0.5 / (share * 0.5 + (1.0 - share) * 0.1);
        held += [
            holds(Some(gap), 0.15),
            holds(Some(odds), right(0.3) - right(0.15)),
            holds(fair.undeclared, 0.5),
            holds(fair.undeclared_gap, 0.4 - 0.25),
            holds(fair.groups[2].selection, 0.15),
        ]
        .map(usize::from)
        .iter()
        .sum::<usize>();
        assert!(gap.low > 0.08 && odds.low > 0.05, "{fair:#?}");
        assert_eq!((fair.by.as_str(), fair.threshold, fair.windows), ("age-band", 0.6, 3));
        assert_eq!(fair.unknown, [""; 0]);
    }
    assert!(held >= 95, "{held} of 100 intervals hold what is so");
}

#[test]
fn of_a_few_nothing_is_said_and_why() {
    let fair = seen(&World { visits: 150, selected: [0.3; 3], silent: 0.3 }, 1);
    assert_eq!((fair.selection_gap, fair.groups[0].selection), (None, None));
    assert!(fair.unknown.iter().any(|why| why.starts_with("not enough people: about")), "{fair:#?}");
}

#[test]
fn a_score_that_means_less_in_one_group_is_seen() {
    let policy = policy("bins = 10\n");
    let metric = policy.metrics.iter().find(|metric| metric.name == "purchase-intent-fair-age-band").unwrap();
    assert_eq!((metric.cells(), metric.axes[1].labels.len()), (60, 10), "0.6 is an edge of the model's own");
    assert_eq!(metric.axes[1].labels[5..7], ["0.500-0.600", "0.600-0.700 selected"]);
    let deviation = metric.scales()[0].deviation(metric.mechanism);
    let versions = BTreeMap::from([(1, policy.clone())]);
    const RUNS: u32 = 400;
    let mut chances = vec![0.0; 60];
    for (place, chance) in chances.iter_mut().enumerate() {
        // As often as the score says, and of the last group in four of five such cases.
        let (group, bin, bought) = (place / 20, place / 2 % 10, place % 2 == 1);
        let score = (bin as f64 + 0.5) / 10.0;
        let share = if group == 2 { 0.8 * score } else { score };
        let part = if bought { share } else { 1.0 - share };
        *chance = part / 30.0;
    }
    let mut held = [0; 2];
    for seed in 1..=u64::from(RUNS) {
        let mut draws = Draws::new(seed);
        let mut cells = vec![0.0; 60];
        draws.spread(&chances, 60_000.0, &mut cells);
        let values = cells.iter().map(|count| (count + deviation * draws.normal()).round() as i64).collect();
        let row = ReleaseRow {
            metric: metric.id,
            window: 0,
            edge: "edge-1".into(),
            policy_version: 1,
            state: ReleaseState::Released,
            received_ms: 0,
            values,
        };
        let fair = fair(&policy, 0, &[Windows::of(metric, &[row], &versions, &policy)]).remove(0);
        let errors: Vec<Figure> = fair.groups.iter().map(|group| group.calibration_error.unwrap()).collect();
        // A fifth of a mean score of one half.
        assert!(errors[2].low > errors[0].high && errors[2].low > errors[1].high, "{errors:?}");
        held[0] += u32::from(holds(Some(errors[2]), 0.1));
        held[1] += u32::from(holds(fair.groups[0].selection, 0.4));
        assert_eq!(fair.threshold, 0.6);
    }
    println!("of {RUNS} calibration errors and shares selected {held:?} hold what is so");
    assert!(held.iter().all(|held| covers(*held, RUNS, 0.95)), "{held:?} of {RUNS}");
}
