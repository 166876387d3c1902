"""CDNOW as devices would have seen it, and BG/NBD fitted to it: what the models learnt from it share."""

from __future__ import annotations

import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import gammaln
from sklearn.metrics import roc_auc_score

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "kit"))
from gloaming_kit import Split, Table, forgetful, read, run  # noqa: E402

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


def log_of(days: Days, on: Mapping[str, list[date]], until: date) -> list[dict[str, Any]]:
    """Purchases at noon up to a day, and each customer's visits to the shop in the evenings of days: events of each in order."""
    log = []
    for who, bought in days.items():
        events = [{"at_ms": at_ms(day, 12), "event": "purchase", "value": round(spent, 2)} for day, spent in bought.items() if day <= until]
        events += [{"at_ms": at_ms(day, 22), "event": "page_view", "path": "/"} for day in on.get(who, [])]
        log += [{"device": who} | event for event in sorted(events, key=lambda event: event["at_ms"])]
    return log


def seen_by_devices(log: list[dict[str, Any]], gloaming: str, on: list[date]) -> Table:
    """Rows of each device: what it would know in the evening of each of these days, when it visits the shop."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        (work / "events.ndjson").write_text("".join(json.dumps(event) + "\n" for event in log))
        run(gloaming, "policy", "new", "--template", "docs", "--site", "cdnow.example", "--out", str(work / "policy.toml"))
        out = work / "rows.csv"
        run(gloaming, "model", "rows", str(work / "events.ndjson"), "--policy", str(work / "policy.toml"), "--out", str(out))
        rows = read(out)
    evenings = {at_ms(day, 22) for day in on}
    return rows.where(np.asarray([int(at) in evenings for at in rows.column("started_ms")]))


def tenth_and_others(data: Path, gloaming: str, on: list[date] | None = None) -> tuple[Days, Split]:
    """All purchases; and rows of the published tenth of the customers, and of all others, on the last known day or on others."""
    folder, on = data / "cdnow", on or [KNOWN]
    days = purchases(folder / "CDNOW_master.txt", 4)
    sample = set(purchases(folder / "CDNOW_sample.txt", 5))
    rows = seen_by_devices(log_of(days, dict.fromkeys(days, on), max(on)), gloaming, on)
    inside = np.asarray([who in sample for who in rows.column("device")])
    split = Split(
        "time", rows.where(inside), rows.where(~inside),
        f"CDNOW, purchases of a tenth of the customers to {KNOWN}", f"CDNOW, all other customers, {KNOWN} to {TOLD}",
    )
    return days, split


#: The outcome as the device sees it that was asked, in rows of browsers that forget.
SEEN = "spent-on-device"


def where_browsers_forget(days: Days, rows: Table, gloaming: str) -> tuple[Table, dict[str, Any]]:
    """The same rows where browsers delete storage after seven days without a visit; and what is lost of all purchases, in figures.

    They are in the same order, of the same customers on the same evenings. What was spent in the weeks after, on the device that was
    asked, is in their column ``spent-on-device``: whatever was spent on a later one is joined to no score.
    """
    asked = list(zip(rows.column("device"), (int(at) for at in rows.column("started_ms"))))
    ours = {who: days[who] for who, _ in asked}
    on: dict[str, list[date]] = defaultdict(list)
    for who, at in asked:
        on[who].append(datetime.fromtimestamp(at / 1000, timezone.utc).date())
    censored = forgetful(log_of(ours, on, TOLD))
    told = seen_by_devices(censored.events, gloaming, sorted({day for days in on.values() for day in days}))
    later: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for event in censored.events:
        if event["event"] == "purchase":
            later[event["device"]].append((event["at_ms"], event["value"]))
    place = {}
    for at, (device, when) in enumerate(zip(told.column("device"), told.column("started_ms"))):
        place[(censored.people[device], int(when))] = at
    order = [place[one] for one in asked]
    columns = {name: [values[at] for at in order] for name, values in told.columns.items()}
    weeks_ms = WEEKS * 7 * 86_400_000
    seen = [
        sum(worth for at, worth in later[device] if int(when) < at <= int(when) + weeks_ms)
        for device, when in zip(columns["device"], columns["started_ms"])
    ]
    names = [who for who, _ in asked]
    return Table({**columns, "device": names, SEEN: [str(worth) for worth in seen]}), forgetful(log_of(ours, {}, TOLD)).lost


def forgetting(score: np.ndarray, truth: np.ndarray, seen: np.ndarray, rows: Table, lost: dict[str, Any]) -> dict[str, Any]:
    """How a model fares there, and what is lost: printed, and for the manifest. Scores of who is forgotten are 0, as of people who never bought."""
    kept = rows.numbers(["purchase-days@1"])[:, 0] > 0
    figures: dict[str, Any] = {
        "days": 7, "share_of_purchases_lost": lost["share"], "customers_who_came_back": lost["people"], "of_them_forgotten": lost["people_forgotten"],
        "asked": len(rows), "forgotten_when_asked": round(float((~kept).mean()), 4), "with_the_outcome": int(truth.sum()),
        "seen_by_the_device": int(seen.sum()), "outcomes_lost": round(1 - float(seen.sum() / truth.sum()), 4),
        "auc": round(float(roc_auc_score(truth, score)), 4), "auc_of_the_remembered": round(float(roc_auc_score(truth[kept], score[kept])), 4),
        "mean_score": round(float(score.mean()), 4), "base_rate": round(float(truth.mean()), 4), "base_rate_as_seen": round(float(seen.mean()), 4),
    }
    print(f"\nwhere browsers forget after 7 days without a visit: {lost['again_lost']} of {lost['again']} purchases after a customer's first "
          f"({lost['share']:.1%}) are joined to none before, and {lost['people_forgotten']} of {lost['people']} customers who came back are forgotten on the way;\n"
          f"of {len(rows)} who are asked {(~kept).sum()} are forgotten already ({(~kept).mean():.1%}); of {truth.sum()} with the outcome the device that was asked sees "
          f"{seen.sum()}, {figures['outcomes_lost']:.1%} are lost;\nAUC {figures['auc']:.4f}, and {figures['auc_of_the_remembered']:.4f} of the {kept.sum()} who are remembered; "
          f"mean score {figures['mean_score']:.4f}, base rate {figures['base_rate']:.4f}, as the devices see it {figures['base_rate_as_seen']:.4f}")
    return figures


def noted(figures: dict[str, Any]) -> str:
    """What evidence says of it in a line."""
    return (f"; with storage kept: where browsers delete it after 7 days without a visit, {figures['forgotten_when_asked']:.1%} are forgotten when asked, "
            f"{figures['outcomes_lost']:.1%} of outcomes are lost, and the AUC is {figures['auc']:.4f}")


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
