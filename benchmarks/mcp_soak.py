"""`make mcp-soak`: runs whose tools are MCP servers, and what is left of them (C11).

A worker with its whole service and a real log; servers under bubblewrap that answer, die, hang,
ignore SIGTERM or leave others behind; several runs at once, some cancelled at random. Everything is
counted before and after, while the worker still lives and when it is gone, and the worker's memory
as it goes on: what it grows by with each run, by regression over the second half.
"""

import argparse
import asyncio
import ctypes
import gc
import json
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import linear_regression
from typing import Any, cast

import commands.runs
from benchmarks.__main__ import RESULTS, machine
from benchmarks.mcp_rig import GIVEN, SKILL
from benchmarks.sandbox_jobs import Left
from domain.commands import CancelRun, StartRun
from domain.content import TextPart
from domain.definition import Definition, McpStdioSkill
from domain.ids import RunRef
from domain.mcp import Catalogue
from eventlog.embedded import EmbeddedServer
from eventlog.jetstream.backbone import connect_backbone
from eventlog.port import Backbone
from services.sandbox.service import SandboxService
from services.tool.mcp.bounds import Bounds
from services.tool.mcp.host import McpHost
from tests.support.cluster import asks
from tests.support.line_host import skilled
from tests.support.processes import SERVERS
from tests.support.service import Place, Yard, places, plays
from tests.support.skills import WORK, Person

RUNS = 500
AT_ONCE = 6
FIRST = 24
"""Runs before the first count of a worker that lives: what is loaded or kept once, is by then."""

KEPT_RUNS = 16
"""Runs of which the worker keeps the state. It is 2,000 by default, which this would only fill."""

CANCELLED = 0.4
CANCEL_S_MAX = 2.0
SAMPLE, MEASURED_MIN = 10, 5
GROWTH_KIB_MAX = 8.0
"""What the worker may grow by with each run of the second half: some is kept, and bounded."""

RISE_MIB_MAX = 24.0
"""What the worker may weigh more after all runs than after the first ones."""

QUIET_S, LOOK_S = 15.0, 0.3
"""How long what ends may take to be gone, and how often it is looked for."""

TOKEN = "soak"
KINDS = ("instructs", "dies", "never_right", "stubborn", "forks", "silent", "deaf")
"""Of tests/mcp_servers/hostile.py: one that behaves, and what else servers do."""

BOUNDS = Bounds(open_s=3.0, close_s=1.0, grace_s=0.3, ping_s=1.0, backoff_s=0.01)


@dataclass(frozen=True)
class Store:
    """One connection to a real log, in place of the in-memory form."""

    outside: Backbone

    def client(self) -> None:
        """There are no others."""

    def ports(self, client: None) -> Backbone:
        """The connection."""
        del client
        return self.outside

    def backbone(self) -> Backbone:
        """The connection."""
        return self.outside


