//! Against gbstats, scipy, statsmodels and obp, and the refusals.

use gloaming_stats::Cells;
use gloaming_stats::experiment::*;

use super::{arm, golden, near, pair, same, same_as_gbstats};

#[test]
fn effects_without_noise_are_those_of_gbstats() {
    let golden = golden();
    assert_eq!(golden.effects.len(), 15);
    for (index, case) in golden.effects.iter().enumerate() {
        same_as_gbstats(&format!("case {index}"), case);
    }
    let cats = &golden.real.cookie_cats.absolute;
    let known = [-0.013281620681020612, -0.003120975949391213, 0.0015563425267870468];
    let known = known.into_iter().chain([-0.01681322465324816, 0.00041062802283633147, 0.08328426535857636]);
    for (golden, known) in cats.fixed.iter().chain(&cats.always).zip(known) {
        assert!((golden - known).abs() < 1e-15, "the golden file has {golden}, not {known}");
    }
    same_as_gbstats("Cookie Cats", &golden.real.cookie_cats);
    assert_eq!(golden.real.hillstrom.len(), 6);
    for (name, case) in &golden.real.hillstrom {
        same_as_gbstats(&format!("Hillstrom {name}"), case);
    }
}

/// The cases that gbstats publishes: its own tests, of what is computed here. Held to the package's figures, and to the
/// digits that those tests state.
#[test]
fn the_cases_that_gbstats_publishes_come_out_as_it_publishes_them() {
    let golden = golden();
    assert_eq!((golden.published.len(), golden.refused.len()), (18, 3));
    let mut stated = 0;
    for case in &golden.published {
        let [control, treated] = pair(&case.kind, case.arms);
        let scale = match case.scale.as_str() {
            "absolute" => Scale::Absolute,
            "relative" => Scale::Relative,
            other => panic!("{other}"),
        };
        let found = effect(&control, &treated, scale).unwrap();
        let [fixed, always] = same(&case.source, &found, (case.alpha, case.tau), &case.figures);
        let finding = match case.looks.as_str() {
            "fixed" => fixed,
            "always" => always,
            other => panic!("{other}"),
        };
        let (low, high) = (finding.effect.low, finding.effect.high);
        for (found, wanted) in [found.estimate, found.standard_error(), low, high, finding.p].iter().zip(case.expected)
        {
            let Some(wanted) = wanted else { continue };
            // Half of the last digit, and what lies between the numbers that a float has.
            let half = 0.500_000_1 * 0.1_f64.powi(case.digits);
            assert!((found - wanted).abs() <= half, "{}: {found}, where {wanted} is stated", case.source);
            stated += 1;
        }
    }
    assert_eq!(stated, 39);
    // Where it says that nothing can be said: no variance, one person, a denominator of nothing.
    let refused: Vec<ExperimentError> = golden
        .refused
        .iter()
        .flat_map(|case| {
            println!("{}", case.source);
            let [control, treated] = pair(&case.kind, case.arms);
            [Scale::Absolute, Scale::Relative].map(|scale| effect(&control, &treated, scale).unwrap_err())
        })
        .collect();
    let denominator = ExperimentError::Noise("the denominator's sum", 0.0, 0.0);
    let wanted = [ExperimentError::NoVariance, ExperimentError::People(1.0), denominator];
    assert_eq!(refused, wanted.into_iter().flat_map(|why| [why.clone(), why]).collect::<Vec<_>>());
}

/// Arms whose standard error and degrees of freedom are given exactly, to see the t distribution alone.
#[test]
fn student_tails_and_quantiles_are_those_of_scipy() {
    for case in golden().students {
        let effect = |estimate| Effect { estimate, degrees: case.degrees, ..plain(1.0, 0.0, 100.0) };
        let p = effect(case.t).fixed(0.05).unwrap().p / 2.0;
        near(&format!("upper tail at {} of {}", case.t, case.degrees), p, case.upper);
        if case.p < 0.25 {
            let high = effect(0.0).fixed(2.0 * case.p).unwrap().effect.high;
            near(&format!("quantile of {} of {}", case.p, case.degrees), high, case.quantile);
        }
    }
}

fn plain(sampling: f64, noise: f64, people: f64) -> Effect {
    Effect { scale: Scale::Absolute, estimate: 0.0, sampling, noise, degrees: 50.0, people }
}

