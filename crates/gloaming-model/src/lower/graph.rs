//! Nodes, attributes and constants of an ONNX graph, read and written.

use tract_onnx::pb::{AttributeProto, NodeProto, TensorProto, attribute_proto, tensor_proto};

use super::LowerError;
use crate::node::Node;

/// A graph that is being written.
#[derive(Default)]
pub(super) struct Graph {
    pub(super) nodes: Vec<NodeProto>,
    pub(super) constants: Vec<TensorProto>,
    fresh: usize,
}

/// An attribute to write.
pub(super) enum Value<'a> {
    Int(i64),
    Ints(Vec<i64>),
    Floats(Vec<f32>),
    Texts(Vec<&'a str>),
    Text(&'a str),
}

fn attribute(name: &str, value: Value<'_>) -> AttributeProto {
    use attribute_proto::AttributeType as Type;
    let mut attribute = AttributeProto { name: name.to_owned(), ..AttributeProto::default() };
    let kind = match value {
        Value::Int(value) => {
            attribute.i = value;
            Type::Int
        }
        Value::Ints(values) => {
            attribute.ints = values;
            Type::Ints
        }
        Value::Floats(values) => {
            attribute.floats = values;
            Type::Floats
        }
        Value::Texts(values) => {
            attribute.strings = values.into_iter().map(|text| text.as_bytes().to_vec()).collect();
            Type::Strings
        }
        Value::Text(value) => {
            attribute.s = value.as_bytes().to_vec();
            Type::String
        }
    };
    attribute.r#type = kind as i32;
    attribute
}

impl Graph {
    /// One that has only these constants yet.
    pub(super) fn with(constants: Vec<TensorProto>) -> Self {
        Self { constants, ..Self::default() }
    }

    /// A name that nothing else has.
    pub(super) fn fresh(&mut self) -> String {
        self.fresh += 1;
        format!("n{}", self.fresh)
    }

    /// Writes a node with one output of this name.
    pub(super) fn node(&mut self, op: &str, inputs: &[&str], output: &str, attributes: Vec<(&str, Value<'_>)>) {
        self.nodes.push(NodeProto {
            input: inputs.iter().map(|name| (*name).to_owned()).collect(),
            output: vec![output.to_owned()],
            name: output.to_owned(),
            op_type: op.to_owned(),
            attribute: attributes.into_iter().map(|(name, value)| attribute(name, value)).collect(),
            ..NodeProto::default()
        });
    }

    /// Writes a node whose output gets a fresh name.
    pub(super) fn then(&mut self, op: &str, inputs: &[&str], attributes: Vec<(&str, Value<'_>)>) -> String {
        let output = self.fresh();
        self.node(op, inputs, &output, attributes);
        output
    }

    /// Writes a node of ai.onnx.ml with two outputs, the second of which is wanted.
    pub(super) fn second_of_ml(&mut self, op: &str, input: &str, attributes: Vec<(&str, Value<'_>)>) -> String {
        let outputs = vec![self.fresh(), self.fresh()];
        self.nodes.push(NodeProto {
            input: vec![input.to_owned()],
            name: outputs[1].clone(),
            output: outputs.clone(),
            op_type: op.to_owned(),
            domain: "ai.onnx.ml".to_owned(),
            attribute: attributes.into_iter().map(|(name, value)| attribute(name, value)).collect(),
            ..NodeProto::default()
        });
        outputs[1].clone()
    }

    /// A constant of single-precision numbers.
    pub(super) fn floats(&mut self, dims: &[usize], values: &[f32]) -> String {
        let name = self.fresh();
        self.constants.push(TensorProto {
            dims: dims.iter().map(|dim| *dim as i64).collect(),
            data_type: tensor_proto::DataType::Float as i32,
            float_data: values.to_vec(),
            name: name.clone(),
            ..TensorProto::default()
        });
        name
    }

    /// A constant list of whole numbers.
    pub(super) fn ints(&mut self, values: &[i64]) -> String {
        let name = self.fresh();
        self.constants.push(TensorProto {
            dims: vec![values.len() as i64],
            data_type: tensor_proto::DataType::Int64 as i32,
            int64_data: values.to_vec(),
            name: name.clone(),
            ..TensorProto::default()
        });
        name
    }

    /// A value in single precision, whatever it was.
    pub(super) fn as_float(&mut self, input: &str) -> String {
        self.then("Cast", &[input], vec![("to", Value::Int(tensor_proto::DataType::Float as i64))])
    }
}

/// What only lowering asks of a node.
impl<'a> Node<'a> {
    pub(super) fn text(&self, name: &str, otherwise: &'a str) -> &'a str {
        let found = self.0.attribute.iter().find(|attribute| attribute.name == name);
        found.map_or(otherwise, |attribute| std::str::from_utf8(&attribute.s).unwrap_or(otherwise))
    }

    /// Its first input.
    pub(super) fn first(&self) -> Result<&'a str, LowerError> {
        let first = self.0.input.first();
        first.map(String::as_str).ok_or_else(|| self.refused("it has no input", "export it again"))
    }

    pub(super) fn refused(&self, why: impl Into<String>, remedy: impl Into<String>) -> LowerError {
        LowerError::Op {
            op: self.0.op_type.clone(),
            node: if self.0.name.is_empty() { self.output(0).to_owned() } else { self.0.name.clone() },
            why: why.into(),
            remedy: remedy.into(),
        }
    }
}
