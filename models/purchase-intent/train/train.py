#!/usr/bin/env python3
"""Train, choose and export the purchase-intent model.

Fits on Feb-Sep and chooses on Oct. Only with --report does it score Nov (with the chosen
model alone) and write model.onnx and manifest.json.
"""

from __future__ import annotations

import os

# One thread keeps the order of float sums, and so the bytes of the model, fixed.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import hashlib
import json
import re
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pandas as pd
import tract
from onnx import TensorProto, helper
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score
from sklearn.model_selection import StratifiedKFold

from candidates import SEED, Array, Model, candidates

Part = tuple[Array, Array]  # features [n, 8] float32, bought [n] 0/1
Figures = dict[str, float]

BOOTSTRAPS = 2000
TOLERANCE = 1e-6
NUMERIC = {
    "pages-account@1": "Administrative",
    "time-account@1": "Administrative_Duration",
    "pages-info@1": "Informational",
    "time-info@1": "Informational_Duration",
    "pages-product@1": "ProductRelated",
    "time-product@1": "ProductRelated_Duration",
}
FEATURES = [*NUMERIC, "returning@1", "weekend@1"]
SPLIT = {
    "train": ["Feb", "Mar", "May", "June", "Jul", "Aug", "Sep"],
    "choose": ["Oct"],
    "report": ["Nov"],
}


# ---------------------------------------------------------------- data


def load(path: Path) -> tuple[dict[str, Part], Array]:
    """Read the CSV: each part of the split, and the month of each training row."""
    if not path.is_file():
        raise SystemExit(f"error: no such file: {path}")
    frame = pd.read_csv(path)
    needed = [*NUMERIC.values(), "VisitorType", "Weekend", "Month", "Revenue"]
    missing = [c for c in needed if c not in frame.columns]
    if missing:
        raise SystemExit(f"error: {path.name} lacks the columns: {', '.join(missing)}")
    parts = {}
    for part, months in SPLIT.items():
        rows = frame[frame["Month"].isin(months)]
        if rows.empty or rows[needed].isna().any(axis=None):
            raise SystemExit(f"error: no rows, or empty cells, in {'/'.join(months)}")
        flags = [rows["VisitorType"] == "Returning_Visitor", rows["Weekend"]]
        x = np.column_stack([*(rows[c] for c in NUMERIC.values()), *flags])
        # The device sends float32, so the model learns from float32.
        parts[part] = (x.astype(np.float32), rows["Revenue"].to_numpy().astype(int))
    return parts, frame.loc[frame["Month"].isin(SPLIT["train"]), "Month"].to_numpy()


# ---------------------------------------------------------------- figures


def ece(y: Array, p: Array, bins: int = 20) -> float:
    """Mean |observed - predicted| over bins of equal mass, weighted by rows."""
    cut = np.array_split(np.argsort(p, kind="stable"), bins)
    return float(sum(abs(y[i].sum() - p[i].sum()) for i in cut) / len(y))


def figures(y: Array, p: Array) -> Figures:
    return {
        "auc": float(roc_auc_score(y, p)),
        "average_precision": float(average_precision_score(y, p)),
        "brier": float(brier_score_loss(y, p)),
        "ece_20": ece(y, p),
        "mean_prediction": float(p.mean()),
        "base_rate": float(y.mean()),
    }


def intervals(y: Array, p: Array) -> dict[str, list[float]]:
    """95% percentile bootstrap over rows."""
    rng = np.random.default_rng(SEED)
    draws = [rng.integers(0, len(y), len(y)) for _ in range(BOOTSTRAPS)]
    table = pd.DataFrame([figures(y[i], p[i]) for i in draws])
    low, high = table.quantile(0.025), table.quantile(0.975)
    return {k: [round(low[k], 4), round(high[k], 4)] for k in table.columns}


def platt(z: Array, y: Array) -> tuple[float, float]:
    """Slope and intercept of an (all but) unpenalised logistic fit of y on log-odds z."""
    fit = LogisticRegression(C=1e6, tol=1e-10, max_iter=10_000).fit(z[:, None], y)
    return float(fit.coef_[0, 0]), float(fit.intercept_[0])


def cross_platt(z: Array, y: Array) -> Array:
    """Probabilities, each recalibrated by a fit that did not see its row."""
    p = np.empty(len(y))
    for fit, held in StratifiedKFold(5, shuffle=True, random_state=SEED).split(z[:, None], y):
        slope, intercept = platt(z[fit], y[fit])
        p[held] = expit(slope * z[held] + intercept)
    return p


HEADER = " " * 38 + "".join(f"{k:>8}" for k in ("AUC", "AP", "Brier", "ECE20", "mean p", "base"))


