"""Which open call a request of a server belongs to. Not what is answered.

A transport that knows says so: by HTTP the request comes on the stream of the call's own request,
and since 2026-07-28 it is a part of the call's answer. Over the pipes of a process nothing tells.
So there a question waits until only one call is open that it can be of, and a server that has once
asked is given one call at a time from then on. Where as many questions wait as calls are open,
nobody can tell which is whose, and they are refused.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar

from services.tool.mcp.hearing import Hearing
from services.worker.toolbox import ToolCall

OUTSIDE = "no call is open that could ask"
AMBIGUOUS = (
    "several calls are open, and nothing tells which of them asks; call the tools of this server "
    "one at a time"
)


class OpenCall:
    """A call that is at work in a server: who hears what it says, and who is asked."""

    def __init__(self, call: ToolCall, hearing: Hearing) -> None:
        self.call = call
        self.hearing = hearing
        self.questions = 0
        """How often it has asked."""
        self.on_end: list[Callable[[], None]] = []
        """What ends the questions nobody will take the answers of any more."""


CURRENT: ContextVar[OpenCall | None] = ContextVar("mcp_open_call", default=None)
"""The call in whose name a request was sent, where the transport keeps that."""


class NotTold(Exception):
    """Nobody can say which call asks; the message is for the server."""


class Turns:
    """The open calls of one server, and the questions that wait for their owner."""

    def __init__(self) -> None:
        self._open: list[OpenCall] = []
        self._waiting = 0
        self._has_asked = False
        self._changed = asyncio.Condition()

    def __len__(self) -> int:
        return len(self._open)

    @asynccontextmanager
    async def of(self, call: OpenCall) -> AsyncGenerator[None]:
        """Have a call open; waits for the others where the server is one that asks."""
        async with self._changed:
            await self._changed.wait_for(lambda: not (self._has_asked and self._open))
            self._open.append(call)
        try:
            yield
        finally:
            self._open.remove(call)
            for end in tuple(call.on_end):
                end()
            await self._tell()

    def say(self, text: str) -> None:
        """Have all open calls hear something, or the one it is known to be of."""
        current = CURRENT.get()
        for call in self._open if current is None else [current]:
            call.hearing.say(text)

    async def asking(self) -> OpenCall:
        """The call that a request of the server belongs to.

        Raises:
            NotTold: there is none, or nobody knows which.
        """
        current = CURRENT.get()
        if current is not None:
            return current
        self._has_asked = True
        self._waiting += 1
        try:
            await self._tell()
            async with self._changed:
                await self._changed.wait_for(self._is_told)
            if len(self._open) != 1:
                raise NotTold(AMBIGUOUS if self._open else OUTSIDE)
            return self._open[0]
        finally:
            self._waiting -= 1

    def _is_told(self) -> bool:
        return len(self._open) <= 1 or self._waiting >= len(self._open)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()
