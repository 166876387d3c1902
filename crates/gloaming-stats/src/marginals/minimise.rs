//! L-BFGS (Nocedal 1980) for smooth convex functions, scaled by how sharply they bend.

/// Steps that are remembered.
const MEMORY: usize = 16;
/// Most steps; problems here need some hundreds.
const STEPS: usize = 20_000;
/// What a step would still gain when it is good enough: far below what chance leaves open.
const GAIN: f64 = 1e-13;

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Where `function` (which returns its value and writes its slope) is smallest, from zero on. `bends` are about its second
/// derivatives, all above zero.
///
/// # Errors
/// After so many steps, when it has not settled.
pub(super) fn minimise(
    len: usize,
    bends: &[f64],
    function: impl Fn(&[f64], &mut [f64]) -> f64,
) -> Result<Vec<f64>, usize> {
    let (mut at, mut slope) = (vec![0.0; len], vec![0.0; len]);
    let mut value = function(&at, &mut slope);
    // Differences of places and of slopes, and their product.
    let mut memory: std::collections::VecDeque<(Vec<f64>, Vec<f64>, f64)> = std::collections::VecDeque::new();
    for _ in 0..STEPS {
        let mut way: Vec<f64> = slope.iter().map(|slope| -slope).collect();
        let mut parts = Vec::with_capacity(memory.len());
        for (step, change, product) in memory.iter().rev() {
            let part = dot(step, &way) / product;
            way.iter_mut().zip(change).for_each(|(way, change)| *way -= part * change);
            parts.push(part);
        }
        way.iter_mut().zip(bends).for_each(|(way, bend)| *way /= bend);
        for ((step, change, product), part) in memory.iter().zip(parts.iter().rev()) {
            let back = part - dot(change, &way) / product;
            way.iter_mut().zip(step).for_each(|(way, step)| *way += back * step);
        }
        let mut down = dot(&way, &slope);
        if down > -GAIN {
            return Ok(at);
        }
        let (mut part, mut next, mut next_slope) = (1.0, vec![0.0; len], vec![0.0; len]);
        let found = loop {
            next.iter_mut().zip(&at).zip(&way).for_each(|((next, at), way)| *next = at + part * way);
            let found = function(&next, &mut next_slope);
            if found <= value + 1e-4 * part * down {
                break found;
            }
            part /= 2.0;
            // Rounding, and no longer the function, decides which of two places is lower.
            if part < 1e-10 {
                if memory.is_empty() {
                    return Ok(at);
                }
                // Once more straight down, without what is remembered.
                memory.clear();
                way = slope.iter().zip(bends).map(|(slope, bend)| -slope / bend).collect();
                (down, part) = (dot(&way, &slope), 1.0);
            }
        };
        let step: Vec<f64> = next.iter().zip(&at).map(|(next, at)| next - at).collect();
        let change: Vec<f64> = next_slope.iter().zip(&slope).map(|(next, slope)| next - slope).collect();
        let product = dot(&step, &change);
        if product > 0.0 {
            if memory.len() == MEMORY {
                memory.pop_front();
            }
            memory.push_back((step, change, product));
        }
        (at, slope, value) = (next, next_slope, found);
    }
    Err(STEPS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_narrow_valley_is_walked_to_its_end() {
        // (x - 3)^2 + 1000 (y + 1)^2 + x y / 2, and told nothing of how it bends.
        let found = minimise(2, &[1.0, 1.0], |at, slope| {
            let (x, y) = (at[0], at[1]);
            (slope[0], slope[1]) = (2.0 * (x - 3.0) + y / 2.0, 2_000.0 * (y + 1.0) + x / 2.0);
            (x - 3.0).powi(2) + 1_000.0 * (y + 1.0).powi(2) + x * y / 2.0
        })
        .unwrap();
        let exact = [(6.0 * 2_000.0 + 1_000.0) / (4_000.0 - 0.25), (-4_000.0 - 3.0) / (4_000.0 - 0.25)];
        assert!((found[0] - exact[0]).abs() < 1e-5 && (found[1] - exact[1]).abs() < 1e-5, "{found:?} {exact:?}");
    }
}
