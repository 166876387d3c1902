//! ONNX's own tests of every op that a model may use here (`tests/exporters/nodes.py` says where they are from).
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gloaming_model::{ALLOWED_OPS, TOLERANCE};
use prost::Message as _;
use serde_json::Value;
use tract_onnx::data_resolver::MmapDataResolver;
use tract_onnx::pb::{ModelProto, TensorProto, tensor_proto::DataType};
use tract_onnx::prelude::*;
use tract_onnx::tensor::load_tensor;

/// What a test's outputs may be off, relatively (as in ONNX's own runner) and at all (a tenth of what a model may).
const RELATIVE: f32 = 1e-3;
const ABSOLUTE: f32 = TOLERANCE / 10.0;

/// One of ONNX-ML, and one whose tests are all of types that nothing here has.
const UNTESTED: [&str; 2] = ["Cast", "TreeEnsembleClassifier"];

fn at(path: &str) -> PathBuf {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../..").join(path)
}

fn bytes(value: &Value) -> Vec<u8> {
    STANDARD.decode(value.as_str().unwrap()).unwrap()
}

fn tensors(values: &Value) -> Vec<TensorProto> {
    values.as_array().unwrap().iter().map(|value| TensorProto::decode(&bytes(value)[..]).unwrap()).collect()
}

fn tensor(proto: &TensorProto) -> TractResult<Tensor> {
    load_tensor(&MmapDataResolver, proto, None)
}

/// Runs one; whole numbers that say how (axes, shapes) are constants, as they are in every model that is exported.
fn run(test: &Value) -> TractResult<()> {
    let mut model = ModelProto::decode(&bytes(&test["model"])[..]).unwrap();
    let graph = model.graph.as_mut().unwrap();
    let mut given = Vec::new();
    for (place, mut input) in tensors(&test["inputs"]).into_iter().enumerate() {
        let name = graph.input[given.len()].name.clone();
        let whole = [DataType::Int64 as i32, DataType::Int32 as i32].contains(&input.data_type);
        let says_how = match test["op"].as_str().unwrap() {
            "Equal" => false,
            "ConstantOfShape" => true,
            // What it has learnt.
            "BatchNormalization" => place > 0,
            _ => place > 0 && whole,
        };
        if says_how {
            input.name = name;
            graph.input.remove(given.len());
            graph.initializer.push(input);
        } else {
            given.push(tensor(&input)?);
        }
    }
    let mut inference = onnx().model_for_proto_model(&model)?;
    for (place, input) in given.iter().enumerate() {
        inference.set_input_fact(place, InferenceFact::dt_shape(input.datum_type(), input.shape()))?;
    }
    let plan = inference.into_optimized()?.into_runnable()?;
    let outputs = plan.run(given.into_iter().map(|input| input.into_tvalue()).collect())?;
    for (found, wanted) in outputs.iter().zip(tensors(&test["outputs"])) {
        let wanted = tensor(&wanted)?;
        if found.shape() != wanted.shape() {
            return Err(TractError::msg(format!("shape {:?} instead of {:?}", found.shape(), wanted.shape())));
        }
        if wanted.shape().contains(&0) {
            continue;
        }
        let numbers = |tensor: &Tensor| -> TractResult<Vec<f32>> {
            Ok(tensor.cast_to::<f32>()?.view().as_slice::<f32>()?.to_vec())
        };
        for (found, wanted) in numbers(found)?.into_iter().zip(numbers(&wanted)?) {
            let same = found == wanted || found.is_nan() && wanted.is_nan();
            if !same && (found - wanted).abs() > ABSOLUTE + RELATIVE * wanted.abs() {
                return Err(TractError::msg(format!("{found} instead of {wanted}")));
            }
        }
    }
    Ok(())
}

#[test]
fn every_op_on_the_list_does_what_the_standard_says() {
    let tests: Vec<Value> = serde_json::from_slice(&fs::read(at("tests/exporters/nodes.json")).unwrap()).unwrap();
    let (mut counts, mut failed) = (BTreeMap::<&str, usize>::new(), Vec::new());
    for test in &tests {
        let op = test["op"].as_str().unwrap();
        assert!(ALLOWED_OPS.contains(&op), "{op} is not on the list");
        match run(test) {
            Ok(()) => *counts.entry(op).or_default() += 1,
            Err(error) => failed.push(format!("{} ({op}, {}): {error:#}", test["name"], test["opset"])),
        }
    }
    assert!(failed.is_empty(), "{} fail:\n{}", failed.len(), failed.join("\n"));
    let untested: Vec<&str> = ALLOWED_OPS.into_iter().filter(|op| !counts.contains_key(op)).collect();
    assert_eq!(untested, UNTESTED, "ops without a test of the standard's");
    let listed: Vec<String> = counts.iter().map(|(op, count)| format!("{op} {count}")).collect();
    let said = format!(
        "{} of ONNX's own tests pass, all there are of {} ops for what a lowered model holds: {}. ONNX tests none of {}; those are held to\nonnxruntime by the table above.\n",
        tests.len(),
        counts.len(),
        listed.join(", "),
        untested.join(", "),
    );
    println!("{said}");
    let (begin, end) = ("<!-- ops -->\n", "<!-- /ops -->");
    let page = fs::read_to_string(at("docs/models.md")).unwrap();
    let (before, rest) = page.split_once(begin).expect("docs/models.md has the mark");
    let (written, after) = rest.split_once(end).expect("and its end");
    if std::env::var_os("GLOAMING_GOLDEN").is_some() {
        fs::write(at("docs/models.md"), format!("{before}{begin}{said}{end}{after}")).unwrap();
    } else {
        assert_eq!(written, said, "GLOAMING_GOLDEN=1 writes the list anew");
    }
}
