//! Shapley values of ensembles of trees, exact: the interventional kind (Janzing and others 2020; the algorithm for one
//! tree and one background row is Lundberg and others 2020, "From local explanations to global understanding").
//!
//! For a row x and a background row z, a leaf is reached by a coalition when at each split where x and z part, the feature
//! is on the side that leads there. With a features that must be x's and b that must be z's, the leaf gives each of the a
//! its value times (a-1)! b! / (a+b)!, and takes from each of the b its value times a! (b-1)! / (a+b)!.

/// One node of a tree.
#[derive(Clone, Debug)]
pub(super) enum Node {
    /// A split: feature, threshold, whether it compares by ≤ (else by <, or by =), and where it leads.
    Split { feature: usize, value: f32, compares: Compares, yes: usize, no: usize },
    /// What it adds to each target.
    Leaf(Vec<f64>),
}

/// How a split compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compares {
    /// x ≤ v.
    AtMost,
    /// x < v.
    Below,
    /// x = v.
    Same,
}

impl Compares {
    fn holds(self, x: f32, value: f32) -> bool {
        match self {
            Self::AtMost => x <= value,
            Self::Below => x < value,
            Self::Same => x == value,
        }
    }
}

/// Trees whose leaves add up, for each target. Nodes of all trees in one list.
#[derive(Clone, Debug)]
pub(crate) struct Ensemble {
    pub(super) nodes: Vec<Node>,
    pub(super) roots: Vec<usize>,
    pub(super) targets: usize,
}

impl Ensemble {
    /// Whether every node has one way to it, and none lies deeper than `most`: a walk then ends, and soon. Children come
    /// after their parents.
    pub(super) fn is_of_trees(&self, most: usize) -> bool {
        let mut depths = vec![None; self.nodes.len()];
        self.roots.iter().for_each(|root| depths[*root] = Some(0));
        for at in 0..self.nodes.len() {
            let Node::Split { yes, no, .. } = &self.nodes[at] else { continue };
            let Some(depth) = depths[at].map(|depth| depth + 1).filter(|depth| *depth <= most) else { return false };
            for child in [*yes, *no] {
                if child <= at || depths[child].replace(depth).is_some() {
                    return false;
                }
            }
        }
        true
    }

    /// The sums of a row.
    pub(super) fn sums(&self, row: &[f32]) -> Vec<f64> {
        let mut sums = vec![0.0; self.targets];
        for root in &self.roots {
            let mut at = *root;
            loop {
                match &self.nodes[at] {
                    Node::Split { feature, value, compares, yes, no } => {
                        at = if compares.holds(row[*feature], *value) { *yes } else { *no };
                    }
                    Node::Leaf(values) => {
                        sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
                        break;
                    }
                }
            }
        }
        sums
    }

    /// Adds the values of one target for `row` against `other` to `values`.
    pub(super) fn add(&self, target: usize, row: &[f32], other: &[f32], values: &mut [f64]) {
        // Whose side each feature must be on, on the way to where the walk is: nobody's yet, the row's, the other's.
        let mut sides = vec![Side::Either; row.len()];
        for root in &self.roots {
            let mut path = Path { ensemble: self, target, row, other, sides: &mut sides, of_row: 0, of_other: 0 };
            path.walk(*root, values);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Either,
    Row,
    Other,
}

struct Path<'a> {
    ensemble: &'a Ensemble,
    target: usize,
    row: &'a [f32],
    other: &'a [f32],
    sides: &'a mut [Side],
    of_row: usize,
    of_other: usize,
}

impl Path<'_> {
    fn walk(&mut self, at: usize, values: &mut [f64]) {
        match &self.ensemble.nodes[at] {
            Node::Leaf(leaf) => self.leaf(leaf[self.target], values),
            Node::Split { feature, value, compares, yes, no } => {
                let lead = |x: f32| if compares.holds(x, *value) { *yes } else { *no };
                let (row, other) = (lead(self.row[*feature]), lead(self.other[*feature]));
                match self.sides[*feature] {
                    Side::Row => self.walk(row, values),
                    Side::Other => self.walk(other, values),
                    Side::Either if row == other => self.walk(row, values),
                    Side::Either => {
                        self.sides[*feature] = Side::Row;
                        self.of_row += 1;
                        self.walk(row, values);
                        self.of_row -= 1;
                        self.sides[*feature] = Side::Other;
                        self.of_other += 1;
                        self.walk(other, values);
                        self.of_other -= 1;
                        self.sides[*feature] = Side::Either;
                    }
                }
            }
        }
    }

