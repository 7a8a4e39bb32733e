"""What a call of an MCP tool costs over the SDK's own, with the same server. Fails over 5 ms.

`python -m benchmarks.mcp_calls`: the SDK's client, our host over a process in a sandbox, and a
whole worker take turns, call by call. Also: cold servers, discovery, starts, idle connections.
"""

import asyncio
import ctypes
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from benchmarks.__main__ import RESULTS, machine
from benchmarks.figures import quantile
from benchmarks.mcp_rig import (
    SERVER,
    SKILL,
    Hosted,
    Stopwatch,
    TurnModel,
    direct,
    hosted,
    say_direct,
    worker,
)
from domain.limits import Limits
from services.tool.mcp.host import McpHost
from tests.support.line_host import skilled
from tests.support.service import Place, Yard, places
from tests.support.skills import Person

CALLS = 1_000
WARM = 50
COLD = 20
DISCOVERIES = 10
IDLE = 32
STARTS = 5
GATE_MS = 5.0

SCRIPT = '[[reply]]\ntext = "done"\n'
PROJECT = f"""
[experts."one"]
instruction = "Answer."

[experts."one".skills."echo"]
type = "mcpStdioSkill"
command = "python3"
args = ["-c", {json.dumps(SERVER)}]
"""


async def seconds(work: Callable[[], Awaitable[object]]) -> float:
    """How long something takes."""
    begun = time.perf_counter()
    await work()
    return time.perf_counter() - begun


def spread(name: str, times: list[float]) -> dict[str, float]:
    """The figures of one kind of call, in milliseconds."""
    return {
        f"{name}_ms_p50": round(quantile(times, 0.5) * 1000, 3),
        f"{name}_ms_p99": round(quantile(times, 0.99) * 1000, 3),
    }


async def warm_calls(calls: int) -> dict[str, float]:
    """Calls of servers that run: the SDK's, our host's and a worker's in turn."""
    model, watch = TurnModel(), Stopwatch()
    sdk: list[float] = []
    host: list[float] = []
    definition = skilled(echo=SKILL).model_copy(
        update={"limits": Limits(steps_max=calls + WARM + 9)}
    )
    with places("calls") as (place,):
        async with AsyncExitStack() as stack:
            ours = await stack.enter_async_context(hosted(place.folder.parent))
            theirs = await stack.enter_async_context(direct())
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            workers = McpHost(tasks, Person())
            stack.push_async_callback(workers.close)
            yard = Yard(definition, model.generate, host=workers)
            await stack.enter_async_context(worker(yard, place, watch))
            await yard.begin()
            await model.waiting.acquire()
            for number in range(calls + WARM):
                sdk.append(await seconds(lambda: say_direct(theirs)))
                host.append(await seconds(partial(ours.say, number)))
                await model.turn()
            model.end()
            await yard.rested()
    assert len(watch.whole) == len(watch.in_box) == calls + WARM
    found = {
        **spread("sdk_call", sdk[WARM:]),
        **spread("host_call", host[WARM:]),
        **spread("worker_admission", watch.admitted[WARM:]),
        **spread("worker_tool_box_call", watch.in_box[WARM:]),
        **spread("worker_journal", watch.kept[WARM:]),
        **spread("worker_whole_call", watch.whole[WARM:]),
    }
    for name in ("host_call", "worker_tool_box_call", "worker_whole_call"):
        over = found[f"{name}_ms_p50"] - found["sdk_call_ms_p50"]
        found[f"{name}_over_sdk_ms_p50"] = round(over, 3)
    return found


async def cold_calls(times: int) -> dict[str, float]:
    """First calls, each with a server that is started for it."""
    sdk: list[float] = []
    host: list[float] = []
    with places("cold") as (place,):
        async with hosted(place.folder.parent) as ours:
            for number in range(times + 1):
                sdk.append(await seconds(_first_direct))
                host.append(await seconds(partial(ours.say, 1, f"cold:{number}")))
                await ours.host.leave("acme", f"cold:{number}")
            discover = partial(ours.host.discover, SKILL, ours.site)
            found = [await seconds(discover) for _ in range(DISCOVERIES)]
    return {
        **spread("sdk_first_call", sdk[1:]),
        **spread("host_first_call", host[1:]),
        **spread("discovery", found),
    }


