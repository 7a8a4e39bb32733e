"""LIVE in memory: what is said of a run goes to whoever listens now, and is kept for a minute."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from domain.ids import RunRef
from eventlog.memory.client import Client
from eventlog.memory.faults import FaultPoint
from eventlog.memory.inbox import Inbox
from eventlog.memory.log import check_size
from eventlog.port import Said, matches

LISTENER_MESSAGES_MAX = 65_536
"""How many messages a slow listener may have before it loses the next, as a NATS client does."""


KEPT_S = 60.0
KEPT_BYTES_MAX = 32 * 1024 * 1024
"""For how many seconds, and how much of it, is kept what was said."""


class Air:
    """Who listens now, and what was said in the last minute."""

    def __init__(self) -> None:
        self.listeners: list[Listener] = []
        self._kept: deque[tuple[float, Said]] = deque()
        self._bytes = 0

    def say(self, said: Said) -> None:
        """Tell everyone who listens to this run."""
        self._kept.append((asyncio.get_running_loop().time(), said))
        self._bytes += len(said.data)
        self._drop()
        for listener in self.listeners:
            listener.hear(said)

    def recent(self, pattern: RunRef) -> list[Said]:
        """What was said of these runs, in order."""
        self._drop()
        return [said for _, said in self._kept if matches(pattern, said.ref)]

    def clear(self) -> None:
        """Forget what was said."""
        self._kept.clear()
        self._bytes = 0

    def _drop(self) -> None:
        oldest = asyncio.get_running_loop().time() - KEPT_S
        while self._kept and (self._kept[0][0] <= oldest or self._bytes > KEPT_BYTES_MAX):
            self._bytes -= len(self._kept.popleft()[1].data)


class Listener:
    """One subscription of one client."""

    def __init__(self, client: Client, air: Air, pattern: RunRef) -> None:
        self._air = air
        self._pattern = pattern
        self._inbox: Inbox[Said] = Inbox(client, items_max=LISTENER_MESSAGES_MAX)

    def attach(self) -> None:
        """Listen."""
        if self not in self._air.listeners:
            self._air.listeners.append(self)

    def detach(self) -> None:
        """The server no longer knows of it."""
        if self in self._air.listeners:
            self._air.listeners.remove(self)

    def hear(self, said: Said) -> None:
        """Something is said."""
        if matches(self._pattern, said.ref):
            self._inbox.put(said)

    def __aiter__(self) -> AsyncIterator[Said]:
        return self

    async def __anext__(self) -> Said:
        return await self._inbox.get()


class MemoryLive:
    """`LiveChannel` for one client."""

    def __init__(self, client: Client, air: Air) -> None:
        self._client = client
        self._air = air

    async def publish(self, ref: RunRef, data: bytes) -> None:
        """Tell whoever listens now; never waits for anyone."""
        check_size(data)
        await self._client.tell(FaultPoint.LIVE_PUBLISH, lambda: self._air.say(Said(ref, data)))

    def subscribe(self, ref: RunRef) -> AbstractAsyncContextManager[AsyncIterator[Said]]:
        """What is said of a run from now on; parts of `ref` may be `*`."""
        return self._subscribe(ref)

    @asynccontextmanager
    async def _subscribe(self, ref: RunRef) -> AsyncGenerator[AsyncIterator[Said]]:
        listener = Listener(self._client, self._air, ref)
        key = self._client.register(listener)
        try:
            yield listener
        finally:
            self._client.unregister(key)

    async def recent(self, ref: RunRef) -> list[Said]:
        """What was said of a run in the last minute, in order.

        Raises:
            Unavailable: the store is away.
        """
        return await self._client.call(FaultPoint.LOAD, lambda _: self._air.recent(ref))
