//! Tails and quantiles, to 1e-11 absolutely.
//!
//! statrs has the chi-square tail as exactly as it is needed. Its normal tail is off by 1e-11 and so are its
//! quantiles, which a variance of 1e-6 or a difference of two such would show. Its Student t subtracts log-gammas of
//! half the degrees of freedom (at 90,000 they are near 4e5, so 1e-10 is lost) and stops its continued fraction after
//! 140 steps, where such degrees can need more. Hence the functions below, after Marsaglia (2004), *Evaluating the
//! Normal Distribution*, Press et al., *Numerical Recipes*, section 6.4, and the expansion of Fisher (1925).

use statrs::function::erf::erfc_inv;
use statrs::function::gamma::checked_gamma_ur;

/// From here on two terms of Fisher's expansion are exact to 1e-15, and the continued fraction slow.
const NORMAL_DEGREES: f64 = 1e6;
/// Steps of the continued fraction; some 30 to 2,000 are needed below `NORMAL_DEGREES`.
const STEPS: u32 = 20_000;

/// Above this many deviations the tail's continued fraction takes fewer steps than the series about zero.
const SERIES: f64 = 3.0;

/// Probability of a standard normal below `z`.
pub(crate) fn normal_cdf(z: f64) -> f64 {
    if z.abs() <= SERIES {
        // ½ + φ(z) · (z + z³/3 + z⁵/(3·5) + …)
        let (mut term, mut sum, mut odd) = (z, z, 1.0);
        while term.abs() > 1e-18 {
            odd += 2.0;
            term *= z * z / odd;
            sum += term;
        }
        return 0.5 + normal_density(z) * sum;
    }
    // φ(z) / (z + 1/(z + 2/(z + …))), from behind; sixty steps are exact from 3 on.
    let distance = z.abs();
    let fraction = (1..=60).rev().fold(distance, |inner, step| distance + f64::from(step) / inner);
    let tail = normal_density(z) / fraction;
    if z > 0.0 { 1.0 - tail } else { tail }
}

fn normal_density(z: f64) -> f64 {
    (-0.5 * z * z).exp() / std::f64::consts::TAU.sqrt()
}

/// The `z` above which a standard normal lies with probability `p`, for `p` above 0 and below 1.
pub(crate) fn normal_upper(p: f64) -> f64 {
    let mut z = std::f64::consts::SQRT_2 * erfc_inv(2.0 * p);
    // Newton takes what the rational approximation left.
    for _ in 0..2 {
        let step = (normal_cdf(-z) - p) / normal_density(z);
        z += if step.is_finite() { step } else { 0.0 };
    }
    z
}

/// Probability of a chi-square with `degrees` above `x`.
pub(crate) fn chi_square_upper(x: f64, degrees: f64) -> f64 {
    if x <= 0.0 { 1.0 } else { checked_gamma_ur(degrees / 2.0, x / 2.0).unwrap_or(f64::NAN).clamp(0.0, 1.0) }
}

/// Probability of a Student t with `degrees` (one or more, may be infinite) above `t`, which is zero or more.
pub(crate) fn student_upper(t: f64, degrees: f64) -> f64 {
    if degrees >= NORMAL_DEGREES {
        let square = t * t;
        let first = t * (square + 1.0) / (4.0 * degrees);
        let second = t * (((3.0 * square - 7.0) * square - 5.0) * square - 3.0) / (96.0 * degrees * degrees);
        let correction = normal_density(t) * (first + second);
        let tail = normal_cdf(-t);
        return if correction.is_finite() { (tail + correction).clamp(0.0, 0.5) } else { tail };
    }
    let (a, square) = (degrees / 2.0, t * t);
    if square == 0.0 {
        return 0.5;
    }
    if !square.is_finite() {
        return 0.0;
    }
    let x = degrees / (degrees + square);
    let rest = square / (degrees + square);
    // x^a · (1-x)^½ / B(a, ½), without a difference of log-gammas.
    let front =
        (gamma_ratio(a) - a * (square / degrees).ln_1p() + 0.5 * rest.ln() - 0.5 * std::f64::consts::PI.ln()).exp();
    if x < (a + 1.0) / (a + 2.5) { 0.5 * front * fraction(a, 0.5, x) / a } else { 0.5 - front * fraction(0.5, a, rest) }
}

