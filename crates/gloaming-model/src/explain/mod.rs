//! Why a score is what it is: how much each feature moved it, against the rows that the manifest holds up as usual.
//!
//! The values are Shapley's, of the interventional kind: a feature that a coalition lacks has the value of a background
//! row. They add up: `base` and all of them together are the score on the scale that they are told in. Models that are
//! linear in the features, and single ensembles of trees, are explained exactly, on the scale on which they add (log-odds
//! for a classifier); all others by sampling orders in which features join, in the score itself.

mod affine;
mod reasons;
mod trees;

use std::collections::BTreeMap;

use gloaming_signal::hash;
use tract_onnx::pb::GraphProto;

use self::affine::{Known, Sum};
pub use self::reasons::Reason;
use self::trees::{Compares, Ensemble, Node as Place};
use crate::model::{Model, ModelError, TOLERANCE};
use crate::node::Node;

/// Orders that are sampled where nothing exact is known: eight, each forwards and backwards.
pub const ORDERS: usize = 16;

/// Deepest tree that is walked.
const DEPTH: usize = 64;

/// Most sums of an ensemble, and most places in its leaves, that are kept for explanations: more are sampled.
const TARGETS: usize = 64;
const LEAVES: usize = 1 << 20;

/// What the values add up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// The score.
    Score,
    /// Its log-odds: the logarithm of score / (1 - score).
    LogOdds,
}

/// Why a score is what it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// What usual rows come to, on the scale.
    pub base: f64,
    /// What each feature adds to it for this row, in the manifest's order.
    pub values: Vec<f64>,
    /// What they add up to.
    pub scale: Scale,
    /// Whether they are exact, or sampled.
    pub exact: bool,
    /// On how many sampled orders they rest; 0 for exact ones, which rest on all.
    pub orders: usize,
}

/// How sums become scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    /// They are scores.
    Same,
    /// What is left of one.
    Rest,
    /// 1 / (1 + exp(-sum)).
    Logistic,
    /// What is left of that.
    LogisticRest,
}

impl Link {
    const ALL: [Self; 4] = [Self::Same, Self::Rest, Self::Logistic, Self::LogisticRest];

    fn score(self, sum: f64) -> f64 {
        match self {
            Self::Same => sum,
            Self::Rest => 1.0 - sum,
            Self::Logistic => 1.0 / (1.0 + (-sum).exp()),
            Self::LogisticRest => 1.0 / (1.0 + sum.exp()),
        }
    }

    fn scale(self) -> Scale {
        match self {
            Self::Same | Self::Rest => Scale::Score,
            Self::Logistic | Self::LogisticRest => Scale::LogOdds,
        }
    }

    /// What a sum is on the scale.
    fn told(self, sum: f64) -> f64 {
        match self {
            Self::Same | Self::Logistic => sum,
            Self::Rest => 1.0 - sum,
            Self::LogisticRest => -sum,
        }
    }

    /// What a part of a sum is.
    fn part(self, value: f64) -> f64 {
        if matches!(self, Self::Same | Self::Logistic) { value } else { -value }
    }
}

/// What is known of a model's inside.
#[derive(Clone, Debug, Default)]
pub(crate) enum Form {
    /// Linear in the features.
    Linear(Inside<Sum>),
    /// One ensemble of trees, of features that may each have been moved and scaled.
    Trees(Inside<(Ensemble, usize, Vec<Sum>)>),
    /// Nothing.
    #[default]
    Unknown,
}

/// What adds up, and how it becomes a score.
#[derive(Clone, Debug)]
pub(crate) struct Inside<T>(T, Link);

