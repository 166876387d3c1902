//! Least squares of expected counts, weighted by how far chance and noise put them off together (Aitken 1936); steps by
//! Levenberg (1944) and Marquardt (1963).

/// Most rounds; problems here need some dozens.
const ROUNDS: usize = 500;
/// What a whole step would still gain when it is good enough: far below what chance leaves open.
const GAIN: f64 = 1e-11;
/// And when rounding lets nothing lower be found.
const ROUNDED: f64 = 1e-6;
/// How often it is looked how far chance puts counts off.
const TIMES: u32 = 3;
/// How far parameters are looked at to either side for how counts change.
const ASIDE: f64 = 1e-4;
/// And for how that changes.
const FURTHER: f64 = 1e-2;
/// The variance of what is taken as counted: a person, less or more, changes nothing.
const EXACT: f64 = 1.0;
/// How much of its own bend holds each step back: at first, at least, and when nothing lower is found any more.
const DAMPED: f64 = 1e-3;
const LEAST_DAMPED: f64 = 1e-12;
const STUCK: f64 = 1e12;

/// What is asked of one parameter and of the count that belongs to it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Term {
    /// What was counted, and the variance of what was added to it.
    pub(super) target: f64,
    pub(super) noise: f64,
    /// The precision with which the parameter is taken to be zero.
    pub(super) held: f64,
}

/// A matrix that is symmetric and has nothing below zero, as Cholesky's factor: by rows, and by columns from the diagonal on.
struct Factor(Vec<Vec<f64>>, Vec<Vec<f64>>);

/// Eight sums side by side, which a processor adds at once.
fn product(a: &[f64], b: &[f64]) -> f64 {
    let (a, b) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    let mut sums = [0.0; 8];
    for (a, b) in a.zip(b) {
        sums.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, (a, b))| *sum += a * b);
    }
    sums.iter().sum::<f64>() + rest
}

impl Factor {
    /// Nothing for a matrix that is singular.
    fn new(mut matrix: Vec<Vec<f64>>) -> Option<Self> {
        for row in 0..matrix.len() {
            for column in 0..=row {
                let (above, below) = matrix.split_at(row);
                let other = if column == row { &below[0] } else { &above[column] };
                let left = below[0][column] - product(&below[0][..column], &other[..column]);
                matrix[row][column] = match column < row {
                    true => left / matrix[column][column],
                    false if left > 0.0 => left.sqrt(),
                    false => return None,
                };
            }
        }
        let columns =
            (0..matrix.len()).map(|column| matrix[column..].iter().map(|row| row[column]).collect()).collect();
        Some(Self(matrix, columns))
    }

    /// What the matrix makes this of.
    fn solve(&self, right: &[f64]) -> Vec<f64> {
        let (Self(lower, columns), mut found) = (self, right.to_vec());
        for row in 0..found.len() {
            found[row] = (found[row] - product(&lower[row][..row], &found[..row])) / lower[row][row];
        }
        for row in (0..found.len()).rev() {
            found[row] = (found[row] - product(&columns[row][1..], &found[row + 1..])) / columns[row][0];
        }
        found
    }
}

fn off(terms: &[Term], counts: &[f64]) -> Vec<f64> {
    counts.iter().zip(terms).map(|(count, term)| count - term.target).collect()
}

/// Half of all squares: what counts are off, by how far chance and noise put them off together; and what parameters are off zero.
fn value(terms: &[Term], spread: &Factor, counts: &[f64], at: &[f64]) -> f64 {
    let off = off(terms, counts);
    let held: f64 = terms.iter().zip(at).map(|(term, at)| term.held * at.powi(2)).sum();
    0.5 * (product(&off, &spread.solve(&off)) + held)
}

/// `matrix` with so much more on its diagonal.
fn raised(matrix: &[Vec<f64>], more: impl Fn(usize) -> f64) -> Vec<Vec<f64>> {
    let mut matrix = matrix.to_vec();
    matrix.iter_mut().enumerate().for_each(|(place, row)| row[place] += more(place));
    matrix
}

/// How each count changes with each parameter, row by row.
fn changes(at: &[f64], counts: &impl Fn(&[f64]) -> Vec<f64>) -> Vec<Vec<f64>> {
    let mut near = at.to_vec();
    (0..at.len())
        .map(|place| {
            let mut beside = |step: f64| {
                near[place] = at[place] + step;
                let found = counts(&near);
                near[place] = at[place];
                found
            };
            let (after, before) = (beside(ASIDE), beside(-ASIDE));
            after.iter().zip(&before).map(|(after, before)| (after - before) / (2.0 * ASIDE)).collect()
        })
        .collect()
}

/// The parameters at which `counts` are nearest to their targets, from `start` on.
///
/// Counts are those of people, and slopes of one function: how one changes with another's parameter is their covariance by chance
/// too. So what is asked of all people at once is asked once, however many tables they are in, and noise is each table's own.
/// How far chance puts counts off is taken from `start`, and then from the answer itself, [`TIMES`] times in all.
///
/// # Errors
/// After so many rounds, when it has not settled.
pub(super) fn least(start: Vec<f64>, terms: &[Term], counts: impl Fn(&[f64]) -> Vec<f64>) -> Result<Vec<f64>, usize> {
    let mut at = start;
    for _ in 0..TIMES {
        let spread = raised(&changes(&at, &counts), |place| terms[place].noise.max(EXACT));
        at = nearest(at, terms, &Factor::new(spread).ok_or(0usize)?, &counts)?;
    }
    Ok(at)
}

