"""`GET /v1/runs/{id}/events`: a run's frames as server-sent events. Not their order: `history`."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import orjson
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.types import ASGIApp, Receive, Scope, Send

from domain.errors import IntegrityViolated, Unavailable
from domain.ids import RunRef
from eventlog.port import Backbone
from gateway.deps import GatewayDeps
from gateway.finding import find_run
from gateway.history import Frame, Place, find_place, frames
from gateway.operations import EVENTS_TYPE, Asked, Operation
from gateway.parameters import Flag, Query
from gateway.problems import problem_of
from projections.pipe import Pipe
from projections.runner import until_reborn

logger = logging.getLogger(__name__)

FRAMES_MAX = 64
"""Frames held for a slow reader; beyond, its events wait in the log and its deltas are dropped."""

RETRY_MS = 1_000
"""How long a client waits before it reconnects, in milliseconds."""

RETRY_BROKEN_MS = 60_000

SOURCE_RETRY_S = 0.5
SOURCE_RETRIES_MAX = 20
"""How often in a row a stream looks for its lost source before the client has to."""


class StreamQuery(Query):
    """How a stream is to be."""

    job: str | None = None
    last_event_id: str | None = None
    live: Flag = False


def operations(deps: GatewayDeps, closing: asyncio.Event) -> tuple[Operation, ...]:
    """The stream of a run."""
    return (
        Operation(
            "GET",
            "/v1/runs/{run}/events",
            "run_events",
            "viewer",
            "The events of a run as they come",
            Events(deps, closing).stream,
            EVENTS_TYPE,
            query=StreamQuery,
            tag="streams",
        ),
    )


class Events:
    """The handler. Once `closing` is set, every stream ends and none begins."""

    def __init__(self, deps: GatewayDeps, closing: asyncio.Event) -> None:
        self._deps = deps
        self._closing = closing

    async def stream(self, asked: Asked[StreamQuery, Any]) -> ASGIApp:
        """Stream from where the client left off, or from the start.

        Raises:
            Problem: there is no such run.
            Unavailable: the log is away.
        """
        query = asked.query
        ref = await find_run(self._deps, asked, job=query.job)
        last = asked.request.headers.get("last-event-id") or query.last_event_id
        place = await find_place(self._deps.backbone.log, ref, last)
        source = RunSource(self._deps.backbone, ref, place, live=query.live)
        return RunStream(source, self._closing, heartbeat_s=self._deps.heartbeat_s)


class RunSource:
    """Fills a pipe with a run's frames: its events in order, and what is said live in between."""

    def __init__(self, backbone: Backbone, ref: RunRef, place: Place, *, live: bool) -> None:
        self._backbone = backbone
        self._ref = ref
        self._place = place
        self._live = live
        self._told = place.cursor
        self._lost = 0

    async def fill(self, pipe: Pipe[Frame], closing: asyncio.Event) -> None:
        """Fill until the run's end is told, the history cannot be read, or the gateway closes."""
        try:
            async with asyncio.TaskGroup() as tasks:
                ends = [tasks.create_task(self._say(pipe)), tasks.create_task(closing.wait())]
                live = [tasks.create_task(self._overhear(pipe))] if self._live else []
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                for task in (*ends, *live):
                    task.cancel()
        finally:
            await pipe.close()

    async def _say(self, pipe: Pipe[Frame]) -> None:
        """Tell the run's events; go on from the last one when the log was away or made anew."""
        place: Place | None = self._place
        try:
            while place is not None:
                place = await self._say_from(pipe, place)
        except (IntegrityViolated, Unavailable) as error:
            logger.warning("the stream of run %s ends early", self._ref.run)
            problem = problem_of(error)
            body = {"code": problem.code, "detail": problem.detail}
            await pipe.put(Frame("problem", orjson.dumps(body)))

    async def _say_from(self, pipe: Pipe[Frame], place: Place) -> Place | None:
        """Tell the events after a place; where to go on, None when all is told."""
        log, errors, self._told = self._backbone.log, list[Exception](), place.cursor
        try:
            async with asyncio.TaskGroup() as tasks:
                telling = tasks.create_task(self._tell(pipe, place))
                watching = tasks.create_task(until_reborn(log, place.cursor.incarnation))
                await asyncio.wait({telling})
                watching.cancel()
        except* (Unavailable, IntegrityViolated) as group:
            errors.extend(_each(group))
        if not errors:
            return None
        self._lost += 1
        if not isinstance(errors[0], Unavailable) or self._lost > SOURCE_RETRIES_MAX:
            raise errors[0]
        await asyncio.sleep(SOURCE_RETRY_S)
        if await log.find(self._ref.tenant, self._ref.run) != self._ref:
            return None
        return await find_place(log, self._ref, str(self._told))

    async def _tell(self, pipe: Pipe[Frame], place: Place) -> None:
        async with aclosing(frames(self._backbone.log, self._ref, place)) as told:
            async for frame in told:
                await pipe.put(frame)
                if frame.id is not None and frame.id != place.cursor:
                    self._told, self._lost = frame.id, 0

    async def _overhear(self, pipe: Pipe[Frame]) -> None:
        try:
            async with self._backbone.live.subscribe(self._ref) as said:
                async for data in said:
                    await pipe.offer(Frame("live", data))
        except Unavailable:
            logger.warning("the stream of run %s goes on without live frames", self._ref.run)


class RunStream:
    """The response; it owns the tasks that feed it."""

    def __init__(self, source: RunSource, closing: asyncio.Event, *, heartbeat_s: float) -> None:
        self._source = source
        self._closing = closing
        self._heartbeat_s = heartbeat_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve it until its end or the client's."""
        pipe: Pipe[Frame] = Pipe(FRAMES_MAX)
        response = EventSourceResponse(
            _messages(pipe),
            ping=self._heartbeat_s,
            ping_message_factory=lambda: ServerSentEvent(comment="alive", sep="\n"),
            sep="\n",
        )
        async with asyncio.TaskGroup() as tasks:
            filling = tasks.create_task(self._source.fill(pipe, self._closing))
            try:
                await response(scope, receive, send)
            finally:
                filling.cancel()


async def _messages(pipe: Pipe[Frame]) -> AsyncGenerator[ServerSentEvent]:
    while ready := await pipe.take(FRAMES_MAX):
        for frame in ready:
            yield _message(frame)


def _message(frame: Frame) -> ServerSentEvent:
    retry = {"hello": RETRY_MS, "problem": RETRY_BROKEN_MS}.get(frame.event)
    return ServerSentEvent(
        frame.data.decode(errors="replace"),
        event=frame.event,
        id=None if frame.id is None else str(frame.id),
        retry=retry,
        sep="\n",
    )


def _each(group: BaseExceptionGroup[Exception]) -> list[Exception]:
    """The errors of a group that is one deep: its tasks have no groups of their own."""
    return [error for error in group.exceptions if isinstance(error, Exception)]
