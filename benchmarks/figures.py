"""The figures of one durability class, and the bare floor under them. Asserts nothing."""

import asyncio
import statistics
import time
from collections.abc import Sequence
from itertools import pairwise

from benchmarks.rig import ASSISTANT, RESULT, Rig, rig
from domain.envelope import Envelope
from domain.ids import RunRef
from eventlog.jetstream.durability import Durability

Seen = list[tuple[float, Envelope]]

FLOOR_BYTES = 900
"""The size of a floor append: what a decision of the workload weighs on average."""


def step_times_ms(seen: Seen) -> list[float]:
    """How long each step took, from one step's end to the next."""
    ends = [at for at, envelope in seen if any(e.type == "step.ended.v1" for e in envelope.events)]
    return [(after - before) * 1000 for before, after in pairwise(ends)]


def quantile(values: Sequence[float], part: float) -> float:
    """The value below which that part of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


async def floor_step_ms(rig: Rig, steps: int, name: str) -> list[float]:
    """Two bare appends and one hop through WORK a step: what nothing built on this can beat."""
    ref = RunRef("floor", f"j{name}", f"r{name}")
    data = b"x" * FLOOR_BYTES
    times: list[float] = []
    seq = 0
    async with rig.floor.work.consume("sandbox", in_flight_max=4) as deliveries:
        for _ in range(steps):
            begun = time.perf_counter()
            seq = await rig.floor.log.append(ref, data, expected_seq=seq)
            await rig.floor.work.put("sandbox", ref, b"{}")
            delivery = await anext(deliveries)
            seq = await rig.floor.log.append(ref, data, expected_seq=seq)
            await delivery.ack()
            times.append((time.perf_counter() - begun) * 1000)
    return times


async def floor_rate(rig: Rig, runs: int, steps: int) -> float:
    """Steps a second of many runs at once, bare: two appends a step."""

    async def one(index: int) -> None:
        ref, seq = RunRef("floor", f"fj{index}", f"fr{index}"), 0
        for _ in range(2 * steps):
            seq = await rig.floor.log.append(ref, b"x" * FLOOR_BYTES, expected_seq=seq)

    begun = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for index in range(runs):
            tasks.create_task(one(index))
    return runs * steps / (time.perf_counter() - begun)


async def rate(rig: Rig, runs: int) -> float:
    """Steps a second of many runs of 20 steps at once."""
    begun = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for index in range(runs):
            tasks.create_task(rig.run("w20", f"many{index}"))
    return runs * 20 / (time.perf_counter() - begun)


async def measure(durability: Durability) -> dict[str, float]:
    """All figures of one class, in one server's life."""
    async with rig(durability) as bench:
        for index in range(3):
            await bench.run("w20", f"warm{index}")
        steps: list[float] = []
        firsts: list[float] = []
        floors: list[float] = []
        for index in range(15):
            seen, begun = await bench.run("w20", f"short{index}")
            steps += step_times_ms(seen)
            firsts.append((seen[0][0] - begun) * 1000)
            floors += await floor_step_ms(bench, 20, f"floor{index}")
        fans: list[float] = []
        for index in range(3):
            seen, begun = await bench.run("fan", f"fan{index}")
            fans.append((seen[-1][0] - begun) * 1000)
        growth = await _growth(bench)
        return {
            "step_ms_p50": quantile(steps, 0.5),
            "step_ms_p99": quantile(steps, 0.99),
            "floor_step_ms_p50": quantile(floors, 0.5),
            "first_step_ms_p50": statistics.median(firsts),
            "children_16_ms": statistics.median(fans),
            "steps_per_s_64_runs": await rate(bench, 64),
            "floor_steps_per_s_64_runs": await floor_rate(bench, 64, 20),
            **growth,
        }


async def _growth(bench: Rig) -> dict[str, float]:
    """A run of 1,000 steps: what step 300 and step 1,000 take against step 10, and its bytes."""
    before = stored_bytes(bench)
    seen, _ = await bench.run("w1000", "long")
    times = step_times_ms(seen)
    early = statistics.median(times[5:55])
    payload = 1_000 * (len(ASSISTANT) + len(RESULT))
    return {
        "step_300_to_10": statistics.median(times[275:325]) / early,
        "step_1000_to_10": statistics.median(times[949:]) / early,
        "disk_bytes_to_payload": (stored_bytes(bench) - before) / payload,
    }


def stored_bytes(bench: Rig) -> int:
    """What the server's store takes on disk."""
    return sum(path.stat().st_size for path in bench.folder.rglob("*.blk"))
