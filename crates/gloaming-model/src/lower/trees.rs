//! Ensembles of trees, rewritten into the one form that tract computes right: a classifier with three classes or more,
//! plain sums, comparisons by < and ≤, and no base values. What an ensemble does with its sums follows in plain ops.
//!
//! tract 0.23 knows no regressor, takes a node that compares by ≥ for a leaf, and guesses at what two classes mean.

use super::graph::{Graph, Value};
use super::{LowerError, transform};
use crate::node::Node;
use crate::trees::CLASSES;

struct Split {
    tree: i64,
    node: i64,
    feature: i64,
    value: f32,
    mode: &'static str,
    yes: i64,
    no: i64,
    missing_is_yes: bool,
}

struct Leaf {
    tree: i64,
    node: i64,
    target: i64,
    weight: f32,
}

/// An ensemble as the graph has it.
struct Ensemble {
    splits: Vec<Split>,
    leaves: Vec<Leaf>,
}

fn mode(node: &Node<'_>, word: &str) -> Result<(&'static str, bool), LowerError> {
    // x ≥ v where x is a number is what x < v is not.
    Ok(match word {
        "BRANCH_LEQ" => ("BRANCH_LEQ", false),
        "BRANCH_LT" => ("BRANCH_LT", false),
        "BRANCH_GT" => ("BRANCH_LEQ", true),
        "BRANCH_GTE" => ("BRANCH_LT", true),
        "BRANCH_EQ" => ("BRANCH_EQ", false),
        "BRANCH_NEQ" => ("BRANCH_EQ", true),
        "LEAF" => ("LEAF", false),
        other => return Err(node.refused(format!("a branch by {other}"), "train it with numeric splits")),
    })
}

impl Ensemble {
    fn read(node: &Node<'_>, prefix: &str) -> Result<Self, LowerError> {
        let uneven = |what: &str| node.refused(format!("its lists {what} differ in length"), "export it again");
        let modes = node.texts("nodes_modes");
        let [trees, ids, features, yes, no] =
            ["nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_truenodeids", "nodes_falsenodeids"]
                .map(|name| node.ints(name));
        let (values, missing) = (node.floats("nodes_values"), node.ints("nodes_missing_value_tracks_true"));
        let all = [trees.len(), ids.len(), features.len(), yes.len(), no.len(), values.len()];
        if all.iter().any(|len| *len != modes.len()) || !missing.is_empty() && missing.len() != modes.len() {
            return Err(uneven("of nodes"));
        }
        let mut splits = Vec::with_capacity(modes.len());
        for (at, word) in modes.iter().enumerate() {
            let (mode, swapped) = mode(node, word)?;
            let (mut yes, mut no) = (yes[at], no[at]);
            let mut missing_is_yes = missing.get(at).is_some_and(|flag| *flag != 0);
            if swapped {
                (yes, no, missing_is_yes) = (no, yes, !missing_is_yes);
            }
            let (tree, node, feature, value) = (trees[at], ids[at], features[at], values[at]);
            splits.push(Split { tree, node, feature, value, mode, yes, no, missing_is_yes });
        }
        let [tree, id, target] =
            ["treeids", "nodeids", "ids"].map(|name| node.ints(&format!("{prefix}_{name}")).to_vec());
        let weights = node.floats(&format!("{prefix}_weights"));
        if [tree.len(), id.len(), target.len()].iter().any(|len| *len != weights.len()) {
            return Err(uneven("of leaves"));
        }
        let leaves = (0..weights.len())
            .map(|at| Leaf { tree: tree[at], node: id[at], target: target[at], weight: weights[at] })
            .collect();
        Ok(Self { splits, leaves })
    }

    /// Refuses what would need a place for a sum that no leaf adds to.
    fn bounded(&self, node: &Node<'_>, targets: usize, base: &[f32]) -> Result<(), LowerError> {
        if targets > CLASSES {
            return Err(node.refused(format!("it has {targets} targets, more than {CLASSES}"), "train it with fewer"));
        }
        if let Some(leaf) = self.leaves.iter().find(|leaf| !(0..targets as i64).contains(&leaf.target)) {
            return Err(
                node.refused(format!("a leaf adds to {}, and there are {targets}", leaf.target), "export it again")
            );
        }
        if !base.is_empty() && base.len() != targets {
            return Err(node.refused(format!("{} base values for {targets}", base.len()), "export it again"));
        }
        Ok(())
    }

    /// Adds a tree that says the same of everybody.
    fn add_constant(&mut self, values: &[f32]) {
        let tree = self.splits.iter().map(|split| split.tree + 1).max().unwrap_or(0);
        self.splits.push(Split {
            tree,
            node: 0,
            feature: 0,
            value: 0.0,
            mode: "LEAF",
            yes: 0,
            no: 0,
            missing_is_yes: false,
        });
        let leaf = |(target, weight): (usize, &f32)| Leaf { tree, node: 0, target: target as i64, weight: *weight };
        self.leaves.extend(values.iter().enumerate().map(leaf));
    }

