//! What must hold for any sums.

use gloaming_stats::draws::{Draws, covers};
use gloaming_stats::experiment::*;
use proptest::prelude::*;

use super::arm;

fn proportions() -> impl Strategy<Value = ([f64; 6], f64)> {
    (50.0..50_000.0_f64, 0.02..0.98_f64, 0.0..4.0_f64)
        .prop_map(|(n, p, noise)| ([n, n * p, n * p, 0.0, 0.0, 0.0], noise))
}

proptest! {
    #[test]
    fn swapping_arms_flips_the_sign(a in proportions(), b in proportions()) {
        let [a, b] = [a, b].map(|(sums, noise)| arm(Metric::Proportion, sums, [noise; 6]).unwrap());
        let (Ok(there), Ok(back)) = (effect(&a, &b, Scale::Absolute), effect(&b, &a, Scale::Absolute)) else {
            return Err(TestCaseError::reject("buried in noise"));
        };
        prop_assert!((there.estimate + back.estimate).abs() < 1e-12);
        for (x, y) in [
            (there.fixed(0.05).unwrap(), back.fixed(0.05).unwrap()),
            (there.always_valid(0.05, TAU).unwrap(), back.always_valid(0.05, TAU).unwrap()),
        ] {
            prop_assert!((x.effect.low + y.effect.high).abs() < 1e-9 && (x.p - y.p).abs() < 1e-9);
            prop_assert!((0.0..=1.0).contains(&x.p));
        }
    }

    #[test]
    fn a_sequence_holds_the_interval_of_one_look_and_noise_only_widens(
        a in proportions(),
        b in proportions(),
        alpha in 0.001..0.2_f64,
    ) {
        let build = |(sums, _): ([f64; 6], f64), noise| arm(Metric::Proportion, sums, [noise; 6]).unwrap();
        for scale in [Scale::Absolute, Scale::Relative] {
            let (Ok(quiet), Ok(loud)) = (
                effect(&build(a, 0.0), &build(b, 0.0), scale),
                effect(&build(a, a.1), &build(b, b.1), scale),
            ) else { continue };
            for effect in [quiet, loud] {
                let (fixed, always) = (effect.fixed(alpha).unwrap(), effect.always_valid(alpha, TAU).unwrap());
                prop_assert!(always.effect.low < fixed.effect.low && fixed.effect.high < always.effect.high);
                // p and interval say the same of no effect.
                prop_assert_eq!(always.p < alpha, always.effect.low > 0.0 || always.effect.high < 0.0);
            }
            prop_assert!(loud.standard_error() >= quiet.standard_error());
        }
    }

    #[test]
    fn q_values_keep_the_order_and_are_never_below_p(p in prop::collection::vec(0.0..=1.0_f64, 1..50)) {
        let q = q_values(&p).unwrap();
        for i in 0..p.len() {
            prop_assert!(q[i] >= p[i] && q[i] <= 1.0);
            for j in 0..p.len() {
                prop_assert!(p[i] > p[j] || q[i] <= q[j]);
            }
        }
    }

    /// Any numbers at all: an answer or an error, never a panic and never a figure that is none.
    #[test]
    fn nothing_panics(
        values in prop::array::uniform12(prop::num::f64::ANY),
        noise in prop::array::uniform6(prop_oneof![Just(0.0), prop::num::f64::ANY]),
        kind in 0..4_usize,
        alpha in prop_oneof![Just(0.05), prop::num::f64::ANY],
    ) {
        let metric = [Metric::Proportion, Metric::Mean, Metric::Ratio, Metric::Adjusted][kind];
        let half = |from: usize| std::array::from_fn(|index| values[from + index]);
        if let (Ok(a), Ok(b)) = (arm(metric, half(0), noise), arm(metric, half(6), noise)) {
            for scale in [Scale::Absolute, Scale::Relative] {
                let Ok(effect) = effect(&a, &b, scale) else { continue };
                for finding in [effect.fixed(alpha), effect.always_valid(alpha, values[0])].into_iter().flatten() {
                    prop_assert!(finding.p >= 0.0 && finding.p <= 1.0, "{:?} {:?}", effect, finding);
                    prop_assert!(finding.effect.low <= finding.effect.high, "{:?} {:?}", effect, finding);
                }
            }
            let _ = allocate(&[a, b], Better::Higher, Rule::TopTwo, None, 0.0);
        }
        let counts = values[..3].iter().zip(noise).map(|(value, variance)| Noised { value: *value, variance });
        let counts: Vec<Noised> = counts.collect();
        if let Ok(check) = check_shares(&counts, &values[3..6]) {
            prop_assert!((0.0..=1.0).contains(&check.p), "{:?}", check);
            prop_assert!((0.0..=1.0).contains(&check.always_valid_p), "{:?}", check);
        }
        let (variance, noise) = ([values[1], values[2]], [noise[0], noise[1]]);
        for looks in [Looks::Once, Looks::Any { tau: values[5] }] {
            let design = Design { effect: values[0], variance, noise, alpha, power: 0.8, looks };
            let _ = (design.people(3), design.days(values[3]), design.smallest_effect(values[4], 2));
        }
        let made = Effect {
            scale: Scale::Absolute,
            estimate: values[0],
            sampling: values[1],
            noise: values[2],
            degrees: values[3],
            people: values[4],
        };
        for finding in [made.fixed(alpha), made.always_valid(alpha, TAU)].into_iter().flatten() {
            prop_assert!(finding.p >= 0.0 && finding.p <= 1.0, "{:?} {:?}", made, finding);
        }
        let _ = best_probabilities(&values[..3], &values[3..6]);
    }
}

#[test]
fn the_gain_of_another_policy_lies_in_its_interval() {
    // Three actions, one of which pays twice as much; the log tries all of them, and not alike.
    let (pays, likely) = ([0.1, 0.1, 0.2], [0.5, 0.3, 0.2]);
    let truth = 0.2 - (0.5 * 0.1 + 0.3 * 0.1 + 0.2 * 0.2);
    let policy = [0.0, 0.0, 1.0].repeat(1_000);
    let predicted = [0.12, 0.08, 0.15].repeat(1_000);
    let mut inside = [0_u32; 2];
    for run in 0..2_000 {
        let mut draws = Draws::new(run);
        let (mut done, mut rewards) = (Vec::new(), Vec::new());
        for _ in 0..1_000 {
            let at = draws.uniform();
            let action = usize::from(at > 0.5) + usize::from(at > 0.8);
            done.push(action);
            rewards.push(f64::from(u8::from(draws.uniform() < pays[action])));
        }
        let propensities: Vec<f64> = done.iter().map(|action| likely[*action]).collect();
        let logged = Logged::new(3, &done, &rewards, &propensities, &policy).unwrap();
        for (inside, predicted) in inside.iter_mut().zip([None, Some(predicted.as_slice())]) {
            let gain = logged.gain(predicted, 0.05).unwrap().gain;
            *inside += u32::from(gain.low <= truth && truth <= gain.high);
        }
    }
    println!("of 2,000 intervals of the gain, self-normalised and doubly robust, hold it: {inside:?}");
    assert!(inside.iter().all(|inside| covers(*inside, 2_000, 0.95)), "{inside:?}");
}
