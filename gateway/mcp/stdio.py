"""Serves MCP over standard input and output, until the input ends. Not the server.

Lines are read by a thread that nobody waits for: a library's would hold up the end of the process
until the next line comes.
"""

import asyncio
import fcntl
import logging
import os
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

import anyio
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

from gateway.mcp.open_calls import Life

logger = logging.getLogger(__name__)

LINE_BYTES_MAX = 4 * 1024 * 1024
"""How long one message may be; a longer one is passed over, and told of."""

READ_BYTES = 64 * 1024
AHEAD_MAX = 64
TOO_LONG = "a message above the limit"
"""Stands where a line was that is too long; it is no JSON, so it is refused as that."""

STDIN = 0


async def serve_stdio(server: Server[Life]) -> None:
    """Serve one client until it closes our standard input, or until cancelled."""
    lines = Lines(_private_stdin())
    lines.start()
    # The library asks for no more of its input than that it can be iterated over.
    source = cast("Any", lines)
    try:
        async with stdio_server(stdin=source) as (reads, writes):
            await server.run(reads, writes, server.create_initialization_options())
    except* (BrokenPipeError, anyio.BrokenResourceError, anyio.ClosedResourceError):
        logger.info("the client has gone")


class Lines:
    """The lines of a file as they come, at most so many ahead of their reader."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._loop = asyncio.get_running_loop()
        self._lines: asyncio.Queue[str | None] = asyncio.Queue()
        self._room = threading.Semaphore(AHEAD_MAX)

    def start(self) -> None:
        """Begin to read."""
        threading.Thread(target=self._read, name="stdin", daemon=True).start()

    async def __aiter__(self) -> AsyncIterator[str]:
        """Every line until the file ends."""
        while (line := await self._lines.get()) is not None:
            self._room.release()
            yield line

    def _read(self) -> None:
        try:
            for line in _lines_of(self._file):
                self._room.acquire()
                self._put(line.decode("utf-8", "replace"))
            self._put(None)
        except RuntimeError:  # the loop is closed: nobody reads any more
            return

    def _put(self, line: str | None) -> None:
        self._loop.call_soon_threadsafe(self._lines.put_nowait, line)


def _lines_of(file: int) -> Iterator[bytes]:
    rest, too_long = bytearray(), False
    while data := os.read(file, READ_BYTES):
        *whole, last = data.split(b"\n")
        for piece in whole:
            line = bytes(rest + piece)
            rest.clear()
            yield TOO_LONG.encode() if too_long or len(line) > LINE_BYTES_MAX else line
            too_long = False
        rest += last
        if len(rest) > LINE_BYTES_MAX:
            rest.clear()
            too_long = True
    if rest and not too_long:
        yield bytes(rest)


def _private_stdin() -> int:
    """Standard input for us alone: whoever else reads it, here or in a child, finds it empty."""
    private = fcntl.fcntl(STDIN, fcntl.F_DUPFD_CLOEXEC, 3)
    nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(nothing, STDIN)
    os.close(nothing)
    return private
