"""What it costs to draw prefixes as if every order were as likely, measured where the order is known.

Visits to msnbc.com on 28 September 1999, page by page (Cadez, Heckerman, Meek, Smyth, White 2000; doi:10.24432/C5390X; those with
nine or more pages). As in the shop, three kinds of pages are counted, and something else that happens on the way is told: that the
visit comes to the sports pages, which are themselves not counted. What is learnt here is thrown away.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from candidates import SEED, Model
from prefixes import DRAWS, PAGES, Prefixes, bootstrapped, ends, prefixes

Array = np.ndarray
Fit = Callable[[Array, Array, Array], Model]

#: Numbers of the file: msn-sports and sports; the front page; news; and whatever is left.
SPORTS, FRONT, NEWS = {13, 14}, {1}, {2, 3, 4, 6, 9, 12, 15}
KINDS = 3
HELD_OUT = 0.2


def kind(section: int) -> int:
    return 0 if section in FRONT else 1 if section in NEWS else 2


def visits(path: Path) -> tuple[list[Array], Array]:
    """The kinds of each visit's counted pages in their order, and how many of them came before the sports pages (all, if it never came)."""
    if not path.is_file():
        sys.exit(f"error: no such file: {path}")
    orders, before = [], []
    for line in path.read_text().splitlines():
        sections = [int(section) for section in line.split()]
        came = next((at for at, section in enumerate(sections) if section in SPORTS), None)
        orders.append(np.asarray([kind(section) for section in sections if section not in SPORTS], dtype=np.int64))
        before.append(len(sections) + 1 if came is None else came)
    return orders, np.asarray(before)


def true_prefixes(orders: list[Array]) -> Prefixes:
    """The first pages of each visit, as they came."""
    parts = []
    for k in PAGES:
        who = np.asarray([at for at, order in enumerate(orders) if len(order) >= k])
        parts.append((np.stack([np.bincount(orders[at][:k], minlength=KINDS) for at in who]), who, np.full(len(who), k)))
    x, who, at = (np.concatenate(part) for part in zip(*parts))
    return Prefixes(x.astype(np.float32), who, at, np.zeros(len(who), dtype=np.int64), 1 / np.bincount(who, minlength=len(orders))[who])


def measured(path: Path, fit: Fit) -> dict[str, list]:
    """The same kind of model on drawn prefixes and on true ones: a table for the manifest."""
    orders, before = visits(path)
    came = np.asarray([int(before[at] <= len(order)) for at, order in enumerate(orders)])
    totals = np.stack([np.bincount(order, minlength=KINDS) for order in orders]).astype(np.float32)
    held = np.random.default_rng(SEED).random(len(orders)) < HELD_OUT
    drawn, true = prefixes(totals, [0, 1, 2], [], SEED), true_prefixes(orders)

    def learnt(of: Prefixes) -> Model:
        here = ~held[of.session]
        return fit(of.x[here], came[of.session[here]], of.weight[here])

    by_drawn, by_true = learnt(drawn), learnt(true)
    rows = []
    for k in PAGES:
        def there(of: Prefixes, draw: int) -> Array:
            rows = of.point(k, draw)
            return rows[held[of.session[rows]]]

        points, real = [there(drawn, draw) for draw in range(DRAWS)], there(true, 0)
        y = came[true.session[real]]
        told = [by_drawn.log_odds(drawn.x[point]) for point in points]
        met, own = by_drawn.log_odds(true.x[real]), by_true.log_odds(true.x[real])
        found, again = bootstrapped(y, [told, [met], [own]], k)
        # Of visits that have not come yet, which is what a device asks.
        yet = before[true.session[real]] >= k
        (ahead,), ahead_again = bootstrapped(y[yet], [[met[yet]]], k)
        values = [float(y.mean()), found[0], found[1], found[0] - found[1], *ends(again[:, 0] - again[:, 1]), found[2], ahead, *ends(ahead_again[:, 0])]
        rows.append([k, len(y), *(round(value, 4) for value in values)])
    columns = [
        "page", "visits", "came", "AUC on drawn prefixes", "on true ones", "difference", "from", "to",
        "learnt from true ones", "of those still to come", "still from", "still to",
    ]
    return {"columns": columns, "rows": rows}
