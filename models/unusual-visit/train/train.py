#!/usr/bin/env python3
"""How unusual is this visit? A mixture of Gaussians over what sessions of Online Shoppers did, from February to September.

The score is the share of those sessions that were likelier under the mixture. How many components there are is chosen by
the likelihood of October. Told of November: whether a score of .95 is as rare as it says, and whether visits stand out that
were put together from parts of different ones, which no mixture has learnt.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"  # Sums in one order give the same bytes.

import sys
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1] / "kit"), str(HERE.parents[1] / "purchase-intent" / "train")]
from gloaming_kit import arguments, graph, hand_in, run, scorer  # noqa: E402
from shoppers import FEATURES, TRAINING, Shoppers, logs, table_of  # noqa: E402

SEED, MOST = 20261127, 12
#: Many cells are exactly 0. A deviation below a third of the column's own would make spikes of them.
LEAST_VARIANCE = 0.1
#: Shares at which the score is exact; between them it goes straight.
KNOTS = np.concatenate([[0.0], np.arange(0.05, 0.96, 0.05), [0.975, 0.99, 0.995, 0.999]])


def surprise(mixture: GaussianMixture, z: np.ndarray) -> np.ndarray:
    return -mixture.score_samples(z)


def export(mean: np.ndarray, spread: np.ndarray, mixture: GaussianMixture, at: np.ndarray) -> bytes:
    """Each component's distance by one whitening, their logarithms' sum, and straight lines from there to the share."""
    weights, nodes = [], []

    def constant(name: str, values: np.ndarray) -> str:
        values = np.atleast_2d(values).astype(np.float32)
        weights.append(helper.make_tensor(name, TensorProto.FLOAT, values.shape, values.ravel()))
        return name

    def whole(name: str, values: list[int]) -> str:
        weights.append(helper.make_tensor(name, TensorProto.INT64, [len(values)], values))
        return name

    def then(op: str, out: str, *given: str, **more: object) -> str:
        nodes.append(helper.make_node(op, list(given), [out], **more))
        return out

    k, d = mixture.means_.shape
    white = np.concatenate(list(mixture.precisions_cholesky_), axis=1)
    shift = -np.concatenate([m @ p for m, p in zip(mixture.means_, mixture.precisions_cholesky_)])
    dets = np.array([np.log(np.diag(p)).sum() for p in mixture.precisions_cholesky_])
    base = np.log(mixture.weights_) + dets - d / 2 * np.log(2 * np.pi)
    z = then("Div", "z", then("Sub", "centred", then("Log", "logs", then("Add", "more", "features", constant("one", np.ones(1)))), constant("mean", mean)), constant("spread", spread))
    apart = then("Gemm", "apart", z, constant("white", white), constant("shift", shift))
    square = then("Mul", "square", apart, apart)
    # Summed by component with a matrix of ones.
    far = then("MatMul", "far", square, constant("by_component", np.kron(np.eye(k), np.full((d, 1), -0.5))))
    each = then("Add", "each", far, constant("base", base))
    top = then("ReduceMax", "top", each, axes=[1], keepdims=1)
    total = then("ReduceSum", "total", then("Exp", "parts", then("Sub", "below", each, top)), whole("axis", [1]), keepdims=1)
    surprised = then("Neg", "surprise", then("Add", "likelihood", top, then("Log", "log_total", total)))
    # Each stretch adds what it has of the way, so that all terms are positive: single precision cancels badly.
    above = then("Relu", "above", then("Add", "beyond", surprised, constant("at", -at[:-1])))
    way = then("Min", "way", above, constant("stretch", np.diff(at)))
    then("MatMul", "unusual", way, constant("slopes", (np.diff(KNOTS) / np.diff(at))[:, None]))
    return graph("unusual-visit", nodes, weights, d, "unusual")


def main() -> None:
    said = arguments(__doc__, HERE.parent, "online_shoppers")
    data = Shoppers(table_of(said.data))
    learnt, (october, _), (november, _) = data.learnt(), data.of("Oct"), data.of("Nov")
    mean, spread = logs(learnt).mean(0), logs(learnt).std(0)
    z, chosen_on, later = ((logs(x) - mean) / spread for x in (learnt, october, november))
    print("components  log-likelihood of a visit of October")
    fits = {}
    for k in range(1, MOST + 1):
        mixture = GaussianMixture(k, reg_covar=LEAST_VARIANCE, n_init=5, random_state=SEED).fit(z)
        fits[k] = (mixture.score(chosen_on), mixture)
        print(f"{k:>10}  {fits[k][0]:.4f}")
    k = max(fits, key=lambda k: fits[k][0])
    likelihood, mixture = fits[k]
    at = np.quantile(surprise(mixture, z), KNOTS)
    exported = export(mean, spread, mixture, at)
    score = scorer(exported)
    found = score(november)
    wanted = np.interp(surprise(mixture, later), at, KNOTS)
    print(f"\n{k} components; the graph is within {np.abs(found - wanted).max():.1e} of double precision on {len(november)} visits")
    if np.abs(found - wanted).max() > 1e-4:
        sys.exit("error: the graph computes something else")
    beyond = {str(share): round(float((found > share).mean()), 4) for share in (0.5, 0.9, 0.95, 0.99)}
    print("of November's visits, beyond " + "; ".join(f"{share}: {seen:.4f}" for share, seen in beyond.items()))
    draw = np.random.default_rng(SEED)
    mixed = np.column_stack([draw.permutation(column) for column in november.T])
    auc = roc_auc_score(np.repeat([0, 1], [len(found), len(mixed)]), np.concatenate([found, score(mixed)]))
    print(f"visits put together from parts of different ones stand out with an AUC of {auc:.4f}\n")
    print(hand_in(
        exported, learnt, name="unusual-visit", version=said.version, features=FEATURES,
        meaning="share of the visits it learnt from that were less unusual than this one",
        owner="models@gloaming.example", next_review="2027-06-01", out=said.out,
        training=TRAINING | {
            "method": f"mixture of {k} Gaussians on standardised logarithms", "split": "time", "trained": "Feb-Sep", "chosen": "Oct",
            "tested": "Nov", "log_likelihood_oct": round(float(likelihood), 4), "beyond_nov": beyond, "mixed_auc_nov": round(float(auc), 4),
            "rows": {"train": len(learnt), "choose": len(october), "test": len(november)},
        },
        more={
            "licence": "CC BY 4.0",
            "intended_use": "To see in counts that more visits than usual are unlike those before: a broken page, a scraper, a campaign.",
            "not_for": "Suspecting, blocking or challenging anybody: unusual is no fault.",
        },
        gloaming=said.gloaming,
    ))
    print(run(said.gloaming, "model", "evaluate", str(said.out / "manifest.json"), "--out", str(said.out / "evidence")))
    print(run(said.gloaming, "model", "card", str(said.out / "manifest.json"), "--out", str(said.out / "card.md")))


if __name__ == "__main__":
    main()
