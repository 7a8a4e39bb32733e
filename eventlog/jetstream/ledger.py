"""The stream of one application of the `eventsourcing` library: entries by key. Not EVENTS.

An entry is one message. What belongs together is one atomic batch (ADR-50): all of it is stored, at
successive sequences, or nothing. Guards are `Nats-Expected-Last-Subject-Sequence`. A mark is an
entry of which only the newest is kept: the server rolls its subject up.
"""

import asyncio
import base64
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import orjson
from nats.aio.msg import Msg

from domain.errors import AppendUnknown, Conflict, TooLarge
from eventlog.jetstream.api import (
    MESSAGE_NOT_FOUND,
    MESSAGE_TOO_LARGE,
    WRONG_LAST_SEQUENCE,
    Json,
    Refused,
    call,
)
from eventlog.jetstream.connection import AnswerLost, Link, NoResponders
from eventlog.jetstream.durability import SYNC_TAG, Durability
from eventlog.jetstream.reader import Reader
from eventlog.jetstream.server_check import check_servers
from eventlog.jetstream.streams import Streams
from eventlog.jetstream.subjects import Names

Ring = Callable[[int], None]

KIND = "LEDGER"
EXPECTED = "Nats-Expected-Last-Subject-Sequence"

BATCH_ENTRIES_MAX = 1000
"""What a server takes as one atomic batch (2.15)."""

BATCHES_MAX = 16
"""Batches one connection has open at once; a server allows a stream 50."""

BEHIND_WAIT_S = 0.02
BEHIND_ATTEMPTS_MAX = 100

PLAIN = re.compile(rb"[A-Za-z0-9-]")
EMPTY = "="
ESCAPED = re.compile("=([0-9A-F]{2})")


class Entry(NamedTuple):
    """One message to be stored; `after` is the last sequence of its subject, None: unguarded."""

    subject: str
    data: bytes
    headers: Mapping[str, str]
    after: int | None = None


class Kept(NamedTuple):
    """One message as it is stored."""

    seq: int
    subject: str
    headers: Mapping[str, str]
    data: bytes


class LedgerNames:
    """The stream and the subjects of one application and one purpose."""

    def __init__(self, prefix: str, application: str, purpose: str) -> None:
        parts = [escaped(part) for part in (prefix, application, purpose)]
        self.stream = "_".join(parts)
        self._base = ".".join(parts)
        self.entries = f"{self._base}.evt.>"
        self.live = f"{self._base}.liveevt.>"

    def entry(self, key: str) -> str:
        """The subject of the entries of a key."""
        return f"{self._base}.evt.{escaped(key)}"

    def mark(self, key: str) -> str:
        """The subject of a mark."""
        return f"{self._base}.trk.{escaped(key)}"

    def config(self, replicas: int, durability: Durability) -> Json:
        """The stream's configuration."""
        placement = {} if durability == "process" else {"placement": {"tags": [SYNC_TAG]}}
        return placement | {
            "name": self.stream,
            "subjects": [self.entries, f"{self._base}.trk.>"],
            "retention": "limits",
            "storage": "file",
            "num_replicas": replicas,
            "discard": "new",
            "deny_delete": True,
            "allow_direct": True,
            "allow_atomic": True,
            "allow_rollup_hdrs": True,
            "republish": {"src": self.entries, "dest": self.live, "headers_only": True},
        }


class LedgerStreams(Streams):
    """Declares the one stream of a ledger."""

    def __init__(
        self, link: Link, names: LedgerNames, replicas: int, durability: Durability
    ) -> None:
        super().__init__(link, Names("unused"), replicas, durability)
        self.configs = {KIND: names.config(replicas, durability)}


