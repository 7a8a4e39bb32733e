"""As much of HTTP/1.1 as a streaming provider needs, on a free port. Not a web framework.

Written on bare sockets, because cutting an answer in the middle is what it is for.
"""

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import httpx2

from tests.wire.script import Answer, Refusal

KEY = "sk-wire-test-key"
PIECE = 7  # characters in a streamed piece


class Rejected(Exception):
    """The request breaks a rule of the provider."""

    def __init__(
        self, message: str, *, status: int = 400, kind: str = "invalid_request_error"
    ) -> None:
        super().__init__(message)
        self.refusal = Refusal(status, kind, message)


@dataclass(frozen=True)
class Received:
    """A request as it came; `path` and `query` are not decoded."""

    path: str
    headers: dict[str, str]
    raw: bytes
    query: str = ""

    @property
    def body(self) -> dict[str, Any]:
        return json.loads(self.raw)  # type: ignore[no-any-return]


class Format(Protocol):
    """A provider's format: its rules, its frames, its errors."""

    path: str
    content_type: str

    def opened(self, received: Received) -> dict[str, Any]:
        """The body, with what the address says of it; raises `Rejected` for a bad address."""
        ...

    def check(self, headers: dict[str, str], body: dict[str, Any]) -> None:
        """Raise `Rejected` for what the provider refuses."""

    def frames(self, answer: Any, body: dict[str, Any]) -> list[bytes]:
        """The events of a reply, each as it is sent."""
        ...

    def error(self, refusal: Refusal) -> dict[str, Any]:
        """The body of an error answer."""
        ...


class Plain:
    """What most formats do: server-sent events, and an address that says nothing of the body."""

    path = ""
    content_type = "text/event-stream"

    def opened(self, received: Received) -> dict[str, Any]:
        if not received.path.endswith(self.path):
            raise Rejected("not found", status=404, kind="not_found_error")
        return received.body


class WireServer:
    """Answers each request with the next of the answers it was given."""

    def __init__(self, format: Format) -> None:  # noqa: A002
        self.format = format
        self.answers: deque[Answer] = deque()
        self.received: list[Received] = []
        self.url = ""
        self.hung_up = asyncio.Event()  # the client left a stalled stream

    def will(self, *answers: Answer) -> None:
        """Give these answers next."""
        self.answers.extend(answers)

    @property
    def last(self) -> dict[str, Any]:
        """The body of the last request."""
        return self.received[-1].body

    async def serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the request of one connection."""
        try:
            received = await _read(reader)
            if received is None:
                return
            self.received.append(received)
            try:
                body = self.format.opened(received)
                self.format.check(received.headers, body)
            except Rejected as rejected:
                await self._refuse(writer, rejected.refusal)
                return
            answer = self.answers.popleft() if self.answers else Refusal(500, message="no answer")
            if isinstance(answer, Refusal):
                await self._refuse(writer, answer)
                return
            frames = self.format.frames(answer, body)
            if answer.break_at is not None:
                frames[answer.break_at] = _broken(frames[answer.break_at])
            headers = {"content-type": self.format.content_type, **answer.headers}
            await _stream(writer, frames, headers, cut=answer.cut_after, stall=answer.stall_after)
            if answer.stall_after is not None:
                await reader.read()  # until the client hangs up
                self.hung_up.set()
        except ConnectionError:
            pass  # the client hung up first
        finally:
            writer.close()

    async def _refuse(self, writer: asyncio.StreamWriter, refusal: Refusal) -> None:
        data = json.dumps(self.format.error(refusal)).encode()
        headers = {"content-type": "application/json", "content-length": str(len(data))}
        _head(writer, refusal.status, {**headers, **refusal.headers})
        writer.write(data)
        await writer.drain()


@asynccontextmanager
async def serving(format: Format) -> AsyncGenerator[WireServer]:  # noqa: A002
    """A server on a free port of this machine, gone at the end of the block."""
    wire = WireServer(format)
    handlers: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handlers.add(task)
        try:
            await wire.serve_one(reader, writer)
        finally:
            handlers.discard(task)

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    wire.url = f"http://127.0.0.1:{port}"
    try:
        yield wire
    finally:
        server.close()
        for task in list(handlers):
            task.cancel()
        async with asyncio.timeout(5):
            while handlers:
                await asyncio.wait(handlers)


async def _read(reader: asyncio.StreamReader) -> Received | None:
    head = await reader.readuntil(b"\r\n\r\n") if not reader.at_eof() else b""
    if not head:
        return None
    first, *lines = head.decode("latin-1").strip().split("\r\n")
    headers = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(":") for line in lines)
    }
    raw = await reader.readexactly(int(headers.get("content-length", "0")))
    path, _, query = first.split()[1].partition("?")
    return Received(path, headers, raw, query)


def _head(writer: asyncio.StreamWriter, status: int, headers: dict[str, str]) -> None:
    lines = [f"{name}: {value}" for name, value in headers.items()]
    writer.write(
        "\r\n".join([f"HTTP/1.1 {status} Said", *lines, "connection: close", "", ""]).encode()
    )


async def _stream(
    writer: asyncio.StreamWriter,
    frames: Iterable[bytes],
    headers: dict[str, str],
    *,
    cut: int | None,
    stall: int | None,
) -> None:
    _head(writer, 200, {**headers, "transfer-encoding": "chunked"})
    for place, frame in enumerate(frames):
        if place == cut:
            writer.close()  # no last chunk: the client sees the answer break off
            return
        if place == stall:
            await writer.drain()
            return
        writer.write(f"{len(frame):x}\r\n".encode() + frame + b"\r\n")
        await writer.drain()
    writer.write(b"0\r\n\r\n")
    await writer.drain()


def _broken(whole: bytes) -> bytes:
    """An event whose JSON ends in the middle."""
    head, _, data = whole.partition(b"data: ")
    return head + b"data: " + data.strip()[: len(data) // 2] + b"\n\n"


def frame(data: object, event: str | None = None) -> bytes:
    """One server-sent event."""
    text = data if isinstance(data, str) else json.dumps(data)
    return (f"event: {event}\n" if event else "").encode() + f"data: {text}\n\n".encode()


def pieces(text: str) -> list[str]:
    """A text as it is streamed."""
    return [text[start : start + PIECE] for start in range(0, len(text), PIECE)]


def allow(value: dict[str, Any], fields: str, where: str, needed: str = "") -> None:
    """Refuse fields a provider does not know, and the lack of those it needs."""
    for name in value:
        if name not in fields.split():
            raise Rejected(f"{where}{name}: Extra inputs are not permitted")
    for name in needed.split():
        if name not in value:
            raise Rejected(f"{where}{name}: Field required")


async def post(wire: WireServer, body: dict[str, Any], **headers: str) -> httpx2.Response:
    """A raw request, as no client of ours would make it."""
    given = {"x-api-key": KEY, "anthropic-version": "2026-10-21", "authorization": f"Bearer {KEY}"}
    async with asyncio.timeout(10), httpx2.AsyncClient(trust_env=False) as client:
        url = f"{wire.url}{wire.format.path}"
        return await client.post(url, json=body, headers={**given, **headers})
