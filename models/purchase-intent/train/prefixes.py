"""Visits as they stood at page k, drawn from what is known of whole visits; and how a model fares there.

The data tell how many pages of each kind a session had, and not in which order. A prefix of k pages is drawn from a session's n
pages without replacement, as if every order were as likely: counts by kind are multivariate hypergeometric, and the time on a kind
is taken in proportion. Pages that came after the purchase may be among those drawn, because nothing tells them apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

#: Pages at which a visit is looked at.
PAGES = (1, 2, 3, 5, 8, 13, 21)
#: How often each prefix is drawn.
DRAWS = 4
BOOTSTRAPS = 1000
NOTE = "prefixes drawn; order assumed exchangeable; pages after the purchase may be among them"

Array = np.ndarray


@dataclass(frozen=True)
class Prefixes:
    """Rows of one prefix each: its features, whose session's it is, at which page, in which draw, and what it weighs."""

    x: Array
    session: Array
    at: Array
    draw: Array
    weight: Array

    def point(self, at: int, draw: int) -> Array:
        """The rows at one page in one draw: one of each session that came that far."""
        return np.flatnonzero((self.at == at) & (self.draw == draw))


def drawn_counts(counts: Array, k: int, rng: np.random.Generator) -> Array:
    """Of each row of counts by kind, k drawn without replacement."""
    left, wanted = counts.sum(1), np.full(len(counts), k)
    found = np.zeros_like(counts)
    for kind in range(counts.shape[1] - 1):
        left = left - counts[:, kind]
        found[:, kind] = rng.hypergeometric(counts[:, kind], left, wanted)
        wanted = wanted - found[:, kind]
    found[:, -1] = wanted
    return found


def prefixes(x: Array, pages: list[int], times: list[int], seed: int) -> Prefixes:
    """Prefixes of every session with as many pages; ``pages`` and ``times`` are the columns of each kind.

    A session weighs one, however many prefixes it has.
    """
    rng = np.random.default_rng(seed)
    counts = x[:, pages].astype(np.int64)
    parts = []
    for draw in range(DRAWS):
        for k in PAGES:
            who = np.flatnonzero(counts.sum(1) >= k)
            found = drawn_counts(counts[who], k, rng)
            rows = x[who].copy()
            rows[:, pages] = found
            if times:
                rows[:, times] *= found / np.maximum(counts[who], 1)
            parts.append((rows, who, np.full(len(who), k), np.full(len(who), draw)))
    rows, who, at, draw = (np.concatenate(part) for part in zip(*parts))
    return Prefixes(rows, who, at, draw, 1 / np.bincount(who, minlength=len(x))[who])


def auc(y: Array, score: Array) -> float:
    """The share of pairs in which the one with the outcome has the higher score; a tie is half a pair."""
    ranks, positive = rankdata(score), y == 1
    count = int(positive.sum())
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * (len(y) - count)))


def brier(y: Array, score: Array) -> float:
    return float(((y - score) ** 2).mean())


def bootstrapped(y: Array, scores: list[list[Array]], seed: int) -> tuple[list[float], Array]:
    """The AUC of each scorer, averaged over draws; and, of sessions drawn again, what each scorer then has ``[BOOTSTRAPS, scorers]``.

    ``scores`` are those of one scorer after the other, draw by draw. Each time sessions are drawn again another draw of their
    prefixes is taken, so that the spread is that of both.
    """
    rng, again = np.random.default_rng(seed), []
    for number in range(BOOTSTRAPS):
        rows = rng.integers(0, len(y), len(y))
        again.append([auc(y[rows], of[number % len(of)][rows]) for of in scores])
    return [float(np.mean([auc(y, draw) for draw in of])) for of in scores], np.asarray(again)


def ends(values: Array) -> list[float]:
    """The middle 95 %."""
    return [float(end) for end in np.quantile(values, [0.025, 0.975])]


def curve(found: Prefixes, y: Array, now: Array, before: Array) -> dict[str, list]:
    """How this version's and the one before's scores of the same prefixes fare at each page: a table for the manifest."""
    rows = []
    for k in PAGES:
        points = [found.point(k, draw) for draw in range(DRAWS)]
        bought = y[found.session[points[0]]]
        (this, other), again = bootstrapped(bought, [[of[point] for point in points] for of in (now, before)], k)
        errors = [float(np.mean([brier(bought, of[point]) for point in points])) for of in (now, before)]
        gain = ends(again[:, 0] - again[:, 1])
        values = [float(bought.mean()), this, *ends(again[:, 0]), other, this - other, *gain, *errors]
        rows.append([k, len(bought), *(round(value, 4) for value in values)])
    columns = ["page", "sessions", "bought", "AUC", "from", "to", "AUC, version 1", "gain", "gain from", "gain to", "Brier", "Brier, version 1"]
    return {"columns": columns, "rows": rows}


def printed(title: str, table: dict[str, list]) -> None:
    """A table of the manifest, for a reader of the script's output."""
    print(f"\n{title}")
    cells = [table["columns"], *([f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in row] for row in table["rows"])]
    widths = [max(len(row[at]) for row in cells) for at in range(len(cells[0]))]
    for row in cells:
        print("  ".join(cell.ljust(width) if at == 0 else cell.rjust(width) for at, (cell, width) in enumerate(zip(row, widths))))
