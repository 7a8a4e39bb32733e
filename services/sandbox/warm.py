"""A backend that keeps parts of sandboxes ready, so that first calls wait less. Not its backends.

Parts are of one kind: the operator's limits, no image of an expert's, a workspace that may be
written, no secrets as files, no folders beside it. Whatever else is asked for is made when it is
asked for, and so is everything while nothing is ready: this changes when a sandbox is made, never
what it is.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from typing import Protocol

from services.sandbox.failures import NotAhead, SandboxUnavailable
from services.sandbox.port import (
    Ahead,
    Backend,
    CapabilityReport,
    Kind,
    MakesAhead,
    Sandbox,
    SandboxSpec,
)

logger = logging.getLogger(__name__)

AGAIN_S = 30.0
"""How long it takes until a part that could not be made is tried again, in seconds."""


class MakingBackend(Backend, MakesAhead, Protocol):
    """A backend that makes parts ahead."""


class WarmBackend:
    """Fills the port `Backend` with another one. `run` makes parts until it is cancelled."""

    def __init__(self, inner: MakingBackend, kind: Kind, number: int) -> None:
        """Keep `number` parts of a kind; none is made before `run` is begun."""
        self._inner = inner
        self._kind = kind
        self._number = number
        self._ready: deque[Ahead] = deque()
        self._short = asyncio.Event()
        self._short.set()
        self._full = asyncio.Event()
        self._making = asyncio.Lock()
        self._closed = False
        self.taken = 0
        """How many sandboxes were begun with a part that was ready."""

    @property
    def name(self) -> str:
        """The word of the backend that makes them."""
        return self._inner.name

    async def report(self) -> CapabilityReport:
        """What the backend holds; see the port.

        Raises:
            SandboxUnavailable: an attack got through, or no sandbox can be made.
        """
        return await self._inner.report()

    async def open(self, spec: SandboxSpec) -> Sandbox:
        """Make a sandbox, out of what is ready if it fits.

        Raises:
            SandboxUnavailable: it cannot be made; nothing of it is left.
        """
        if self._ready and self._fits(spec):
            part = self._ready.popleft()
            self._full.clear()
            self._short.set()
            try:
                sandbox = await part.become(spec)
            except SandboxUnavailable as error:
                logger.warning("a part of a sandbox could not be used: %s", error)
            else:
                self.taken += 1
                return sandbox
        return await self._inner.open(spec)

    async def reap(self, place: str, alive: Callable[[str], bool]) -> list[str]:
        """End what dead epochs of this place left behind; says what, one line each (C10)."""
        return await self._inner.reap(place, alive)

    async def run(self) -> None:
        """Keep as many parts ready as are wanted; ends where none can be made at all."""
        while not self._closed:
            await self._short.wait()
            try:
                await self._make_one()
            except NotAhead as error:
                logger.warning("no sandboxes are made ahead: %s", error)
                return
            except (SandboxUnavailable, OSError) as error:
                logger.warning("no sandbox can be made ahead now: %s", error)
                await asyncio.sleep(AGAIN_S)

    async def _make_one(self) -> None:
        async with self._making:  # also until what was cancelled is undone
            if not self._closed:
                self._ready.append(await self._inner.make_ahead(self._kind))
        if len(self._ready) >= self._number:
            self._short.clear()
            self._full.set()

    async def filled(self) -> None:
        """Wait until all parts are ready."""
        await self._full.wait()

    async def close(self) -> None:
        """End every part and every sandbox."""
        self._closed = True
        async with self._making:
            while self._ready:
                await _end(self._ready.popleft())
        await self._inner.close()

    def _fits(self, spec: SandboxSpec) -> bool:
        kind = self._kind
        return (
            (spec.owner.place, spec.owner.epoch) == (kind.owner.place, kind.owner.epoch)
            and spec.limits == kind.limits
            and spec.image is None
            and not spec.read_only
            and not spec.secret_files
            and not spec.folders
        )


async def _end(part: Ahead) -> None:
    with contextlib.suppress(SandboxUnavailable):  # without an engine, it ends with our hold on it
        await part.close()