impl Form {
    /// Looks into a graph. What is found is held to the reference rows, and otherwise forgotten: a wrong explanation is
    /// worse than a sampled one.
    pub(crate) fn find(graph: &GraphProto, input: &str, output: &str, rows: &[Vec<f32>], scores: &[f32]) -> Self {
        let Some(width) = rows.first().map(Vec::len) else { return Self::Unknown };
        let fits = |sum: &dyn Fn(&[f32]) -> f64, link: Link| {
            rows.iter().zip(scores).all(|(row, score)| close(link.score(sum(row)), *score))
        };
        let known = affine::known(graph, input, width);
        if let Some(Known::Row(link, sums)) = known.get(output)
            && let [sum] = sums.as_slice()
            && fits(&|row| sum.of(row), *link)
        {
            return Self::Linear(Inside(sum.clone(), *link));
        }
        let Some((ensemble, inputs)) = ensemble(graph, &known, width) else { return Self::Unknown };
        let sums: Vec<Vec<f64>> = rows.iter().map(|row| ensemble.sums(&moved(&inputs, row))).collect();
        let agrees = |target: usize, link: Link| {
            sums.iter().zip(scores).all(|(sums, score)| close(link.score(sums[target]), *score))
        };
        let mut candidates = (0..ensemble.targets).flat_map(|target| Link::ALL.map(|link| (target, link)));
        let found = candidates.find(|(target, link)| agrees(*target, *link));
        found.map_or(Self::Unknown, |(target, link)| Self::Trees(Inside((ensemble, target, inputs), link)))
    }
}

/// Whether a score that was worked out here is the model's own.
fn close(found: f64, score: f32) -> bool {
    (found - f64::from(score)).abs() <= f64::from(TOLERANCE) * f64::from(score.abs().max(1.0))
}

/// A row as the trees see it.
fn moved(inputs: &[Sum], row: &[f32]) -> Vec<f32> {
    inputs.iter().map(|sum| sum.of(row) as f32).collect()
}

/// The graph's one ensemble, when each of its inputs is one feature by itself.
fn ensemble(graph: &GraphProto, known: &BTreeMap<String, Known>, width: usize) -> Option<(Ensemble, Vec<Sum>)> {
    let mut all = graph.node.iter().filter(|node| node.op_type == "TreeEnsembleClassifier");
    let (node, None) = (Node(all.next()?), all.next()) else { return None };
    let Some(Known::Row(Link::Same, inputs)) = known.get(node.input(0)) else { return None };
    let own = |(at, sum): (usize, &Sum)| sum.weights.iter().enumerate().all(|(i, weight)| i == at || *weight == 0.0);
    if inputs.len() != width || !inputs.iter().enumerate().all(own) {
        return None;
    }
    let [trees, ids, features, yes, no] =
        ["nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_truenodeids", "nodes_falsenodeids"]
            .map(|name| node.ints(name));
    let (values, modes) = (node.floats("nodes_values"), node.texts("nodes_modes"));
    let targets = node.ints("classlabels_int64s").len();
    if targets > TARGETS || targets.saturating_mul(modes.len()) > LEAVES {
        return None;
    }
    let places: BTreeMap<(i64, i64), usize> =
        trees.iter().zip(ids).enumerate().map(|(at, (t, n))| ((*t, *n), at)).collect();
    let mut leaves: BTreeMap<(i64, i64), Vec<f64>> = BTreeMap::new();
    let [leaf_trees, leaf_ids, classes] = ["class_treeids", "class_nodeids", "class_ids"].map(|name| node.ints(name));
    for (((tree, id), class), weight) in leaf_trees.iter().zip(leaf_ids).zip(classes).zip(node.floats("class_weights"))
    {
        let leaf = leaves.entry((*tree, *id)).or_insert_with(|| vec![0.0; targets]);
        *leaf.get_mut(usize::try_from(*class).ok()?)? += f64::from(*weight);
    }
    let (mut nodes, mut roots) = (Vec::with_capacity(modes.len()), Vec::new());
    for (at, mode) in modes.iter().enumerate() {
        let tree = *trees.get(at)?;
        if *ids.get(at)? == 0 {
            roots.push(at);
        }
        let compares = match *mode {
            "BRANCH_LEQ" => Compares::AtMost,
            "BRANCH_LT" => Compares::Below,
            "BRANCH_EQ" => Compares::Same,
            "LEAF" => {
                nodes.push(Place::Leaf(leaves.remove(&(tree, ids[at])).unwrap_or_else(|| vec![0.0; targets])));
                continue;
            }
            _ => return None,
        };
        let feature = usize::try_from(*features.get(at)?).ok().filter(|feature| *feature < width)?;
        let leads = |ids: &[i64]| places.get(&(tree, *ids.get(at)?)).copied().filter(|place| *place > at);
        nodes.push(Place::Split { feature, value: *values.get(at)?, compares, yes: leads(yes)?, no: leads(no)? });
    }
    let ensemble = Ensemble { nodes, roots, targets };
    ensemble.is_of_trees(DEPTH).then(|| (ensemble, inputs.clone()))
}

