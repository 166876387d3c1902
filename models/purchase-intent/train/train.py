#!/usr/bin/env python3
"""Will this visit end in a purchase? Learnt from Online Shoppers, from visits as they may have stood at page 1, 2, 3, 5, 8, 13, 21.

Fitted to prefixes of sessions of February to September, chosen and recalibrated on those of October, told of November: whole visits,
which are the evidence, and page by page beside version 1, which had learnt from whole visits. What the drawing of prefixes assumes
is measured on MSNBC, where the order of pages is known.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"  # Sums in one order give the same bytes.

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.model_selection import GroupKFold

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1] / "kit"), str(HERE)]
from candidates import SEED, Array, Model, candidates  # noqa: E402
from gloaming_kit import Split, Table, arguments, evaluate, graph, hand_in, run, scorer  # noqa: E402
from order import measured  # noqa: E402
from prefixes import DRAWS, NOTE, PAGES, Prefixes, auc, brier, curve, prefixes, printed  # noqa: E402
from shoppers import FEATURES as COUNTED, FLAGS, LATER, TRAINING, Shoppers, table_of  # noqa: E402

FEATURES = [*COUNTED, *FLAGS]
PAGE_COLUMNS = [at for at, name in enumerate(FEATURES) if name.startswith("pages-")]
TIME_COLUMNS = [at for at, name in enumerate(FEATURES) if name.startswith("time-")]
#: The model before, with which this one is compared, and what its manifest said of its bytes.
BEFORE, BEFORE_SHA256 = HERE / "version-1.onnx", "e919e84235981f24a81272c342df5d0ef4c75fa877e6617afd32a4088f17c064"
TOLERANCE = 1e-6
#: As the data call them, in their order; those that are learnt from and that of the choice.
MONTHS = ["Feb", "Mar", "May", "June", "Jul", "Aug", "Sep", "Oct"]


def weighted(y: Array, p: Array, weight: Array) -> tuple[float, float]:
    """Average precision, and the Brier score, each session counting once."""
    return float(average_precision_score(y, p, sample_weight=weight)), float(np.average((y - p) ** 2, weights=weight))


def platt(z: Array, y: Array, weight: Array) -> tuple[float, float]:
    """Slope and intercept of an (all but) unpenalised logistic fit of y on log-odds z."""
    fit = LogisticRegression(C=1e6, tol=1e-10, max_iter=10_000).fit(z[:, None], y, weight)
    return float(fit.coef_[0, 0]), float(fit.intercept_[0])


def cross_platt(z: Array, y: Array, of: Prefixes) -> Array:
    """Probabilities, each recalibrated by a fit that saw no prefix of its session."""
    p = np.empty(len(y))
    folds = GroupKFold(5, shuffle=True, random_state=SEED).split(z[:, None], y, of.session)
    for fit, held in folds:
        slope, intercept = platt(z[fit], y[fit], of.weight[fit])
        p[held] = expit(slope * z[held] + intercept)
    return p


def ece(y: Array, p: Array, bins: int = 20) -> float:
    """Mean |observed - predicted| over bins of equal mass, weighted by rows."""
    cut = np.array_split(np.argsort(p, kind="stable"), bins)
    return float(sum(abs(y[i].sum() - p[i].sum()) for i in cut) / len(y))


def choose(learnt: Prefixes, y: Array, on: Prefixes, chosen_on: Array) -> tuple[Model, dict]:
    """The candidate that ranks October's prefixes best: average precision to three decimals, ties by Brier."""
    weight, (of, to) = learnt.weight, (y[learnt.session], chosen_on[on.session])
    ranked, rows = [], []
    for model in candidates(learnt.x, of, weight):
        z = model.log_odds(on.x)
        precision, error = weighted(to, expit(z), on.weight)
        ranked.append((-round(precision, 3), error, len(ranked), model))
        rows.append([model.name, *(round(value, 4) for value in (auc(to, z), precision, error))])
    table = {"columns": ["candidate", "AUC", "average precision", "Brier"], "rows": rows}
    printed("Candidates on October's prefixes, before recalibration", table)
    return min(ranked)[3], table


