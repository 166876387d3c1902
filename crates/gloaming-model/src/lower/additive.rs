//! Additive models: a level, and a number for each bin of each feature, added up to log-odds.
//!
//! That is what is learnt from counts (`gloaming_stats::marginals`). As a graph it is an ensemble with one tree for each
//! feature, so that it is explained exactly, by the same code as any other trees.

use prost::Message as _;
use tract_onnx::pb::OperatorSetIdProto;

use super::graph::{Graph, Value};
use super::{Choice, INPUT, LowerError, Lowered, OUTPUT, assemble, lower};

/// What one feature adds.
#[derive(Clone, Debug, PartialEq)]
pub struct Steps {
    /// Where each bin but the first begins, growing: a value counts in the last bin whose edge it has reached.
    pub edges: Vec<f32>,
    /// What each bin adds to the log-odds; one more than there are edges.
    pub weights: Vec<f64>,
}

/// A model whose log-odds add up.
#[derive(Clone, Debug, PartialEq)]
pub struct Additive {
    /// What they begin with.
    pub level: f64,
    /// What each feature adds, in the order of the input.
    pub features: Vec<Steps>,
}

/// An ensemble that is being written, node by node.
#[derive(Default)]
struct Trees {
    trees: Vec<i64>,
    ids: Vec<i64>,
    features: Vec<i64>,
    values: Vec<f32>,
    modes: Vec<&'static str>,
    yes: Vec<i64>,
    no: Vec<i64>,
    leaves: Vec<(i64, i64, f32)>,
}

impl Trees {
    /// Writes the node that tells bins `from..to` of a feature apart; its number within the tree.
    fn split(&mut self, tree: usize, steps: &Steps, from: usize, to: usize) -> i64 {
        let at = self.trees.len();
        let id = self.trees.iter().filter(|other| **other == tree as i64).count() as i64;
        self.trees.push(tree as i64);
        self.ids.push(id);
        self.features.push(tree as i64);
        self.yes.push(0);
        self.no.push(0);
        if to - from == 1 {
            self.modes.push("LEAF");
            self.values.push(0.0);
            self.leaves.push((tree as i64, id, steps.weights[from] as f32));
            return id;
        }
        let middle = usize::midpoint(from, to);
        self.modes.push("BRANCH_LT");
        self.values.push(steps.edges[middle - 1]);
        self.yes[at] = self.split(tree, steps, from, middle);
        self.no[at] = self.split(tree, steps, middle, to);
        id
    }
}

impl Additive {
    /// The score of a row, in double precision and by no graph: what the graph is proven against.
    #[must_use]
    pub fn score(&self, row: &[f32]) -> f64 {
        let of = |(steps, value): (&Steps, &f32)| steps.weights[steps.edges.partition_point(|edge| edge <= value)];
        let odds = self.level + self.features.iter().zip(row).map(of).sum::<f64>();
        1.0 / (1.0 + (-odds).exp())
    }

