"""Where a stream goes on for a reader that comes back, and whether its turn is over (C9).

Cursors of runs and jobs are bound to them: one of another job is answered as one that never was.
"""

import asyncio
from dataclasses import dataclass
from typing import Literal
from weakref import WeakValueDictionary

from domain.ids import TOKEN, RunRef
from eventlog.port import Cursor, EventLog, Stored
from gateway.streams.entries import MOVING, Rest, rest_after
from gateway.streams.feed import ANY, Feed
from gateway.streams.sayings import events_of

ResetReason = Literal["unreadable", "incarnation", "retention", "not_of_this_run"]

RUNS_MAX = 4_096
"""Of how many runs it is remembered how they were left."""


@dataclass(frozen=True, slots=True)
class Place:
    """What was told already: all up to `seq`, and `skip` events of the envelope behind it."""

    cursor: Cursor
    seq: int
    skip: int = 0
    reset: ResetReason | None = None


def start_of(incarnation: str, reset: ResetReason | None = None) -> Place:
    """The start of a log's life."""
    return Place(Cursor(incarnation, 0), 0, reset=reset)


async def find_place(log: EventLog, feed: Feed, asked: str | None) -> Place:
    """Where to go on for a reader that asks for this; the start if that cannot be honoured.

    On the feed of a tenant any place of the log is one, so that the position of a view is: whose
    envelope lies there is not told either way.

    Raises:
        Unavailable: the log is away.
    """
    incarnation = log.incarnation
    cursor = Cursor.parse(asked) if asked else Cursor(incarnation, 0)
    if cursor is None:
        return start_of(incarnation, "unreadable")
    if cursor.incarnation != incarnation:
        return start_of(incarnation, "incarnation")
    if cursor.seq == 0:
        return start_of(incarnation)
    place = await _place_at(log, feed, cursor)
    same = log.incarnation == incarnation
    return place if same else start_of(log.incarnation, "incarnation")


async def _place_at(log: EventLog, feed: Feed, cursor: Cursor) -> Place:
    there = await _envelope_at(log, feed.pattern, cursor.seq)
    if there is None:
        return await _elsewhere(log, feed, cursor)
    count = max(1, sum(1 for _ in events_of(there.data)))  # one that cannot be read is passed too
    if cursor.event >= count:
        return start_of(cursor.incarnation, "not_of_this_run")
    if cursor.event == count - 1:
        return Place(cursor, cursor.seq)
    return Place(cursor, cursor.seq - 1, cursor.event + 1)


async def _elsewhere(log: EventLog, feed: Feed, cursor: Cursor) -> Place:
    """The answer to a cursor at which the feed has no envelope."""
    first_seq, last_seq = await log.bounds()
    if feed.pattern.job == ANY and first_seq <= cursor.seq <= last_seq:
        return Place(cursor, cursor.seq)
    gone = cursor.seq < first_seq
    return start_of(cursor.incarnation, "retention" if gone else "not_of_this_run")


async def _envelope_at(log: EventLog, pattern: RunRef, seq: int) -> Stored | None:
    tenant, job, run = pattern
    page = await log.read(after_seq=seq - 1, tenant=tenant, job=job, run=run, limit=1)
    found = page.envelopes[0] if page.envelopes else None
    return found if found is not None and found.seq == seq else None


async def root_of(log: EventLog, tenant: str, job: str) -> RunRef | None:
    """The run a job began with; None when there is no such job.

    Raises:
        Unavailable: the log is away.
    """
    if not TOKEN.fullmatch(job):
        return None
    page = await log.read(after_seq=0, tenant=tenant, job=job, limit=1)
    return page.envelopes[0].ref if page.envelopes else None


@dataclass(frozen=True, slots=True)
class Left:
    """How a run was left by all its envelopes up to a sequence."""

    seq: int = 0
    rest: Rest = MOVING


class Rests:
    """Knows how runs were left; reads only what it has not read yet."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._left: dict[RunRef, Left] = {}
        self._locks: WeakValueDictionary[RunRef, asyncio.Lock] = WeakValueDictionary()

    async def of(self, ref: RunRef) -> Left:
        """How a run is left by all that is stored of it now.

        Many may ask at once, after a restart: the first reads the run, the others what is new then.

        Raises:
            Unavailable: the log is away.
        """
        lock = self._locks.setdefault(ref, asyncio.Lock())
        async with lock:
            return await self._read(ref)

    async def _read(self, ref: RunRef) -> Left:
        left = self._left.pop(ref, Left())
        tenant, job, run = ref
        more = True
        while more:
            page = await self._log.read(after_seq=left.seq, tenant=tenant, job=job, run=run)
            for stored in page.envelopes:
                left = Left(stored.seq, _left_by(stored, left.rest))
            more = page.more
        while len(self._left) >= RUNS_MAX:
            del self._left[next(iter(self._left))]
        self._left[ref] = left
        return left

    def clear(self) -> None:
        """Forget everything: the log was made anew."""
        self._left.clear()


def _left_by(stored: Stored, rest: Rest) -> Rest:
    for event in events_of(stored.data):
        rest = rest_after(str(event.get("type", "")), rest)
    return rest