#[test]
fn one_sided_bounds_lie_just_above_the_mixture_they_are_derived_from() {
    for case in golden().bounds {
        let found = plain(1.0, 0.0, case.time).one_sided(case.alpha, case.tau).unwrap();
        println!("{found:.4} standard errors, {:.4} exactly", case.exact);
        assert!(found >= case.exact && found <= 1.02 * case.exact, "{found} {}", case.exact);
    }
}

/// As much noise as sampling variance is as if twice the people had come, each look, with no noise.
#[test]
fn the_clock_of_a_sequence_runs_on_noise_too() {
    let half = |effect: Effect| effect.always_valid(0.05, TAU).unwrap().effect.high;
    near("two-sided", half(plain(1.0, 1.0, 3_000.0)), half(plain(2.0, 0.0, 6_000.0)));
    let half = |effect: Effect| effect.one_sided(0.05, TAU).unwrap();
    near("one-sided", half(plain(1.0, 1.0, 3_000.0)), half(plain(2.0, 0.0, 6_000.0)));
    assert_eq!(plain(0.0, 1.0, 3_000.0).always_valid(0.05, TAU), Err(ExperimentError::NoVariance));
}

#[test]
fn share_checks_without_noise_are_those_of_scipy() {
    for case in golden().shares {
        let people: Vec<Noised> = case.people.iter().map(|value| Noised::exact(*value)).collect();
        let found = check_shares(&people, &case.shares).unwrap();
        near("chi-square", found.statistic, case.statistic);
        near("p", found.p, case.p);
    }
    // With two arms and noise: d² / (N·p·q + q²·v₁ + p²·v₂).
    let noised = [(290.0, 300.0), (710.0, 100.0)].map(|(value, variance)| Noised { value, variance });
    let found = check_shares(&noised, &[0.3, 0.7]).unwrap();
    near("chi-square under noise", found.statistic, 100.0 / (210.0 + 0.49 * 300.0 + 0.09 * 100.0));
    assert_eq!([0.02, 0.009, 0.000_9].map(Shares::of), [Shares::Fine, Shares::Warn, Shares::Alarm]);
}

#[test]
fn shares_at_any_look_are_those_of_a_mixture_and_nearly_those_of_lindon_and_malek() {
    for case in golden().mixtures {
        let people = [0, 1].map(|side| Noised { value: case.people[side], variance: case.noise[side] });
        let found = check_shares(&people, &[case.share, 1.0 - case.share]).unwrap();
        near("p at any look", found.always_valid_p, (1.0 / case.average).min(1.0));
    }
    // Theirs counts people, ours takes their sums for normal: a tenth of a factor of e apart where there are thousands.
    for case in golden().shares {
        let people: Vec<Noised> = case.people.iter().map(|value| Noised::exact(*value)).collect();
        let found = check_shares(&people, &case.shares).unwrap();
        let (ours, theirs) = (found.always_valid_p.ln(), -case.factor.max(0.0));
        println!("p at any look {:.6}, by counting {:.6}", found.always_valid_p, theirs.exp());
        assert!((ours - theirs).abs() < 0.1, "{ours} {theirs}");
        assert!(found.always_valid_p >= found.p);
    }
}

#[test]
fn q_values_are_those_of_statsmodels() {
    for case in golden().discoveries {
        for (found, wanted) in q_values(&case.p).unwrap().into_iter().zip(case.q) {
            near("q", found, wanted);
        }
    }
}

#[test]
fn plans_without_noise_are_those_of_statsmodels() {
    for case in golden().plans {
        let mut design = Design::proportion(case.base, case.effect, 0.0, Looks::Once);
        (design.alpha, design.power) = (case.alpha, case.power);
        let people = design.people(30).unwrap();
        // Its solver stops at a relative 1e-9 or so of its own.
        assert!((people / case.people - 1.0).abs() < 1e-6, "{people}, not {}", case.people);
        let power = design.power_at(case.people, 1).unwrap();
        assert!((power - case.power).abs() < 1e-7, "power {power}");
        near("smallest effect", design.smallest_effect(people, 1).unwrap(), case.effect.abs());
    }
}

