"""Exports networks as PyTorch writes them, with what onnxruntime computes from them: beside `export.py`, for torch is large.

    venv/bin/pip install torch && venv/bin/python torch_export.py

Weights are drawn and not trained: what is tested is the export, and a network that learnt nothing has the same ops.
"""

import json
import pathlib

import numpy
import onnxruntime
import torch
from torch import nn

HERE = pathlib.Path(__file__).parent / "fixtures"
WIDTH, ROWS, STEPS = 8, 16, 6
torch.manual_seed(7)


class Sequence(nn.Module):
    """A recurrent network over the last steps of a session: a row holds them one after the other."""

    def __init__(self, kind):
        super().__init__()
        self.cells, self.score = kind(4, 8, batch_first=True), nn.Linear(8, 1)

    def forward(self, features):
        states, _ = self.cells(features.reshape(-1, STEPS, 4))
        return torch.sigmoid(self.score(states[:, -1]))


class Block(nn.Module):
    """A small transformer block over the same steps: attention, a feed-forward layer, both with a norm and a way around."""

    def __init__(self):
        super().__init__()
        self.inside = nn.Linear(4, 8)
        self.query, self.key, self.value, self.out = (nn.Linear(8, 8) for _ in range(4))
        self.first, self.second = nn.LayerNorm(8), nn.LayerNorm(8)
        self.wide, self.narrow, self.score = nn.Linear(8, 16), nn.Linear(16, 8), nn.Linear(8, 1)

    def forward(self, features):
        x = self.inside(features.reshape(-1, STEPS, 4))
        heads = lambda y: y.reshape(-1, STEPS, 2, 4).transpose(1, 2)
        q, k, v = heads(self.query(x)), heads(self.key(x)), heads(self.value(x))
        seen = torch.softmax(q @ k.transpose(-2, -1) / 2.0, dim=-1) @ v
        x = self.first(x + self.out(seen.transpose(1, 2).reshape(-1, STEPS, 8)))
        x = self.second(x + self.narrow(nn.functional.gelu(self.wide(x))))
        return torch.sigmoid(self.score(x.mean(dim=1)))


def perceptron(activation):
    return nn.Sequential(nn.Linear(WIDTH, 16), activation, nn.Linear(16, 8), activation, nn.Linear(8, 1), nn.Sigmoid())


MODELS = [
    ("torch-perceptron", "MLP, ReLU", perceptron(nn.ReLU()), WIDTH),
    ("torch-perceptron-gelu", "MLP, GELU", perceptron(nn.GELU()), WIDTH),
    ("torch-perceptron-silu", "MLP, SiLU", perceptron(nn.SiLU()), WIDTH),
    ("torch-perceptron-tanh", "MLP, tanh and dropout", nn.Sequential(nn.Linear(WIDTH, 8), nn.Tanh(), nn.Dropout(), nn.Linear(8, 1), nn.Sigmoid()), WIDTH),
    ("torch-batchnorm", "MLP, batch norm", nn.Sequential(nn.BatchNorm1d(WIDTH), nn.Linear(WIDTH, 8), nn.ELU(), nn.Linear(8, 1), nn.Sigmoid()), WIDTH),
    ("torch-gru", "GRU over 6 steps", Sequence(nn.GRU), STEPS * 4),
    ("torch-lstm", "LSTM over 6 steps", Sequence(nn.LSTM), STEPS * 4),
    ("torch-rnn", "plain recurrent network over 6 steps", Sequence(nn.RNN), STEPS * 4),
    ("torch-transformer", "transformer block, 2 heads over 6 steps", Block(), STEPS * 4),
]


def export(name, what, model, width):
    model.eval()
    inputs = numpy.random.default_rng(7).gamma(1.5, 1.0, (ROWS, width)).astype(numpy.float32)
    path = HERE / f"{name}.onnx"
    torch.onnx.export(
        model,
        torch.from_numpy(inputs[:1]),
        path,
        input_names=["features"],
        output_names=["probability"],
        opset_version=17,
        dynamo=False,
    )
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    outputs = [float(session.run(None, {"features": row[None]})[0].reshape(-1)[0]) for row in inputs]
    said = {
        "model": f"PyTorch: {what}",
        "output": "probability",
        "column": 0,
        "inputs": [[float(v) for v in row] for row in inputs],
        "outputs": outputs,
    }
    (HERE / f"{name}.json").write_text(json.dumps(said) + "\n")
    ops = sorted({node.op_type for node in __import__("onnx").load(path).graph.node})
    print(f"{name}: {path.stat().st_size} bytes, {', '.join(ops)}", flush=True)


for each in MODELS:
    export(*each)
