"""What people hear of a call while it runs: bounded, in order, never waited for. Not the record."""

import asyncio
from collections import deque

from services.worker.toolbox import OnOutput

WAITING_CHARS_MAX = 64 * 1024
PIECE_CHARS_MAX = 16 * 1024

DROPPED = "[... {chars} characters were not shown ...]\n"


class Hearing:
    """Takes what a server says, at its speed; passes it on at the listener's."""

    def __init__(self, on_output: OnOutput) -> None:
        self._on_output = on_output
        self._waiting: deque[str] = deque()
        self._size = 0
        self._dropped = 0
        self._news = asyncio.Event()
        self._over = False

    def say(self, text: str) -> None:
        """Take a piece; it is dropped when too much waits already."""
        if not text or self._over:
            return
        if self._size + len(text) > WAITING_CHARS_MAX:
            self._dropped += len(text)
        else:
            self._waiting.append(text)
            self._size += len(text)
        self._news.set()

    def end(self) -> None:
        """Nothing more is said."""
        self._over = True
        self._news.set()

    async def pass_on(self) -> None:
        """Have the listener hear it all, until its end."""
        while self._waiting or self._dropped or not self._over:
            await self._news.wait()
            self._news.clear()
            while piece := self._next():
                await self._on_output(piece)
            if self._over:
                self._news.set()

    def _next(self) -> str:
        pieces: list[str] = []
        size = 0
        while self._waiting and size < PIECE_CHARS_MAX:
            pieces.append(self._waiting.popleft())
            size += len(pieces[-1])
        self._size -= size
        if not pieces and self._dropped:
            pieces.append(DROPPED.format(chars=self._dropped))
            self._dropped = 0
        return "".join(pieces)
