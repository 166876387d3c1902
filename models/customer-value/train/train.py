#!/usr/bin/env python3
"""Who bought when, and for how much: will they be of the fifth that spends most in the next 39 weeks?

A logistic regression on logarithms of what a device remembers, learnt from a tenth of CDNOW's customers and told of all
others. Beside it, without having seen one outcome: BG/NBD's expected purchases (Fader, Hardie and Lee, Marketing Science
24(2), 2005) times Gamma-Gamma's expected worth of one (the same authors, Journal of Marketing Research 42(4), 2005), both by
maximum likelihood and held to what was published. What the model takes is computed by `gloaming model rows`, the code that
devices run.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from onnx import TensorProto, checker, helper
from scipy.optimize import minimize
from scipy.special import gammaln, hyp2f1
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1] / "kit"), str(HERE.parents[1] / "buys-again" / "train")]
from cdnow import KNOWN, TOLD, TRAINING, WEEKS, Days, fit, tenth_and_others, weeks  # noqa: E402
from gloaming_kit import Split, Table, evaluate, hand_in, run, scorer  # noqa: E402

FEATURES = ["purchase-days@1", "purchase-span@1", "purchase-age@1", "purchase-spent@1"]
OUTCOME, BEST = "of-the-best-fifth", 0.8
#: Of 946 customers who came back: p, q and gamma of Fader, Hardie and Lee (2005), and how near one has to come.
PUBLISHED = {"p": 6.25, "q": 3.74, "gamma": 15.44}


def spent(days: dict, after: object, until: object) -> float:
    return sum(worth for day, worth in days.items() if after < day <= until)


def worths(days: Days, names: list[str]) -> np.ndarray:
    """What each customer's purchases after the first were worth on average, as far as they are known; 0 without one."""
    again = ([worth for day, worth in days[who].items() if day <= KNOWN][1:] for who in names)
    return np.asarray([sum(of) / len(of) if of else 0.0 for of in again])


def gamma_gamma(x: np.ndarray, worth: np.ndarray) -> tuple[dict[str, float], float]:
    """Of customers with x repeat purchases that were worth so much on average."""
    def unlikely(parameters: np.ndarray) -> float:
        p, q, gamma = np.exp(parameters)
        return -float(np.sum(
            gammaln(p * x + q) - gammaln(p * x) - gammaln(q) + q * np.log(gamma) + (p * x - 1) * np.log(worth)
            + p * x * np.log(x) - (p * x + q) * np.log(gamma + x * worth)
        ))

    found = minimize(unlikely, np.zeros(3), method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-10, "maxiter": 20_000, "maxfev": 20_000})
    parameters = dict(zip(PUBLISHED, np.exp(found.x)))
    told = ", ".join(f"{name} {value:.4f}" for name, value in parameters.items())
    print(f"{len(x)} customers who came back: {told}; log-likelihood {-found.fun:.4f}")
    for name, value in PUBLISHED.items():
        if abs(parameters[name] - value) > 0.006:
            sys.exit(f"error: {name} is {parameters[name]:.4f}, and was published as {value}")
    return parameters, -found.fun


def expected(p: dict[str, float], g: dict[str, float], known: tuple, worth: np.ndarray) -> np.ndarray:
    """Purchases in the weeks ahead (2005, equation 10) times what one is worth."""
    x, last, age = known
    r, alpha, a, b = p.values()
    series = hyp2f1(r + x, b + x, a + b + x - 1, WEEKS / (alpha + age + WEEKS))
    count = (a + b + x - 1) / (a - 1) * (1 - ((alpha + age) / (alpha + age + WEEKS)) ** (r + x) * series)
    count /= 1 + np.minimum(x, 1) * a / (b + np.maximum(x, 1) - 1) * ((alpha + age) / (alpha + last)) ** (r + x)
    return count * g["p"] * (g["gamma"] + x * worth) / (g["p"] * x + g["q"] - 1)


def export(model: object) -> bytes:
    """Logarithms, the scale, and the sum as a graph."""
    scale, last = model[0], model[1]

    def tensor(name: str, values: np.ndarray) -> object:
        return helper.make_tensor(name, TensorProto.FLOAT, values.shape, values.astype(np.float32).ravel())

    weights = [
        tensor("one", np.ones((1, 1))), tensor("mean", scale.mean_[None]), tensor("spread", scale.scale_[None]),
        tensor("weights", last.coef_.T), tensor("level", last.intercept_[None]),
    ]
    nodes = [
        helper.make_node("Add", ["features", "one"], ["more"]), helper.make_node("Log", ["more"], ["logs"]),
        helper.make_node("Sub", ["logs", "mean"], ["centred"]), helper.make_node("Div", ["centred", "spread"], ["z"]),
        helper.make_node("Gemm", ["z", "weights", "level"], ["odds"]), helper.make_node("Sigmoid", ["odds"], ["probability"]),
    ]
    given = helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, len(FEATURES)])
    told = helper.make_tensor_value_info("probability", TensorProto.FLOAT, [None, 1])
    graph = helper.make_graph(nodes, "customer-value", [given], [told], weights)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="gloaming")
    checker.check_model(proto, full_check=True)
    return proto.SerializeToString(deterministic=True)