def line(label: str, f: Figures) -> str:
    return f"{label:<38}" + "".join(f"{v:>8.4f}" for v in f.values())


def rounded(f: Figures) -> Figures:
    return {k: round(v, 4) for k, v in f.items()}


# ---------------------------------------------------------------- choice


def print_data(parts: dict[str, Part], months: Array) -> None:
    """Sizes, and how far one plain input separates buyers in each month before November."""
    (x, y), (xo, yo) = parts["train"], parts["choose"]
    for part, (_, bought) in parts.items():
        print(f"{part:<8}{'/'.join(SPLIT[part]):<30}{len(bought):>6} rows")
    print("\nmonth    rows  bought    rate  AUC of pages-product alone")
    by_month = [(m, x[months == m], y[months == m]) for m in SPLIT["train"]]
    for month, xm, ym in [*by_month, ("Oct", xo, yo)]:
        auc = roc_auc_score(ym, xm[:, FEATURES.index("pages-product@1")])
        print(f"{month:<6}{len(ym):>7}{ym.sum():>8}{ym.mean():>8.4f}{auc:>8.4f}")


def choose(parts: dict[str, Part]) -> tuple[Model, float, float, dict]:
    """The October winner, its recalibration, and the evidence for both."""
    (x, y), (xo, yo) = parts["train"], parts["choose"]
    print(f"\nOctober, before recalibration\n{HEADER}")
    print(line("(always the Feb-Sep rate)", figures(yo, np.full(len(yo), y.mean()))))
    ranked = []
    for model in candidates(x, y):
        f = figures(yo, expit(model.log_odds(xo)))
        print(line(model.name, f))
        # Average precision to three decimals; closer than that is a tie, broken by Brier.
        ranked.append((-round(f["average_precision"], 3), f["brier"], len(ranked), model))
    chosen = min(ranked)[3]
    z = chosen.log_odds(xo)
    before, crossed = figures(yo, expit(z)), figures(yo, cross_platt(z, yo))
    bounds = intervals(yo, expit(z))
    low, high = bounds["average_precision"]
    print(f"chosen: {chosen.name}; October AP 95% [{low:.4f}, {high:.4f}]")

    constant = float(yo.mean() * (1 - yo.mean()))
    helps = crossed["brier"] < before["brier"]
    slope, intercept = platt(z, yo) if helps else (1.0, 0.0)
    print("\nRecalibration on October, Brier")
    print(f"  as trained                            {before['brier']:.4f}")
    print(f"  Platt, cross-validated in five folds  {crossed['brier']:.4f}")
    print(f"  always October's own rate             {constant:.4f}")
    print(f"  used: log-odds x {slope:.4f} {intercept:+.4f}")
    evidence = rounded(before) | {"rows": len(yo), "interval_95": bounds}
    evidence["note"] = "as trained, before recalibration"
    evidence["recalibration"] = {
        "method": "Platt, folded into the weights" if helps else "none",
        "slope": round(slope, 4),
        "intercept": round(intercept, 4),
        "brier_cross_validated": round(crossed["brier"], 4),
        "brier_constant": round(constant, 4),
    }
    return chosen, slope, intercept, {"model": chosen.name} | evidence


# ---------------------------------------------------------------- export


def export(model: Model, slope: float, intercept: float) -> bytes:
    nodes, weights = model.graph(slope, intercept)
    opsets = [helper.make_opsetid("", 17)]
    if any(n.domain == "ai.onnx.ml" for n in nodes):
        opsets.append(helper.make_opsetid("ai.onnx.ml", 3))
    features = helper.make_tensor_value_info("features", TensorProto.FLOAT, [1, len(FEATURES)])
    probability = helper.make_tensor_value_info("probability", TensorProto.FLOAT, [1, 1])
    graph = helper.make_graph(nodes, "purchase-intent", [features], [probability], weights)
    # IR 8 is the one that came with opset 17.
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="gloaming")
    onnx.checker.check_model(proto, full_check=True)
    return proto.SerializeToString(deterministic=True)


def run_onnxruntime(data: bytes, x: Array) -> Array:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return np.array([session.run(None, {"features": r[None, :]})[0][0, 0] for r in x])


def run_tract(data: bytes, x: Array) -> Array:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(data)
        runnable = tract.onnx().load(str(path)).into_model().into_runnable()
    return np.array([runnable.run([r[None, :]])[0].to_numpy()[0, 0] for r in x])


def check_agreement(ours: Array, theirs: dict[str, Array]) -> None:
    print(f"\nAgreement with the Python model, {len(ours)} rows (all data rows and the reference)")
    for runtime, p in theirs.items():
        worst = float(np.abs(ours - p).max())
        print(f"  {runtime:<12} largest difference {worst:.1e}")
        if not worst <= TOLERANCE:
            raise SystemExit(f"error: {runtime} differs from the Python model by {worst:.1e}")


