"""A proxy that cuts connections in the middle, for tests of whoever has to live with that. TCP."""

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

PIECE = 4096


@dataclass
class Cutter:
    """Cuts that many answers, each after a number of bytes that the dice say; then no more.

    With `bytes_max` small the cut is in the head or in the first frames, with a large one anywhere.
    """

    dice: random.Random
    cuts: int
    bytes_max: int
    made: int = 0
    passed: list["Passed"] = field(default_factory=list["Passed"])

    def next(self) -> int | None:
        if self.made >= self.cuts:
            return None
        self.made += 1
        return self.dice.randrange(self.bytes_max)


@dataclass
class Passed:
    """What went through one connection, either way."""

    asked: bytearray = field(default_factory=bytearray)
    answered: bytearray = field(default_factory=bytearray)


@asynccontextmanager
async def cutting(url: str, cutter: Cutter) -> AsyncGenerator[str]:
    """The address of a proxy before the server at `url`."""
    target = urlsplit(url)
    assert target.hostname is not None

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(target.hostname, target.port)
        passed = Passed()
        cutter.passed.append(passed)
        try:
            async with asyncio.TaskGroup() as tasks:
                up = tasks.create_task(_pass_on(reader, back, None, passed.asked))
                down = tasks.create_task(_pass_on(there, writer, cutter.next(), passed.answered))
                await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
                up.cancel()
                down.cancel()
        finally:
            back.transport.abort()
            writer.close()  # what was passed on still arrives

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"


async def _pass_on(
    source: asyncio.StreamReader, sink: asyncio.StreamWriter, left: int | None, seen: bytearray
) -> None:
    """Pass bytes on, and no more than are left."""
    with suppress(ConnectionError):
        while data := await source.read(PIECE):
            kept = data if left is None else data[:left]
            seen += kept
            sink.write(kept)
            await sink.drain()
            if left is not None:
                left -= len(data)
                if left <= 0:
                    return
