"""Online Shoppers as the models without an outcome take it: features in the order of devices, month by month."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from rows import COLUMNS, HEADER, sessions

#: What a visit did; who came, and when, is left out.
FEATURES = list(COLUMNS)
LATER = ["Oct", "Nov"]
TRAINING = {
    "data": "UCI Online Shoppers Purchasing Intention, 10603 sessions of Feb-Nov; the rest is held back, so all figures are development figures",
    "licence": "CC BY 4.0",
    "citation": "Sakar, C. and Kastro, Y. (2018). Online Shoppers Purchasing Intention Dataset. UCI Machine Learning Repository. doi:10.24432/C5F88Q",
}


class Shoppers:
    """Features `[sessions, 6]` in single precision, as devices give them, and whether each session bought."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            sys.exit(f"error: no such file: {path}")
        found = list(sessions(str(path)))
        self.months = np.asarray([month for month, _ in found])
        cells = np.asarray([cells for _, cells in found], dtype=np.float32)
        self.x, self.bought = cells[:, : len(FEATURES)], cells[:, HEADER.index("purchase")] == 1
        if not set(LATER) < set(self.months):
            sys.exit(f"error: {path} lacks the months {LATER} or all others")

    def learnt(self) -> np.ndarray:
        """February to September."""
        return self.x[~np.isin(self.months, LATER)]

    def of(self, month: str) -> tuple[np.ndarray, np.ndarray]:
        here = self.months == month
        return self.x[here], self.bought[here]


def logs(x: np.ndarray) -> np.ndarray:
    """Counts and times span four powers of ten; a tenth more is a tenth more everywhere."""
    return np.log1p(x.astype(np.float64))
