"""REGISTRY on JetStream: the newest value of each name, changed by compare and set. Not a log.

Reads go to the leader: what was put is there for whoever reads next, and what was removed is not.
"""

import base64

from domain.errors import Conflict
from eventlog.jetstream.api import MESSAGE_NOT_FOUND, WRONG_LAST_SEQUENCE, Json, Refused, call
from eventlog.jetstream.log import EXPECTED
from eventlog.jetstream.reader import Reader
from eventlog.jetstream.streams import Streams
from eventlog.jetstream.subjects import entry_of
from eventlog.newest import Entry

KIND = "REGISTRY"


class JetStreamRegistry:
    """The registry of one deployment."""

    def __init__(self, streams: Streams, reader: Reader) -> None:
        self._streams = streams
        self._names = streams.names
        self._reader = reader
        self._stream = streams.names.stream(KIND)

    async def put(self, kind: str, tenant: str, name: str, data: bytes, *, expected: int) -> int:
        """Store a value instead of that of the expected revision (0: there is none); its own.

        Raises:
            Conflict: the value there is another one, or there is none.
            Rejected: kind, tenant or name cannot be one.
            TooLarge: it is above the payload limit.
            Unavailable: it may be stored, or be stored yet.
        """
        subject = self._names.entry(kind, tenant, name)
        try:
            return await self._streams.store(KIND, subject, data, {EXPECTED: str(expected)})
        except Refused as refused:
            if refused.code not in WRONG_LAST_SEQUENCE:
                raise
            raise Conflict(str(refused)) from refused

    async def get(self, kind: str, tenant: str, name: str) -> Entry | None:
        """The value of a name; None when there is none. `*` as the tenant: whoever's.

        Raises:
            Rejected: kind, tenant or name cannot be one.
            Unavailable: the store is away.
        """
        return await self._leader({"last_by_subj": self._names.entries(kind, tenant, name)})

    async def list(self, kind: str, tenant: str = "*") -> list[Entry]:
        """All of a kind and a tenant, or of all tenants, the longest unchanged first.

        Raises:
            Rejected: kind or tenant cannot be one.
            Unavailable: the store is away.
        """
        pattern = self._names.entries(kind, tenant)
        if self._streams.replicas == 1:
            return await _read(self._reader, self._stream, pattern)
        found: list[Entry] = []
        seq = 0
        while entry := await self._leader({"next_by_subj": pattern, "seq": seq + 1}):
            found.append(entry)
            seq = entry.revision
        return found

    async def remove(self, kind: str, tenant: str, name: str) -> None:
        """No value has that name any more; it may never have had one.

        Raises:
            Rejected: kind, tenant or name cannot be one.
            Unavailable: it may still be there.
        """
        await self._streams.purge(KIND, self._names.entry(kind, tenant, name))

    async def _leader(self, asked: Json) -> Entry | None:
        try:
            answer = await call(self._streams.link, f"STREAM.MSG.GET.{self._stream}", asked)
        except Refused as refused:
            if refused.code != MESSAGE_NOT_FOUND:
                raise
            return None
        message: Json = answer["message"]
        data = base64.b64decode(message.get("data", ""))
        return entry_of(message["subject"], int(message["seq"]), data)


async def _read(reader: Reader, stream: str, pattern: str) -> list[Entry]:
    """All of a pattern in a few requests: of one replica, who answers is the leader."""
    found: list[Entry] = []
    seq, more = 0, True
    while more:
        messages, more = await reader.messages(stream, pattern, after_seq=seq)
        for message in messages:
            headers = message.headers or {}
            seq = int(headers["Nats-Sequence"])
            found.append(entry_of(headers["Nats-Subject"], seq, message.data))
    return found
