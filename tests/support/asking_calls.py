"""Whole workers whose tools ask in the middle of a call, on the in-memory form. Not the tests."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from domain import commands as c
from domain.content import TextPart, text_of
from domain.events import (
    ToolCallEnded,
)
from domain.limits import Limits
from domain.tools import Safety
from services.worker.skills import Asks, Question, Said, Sample, SampleRefused
from services.worker.toolbox import OnOutput, ToolBox, ToolCall, ToolResult
from tests.support.cluster import REF, Cluster, Generate, asks, experts, local_tool, script
from tests.support.runs import COUNT_SCHEMA

HOW_MANY = Question("How many?", schema=COUNT_SCHEMA)
SAY = Sample((Said("user", "Say it."),), system="You are short.", output_tokens_max=30)

Do = Callable[[Asks, ToolCall], Awaitable[str]]


@dataclass
class Asking:
    """A toolbox whose calls do that."""

    asks: Asks
    do: Do

    async def call(self, call: ToolCall, on_output: OnOutput) -> ToolResult:
        await on_output("begun")
        return ToolResult((TextPart(text=await self.do(self.asks, call)),), is_error=False)


async def never(arguments: dict[str, Any], call: ToolCall) -> str:
    raise AssertionError(call.tool, arguments)


def cluster_of(
    do: Do,
    model: Generate | None = None,
    *,
    limits: Limits | None = None,
    safety: Safety = Safety.UNSAFE,
) -> Cluster:
    def made(asks: Asks) -> ToolBox:
        return Asking(asks, do)

    return Cluster(
        experts(["tool"], limits=limits),
        model or script(asks(("tool", "{}")), "done"),
        {"tool": local_tool(never, safety)},
        asking=made,
    )


async def elicits(asks: Asks, call: ToolCall) -> str:
    return str(await asks.elicit(call, HOW_MANY))


async def samples(asks: Asks, call: ToolCall) -> str:
    try:
        return str(await asks.sample(call, SAY))
    except SampleRefused as refused:
        return f"refused: {refused}"


async def asked(cluster: Cluster) -> str:
    """The id of what the run asks a person."""
    state = await cluster.until(lambda state: bool(state.questions))
    return state.questions[0].id


async def tell(cluster: Cluster, command: c.AnswerAsk | c.CancelRun | c.PauseRun) -> None:
    await cluster.client.submit(REF, command, command.id)


def two_counts(name: str, command: str = "w1") -> c.AnswerAsk:
    return c.AnswerAsk(id=command, ask=name, content={"count": 2})


async def read(cluster: Cluster) -> str:
    """What the model reads of the call."""
    ended = [event for event in await cluster.events() if isinstance(event, ToolCallEnded)]
    assert len(ended) == 1
    return text_of(ended[0].content)
