//! Many p-values at once. Whoever calls has checked that they lie from 0 to 1.

/// The places from the least p-value to the greatest.
pub(crate) fn order(p: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    order
}

/// Benjamini and Hochberg (1995), in the order given.
pub(crate) fn benjamini_hochberg(p: &[f64]) -> Vec<f64> {
    let mut adjusted = vec![0.0; p.len()];
    let mut least = 1.0_f64;
    for (rank, place) in order(p).into_iter().enumerate().rev() {
        // The factor is one or more however it is rounded, so that nothing comes out below what went in.
        least = least.min(p[place] * (p.len() as f64 / (rank + 1) as f64));
        adjusted[place] = least;
    }
    adjusted
}
