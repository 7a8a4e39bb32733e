"""Runs the official MCP conformance suite against our client and keeps what it reports.

python -m tests.conformance.client

Each scenario is run by itself, at each revision that it is of: some of them measure time. The end
is bad when one fails that is not in the list of those that must, or one passes that is.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from tests.conformance.suite import BOUND_S, PACKAGE, RELEASES, node_in, suite_in

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
DRIVER = "python -m tests.conformance.client.driver"
SPOKEN = ("2025-11-25", "2026-07-28")
"""The revisions at which a scenario is run that is of several."""

TIMEOUT_MS = 120_000
SCENARIO = re.compile(r"^  - (?P<name>\S+) \[(?P<of>[^]]*)\]$", re.MULTILINE)
COLOURS = re.compile(r"\x1b\[\d+m")


class Run(NamedTuple):
    """One scenario, at one revision; empty: the one that the suite chooses."""

    name: str
    revision: str = ""

    @property
    def title(self) -> str:
        return f"{self.name} at {self.revision}" if self.revision else self.name


def main() -> int:
    """Run every release; the exit code."""
    with tempfile.TemporaryDirectory(prefix="peritus-conformance-") as made:
        folder = Path(made)
        node = node_in(folder)
        return max([_release(folder, node, release) for release in RELEASES])


def _release(folder: Path, node: str, release: str) -> int:
    suite = str(suite_in(folder / release, release))
    listed = subprocess.run(
        [node, suite, "list", "--client"], capture_output=True, text=True, check=True
    )
    runs = [run for found in SCENARIO.finditer(listed.stdout) for run in _runs(found)]
    said: list[str] = []
    checks: dict[str, list[Any]] = {}
    worst = 0
    for run in runs:
        out = folder / release / "out" / str(len(said))
        ended = _scenario([node, suite, "client"], release, run, out)
        told = COLOURS.sub("", f"{ended.stdout}\n{ended.stderr}")
        text = told.partition("Test Results:")[2].strip()
        said.append(f"=== {run.title}\n{text}\nexit code: {ended.returncode}\n")
        print(said[-1], flush=True)  # noqa: T201
        checks[run.title] = _checks(out)
        worst = max(worst, ended.returncode)
    _keep(release, said, checks, worst)
    return worst


def _runs(found: "re.Match[str]") -> list[Run]:
    of = [revision for revision in SPOKEN if revision in found["of"].split(",")]
    return [Run(found["name"], one) for one in of] if len(of) > 1 else [Run(found["name"])]


def _scenario(
    suite: list[str], release: str, run: Run, out: Path
) -> "subprocess.CompletedProcess[str]":
    driver = DRIVER.replace("python", sys.executable, 1)
    options = ["--command", driver, "--scenario", run.name, "--timeout", str(TIMEOUT_MS)]
    options += ["--spec-version", run.revision] if run.revision else []
    options += ["--expected-failures", str(HERE / f"expected-{release}.yml"), "-o", str(out)]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PERITUS_")}
    env = {**kept, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [*suite, *options],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=BOUND_S,
    )


def _checks(out: Path) -> list[Any]:
    """What each check came to, without those that only tell of requests."""
    kept = ("id", "status", "errorMessage")
    found = [one for file in out.rglob("checks.json") for one in json.loads(file.read_text())]
    told = [{key: one[key] for key in kept if key in one} for one in found]
    return [one for one in told if one["status"] != "INFO"]


def _keep(release: str, said: list[str], checks: dict[str, list[Any]], worst: int) -> None:
    """Write down what the suite said: its own summaries, and its own checks."""
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    head = [
        f"date: {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}",
        f"suite: {PACKAGE} {release}",
        f"command, for each scenario: conformance client --command '{DRIVER}' --scenario NAME "
        f"[--spec-version REVISION] --timeout {TIMEOUT_MS} "
        f"--expected-failures expected-{release}.yml",
        f"exit code: {worst}",
        "",
    ]
    text = "\n".join([*head, *said]).replace(str(HERE), ".")
    (results / f"{release}.txt").write_text(text)
    (results / f"{release}.json").write_text(json.dumps(checks, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
