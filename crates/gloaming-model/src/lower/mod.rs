//! Models as people bring them, rewritten into what a device runs.
//!
//! Exporters write ops that tract does not know (scalers, encoders, imputers), or computes otherwise than the standard
//! says (ensembles of trees). [`lower`] keeps what the chosen output needs, rewrites those ops into plain ones, takes one
//! column, and leaves a graph of one input `[1, features]` and one output `[1, 1]`, all of whose ops are on the list.
//! That it computes what the original computed is not argued here: the trainer's reference rows prove it, wherever it is
//! loaded.
//!
//! What cannot be run, or must not be, is refused with the op's name, where it stands, and a way out.

mod additive;
mod graph;
mod recalibration;
mod rules;
mod trees;

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;
use tract_onnx::pb::{
    GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorShapeProto, TypeProto, ValueInfoProto, tensor_proto,
    tensor_shape_proto, type_proto,
};
use tract_onnx::prelude::*;

pub use self::additive::{Additive, Steps};
use self::graph::{Graph, Value};
pub use self::recalibration::Recalibration;
use crate::model::ALLOWED_OPS;
use crate::node::Node;
use crate::tensors;

/// Largest file that is read, bytes.
const FILE_BYTES: usize = 64 * 1024 * 1024;
/// Versions of the standard ops that are read: from the one on in which axes are inputs.
const OPSETS: std::ops::RangeInclusive<i64> = 13..=21;
/// Ops of the list that meant something else, or were written otherwise, before that.
const CHANGED: [&str; 6] = ["Clip", "ReduceSum", "Slice", "Softmax", "Squeeze", "Unsqueeze"];
/// Name of the one input of a lowered model.
pub const INPUT: &str = "features";
/// Name of its one output.
pub const OUTPUT: &str = "score";

/// What to take of a model that gives more than one number.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Name of the output; the one that holds probabilities or scores when nothing is said.
    pub output: Option<String>,
    /// Column of it; the second of two, and the only one of one, when nothing is said.
    pub column: Option<usize>,
}

/// Why a model cannot be lowered.
#[derive(Debug, thiserror::Error)]
pub enum LowerError {
    /// Not ONNX, or too large.
    #[error("the file {0}")]
    File(String),
    /// An op.
    #[error("the op `{op}` (node `{node}`) cannot be run here: {why}. {remedy}")]
    Op {
        /// Op type.
        op: String,
        /// Node name.
        node: String,
        /// Why.
        why: String,
        /// What to do instead.
        remedy: String,
    },
    /// The inputs are no row of numbers.
    #[error("the model's input {0}")]
    Input(String),
    /// Nothing, or too much, to choose from.
    #[error("the model's outputs are {outputs}; {remedy}")]
    Output {
        /// Their names.
        outputs: String,
        /// How to choose.
        remedy: String,
    },
    /// tract cannot.
    #[error("tract cannot run the lowered model: {0}")]
    Tract(String),
}

/// A model that a device runs.
#[derive(Clone, Debug)]
pub struct Lowered {
    /// The file.
    pub onnx: Vec<u8>,
    /// How many numbers it takes.
    pub width: usize,
    /// Op types that occur, sorted.
    pub ops: Vec<String>,
    /// Versions of the op sets, by domain as a manifest names it.
    pub opsets: BTreeMap<String, i64>,
    /// Op types of the original that were rewritten, sorted.
    pub rewritten: Vec<String>,
    /// The original's output, and the column of it, that became the score.
    pub taken: (String, usize),
}

/// Lowers a model.
///
/// # Errors
/// The first thing that cannot be run.
pub fn lower(bytes: &[u8], choice: &Choice) -> Result<Lowered, LowerError> {
    lowered(bytes, choice, None)
}

/// A lowered model with what puts its score right after it, so that it says what comes true again.
///
/// # Errors
/// When it is none, or cannot be run, or the map is none.
pub fn recalibrated(bytes: &[u8], recalibration: &Recalibration) -> Result<Lowered, LowerError> {
    lowered(bytes, &Choice::default(), Some(recalibration))
}