impl Model {
    /// Why this row gets the score it gets, on all orders where it is sampled: the same row is always told the same.
    ///
    /// # Errors
    /// As [`Model::score`].
    pub fn explain(&self, features: &[f32]) -> Result<Explanation, ModelError> {
        self.explain_within(features, f64::INFINITY, &mut || 0.0)
    }

    /// The same within a time, by a clock that tells milliseconds: no further order is sampled when one that takes as long as
    /// those before took on average would be over it. One is always sampled, and there are [`ORDERS`] at most; fewer are the
    /// first of them. What is exact takes as long as it takes.
    ///
    /// # Errors
    /// As [`Model::score`].
    pub fn explain_within(
        &self,
        features: &[f32],
        budget_ms: f64,
        clock: &mut dyn FnMut() -> f64,
    ) -> Result<Explanation, ModelError> {
        let begun = clock();
        let score = self.score(features)?;
        let usual = self.usual();
        // What was found agrees with every reference row; whether it does with this one is seen here, for a graph may
        // do something else beyond them.
        let agrees = |sum: f64, link: Link| close(link.score(sum), score);
        match self.form() {
            Form::Linear(Inside(sum, link)) if agrees(sum.of(features), *link) => {
                let mean = |at: usize| usual.iter().map(|row| f64::from(row[at])).sum::<f64>() / usual.len() as f64;
                let means: Vec<f64> = (0..features.len()).map(mean).collect();
                let base =
                    sum.weights.iter().zip(&means).fold(sum.constant, |base, (weight, mean)| base + weight * mean);
                let value = |at: usize| link.part(sum.weights[at] * (f64::from(features[at]) - means[at]));
                let values = (0..features.len()).map(value).collect();
                Ok(Explanation { base: link.told(base), values, scale: link.scale(), exact: true, orders: 0 })
            }
            Form::Trees(Inside((ensemble, target, inputs), link))
                if agrees(ensemble.sums(&moved(inputs, features))[*target], *link) =>
            {
                let (row, mut values, mut base) = (moved(inputs, features), vec![0.0; features.len()], 0.0);
                for other in usual {
                    let other = moved(inputs, other);
                    ensemble.add(*target, &row, &other, &mut values);
                    base += ensemble.sums(&other)[*target];
                }
                let share = 1.0 / usual.len() as f64;
                values.iter_mut().for_each(|value| *value = link.part(*value * share));
                Ok(Explanation { base: link.told(base * share), values, scale: link.scale(), exact: true, orders: 0 })
            }
            _ => self.sample(features, usual, &mut |orders| {
                let spent = clock() - begun;
                spent + spent / orders as f64 <= budget_ms
            }),
        }
    }

    /// Features join one after the other, in orders that the row itself decides, so that it is always told the same;
    /// `another` says after so many whether there is time for one more.
    fn sample(
        &self,
        features: &[f32],
        usual: &[Vec<f32>],
        another: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Explanation, ModelError> {
        let bytes: Vec<u8> = features.iter().flat_map(|x| x.to_le_bytes()).collect();
        let mut state = hash::sha256(&bytes).first_chunk().map_or(1, |bytes| u64::from_le_bytes(*bytes));
        let mut below = |bound: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 33) as usize) % bound.max(1)
        };
        let mut order: Vec<usize> = (0..features.len()).collect();
        let (mut values, mut base) = (vec![0.0; features.len()], 0.0);
        let mut orders = 0;
        while orders < ORDERS && (orders == 0 || another(orders)) {
            if orders % 2 == 0 {
                for at in (1..order.len()).rev() {
                    order.swap(at, below(at + 1));
                }
            } else {
                order.reverse();
            }
            let mut row = usual[below(usual.len())].clone();
            let mut before = f64::from(self.score(&row)?);
            base += before;
            for at in &order {
                row[*at] = features[*at];
                let after = f64::from(self.score(&row)?);
                values[*at] += after - before;
                before = after;
            }
            orders += 1;
        }
        let share = 1.0 / orders as f64;
        values.iter_mut().for_each(|value| *value *= share);
        Ok(Explanation { base: base * share, values, scale: Scale::Score, exact: false, orders })
    }
}
