"""The events of a job one by one, each with its place. Not a projection: nothing is folded here."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing, asynccontextmanager
from typing import Any, NamedTuple

import orjson

from domain.envelope import Envelope, decode, event_json
from domain.events import Event
from domain.ids import RunRef
from eventlog.owners import Owners, Whose
from eventlog.port import Cursor, EventLog, Stored


class Heard(NamedTuple):
    """One event where it was found, and of whom it is."""

    cursor: Cursor
    ref: RunRef
    version: int
    at_ms: int
    event: Event
    whose: Whose = Whose()

    @property
    def json(self) -> dict[str, Any]:
        """The event as plain JSON."""
        return {
            "cursor": str(self.cursor),
            "tenant": self.ref.tenant,
            "job": self.ref.job,
            "run": self.ref.run,
            "expert": self.whose.expert,
            "parent": self.whose.parent,
            "version": self.version,
            "at_ms": self.at_ms,
            "event": event_json(self.event),
        }

    @property
    def line(self) -> bytes:
        """The event as one line of JSON."""
        return orjson.dumps(self.json, option=orjson.OPT_APPEND_NEWLINE)


def _heard(envelope: Envelope, seq: int, incarnation: str, whose: Whose) -> list[Heard]:
    return [
        Heard(
            Cursor(incarnation, seq, index),
            envelope.ref,
            envelope.version + index,
            envelope.at_ms,
            event,
            whose,
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
    owners = Owners(log)
    async for stored in envelopes:
        envelope = decode(stored.data)
        yield _heard(envelope, stored.seq, log.incarnation, await owners.of(envelope))


async def stored_events(log: EventLog, refs: Iterable[RunRef]) -> list[Heard]:
    """Every event that is stored of these runs now, in the order of the log.

    Raises:
        Unavailable: the store is away.
    """
    owners = Owners(log)
    stored = [item for ref in refs for item in await log.load(ref)]
    found: list[Heard] = []
    for item in sorted(stored, key=lambda item: item.seq):
        envelope = decode(item.data)
        found.extend(_heard(envelope, item.seq, log.incarnation, await owners.of(envelope)))
    return found
