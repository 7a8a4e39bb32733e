"""A client of streams that sees every byte, and goes away after any of them. Not a good client."""

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import h11
import httpx2
import orjson


@dataclass(frozen=True)
class Seen:
    """One whole frame, and where it lies in the stream."""

    event: str
    data: Any
    id: str | None
    start: int
    end: int

    @property
    def durable(self) -> bool:
        """Whether it is an event of the log."""
        return "." in self.event


@dataclass
class RawStream:
    """One connection with one answer; `body` is what came of it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    parser: h11.Connection
    body: bytearray = field(default_factory=bytearray)
    over: bool = False
    status: int = 0
    frames: list[Seen] = field(default_factory=list[Seen])

    async def more(self) -> bool:
        """Wait for more bytes; False when the answer is over or the connection is."""
        while not self.over:
            event = self.parser.next_event()
            if isinstance(event, h11.Data):
                self.body += event.data
                self._cut_frames()
                return True
            if isinstance(event, h11.Response):
                self.status = event.status_code
            elif event is h11.NEED_DATA:
                await self._receive()
            elif isinstance(event, (h11.EndOfMessage, h11.ConnectionClosed)):
                self.over = True
        return False

    async def until(self, number: int) -> list[Seen]:
        """The first so many frames."""
        while len(self.frames) < number and await self.more():
            pass
        return self.frames[:number]

    async def rest(self) -> list[Seen]:
        """All frames until the answer is over."""
        while await self.more():
            pass
        return self.frames

    async def _receive(self) -> None:
        try:
            data = await self.reader.read(65_536)
        except ConnectionError:
            data = b""
        if data:
            self.parser.receive_data(data)
        else:
            self.over = True  # also in the middle: whoever was cut sees no more

    def _cut_frames(self) -> None:
        start = self.frames[-1].end if self.frames else 0
        while (at := self.body.find(b"\n\n", start)) >= 0:
            lines = self.body[start:at].decode().splitlines()
            fields = dict(line.split(": ", 1) for line in lines)
            data = orjson.loads(fields["data"])
            seen = Seen(fields["event"], data, fields.get("id"), start, at + 2)
            self.frames.append(seen)
            start = at + 2


@asynccontextmanager
async def raw_stream(
    client: httpx2.AsyncClient, target: str, *, last: str | None = None, receive_bytes: int = 0
) -> AsyncGenerator[RawStream]:
    """Ask for a stream; the connection is cut at once when the context ends."""
    url = client.base_url
    connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    connection.setblocking(False)  # noqa: FBT003 - takes no keyword
    if receive_bytes:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    await asyncio.get_running_loop().sock_connect(connection, (url.host, url.port))
    reader, writer = await asyncio.open_connection(sock=connection, limit=receive_bytes or 65_536)
    parser = h11.Connection(h11.CLIENT)
    headers = [("Host", f"{url.host}:{url.port}")]
    if last is not None:
        headers.append(("Last-Event-ID", last))
    request = h11.Request(method="GET", target=target, headers=headers)
    for event in (request, h11.EndOfMessage()):
        writer.write(parser.send(event) or b"")
    try:
        yield RawStream(reader, writer, parser)
    finally:
        writer.transport.abort()
        with suppress(ConnectionError):
            await writer.wait_closed()
