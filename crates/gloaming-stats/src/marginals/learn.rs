//! What is counted, as far as noise and chance let it be believed, against what is held back.

use super::infer::{Graph, Potentials};
use super::squares::{Term, least};
use super::{Counted, MarginalsError, Pair, sums};

/// What holds back how many people there are by themselves in a bin: next to nothing, so that the answer is one.
const SLACK: f64 = 1e-4;
/// Logarithms of variances of effects that are thought of: from none that matters to a factor of ninety.
const EFFECTS: std::ops::Range<f64> = -12.0..3.0;
/// Places at which it is looked for first, and steps of the golden section afterwards.
const PLACES: u32 = 150;
const SECTIONS: u32 = 60;
/// Fewest people that are expected anywhere.
const NOBODY: f64 = 1e-9;

/// Parameters of one kind that lie together.
struct Block {
    /// What was counted of each, and the variance of its noise.
    targets: Vec<f64>,
    noise: f64,
    /// The precision that holds each back.
    held: f64,
}

impl Block {
    /// What is as large as it was counted, but for its noise.
    fn free(targets: Vec<f64>, noise: f64) -> Self {
        Self { targets, noise, held: SLACK }
    }

    /// What tells nothing, and is not asked for: how many there are of each by themselves is counted already.
    fn nothing() -> Self {
        Self { targets: Vec::new(), noise: 0.0, held: 0.0 }
    }

    /// What goes together: each effect is drawn towards none, by how large the effects of the table are. That the table
    /// tells itself ([`effects`]).
    fn together(cells: Vec<f64>, variance: f64, (rows, columns): (&[f64], &[f64]), people: f64, outcome: bool) -> Self {
        let (off, expected) = off(&cells, rows, columns, people);
        // The part of the noise that is not in rows and columns.
        let variance = variance * (1.0 - 1.0 / rows.len() as f64) * (1.0 - 1.0 / columns.len() as f64);
        let expected: Vec<f64> = expected.into_iter().map(|people| people.max(NOBODY)).collect();
        // With and without the outcome mirror each other: what is a lot of the rarer one is next to nothing of the other, and would tell that
        // there are no effects.
        let told = if outcome {
            let rarer = usize::from(columns[1] < columns[0]);
            let of = |cells: &[f64]| cells.iter().skip(rarer).step_by(2).copied().collect::<Vec<_>>();
            effects(&of(&off), &of(&expected), variance, free(rows.len()))
        } else {
            effects(&off, &expected, variance, free(rows.len()) * free(columns.len()))
        };
        if told > 0.0 { Self { targets: cells, noise: variance, held: 1.0 / told } } else { Self::nothing() }
    }
}

/// How far cells are from independence, what is off in whole rows and columns taken out; and what is expected.
pub(super) fn off(cells: &[f64], rows: &[f64], columns: &[f64], people: f64) -> (Vec<f64>, Vec<f64>) {
    let wide = columns.len();
    let expected: Vec<f64> =
        rows.iter().flat_map(|row| columns.iter().map(move |column| row * column / people)).collect();
    let mut off: Vec<f64> = cells.iter().zip(&expected).map(|(cell, expected)| cell - expected).collect();
    let less = |of: &mut dyn Iterator<Item = &mut f64>, mean: f64| of.for_each(|off| *off -= mean);
    // Dependence leaves the sums of rows and columns as they are; what is off there is noise.
    for row in off.chunks_mut(wide) {
        let mean = row.iter().sum::<f64>() / wide as f64;
        less(&mut row.iter_mut(), mean);
    }
    for column in 0..wide {
        let mean = off.iter().skip(column).step_by(wide).sum::<f64>() / rows.len() as f64;
        less(&mut off.iter_mut().skip(column).step_by(wide), mean);
    }
    (off, expected)
}

/// How many of so many are free where their sum is given, as a share of them.
fn free(all: usize) -> f64 {
    1.0 - 1.0 / all as f64
}

