"""BLOBS on JetStream: by digest, larger ones in parts. Not a cache.

A blob of more than one message is stored as parts under its digest and their own, and then an index
at its digest: whoever finds the index finds the parts. Names made of content cannot clash, so a put
that was cut off is simply done again. What is there already is not stored again, unless it may have
been there for long: then it is, because who collects old blobs knows them by their sequences, and
one with a new sequence is not the one that was found to be old. It has a connection of its own:
appends that share one with blobs of some megabytes wait 17 ms instead of 0.2.
"""

import asyncio
import hashlib
import time
from collections import OrderedDict

import orjson

from domain.errors import IntegrityViolated, NoSuchBlob
from eventlog.jetstream.api import WRONG_LAST_SEQUENCE, Refused
from eventlog.jetstream.direct import last_of
from eventlog.jetstream.log import EXPECTED
from eventlog.jetstream.streams import Streams
from eventlog.port import BLOB_FRESH_S, PAYLOAD_BYTES_MAX

PARTS_HEADER = "Peritus-Parts"
PARTS_AT_ONCE = 4
THERE_ALREADY = 10071
FRESH_MAX = 20_000
"""Blobs that a process remembers to have stored lately, a count."""
HASH_INLINE_BYTES_MAX = 1024 * 1024
"""Larger content is hashed in a thread: 1 MiB takes about a millisecond."""


class JetStreamBlobs:
    """The blobs of one deployment, over a connection of their own."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._names = streams.names
        self._stream = streams.names.stream("BLOBS")
        self._parts = asyncio.Semaphore(PARTS_AT_ONCE)
        self._fresh: OrderedDict[str, float] = OrderedDict()

    async def put(self, tenant: str, data: bytes) -> str:
        """Store content and return its digest; durable when this returns. Twice is fine.

        Raises:
            Unavailable: it is not stored.
        """
        digest = await digest_of(data)
        subject = self._names.blob(tenant, digest)
        if len(data) <= PAYLOAD_BYTES_MAX:
            await self._store(subject, data)
            return digest
        parts = [
            data[start : start + PAYLOAD_BYTES_MAX]
            for start in range(0, len(data), PAYLOAD_BYTES_MAX)
        ]
        names = [await digest_of(part) for part in parts]
        for name, part in zip(names, parts, strict=True):
            await self._store(f"{subject}.{name}", part)
        await self._store(subject, orjson.dumps(names), {PARTS_HEADER: str(len(names))})
        return digest

    async def get(self, tenant: str, digest: str) -> bytes:
        """The content of that digest, checked against it.

        Raises:
            Unavailable: the store is away.
            IntegrityViolated: there is no such blob, or its bytes are not what was stored.
        """
        subject = self._names.blob(tenant, digest)
        found = await last_of(self._streams.link, self._stream, subject)
        if found is None:
            msg = f"there is no blob {digest!r}"
            raise NoSuchBlob(msg)
        data = found.data
        if found.headers and PARTS_HEADER in found.headers:
            names: list[str] = orjson.loads(data)
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._part(f"{subject}.{name}")) for name in names]
            data = b"".join([task.result() or b"" for task in tasks])
        if await digest_of(data) != digest:
            msg = f"blob {digest!r} is not what was stored"
            raise IntegrityViolated(msg)
        return data

    async def _part(self, subject: str) -> bytes | None:
        async with self._parts:
            found = await last_of(self._streams.link, self._stream, subject)
        return None if found is None else found.data

    async def _store(
        self, subject: str, data: bytes, headers: dict[str, str] | None = None
    ) -> None:
        only_first = {**(headers or {}), EXPECTED: "0"}
        now_s = time.clock_gettime(time.CLOCK_BOOTTIME)  # goes on while the machine sleeps
        try:
            await self._streams.store("BLOBS", subject, data, only_first)
        except Refused as refused:
            if refused.code not in WRONG_LAST_SEQUENCE:
                raise
            known_s = self._fresh.get(subject)
            fresh = known_s is not None and now_s - known_s < BLOB_FRESH_S
            if refused.code == THERE_ALREADY and fresh:
                return
            await self._streams.store("BLOBS", subject, data, headers)
        self._fresh[subject] = now_s
        self._fresh.move_to_end(subject)
        while len(self._fresh) > FRESH_MAX:
            self._fresh.popitem(last=False)


async def digest_of(data: bytes) -> str:
    """The SHA-256 of some bytes, off the event loop when they are many."""
    if len(data) <= HASH_INLINE_BYTES_MAX:
        return hashlib.sha256(data).hexdigest()
    return await asyncio.to_thread(lambda: hashlib.sha256(data).hexdigest())
