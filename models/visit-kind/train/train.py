#!/usr/bin/env python3
"""What kind of visit is this? k-means over what sessions of Online Shoppers did, from February to September.

There are as many kinds as can be told again: the most for which two halves of the sessions, each learnt from alone, sort the
visits of October alike (an adjusted Rand index of 0.9 at least, in every one of ten draws). Nothing about purchases is learnt from; how often each kind buys is looked up afterwards.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"  # Sums in one order give the same bytes.

import sys
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1] / "kit"), str(HERE.parents[1] / "purchase-intent" / "train")]
from gloaming_kit import arguments, graph, hand_in, run, scorer  # noqa: E402
from shoppers import FEATURES, TRAINING, Shoppers, logs, table_of  # noqa: E402

MOST, DRAWS, STEADY, SEED = 8, 10, 0.9, 20261127


def steadiness(k: int, z: np.ndarray, later: np.ndarray) -> float:
    """How far two halves agree on later visits, at worst."""
    agreed = []
    for draw in range(DRAWS):
        order = np.random.default_rng(draw).permutation(len(z))
        halves = np.array_split(order, 2)
        one, other = (KMeans(k, n_init=5, random_state=draw).fit(z[half]).predict(later) for half in halves)
        agreed.append(adjusted_rand_score(one, other))
    return min(agreed)


def named(centres: np.ndarray) -> dict[str, int]:
    """Four kinds by what sets them apart, so that a name stays with its kind when it is learnt anew."""
    at = {name: FEATURES.index(name) for name in FEATURES}
    left = list(range(len(centres)))
    kinds = {}
    for name, feature, pick in [("glance", "time-product@1", min), ("research", "pages-info@1", max), ("arrange", "pages-account@1", max)]:
        kinds[name] = pick(left, key=lambda kind: centres[kind, at[feature]])
        left.remove(kinds[name])
    (kinds["browse"],) = left
    return {name: kinds[name] for name in ("glance", "browse", "arrange", "research")}


def export(mean: np.ndarray, spread: np.ndarray, centres: np.ndarray) -> bytes:
    """The nearest centre's place as a score: the largest of 2 z c - c c, which orders as the distance does."""
    def tensor(name: str, values: np.ndarray) -> object:
        return helper.make_tensor(name, TensorProto.FLOAT, values.shape, values.astype(np.float32).ravel())

    k = len(centres)
    weights = [
        tensor("one", np.ones((1, 1))), tensor("mean", mean[None]), tensor("spread", spread[None]),
        tensor("centres", 2 * centres.T), tensor("lengths", -(centres**2).sum(1)[None]), tensor("half", np.full((1, 1), 0.5)),
        tensor("kinds", np.full((1, 1), float(k))),
    ]
    nodes = [
        helper.make_node("Add", ["features", "one"], ["more"]), helper.make_node("Log", ["more"], ["logs"]),
        helper.make_node("Sub", ["logs", "mean"], ["centred"]), helper.make_node("Div", ["centred", "spread"], ["z"]),
        helper.make_node("Gemm", ["z", "centres", "lengths"], ["near"]),
        helper.make_node("ArgMax", ["near"], ["place"], axis=1, keepdims=1),
        helper.make_node("Cast", ["place"], ["number"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["number", "half"], ["middle"]), helper.make_node("Div", ["middle", "kinds"], ["kind"]),
    ]
    return graph("visit-kind", nodes, weights, len(FEATURES), "kind")


def main() -> None:
    said = arguments(__doc__, HERE.parent, "online_shoppers")
    data = Shoppers(table_of(said.data))
    learnt, (november, bought) = data.learnt(), data.of("Nov")
    mean, spread = logs(learnt).mean(0), logs(learnt).std(0)
    october, _ = data.of("Oct")
    z, chosen_on, later = ((logs(x) - mean) / spread for x in (learnt, october, november))
    print(f"kinds  agreement of two halves on {len(october)} visits of October, at worst of {DRAWS} draws")
    chosen, steady = 1, {}
    for k in range(2, MOST + 1):
        steady[k] = steadiness(k, z, chosen_on)
        print(f"{k:>5}  {steady[k]:.4f}")
        if steady[k] >= STEADY:
            chosen = k
    if chosen != 4:
        sys.exit(f"error: {chosen} kinds are steady, and there are names for four; look at the centres and name them")
    found = KMeans(chosen, n_init=20, random_state=SEED).fit(z).cluster_centers_
    kinds = named(found)
    centres = found[list(kinds.values())]
    exported = export(mean, spread, centres)
    score = scorer(exported)
    placed = [np.floor(score(rows) * chosen).astype(int) for rows in (learnt, november)]
    again = np.argmin(((later[:, None] - centres[None]) ** 2).sum(2), axis=1)
    apart = int((placed[1] != again).sum())
    print(f"\n{chosen} kinds; the graph sorts {apart} of {len(november)} visits otherwise than double precision does")
    if apart > 3:
        sys.exit("error: the graph computes something else")
    usual = np.expm1(centres * spread + mean)
    print(f"\n{'kind':<10}{'Feb-Sep':>9}{'Nov':>8}{'bought':>8}   a usual one: " + ", ".join(FEATURES))
    shares = {}
    for at, kind in enumerate(kinds):
        share = [(where == at).mean() for where in placed]
        rate = bought[placed[1] == at].mean()
        shares[kind] = {"feb_sep": round(share[0], 4), "nov": round(share[1], 4), "bought_nov": round(float(rate), 4)}
        print(f"{kind:<10}{share[0]:>9.4f}{share[1]:>8.4f}{rate:>8.4f}   " + ", ".join(f"{value:.1f}" for value in usual[at]))
    print()
    print(hand_in(
        exported, learnt, name="visit-kind", version=said.version, features=FEATURES, kinds=list(kinds),
        meaning="kind of visit: glance (a page or two), browse (products), arrange (account pages too), research (information too)",
        owner="models@gloaming.example", next_review="2027-06-01", out=said.out,
        training=TRAINING | {
            "method": "k-means on standardised logarithms", "split": "time", "trained": "Feb-Sep", "chosen": "Oct", "tested": "Nov",
            "steadiness": {str(k): round(value, 4) for k, value in steady.items()}, "shares": shares,
            "rows": {"train": len(learnt), "test": len(november)},
        },
        more={
            "licence": "CC BY 4.0",
            "intended_use": "To count how a shop is used, by kind of visit.",
            "not_for": "Deciding about anybody. A kind is of a visit, not of a person; the next visit may be another.",
        },
        gloaming=said.gloaming,
    ))
    print(run(said.gloaming, "model", "evaluate", str(said.out / "manifest.json"), "--out", str(said.out / "evidence")))
    print(run(said.gloaming, "model", "card", str(said.out / "manifest.json"), "--out", str(said.out / "card.md")))


if __name__ == "__main__":
    main()