def score_edges(scores: Array, bins: int = 20) -> list[float]:
    """Interior edges of equal-mass bins, each halfway across a gap between two scores.

    Equal sessions get equal scores, so an exact 1/20 may fall inside a run of ties; the
    nearest gap is taken. Gaps near the tolerance are skipped, so that a row's bin does not
    depend on which runtime scored it.
    """
    s = np.sort(scores.astype(np.float64))
    gaps = np.flatnonzero(np.diff(s) > 4 * TOLERANCE) + 1
    cuts = [0]
    for k in range(1, bins):
        later = gaps[gaps > cuts[-1]]
        cuts.append(int(later[np.argmin(np.abs(later - k * len(s) / bins))]))
    mass = np.diff([*cuts, len(s)]) / len(s)
    print(f"\ntraining mass of the 20 score bins: {mass.min():.4f} to {mass.max():.4f}")
    return [round(float(s[c - 1] + s[c]) / 2, 8) for c in cuts[1:]]


def score_means(scores: Array, edges: list[float]) -> list[float]:
    """Mean score of the training rows in each bin."""
    where = np.searchsorted(edges, scores, side="right")
    return [round(float(scores[where == b].mean()), 8) for b in range(len(edges) + 1)]


def synthetic_rows() -> Array:
    """64 made-up sessions: corners set by hand, then log-uniform draws. No data row is used."""
    rows = [[0] * 8, [0, 0, 0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 1, 0, 1, 1],
            [30, 4000, 25, 3000, 800, 70000, 1, 1], [30, 4000, 0, 0, 0, 0, 0, 0],
            [0, 0, 25, 3000, 0, 0, 1, 0], [0, 0, 0, 0, 800, 70000, 0, 1],
            [1000, 86400, 1000, 86400, 1000, 86400, 0, 0]]
    rng = np.random.default_rng(SEED)
    while len(rows) < 64:
        row: list[float] = []
        for most, absent in ((25, 0.4), (20, 0.7), (400, 0.05)):
            pages = np.floor(np.exp(rng.uniform(0, np.log(most)))) * (rng.random() >= absent)
            # A one-page visit often has no measured time.
            idle = pages == 0 or (pages == 1 and rng.random() < 0.5)
            seconds = 0.0 if idle else pages * np.exp(rng.uniform(np.log(3), np.log(120)))
            row += [float(pages), round(float(seconds), 2)]
        row += [float(rng.random() < 0.7), float(rng.random() < 0.3)]
        if row not in rows:
            rows.append(row)
    return np.array(rows, dtype=np.float64)


# ---------------------------------------------------------------- report


def report(parts: dict[str, Part], scores: dict[str, Array], as_trained: Array) -> dict:
    """Print the exported model's figures; return November's for the manifest."""
    labels = {"train": "Feb-Sep (fitted here)", "choose": "Oct (chosen, recalibrated here)",
              "report": "Nov"}
    print(f"\nThe model as exported\n{HEADER}")
    for part, label in labels.items():
        print(line(label, figures(parts[part][1], scores[part])))
    (x, y), p = parts["report"], scores["report"]
    unshifted = figures(y, as_trained)
    print(line("Nov, had it not been recalibrated", unshifted))
    found, bounds = figures(y, p), intervals(y, p)
    slope, intercept = platt(logit(p), y)
    print("\nNovember with 95% intervals")
    for k, (low, high) in bounds.items():
        print(f"  {k:<20}{found[k]:.4f}  [{low:.4f}, {high:.4f}]")
    print(f"  calibration slope {slope:.4f}, intercept {intercept:.4f} (1 and 0 are perfect)")
    print(f"  predictions run from {p.min():.4f} to {p.max():.4f}")
    october = np.full(len(y), parts["choose"][1].mean())
    print(f"  Brier of always October's rate {brier_score_loss(y, october):.4f}, "
          f"of always November's own {y.mean() * (1 - y.mean()):.4f}")

    print(f"\nNovember by flag\n{HEADER}    rows")
    for label, column, value in (("returning", 6, 1), ("not returning", 6, 0),
                                 ("weekend", 7, 1), ("weekday", 7, 0)):
        at = x[:, column] == value
        print(line(label, figures(y[at], p[at])) + f"{at.sum():>8}")
    print("\nNovember, ten bins of equal mass\n  rows  mean p  bought")
    for i in np.array_split(np.argsort(p, kind="stable"), 10):
        print(f"{len(i):>6}{p[i].mean():>8.4f}{y[i].mean():>8.4f}")
    return rounded(found) | {
        "rows": len(y),
        "calibration_slope": round(slope, 4),
        "calibration_intercept": round(intercept, 4),
        "interval_95": bounds,
        "interval_method": f"percentile bootstrap over rows, {BOOTSTRAPS} draws",
        "without_recalibration": {k: round(unshifted[k], 4) for k in ("brier", "ece_20")},
    }


