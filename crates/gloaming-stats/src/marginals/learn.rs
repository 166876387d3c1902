//! The convex problem: what is counted against what is held back.

use super::infer::{Graph, Potentials};
use super::minimise::minimise;
use super::{Counted, LEAST, MarginalsError, Pair, sums};

/// What the prior of anything weighs at least: one person.
const ONE: f64 = 1.0;

/// Parameters of one kind that lie together.
struct Block {
    /// What was counted of each.
    targets: Vec<f64>,
    /// The precision that holds each back.
    held: f64,
}

/// All parameters in one row: own of each feature, by outcome of each, pairs of each, the level last.
struct Problem<'g> {
    graph: &'g Graph,
    blocks: Vec<Block>,
    people: f64,
    with: f64,
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
    fn new(counted: &Counted, graph: &'g Graph, people: f64, with: f64) -> Self {
        let count = graph.features();
        let own = (0..count).map(|feature| Block { targets: nearest(&counted.own(feature), people), held: ONE });
        let by_outcome = counted
            .by_outcome
            .iter()
            .map(|cells| Block { targets: moved(cells.values(), people), held: cells.variance() + ONE });
        let edge = |feature: usize| {
            let Some(parent) = graph.parent(feature) else { return Block { targets: Vec::new(), held: ONE } };
            let of = |pair: &&Pair| pair.of == (feature, parent) || pair.of == (parent, feature);
            let Some(pair) = counted.pairs.iter().find(of) else { unreachable!("edges are of counted pairs") };
            let targets = moved(pair.cells.values(), people);
            let targets = if pair.of.0 == feature { targets } else { turned(&targets, graph.bins(feature)) };
            Block { targets, held: pair.cells.variance() + ONE }
        };
        let blocks = own.chain(by_outcome).chain((0..count).map(edge)).collect();
        Self { graph, blocks, people, with }
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
                _ => potentials.edges[feature].copy_from_slice(own),
            }
        }
        potentials.level = rest.first().copied().unwrap_or(0.0);
        potentials
    }

    /// What is to be as small as can be, for each person, and its slope.
    fn at(&self, row: &[f64], slope: &mut [f64]) -> f64 {
        let found = self.graph.infer(&self.potentials(row));
        let count = self.graph.features();
        let (mut value, mut start) = (self.people * found.log_sum, 0);
        for (at, block) in self.blocks.iter().enumerate() {
            let (kind, feature) = (at / count, at % count);
            let expected = match kind {
                0 => sums(&found.nodes[feature], 2, false),
                1 => found.nodes[feature].clone(),
                _ => found.edges[feature].clone(),
            };
            for (target, expected) in block.targets.iter().zip(expected) {
                let here = row[start];
                value += here * (0.5 * block.held * here - target);
                slope[start] = (self.people * expected - target + block.held * here) / self.people;
                start += 1;
            }
        }
        slope[start] = (self.people * found.rate() - self.with) / self.people;
        (value - row[start] * self.with) / self.people
    }

    /// About how sharply it bends along each parameter.
    fn bends(&self) -> Vec<f64> {
        let of = |block: &Block| {
            let held = block.held;
            block.targets.iter().map(move |target| (target.max(0.0) + held) / self.people).collect::<Vec<_>>()
        };
        let share = self.with / self.people;
        self.blocks.iter().flat_map(of).chain([(share * (1.0 - share)).max(LEAST)]).collect()
    }
}

/// Potentials of the distribution that is looked for.
pub(super) fn fit(counted: &Counted, graph: &Graph, people: f64, with: f64) -> Result<Potentials, MarginalsError> {
    let problem = Problem::new(counted, graph, people, with);
    let row = minimise(problem.len(), &problem.bends(), |row, slope| problem.at(row, slope))
        .map_err(MarginalsError::Unsettled)?;
    Ok(problem.potentials(&row))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_below_zero_give_way_to_the_nearest_that_can_be() {
        let near = nearest(&[60.0, -6.0, 40.0], 100.0);
        assert_eq!(near, [60.0, 0.0, 40.0]);
        let near = nearest(&[60.0, 10.0, 40.0], 100.0);
        assert!((near.iter().sum::<f64>() - 100.0).abs() < 1e-9 && near[1] > 0.0, "{near:?}");
        assert_eq!(turned(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    }
}
