//! What puts a score right: plain nodes after it, so that whatever runs the model runs them.

use super::graph::Graph;
use super::{LowerError, OUTPUT};

/// Scores are kept off 0 and 1 by this before their logit is taken.
const EDGE: f32 = 1e-6;
/// Most points of a line: three times the bins that a model has.
const POINTS: usize = 64;

/// A map from score to probability. The order of scores stays.
#[derive(Clone, Debug, PartialEq)]
pub enum Recalibration {
    /// Platt's sigmoid: `1 / (1 + exp(-(slope * logit(score) + intercept)))`.
    Sigmoid {
        /// Above zero, so that the order of scores stays.
        slope: f32,
        /// In logits.
        intercept: f32,
    },
    /// Straight between points (score, probability), both growing, and flat before the first and after the last.
    Line(Vec<[f64; 2]>),
}

impl Recalibration {
    /// Writes the model's output: what `score`, of shape `[1, 1]`, becomes.
    pub(super) fn write(&self, graph: &mut Graph, score: &str) -> Result<(), LowerError> {
        match self {
            Self::Sigmoid { slope, intercept } => sigmoid(graph, score, *slope, *intercept),
            Self::Line(points) => line(graph, score, points)?,
        }
        Ok(())
    }
}

fn sigmoid(graph: &mut Graph, score: &str, slope: f32, intercept: f32) {
    let mut number = |value: f32| graph.floats(&[1, 1], &[value]);
    let (one, low, high) = (number(1.0), number(EDGE), number(1.0 - EDGE));
    let (slope, intercept) = (number(slope), number(intercept));
    let above = graph.then("Max", &[score, &low], vec![]);
    let kept = graph.then("Min", &[&above, &high], vec![]);
    let rest = graph.then("Sub", &[&one, &kept], vec![]);
    let odds = graph.then("Div", &[&kept, &rest], vec![]);
    let logit = graph.then("Log", &[&odds], vec![]);
    let steeper = graph.then("Mul", &[&logit, &slope], vec![]);
    let moved = graph.then("Add", &[&steeper, &intercept], vec![]);
    graph.node("Sigmoid", &[&moved], OUTPUT, vec![]);
}

