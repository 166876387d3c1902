#!/usr/bin/env python3
"""Write one month of Online Shoppers as rows for `gloaming model evaluate`: a column for each feature, one for the
outcome. Needs nothing but Python."""

import argparse
import csv
import sys
from typing import Iterator

COLUMNS = {
    "pages-account@1": "Administrative",
    "time-account@1": "Administrative_Duration",
    "pages-info@1": "Informational",
    "time-info@1": "Informational_Duration",
    "pages-product@1": "ProductRelated",
    "time-product@1": "ProductRelated_Duration",
}

HEADER = [*COLUMNS, "returning@1", "weekend@1", "purchase"]


def sessions(path: str) -> Iterator[tuple[str, list[str]]]:
    """The month of each session, and its cells in the order of `HEADER`."""
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            flags = [row["VisitorType"] == "Returning_Visitor", row["Weekend"].upper() == "TRUE", row["Revenue"].upper() == "TRUE"]
            yield row["Month"], [*(row[column] for column in COLUMNS.values()), *(str(int(flag)) for flag in flags)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="the data's CSV, with its original column names")
    parser.add_argument("--month", default="Nov", help="the month, as the data call it")
    said = parser.parse_args()
    rows = [cells for month, cells in sessions(said.data) if month == said.month]
    if not rows:
        sys.exit(f"error: {said.data} has no rows of {said.month}")
    csv.writer(sys.stdout, lineterminator="\n").writerows([HEADER, *rows])


if __name__ == "__main__":
    main()
