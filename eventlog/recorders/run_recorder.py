"""Runs as the library's recorder: its notifications and stored events. Read-only.

A notification's id is `sequence * 1024 + index in the envelope`: it grows, has gaps, and says where
the event is. Its topic is the event's name on the wire, that of the newest version: older ones are
upcast when they are read.

Ids belong to one life of the log. After EVENTS was made anew they begin again: who asks for what
comes after an id that the log does not have yet is refused.
"""

from collections.abc import Sequence
from threading import Lock
from typing import Any, NoReturn
from uuid import UUID

from eventsourcing.persistence import DataError, Notification, ProgrammingError, StoredEvent

from domain.ids import RunRef
from eventlog.jetstream.subjects import RUN
from eventlog.library import SEPARATOR
from eventlog.recorders.entries import chosen
from eventlog.recorders.following import Bell, FollowedRecorder, FollowingSubscription, Page
from eventlog.recorders.hosted import Hosted
from eventlog.recorders.run_source import (
    EVENTS_PER_ENVELOPE,
    Source,
    notifications_of,
    stored_events_of,
)

READ_ENVELOPES_MAX = 1000


class RunRecorder(FollowedRecorder):
    """The events of a tenant's runs as the library's notifications and stored events."""

    def __init__(self, hosted: Hosted[Source], tenant: str) -> None:
        self._hosted = hosted
        self._tenant = tenant
        self._pattern = RunRef(tenant, "*", "*")
        self._bell: Bell | None = None
        self._lock = Lock()

    def insert_events(
        self,
        stored_events: Sequence[StoredEvent],
        **kwargs: Any,  # noqa: ANN401 - the library's
    ) -> NoReturn:
        """Refuse it.

        Raises:
            ProgrammingError: always.
        """
        del stored_events, kwargs
        msg = (
            "runs are read-only here: only a decision of a loop appends to EVENTS; send a command "
            "(docs/events.md), or keep what is yours in an application of its own"
        )
        raise ProgrammingError(msg)

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        """The events of the run `<tenant>/<job>/<run>`, in the order of their versions or back.

        Raises:
            DataError: what is stored has a gap, or cannot be read.
            OperationalError: the store is away.
        """
        ref = self._ref_of(str(originator_id))
        if ref is None:
            return []
        found = self._hosted.call(lambda source: source.log.load(ref))
        events = [event for stored in found for event in stored_events_of(stored)]
        for version, event in enumerate(events, start=1):
            if event.originator_version != version:
                msg = f"run {originator_id} has no version {version}: its history is damaged"
                raise DataError(msg)
        return chosen(events, gt=gt, lte=lte, desc=desc, limit=limit)

    def max_notification_id(self) -> int | None:
        """The id of the newest event; None when there is none."""
        newest = self._hosted.call(lambda source: source.last(self._pattern))
        return notifications_of(newest)[-1].id if newest else None

    def page(self, after: int, limit: int, topics: Sequence[str] = ()) -> Page:
        """At most `limit` notifications with ids above `after`."""
        count = READ_ENVELOPES_MAX if topics else min(limit, READ_ENVELOPES_MAX)
        first = (after + 1) // EVENTS_PER_ENVELOPE
        found, more = self._hosted.call(
            lambda source: source.after(max(0, first - 1), count, self._pattern)
        )
        page: list[Notification] = []
        upto = after
        for stored in found:
            for one in notifications_of(stored):
                if one.id <= after:
                    continue
                if len(page) == limit:
                    return Page(page, upto, more=True)
                if not topics or one.topic in topics:
                    page.append(one)
                upto = one.id
            # Past all that this envelope could hold, or the next page would read it again.
            upto = max(upto, (stored.seq + 1) * EVENTS_PER_ENVELOPE - 1)
        return Page(page, upto, more)

    def subscribe(self, gt: int | None = None, topics: Sequence[str] = ()) -> FollowingSubscription:
        """All events with ids above `gt`, then those to come.

        Raises:
            ProgrammingError: the log has no such id yet: it was made anew.
        """
        newest = self.max_notification_id() or 0
        if gt is not None and gt > newest:
            msg = (
                f"the log ends at {newest} and not behind {gt}: it was made anew since that was "
                "processed; begin with a new view, or under another name"
            )
            raise ProgrammingError(msg)
        return super().subscribe(gt, topics)

    def bell(self) -> Bell:
        """Rings with every envelope, and when one may have been missed."""
        with self._lock:
            if self._bell is None:
                self._bell = self._hosted.call(lambda source: source.hung(self._pattern))
            return self._bell

    def _ref_of(self, name: str) -> RunRef | None:
        """The run of that full name; None: it is no run's, or another tenant's."""
        parts = name.split(SEPARATOR)
        if RUN.fullmatch(".".join(parts)) is None or self._tenant not in ("*", parts[0]):
            return None
        return RunRef(*parts)
