//! What each op that tract lacks is written as.

use super::graph::{Graph, Value};
use super::{LowerError, transform, trees};
use crate::node::Node;

/// Rewrites a node; false when it is one to keep.
pub(super) fn rewrite(graph: &mut Graph, node: &Node<'_>) -> Result<bool, LowerError> {
    match node.0.op_type.as_str() {
        "TreeEnsembleClassifier" => trees::classifier(graph, node)?,
        "TreeEnsembleRegressor" => trees::regressor(graph, node)?,
        "Scaler" => scaler(graph, node)?,
        "ZipMap" => graph.node("Identity", &[node.first()?], node.output(0), vec![]),
        "Imputer" => imputer(graph, node)?,
        "OneHotEncoder" => one_hot(graph, node)?,
        "LabelEncoder" => label_encoder(graph, node)?,
        "Normalizer" => match node.text("norm", "MAX") {
            "L1" => normalize(graph, node, 1, 1)?,
            "L2" => normalize(graph, node, 2, 1)?,
            other => return Err(node.refused(format!("rows are divided by their {other}"), "normalize by L1 or L2")),
        },
        "LpNormalization" => normalize(graph, node, node.int("p", 2), node.int("axis", -1))?,
        "Binarizer" => {
            let threshold = graph.floats(&[1], &[node.float("threshold", 0.0)]);
            let above = graph.then("Greater", &[node.first()?, &threshold], vec![]);
            graph.node("Cast", &[&above], node.output(0), vec![("to", Value::Int(1))]);
        }
        "LinearClassifier" => linear_classifier(graph, node)?,
        "LinearRegressor" => {
            let targets = usize::try_from(node.int("targets", 1)).unwrap_or(1).max(1);
            let sums = linear(graph, node, targets)?;
            transform(graph, node, &sums, node.output(0))?;
        }
        "FeatureVectorizer" => {
            let parts: Vec<String> = node.0.input.iter().map(|part| graph.as_float(part)).collect();
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            graph.node("Concat", &parts, node.output(0), vec![("axis", Value::Int(1))]);
        }
        // What there is one row of comes with as many axes as it likes; what it holds are columns.
        "ArrayFeatureExtractor" => array_feature_extractor(graph, node)?,
        "Sum" => sum(graph, node)?,
        "ReduceLogSumExp" => log_sum_exp(graph, node)?,
        _ => return Ok(false),
    }
    Ok(true)
}

/// Why an op that has no rule is not run, and what to do instead.
pub(super) fn way_out(op: &str) -> (&'static str, &'static str) {
    match op {
        "SVMClassifier" | "SVMRegressor" => (
            "its support vectors are rows of the training data, which every visitor would be sent",
            "Train a logistic regression, an ensemble of trees or a small network; for an anomaly flag a mixture or a PCA residual",
        ),
        "Scan" | "TopK" => (
            "nearest neighbours carry the training data, which every visitor would be sent",
            "Train a model that keeps parameters and no rows",
        ),
        "Loop" | "If" => ("control flow has no bound", "Export without branches and loops"),
        "TreeEnsemble" => ("it is of ai.onnx.ml 5", "Export with ai.onnx.ml 3: target_opset={'': 17, 'ai.onnx.ml': 3}"),
        "TfIdfVectorizer" | "StringNormalizer" | "Tokenizer" | "CategoryMapper" | "DictVectorizer" => {
            ("features are numbers", "Turn words into numbers in the feature's definition")
        }
        "RandomNormal" | "RandomUniform" | "Multinomial" | "RandomNormalLike" | "RandomUniformLike" | "Bernoulli" => {
            ("the same row must give the same score", "Export the model for inference")
        }
        _ => ("it is not on the list of ops", "Export with other ops; `docs/models.md` lists those that run"),
    }
}

fn scaler(graph: &mut Graph, node: &Node<'_>) -> Result<(), LowerError> {
    let input = graph.as_float(node.first()?);
    let (offset, scale) = (node.floats("offset"), node.floats("scale"));
    let (offset, scale) = (graph.floats(&[1, offset.len()], offset), graph.floats(&[1, scale.len()], scale));
    let moved = graph.then("Sub", &[&input, &offset], vec![]);
    graph.node("Mul", &[&moved, &scale], node.output(0), vec![]);
    Ok(())
}

