"""Step time with loop and tool services as processes of their own, over a bare floor of the same.

`python -m benchmarks.processes` measures; `... loop|tool|answer URL` are the processes it starts.
The floor makes two appends and three hops a step: work to the other process, its answer as
a request, work to itself. Asserts nothing.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.__main__ import CLASSES, RESULTS, machine
from benchmarks.figures import FLOOR_BYTES, quantile, step_times_ms
from benchmarks.rig import PING, Rig, definition, generate, new_id, now_ms, ping
from commands.desk import Desk
from commands.hands import NoHands
from commands.runs import RunStore
from domain.ids import RunRef
from domain.tools import Lane
from eventlog.embedded import EmbeddedServer
from eventlog.jetstream.backbone import connect_backbone
from eventlog.jetstream.durability import Durability
from eventlog.port import Backbone
from peritus.worker import WorkerParts, run_worker
from services.tool.local import LocalToolBox, RegisteredTool
from services.worker.epoch import this_epoch

TOKEN = "benchmark"
FLOOR = "floor"
STEPS = 20
RUNS = 15
READY_S = 20.0
ASK_S = 5.0
FLOOR_REF = RunRef("floor", "j", "r")


async def serve(name: str, url: str, durability: Durability) -> None:
    """One service until cancelled; says so when it is ready."""
    box = LocalToolBox({"ping": RegisteredTool(PING, ping)})
    async with connect_backbone(url, token=TOKEN, durability=durability) as backbone:
        parts = WorkerParts(
            backbone=backbone,
            epoch=str(this_epoch()),
            now_ms=now_ms,
            new_id=new_id,
            certainly_dead=lambda _: False,
            generate=generate if name == "loop" else None,
            toolboxes={Lane.TOOL: box} if name == "tool" else {},
            local_tools=box.specs(),
        )
        await run_worker(parts, lambda _: print("ready", flush=True))


async def answer(url: str, durability: Durability) -> None:
    """The other process of the floor: takes work and answers it by request."""
    async with (
        connect_backbone(url, token=TOKEN, durability=durability, prefix=FLOOR) as backbone,
        backbone.work.consume("tool", in_flight_max=4) as deliveries,
    ):
        print("ready", flush=True)
        async for delivery in deliveries:
            await backbone.requests.ask(delivery.ref, b"{}", timeout_s=ASK_S)
            await delivery.ack()


async def floor_ms(backbone: Backbone, steps: int) -> list[float]:
    """How long bare steps take."""
    answered = asyncio.Event()
    data, times, seq = b"x" * FLOOR_BYTES, list[float](), 0
    seq = next(reversed([item.seq for item in await backbone.log.load(FLOOR_REF)]), 0)

    async def hear(ref: RunRef, body: bytes) -> bytes:
        nonlocal seq
        del body
        seq = await backbone.log.append(ref, data, expected_seq=seq)
        answered.set()
        return b"{}"

    async with (
        backbone.requests.serve(hear),
        backbone.work.consume("step", in_flight_max=4) as deliveries,
    ):
        for _ in range(steps):
            begun = time.perf_counter()
            answered.clear()
            seq = await backbone.log.append(FLOOR_REF, data, expected_seq=seq)
            await backbone.work.put("tool", FLOOR_REF, b"{}")
            await answered.wait()
            await backbone.work.put("step", FLOOR_REF, b"{}")
            await (await anext(deliveries)).ack()
            times.append((time.perf_counter() - begun) * 1000)
    return times


@contextmanager
def process(name: str, url: str, durability: Durability) -> Generator[None]:
    """One of the processes, from the moment it is ready."""
    command = [sys.executable, "-m", "benchmarks.processes", name, url, durability]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as started:
        try:
            assert started.stdout is not None
            assert started.stdout.readline() == b"ready\n", f"{name} did not start"
            yield
        finally:
            started.kill()


async def measure(durability: Durability) -> Mapping[str, float]:
    """Steps of both kinds in turn, in one server's life."""
    with tempfile.TemporaryDirectory(prefix="peritus-bench-") as name:
        server = EmbeddedServer(Path(name), durability=durability, token=TOKEN)
        async with (
            server,
            connect_backbone(server.url, token=TOKEN, durability=durability) as backbone,
            connect_backbone(server.url, token=TOKEN, durability=durability, prefix=FLOOR) as floor,
        ):
            with (
                process("loop", server.url, durability),
                process("tool", server.url, durability),
                process("answer", server.url, durability),
            ):
                return await _measure(await _rig(backbone, floor, Path(name)))


async def _rig(backbone: Backbone, floor: Backbone, folder: Path) -> Rig:
    digest = await backbone.blobs.put("bench", definition().to_bytes())
    runs = RunStore(backbone, epoch="", now_ms=now_ms, new_id=new_id)
    idle = Desk(backbone, runs, NoHands(), "", new_id, {})
    return Rig(backbone, idle, digest, folder, floor)


async def _measure(bench: Rig) -> Mapping[str, float]:
    steps: list[float] = []
    floors: list[float] = []
    for index in range(RUNS + 2):
        seen, _ = await bench.run(f"w{STEPS}", f"p{index}")
        bare = await floor_ms(bench.floor, STEPS)
        if index >= 2:  # the first ones warm up
            steps += step_times_ms(seen)
            floors += bare
    step, bottom = quantile(steps, 0.5), quantile(floors, 0.5)
    return {
        "step_ms_p50": step,
        "step_ms_p99": quantile(steps, 0.99),
        "floor_step_ms_p50": bottom,
        "floor_step_ms_p99": quantile(floors, 0.99),
        "ratio_p50": step / bottom,
    }


def main(arguments: list[str]) -> int:
    """Measure, print and keep; or be one of the processes."""
    import uvloop  # noqa: PLC0415 - as in production, see peritus.cli

    if arguments:
        name, url, durability = arguments[0], arguments[1], _class(arguments[2])
        work = answer(url, durability) if name == "answer" else serve(name, url, durability)
        uvloop.run(work)
        return 0
    report: dict[str, object] = {
        "measured_at": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": machine(),
    }
    for durability in CLASSES:
        found = uvloop.run(measure(durability))
        report[durability] = {key: round(value, 2) for key, value in found.items()}
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(report, indent=2) + "\n"
    (RESULTS / "processes.json").write_text(text)
    sys.stdout.write(text)
    return 0


def _class(text: str) -> Durability:
    return next(one for one in CLASSES if one == text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
