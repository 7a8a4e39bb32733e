"""Following the log: catch up from what is stored, then live by republish. Not a consumer.

Republished messages come over core NATS, at most once. One is handed on as it is only when it
proves to be the next: for a filter on everything its sequence is the successor of the last one, for
one run its predecessor on the subject (`Nats-Last-Sequence`, ADR-28) has been seen. Otherwise, and
after a reconnect, a full buffer or a while of silence, what is stored is read. So there is never a
gap.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

from nats.aio.msg import Msg

from domain.errors import Unavailable
from domain.ids import RunRef
from eventlog.jetstream.connection import Link
from eventlog.jetstream.reader import Reader, stored_of
from eventlog.jetstream.subjects import Names
from eventlog.port import Stored

BUFFER_MESSAGES_MAX = 512
"""Live messages held for a slow reader; beyond, they are dropped and read from the log later."""

POLL_S = 5.0
"""How often the log is read when nothing is heard, in seconds."""

AWAY_S_MAX = 60.0
"""How long the store may be away before the follower gives up, in seconds."""

RETRY_S = 0.05
RETRY_S_MAX = 1.0


class Follower:
    """The state of one follower: its place, and whether what it hears can be trusted."""

    def __init__(self, names: Names, pattern: RunRef, after_seq: int) -> None:
        self.filter = names.runs("evt", pattern)
        self.live_filter = names.runs("liveevt", pattern)
        self.stream = names.stream("EVENTS")
        self.seq = after_seq
        self.target = 0
        self.behind = True
        self.heard: deque[Msg] = deque()
        self.wake = asyncio.Event()
        self._wild = pattern.count("*")

    def hear(self, msg: Msg) -> None:
        """Take a republished message."""
        if len(self.heard) >= BUFFER_MESSAGES_MAX:
            self.heard.clear()
            self.behind = True
        self.heard.append(msg)
        self.wake.set()

    def doubt(self) -> None:
        """Something may have been missed."""
        self.behind = True
        self.wake.set()

    def proves_next(self, stored: Stored, msg: Msg) -> bool:
        """Whether nothing that matches can lie between our place and this message."""
        if self._wild == len(stored.ref):
            return stored.seq == self.seq + 1
        if self._wild == 0:
            return int((msg.headers or {})["Nats-Last-Sequence"]) <= self.seq
        return False


@asynccontextmanager
async def follow(
    link: Link, reader: Reader, names: Names, *, pattern: RunRef, after_seq: int
) -> AsyncGenerator[AsyncIterator[Stored]]:
    """Every envelope that matches after a sequence, in order, without end.

    Raises:
        Rejected: the pattern is none.
        Unavailable: there is no connection; from the iterator: the store stayed away.
    """
    follower = Follower(names, pattern, after_seq)
    link.on_up.append(follower.doubt)
    subscription = await link.subscribe(follower.live_filter, follower.hear, doubt=follower.doubt)
    try:
        async with aclosing(_envelopes(follower, reader)) as envelopes:
            yield envelopes
    finally:
        link.on_up.remove(follower.doubt)
        await link.unsubscribe(subscription)


async def _envelopes(follower: Follower, reader: Reader) -> AsyncGenerator[Stored]:
    while True:
        if follower.behind:
            async with aclosing(_stored(follower, reader)) as page_by_page:
                async for stored in page_by_page:
                    yield stored
        elif follower.heard:
            msg = follower.heard.popleft()
            stored = stored_of(msg)
            if stored.seq <= follower.seq:
                continue
            if follower.proves_next(stored, msg):
                follower.seq = stored.seq
                yield stored
            else:
                follower.target = stored.seq
                follower.behind = True
        else:
            follower.wake.clear()
            try:
                async with asyncio.timeout(POLL_S):
                    await follower.wake.wait()
            except TimeoutError:
                follower.behind = True


async def _stored(follower: Follower, reader: Reader) -> AsyncGenerator[Stored]:
    """What is stored after the follower's place, at least up to a sequence it has heard of.

    A replica that answers may be behind the leader that republished, so it is asked again.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + AWAY_S_MAX
    wait_s = RETRY_S
    while True:
        follower.behind = False
        try:
            async with aclosing(
                reader.pages(follower.stream, follower.filter, after_seq=follower.seq)
            ) as pages:
                async for page in pages:
                    for stored in page:
                        follower.seq = stored.seq
                        yield stored
                    deadline, wait_s = loop.time() + AWAY_S_MAX, RETRY_S
            if follower.seq >= follower.target:
                return
        except Unavailable:
            follower.behind = True
            if loop.time() > deadline:
                raise
        if loop.time() > deadline:
            follower.target = 0
            return
        await asyncio.sleep(wait_s)
        wait_s = min(2 * wait_s, RETRY_S_MAX)
