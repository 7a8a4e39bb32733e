"""Small worlds for streams: one job's log, one hub, two viewers, and every order of what happens.

The loop is turned step by step. Reads and deliveries take steps of their own, so that appends fall
before, into and behind each of them.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement

from domain import events as e
from domain.errors import Unavailable
from domain.ids import RunRef
from eventlog.memory import MemoryServer
from eventlog.port import Backbone, EventLog, Page, Stored
from gateway.streams.bounds import Bounds
from gateway.streams.feed import Feed
from gateway.streams.hub import Hub
from gateway.streams.places import find_place
from gateway.streams.viewer import Viewer
from tests.support.pen import Pen, completed, started

REF = RunRef("acme", "job1", "alpha")
OTHER = RunRef("acme", "job2", "beta")
STEPS = 8
STEPS_MAX = 2_000
NOTE = e.OpaqueEvent(type="note.v1", body={})


class WindingLog:
    """The log of the in-memory form, in which requests and answers are under way for a while."""

    def __init__(self, log: EventLog, away: int) -> None:
        self._log = log
        self._left = away

    @property
    def incarnation(self) -> str:
        return self._log.incarnation

    async def append(self, ref: RunRef, data: bytes, *, expected_seq: int) -> int:
        return await self._log.append(ref, data, expected_seq=expected_seq)

    async def load(self, ref: RunRef, *, after_seq: int = 0) -> list[Stored]:
        return await self._log.load(ref, after_seq=after_seq)

    async def read(
        self,
        *,
        after_seq: int,
        tenant: str = "*",
        job: str = "*",
        run: str = "*",
        limit: int = 1000,
    ) -> Page:
        await asyncio.sleep(0)
        self._left -= 1
        if self._left == 0:
            raise Unavailable("away for a moment")
        page = await self._log.read(
            after_seq=after_seq, tenant=tenant, job=job, run=run, limit=min(limit, 2)
        )
        for _ in range(3):  # longer than the hub takes to hear of an envelope
            await asyncio.sleep(0)
        return page

    async def find(self, tenant: str, run: str) -> RunRef | None:
        return await self._log.find(tenant, run)

    async def bounds(self) -> tuple[int, int]:
        return await self._log.bounds()

    @asynccontextmanager
    async def follow(
        self, *, after_seq: int, tenant: str = "*", job: str = "*", run: str = "*"
    ) -> AsyncGenerator[AsyncIterator[Stored]]:
        source = self._log.follow(after_seq=after_seq, tenant=tenant, job=job, run=run)
        async with source as envelopes:
            yield self._slowly(envelopes)

    async def _slowly(self, envelopes: AsyncIterator[Stored]) -> AsyncGenerator[Stored]:
        async for stored in envelopes:
            await asyncio.sleep(0)
            yield stored


@dataclass(frozen=True)
class World:
    """When four envelopes are stored, and under which circumstances a viewer comes."""

    at: tuple[int, int, int]  # ours, another job's, twice ours again
    ring: int
    inbox: int
    asked: str | None
    slow: int  # how many steps its client takes for each write
    late: int  # how many steps it has before anything is stored
    away: int = 0  # which read of the log fails


def worlds() -> Iterator[World]:
    """Every order within the steps, for every circumstance that makes the way another one."""
    for at in combinations_with_replacement(range(STEPS), 3):
        for ring, inbox, asked, slow, late in (
            (4_096, 256, None, 0, 0),
            (1, 256, None, 0, 0),
            (1, 256, "a0-1-1", 2, 0),
            (2, 1, "a0-3-0", 3, 0),
            (4_096, 1, "a0-1-1", 8, 40),
            (1, 1, "a0-3-0", 8, 40),
        ):
            yield World(at, ring, inbox, asked, slow, late)
        for away in (2, 3, 4, 5):
            yield World(at, 4_096, 256, "a0-3-1", 0, 40, away)


async def told(world: World, kind: type[Viewer] = Viewer) -> tuple[list[str], list[str]]:
    """The ids of events that two viewers tell in that world, one later, and those they have to."""
    server = MemoryServer(now_ms=lambda: 0)
    backbone = server.backbone()
    log = WindingLog(backbone.log, world.away)
    pen, other = Pen(REF), Pen(OTHER)
    await pen.write(backbone.log, *started())
    await other.write(backbone.log, *started())
    await pen.write(backbone.log, NOTE, NOTE)
    bounds = Bounds(ring_envelopes=world.ring, inbox_envelopes=world.inbox, retry_s=0)
    hub = Hub(replace(backbone, log=log), bounds, asyncio.Event())
    async with asyncio.TaskGroup() as tasks:
        feeding = tasks.create_task(hub.run())
        reading = [
            tasks.create_task(read_all(hub, world, kind, wait))
            for wait in (0, world.late + world.at[1])
        ]
        await play(world, backbone, pen, other)
        for _ in range(STEPS_MAX):
            if all(one.done() for one in reading):
                break
            await asyncio.sleep(0)
        for task in (*reading, feeding):
            task.cancel()
    expected = wanted(pen, world.asked)
    for one in reading:
        if one.cancelled():
            return ["it never ended"], expected
        heard = [found for found, kind in events_of(one.result()) if "." in kind]
        if heard != expected:
            return heard, expected
    return expected, expected


async def play(world: World, backbone: Backbone, pen: Pen, other: Pen) -> None:
    ours, theirs, again = world.at
    for _ in range(world.late):
        await asyncio.sleep(0)
    for step in range(STEPS):
        if step == ours:
            await pen.write(backbone.log, NOTE)
        if step == theirs:
            await other.write(backbone.log, NOTE)
        if step == again:
            await pen.write(backbone.log, NOTE, NOTE)
            await pen.write(backbone.log, NOTE)
        await asyncio.sleep(0)
    await pen.write(backbone.log, *completed(1))


async def read_all(hub: Hub, world: World, kind: type[Viewer], wait: int = 0) -> bytes:
    for _ in range(wait):
        await asyncio.sleep(0)
    feed = Feed(REF, root=REF)
    await hub.opened()
    try:
        place = await find_place(hub.log, feed, world.asked)
    except Unavailable:  # a client is told so, and comes again
        place = await find_place(hub.log, feed, world.asked)
    viewer = kind(hub, feed, place)
    chunks: list[bytes] = []
    while chunk := await viewer.take():
        chunks.append(chunk)
        for _ in range(world.slow):
            await asyncio.sleep(0)
    viewer.go()
    return b"".join(chunks)


def events_of(stream: bytes) -> list[tuple[str, str]]:
    """Id and event of every frame of a stream, in order."""
    found: list[tuple[str, str]] = []
    for frame in stream.decode().split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in frame.splitlines())
        found.append((fields.get("id", ""), fields["event"]))
    return found


def wanted(pen: Pen, asked: str | None) -> list[str]:
    everything = [
        f"a0-{seq}-{index}"
        for seq, envelope in pen.written
        for index in range(len(envelope.events))
    ]
    return everything[everything.index(asked) + 1 :] if asked else everything


def first_failure(worlds: Sequence[World], kind: type[Viewer]) -> World | None:
    """The first world in which a viewer of that kind does not tell exactly what it has to."""

    async def run() -> World | None:
        for world in worlds:
            heard, expected = await told(world, kind)
            if heard != expected:
                return world
        return None

    return asyncio.run(run())