    /// Trees are numbered from 0 on, in order, and nodes within their trees likewise.
    fn number(&mut self) {
        let mut trees: Vec<i64> = self.splits.iter().map(|split| split.tree).collect();
        trees.sort_unstable();
        trees.dedup();
        let place = |tree: i64| trees.binary_search(&tree).map_or(tree, |place| place as i64);
        self.splits.iter_mut().for_each(|split| split.tree = place(split.tree));
        self.leaves.iter_mut().for_each(|leaf| leaf.tree = place(leaf.tree));
        self.splits.sort_by_key(|split| (split.tree, split.node));
        self.leaves.sort_by_key(|leaf| (leaf.tree, leaf.node));
        let mut of: std::collections::BTreeMap<(i64, i64), i64> = std::collections::BTreeMap::new();
        let (mut tree, mut next) = (0, 0);
        for split in &mut self.splits {
            if split.tree != tree {
                (tree, next) = (split.tree, 0);
            }
            of.insert((split.tree, split.node), next);
            next += 1;
        }
        let renamed = |tree: i64, node: i64| of.get(&(tree, node)).copied().unwrap_or(node);
        for split in &mut self.splits {
            split.yes = renamed(split.tree, split.yes);
            split.no = renamed(split.tree, split.no);
            split.node = renamed(split.tree, split.node);
        }
        self.leaves.iter_mut().for_each(|leaf| leaf.node = renamed(leaf.tree, leaf.node));
    }

    /// Writes it; returns the name of `[1, targets]` sums.
    fn write(mut self, graph: &mut Graph, input: &str, targets: usize) -> String {
        self.number();
        let ints = |of: &dyn Fn(&Split) -> i64| Value::Ints(self.splits.iter().map(of).collect());
        let leaf_ints = |of: &dyn Fn(&Leaf) -> i64| Value::Ints(self.leaves.iter().map(of).collect());
        let classes = targets.max(3);
        let attributes = vec![
            ("nodes_treeids", ints(&|split| split.tree)),
            ("nodes_nodeids", ints(&|split| split.node)),
            ("nodes_featureids", ints(&|split| split.feature)),
            ("nodes_truenodeids", ints(&|split| split.yes)),
            ("nodes_falsenodeids", ints(&|split| split.no)),
            ("nodes_missing_value_tracks_true", ints(&|split| split.missing_is_yes.into())),
            ("nodes_values", Value::Floats(self.splits.iter().map(|split| split.value).collect())),
            ("nodes_modes", Value::Texts(self.splits.iter().map(|split| split.mode).collect())),
            ("class_treeids", leaf_ints(&|leaf| leaf.tree)),
            ("class_nodeids", leaf_ints(&|leaf| leaf.node)),
            ("class_ids", leaf_ints(&|leaf| leaf.target)),
            ("class_weights", Value::Floats(self.leaves.iter().map(|leaf| leaf.weight).collect())),
            ("classlabels_int64s", Value::Ints((0..classes as i64).collect())),
            ("post_transform", Value::Text("NONE")),
        ];
        let input = graph.as_float(input);
        let sums = graph.second_of_ml("TreeEnsembleClassifier", &input, attributes);
        if classes == targets {
            return sums;
        }
        let wanted = graph.ints(&(0..targets as i64).collect::<Vec<_>>());
        graph.then("Gather", &[&sums, &wanted], vec![("axis", Value::Int(1))])
    }
}

/// `TreeEnsembleRegressor`.
pub(super) fn regressor(graph: &mut Graph, node: &Node<'_>) -> Result<(), LowerError> {
    let mut ensemble = Ensemble::read(node, "target")?;
    let targets = usize::try_from(node.int("n_targets", 1)).unwrap_or(1).max(1);
    match node.text("aggregate_function", "SUM") {
        "SUM" => {}
        "AVERAGE" => {
            let trees: std::collections::BTreeSet<i64> = ensemble.splits.iter().map(|split| split.tree).collect();
            ensemble.leaves.iter_mut().for_each(|leaf| leaf.weight /= trees.len().max(1) as f32);
        }
        other => return Err(node.refused(format!("its trees are joined by {other}"), "train it to sum or to average")),
    }
    let base = node.floats("base_values");
    ensemble.bounded(node, targets, base)?;
    if !base.is_empty() {
        ensemble.add_constant(base);
    }
    let sums = ensemble.write(graph, node.first()?, targets);
    transform(graph, node, &sums, node.output(0))
}

/// `TreeEnsembleClassifier`: its second output, what its classes got.
pub(super) fn classifier(graph: &mut Graph, node: &Node<'_>) -> Result<(), LowerError> {
    let mut ensemble = Ensemble::read(node, "class")?;
    let classes = node.ints("classlabels_int64s").len().max(node.texts("classlabels_strings").len());
    let (base, output) = (node.floats("base_values"), node.output(1));
    let one = ensemble.leaves.iter().all(|leaf| leaf.target == ensemble.leaves[0].target);
    if classes == 2 && one && !ensemble.leaves.is_empty() {
        // One sum speaks for both classes, in the way that onnxruntime reads it.
        ensemble.leaves.iter_mut().for_each(|leaf| leaf.target = 0);
        let shares = ensemble.leaves.iter().all(|leaf| leaf.weight >= 0.0) && base.len() < 2;
        if let Some(base) = base.last() {
            ensemble.add_constant(&[*base]);
        }
        let sum = ensemble.write(graph, node.first()?, 1);
        let signs = graph.floats(&[1, 2], &[-1.0, 1.0]);
        let both = graph.then("Mul", &[&sum, &signs], vec![]);
        if !shares {
            return transform(graph, node, &both, output);
        }
        let rest = graph.floats(&[1, 2], &[1.0, 0.0]);
        graph.node("Add", &[&both, &rest], output, vec![]);
        return Ok(());
    }
    ensemble.bounded(node, classes, base)?;
    if !base.is_empty() {
        ensemble.add_constant(base);
    }
    let sums = ensemble.write(graph, node.first()?, classes);
    transform(graph, node, &sums, output)
}
