"""Calls that ask a person, over whole workers on the in-memory form."""

import asyncio

import pytest

from domain import commands as c
from domain.content import text_of
from domain.errors import Rejected
from domain.events import (
    ToolCallAnswered,
    ToolCallAsked,
    ToolCallEnded,
)
from domain.limits import Limits
from domain.tools import Safety
from services.worker.skills import Asks, Question, Reply
from services.worker.toolbox import ToolCall
from tests.support.asking_calls import (
    asked,
    cluster_of,
    elicits,
    read,
    tell,
    two_counts,
)
from tests.support.cluster import REF, asks, script
from tests.support.runs import COUNT_SCHEMA

pytestmark = pytest.mark.anyio


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


async def test_two_people_who_answer_at_once_are_one_answer_and_one_refusal() -> None:
    """C5: whichever worker decides, the log takes one of them."""
    cluster = cluster_of(elicits)
    async with cluster.worker("e1"), cluster.worker("e2", lanes=False):
        await cluster.start()
        name = await asked(cluster)
        said = [c.AnswerAsk(id=f"w{n}", ask=name, content={"count": n}) for n in range(8)]
        async with asyncio.TaskGroup() as tasks:
            asking = [tasks.create_task(cluster.client.ask(REF, command)) for command in said]
        await cluster.rest()
    came = [task.result() for task in asking]
    taken = [n for n, answer in enumerate(came) if answer.status == "accepted"]
    assert len(taken) == 1
    assert {answer.code for answer in came} == {"", "not_waiting"}
    assert await read(cluster) == str(Reply("accept", {"count": taken[0]}))


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
