"""Online Shoppers as devices would have counted it: features in their order, month by month, and what was bought."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np

#: What a visit did, as the models without an outcome take it: pages and seconds, by kind of page.
COLUMNS = {
    "pages-account@1": "Administrative",
    "time-account@1": "Administrative_Duration",
    "pages-info@1": "Informational",
    "time-info@1": "Informational_Duration",
    "pages-product@1": "ProductRelated",
    "time-product@1": "ProductRelated_Duration",
}
FEATURES = list(COLUMNS)
#: Who came, and when.
FLAGS = ["returning@1", "weekend@1"]
LATER = ["Oct", "Nov"]
TRAINING = {
    "data": "UCI Online Shoppers Purchasing Intention, 10603 sessions of Feb-Nov; the rest is held back, so all figures are development figures",
    "licence": "CC BY 4.0",
    "citation": "Sakar, C. and Kastro, Y. (2018). Online Shoppers Purchasing Intention Dataset. UCI Machine Learning Repository. doi:10.24432/C5F88Q",
}


def table_of(data: Path) -> Path:
    """The CSV in the folder that holds all data."""
    return data / "online_shoppers" / "online_shoppers_feb_nov.csv"


class Shoppers:
    """Features `[sessions, 6]` in single precision, as devices give them, the two flags, and whether each session bought."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            sys.exit(f"error: no such file: {path}")
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
        self.months = np.asarray([row["Month"] for row in rows])
        self.x = np.asarray([[row[column] for column in COLUMNS.values()] for row in rows], dtype=np.float32)
        flags = [[row["VisitorType"] == "Returning_Visitor", row["Weekend"].upper() == "TRUE"] for row in rows]
        self.flags = np.asarray(flags, dtype=np.float32)
        self.bought = np.asarray([row["Revenue"].upper() == "TRUE" for row in rows])
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
