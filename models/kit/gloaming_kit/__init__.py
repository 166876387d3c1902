"""From a table of features to a model that Gloaming can bring.

The table comes from ``gloaming model rows``, so its numbers are those that devices compute. A split says how the rows that
are reported on were kept apart; the label goes into the evidence, and the gate takes no evidence from a random one.
"""

from __future__ import annotations

import csv
import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Sequence

import numpy as np
import onnxruntime
from skl2onnx import to_onnx

__all__ = ["Brought", "Split", "Table", "bring", "read", "split_at_random", "split_by_group", "split_by_source", "split_by_time"]

#: Reference rows in a manifest: the most extreme ones of each feature, and others drawn with a fixed seed.
REFERENCE = 64
#: Rows that explanations compare with.
BACKGROUND = 32
SEED = 20261127


@dataclass(frozen=True)
class Table:
    """Rows by column, as text; numbers are read where they are asked for."""

    columns: dict[str, list[str]]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), []))

    def column(self, name: str) -> list[str]:
        if name not in self.columns:
            raise KeyError(f"there is no column {name!r}; there are {', '.join(self.columns)}")
        return self.columns[name]

    def numbers(self, names: Sequence[str]) -> np.ndarray:
        """``[rows, names]`` in single precision, which is what a device gives a model."""
        try:
            return np.column_stack([np.asarray(self.column(n), dtype=np.float32) for n in names])
        except ValueError as error:
            raise ValueError(f"a cell that is no number: {error}; leave out rows whose features were not all given") from None

    def outcome(self, name: str) -> np.ndarray:
        """0 and 1."""
        found = self.column(name)
        wrong = sorted(set(found) - {"0", "1"})
        if wrong:
            raise ValueError(f"{name!r} holds {wrong[:5]}; an outcome is 0 or 1")
        return np.asarray(found, dtype=np.int64)

    def where(self, keep: np.ndarray) -> "Table":
        return Table({name: [v for v, k in zip(values, keep) if k] for name, values in self.columns.items()})


@dataclass(frozen=True)
class Split:
    """What is learnt from, what is reported on, and how they were kept apart."""

    by: str
    train: Table
    test: Table
    trained: str
    tested: str


@dataclass(frozen=True)
class Brought:
    """What was written: the model's folder and its statements."""

    folder: Path
    evidence: Path
    printed: str = field(repr=False)


def read(path: str | Path) -> Table:
    """A CSV with a header, as ``gloaming model rows`` writes it; columns may have been added."""
    with open(path, newline="") as file:
        reader = csv.reader(file)
        head = next(reader)
        rows = list(reader)
    uneven = [at + 2 for at, row in enumerate(rows) if len(row) != len(head)]
    if uneven:
        raise ValueError(f"{path}: {len(uneven)} lines have another number of cells than the header (the first is {uneven[0]})")
    return Table({name: [row[at] for row in rows] for at, name in enumerate(head)})


def _split(table: Table, by: str, test: np.ndarray, trained: str, tested: str) -> Split:
    if not test.any() or test.all():
        raise ValueError(f"the split by {by} leaves {'nothing to report on' if not test.any() else 'nothing to learn from'}")
    return Split(by, table.where(~test), table.where(test), trained, tested)


def split_by_time(table: Table, from_ms: int, column: str = "started_ms") -> Split:
    """Sessions that began at ``from_ms`` or later are reported on."""
    times = np.asarray(table.column(column), dtype=np.float64)
    return _split(table, "time", times >= from_ms, f"sessions before {from_ms} ms", f"sessions from {from_ms} ms on")


def split_by_source(table: Table, column: str, held_out: Sequence[str]) -> Split:
    """Rows of the named sources (sites, device kinds) are reported on."""
    held = np.isin(np.asarray(table.column(column)), list(held_out))
    names = ", ".join(held_out)
    return _split(table, "source", held, f"every {column} but {names}", f"{column} {names}")


def split_by_group(table: Table, column: str = "device", share: float = 0.2) -> Split:
    """A share of the groups (devices, people) is reported on, each with all its rows."""
    names = sorted(set(table.column(column)))
    chosen = set(np.random.default_rng(SEED).permutation(names)[: max(1, round(share * len(names)))])
    held = np.asarray([value in chosen for value in table.column(column)])
    return _split(table, "group", held, f"{1 - share:.0%} of all {column}s", f"the other {column}s")


def split_at_random(table: Table, share: float = 0.2) -> Split:
    """By lot. It tells how well a model remembers; the label says so, and no gate takes it for evidence."""
    held = np.random.default_rng(SEED).random(len(table)) < share
    return _split(table, "random", held, f"{1 - share:.0%} of the rows, by lot", "the other rows")


