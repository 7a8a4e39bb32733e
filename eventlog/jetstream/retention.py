"""What removes for good, on JetStream: purges by subject, deletes by sequence. Not who may.

Reads are for the same role, which may look at everything. A blob is removed by the sequences it was
found at: whoever put it again meanwhile has stored it at others.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from datetime import datetime

from nats.aio.msg import Msg

from domain.ids import RunRef
from eventlog.jetstream.api import call
from eventlog.jetstream.dead import remove_at
from eventlog.jetstream.direct import last_of
from eventlog.jetstream.reader import Reader
from eventlog.jetstream.streams import Streams
from eventlog.jetstream.subjects import ref_of
from eventlog.port import StoredBlob

LEFT = (("SNAPSHOTS", "snap"), ("COMMANDS", "cmd"), ("COMMANDS", "tmr"), ("DEAD", "dead"))
"""What a job leaves beside EVENTS, by stream and kind of subject; OPEN last, WORK by lane."""

WAITING = (("COMMANDS", "cmd"), ("COMMANDS", "tmr"), ("DEAD", "dead"), ("COMMANDS", "cmd"))
"""Commands come last again: a dead letter may be sent once more meanwhile."""


class JetStreamRetention:
    """Removal from the streams of one deployment."""

    def __init__(self, streams: Streams, reader: Reader) -> None:
        self._streams = streams
        self._names = streams.names
        self._reader = reader

    async def runs(self, tenant: str, job: str) -> dict[RunRef, int]:
        """The runs of a job that have envelopes, and how many, as the leader has them.

        Raises:
            Unavailable: the store is away.
        """
        pattern = self._names.runs("evt", RunRef(tenant, job, "*"))
        return {ref_of(name): count async for name, count in self._subjects("EVENTS", pattern)}

    async def purge(self, pattern: RunRef, *, before_seq: int) -> None:
        """Remove the envelopes of a run, or of those that match, up to a sequence, not that one.

        Raises:
            Unavailable: some may still be there, also because this client may not remove them.
        """
        subjects = self._names.runs("evt", pattern)
        await self._streams.purge("EVENTS", subjects, before_seq=before_seq)

    async def forget(self, tenant: str, job: str) -> None:
        """Remove what is kept of a job beside EVENTS.

        Raises:
            Unavailable: some may still be there, also because this client may not remove them.
        """
        for kind, subject in LEFT:
            await self._streams.purge(kind, self._names.job(subject, tenant, job))
        await self._streams.purge("WORK", self._names.job("work.*", tenant, job))
        await self._streams.purge("OPEN", self._names.job("open", tenant, job))

    async def waiting(self) -> AsyncGenerator[tuple[str, bytes]]:
        """Every command, timer and dead letter that is stored now, with its tenant.

        Raises:
            Unavailable: the store is away.
        """
        for kind, subject in WAITING:
            pattern = self._names.any(subject)
            async for message in self._all(kind, pattern):
                name: str = (message.headers or {})["Nats-Subject"]
                yield name[len(pattern) - 1 :].partition(".")[0], message.data

    async def blobs(self) -> list[tuple[str, str]]:
        """Tenant and digest of every blob, also of those that were not stored whole.

        Raises:
            Unavailable: the store is away.
        """
        cut = len(self._names.any("blob")) - 1
        found: dict[tuple[str, str], None] = {}
        async for name, _ in self._subjects("BLOBS", self._names.any("blob")):
            tenant, digest = name[cut:].split(".")[:2]
            found[tenant, digest] = None
        return list(found)

    async def blob(self, tenant: str, digest: str) -> StoredBlob | None:
        """One of them as it is now, if it is still there.

        Raises:
            Unavailable: the store is away.
        """
        stream, subject = self._names.stream("BLOBS"), self._names.blob(tenant, digest)
        head = await last_of(self._streams.link, stream, subject)
        parts = [message async for message in self._all("BLOBS", f"{subject}.*")]
        messages = [*([head] if head else []), *parts]
        if not messages:
            return None
        size = sum(len(message.data) for message in parts) or len(messages[0].data)
        stored_ms = max(_stored_ms(message) for message in messages)
        revisions = tuple(_sequence(message) for message in messages)
        return StoredBlob(tenant, digest, size, stored_ms, revisions)

    async def remove_blob(self, blob: StoredBlob) -> None:
        """Remove this storing of a blob; one that was put again since stays.

        Raises:
            Unavailable: it may still be there, also because this client may not remove it.
        """
        for seq in blob.revisions:
            await remove_at(self._streams, "BLOBS", seq)

    async def _subjects(self, kind: str, pattern: str) -> AsyncIterator[tuple[str, int]]:
        """The subjects of a stream that match, with the number of their messages, page by page."""
        offset, total = 0, 1
        while offset < total:
            asked = {"subjects_filter": pattern, "offset": offset}
            info = await call(self._streams.link, f"STREAM.INFO.{self._names.stream(kind)}", asked)
            page: dict[str, int] = info["state"].get("subjects") or {}
            if not page:
                return
            for name, count in page.items():
                yield name, count
            offset += len(page)
            total = int(info.get("total") or offset)

    async def _all(self, kind: str, pattern: str) -> AsyncIterator[Msg]:
        seq, more = 0, True
        while more:
            messages, more = await self._reader.messages(
                self._names.stream(kind), pattern, after_seq=seq
            )
            for message in messages:
                seq = _sequence(message)
                yield message


def _sequence(message: Msg) -> int:
    return int((message.headers or {})["Nats-Sequence"])


def _stored_ms(message: Msg) -> int:
    """When the server stored it; it says so to the nanosecond."""
    text = (message.headers or {})["Nats-Time-Stamp"].removesuffix("Z").replace(" +0000 UTC", "")
    whole, _, fraction = text.partition(".")
    at = datetime.fromisoformat(f"{whole}+00:00")
    return int(at.timestamp()) * 1000 + int(f"{fraction}000"[:3])
