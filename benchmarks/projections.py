"""What views cost: how fast the log is folded into all of them, how long lists of runs take."""

import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

import uvloop

from benchmarks.__main__ import RESULTS, machine
from benchmarks.figures import quantile
from domain.envelope import FIRST_HASH, decode, encode, hash_of
from domain.ids import RunRef
from domain.state import Status
from eventlog.memory.server import MemoryServer
from eventlog.port import EventLog
from projections.engine import open_engine
from projections.merging import Merged
from projections.queries import LIMIT_DEFAULT, Filters
from projections.queries.reader import Reader
from projections.rows import RunRow
from projections.runner import catch_up
from projections.store import open_store
from projections.view import Put
from projections.views import ALL, RUNS
from projections.views.runs import row_values
from tests.support.gateway import deps_of, gateway
from tests.support.office import office
from tests.support.runs import call, replies, result

TENANT = "acme"
TEMPLATES = 8
STEPS = 15
RUNS_FOLDED = 400
AT_ONCE = 50
"""Runs whose envelopes lie between each other in the log."""

ROUNDS = 5
RUNS_LISTED = 100_000
ASKED = 200
BATCH = 2_000
WORDS = 3_000
STATUSES: tuple[Status, ...] = ("completed", "failed", "cancelled", "running")


def prose(dice: random.Random, words: int) -> str:
    """Words that are as often as those of a language: few often, many seldom."""
    numbers = (int(dice.paretovariate(0.6)) % WORDS for _ in range(words))
    return " ".join(f"word{number:x}" for number in numbers)


async def template(number: int) -> list[bytes]:
    """The envelopes of a run of 15 steps with a call each, made by the real handlers."""
    dice, desk = random.Random(number), office()
    ref = RunRef(TENANT, "job", "run")
    await desk.start(ref, text=prose(dice, 60))
    for step in range(1, STEPS):
        arguments = json.dumps({"path": f"src/part{step}.py", "why": prose(dice, 12)})
        await desk.tell(
            ref,
            replies(prose(dice, 70), call("look", arguments)),
            result(f"c{step}-0", prose(dice, 140), holder="e1"),
        )
    await desk.tell(ref, replies(prose(dice, 90)))
    return desk.lines(ref)


def cloned(lines: list[bytes], ref: RunRef, later_ms: int) -> Iterator[bytes]:
    """The same history of another run."""
    prev = FIRST_HASH
    for data in lines:
        envelope = decode(data)
        at_ms = envelope.at_ms + later_ms
        copy = encode(envelope._replace(ref=ref, prev=prev, at_ms=at_ms))
        prev = hash_of(copy)
        yield copy


async def write(log: EventLog) -> int:
    """The histories of 400 runs, fifty at a time between each other; the events in them."""
    templates = [await template(number) for number in range(TEMPLATES)]
    events = 0
    for first in range(0, RUNS_FOLDED, AT_ONCE):
        refs = [RunRef(TENANT, f"job{n // 2}", f"run{n}") for n in range(first, first + AT_ONCE)]
        seqs = dict.fromkeys(refs, 0)
        histories = [
            cloned(templates[number % TEMPLATES], ref, first * 60_000 + number)
            for number, ref in enumerate(refs)
        ]
        for row in zip_longest(*histories):
            for ref, data in zip(refs, row, strict=True):
                if data is not None:
                    seqs[ref] = await log.append(ref, data, expected_seq=seqs[ref])
                    events += len(decode(data).events)
    return events


async def apply_rate(folder: Path) -> dict[str, float]:
    """Events a second into all views of a fresh file, from a log in memory: the median round."""
    log = MemoryServer(now_ms=lambda: 0).backbone().log
    events = await write(log)
    envelopes = (await log.bounds())[1]
    rates: list[float] = []
    used: list[float] = []
    size = 0
    for number in range(ROUNDS):
        path = folder / f"views{number}.sqlite"
        begun, begun_cpu = time.perf_counter(), time.process_time()
        await catch_up(log, path, timeout_s=None)
        rates.append(events / (time.perf_counter() - begun))
        used.append(events / (time.process_time() - begun_cpu))
        size = path.stat().st_size
    return {
        "events": events,
        "envelopes": envelopes,
        "views": len(ALL),
        "apply_events_per_s": statistics.median(rates),
        "apply_events_per_s_min": min(rates),
        "apply_events_per_s_max": max(rates),
        "apply_events_per_cpu_s": statistics.median(used),
        "bytes_per_event": size / events,
    }


