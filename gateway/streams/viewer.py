"""One client's way through the log: from where it left off, then level with the hub. Not HTTP.

`seq` is the one place that counts: every envelope of the feed up to it was told, none behind it.
Catching up moves it by what was read, being level by what the hub says, and whoever joins the hub
asks it for what lies behind `seq` in the same moment. So there is no gap and no repetition (C9).
"""

import asyncio
from collections import deque

from domain.errors import IntegrityViolated, Unavailable
from gateway.problems import problem_of
from gateway.streams import frames
from gateway.streams.bounds import CHUNK_BYTES
from gateway.streams.entries import MOVING, Entry, Rest, Told
from gateway.streams.feed import Feed
from gateway.streams.hub import Hub
from gateway.streams.places import Place, start_of

UNKNOWN = None
"""How a run is left is not known where nothing that was told says it."""


class Viewer:
    """Takes what its feed is told, and gives it to one client in order."""

    __slots__ = (
        "_beat",
        "_behind_at_s",
        "_cursor",
        "_end_told",
        "_gone",
        "_hub",
        "_inbox",
        "_inbox_bytes",
        "_level",
        "_life",
        "_live_lost",
        "_look_after",
        "_over",
        "_ready",
        "_rest",
        "_retries",
        "_seq",
        "_skip",
        "_skip_seq",
        "_waiter",
        "feed",
    )

    def __init__(self, hub: Hub, feed: Feed, place: Place) -> None:
        self.feed = feed
        self._hub = hub
        self._inbox: deque[Entry | bytes] = deque()
        self._inbox_bytes = 0
        self._ready: deque[bytes] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._behind_at_s: float | None = None
        self._retries = 0
        self._level = self._over = self._gone = self._beat = self._live_lost = False
        self._begin(place)

    async def take(self) -> bytes:
        """The next bytes for the client; none when the stream is over."""
        while not self._ready and not self._over:
            try:
                await self._step()
            except (Unavailable, IntegrityViolated) as error:
                await self._trouble(error)
        return b"" if self._gone else self._gathered()

    def hear(self, entry: Entry) -> None:
        """The hub has the next envelope; one too many, and this one reads the log itself again."""
        if not self._level:
            return
        bounds = self._hub.bounds
        self._inbox_bytes += entry.size
        if len(self._inbox) >= bounds.inbox_envelopes or self._inbox_bytes > bounds.inbox_bytes:
            self._fall_behind()
        else:
            self._inbox.append(entry)
        self.wake()

    def say(self, data: bytes) -> None:
        """The hub heard something live; what does not fit is made good by what was said so far."""
        if not self._level or self._live_lost:
            return
        bounds = self._hub.bounds
        full = self._inbox_bytes + len(data) > bounds.inbox_bytes
        if full or len(self._inbox) >= bounds.inbox_envelopes:
            self._live_lost = True
            return
        self._inbox_bytes += len(data)
        self._inbox.append(data)
        self.wake()

    def beat(self) -> None:
        """The stream was silent for a while."""
        self._beat = True
        self.wake()

    def go(self) -> None:
        """The client is gone: nothing more is told."""
        self._gone = self._over = True
        self._hub.leave(self)
        self.wake()

    def wake(self) -> None:
        """There may be something to do."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _step(self) -> None:
        """The next thing to do, of which at most one waits."""
        hub = self._hub
        if hub.closing.is_set():
            self._part("closing")
        elif hub.incarnation != self._life:
            await self._be_reborn()
        elif self._beat:
            self._beat = False
            self._ready.append(frames.heartbeat(self._cursor))
        elif not self._level:
            await self._catch_up()
        elif self._inbox:
            await self._take_in()
        elif self._live_lost:
            self._recall()
        elif self._may_be_over():
            await self._look_for_the_end()
        else:
            self._behind_at_s, self._retries = None, 0
            await self._wait()

    async def _be_reborn(self) -> None:
        """Begin in the life of the log that the hub is in, if it is not the hub that is late."""
        hub = self._hub
        if hub.log.incarnation == self._life:
            await asyncio.sleep(hub.bounds.retry_s)
        else:
            self._begin(start_of(hub.incarnation, "incarnation"))

    def _begin(self, place: Place) -> None:
        """Begin at a place, in its life of the log."""
        self._leave()
        self._life = place.cursor.incarnation
        self._cursor, self._seq = place.cursor, place.seq
        self._skip_seq, self._skip = place.seq + 1 if place.skip else 0, place.skip
        self._rest: Rest = MOVING if place.seq == 0 and not place.skip else UNKNOWN
        self._end_told = False
        self._look_after = 0
        names = self.feed.names
        self._ready.append(frames.hello(names, place.cursor))
        if place.reset is not None:
            self._ready.append(frames.reset(names, place.reset, place.cursor))

    async def _catch_up(self) -> None:
        """Tell what the hub no longer has from the log, and become level with the hub."""
        hub, feed = self._hub, self.feed
        if self._behind_at_s is not None and _now_s() > self._behind_at_s + hub.bounds.behind_s:
            self._part("slow")
            return
        if feed.live:
            await hub.check(feed)
        if hub.incarnation != self._life:
            return
        limit = hub.bounds.inbox_envelopes
        found = hub.ring.after(self._seq, feed, limit)
        if found is None:
            await self._read_on()
        elif len(found) == limit:
            for entry in found:
                await self._tell(entry)
        else:
            self._join(found)
        self._retries = 0

    def _join(self, found: list[Entry]) -> None:
        """Level from here on. Nothing may wait between asking the ring and this."""
        self._inbox.extend(found)
        self._inbox_bytes = sum(entry.size for entry in found)
        self._level = True
        self._hub.join(self)
        self._live_lost = self.feed.live

    async def _read_on(self) -> None:
        """Tell a page of the log. What was read to its end has all that the hub had before."""
        hub = self._hub
        head, page = await hub.read(self.feed.pattern, self._seq)
        if not self._same_life():
            await asyncio.sleep(hub.bounds.retry_s)
            return
        for entry in [hub.entry(stored) for stored in page.envelopes]:
            await self._tell(entry)
        if not page.more:
            self._seq = max(self._seq, head)

    async def _take_in(self) -> None:
        """Tell what is in the inbox, as much as is written at once."""
        size = 0
        while self._inbox and size < CHUNK_BYTES:
            item = self._inbox.popleft()
            if isinstance(item, bytes):
                self._inbox_bytes -= len(item)
                self._ready.append(item)
                size += len(item)
            else:
                self._inbox_bytes -= item.size
                size += item.size
                await self._tell(item)

    async def _tell(self, entry: Entry) -> None:
        """Tell an envelope, but for what the client has already or does not want."""
        if entry.seq <= self._seq:
            return
        try:
            told = entry.told or await self._hub.told(entry, self._life)
        except IntegrityViolated as error:
            self._tell_broken(entry, error)
            return
        skip = self._skip if entry.seq == self._skip_seq else 0
        if self.feed.takes(entry.ref):
            self._ready.extend(_wanted(self.feed, told, skip))
        self._seq = entry.seq
        self._cursor = told.last
        self._note(entry, told)

    def _tell_broken(self, entry: Entry, error: IntegrityViolated) -> None:
        """The history of a run cannot be read: others of the feed go on."""
        self._seq = entry.seq
        self._cursor = self._cursor._replace(seq=entry.seq, event=0)
        wrong = problem_of(error)
        if self.feed.pattern.run == entry.ref.run:
            self._ready.append(frames.problem(wrong.code, wrong.detail, None))
            self._over = True
        elif self.feed.takes(entry.ref):
            names = {"run": entry.ref.run, "job": entry.ref.job}
            self._ready.append(frames.problem(wrong.code, wrong.detail, self._cursor, **names))

    def _note(self, entry: Entry, told: Told) -> None:
        """Keep in mind whether the turn is over."""
        if told.rest is not None and entry.ref == self.feed.root:
            self._rest = told.rest
            self._end_told = False

    def _may_be_over(self) -> bool:
        if self.feed.root is None or self._end_told or self._seq < self._look_after:
            return False
        return self._rest is UNKNOWN or self._rest != MOVING

    async def _look_for_the_end(self) -> None:
        """Tell the end of the turn, if the log says that nothing came after it."""
        hub, root = self._hub, self.feed.root
        if root is None:
            return
        rest = self._rest
        if rest is None:
            left = await hub.rests.of(root)
            self._look_after = left.seq
            if left.seq <= self._seq and self._same_life():
                self._rest = left.rest
            return
        tenant, job, run = self.feed.pattern
        page = await hub.log.read(after_seq=self._seq, tenant=tenant, job=job, run=run, limit=1)
        if page.envelopes:
            self._look_after = page.envelopes[0].seq  # the hub is about to tell it
        elif self._same_life():
            self._end_told = True
            self._ready.append(frames.end(root, rest, self._cursor))
            self._over = not self.feed.follow

    def _recall(self) -> None:
        """Tell what was said so far in every reply in the making; live frames go on from it."""
        feed = self.feed
        said = self._hub.sayings.frames(lambda ref: feed.within(ref) and feed.takes(ref))
        self._live_lost = False
        self._ready.extend(said)

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    async def _trouble(self, error: Unavailable | IntegrityViolated) -> None:
        """Try again what is only away, and part when it stays so."""
        self._leave()  # what was taken and not told is read again
        self._retries += 1
        if isinstance(error, Unavailable) and self._retries <= self._hub.bounds.retries:
            await asyncio.sleep(self._hub.bounds.retry_s)
            return
        wrong = problem_of(error)
        self._ready.append(frames.problem(wrong.code, wrong.detail, None))
        self._over = True

    def _part(self, reason: str) -> None:
        self._ready.append(frames.goodbye(reason, self._cursor))
        self._leave()
        self._over = True

    def _fall_behind(self) -> None:
        self._leave()
        if self._behind_at_s is None:
            self._behind_at_s = _now_s()

    def _leave(self) -> None:
        self._level = False
        self._inbox.clear()
        self._inbox_bytes = 0

    def _same_life(self) -> bool:
        hub = self._hub
        return self._life == hub.incarnation == hub.log.incarnation

    def _gathered(self) -> bytes:
        """What is ready, as much as is written at once."""
        ready = self._ready
        if not ready:
            return b""
        first = ready.popleft()
        if not ready:
            return first  # the very bytes that others get too
        chunk, size = [first], len(first)
        while ready and size + len(ready[0]) <= CHUNK_BYTES:
            chunk.append(ready.popleft())
            size += len(chunk[-1])
        return b"".join(chunk)


def _wanted(feed: Feed, told: Told, skip: int) -> list[bytes]:
    if not feed.filtered:
        rest = told.after(skip)
        return [rest] if rest else []
    kinds = enumerate(told.types)
    return [told.one(index) for index, kind in kinds if index >= skip and feed.wants(kind)]


def _now_s() -> float:
    return asyncio.get_running_loop().time()
