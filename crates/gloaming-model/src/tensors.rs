//! Files from anywhere, looked at before tract reads them, and tract held while it does.

use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
use tract_onnx::pb::{GraphProto, TensorProto};

/// What tract makes of a file from anywhere, or an error where it ends within: its rules of shapes take much for granted (0.23 looks
/// at the first dimension of what has none). In a browser such an end is that of the worker, which measures nothing then.
pub(crate) fn held<T, E>(work: impl FnOnce() -> Result<T, E>, ended: impl FnOnce(String) -> E) -> Result<T, E> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(ended("it ends on this graph; export the model with plainer ops".into())))
}

/// Why a graph's tensors cannot be read, if they cannot: which one, and what is wrong with it.
pub(crate) fn unreadable(graph: &GraphProto) -> Option<String> {
    let own = graph.node.iter().flat_map(|node| &node.attribute);
    let within = own.flat_map(|attribute| attribute.t.iter().chain(&attribute.tensors));
    let mut all = graph.initializer.iter().chain(within);
    all.find_map(|tensor| Some(format!("has a tensor `{}` that {}", tensor.name, wrong(tensor)?)))
}

/// Why a tensor cannot be read, if it cannot: tract 0.23 ends on raw bytes of types it does not know.
fn wrong(tensor: &TensorProto) -> Option<String> {
    if tensor.data_location == Some(DataLocation::External as i32) || !tensor.external_data.is_empty() {
        return Some("lies in another file".into());
    }
    let known = DataType::try_from(tensor.data_type).ok();
    let bytes: usize = match known {
        Some(DataType::Uint8 | DataType::Int8 | DataType::Bool) => 1,
        Some(DataType::Uint16 | DataType::Int16 | DataType::Float16) => 2,
        Some(DataType::Float | DataType::Int32 | DataType::Uint32) => 4,
        Some(DataType::Double | DataType::Int64 | DataType::Uint64) => 8,
        _ => return Some(format!("holds no numbers (type {})", tensor.data_type)),
    };
    let size = |dim: &i64| usize::try_from(*dim).ok();
    let all = tensor.dims.iter().map(size).try_fold(bytes, |all, dim| all.checked_mul(dim?));
    let raw = tensor.raw_data.len();
    match all {
        None => Some(format!("has no size: {:?}", tensor.dims)),
        Some(all) if raw > 0 && raw != all => Some(format!("is {raw} bytes long, and not {all}")),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tract_would_end_on_is_told() {
        let tensor = |data_type: DataType, dims: &[i64], bytes: usize| TensorProto {
            name: "w".into(),
            data_type: data_type as i32,
            dims: dims.to_vec(),
            raw_data: vec![0; bytes],
            ..TensorProto::default()
        };
        let told = |tensor| unreadable(&GraphProto { initializer: vec![tensor], ..GraphProto::default() });
        assert_eq!(told(tensor(DataType::Float, &[2, 3], 24)), None);
        // Numbers may lie in a field of their own.
        assert_eq!(told(tensor(DataType::Int64, &[2], 0)), None);
        for (tensor, words) in [
            (tensor(DataType::String, &[1], 3), "holds no numbers"),
            (tensor(DataType::Float, &[2, 3], 20), "is 20 bytes long, and not 24"),
            (tensor(DataType::Float, &[-1], 4), "has no size"),
            (tensor(DataType::Double, &[i64::MAX, 9], 4), "has no size"),
            (TensorProto { data_location: Some(1), ..tensor(DataType::Float, &[1], 4) }, "lies in another file"),
        ] {
            let said = told(tensor).unwrap_or_default();
            assert!(said.starts_with("has a tensor `w` that ") && said.contains(words), "{said}");
        }
    }
}
