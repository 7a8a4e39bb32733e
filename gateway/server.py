"""Serves the gateway inside our own event loop. Not a process: signals are the caller's."""

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Callable, Generator
from typing import cast

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from domain.errors import Rejected
from gateway.streams.hub import Hub
from gateway.streams.response import ABORT

HOST = "127.0.0.1"
PORT = 8080

SHUTDOWN_S = 5
"""How long requests in flight may take to end once the gateway closes, in seconds."""


async def serve(
    app: Starlette,
    *,
    host: str = HOST,
    port: int = PORT,
    ready: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve until cancelled, then end streams at once and give other requests a bounded time.

    `ready` gets the base URL once connections are accepted; port 0 takes a free one.

    Raises:
        Rejected: the address cannot be listened on, or is open to others and no token is asked for.
    """
    with _listen(host, port) as listener:
        if not (app.state.guarded or _is_loopback(listener)):
            msg = f"{host} can be reached by other machines; set a token, or listen on {HOST}"
            raise Rejected("unguarded", msg)
        server = _Server(app, listener, ready)
        hub: Hub | None = getattr(app.state, "hub", None)
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(server.serve(sockets=[listener]), name="http")
            feeding = [tasks.create_task(hub.run(), name="streams")] if hub is not None else []
            try:
                await asyncio.wait({serving, *feeding}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                app.state.closing.set()
                server.should_exit = True
                await asyncio.wait({serving}, timeout=2 * SHUTDOWN_S)
                for task in feeding:
                    task.cancel()


class _Connection(HttpToolsProtocol):
    """Lets an answer cut its connection: to close one waits for a client that takes nothing."""

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        cast("dict[str, object]", self.scope)[ABORT] = self.transport.abort


class _Server(uvicorn.Server):
    """Leaves signals alone, and says when it is ready."""

    def __init__(
        self, app: Starlette, listener: socket.socket, ready: Callable[[str], None]
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=_Connection,
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=SHUTDOWN_S,
            )
        )
        self._listener = listener
        self._ready = ready

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Signals belong to whoever started this process."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections."""
        await super().startup(sockets)
        self._ready(_url_of(self._listener))


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, number, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, number)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.setblocking(False)  # noqa: FBT003 - takes no keyword
        except OSError:
            listener.close()
            raise
    except OSError as error:
        message = f"cannot listen on {host}:{port}: {error.strerror or error}"
        raise Rejected("cannot_listen", message) from error
    return listener


def _is_loopback(listener: socket.socket) -> bool:
    return ipaddress.ip_address(listener.getsockname()[0]).is_loopback


def _url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
