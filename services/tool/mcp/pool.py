"""The connections of a process: opened at the first call, shared by key, closed when unused.

Not what is said over them. A server that fails is started again, each time after a longer wait.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING, cast

from domain.errors import Unavailable
from services.tool.mcp.bounds import Bounds
from services.tool.mcp.seam import Key, NotOpened, Server
from services.tool.mcp.turns import Turns
from services.worker.skills import Asks

if TYPE_CHECKING:
    from services.tool.mcp.connection import Connection

CLOSED = "this worker is ending"
LEFT = "what it ran in is closed"

DONE = "it was needed no longer"

PLACES_MAX = 1_000
"""Of how many places it is kept that their servers failed."""


class Place:
    """What is kept of one key, over all its connections."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.connection: Connection | None = None
        self.last: Connection | None = None
        """The latest there was; it may still be closing."""
        self.opening = asyncio.Lock()
        self.users = 0
        self.used_at = 0.0
        self.failures = 0
        self.closed = False

    def live(self) -> "Connection | None":
        """The connection, if there is one that is not over; a failed one is counted once."""
        connection = self.connection
        if connection is None or not connection.ended:
            return connection
        self.connection = None
        self.failures += connection.failed
        return None

    @property
    def idle(self) -> bool:
        """Whether nobody uses it now."""
        return not self.users


class Pool:
    """Connections by key, in a task group of whoever made it."""

    def __init__(self, tasks: asyncio.TaskGroup, asks: Asks, bounds: Bounds) -> None:
        """Nothing is opened, and the SDK is not even loaded, before the first use."""
        self._tasks = tasks
        self._asks = asks
        self._bounds = bounds
        self._places: dict[Key, Place] = {}
        self._closed = False

    def __len__(self) -> int:
        """How many connections there are, open or opening."""
        return sum(place.live() is not None for place in self._places.values())

    @asynccontextmanager
    async def use(self, server: Server) -> "AsyncGenerator[Connection]":
        """A connection that is open, for as long as it is used; others may use it meanwhile.

        Raises:
            NotOpened: there is none.
            Unavailable: it could not be opened now.
        """
        if self._closed:
            raise NotOpened(CLOSED)
        place = self._places.setdefault(server.key, Place())
        place.users += 1
        try:
            yield await self._opened(place, server)
        finally:
            place.users -= 1
            place.used_at = asyncio.get_running_loop().time()
            self._forget(server.key, place)

    @asynccontextmanager
    async def alone(self, server: Server) -> "AsyncGenerator[Connection]":
        """A connection that nobody else uses, and that is closed after.

        Raises:
            NotOpened: there is none.
            Unavailable: it could not be opened now.
        """
        kind = await _connections()
        connection = kind(server, Turns(), self._asks, self._bounds)
        connection.start(self._tasks)
        try:
            await connection.opened()
            yield connection
        finally:
            await connection.close(DONE)

    def worked(self, server: Server) -> None:
        """A server did what it should: it is trusted again."""
        place = self._places.get(server.key)
        if place is not None:
            place.failures = 0

    async def leave(self, tenant: str, place: str) -> None:
        """Close what runs at a place."""
        await self._close(
            [key for key in self._places if key.tenant == tenant and key.place == place], LEFT
        )

    async def close(self) -> None:
        """Close everything; nothing is opened after."""
        self._closed = True
        await self._close(list(self._places), CLOSED)

    async def _close(self, keys: list[Key], why: str) -> None:
        places = [place for key in keys if (place := self._places.pop(key, None)) is not None]
        async with asyncio.TaskGroup() as tasks:
            for place in places:
                place.closed = True
                if place.last is not None:  # it may be that it ended, and is still closing
                    tasks.create_task(place.last.close(why))

    async def _opened(self, place: Place, server: Server) -> "Connection":
        async with place.opening:
            connection = place.live()
            if connection is not None and await self._is_doubtful(place, connection):
                await connection.close("it gave no sign of life")
                place.connection = connection = None
                place.failures += 1
            if connection is None:
                connection = await self._started(place, server)
            try:
                await connection.opened()
            except (NotOpened, Unavailable):
                place.live()
                raise
            return connection

    async def _started(self, place: Place, server: Server) -> "Connection":
        if place.last is not None:  # one at a time: it may still be closing
            await place.last.gone()
        await asyncio.sleep(pause_s(place.failures, self._bounds))
        await self._make_room()
        kind = await _connections()
        if place.closed or self._closed:
            raise NotOpened(CLOSED if self._closed else LEFT)
        made = kind(server, place.turns, self._asks, self._bounds)
        place.connection = place.last = made
        made.start(self._tasks)
        return made

    async def _is_doubtful(self, place: Place, connection: "Connection") -> bool:
        """Whether a connection gives no sign of life, where that is to be asked for."""
        if place.users > 1:  # others rely on it
            return False
        unused_s = asyncio.get_running_loop().time() - place.used_at
        if not connection.doubtful and unused_s < self._bounds.idle_ping_s:
            return False
        connection.doubtful = not await connection.ping()
        return connection.doubtful

    async def _make_room(self) -> None:
        """Close what was unused for longest, when there are too many.

        Raises:
            Unavailable: all of them are used.
        """
        while len(self) >= self._bounds.connections_max:
            idle = [
                (place.used_at, key)
                for key, place in self._places.items()
                if place.idle and place.connection is not None
            ]
            if not idle:
                message = f"{len(self)} servers of skills are at work already"
                raise Unavailable(message)
            _, key = min(idle, key=lambda one: one[0])
            await self._close([key], "another was needed more")

    def _forget(self, key: Key, place: Place) -> None:
        """Keep nothing of a place that has no connection, but for how often it failed."""
        unused = place.idle and place.live() is None
        if not unused or (place.failures and len(self._places) <= PLACES_MAX):
            return
        if self._places.get(key) is place:
            del self._places[key]


def pause_s(failures: int, bounds: Bounds) -> float:
    """What a server is given before it is started again: more, the more often it failed."""
    if not failures:
        return 0.0
    return min(bounds.backoff_s * 2.0 ** min(failures - 1, 16), bounds.backoff_s_max)


async def _connections() -> "type[Connection]":
    """Loads the SDK, which takes most of a second, in which this process is to do other things."""
    module = await asyncio.to_thread(import_module, "services.tool.mcp.connection")
    # Its warnings quote what servers send, at any rate and length: none of that is for a log.
    logging.getLogger("client").setLevel(logging.ERROR)
    return cast("type[Connection]", module.Connection)
