"""The recorders of the library over a ledger: one message is one event. Not how they are made."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from threading import Lock
from typing import Any, TypeVar
from uuid import UUID

from eventsourcing.persistence import (
    AggregateRecorder,
    Notification,
    ProcessRecorder,
    ProgrammingError,
    StoredEvent,
    Tracking,
    TrackingRecorder,
)

from eventlog.jetstream.connection import Link
from eventlog.jetstream.ledger import BATCH_ENTRIES_MAX, Ledger
from eventlog.jetstream.reader import Reader
from eventlog.recorders import entries
from eventlog.recorders.following import Bell, FollowedRecorder, Page
from eventlog.recorders.hosted import Hosted

R = TypeVar("R")

Connection = tuple[Link, Reader]


class JetStreamRecorder:
    """What all recorders have: a ledger, and the thread in which it is used."""

    def __init__(self, hosted: Hosted[Connection], ledger: Ledger) -> None:
        self._hosted = hosted
        self._ledger = ledger

    def _do(self, work: Callable[[Ledger], Awaitable[R]]) -> R:
        return self._hosted.call(lambda _: work(self._ledger))


class JetStreamAggregateRecorder(JetStreamRecorder, AggregateRecorder):
    """Events of aggregates, or snapshots."""

    def insert_events(
        self,
        stored_events: Sequence[StoredEvent],
        **kwargs: Any,  # noqa: ANN401 - the library's
    ) -> Sequence[int] | None:
        """Store all of them or none.

        Raises:
            IntegrityError: one of these versions is there, or a later one.
            DataError: they are too many or too large.
            OperationalError: the store is away, or its answer was lost.
        """
        self._insert(stored_events, **kwargs)
        return None

    def _insert(
        self,
        stored_events: Sequence[StoredEvent],
        *,
        tracking: Tracking | None = None,
        **_: Any,  # noqa: ANN401 - the library's
    ) -> list[int]:
        if tracking is not None:
            msg = (
                f"{type(self).__name__} keeps no trackings: use the process recorder of the "
                "factory, as the library's EventSourcedProjection does"
            )
            raise ProgrammingError(msg)
        return self._do(partial(entries.insert, events=stored_events))

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        """The events of one originator, in the order of their versions or backwards."""
        newest_only = desc and limit == 1 and gt is None and lte is None
        read = partial(entries.select, originator_id=originator_id, newest_only=newest_only)
        return entries.chosen(self._do(read), gt=gt, lte=lte, desc=desc, limit=limit)


class JetStreamApplicationRecorder(JetStreamAggregateRecorder, FollowedRecorder):
    """Events of an application, in one order, to be followed."""

    def __init__(self, hosted: Hosted[Connection], ledger: Ledger) -> None:
        super().__init__(hosted, ledger)
        self._bell: Bell | None = None
        self._lock = Lock()

    def insert_events(
        self,
        stored_events: Sequence[StoredEvent],
        **kwargs: Any,  # noqa: ANN401 - the library's
    ) -> Sequence[int] | None:
        """Store all of them or none; their notification ids.

        Raises:
            IntegrityError: one of these versions is there, or a later one.
            DataError: they are too many or too large.
            OperationalError: the store is away, or its answer was lost.
        """
        return self._insert(stored_events, **kwargs)

    def max_notification_id(self) -> int | None:
        """The id of the newest event; None when there is none."""
        newest = self._do(lambda ledger: ledger.last(ledger.names.entries))
        return newest.seq if newest else None

    def page(self, after: int, limit: int, topics: Sequence[str] = ()) -> Page:
        """At most `limit` notifications with ids above `after`."""
        count = BATCH_ENTRIES_MAX if topics else min(limit, BATCH_ENTRIES_MAX)
        found, more = self._do(
            lambda ledger: ledger.after(ledger.names.entries, after, count=count)
        )
        chosen: list[Notification] = []
        upto = after
        for kept in found:
            if len(chosen) == limit:
                return Page(chosen, upto, more=True)
            notification = entries.notification_of(kept)
            if not topics or notification.topic in topics:
                chosen.append(notification)
            upto = kept.seq
        return Page(chosen, upto, more)

    def bell(self) -> Bell:
        """Rings when something is stored, and when that may have been missed."""
        with self._lock:
            if self._bell is None:
                self._bell = self._do(hung)
            return self._bell


class JetStreamTrackingRecorder(JetStreamRecorder, TrackingRecorder):
    """How far something is that follows an application. A base of views, too."""

    def insert_tracking(self, tracking: Tracking) -> None:
        """Keep it.

        Raises:
            IntegrityError: it, or a later one, is kept.
            OperationalError: the store is away, or its answer was lost.
        """
        self._do(partial(entries.insert, events=(), tracking=tracking))

    def max_tracking_id(self, application_name: str) -> int | None:
        """The last id that was kept for an application; None: none."""
        found = self._do(partial(entries.last_tracking, application=application_name))
        return found.notification_id if found else None


class JetStreamProcessRecorder(
    JetStreamTrackingRecorder, JetStreamApplicationRecorder, ProcessRecorder
):
    """Events together with how far what they follow from has been processed: all or none."""

    def _insert(
        self,
        stored_events: Sequence[StoredEvent],
        *,
        tracking: Tracking | None = None,
        **_: Any,  # noqa: ANN401 - the library's
    ) -> list[int]:
        return self._do(partial(entries.insert, events=stored_events, tracking=tracking))


async def hung(ledger: Ledger) -> Bell:
    """A bell that rings whenever the ledger grows."""
    bell = Bell()
    await ledger.listen(bell.ring)
    return bell
