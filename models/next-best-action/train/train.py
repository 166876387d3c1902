#!/usr/bin/env python3
"""Which kind of goods should a visitor see first? Learnt from clicks of Open Bandit's men's campaign, shown at random.

Mean clicks by part of the day, weekend and kind of goods, drawn towards those of the kind, and these towards all: with two
clicks in a cell nothing else can be told. What it would have earned is estimated from the last three days of the same log,
of which nothing was learnt, doubly robust: `gloaming model evaluate --logged`.
"""

from __future__ import annotations

import csv
import io
import sys
import tarfile
import tempfile
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "kit"))
from gloaming_kit import arguments, graph, hand_in, run, scorer  # noqa: E402

FEATURES = ["daypart@1", "weekend@1"]
#: Cells: four parts of the day by two kinds of day.
CELLS = 8
#: Rows that a cell's mean is drawn to its kind's by, and a kind's to the mean of all.
OF_CELL, OF_KIND = 400.0, 200.0
#: Shops are where the log was made.
LOCAL = timezone(timedelta(hours=9))
#: Days that are learnt from; the rest is reported on.
DAYS = 4


class Log:
    """What was shown to whom at which moment, and whether it was clicked."""

    def __init__(self, archive: Path) -> None:
        with tarfile.open(archive) as packed:
            def rows(name: str) -> list[dict[str, str]]:
                return list(csv.DictReader(io.TextIOWrapper(packed.extractfile(f"obd/random/men/{name}"), "utf-8")))

            kind_of = {row["item_id"]: row["item_feature_1"] for row in rows("item_context.csv")}
            shown = rows("men.csv")
        held = list(kind_of.values())
        #: Kinds of goods, those with most goods first; Open Bandit hides their names.
        kinds = sorted(set(held), key=lambda kind: (-held.count(kind), kind))
        self.names = [f"goods-{at}" for at in range(1, len(kinds) + 1)]
        at = [datetime.fromisoformat(row["timestamp"]).astimezone(LOCAL) for row in shown]
        self.x = np.array([[moment.hour // 6, moment.weekday() >= 5] for moment in at], dtype=np.float32)
        self.day = np.array([moment.toordinal() for moment in at])
        self.action = np.array([kinds.index(kind_of[row["item_id"]]) for row in shown])
        self.clicked = np.array([float(row["click"]) for row in shown])
        # Every one of the goods was as likely, so a kind is as likely as it has goods.
        self.propensity = np.array([held.count(kind) / len(held) for kind in kinds])[self.action]

    def cells(self) -> np.ndarray:
        return (2 * self.x[:, 0] + self.x[:, 1]).astype(int)


def expected(log: Log, learnt: np.ndarray) -> np.ndarray:
    """Clicks that each kind is expected to earn, [cells, kinds]."""
    clicks, shown = np.zeros((CELLS, len(log.names))), np.zeros((CELLS, len(log.names)))
    where = (log.cells()[learnt], log.action[learnt])
    np.add.at(clicks, where, log.clicked[learnt])
    np.add.at(shown, where, 1)
    mean = clicks.sum() / shown.sum()
    of_kind = (clicks.sum(0) + OF_KIND * mean) / (shown.sum(0) + OF_KIND)
    return (clicks + OF_CELL * of_kind) / (shown + OF_CELL)


def export(values: np.ndarray) -> bytes:
    """The place of the kind that is worth most in the visit's cell, as a score."""
    def tensor(name: str, held: np.ndarray) -> object:
        return helper.make_tensor(name, TensorProto.FLOAT, held.shape, held.astype(np.float32).ravel())

    kinds = values.shape[1]
    weights = [
        tensor("number", np.array([[2.0], [1.0]])), tensor("least", np.zeros(())), tensor("most", np.full((), CELLS - 1.0)),
        tensor("cells", np.arange(CELLS, dtype=np.float64)[None]), tensor("values", values),
        tensor("half", np.full((1, 1), 0.5)), tensor("kinds", np.full((1, 1), float(kinds))),
    ]
    nodes = [
        helper.make_node("MatMul", ["features", "number"], ["any"]), helper.make_node("Clip", ["any", "least", "most"], ["cell"]),
        helper.make_node("Equal", ["cell", "cells"], ["here"]), helper.make_node("Cast", ["here"], ["one"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["one", "values"], ["worth"]),
        helper.make_node("ArgMax", ["worth"], ["place"], axis=1, keepdims=1),
        helper.make_node("Cast", ["place"], ["chosen"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["chosen", "half"], ["middle"]), helper.make_node("Div", ["middle", "kinds"], ["kind"]),
    ]
    return graph("next-best-action", nodes, weights, len(FEATURES), "kind")


def write(path: Path, log: Log, tested: np.ndarray, values: np.ndarray) -> None:
    """The log as `gloaming model evaluate --logged` reads it."""
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*FEATURES, "action", "propensity", "clicks", *(f"expected:{name}" for name in log.names)])
        for row in np.flatnonzero(tested):
            writer.writerow([
                *(f"{value:.0f}" for value in log.x[row]), log.names[log.action[row]], repr(float(log.propensity[row])),
                f"{log.clicked[row]:.0f}", *(repr(float(value)) for value in values[log.cells()[row]]),
            ])


def main() -> None:
    said = arguments(__doc__, HERE.parent, "open_bandit")
    log = Log(said.data / "open_bandit" / "obd_small.tar.gz")
    days = np.unique(log.day)
    learnt = log.day < days[DAYS]
    values = expected(log, learnt)
    exported = export(values)
    chosen = np.floor(scorer(exported)(log.x) * len(log.names)).astype(int)
    if (chosen != values.argmax(1)[log.cells()]).any():
        sys.exit("error: the graph computes something else")
    print("expected clicks of a thousand, by part of the day and weekend; the kind that is chosen is marked")
    print(f"{'':<20}" + "".join(f"{name:>10}" for name in log.names))
    for cell, row in enumerate(values):
        name = f"{('night', 'morning', 'afternoon', 'evening')[cell // 2]}{', weekend' if cell % 2 else ''}"
        print(f"{name:<20}" + "".join(f"{1000 * value:>9.2f}{'*' if at == row.argmax() else ' '}" for at, value in enumerate(row)))
    print()
    print(hand_in(
        exported, log.x[learnt], name="next-best-action", version=said.version, features=FEATURES, kinds=log.names,
        meaning="kind of goods to show first; the log hides what the seven kinds are called",
        owner="models@gloaming.example", next_review="2027-06-01", out=said.out,
        training={
            "data": "Open Bandit Dataset, small version, men's campaign, goods shown at random",
            "citation": "Saito, Y. and others (2021). Open Bandit Dataset and Pipeline. NeurIPS Datasets and Benchmarks",
            "licence": "CC BY 4.0",
            "method": f"means by cell, drawn to the kind's by {OF_CELL:.0f} rows and to the mean of all by {OF_KIND:.0f}",
            "split": "time", "trained": f"the first {DAYS} days", "tested": f"the last {len(days) - DAYS} days",
            "rows": {"train": int(learnt.sum()), "test": int((~learnt).sum())},
            "clicks": {"train": int(log.clicked[learnt].sum()), "test": int(log.clicked[~learnt].sum())},
        },
        more={
            "licence": "CC BY 4.0",
            "intended_use": "To show how a choice among actions is learnt, valued from a log and held back by the gate.",
            "not_for": "Choosing goods: it was learnt from a handful of clicks, and what it gains cannot be told from nothing.",
        },
        gloaming=said.gloaming,
    ))
    # Rows of people: they lie nowhere for longer than they are needed.
    with tempfile.TemporaryDirectory() as work:
        rows = Path(work) / "last-days.csv"
        write(rows, log, ~learnt, values)
        print(run(
            said.gloaming, "model", "evaluate", str(said.out / "manifest.json"), "--logged", str(rows), "--reward", "clicks",
            "--split", "time", "--trained", f"the first {DAYS} days", "--tested", f"the last {len(days) - DAYS} days",
            "--no-group", "The log says nothing of the people behind the clicks: there is nothing to compare by.",
            "--out", str(said.out / "evidence"),
        ))
    print(run(said.gloaming, "model", "card", str(said.out / "manifest.json"), "--out", str(said.out / "card.md")))


if __name__ == "__main__":
    main()
