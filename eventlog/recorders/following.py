"""Notifications page by page, and subscriptions that go on after the last. Not their source."""

from abc import abstractmethod
from collections import deque
from collections.abc import Sequence
from threading import Event
from typing import NamedTuple

from eventsourcing.persistence import (
    ApplicationRecorder,
    Notification,
    OperationalError,
    Subscription,
)

PAGE_NOTIFICATIONS = 500

POLL_S = 5.0
"""How often the log is read when nothing is heard, in seconds."""

BEHIND_ATTEMPTS_MAX = 100
BEHIND_WAIT_S = 0.05
"""How often, and how many seconds apart, a replica is asked for what was stored already."""

AWAY_ATTEMPTS_MAX = 60
AWAY_WAIT_S = 1.0
"""How often, and how many seconds apart, the log is tried while it is away."""


class Page(NamedTuple):
    """Notifications in order; all up to the id `upto` was looked at, and whether there is more."""

    notifications: list[Notification]
    upto: int
    more: bool


class Bell:
    """Wakes the subscriptions of one recorder. Rung in the loop, heard in any thread."""

    def __init__(self, ids_per_message: int = 1) -> None:
        self._ears: set[Event] = set()
        self._ids_per_message = ids_per_message
        self.target = 0
        """The largest id that is known to be stored, if any was heard of."""

    def ring(self, seq: int = 0) -> None:
        """The message of that sequence was stored; without one, something may have been."""
        self.target = max(self.target, seq * self._ids_per_message)
        for ear in tuple(self._ears):
            ear.set()

    def listen(self, ear: Event) -> None:
        """Set that event whenever it rings."""
        self._ears.add(ear)

    def leave(self, ear: Event) -> None:
        """No longer; twice is fine."""
        self._ears.discard(ear)


class FollowedRecorder(ApplicationRecorder):
    """What a recorder's notifications have in common, above how a page of them is read."""

    @abstractmethod
    def page(self, after: int, limit: int, topics: Sequence[str] = ()) -> Page:
        """At most `limit` notifications with ids above `after`: one read of the store.

        It may hold fewer although there are more.
        """

    @abstractmethod
    def bell(self) -> Bell:
        """What rings when there may be more."""

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        """Notifications from `start` on, up to `stop`, at most `limit`."""
        after = max(0, (start or 0) - 1 if inclusive_of_start else start or 0)
        found: list[Notification] = []
        more = True
        while more and len(found) < limit and (stop is None or after < stop):
            page = self.page(after, limit - len(found), topics)
            found += page.notifications
            after, more = page.upto, page.more
        return found if stop is None else [one for one in found if one.id <= stop]

    def subscribe(
        self, gt: int | None = None, topics: Sequence[str] = ()
    ) -> "FollowingSubscription":
        """All notifications with ids above `gt`, then those to come."""
        return FollowingSubscription(self, gt, topics)


class FollowingSubscription(Subscription[FollowedRecorder]):
    """Reads what is stored, waits for the bell, reads on. It has no thread of its own."""

    def __init__(
        self, recorder: FollowedRecorder, gt: int | None = None, topics: Sequence[str] = ()
    ) -> None:
        super().__init__(recorder=recorder, gt=gt, topics=topics)
        self._after = gt or 0
        self._ready: deque[Notification] = deque()
        self._wake = Event()
        self._bell = recorder.bell()
        self._bell.listen(self._wake)

    def stop(self) -> None:
        """End the iteration, whoever waits in it."""
        super().stop()
        self._bell.leave(self._wake)
        self._wake.set()

    def __next__(self) -> Notification:
        """The next notification; waits for it.

        Raises:
            StopIteration: it was stopped.
            OperationalError: the store stayed away; subscribe again after the last id seen.
        """
        attempts = 0  # while the store is away
        behind = 0  # while a replica has less than was heard of
        while not self._has_been_stopped:
            if self._ready:
                return self._ready.popleft()
            self._wake.clear()
            try:
                page = self._recorder.page(self._after, PAGE_NOTIFICATIONS, self._topics)
            except OperationalError:
                attempts += 1
                if attempts >= AWAY_ATTEMPTS_MAX:
                    raise
                self._wait(AWAY_WAIT_S)
                continue
            attempts = 0
            self._ready.extend(page.notifications)
            self._after = page.upto
            if page.more or self._ready:
                continue
            if self._after < self._bell.target and behind < BEHIND_ATTEMPTS_MAX:
                behind += 1
                self._wait(BEHIND_WAIT_S)
            else:
                self._wait(POLL_S)
        raise StopIteration

    def _wait(self, seconds: float) -> None:
        # Whoever stops sets the flag before the event, which may have been cleared in between.
        if not self._has_been_stopped:
            self._wake.wait(seconds)
