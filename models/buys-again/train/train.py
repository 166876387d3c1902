#!/usr/bin/env python3
"""Who bought once, how often since, and when last: will they buy again within 39 weeks?

BG/NBD (Fader, Hardie and Lee, Marketing Science 24(2), 2005) fitted by maximum likelihood to the purchases of a tenth of
CDNOW's customers in 39 weeks, told of all other customers in the 39 weeks after. Its answer has a closed form, which is
written out as an ONNX graph. What it takes is computed by `gloaming model rows`, the code that devices run.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1] / "kit"), str(HERE)]
from cdnow import KNOWN, SEEN, TOLD, TRAINING, WEEKS, fit, forgetting, noted, tenth_and_others, weeks, where_browsers_forget  # noqa: E402
from gloaming_kit import Split, Table, arguments, evaluate, graph, hand_in, run, scorer  # noqa: E402

FEATURES = ["purchase-days@1", "purchase-span@1", "purchase-age@1"]


def probability(p: dict[str, float], x: np.ndarray, last: np.ndarray, age: np.ndarray) -> np.ndarray:
    """That the customer is still one (the same authors' note on P(alive), 2008), and that one who is buys within the weeks."""
    gone = np.log(p["a"]) - np.log(p["b"] + x - 1) + (p["r"] + x) * (np.log(p["alpha"] + age) - np.log(p["alpha"] + last))
    alive = 1 - np.minimum(x, 1) / (1 + np.exp(-gone))
    return alive * -np.expm1((p["r"] + x) * (np.log(p["alpha"] + age) - np.log(p["alpha"] + age + WEEKS)))


def export(p: dict[str, float]) -> bytes:
    """The same as a graph; 0 for a device on which nothing was bought, of which the model knows nothing."""
    weights, nodes = [], []

    def constant(name: str, value: float) -> str:
        weights.append(helper.make_tensor(name, TensorProto.FLOAT, [1, 1], [value]))
        return name

    def then(op: str, out: str, *given: str) -> str:
        nodes.append(helper.make_node(op, list(given), [out]))
        return out

    for at, name in enumerate(["days", "span", "since"]):
        weights.extend(
            helper.make_tensor(f"{name}_{end}", TensorProto.INT64, [1], [at + of]) for end, of in (("from", 0), ("to", 1))
        )
        weights.append(helper.make_tensor(f"{name}_axis", TensorProto.INT64, [1], [1]))
        then("Slice", name, "features", f"{name}_from", f"{name}_to", f"{name}_axis")
    one, week = constant("one", 1.0), constant("week", 7.0)
    alpha, r = constant("alpha", p["alpha"]), constant("r", p["r"])
    x = then("Relu", "x", then("Sub", "less_one", "days", one))
    known = then("Add", "known", alpha, then("Div", "age", "since", week))
    recent = then("Add", "recent", alpha, then("Div", "last", "span", week))
    power = then("Add", "power", r, x)
    log_known = then("Log", "log_known", known)
    idle = then("Mul", "idle", power, then("Sub", "idle_log", log_known, then("Log", "log_recent", recent)))
    b1 = then("Log", "b_log", then("Add", "b_x", x, constant("b_less_one", p["b"] - 1)))
    gone = then("Sigmoid", "gone", then("Add", "gone_log", idle, then("Sub", "odds", constant("log_a", np.log(p["a"])), b1)))
    alive = then("Sub", "alive", one, then("Mul", "gone_x", then("Min", "some", x, one), gone))
    ahead = then("Log", "log_ahead", then("Add", "ahead", known, constant("weeks", float(WEEKS))))
    none = then("Exp", "none", then("Mul", "none_log", power, then("Sub", "ahead_log", log_known, ahead)))
    buys = then("Mul", "buys", alive, then("Sub", "some_buy", one, none))
    then("Mul", "probability", buys, then("Min", "bought", "days", one))
    return graph("buys-again", nodes, weights, len(FEATURES))


def table(score: np.ndarray, table: Table) -> None:
    """How many come back of those who bought once, twice, …, and how many were said to."""
    days, again = table.numbers(["purchase-days@1"])[:, 0], table.outcome("bought-again")
    print(f"\n{'days with a purchase':<22}{'customers':>10}{'said':>8}{'came':>8}")
    for low, high, name in [(1, 1, "1"), (2, 2, "2"), (3, 3, "3"), (4, 5, "4 to 5"), (6, 9, "6 to 9"), (10, 9_999, "10 and more")]:
        here = (days >= low) & (days <= high)
        print(f"{name:<22}{here.sum():>10}{score[here].mean():>8.4f}{again[here].mean():>8.4f}")


def main() -> None:
    said = arguments(__doc__, HERE.parent, "cdnow", version=2)
    days, split = tenth_and_others(said.data, said.gloaming)

    def told(rows: Table) -> Table:
        again = ["1" if any(KNOWN < day <= TOLD for day in days[who]) else "0" for who in rows.column("device")]
        return Table({**rows.columns, "bought-again": again})

    split = Split(split.by, told(split.train), told(split.test), split.trained, split.tested)
    x = split.train.numbers(FEATURES)
    parameters, likelihood = fit(*weeks(x))
    exported, test = export(parameters), split.test.numbers(FEATURES)
    score, again = scorer(exported)(test), split.test.outcome("bought-again")
    apart = np.abs(score - probability(parameters, *weeks(test))).max()
    print(f"the graph is within {apart:.1e} of the formula on {len(test)} customers, {again.sum()} of whom bought again")
    if apart > 1e-5:
        sys.exit("error: the graph computes something else")
    table(score, split.test)
    beside = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, split.train.outcome("bought-again"))
    print(f"\nAUC {roc_auc_score(again, score):.4f}, without having seen one outcome; a logistic regression that was "
          f"shown those of the tenth: {roc_auc_score(again, beside.predict_proba(test)[:, 1]):.4f}")
    forgetful, gone = where_browsers_forget(days, split.test, said.gloaming)
    lost = forgetting(scorer(exported)(forgetful.numbers(FEATURES)), again, forgetful.numbers([SEEN])[:, 0] > 0, forgetful, gone)
    split = Split(split.by, split.train, split.test, split.trained, split.tested + noted(lost))
    print()
    printed = hand_in(
        exported, x, name="buys-again", version=said.version, features=FEATURES,
        meaning="probability that who bought on this device before buys again within 39 weeks",
        owner="models@gloaming.example", next_review="2027-06-01", out=said.out,
        training=TRAINING | {
            "method": "BG/NBD by maximum likelihood", "parameters": {k: round(v, 6) for k, v in parameters.items()},
            "log_likelihood": round(likelihood, 4), "split": split.by, "trained": split.trained, "tested": split.tested,
            "rows": {"train": len(split.train), "test": len(split.test)}, "where_browsers_forget": lost,
        },
        more={
            "licence": "CC0-1.0",
            "intended_use": "To tell shops how many of those who bought are likely to return, in counts; to greet somebody who may have gone.",
            "not_for": "Prices, credit, or anything that a person could not undo. It says nothing of people who never bought, and "
                       "less where browsers forget: it then takes a customer for a new one.",
        },
        gloaming=said.gloaming,
    )
    printed += evaluate(
        said.out, split, features=FEATURES, outcome="bought-again", gloaming=said.gloaming,
        no_group="The log of CDNOW says nothing of the people behind the purchases: there is no attribute to compare by.",
    )
    printed += run(said.gloaming, "model", "card", str(said.out / "manifest.json"), "--out", str(said.out / "card.md"))
    print(printed)


if __name__ == "__main__":
    main()
