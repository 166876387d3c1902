//! What is learnt from counts, held to scipy over every combination, and to what such a distribution must do.
#![allow(clippy::unwrap_used)]

use gloaming_stats::Cells;
use gloaming_stats::draws::Draws;
use gloaming_stats::marginals::{Counted, Joint, MarginalsError, Pair, learn, tree};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    bins: Vec<usize>,
    by_outcome: Vec<Vec<f64>>,
    pairs: Vec<Together>,
    variances: Vec<f64>,
    edges: Vec<Vec<usize>>,
    people: f64,
    rate: f64,
    probabilities: Vec<Given>,
}

#[derive(Deserialize)]
struct Together {
    of: (usize, usize),
    cells: Vec<f64>,
}

#[derive(Deserialize)]
struct Given {
    bins: Vec<usize>,
    p: f64,
}

fn probability(joint: &Joint, bins: &[usize]) -> f64 {
    let (level, weights) = joint.weights();
    let sum: f64 = weights.iter().zip(bins).map(|(weights, bin)| weights[*bin]).sum();
    1.0 / (1.0 + (-level - sum).exp())
}

fn edges(pairs: &[(usize, usize)]) -> Vec<Vec<usize>> {
    let mut edges: Vec<Vec<usize>> = pairs.iter().map(|(a, b)| vec![*a.min(b), *a.max(b)]).collect();
    edges.sort();
    edges
}

#[test]
fn every_answer_is_that_of_scipy_over_all_combinations() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("../../../tests/statistics/marginals.json")).unwrap();
    for (at, case) in cases.into_iter().enumerate() {
        let mut variances = case.variances.into_iter();
        let mut cells = |values| Cells::new(values, variances.next().unwrap()).unwrap();
        let by_outcome = case.by_outcome.into_iter().map(&mut cells).collect();
        let pairs = case.pairs.into_iter().map(|pair| Pair { of: pair.of, cells: cells(pair.cells) }).collect();
        let counted = Counted::new(by_outcome, pairs).unwrap();
        assert_eq!(counted.bins(), case.bins);
        assert_eq!(edges(&tree::spanning(&counted)), case.edges, "case {at}");
        let joint = learn(&counted).unwrap();
        assert!((joint.people() - case.people).abs() < 1e-6 * case.people);
        assert!((joint.rate() - case.rate).abs() < 1e-6, "case {at}: {} and {}", joint.rate(), case.rate);
        for Given { bins, p } in case.probabilities {
            let found = probability(&joint, &bins);
            assert!((found - p).abs() < 1e-5, "case {at}, {bins:?}: {found} and {p}");
        }
    }
}

/// Somebody: the bin of each feature, and whether the outcome happened.
type Person = (Vec<usize>, bool);

/// People by a rule that is known: three features along a chain, and an outcome that adds up.
fn person(draws: &mut Draws) -> Person {
    let first = (draws.uniform() * 4.0) as usize;
    let second = if draws.uniform() < 0.7 { first } else { (draws.uniform() * 4.0) as usize };
    let third = usize::from(draws.uniform() < 0.2 + 0.2 * second as f64);
    let odds = -2.0 + 0.6 * first as f64 - 0.3 * second as f64 + 0.9 * third as f64;
    (vec![first, second, third], draws.uniform() < 1.0 / (1.0 + (-odds).exp()))
}

const BINS: [usize; 3] = [4, 4, 2];

fn counted(people: &[Person], deviation: f64, draws: &mut Draws) -> Counted {
    let mut cells = |count: usize, place: &dyn Fn(&Person) -> usize| {
        let mut cells = vec![0.0; count];
        people.iter().for_each(|person| cells[place(person)] += 1.0);
        cells.iter_mut().for_each(|cell| *cell += (deviation * draws.normal()).round());
        Cells::new(cells, deviation.powi(2)).unwrap()
    };
    let by_outcome =
        (0..3).map(|f| cells(2 * BINS[f], &|(bins, outcome)| 2 * bins[f] + usize::from(*outcome))).collect();
    let pairs = [(0, 1), (0, 2), (1, 2)]
        .map(|(f, g)| Pair { of: (f, g), cells: cells(BINS[f] * BINS[g], &|(bins, _)| bins[f] * BINS[g] + bins[g]) });
    Counted::new(by_outcome, pairs.to_vec()).unwrap()
}

