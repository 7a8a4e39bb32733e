"""Which run each open call waits for, and whether its caller cancelled it or only went away.

A client cancels by the id of its request, or, where the protocol has no other way, by closing the
stream of its answer. Any other end of a connection leaves the run to go on.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from domain.errors import Rejected, Unavailable
from domain.ids import RunRef
from gateway.mcp.asking import Asking
from gateway.mcp.telling import session_of

BY_CLIENT = "cancelled by the client"


@dataclass(slots=True)
class Life:
    """What lives as long as the server is up: its tasks end with it."""

    tasks: asyncio.TaskGroup
    endless: list[asyncio.Task[None]] = field(default_factory=list[asyncio.Task[None]])

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something without an end, until the server's."""
        self.endless.append(self.tasks.create_task(work))

    def end(self) -> None:
        """Leave only what ends by itself soon."""
        for task in self.endless:
            task.cancel()


Ctx = ServerRequestContext[Life, Any]


@dataclass(slots=True)
class Open:
    """A call and its run. Until the run `exists`, there is nothing to cancel but the call."""

    ref: RunRef
    exists: bool = False
    settled: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class OpenCalls:
    """The calls of one server. One that was broken off stays known for a while.

    For the word that it was cancelled, and not only cut off, comes after its end.
    """

    asking: Asking
    closing: asyncio.Event
    most: int
    count: int = 0
    _calls: OrderedDict[tuple[str, str], Open] = field(
        default_factory=OrderedDict[tuple[str, str], Open]
    )

    @asynccontextmanager
    async def call(self, ctx: Ctx, ref: RunRef, *, keyed: bool) -> AsyncGenerator[Open]:
        """A call waits for that run. With a key, its caller can come back, and a cut is no cancel.

        Raises:
            Rejected: too many are open.
        """
        if self.count >= self.most:
            raise Rejected("busy", f"{self.most} calls are open here; try again later")
        name, one = (session_of(ctx), str(ctx.request_id)), Open(ref)
        self.count += 1
        self._calls[name] = one
        while len(self._calls) > 2 * self.most:
            self._calls.popitem(last=False)
        known = False
        try:
            yield one
        except asyncio.CancelledError:
            known = True
            if cancels_by_closing(ctx) and not keyed and not self.closing.is_set():
                ctx.lifespan_context.tasks.create_task(self._cancel(one))
            raise
        finally:
            if not known:
                self._calls.pop(name, None)
            one.settled.set()
            self.count -= 1

    async def cancelled(self, ctx: Ctx, params: types.CancelledNotificationParams) -> None:
        """`notifications/cancelled`: the run of the call is cancelled with it."""
        one = self._calls.pop((session_of(ctx), str(params.request_id)), None)
        if one is not None:
            await self._cancel(one)

    async def _cancel(self, one: Open) -> None:
        await one.settled.wait()
        if one.exists:
            await self.asking.cancel_quietly(one.ref, BY_CLIENT)


def is_modern(ctx: Ctx) -> bool:
    """Whether the client speaks the protocol in which nobody but it sends requests."""
    return ctx.protocol_version in MODERN_PROTOCOL_VERSIONS


def cancels_by_closing(ctx: Ctx) -> bool:
    """Whether closing the stream is how this client cancels: in that protocol over HTTP."""
    return is_modern(ctx) and ctx.request is not None


async def asked_whole(one: Open, ask: Callable[[], Awaitable[None]]) -> None:
    """Ask for the run without being broken off in the middle: what is cancelled then exists."""
    with anyio.CancelScope(shield=True):
        try:
            await ask()
            one.exists = True
        except Unavailable:
            one.exists = True  # as far as anybody knows
            raise
        finally:
            one.settled.set()