#[test]
fn noise_and_looks_lengthen_a_plan_and_days_follow() {
    let quiet = Design::proportion(0.1, 0.02, 0.0, Looks::Once);
    let noised = Design::proportion(0.1, 0.02, 50.0, Looks::Once);
    let often = Design::proportion(0.1, 0.02, 50.0, Looks::Any { tau: TAU });
    let people = [quiet, noised, often].map(|design| design.people(30).unwrap());
    println!("people an arm: {:.0} without noise, {:.0} with, {:.0} with any looks", people[0], people[1], people[2]);
    assert!(people[0] < people[1] && people[1] < people[2]);
    for (design, people_a_day) in [(quiet, 100.0), (noised, 100.0), (noised, 60.0), (often, 250.0)] {
        let days = design.days(people_a_day).unwrap();
        let power = |days: u32| design.power_at(people_a_day * f64::from(days), days).unwrap();
        assert!(power(days) >= 0.8 && power(days - 1) < 0.8, "{days} days");
    }
    // With one release a day everything scales with 1/days, so the days follow in closed form.
    let z: f64 = 1.959_963_984_540_054 + 0.841_621_233_572_914_2;
    let per_day = (0.1 * 0.9 + 0.12 * 0.88) / 100.0 + 50.0 * (2.0 + 0.01 + 0.0144) / 1e4;
    assert_eq!(noised.days(100.0).unwrap(), (z * z * per_day / 0.0004).ceil() as u32);
    assert_eq!(Design::proportion(0.1, 1e-6, 50.0, Looks::Once).days(10.0), Err(ExperimentError::Endless));
}

#[test]
fn chances_to_be_best_and_second_are_those_integrated_by_scipy() {
    for case in golden().chances {
        let variances: Vec<f64> = case.deviations.iter().map(|deviation| deviation * deviation).collect();
        let [best, second] = best_probabilities(&case.means, &variances).unwrap();
        for (found, wanted) in best.iter().chain(&second).zip(case.best.iter().chain(&case.second)) {
            near("chance", *found, *wanted);
        }
        near("sum of best", best.iter().sum(), 1.0);
        near("sum of second", second.iter().sum(), 1.0);
    }
    // Means that cannot be told from their neighbours, and more arms than there may be.
    assert!(matches!(best_probabilities(&[1.0, 1.1], &[1e-40; 2]), Err(ExperimentError::Number(..))));
    assert!(matches!(best_probabilities(&[1.0; ARMS + 1], &[1.0; ARMS + 1]), Err(ExperimentError::Length(..))));
}

#[test]
fn weights_follow_the_better_arm_and_noise_blurs_them() {
    let arms = |noise: f64| {
        [100.0, 130.0, 90.0].map(|k| arm(Metric::Proportion, [1_000.0, k, k, 0.0, 0.0, 0.0], [noise; 6]).unwrap())
    };
    let weigh = |noise, better, rule| allocate(&arms(noise), better, rule, None, 0.01).unwrap();
    let thompson = weigh(0.0, Better::Higher, Rule::Thompson);
    let two = weigh(0.0, Better::Higher, Rule::TopTwo);
    let blurred = weigh(400.0, Better::Higher, Rule::Thompson);
    let lower = weigh(0.0, Better::Lower, Rule::Thompson);
    println!(
        "Thompson {thompson:.3?}, top two {two:.3?}, Thompson under noise {blurred:.3?}, lower is better {lower:.3?}"
    );
    assert!(
        thompson[1] > 0.9 && two[1] < 0.55 && blurred[1] < thompson[1] && lower[2] > lower[0] && lower[0] > lower[1]
    );
    assert!(thompson.iter().all(|weight| *weight > 0.009));
    let prior = Prior { mean: 0.1, variance: 1e-6 };
    let held = allocate(&arms(0.0), Better::Higher, Rule::Thompson, Some(prior), 0.0).unwrap();
    assert!(held[1] < 0.5, "a strong prior holds back: {held:?}");
}

#[test]
fn off_policy_figures_are_those_of_obp() {
    let log = golden().logs;
    let logged = Logged::new(log.actions, &log.action, &log.reward, &log.propensity, &log.policy).unwrap();
    near("IPW", logged.weighted(0.05).unwrap().value, log.judged.ipw);
    near("SNIPW", logged.self_normalised(0.05).unwrap().value, log.judged.snipw);
    near("direct", logged.direct(&log.predicted).unwrap(), log.judged.direct);
    near("doubly robust", logged.doubly_robust(&log.predicted, 0.05).unwrap().value, log.judged.robust);
    assert!(logged.effective_rows() < 400.0 && logged.effective_rows() > 20.0);
    let wrong = Logged::new(log.actions, &log.action, &log.reward[1..], &log.propensity, &log.policy);
    assert_eq!(wrong.unwrap_err(), ExperimentError::Length(399, "rewards", "400".into()));
    let mut zero = log.propensity.clone();
    zero[3] = 0.0;
    assert!(matches!(
        Logged::new(log.actions, &log.action, &log.reward, &zero, &log.policy),
        Err(ExperimentError::Number("a propensity", 0.0, _))
    ));
}

