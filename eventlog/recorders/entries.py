"""The library's stored events and trackings as entries of a ledger, and back. Not the recorders."""

from collections.abc import Sequence
from urllib.parse import quote, unquote
from uuid import UUID

from eventsourcing.persistence import (
    IntegrityError,
    Notification,
    OperationalError,
    StoredEvent,
    Tracking,
)

from domain.errors import Conflict
from eventlog.jetstream.ledger import Entry, Kept, Ledger, rolled_up, unescaped

VERSION = "Es-Version"
TOPIC = "Es-Topic"
ORIGINATOR = "Es-Originator"
"""Headers of an event: its data is the state as the library's mapper made it, byte by byte."""

ATTEMPTS_MAX = 8
"""Inserts of others to the same originators that one insert is made again after."""


async def insert(
    ledger: Ledger, events: Sequence[StoredEvent], tracking: Tracking | None = None
) -> list[int]:
    """Store events and a tracking, all or none; the sequences of the events.

    Raises:
        IntegrityError: one of the versions is there or a later one, or the tracking is.
        TooLarge: they are too many, or one is too large.
        AppendUnknown: no answer came; they may be stored.
        Unavailable: they are not.
    """
    if not events and tracking is None:
        return []
    for _ in range(ATTEMPTS_MAX):
        wanted = await _guarded(ledger, events)
        if tracking is not None:
            wanted.append(await _tracked(ledger, tracking))
        try:
            last = await ledger.append(wanted)
        except Conflict:
            # Somebody stored first: that, read anew, says whether it was the same version.
            continue
        first = last - len(wanted) + 1
        return list(range(first, first + len(events)))
    msg = f"others store to the same originators all the time, {ATTEMPTS_MAX} times: try again"
    raise OperationalError(msg)


async def select(
    ledger: Ledger, *, originator_id: UUID | str, newest_only: bool
) -> list[StoredEvent]:
    """The events of one originator in the order of their versions, or its last one."""
    if newest_only:
        newest = await ledger.last(ledger.names.entry(str(originator_id)))
        return [event_of(newest)] if newest else []
    return [event_of(kept) for kept in await ledger.all_of(str(originator_id))]


async def last_tracking(ledger: Ledger, *, application: str) -> Tracking | None:
    """What was kept last of an application; None: nothing."""
    kept = await ledger.last(ledger.names.mark(application))
    return Tracking(application, int(kept.data)) if kept else None


def chosen(
    events: Sequence[StoredEvent],
    *,
    gt: int | None,
    lte: int | None,
    desc: bool,
    limit: int | None,
) -> list[StoredEvent]:
    """Those of an originator's events that were asked for."""
    found = [
        event
        for event in (reversed(events) if desc else events)
        if (gt is None or event.originator_version > gt)
        and (lte is None or event.originator_version <= lte)
    ]
    return found if limit is None else found[:limit]


def event_of(kept: Kept) -> StoredEvent:
    """The stored event of an entry."""
    name = unescaped(kept.subject.rpartition(".")[2])
    return StoredEvent(
        originator_id=UUID(name) if kept.headers[ORIGINATOR] == "uuid" else name,
        originator_version=int(kept.headers[VERSION]),
        topic=unquote(kept.headers[TOPIC]),
        state=kept.data,
    )


def notification_of(kept: Kept) -> Notification:
    """The notification of an entry: its id is the sequence."""
    event = event_of(kept)
    return Notification(
        originator_id=event.originator_id,
        originator_version=event.originator_version,
        topic=event.topic,
        state=event.state,
        id=kept.seq,
    )


def entry_of(ledger: Ledger, event: StoredEvent, after: int | None) -> Entry:
    """The entry of a stored event."""
    headers = {
        VERSION: str(event.originator_version),
        TOPIC: quote(event.topic, safe=":."),
        ORIGINATOR: "uuid" if isinstance(event.originator_id, UUID) else "text",
    }
    return Entry(ledger.names.entry(str(event.originator_id)), event.state, headers, after)


async def _guarded(ledger: Ledger, events: Sequence[StoredEvent]) -> list[Entry]:
    """The entries of events, the first of each originator guarded by its last one."""
    wanted: list[Entry] = []
    versions: dict[str, int] = {}
    for event in events:
        name = str(event.originator_id)
        after: int | None = None
        if name not in versions:
            newest = await ledger.last(ledger.names.entry(name))
            after = newest.seq if newest else 0
            if newest is not None:
                versions[name] = int(newest.headers[VERSION])
        if name in versions and event.originator_version <= versions[name]:
            msg = (
                f"{name!r} is at version {versions[name]} already: version "
                f"{event.originator_version} of {event.topic!r} is not stored, read it again"
            )
            raise IntegrityError(msg)
        versions[name] = event.originator_version
        wanted.append(entry_of(ledger, event, after))
    return wanted


async def _tracked(ledger: Ledger, tracking: Tracking) -> Entry:
    subject = ledger.names.mark(tracking.application_name)
    newest = await ledger.last(subject)
    if newest is not None and int(newest.data) >= tracking.notification_id:
        msg = (
            f"notification {tracking.notification_id} of {tracking.application_name!r} was "
            f"processed already: the last one was {int(newest.data)}"
        )
        raise IntegrityError(msg)
    after = newest.seq if newest else 0
    return rolled_up(Entry(subject, str(tracking.notification_id).encode(), {}, after))
