"""LIVE in memory: what is said of a run goes to whoever listens now. Not kept anywhere."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from domain.ids import RunRef
from eventlog.memory.client import Client
from eventlog.memory.faults import FaultPoint
from eventlog.memory.inbox import Inbox
from eventlog.memory.log import check_size
from eventlog.port import matches

LISTENER_MESSAGES_MAX = 65_536
"""How many messages a slow listener may have before it loses the next, as a NATS client does."""


class Air:
    """Who listens now."""

    def __init__(self) -> None:
        self.listeners: list[Listener] = []

    def say(self, ref: RunRef, data: bytes) -> None:
        """Tell everyone who listens to this run."""
        for listener in self.listeners:
            listener.hear(ref, data)


class Listener:
    """One subscription of one client."""

    def __init__(self, client: Client, air: Air, pattern: RunRef) -> None:
        self._air = air
        self._pattern = pattern
        self._inbox: Inbox[bytes] = Inbox(client, items_max=LISTENER_MESSAGES_MAX)

    def attach(self) -> None:
        """Listen."""
        if self not in self._air.listeners:
            self._air.listeners.append(self)

    def detach(self) -> None:
        """The server no longer knows of it."""
        if self in self._air.listeners:
            self._air.listeners.remove(self)

    def hear(self, ref: RunRef, data: bytes) -> None:
        """Something is said."""
        if matches(self._pattern, ref):
            self._inbox.put(data)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        return await self._inbox.get()


class MemoryLive:
    """`LiveChannel` for one client."""

    def __init__(self, client: Client, air: Air) -> None:
        self._client = client
        self._air = air

    async def publish(self, ref: RunRef, data: bytes) -> None:
        """Tell whoever listens now; never waits for anyone."""
        check_size(data)
        await self._client.tell(FaultPoint.LIVE_PUBLISH, lambda: self._air.say(ref, data))

    def subscribe(self, ref: RunRef) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """What is said of a run from now on; parts of `ref` may be `*`."""
        return self._subscribe(ref)

    @asynccontextmanager
    async def _subscribe(self, ref: RunRef) -> AsyncGenerator[AsyncIterator[bytes]]:
        listener = Listener(self._client, self._air, ref)
        key = self._client.register(listener)
        try:
            yield listener
        finally:
            self._client.unregister(key)