@dataclass
class Course:
    """What is seen of this process as runs end."""

    ended: int = 0
    cancelled: int = 0
    outcomes: dict[str, int] = field(default_factory=dict[str, int])
    kib: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])

    def sample(self) -> None:
        """Weigh the process."""
        self.kib.append((self.ended, _weight_kib()))

    @property
    def growth_kib(self) -> float:
        """What it grew by with each run of the second half."""
        half = self.kib[len(self.kib) // 2 :]
        if len({at for at, _ in half}) < MEASURED_MIN:
            return 0.0  # too few runs to tell
        return linear_regression([at for at, _ in half], [kib for _, kib in half]).slope


def _weight_kib() -> int:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what is free is no weight
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


def _count(word: str, place: Place) -> dict[str, int]:
    return {**vars(Left.of(word, place)), "tasks": len(asyncio.all_tasks())}


def definition_of(kind: str, word: str) -> Definition:
    """A boss with a server that behaves and one of a kind."""
    source = (SERVERS / "hostile.py").read_text()
    odd = McpStdioSkill(
        command="python3",
        args=("-c", source, kind, "/tmp/note", word),
        catalogue=Catalogue(server="hostile", tools=(WORK,)),
        timeout_ms=600,
    )
    return skilled(plain=SKILL, odd=odd)


@dataclass
class Soak:
    """The worker, and the runs it is given."""

    yard: Yard
    word: str
    dice: random.Random
    course: Course = field(default_factory=Course)

    async def runs(self, numbers: Sequence[int], service: SandboxService) -> None:
        """So many runs, several at once; idle rooms are closed as they go."""
        todo = iter(numbers)

        async def some() -> None:
            for number in todo:
                await self._run(number)
                await service.tidy()

        async with asyncio.TaskGroup() as tasks:
            for _ in range(AT_ONCE):
                tasks.create_task(some())
        await service.tidy()

    async def _run(self, number: int) -> None:
        ref = Yard.job(f"job{number}")
        definition = definition_of(KINDS[number % len(KINDS)], self.word)
        digest = await self.yard.outside.blobs.put(ref.tenant, definition.to_bytes())
        start = StartRun(id="start", expert="boss", definition=digest, parts=(TextPart(text="go"),))
        await self.yard.client.submit(ref, start, "start")
        if self.dice.random() < CANCELLED:
            await asyncio.sleep(self.dice.uniform(0, CANCEL_S_MAX))
            await self.yard.client.submit(ref, CancelRun(id="stop"), "stop")
            self.course.cancelled += 1
        await self._ended(ref)
        for one in await self.yard.outcomes(ref):
            counts = self.course.outcomes
            counts[one.outcome] = counts.get(one.outcome, 0) + 1
        self.course.ended += 1
        if self.course.ended % SAMPLE == 0:
            self.course.sample()

    async def _ended(self, ref: RunRef) -> None:
        await self.yard.reached("the end", lambda one: bool(one.expert) and one.at_rest, ref)


@asynccontextmanager
async def log(folder: Path) -> AsyncGenerator[Backbone]:
    """A log on disk, in a process of its own: what runs weigh there is not ours."""
    server = EmbeddedServer(folder, durability="process", token=TOKEN)
    async with server, connect_backbone(server.url, token=TOKEN, durability="process") as backbone:
        yield backbone


async def soak(runs: int, first: int = FIRST, seed: int = 1) -> dict[str, object]:
    """Have so many runs; what there was of us before, between and after."""
    word = f"mcp-soak-{os.getpid()}"
    kept, commands.runs.CACHED_RUNS_MAX = commands.runs.CACHED_RUNS_MAX, KEPT_RUNS
    begun = time.perf_counter()
    async with AsyncExitStack() as stack:
        (place,) = stack.enter_context(places("mcp-soak"))
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="peritus-soak-log-"))
        backbone = await stack.enter_async_context(log(Path(folder)))
        echo = ("echo", json.dumps(GIVEN))
        work = ("work", '{"text": "x"}')
        model = plays(boss=[asks(echo, work), asks(echo), "done"])
        yard = Yard(definition_of("instructs", word), model, idle_s=0)
        yard.server, yard.outside = cast("Any", Store(backbone)), backbone
        one = Soak(yard, word, random.Random(seed))
        await _live(one, place, range(-2, 0), 1)  # what is loaded once is loaded now
        one.course = Course()
        before = _count(word, place)
        alive, idle = await _live(one, place, range(runs), first)
        await asyncio.sleep(0)
        after = _count(word, place)
    commands.runs.CACHED_RUNS_MAX = kept
    course = one.course
    rise = (course.kib[-1][1] - course.kib[0][1]) / 1024
    return {
        "runs": runs,
        "at_once": AT_ONCE,
        "cancelled": course.cancelled,
        "calls": dict(sorted(course.outcomes.items())),
        "took_s": round(time.perf_counter() - begun, 1),
        "before": before,
        "first_runs_over": alive,
        "all_runs_over": idle,
        "after": after,
        "threads": threading.active_count(),
        "equal": before == after and alive == idle,
        "worker_kib_by_runs": course.kib,
        "worker_rise_mib": round(rise, 2),
        "growth_kib_per_run_second_half": round(course.growth_kib, 2),
        "bounds": f"{GROWTH_KIB_MAX:g} KiB a run, {RISE_MIB_MAX:g} MiB in all",
        "light": course.growth_kib <= GROWTH_KIB_MAX and rise <= RISE_MIB_MAX,
    }


async def _live(
    one: Soak, place: Place, numbers: range, first: int
) -> tuple[dict[str, int], dict[str, int]]:
    """A worker's life: what there is of it after the first runs, and after all."""
    bare = _count(one.word, place)["processes"]

    async def quiet() -> dict[str, int]:
        """What there is once the last calls have ended: a cancelled run rests before they do."""
        until = time.monotonic() + QUIET_S
        found, before = _count(one.word, place), dict[str, int]()
        while time.monotonic() < until and (found["processes"] != bare or found != before):
            await asyncio.sleep(LOOK_S)
            await service.tidy()
            found, before = _count(one.word, place), found
        return found

    async with asyncio.TaskGroup() as tasks:
        one.yard.host = host = McpHost(tasks, Person(), BOUNDS)
        async with one.yard.sandboxed(f"life{numbers.start}", place) as lane:
            service = await lane.service()
            await one.runs(numbers[:first], service)
            alive = await quiet()
            one.course.kib.clear()
            one.course.sample()
            await one.runs(numbers[first:], service)
            idle = await quiet()
            one.course.sample()
        await host.close()
    return alive, idle


def main() -> int:
    """Soak, print, and keep; fails when anything is left, or the worker grows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="?", type=int, default=RUNS)
    runs = parser.parse_args().runs
    found = asyncio.run(soak(runs))
    report = {
        "measured_at": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": machine(),
        "soak": found,
    }
    text = json.dumps(report, indent=2)
    sys.stdout.write(f"{text}\n")
    if runs == RUNS:
        (RESULTS / "mcp_soak.json").write_text(f"{text}\n")
    return 0 if found["equal"] and found["light"] else 1


if __name__ == "__main__":
    sys.exit(main())
