//! What intervals promise: each holds what is so as often as it says, on simulated experiments and logs. Bars are at the level that
//! intervals say, less what the simulation itself leaves to chance (`covers`).

use gloaming_stats::Cells;
use gloaming_stats::draws::{Draws, covers};
use gloaming_stats::experiment::*;

use super::arm;
use super::simulated::{Binomial, Noise, Run};

/// One person's (outcome, other quantity).
type Person = fn(&mut Draws, f64) -> [f64; 2];

fn drawn(people: usize, lift: f64, person: Person, noise: [f64; 6], draws: &mut Draws) -> [f64; 6] {
    let mut sums = [0.0; 6];
    for _ in 0..people {
        let [y, x] = person(draws, lift);
        for (sum, term) in sums.iter_mut().zip([1.0, y, y * y, x, x * x, x * y]) {
            *sum += term;
        }
    }
    for (sum, variance) in sums.iter_mut().zip(noise) {
        *sum += Noise::Normal(variance).draw(draws);
    }
    sums
}

/// Intervals of one look, on small noisy experiments: the truth is inside as often as promised.
#[test]
fn intervals_hold_the_truth_as_often_as_they_say() {
    let runs = 10_000;
    let yes_no: Person = |draws, lift| [f64::from(draws.uniform() < 0.2 * lift), 0.0];
    // Basket values from 0 to 10, skewed.
    let value: Person = |draws, lift| [10.0 * draws.uniform().powi(3) * lift, 0.0];
    let views: Person = |draws, lift| {
        let views = 1.0 + (5.0 * draws.uniform()).floor();
        [(0..views as u32).map(|_| f64::from(draws.uniform() < 0.3 * lift)).sum(), views]
    };
    let habit: Person = |draws, lift| {
        let before = 4.0 * draws.uniform();
        [(before + 2.0 * draws.uniform()) * lift, before]
    };
    for (name, metric, person, noise, means) in [
        ("proportion", Metric::Proportion, yes_no, [80.0, 80.0, 0.0, 0.0, 0.0, 0.0], [0.2, 0.22]),
        ("mean", Metric::Mean, value, [80.0, 2_000.0, 2e5, 0.0, 0.0, 0.0], [2.5, 2.75]),
        ("ratio", Metric::Ratio, views, [80.0, 500.0, 2_000.0, 500.0, 5_000.0, 2_000.0], [0.3, 0.33]),
        ("adjusted", Metric::Adjusted, habit, [80.0, 500.0, 5_000.0, 500.0, 5_000.0, 5_000.0], [3.0, 3.3]),
    ] {
        let mut draws = Draws::new(15);
        let (mut held, mut asked, mut noisy, mut forgot) = ([0, 0], 0, 0.0, 0);
        for _ in 0..runs {
            let sums = [1.0, 1.1].map(|lift| drawn(400, lift, person, noise, &mut draws));
            let pair = |noise: [f64; 6]| sums.map(|sums| arm(metric, sums, noise).unwrap());
            let [control, treated] = pair(noise);
            let truths = [means[1] - means[0], means[1] / means[0] - 1.0];
            let found = [Scale::Absolute, Scale::Relative].map(|scale| effect(&control, &treated, scale));
            let [Ok(absolute), Ok(relative)] = found else { continue };
            asked += 1;
            noisy += absolute.noise / (absolute.noise + absolute.sampling);
            let holds = |effect: Effect, truth: f64| {
                let interval = effect.fixed(0.05).unwrap().effect;
                u32::from(interval.low <= truth && truth <= interval.high)
            };
            held[0] += holds(absolute, truths[0]);
            held[1] += holds(relative, truths[1]);
            let [control, treated] = pair([0.0; 6]);
            forgot += effect(&control, &treated, Scale::Absolute).map_or(0, |effect| holds(effect, truths[0]));
        }
        let share = |count: u32| f64::from(count) / f64::from(asked);
        println!(
            "95 % intervals, {name} (noise is {:.0} % of the variance): absolute {:.1} %, relative {:.1} %, noise forgotten {:.1} %, {asked} of {runs} asked",
            100.0 * noisy / f64::from(asked),
            100.0 * share(held[0]),
            100.0 * share(held[1]),
            100.0 * share(forgot)
        );
        assert!(asked > runs * 9 / 10, "{name}: {asked}");
        assert!(held.iter().all(|held| covers(*held, asked, 0.95)), "{name}: {held:?} of {asked}");
        assert!(share(forgot) < 0.93, "{name}: noise too small to tell");
    }
}