def fifths(score: np.ndarray, later: np.ndarray) -> None:
    """What customers spent later, by fifths of their score."""
    print(f"\n{'by score':<14}{'customers':>10}{'spent later':>13}{'of all that was':>17}")
    for at, part in enumerate(np.array_split(np.argsort(score, kind="stable"), 5)):
        name = ["least fifth", "second", "third", "fourth", "best fifth"][at]
        print(f"{name:<14}{len(part):>10}{later[part].mean():>13.2f}{later[part].sum() / later.sum():>17.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path, help="the folder that holds `cdnow`")
    parser.add_argument("--gloaming", default="gloaming", help="the command")
    parser.add_argument("--out", type=Path, default=HERE.parent, help="where the model goes; the folder above")
    parser.add_argument("--version", type=int, default=1, help="has to be above that of the model that is there")
    said = parser.parse_args()
    days, apart, inside = tenth_and_others(said.data, said.gloaming)
    later = {who: spent(of, KNOWN, TOLD) for who, of in days.items()}
    threshold = float(np.quantile([later[who] for who in apart.train.column("device")], BEST))

    def told(rows: Table) -> Table:
        return Table({**rows.columns, OUTCOME: [str(int(later[who] > threshold)) for who in rows.column("device")]})

    # Both parts are told of the same weeks, so that they are apart by customer and not by time.
    split = Split(
        "group", told(apart.train), told(apart.test), f"CDNOW, a tenth of the customers, {KNOWN} and {TOLD}",
        f"CDNOW, all other customers, {KNOWN} to {TOLD}",
    )
    x, y = split.train.numbers(FEATURES), split.train.outcome(OUTCOME)
    print(f"the best fifth of the tenth spent more than {threshold:.2f} in the 39 weeks after {KNOWN}")
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(np.log1p(x.astype(np.float64)), y)
    exported, test = export(model), split.test.numbers(FEATURES)
    score, best = scorer(exported)(test), split.test.outcome(OUTCOME)
    off = np.abs(score - model.predict_proba(np.log1p(test.astype(np.float64)))[:, 1]).max()
    print(f"the graph is within {off:.1e} of the regression on {len(test)} customers, {best.sum()} of whom spent more than that")
    if off > 1e-5:
        sys.exit("error: the graph computes something else")
    fifths(score, np.asarray([later[who] for who in split.test.column("device")]))

    print()
    bg, _ = fit(*weeks(x))
    repeats, worth = weeks(x)[0], worths(days, split.train.column("device"))
    gg, likelihood = gamma_gamma(repeats[repeats > 0], worth[repeats > 0])
    by_model = expected(bg, gg, weeks(test), worths(days, split.test.column("device")))
    print(f"\nAUC {roc_auc_score(best, score):.4f}; of what BG/NBD and Gamma-Gamma expect, without an outcome: {roc_auc_score(best, by_model):.4f}\n")
    printed = hand_in(
        exported, x, name="customer-value", version=said.version, features=FEATURES,
        meaning=f"probability that who bought on this device before is of the fifth that spends most in 39 weeks (more than {threshold:.2f})",
        owner="models@gloaming.example", next_review="2027-06-01", out=said.out,
        training=TRAINING | {
            "method": "logistic regression on logarithms", "split": split.by, "trained": split.trained, "tested": split.tested,
            "threshold": round(threshold, 2), "rows": {"train": len(split.train), "test": len(split.test)},
            "gamma_gamma": {k: round(v, 4) for k, v in gg.items()}, "gamma_gamma_log_likelihood": round(likelihood, 4),
        },
        more={
            "licence": "CC0-1.0",
            "intended_use": "To tell shops in counts how many of those who visit are likely to spend much; to plan stock and service by.",
            "not_for": "Prices, credit, or worse service for anybody. It says nothing of people who never bought, less where browsers "
                       "forget, and the sums are those of one shop in 1998: learn it again from your own purchases.",
        },
        gloaming=said.gloaming,
    )
    printed += evaluate(
        said.out, split, features=FEATURES, outcome=OUTCOME, gloaming=said.gloaming,
        no_group="The log of CDNOW says nothing of the people behind the purchases: there is no attribute to compare by.",
    )
    printed += run(said.gloaming, "model", "card", str(said.out / "manifest.json"), "--out", str(said.out / "card.md"))
    print(printed)


if __name__ == "__main__":
    main()
