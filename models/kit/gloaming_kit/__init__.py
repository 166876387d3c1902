"""From a table of features to a model that Gloaming can bring.

The table comes from ``gloaming model rows``, so its numbers are those that devices compute. A split says how the rows that
are reported on were kept apart; the label goes into the evidence, and the gate takes no evidence from a random one.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Mapping, Sequence

import numpy as np
import onnxruntime
from onnx import TensorProto, checker, helper
from skl2onnx import to_onnx
from sklearn.base import clone

__all__ = [
    "Brought", "Forgetful", "Split", "Table", "arguments", "bring", "evaluate", "forgetful", "graph", "hand_in", "in_turn", "read", "run", "scorer",
    "split_at_random", "split_by_group", "split_by_source", "split_by_time",
]

#: Reference rows in a manifest.
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


@dataclass(frozen=True)
class Forgetful:
    """A log as it would be where browsers delete storage early."""

    #: The events, each of the device that would have told of it.
    events: list[dict[str, Any]]
    #: Whose each of these devices is.
    people: dict[str, str]
    #: Of people who bought again, how many were forgotten between two purchases; of purchases after the first, how many were made on a
    #: device that had forgotten all before; and the share of these.
    lost: dict[str, int | float]


def forgetful(events: Sequence[Mapping[str, Any]], days: float = 7, outcome: str = "purchase") -> Forgetful:
    """Censors a log in the form of ``gloaming model rows`` at ``days`` without a visit, and tells what is lost of an outcome that needs longer.

    Safari deletes what scripts have stored after seven days without a visit: whoever comes later comes as a new device. Every event
    counts as a visit, and nothing is known of visits that are not in the log, so that a log of purchases alone tells the most that
    can be lost. What is bought on a new device is not joined to what was known or foretold on the one before.
    """
    by_person: dict[str, list[Mapping[str, Any]]] = {}
    for event in events:
        by_person.setdefault(str(event["device"]), []).append(event)
    kept: list[dict[str, Any]] = []
    people: dict[str, str] = {}
    again = again_lost = came_back = forgotten = 0
    for person, theirs in by_person.items():
        device, number, last = person, 1, None
        bought = known = forgot = 0
        for event in sorted(theirs, key=lambda event: event["at_ms"]):
            if last is not None and event["at_ms"] - last > days * 86_400_000:
                number += 1
                device, known = f"{person}~{number}", 0
            last = event["at_ms"]
            people[device] = person
            kept.append({**event, "device": device})
            if event.get("event") == outcome:
                again += bought > 0
                again_lost += bought > 0 and known == 0
                forgot |= bought > 0 and known == 0
                bought, known = bought + 1, known + 1
        came_back += bought > 1
        forgotten += forgot
    lost: dict[str, int | float] = {
        "people": came_back, "people_forgotten": forgotten, "again": again, "again_lost": again_lost,
        "share": round(again_lost / again, 4) if again else 0.0,
    }
    return Forgetful(kept, people, lost)


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


def _means(scores: np.ndarray, edges: list[float]) -> list[float]:
    """Mean score in each bin; the middle where a bin is empty. Growing, a millionth apart at least, and within the bins."""
    ends, where = [0.0, *edges, 1.0], np.searchsorted(edges, scores, side="right")
    means: list[float] = []
    for at, (low, high) in enumerate(zip(ends, ends[1:])):
        here = scores[where == at]
        mean = float(np.clip(here.mean() if len(here) else (low + high) / 2, low, high))
        means.append(round(min(max(mean, means[-1] + 1.1e-6) if means else mean, high), 8))
    return means


def _nobodys(rows: np.ndarray, count: int, ends: bool) -> np.ndarray:
    """Rows of values that occur, each column drawn by itself, so that no row is that of somebody who was learnt from.

    With ``ends``, every column's least and largest value are among them.
    """
    draw = np.random.default_rng(SEED)
    made = np.column_stack([draw.permutation(np.resize(column, max(count, len(column))))[:count] for column in rows.T])
    if ends:
        for at, column in enumerate(rows.T):
            low, high = (2 * at) % count, (2 * at + 1) % count
            made[low, at], made[high, at] = column.min(), column.max()
    return made


def arguments(description: str | None, out: Path, holds: str, version: int = 1) -> argparse.Namespace:
    """What a training script is told: ``data`` (a folder that ``holds`` the data), ``gloaming``, ``out`` and ``version``."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path, help=f"the folder that holds `{holds}`")
    parser.add_argument("--gloaming", default="gloaming", help="the command")
    parser.add_argument("--out", type=Path, default=out, help="where the model goes; the folder above")
    parser.add_argument("--version", type=int, default=version, help="has to be above that of the model that is there")
    return parser.parse_args()


