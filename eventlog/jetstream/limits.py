"""LIMITS on JetStream: the newest note of each scope, changed by compare and set. Not a record.

Watchers hear what the stream republishes: only what was stored, with its sequence. That is at most
once, so what may have been missed is told, and read.
"""

import asyncio
import base64
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager

from nats.aio.msg import Msg

from domain.errors import Conflict
from domain.rate import Scope
from eventlog.jetstream.api import (
    MESSAGE_NOT_FOUND,
    STREAM_NOT_FOUND,
    WRONG_LAST_SEQUENCE,
    Json,
    Refused,
    call,
)
from eventlog.jetstream.connection import NoResponders
from eventlog.jetstream.log import EXPECTED
from eventlog.jetstream.reader import Reader
from eventlog.jetstream.streams import Streams
from eventlog.jetstream.subjects import scope_of
from eventlog.newest import LIFE, Noted

KIND = "LIMITS"


class JetStreamLimits:
    """The shared limits of one deployment."""

    def __init__(self, streams: Streams, reader: Reader) -> None:
        self._streams = streams
        self._names = streams.names
        self._reader = reader
        self._stream = streams.names.stream(KIND)
        self._life = 0
        streams.link.on_down.append(self._begin_again)
        streams.link.on_up.append(self._begin_again)

    def _begin_again(self) -> None:
        """Whatever we are connected to next may count from 1 again."""
        self._life += LIFE

    async def note(self, scope: Scope, data: bytes, *, expected: int) -> int:
        """Note something instead of the note of the expected revision; its own revision.

        Raises:
            Conflict: the last note is another one, or that was read before a reconnect.
            Unavailable: it may be noted, or be noted yet.
        """
        life = self._life
        if 0 < expected < life:
            msg = f"revision {expected} was read before a reconnect"
            raise Conflict(msg)
        headers = {EXPECTED: str(expected % LIFE)}
        try:
            return life + await self._streams.store(KIND, self._names.limit(scope), data, headers)
        except Refused as refused:
            if refused.code not in WRONG_LAST_SEQUENCE:
                raise
            raise Conflict(str(refused)) from refused

    async def last(self, scope: Scope) -> Noted | None:
        """What is noted of a scope, as the leader has it.

        Raises:
            Unavailable: the store is away.
        """
        return await self._leader({"last_by_subj": self._names.limit(scope)})

    async def all(self) -> dict[Scope, Noted]:
        """What is noted of every scope, as the leader has it.

        Raises:
            Unavailable: the store is away.
        """
        found: dict[Scope, Noted] = {}
        if self._streams.replicas == 1:
            return await self._read(found)
        pattern, seq = self._names.any("limit"), 0
        while noted := await self._leader({"next_by_subj": pattern, "seq": seq + 1}):
            found[noted.scope], seq = noted, noted.revision % LIFE
        return found

    @asynccontextmanager
    async def watch(self) -> AsyncGenerator[AsyncIterator[Noted | None]]:
        """The newest note of each scope that changes; None: some may be missed.

        Raises:
            Unavailable: there is no connection.
        """
        news = _News(self._noted)
        link = self._streams.link
        subject = self._names.any("livelimit")
        link.on_up.append(news.doubt)
        try:
            subscription = await link.subscribe(subject, news.hear, doubt=news.doubt)
            try:
                await link.flush()
                yield news
            finally:
                await link.unsubscribe(subscription)
        finally:
            link.on_up.remove(news.doubt)

    async def _read(self, found: dict[Scope, Noted]) -> dict[Scope, Noted]:
        """All of them in one answer: with one replica, who answers is the leader."""
        pattern, seq, more = self._names.any("limit"), 0, True
        life = self._life
        while more:
            try:
                messages, more = await self._reader.messages(self._stream, pattern, after_seq=seq)
            except NoResponders:
                await self._streams.ensure(KIND)
                return {}
            for message in messages:
                noted = _noted(message, life)
                found[noted.scope], seq = noted, noted.revision - life
        return found

    async def _leader(self, asked: Json) -> Noted | None:
        life = self._life
        try:
            answer = await call(self._streams.link, f"STREAM.MSG.GET.{self._stream}", asked)
        except Refused as refused:
            if refused.code == STREAM_NOT_FOUND:
                await self._streams.ensure(KIND)
            elif refused.code != MESSAGE_NOT_FOUND:
                raise
            return None
        message: Json = answer["message"]
        data = base64.b64decode(message.get("data", ""))
        return Noted(scope_of(message["subject"]), life + int(message["seq"]), data)

    def _noted(self, msg: Msg) -> Noted:
        return _noted(msg, self._life)


class _News:
    """What a watcher has not taken yet: the newest of each scope, and whether some was missed."""

    def __init__(self, noted: Callable[[Msg], Noted]) -> None:
        self._noted = noted
        self._notes: dict[Scope, Noted] = {}
        self._doubt = True
        self._wake = asyncio.Event()

    def hear(self, msg: Msg) -> None:
        """A note was stored."""
        noted = self._noted(msg)
        self._notes[noted.scope] = noted
        self._wake.set()

    def doubt(self) -> None:
        """Something may have been missed."""
        self._doubt = True
        self._wake.set()

    def __aiter__(self) -> AsyncIterator[Noted | None]:
        return self

    async def __anext__(self) -> Noted | None:
        while True:
            if self._doubt:
                self._doubt = False
                return None
            if self._notes:
                return self._notes.pop(next(iter(self._notes)))
            self._wake.clear()
            await self._wake.wait()


def _noted(msg: Msg, life: int) -> Noted:
    """The note in an answer of a direct get or in a republished message."""
    headers = msg.headers or {}
    revision = life + int(headers["Nats-Sequence"])
    return Noted(scope_of(headers["Nats-Subject"]), revision, msg.data)