def build_manifest(data: bytes, parts: dict[str, Part], edges: list[float], means: list[float],
                   reference: Array, outputs: Array, evidence: dict) -> dict:
    proto = onnx.load_from_string(data)
    total = sum(len(y) for _, y in parts.values())
    return {
        "format": 1, "id": "purchase-intent", "version": 1,
        "onnx": {
            "file": "model.onnx",
            "sha256": hashlib.sha256(data).hexdigest(),
            "bytes": len(data),
            "opsets": {o.domain or "ai.onnx": o.version for o in proto.opset_import},
            "ops": sorted({n.op_type for n in proto.graph.node}),
        },
        "input": {"name": "features", "shape": [1, len(FEATURES)], "features": FEATURES},
        "output": {"name": "probability", "shape": [1, 1],
                   "meaning": "probability that this session ends in a purchase"},
        "score_edges": edges,
        "score_means": means,
        # The shortest decimal that reads back as the same float32.
        "reference": {"inputs": reference.tolist(), "outputs": [float(str(v)) for v in outputs]},
        "training": {
            "data": f"UCI Online Shoppers Purchasing Intention, {total} sessions of Feb-Nov; "
                    "the rest is held back, so all figures are development figures",
            "licence": "CC BY 4.0",
            "citation": "Sakar, C. and Kastro, Y. (2018). Online Shoppers Purchasing Intention "
                        "Dataset. UCI Machine Learning Repository. doi:10.24432/C5F88Q",
            "train": "Feb-Sep", "choose": "Oct", "report": "Nov",
            "rows": {k: len(y) for k, (_, y) in parts.items()},
            "positives": {k: int(y.sum()) for k, (_, y) in parts.items()},
        },
        "evidence": {"split": "by time"} | evidence,
        "licence": "Apache-2.0 OR MIT",
        "intended_use": "A coarse bin of purchase intent, on the visitor's device, in shadow: its bins can be held "
                        "against the outcome that the device sees, which measures it on the site at hand.",
        "not_for": "Prices, credit, eligibility, stock or access to anything; singling out people; pressure such as "
                   "false scarcity; personalising before evidence of the site's own and an experiment support it.",
        "owner": "Gloaming maintainers",
        "next_review": "2027-05-24",
    }


def to_json(manifest: dict) -> str:
    """Two-space indent, keys in the order given, each list of plain numbers on one line."""
    text = json.dumps(manifest, indent=2, ensure_ascii=False, allow_nan=False)
    one_line = re.sub(r"\[\s+([-+\d.e,\s]+?)\s+\]", lambda m: f"[{' '.join(m[1].split())}]", text)
    return one_line + "\n"


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    folder = Path(__file__).resolve().parent.parent
    parser.add_argument("--data", type=Path, required=True, help="the Online Shoppers CSV")
    parser.add_argument("--out", type=Path, default=folder, help="default: the folder above")
    parser.add_argument("--report", action="store_true", help="score Nov and write the files")
    args = parser.parse_args()

    parts, months = load(args.data)
    print_data(parts, months)
    chosen, slope, intercept, chosen_evidence = choose(parts)
    if not args.report:
        print("\nstopped before November; --report scores it and writes the files")
        return

    data = export(chosen, slope, intercept)
    reference = synthetic_rows()
    rows = np.concatenate([*(x for x, _ in parts.values()), reference.astype(np.float32)])
    z = chosen.log_odds(rows)
    by_ort = run_onnxruntime(data, rows)
    check_agreement(expit(slope * z + intercept),
                    {"onnxruntime": by_ort, "tract": run_tract(data, rows)})

    ends = np.cumsum([len(y) for _, y in parts.values()])
    *chunks, outputs = np.split(by_ort, ends)
    scores = {k: v.astype(np.float64) for k, v in zip(parts, chunks, strict=True)}
    november = report(parts, scores, expit(z[ends[1]:ends[2]]))
    in_sample = rounded(figures(parts["train"][1], scores["train"]))
    in_sample |= {"rows": len(scores["train"]), "note": "in sample, as exported"}
    evidence = {"train": in_sample, "choose": chosen_evidence, "report": november}
    edges = score_edges(scores["train"])

    means = score_means(scores["train"], edges)
    manifest = build_manifest(data, parts, edges, means, reference, outputs, evidence)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "model.onnx").write_bytes(data)
    (args.out / "manifest.json").write_text(to_json(manifest), encoding="utf-8")
    print(f"wrote model.onnx ({len(data)} bytes) and manifest.json")


if __name__ == "__main__":
    main()
