"""LEASES on JetStream: signs of life that the server forgets by itself. Not locks.

A marker beside the leases tells how old the bucket is: the stream's own creation time does not, as
a cluster makes a memory stream of one replica anew, empty, under its old date.
"""

from datetime import datetime

from eventlog.jetstream.api import MESSAGE_NOT_FOUND, WRONG_LAST_SEQUENCE, Refused, call
from eventlog.jetstream.connection import NoResponders
from eventlog.jetstream.log import EXPECTED
from eventlog.jetstream.reader import Reader
from eventlog.jetstream.streams import Streams

FRACTION_DIGITS = 6


class JetStreamLeases:
    """The leases of one deployment."""

    def __init__(self, streams: Streams, reader: Reader, *, lease_s: float) -> None:
        self._streams = streams
        self._reader = reader
        self._stream = streams.names.stream("LEASES")
        self._lease_s = lease_s
        self._marker = f"{streams.names.prefix}.lease.bucket.born"

    async def renew(self, epoch: str, data: bytes) -> None:
        """Say that this epoch lives.

        Raises:
            Unavailable: nobody may have heard it.
        """
        headers = {"Nats-TTL": f"{int(self._lease_s * 1000)}ms"}
        await self._streams.store("LEASES", self._streams.names.lease(epoch), data, headers)

    async def drop(self, epoch: str) -> None:
        """This epoch ends by its own will.

        Raises:
            Unavailable: the lease may still be there, and lapses.
        """
        await self._streams.purge("LEASES", self._streams.names.lease(epoch))

    async def live(self) -> dict[str, bytes]:
        """The epochs with a lease now, and what they said of themselves.

        Raises:
            Unavailable: the store is away.
        """
        pattern = f"{self._streams.names.prefix}.lease.*"
        found: dict[str, bytes] = {}
        seq, more = 0, True
        while more:
            try:
                messages, more = await self._reader.messages(self._stream, pattern, after_seq=seq)
            except NoResponders:
                await self._streams.ensure("LEASES")
                return {}
            for message in messages:
                headers = message.headers or {}
                seq = int(headers["Nats-Sequence"])
                found[headers["Nats-Subject"].rsplit(".", 1)[1]] = message.data
        return found

    async def settled(self) -> bool:
        """Whether the bucket is older than a lease, so that a missing lease means a dead epoch.

        Raises:
            Unavailable: the store is away.
        """
        info = await self._streams.ensure("LEASES")
        try:
            answer = await call(
                self._streams.link, f"STREAM.MSG.GET.{self._stream}", {"last_by_subj": self._marker}
            )
        except Refused as refused:
            if refused.code != MESSAGE_NOT_FOUND:
                raise
            await self._mark()
            return False
        age = moment(info["ts"]) - moment(answer["message"]["time"])
        return age.total_seconds() >= self._lease_s

    async def _mark(self) -> None:
        try:
            await self._streams.store("LEASES", self._marker, b"", {EXPECTED: "0"})
        except Refused as refused:
            if refused.code not in WRONG_LAST_SEQUENCE:
                raise


def moment(text: str) -> datetime:
    """A time of the server, which writes up to nine digits of a second; six can be read."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    digits = fraction[:FRACTION_DIGITS].ljust(FRACTION_DIGITS, "0")
    return datetime.fromisoformat(f"{whole}.{digits}+00:00")
