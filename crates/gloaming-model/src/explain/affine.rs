//! What of a graph is linear in the features, and by which link it becomes a score.

use std::collections::BTreeMap;

use tract_onnx::pb::{GraphProto, TensorProto, tensor_proto};

use super::Link;
use crate::node::Node;

/// Longest row that is followed: a small file can name rows of any length.
const LONGEST: usize = 4_096;
/// Most weights that are kept of all rows together, 8 MB: a small file can name any number of rows.
const WEIGHTS: usize = 1 << 20;

/// A number as a sum of weighted features.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sum {
    pub(super) weights: Vec<f64>,
    pub(super) constant: f64,
}

impl Sum {
    /// Its value for a row.
    pub(super) fn of(&self, row: &[f32]) -> f64 {
        self.weights.iter().zip(row).fold(self.constant, |sum, (weight, x)| sum + weight * f64::from(*x))
    }

    fn scaled(&self, by: f64) -> Self {
        Self { weights: self.weights.iter().map(|weight| weight * by).collect(), constant: self.constant * by }
    }

    fn plus(&self, other: &Self, sign: f64) -> Self {
        let weights = self.weights.iter().zip(&other.weights).map(|(one, other)| one + sign * other).collect();
        Self { weights, constant: self.constant + sign * other.constant }
    }

    fn moved(&self, by: f64) -> Self {
        Self { weights: self.weights.clone(), constant: self.constant + by }
    }
}

/// What a tensor holds, as far as it is known.
#[derive(Clone, Debug)]
pub(super) enum Known {
    /// Numbers that no feature changes, and their shape.
    Constant(Vec<i64>, Vec<f64>),
    /// A row of sums, each behind the same link.
    Row(Link, Vec<Sum>),
}

fn constant(tensor: &TensorProto) -> Option<Known> {
    use tensor_proto::DataType as Type;
    let raw = &tensor.raw_data;
    let numbers: Vec<f64> = if tensor.data_type == Type::Float as i32 {
        let read = |bytes: &[u8]| bytes.first_chunk().map_or(0.0, |bytes| f64::from(f32::from_le_bytes(*bytes)));
        if raw.is_empty() {
            tensor.float_data.iter().map(|x| f64::from(*x)).collect()
        } else {
            raw.chunks_exact(4).map(read).collect()
        }
    } else if tensor.data_type == Type::Int64 as i32 {
        let read = |bytes: &[u8]| bytes.first_chunk().map_or(0.0, |bytes| i64::from_le_bytes(*bytes) as f64);
        if raw.is_empty() {
            tensor.int64_data.iter().map(|x| *x as f64).collect()
        } else {
            raw.chunks_exact(8).map(read).collect()
        }
    } else {
        return None;
    };
    Some(Known::Constant(tensor.dims.clone(), numbers))
}

/// What is known of every tensor of a graph with one row of `width` features.
pub(super) fn known(graph: &GraphProto, input: &str, width: usize) -> BTreeMap<String, Known> {
    let mut known = BTreeMap::new();
    for tensor in &graph.initializer {
        known.extend(constant(tensor).map(|value| (tensor.name.clone(), value)));
    }
    let unit = |at: usize| Sum { weights: (0..width).map(|i| f64::from(i == at)).collect(), constant: 0.0 };
    known.insert(input.to_owned(), Known::Row(Link::Same, (0..width).map(unit).collect()));
    let mut left = WEIGHTS;
    for node in &graph.node {
        let node = Node(node);
        let Some(value) = step(&node, &known) else { continue };
        if let Known::Row(_, sums) = &value {
            let Some(rest) = left.checked_sub(sums.len() * width).filter(|_| sums.len() <= LONGEST) else { continue };
            left = rest;
        }
        known.insert(node.output(0).to_owned(), value);
    }
    known
}

/// A list's place, when it has one number for all or one for each.
fn each(numbers: &[f64], len: usize) -> Option<impl Fn(usize) -> f64 + '_> {
    (numbers.len() == 1 || numbers.len() == len).then_some(move |at: usize| numbers[at % numbers.len()])
}

