"""`make bench`: measures the figures and writes them with machine and date. Asserts nothing."""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.figures import measure
from eventlog.jetstream.durability import Durability

RESULTS = Path(__file__).parent / "results"
CLASSES: tuple[Durability, ...] = ("os", "process")
COLD_RUNS = 5

SCRIPT = '[[reply]]\ntext = "done"\n'
PROJECT = '[experts."one"]\ninstruction = "Answer."\n'


def cold_run_s() -> float:
    """`peritus run` of a one-step script from nothing, in seconds: the median of a few."""
    times: list[float] = []
    for _ in range(COLD_RUNS):
        with tempfile.TemporaryDirectory(prefix="peritus-cold-") as name:
            folder = Path(name)
            (folder / "perstack.toml").write_text(PROJECT)
            (folder / "script.toml").write_text(SCRIPT)
            command = [sys.executable, "-m", "peritus", "run", "one", "go", "--json",
                       "--provider", "scripted", "--model", "script.toml"]  # fmt: skip
            begun = time.perf_counter()
            subprocess.run(command, cwd=folder, check=True, capture_output=True)
            times.append(time.perf_counter() - begun)
    return sorted(times)[len(times) // 2]


def machine() -> dict[str, str | int | float]:
    """What it was measured on."""
    return {
        "system": platform.platform(),
        "python": platform.python_version(),
        "cores": os.cpu_count() or 0,
        "load_1m": os.getloadavg()[0],
    }


def main() -> int:
    """Measure, print, and keep."""
    import uvloop  # noqa: PLC0415 - as in production, see peritus.cli

    report: dict[str, object] = {
        "measured_at": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": machine(),
    }
    for durability in CLASSES:
        report[durability] = {k: round(v, 2) for k, v in uvloop.run(measure(durability)).items()}
    report["cold_run_s"] = round(cold_run_s(), 2)
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(report, indent=2) + "\n"
    (RESULTS / "figures.json").write_text(text)
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
