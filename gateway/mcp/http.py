"""Serves MCP over Streamable HTTP, behind the same gate as the gateway. Not the server."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import cast

from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPASGIApp, StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.auth import Gate
from gateway.callers import Caller, caller_of
from gateway.deps import LOOPBACK_HOSTS
from gateway.mcp.deps import McpDeps
from gateway.mcp.open_calls import Life
from gateway.problems import Boundary, Problem
from gateway.server import serve

PATH = "/mcp"
BODY_BYTES_MAX = 4 * 1024 * 1024
SESSIONS_MAX = 1_000


@asynccontextmanager
async def beside(
    app: Starlette, server: Server[Life], *, guarded: bool, hosts: frozenset[str], tenant: str
) -> AsyncGenerator[None]:
    """The server as a route of that application, for callers of its own tenant (C18).

    Where no credential is asked for, only `hosts` may be named as the host and as the origin, so
    that no web page can reach a server on this machine; whoever has one may come under any name.
    """
    manager = StreamableHTTPSessionManager(
        server,
        security_settings=None if guarded else _only(hosts),
        max_request_body_size=BODY_BYTES_MAX,
        max_sessions=SESSIONS_MAX,
    )
    app.router.routes.append(Route(PATH, endpoint=_Members(StreamableHTTPASGIApp(manager), tenant)))
    async with manager.run():
        yield


class _Members:
    """Lets pass who may do all that the server does, in whose one tenant everything happens."""

    def __init__(self, app: ASGIApp, tenant: str) -> None:
        self._app = app
        self._tenant = tenant

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        caller = caller_of(HTTPConnection(scope))
        if caller is None or not self._may(caller):
            detail = "MCP here is for operators of one tenant who may start any expert."
            await Problem(403, "forbidden", detail).response()(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _may(self, caller: Caller) -> bool:
        own = caller.tenant == self._tenant and caller.experts is None
        return own and caller.may("operator")


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
            Middleware(
                Gate,
                token=token,
                hosts=LOOPBACK_HOSTS,
                home=lambda _: Caller(deps.tenant, deps.by),
            ),
        ]
    )
    app.state.closing = deps.closing
    app.state.guarded = token is not None
    try:
        guarded = token is not None
        beside_it = beside(app, server, guarded=guarded, hosts=LOOPBACK_HOSTS, tenant=deps.tenant)
        async with beside_it:
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
