//! Nodes of an ONNX graph as they are read.

use tract_onnx::pb::{AttributeProto, NodeProto, TensorProto};

/// A node that is read.
pub(crate) struct Node<'a>(pub(crate) &'a NodeProto);

impl<'a> Node<'a> {
    fn find(&self, name: &str) -> Option<&'a AttributeProto> {
        self.0.attribute.iter().find(|attribute| attribute.name == name)
    }

    pub(crate) fn floats(&self, name: &str) -> &'a [f32] {
        self.find(name).map_or(&[], |attribute| &attribute.floats)
    }

    pub(crate) fn ints(&self, name: &str) -> &'a [i64] {
        self.find(name).map_or(&[], |attribute| &attribute.ints)
    }

    pub(crate) fn texts(&self, name: &str) -> Vec<&'a str> {
        let strings = self.find(name).map_or(&[][..], |attribute| &attribute.strings);
        strings.iter().map(|text| std::str::from_utf8(text).unwrap_or_default()).collect()
    }

    pub(crate) fn int(&self, name: &str, otherwise: i64) -> i64 {
        self.find(name).map_or(otherwise, |attribute| attribute.i)
    }

    pub(crate) fn float(&self, name: &str, otherwise: f32) -> f32 {
        self.find(name).map_or(otherwise, |attribute| attribute.f)
    }

    pub(crate) fn tensor(&self, name: &str) -> Option<&'a TensorProto> {
        self.find(name)?.t.as_ref()
    }

    /// The name of one of its inputs; empty when it has none.
    pub(crate) fn input(&self, place: usize) -> &'a str {
        self.0.input.get(place).map_or("", String::as_str)
    }

    /// The name of one of its outputs; empty when it has none or nobody wants it.
    pub(crate) fn output(&self, place: usize) -> &'a str {
        self.0.output.get(place).map_or("", String::as_str)
    }
}
