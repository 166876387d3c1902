//! What the intervals promise, measured on simulated experiments with noise as at epsilon 1 a release.
//!
//! Runs draw sums, not people: binomial counts by inversion, so that two thousand experiments of forty looks are cheap.

use gloaming_stats::draws::Draws;
use gloaming_stats::experiment::*;

use super::arm;

const RUNS: u32 = 2_000;
const LOOKS: u32 = 40;
/// Of both arms together, each look.
const PEOPLE: usize = 500;

/// Binomial draws by inverting the distribution, kept for each number of trials.
pub(super) struct Binomial {
    p: f64,
    known: Vec<Vec<f64>>,
}

impl Binomial {
    pub(super) fn new(p: f64) -> Self {
        Self { p, known: Vec::new() }
    }

    pub(super) fn draw(&mut self, trials: usize, draws: &mut Draws) -> f64 {
        if self.known.len() <= trials {
            self.known.resize(trials + 1, Vec::new());
        }
        if self.known[trials].is_empty() {
            // Logarithms, because thousands of trials underflow.
            let (mut log, mut sum) = (trials as f64 * (1.0 - self.p).ln(), 0.0);
            for k in 0..=trials {
                sum += log.exp();
                log += ((trials - k) as f64 / (k + 1) as f64 * self.p / (1.0 - self.p)).ln();
                self.known[trials].push(sum);
            }
        }
        let uniform = draws.uniform();
        self.known[trials].partition_point(|sum| *sum < uniform).min(trials) as f64
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Noise {
    None,
    /// Laplace of this scale on each sum.
    Laplace(f64),
    /// Normal of this variance on each sum, as the discrete Gaussian is from a variance of one on.
    Normal(f64),
}

impl Noise {
    pub(super) fn variance(self) -> f64 {
        match self {
            Self::None => 0.0,
            Self::Laplace(scale) => 2.0 * scale * scale,
            Self::Normal(variance) => variance,
        }
    }

    pub(super) fn draw(self, draws: &mut Draws) -> f64 {
        match self {
            Self::None => 0.0,
            Self::Laplace(scale) => {
                let centred = draws.uniform() - 0.5;
                -scale * centred.signum() * (1.0 - 2.0 * centred.abs()).ln()
            }
            Self::Normal(variance) => variance.sqrt() * draws.normal(),
        }
    }
}

/// Both arms' totals after each look: (people, with outcome), noise added up.
pub(super) struct Run<'a> {
    pub(super) arms: [&'a mut Binomial; 2],
    pub(super) split: &'a mut Binomial,
    pub(super) noise: Noise,
    pub(super) totals: [[f64; 2]; 2],
    pub(super) releases: f64,
}

impl Run<'_> {
    pub(super) fn look(&mut self, people: usize, draws: &mut Draws) -> [[f64; 2]; 2] {
        let treated = self.split.draw(people, draws);
        for (side, count) in [people as f64 - treated, treated].into_iter().enumerate() {
            let with = self.arms[side].draw(count as usize, draws);
            self.totals[side][0] += count + self.noise.draw(draws);
            self.totals[side][1] += with + self.noise.draw(draws);
        }
        self.releases += 1.0;
        self.totals
    }

    /// The effect as the centre sees it, or as one would who forgot the noise.
    fn effect(&self, aware: bool) -> Option<Effect> {
        let variance = if aware { self.noise.variance() * self.releases } else { 0.0 };
        let [control, treated] =
            self.totals.map(|[n, k]| arm(Metric::Proportion, [n, k, k, 0.0, 0.0, 0.0], [variance; 6]).unwrap());
        effect(&control, &treated, Scale::Absolute).ok()
    }
}

/// How many of [`RUNS`] experiments ever were significant: by the sequence, and by who `errs`.
fn ever(p: [f64; 2], noise: Noise, people: &dyn Fn(u32) -> usize, errs: Errs, seed: u64) -> [u32; 2] {
    let (mut control, mut treated, mut split) = (Binomial::new(p[0]), Binomial::new(p[1]), Binomial::new(0.5));
    let mut draws = Draws::new(seed);
    let mut found = [0; 2];
    let always = |effect: Effect| effect.always_valid(0.05, TAU).is_ok_and(|found| found.p < 0.05);
    for _ in 0..RUNS {
        let mut run =
            Run { arms: [&mut control, &mut treated], split: &mut split, noise, totals: [[0.0; 2]; 2], releases: 0.0 };
        let mut hits = [false; 2];
        for look in 0..LOOKS {
            run.look(people(look), &mut draws);
            let effect = run.effect(true);
            hits[0] |= effect.is_some_and(always);
            hits[1] |= match errs {
                Errs::Nobody => false,
                // A t-test at each look; with so many people its bound is 1.96.
                Errs::Peeking => effect.is_some_and(|effect| effect.estimate.abs() > 1.96 * effect.standard_error()),
                Errs::Forgetting => run.effect(false).is_some_and(always),
            };
        }
        found.iter_mut().zip(hits).for_each(|(count, hit)| *count += u32::from(hit));
    }
    found
}

/// Who to compare with.
#[derive(Clone, Copy)]
enum Errs {
    Nobody,
    Peeking,
    Forgetting,
}

/// Upper end of Wilson's one-sided 99 % interval.
fn upper(hits: u32, runs: u32) -> f64 {
    let (z, n) = (2.326_347_874_040_841_f64, f64::from(runs));
    let p = f64::from(hits) / n;
    (p + z * z / (2.0 * n) + z * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt()) / (1.0 + z * z / n)
}

#[test]
fn forty_looks_at_nothing_find_something_in_less_than_one_of_twenty() {
    for (name, p, noise) in [
        ("Laplace of scale 1", 0.19, Noise::Laplace(1.0)),
        ("normal of variance 2", 0.19, Noise::Normal(2.0)),
        ("Laplace of scale 1, rare outcome", 0.02, Noise::Laplace(1.0)),
    ] {
        let [found, peeked] = ever([p; 2], noise, &|_| PEOPLE, Errs::Peeking, 11);
        let (share, most) = (f64::from(found) / f64::from(RUNS), upper(found, RUNS));
        println!(
            "A/A, 20,000 people, {LOOKS} looks, {name}: {:.2} % false positives (99 % bound {:.2} %); peeking {:.1} %",
            100.0 * share,
            100.0 * most,
            100.0 * f64::from(peeked) / f64::from(RUNS)
        );
        assert!(share <= 0.05 && most <= 0.06, "{name}: {found} of {RUNS}");
        assert!(peeked > RUNS / 10, "the simulation would not show a test that peeks: {peeked}");
    }
}

/// Traffic that comes late makes the noise's share fall from look to look; a burst at the start makes it rise. Noise as
/// strong as this breaks the sequence of whoever leaves it out of the standard error.
#[test]
fn uneven_traffic_keeps_the_promise_and_forgetting_noise_breaks_it() {
    let late = |look: u32| if look < 30 { 200_usize } else { 1_400 };
    let early = |look: u32| if look < 2 { 5_000_usize } else { 263 };
    let mut forgot_most = 0;
    for (name, people) in [("late", &late as &dyn Fn(u32) -> usize), ("early", &early)] {
        let [found, forgot] = ever([0.19; 2], Noise::Normal(200.0), people, Errs::Forgetting, 12);
        println!(
            "A/A, {name} traffic, noise of variance 200: {:.2} % (99 % bound {:.2} %), noise forgotten {:.1} %",
            100.0 * f64::from(found) / f64::from(RUNS),
            100.0 * upper(found, RUNS),
            100.0 * f64::from(forgot) / f64::from(RUNS)
        );
        assert!(found <= RUNS / 20 && upper(found, RUNS) <= 0.06, "{name}: {found}");
        forgot_most = forgot_most.max(forgot);
    }
    assert!(forgot_most > RUNS / 10, "forgetting the noise must show: {forgot_most}");
}

/// Money: 99 of 100 spend nothing, the others 20, 50 or 100, and the noise is that of a cap of 100 on one's sum.
#[test]
fn spending_keeps_the_promise_too() {
    let (mut split, mut buyers, mut draws) = (Binomial::new(0.5), Binomial::new(0.01), Draws::new(19));
    let noise = [1.0, 100.0, 10_000.0].map(Noise::Laplace);
    let (mut found, mut asked) = (0, 0);
    for _ in 0..RUNS {
        let (mut totals, mut hit) = ([[0.0; 6]; 2], false);
        for look in 1..=LOOKS {
            let treated = split.draw(PEOPLE, &mut draws);
            for (total, people) in totals.iter_mut().zip([PEOPLE as f64 - treated, treated]) {
                total[0] += people;
                for _ in 0..buyers.draw(people as usize, &mut draws) as u32 {
                    let spent = [20.0, 50.0, 100.0][(3.0 * draws.uniform()) as usize];
                    total[1] += spent;
                    total[2] += spent * spent;
                }
                total.iter_mut().zip(noise).for_each(|(sum, noise)| *sum += noise.draw(&mut draws));
            }
            let variance = |index: usize| noise.get(index).map_or(0.0, |noise| noise.variance() * f64::from(look));
            let [control, treated] = totals.map(|sums| arm(Metric::Mean, sums, std::array::from_fn(variance)).unwrap());
            if let Ok(always) = effect(&control, &treated, Scale::Absolute).and_then(|it| it.always_valid(0.05, TAU)) {
                asked += 1;
                hit |= always.p < 0.05;
            }
        }
        found += u32::from(hit);
    }
    println!(
        "A/A of spending, 20,000 people, {LOOKS} looks, Laplace of scale 100: {:.2} % (99 % bound {:.2} %); {:.0} % of the looks said something",
        100.0 * f64::from(found) / f64::from(RUNS),
        100.0 * upper(found, RUNS),
        100.0 * f64::from(asked) / f64::from(RUNS * LOOKS)
    );
    assert!(found <= RUNS / 20 && upper(found, RUNS) <= 0.06 && asked > RUNS * LOOKS / 2, "{found} {asked}");
}

#[test]
fn noise_costs_less_than_a_tenth_of_the_power() {
    let p = [0.15, 0.17];
    let [raw, _] = ever(p, Noise::None, &|_| PEOPLE, Errs::Nobody, 13);
    for noise in [Noise::Laplace(1.0), Noise::Normal(2.0)] {
        let [noised, _] = ever(p, noise, &|_| PEOPLE, Errs::Nobody, 13);
        let loss = 1.0 - f64::from(noised) / f64::from(raw);
        println!(
            "15 % against 17 %, 20,000 people, {LOOKS} looks: power {:.3} raw, {:.3} with {noise:?}; {:.1} % lost",
            f64::from(raw) / f64::from(RUNS),
            f64::from(noised) / f64::from(RUNS),
            100.0 * loss
        );
        assert!(loss <= 0.1 && raw > RUNS / 2 && raw < RUNS * 19 / 20, "{raw} {noised}");
        // A plan counts the last look only, so it promises less than forty looks keep.
        let design = Design::proportion(p[0], p[1] - p[0], noise.variance(), Looks::Any { tau: TAU });
        let planned = design.power_at(f64::from(LOOKS) * PEOPLE as f64 / 2.0, LOOKS).unwrap();
        let kept = f64::from(noised) / f64::from(RUNS);
        println!("planned power {planned:.3}, kept {kept:.3}");
        assert!(planned < kept && kept < planned + 0.12, "{planned} {kept}");
    }
}

/// A harm exactly as large as permitted is neither passed nor stopped more often than alpha says.
#[test]
fn a_guardrail_errs_as_rarely_as_it_says_over_all_looks() {
    let (mut control, mut treated, mut split) = (Binomial::new(0.2), Binomial::new(0.19), Binomial::new(0.5));
    let rule = Guardrail { better: Better::Higher, permitted: 0.01, alpha: 0.05, tau: TAU };
    let mut draws = Draws::new(14);
    let (mut passed, mut stopped) = (0, 0);
    for _ in 0..RUNS {
        let mut run = Run {
            arms: [&mut control, &mut treated],
            split: &mut split,
            noise: Noise::Laplace(1.0),
            totals: [[0.0; 2]; 2],
            releases: 0.0,
        };
        let mut verdicts = Vec::new();
        for _ in 0..LOOKS {
            run.look(PEOPLE, &mut draws);
            verdicts.extend(run.effect(true).map(|effect| guard(&effect, &rule).unwrap().verdict));
        }
        passed += u32::from(verdicts.contains(&Verdict::Ok));
        stopped += u32::from(verdicts.contains(&Verdict::Stop));
    }
    println!("harm as permitted: {passed} passed and {stopped} stopped of {RUNS}, at an error rate of 5 % each");
    for wrong in [passed, stopped] {
        assert!(wrong > 0 && wrong <= RUNS / 20 && upper(wrong, RUNS) <= 0.06, "{wrong}");
    }
}

#[test]
fn shares_under_noise_alarm_as_rarely_as_they_should() {
    let (mut split, mut draws) = (Binomial::new(0.3), Draws::new(17));
    let (mut warned, mut forgot) = (0, 0);
    let runs = 10_000;
    for _ in 0..runs {
        let first = split.draw(2_000, &mut draws);
        let noise = [300.0, 100.0];
        let counts = [first, 2_000.0 - first];
        let noised = [0, 1].map(|side| counts[side] + Noise::Normal(noise[side]).draw(&mut draws));
        let check = |noise: [f64; 2]| {
            let people = [0, 1].map(|side| Noised { value: noised[side], variance: noise[side] });
            u32::from(check_shares(&people, &[0.3, 0.7]).unwrap().p < WARN)
        };
        warned += check(noise);
        forgot += check([0.0; 2]);
    }
    println!("shares as intended, {runs} times: {warned} warnings at p < .01, {forgot} with the noise forgotten");
    assert!((50..=150).contains(&warned) && forgot > 200, "{warned} {forgot}");
}

/// Two hundred days, looked at on each: the p of one look ever alarms far too often, the other as rarely as it says.
#[test]
fn shares_looked_at_every_day_alarm_as_rarely_as_they_should() {
    let (mut split, mut draws) = (Binomial::new(0.5), Draws::new(19));
    let (runs, days, noise) = (3_000, 200, 50.0);
    let ever = |mut of: Box<dyn FnMut(&mut Draws) -> f64>, draws: &mut Draws| {
        let (mut once, mut always) = (0, 0);
        for _ in 0..runs {
            let mut people = [Noised::exact(0.0); 2];
            let (mut alarmed, mut warned) = (false, false);
            for _ in 0..days {
                let first = of(draws);
                for (arm, came) in people.iter_mut().zip([first, 200.0 - first]) {
                    arm.value += came + Noise::Normal(noise).draw(draws);
                    arm.variance += noise;
                }
                let found = check_shares(&people, &[1.0, 1.0]).unwrap();
                (alarmed, warned) = (alarmed || found.p < WARN, warned || found.always_valid_p < WARN);
            }
            (once, always) = (once + u32::from(alarmed), always + u32::from(warned));
        }
        (once, always)
    };
    let (once, always) = ever(Box::new(move |draws| split.draw(200, draws)), &mut draws);
    println!(
        "{runs} fair experiments of {days} days: {once} ever below .01 by the p of one look, {always} by the p of any"
    );
    assert!(always <= 30 + 16 && once > 200, "{once} {always}");
    let mut split = Binomial::new(0.48);
    let (_, always) = ever(Box::new(move |draws| split.draw(200, draws)), &mut draws);
    println!("of as many where one in 25 of an arm is missing: {always}");
    assert!(always > runs * 9 / 10, "{always}");
}