/// The variance of a table's effects (by how much of what is expected cells are off) that makes it likeliest: what is off comes
/// of effects, of noise and of chance, all taken as normal. 0 where it is hardly likelier than by noise and chance alone; the rest of
/// the cells follows from those that are `free`, a share of them, and is not told twice.
fn effects(off: &[f64], expected: &[f64], variance: f64, free: f64) -> f64 {
    let cells: Vec<(f64, f64)> = off
        .iter()
        .zip(expected)
        .map(|(off, expected)| ((off / expected).powi(2), (variance + expected) / expected.powi(2)))
        .collect();
    let unlikely = |size: f64| {
        let of = |(square, chance): &(f64, f64)| (size + chance).ln() + square / (size + chance);
        cells.iter().map(of).sum::<f64>()
    };
    let at = |place: u32| EFFECTS.start + (EFFECTS.end - EFFECTS.start) * f64::from(place) / f64::from(PLACES);
    let least = (0..=PLACES).min_by(|one, other| unlikely(at(*one).exp()).total_cmp(&unlikely(at(*other).exp())));
    let place = least.unwrap_or(0);
    let (mut low, mut high) = (at(place.saturating_sub(1)), at((place + 1).min(PLACES)));
    let golden = (5f64.sqrt() - 1.0) / 2.0;
    for _ in 0..SECTIONS {
        let (one, other) = (high - golden * (high - low), low + golden * (high - low));
        if unlikely(one.exp()) < unlikely(other.exp()) { high = other } else { low = one }
    }
    let size = f64::midpoint(low, high).exp();
    // One more number has to earn its place (Akaike 1974): of few cells chance alone makes some size the likeliest.
    if free * (unlikely(0.0) - unlikely(size)) > 2.0 { size } else { 0.0 }
}

/// All parameters in one row: own of each feature, by outcome of each, pairs of each, the level last.
struct Problem<'g> {
    graph: &'g Graph,
    blocks: Vec<Block>,
    people: f64,
    with: f64,
    /// The variance of the noise in that.
    noise: f64,
}

/// The nearest counts that are none below zero and add up to so many (Duchi et al. 2008).
fn nearest(counts: &[f64], people: f64) -> Vec<f64> {
    let mut sorted = counts.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let (mut sum, mut shift) = (0.0, 0.0);
    for (at, value) in sorted.iter().enumerate() {
        sum += value;
        let next = (sum - people) / (at + 1) as f64;
        if *value > next {
            shift = next;
        }
    }
    counts.iter().map(|count| (count - shift).max(0.0)).collect()
}

/// The same table with so many people in it.
fn moved(cells: &[f64], people: f64) -> Vec<f64> {
    let shift = (people - cells.iter().sum::<f64>()) / cells.len() as f64;
    cells.iter().map(|cell| cell + shift).collect()
}

/// Row by row, with rows and columns exchanged.
fn turned(cells: &[f64], width: usize) -> Vec<f64> {
    (0..width).flat_map(|column| cells.iter().skip(column).step_by(width).copied()).collect()
}

impl<'g> Problem<'g> {
    fn new(counted: &Counted, graph: &'g Graph, people: f64, (with, noise): (f64, f64)) -> Self {
        let count = graph.features();
        let counts: Vec<(Vec<f64>, f64)> = (0..count).map(|feature| counted.own(feature)).collect();
        let own: Vec<Vec<f64>> = counts.iter().map(|(own, _)| nearest(own, people)).collect();
        let outcomes = [people - with, with];
        let by_outcome = counted.by_outcome.iter().zip(&own).map(|(cells, own)| {
            Block::together(moved(cells.values(), people), cells.variance(), (own, &outcomes), people, true)
        });
        let edge = |feature: usize| {
            let Some(parent) = graph.parent(feature) else { return Block::nothing() };
            let of = |pair: &&Pair| pair.of == (feature, parent) || pair.of == (parent, feature);
            let Some(pair) = counted.pairs.iter().find(of) else { unreachable!("edges are of counted pairs") };
            let targets = moved(pair.cells.values(), people);
            let targets = if pair.of.0 == feature { targets } else { turned(&targets, graph.bins(feature)) };
            Block::together(targets, pair.cells.variance(), (&own[feature], &own[parent]), people, false)
        };
        let alone = own.iter().zip(&counts).map(|(own, (_, noise))| Block::free(own.clone(), *noise));
        let blocks = alone.chain(by_outcome).chain((0..count).map(edge)).collect();
        Self { graph, blocks, people, with, noise }
    }

    fn len(&self) -> usize {
        self.blocks.iter().map(|block| block.targets.len()).sum::<usize>() + 1
    }

