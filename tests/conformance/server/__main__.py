"""Runs the official MCP conformance suite against our server and keeps what it reports.

python -m tests.conformance.server

The suite and, where the system's is too old, a Node come from npm into a temporary folder. The end
is bad when a scenario fails that is not in the list of those that must, or one passes that is.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.conformance.suite import BOUND_S, PACKAGE, RELEASES, node_in, suite_in

HERE = Path(__file__).parent


def main() -> int:
    """Run every release; the exit code."""
    with tempfile.TemporaryDirectory(prefix="peritus-conformance-") as made:
        folder = Path(made)
        node = node_in(folder)
        return max([_run(folder, node, release) for release in RELEASES])


def _run(folder: Path, node: str, release: str) -> int:
    place = folder / release
    suite = suite_in(place, release)
    project = place / "project"
    shutil.copytree(HERE / "project", project)
    options = ["--suite", "all", "--expected-failures", str(HERE / f"expected-{release}.yml")]
    with _server(project) as url:
        command = [node, str(suite), "server", "--url", url, *options, "-o", str(place / "out")]
        ended = subprocess.run(
            command, cwd=place, capture_output=True, text=True, check=False, timeout=BOUND_S
        )
    print(ended.stdout.partition("=== SUMMARY ===")[2], ended.stderr)  # noqa: T201
    _keep(release, place / "out", ended)
    return ended.returncode


@contextmanager
def _server(project: Path) -> Generator[str]:
    command = [sys.executable, "-m", "peritus", "mcp", "--http", "--port", "0"]
    command += ["--provider", "scripted", "--model", "script.toml", "--wait", "20s"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PERITUS_")}
    server = subprocess.Popen(command, cwd=project, env=kept, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    try:
        for line in server.stderr:
            found = re.search(r"MCP at (\S+);", line)
            if found is not None:
                yield found[1]
                return
        raise AssertionError(server.wait())
    finally:
        server.terminate()
        server.communicate(timeout=BOUND_S)


def _keep(release: str, out: Path, ended: "subprocess.CompletedProcess[str]") -> None:
    """Write down what the suite said: its own summary, and its own checks, scenario by scenario."""
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    now = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    head = [
        f"date: {now}",
        f"suite: {PACKAGE} {release}",
        "command: conformance server --url http://127.0.0.1:PORT/mcp --suite all "
        f"--expected-failures expected-{release}.yml",
        "server: peritus mcp --http --port 0 --provider scripted --model script.toml --wait 20s",
        f"exit code: {ended.returncode}",
        "",
    ]
    said = ended.stdout.partition("=== SUMMARY ===")
    text = re.sub(r"\x1b\[\d+m", "", "\n".join(head) + said[1] + said[2])  # without its colours
    (results / f"{release}.txt").write_text(text.replace(str(HERE), "."))
    checks: dict[str, list[Any]] = {}
    for file in sorted(out.glob("*/checks.json")):
        name = re.sub(r"^server-|-\d{4}-\d\d-\d\dT.*$", "", file.parent.name)
        kept = ("id", "status", "errorMessage")
        found = json.loads(file.read_text())
        checks[name] = [{key: one[key] for key in kept if key in one} for one in found]
    (results / f"{release}.json").write_text(json.dumps(checks, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
