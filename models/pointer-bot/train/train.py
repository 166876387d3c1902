#!/usr/bin/env python3
"""Did a program move the pointer? A small forest over three shares that devices count, learnt from DELBOT's trajectories.

Every pair of a bot and a device of people is held out in its turn, so that the model meets both for the first time; what
ships is the model that met the hardest pair, with what came of all. The three shares and the size of the forest were chosen
by looking at these very turns: a bot that is none of the two may be harder.
"""

from __future__ import annotations

import io
import json
import sys
import tarfile
import tempfile
from itertools import product
from pathlib import Path

import numpy as np
from sklearn.ensemble import RandomForestClassifier

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "kit"))
from gloaming_kit import Table, arguments, in_turn, read, run  # noqa: E402

FEATURES = ["pointer-even@1", "pointer-quick@1", "pointer-steady@1"]
BOTS = ["pyhm", "pynput"]
#: `fast` is learnt from and never held out: it has nine trajectories, and no figure can be made of those.
DEVICES = ["pc1", "pc2", "pc2-pad"]
#: When the first visit of the table is said to have begun; the trajectories carry no date.
START = 1_700_000_000_000
#: Rows of pointers that hardly moved. They say nothing, and the model is told so: as many are bots as of all.
STILL = 100


def moves(text: str) -> list[tuple[int, int, int]]:
    """Milliseconds and pixels of every move, whole as browsers give them; some files give places as shares of the screen."""
    head, *lines = text.split()
    width, height = (float(size) for size in head.removeprefix("resolution:").split(","))
    cells = [line.split(",") for line in lines]
    moved = np.array([(float(at), float(x), float(y)) for at, what, x, y in cells if what == "Move"])
    if moved[:, 1:].max() <= 2:
        moved[:, 1:] *= [width, height]
    return [tuple(row) for row in np.round(moved).astype(int).tolist()]


def trajectories(archive: Path) -> list[tuple[str, list[tuple[int, int, int]]]]:
    """The source of each trajectory, and its moves."""
    found = []
    with tarfile.open(archive) as packed:
        for member in sorted(packed.getmembers(), key=lambda member: member.name):
            place = Path(member.name)
            if place.suffix == ".txt" and not place.name.startswith("."):
                source = place.parent.name.removeprefix("circles_").split("_", 1)[1].replace("_", "-")
                found.append((source, moves(io.TextIOWrapper(packed.extractfile(member), "utf-8").read())))
    return found


def rows(found: list[tuple[str, list[tuple[int, int, int]]]], gloaming: str) -> Table:
    """A trajectory as a visit, told by the code that devices run, with its source and whether it was a bot."""
    with tempfile.TemporaryDirectory() as work:
        log, policy, out = Path(work) / "events.ndjson", Path(work) / "policy.toml", Path(work) / "rows.csv"
        run(gloaming, "policy", "new", "--template", "docs", "--site", "pointers.example", "--out", str(policy))
        with open(log, "w") as file:
            for at, (_, moved) in enumerate(found):
                begin = START + 3_600_000 * at
                lines = [{"event": "page_view", "at_ms": begin, "path": "/"}]
                lines += [{"event": "pointer_move", "at_ms": begin + ms - moved[0][0], "a": x, "b": y} for ms, x, y in moved]
                file.writelines(json.dumps({"device": str(at), **line}) + "\n" for line in lines)
        print(run(gloaming, "model", "rows", str(log), "--policy", str(policy), "--out", str(out)).strip())
        table = read(out)
    sources = [found[int(device)][0] for device in table.column("device")]
    return Table({**table.columns, "source": sources, "bot": ["01"[source in BOTS] for source in sources]})


def with_still(table: Table) -> Table:
    """And rows of pointers of which nothing can be told."""
    bots = round(STILL * np.mean(table.outcome("bot")))
    still = {"source": ["still"] * STILL, "bot": ["1"] * bots + ["0"] * (STILL - bots)}
    return Table({name: [*held, *still.get(name, ["0"] * STILL)] for name, held in table.columns.items()})


def main() -> None:
    said = arguments(__doc__, HERE.parent, "delbot")
    table = rows(trajectories(said.data / "delbot" / "delbot_circles.tar.gz"), said.gloaming)
    print(f"\n{'source':<10}{'rows':>6}   usual: " + ", ".join(FEATURES))
    for source in [*BOTS, *DEVICES, "fast"]:
        here = table.where(np.array([name == source for name in table.column("source")]))
        usual = np.median(here.numbers(FEATURES), axis=0)
        print(f"{source:<10}{len(here):>6}   " + ", ".join(f"{value:.0f}" for value in usual))
    brought = in_turn(
        RandomForestClassifier(25, max_depth=5, min_samples_leaf=10, random_state=1), with_still(table), "source",
        list(product(BOTS, DEVICES)), name="pointer-bot", version=said.version, features=FEATURES, outcome="bot",
        meaning="probability that a program moved the pointer", owner="models@gloaming.example", next_review="2027-06-01",
        out=said.out, gloaming=said.gloaming,
        no_group="Trajectories say nothing of the people behind them: there is nothing to compare by.",
        learnt_from={
            "data": "DELBOT circles: 463 trajectories of two programs, 717 of people on four devices",
            "citation": "DELBOT-Mouse, https://github.com/chrisgdt/DELBOT-Mouse",
            "licence": "MIT",
            "method": "random forest of 25 trees, five deep; shares and size chosen on the turns that are told",
        },
        more={
            "licence": "MIT",
            "intended_use": "To count how many visits programs make, so that figures of people can be read for what they are.",
            "not_for": "Refusing anybody anything. People who steer by keyboard, voice or switch move no pointer or move it like a program.",
        },
    )
    print(brought.printed)
    evidence = json.loads((brought.evidence / "held-out.json").read_text())["predicate"]
    turns = [(evidence["on"]["tested"].removeprefix("source "), evidence["on"], evidence["auc"])]
    turns += [(turn["held_out"].replace(" and ", ", "), turn, turn["auc"]) for turn in evidence["turns"]]
    print(f"{'held out':<18}{'rows':>6}{'bots':>6}  AUC")
    for name, on, auc in sorted(turns):
        print(f"{name:<18}{on['rows']:>6}{on['positives']:>6}  {auc['value']:.4f} [{auc['low']:.4f}, {auc['high']:.4f}]")
    print(run(said.gloaming, "model", "card", str(said.out / "manifest.json"), "--out", str(said.out / "card.md")))


if __name__ == "__main__":
    main()
