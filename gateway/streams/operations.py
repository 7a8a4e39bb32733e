"""The streams as operations of the table. Not what they say: see `handlers` and `frames`."""

from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import BaseModel
from starlette.types import ASGIApp

from gateway.deps import GatewayDeps
from gateway.operations import EVENTS_TYPE, Asked, Operation
from gateway.streams.handlers import Streams
from gateway.streams.hub import Hub
from gateway.streams.queries import FRAMES, JobStreamQuery, RunStreamQuery, TenantStreamQuery


def operations(deps: GatewayDeps, hub: Hub) -> tuple[Operation, ...]:
    """The streams of a run, of a job and of everything."""
    streams = Streams(deps, hub)
    return (
        _stream(
            "/v1/runs/{run}/events",
            "run_events",
            "The events of a run as they come",
            streams.of_run,
            RunStreamQuery,
        ),
        _stream(
            "/v1/jobs/{job}/events",
            "job_events",
            "The events of all runs of a job as they come",
            streams.of_job,
            JobStreamQuery,
        ),
        _stream(
            "/v1/events",
            "events",
            "The events of everything as they come",
            streams.of_tenant,
            TenantStreamQuery,
        ),
    )


def _stream(
    path: str,
    name: str,
    summary: str,
    handler: Callable[[Asked[Any, Any]], Awaitable[ASGIApp]],
    query: type[BaseModel],
) -> Operation:
    return Operation(
        "GET",
        path,
        name,
        "viewer",
        summary,
        handler,
        EVENTS_TYPE,
        query=query,
        problems=() if path == "/v1/events" else (404,),
        tag="streams",
        frames=FRAMES,
    )