fn lowered(bytes: &[u8], choice: &Choice, recalibration: Option<&Recalibration>) -> Result<Lowered, LowerError> {
    if bytes.len() > FILE_BYTES {
        return Err(LowerError::File(format!("has {} bytes, more than {FILE_BYTES}", bytes.len())));
    }
    let model = ModelProto::decode(bytes).map_err(|error| LowerError::File(format!("is not ONNX: {error}")))?;
    let original = model.graph.as_ref().ok_or_else(|| LowerError::File("has no graph".into()))?;
    let (input, width) = row(original)?;
    let wanted = chosen(original, choice)?;
    let (original, output) = renamed(original, &input, &wanted);
    let mut graph = Graph::with(original.initializer.clone());
    let (mut rewritten, mut kept) = (BTreeSet::new(), Vec::new());
    for node in needed(&original, &output) {
        if rules::rewrite(&mut graph, &Node(node))? {
            rewritten.insert(node.op_type.clone());
        } else {
            check(node)?;
            kept.push(node.op_type.as_str());
            graph.nodes.push(node.clone());
        }
    }
    let opsets = opsets_of(&model, &graph, &kept)?;
    // How many columns there are says tract, who has to work out every shape anyway.
    let shape = graph.ints(&[1, -1]);
    let row = graph.then("Reshape", &[&output, &shape], vec![]);
    let columns = columns(&assemble(&graph, width, &row, &opsets))?;
    let column = match choice.column {
        Some(column) if column < columns => column,
        Some(column) => {
            let remedy =
                format!("`{wanted}` has {columns} columns and none numbered {column}: they are numbered from 0");
            return Err(LowerError::Output { outputs: wanted, remedy });
        }
        None if columns <= 2 => columns.saturating_sub(1),
        None => {
            let remedy = format!("`{wanted}` has {columns} columns: say which one is the score with --column");
            return Err(LowerError::Output { outputs: wanted, remedy });
        }
    };
    let place = graph.ints(&[column as i64]);
    if let Some(recalibration) = recalibration {
        let score = graph.then("Gather", &[&row, &place], vec![("axis", Value::Int(1))]);
        recalibration.write(&mut graph, &score)?;
    } else {
        graph.node("Gather", &[&row, &place], OUTPUT, vec![("axis", Value::Int(1))]);
    }
    let lowered = assemble(&graph, width, OUTPUT, &opsets);
    let made = lowered.graph.as_ref().map(|graph| graph.node.iter().map(|node| node.op_type.clone()).collect());
    let ops: BTreeSet<String> = made.unwrap_or_default();
    let named = |domain: &str| if domain.is_empty() { "ai.onnx".to_owned() } else { domain.to_owned() };
    Ok(Lowered {
        onnx: lowered.encode_to_vec(),
        width,
        ops: ops.into_iter().collect(),
        opsets: opsets.iter().map(|set| (named(&set.domain), set.version)).collect(),
        rewritten: rewritten.into_iter().collect(),
        taken: (wanted, column),
    })
}

/// The one input that is no constant, and how many numbers a row of it has.
fn row(graph: &GraphProto) -> Result<(String, usize), LowerError> {
    let constant: BTreeSet<&str> = graph.initializer.iter().map(|constant| constant.name.as_str()).collect();
    let inputs: Vec<&ValueInfoProto> =
        graph.input.iter().filter(|input| !constant.contains(input.name.as_str())).collect();
    let [input] = inputs.as_slice() else {
        let names: Vec<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
        let why = "is not one table of numbers but several: export it with a single input of shape [None, features]";
        return Err(LowerError::Input(format!("({}) {why}", names.join(", "))));
    };
    let wrong = |why: &str| LowerError::Input(format!("`{}` {why}", input.name));
    let Some(type_proto::Value::TensorType(tensor)) = input.r#type.as_ref().and_then(|kind| kind.value.as_ref()) else {
        return Err(wrong("is no tensor; export it with an input of shape [None, features]"));
    };
    if tensor.elem_type != tensor_proto::DataType::Float as i32 {
        return Err(wrong("is not of single-precision numbers (float32), which is what features are"));
    }
    let dims = tensor.shape.as_ref().map_or(&[][..], |shape| &shape.dim);
    match dims.last().and_then(|dim| dim.value.as_ref()) {
        Some(tensor_shape_proto::dimension::Value::DimValue(width)) if dims.len() == 2 && *width > 0 => {
            Ok((input.name.clone(), usize::try_from(*width).map_err(|_| wrong("is too wide"))?))
        }
        _ => Err(wrong("does not say how many features it takes; export it with shape [None, features]")),
    }
}