#[test]
fn guardrails_pass_stop_and_wait() {
    let measured = |treated: f64, n: f64| {
        let make = |p: f64| arm(Metric::Proportion, [n, n * p, 0.0, 0.0, 0.0, 0.0], [80.0; 6]).unwrap();
        effect(&make(0.1), &make(treated), Scale::Relative).unwrap()
    };
    let rule = |better| Guardrail { better, permitted: 0.05, alpha: 0.05, tau: TAU };
    let ask = |treated, n, better| guard(&measured(treated, n), &rule(better)).unwrap();
    assert_eq!(ask(0.1, 100_000.0, Better::Higher).verdict, Verdict::Ok);
    assert_eq!(ask(0.08, 20_000.0, Better::Higher).verdict, Verdict::Stop);
    assert_eq!(ask(0.08, 20_000.0, Better::Lower).verdict, Verdict::Ok);
    let unsure = ask(0.1, 5_000.0, Better::Lower);
    assert_eq!(unsure.verdict, Verdict::NotYet);
    println!("{}\n{}", ask(0.08, 20_000.0, Better::Higher).reason, unsure.reason);
    assert!(unsure.reason.contains("more people are needed"));
    let negative = Guardrail { permitted: -0.1, ..rule(Better::Higher) };
    assert!(matches!(guard(&measured(0.1, 5_000.0), &negative), Err(ExperimentError::Number(..))));
}

#[test]
fn several_arms_share_the_error_rate() {
    let make = |k: f64| arm(Metric::Proportion, [10_000.0, k, 0.0, 0.0, 0.0, 0.0], [80.0; 6]).unwrap();
    let (control, others) = (make(1_000.0), [make(1_010.0), make(1_300.0), make(1_100.0)]);
    let found = against_control(&control, &others, Scale::Absolute, 0.05, TAU).unwrap();
    for (arm, compared) in others.iter().zip(&found) {
        let alone = effect(&control, arm, Scale::Absolute).unwrap().always_valid(0.05, TAU).unwrap();
        assert!(compared.finding.effect.low < alone.effect.low && compared.q >= compared.finding.p);
        assert_eq!(compared.finding.p, alone.p);
    }
    assert!(found[1].q < 0.001 && found[0].q > 0.5);
}

#[test]
fn noise_that_buries_the_figures_is_refused_with_a_remedy() {
    let noisy = |n, k, variance| arm(Metric::Proportion, [n, k, 0.0, 0.0, 0.0, 0.0], [variance; 6]).unwrap();
    let compare = |a: &Arm, b: &Arm| effect(a, b, Scale::Absolute);
    let good = noisy(1_000.0, 200.0, 80.0);
    assert!(matches!(
        compare(&good, &noisy(80.0, 20.0, 80.0)),
        Err(ExperimentError::Noise("the number of people", ..))
    ));
    assert!(matches!(compare(&good, &noisy(1.0, 1.0, 0.0)), Err(ExperimentError::People(_))));
    assert!(matches!(compare(&good, &noisy(-5.0, 1.0, 80.0)), Err(ExperimentError::People(_))));
    // Noise of variance 2 on two outcomes: 2 of 3.4 are known, and the rest is uncertain by 1.4.
    assert!(matches!(compare(&good, &noisy(1_000.0, 2.0, 2.0)), Err(ExperimentError::Spread(_))));
    assert!(matches!(compare(&good, &noisy(1_000.0, 0.0, 0.0)), Err(ExperimentError::NoVariance)));
    assert!(matches!(
        compare(&good, &arm(Metric::Mean, [10.0; 6], [0.0; 6]).unwrap()),
        Err(ExperimentError::Metric(..))
    ));
    let low = noisy(10_000.0, 20.0, 400.0);
    assert!(matches!(effect(&low, &good, Scale::Relative), Err(ExperimentError::Baseline(_))));
    assert!(arm(Metric::Mean, [f64::NAN; 6], [0.0; 6]).is_err() && arm(Metric::Mean, [1.0; 6], [-1.0; 6]).is_err());
    let found = compare(&good, &good).unwrap();
    assert!(found.fixed(0.5).is_err() && found.always_valid(0.05, 0.0).is_err() && found.fixed(f64::NAN).is_err());
    let text = compare(&good, &noisy(80.0, 20.0, 80.0)).unwrap_err().to_string();
    assert!(text.contains("standard deviation of 8.9") && text.contains("add up more people"), "{text}");
}

