"""OPEN on JetStream: one empty message for each run that has not come to rest. Not a record."""

from domain.ids import RunRef
from eventlog.jetstream.reader import Reader
from eventlog.jetstream.streams import Streams


class JetStreamOpenRuns:
    """The index of open runs."""

    def __init__(self, streams: Streams, reader: Reader) -> None:
        self._streams = streams
        self._reader = reader

    async def add(self, ref: RunRef) -> None:
        """Durable when this returns.

        Raises:
            Unavailable: it may not be stored.
        """
        await self._streams.store("OPEN", self._streams.names.run("open", ref), b"")

    async def remove(self, ref: RunRef) -> None:
        """The run is at rest.

        Raises:
            Unavailable: it may still be there.
        """
        await self._streams.purge("OPEN", self._streams.names.run("open", ref))

    async def list(self) -> list[RunRef]:
        """All of them.

        Raises:
            Unavailable: the store is away.
        """
        names = self._streams.names
        pattern = names.runs("open", RunRef("*", "*", "*"))
        found: list[RunRef] = []
        async for page in self._reader.pages(names.stream("OPEN"), pattern, after_seq=0):
            found += [stored.ref for stored in page]
        return found
