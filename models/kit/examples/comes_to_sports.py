#!/usr/bin/env python3
"""From clicks to a model that scores while a visit lasts: will somebody who reads news come to the sports pages?

    python models/kit/examples/comes_to_sports.py path/to/MSNBC.seq

Each line of the file is one visit to msnbc.com on 28 September 1999, as the sections that were looked at, one after the other
(Cadez, Heckerman, Meek, Smyth, White 2000; UCI Machine Learning Repository, doi:10.24432/C5390X; of visits with nine or more pages).
Times are not told, so that pages are put ten seconds apart and no feature of time is used.
"""

import json
import sys
import tempfile
from datetime import date, timedelta
from pathlib import Path

from sklearn.ensemble import GradientBoostingClassifier

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from gloaming_kit import Table, bring, read, run, split_by_group  # noqa: E402

SECTIONS = "frontpage news tech local opinion on-air misc weather msn-news health living business msn-sports sports summary bbs travel".split()
SPORTS = {"msn-sports", "sports"}
#: What is known of a visit at a page: how far it has come, where it began, and where it is now.
FEATURES = ["pages@1", "groups-visited@1", "landing-group@1", "exit-group@1", "journey-pair@1"]
START, STEP = 938_476_800_000, 10_000
AT = 3

# 1. A policy says which pages count as one, and names the event that is to be told.
POLICY = f"""site = "news.example"
version = 1
expires = "{date.today() + timedelta(days=90)}"
budget = {{ rho_per_device_day = 0.1, delta = 1e-6 }}
origins = ["https://news.example"]
home_edges = ["edge-1"]
events = ["came-to-sports"]

[[purpose]]
id = "measurement"
text.en = "Count how pages are used."

[[metric]]
id = 1
name = "visits"
of = "feature:pages@1"
histogram = {{ edges = [1, 2, 5, 10, 100] }}
purpose = "measurement"
tier = "edge"
window = "day"
rho = 0.05
per_day = 1
k = 50
""" + "".join(f'\n[[page_group]]\nid = "{name}"\npaths = ["/{name}"]\n' for name in SECTIONS)


def log(visits: Path, out: Path) -> None:
    """One line an event, in the form of `gloaming model rows`."""
    with open(out, "w") as file:
        for number, visit in enumerate(visits.read_text().splitlines()):
            device = f"visit-{number}"
            pages = [SECTIONS[int(page) - 1] for page in visit.split()]
            for place, section in enumerate(pages):
                event = {"device": device, "at_ms": START + place * STEP}
                file.write(json.dumps({**event, "event": "page_view", "path": f"/{section}"}) + "\n")
                if section in SPORTS:
                    file.write(json.dumps({**event, "event": "came-to-sports"}) + "\n")


def main(visits: str, gloaming: str = "gloaming") -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        policy = folder / "policy.toml"
        policy.write_text(POLICY)
        log(Path(visits), folder / "events.ndjson")
        # 2. Rows: each visit as it stood at its first, second, … page, by the code that devices run.
        print(run(
            gloaming, "model", "rows", str(folder / "events.ndjson"), "--policy", str(policy), "--at", "1,2,3,5,8",
            "--end", "custom-events@1", "--out", str(folder / "rows.csv"),
        ).strip())
        table = read(folder / "rows.csv")
        # 3. The outcome: of visits that have not come to sports yet, whether they do later.
        so_far, in_the_end = (table.numbers([name])[:, 0] for name in ("custom-events@1", "end:custom-events@1"))
        table = Table({**table.columns, "comes": [str(int(value > 0)) for value in in_the_end]}).where(so_far == 0)
        # 4. Other people than those that were learnt from; the kit exports, proves, and hands in.
        brought = bring(
            GradientBoostingClassifier(n_estimators=60, max_depth=4, random_state=1), split_by_group(table), at=AT,
            name="comes-to-sports", version=1, features=FEATURES, outcome="comes", out=folder / "comes-to-sports",
            meaning="probability that this visit comes to the sports pages", owner="data@news.example", next_review="2099-01-01",
            no_group="The log says nothing of who the visitors were, so there is no attribute to compare.", gloaming=gloaming,
        )
        print(brought.printed)


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
