"""CDNOW as devices would have seen it, and BG/NBD fitted to it: what the models learnt from it share."""

from __future__ import annotations

import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from datetime import date, datetime, timezone
from pathlib import Path

import numpy as np
from scipy.optimize import minimize
from scipy.special import gammaln

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "kit"))
from gloaming_kit import Split, Table, read, run  # noqa: E402

#: The last day of the 39 weeks that are learnt from, and of the 39 that are told.
KNOWN, TOLD = date(1997, 9, 30), date(1998, 6, 30)
WEEKS = 39
#: What the paper's authors found on the same customers, and how near one has to come.
PUBLISHED = {"r": 0.243, "alpha": 4.414, "a": 0.793, "b": 2.426}
TRAINING = {
    "data": "CDNOW purchases, January 1997 to June 1998, customers who first bought in the first quarter of 1997",
    "licence": "public",
    "citation": "Fader, P. S. and Hardie, B. G. S. (2001). Forecasting repeat sales at CDNOW. Interfaces 31(3).",
}

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]
#: What each customer spent, by day, in order.
Days = dict[str, dict[date, float]]


def purchases(path: Path, columns: int) -> Days:
    """Days of purchase by customer, in order, and what was spent on each."""
    days: dict[str, dict[date, float]] = defaultdict(lambda: defaultdict(float))
    for at, line in enumerate(path.read_text().split("\n"), 1):
        cells = line.split()
        # The log begins with a line of names.
        if cells and cells[0].isdigit():
            if len(cells) != columns:
                sys.exit(f"error: {path}, line {at}: {len(cells)} cells, not {columns}")
            days[cells[0]][datetime.strptime(cells[-3], "%Y%m%d").date()] += float(cells[-1])
    return {who: dict(sorted(of.items())) for who, of in days.items()}


def at_ms(day: date, hour: int) -> int:
    return int(datetime(day.year, day.month, day.day, hour, tzinfo=timezone.utc).timestamp() * 1000)


def seen_by_devices(days: Days, gloaming: str, work: Path, on: list[date]) -> Table:
    """Rows of each customer: what their device would know in the evening of each of these days, when it visits the shop."""
    log = work / "events.ndjson"
    with open(log, "w") as file:
        for who, bought in days.items():
            known = ((day, spent) for day, spent in bought.items() if day <= max(on))
            events = [{"at_ms": at_ms(day, 12), "event": "purchase", "value": round(spent, 2)} for day, spent in known]
            events += [{"at_ms": at_ms(day, 22), "event": "page_view", "path": "/"} for day in on]
            for event in sorted(events, key=lambda event: event["at_ms"]):
                file.write(json.dumps({"device": who} | event) + "\n")
    run(gloaming, "policy", "new", "--template", "docs", "--site", "cdnow.example", "--out", str(work / "policy.toml"))
    out = work / "rows.csv"
    run(gloaming, "model", "rows", str(log), "--policy", str(work / "policy.toml"), "--out", str(out))
    rows = read(out)
    evenings = {at_ms(day, 22) for day in on}
    return rows.where(np.asarray([int(at) in evenings for at in rows.column("started_ms")]))


def tenth_and_others(data: Path, gloaming: str, on: list[date] | None = None) -> tuple[Days, Split]:
    """All purchases; and rows of the published tenth of the customers, and of all others, on the last known day or on others."""
    folder = data / "cdnow"
    days = purchases(folder / "CDNOW_master.txt", 4)
    sample = set(purchases(folder / "CDNOW_sample.txt", 5))
    with tempfile.TemporaryDirectory() as work:
        rows = seen_by_devices(days, gloaming, Path(work), on or [KNOWN])
    inside = np.asarray([who in sample for who in rows.column("device")])
    split = Split(
        "time", rows.where(inside), rows.where(~inside),
        f"CDNOW, purchases of a tenth of the customers to {KNOWN}", f"CDNOW, all other customers, {KNOWN} to {TOLD}",
    )
    return days, split


def weeks(x: np.ndarray) -> Arrays:
    """Repeats, weeks from the first to the last of them, weeks since the first."""
    known = x.astype(np.float64)
    return known[:, 0] - 1, known[:, 1] / 7, known[:, 2] / 7


def log_likelihood(parameters: np.ndarray, x: np.ndarray, last: np.ndarray, age: np.ndarray) -> float:
    """The paper's likelihood, in logarithms, in the parts that its authors' note on fitting it has."""
    r, alpha, a, b = np.exp(parameters)
    a1 = gammaln(r + x) - gammaln(r) + r * np.log(alpha)
    a2 = gammaln(a + b) + gammaln(b + x) - gammaln(b) - gammaln(a + b + x)
    a3 = -(r + x) * np.log(alpha + age)
    a4 = np.log(a) - np.log(b + np.maximum(x, 1) - 1) - (r + x) * np.log(alpha + last)
    return float(np.sum(a1 + a2 + np.logaddexp(a3, np.where(x > 0, a4, -np.inf))))


def likeliest(unlikely: Callable[[np.ndarray], float], published: dict[str, float], within: float, of: str) -> tuple[dict[str, float], float]:
    """Positive parameters of the greatest likelihood, found in their logarithms, and its logarithm; printed, and held to what was published."""
    found = minimize(
        unlikely, np.zeros(len(published)), method="Nelder-Mead",
        options={"xatol": 1e-10, "fatol": 1e-10, "maxiter": 20_000, "maxfev": 20_000},
    )
    if not found.success:
        sys.exit(f"error: the likelihood has no maximum that was found: {found.message}")
    parameters = dict(zip(published, np.exp(found.x)))
    told = ", ".join(f"{name} {value:.4f}" for name, value in parameters.items())
    print(f"{of}: {told}; log-likelihood {-found.fun:.4f}")
    for name, value in published.items():
        if abs(parameters[name] - value) > within:
            sys.exit(f"error: {name} is {parameters[name]:.4f}, and was published as {value}")
    return parameters, -found.fun


def fit(x: np.ndarray, last: np.ndarray, age: np.ndarray) -> tuple[dict[str, float], float]:
    return likeliest(lambda p: -log_likelihood(p, x, last, age), PUBLISHED, 0.0006, f"{len(x)} customers")
