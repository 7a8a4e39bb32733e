"""The gateway as one ASGI application: routes and layers. Not a server: `server` runs it."""

import asyncio
import logging

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.auth import Gate
from gateway.deps import GatewayDeps
from gateway.events import Events
from gateway.forks import Forks
from gateway.people import People
from gateway.problems import EXPECTED, Boundary, answer
from gateway.reads import Reads
from gateway.shapes import json_answer
from gateway.writes import Writes


def create_app(deps: GatewayDeps) -> Starlette:
    """The application.

    `state.closing` is an event: set, it ends every stream. `state.guarded` says whether a token is
    asked for.
    """
    # At its debug level the library logs every frame, and frames hold what people say (C15).
    logging.getLogger("sse_starlette.sse").setLevel(logging.INFO)
    closing = asyncio.Event()
    writes, reads, events = Writes(deps), Reads(deps), Events(deps, closing)
    people, forks = People(deps), Forks(deps)

    async def healthz(_: Request) -> Response:
        position = await asyncio.to_thread(deps.reader.position)
        first_seq, last_seq = await deps.backbone.log.bounds()
        body = {
            "status": "ok",
            "incarnation": deps.backbone.log.incarnation,
            "first_seq": first_seq,
            "last_seq": last_seq,
            "position": None if position is None else str(position),
        }
        return json_answer(body)

    app = Starlette(
        routes=[
            Route("/v1/healthz", healthz),
            Route("/v1/runs", reads.list, methods=["GET"]),
            Route("/v1/runs", writes.start, methods=["POST"]),
            Route("/v1/runs/{run}", reads.get, name="run"),
            Route("/v1/runs/{run}/checkpoints", reads.checkpoints),
            Route("/v1/runs/{run}/fork", forks.fork, methods=["POST"]),
            Route("/v1/runs/{run}/continue", writes.go_on, methods=["POST"]),
            Route("/v1/runs/{run}/cancel", writes.cancel, methods=["POST"]),
            Route("/v1/runs/{run}/answer", people.answer, methods=["POST"]),
            Route("/v1/runs/{run}/approve", people.decide, methods=["POST"]),
            Route("/v1/runs/{run}/steer", people.steer, methods=["POST"]),
            Route("/v1/runs/{run}/pause", people.pause, methods=["POST"]),
            Route("/v1/runs/{run}/resume", people.resume, methods=["POST"]),
            Route("/v1/runs/{run}/policy", people.policy, methods=["POST"]),
            Route("/v1/runs/{run}/waiting", people.waiting, methods=["GET"]),
            Route("/v1/jobs/{job}/tree", people.tree, methods=["GET"]),
            Route("/v1/runs/{run}/events", events.stream, name="events"),
        ],
        middleware=[
            Middleware(Boundary, redactor=deps.redactor),
            Middleware(Gate, token=deps.token, hosts=deps.hosts),
        ],
        exception_handlers=dict.fromkeys(EXPECTED, answer),
    )
    app.state.closing = closing
    app.state.redactor = deps.redactor
    app.state.guarded = deps.token is not None
    return app
