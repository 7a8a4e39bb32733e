"""Calls that ask a person and the run's model, over whole workers on the in-memory form."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from domain import commands as c
from domain.content import TextPart, text_of
from domain.definition import McpHttpSkill
from domain.errors import Rejected
from domain.events import (
    SamplingEnded,
    SamplingRequested,
    ToolCallAnswered,
    ToolCallAsked,
    ToolCallEnded,
)
from domain.limits import Limits, Usage
from domain.mcp import Catalogue, RemoteTool
from domain.prompt import ModelRequest
from domain.sampling import SAMPLING_BLOCK
from domain.state import RunState
from domain.tools import Safety
from services.loop.models.port import Delta, ModelFailure, ModelReply
from services.worker.skills import Asks, Question, Reply, Said, Sample, SampleRefused
from services.worker.toolbox import OnOutput, ToolBox, ToolCall, ToolResult
from tests.support.cluster import REF, Cluster, Generate, asks, experts, local_tool, script
from tests.support.runs import COUNT_SCHEMA

pytestmark = pytest.mark.anyio

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


@pytest.mark.parametrize("apart", [False, True])
async def test_call_hears_what_a_person_answers_and_goes_on(
    apart: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """C14: in the process of the loop, and over the wire."""
    cluster = cluster_of(elicits)
    async with cluster.worker("e1", loop=not apart), cluster.worker("e2", lanes=False):
        await cluster.start()
        name = await asked(cluster)
        await tell(cluster, two_counts(name))
        await cluster.rest()
    assert await read(cluster) == str(Reply("accept", {"count": 2}))


async def test_answer_that_does_not_fit_says_what_is_wrong_and_the_call_waits_on() -> None:
    cluster = cluster_of(elicits)
    async with cluster.worker("e1"):
        await cluster.start()
        name = await asked(cluster)
        wrong = c.AnswerAsk(id="w1", ask=name, content={"count": "two"})
        with pytest.raises(Rejected, match="count: 'two' is not of type 'integer'"):
            await tell(cluster, wrong)
        await tell(cluster, c.AnswerAsk(id="w2", ask=name, action="decline"))
        await cluster.rest()
    assert await read(cluster) == str(Reply("decline", None))


async def test_answer_given_while_the_worker_is_cut_off_is_heard_when_it_is_back() -> None:
    """C8: the log keeps it."""
    cluster = cluster_of(elicits)
    async with cluster.worker("e1", loop=False), cluster.worker("e2", lanes=False):
        await cluster.start()
        name = await asked(cluster)
        cluster.server.restart()
        await tell(cluster, two_counts(name))
        await cluster.rest()
    assert await read(cluster) == str(Reply("accept", {"count": 2}))


async def test_each_of_two_calls_hears_its_own_answer() -> None:
    """C14."""
    cluster = cluster_of(elicits, script(asks(("tool", "{}"), ("tool", "{}")), "done"))
    async with cluster.worker("e1"):
        await cluster.start()
        state = await cluster.until(lambda state: len(state.questions) == 2)
        for number, ask in enumerate(state.questions):
            content = {"count": 1 if ask.call == "c1-0" else 2}
            await tell(cluster, c.AnswerAsk(id=f"w{number}", ask=ask.id, content=content))
        await cluster.rest()
    ended = {e.call: e for e in await cluster.events() if isinstance(e, ToolCallEnded)}
    heard = {name: text_of(one.content) for name, one in ended.items()}
    assert heard == {
        "c1-0": str(Reply("accept", {"count": 1})),
        "c1-1": str(Reply("accept", {"count": 2})),
    }


async def test_cancelled_run_lets_go_of_what_its_calls_ask() -> None:
    """C6."""
    cluster = cluster_of(elicits)
    async with cluster.worker("e1"):
        await cluster.start()
        name = await asked(cluster)
        await tell(cluster, c.CancelRun(id="x1"))
        state = await cluster.rest()
        with pytest.raises(Rejected, match="no open question"):
            await tell(cluster, two_counts(name))
    assert state.status == "cancelled"


async def test_question_expires_and_the_call_goes_on_without_the_person() -> None:
    """C8."""
    cluster = cluster_of(elicits, limits=Limits(answer_ms_max=30))
    async with cluster.worker("e1"):
        await cluster.start()
        assert (await cluster.rest()).status == "completed"
    assert await read(cluster) == str(Reply("cancel", None))


async def test_call_that_ends_while_it_asks_leaves_nothing_open() -> None:
    async def asks_without_waiting(asks: Asks, call: ToolCall) -> str:
        async with asyncio.TaskGroup() as tasks:
            question = tasks.create_task(elicits(asks, call))
            await go.wait()
            question.cancel()
        return "enough"

    go = asyncio.Event()
    cluster = cluster_of(asks_without_waiting)
    async with cluster.worker("e1"):
        await cluster.start()
        await asked(cluster)
        go.set()
        state = await cluster.rest()
    assert await read(cluster) == "enough"
    assert state.timers == {}
    assert state.questions == ()


async def test_time_that_a_person_takes_is_not_the_calls() -> None:
    calls: list[ToolCall] = []

    async def remembers(asks: Asks, call: ToolCall) -> str:
        calls.append(call)
        return await elicits(asks, call)

    cluster = cluster_of(remembers)
    async with cluster.worker("e1"):
        await cluster.start()
        question = await asked(cluster)
        patience = calls[0].patience
        assert patience is not None
        assert patience.still
        await tell(cluster, two_counts(question))
        await cluster.rest()
    assert not patience.still


async def test_lost_workers_question_is_asked_anew_by_the_next() -> None:
    """C7: of a call that may be repeated."""
    cluster = cluster_of(elicits, safety=Safety.IDEMPOTENT)
    async with cluster.worker("e2", lanes=False):
        async with cluster.worker("e1", loop=False):
            await cluster.start()
            first = await asked(cluster)
        cluster.dead.add("e1")
        async with cluster.worker("e3", loop=False):
            state = await cluster.until(lambda s: any(q.holder == "e3" for q in s.questions))
            second = state.questions[0].id
            assert second != first
            with pytest.raises(Rejected, match="was answered"):
                await tell(cluster, two_counts(first))
            await tell(cluster, two_counts(second, "w2"))
            await cluster.rest()
    assert await read(cluster) == str(Reply("accept", {"count": 2}))


async def test_what_cannot_be_asked_is_closed_for_the_tool() -> None:
    async def nothing(asks: Asks, call: ToolCall) -> str:
        replies = [
            await asks.elicit(call, Question(" ")),
            await asks.elicit(call, Question("x", url="file:///etc/passwd")),
            await asks.elicit(call, Question("x", schema={"type": "string"})),
        ]
        return " ".join(reply.action for reply in replies)

    cluster = cluster_of(nothing)
    async with cluster.worker("e1"):
        await cluster.start()
        await cluster.rest()
    assert await read(cluster) == "cancel cancel cancel"
    assert "tool_call.asked.v1" not in await cluster.types()


async def test_form_that_names_an_older_dialect_is_taken_for_what_it_says() -> None:
    dialect = {"$schema": "http://json-schema.org/draft-07/schema#", **COUNT_SCHEMA}

    async def old(asks: Asks, call: ToolCall) -> str:
        return (await asks.elicit(call, Question("How many?", schema=dialect))).action

    cluster = cluster_of(old)
    async with cluster.worker("e1"):
        await cluster.start()
        await tell(cluster, two_counts(await asked(cluster)))
        await cluster.rest()
    assert await read(cluster) == "accept"


# ---------------------------------------------------------------------------------- sampling


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


async def test_answers_and_questions_have_names_that_a_person_can_type() -> None:
    cluster = cluster_of(elicits)
    async with cluster.worker("e1"):
        await cluster.start()
        name = await asked(cluster)
        await tell(cluster, two_counts(name))
        await cluster.rest()
    assert len(name) == 10
    events = await cluster.events()
    kinds = [type(event) for event in events if isinstance(event, ToolCallAsked | ToolCallAnswered)]
    assert kinds == [ToolCallAsked, ToolCallAnswered]
