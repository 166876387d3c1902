//! Loading and running.

use std::sync::Arc;

use gloaming_signal::hash;
use tract_onnx::prelude::*;

use crate::explain::Form;
use crate::manifest::{BACKGROUND, Manifest, ManifestError};
use crate::node::Node;
use crate::{tensors, trees};

/// How far a reference row may be off.
pub const TOLERANCE: f32 = 1e-5;

/// Largest model file, bytes. Loading one of this size takes a browser's worker about a second.
const MODEL_BYTES: usize = 8 * 1024 * 1024;

/// Op types that may occur: those that tract computes as ONNX defines them, without control flow,
/// randomness or data-dependent shapes.
pub const ALLOWED_OPS: [&str; 61] = [
    "Abs",
    "Add",
    "And",
    "ArgMax",
    "BatchNormalization",
    "Cast",
    "Clip",
    "Concat",
    "Constant",
    "ConstantOfShape",
    "Div",
    "Elu",
    "Equal",
    "Erf",
    "Exp",
    "Expand",
    "Flatten",
    "GRU",
    "Gather",
    "Gemm",
    "Greater",
    "GreaterOrEqual",
    "HardSigmoid",
    "Identity",
    "LSTM",
    "LayerNormalization",
    "LeakyRelu",
    "Less",
    "LessOrEqual",
    "Log",
    "MatMul",
    "Max",
    "Min",
    "Mul",
    "Neg",
    "Not",
    "Or",
    "Pow",
    "RNN",
    "Reciprocal",
    "ReduceMax",
    "ReduceMean",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
    "Relu",
    "Reshape",
    "Shape",
    "Sigmoid",
    "Slice",
    "Softmax",
    "Softplus",
    "Split",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Tanh",
    "Transpose",
    "TreeEnsembleClassifier",
    "Unsqueeze",
    "Where",
];

/// Why a model is not run.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Another file than the manifest's.
    #[error("the model file has SHA-256 {found}, the manifest says {wanted}: one of them was changed")]
    Hash {
        /// Of the file.
        found: String,
        /// In the manifest.
        wanted: String,
    },
    /// Not ONNX, or beyond a limit.
    #[error("the model file {0}")]
    File(String),
    /// An op that is not on the list.
    #[error(
        "the model uses the op `{op}` (node `{node}`), which is not run here; export it with other ops ({allowed})"
    )]
    Op {
        /// Op type.
        op: String,
        /// Node name.
        node: String,
        /// What is.
        allowed: String,
    },
    /// Manifest and graph disagree.
    #[error("the model's {what} is {found}, the manifest says {wanted}")]
    Differs {
        /// What.
        what: &'static str,
        /// In the graph.
        found: String,
        /// In the manifest.
        wanted: String,
    },
    /// tract cannot.
    #[error("tract cannot run the model: {0}")]
    Tract(String),
    /// A reference row gives something else.
    #[error(
        "reference row {row} gives {found}, the trainer had {wanted}: the model does not compute here what it was trained to"
    )]
    Reference {
        /// Which row.
        row: usize,
        /// Here.
        found: f32,
        /// There.
        wanted: f32,
    },
    /// Inputs that are not `features` finite numbers.
    #[error("the model takes {wanted} finite numbers, not {found}")]
    Input {
        /// How many.
        wanted: usize,
        /// What came.
        found: String,
    },
}

impl From<TractError> for ModelError {
    fn from(error: TractError) -> Self {
        Self::Tract(error.to_string())
    }
}

/// A model that agrees with its manifest.
pub struct Model {
    manifest: Manifest,
    plan: Arc<TypedRunnableModel>,
    form: Form,
}

impl Model {
    /// Loads a model and proves it against its manifest.
    ///
    /// # Errors
    /// The first difference found.
    pub fn load(manifest: &[u8], onnx: &[u8]) -> Result<Self, ModelError> {
        let manifest = Manifest::parse(manifest)?;
        let found = hash::sha256(onnx);
        if found != manifest.onnx_sha256() {
            return Err(ModelError::Hash { found: hash::hex(&found), wanted: manifest.onnx.sha256.clone() });
        }
        if onnx.len() > MODEL_BYTES {
            return Err(ModelError::File(format!("has {} bytes, the limit is {MODEL_BYTES}", onnx.len())));
        }
        let framework = tract_onnx::onnx();
        let proto = framework
            .proto_model_for_read(&mut &onnx[..])
            .map_err(|error| ModelError::File(format!("is not ONNX: {error}")))?;
        check_graph(&manifest, &proto)?;
        let width = manifest.input.features.len();
        let plan = || -> Result<_, ModelError> {
            let model = framework.model_for_proto_model(&proto)?.with_input_fact(0, f32::fact([1, width]).into())?;
            Ok(model.into_optimized()?.into_runnable()?)
        };
        let plan = tensors::held(plan, ModelError::Tract)?;
        let mut model = Self { manifest, plan, form: Form::Unknown };
        tensors::held(|| model.check_reference(), ModelError::Tract)?;
        let Manifest { input, output, reference, .. } = &model.manifest;
        if let Some(graph) = &proto.graph {
            model.form = Form::find(graph, &input.name, &output.name, &reference.inputs, &reference.outputs);
        }
        Ok(model)
    }

