"""The gateway as one ASGI application: the table's routes and layers. `server` runs it."""

import asyncio
import logging
from dataclasses import replace

from starlette.applications import Starlette
from starlette.middleware import Middleware

from gateway.auth.layers import layers
from gateway.chat.shape import OpenAiErrors
from gateway.console import console_paths, console_routes
from gateway.deps import GatewayDeps
from gateway.endpoints import routes
from gateway.problems import EXPECTED, answer
from gateway.streams.hub import Hub
from gateway.table import open_paths, operations


def create_app(deps: GatewayDeps) -> Starlette:
    """The application.

    `state.table` are its operations. `state.closing` is an event: set, it ends every stream.
    `state.hub` feeds the streams while it runs. `state.guarded` says whether a token is asked for.
    """
    # At its debug level the library logs every frame, and frames hold what people say (C15).
    logging.getLogger("sse_starlette.sse").setLevel(logging.INFO)
    closing = asyncio.Event()
    hub = Hub(deps.backbone, replace(deps.streams, heartbeat_s=deps.heartbeat_s), closing)
    table = operations(deps, hub)
    app = Starlette(
        routes=[*routes(table, deps), *console_routes()],
        middleware=[Middleware(OpenAiErrors), *layers(deps, open_paths(table) | console_paths())],
        exception_handlers=dict.fromkeys(EXPECTED, answer),
    )
    app.router.redirect_slashes = False  # a path that is not in the table does not exist
    app.state.table = table
    app.state.closing = closing
    app.state.hub = hub
    app.state.redactor = deps.redactor
    app.state.guarded = deps.token is not None or deps.auth is not None
    return app
