"""A site with a policy, three keys and a gate, and the way of a model through it by the command `gloaming`."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable, Iterable

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "kit"))
from gloaming_kit import Table, read  # noqa: E402

#: The rules that `gloaming model promote` suggests to a policy without any; `auc` is the case's own.
GATE = """
[gate]
max_age_days = 180
model_bytes = 1000000
roles = {{ data = ["{data}"], compliance = ["{compliance}"] }}
[gate.experiment]
evidence = ["held-out", "calibration", "fairness", "parity"]
approved_by = ["data"]
auc = {auc}
calibration_error = 0.1
group_gap = 0.1
[gate.live]
evidence = ["held-out", "calibration", "fairness", "parity", "experiment", "ethics"]
approved_by = ["data", "compliance"]
auc = {auc}
calibration_error = 0.1
group_gap = 0.1
lift = 0.0
"""

#: What pages of a case's site give is for the prediction and for nothing else.
PURPOSE = """
[[purpose]]
id = "prediction"
default = "deny"
text.en = "Predict on this device what you may need."
"""


def number(name: str, low: float, high: float, unit: str) -> str:
    """`[[feature]]` of a number that the page gives."""
    return (
        f'\n[[feature]]\nid = "{name}"\nkind = "number"\nmin = {low}\nmax = {high}\nunit = "{unit}"\npurpose = "prediction"\n'
    )


def category(name: str, words: Iterable[str]) -> str:
    """`[[feature]]` of a word that the page gives."""
    return f'\n[[feature]]\nid = "{name}"\nkind = "category"\nvalues = {json.dumps(list(words))}\npurpose = "prediction"\n'


class Site:
    """A folder with a policy, its keys and, later, its models and the gate's record."""

    def __init__(self, folder: Path, gloaming: str, name: str, features: list[str], auc: float) -> None:
        self.folder, self.gloaming = folder, gloaming
        folder.mkdir(parents=True)
        self.run("policy", "new", "--template", "docs", "--site", name)
        keys = {}
        for role in ("owner", "data", "compliance"):
            said = self.run("policy", "key", "--out", f"{role}.key")
            keys[role] = next(line.removeprefix("public key ") for line in said.splitlines() if line.startswith("public key "))
        policy = self.folder / "policy.toml"
        gate = GATE.format(data=keys["data"], compliance=keys["compliance"], auc=auc)
        policy.write_text(policy.read_text() + PURPOSE + "".join(features) + gate)

    def tell(self, *arguments: str) -> tuple[bool, str]:
        """Whether a command worked, and all that it said."""
        done = subprocess.run(
            [self.gloaming, *arguments], cwd=self.folder, env={**os.environ, "NO_COLOR": "1"}, capture_output=True, text=True
        )
        return done.returncode == 0, done.stdout + done.stderr

    def run(self, *arguments: str) -> str:
        worked, said = self.tell(*arguments)
        if not worked:
            sys.exit(f"error: gloaming {' '.join(arguments[:3])}: {said.strip()}")
        return said

    def rows(self, visits: Iterable[tuple[str, int, dict[str, float | str]]]) -> Table:
        """A visit each (name, when it began, what its page gives) as a table, by the code that devices run."""
        with open(self.folder / "events.ndjson", "w") as log:
            for device, at_ms, given in visits:
                log.write(json.dumps({"device": device, "at_ms": at_ms, "event": "page_view", "path": "/"}) + "\n")
                for feature, value in given.items():
                    said = {"word": value} if isinstance(value, str) else {"value": float(value)}
                    log.write(json.dumps({"device": device, "at_ms": at_ms, "event": "feature", "feature": feature, **said}) + "\n")
        print(self.run("model", "rows", "events.ndjson").strip())
        return read(self.folder / "rows.csv")

    def declare(self, models: Iterable[str]) -> None:
        """Names the models in the policy, which then has to compile: it knows every feature that they take."""
        with open(self.folder / "policy.toml", "a") as policy:
            for name in models:
                policy.write(
                    f'\n[[model]]\nid = "{name}"\nmanifest = "models/{name}/manifest.json"\nstate = "shadow"\npurpose = "prediction"\n'
                )

    def judge(self, name: str) -> tuple[bool, str]:
        """Puts a model's evidence to the gate, with the data role's approval: whether it may act, and what was said."""
        owner, signer = ("--key", "owner.key"), ("--signer", "data.key")
        # Asked without evidence: the record begins, or the model becomes known in it.
        self.tell("model", "promote", name, "--to", "shadow", *owner)
        evidence = sorted(str(path.relative_to(self.folder)) for path in (self.folder / f"models/{name}/evidence").iterdir())
        self.run("model", "evidence", *evidence, *owner, *signer)
        self.run("model", "promote", name, "--to", "shadow", *owner)
        # Approved by everybody who is asked: what refuses from here on is the evidence.
        self.run("model", "approve", name, "--to", "experiment", "--role", "data", *signer, "--out", "yes.json")
        self.run("model", "evidence", "yes.json", *owner)
        return self.tell("model", "promote", name, "--to", "experiment", *owner)

    def sign_anyway(self, name: str) -> tuple[bool, str]:
        """Signs a policy that lets the model act whatever the gate said: whether that worked, and what was said."""
        model = f'id = "{name}"\nmanifest = "models/{name}/manifest.json"\nstate = '
        text = (self.folder / "policy.toml").read_text()
        (self.folder / "acting.toml").write_text(text.replace(f'{model}"shadow"', f'{model}"experiment"'))
        return self.tell("policy", "sign", "acting.toml", "--key", "owner.key", "--out", "acting.signed")


def unmet(told: str) -> dict[str, str]:
    """What the gate did not find good enough, and what it found."""
    return dict(re.findall(r"^  no +(\S.*?) {2,}(.*)$", told, re.MULTILINE))


def figures(evidence: Path) -> dict[str, Any]:
    """What the statements say, by kind."""
    return {path.stem: json.loads(path.read_text())["predicate"] for path in evidence.iterdir()}


def main(case: Callable[[Path, str, Path], bool]) -> None:
    """Runs a case on `--data` with `--gloaming`, in `--work` or in a folder that is gone afterwards."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True, type=Path, help="the folder that holds the data set's folder")
    parser.add_argument("--gloaming", default="gloaming", help="the command")
    parser.add_argument("--work", type=Path, help="a folder to keep models, evidence and record in; must not exist")
    said = parser.parse_args()
    gloaming = str(Path(said.gloaming).resolve()) if os.sep in said.gloaming else said.gloaming
    if said.work and said.work.exists():
        sys.exit(f"error: {said.work} exists")
    with tempfile.TemporaryDirectory() as gone:
        try:
            refused = case(said.data.resolve(), gloaming, (said.work or Path(gone) / "work").resolve())
        except FileNotFoundError as error:
            sys.exit(f"error: {error}")
    if not refused:
        sys.exit("error: what must be refused was not")
