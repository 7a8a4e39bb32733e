"""A real MCP server over HTTP on loopback, by the SDK's own server. Not a stand-in for one.

Around it is what makes it misbehave: requests can be refused, and streams cut, by those who ask.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.streamable_http import EventCallback, EventId, EventMessage, EventStore, StreamId
from mcp_types import JSONRPCMessage
from pydantic import BaseModel
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BOUND_S = 10.0

Meddle = Callable[["Seen"], Awaitable["Reply | None"]]


@dataclass(frozen=True)
class Seen:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    query: str = ""

    @property
    def is_call(self) -> bool:
        return b'"tools/call"' in self.body


class Events(EventStore):
    """What streams of a server said, for who comes back."""

    def __init__(self) -> None:
        self._kept: list[tuple[StreamId, JSONRPCMessage | None]] = []

    async def store_event(self, stream_id: StreamId, message: JSONRPCMessage | None) -> EventId:
        self._kept.append((stream_id, message))
        return str(len(self._kept))

    async def replay_events_after(
        self, last_event_id: EventId, send_callback: EventCallback
    ) -> StreamId | None:
        after = int(last_event_id)
        stream = self._kept[after - 1][0]
        for number, (of, message) in enumerate(self._kept[after:], after + 1):
            if of == stream and message is not None:
                await send_callback(EventMessage(message, str(number)))
        return stream


@dataclass(frozen=True)
class Reply:
    """What is answered instead."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict[str, str])
    then: Callable[[], Awaitable[None]] | None = None
    """Waits before the answer ends; None: it ends at once."""


class Sum(BaseModel):
    total: int


class Choice(BaseModel):
    sure: bool


@dataclass
class World:
    """A server and what happened to it."""

    seen: list[Seen] = field(default_factory=list[Seen])
    meddle: Meddle | None = None
    calls: list[str] = field(default_factory=list[str])
    """What its tools were at, in order."""
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    def server(self, **given: Any) -> MCPServer:
        """One with tools of each kind, a resource and a prompt."""
        server = MCPServer("wire", version="1.2.3", **given)

        @server.tool()
        def add(a: int, b: int) -> Sum:
            """Add two numbers."""
            self.calls.append("add")
            return Sum(total=a + b)

        @server.tool()
        async def slow(context: Context) -> str:
            """Wait until it is told to go on."""
            self.calls.append("slow")
            await context.report_progress(1, 2, "half way")
            self.begun.set()
            try:
                await self.go_on.wait()
            except asyncio.CancelledError:
                self.calls.append("slow was cancelled")
                self.cancelled.set()
                raise
            self.calls.append("slow ended")
            return "done"

        @server.tool()
        async def ask(context: Context) -> str:
            """Ask a person."""
            self.calls.append("ask")
            answer = await context.elicit("Are you sure?", Choice)
            return f"{answer.action} {getattr(answer, 'data', None)}"

        @server.tool()
        def who(context: Context) -> str:
            """Say who asked."""
            headers = context.headers or {}
            return f"you sent {headers.get('x-key')} and {headers.get('authorization')}"

        @server.tool()
        async def leave(context: Context) -> str:
            """Hang up, and answer to who comes back."""
            self.calls.append("leave")
            await context.close_sse_stream()
            await self.go_on.wait()
            return "you came back"

        @server.tool()
        def boom() -> str:
            """Fail."""
            message = "it went wrong"
            raise ValueError(message)

        @server.resource("note://one")
        def note() -> str:
            """A note."""
            return "the text of the note"

        @server.prompt()
        def greet(name: str) -> str:
            """A greeting."""
            return f"Greet {name}."

        return server

    def around(self, app: ASGIApp) -> ASGIApp:
        """The server, with requests seen and meddled with."""

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            first: list[Message] = []
            body = b""
            while True:
                message = await receive()
                first.append(message)
                body += message.get("body", b"")
                if not message.get("more_body"):
                    break
            headers = {name.decode(): value.decode() for name, value in scope["headers"]}
            query = scope["query_string"].decode()
            seen = Seen(scope["method"], scope["path"], headers, body, query)
            self.seen.append(seen)
            reply = None if self.meddle is None else await self.meddle(seen)
            if reply is not None:
                await _answer(reply, send)
                return

            async def again() -> Message:
                return first.pop(0) if first else await receive()

            await app(scope, again, send)

        return serve


async def _answer(reply: Reply, send: Send) -> None:
    headers = [(name.encode(), value.encode()) for name, value in reply.headers.items()]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    if reply.then is not None:
        await send({"type": "http.response.body", "body": reply.body, "more_body": True})
        await reply.then()
        await send({"type": "http.response.body", "body": b""})
        return
    await send({"type": "http.response.body", "body": reply.body})


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


def free_listener(port: int = 0) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.setblocking(False)  # noqa: FBT003 - takes no keyword
    return listener


@asynccontextmanager
async def serving(
    app: ASGIApp | None = None,
    port: int = 0,
    *,
    at: Callable[[int], ASGIApp] | None = None,
    certificate: Path | None = None,
) -> AsyncGenerator[int]:
    """The port where an application is served until this is left; then it is gone at once.

    `at` makes it when the port is known. `certificate`: a file with that and its key.
    """
    listener = free_listener(port)
    served_app = app if at is None else at(listener.getsockname()[1])
    assert served_app is not None
    server = _Server(
        uvicorn.Config(
            served_app,
            log_config=None,
            access_log=False,
            lifespan="on",
            ws="none",
            timeout_graceful_shutdown=0,
            ssl_certfile=certificate,
        )
    )
    async with asyncio.TaskGroup() as tasks:
        served = tasks.create_task(server.serve(sockets=[listener]))
        async with asyncio.timeout(BOUND_S):
            await server.listening.wait()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = server.force_exit = True
            await asyncio.wait({served}, timeout=BOUND_S)
