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
    places: list[int] = field(default_factory=list[int])

    def next(self) -> int | None:
        if self.made >= self.cuts:
            return None
        self.made += 1
        self.places.append(self.dice.randrange(self.bytes_max))
        return self.places[-1]


@asynccontextmanager
async def cutting(url: str, cutter: Cutter) -> AsyncGenerator[str]:
    """The address of a proxy before the server at `url`."""
    target = urlsplit(url)
    assert target.hostname is not None

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(target.hostname, target.port)
        try:
            async with asyncio.TaskGroup() as tasks:
                up = tasks.create_task(_pass_on(reader, back, None))
                down = tasks.create_task(_pass_on(there, writer, cutter.next()))
                await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
                up.cancel()
                down.cancel()
        finally:
            for one in (writer, back):
                one.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"


async def _pass_on(
    source: asyncio.StreamReader, sink: asyncio.StreamWriter, left: int | None
) -> None:
    """Pass bytes on, and no more than are left."""
    with suppress(ConnectionError):
        while data := await source.read(PIECE):
            sink.write(data if left is None else data[:left])
            await sink.drain()
            if left is not None:
                left -= len(data)
                if left <= 0:
                    return
