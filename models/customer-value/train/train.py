#!/usr/bin/env python3
"""Who bought when, and for how much: will they be of the fifth that spends most in the next 39 weeks?

A logistic regression on logarithms of what a device remembers, learnt from a tenth of CDNOW's customers on ten evenings, four weeks
apart, so that it has met customers of every age; and told of all others, each on one of those evenings, by lot. Beside it, on the
last evening, without having seen one outcome: BG/NBD's expected purchases (Fader, Hardie and Lee, Marketing Science 24(2), 2005)
times Gamma-Gamma's expected worth of one (the same authors, Journal of Marketing Research 42(4), 2005), both by maximum
likelihood and held to what was published. What the model takes is computed by `gloaming model rows`, the code that devices run.
"""

from __future__ import annotations

import sys
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper
from scipy.special import gammaln, hyp2f1
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1] / "kit"), str(HERE.parents[1] / "buys-again" / "train")]
from cdnow import (  # noqa: E402
    KNOWN, SEEN, TRAINING, WEEKS, Days, fit, forgetting, likeliest, noted, tenth_and_others, weeks, where_browsers_forget,
)
from gloaming_kit import Split, Table, arguments, evaluate, graph, hand_in, run, scorer  # noqa: E402

FEATURES = ["purchase-days@1", "purchase-span@1", "purchase-age@1", "purchase-spent@1"]
OUTCOME, BEST, SEED = "of-the-best-fifth", 0.8, 20261128
#: Evenings on which devices are asked: the last known day, and every four weeks before it.
EVENINGS = [KNOWN - timedelta(weeks=4 * back) for back in range(10)]
#: Of 946 customers who came back: p, q and gamma of Fader, Hardie and Lee (2005), and how near one has to come.
PUBLISHED = {"p": 6.25, "q": 3.74, "gamma": 15.44}


def day_of(at_ms: str) -> date:
    return datetime.fromtimestamp(int(at_ms) / 1000, timezone.utc).date()


def spent(days: dict[date, float], after: date) -> float:
    """In the weeks after a day."""
    return sum(worth for day, worth in days.items() if after < day <= after + timedelta(weeks=WEEKS))


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

    return likeliest(unlikely, PUBLISHED, 0.006, f"{len(x)} customers who came back")


def expected(p: dict[str, float], g: dict[str, float], known: tuple, worth: np.ndarray) -> np.ndarray:
    """Purchases in the weeks ahead (2005, equation 10) times what one is worth."""
    x, last, age = known
    r, alpha, a, b = p.values()
    series = hyp2f1(r + x, b + x, a + b + x - 1, WEEKS / (alpha + age + WEEKS))
    count = (a + b + x - 1) / (a - 1) * (1 - ((alpha + age) / (alpha + age + WEEKS)) ** (r + x) * series)
    count /= 1 + np.minimum(x, 1) * a / (b + np.maximum(x, 1) - 1) * ((alpha + age) / (alpha + last)) ** (r + x)
    return count * g["p"] * (g["gamma"] + x * worth) / (g["p"] * x + g["q"] - 1)


def export(model: object) -> bytes:
    """Logarithms, the scale, and the sum as a graph; 0 for a device on which nothing was bought, of which the model knows nothing."""
    scale, last = model[0], model[1]

    def tensor(name: str, values: np.ndarray) -> object:
        return helper.make_tensor(name, TensorProto.FLOAT, values.shape, values.astype(np.float32).ravel())

    weights = [
        tensor("one", np.ones((1, 1))), tensor("mean", scale.mean_[None]), tensor("spread", scale.scale_[None]),
        tensor("weights", last.coef_.T), tensor("level", last.intercept_[None]),
        *(helper.make_tensor(f"days_{name}", TensorProto.INT64, [1], [at]) for name, at in (("from", 0), ("to", 1), ("axis", 1))),
    ]
    nodes = [
        helper.make_node("Add", ["features", "one"], ["more"]), helper.make_node("Log", ["more"], ["logs"]),
        helper.make_node("Sub", ["logs", "mean"], ["centred"]), helper.make_node("Div", ["centred", "spread"], ["z"]),
        helper.make_node("Gemm", ["z", "weights", "level"], ["odds"]), helper.make_node("Sigmoid", ["odds"], ["of_buyers"]),
        helper.make_node("Slice", ["features", "days_from", "days_to", "days_axis"], ["days"]), helper.make_node("Min", ["days", "one"], ["bought"]),
        helper.make_node("Mul", ["of_buyers", "bought"], ["probability"]),
    ]
    return graph("customer-value", nodes, weights, len(FEATURES))


def fifths(score: np.ndarray, later: np.ndarray) -> None:
    """What customers spent later, by fifths of their score."""
    print(f"\n{'by score':<14}{'customers':>10}{'spent later':>13}{'of all that was':>17}")
    for at, part in enumerate(np.array_split(np.argsort(score, kind="stable"), 5)):
        name = ["least fifth", "second", "third", "fourth", "best fifth"][at]
        print(f"{name:<14}{len(part):>10}{later[part].mean():>13.2f}{later[part].sum() / later.sum():>17.4f}")


def ages(score: np.ndarray, rows: Table) -> None:
    """How many of the best fifth there are by age of a customer, and how many were said to be."""
    age, best = rows.numbers(["purchase-age@1"])[:, 0], rows.outcome(OUTCOME)
    print(f"\n{'days since the first purchase':<31}{'customers':>10}{'said':>8}{'came':>8}")
    for low, high in [(0, 6), (7, 27), (28, 83), (84, 167), (168, 272)]:
        here = (age >= low) & (age <= high)
        print(f"{f'{low} to {high}':<31}{here.sum():>10}{score[here].mean():>8.4f}{best[here].mean():>8.4f}")


