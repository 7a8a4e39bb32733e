"""A bounded hand-over between two tasks of one loop. Not a queue between processes: WORK is."""

import asyncio
from collections import deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Pipe(Generic[Item]):
    """At most `items_max` items on their way; the giving side waits, or drops, when it is full."""

    def __init__(self, items_max: int) -> None:
        self._items: deque[Item] = deque()
        self._items_max = items_max
        self._changed = asyncio.Condition()
        self._closed = False

    async def put(self, item: Item) -> None:
        """Hand it over, once there is room; after `close` it is dropped."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._closed or self._room())
            self._add(item)

    async def offer(self, item: Item) -> None:
        """Hand it over if there is room now; else it is dropped."""
        async with self._changed:
            if self._room():
                self._add(item)

    async def take(self, count_max: int) -> list[Item]:
        """All that is ready, at least one and at most that many; empty once closed and drained."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._closed or bool(self._items))
            count = min(count_max, len(self._items))
            taken = [self._items.popleft() for _ in range(count)]
            self._changed.notify_all()
            return taken

    async def close(self) -> None:
        """Nothing more is handed over; what is on its way can still be taken."""
        async with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _room(self) -> bool:
        return len(self._items) < self._items_max

    def _add(self, item: Item) -> None:
        if not self._closed:
            self._items.append(item)
            self._changed.notify_all()