    fn potentials(&self, row: &[f64]) -> Potentials {
        let (count, mut potentials, mut rest) = (self.graph.features(), self.graph.flat(), row);
        for (at, block) in self.blocks.iter().enumerate() {
            let (own, after) = rest.split_at(block.targets.len());
            rest = after;
            let (kind, feature) = (at / count, at % count);
            match kind {
                0 => potentials.nodes[feature].chunks_mut(2).zip(own).for_each(|(bin, own)| bin.fill(*own)),
                1 => potentials.nodes[feature].iter_mut().zip(own).for_each(|(node, own)| *node += own),
                _ => potentials.edges[feature].iter_mut().zip(own).for_each(|(edge, own)| *edge = *own),
            }
        }
        potentials.level = rest.first().copied().unwrap_or(0.0);
        potentials
    }

    /// How many people each parameter's cell is expected to have.
    fn expected(&self, row: &[f64]) -> Vec<f64> {
        let found = self.graph.infer(&self.potentials(row));
        let (count, mut all) = (self.graph.features(), Vec::with_capacity(row.len()));
        for (at, _) in self.blocks.iter().enumerate().filter(|(_, block)| !block.targets.is_empty()) {
            let (kind, feature) = (at / count, at % count);
            match kind {
                0 => all.extend(sums(&found.nodes[feature], 2, false)),
                1 => all.extend(&found.nodes[feature]),
                _ => all.extend(&found.edges[feature]),
            }
        }
        all.push(found.rate());
        all.iter_mut().for_each(|share| *share *= self.people);
        all
    }

    /// What is asked of each parameter, in the order of a row.
    fn terms(&self) -> Vec<Term> {
        let mut terms = Vec::with_capacity(self.len());
        for &Block { ref targets, noise, held } in &self.blocks {
            terms.extend(targets.iter().map(|&target| Term { target, noise, held }));
        }
        terms.push(Term { target: self.with, noise: self.noise, held: 0.0 });
        terms
    }

    /// As if nothing went together.
    fn apart(&self) -> Vec<f64> {
        let log = |count: &f64| (count.max(0.5) / self.people).ln();
        let count = self.graph.features();
        let mut row = vec![0.0; self.len()];
        let own = self.blocks.iter().take(count).flat_map(|block| &block.targets);
        row.iter_mut().zip(own).for_each(|(at, own)| *at = log(own));
        if let Some(level) = row.last_mut() {
            *level = (self.with / (self.people - self.with)).ln();
        }
        row
    }
}

/// Potentials of the distribution that is looked for.
pub(super) fn fit(
    counted: &Counted,
    graph: &Graph,
    people: f64,
    with: (f64, f64),
) -> Result<Potentials, MarginalsError> {
    let problem = Problem::new(counted, graph, people, with);
    let row =
        least(problem.apart(), &problem.terms(), |row| problem.expected(row)).map_err(MarginalsError::Unsettled)?;
    Ok(problem.potentials(&row))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table of two by two tells one number, which is in all of its cells.
    #[test]
    fn noise_seldom_passes_for_an_effect_of_a_yes_or_no() {
        let (mut draws, runs) = (crate::draws::Draws::new(7), 4_000);
        let passed = |free: f64, draws: &mut crate::draws::Draws| {
            let one = |draws: &mut crate::draws::Draws| {
                let z = 30.0 * draws.normal();
                u32::from(effects(&[z, -z], &[50.0; 2], 850.0, free) > 0.0)
            };
            f64::from((0..runs).map(|_| one(draws)).sum::<u32>()) / f64::from(runs)
        };
        let (once, twice) = (passed(0.5, &mut draws), passed(1.0, &mut draws));
        println!("of noise alone {once:.3} pass for an effect; were it told twice {twice:.3}");
        // Akaike's price is passed by 0.034 of what is normal, and by 0.076 where it is told twice.
        assert!(once < 0.045 && twice > 0.06, "{once} {twice}");
    }

    #[test]
    fn counts_below_zero_give_way_to_the_nearest_that_can_be() {
        let near = nearest(&[60.0, -6.0, 40.0], 100.0);
        assert_eq!(near, [60.0, 0.0, 40.0]);
        let near = nearest(&[60.0, 10.0, 40.0], 100.0);
        assert!((near.iter().sum::<f64>() - 100.0).abs() < 1e-9 && near[1] > 0.0, "{near:?}");
        assert_eq!(turned(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    }
}