/// As [`least`], where it is known how far counts are put off.
fn nearest(
    start: Vec<f64>,
    terms: &[Term],
    spread: &Factor,
    counts: &impl Fn(&[f64]) -> Vec<f64>,
) -> Result<Vec<f64>, usize> {
    let (mut at, mut damped) = (start, DAMPED);
    let mut found = counts(&at);
    let mut here = value(terms, spread, &found, &at);
    for _ in 0..ROUNDS {
        let slopes = changes(&at, counts);
        let weighted: Vec<Vec<f64>> = slopes.iter().map(|row| spread.solve(row)).collect();
        let off = off(terms, &found);
        let down: Vec<f64> = weighted
            .iter()
            .zip(terms.iter().zip(&at))
            .map(|(row, (term, at))| -product(row, &off) - term.held * at)
            .collect();
        let mut bends: Vec<Vec<f64>> = weighted
            .iter()
            .zip(terms)
            .enumerate()
            .map(|(place, (row, term))| {
                let mut bends: Vec<f64> = slopes.iter().map(|other| product(row, other)).collect();
                bends[place] += term.held;
                bends
            })
            .collect();
        let least: Vec<f64> = bends.iter().enumerate().map(|(place, row)| row[place]).collect();
        // What is off bends it as well: by how slopes change along all of it.
        let way = spread.solve(&off);
        let longest = way.iter().fold(0.0, |most: f64, step| most.max(step.abs()));
        if longest > 0.0 {
            let aside = |step: f64| {
                changes(&at.iter().zip(&way).map(|(at, way)| at + step / longest * way).collect::<Vec<_>>(), counts)
            };
            for (row, (after, before)) in bends.iter_mut().zip(aside(FURTHER).into_iter().zip(aside(-FURTHER))) {
                for (bend, (after, before)) in row.iter_mut().zip(after.into_iter().zip(before)) {
                    *bend += (after - before) / (2.0 * FURTHER / longest);
                }
            }
        }
        let damped_by = |share: f64| Factor::new(raised(&bends, |place| share * least[place]));
        let whole = damped_by(LEAST_DAMPED).map(|factor| factor.solve(&down));
        let promised = whole.map_or(f64::INFINITY, |step| product(&step, &down));
        if promised < GAIN * (1.0 + here) {
            return Ok(at);
        }
        // Shorter steps, until one goes down.
        loop {
            if let Some(damping) = damped_by(damped) {
                let step = damping.solve(&down);
                let next: Vec<f64> = at.iter().zip(&step).map(|(at, step)| at + step).collect();
                let there = counts(&next);
                let lower = value(terms, spread, &there, &next);
                if lower <= here {
                    // A step that gained little of what it promised went too far, and the next one is shorter.
                    let kept = here - lower > 0.25 * product(&step, &down);
                    damped = if kept { (damped / 10.0).max(LEAST_DAMPED) } else { damped * 10.0 };
                    (at, found, here) = (next, there, lower);
                    break;
                }
            }
            damped *= 10.0;
            if damped > STUCK {
                // Rounding decides which of two places is lower; whatever else keeps it from going down is no answer.
                return if promised < ROUNDED * (1.0 + here) { Ok(at) } else { Err(ROUNDS) };
            }
        }
    }
    Err(ROUNDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bent_valley_is_walked_to_its_end() {
        // Slopes of exp(x) + exp(y) + exp(x + y).
        let counts = |at: &[f64]| {
            let both = (at[0] + at[1]).exp();
            vec![at[0].exp() + both, at[1].exp() + both]
        };
        let term = |target| Term { target, noise: 0.0, held: 0.0 };
        let found = least(vec![0.0, 0.0], &[term(3.0 + 300.0), term(100.0 + 300.0)], counts).unwrap();
        assert!((found[0] - 3f64.ln()).abs() < 1e-5 && (found[1] - 100f64.ln()).abs() < 1e-5, "{found:?}");
        // Chance of a variance of 1 and noise of 3, held back with a precision of a half: a third of the way.
        let held = [Term { target: 0.3, noise: 3.0, held: 0.5 }];
        let found = least(vec![0.0], &held, |at| vec![at[0]]).unwrap();
        assert!((found[0] - 0.1).abs() < 1e-7, "{found:?}");
    }

    #[test]
    fn equations_are_solved_and_singular_ones_are_told() {
        let matrix = vec![vec![4.0, 2.0, 1.0], vec![2.0, 3.0, 0.5], vec![1.0, 0.5, 2.0]];
        let found = Factor::new(matrix).unwrap().solve(&[11.0, 9.5, 8.0]);
        for (found, exact) in found.iter().zip([1.0, 2.0, 3.0]) {
            assert!((found - exact).abs() < 1e-12);
        }
        assert!(Factor::new(vec![vec![1.0, 1.0], vec![1.0, 1.0]]).is_none());
    }
}