fn step(node: &Node<'_>, known: &BTreeMap<String, Known>) -> Option<Known> {
    use Known::{Constant, Row};
    let op = node.0.op_type.as_str();
    if op == "Constant" {
        return constant(node.tensor("value")?);
    }
    let first = known.get(node.input(0))?;
    let second = || known.get(node.input(1));
    match (op, first) {
        ("Identity" | "Flatten" | "Reshape" | "Unsqueeze" | "Squeeze", Row(..)) => Some(first.clone()),
        // To single precision, which it was.
        ("Cast", Row(..)) => (node.int("to", 1) == 1).then(|| first.clone()),
        ("Neg", Row(Link::Same, sums)) => Some(Row(Link::Same, sums.iter().map(|sum| sum.scaled(-1.0)).collect())),
        ("Sigmoid", Row(Link::Same, sums)) => Some(Row(Link::Logistic, sums.clone())),
        // Of two, the odds of each are those of its difference to the other.
        ("Softmax", Row(Link::Same, sums)) => match sums.as_slice() {
            [one, other] => Some(Row(Link::Logistic, vec![one.plus(other, -1.0), other.plus(one, -1.0)])),
            _ => None,
        },
        ("Gather", Row(link, sums)) => {
            let Constant(_, places) = second()? else { return None };
            let len = sums.len() as f64;
            let place = |at: &f64| Some(if *at < 0.0 { at + len } else { *at }).filter(|at| *at >= 0.0);
            let places = places.get(..places.len().min(LONGEST + 1))?;
            let taken: Option<Vec<Sum>> = places.iter().map(|at| sums.get(place(at)? as usize).cloned()).collect();
            matches!(node.int("axis", 0), 1 | -1).then_some(Row(*link, taken?))
        }
        ("Concat", Row(link, _)) => {
            let mut all = Vec::new();
            for part in &node.0.input {
                match known.get(part)? {
                    Row(own, sums) if own == link && all.len() <= LONGEST => all.extend(sums.iter().cloned()),
                    _ => return None,
                }
            }
            Some(Row(*link, all))
        }
        ("Add" | "Sub", Row(Link::Same, sums)) => {
            let sign = if op == "Add" { 1.0 } else { -1.0 };
            let added = match second()? {
                Constant(_, numbers) => {
                    let number = each(numbers, sums.len())?;
                    sums.iter().enumerate().map(|(at, sum)| sum.moved(sign * number(at))).collect()
                }
                Row(Link::Same, others) if others.len() == sums.len() => {
                    sums.iter().zip(others).map(|(one, other)| one.plus(other, sign)).collect()
                }
                Row(..) => return None,
            };
            Some(Row(Link::Same, added))
        }
        ("Mul" | "Div", Row(Link::Same, sums)) => {
            let Constant(_, numbers) = second()? else { return None };
            let number = each(numbers, sums.len())?;
            let by = |at: usize| if op == "Mul" { number(at) } else { 1.0 / number(at) };
            Some(Row(Link::Same, sums.iter().enumerate().map(|(at, sum)| sum.scaled(by(at))).collect()))
        }
        ("Add" | "Mul", Constant(_, numbers)) => {
            let Row(Link::Same, sums) = second()? else { return None };
            let number = each(numbers, sums.len())?;
            let one =
                |(at, sum): (usize, &Sum)| if op == "Add" { sum.moved(number(at)) } else { sum.scaled(number(at)) };
            Some(Row(Link::Same, sums.iter().enumerate().map(one).collect()))
        }
        ("Sub", Constant(_, numbers)) => match second()? {
            Row(Link::Same, sums) => {
                let number = each(numbers, sums.len())?;
                let one = |(at, sum): (usize, &Sum)| sum.scaled(-1.0).moved(number(at));
                Some(Row(Link::Same, sums.iter().enumerate().map(one).collect()))
            }
            // What is left of one has the odds turned over.
            Row(Link::Logistic, sums) if numbers.iter().all(|number| *number == 1.0) => {
                Some(Row(Link::Logistic, sums.iter().map(|sum| sum.scaled(-1.0)).collect()))
            }
            _ => None,
        },
        ("MatMul", Row(Link::Same, sums)) => {
            let Constant(dims, numbers) = second()? else { return None };
            let [rows, columns] = dims.as_slice() else { return None };
            product(sums, (*rows, *columns), numbers, false).map(|sums| Row(Link::Same, sums))
        }
        ("Gemm", Row(Link::Same, sums)) => {
            let Constant(dims, numbers) = second()? else { return None };
            let [rows, columns] = dims.as_slice() else { return None };
            let turned = node.int("transB", 0) == 1;
            let products = product(sums, (*rows, *columns), numbers, turned)?;
            let (alpha, beta) = (f64::from(node.float("alpha", 1.0)), f64::from(node.float("beta", 1.0)));
            let mut products: Vec<Sum> = products.iter().map(|sum| sum.scaled(alpha)).collect();
            match known.get(node.input(2)) {
                Some(Constant(_, numbers)) => {
                    let number = each(numbers, products.len())?;
                    products.iter_mut().enumerate().for_each(|(at, sum)| sum.constant += beta * number(at));
                }
                None if node.input(2).is_empty() => {}
                _ => return None,
            }
            Some(Row(Link::Same, products))
        }
        _ => None,
    }
}

/// A row times a matrix of constants, `[rows, columns]` or, turned, `[columns, rows]`.
fn product(sums: &[Sum], (rows, columns): (i64, i64), numbers: &[f64], turned: bool) -> Option<Vec<Sum>> {
    let (rows, columns) = (usize::try_from(rows).ok()?, usize::try_from(columns).ok()?);
    let (inner, outer) = if turned { (columns, rows) } else { (rows, columns) };
    if inner != sums.len() || outer > LONGEST || rows.checked_mul(columns) != Some(numbers.len()) {
        return None;
    }
    let zero = Sum { weights: vec![0.0; sums.first()?.weights.len()], constant: 0.0 };
    let number = |i: usize, o: usize| if turned { numbers[o * columns + i] } else { numbers[i * columns + o] };
    let column = |o: usize| sums.iter().enumerate().fold(zero.clone(), |total, (i, sum)| total.plus(sum, number(i, o)));
    Some((0..outer).map(column).collect())
}
