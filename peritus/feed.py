"""The events of a job one by one, each with its place. Not a projection: nothing is folded here."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing, asynccontextmanager
from typing import Any, NamedTuple

import orjson

from domain.envelope import decode, event_json
from domain.events import Event
from domain.ids import RunRef
from eventlog.port import Cursor, EventLog, Stored


class Heard(NamedTuple):
    """One event where it was found."""

    cursor: Cursor
    ref: RunRef
    version: int
    at_ms: int
    event: Event

    @property
    def json(self) -> dict[str, Any]:
        """The event as plain JSON."""
        return {
            "cursor": str(self.cursor),
            "tenant": self.ref.tenant,
            "job": self.ref.job,
            "run": self.ref.run,
            "version": self.version,
            "at_ms": self.at_ms,
            "event": event_json(self.event),
        }

    @property
    def line(self) -> bytes:
        """The event as one line of JSON."""
        return orjson.dumps(self.json, option=orjson.OPT_APPEND_NEWLINE)


def heard_in(stored: Stored, incarnation: str) -> list[Heard]:
    """The events of one stored envelope, in order.

    Raises:
        IntegrityViolated: the bytes are not an envelope.
    """
    envelope = decode(stored.data)
    return [
        Heard(
            Cursor(incarnation, stored.seq, index),
            envelope.ref,
            envelope.version + index,
            envelope.at_ms,
            event,
        )
        for index, event in enumerate(envelope.events)
    ]


@asynccontextmanager
async def follow_events(
    log: EventLog, pattern: RunRef, *, after_seq: int
) -> AsyncGenerator[AsyncIterator[list[Heard]]]:
    """The events of every envelope that matches after a sequence, then live, without end.

    Raises:
        Unavailable: the store stayed away.
    """
    source = log.follow(
        after_seq=after_seq, tenant=pattern.tenant, job=pattern.job, run=pattern.run
    )
    async with source as envelopes, aclosing(_events(log, envelopes)) as events:
        yield events


async def _events(log: EventLog, envelopes: AsyncIterator[Stored]) -> AsyncGenerator[list[Heard]]:
    async for stored in envelopes:
        yield heard_in(stored, log.incarnation)


async def stored_events(log: EventLog, refs: Iterable[RunRef]) -> list[Heard]:
    """Every event that is stored of these runs now, in the order of the log.

    Raises:
        Unavailable: the store is away.
    """
    stored = [item for ref in refs for item in await log.load(ref)]
    return [
        heard
        for item in sorted(stored, key=lambda item: item.seq)
        for heard in heard_in(item, log.incarnation)
    ]