/// The output that is wanted.
fn chosen(graph: &GraphProto, choice: &Choice) -> Result<String, LowerError> {
    let names: Vec<&str> = graph.output.iter().map(|output| output.name.as_str()).collect();
    let outputs = names.join(", ");
    if let Some(wanted) = &choice.output {
        return match names.contains(&wanted.as_str()) {
            true => Ok(wanted.clone()),
            false => Err(LowerError::Output { outputs, remedy: format!("there is no `{wanted}` among them") }),
        };
    }
    let usual = ["output_probability", "probabilities", "probability", "scores", "variable"];
    match (names.as_slice(), usual.iter().find(|name| names.contains(name))) {
        ([one], _) => Ok((*one).to_owned()),
        (_, Some(usual)) => Ok((*usual).to_owned()),
        _ => Err(LowerError::Output { outputs, remedy: "say which one holds the score with --output".into() }),
    }
}

/// The graph with names of ours, so that nothing written besides can have one of them, and what the output is called now.
/// Names of nodes stay, to be told when one is refused.
fn renamed(graph: &GraphProto, input: &str, output: &str) -> (GraphProto, String) {
    let mut names: BTreeMap<String, String> = BTreeMap::from([(input.to_owned(), INPUT.to_owned())]);
    let mut name = |old: &str| {
        let next = format!("o{}", names.len());
        // What is left out has no name.
        if old.is_empty() { String::new() } else { names.entry(old.to_owned()).or_insert(next).clone() }
    };
    let mut renamed =
        GraphProto { node: graph.node.clone(), initializer: graph.initializer.clone(), ..GraphProto::default() };
    for constant in &mut renamed.initializer {
        constant.name = name(&constant.name);
    }
    for node in &mut renamed.node {
        for tensor in node.input.iter_mut().chain(&mut node.output) {
            *tensor = name(tensor);
        }
    }
    let output = name(output);
    (renamed, output)
}

/// The nodes that an output needs, in order. Labels and what only they need fall away here.
fn needed<'g>(graph: &'g GraphProto, output: &str) -> Vec<&'g NodeProto> {
    let mut wanted: BTreeSet<&str> = BTreeSet::from([output]);
    let mut nodes = Vec::new();
    for node in graph.node.iter().rev() {
        if node.output.iter().any(|output| wanted.contains(output.as_str())) {
            wanted.extend(node.input.iter().map(String::as_str));
            nodes.push(node);
        }
    }
    nodes.reverse();
    nodes
}

fn check(node: &NodeProto) -> Result<(), LowerError> {
    if ALLOWED_OPS.contains(&node.op_type.as_str()) {
        return Ok(());
    }
    let (why, remedy) = rules::way_out(&node.op_type);
    Err(Node(node).refused(why, remedy))
}

/// What an op does with its numbers at last.
fn transform(graph: &mut Graph, node: &Node<'_>, sums: &str, output: &str) -> Result<(), LowerError> {
    match node.text("post_transform", "NONE") {
        "NONE" => graph.node("Identity", &[sums], output, vec![]),
        "LOGISTIC" => graph.node("Sigmoid", &[sums], output, vec![]),
        "SOFTMAX" => graph.node("Softmax", &[sums], output, vec![("axis", Value::Int(1))]),
        other => {
            return Err(node.refused(format!("its scores go through {other}"), "train it with LOGISTIC or SOFTMAX"));
        }
    }
    Ok(())
}