class Ledger:
    """Appends to one stream and reads from it. `open_ledger` makes one."""

    def __init__(self, link: Link, reader: Reader, names: LedgerNames, info: Json) -> None:
        self.link = link
        self.names = names
        self._reader = reader
        self._replicas: int = info["config"]["num_replicas"]
        self._one_of_few = asyncio.Semaphore(BATCHES_MAX)

    async def append(self, entries: Sequence[Entry]) -> int:
        """Store all of them or none; the sequence of the last, those before are contiguous.

        Raises:
            Conflict: something was stored after what one of them is guarded by.
            TooLarge: they are too many, or one is above the payload limit.
            AppendUnknown: no answer came; they may be stored.
            Unavailable: nothing is stored.
        """
        if len(entries) > BATCH_ENTRIES_MAX:
            msg = (
                f"{len(entries)} entries at once are too many: a server stores at most "
                f"{BATCH_ENTRIES_MAX} together; save fewer aggregates, or one more often"
            )
            raise TooLarge(msg)
        if len(entries) == 1:
            return await self._send(entries[0], {})
        async with self._one_of_few:
            batch = self.link.inbox().rpartition(".")[2]
            for number, entry in enumerate(entries[:-1], start=1):
                headers = _headers(entry, _batched(batch, number))
                await self.link.publish(entry.subject, entry.data, headers=headers)
            commit = _batched(batch, len(entries)) | {"Nats-Batch-Commit": "1"}
            return await self._send(entries[-1], commit)

    async def _send(self, entry: Entry, more: Mapping[str, str]) -> int:
        headers = _headers(entry, more)
        try:
            answer = await self.link.request(entry.subject, entry.data, headers=headers)
        except AnswerLost as lost:
            msg = f"{lost}: it may be stored; read before you store it again"
            raise AppendUnknown(msg) from lost
        result: Json = orjson.loads(answer.data)
        error = result.get("error")
        if error is None:
            return int(result["seq"])
        if error.get("err_code") in WRONG_LAST_SEQUENCE:
            msg = f"something else was stored first: {error.get('description')}"
            raise Conflict(msg)
        if error.get("err_code") == MESSAGE_TOO_LARGE:
            msg = f"an entry of {len(entry.data)} bytes is above the stream's limit"
            raise TooLarge(msg)
        raise Refused(entry.subject, error)

    async def last(self, subject: str) -> Kept | None:
        """The newest message of a subject or filter, as the leader has it.

        Raises:
            Unavailable: the store is away.
        """
        return await last_kept(self.link, self.names.stream, subject)

    async def after(self, subject: str, seq: int, count: int) -> tuple[list[Kept], bool]:
        """The next messages of a subject or filter after a sequence, and whether there are more.

        Raises:
            Unavailable: the store is away.
        """
        found, more = await self._reader.messages(
            self.names.stream, subject, after_seq=seq, count=count
        )
        return [kept_of(msg) for msg in found], more

    async def all_of(self, key: str) -> list[Kept]:
        """All entries of a key, as the leader has them.

        Raises:
            Unavailable: the store is away, or no replica is as far as the leader.
        """
        subject = self.names.entry(key)
        newest = await self.last(subject) if self._replicas > 1 else None
        for _ in range(BEHIND_ATTEMPTS_MAX):
            found = await self._read(subject)
            if newest is None or (found and found[-1].seq >= newest.seq):
                return found
            await asyncio.sleep(BEHIND_WAIT_S)
        msg = f"no replica has caught up with {subject!r}"
        raise NoResponders(msg)

    async def listen(self, ring: Ring) -> None:
        """Hear of what is stored from now on.

        Raises:
            Unavailable: there is no connection.
        """
        await listen(self.link, self.names.live, ring)

    async def _read(self, subject: str) -> list[Kept]:
        found, more = await self.after(subject, 0, BATCH_ENTRIES_MAX)
        while more:
            page, more = await self.after(subject, found[-1].seq, BATCH_ENTRIES_MAX)
            found += page
        return found


async def open_ledger(
    link: Link,
    reader: Reader,
    names: LedgerNames,
    *,
    replicas: int,
    durability: Durability,
    declare: bool,
) -> Ledger:
    """The ledger of those names, checked against a durability class; made unless not wanted.

    Raises:
        StreamMismatch: a stream of that name exists and cannot be made ours.
        DurabilityTooWeak: the server keeps less; the message says what to change.
        Unavailable: the server is away, or there is no such stream and it is not to be made.
    """
    streams = LedgerStreams(link, names, replicas, durability)
    info = await (streams.ensure(KIND) if declare else streams.info(KIND))
    await check_servers(link, durability, info)
    return Ledger(link, reader, names, info)


async def listen(link: Link, live: str, ring: Ring) -> None:
    """Hear of what a stream republishes there, as long as the link is open; 0: some was missed.

    Raises:
        Unavailable: there is no connection.
    """

    def missed() -> None:
        ring(0)

    def stored(msg: Msg) -> None:
        ring(int((msg.headers or {})["Nats-Sequence"]))

    await link.subscribe(live, stored, doubt=missed)
    link.on_up.append(missed)


async def last_kept(link: Link, stream: str, subject: str) -> Kept | None:
    """The newest message of a subject or filter of any stream; only the leader answers this.

    Raises:
        Unavailable: the store is away.
    """
    try:
        result = await call(link, f"STREAM.MSG.GET.{stream}", {"last_by_subj": subject})
    except Refused as refused:
        if refused.code == MESSAGE_NOT_FOUND:
            return None
        raise
    found: Json = result["message"]
    lines = base64.b64decode(found.get("hdrs") or "").decode().split("\r\n")
    pairs = [line.partition(":") for line in lines]
    headers = {name: value.strip() for name, colon, value in pairs if colon}
    data = base64.b64decode(found.get("data") or "")
    return Kept(int(found["seq"]), found["subject"], headers, data)


def kept_of(msg: Msg) -> Kept:
    """The message in an answer of a direct get."""
    headers = msg.headers or {}
    return Kept(int(headers["Nats-Sequence"]), headers["Nats-Subject"], headers, msg.data)


def rolled_up(entry: Entry) -> Entry:
    """That entry as a mark: what its subject held before is gone when it is stored."""
    return entry._replace(headers={**entry.headers, "Nats-Rollup": "sub"})


def escaped(text: str) -> str:
    """Any text as one subject token and part of a stream's name; `=` alone is the empty one."""
    plain = "".join(
        chr(byte) if PLAIN.fullmatch(bytes((byte,))) else f"={byte:02X}" for byte in text.encode()
    )
    return plain or EMPTY


def unescaped(part: str) -> str:
    """The text of a token that `escaped` made."""
    if part == EMPTY:
        return ""
    raw = ESCAPED.sub(lambda found: chr(int(found[1], 16)), part)
    return raw.encode("latin-1").decode()


def _batched(batch: str, number: int) -> dict[str, str]:
    return {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(number)}


def _headers(entry: Entry, more: Mapping[str, str]) -> dict[str, str]:
    guard = {} if entry.after is None else {EXPECTED: str(entry.after)}
    return {**entry.headers, **more, **guard}
