#!/usr/bin/env python3
"""The kit from a log to evidence, on visits that are made up; the argument is the `gloaming` command."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from gloaming_kit import Table, bring, forgetful, in_turn, read, split_at_random, split_by_group, split_by_source, split_by_time  # noqa: E402

GLOAMING = str(Path(sys.argv[1]).resolve())
START, DAY = 1_795_430_000_000, 86_400_000
FEATURES = ["pages@1", "engaged-time@1", "returning@1", "max-scroll@1"]


def log(path: Path) -> None:
    """400 people, 3 visits each: who looks at more pages for longer buys more often, on a later page."""
    rng = np.random.default_rng(1)
    events = []
    for person in range(400):
        keen = rng.random()
        for visit in range(3):
            at = START + int(rng.integers(0, 9 * DAY)) + visit * 10 * DAY
            for page in range(1 + rng.poisson(4 * keen)):
                line = {"device": f"d{person}", "at_ms": at, "event": "page_view", "path": f"/docs/{page}"}
                events += [line, {"device": f"d{person}", "at_ms": at + 900, "event": "user_engagement", "a": int(2000 + 9000 * keen * rng.random())}]
                events.append({"device": f"d{person}", "at_ms": at + 950, "event": "scroll", "a": int(rng.integers(10, 100))})
                at += 5_000
    events.sort(key=lambda event: (event["device"], event["at_ms"]))
    path.write_text("\n".join(map(json.dumps, events)))


def gloaming(*arguments: str, cwd: Path) -> str:
    return subprocess.run([GLOAMING, *arguments], cwd=cwd, check=True, capture_output=True, text=True).stdout


def refused(what, words: str) -> None:
    try:
        what()
    except (ValueError, KeyError, RuntimeError) as error:
        assert words in str(error), f"{words!r} is not in {error}"
    else:
        raise AssertionError(f"not refused: {words}")


with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    gloaming("policy", "new", "--template", "docs", "--site", "docs.example", cwd=folder)
    log(folder / "events.ndjson")
    print(gloaming("model", "rows", "events.ndjson", cwd=folder).strip())
    table = read(folder / "rows.csv")
    # What happened later, which the log of a real site would say: made up, too.
    rng = np.random.default_rng(2)
    pages = table.numbers(["pages@1"])[:, 0]
    came = (rng.random(len(table)) < 1 / (1 + np.exp(2.2 - 0.45 * pages))).astype(int)
    region = rng.choice(["north", "south"], len(table))
    table = Table({**table.columns, "signed-up": [str(v) for v in came], "region": list(region)})

    said = dict(
        features=FEATURES, outcome="signed-up", meaning="probability that somebody signs up later", owner="data@docs.example",
        next_review="2099-01-01", groups=["region"], gloaming=GLOAMING,
    )
    for number, (model, split) in enumerate([
        (make_pipeline(StandardScaler(), LogisticRegression()), split_by_time(table, START + 20 * DAY)),
        (GradientBoostingClassifier(n_estimators=20, max_depth=2), split_by_group(table)),
    ]):
        brought = bring(model, split, name=f"signup-{number}", version=1, out=folder / f"models/signup-{number}", **said)
        held = json.loads((brought.evidence / "held-out.json").read_text())["predicate"]
        own = roc_auc_score(split.test.outcome("signed-up"), model.predict_proba(split.test.numbers(FEATURES))[:, 1])
        assert abs(held["auc"]["value"] - own) < 1e-6, (held["auc"], own)
        assert held["on"]["split"] == split.by and held["on"]["rows"] == len(split.test)
        print(f"{type(model).__name__} by {split.by}: AUC {own:.4f} here, {held['auc']['value']:.4f} by gloaming")
        assert {p.name for p in brought.evidence.iterdir()} == {"held-out.json", "calibration.json", "parity.json", "fairness.json"}
    turns = in_turn(
        make_pipeline(StandardScaler(), LogisticRegression()), table, "region", name="regions", version=1, out=folder / "models/regions",
        **(said | {"groups": [], "no_group": "The regions are what is held out, and there is no other attribute."}),
    )
    held = json.loads((turns.evidence / "held-out.json").read_text())["predicate"]
    assert held["on"]["split"] == "source" and len(held["turns"]) == 1
    assert held["auc"]["low"] <= held["turns"][0]["auc"]["low"], "the hardest is the one that is brought"
    assert {held["on"]["tested"].split()[-1], held["turns"][0]["held_out"]} == {"north", "south"}
    people = {tuple(row) for row in table.numbers(FEATURES).tolist()}
    rows = json.loads((turns.folder / "manifest.json").read_text())
    made = [tuple(row) for row in rows["reference"]["inputs"]]
    assert sum(row in people for row in made) < len(made) / 8, "reference rows are nobody's"
    lot = bring(LogisticRegression(), split_at_random(table), name="lot", version=1, out=folder / "models/lot", **said)
    assert "no gate takes them for evidence" in lot.printed

    refused(lambda: split_by_time(table, 0), "nothing to learn from")
    refused(lambda: split_by_source(table, "region", ["east"]), "nothing to report on")
    refused(lambda: split_by_source(table, "shop", ["a"]), "no column 'shop'")
    assert split_by_source(table, "region", ["north"]).by == "source"
    bad = dict(said, features=["pages@2"])
    refused(lambda: bring(LogisticRegression(), split_by_group(table), name="x", version=1, out=folder / "x", **bad), "no column 'pages@2'")
    refused(lambda: bring(LogisticRegression(), split_by_group(table), name="signup-0", version=1, out=folder / "models/signup-0", **said), "holds version 1 already")
    refused(lambda: table.outcome("region"), "an outcome is 0 or 1")

    # A model that scores while a visit lasts: judged at its third page, and told how it fares at the others.
    printed = gloaming("model", "rows", "events.ndjson", "--at", "1,2,3,5", "--end", "pages@1", "--out", "moments.csv", cwd=folder)
    assert "moments of them" in printed, printed
    moments = read(folder / "moments.csv")
    long = (moments.numbers(["end:pages@1"])[:, 0] >= 4).astype(int)
    moments = Table({**moments.columns, "long": [str(v) for v in long], "region": list(rng.choice(["north", "south"], len(moments)))})
    early = dict(said, features=["pages@1", "engaged-time@1", "returning@1", "max-scroll@1"], outcome="long")
    model = make_pipeline(StandardScaler(), LogisticRegression())
    refused(lambda: bring(model, split_by_time(moments, START + 20 * DAY), name="early", version=1, out=folder / "early", **early), "say at which one")
    brought = bring(model, split_by_time(moments, START + 20 * DAY), name="early", version=1, out=folder / "early", at=2, **early)
    held = json.loads((brought.evidence / "held-out.json").read_text())["predicate"]
    test = split_by_time(moments, START + 20 * DAY).test
    for point in held["curve"]:
        here = test.where(np.asarray(test.column("at")) == point["at"].split()[1])
        own = roc_auc_score(here.outcome("long"), model.predict_proba(here.numbers(early["features"]))[:, 1])
        assert point["rows"] == len(here) and abs(point["auc"]["value"] - own) < 1e-6, (point, own)
    assert [point["at"] for point in held["curve"]] == ["at 1", "at 2", "at 3"], "whoever is at the fifth page has come that far"
    assert held["auc"] == held["curve"][1]["auc"] and held["on"]["tested"].endswith("where at is 2"), held["on"]
    assert held["curve"][0]["auc"]["value"] < held["curve"][1]["auc"]["value"] + 0.05
    print("\n".join(line for line in brought.printed.splitlines() if " at " in line or "where at" in line))

    # Browsers that forget: 7 days without a visit are remembered, one millisecond more is not; a visit without a purchase keeps.
    def bought(device: str, *days: float) -> list[dict]:
        return [{"device": device, "at_ms": START + round(day * DAY), "event": "purchase", "value": 10} for day in days]

    late = 1 / DAY
    kept = [{"device": "visitor", "at_ms": START + 6 * DAY, "event": "page_view", "path": "/docs"}]
    events = bought("weekly", 0, 7, 14) + bought("late", 0, 7 + late) + bought("visitor", 12, 0) + kept + bought("once", 3) + bought("twice", 0, 1, 30, 60)
    found = forgetful(events)
    assert found.lost == {"people": 4, "people_forgotten": 2, "again": 7, "again_lost": 3, "share": round(3 / 7, 4)}, found.lost
    assert {device for device, person in found.people.items() if person == "twice"} == {"twice", "twice~2", "twice~3"}
    assert found.people["late~2"] == "late" and "weekly~2" not in found.people and "visitor~2" not in found.people
    assert len(found.events) == len(events) and forgetful(events, days=40).lost["again_lost"] == 0
    assert forgetful(bought("once", 3)).lost["share"] == 0.0
    evening = [{"device": who, "at_ms": START + 61 * DAY, "event": "page_view", "path": "/docs"} for who in ("weekly", "twice")]
    for name, log_of, knows in [("all", events + evening, {"weekly": 3, "twice": 4}), ("some", forgetful(events + evening).events, {"weekly~2": 0, "twice~3": 1})]:
        lines = sorted(log_of, key=lambda event: (event["device"], event["at_ms"]))
        (folder / f"{name}.ndjson").write_text("\n".join(map(json.dumps, lines)))
        gloaming("model", "rows", f"{name}.ndjson", "--out", f"{name}.csv", cwd=folder)
        told = read(folder / f"{name}.csv")
        told = told.where(told.numbers(["started_ms"])[:, 0] >= np.float32(START + 61 * DAY))
        days = dict(zip(told.column("device"), told.numbers(["purchase-days@1"])[:, 0]))
        assert days == knows, (name, days)
    print(f"a week without a visit loses {found.lost['again_lost']} of {found.lost['again']} purchases after the first")
    print("the kit works, from a log to evidence")
