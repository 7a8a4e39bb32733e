"""Serves MCP over Streamable HTTP, behind the same gate as the gateway. Not the server."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import cast

from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPASGIApp, StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route

from gateway.auth import Gate
from gateway.deps import LOOPBACK_HOSTS
from gateway.mcp.deps import McpDeps
from gateway.mcp.open_calls import Life
from gateway.problems import Boundary
from gateway.server import serve

PATH = "/mcp"
BODY_BYTES_MAX = 4 * 1024 * 1024
SESSIONS_MAX = 1_000


@asynccontextmanager
async def beside(
    app: Starlette, server: Server[Life], *, token: str | None, hosts: frozenset[str]
) -> AsyncGenerator[None]:
    """The server as a route of that application, which lets in whom it lets in (C18).

    Without a token only `hosts` may be named as the host and as the origin, so that no web page can
    reach a server on this machine; whoever has the token may come under any name.
    """
    manager = StreamableHTTPSessionManager(
        server,
        security_settings=_only(hosts) if token is None else None,
        max_request_body_size=BODY_BYTES_MAX,
        max_sessions=SESSIONS_MAX,
    )
    app.router.routes.append(Route(PATH, endpoint=StreamableHTTPASGIApp(manager)))
    async with manager.run():
        yield


async def serve_http(
    server: Server[Life],
    deps: McpDeps,
    *,
    host: str,
    port: int,
    token: str | None,
    ready: Callable[[str], None],
) -> None:
    """Serve until cancelled; `ready` gets the URL once connections are accepted.

    Raises:
        Rejected: the address cannot be listened on, or is open to others and no token is asked for.
    """
    app = Starlette(
        middleware=[
            Middleware(Boundary, redactor=deps.redactor),
            Middleware(Gate, token=token, hosts=LOOPBACK_HOSTS),
        ]
    )
    app.state.closing = deps.closing
    app.state.guarded = token is not None
    try:
        async with beside(app, server, token=token, hosts=LOOPBACK_HOSTS):
            await serve(app, host=host, port=port, ready=lambda url: ready(url + PATH))
    except BaseExceptionGroup as failed:
        raise _single(failed) from None


def _single(error: BaseException) -> BaseException:
    """The one error that a group of groups is about, if it is one."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    group = cast("BaseExceptionGroup[BaseException]", error)
    return _single(group.exceptions[0]) if len(group.exceptions) == 1 else group


def _only(hosts: frozenset[str]) -> TransportSecuritySettings:
    names = [name for host in sorted(hosts) for name in (host, f"{host}:*")]
    return TransportSecuritySettings(
        allowed_hosts=names, allowed_origins=[f"http://{name}" for name in names]
    )
