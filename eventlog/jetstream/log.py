"""EVENTS on JetStream: append, load, find, bounds. Not live reading: `follow` does that.

An append is one message guarded by `Nats-Expected-Last-Subject-Sequence`. Loads are batched direct
gets. With one replica the server that answers is the leader; with more, any replica may answer and
be behind, so the leader is asked for its last message of the run at the same time, and the load is
repeated until it has seen that one.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

import orjson

from domain.errors import AppendUnknown, Conflict, TooLarge, Unavailable
from domain.ids import RunRef
from eventlog.jetstream.api import (
    MESSAGE_NOT_FOUND,
    MESSAGE_TOO_LARGE,
    WRONG_LAST_SEQUENCE,
    Json,
    Refused,
    call,
)
from eventlog.jetstream.connection import AnswerLost
from eventlog.jetstream.follow import follow
from eventlog.jetstream.reader import Reader, stored_of
from eventlog.jetstream.streams import Streams
from eventlog.jetstream.subjects import ref_of, token
from eventlog.port import PAGE_MAX, Page, Stored

EXPECTED = "Nats-Expected-Last-Subject-Sequence"
BEHIND_WAIT_S = 0.02
BEHIND_ATTEMPTS_MAX = 100
INCARNATION_DIGITS = 8


class JetStreamEventLog:
    """The event log of one deployment."""

    def __init__(self, streams: Streams, reader: Reader, created: str) -> None:
        self._streams = streams
        self._link = streams.link
        self._names = streams.names
        self._reader = reader
        self._stream = streams.names.stream("EVENTS")
        self._incarnation = incarnation_of(created)

    @property
    def incarnation(self) -> str:
        """Names this log's life."""
        return self._incarnation

    def born(self, created: str) -> None:
        """The stream was seen again, perhaps made anew."""
        self._incarnation = incarnation_of(created)

    async def append(self, ref: RunRef, data: bytes, *, expected_seq: int) -> int:
        """Store one envelope after the run's message at `expected_seq`; its sequence.

        Raises:
            Conflict: the run's last message is another one, or one is being stored right now.
            AppendUnknown: no answer came; it may be stored, or be stored yet.
            TooLarge: the message is above the server's payload limit.
            Unavailable: the store refused or is away, and nothing was stored.
        """
        subject = self._names.run("evt", ref)
        try:
            answer = await self._link.request(subject, data, headers={EXPECTED: str(expected_seq)})
        except AnswerLost as lost:
            msg = f"the append to run {ref.run!r} got no answer"
            raise AppendUnknown(msg) from lost
        result: Json = orjson.loads(answer.data)
        error = result.get("error")
        if error is None:
            return int(result["seq"])
        code = error.get("err_code")
        if code in WRONG_LAST_SEQUENCE:
            msg = f"run {ref.run!r} has moved on from {expected_seq}: {error.get('description')}"
            raise Conflict(msg)
        if code == MESSAGE_TOO_LARGE:
            msg = f"an envelope of {len(data)} bytes is above the stream's limit"
            raise TooLarge(msg)
        raise Refused(subject, error)

    async def load(self, ref: RunRef, *, after_seq: int = 0) -> list[Stored]:
        """The run's envelopes after a sequence, in order, as the leader has them.

        Raises:
            Unavailable: the store is away.
        """
        subject = self._names.run("evt", ref)
        if self._streams.replicas == 1:
            return await self._read(subject, after_seq)
        leader = await self._leader_last(subject)
        last_seq = int(leader["seq"]) if leader else 0
        for _ in range(BEHIND_ATTEMPTS_MAX):
            found = await self._read(subject, after_seq)
            if last_seq <= after_seq or (found and found[-1].seq >= last_seq):
                return found
            await asyncio.sleep(BEHIND_WAIT_S)
        msg = f"no replica has caught up with run {ref.run!r}"
        raise Unavailable(msg)

    async def read(
        self,
        *,
        after_seq: int,
        tenant: str = "*",
        job: str = "*",
        run: str = "*",
        limit: int = PAGE_MAX,
    ) -> Page:
        """The next stored envelopes after a sequence that match: one page of what there is now.

        A page without more ends where the leader's log ended, at the earliest when it was asked.

        Raises:
            Unavailable: the store is away.
        """
        subject = self._names.runs("evt", RunRef(tenant, job, run))
        for _ in range(BEHIND_ATTEMPTS_MAX):
            messages, more = await self._reader.messages(
                self._stream, subject, after_seq=after_seq, count=min(limit, PAGE_MAX)
            )
            found = [stored_of(message) for message in messages]
            if more or self._streams.replicas == 1:
                return Page(found, more)
            leader = await self._leader_last(subject)
            last_seq = found[-1].seq if found else after_seq
            if leader is None or int(leader["seq"]) <= last_seq:
                return Page(found, more=False)
            await asyncio.sleep(BEHIND_WAIT_S)
        msg = f"no replica has caught up with {subject!r}"
        raise Unavailable(msg)

    async def find(self, tenant: str, run: str) -> RunRef | None:
        """The full name of a run whose job is not known; None when no such run exists.

        Raises:
            Unavailable: the store is away.
        """
        found = await self._leader_last(
            self._names.runs("evt", RunRef(token(tenant), "*", token(run)))
        )
        return ref_of(found["subject"]) if found else None

    async def bounds(self) -> tuple[int, int]:
        """First and last sequence of what can be read of the log; (1, 0) when it is empty.

        Raises:
            Unavailable: the store is away.
        """
        state = (await self._streams.info("EVENTS"))["state"]
        first, last = max(1, int(state["first_seq"])), int(state["last_seq"])
        if last < first or await self._any_from(last):
            return first, last
        # The last message is damaged or was deleted: a reader that waits for it waits for ever.
        return first, await self._last_readable(first, last)

    def follow(
        self, *, after_seq: int, tenant: str = "*", job: str = "*", run: str = "*"
    ) -> AbstractAsyncContextManager[AsyncIterator[Stored]]:
        """Every stored envelope after a sequence that matches: catch-up, then live, no gap.

        Raises (from the iterator):
            Unavailable: the store stayed away; open it again from the last sequence seen.
        """
        return follow(
            self._link,
            self._reader,
            self._names,
            pattern=RunRef(tenant, job, run),
            after_seq=after_seq,
        )

    async def _read(self, subject: str, after_seq: int) -> list[Stored]:
        found: list[Stored] = []
        async for page in self._reader.pages(self._stream, subject, after_seq=after_seq):
            found = found + page if found else page
        return found

    async def _last_readable(self, first: int, last: int) -> int:
        """The last sequence before `last` under which there is a message, by halving."""
        readable, gone = first - 1, last
        while gone - readable > 1:
            middle = (readable + gone) // 2
            if await self._any_from(middle):
                readable = middle
            else:
                gone = middle
        return readable

    async def _any_from(self, seq: int) -> bool:
        """Whether there is a message at or after a sequence; the leader answers this."""
        asked = {"seq": seq, "next_by_subj": ">"}
        try:
            await call(self._link, f"STREAM.MSG.GET.{self._stream}", asked)
        except Refused as refused:
            if refused.code == MESSAGE_NOT_FOUND:
                return False
            raise
        return True

    async def _leader_last(self, subject: str) -> Json | None:
        """The last message of a subject or filter; this call is served by the leader only."""
        try:
            result = await call(
                self._link, f"STREAM.MSG.GET.{self._stream}", {"last_by_subj": subject}
            )
        except Refused as refused:
            if refused.code == MESSAGE_NOT_FOUND:
                return None
            raise
        message: Json = result["message"]
        return message


def incarnation_of(created: str) -> str:
    """The name of a log's life: its creation time, hashed, so that it says nothing."""
    return hashlib.sha256(created.encode()).hexdigest()[:INCARNATION_DIGITS]
