"""Calls that ask the run's model, over whole workers on the in-memory form."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import pytest

from domain import commands as c
from domain.content import TextPart
from domain.definition import McpHttpSkill
from domain.events import (
    SamplingEnded,
    SamplingRequested,
)
from domain.limits import Limits, Usage
from domain.mcp import Catalogue, RemoteTool
from domain.prompt import ModelRequest
from domain.sampling import SAMPLING_BLOCK
from domain.state import RunState
from services.loop.models.port import Delta, ModelFailure, ModelReply
from services.worker.skills import Asks, Said, Sample, SampleRefused
from services.worker.toolbox import ToolCall
from tests.support.asking_calls import (
    SAY,
    cluster_of,
    read,
    samples,
    tell,
)
from tests.support.cluster import REF, Cluster, asks, script

pytestmark = pytest.mark.anyio


class Model:
    """Plays a script to the run, and says what it is told to tools."""

    def __init__(self, *said: ModelReply | ModelFailure | asyncio.Event) -> None:
        self.said = list(said)
        self.asked: list[ModelRequest] = []
        self.begun = asyncio.Event()
        self._script = script(asks(("tool", "{}")), "done")

    async def generate(
        self, request: ModelRequest, on_delta: Callable[[Delta], Awaitable[None]]
    ) -> ModelReply:
        if not any(block.name == SAMPLING_BLOCK for block in request.context.system):
            return await self._script(request, on_delta)
        self.asked.append(request)
        self.begun.set()
        said = self.said.pop(0)
        if isinstance(said, asyncio.Event):
            await said.wait()
            return told("late")
        if isinstance(said, ModelFailure):
            raise said
        return said


def told(text: str, usage: Usage | None = None, stop: Any = "end") -> ModelReply:
    parts = (TextPart(text=text),)
    return ModelReply(parts, stop, usage or Usage(input=7, output=3), model="m-9")


async def ended(cluster: Cluster) -> SamplingEnded:
    found = [event for event in await cluster.events() if isinstance(event, SamplingEnded)]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("handoff", [True, False])
async def test_runs_own_model_answers_a_tool_on_the_runs_budget(
    handoff: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """C12: one call, in the log before it is made, charged by its usage."""
    model = Model(told("Short."))
    cluster = cluster_of(samples, model.generate)
    async with cluster.worker("e1", handoff=handoff):
        await cluster.start()
        state = await cluster.rest()
    assert "Short." in await read(cluster)
    assert "m-9" in await read(cluster)
    assert (await ended(cluster)).charged == 10
    events = await cluster.events()
    requested = [event for event in events if isinstance(event, SamplingRequested)]
    assert [request.digest for request in model.asked] == [requested[0].request]
    assert model.asked[0].context.tools == ()
    assert model.asked[0].context.model.output_tokens_max == 30
    assert state.tokens_charged == state.usage.tokens


async def test_long_reply_reaches_the_tool_whole() -> None:
    model = Model(told("x" * 100_000))

    async def length(asks: Asks, call: ToolCall) -> str:
        return str(len((await asks.sample(call, SAY)).text))

    cluster = cluster_of(length, model.generate)
    async with cluster.worker("e1", loop=False), cluster.worker("e2", lanes=False):
        await cluster.start()
        await cluster.rest()
    assert await read(cluster) == "100000"


async def test_long_conversation_reaches_the_model_whole() -> None:
    model = Model(told("Short."))

    async def at_length(asks: Asks, call: ToolCall) -> str:
        long = Sample((Said("user", "y" * 90_000),), system="Short.", output_tokens_max=30)
        return (await asks.sample(call, long)).text

    cluster = cluster_of(at_length, model.generate)
    async with cluster.worker("e1", loop=False), cluster.worker("e2", lanes=False):
        await cluster.start()
        await cluster.rest()
    part = model.asked[0].messages[0].parts[0]
    assert isinstance(part, TextPart)
    assert model.asked[0].text(part.text) == "y" * 90_000


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (ModelFailure("overloaded", "come back later"), "come back later"),
        (told("I will not", stop="refusal"), "refused to answer"),
    ],
)
async def test_what_the_model_does_not_say_is_told_to_the_tool_and_not_tried_again(
    said: ModelReply | ModelFailure, why: str
) -> None:
    model = Model(said)
    cluster = cluster_of(samples, model.generate)
    async with cluster.worker("e1"):
        await cluster.start()
        assert (await cluster.rest()).status == "completed"
    assert why in await read(cluster)
    assert len(model.asked) == 1


async def test_budget_without_room_refuses_the_tool_and_the_run_goes_on() -> None:
    """C12."""
    model = Model()

    async def greedy(asks: Asks, call: ToolCall) -> str:
        long = Sample((Said("user", "y" * 100_000),), output_tokens_max=30)
        try:
            return (await asks.sample(call, long)).text
        except SampleRefused as refused:
            return str(refused)

    cluster = cluster_of(greedy, model.generate, limits=Limits(tokens_max=40_000))
    async with cluster.worker("e1"):
        await cluster.start()
        assert (await cluster.rest()).status == "completed"
    assert "no room" in await read(cluster)
    assert model.asked == []


@pytest.mark.parametrize("sampling", ["deny", "allow"])
async def test_definition_says_which_servers_may_use_the_model(
    sampling: Literal["deny", "allow"],
) -> None:
    """What a server is told is not what keeps it from asking."""
    model = Model(told("Short."))
    cluster = cluster_of(samples, model.generate)
    offered = RemoteTool(name="tool", input_schema={"type": "object"})
    server = McpHttpSkill(
        endpoint="https://mcp.example", sampling=sampling, catalogue=Catalogue(tools=(offered,))
    )
    boss = cluster.definition.expert("boss")
    boss = boss.model_copy(update={"skills": {**boss.skills, "own": server}})
    cluster.definition = cluster.definition.model_copy(update={"experts": {"boss": boss}})
    async with cluster.worker("e1"):
        await cluster.start()
        await cluster.rest()
    assert ("sampling is not allowed" in await read(cluster)) is (sampling == "deny")
    assert len(model.asked) == (sampling == "allow")


async def test_model_is_asked_once_though_the_worker_that_asks_it_dies() -> None:
    """C3, C7 and C12: charged in full, told to the tool, never made again."""
    waits = asyncio.Event()
    model = Model(waits, told("twice"))
    cluster = cluster_of(samples, model.generate)
    async with cluster.worker("e1", loop=False):
        async with cluster.worker("e2", lanes=False, handoff=False):
            await cluster.start()
            await model.begun.wait()
        cluster.dead.add("e2")
        async with cluster.worker("e3", lanes=False, handoff=False):
            await cluster.rest()
    assert "was lost" in await read(cluster)
    assert len(model.asked) == 1
    over = await ended(cluster)
    assert over.how == "abandoned"
    assert over.charged > 0


async def test_late_reply_of_a_call_that_ended_settles_what_was_charged() -> None:
    """C12."""

    async def gives_up(asks: Asks, call: ToolCall) -> str:
        async with asyncio.TaskGroup() as tasks:
            question = tasks.create_task(samples(asks, call))
            await model.begun.wait()
            question.cancel()
        return "enough"

    waits = asyncio.Event()
    model = Model(waits)
    cluster = cluster_of(gives_up, model.generate)
    async with cluster.worker("e1"):
        await cluster.start()
        await model.begun.wait()
        state = await cluster.until(lambda state: bool(state.unsettled_asks))
        waits.set()
        settled = await cluster.until(lambda s: not s.unsettled_asks and bool(s.past_calls))
    assert settled.tokens_charged < state.tokens_charged + state.tokens_reserved


async def test_paused_run_asks_its_model_when_it_is_resumed() -> None:
    go = asyncio.Event()
    model = Model(told("Short."))

    async def later(asks: Asks, call: ToolCall) -> str:
        begun.set()
        await go.wait()
        return (await asks.sample(call, SAY)).text

    begun = asyncio.Event()
    cluster = cluster_of(later, model.generate)
    async with cluster.worker("e1"):
        await cluster.start()
        await begun.wait()
        await tell(cluster, c.PauseRun(id="p1"))
        go.set()
        await cluster.until(asking_model)
        assert model.asked == []
        resume = c.ResumeRun(id="r1")
        await cluster.client.submit(REF, resume, resume.id)
        await cluster.rest()
    assert len(model.asked) == 1


def asking_model(state: RunState) -> bool:
    return any(ask.model_call is not None for ask in state.asks.values())
