"""Takes ONNX's own tests of the ops that models may use here out of the wheel of `onnx`, which holds them up to 1.21.0.

    venv/bin/python nodes.py

Writes `nodes.json`: of each test its graph, its inputs and the outputs that the standard wants, in base64. Those in other
types than a lowered model holds are counted by type and left out. ONNX is under Apache-2.0.
"""

import base64
import collections
import json
import pathlib
import re

import numpy
import onnx
from onnx import numpy_helper

HERE = pathlib.Path(__file__).parent
RUST = HERE.parent.parent / "crates/gloaming-model/src/model.rs"
DATA = pathlib.Path(onnx.__file__).parent / "backend/test/data/node"
LARGEST = 60_000
Type = onnx.TensorProto
# What a lowered model holds: features and what comes of them, and whole numbers that say how.
TYPES = {Type.FLOAT, Type.BOOL, Type.INT32, Type.INT64}
# Ops whose first input is never of features, and tests of what no lowered model can hold.
WHOLE = {"Equal", "ConstantOfShape"}
NOT_HERE = {
    "test_batchnorm_epsilon_training_mode": "training",
    "test_batchnorm_example_training_mode": "training",
    "test_matmul_1d_1d": "two vectors: a row of features has two axes",
    "test_reduce_max_bool_inputs": "truth values in order",
}


def allowed():
    text = RUST.read_text()
    listed = text[text.index("ALLOWED_OPS") :]
    return set(re.findall(r'^    "(\w+)",', listed[: listed.index("];")], re.M))


def main():
    ops, kept, left_out = allowed(), [], collections.Counter()
    for folder in sorted(DATA.iterdir()):
        model = onnx.load(folder / "model.onnx")
        used = {node.op_type for node in model.graph.node}
        if len(model.graph.node) != 1 or not used <= ops:
            continue
        op = used.pop()
        version = next(set_.version for set_ in model.opset_import if set_.domain in ("", "ai.onnx.ml"))
        sets = sorted(folder.glob("test_data_set_*"))
        for data in sets:
            read = lambda kind: [
                onnx.TensorProto.FromString((data / f"{kind}_{at}.pb").read_bytes())
                for at in range(len(list(data.glob(f"{kind}_*.pb"))))
            ]
            inputs, outputs = read("input"), read("output")
            if any(value.type.HasField("sequence_type") for value in model.graph.input):
                left_out[f"{op} of sequences"] += 1
                continue
            if folder.name in NOT_HERE:
                left_out[f"{op}: {NOT_HERE[folder.name]}"] += 1
                continue
            first = (inputs + outputs)[0].data_type
            others = [tensor.data_type for tensor in inputs + outputs if tensor.data_type not in TYPES]
            if others or not (first in (Type.FLOAT, Type.BOOL) or op in WHOLE):
                name = Type.DataType.Name((others or [first])[0])
                left_out[f"{op} in {name}"] += 1
                continue
            entry = {
                "name": folder.name,
                "op": op,
                "opset": version,
                "model": base64.b64encode(model.SerializeToString()).decode(),
                "inputs": [base64.b64encode(tensor.SerializeToString()).decode() for tensor in inputs],
                "outputs": [base64.b64encode(tensor.SerializeToString()).decode() for tensor in outputs],
            }
            if len(json.dumps(entry)) > LARGEST:
                left_out[f"{op} beyond {LARGEST} bytes"] += 1
                continue
            kept.append(entry)
    lines = ",\n".join(json.dumps(entry) for entry in kept)
    (HERE / "nodes.json").write_text(f"[\n{lines}\n]\n")
    reasons = [f"{reason} ({count})" for reason, count in sorted(left_out.items())]
    (HERE / "left-out.txt").write_text("\n".join(reasons) + "\n")
    by_op = collections.Counter(entry["op"] for entry in kept)
    print(len(kept), "kept;", dict(by_op))
    print("none for:", sorted(ops - set(by_op)))


main()