/// How far noise moves the variance between people, by moving each cell a little.
#[test]
fn a_refused_spread_is_what_moving_the_cells_shows() {
    let points = [(0.0, 1.0), (1.0, 2.0), (10.0, 1.0)];
    let (counts, variance) = ([990.0, 5.0, 3.0], 4.0);
    let total = |counts: [f64; 3], of: &dyn Fn((f64, f64)) -> f64| {
        counts.iter().zip(points).map(|(count, point)| count * of(point)).sum::<f64>()
    };
    for metric in [Metric::Mean, Metric::Ratio] {
        // Each person's part of the figure's error, and the sum of its squares.
        let slope = |counts| total(counts, &|(y, _)| y) / total(counts, &|(_, x)| x);
        let average = |counts| total(counts, &|(y, _)| y) / total(counts, &|_| 1.0);
        let part = |counts, (y, x): (f64, f64)| match metric {
            Metric::Ratio => y - slope(counts) * x,
            _ => y - average(counts),
        };
        let spread = |counts| total(counts, &|point| part(counts, point).powi(2));
        let moved = |cell: usize| {
            let (mut more, mut less) = (counts, counts);
            more[cell] += 1e-3;
            less[cell] -= 1e-3;
            (spread(more) - spread(less)) / 2e-3
        };
        let wobble = (variance * (0..3).map(|cell| moved(cell).powi(2)).sum::<f64>()).sqrt();
        let people = total(counts, &|_| 1.0);
        let noise = variance * points.map(|point| part(counts, point).powi(2)).iter().sum::<f64>();
        let whole = spread(counts) * people / (people - 1.0) + noise;
        let wanted = 100.0 * wobble * people / (people - 1.0) / whole;
        let arm = Arm::from_cells(metric, &points, &Cells::new(counts.to_vec(), variance).unwrap()).unwrap();
        let refused = effect(&arm, &arm, Scale::Absolute);
        assert!(
            matches!(refused, Err(ExperimentError::Spread(found)) if (found / wanted - 1.0).abs() < 1e-6),
            "{metric:?} {refused:?}, not {wanted}"
        );
    }
}

/// A table of cells gives the arm that its sums give, and counts the noise that the sums share once.
#[test]
fn cells_give_sums_and_the_covariance_of_their_noise() {
    let cells = Cells::new(vec![800.0, 150.0, 50.0], 4.0).unwrap();
    let found = Arm::from_cells(Metric::Mean, &[(0.0, 0.0), (1.0, 0.0), (3.0, 0.0)], &cells).unwrap();
    let same = arm(Metric::Mean, [1_000.0, 300.0, 600.0, 0.0, 0.0, 0.0], [0.0; 6]).unwrap();
    assert_eq!(found.people(), Noised { value: 1_000.0, variance: 12.0 });
    let (noised, exact) =
        (effect(&same, &found, Scale::Absolute).unwrap(), effect(&same, &same, Scale::Absolute).unwrap());
    near("sampling", noised.sampling, exact.sampling);
    // Σ (vᵢ − mean)² · 4 / 1,000²
    near("noise", noised.noise * 1e6, 4.0 * (0.09 + 0.49 + 7.29));
    let twice = found.plus(&found).unwrap();
    assert_eq!(twice.people(), Noised { value: 2_000.0, variance: 24.0 });
    assert!(matches!(
        Arm::from_cells(Metric::Proportion, &[(0.0, 0.0), (1.0, 0.0), (3.0, 0.0)], &cells),
        Err(ExperimentError::Number("a proportion's outcome", 3.0, _))
    ));
    assert!(Arm::from_cells(Metric::Mean, &[(0.0, 0.0)], &cells).is_err());
}