#[test]
fn a_rule_that_adds_up_is_found_again() {
    let mut draws = Draws::new(3);
    let people: Vec<_> = (0..200_000).map(|_| person(&mut draws)).collect();
    let joint = learn(&counted(&people, 0.0, &mut draws)).unwrap();
    // Third stands by second and second by first, which is how they were made.
    assert_eq!(edges(&joint.pairs()), [[0, 1], [1, 2]]);
    let (_, weights) = joint.weights();
    let step = |feature: usize, from: usize, to: usize| weights[feature][to] - weights[feature][from];
    for (found, wanted) in [(step(0, 0, 3), 1.8), (step(1, 0, 3), -0.9), (step(2, 0, 1), 0.9)] {
        assert!((found - wanted).abs() < 0.08, "{weights:?}");
    }
    // Sessions of nobody are like the people: in how often, and in what goes together.
    let made: Vec<_> = (0..200_000).map(|_| joint.session(&mut draws)).collect();
    let share = |of: &[Person], is: &dyn Fn(&Person) -> bool| {
        of.iter().filter(|person| is(person)).count() as f64 / of.len() as f64
    };
    for is in [
        &(|(_, outcome): &Person| *outcome) as &dyn Fn(&Person) -> bool,
        &|(bins, _)| bins[0] == bins[1],
        &|(bins, outcome)| bins[0] == 3 && *outcome,
        &|(bins, outcome)| bins[1] == 0 && bins[2] == 1 && !*outcome,
    ] {
        assert!((share(&people, is) - share(&made, is)).abs() < 0.006, "{} {}", share(&people, is), share(&made, is));
    }
}

/// How far apart the log-odds of two people can be, over all features.
fn spread(weights: &[Vec<f64>]) -> f64 {
    let ends = |w: &Vec<f64>| w.iter().fold(f64::MIN, |a, b| a.max(*b)) - w.iter().fold(f64::MAX, |a, b| a.min(*b));
    weights.iter().map(ends).sum()
}

/// Mean spread of what is learnt from counts of 3,000 people, with noise of a deviation; and of raw log-odds of the same counts.
fn learnt(person: impl Fn(&mut Draws) -> Person, deviation: f64) -> [f64; 2] {
    let mut draws = Draws::new(4);
    let mut sums = [0.0; 2];
    for _ in 0..20 {
        let people: Vec<_> = (0..3_000).map(|_| person(&mut draws)).collect();
        let mut noise = draws.clone();
        let (_, weights) = learn(&counted(&people, deviation, &mut draws)).unwrap().weights();
        // The first tables that are drawn, as they come.
        let raw: Vec<Vec<f64>> = (0..3)
            .map(|f| {
                let mut cells = vec![0.0; 2 * BINS[f]];
                people.iter().for_each(|(bins, outcome)| cells[2 * bins[f] + usize::from(*outcome)] += 1.0);
                cells.iter_mut().for_each(|cell| *cell = f64::max(*cell + (deviation * noise.normal()).round(), 1.0));
                cells.chunks(2).map(|bin| (bin[1] / bin[0]).ln()).collect()
            })
            .collect();
        sums = [sums[0] + spread(&weights) / 20.0, sums[1] + spread(&raw) / 20.0];
    }
    sums
}

#[test]
fn what_noise_drowns_becomes_no_rule_and_what_it_does_not_is_kept() {
    let by_lot = |draws: &mut Draws| (person(draws).0, draws.uniform() < 0.3);
    for (deviation, most) in [(0.0, 0.1), (20.0, 0.2), (90.0, 0.9)] {
        let [found, raw] = learnt(by_lot, deviation);
        println!("outcome by lot, noise of {deviation}: {found:.3} learnt, {raw:.3} as counted");
        assert!(found < most && found < raw / 3.0, "{found} {raw}");
    }
    for (deviation, least) in [(0.0, 2.8), (20.0, 2.0), (90.0, 0.5)] {
        let [found, raw] = learnt(person, deviation);
        println!("outcome by a rule of 3.6, noise of {deviation}: {found:.3} learnt, {raw:.3} as counted");
        assert!(found > least, "{found}");
    }
    // And of hardly anybody with the outcome nothing is learnt at all.
    let mut draws = Draws::new(4);
    let people: Vec<_> = (0..200).map(|_| person(&mut draws)).collect();
    let refused = learn(&counted(&people, 60.0, &mut draws)).map(|_| ());
    assert!(matches!(refused, Err(MarginalsError::Outcomes(..))), "{refused:?}");
}