def recalibrated(model: Model, on: Prefixes, bought: Array) -> tuple[float, float, dict]:
    """Slope and intercept from October, taken where they lower the Brier score of sessions that they were not fitted to."""
    y, z = bought[on.session], model.log_odds(on.x)
    before, crossed = (weighted(y, p, on.weight)[1] for p in (expit(z), cross_platt(z, y, on)))
    level = float(np.average(y, weights=on.weight))
    slope, intercept = platt(z, y, on.weight) if crossed < before else (1.0, 0.0)
    print(f"\nchosen: {model.name}; October's Brier {before:.4f}, recalibrated in five folds {crossed:.4f}, "
          f"always October's rate {level * (1 - level):.4f}; used: log-odds x {slope:.4f} {intercept:+.4f}")
    said = {"slope": slope, "intercept": intercept, "brier": before, "brier_in_folds": crossed, "brier_of_octobers_rate": level * (1 - level)}
    return slope, intercept, {name: round(value, 4) for name, value in said.items()}


def drift(x: Array, y: Array, months: Array) -> dict:
    """How far one plain input separates buyers, month by month."""
    rows = []
    for month in MONTHS:
        here = months == month
        rows.append([month, int(here.sum()), *(round(float(v), 4) for v in (y[here].mean(), auc(y[here], x[here, FEATURES.index("pages-product@1")])))])
    return {"columns": ["month", "sessions", "bought", "AUC of pages-product alone"], "rows": rows}


def whole(x: Array, y: Array, now: Array, before: Array) -> dict:
    """Both versions on November's whole visits, and this one by flag."""
    rows = []
    flags = [(name, x[:, FEATURES.index(name)] == value, value) for name in FLAGS for value in (1, 0)]
    for name, here, p in [("version 1, all", np.ones(len(y), bool), before), ("all", np.ones(len(y), bool), now),
                          *((f"{flag} is {value}", here, now) for flag, here, value in flags)]:
        of, to = p[here], y[here]
        values = (auc(to, of), average_precision_score(to, of), brier(to, of), ece(to, of), of.mean(), to.mean())
        rows.append([name, int(here.sum()), *(round(float(value), 4) for value in values)])
    return {"columns": ["whole visits of November", "sessions", "AUC", "average precision", "Brier", "error in 20 bins", "mean score", "bought"], "rows": rows}


def version_1() -> Callable[[Array], Array]:
    """What the version before says of rows; its graph takes one at a time."""
    exported = BEFORE.read_bytes()
    if hashlib.sha256(exported).hexdigest() != BEFORE_SHA256:
        sys.exit(f"error: {BEFORE} is not version 1")
    score = scorer(exported)
    return lambda rows: np.concatenate([score(row[None]) for row in rows]).astype(np.float64)


