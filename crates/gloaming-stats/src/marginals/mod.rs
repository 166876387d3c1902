//! Learning again without anybody's rows: from released counts of (feature × outcome) and (feature × feature).
//!
//! [`learn`] finds the likeliest distribution, held back as said below, of a form that says no more than was counted: the one
//! that has the greatest entropy of all with the same counts. Its graph has the outcome beside every feature, and features beside
//! each other along a tree ([`tree`]), so everything is worked out exactly:
//!
//! ```text
//! P(y, x) ∝ exp( level·y + Σ own(x_f) + Σ by_outcome(x_f, y) + Σ pair(x_f, x_g) )
//! ```
//!
//! How far counts may be off is known: chance puts all tables off together, for they are of the same people, and noise puts each
//! off by itself. (That margins are means of the same noised tables is left out.) So two inputs that are nearly one are not set
//! against each other, by huge effects for nobody, to make two tables of different noise both true. What goes *together* is held
//! back by a Gaussian prior (Chen and Rosenfeld 2000), so that noise seldom becomes a rule. How strong it is, each table tells:
//! effects are as large as makes it likeliest, given its noise and chance (empirical Bayes), and none where those alone make it
//! likelier.
//!
//! Given its features, the outcome's log-odds then are a level and a number for each feature's bin ([`Joint::weights`]): an
//! additive model, which devices run as they are. For any other learner [`Joint::session`] draws sessions of nobody.

mod infer;
mod learn;
mod squares;
pub mod tree;

use crate::draws::Draws;
use crate::performance::{OUTCOMES, SIGNAL};
use crate::{Cells, CellsError};

use infer::{Graph, Potentials};

/// Most features: eight that all go together take five seconds, so many three minutes, and a day's budget does not pay for more.
pub const FEATURES: usize = 24;

/// Why nothing can be learnt.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum MarginalsError {
    /// Cells that do not fit.
    #[error(transparent)]
    Cells(#[from] CellsError),
    /// Too few, or too many.
    #[error("{0} features; 1 to {FEATURES} can be learnt from")]
    Features(usize),
    /// Not two cells for each bin, or one bin.
    #[error("feature {0} has {1} cells; two for each bin are needed, without and with the outcome, and two bins")]
    Bins(usize, usize),
    /// A pair that is none.
    #[error("a pair of features {0} and {1}; a pair is of two different ones, counted once")]
    Pair(usize, usize),
    /// Too few people on one side.
    #[error(
        "about {0:.0} people {1} the outcome, with noise of {2:.0}; {OUTCOMES} and {SIGNAL} times the noise are needed: add up releases, or take a longer window"
    )]
    Outcomes(f64, &'static str, f64),
    /// It went on for too long.
    #[error("nothing settled after {0} steps; use fewer bins")]
    Unsettled(usize),
}

/// Counts of two features together.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// Which: rows are bins of the first, columns of the second.
    pub of: (usize, usize),
    /// Row by row.
    pub cells: Cells,
}

/// What was counted.
#[derive(Clone, Debug)]
pub struct Counted {
    by_outcome: Vec<Cells>,
    pairs: Vec<Pair>,
    bins: Vec<usize>,
}

impl Counted {
    /// `by_outcome` holds for each feature its bins × outcome, row by row: bin b without the outcome at 2 b, with it at
    /// 2 b + 1. `pairs` are any pairs of features that were counted together.
    ///
    /// # Errors
    /// When shapes do not belong together.
    pub fn new(by_outcome: Vec<Cells>, pairs: Vec<Pair>) -> Result<Self, MarginalsError> {
        if !(1..=FEATURES).contains(&by_outcome.len()) {
            return Err(MarginalsError::Features(by_outcome.len()));
        }
        for (feature, cells) in by_outcome.iter().enumerate() {
            let len = cells.values().len();
            if len < 4 || len % 2 != 0 {
                return Err(MarginalsError::Bins(feature, len));
            }
        }
        let bins: Vec<usize> = by_outcome.iter().map(|cells| cells.values().len() / 2).collect();
        for (at, Pair { of: (one, other), cells }) in pairs.iter().enumerate() {
            let same = |pair: &Pair| pair.of == (*one, *other) || pair.of == (*other, *one);
            if one == other || *one.max(other) >= bins.len() || pairs[..at].iter().any(same) {
                return Err(MarginalsError::Pair(*one, *other));
            }
            let (found, wanted) = (cells.values().len(), bins[*one] * bins[*other]);
            if found != wanted {
                return Err(CellsError::Shape(found, wanted).into());
            }
        }
        Ok(Self { by_outcome, pairs, bins })
    }

    /// Bins of each feature.
    #[must_use]
    pub fn bins(&self) -> &[usize] {
        &self.bins
    }

    /// How many pairs were counted together.
    #[must_use]
    pub fn pairs(&self) -> usize {
        self.pairs.len()
    }

    /// About how many people were counted, from all tables together.
    #[must_use]
    pub fn people(&self) -> f64 {
        let all = self.by_outcome.iter().chain(self.pairs.iter().map(|pair| &pair.cells));
        mean(all.map(|cells| (cells.total(), cells.variance() * cells.values().len() as f64)))
    }

    /// People with the outcome, and the variance of that.
    fn positives(&self) -> (f64, f64) {
        let of = |cells: &Cells| {
            let with: f64 = cells.values().iter().skip(1).step_by(2).sum();
            (with, cells.variance() * (cells.values().len() / 2) as f64)
        };
        (mean(self.by_outcome.iter().map(of)), together(self.by_outcome.iter().map(|cells| of(cells).1)))
    }