def graph(name: str, nodes: Sequence[Any], weights: Sequence[Any], width: int, told: str = "probability") -> bytes:
    """ONNX bytes, always the same ones, of nodes that make ``told``, one number a row, of ``features``, ``width`` numbers a row."""
    ends = [helper.make_tensor_value_info(end, TensorProto.FLOAT, [None, size]) for end, size in (("features", width), (told, 1))]
    made = helper.make_graph(nodes, name, ends[:1], ends[1:], weights)
    proto = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="gloaming")
    checker.check_model(proto, full_check=True)
    return proto.SerializeToString(deterministic=True)


def run(gloaming: str, *arguments: str) -> str:
    """What ``gloaming`` printed.

    Raises ``RuntimeError`` with what it said when it refuses.
    """
    done = subprocess.run([gloaming, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip() or f"{gloaming} {arguments[0]} failed")
    return done.stdout


def scorer(exported: bytes) -> Callable[[np.ndarray], np.ndarray]:
    """What onnxruntime makes of rows: the last column of the last output, a score each."""
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0].name

    def scores(rows: np.ndarray) -> np.ndarray:
        answer = session.run(None, {given: rows})[-1]
        if isinstance(answer, list):  # ZipMap's dictionaries
            return np.asarray([list(row.values())[-1] for row in answer], dtype=np.float32)
        return np.asarray(answer, dtype=np.float32).reshape(len(rows), -1)[:, -1]

    return scores


def hand_in(
    exported: bytes,
    rows: np.ndarray,
    *,
    name: str,
    version: int,
    features: Sequence[str],
    meaning: str,
    owner: str,
    next_review: str,
    out: str | Path,
    training: dict[str, Any],
    kinds: Sequence[str] = (),
    more: dict[str, Any] | None = None,
    gloaming: str = "gloaming",
) -> str:
    """Hands ONNX bytes to ``gloaming model add`` with what has to be said of them; what it printed.

    ``rows`` is ``[rows, features]``, what was learnt from: bins of equal mass come from its scores. A model that sorts visits
    into ``kinds`` gives for the k-th of n the number ``(k + 0.5) / n``. Everything in ``more`` goes into the manifest as it is.
    """
    scores, reference = scorer(exported), _nobodys(rows, REFERENCE, ends=True)
    edges = [at / len(kinds) for at in range(1, len(kinds))] if kinds else _edges(scores(rows).astype(np.float64))
    says = {
        "id": name,
        "version": version,
        "input": {"features": list(features)},
        "output": {"meaning": meaning, **({"kinds": list(kinds)} if kinds else {})},
        "score_edges": edges,
        **({} if kinds else {"score_means": _means(scores(rows).astype(np.float64), edges)}),
        "reference": {"inputs": reference.tolist(), "outputs": scores(reference).tolist()},
        "background": _nobodys(rows, BACKGROUND, ends=False).tolist(),
        "owner": owner,
        "next_review": next_review,
        "training": training,
        **(more or {}),
    }
    with tempfile.TemporaryDirectory() as work:
        exports, said = Path(work) / "exported.onnx", Path(work) / "says.json"
        exports.write_bytes(exported)
        said.write_text(json.dumps(says))
        return run(gloaming, "model", "add", str(exports), "--says", str(said), "--out", str(out))


