"""LIVE on JetStream: what is said of a run right now. Not the record; may be lost.

Subscribers hear the subject itself; the memory stream behind it keeps a minute for whoever debugs.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from nats.aio.msg import Msg

from domain.errors import Unavailable
from domain.ids import RunRef
from eventlog.jetstream.connection import Link
from eventlog.jetstream.subjects import Names

BUFFER_MESSAGES_MAX = 1024
"""Held for a slow listener; beyond, the oldest is dropped."""


class JetStreamLiveChannel:
    """The live channel of one deployment."""

    def __init__(self, link: Link, names: Names) -> None:
        self._link = link
        self._names = names

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
    async def subscribe(self, ref: RunRef) -> AsyncGenerator[AsyncIterator[bytes]]:
        """What is said of a run from now on. `ref` parts may be `*`.

        Raises:
            Unavailable: there is no connection.
        """
        heard: deque[bytes] = deque(maxlen=BUFFER_MESSAGES_MAX)
        wake = asyncio.Event()

        def hear(msg: Msg) -> None:
            heard.append(msg.data)
            wake.set()

        subscription = await self._link.subscribe(self._names.runs("live", ref), hear)
        try:
            await self._link.flush()
            yield _endless(heard, wake)
        finally:
            await self._link.unsubscribe(subscription)


async def _endless(heard: deque[bytes], wake: asyncio.Event) -> AsyncGenerator[bytes]:
    while True:
        while heard:
            yield heard.popleft()
        wake.clear()
        await wake.wait()
