"""The gateway as one ASGI application: the table's routes and layers. `server` runs it."""

import asyncio
import logging

from starlette.applications import Starlette
from starlette.middleware import Middleware

from gateway.auth import Gate
from gateway.deps import GatewayDeps
from gateway.endpoints import routes
from gateway.problems import EXPECTED, Boundary, answer
from gateway.table import operations


def create_app(deps: GatewayDeps) -> Starlette:
    """The application.

    `state.closing` is an event: set, it ends every stream. `state.guarded` says whether a token is
    asked for.
    """
    # At its debug level the library logs every frame, and frames hold what people say (C15).
    logging.getLogger("sse_starlette.sse").setLevel(logging.INFO)
    closing = asyncio.Event()
    app = Starlette(
        routes=routes(operations(deps, closing), deps),
        middleware=[
            Middleware(Boundary, redactor=deps.redactor),
            Middleware(Gate, token=deps.token, hosts=deps.hosts),
        ],
        exception_handlers=dict.fromkeys(EXPECTED, answer),
    )
    app.router.redirect_slashes = False  # a path that is not in the table does not exist
    app.state.closing = closing
    app.state.redactor = deps.redactor
    app.state.guarded = deps.token is not None
    return app
