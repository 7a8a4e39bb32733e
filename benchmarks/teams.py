"""`python -m benchmarks.teams`: fan-out, and how soon a cancelled team is quiet. Asserts nothing.

One worker, a model that costs nothing, a real server. The fan is one coordinator with 16 delegates
of one step each, from the ask to the coordinator's end. A cancelled team is 20 delegates whose
tools run until they are stopped: from the ask until no tool runs and every run is at rest.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.__main__ import CLASSES, RESULTS, machine
from benchmarks.figures import quantile
from benchmarks.rig import MODEL, Rig, Workload, rig
from commands.client import CommandClient
from domain.commands import CancelRun, StartRun
from domain.content import AssistantPart, CallPart, TextPart
from domain.definition import Definition, Expert, LocalSkill, Skill
from domain.envelope import decode
from domain.events import TERMINAL_TYPES, ToolCallEnded
from domain.ids import RunRef
from domain.limits import Limits, Usage
from domain.prompt import ModelRequest
from domain.tools import LocalTool, Safety, ToolSpec
from eventlog.jetstream.durability import Durability
from services.loop.models.port import Delta, ModelReply
from services.tool.local import RegisteredTool
from services.worker.toolbox import ToolCall

FANS = 40
CANCELS = 40
HOLDERS = 20
HOLD = LocalTool(
    spec=ToolSpec(name="hold", description="hold", parameters={"type": "object"}),
    safety=Safety.UNSAFE,
)


@dataclass
class Held:
    """A tool that runs until it is stopped, and how many of it do."""

    begun: Counter[str] = field(default_factory=Counter[str])
    running: int = 0
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def hold(self, arguments: dict[str, Any], call: ToolCall) -> str:
        """Run until cancelled."""
        del arguments
        self.begun[call.key] += 1
        await self._count(1)
        try:
            await asyncio.Event().wait()
        finally:
            await self._count(-1)
        return ""

    async def _count(self, more: int) -> None:
        async with self.changed:
            self.running += more
            self.changed.notify_all()

    async def until(self, running: int) -> None:
        """Wait until so many run."""
        async with self.changed:
            await self.changed.wait_for(lambda: self.running == running)


def holding() -> Definition:
    """A coordinator of 20 delegates that hold on."""
    skills: dict[str, Skill] = {"bench": LocalSkill(tools=("hold",))}
    holder = Expert(key="holder", instruction="hold", skills=skills, model=MODEL)
    wide = Expert(key="wide", instruction="fan", delegates=("holder",), skills=skills, model=MODEL)
    return Definition(
        experts={"holder": holder, "wide": wide},
        limits=Limits(steps_max=1_000, fan_out_max=HOLDERS),
    )


async def generate(
    request: ModelRequest, on_delta: Callable[[Delta], Awaitable[None]]
) -> ModelReply:
    """Twenty delegates, each with one call."""
    del on_delta
    wide = any(block.text == "wide" for block in request.context.system)
    tool, count = ("holder", HOLDERS) if wide else ("hold", 1)
    parts: list[AssistantPart] = [
        CallPart(provider_id=f"p{n}", tool=tool, arguments='{"query":"go"}') for n in range(count)
    ]
    return ModelReply(tuple(parts), "tool_calls", Usage(input=1, output=1))


async def fans_ms(durability: Durability) -> list[float]:
    """How long a coordinator with 16 delegates of one step takes."""
    times: list[float] = []
    async with rig(durability) as bench:
        for index in range(3):
            await bench.run("fan", f"warm{index}")
        for index in range(FANS):
            seen, begun = await bench.run("fan", f"fan{index}")
            times.append((seen[-1][0] - begun) * 1000)
    return times


@dataclass
class Cancelled:
    """How long each cancelled team took to be quiet, and what became of its calls."""

    times_ms: list[float] = field(default_factory=list[float])
    outcomes: Counter[str] = field(default_factory=Counter[str])
    ran_twice: int = 0


async def cancels(durability: Durability) -> Cancelled:
    """Cancel teams at work, one after another."""
    found, held = Cancelled(), Held()
    work = Workload(holding(), generate, {"hold": RegisteredTool(HOLD, held.hold)})
    async with rig(durability, work) as bench:
        for index in range(CANCELS):
            await _cancel(bench, held, f"c{index}", found)
    found.ran_twice = sum(1 for count in held.begun.values() if count > 1)
    return found


async def _cancel(bench: Rig, held: Held, name: str, found: Cancelled) -> None:
    ref = RunRef("bench", f"j{name}", f"j{name}")
    start = StartRun(
        id=f"s{name}", expert="wide", definition=bench.definition, parts=(TextPart(text="go"),)
    )
    log, client = bench.backbone.log, CommandClient(bench.backbone)
    async with log.follow(after_seq=0, tenant=ref.tenant, job=ref.job) as stored:
        await client.submit(ref, start, start.id)
        await held.until(HOLDERS)
        begun = time.perf_counter()
        await client.submit(ref, CancelRun(id=f"x{name}"), f"x{name}")
        resting = 0
        async for item in stored:
            events = decode(item.data).events
            ends = (event.outcome for event in events if isinstance(event, ToolCallEnded))
            if item.ref != ref:
                found.outcomes.update(ends)
            resting += any(event.type in TERMINAL_TYPES for event in events)
            if resting == HOLDERS + 1:
                break
        await held.until(0)
        found.times_ms.append((time.perf_counter() - begun) * 1000)


async def measure(durability: Durability) -> dict[str, object]:
    """All figures of one class."""
    fans = await fans_ms(durability)
    cancelled = await cancels(durability)
    return {
        "children_16_ms_p50": round(quantile(fans, 0.5), 1),
        "children_16_ms_p99": round(quantile(fans, 0.99), 1),
        "cancel_20_quiet_ms_p50": round(quantile(cancelled.times_ms, 0.5), 1),
        "cancel_20_quiet_ms_p99": round(quantile(cancelled.times_ms, 0.99), 1),
        "cancelled_calls": dict(cancelled.outcomes),
        "calls_that_ran_twice": cancelled.ran_twice,
    }


def main() -> int:
    """Measure, print, and keep."""
    import uvloop  # noqa: PLC0415 - as in production, see peritus.cli

    report: dict[str, object] = {
        "measured_at": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": machine(),
        "runs_of_each": {"fan": FANS, "cancel": CANCELS},
    }
    for durability in CLASSES:
        report[durability] = uvloop.run(measure(durability))
    text = json.dumps(report, indent=2) + "\n"
    (RESULTS / "teams.json").write_text(text)
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
