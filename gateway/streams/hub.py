"""One upstream for all viewers of a process: one follower of the log, one ear for what is said.

It never waits for a viewer. Which frames a viewer gets, and when, is the viewer's own affair.
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, cast

import orjson

from domain.envelope import TOMBSTONE
from domain.errors import Unavailable
from domain.ids import RunRef
from eventlog.owners import Owners
from eventlog.port import Backbone, Page, Stored
from gateway.streams.bounds import PAGE, Bounds
from gateway.streams.entries import Encoder, Entry, Told
from gateway.streams.feed import Feed
from gateway.streams.frames import frame
from gateway.streams.places import Rests
from gateway.streams.ring import Ring, Shelf
from gateway.streams.sayings import Sayings, events_of

logger = logging.getLogger(__name__)

EVERYTHING = RunRef("*", "*", "*")
BREATH = 64
"""After how many envelopes in a row others get their turn."""

REBORN_POLL_S = 1.0
OPEN_S = 5.0
"""How long a viewer waits for the upstream when it is the first, in seconds."""

EAR_S = 1.0
"""How long it waits beyond that to hear what was said before, in seconds."""


class Listener(Protocol):
    """What the hub needs of a viewer."""

    @property
    def feed(self) -> Feed:
        """What it wants."""
        ...

    def hear(self, entry: Entry) -> None:
        """The next envelope of its feed; returns at once."""
        ...

    def say(self, data: bytes) -> None:
        """A live frame of its feed; returns at once."""
        ...

    def wake(self) -> None:
        """Something changed: the log's life, or the gateway closes."""
        ...