def main() -> None:
    said = arguments(__doc__, HERE.parent, "online_shoppers` and `msnbc", version=2)
    data = Shoppers(table_of(said.data))
    x, y = np.column_stack([data.x, data.flags]), data.bought.astype(int)
    parts = {"train": ~np.isin(data.months, LATER), "choose": data.months == "Oct", "report": data.months == "Nov"}
    drawn = {name: prefixes(x[here], PAGE_COLUMNS, TIME_COLUMNS, SEED + at) for at, (name, here) in enumerate(parts.items())}
    for name, here in parts.items():
        print(f"{name:<8}{here.sum():>6} sessions, {y[here].sum():>4} bought; {len(drawn[name].x):>6} prefixes of those with a page, {DRAWS} draws")
    months = drift(x[~parts["report"]], y[~parts["report"]], data.months[~parts["report"]])
    printed("What one plain input says, month by month", months)

    model, tried = choose(drawn["train"], y[parts["train"]], drawn["choose"], y[parts["choose"]])
    slope, intercept, put_right = recalibrated(model, drawn["choose"], y[parts["choose"]])
    exported = graph("purchase-intent", *model.graph(slope, intercept), len(FEATURES))
    score, score_before = scorer(exported), version_1()
    later, bought = x[parts["report"]], y[parts["report"]]
    told, now = drawn["report"], score(drawn["report"].x)
    apart = np.abs(expit(slope * model.log_odds(told.x) + intercept) - now).max()
    print(f"the graph is within {apart:.1e} of double precision on {len(now)} prefixes")
    if not apart <= TOLERANCE:
        sys.exit("error: the graph computes something else")

    all_visits = whole(later, bought, score(later).astype(np.float64), score_before(later))
    printed("November, as the models were exported", all_visits)
    ways = curve(told, bought, now.astype(np.float64), score_before(told.x))
    printed(f"November, page by page ({NOTE})", ways)
    order = measured(said.data / "msnbc" / "MSNBC.seq", model.again)
    printed("MSNBC, where the order is known: the same kind of model on drawn prefixes and on true ones", order)
    print()

    def table(here: Array) -> Table:
        columns = {name: [f"{value:.9g}" for value in x[here, at]] for at, name in enumerate(FEATURES)}
        return Table({**columns, "purchase": [str(value) for value in y[here]]})

    split = Split(
        "time", table(parts["train"]), table(parts["report"]),
        "Online Shoppers, prefixes of sessions of February to September; recalibrated on October's", "Online Shoppers, whole visits of November",
    )
    printed_by = hand_in(
        # Devices count the last score of a visit: bins of equal mass are those of whole visits.
        exported, x[parts["train"]], name="purchase-intent", version=said.version, features=FEATURES,
        meaning="probability that this session ends in a purchase", owner="Gloaming maintainers", next_review="2027-05-24", out=said.out,
        training=TRAINING | {
            "method": f"{model.name}, on log(1 + x), learnt from prefixes of {', '.join(map(str, PAGES))} pages, each session counting once",
            "split": "time", "trained": split.trained, "chosen": "October's prefixes", "tested": split.tested,
            "rows": {name: int(here.sum()) for name, here in parts.items()}, "positives": {name: int(y[here].sum()) for name, here in parts.items()},
            "recalibration": put_right, "candidates": tried, "drift": months, "whole_visits": all_visits,
            "curve_is": f"AUC at page k in November, no evidence for the gate: {NOTE}. Intervals are over sessions and draws.",
            "curve": ways,
            "order_is": "What drawing assumes, measured on MSNBC (evaluated only; doi:10.24432/C5390X), where the order is known: the same kind of model, "
                        "learnt from drawn prefixes of four fifths of the visits, told of the others' drawn prefixes and of their true ones. "
                        "The last three columns leave out visits that had come to the outcome already.",
            "order": order,
            "limits": "One shop of 2018, other pages and habits than yours. What inputs say about buying moved from month to month. Times are gaps between "
                      "page views, and here engaged time. A higher input can lower the score. PageValues (computed from later purchases), bounce and exit "
                      "rates (of the site, not of a device) and the month are not used.",
        },
        more={
            "licence": "Apache-2.0 OR MIT",
            "intended_use": "A coarse bin of purchase intent, on the visitor's device, in shadow: its bins can be held against the outcome that the device sees, "
                            "which measures it on the site at hand.",
            "not_for": "Prices, credit, eligibility, stock or access to anything; singling out people; pressure such as false scarcity; "
                       "personalising before evidence of the site's own and an experiment support it.",
        },
        gloaming=said.gloaming,
    )
    printed_by += evaluate(
        said.out, split, features=FEATURES, outcome="purchase", gloaming=said.gloaming,
        no_group="The sessions of Online Shoppers say nothing of the people behind them: there is no age, gender or disability to compare by.",
    )
    printed_by += run(said.gloaming, "model", "card", str(said.out / "manifest.json"), "--out", str(said.out / "card.md"))
    print(printed_by)


if __name__ == "__main__":
    main()