/// Independent features whose counts are all noise are not tied together, more often than not.
#[test]
fn noise_alone_ties_few_pairs() {
    let mut draws = Draws::new(5);
    let (mut tied, runs) = (0, 200);
    for _ in 0..runs {
        let people: Vec<_> = (0..1_000)
            .map(|_| {
                let mut bin = |width: usize| (draws.uniform() * width as f64) as usize;
                (vec![bin(4), bin(4), bin(2)], bin(3) == 0)
            })
            .collect();
        tied += tree::spanning(&counted(&people, 25.0, &mut draws)).len();
    }
    // Of three pairs each is above nothing about half of the time, and two make a tree.
    assert!(tied < runs * 3 / 2, "{tied} of {}", 2 * runs);
}

#[test]
fn shapes_that_do_not_belong_together_are_refused() {
    let cells = |len: usize| Cells::new(vec![100.0; len], 1.0).unwrap();
    let of = |by_outcome: Vec<Cells>, pairs: Vec<Pair>| Counted::new(by_outcome, pairs).map(|_| ());
    assert_eq!(of(vec![], vec![]), Err(MarginalsError::Features(0)));
    assert_eq!(of(vec![cells(2)], vec![]), Err(MarginalsError::Bins(0, 2)));
    assert_eq!(of(vec![cells(4), cells(5)], vec![]), Err(MarginalsError::Bins(1, 5)));
    let pair = |of, len| Pair { of, cells: cells(len) };
    assert_eq!(of(vec![cells(4), cells(6)], vec![pair((1, 1), 9)]), Err(MarginalsError::Pair(1, 1)));
    assert_eq!(of(vec![cells(4), cells(6)], vec![pair((0, 2), 6)]), Err(MarginalsError::Pair(0, 2)));
    assert_eq!(of(vec![cells(4), cells(6)], vec![pair((0, 1), 6), pair((1, 0), 6)]), Err(MarginalsError::Pair(1, 0)));
    assert!(matches!(of(vec![cells(4), cells(6)], vec![pair((0, 1), 4)]), Err(MarginalsError::Cells(_))));
}

/// A clear effect on an outcome of one visit in fifty is not lost among the forty-nine.
#[test]
fn what_stands_clear_of_noise_is_kept_though_the_outcome_is_rare() {
    let rare = |draws: &mut Draws| {
        let (bins, _) = person(draws);
        let odds = -4.4 + 0.4 * bins[0] as f64;
        let bought = draws.uniform() < 1.0 / (1.0 + f64::exp(-odds));
        (bins, bought)
    };
    let mut draws = Draws::new(8);
    for run in 0..20 {
        let people: Vec<_> = (0..40_000).map(|_| rare(&mut draws)).collect();
        let (_, weights) = learn(&counted(&people, 15.0, &mut draws)).unwrap().weights();
        let found = weights[0][3] - weights[0][0];
        assert!((0.7..1.7).contains(&found), "run {run}: {found} of 1.2");
    }
}

/// Two inputs that are nearly one (pages of a kind, and time on them) and whose tables tell different noise: what lies
/// between them is nobody, and no rule for nobody makes both tables true.
#[test]
fn what_two_inputs_both_say_is_said_once() {
    let twice = |draws: &mut Draws| {
        let read = draws.uniform() < 0.4;
        let bought = draws.uniform() < if read { 0.55 } else { 0.12 };
        let (pages, seconds) = (usize::from(read), 2 * usize::from(read));
        (vec![pages, seconds, usize::from(draws.uniform() < 0.3)], bought)
    };
    let mut draws = Draws::new(12);
    let exact = (0.55f64 / 0.45).ln() - (0.12f64 / 0.88).ln();
    for run in 0..40 {
        let people: Vec<_> = (0..2_400).map(|_| twice(&mut draws)).collect();
        let (_, weights) = learn(&counted(&people, 12.0, &mut draws)).unwrap().weights();
        let found = weights[0][1] - weights[0][0] + weights[1][2] - weights[1][0];
        assert!((found - exact).abs() < 0.7, "run {run}: {found} of {exact}");
        assert!(spread(&weights) < 6.0, "run {run}: {weights:?}");
    }
}