def _edges(scores: np.ndarray) -> list[float]:
    """19 edges of 20 bins with as many rows in each, a millionth apart at least."""
    edges = np.quantile(scores, np.arange(1, 20) / 20)
    for at in range(1, len(edges)):
        edges[at] = max(edges[at], edges[at - 1] + 2e-6)
    if edges[0] <= 0 or edges[-1] >= 1:
        edges = np.clip(edges, 2e-6, 1 - 1e-4) + np.arange(19) * 2e-6
    return [round(float(edge), 8) for edge in edges]


def _reference(rows: np.ndarray) -> np.ndarray:
    """Rows at the ends of each feature, then others."""
    ends = {int(at) for column in rows.T for at in (column.argmin(), column.argmax())}
    others = np.random.default_rng(SEED).permutation(len(rows))
    chosen = [*sorted(ends), *(int(at) for at in others if int(at) not in ends)][:REFERENCE]
    return rows[chosen]


def bring(
    model: Any,
    split: Split,
    *,
    name: str,
    version: int,
    features: Sequence[str],
    outcome: str,
    meaning: str,
    owner: str,
    next_review: str,
    out: str | Path,
    groups: Sequence[str] = (),
    no_group: str | None = None,
    more: dict[str, Any] | None = None,
    gloaming: str = "gloaming",
    export: Callable[[Any, np.ndarray], bytes] | None = None,
) -> Brought:
    """Fits ``model`` on the split's first part, exports it, and hands it to ``gloaming model add`` and ``evaluate``.

    ``model`` is anything of scikit-learn's with ``fit`` and ``predict_proba``; ``export`` turns a fitted one into ONNX bytes
    and is skl2onnx when nothing is said. ``groups`` are columns that people are compared by; without any, ``no_group``
    says why. Everything in ``more`` goes into the manifest as it is (licence, intended_use, not_for).

    Raises ``ValueError`` for rows that cannot be used, and ``RuntimeError`` with what ``gloaming`` said when it refuses.
    """
    x, y = split.train.numbers(features), split.train.outcome(outcome)
    model.fit(x, y)
    if export is None:
        options = {id(model): {"zipmap": False}} if hasattr(model, "classes_") and not hasattr(model, "steps") else None
        exported = to_onnx(model, x[:1], options=options, target_opset={"": 17, "ai.onnx.ml": 3}).SerializeToString()
    else:
        exported = export(model, x)
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0].name

    def scores(rows: np.ndarray) -> np.ndarray:
        answer = session.run(None, {given: rows})[-1]
        if isinstance(answer, list):  # ZipMap's dictionaries
            return np.asarray([list(row.values())[-1] for row in answer], dtype=np.float32)
        return np.asarray(answer, dtype=np.float32).reshape(len(rows), -1)[:, -1]

    reference = _reference(x)
    background = x[np.random.default_rng(SEED).permutation(len(x))[:BACKGROUND]]
    says = {
        "id": name,
        "version": version,
        "input": {"features": list(features)},
        "output": {"meaning": meaning},
        "score_edges": _edges(scores(x).astype(np.float64)),
        "reference": {"inputs": reference.tolist(), "outputs": scores(reference).tolist()},
        "background": background.tolist(),
        "owner": owner,
        "next_review": next_review,
        "training": {
            "split": split.by,
            "trained": split.trained,
            "tested": split.tested,
            "rows": {"train": len(split.train), "test": len(split.test)},
        },
        **(more or {}),
    }
    folder = Path(out)
    work = folder.with_name(folder.name + ".work")
    work.mkdir(parents=True, exist_ok=True)
    (work / "exported.onnx").write_bytes(exported)
    (work / "says.json").write_text(json.dumps(says))
    with open(work / "held-out.csv", "w", newline="") as file:
        columns = [*features, outcome, *groups]
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*(split.test.column(column) for column in columns)))

    def run(*arguments: str) -> str:
        done = subprocess.run([gloaming, *arguments], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr.strip() or f"{gloaming} {arguments[0]} failed")
        return done.stdout

    printed = run("model", "add", str(work / "exported.onnx"), "--says", str(work / "says.json"), "--out", str(folder))
    evidence = folder / "evidence"
    fair = [word for column in groups for word in ("--group", column)] or (["--no-group", no_group] if no_group else [])
    printed += run(
        "model", "evaluate", str(folder / "manifest.json"), "--rows", str(work / "held-out.csv"), "--outcome", outcome,
        "--split", split.by, "--trained", split.trained, "--tested", split.tested, "--out", str(evidence), *fair,
    )
    return Brought(folder, evidence, printed)
