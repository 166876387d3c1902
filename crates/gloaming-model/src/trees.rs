//! What has to hold of an ensemble of trees before tract is given it: tract 0.23 walks trees and adds up leaves without
//! checking where a node leads or which sum a leaf belongs to, so a file could write beyond a buffer or walk for ever.

use std::collections::{BTreeMap, BTreeSet};

use crate::node::Node;

/// Most classes: each takes a place in every row's sums.
pub(crate) const CLASSES: usize = 1_024;

/// Why an ensemble is not walked, in words.
pub(crate) fn unsound(node: &Node<'_>) -> Option<String> {
    check(node).err()
}

fn check(node: &Node<'_>) -> Result<(), String> {
    let [trees, ids, features, yes, no] =
        ["nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_truenodeids", "nodes_falsenodeids"]
            .map(|name| node.ints(name));
    let (modes, values, missing) =
        (node.texts("nodes_modes"), node.floats("nodes_values"), node.ints("nodes_missing_value_tracks_true"));
    let [leaf_trees, leaf_ids, classes] = ["class_treeids", "class_nodeids", "class_ids"].map(|name| node.ints(name));
    let weights = node.floats("class_weights");
    let nodes = [trees.len(), ids.len(), features.len(), yes.len(), no.len(), values.len()];
    let leaves = [leaf_trees.len(), leaf_ids.len(), classes.len()];
    if modes.is_empty()
        || nodes.iter().any(|len| *len != modes.len())
        || leaves.iter().any(|len| *len != weights.len())
        || !missing.is_empty() && missing.len() != modes.len()
    {
        return Err("its lists differ in length".into());
    }
    let labels = node.ints("classlabels_int64s").len().max(node.texts("classlabels_strings").len());
    if !(1..=CLASSES).contains(&labels) {
        return Err(format!("it has {labels} classes, not 1 to {CLASSES}"));
    }
    if let Some(class) = classes.iter().find(|class| !(0..labels as i64).contains(*class)) {
        return Err(format!("a leaf is of class {class}, and there are {labels}"));
    }
    let base = node.floats("base_values").len();
    if base > labels {
        return Err(format!("it has {base} base values for {labels} classes"));
    }
    let mut at = BTreeMap::new();
    let mut first = BTreeMap::new();
    for (place, key) in trees.iter().copied().zip(ids.iter().copied()).enumerate() {
        if at.insert(key, place).is_some() {
            return Err(format!("node {} of tree {} is there twice", key.1, key.0));
        }
        first.entry(key.0).or_insert(place);
    }
    let is_leaf = |key: &(i64, i64)| at.get(key).is_some_and(|place| modes[*place] == "LEAF");
    if let Some((tree, id)) = leaf_trees.iter().copied().zip(leaf_ids.iter().copied()).find(|key| !is_leaf(key)) {
        return Err(format!("node {id} of tree {tree} has a weight and is no leaf"));
    }
    // From the first of its nodes each tree reaches all of them, each once: a walk ends.
    let (mut seen, mut open): (BTreeSet<usize>, Vec<usize>) = (BTreeSet::new(), first.into_values().collect());
    while let Some(place) = open.pop() {
        let (tree, id) = (trees[place], ids[place]);
        if !seen.insert(place) {
            return Err(format!("two ways lead to node {id} of tree {tree}"));
        }
        if modes[place] == "LEAF" {
            continue;
        }
        if !(0..i64::from(u32::MAX)).contains(&features[place]) {
            return Err(format!("node {id} of tree {tree} asks for feature {}", features[place]));
        }
        for child in [yes[place], no[place]] {
            let child = at.get(&(tree, child));
            open.push(*child.ok_or_else(|| format!("node {id} of tree {tree} leads to a node that is not there"))?);
        }
    }
    if seen.len() < modes.len() {
        return Err(format!("{} of its nodes are not reached", modes.len() - seen.len()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tract_onnx::pb::{AttributeProto, NodeProto};

    use super::*;

    fn ints(name: &str, ints: &[i64]) -> AttributeProto {
        AttributeProto { name: name.into(), ints: ints.to_vec(), ..AttributeProto::default() }
    }

    /// A split with two leaves; then one list is exchanged.
    fn told(name: &str, numbers: &[i64]) -> Option<String> {
        let texts = |name: &str, words: &[&str]| AttributeProto {
            name: name.into(),
            strings: words.iter().map(|word| word.as_bytes().to_vec()).collect(),
            ..AttributeProto::default()
        };
        let floats = |name: &str, floats: &[f32]| AttributeProto {
            name: name.into(),
            floats: floats.to_vec(),
            ..AttributeProto::default()
        };
        let mut attribute = vec![
            ints("nodes_treeids", &[0, 0, 0]),
            ints("nodes_nodeids", &[0, 1, 2]),
            ints("nodes_featureids", &[3, 0, 0]),
            ints("nodes_truenodeids", &[1, 0, 0]),
            ints("nodes_falsenodeids", &[2, 0, 0]),
            floats("nodes_values", &[0.5, 0.0, 0.0]),
            texts("nodes_modes", &["BRANCH_LEQ", "LEAF", "LEAF"]),
            ints("class_treeids", &[0, 0]),
            ints("class_nodeids", &[1, 2]),
            ints("class_ids", &[0, 1]),
            floats("class_weights", &[0.25, 0.75]),
            ints("classlabels_int64s", &[0, 1, 2]),
        ];
        if let Some(found) = attribute.iter_mut().find(|attribute| attribute.name == name) {
            found.ints = numbers.to_vec();
        }
        unsound(&Node(&NodeProto { attribute, ..NodeProto::default() }))
    }

    #[test]
    fn ensembles_that_tract_would_walk_out_of_are_refused() {
        assert_eq!(told("", &[]), None);
        for (name, numbers, words) in [
            ("class_ids", &[0, 1_000_000][..], "a leaf is of class 1000000, and there are 3"),
            ("class_ids", &[0, -1], "a leaf is of class -1"),
            ("class_ids", &[0], "its lists differ"),
            ("class_nodeids", &[1, 0], "has a weight and is no leaf"),
            ("class_nodeids", &[1, 7], "has a weight and is no leaf"),
            ("classlabels_int64s", &[], "it has 0 classes"),
            ("nodes_truenodeids", &[0, 0, 0], "two ways lead to node 0 of tree 0"),
            ("nodes_truenodeids", &[2, 0, 0], "two ways lead to node 2 of tree 0"),
            ("nodes_falsenodeids", &[9, 0, 0], "leads to a node that is not there"),
            ("nodes_nodeids", &[0, 1, 1], "node 1 of tree 0 is there twice"),
            ("nodes_featureids", &[-1, 0, 0], "asks for feature -1"),
            ("nodes_treeids", &[0, 0, 1], "node 2 of tree 0 has a weight and is no leaf"),
        ] {
            assert!(told(name, numbers).is_some_and(|why| why.contains(words)), "{name}: {:?}", told(name, numbers));
        }
    }
}
