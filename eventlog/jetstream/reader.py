"""Batched direct get: many stored messages for one request. Not a consumer: nothing is left behind.

nats-py has no call for it. The server answers `{"next_by_subj", "seq", "batch"}` with messages that
name their predecessor in the batch (`Nats-Last-Sequence`), so a lost one is seen, and ends with
status 204, or says 404 when there is none (ADR-31).
"""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

import orjson
from nats.aio.msg import Msg

from domain.errors import Unavailable
from domain.ids import RunRef
from eventlog.jetstream.connection import AnswerLost, Link, NoResponders, heard
from eventlog.jetstream.subjects import ref_of
from eventlog.port import Stored

BATCH_MESSAGES = 1000
BATCH_BYTES = 8 * 1024 * 1024
"""One batch holds at most this many messages and about this many bytes of them."""

ATTEMPTS_MAX = 3
PENDING_BYTES_MAX = 64 * 1024 * 1024


@dataclass(eq=False, slots=True)
class Batch:
    """One request in flight and what came for it."""

    done: "asyncio.Future[bool]"
    messages: list[Msg] = field(default_factory=list[Msg])
    previous: str = "0"
    whole: bool = True


class Reader:
    """All batched reads of one connection, over one shared inbox. `start` it first."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._inbox = link.inbox()
        self._cut = len(self._inbox) + 1
        self._count = 0
        self._open: dict[str, Batch] = {}

    async def start(self) -> None:
        """Listen for answers.

        Raises:
            Unavailable: there is no connection.
        """
        await self._link.subscribe(f"{self._inbox}.*", self._received, doubt=self._lost)
        self._link.on_down.append(self._lost)

    async def messages(
        self, stream: str, subject: str, *, after_seq: int, count: int = BATCH_MESSAGES
    ) -> tuple[list[Msg], bool]:
        """The next messages of a subject or filter, and whether there are more.

        Raises:
            NoResponders: there is no such stream now.
            Unavailable: the store is away.
        """
        body = orjson.dumps(
            {
                "next_by_subj": subject,
                "seq": after_seq + 1,
                "batch": count,
                "max_bytes": BATCH_BYTES,
            }
        )
        for _ in range(ATTEMPTS_MAX):
            try:
                batch = await self._ask(f"$JS.API.DIRECT.GET.{stream}", body)
            except AnswerLost:
                continue
            if batch.whole:
                return batch.messages, batch.done.result()
        msg = f"reading {subject!r} was cut off {ATTEMPTS_MAX} times"
        raise Unavailable(msg)

    async def pages(
        self, stream: str, subject: str, *, after_seq: int
    ) -> AsyncGenerator[list[Stored]]:
        """All that is stored now under a subject or filter after a sequence, page by page.

        Raises:
            NoResponders: there is no such stream now.
            Unavailable: the store is away.
        """
        seq, more = after_seq, True
        ref = None if "*" in subject else ref_of(subject)
        while more:
            messages, more = await self.messages(stream, subject, after_seq=seq)
            if not messages:
                return
            page = [stored_of(message, ref) for message in messages]
            seq = page[-1].seq
            yield page

    async def _ask(self, subject: str, body: bytes) -> Batch:
        await self._link.ready()
        self._count += 1
        key = str(self._count)
        loop = asyncio.get_running_loop()
        batch = Batch(loop.create_future())
        self._open[key] = batch
        timer: asyncio.TimerHandle | None = None
        try:
            await self._link.publish(subject, body, reply=f"{self._inbox}.{key}")
            timer = loop.call_later(self._link.timeout_s, _expire, batch, subject)
            await batch.done
        finally:
            del self._open[key]
            heard(batch.done)
            if timer is not None:
                timer.cancel()
        return batch

    def _received(self, msg: Msg) -> None:
        batch = self._open.get(msg.subject[self._cut :])
        if batch is None or batch.done.done():
            return
        headers = msg.headers or {}
        status = headers.get("Status")
        if status is None:
            if headers.get("Nats-Last-Sequence") != batch.previous:
                batch.whole = False
            batch.previous = headers["Nats-Sequence"]
            batch.messages.append(msg)
        elif status == "204":
            if headers.get("Nats-Last-Sequence") != batch.previous:
                batch.whole = False
            batch.done.set_result(headers.get("Nats-Num-Pending", "0") != "0")
        elif status == "404":
            batch.done.set_result(False)
        elif status == "503":
            batch.done.set_exception(NoResponders("nobody holds that stream now"))
        else:
            reason = headers.get("Description", "refused")
            batch.done.set_exception(Unavailable(f"read refused: {status} {reason}"))

    def _lost(self) -> None:
        for batch in self._open.values():
            if not batch.done.done():
                batch.done.set_exception(AnswerLost("answers to a read were lost"))


def stored_of(msg: Msg, ref: RunRef | None = None) -> Stored:
    """The envelope in an answer of a direct get or in a republished message."""
    headers = msg.headers or {}
    return Stored(
        int(headers["Nats-Sequence"]),
        ref_of(headers["Nats-Subject"]) if ref is None else ref,
        msg.data,
    )


def _expire(batch: Batch, subject: str) -> None:
    if not batch.done.done():
        batch.done.set_exception(AnswerLost(f"no end of the answers on {subject!r} in time"))