/// Divided by the sum of sizes, or by the root of the sum of squares. A row of nothing but zeros stays one.
fn normalize(graph: &mut Graph, node: &Node<'_>, power: i64, axis: i64) -> Result<(), LowerError> {
    let (input, axis) = (graph.as_float(node.first()?), graph.ints(&[axis]));
    let sizes = match power {
        1 => graph.then("Abs", &[&input], vec![]),
        2 => graph.then("Mul", &[&input, &input], vec![]),
        other => return Err(node.refused(format!("rows are divided by their norm L{other}"), "normalize by L1 or L2")),
    };
    let mut size = graph.then("ReduceSum", &[&sizes, &axis], vec![("keepdims", Value::Int(1))]);
    if power == 2 {
        size = graph.then("Sqrt", &[&size], vec![]);
    }
    let least = graph.floats(&[1], &[f32::MIN_POSITIVE]);
    let size = graph.then("Max", &[&size, &least], vec![]);
    graph.node("Div", &[&input, &size], node.output(0), vec![]);
    Ok(())
}

/// A device has a number for every feature, but `replaced_value` may be one of them.
fn imputer(graph: &mut Graph, node: &Node<'_>) -> Result<(), LowerError> {
    let (floats, ints) = (node.floats("imputed_value_floats"), node.ints("imputed_value_int64s"));
    if floats.is_empty() && ints.is_empty() {
        return Err(node.refused("it says nothing to put in", "export it again"));
    }
    let values: Vec<f32> =
        if floats.is_empty() { ints.iter().map(|value| *value as f32).collect() } else { floats.to_vec() };
    let input = graph.as_float(node.first()?);
    let replaced = if floats.is_empty() {
        node.int("replaced_value_int64", 0) as f32
    } else {
        node.float("replaced_value_float", 0.0)
    };
    let values = graph.floats(&[1, values.len()], &values);
    if replaced.is_nan() {
        // Only what is no number differs from itself.
        let sound = graph.then("Equal", &[&input, &input], vec![]);
        graph.node("Where", &[&sound, &input, &values], node.output(0), vec![]);
    } else {
        let replaced = graph.floats(&[1], &[replaced]);
        let missing = graph.then("Equal", &[&input, &replaced], vec![]);
        graph.node("Where", &[&missing, &values, &input], node.output(0), vec![]);
    }
    Ok(())
}

fn one_hot(graph: &mut Graph, node: &Node<'_>) -> Result<(), LowerError> {
    let categories: Vec<f32> = node.ints("cats_int64s").iter().map(|category| *category as f32).collect();
    if categories.is_empty() {
        return Err(node.refused("its categories are words", "number the categories in the feature's definition"));
    }
    if node.int("zeros", 1) == 0 {
        return Err(node.refused("it fails on categories that it does not know", "export it with zeros=1"));
    }
    // As ONNX says: a number is first cut to a whole one.
    let whole = graph.then("Cast", &[node.first()?], vec![("to", Value::Int(7))]);
    let input = graph.then("Cast", &[&whole], vec![("to", Value::Int(1))]);
    let (axis, categories) = (graph.ints(&[-1]), graph.floats(&[categories.len()], &categories));
    let input = graph.then("Unsqueeze", &[&input, &axis], vec![]);
    let same = graph.then("Equal", &[&input, &categories], vec![]);
    graph.node("Cast", &[&same], node.output(0), vec![("to", Value::Int(1))]);
    Ok(())
}

/// Numbers for numbers: where nothing fits, the default.
fn label_encoder(graph: &mut Graph, node: &Node<'_>) -> Result<(), LowerError> {
    let keys: Vec<f32> = match node.floats("keys_floats") {
        [] => node.ints("keys_int64s").iter().map(|key| *key as f32).collect(),
        keys => keys.to_vec(),
    };
    let (values, otherwise): (Vec<f32>, f32) = match node.floats("values_floats") {
        [] => (node.ints("values_int64s").iter().map(|v| *v as f32).collect(), node.int("default_int64", -1) as f32),
        values => (values.to_vec(), node.float("default_float", -0.0)),
    };
    if keys.is_empty() || keys.len() != values.len() || keys.iter().chain(&values).any(|number| number.is_nan()) {
        return Err(node.refused("it encodes words", "number the categories in the feature's definition"));
    }
    let input = graph.as_float(node.first()?);
    let axis = graph.ints(&[-1]);
    let input = graph.then("Unsqueeze", &[&input, &axis], vec![]);
    let len = keys.len();
    let differences: Vec<f32> = values.iter().map(|value| value - otherwise).collect();
    let (keys, values) = (graph.floats(&[len], &keys), graph.floats(&[len], &differences));
    let same = graph.then("Equal", &[&input, &keys], vec![]);
    let same = graph.as_float(&same);
    let chosen = graph.then("Mul", &[&same, &values], vec![]);
    let chosen = graph.then("ReduceSum", &[&chosen, &axis], vec![("keepdims", Value::Int(0))]);
    let otherwise = graph.floats(&[1], &[otherwise]);
    graph.node("Add", &[&chosen, &otherwise], node.output(0), vec![]);
    Ok(())
}

