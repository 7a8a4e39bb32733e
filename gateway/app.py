"""The gateway as one ASGI application: the table's routes and layers. `server` runs it."""

import asyncio
import logging

from starlette.applications import Starlette

from gateway.auth.layers import layers
from gateway.deps import GatewayDeps
from gateway.endpoints import routes
from gateway.problems import EXPECTED, answer
from gateway.table import open_paths, operations


def create_app(deps: GatewayDeps) -> Starlette:
    """The application.

    `state.closing` is an event: set, it ends every stream. `state.guarded` says whether a token is
    asked for.
    """
    # At its debug level the library logs every frame, and frames hold what people say (C15).
    logging.getLogger("sse_starlette.sse").setLevel(logging.INFO)
    closing = asyncio.Event()
    table = operations(deps, closing)
    app = Starlette(
        routes=routes(table, deps),
        middleware=layers(deps, open_paths(table)),
        exception_handlers=dict.fromkeys(EXPECTED, answer),
    )
    app.router.redirect_slashes = False  # a path that is not in the table does not exist
    app.state.closing = closing
    app.state.redactor = deps.redactor
    app.state.guarded = deps.token is not None or deps.auth is not None
    return app
