"""`python -m benchmarks.sandbox [backend...]`: what a sandbox costs beside a bare process.

Bare and sandboxed commands take turns, so that both see the same machine. Asserts nothing.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path

from benchmarks.__main__ import RESULTS, machine
from benchmarks.figures import quantile
from services.sandbox.bubblewrap.backend import BubblewrapBackend
from services.sandbox.port import Backend, Command, Owner, SandboxSpec
from services.sandbox.process import Pipes, spawn
from services.sandbox.workspace import Workspace

ROUNDS = 100
COLD_ROUNDS = 40
ROUND_TRIPS = 500
OWNER = Owner(place="bench", epoch="e1", tenant="bench", job="job", run="run")
USER = 23456
"""Whose the workspace is, when root measures: commands run as somebody else then."""

Open = Callable[[Path], AbstractAsyncContextManager[Backend]]


@asynccontextmanager
async def bubblewrap(state: Path, *, privileged: bool) -> AsyncGenerator[Backend]:
    """Bubblewrap as root runs it, or as anybody does."""
    backend = BubblewrapBackend(state, privileged=privileged)
    try:
        yield backend
    finally:
        await backend.close()


BACKENDS: dict[str, Open] = {
    "bubblewrap": partial(bubblewrap, privileged=os.geteuid() == 0),
    "bubblewrap-unprivileged": partial(bubblewrap, privileged=False),
}


async def taken_ms(work: Callable[[], Awaitable[object]]) -> float:
    """How long something takes."""
    begun = time.perf_counter()
    await work()
    return (time.perf_counter() - begun) * 1000


async def bare() -> None:
    """A process without a sandbox, with the same pipes, started the same way."""
    pipes = Pipes(b"")
    try:
        await spawn(("true",), pipes, pass_fds=(), env=dict(os.environ)).ended()
    finally:
        pipes.close()


async def warm(backend: Backend, spec: SandboxSpec) -> dict[str, float]:
    """Commands in a sandbox that is there, and a process that stays in it."""
    sandbox = await backend.open(spec)
    try:
        await sandbox.exec(Command("true"))
        inside: list[float] = []
        outside: list[float] = []
        for _ in range(ROUNDS):
            outside.append(await taken_ms(bare))
            inside.append(await taken_ms(lambda: sandbox.exec(Command("true"))))
        process = await sandbox.start(Command("cat"))
        output = aiter(process.output())

        async def there_and_back() -> None:
            await process.write(b"x" * 64)
            await anext(output)

        trips = [await taken_ms(there_and_back) for _ in range(ROUND_TRIPS)]
        await process.stop(grace_s=0)
        starts: list[float] = []
        for _ in range(ROUNDS // 5):
            begun = time.perf_counter()
            process = await sandbox.start(Command("cat"))
            starts.append((time.perf_counter() - begun) * 1000)
            await process.stop(grace_s=0)
    finally:
        await sandbox.close()
    return {
        "bare_ms_p50": quantile(outside, 0.5),
        "exec_ms_p50": quantile(inside, 0.5),
        "exec_ms_min": min(inside),
        "exec_ms_p95": quantile(inside, 0.95),
        "exec_over_bare_ms_p50": quantile(inside, 0.5) - quantile(outside, 0.5),
        "start_ms_p50": quantile(starts, 0.5),
        "round_trip_ms_p50": quantile(trips, 0.5),
        "round_trip_ms_p99": quantile(trips, 0.99),
    }


async def cold(backend: Backend, spec: SandboxSpec) -> dict[str, float]:
    """A new sandbox until its first command has ended; the backend itself is at work already."""
    firsts: list[float] = []
    closes: list[float] = []
    for _ in range(COLD_ROUNDS):
        begun = time.perf_counter()
        sandbox = await backend.open(spec)
        await sandbox.exec(Command("true"))
        firsts.append((time.perf_counter() - begun) * 1000)
        closes.append(await taken_ms(sandbox.close))
    return {
        "cold_first_exec_ms_p50": quantile(firsts, 0.5),
        "cold_first_exec_ms_p95": quantile(firsts, 0.95),
        "close_ms_p50": quantile(closes, 0.5),
    }


async def measure(opener: Open) -> dict[str, float]:
    """All figures of one backend."""
    with (
        tempfile.TemporaryDirectory(prefix="peritus-state-") as state,
        tempfile.TemporaryDirectory(prefix="peritus-work-") as root,
    ):
        _give_away(Path(root))
        async with opener(Path(state)) as backend:
            with Workspace(Path(root)) as workspace:
                spec = SandboxSpec(OWNER, workspace, egress=True)
                return {**await warm(backend, spec), **await cold(backend, spec)}


def _give_away(root: Path) -> None:
    if os.geteuid() == 0:
        root.chmod(0o777)  # a backend that is not to become its owner must be able to work in it
        os.chown(root, USER, USER)


def main() -> int:
    """Measure, print, and keep."""
    import uvloop  # noqa: PLC0415 - as in production, see peritus.cli

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backends", nargs="*", metavar="BACKEND", help=", ".join(BACKENDS))
    asked = parser.parse_args().backends or [*BACKENDS]
    unknown = [name for name in asked if name not in BACKENDS]
    if unknown:
        parser.error(f"there is no backend {unknown[0]!r}; there are: {', '.join(BACKENDS)}")
    for name in asked:
        report = {
            "measured_at": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
            "machine": machine(),
            "figures": {k: round(v, 2) for k, v in uvloop.run(measure(BACKENDS[name])).items()},
        }
        text = json.dumps(report, indent=2) + "\n"
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"sandbox_{name.replace('-', '_')}.json").write_text(text)
        sys.stdout.write(f"{name}: {text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
