"""Lets a worker finish what it has begun and begin nothing more. Not what it works on."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace

from commands.hands import Hands
from domain.ids import RunRef
from domain.tools import Lane
from domain.work import Work
from eventlog.port import Backbone, Delivery, OpenRuns, WorkQueue
from eventlog.port import Lane as WorkLane
from services.worker.hands import Bench

POLL_S = 0.005
"""How often a closing worker looks whether its last work is done, in seconds."""

Deliveries = AbstractAsyncContextManager[AsyncIterator[Delivery]]


@dataclass(slots=True)
class Door:
    """Closed, no new work comes in: not from the queue, not from this process's own decisions."""

    closed: bool = False
    waits: set[asyncio.Timeout] = field(default_factory=set[asyncio.Timeout])
    taking: int = 0  # queues that work is taken from
    _bench: Bench | None = None

    def close(self) -> None:
        """Take nothing more; twice is fine."""
        self.closed = True
        now = asyncio.get_running_loop().time()
        for wait in self.waits:
            wait.reschedule(now)

    def hands(self, bench: Bench) -> Hands:
        """What a desk may hand work to."""
        self._bench = bench
        return Doorkeeper(bench, self)

    async def idle(self, within_s: float) -> bool:
        """Close, and wait until all that was begun is done; False when it took too long."""
        self.close()
        try:
            async with asyncio.timeout(within_s):
                while self._busy():  # noqa: ASYNC110 - nothing tells of it
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            return False
        return True

    def _busy(self) -> bool:
        return self.taking > 0 or (self._bench is not None and bool(self._bench.holds()))

    def of(self, backbone: Backbone, *, only: Callable[[RunRef], bool] | None = None) -> Backbone:
        """The ports of a worker behind this door, which looks after runs `only` so."""
        runs = backbone.open_runs
        return replace(
            backbone,
            work=WorkBehind(backbone.work, self),
            open_runs=runs if only is None else SomeRuns(runs, only),
        )


@dataclass(frozen=True, slots=True)
class Doorkeeper:
    """Fills the port `Hands`."""

    bench: Bench
    door: Door

    def free(self) -> bool:
        """Whether there is room for one more generation here."""
        return not self.door.closed and self.bench.free()

    def free_lanes(self) -> frozenset[Lane]:
        """The lanes whose executor here has room for one more call."""
        return frozenset() if self.door.closed else self.bench.free_lanes()

    def take(self, ref: RunRef, work: Work) -> None:
        """Do this work; what is in the log as ours is done even behind a closed door."""
        self.bench.take(ref, work)

    def stop(self, ref: RunRef) -> None:
        """The run is being cancelled."""
        self.bench.stop(ref)

    def interrupt(self, ref: RunRef, step: int, attempt: int) -> None:
        """That attempt is abandoned."""
        self.bench.interrupt(ref, step, attempt)

    def resume(self, ref: RunRef) -> None:
        """The run goes on."""
        self.bench.resume(ref)


@dataclass(frozen=True, slots=True)
class WorkBehind:
    """WORK, taken only while the door is open."""

    inner: WorkQueue
    door: Door

    async def put(self, lane: WorkLane, ref: RunRef, data: bytes) -> None:
        """Offer work.

        Raises:
            Unavailable: it is not stored.
        """
        await self.inner.put(lane, ref, data)

    def consume(self, lane: WorkLane, *, in_flight_max: int) -> Deliveries:
        """Take work until the door closes."""
        return _until_closed(self.door, self.inner.consume(lane, in_flight_max=in_flight_max))


@dataclass(frozen=True, slots=True)
class SomeRuns:
    """OPEN, with only those runs in the list that this worker is to look after."""

    inner: OpenRuns
    mine: Callable[[RunRef], bool]

    async def add(self, ref: RunRef) -> None:
        """The run is about to begin."""
        await self.inner.add(ref)

    async def remove(self, ref: RunRef) -> None:
        """The run is at rest."""
        await self.inner.remove(ref)

    async def list(self) -> list[RunRef]:
        """Those of them that are ours to look after."""
        return [ref for ref in await self.inner.list() if self.mine(ref)]


@asynccontextmanager
async def _until_closed(door: Door, source: Deliveries) -> AsyncGenerator[AsyncIterator[Delivery]]:
    door.taking += 1
    try:
        async with source as deliveries:
            yield _Open(door, deliveries)
    finally:
        door.taking -= 1


@dataclass(frozen=True, slots=True)
class _Open:
    """The deliveries that come before the door closes."""

    door: Door
    source: AsyncIterator[Delivery]

    def __aiter__(self) -> AsyncIterator[Delivery]:
        """This."""
        return self

    async def __anext__(self) -> Delivery:
        """The next one; a wait for it ends when the door closes."""
        if self.door.closed:
            raise StopAsyncIteration
        try:
            async with asyncio.timeout(None) as wait:
                self.door.waits.add(wait)
                try:
                    return await anext(self.source)
                finally:
                    self.door.waits.discard(wait)
        except TimeoutError:
            raise StopAsyncIteration from None
