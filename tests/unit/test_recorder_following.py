"""Subscriptions of recorders over a log that is behind, away or stopped. Not a real log."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest
from eventsourcing.persistence import Notification, OperationalError, StoredEvent

from eventlog.recorders import following
from eventlog.recorders.following import Bell, FollowedRecorder, Page
from tests.integration.recorder_world import Followed


class Pages(FollowedRecorder):
    """A recorder of pages that are given, or raised, one after the other; then of empty ones."""

    def __init__(self, *pages: Page | Exception) -> None:
        self.pages = list(pages)
        self.rung = Bell()
        self.asked: list[int] = []

    def page(self, after: int, limit: int, topics: Sequence[str] = ()) -> Page:
        del limit, topics
        self.asked.append(after)
        if not self.pages:
            return Page([], after, more=False)
        page = self.pages.pop(0)
        if isinstance(page, Exception):
            raise page
        return page

    def bell(self) -> Bell:
        return self.rung

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> None:
        raise NotImplementedError

    def select_events(self, originator_id: UUID | str, **kwargs: Any) -> Sequence[StoredEvent]:
        raise NotImplementedError

    def max_notification_id(self) -> int | None:
        raise NotImplementedError


EMPTY = Page([], 0, more=False)
AWAY = OperationalError("away")


def one(number: int) -> Page:
    return Page([Notification("a", number, "t", b"", number)], number, more=False)


@pytest.fixture(autouse=True)
def no_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for the next poll waits longer than any test."""
    monkeypatch.setattr(following, "POLL_S", 3600.0)
    monkeypatch.setattr(following, "AWAY_WAIT_S", 0.001)
    monkeypatch.setattr(following, "BEHIND_WAIT_S", 0.001)


def test_replica_that_is_behind_what_was_heard_is_asked_again() -> None:
    recorder = Pages(EMPTY, EMPTY, EMPTY, EMPTY, one(1))
    recorder.rung.ring(1)
    followed = Followed(recorder.subscribe())
    assert [found.id for found in followed.take(1)] == [1]
    assert followed.end() is None


def test_log_that_is_away_for_a_while_is_tried_again_and_one_that_stays_away_is_told() -> None:
    recorder = Pages(AWAY, AWAY, one(1))
    followed = Followed(recorder.subscribe())
    assert [found.id for found in followed.take(1)] == [1]
    assert followed.end() is None
    again = Followed(Pages(*[AWAY] * following.AWAY_ATTEMPTS_MAX).subscribe())
    assert again.died() is AWAY


def test_a_stop_wakes_whoever_waits() -> None:
    recorder = Pages()
    assert Followed(recorder.subscribe(gt=7)).end() is None
    assert set(recorder.asked) <= {7}


def test_pages_that_hold_nothing_are_passed_over() -> None:
    recorder = Pages(Page([], 5, more=True), Page([], 9, more=True), one(12))
    assert [found.id for found in recorder.select_notifications(1, 10)] == [12]
    assert recorder.asked == [0, 5, 9]