    fn leaf(&self, value: f64, values: &mut [f64]) {
        let (a, b) = (self.of_row, self.of_other);
        if a + b == 0 || value == 0.0 {
            return;
        }
        // a! b! / (a+b)!, by which both weights are told.
        let share = 1.0 / binomial(a + b, a);
        let (gives, takes) = (share / a.max(1) as f64, share / b.max(1) as f64);
        for (side, total) in self.sides.iter().zip(values) {
            match side {
                Side::Row => *total += value * gives,
                Side::Other => *total -= value * takes,
                Side::Either => {}
            }
        }
    }
}

fn binomial(n: usize, k: usize) -> f64 {
    (0..k.min(n - k)).fold(1.0, |product, i| product * (n - i) as f64 / (i + 1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(feature: usize, value: f32, yes: usize, no: usize) -> Node {
        Node::Split { feature, value, compares: Compares::AtMost, yes, no }
    }

    /// Shapley's own formula, over all coalitions.
    fn by_definition(ensemble: &Ensemble, row: &[f32], other: &[f32]) -> Vec<f64> {
        let n = row.len();
        let of = |coalition: usize| {
            let mixed: Vec<f32> = (0..n).map(|i| if coalition >> i & 1 == 1 { row[i] } else { other[i] }).collect();
            ensemble.sums(&mixed)[0]
        };
        let weight = |size: usize| 1.0 / (n as f64 * binomial(n - 1, size));
        (0..n)
            .map(|i| {
                (0..1_usize << n)
                    .filter(|coalition| coalition >> i & 1 == 0)
                    .map(|without| weight(without.count_ones() as usize) * (of(without | 1 << i) - of(without)))
                    .sum()
            })
            .collect()
    }

    #[test]
    fn what_is_no_tree_is_not_walked() {
        let leaf = || Node::Leaf(vec![1.0]);
        let of = |nodes: Vec<Node>| Ensemble { nodes, roots: vec![0], targets: 1 };
        assert!(of(vec![split(0, 1.0, 1, 2), leaf(), leaf()]).is_of_trees(1));
        assert!(!of(vec![split(0, 1.0, 1, 1), leaf()]).is_of_trees(9), "two ways to one leaf");
        assert!(!of(vec![split(0, 1.0, 0, 1), leaf()]).is_of_trees(9), "round and round");
        // Each split leads to a leaf and to the next one.
        let link = |at: usize| [split(0, 1.0, 2 * at + 1, 2 * at + 2), leaf()];
        let chain = |length: usize| (0..length).flat_map(link).chain([leaf()]).collect();
        assert!(of(chain(9)).is_of_trees(9) && !of(chain(10)).is_of_trees(9), "too deep");
    }

    #[test]
    fn the_walk_gives_what_the_definition_does() {
        // Two trees, a feature that comes twice on one path, and one that never comes.
        let nodes = vec![
            split(0, 1.0, 1, 2),
            split(1, 2.0, 3, 4),
            split(0, 3.0, 5, 6),
            Node::Leaf(vec![1.0]),
            Node::Leaf(vec![-2.0]),
            split(2, 0.5, 7, 8),
            Node::Leaf(vec![5.0]),
            Node::Leaf(vec![0.25]),
            Node::Leaf(vec![-0.75]),
            split(2, 1.5, 10, 11),
            Node::Leaf(vec![0.5]),
            split(1, 0.0, 12, 13),
            Node::Leaf(vec![4.0]),
            Node::Leaf(vec![-1.0]),
        ];
        let ensemble = Ensemble { nodes, roots: vec![0, 9], targets: 1 };
        for number in 0..400_u32 {
            let digit = |place: u32| ((number.wrapping_mul(2_654_435_761) >> (4 * place)) % 9) as f32 * 0.5;
            let (row, other): (Vec<f32>, Vec<f32>) = ((0..4).map(digit).collect(), (4..8).map(digit).collect());
            let mut found = vec![0.0; 4];
            ensemble.add(0, &row, &other, &mut found);
            for (found, wanted) in found.iter().zip(by_definition(&ensemble, &row, &other)) {
                assert!((found - wanted).abs() < 1e-12, "{row:?} {other:?}: {found} {wanted}");
            }
        }
    }
}