async def _first_direct() -> None:
    async with direct() as session:
        await say_direct(session)


async def first_calls_of_jobs(times: int) -> dict[str, float]:
    """The first call of a job: its workspace, its sandbox, its server, and the call."""
    firsts: list[float] = []
    with places("jobs") as (place,):
        for number in range(times + 1):
            model, watch = TurnModel(), Stopwatch()
            async with asyncio.TaskGroup() as tasks:
                host = McpHost(tasks, Person())
                yard = Yard(skilled(echo=SKILL), model.generate, host=host)
                async with worker(yard, Place(place.folder / str(number)), watch):
                    await yard.begin()
                    await model.waiting.acquire()
                    await model.turn()
                    model.end()
                    await yard.rested()
                await host.close()
            firsts.append(watch.in_box[0])
    return spread("worker_first_call", firsts[1:])


async def idle_connections(count: int) -> dict[str, float]:
    """What connections take that nobody uses: of this process, and with their sandboxes."""
    with places("idle") as (place,):
        async with hosted(place.folder.parent) as ours:
            await _say_each(ours, 2)  # what is loaded once
            before = _memory()
            await _say_each(ours, count + 2)
            after = _memory()
    return {
        "idle_connections": count,
        "idle_connection_worker_kib": round((after[0] - before[0]) / count, 1),
        "idle_connection_server_kib": round((after[1] - before[1]) / count, 1),
    }


async def _say_each(ours: Hosted, count: int) -> None:
    for number in range(count):
        await ours.say(1, f"idle:{number}")


def _memory() -> tuple[int, int]:
    """KiB of this process alone, and of all below it: shared pages divided by those that share."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what is free is no weight
    below, todo = 0, [str(os.getpid())]
    while todo:
        pid = todo.pop()
        for file in Path(f"/proc/{pid}/task").glob("*/children"):
            todo += file.read_text().split()
        if pid != str(os.getpid()):
            below += _kib(pid, "Pss:")
    return _kib(str(os.getpid()), "Private_Clean:", "Private_Dirty:"), below


def _kib(pid: str, *names: str) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(names))


def starts() -> dict[str, float]:
    """`peritus run` of one step with an MCP skill, from nothing: without a lock, and with one."""
    found: dict[str, list[float]] = {"without": [], "with": []}
    with tempfile.TemporaryDirectory(prefix="peritus-start-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "perstack.toml").write_text(PROJECT)
        (folder / "script.toml").write_text(SCRIPT)
        run = ["run", "one", "go", "--json", "--provider", "scripted", "--model", "script.toml"]
        for _ in range(STARTS):
            found["without"].append(_timed(folder, run))
            _timed(folder, ["lock"])
            found["with"].append(_timed(folder, run))
            (folder / "perstack.lock").unlink()
    return {
        f"start_{name}_lock_s": round(statistics.median(times), 2) for name, times in found.items()
    }


def _timed(folder: Path, words: list[str]) -> float:
    begun = time.perf_counter()
    command = [sys.executable, "-m", "peritus", *words]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - begun


async def measure(calls: int) -> dict[str, float]:
    """All of it; what connections weigh first, while nothing has left room that they could take."""
    idle = await idle_connections(IDLE)
    return {
        "calls": calls,
        **await warm_calls(calls),
        **await cold_calls(COLD),
        **await first_calls_of_jobs(COLD),
        **idle,
    }


def main() -> int:
    """Measure, print, and keep; fails when a call costs more than it may over the SDK's."""
    import uvloop  # noqa: PLC0415 - as in production, see peritus.cli

    calls = int(sys.argv[1]) if sys.argv[1:] else CALLS
    report: dict[str, object] = {
        "measured_at": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": machine(),
        "nice": os.nice(0),
    }
    found = uvloop.run(measure(calls))
    report |= found
    report |= starts()
    report["load_1m_at_end"] = os.getloadavg()[0]
    worst = max(found[key] for key in found if key.endswith("_over_sdk_ms_p50"))
    report["gate"] = f"at most {GATE_MS:g} ms p50 over the SDK: {worst:g}"
    text = json.dumps(report, indent=2) + "\n"
    sys.stdout.write(text)
    if calls == CALLS:
        (RESULTS / "mcp_calls.json").write_text(text)
    return 0 if worst <= GATE_MS else 1


if __name__ == "__main__":
    sys.exit(main())
