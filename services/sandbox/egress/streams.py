"""Byte streams the proxy reads and writes: of a socket, counted, with TLS ended. Not their content.

A stream has one reader and one writer at a time; both may be at it together.
"""

import asyncio
import contextlib
import functools
import ssl
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

CHUNK = 64 * 1024

T = TypeVar("T")


class Stream(Protocol):
    """Bytes in both directions."""

    async def read(self) -> bytes:
        """Some bytes, at most CHUNK; none at the end.

        Raises:
            OSError: the other side is gone.
        """
        ...

    async def write(self, data: bytes) -> None:
        """Send all of it; waits while the other side does not read.

        Raises:
            OSError: the other side is gone.
        """
        ...

    async def finish(self) -> None:
        """Nothing more will be written; reading goes on."""
        ...

    def close(self) -> None:
        """Drop the connection; closing twice is harmless."""
        ...


class SocketStream:
    """A connection as asyncio has it, with or without TLS of ours as its client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self) -> bytes:
        """Some bytes; none at the end."""
        return await self._reader.read(CHUNK)

    async def write(self, data: bytes) -> None:
        """Send all of it."""
        self._writer.write(data)
        await self._writer.drain()

    async def flush(self) -> None:
        """Wait until the kernel has taken all that was written."""
        self._writer.transport.set_write_buffer_limits(0)
        await self._writer.drain()

    async def finish(self) -> None:
        """Half-close, where the transport can."""
        await self.flush()
        if self._writer.can_write_eof():
            with contextlib.suppress(OSError):
                self._writer.write_eof()

    def close(self) -> None:
        """Drop the connection. What was not sent is dropped too: nobody may make us keep it."""
        if self._writer.transport.get_write_buffer_size():
            self._writer.transport.abort()
        else:
            self._writer.close()

    @property
    def ended(self) -> bool:
        """Whether the other side has said that it sends no more, and all was read."""
        return self._reader.at_eof()


class Primed:
    """A stream of which some bytes were read already, and are read again."""

    def __init__(self, stream: Stream, first: bytes) -> None:
        self._stream = stream
        self._first = first
        self.write, self.finish, self.close = stream.write, stream.finish, stream.close

    async def read(self) -> bytes:
        """The bytes in front, then the stream's own."""
        first, self._first = self._first, b""
        return first or await self._stream.read()


Pay = Callable[[int, int], Awaitable[None]]
"""Told how many bytes go out and come in, before they do; raises Refused when they may not."""


class Metered:
    """A stream to a host outside: what goes through it is paid for first."""

    def __init__(self, stream: SocketStream, pay: Pay) -> None:
        self._stream = stream
        self._pay = pay
        self.finish, self.close = stream.finish, stream.close

    async def read(self) -> bytes:
        """Some bytes that were paid for."""
        data = await self._stream.read()
        if data:
            await self._pay(0, len(data))
        return data

    async def write(self, data: bytes) -> None:
        """Pay and send."""
        await self._pay(len(data), 0)
        await self._stream.write(data)

    @property
    def ended(self) -> bool:
        """Whether the host sends no more."""
        return self._stream.ended


class Terminated:
    """The server's end of TLS over another stream. The client knows us by our own authority."""

    def __init__(self, outer: Stream, context: ssl.SSLContext) -> None:
        self._outer = outer
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    async def handshake(self) -> None:
        """Raises OSError: the client does not like what it sees."""
        await self._drive(self._tls.do_handshake)

    async def read(self) -> bytes:
        """Some decrypted bytes."""
        try:
            return await self._drive(lambda: self._tls.read(CHUNK))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    async def write(self, data: bytes) -> None:
        """Encrypt and send."""
        view = memoryview(data)
        while view:
            piece = view[:CHUNK]
            view = view[await self._drive(functools.partial(self._tls.write, piece)) :]

    async def finish(self) -> None:
        """Say the proper goodbye of TLS."""
        with contextlib.suppress(OSError):
            self._tls.unwrap()
        with contextlib.suppress(OSError):
            await self._flush()

    def close(self) -> None:
        """Drop the connection below."""
        self._outer.close()

    async def _drive(self, step: Callable[[], T]) -> T:
        """Do a step of TLS, moving bytes from and to the stream below as it needs them."""
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                await self._flush()
                data = await self._outer.read()
                if data:
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
            except ssl.SSLError:
                await self._flush()  # the alert that says why
                raise
            else:
                await self._flush()
                return result

    async def _flush(self) -> None:
        data = self._outgoing.read()
        if data:
            await self._outer.write(data)
