"""The answer that is a stream: writes what a viewer takes, and watches its client. Not the frames.

Frames are bytes already, and go through sse_starlette as they are. Its pings and its deadline for
each write are off: a heartbeat has a cursor, and one timer a client does for both.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from typing import cast

from sse_starlette import EventSourceResponse
from starlette.types import Receive, Scope, Send

from gateway.streams.feed import Feed
from gateway.streams.hub import Hub
from gateway.streams.places import Place
from gateway.streams.viewer import Viewer

logger = logging.getLogger(__name__)

ABORT = "peritus.abort"
"""Where the scope has what cuts the connection at once: only that frees one that takes nothing."""


class StreamAnswer:
    """One stream to one client."""

    def __init__(self, hub: Hub, feed: Feed, place: Place) -> None:
        self._hub = hub
        self._feed = feed
        self._place = place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve it until its end or the client's."""
        hub = self._hub
        viewer = Viewer(hub, self._feed, self._place)
        pulse = Pulse(viewer, hub, cast("Callable[[], None] | None", scope.get(ABORT)))
        hub.viewers += 1
        try:
            await EventSourceResponse(_chunks(viewer, pulse), ping=0)(scope, receive, send)
        finally:
            hub.viewers -= 1
            pulse.stop()
            viewer.go()


async def _chunks(viewer: Viewer, pulse: "Pulse") -> AsyncGenerator[bytes]:
    while chunk := await viewer.take():
        pulse.writing()
        yield chunk
        pulse.written()


class Pulse:
    """Tells a viewer that it was silent for a while, and cuts a client that takes nothing."""

    __slots__ = ("_abort", "_at_s", "_bounds", "_loop", "_timer", "_viewer", "_writing")

    def __init__(self, viewer: Viewer, hub: Hub, abort: Callable[[], None] | None) -> None:
        self._viewer = viewer
        self._bounds = hub.bounds
        self._abort = abort
        self._loop = asyncio.get_running_loop()
        self._at_s = self._loop.time()
        self._writing = False
        self._timer = self._loop.call_later(self._bounds.heartbeat_s, self._look)

    def writing(self) -> None:
        """A write begins."""
        self._writing = True

    def written(self) -> None:
        """It was taken over."""
        self._writing = False
        self._at_s = self._loop.time()

    def stop(self) -> None:
        """No more."""
        self._timer.cancel()

    def _look(self) -> None:
        silent_s, bounds = self._loop.time() - self._at_s, self._bounds
        if self._writing and silent_s >= bounds.stall_s:
            logger.warning("a stream is cut: its client took nothing for %.1f s", silent_s)
            self._viewer.go()
            if self._abort is not None:
                self._abort()
            return
        if not self._writing and silent_s >= bounds.heartbeat_s:
            self._viewer.beat()
            silent_s = 0.0
        wait_s = bounds.stall_s if self._writing else bounds.heartbeat_s
        self._timer = self._loop.call_later(max(wait_s - silent_s, 0.01), self._look)