def evaluate(
    out: str | Path,
    split: Split,
    *,
    features: Sequence[str],
    outcome: str,
    groups: Sequence[str] = (),
    no_group: str | None = None,
    threshold: float | None = None,
    turns: Mapping[str, Path] | None = None,
    at: int | None = None,
    gloaming: str = "gloaming",
) -> str:
    """Hands the rows that were kept apart to ``gloaming model evaluate``, which writes the statements; what it printed.

    ``threshold`` is the score from which a person counts as selected. ``turns`` are the statements on rows held out that the
    same training came to with other sources held out, by name; see :func:`in_turn`. Of visits as they stood at a page
    (``gloaming model rows --at``) those ``at`` one page are judged, and it is told how the model fares at the others.
    """
    folder = Path(out)
    more = [word for name, path in (turns or {}).items() for word in ("--turn", f"{name}={path}")]
    more += ["--threshold", str(threshold)] if threshold is not None else []
    more += ["--only", f"at={at}", "--curve"] if at is not None else []
    fair = [word for column in groups for word in ("--group", column)] or (["--no-group", no_group] if no_group else [])
    # Rows of people: they lie nowhere for longer than they are needed.
    with tempfile.TemporaryDirectory() as work:
        rows = Path(work) / "held-out.csv"
        with open(rows, "w", newline="") as file:
            columns = [*features, outcome, *groups, *(["at"] if at is not None else [])]
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows(zip(*(split.test.column(column) for column in columns)))
        return run(
            gloaming, "model", "evaluate", str(folder / "manifest.json"), "--rows", str(rows), "--outcome", outcome,
            "--split", split.by, "--trained", split.trained, "--tested", split.tested, "--out", str(folder / "evidence"),
            *more, *fair,
        )


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
    threshold: float | None = None,
    turns: Mapping[str, Path] | None = None,
    at: int | None = None,
    learnt_from: dict[str, Any] | None = None,
    more: dict[str, Any] | None = None,
    gloaming: str = "gloaming",
    export: Callable[[Any, np.ndarray], bytes] | None = None,
) -> Brought:
    """Fits ``model`` on the split's first part, exports it, and hands it to ``gloaming model add`` and ``evaluate``.

    ``model`` is anything of scikit-learn's with ``fit`` and ``predict_proba``; ``export`` turns a fitted one into ONNX bytes
    and is skl2onnx when nothing is said. ``groups`` are columns that people are compared by; without any, ``no_group``
    says why. A split by source needs ``turns``, and :func:`in_turn` takes them. Rows of ``gloaming model rows --at`` are all learnt
    from, and judged ``at`` one page, because rows of one visit say the same thing twice. ``learnt_from`` is what the card says of the data
    (data, citation, licence, method); everything in ``more`` goes into the manifest as it is (licence, intended_use, not_for).

    Raises ``ValueError`` for rows that cannot be used, and ``RuntimeError`` with what ``gloaming`` said when it refuses.
    """
    if at is None and "at" in split.train.columns:
        raise ValueError("these rows are of visits as they stood at several pages; say at which one the model is judged, as in at=3")
    x, y = split.train.numbers(features), split.train.outcome(outcome)
    model.fit(x, y)
    if export is None:
        options = {id(model): {"zipmap": False}} if hasattr(model, "classes_") and not hasattr(model, "steps") else None
        exported = to_onnx(model, x[:1], options=options, target_opset={"": 17, "ai.onnx.ml": 3}).SerializeToString()
    else:
        exported = export(model, x)
    training = {
        **(learnt_from or {}),
        "split": split.by,
        "trained": split.trained,
        "tested": split.tested,
        "rows": {"train": len(split.train), "test": len(split.test)},
    }
    printed = hand_in(
        exported, x, name=name, version=version, features=features, meaning=meaning, owner=owner, next_review=next_review,
        out=out, training=training, more=more, gloaming=gloaming,
    )
    printed += evaluate(
        out, split, features=features, outcome=outcome, groups=groups, no_group=no_group, threshold=threshold, turns=turns,
        at=at, gloaming=gloaming,
    )
    return Brought(Path(out), Path(out) / "evidence", printed)


def in_turn(model: Any, table: Table, column: str, held_out: Sequence[str | Sequence[str]] = (), **said: Any) -> Brought:
    """Holds out each source in its turn, by the same training, and brings the model that met the hardest one.

    ``held_out`` are values of ``column``, or several that are held out together (a bot and a device of people: rows of one
    outcome alone tell nothing); every value by itself when nothing is said. All else is as for :func:`bring`. The gate goes
    by the worst turn, so that it does not matter which of them was easy.
    """
    wanted = [[one] if isinstance(one, str) else list(one) for one in held_out or sorted(set(table.column(column)))]
    if len(wanted) < 2:
        raise ValueError(f"{column!r} has one source to hold out, and nothing shows how hard another is; split by time or group")
    out = Path(said.pop("out"))
    with tempfile.TemporaryDirectory() as work:
        tried: dict[str, tuple[Split, Path, float]] = {}
        for at, sources in enumerate(wanted):
            split = split_by_source(table, column, sources)
            statement = bring(clone(model), split, out=Path(work) / f"turn-{at}", **said).evidence / "held-out.json"
            tried[" and ".join(sources)] = (split, statement, json.loads(statement.read_text())["predicate"]["auc"]["low"])
        hardest = min(tried, key=lambda name: tried[name][2])
        turns = {name: path for name, (_, path, _) in tried.items() if name != hardest}
        # The very model that met it, and not one that is trained again and luckier.
        split, statement, _ = tried[hardest]
        its, gloaming = statement.parents[1], said.get("gloaming", "gloaming")
        printed = run(
            gloaming, "model", "add", str(its / "model.onnx"), "--says", str(its / "manifest.json"), "--out", str(out)
        )
        keys = ("features", "outcome", "groups", "no_group", "threshold", "at", "gloaming")
        printed += evaluate(out, split, turns=turns, **{key: said[key] for key in keys if key in said})
        return Brought(out, out / "evidence", printed)
