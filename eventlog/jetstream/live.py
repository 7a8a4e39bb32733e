"""LIVE on JetStream: what is said of a run right now. Not the record; may be lost.

Subscribers hear the subject itself; the memory stream behind it keeps a minute for whoever comes
in the middle.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from nats.aio.msg import Msg

from domain.errors import Unavailable
from domain.ids import RunRef
from eventlog.jetstream.connection import Link
from eventlog.jetstream.reader import Reader
from eventlog.jetstream.subjects import Names, ref_of
from eventlog.port import Said

BUFFER_MESSAGES_MAX = 1024
"""Held for a slow listener; beyond, the oldest is dropped."""


class JetStreamLiveChannel:
    """The live channel of one deployment."""

    def __init__(self, link: Link, names: Names, reader: Reader) -> None:
        self._link = link
        self._names = names
        self._reader = reader

    async def publish(self, ref: RunRef, data: bytes) -> None:
        """Tell whoever listens now; without a connection nobody does.

        Raises:
            TooLarge: it is above the payload limit.
        """
        if not self._link.connected:
            return
        try:
            await self._link.publish(self._names.run("live", ref), data)
        except Unavailable:
            return

    @asynccontextmanager
    async def subscribe(self, ref: RunRef) -> AsyncGenerator[AsyncIterator[Said]]:
        """What is said of a run from now on. `ref` parts may be `*`.

        Raises:
            Unavailable: there is no connection.
        """
        heard: deque[Said] = deque(maxlen=BUFFER_MESSAGES_MAX)
        wake = asyncio.Event()

        def hear(msg: Msg) -> None:
            heard.append(Said(ref_of(msg.subject), msg.data))
            wake.set()

        subscription = await self._link.subscribe(self._names.runs("live", ref), hear)
        try:
            await self._link.flush()
            yield _endless(heard, wake)
        finally:
            await self._link.unsubscribe(subscription)

    async def recent(self, ref: RunRef) -> list[Said]:
        """What was said of a run in the last minute, in order, as far as it is still known.

        Raises:
            Unavailable: the store is away.
        """
        stream, subject = self._names.stream("LIVE"), self._names.runs("live", ref)
        found: list[Said] = []
        async for page in self._reader.pages(stream, subject, after_seq=0):
            found.extend(Said(stored.ref, stored.data) for stored in page)
        return found


async def _endless(heard: deque[Said], wake: asyncio.Event) -> AsyncGenerator[Said]:
    while True:
        while heard:
            yield heard.popleft()
        wake.clear()
        await wake.wait()