def listed(number: int, dice: random.Random) -> RunRow:
    """A run as one of many: most are over, some have failed, few are at work or wait."""
    (status,) = dice.choices(STATUSES, weights=(900, 60, 20, 20))
    row = RunRow(
        TENANT, f"job{number // 2}", f"{number:07x}{dice.randrange(16**8):08x}", number + 1
    )
    return replace(
        row,
        status=status,
        version=90,
        expert=f"team/expert{dice.randrange(20)}",
        provider="anthropic",
        model="some-model",
        query=prose(dice, 40),
        step=STEPS,
        steps_max=100,
        started_at_ms=number * 1_000,
        updated_at_ms=number * 1_000 + 60_000,
        ended_at_ms=None if status == "running" else number * 1_000 + 60_000,
        waiting="c3-0" if status == "running" and dice.random() < 0.5 else "",
        input_tokens=90_000,
        output_tokens=5_000,
        tokens_charged=95_000,
        money_charged=400_000,
        result=prose(dice, 120) if status == "completed" else None,
    )


async def list_many(path: Path) -> None:
    """100,000 runs in the view, as if they had been folded."""
    dice = random.Random(1)
    async with open_store(path, ALL) as store:
        standing = await store.begin("a0")
    (generation,) = (one for one in standing.live if one.view is RUNS)
    engine = open_engine(path, "write")
    for first in range(0, RUNS_LISTED, BATCH):
        merged = Merged(generation.tables["runs"])
        for number in range(first, first + BATCH):
            row = listed(number, dice)
            merged.hear(Put("runs", row.ref._asdict(), row_values(row)))
        async with engine.begin() as db:
            await merged.write(db)
    await engine.dispose()


QUESTIONS = {
    "newest": Filters(),
    "completed": Filters(status="completed"),
    "failed": Filters(status="failed"),
    "waiting": Filters(status="waiting"),
    "expert": Filters(expert="team/expert7"),
    "expert_failed": Filters(status="failed", expert="team/expert7"),
    "job": Filters(job="job777"),
    "nothing": Filters(expert="team/nobody"),
}


async def list_times(path: Path) -> dict[str, float]:
    """How long a page of 50 takes in the library, in milliseconds."""
    found: dict[str, float] = {}
    async with Reader(path) as reader:
        for name, filters in QUESTIONS.items():
            times: list[float] = []
            for _ in range(ASKED):
                begun = time.perf_counter()
                await reader.runs(TENANT, filters)
                times.append((time.perf_counter() - begun) * 1_000)
            found[f"runs_{name}_ms_p50"] = statistics.median(times)
            found[f"runs_{name}_ms_p95"] = quantile(times, 0.95)
    return found


async def http_times(folder: Path) -> dict[str, float]:
    """The same through `GET /v1/runs` of a gateway on loopback, in milliseconds."""
    log = MemoryServer(now_ms=lambda: 0)
    times: list[float] = []
    async with gateway(deps_of(log.backbone(), folder)) as client:
        for _ in range(ASKED):
            begun = time.perf_counter()
            answer = await client.get("/v1/runs")
            times.append((time.perf_counter() - begun) * 1_000)
            assert len(answer.json()["runs"]) == LIMIT_DEFAULT, answer.text
    return {"http_runs_ms_p50": statistics.median(times), "http_runs_ms_p95": quantile(times, 0.95)}


async def measure(folder: Path) -> dict[str, float]:
    figures = await apply_rate(folder)
    path = folder / "views.sqlite"
    await list_many(path)
    figures |= {"runs_listed": RUNS_LISTED} | await list_times(path)
    return figures | await http_times(folder)


def main() -> int:
    """Measure, print, and keep."""
    with tempfile.TemporaryDirectory(prefix="peritus-views-") as name:
        figures = uvloop.run(measure(Path(name)))
    report: dict[str, object] = {
        "measured_at": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": machine(),
        **{key: round(value, 2) for key, value in figures.items()},
    }
    text = json.dumps(report, indent=2) + "\n"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "projections.json").write_text(text)
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
