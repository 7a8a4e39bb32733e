"""What has arrived at one client and nobody took yet. Not the server's: it dies with the client."""

import asyncio
from collections import deque
from typing import Generic, TypeVar

from eventlog.memory.client import Client

T = TypeVar("T")


class Inbox(Generic[T]):
    """First come, first taken; what comes when it is full is lost."""

    def __init__(self, client: Client, *, items_max: int | None = None) -> None:
        self._client = client
        self._items: deque[T] = deque()
        self._items_max = items_max
        self._waiters: deque[asyncio.Future[None]] = deque()

    def put(self, item: T) -> None:
        """It arrived."""
        if self._items_max is None or len(self._items) < self._items_max:
            self._items.append(item)
            self._wake()

    async def get(self) -> T:
        """The oldest one, as soon as there is one.

        Raises:
            Crashed: the process died.
        """
        self._client.alive()
        while not self._items:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(future)
            try:
                await self._client.wait(future)
            except asyncio.CancelledError:
                if future in self._waiters:
                    self._waiters.remove(future)
                elif self._items:
                    self._wake()
                raise
        return self._items.popleft()

    def drain(self) -> list[T]:
        """All that nobody took."""
        items = list(self._items)
        self._items.clear()
        return items

    def _wake(self) -> None:
        while self._waiters:
            future = self._waiters.popleft()
            if not future.done():
                future.set_result(None)
                return