/// Density of a Student t.
fn student_density(t: f64, degrees: f64) -> f64 {
    if degrees >= NORMAL_DEGREES {
        return normal_density(t);
    }
    let a = degrees / 2.0;
    (gamma_ratio(a) - 0.5 * (std::f64::consts::PI * degrees).ln() - (a + 0.5) * (t * t / degrees).ln_1p()).exp()
}

/// The `t` above which a Student t with `degrees` lies with probability `p`, for `p` above 0 and at most ½.
pub(crate) fn student_quantile(p: f64, degrees: f64) -> f64 {
    // The tail is convex and the normal quantile lies left of the root, so Newton's steps climb to it and never past.
    let mut t = normal_upper(p).max(0.0);
    for _ in 0..200 {
        let step = (student_upper(t, degrees) - p) / student_density(t, degrees);
        if !step.is_finite() {
            break;
        }
        t += step;
        if step.abs() <= 1e-14 * t.abs() {
            break;
        }
    }
    t
}

/// ln Γ(a + ½) − ln Γ(a), by its asymptotic series from 30 on and by recursion up to there.
fn gamma_ratio(a: f64) -> f64 {
    let (mut a, mut correction) = (a, 0.0);
    while a < 30.0 {
        correction += (a / (a + 0.5)).ln();
        a += 1.0;
    }
    let inverse = 1.0 / a;
    let square = inverse * inverse;
    correction + 0.5 * a.ln()
        - inverse * (1.0 / 8.0 - square * (1.0 / 192.0 - square * (1.0 / 640.0 - square * 17.0 / 14_336.0)))
}

/// The continued fraction of the incomplete beta function, by Lentz's method.
fn fraction(a: f64, b: f64, x: f64) -> f64 {
    let guard = |value: f64| if value.abs() < 1e-300 { 1e-300 } else { value };
    let (mut c, mut d) = (1.0, 1.0 / guard(1.0 - (a + b) * x / (a + 1.0)));
    let mut h = d;
    for m in 1..STEPS {
        let m = f64::from(m);
        for term in [
            m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0)),
        ] {
            d = 1.0 / guard(1.0 + term * d);
            c = guard(1.0 + term / c);
            h *= d * c;
        }
        // Not less: a product that rounds to 1 ± ε for ever would add up.
        if (d * c - 1.0).abs() <= 2.0 * f64::EPSILON {
            break;
        }
    }
    h
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_meet_where_one_method_takes_over_from_the_other() {
        for t in [0.1, 1.0, 1.7, 1.96, 3.0, 6.0] {
            let (below, above) = (student_upper(t, NORMAL_DEGREES * 0.999_999), student_upper(t, NORMAL_DEGREES));
            assert!((below - above).abs() < 1e-11, "{t}: {below} {above}");
        }
    }

    #[test]
    fn normal_tails_are_those_of_scipy() {
        for (z, below) in [
            (-1.0, 0.158_655_253_931_457_07),
            (-2.999_9, 0.001_350_341_282_954_925),
            (-3.000_1, 0.001_349_454_913_260_717_2),
            (-8.0, 6.220_960_574_271_74e-16),
            (1.5, 0.933_192_798_731_141_9),
        ] {
            assert!((normal_cdf(z) / below - 1.0).abs() < 1e-12, "{z}: {} {below}", normal_cdf(z));
        }
        assert!((normal_upper(0.025) - 1.959_963_984_540_054).abs() < 1e-14);
    }

    #[test]
    fn quantiles_undo_tails() {
        for degrees in [1.0, 2.5, 30.0, 4_000.0, 9e4, 1e7, f64::INFINITY] {
            for p in [0.4, 0.05, 0.025, 0.001, 1e-6] {
                let t = student_quantile(p, degrees);
                assert!((student_upper(t, degrees) - p).abs() < 1e-13, "{p} {degrees} {t}");
            }
        }
        // One degree is Cauchy: tan(π(½ − p)).
        assert!((student_quantile(0.025, 1.0) - 12.706_204_736_174_7).abs() < 1e-9);
    }
}