    /// People by bin of a feature, whatever else, from every table that it is in: as counted, some below zero. And the
    /// variance of each.
    fn own(&self, feature: usize) -> (Vec<f64>, f64) {
        let mut tables =
            vec![(sums(self.by_outcome[feature].values(), 2, false), self.by_outcome[feature].variance() * 2.0)];
        for Pair { of: (one, other), cells } in &self.pairs {
            let width = self.bins[*other];
            if feature == *one {
                tables.push((sums(cells.values(), width, false), cells.variance() * width as f64));
            } else if feature == *other {
                tables.push((sums(cells.values(), width, true), cells.variance() * self.bins[*one] as f64));
            }
        }
        let of = |bin: usize| mean(tables.iter().map(|(sums, variance)| (sums[bin], *variance)));
        ((0..self.bins[feature]).map(of).collect(), together(tables.iter().map(|(_, variance)| *variance)))
    }
}

/// A variance below that of any noise, so that exact counts weigh much and not infinitely.
const LEAST: f64 = 1e-6;

/// The mean of values of different variance, each weighted with its precision.
fn mean(values: impl Iterator<Item = (f64, f64)>) -> f64 {
    let (sum, weight) = values.fold((0.0, 0.0), |(sum, weight), (value, variance)| {
        let precision = 1.0 / (variance + LEAST);
        (sum + value * precision, weight + precision)
    });
    sum / weight
}

/// The variance of that mean.
fn together(variances: impl Iterator<Item = f64>) -> f64 {
    let precision: f64 = variances.map(|variance| 1.0 / (variance + LEAST)).sum();
    (1.0 / precision - LEAST).max(0.0)
}

/// Sums of rows of a table of so many columns, or of its columns.
fn sums(cells: &[f64], width: usize, columns: bool) -> Vec<f64> {
    if columns {
        return (0..width).map(|column| cells.iter().skip(column).step_by(width).sum()).collect();
    }
    cells.chunks(width).map(|row| row.iter().sum()).collect()
}

/// The distribution that was learnt.
#[derive(Clone, Debug)]
pub struct Joint {
    graph: Graph,
    potentials: Potentials,
    people: f64,
    /// Probability of the outcome; of each bin given the outcome and, where there is one, the parent's bin.
    rate: f64,
    tables: Vec<Vec<f64>>,
}

/// Learns the distribution that agrees with what was counted as far as its noise and chance allow.
///
/// # Errors
/// When too few people have, or lack, the outcome.
pub fn learn(counted: &Counted) -> Result<Joint, MarginalsError> {
    let (people, (with, variance)) = (counted.people(), counted.positives());
    let noise = variance.sqrt();
    for (count, words) in [(with, "have"), (people - with, "lack")] {
        if count < OUTCOMES.max(SIGNAL * noise) {
            return Err(MarginalsError::Outcomes(count, words, noise));
        }
    }
    let graph = Graph::new(counted.bins.clone(), &tree::spanning(counted));
    let potentials = learn::fit(counted, &graph, people, (with, variance))?;
    let found = graph.infer(&potentials);
    Ok(Joint { rate: found.rate(), tables: graph.conditionals(&found), graph, potentials, people })
}

impl Joint {
    /// About how many people it was learnt from.
    #[must_use]
    pub fn people(&self) -> f64 {
        self.people
    }

    /// How often the outcome happens.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// Which features go together: each with the one it stands by, where the table of both tells of any effect.
    #[must_use]
    pub fn pairs(&self) -> Vec<(usize, usize)> {
        let told = |(feature, _): &(usize, usize)| self.potentials.edges[*feature].iter().any(|value| *value != 0.0);
        self.graph.edges().filter(told).collect()
    }

    /// What a bin of each feature adds to the outcome's log-odds, and what they begin with. The mean of each feature's is 0
    /// over people as they were counted, so that the first is what a usual person has.
    #[must_use]
    pub fn weights(&self) -> (f64, Vec<Vec<f64>>) {
        let found = self.graph.infer(&self.potentials);
        let mut level = self.potentials.level;
        let mut all = Vec::with_capacity(self.graph.features());
        for (node, people) in self.potentials.nodes.iter().zip(&found.nodes) {
            let raw: Vec<f64> = node.chunks(2).map(|bin| bin[1] - bin[0]).collect();
            let mean: f64 = raw.iter().zip(people.chunks(2)).map(|(weight, bin)| weight * (bin[0] + bin[1])).sum();
            level += mean;
            all.push(raw.into_iter().map(|weight| weight - mean).collect());
        }
        (level, all)
    }

    /// A session of nobody: the bin of each feature, and whether it has the outcome.
    pub fn session(&self, draws: &mut Draws) -> (Vec<usize>, bool) {
        let outcome = draws.uniform() < self.rate;
        let mut bins = vec![0; self.graph.features()];
        for &feature in self.graph.order() {
            let (width, parent) = (self.graph.bins(feature), self.graph.parent(feature));
            let row = usize::from(outcome) + 2 * parent.map_or(0, |parent| bins[parent]);
            let chances = &self.tables[feature][row * width..(row + 1) * width];
            let mut left = draws.uniform();
            bins[feature] = chances
                .iter()
                .position(|chance| {
                    left -= chance;
                    left < 0.0
                })
                .unwrap_or(width - 1);
        }
        (bins, outcome)
    }
}