/// The same for arms made of cells, whose people and outcomes share their noise.
#[test]
fn intervals_from_cells_hold_the_truth() {
    let (runs, variance) = (10_000, 80.0);
    let (mut draws, mut some) = (Draws::new(16), [Binomial::new(0.2), Binomial::new(0.25)]);
    let (mut held, mut width) = (0, 0.0);
    for _ in 0..runs {
        let mut make = |side: usize| {
            let with = some[side].draw(500, &mut draws);
            let cells = [500.0 - with, with].map(|count| count + Noise::Normal(variance).draw(&mut draws));
            let cells = Cells::new(cells.to_vec(), variance).unwrap();
            Arm::from_cells(Metric::Proportion, &[(0.0, 0.0), (1.0, 0.0)], &cells).unwrap()
        };
        let (control, treated) = (make(0), make(1));
        let found = effect(&control, &treated, Scale::Absolute).unwrap().fixed(0.05).unwrap().effect;
        held += u32::from(found.low <= 0.05 && 0.05 <= found.high);
        width += found.high - found.low;
    }
    println!("95 % intervals from cells: {held} of {runs} hold the truth, mean width {:.4}", width / f64::from(runs));
    assert!(covers(held, runs, 0.95) && held <= runs * 965 / 1_000, "{held}");
}

/// Where outcomes are so rare that noise makes some counts negative and the variance between people is a guess.
#[test]
fn intervals_of_rare_outcomes_hold_the_truth_or_are_refused() {
    let runs = 10_000;
    for (people, p, variance) in [(400, 0.01, 20.0), (400, 0.01, 2.0), (1_000, 0.02, 2.0), (2_000, 0.005, 8.0)] {
        let (mut some, mut draws) = ([Binomial::new(p), Binomial::new(1.5 * p)], Draws::new(20));
        let (mut held, mut asked) = (0, 0);
        for _ in 0..runs {
            let mut make = |side: usize| {
                let with = some[side].draw(people, &mut draws);
                let noise = Noise::Normal(variance);
                let sums = [people as f64 + noise.draw(&mut draws), with + noise.draw(&mut draws)];
                arm(Metric::Proportion, [sums[0], sums[1], sums[1], 0.0, 0.0, 0.0], [variance; 6]).unwrap()
            };
            let Ok(found) = effect(&make(0), &make(1), Scale::Absolute) else { continue };
            let found = found.fixed(0.05).unwrap().effect;
            asked += 1;
            held += u32::from(found.low <= 0.5 * p && 0.5 * p <= found.high);
        }
        println!(
            "95 % intervals, {p} of {people} people, noise of variance {variance}: {:.1} % of {asked}, {} refused",
            100.0 * f64::from(held) / f64::from(asked),
            runs - asked
        );
        assert!(asked > runs / 10 && covers(held, asked, 0.95), "{held} of {asked}");
    }
}

/// What is told of an arm at every look, of outcomes that are rare and of such that are not: the difference, and the lift, which a control
/// that is little more than its error makes lean to one side.
#[test]
fn differences_and_lifts_hold_the_truth_at_every_look() {
    let runs = 1_000;
    for (p, people, noise) in [
        ([0.19, 0.23], 500, Noise::Normal(2.0)),
        ([0.02, 0.03], 500, Noise::Normal(2.0)),
        ([0.02, 0.05], 500, Noise::None),
        ([0.002, 0.002], 2_000, Noise::None),
    ] {
        let (mut control, mut treated, mut split) = (Binomial::new(p[0]), Binomial::new(p[1]), Binomial::new(0.5));
        let mut draws = Draws::new(22);
        let (mut held, mut by_delta, mut told, mut agreed) = ([0; 2], 0, 0, true);
        for _ in 0..runs {
            let arms = [&mut control, &mut treated];
            let mut run = Run { arms, split: &mut split, noise, totals: [[0.0; 2]; 2], releases: 0.0 };
            let (mut inside, mut delta) = ([true; 2], true);
            for _ in 0..20 {
                run.look(people, &mut draws);
                let variance = noise.variance() * run.releases;
                let [control, treated] =
                    run.totals.map(|[n, k]| arm(Metric::Proportion, [n, k, k, 0.0, 0.0, 0.0], [variance; 6]).unwrap());
                let always = |effect: Effect| effect.always_valid(0.05, TAU);
                let Ok(difference) = effect(&control, &treated, Scale::Absolute).and_then(always) else { continue };
                let within = |found: Finding, truth: f64| found.effect.low <= truth && truth <= found.effect.high;
                let truth = p[1] / p[0] - 1.0;
                inside[0] &= within(difference, p[1] - p[0]);
                let relative = effect(&control, &treated, Scale::Relative).and_then(always);
                delta &= relative.map_or(true, |found| within(found, truth));
                let Ok(lift) = lift(&control, &treated, 0.05, TAU) else { continue };
                told += 1;
                inside[1] &= within(lift, truth);
                // Both leave out nothing, or neither does.
                let out = |found: Finding| found.effect.low > 1e-9 || found.effect.high < -1e-9;
                agreed &= out(lift) == out(difference) && lift.p == difference.p;
            }
            held.iter_mut().zip(inside).for_each(|(held, inside)| *held += u32::from(inside));
            by_delta += u32::from(delta);
        }
        println!(
            "{p:?}, {people} people a look, {noise:?}: of {runs} experiments of 20 looks the difference is held at all in {}, the lift in {} (told at {told} looks), by the delta method in {by_delta}",
            held[0], held[1]
        );
        assert!(held.iter().all(|held| covers(*held, runs, 0.95)), "{held:?}");
        assert!(agreed && told > 3 * runs, "{agreed} {told}");
    }
}