    /// The model as devices run it.
    ///
    /// # Errors
    /// When there are no features, or steps that are none.
    pub fn lowered(&self) -> Result<Lowered, LowerError> {
        let sound = |steps: &Steps| {
            steps.weights.len() == steps.edges.len() + 1
                && steps.edges.is_sorted_by(|a, b| a < b)
                && steps.weights.iter().all(|weight| weight.is_finite())
        };
        if self.features.is_empty() || !self.features.iter().all(sound) || !self.level.is_finite() {
            return Err(LowerError::File("has steps that do not grow, or weights that are no numbers".into()));
        }
        let mut trees = Trees::default();
        for (tree, steps) in self.features.iter().enumerate() {
            trees.split(tree, steps, 0, steps.weights.len());
        }
        let leaf = |of: fn(&(i64, i64, f32)) -> i64| Value::Ints(trees.leaves.iter().map(of).collect());
        let attributes = vec![
            ("nodes_treeids", Value::Ints(trees.trees.clone())),
            ("nodes_nodeids", Value::Ints(trees.ids.clone())),
            ("nodes_featureids", Value::Ints(trees.features.clone())),
            ("nodes_values", Value::Floats(trees.values.clone())),
            ("nodes_modes", Value::Texts(trees.modes.clone())),
            ("nodes_truenodeids", Value::Ints(trees.yes.clone())),
            ("nodes_falsenodeids", Value::Ints(trees.no.clone())),
            ("target_treeids", leaf(|leaf| leaf.0)),
            ("target_nodeids", leaf(|leaf| leaf.1)),
            ("target_ids", leaf(|_| 0)),
            ("target_weights", Value::Floats(trees.leaves.iter().map(|leaf| leaf.2).collect())),
            ("base_values", Value::Floats(vec![self.level as f32])),
            ("n_targets", Value::Int(1)),
        ];
        let mut graph = Graph::default();
        let sums = graph.fresh();
        graph.node("TreeEnsembleRegressor", &[INPUT], &sums, attributes);
        graph.nodes.iter_mut().for_each(|node| node.domain = "ai.onnx.ml".into());
        graph.node("Sigmoid", &[&sums], OUTPUT, vec![]);
        let sets = [("", 17), ("ai.onnx.ml", 3)];
        let opsets = sets.map(|(domain, version)| OperatorSetIdProto { domain: domain.into(), version });
        // From here on it is a model like any that is brought.
        lower(&assemble(&graph, self.features.len(), OUTPUT, &opsets).encode_to_vec(), &Choice::default())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{Model, Scale};

    fn model() -> Additive {
        Additive {
            level: -1.25,
            features: vec![
                Steps { edges: vec![1.0, 2.0, 3.0, 5.0, 9.0], weights: vec![-0.5, -0.25, 0.0, 0.5, 1.0, 1.5] },
                Steps { edges: vec![1.0], weights: vec![0.125, -0.375] },
                Steps { edges: vec![], weights: vec![0.0625] },
                Steps { edges: vec![0.1, 1e6], weights: vec![-3.0, 0.3, 2.0] },
            ],
        }
    }

    #[test]
    fn trees_add_up_to_what_was_learnt_and_are_explained_exactly() {
        let additive = model();
        let lowered = additive.lowered().unwrap();
        assert_eq!(lowered.rewritten, ["TreeEnsembleRegressor"]);
        // On the edges, below and above them.
        let values = [0.0, 0.5, 0.999_999_94, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 8.9, 9.0, 1e6, 0.099_999_99, 0.1];
        let rows: Vec<Vec<f32>> = (0..64)
            .map(|at: usize| (0..4).map(|feature| values[(at * (feature + 3) + at / 7) % values.len()]).collect())
            .collect();
        let manifest = json!({
            "format": 1, "id": "learnt", "version": 1,
            "onnx": {
                "file": "model.onnx",
                "sha256": gloaming_signal::hash::hex(&gloaming_signal::hash::sha256(&lowered.onnx)),
                "bytes": lowered.onnx.len(), "opsets": lowered.opsets, "ops": lowered.ops,
            },
            "input": { "name": INPUT, "shape": [1, 4], "features": ["a@1", "b@1", "c@1", "d@1"] },
            "output": { "name": OUTPUT, "shape": [1, 1], "meaning": "probability" },
            "score_edges": (1..20).map(|i| f64::from(i) / 20.0).collect::<Vec<_>>(),
            "reference": { "inputs": rows, "outputs": rows.iter().map(|row| additive.score(row)).collect::<Vec<_>>() },
        });
        let loaded = Model::load(manifest.to_string().as_bytes(), &lowered.onnx).unwrap();
        for row in &rows {
            let told = loaded.explain(row).unwrap();
            assert!(told.exact && told.scale == Scale::LogOdds);
            // What parts two rows is what their bins add, feature by feature.
            let usual = loaded.explain(&rows[0]).unwrap();
            for (feature, steps) in additive.features.iter().enumerate() {
                let of = |row: &[f32]| steps.weights[steps.edges.partition_point(|edge| *edge <= row[feature])];
                let (found, wanted) = (told.values[feature] - usual.values[feature], of(row) - of(&rows[0]));
                assert!((found - wanted).abs() < 1e-6, "{feature}: {found} and {wanted}");
            }
        }
    }

    #[test]
    fn what_is_no_model_is_refused() {
        let with = |change: fn(&mut Additive)| {
            let mut additive = model();
            change(&mut additive);
            additive.lowered().map(|_| ()).unwrap_err().to_string()
        };
        for change in [
            (|m| m.features.clear()) as fn(&mut Additive),
            |m| m.features[0].edges[1] = 1.0,
            |m| m.features[1].weights.push(0.0),
            |m| m.features[1].weights[0] = f64::NAN,
            |m| m.level = f64::INFINITY,
        ] {
            assert!(with(change).contains("has steps that do not grow"));
        }
    }
}
