"""Which open call a question of a server is of, where nothing tells."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from services.tool.mcp.hearing import Hearing
from services.tool.mcp.turns import AMBIGUOUS, CURRENT, OUTSIDE, NotTold, OpenCall, Turns
from tests.support.skills import CALL

pytestmark = pytest.mark.anyio


async def ignore(_: str) -> None:
    """Nobody watches."""


def call(name: str) -> OpenCall:
    return OpenCall(replace(CALL, call=name), Hearing(ignore))


async def turn() -> None:
    """Let everything go on as far as it can."""
    for _ in range(20):
        await asyncio.sleep(0)


@asynccontextmanager
async def bounded() -> AsyncGenerator[asyncio.TaskGroup]:
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        yield tasks


async def test_the_only_open_call_is_the_one_that_asks() -> None:
    turns, one = Turns(), call("a")
    async with bounded(), turns.of(one):
        assert await turns.asking() is one


async def test_a_question_outside_any_call_is_refused() -> None:
    turns = Turns()
    async with turns.of(call("a")):
        pass
    with pytest.raises(NotTold, match=OUTSIDE):
        await turns.asking()


async def test_where_the_transport_tells_nothing_is_waited_for() -> None:
    turns, one, two = Turns(), call("a"), call("b")
    async with bounded(), turns.of(one), turns.of(two):
        CURRENT.set(two)
        assert await turns.asking() is two


async def test_a_question_waits_until_only_one_call_can_have_asked() -> None:
    turns, one, two = Turns(), call("a"), call("b")
    async with bounded() as tasks, turns.of(one):
        async with turns.of(two):
            asked = tasks.create_task(turns.asking())
            await turn()
            assert not asked.done()
        assert await asked is one


async def test_as_many_questions_as_calls_are_not_told_apart() -> None:
    turns, one, two = Turns(), call("a"), call("b")
    async with bounded() as tasks, turns.of(one), turns.of(two):

        async def refused() -> bool:
            try:
                await turns.asking()
            except NotTold as error:
                return str(error) == AMBIGUOUS
            return False

        first, second = tasks.create_task(refused()), tasks.create_task(refused())
        await turn()
        assert [task.done() for task in (first, second)].count(True) == 1
        for task in (first, second):
            task.cancel()


async def test_calls_of_a_server_that_has_asked_go_one_at_a_time() -> None:
    turns, one, two = Turns(), call("a"), call("b")
    order: list[str] = []

    async def second() -> None:
        async with turns.of(two):
            order.append("second")
            assert await turns.asking() is two

    async with bounded() as tasks:
        async with turns.of(one):
            await turns.asking()
            waiting = tasks.create_task(second())
            await turn()
            order.append("first over")
        await waiting
    assert order == ["first over", "second"]