class Hub:
    """The upstream of one gateway. It begins when the first viewer comes."""

    def __init__(self, backbone: Backbone, bounds: Bounds, closing: asyncio.Event) -> None:
        self.log = backbone.log
        self.bounds = bounds
        self.closing = closing
        self.incarnation = ""
        self.rests = Rests(self.log)
        self.ring = Ring(bounds)
        self._shelf = Shelf(bounds)
        self._owners = Owners(self.log)
        self._encoder = Encoder(self._owners)
        self._live = backbone.live
        self.sayings = Sayings(bounds, lambda: asyncio.get_running_loop().time())
        self._viewers: dict[RunRef, set[Listener]] = {}
        self._wanted = asyncio.Event()
        self._open = asyncio.Event()
        self._ear = asyncio.Event()  # what was said before us is known, or cannot be had
        self.viewers = 0
        self._checking = asyncio.Lock()
        self._flights: dict[tuple[str, RunRef, int], asyncio.Future[tuple[int, Page] | None]] = {}

    async def run(self) -> None:
        """Feed the viewers until cancelled; what is away is tried again."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._close())
            await self._wanted.wait()
            tasks.create_task(self._listen())
            while True:
                try:
                    await self._begin()
                    await self._follow()
                except* Unavailable as away:
                    logger.warning("the streams wait for the log: %s", away.exceptions[0])
                await asyncio.sleep(self.bounds.retry_s)

    async def opened(self) -> None:
        """Wait until there is an upstream.

        Raises:
            Unavailable: there is none in time.
        """
        self._wanted.set()
        try:
            async with asyncio.timeout(OPEN_S):
                await self._open.wait()
        except TimeoutError:
            msg = "the log is away"
            raise Unavailable(msg) from None
        # Who came before that would never hear the beginning of what is being said. Without LIVE
        # the events alone have to do, so this is not waited for long.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(EAR_S):
                await self._ear.wait()

    def join(self, viewer: Listener) -> None:
        """Tell this one what comes from now on."""
        self._viewers.setdefault(viewer.feed.pattern, set()).add(viewer)

    def leave(self, viewer: Listener) -> None:
        """No longer; twice is fine."""
        pattern = viewer.feed.pattern
        there = self._viewers.get(pattern)
        if there is not None:
            there.discard(viewer)
            if not there:
                del self._viewers[pattern]

    def entry(self, stored: Stored) -> Entry:
        """The entry of an envelope that was read from the log: the one that others have, if any."""
        return self.ring.get(stored.seq) or self._shelf.get(stored)

    async def told(self, entry: Entry, incarnation: str) -> Told:
        """The frames of an entry, made once.

        Raises:
            IntegrityViolated: the envelope cannot be read.
            Unavailable: the log is away.
        """
        return await self._encoder.told(entry, incarnation)

    async def check(self, feed: Feed) -> None:
        """Forget what was said of this feed in replies that are over: their end is in the log.

        Raises:
            Unavailable: the log is away.
        """
        if not self.sayings.unchecked(feed.within):
            return
        async with self._checking:
            for ref in self.sayings.unchecked(feed.within):
                await self._check(ref)

    async def read(self, pattern: RunRef, after_seq: int) -> tuple[int, Page]:
        """A page of the log, and where the ring was when it was asked for.

        Whoever asks for the same page while it is under way gets that one: many viewers that come
        at once cost one reading.

        Raises:
            Unavailable: the log is away.
        """
        key = (self.log.incarnation, pattern, after_seq)
        while (flight := self._flights.get(key)) is not None:
            found = await asyncio.shield(flight)
            if found is not None:
                return found
        flight = self._flights[key] = asyncio.get_running_loop().create_future()
        head, (tenant, job, run) = self.ring.head, pattern
        try:
            page = await self.log.read(
                after_seq=after_seq, tenant=tenant, job=job, run=run, limit=PAGE
            )
            flight.set_result((head, page))
        finally:
            del self._flights[key]
            if not flight.done():
                flight.set_result(None)  # whoever waits for it reads by itself
        return head, page

    async def _check(self, ref: RunRef) -> None:
        seq, more = 0, True
        while more:
            tenant, job, run = ref
            page = await self.log.read(after_seq=seq, tenant=tenant, job=job, run=run)
            for stored in page.envelopes:
                self.sayings.pass_by(ref, stored.data)
                seq = stored.seq
            more = page.more
        self.sayings.check(ref)

    async def _begin(self) -> None:
        incarnation = self.log.incarnation
        if incarnation == self.incarnation:
            return
        _, last_seq = await self.log.bounds()
        if self.log.incarnation != incarnation:
            msg = "the log is being made anew"
            raise Unavailable(msg)
        for kept in (self._shelf, self._owners, self.rests, self.sayings):
            kept.clear()
        self.ring.begin(last_seq)
        self.incarnation = incarnation
        self._open.set()
        self._wake_all()

    async def _follow(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._until_reborn())
            async with self.log.follow(after_seq=self.ring.head) as envelopes:
                count = 0
                async for stored in envelopes:
                    if self.log.incarnation != self.incarnation:
                        msg = "the log was made anew"
                        raise Unavailable(msg)
                    self._publish(stored)
                    count += 1
                    if count % BREATH == 0:
                        await asyncio.sleep(0)

    async def _until_reborn(self) -> None:
        while self.log.incarnation == self.incarnation:  # noqa: ASYNC110 - a name tells nobody
            await asyncio.sleep(REBORN_POLL_S)
        msg = "the log was made anew"
        raise Unavailable(msg)

    def _publish(self, stored: Stored) -> None:
        entry = Entry(stored)
        self.sayings.pass_by(stored.ref, stored.data)
        if _buries(stored.data):
            self._forget(stored.ref)
        self.ring.add(entry)
        for viewer in self._of(stored.ref):
            viewer.hear(entry)

    def _forget(self, ref: RunRef) -> None:
        """A job is deleted: what is kept of it here must not outlive it."""
        self.ring.forget(ref)
        self._shelf.forget(ref)

    async def _listen(self) -> None:
        while True:
            try:
                async with self._live.subscribe(EVERYTHING) as said:
                    for earlier in await self._live.recent(EVERYTHING):
                        self.sayings.hear(earlier.ref, piece_of(earlier.data), checked=False)
                    self._ear.set()
                    async for ref, data in said:
                        self._say(ref, data)
            except Unavailable as away:
                logger.warning("the streams have no live frames: %s", away)
                self._ear.set()
            await asyncio.sleep(self.bounds.retry_s)

    def _say(self, ref: RunRef, data: bytes) -> None:
        piece = piece_of(data)
        if not piece:
            return
        self.sayings.hear(ref, piece)
        listening = [one for one in self._of(ref) if one.feed.live and one.feed.takes(ref)]
        if listening:
            made = frame("live", {**piece, "run": ref.run, "job": ref.job})
            for viewer in listening:
                viewer.say(made)

    def _of(self, ref: RunRef) -> Iterable[Listener]:
        tenant, job, _ = ref
        for pattern in (ref, RunRef(tenant, job, "*"), RunRef(tenant, "*", "*")):
            yield from self._viewers.get(pattern, ())

    async def _close(self) -> None:
        await self.closing.wait()
        self._wake_all()

    def _wake_all(self) -> None:
        for there in self._viewers.values():
            for viewer in there:
                viewer.wake()


def piece_of(data: bytes) -> Mapping[str, Any]:
    """What is said, as JSON; nothing when it is no object."""
    try:
        piece: object = orjson.loads(data)
    except orjson.JSONDecodeError:
        return {}
    return cast("dict[str, Any]", piece) if isinstance(piece, dict) else {}


def _buries(data: bytes) -> bool:
    """Whether an envelope is a tombstone, of any release; a text that says the same is none."""
    return TOMBSTONE in data and any(
        str(event.get("type", "")).startswith("run.deleted.") for event in events_of(data)
    )