fn opsets_of(model: &ModelProto, graph: &Graph, kept: &[&str]) -> Result<Vec<OperatorSetIdProto>, LowerError> {
    let declared = model.opset_import.iter().find(|set| set.domain.is_empty()).map_or(17, |set| set.version);
    let (low, high) = (*OPSETS.start(), *OPSETS.end());
    // Exporters write the lowest version that the model's ops allow. Most ops have not changed since.
    let changed = kept.iter().find(|op| CHANGED.contains(op)).filter(|_| declared < low);
    if declared > high || changed.is_some() {
        let op = changed.map_or(String::new(), |op| format!(" with the op `{op}`, which has changed since"));
        return Err(LowerError::File(format!("is of op set {declared}{op}; export it with one of {low} to {high}")));
    }
    let version = declared.max(low);
    let mut opsets = vec![OperatorSetIdProto { domain: String::new(), version }];
    if graph.nodes.iter().any(|node| node.domain == "ai.onnx.ml") {
        opsets.push(OperatorSetIdProto { domain: "ai.onnx.ml".into(), version: 3 });
    }
    Ok(opsets)
}

fn tensor(name: &str, dims: &[i64]) -> ValueInfoProto {
    let dim = |size: &i64| tensor_shape_proto::Dimension {
        value: Some(tensor_shape_proto::dimension::Value::DimValue(*size)),
        ..tensor_shape_proto::Dimension::default()
    };
    let kind = type_proto::Tensor {
        elem_type: tensor_proto::DataType::Float as i32,
        shape: Some(TensorShapeProto { dim: dims.iter().map(dim).collect() }),
    };
    ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto { value: Some(type_proto::Value::TensorType(kind)), ..TypeProto::default() }),
        ..ValueInfoProto::default()
    }
}

/// A model of what a graph's output needs and nothing else.
fn assemble(graph: &Graph, width: usize, output: &str, opsets: &[OperatorSetIdProto]) -> ModelProto {
    let whole = GraphProto { node: graph.nodes.clone(), ..GraphProto::default() };
    let mut nodes: Vec<NodeProto> = needed(&whole, output).into_iter().cloned().collect();
    for node in &mut nodes {
        node.name = node.output.first().cloned().unwrap_or_default();
    }
    let used: BTreeSet<&str> = nodes.iter().flat_map(|node| node.input.iter().map(String::as_str)).collect();
    let constants = graph.constants.iter().filter(|constant| used.contains(constant.name.as_str()));
    ModelProto {
        ir_version: 8,
        producer_name: "gloaming".into(),
        opset_import: opsets.to_vec(),
        graph: Some(GraphProto {
            name: "model".into(),
            initializer: constants.cloned().collect(),
            input: vec![tensor(INPUT, &[1, width as i64])],
            output: vec![if output == OUTPUT {
                tensor(output, &[1, 1])
            } else {
                ValueInfoProto { name: output.into(), ..ValueInfoProto::default() }
            }],
            node: nodes,
            ..GraphProto::default()
        }),
        ..ModelProto::default()
    }
}

/// How many columns the row has that a graph gives.
fn columns(model: &ModelProto) -> Result<usize, LowerError> {
    let failed = |error: TractError| LowerError::Tract(format!("{error:#}"));
    if let Some(why) = model.graph.as_ref().and_then(tensors::unreadable) {
        return Err(LowerError::File(why));
    }
    let told = || {
        let typed = onnx().model_for_proto_model(model).map_err(failed)?.into_typed().map_err(failed)?;
        let fact = typed.output_fact(0).map_err(failed)?;
        match fact.shape.as_concrete() {
            Some([1, columns]) => Ok(*columns),
            _ => Err(LowerError::Tract(format!("its output has the shape {:?}, which is not one row", fact.shape))),
        }
    };
    tensors::held(told, LowerError::Tract)
}