/// The lift of an amount, of a ratio, and of a mean that is adjusted, at one look that is not chosen.
#[test]
fn lifts_of_all_kinds_hold_the_truth() {
    let value: Person = |draws, lift| [10.0 * draws.uniform().powi(3) * lift, 0.0];
    let views: Person = |draws, lift| {
        let views = 1.0 + (5.0 * draws.uniform()).floor();
        [(0..views as u32).map(|_| f64::from(draws.uniform() < 0.3 * lift)).sum(), views]
    };
    let habit: Person = |draws, lift| {
        let before = 4.0 * draws.uniform();
        [(before + 2.0 * draws.uniform()) * lift, before]
    };
    for (name, metric, person, noise) in [
        ("mean", Metric::Mean, value, [80.0, 2_000.0, 2e5, 0.0, 0.0, 0.0]),
        ("ratio", Metric::Ratio, views, [80.0, 500.0, 2_000.0, 500.0, 5_000.0, 2_000.0]),
        ("adjusted", Metric::Adjusted, habit, [80.0, 500.0, 5_000.0, 500.0, 5_000.0, 5_000.0]),
    ] {
        let (mut draws, mut held, mut asked, mut wider) = (Draws::new(23), 0, 0, 0.0);
        for _ in 0..1_000 {
            let [control, treated] =
                [1.0, 1.1].map(|lift| arm(metric, drawn(400, lift, person, noise, &mut draws), noise).unwrap());
            let Ok(found) = lift(&control, &treated, 0.05, TAU) else { continue };
            let delta = effect(&control, &treated, Scale::Relative).unwrap();
            let delta = delta.always_valid(0.05, TAU).unwrap().effect;
            asked += 1;
            held += u32::from(found.effect.low <= 0.1 && 0.1 <= found.effect.high);
            wider += (found.effect.high - found.effect.low) / (delta.high - delta.low);
            assert!((found.effect.value - delta.value).abs() < 1e-9);
        }
        println!(
            "lifts, {name}: {held} of {asked} hold it, {:.3} times as wide as by the delta method",
            wider / f64::from(asked)
        );
        assert!(asked > 900 && covers(held, asked, 0.95), "{name}: {held} of {asked}");
    }
}

/// Of a log that tried everything alike, and of one that hardly ever did what the policy would: twenty rewards tell of it.
#[test]
fn off_policy_intervals_hold_the_truth() {
    let runs = 5_000;
    for (rows, logging, policy, pay, model) in [
        (500, [0.5, 0.3, 0.2], [0.2, 0.3, 0.5], [0.1, 0.3, 0.4], [0.2, 0.2, 0.3]),
        (1_000, [0.6, 0.3, 0.1], [0.0, 0.0, 1.0], [0.05, 0.05, 0.2], [0.05, 0.05, 0.1]),
    ] {
        let of = |chances: [f64; 3]| chances.iter().zip(pay).map(|(p, r)| p * r).sum::<f64>();
        let (truth, gain) = (of(policy), of(policy) - of(logging));
        let (policies, model) = (policy.repeat(rows), model.repeat(rows));
        let mut draws = Draws::new(18);
        let mut held = [0; 6];
        for _ in 0..runs {
            let done: Vec<usize> = (0..rows)
                .map(|_| match draws.uniform() {
                    u if u < logging[0] => 0,
                    u if u < logging[0] + logging[1] => 1,
                    _ => 2,
                })
                .collect();
            let rewards: Vec<f64> = done.iter().map(|action| f64::from(draws.uniform() < pay[*action])).collect();
            let propensities: Vec<f64> = done.iter().map(|action| logging[*action]).collect();
            let logged = Logged::new(3, &done, &rewards, &propensities, &policies).unwrap();
            let found = [
                (logged.weighted(0.05).unwrap(), truth),
                (logged.self_normalised(0.05).unwrap(), truth),
                (logged.doubly_robust(&model, 0.05).unwrap(), truth),
                (logged.gain(None, 0.05).unwrap().gain, gain),
                (logged.gain(Some(&model), 0.05).unwrap().gain, gain),
                (logged.mean_weight(0.05).unwrap(), 1.0),
            ];
            for (count, (found, truth)) in held.iter_mut().zip(found) {
                *count += u32::from(found.low <= truth && truth <= found.high);
            }
        }
        println!(
            "95 % intervals of IPW, SNIPW, DR, their gains and the mean weight, of {rows} rows: {held:?} of {runs} hold it"
        );
        assert!(held.iter().all(|held| covers(*held, runs, 0.95) && *held < runs), "{held:?}");
    }
}