/// The first probability, and of each piece its slope times how far into it the score has come: nothing before the piece, its
/// width after it. No part of that sum falls where the score grows, however it is rounded.
fn line(graph: &mut Graph, score: &str, points: &[[f64; 2]]) -> Result<(), LowerError> {
    let grows = |pair: &[[f64; 2]]| (pair[0][0] as f32) < pair[1][0] as f32 && pair[0][1] <= pair[1][1];
    let within = points.as_flattened().iter().all(|number| (0.0..=1.0).contains(number));
    if !(2..=POINTS).contains(&points.len()) || !within || !points.windows(2).all(grows) {
        let why = format!("is to be put right by what is no line of 2 to {POINTS} points that grow from 0 to 1");
        return Err(LowerError::File(why));
    }
    let of = |what: fn(&[[f64; 2]]) -> f64| points.windows(2).map(|pair| what(pair) as f32).collect::<Vec<f32>>();
    let begins = of(|pair| pair[0][0]);
    let widths = of(|pair| pair[1][0] - pair[0][0]);
    let slopes = of(|pair| (pair[1][1] - pair[0][1]) / (pair[1][0] - pair[0][0]));
    let pieces = slopes.len();
    let (begins, widths) = (graph.floats(&[1, pieces], &begins), graph.floats(&[1, pieces], &widths));
    let (slopes, zero) = (graph.floats(&[pieces, 1], &slopes), graph.floats(&[1, 1], &[0.0]));
    let first = graph.floats(&[1, 1], &[points[0][1] as f32]);
    let past = graph.then("Sub", &[score, &begins], vec![]);
    let entered = graph.then("Max", &[&past, &zero], vec![]);
    let come = graph.then("Min", &[&entered, &widths], vec![]);
    let risen = graph.then("MatMul", &[&come, &slopes], vec![]);
    graph.node("Add", &[&risen, &first], OUTPUT, vec![]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{Additive, INPUT, Lowered, Model, Steps, recalibrated};

    /// One input, of which each whole number from 0 to 63 has a score of its own, from .002 to .998.
    fn model() -> Additive {
        let edges = (1..64_u8).map(f32::from).collect();
        let weights = (0..64_u8).map(|step| f64::from(step) * 0.2 - 6.3).collect();
        Additive { level: 0.0, features: vec![Steps { edges, weights }] }
    }

    /// What is proven against `wanted`, which it is loaded with, to a hundred-thousandth.
    fn loaded(lowered: &Lowered, rows: &[Vec<f32>], wanted: &[f64]) -> Model {
        let manifest = json!({
            "format": 1, "id": "right", "version": 2,
            "onnx": {
                "file": "model.onnx",
                "sha256": gloaming_signal::hash::hex(&gloaming_signal::hash::sha256(&lowered.onnx)),
                "bytes": lowered.onnx.len(), "opsets": lowered.opsets, "ops": lowered.ops,
            },
            "input": { "name": INPUT, "shape": [1, 1], "features": ["a@1"] },
            "output": { "name": OUTPUT, "shape": [1, 1], "meaning": "probability" },
            "score_edges": (1..20).map(|i| f64::from(i) / 20.0).collect::<Vec<_>>(),
            "reference": { "inputs": rows, "outputs": wanted },
        });
        Model::load(manifest.to_string().as_bytes(), &lowered.onnx).unwrap()
    }

    fn told(points: &[[f64; 2]], score: f64) -> f64 {
        let piece = points.windows(2).find(|pair| score < pair[1][0]);
        piece.map_or(points[points.len() - 1][1], |pair| {
            let part = ((score - pair[0][0]) / (pair[1][0] - pair[0][0])).max(0.0);
            pair[0][1] + part * (pair[1][1] - pair[0][1])
        })
    }

    #[test]
    fn a_line_is_followed_between_its_points_and_left_at_its_ends() {
        let (additive, rows) = (model(), (0..64_u8).map(|at| vec![f32::from(at)]).collect::<Vec<_>>());
        let points = [[0.01, 0.02], [0.1, 0.05], [0.1001, 0.06], [0.3, 0.061], [0.5, 0.7], [0.97, 0.9]];
        let wanted: Vec<f64> = rows.iter().map(|row| told(&points, additive.score(row))).collect();
        let lowered = recalibrated(&additive.lowered().unwrap().onnx, &Recalibration::Line(points.to_vec())).unwrap();
        let right = loaded(&lowered, &rows, &wanted);
        let scores: Vec<f32> = rows.iter().map(|row| right.score(row).unwrap()).collect();
        assert!((scores[0] - 0.02).abs() < 1e-7 && (scores[63] - 0.9).abs() < 1e-6, "{scores:?}");
        for (pair, scores) in rows.windows(2).zip(scores.windows(2)) {
            let inside = pair.iter().any(|row| (0.01..0.97).contains(&additive.score(row)));
            assert!(scores[0] < scores[1] || !inside && scores[0] == scores[1], "{pair:?}: {scores:?}");
        }
        // What was put right is put right again.
        let sigmoid = Recalibration::Sigmoid { slope: 0.5, intercept: 0.25 };
        let again = recalibrated(&lowered.onnx, &sigmoid).unwrap();
        let odds = |p: f64| 0.5 * (p / (1.0 - p)).ln() + 0.25;
        loaded(&again, &rows, &wanted.iter().map(|p| 1.0 / (1.0 + (-odds(*p)).exp())).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_no_line_is_refused() {
        let onnx = model().lowered().unwrap().onnx;
        let steps = |count: u8| (0..count).map(|at| [f64::from(at) / 100.0; 2]).collect::<Vec<_>>();
        for points in [
            vec![],
            vec![[0.5, 0.5]],
            vec![[0.2, 0.1], [0.2, 0.3]],
            vec![[0.2, 0.1], [0.200_000_000_1, 0.3]],
            vec![[0.2, 0.3], [0.4, 0.1]],
            vec![[0.2, 0.3], [1.1, 0.4]],
            vec![[0.2, f64::NAN], [0.4, 0.5]],
            steps(65),
        ] {
            let error = recalibrated(&onnx, &Recalibration::Line(points.clone())).unwrap_err().to_string();
            assert!(error.contains("no line of 2 to 64 points"), "{points:?}: {error}");
        }
        assert!(recalibrated(&onnx, &Recalibration::Line(steps(64))).is_ok());
    }
}