def main() -> None:
    said = arguments(__doc__, HERE.parent, "cdnow", version=2)
    days, apart = tenth_and_others(said.data, said.gloaming, EVENINGS)
    threshold = float(np.quantile([spent(days[who], KNOWN) for who in set(apart.train.column("device"))], BEST))

    def later(rows: Table) -> list[float]:
        """What each was spending in the weeks after its evening."""
        return [spent(days[who], day_of(at)) for who, at in zip(rows.column("device"), rows.column("started_ms"))]

    def told(rows: Table) -> Table:
        """Of those who had bought by then."""
        bought = rows.where(rows.numbers(["purchase-days@1"])[:, 0] > 0)
        return Table({**bought.columns, OUTCOME: [str(int(worth > threshold)) for worth in later(bought)]})

    def on_last_evening(rows: Table) -> Table:
        return rows.where(np.asarray([day_of(at) == KNOWN for at in rows.column("started_ms")]))

    def once(rows: Table) -> Table:
        """One row of each customer, by lot: rows of one person are no evidence of many."""
        order = np.random.default_rng(SEED).permutation(len(rows))
        who, first = np.asarray(rows.column("device")), {}
        for at in order:
            first.setdefault(who[at], at)
        keep = np.zeros(len(rows), dtype=bool)
        keep[list(first.values())] = True
        return rows.where(keep)

    # Both parts are told of the same weeks, so that they are apart by customer and not by time.
    others = told(apart.test)
    split = Split(
        "group", told(apart.train), once(others),
        f"CDNOW, a tenth of the customers on {len(EVENINGS)} evenings to {KNOWN}, and the {WEEKS} weeks after each",
        f"CDNOW, all other customers, each on one of those evenings, and the {WEEKS} weeks after",
    )
    x, y = split.train.numbers(FEATURES), split.train.outcome(OUTCOME)
    print(f"the best fifth of the tenth spent more than {threshold:.2f} in the {WEEKS} weeks after {KNOWN}")
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(np.log1p(x.astype(np.float64)), y)
    exported, test = export(model), split.test.numbers(FEATURES)
    run_exported = scorer(exported)
    score, best = run_exported(test), split.test.outcome(OUTCOME)
    off = np.abs(score - model.predict_proba(np.log1p(test.astype(np.float64)))[:, 1]).max()
    print(f"the graph is within {off:.1e} of the regression on {len(test)} customers, {best.sum()} of whom spent more than that")
    if off > 1e-5:
        sys.exit("error: the graph computes something else")
    fifths(score, np.asarray(later(split.test)))
    ages(score, split.test)
    if run_exported(np.zeros((1, len(FEATURES)), dtype=np.float32))[0] != 0:
        sys.exit("error: who never bought has a score")

    print()
    known, others = on_last_evening(split.train), on_last_evening(others)
    was, then = known.numbers(FEATURES), others.numbers(FEATURES)
    bg, _ = fit(*weeks(was))
    repeats, worth = weeks(was)[0], worths(days, known.column("device"))
    gg, likelihood = gamma_gamma(repeats[repeats > 0], worth[repeats > 0])
    by_model = expected(bg, gg, weeks(then), worths(days, others.column("device")))
    on_last, best_then = run_exported(then), others.outcome(OUTCOME)
    print(f"\nAUC {roc_auc_score(best, score):.4f}; on {KNOWN} alone {roc_auc_score(best_then, on_last):.4f}, and of what BG/NBD and "
          f"Gamma-Gamma expect then, without an outcome: {roc_auc_score(best_then, by_model):.4f}\n")
    forgetful, gone = where_browsers_forget(days, split.test, said.gloaming)
    lost = forgetting(run_exported(forgetful.numbers(FEATURES)), best, forgetful.numbers([SEEN])[:, 0] > threshold, forgetful, gone)
    split = Split(split.by, split.train, split.test, split.trained, split.tested + noted(lost))
    print()
    # Most who visit never bought: the manifest's rows hold such a device too.
    seen = np.vstack([x, np.zeros((len(x) // 50, len(FEATURES)), dtype=np.float32)])
    printed = hand_in(
        exported, seen, name="customer-value", version=said.version, features=FEATURES,
        meaning=f"probability that who bought on this device before spends more than {threshold:.2f} in the next 39 weeks, as the best fifth does",
        owner="models@gloaming.example", next_review="2027-06-01", out=said.out,
        training=TRAINING | {
            "method": "logistic regression on logarithms", "split": split.by, "trained": split.trained, "tested": split.tested,
            "threshold": round(threshold, 2), "rows": {"train": len(split.train), "test": len(split.test)},
            "gamma_gamma": {k: round(v, 4) for k, v in gg.items()}, "gamma_gamma_log_likelihood": round(likelihood, 4),
            "where_browsers_forget": lost,
        },
        more={
            "licence": "CC0-1.0",
            "intended_use": "To tell shops in counts how many of those who visit are likely to spend much; to plan stock and service by.",
            "not_for": "Prices, credit, or worse service for anybody. It gives 0 to people who never bought, of whom it knows nothing, tells less where browsers "
                       "forget, has met no customer of more than 272 days, and its sums are those of one shop in 1998: learn it again from your own purchases.",
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
