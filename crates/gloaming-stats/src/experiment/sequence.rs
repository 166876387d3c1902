//! Boundaries that hold at every look at once.
//!
//! Source: Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas, *Time-uniform central limit theory and asymptotic confidence
//! sequences*, arXiv 2103.06476v7: half width eq. 9, tuning eq. 161, p eq. 155, one side eq. 134.

/// People at which the sequence is tightest, as in gbstats: 3.0 standard errors at a rate of .05. At a tenth of these
/// people it is 1.27 times as many, at ten times these people 1.07 times.
pub const TAU: f64 = 5_000.0;

/// Eq. 161, squared.
fn rho_square(alpha: f64, tau: f64) -> f64 {
    let log = -2.0 * alpha.ln();
    (log + (log + 1.0).ln()) / tau
}

/// Half width in standard errors at intrinsic time `time`, two-sided (eq. 9 over σ/√t).
pub(super) fn two_sided(time: f64, alpha: f64, tau: f64) -> f64 {
    let scaled = time * rho_square(alpha, tau);
    (2.0 * (1.0 + 1.0 / scaled) * (0.5 * scaled.ln_1p() - alpha.ln())).sqrt()
}

/// The same for one side (eq. 134), tuned as a two-sided one of twice the rate would be.
pub(super) fn one_sided(time: f64, alpha: f64, tau: f64) -> f64 {
    let scaled = time * rho_square(2.0 * alpha, tau);
    (2.0 * (1.0 + 1.0 / scaled) * ((scaled + 1.0).sqrt() / (2.0 * alpha)).ln_1p()).sqrt()
}

/// Always-valid p of a deviation of `z` standard errors (eq. 155).
pub(super) fn p_value(z: f64, time: f64, alpha: f64, tau: f64) -> f64 {
    let scaled = time * rho_square(alpha, tau);
    (0.5 * scaled.ln_1p() - 0.5 * z * z * scaled / (scaled + 1.0)).exp().min(1.0)
}
