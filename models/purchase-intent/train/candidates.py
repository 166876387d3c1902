"""The candidate models: how each is fitted, and how each is written as an ONNX graph.

Every graph takes "features" [1, 8] and ends in "probability" [1, 1]. Recalibration
(log-odds x slope + intercept) is folded into the last layer or the leaves, so it costs
no operator.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import lightgbm as lgb
import numpy as np
import onnx
from onnx import helper, numpy_helper
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

Array = np.ndarray
Graph = tuple[list[onnx.NodeProto], list[onnx.TensorProto]]

SEED = 20180822
COUNTED = 6  # the first six inputs are pages and seconds; the last two are flags


@dataclass
class Model:
    """A fitted candidate: its log-odds in Python, and its graph given (slope, intercept)."""

    name: str
    log_odds: Callable[[Array], Array]
    graph: Callable[[float, float], Graph]


def f32(name: str, value: Array | float) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(value, dtype=np.float32), name)


class Prepare:
    """max(x, 0), log(1 + x), then standardise, for all eight inputs.

    log1p of a 0/1 flag is still two-valued, so standardising undoes it; treating every
    input alike saves splitting the tensor.
    """

    def __init__(self, x: Array) -> None:
        logs = self.logs(x)
        self.mean, self.scale = logs.mean(axis=0), logs.std(axis=0)

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


def fit_logistic(x: Array, y: Array, c: float) -> Model:
    prepare = Prepare(x)
    fitted = LogisticRegression(C=c, tol=1e-10, max_iter=10_000).fit(prepare(x), y)

    def graph(slope: float, intercept: float) -> Graph:
        nodes, weights = prepare.graph()
        nodes += [
            helper.make_node("Gemm", ["prepared", "w", "b"], ["log_odds"]),
            helper.make_node("Sigmoid", ["log_odds"], ["probability"]),
        ]
        weights += [f32("w", slope * fitted.coef_.T)]
        weights += [f32("b", slope * fitted.intercept_ + intercept)]
        return nodes, weights

    return Model(f"logistic C={c:g}", lambda v: fitted.decision_function(prepare(v)), graph)


def fit_mlp(x: Array, y: Array, hidden: int, alpha: float) -> Model:
    """Five one-layer networks averaged on the log-odds scale.

    The average of such networks is itself one wider network, so the graph stays two
    Gemms. Averaging matters here: one seed's luck on 549 October rows is noise.
    """
    prepare = Prepare(x)
    nets = [
        MLPClassifier(
            (hidden,), activation="tanh", solver="lbfgs", alpha=alpha,
            max_iter=2000, max_fun=100_000, random_state=SEED + i,
        ).fit(prepare(x), y)
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

    return Model(f"mlp hidden=5x{hidden} alpha={alpha:g}", log_odds, graph)


def fit_trees(x: Array, y: Array, leaves: int, rounds: int, monotone: bool) -> Model:
    """LightGBM. The monotone variant never lowers the score for more pages or time."""
    params = {
        "objective": "binary", "num_leaves": leaves, "learning_rate": 0.05,
        "min_data_in_leaf": 50, "lambda_l2": 1.0, "seed": SEED, "deterministic": True,
        "force_row_wise": True, "num_threads": 1, "verbose": -1,
        "monotone_constraints": [int(monotone)] * COUNTED + [0, 0],
    }
    booster = lgb.train(params, lgb.Dataset(x, y), num_boost_round=rounds)

    def graph(slope: float, intercept: float) -> Graph:
        trees = [t["tree_structure"] for t in booster.dump_model()["tree_info"]]
        # No base_values: the intercept is spread over the leaves, which every runtime reads.
        attributes = tree_attributes(trees, slope, intercept / len(trees))
        nodes = [
            helper.make_node(
                "TreeEnsembleClassifier", ["features"], ["label", "both"],
                domain="ai.onnx.ml", classlabels_int64s=[0, 1],
                post_transform="LOGISTIC", **attributes,
            ),
            # Column 1 is the positive class; the label is dropped.
            helper.make_node("Slice", ["both", "from", "to", "axis"], ["probability"]),
        ]
        bounds = (("from", 1), ("to", 2), ("axis", 1))
        return nodes, [numpy_helper.from_array(np.array([v]), k) for k, v in bounds]

    kind = "trees-monotone" if monotone else "trees"
    name = f"{kind} leaves={leaves} rounds={rounds}"
    return Model(name, lambda v: booster.predict(v, raw_score=True), graph)


def tree_attributes(trees: list[dict], slope: float, shift: float) -> dict[str, list]:
    """LightGBM's dumped trees as the flat lists TreeEnsembleClassifier wants."""
    columns = ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids")
    nodes: list[list] = []
    leaves: list[list] = []

    def visit(tree: int, root_at: int, n: dict) -> int:
        at, node_id = len(nodes), len(nodes) - root_at
        if "leaf_value" in n:
            nodes.append([tree, node_id, 0, 0.0, "LEAF", 0, 0])
            leaves.append([tree, node_id, 1, slope * n["leaf_value"] + shift])
            return node_id
        cut = np.float32(n["threshold"])
        # Round down: a float32 x is <= the exact cut if and only if it is <= this one.
        if float(cut) > n["threshold"]:
            cut = np.nextafter(cut, np.float32(-np.inf))
        nodes.append([tree, node_id, n["split_feature"], float(cut), "BRANCH_LEQ", 0, 0])
        nodes[at][5] = visit(tree, root_at, n["left_child"])
        nodes[at][6] = visit(tree, root_at, n["right_child"])
        return node_id

    for i, tree in enumerate(trees):
        visit(i, len(nodes), tree)
    out = {f"nodes_{k}": list(v) for k, v in zip(columns, zip(*nodes), strict=True)}
    names = ("treeids", "nodeids", "ids", "weights")
    return out | {f"class_{k}": list(v) for k, v in zip(names, zip(*leaves), strict=True)}


def candidates(x: Array, y: Array) -> list[Model]:
    """A short list on purpose: October is 549 rows, and a long search would fit its noise."""
    found = [fit_logistic(x, y, c) for c in (0.01, 0.1, 1.0, 10.0)]
    found += [fit_mlp(x, y, h, a) for h in (4, 8) for a in (1.0, 10.0)]
    for monotone in (False, True):
        found += [fit_trees(x, y, n, r, monotone) for n in (4, 8) for r in (50, 100, 200)]
    return found
