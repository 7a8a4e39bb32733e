"""The byte streams of a process in a container, over one connection to the engine. Not its end.

The engine, not the container, frames what comes out: nothing printed inside can break the frames.
It is our own client of one request, because the SDK's stream loses what arrives with the answer's
head, and blocks.
"""

import asyncio
import json
import socket
import struct
from collections import deque
from collections.abc import Iterable
from typing import Literal

from services.sandbox.docker.engine import EngineError
from services.sandbox.port import WINDOW_BYTES
from services.worker.process import Chunk

Stream = Literal["stdout", "stderr"]

STREAMS: dict[int, Stream] = {1: "stdout", 2: "stderr"}
FRAME = struct.Struct(">BxxxI")
HEAD_BYTES_MAX = 64 * 1024
CHUNK_BYTES = 64 * 1024
LINE_BYTES_MAX = 64
SWITCHED = {101, 200}


def hijack(connection: socket.socket, path: str, body: dict[str, object] | None) -> None:
    """Ask for a stream on a blocking connection; after that it carries frames, and our input.

    Raises:
        EngineError: the engine refuses.
        OSError: the connection is gone.
    """
    data = b"" if body is None else json.dumps(body).encode()
    request = (
        f"POST {path} HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\n"
        f"Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    connection.sendall(request.encode() + data)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        # Byte by byte: what follows the head belongs to the stream.
        byte = connection.recv(1)
        if not byte or len(head) > HEAD_BYTES_MAX:
            message = "the Docker Engine closed a stream before it began"
            raise EngineError(message)
        head += byte
    status = int(head.split(b" ", 2)[1])
    if status not in SWITCHED:
        said = connection.recv(CHUNK_BYTES).decode("utf-8", "replace").strip()
        message = f"the Docker Engine refuses: {said}"
        raise EngineError(message, status)


def first_line(connection: socket.socket) -> bytes:
    """The first line a process prints, on a blocking connection; what is not stdout is dropped.

    Raises:
        EngineError: there is none.
        OSError: the connection is gone, or silent for too long.
    """
    line = b""
    while not line.endswith(b"\n"):
        kind, size = FRAME.unpack(_exactly(connection, FRAME.size))
        if size > HEAD_BYTES_MAX:
            break
        line += _exactly(connection, size) if kind == 1 else _exactly(connection, size)[:0]
        if len(line) > LINE_BYTES_MAX:
            break
    else:
        return line[:-1]
    message = "a prepared shell said something else than its number"
    raise EngineError(message)


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            message = "a prepared shell ended before it was used"
            raise EngineError(message)
        data += more
    return data


class Attached(asyncio.BufferedProtocol):
    """Our end of a process's streams; reads no further than the window until `lift`."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray(CHUNK_BYTES)
        self._frame = bytearray()
        self._left = 0
        self._stream: Stream = "stdout"
        self._pieces: deque[tuple[Stream, bytes]] = deque()
        self._held: dict[Stream, int] = {"stdout": 0, "stderr": 0}
        self._given: dict[Stream, int] = {"stdout": 0, "stderr": 0}
        self._lifted = False
        self._paused = False
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self.over = asyncio.Event()
        """Set when nothing more will come."""

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - that is what streams have
        self._transport = transport

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002 - the loop's
        """Where the next bytes go."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take bytes in; no more than the window, unless the process is over."""
        self._parse(memoryview(self._buffer)[:nbytes])
        self._arrived.set()
        if not self._lifted and max(self._held.values()) >= WINDOW_BYTES:
            self._pause()

    def eof_received(self) -> bool:
        """Nothing more will come."""
        self._end()
        return True  # the transport stays until we close it: bytes of ours may be on their way

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the loop's
        """Nothing more will come."""
        self._end()

    def pause_writing(self) -> None:
        """Who writes waits."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Who writes goes on."""
        self._writable.set()

    def _parse(self, data: memoryview) -> None:
        while data:
            if self._left:
                piece = bytes(data[: self._left])
                self._left -= len(piece)
                data = data[len(piece) :]
                self._pieces.append((self._stream, piece))
                self._held[self._stream] += len(piece)
                continue
            wanted = FRAME.size - len(self._frame)
            self._frame += data[:wanted]
            data = data[wanted:]
            if len(self._frame) == FRAME.size:
                kind, self._left = FRAME.unpack(self._frame)
                self._stream = STREAMS.get(kind, "stderr")
                self._frame.clear()

    def _pause(self) -> None:
        if self._transport is not None and not self._paused and not self.over.is_set():
            self._paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._transport is not None and self._paused and not self.over.is_set():
            self._paused = False
            self._transport.resume_reading()

    def _end(self) -> None:
        self.over.set()
        self._arrived.set()
        self._writable.set()

    # What we call.

    async def piece(self) -> Chunk | None:
        """What was printed next; None at the end. For one reader."""
        while not self._pieces:
            if self.over.is_set():
                return None
            self._arrived.clear()
            await self._arrived.wait()
        stream, data = self._pieces.popleft()
        self._held[stream] -= len(data)
        if max(self._held.values()) < WINDOW_BYTES:
            self._resume()
        offset = self._given[stream]
        self._given[stream] += len(data)
        return Chunk(stream, offset, data)

    async def line(self) -> bytes:
        """The first line of stdout, or as much as a line of ours may have; b"" at the end."""
        line = b""
        kept: list[tuple[Stream, bytes]] = []
        while not line.endswith(b"\n") and len(line) < LINE_BYTES_MAX:
            chunk = await self.piece()
            if chunk is None:
                break
            if chunk.stream == "stderr":
                kept.append((chunk.stream, chunk.data))
                continue
            head, newline, rest = chunk.data.partition(b"\n")
            line += head + newline
            if rest:
                kept.append(("stdout", rest))
        self._given = {"stdout": 0, "stderr": 0}
        self._push_back(kept)
        return line

    def _push_back(self, pieces: Iterable[tuple[Stream, bytes]]) -> None:
        for stream, data in reversed(list(pieces)):
            self._pieces.appendleft((stream, data))
            self._held[stream] += len(data)

    async def write(self, data: bytes) -> None:
        """Send input; waits while it is not read.

        Raises:
            BrokenPipeError: nobody reads any more.
        """
        if self._transport is None or self.over.is_set() or self._transport.is_closing():
            raise BrokenPipeError
        self._transport.write(data)
        await self._writable.wait()
        if self.over.is_set():
            raise BrokenPipeError

    def finish(self) -> None:
        """Say that no more input comes; twice is harmless."""
        transport = self._transport
        if transport is not None and not self.over.is_set() and not transport.is_closing():
            transport.write_eof()

    def lift(self) -> None:
        """Read all there is from now on: the process is over, so it is little."""
        self._lifted = True
        self._resume()

    def close(self) -> None:
        """Let go of the connection."""
        if self._transport is not None:
            self._transport.abort()
        self._end()
