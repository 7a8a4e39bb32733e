"""A team that asks people, and a worker that plays it in memory. Not the tests."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from domain.content import CallPart, TextPart
from domain.definition import Definition, Expert, InteractiveSkill, InteractiveTool, LocalSkill
from domain.envelope import decode
from domain.events import Event
from domain.ids import RunRef
from domain.limits import Limits, ModelChoice, Usage
from domain.policy import PolicyRule
from domain.state import RunState
from domain.tools import Lane, LocalTool, Safety, ToolSpec
from eventlog.port import Backbone
from peritus.feed import follow_events
from peritus.jobs import load_state
from peritus.worker import WorkerParts, run_worker
from services.loop.models.port import ModelReply
from services.loop.models.scripted import ScriptedModel
from services.tool.local import LocalToolBox, RegisteredTool
from services.worker.asks import LogAsks
from services.worker.skills import Asks
from services.worker.toolbox import ToolBox, ToolCall

BOUND_S = 20.0

CHOICE = ModelChoice(provider="scripted", model="m1")
ASK = InteractiveSkill(
    tools={"question": InteractiveTool(description="Ask.", parameters={"type": "object"})}
)
OFFICE = LocalSkill(tools=("send", "look"))
SEND_IS_ASKED = PolicyRule(verdict="ask", tool="send", reason="letters are read first")


def team(*rules: PolicyRule, limits: Limits | None = None, **changes: Any) -> Definition:
    """A boss with one clerk; the clerk's letters, and by default no other call, are asked about."""
    experts = {
        "boss": Expert(
            key="boss",
            instruction="Lead.",
            delegates=("clerk",),
            skills={"ask": ASK, "office": OFFICE},
            model=CHOICE,
        ),
        "clerk": Expert(
            key="clerk",
            instruction="Write.",
            skills={"ask": ASK, "office": OFFICE},
            model=CHOICE,
            **changes,
        ),
    }
    return Definition(experts=experts, limits=limits or Limits(), policy=rules or (SEND_IS_ASKED,))


def calls(*made: tuple[str, str], text: str = "") -> ModelReply:
    """A reply that makes calls: tools and their arguments as JSON text."""
    parts = [
        CallPart(provider_id=f"p{at}", tool=tool, arguments=arguments)
        for at, (tool, arguments) in enumerate(made)
    ]
    return ModelReply(
        ((TextPart(text=text),) if text else ()) + tuple(parts),
        "tool_calls",
        Usage(input=3, output=1),
    )


@dataclass
class Office:
    """What the tools of the team really did."""

    sent: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def send(self, arguments: dict[str, Any], call: ToolCall) -> str:
        del call
        self.sent.append(arguments)
        return f"sent to {arguments.get('to')}"

    def box(self) -> LocalToolBox:
        def named(name: str) -> LocalTool:
            spec = ToolSpec(name=name, description=name, parameters={"type": "object"})
            return LocalTool(spec=spec, safety=Safety.UNSAFE)

        return LocalToolBox(
            {name: RegisteredTool(named(name), self.send) for name in ("send", "look")}
        )


@asynccontextmanager
async def at_work(
    backbone: Backbone,
    replies: dict[str, list[Any]],
    office: Office | None = None,
    *,
    epoch: str = "ep1",
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    asking: Callable[[Asks], ToolBox] | None = None,
) -> AsyncGenerator[None]:
    """A worker plays those replies by expert while the context is open; its tools may ask."""
    asks = LogAsks(backbone.log, backbone.blobs, epoch)
    ids, ready = count(), asyncio.Event()
    box = (office or Office()).box()
    parts = WorkerParts(
        backbone=backbone,
        epoch=epoch,
        now_ms=now_ms,
        new_id=lambda: f"{epoch}id{next(ids)}",
        certainly_dead=lambda other: other != epoch,
        generate=ScriptedModel(experts=replies).generate,
        toolboxes={Lane.TOOL: asking(asks) if asking else box},
        asks=asks if asking else None,
        local_tools=box.specs(),
    )
    async with asyncio.TaskGroup() as tasks:
        worker = tasks.create_task(run_worker(parts, lambda _: ready.set()))
        try:
            async with asyncio.timeout(BOUND_S):
                await ready.wait()
            yield
        finally:
            worker.cancel()


async def state_when(backbone: Backbone, ref: RunRef, fits: Callable[[RunState], bool]) -> RunState:
    """A run as soon as it is so."""
    async with asyncio.timeout(BOUND_S):
        async with follow_events(backbone.log, ref, after_seq=0) as found:
            async for _ in found:
                state, _ = await load_state(backbone.log, ref)
                if fits(state):
                    return state
    raise AssertionError


def waits(state: RunState) -> bool:
    return state.waits


def rests(state: RunState) -> bool:
    return state.at_rest


async def events_of(backbone: Backbone, ref: RunRef) -> list[Event]:
    """All events of a run."""
    stored = await backbone.log.load(ref)
    return [event for item in stored for event in decode(item.data).events]
