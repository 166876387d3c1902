"""The candidate models: how each is fitted, and how each is written as an ONNX graph.

Every graph takes "features" and ends in "probability", one number a row. Recalibration (log-odds x slope + intercept) is folded
into the last layer, so that it costs no operator.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

Array = np.ndarray
Graph = tuple[list[onnx.NodeProto], list[onnx.TensorProto]]

SEED = 20180822


@dataclass
class Model:
    """A fitted candidate: its log-odds in Python, its graph given (slope, intercept), and the same kind of model of other rows."""

    name: str
    log_odds: Callable[[Array], Array]
    graph: Callable[[float, float], Graph]
    again: Callable[[Array, Array, Array], Model]


def f32(name: str, value: Array | float) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(value, dtype=np.float32), name)


class Prepare:
    """max(x, 0), log(1 + x), then standardise by the weighted mean and deviation, for all inputs.

    log1p of a 0/1 flag is still two-valued, so standardising undoes it; treating every input alike saves splitting the tensor.
    """

    def __init__(self, x: Array, weight: Array) -> None:
        logs = self.logs(x)
        self.mean = np.average(logs, axis=0, weights=weight)
        self.scale = np.sqrt(np.average((logs - self.mean) ** 2, axis=0, weights=weight))

    @staticmethod
    def logs(x: Array) -> Array:
        return np.log1p(np.maximum(x.astype(np.float64), 0.0))

    def __call__(self, x: Array) -> Array:
        return (self.logs(x) - self.mean) / self.scale

    def graph(self) -> Graph:
        nodes = [
            helper.make_node("Relu", ["features"], ["not_negative"]),
            helper.make_node("Add", ["not_negative", "one"], ["plus_one"]),
            helper.make_node("Log", ["plus_one"], ["logs"]),
            helper.make_node("Sub", ["logs", "mean"], ["centred"]),
            helper.make_node("Mul", ["centred", "inverse_scale"], ["prepared"]),
        ]
        mean, inverse = self.mean[None, :], 1.0 / self.scale[None, :]
        return nodes, [f32("one", 1.0), f32("mean", mean), f32("inverse_scale", inverse)]


def fit_logistic(x: Array, y: Array, weight: Array, c: float) -> Model:
    prepare = Prepare(x, weight)
    fitted = LogisticRegression(C=c, tol=1e-10, max_iter=10_000).fit(prepare(x), y, weight)

    def graph(slope: float, intercept: float) -> Graph:
        nodes, weights = prepare.graph()
        nodes += [
            helper.make_node("Gemm", ["prepared", "w", "b"], ["log_odds"]),
            helper.make_node("Sigmoid", ["log_odds"], ["probability"]),
        ]
        weights += [f32("w", slope * fitted.coef_.T)]
        weights += [f32("b", slope * fitted.intercept_ + intercept)]
        return nodes, weights

    return Model(f"logistic C={c:g}", lambda v: fitted.decision_function(prepare(v)), graph, lambda *rows: fit_logistic(*rows, c))


def fit_mlp(x: Array, y: Array, weight: Array, hidden: int, alpha: float) -> Model:
    """Five one-layer networks averaged on the log-odds scale.

    The average of such networks is itself one wider network, so the graph stays two Gemms. Averaging matters here: one seed's
    luck on 549 October sessions is noise. Weights sum to the number of sessions, so that ``alpha`` weighs as it would on sessions.
    """
    prepare = Prepare(x, weight)
    nets = [
        MLPClassifier(
            (hidden,), activation="tanh", solver="lbfgs", alpha=alpha,
            max_iter=2000, max_fun=100_000, random_state=SEED + i,
        ).fit(prepare(x), y, sample_weight=weight)
        for i in range(5)
    ]
    w1 = np.concatenate([n.coefs_[0] for n in nets], axis=1)
    b1 = np.concatenate([n.intercepts_[0] for n in nets])
    w2 = np.concatenate([n.coefs_[1] for n in nets]) / len(nets)
    b2 = np.mean([n.intercepts_[1] for n in nets], axis=0)

    def log_odds(v: Array) -> Array:
        return (np.tanh(prepare(v) @ w1 + b1) @ w2 + b2)[:, 0]

    def graph(slope: float, intercept: float) -> Graph:
        nodes, weights = prepare.graph()
        nodes += [
            helper.make_node("Gemm", ["prepared", "w1", "b1"], ["hidden_in"]),
            helper.make_node("Tanh", ["hidden_in"], ["hidden_out"]),
            helper.make_node("Gemm", ["hidden_out", "w2", "b2"], ["log_odds"]),
            helper.make_node("Sigmoid", ["log_odds"], ["probability"]),
        ]
        weights += [f32("w1", w1), f32("b1", b1)]
        weights += [f32("w2", slope * w2), f32("b2", slope * b2 + intercept)]
        return nodes, weights

    return Model(f"mlp hidden=5x{hidden} alpha={alpha:g}", log_odds, graph, lambda *rows: fit_mlp(*rows, hidden, alpha))


def candidates(x: Array, y: Array, weight: Array) -> list[Model]:
    """A short list on purpose: October is 549 sessions, and a long search would fit its noise."""
    found = [fit_logistic(x, y, weight, c) for c in (0.01, 0.1, 1.0, 10.0)]
    return found + [fit_mlp(x, y, weight, h, a) for h in (4, 8) for a in (1.0, 10.0)]
