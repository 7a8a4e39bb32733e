"""A connection that is closed at any moment of its life: everybody hears of it, nobody waits on."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from domain.errors import Unavailable
from services.tool.mcp.connection import Connection
from services.tool.mcp.seam import Key, NotOpened, Report, Server
from services.tool.mcp.turns import Turns
from tests.support.skills import QUICK, Person

pytestmark = pytest.mark.anyio


class Transport:
    """Opens streams that nobody answers on; counts what is open."""

    def __init__(self) -> None:
        self.may_open = asyncio.Event()
        self.entered = asyncio.Event()
        self.open = 0

    @asynccontextmanager
    async def __call__(self, report: Report) -> AsyncGenerator[Any]:
        del report
        self.entered.set()
        await self.may_open.wait()
        to_session, reading = anyio.create_memory_object_stream[Any](0)
        writing, from_session = anyio.create_memory_object_stream[Any](10)
        self.open += 1
        with to_session, reading, writing, from_session:
            try:
                yield reading, writing
            finally:
                self.open -= 1


def connection(connect: Any) -> Connection:
    server = Server(Key("acme", "job:1", "d"), "silent", connect)
    return Connection(server, Turns(), Person(), QUICK)


async def closed(one: Connection) -> None:
    async with asyncio.timeout(5):
        await one.close("enough")
    assert one.ended == "enough"
    with pytest.raises(NotOpened, match="enough"):
        await one.opened()
    with pytest.raises(NotOpened, match="enough"):
        await one.request(_unsent, 1.0)


async def _unsent(_: object) -> None:
    raise NotImplementedError


async def test_one_that_was_never_started_can_be_closed() -> None:
    one = connection(Transport())
    async with asyncio.timeout(5):
        await one.close("enough")
    assert one.ended == "enough"


async def test_one_that_has_not_begun_to_open_can_be_closed() -> None:
    transport = Transport()
    async with asyncio.TaskGroup() as tasks:
        one = connection(transport)
        one.start(tasks)
        await closed(one)
    assert not transport.entered.is_set()


async def test_one_whose_transport_does_not_open_can_be_closed() -> None:
    transport = Transport()
    async with asyncio.TaskGroup() as tasks:
        one = connection(transport)
        one.start(tasks)
        await transport.entered.wait()
        await closed(one)
    assert transport.open == 0


async def test_one_whose_server_does_not_answer_can_be_closed() -> None:
    transport = Transport()
    transport.may_open.set()
    async with asyncio.TaskGroup() as tasks:
        one = connection(transport)
        one.start(tasks)
        while not transport.open:  # noqa: ASYNC110 - bounded by what follows
            await asyncio.sleep(0)
        await closed(one)
    assert transport.open == 0


async def test_a_transport_that_cannot_be_had_now_says_so() -> None:
    @asynccontextmanager
    async def away(report: Report) -> AsyncGenerator[Any]:
        del report
        message = "no room"
        raise Unavailable(message)
        yield

    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        one = connection(away)
        one.start(tasks)
        with pytest.raises(Unavailable, match="no room"):
            await one.opened()
        await one.gone()
    assert one.failed


async def test_a_transport_that_breaks_ends_its_connection_and_nothing_else() -> None:
    @asynccontextmanager
    async def broken(report: Report) -> AsyncGenerator[Any]:
        del report
        raise ZeroDivisionError
        yield

    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        one = connection(broken)
        one.start(tasks)
        with pytest.raises(NotOpened, match="its connection broke: ZeroDivisionError"):
            await one.opened()
