"""A deadline that moves on with every byte. Not a limit on how long something may take in all."""

import asyncio
from types import TracebackType
from typing import Self


class Idle:
    """Inside of it, TimeoutError comes when nothing has happened for so long."""

    def __init__(self, idle_s: float) -> None:
        self._idle_s = idle_s
        self._scope = asyncio.timeout(idle_s)
        self._loop = asyncio.get_running_loop()
        self._due = 0.0

    def touch(self) -> None:
        """Something has happened. Moves the deadline only now and then: this is called often."""
        now = self._loop.time()
        if now >= self._due and not self._scope.expired():
            self._due = now + self._idle_s / 100
            self._scope.reschedule(now + self._idle_s)

    async def __aenter__(self) -> Self:
        await self._scope.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._scope.__aexit__(kind, error, traceback)
