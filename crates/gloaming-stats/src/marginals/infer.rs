//! Exact probabilities in a graph where the outcome stands by every feature and features along a forest: messages up
//! and down for each of the outcome's two values, in logarithms.

/// Who stands by whom.
#[derive(Clone, Debug)]
pub(super) struct Graph {
    bins: Vec<usize>,
    parent: Vec<Option<usize>>,
    /// Parents before their children.
    order: Vec<usize>,
}

/// Logarithms that add up to that of a probability, but for a constant.
#[derive(Clone, Debug)]
pub(super) struct Potentials {
    /// Of the outcome.
    pub(super) level: f64,
    /// Of each feature: bin × outcome.
    pub(super) nodes: Vec<Vec<f64>>,
    /// Of each feature with its parent: bin × the parent's; empty without one.
    pub(super) edges: Vec<Vec<f64>>,
}

/// Probabilities, in the shapes of potentials.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) nodes: Vec<Vec<f64>>,
    pub(super) edges: Vec<Vec<f64>>,
    /// Of each feature with its parent and the outcome: outcome × bin × the parent's; outcome × bin without one.
    whole: Vec<Vec<f64>>,
}

impl Found {
    /// How often the outcome happens.
    pub(super) fn rate(&self) -> f64 {
        self.nodes.first().map_or(0.5, |node| node.iter().skip(1).step_by(2).sum())
    }
}

fn log_sum(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let most = values.clone().fold(f64::NEG_INFINITY, f64::max);
    most + values.map(|value| (value - most).exp()).sum::<f64>().ln()
}

impl Graph {
    /// `edges` are pairs that make a forest; the lowest feature of each tree is its root.
    pub(super) fn new(bins: Vec<usize>, edges: &[(usize, usize)]) -> Self {
        let mut parent = vec![None; bins.len()];
        let (mut order, mut seen) = (Vec::with_capacity(bins.len()), vec![false; bins.len()]);
        for root in 0..bins.len() {
            if !std::mem::replace(&mut seen[root], true) {
                order.push(root);
            }
            // Whoever was put in last is looked at once everybody before has been.
            let mut at = order.len() - 1;
            while let Some(&one) = order.get(at) {
                for &(a, b) in edges {
                    let other = if a == one { b } else { a };
                    if (a == one || b == one) && !std::mem::replace(&mut seen[other], true) {
                        parent[other] = Some(one);
                        order.push(other);
                    }
                }
                at += 1;
            }
        }
        Self { bins, parent, order }
    }

    pub(super) fn features(&self) -> usize {
        self.bins.len()
    }

    pub(super) fn bins(&self, feature: usize) -> usize {
        self.bins[feature]
    }

    pub(super) fn parent(&self, feature: usize) -> Option<usize> {
        self.parent[feature]
    }

    pub(super) fn order(&self) -> &[usize] {
        &self.order
    }

    /// Each feature that has a parent, with it.
    pub(super) fn edges(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        (0..self.bins.len()).filter_map(|feature| Some((feature, self.parent[feature]?)))
    }

    /// Bins of a feature's parent; 1 without one.
    fn above(&self, feature: usize) -> usize {
        self.parent[feature].map_or(1, |parent| self.bins[parent])
    }

    /// Potentials that are all zero.
    pub(super) fn flat(&self) -> Potentials {
        let edge = |feature: usize| self.parent[feature].map_or(0, |parent| self.bins[parent] * self.bins[feature]);
        Potentials {
            level: 0.0,
            nodes: self.bins.iter().map(|bins| vec![0.0; 2 * bins]).collect(),
            edges: (0..self.bins.len()).map(|feature| vec![0.0; edge(feature)]).collect(),
        }
    }

    /// Probabilities by potentials.
    pub(super) fn infer(&self, potentials: &Potentials) -> Found {
        let count = self.bins.len();
        // What lies below each feature, by outcome and bin; and what each tells its parent, by outcome and the parent's bin.
        let mut below: Vec<Vec<f64>> = self
            .bins
            .iter()
            .zip(&potentials.nodes)
            .map(|(bins, node)| (0..2 * bins).map(|at| node[2 * (at % bins) + at / bins]).collect())
            .collect();
        let mut told: Vec<Vec<f64>> = vec![Vec::new(); count];
        let mut ends = [0.0, potentials.level];
        for &feature in self.order.iter().rev() {
            let (bins, above) = (self.bins[feature], self.above(feature));
            let edge = &potentials.edges[feature];
            told[feature] = (0..2 * above)
                .map(|at| {
                    let (outcome, parent) = (at / above, at % above);
                    let own = &below[feature][outcome * bins..(outcome + 1) * bins];
                    log_sum(
                        own.iter()
                            .enumerate()
                            .map(|(bin, value)| value + edge.get(bin * above + parent).unwrap_or(&0.0)),
                    )
                })
                .collect();
            match self.parent[feature] {
                Some(parent) => below[parent].iter_mut().zip(&told[feature]).for_each(|(sum, told)| *sum += told),
                None => ends.iter_mut().zip(&told[feature]).for_each(|(sum, told)| *sum += told),
            }
        }
        let log_sum = log_sum(ends.iter().copied());
        let outcome = ends.map(|end| (end - log_sum).exp());
        let mut found = Found {
            nodes: self.bins.iter().map(|bins| vec![0.0; 2 * bins]).collect(),
            edges: potentials.edges.iter().map(|edge| vec![0.0; edge.len()]).collect(),
            whole: vec![Vec::new(); count],
        };
        for &feature in &self.order {
            let (bins, above) = (self.bins[feature], self.above(feature));
            let mut whole = vec![0.0; 2 * bins * above];
            for (at, cell) in whole.iter_mut().enumerate() {
                let (y, bin, parent) = (at / (bins * above), at / above % bins, at % above);
                let edge = potentials.edges[feature].get(bin * above + parent).unwrap_or(&0.0);
                let given = (below[feature][y * bins + bin] + edge - told[feature][y * above + parent]).exp();
                let held = self.parent[feature].map_or(outcome[y], |of| found.nodes[of][2 * parent + y]);
                *cell = given * held;
                found.nodes[feature][2 * bin + y] += *cell;
                if let Some(edge) = found.edges[feature].get_mut(bin * above + parent) {
                    *edge += *cell;
                }
            }
            found.whole[feature] = whole;
        }
        found
    }

    /// Chances of each feature's bins, given the outcome and its parent's bin: a row of bins for each of
    /// (parent's bin × outcome).
    pub(super) fn conditionals(&self, found: &Found) -> Vec<Vec<f64>> {
        let of = |feature: usize| {
            let (bins, above) = (self.bins[feature], self.above(feature));
            let mut rows = Vec::with_capacity(2 * bins * above);
            for row in 0..2 * above {
                let (parent, y) = (row / 2, row % 2);
                let cells = (0..bins).map(|bin| found.whole[feature][(y * bins + bin) * above + parent]);
                let sum: f64 = cells.clone().sum();
                // Of what never happens every bin is as likely.
                rows.extend(cells.map(|cell| if sum > 0.0 { cell / sum } else { 1.0 / bins as f64 }));
            }
            rows
        };
        (0..self.bins.len()).map(of).collect()
    }
}