    /// What is known of its inside.
    pub(crate) fn form(&self) -> &Form {
        &self.form
    }

    /// Rows that explanations compare with.
    pub(crate) fn usual(&self) -> &[Vec<f32>] {
        let Manifest { background, reference, .. } = &self.manifest;
        if background.is_empty() { &reference.inputs[..reference.inputs.len().min(BACKGROUND)] } else { background }
    }

    /// The manifest it agrees with.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The probability for one row of features, in the manifest's order and units.
    ///
    /// # Errors
    /// When the row is not as many finite numbers as the model takes, or tract fails.
    pub fn score(&self, features: &[f32]) -> Result<f32, ModelError> {
        let wanted = self.manifest.input.features.len();
        if features.len() != wanted {
            return Err(ModelError::Input { wanted, found: format!("{} numbers", features.len()) });
        }
        if let Some(bad) = features.iter().find(|f| !f.is_finite()) {
            return Err(ModelError::Input { wanted, found: format!("{bad} among them") });
        }
        let row = Tensor::from_shape(&[1, wanted], features)?;
        let outputs = self.plan.run(tvec!(row.into()))?;
        let output = outputs.first().ok_or_else(|| ModelError::Tract("there is no output".into()))?;
        let values = output.view();
        let values = values.as_slice::<f32>()?;
        match values {
            [probability] => Ok(*probability),
            _ => Err(ModelError::Tract(format!("{} values instead of one", values.len()))),
        }
    }

    fn check_reference(&self) -> Result<(), ModelError> {
        let reference = &self.manifest.reference;
        for (row, (input, wanted)) in reference.inputs.iter().zip(&reference.outputs).enumerate() {
            let found = self.score(input)?;
            // Written so that NaN on either side is a difference.
            let close = (found - wanted).abs() <= TOLERANCE;
            if !close {
                return Err(ModelError::Reference { row, found, wanted: *wanted });
            }
        }
        Ok(())
    }
}

fn check_graph(manifest: &Manifest, proto: &tract_onnx::pb::ModelProto) -> Result<(), ModelError> {
    let differs = |what, found: String, wanted: String| Err(ModelError::Differs { what, found, wanted });
    let graph = proto.graph.as_ref().ok_or_else(|| ModelError::File("has no graph".into()))?;
    for node in &graph.node {
        if !ALLOWED_OPS.contains(&node.op_type.as_str()) {
            let allowed = ALLOWED_OPS.join(", ");
            return Err(ModelError::Op { op: node.op_type.clone(), node: node.name.clone(), allowed });
        }
        if node.op_type == "TreeEnsembleClassifier"
            && let Some(why) = trees::unsound(&Node(node))
        {
            return Err(ModelError::File(format!("has trees that cannot be walked (node `{}`): {why}", node.name)));
        }
    }
    if let Some(why) = tensors::unreadable(graph) {
        return Err(ModelError::File(why));
    }
    // tract 0.23 looks an output up among what nodes give, and ends where it is not there.
    let given = |name: &String| graph.node.iter().any(|node| node.output.contains(name));
    if let Some(output) = graph.output.iter().find(|output| !given(&output.name)) {
        return Err(ModelError::File(format!("has an output `{}` that no node gives", output.name)));
    }
    let mut ops: Vec<&str> = graph.node.iter().map(|n| n.op_type.as_str()).collect();
    ops.sort_unstable();
    ops.dedup();
    if ops != manifest.onnx.ops {
        return differs("list of ops", ops.join(", "), manifest.onnx.ops.join(", "));
    }
    let domain = |domain: &str| if domain.is_empty() { "ai.onnx".to_owned() } else { domain.to_owned() };
    let opsets: std::collections::BTreeMap<_, _> =
        proto.opset_import.iter().map(|set| (domain(&set.domain), set.version)).collect();
    if opsets != manifest.onnx.opsets {
        return differs("op set", format!("{opsets:?}"), format!("{:?}", manifest.onnx.opsets));
    }
    let initial: Vec<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    let inputs: Vec<&str> =
        graph.input.iter().map(|i| i.name.as_str()).filter(|name| !initial.contains(name)).collect();
    if inputs != [manifest.input.name.as_str()] {
        return differs("input", inputs.join(", "), manifest.input.name.clone());
    }
    let outputs: Vec<&str> = graph.output.iter().map(|o| o.name.as_str()).collect();
    if outputs != [manifest.output.name.as_str()] {
        return differs("output", outputs.join(", "), manifest.output.name.clone());
    }
    Ok(())
}
