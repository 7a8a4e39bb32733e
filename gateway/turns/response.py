"""Answers a request with a turn as it happens; it goes on when nobody listens. Not its form."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Protocol, cast

from starlette.types import Message, Receive, Scope, Send

from domain.ids import RunRef
from gateway.problems import Problem
from gateway.streams.hub import Hub
from gateway.streams.response import ABORT, Pulse
from gateway.streams.viewer import Viewer
from gateway.turns.listening import Item, items_of, viewer_of
from gateway.turns.turn import Turn

ALIVE = b": alive\n\n"
HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]
END: Message = {"type": "http.response.body", "body": b"", "more_body": False}


class Teller(Protocol):
    """Makes the messages of a stream out of what is heard of a job."""

    def tell(self, items: AsyncIterator[Item]) -> AsyncGenerator[str]:
        """The data of each message, "" for a sign of life; ends with the turn."""
        ...


class TurnStream:
    """The response. `past_seq`: what was stored when the turn was asked for ends there."""

    def __init__(
        self,
        hub: Hub,
        turn: Turn,
        teller: Teller,
        past_seq: int,
        headers: dict[str, str] | None = None,
    ) -> None:
        self._hub = hub
        self._turn = turn
        self._teller = teller
        self._past_seq = past_seq
        self._headers = headers or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve it until its end or the client's."""
        hub, ref = self._hub, self._turn.ref
        more = [(name.encode(), value.encode()) for name, value in self._headers.items()]
        async with viewing(hub, ref, receive) as viewer:
            pulse = Pulse(viewer, hub, cast("Callable[[], None] | None", scope.get(ABORT)))
            try:
                await send(
                    {"type": "http.response.start", "status": 200, "headers": [*HEADERS, *more]}
                )
                items = items_of(viewer, ref.tenant, self._past_seq)
                async with aclosing(items), aclosing(self._teller.tell(items)) as told:
                    async for data in told:
                        chunk = b"data: %s\n\n" % data.encode() if data else ALIVE
                        pulse.writing()
                        await send({"type": "http.response.body", "body": chunk, "more_body": True})
                        pulse.written()
                await send(END)
            finally:
                pulse.stop()


async def admit(hub: Hub) -> None:
    """Wait until the hub can feed one more.

    Raises:
        Problem: it feeds as many as it may.
        Unavailable: the log is away.
    """
    if hub.viewers >= hub.bounds.viewers:
        detail = f"This gateway has {hub.viewers} streams open; try another, or later."
        raise Problem(503, "too_many_streams", detail)
    await hub.opened()


@asynccontextmanager
async def viewing(hub: Hub, ref: RunRef, receive: Receive) -> AsyncGenerator[Viewer]:
    """A viewer of a job for one client, which is told nothing more once the client is gone."""
    viewer = viewer_of(hub, ref, hub.incarnation)
    hub.viewers += 1
    try:
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(_until_gone(receive, viewer.go))
            yield viewer
            watching.cancel()
    finally:
        hub.viewers -= 1
        viewer.go()


async def _until_gone(receive: Receive, go: Callable[[], None]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    go()
