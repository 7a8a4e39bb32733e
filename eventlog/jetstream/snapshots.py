"""SNAPSHOTS on JetStream. Not a record: whatever goes wrong here is a cache miss."""

import logging

from domain.errors import Unavailable
from domain.ids import RunRef
from eventlog.jetstream.direct import last_of
from eventlog.jetstream.streams import Streams

logger = logging.getLogger(__name__)


class JetStreamSnapshots:
    """The newest snapshot of each run."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._stream = streams.names.stream("SNAPSHOTS")

    async def put(self, ref: RunRef, data: bytes) -> None:
        """Keep this one, drop the older; one that cannot be stored now is dropped instead.

        Raises:
            TooLarge: it is above the payload limit.
        """
        try:
            await self._streams.store("SNAPSHOTS", self._streams.names.run("snap", ref), data)
        except Unavailable as lost:
            logger.info("the snapshot of run %r was not kept: %s", ref.run, lost)

    async def get(self, ref: RunRef) -> bytes | None:
        """The newest one, if any can be had."""
        subject = self._streams.names.run("snap", ref)
        try:
            found = await last_of(self._streams.link, self._stream, subject)
        except Unavailable as lost:
            logger.info("the snapshot of run %r was not found: %s", ref.run, lost)
            return None
        return None if found is None else found.data
