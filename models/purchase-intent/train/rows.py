#!/usr/bin/env python3
"""Write one month of Online Shoppers as rows for `gloaming model evaluate`: a column for each feature, one for the
outcome. Needs nothing but Python."""

import argparse
import csv
import sys

COLUMNS = {
    "pages-account@1": "Administrative",
    "time-account@1": "Administrative_Duration",
    "pages-info@1": "Informational",
    "time-info@1": "Informational_Duration",
    "pages-product@1": "ProductRelated",
    "time-product@1": "ProductRelated_Duration",
}

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--data", required=True, help="the data's CSV, with its original column names")
parser.add_argument("--month", default="Nov", help="the month, as the data call it")
arguments = parser.parse_args()

out = csv.writer(sys.stdout, lineterminator="\n")
out.writerow([*COLUMNS, "returning@1", "weekend@1", "purchase"])
count = 0
with open(arguments.data, newline="") as file:
    for row in csv.DictReader(file):
        if row["Month"] == arguments.month:
            flags = [row["VisitorType"] == "Returning_Visitor", row["Weekend"].upper() == "TRUE", row["Revenue"].upper() == "TRUE"]
            out.writerow([*(row[column] for column in COLUMNS.values()), *(int(flag) for flag in flags)])
            count += 1
if not count:
    sys.exit(f"error: {arguments.data} has no rows of {arguments.month}")
