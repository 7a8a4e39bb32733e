"""The answer that is a stream: writes what a viewer takes, and watches its client. Not the frames.

A plain ASGI answer of our own and not sse_starlette's: that one starts four tasks and a lock for
each client and sets a deadline for each write.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import cast

from starlette.types import Message, Receive, Scope, Send

from gateway.streams.feed import Feed
from gateway.streams.hub import Hub
from gateway.streams.places import Place
from gateway.streams.viewer import Viewer

logger = logging.getLogger(__name__)

ABORT = "peritus.abort"
"""Where the scope has what cuts the connection at once: only that frees one that takes nothing."""

START: Message = {
    "type": "http.response.start",
    "status": 200,
    "headers": [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-store"),
        (b"x-accel-buffering", b"no"),
    ],
}
END: Message = {"type": "http.response.body", "body": b"", "more_body": False}


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
            async with asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(_until_gone(receive, viewer))
                await send(START)
                while chunk := await viewer.take():
                    pulse.writing()
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                    pulse.written()
                await send(END)
                watching.cancel()
        finally:
            hub.viewers -= 1
            pulse.stop()
            viewer.go()


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


async def _until_gone(receive: Receive, viewer: Viewer) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    viewer.go()
