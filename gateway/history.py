"""A run's events as frames, from wherever a reader left off, then live. Not HTTP: `events` is.

One ordered source gives what is stored and what comes, so there is no gap between the two (C9).
"""

from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from domain.envelope import decode, event_json
from domain.errors import IntegrityViolated, Unavailable
from domain.events import TERMINAL_TYPES
from domain.ids import RunRef
from eventlog.port import Cursor, EventLog, Stored

MOVING_TYPES = frozenset({"run.started.v2", "run.forked.v1", "run.continued.v2"})
"""The events after which a run is not at rest; late facts after its end change nothing of that."""

ResetReason = Literal["unreadable", "incarnation", "retention", "not_of_this_run"]


@dataclass(frozen=True, slots=True)
class Frame:
    """One message to a reader. Only what can be resumed from has an id."""

    event: str
    data: bytes
    id: Cursor | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a reader goes on: after this event; `rest` is how the run had ended before it."""

    cursor: Cursor
    rest: str | None = None
    reset: ResetReason | None = None


async def find_place(log: EventLog, ref: RunRef, asked: str | None) -> Place:
    """Where to go on for a reader that asks for this; the start if that cannot be honoured.

    Raises:
        Unavailable: the log is away.
    """
    start = Cursor(log.incarnation, 0)
    if not asked:
        return Place(start)
    cursor = Cursor.parse(asked)
    if cursor is None:
        return Place(start, reset="unreadable")
    if cursor.incarnation != log.incarnation:
        return Place(start, reset="incarnation")
    if cursor.seq == 0:
        return Place(start)
    seen = [stored for stored in await log.load(ref) if stored.seq <= cursor.seq]
    if not seen or seen[-1].seq != cursor.seq:
        gone = cursor.seq < (await log.bounds())[0]
        return Place(start, reset="retention" if gone else "not_of_this_run")
    return Place(cursor, rest=_rest_after(seen[:-1]))


async def frames(log: EventLog, ref: RunRef, place: Place) -> AsyncGenerator[Frame]:
    """A hello, then every event after a place, live; ends after the end of a run at rest.

    Raises:
        Unavailable: the log stayed away, or was made anew.
        IntegrityViolated: the stored history cannot be read.
    """
    yield Frame("hello", _json(ref, cursor=str(place.cursor)), place.cursor)
    if place.reset is not None:
        yield Frame("reset", _json(ref, reason=place.reset), place.cursor)
    after, rest = place.cursor, place.rest
    begin_seq = max(0, after.seq - 1)  # the envelope of the place itself comes again
    async with log.follow(after_seq=begin_seq, tenant=ref.tenant, job=ref.job, run=ref.run) as all_:
        async for stored in all_:
            if log.incarnation != after.incarnation:
                msg = "the log was made anew"
                raise Unavailable(msg)
            cursor = Cursor(after.incarnation, stored.seq)
            for frame in _frames_of(stored, cursor, _skipped(after, stored)):
                yield frame
            rest = _rest_after([stored], rest)
            if rest is not None and not await log.load(ref, after_seq=stored.seq):
                yield _end(ref, stored, rest, cursor)
                return


def _frames_of(stored: Stored, cursor: Cursor, skipped: int) -> list[Frame]:
    envelope = decode(stored.data)
    return [
        Frame(
            event.type,
            _json(
                stored.ref,
                version=envelope.version + index,
                at_ms=envelope.at_ms,
                event=event_json(event),
            ),
            cursor._replace(event=index),
        )
        for index, event in enumerate(envelope.events)
        if index >= skipped
    ]


def _skipped(after: Cursor, stored: Stored) -> int:
    """How many events of an envelope the reader has already."""
    return after.event + 1 if stored.seq == after.seq else 0


def _end(ref: RunRef, stored: Stored, rest: str, cursor: Cursor) -> Frame:
    last = len(_types(stored)) - 1
    return Frame("end", _json(ref, status=rest), cursor._replace(event=last))


def _rest_after(history: Iterable[Stored], rest: str | None = None) -> str | None:
    """How the run had ended after these envelopes; None while it is not at rest."""
    for stored in history:
        for kind in _types(stored):
            if kind in TERMINAL_TYPES:
                rest = kind.split(".")[1]
            elif kind in MOVING_TYPES:
                rest = None
    return rest


def _types(stored: Stored) -> list[str]:
    """The types of an envelope's events, read without their content."""
    try:
        return [str(event["type"]) for event in orjson.loads(stored.data)["events"]]
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        msg = f"the envelope at {stored.seq} cannot be read"
        raise IntegrityViolated(msg) from error


def _json(ref: RunRef, **more: Any) -> bytes:  # noqa: ANN401 - any JSON
    return orjson.dumps({"run": ref.run, "job": ref.job, **more})