/// One sum for each target: `[1, targets]`.
fn linear(graph: &mut Graph, node: &Node<'_>, targets: usize) -> Result<String, LowerError> {
    let (coefficients, intercepts) = (node.floats("coefficients"), node.floats("intercepts"));
    let width = coefficients.len() / targets.max(1);
    if width * targets != coefficients.len() || !intercepts.is_empty() && intercepts.len() != targets {
        return Err(node.refused("its lists of coefficients and intercepts do not fit each other", "export it again"));
    }
    let input = graph.as_float(node.first()?);
    let turned: Vec<f32> =
        (0..width).flat_map(|row| (0..targets).map(move |target| coefficients[target * width + row])).collect();
    let weights = graph.floats(&[width, targets], &turned);
    let sums = graph.then("MatMul", &[&input, &weights], vec![]);
    if intercepts.is_empty() {
        return Ok(sums);
    }
    let intercepts = graph.floats(&[1, targets], intercepts);
    Ok(graph.then("Add", &[&sums, &intercepts], vec![]))
}

/// Its second output, what its classes got.
fn linear_classifier(graph: &mut Graph, node: &Node<'_>) -> Result<(), LowerError> {
    let classes = node.ints("classlabels_ints").len().max(node.texts("classlabels_strings").len());
    let targets = node.floats("intercepts").len().max(1);
    let sums = linear(graph, node, targets)?;
    if targets > 1 || classes < 2 {
        return transform(graph, node, &sums, node.output(1));
    }
    // One sum speaks for both classes.
    let sum = graph.fresh();
    transform(graph, node, &sums, &sum)?;
    let signs = graph.floats(&[1, 2], &[-1.0, 1.0]);
    let both = graph.then("Mul", &[&sum, &signs], vec![]);
    if node.text("post_transform", "NONE") == "NONE" {
        graph.node("Identity", &[&both], node.output(1), vec![]);
    } else {
        let rest = graph.floats(&[1, 2], &[1.0, 0.0]);
        graph.node("Add", &[&both, &rest], node.output(1), vec![]);
    }
    Ok(())
}

/// Columns by number, which `Gather` takes as well, and of more kinds.
fn array_feature_extractor(graph: &mut Graph, node: &Node<'_>) -> Result<(), LowerError> {
    let (Some(input), Some(columns)) = (node.0.input.first(), node.0.input.get(1)) else {
        return Err(node.refused("it has no columns to take", "export it again"));
    };
    let flat = graph.ints(&[-1]);
    let columns = graph.then("Reshape", &[columns, &flat], vec![]);
    graph.node("Gather", &[input, &columns], node.output(0), vec![("axis", Value::Int(-1))]);
    Ok(())
}

/// With the largest taken out first: what is far from every centre of a mixture has the logarithm of next to nothing.
fn log_sum_exp(graph: &mut Graph, node: &Node<'_>) -> Result<(), LowerError> {
    let (input, axes) = (node.first()?, node.ints("axes"));
    let listed = node.0.input.get(1).filter(|axes| !axes.is_empty());
    if axes.is_empty() && listed.is_none() {
        return Err(node.refused("it reduces every axis", "export it with axes"));
    }
    let largest = |graph: &mut Graph, keep: i64| {
        let mut attributes = vec![("keepdims", Value::Int(keep))];
        let mut inputs = vec![input];
        match listed {
            Some(axes) => inputs.push(axes),
            None => attributes.push(("axes", Value::Ints(axes.to_vec()))),
        }
        graph.then("ReduceMax", &inputs, attributes)
    };
    let keep = node.int("keepdims", 1);
    let (most, kept) = (largest(graph, 1), largest(graph, keep));
    let rest = graph.then("Sub", &[input, &most], vec![]);
    let rest = graph.then("Exp", &[&rest], vec![]);
    let axes = listed.cloned().unwrap_or_else(|| graph.ints(axes));
    let sum = graph.then("ReduceSum", &[&rest, &axes], vec![("keepdims", Value::Int(keep))]);
    let sum = graph.then("Log", &[&sum], vec![]);
    graph.node("Add", &[&kept, &sum], node.output(0), vec![]);
    Ok(())
}

/// Two by two, each broadcast to the other.
fn sum(graph: &mut Graph, node: &Node<'_>) -> Result<(), LowerError> {
    let mut total = node.first()?.to_owned();
    let rest = &node.0.input[1..];
    for (place, next) in rest.iter().enumerate() {
        if place + 1 == rest.len() {
            graph.node("Add", &[&total, next], node.output(0), vec![]);
            return Ok(());
        }
        total = graph.then("Add", &[&total, next], vec![]);
    }
    graph.node("Identity", &[&total], node.output(0), vec![]);
    Ok(())
}
