"""The hand-over from the log to the hub, in every order of small worlds; and bugs it finds (C9)."""

import asyncio

import pytest

from domain.errors import IntegrityViolated, Unavailable
from gateway.streams.bounds import PAGE
from gateway.streams.entries import Entry
from gateway.streams.places import Place
from gateway.streams.viewer import Viewer
from tests.unit.streams.worlds import first_failure, worlds

EVERY_WORLD = list(worlds())


def test_a_viewer_tells_every_event_once_and_in_order_whatever_is_appended_when() -> None:
    assert len(EVERY_WORLD) > 1_000
    assert first_failure(EVERY_WORLD, Viewer) is None


class LooksAfterReading(Viewer):
    """Believes that a page has what the hub had when it came, and not when it was asked for."""

    async def _read_on(self) -> None:
        tenant, job, run = self.feed.pattern
        page = await self._hub.log.read(
            after_seq=self._seq, tenant=tenant, job=job, run=run, limit=PAGE
        )
        for entry in [self._hub.entry(stored) for stored in page.envelopes]:
            await self._tell(entry)
        if not page.more:
            self._seq = max(self._seq, self._hub.ring.head)


class JoinsLater(Viewer):
    """Lets something happen between asking the ring and joining the hub."""

    async def _catch_up(self) -> None:
        hub = self._hub
        found = hub.ring.after(self._seq, self.feed, hub.bounds.inbox_envelopes)
        if found is None:
            await self._read_on()
            return
        await asyncio.sleep(0)
        self._join(found)


class TellsTwice(Viewer):
    """Does not look whether an envelope was told already, when it joins."""

    def _join(self, found: list[Entry]) -> None:
        self._seq = max(0, self._seq - 1)
        super()._join(self._hub.ring.after(self._seq, self.feed, 256) or found)


class ForgetsTheIndex(Viewer):
    """Begins with the envelope of its cursor, and not inside it."""

    def _begin(self, place: Place) -> None:
        super()._begin(place)
        self._skip = 0


class DropsWhatDoesNotFit(Viewer):
    """Goes on as if nothing was when its client was too slow."""

    def hear(self, entry: Entry) -> None:
        if len(self._inbox) < self._hub.bounds.inbox_envelopes:
            super().hear(entry)


class StaysLevel(Viewer):
    """Empties its inbox when it falls behind, and does not read the log again."""

    def _fall_behind(self) -> None:
        self._inbox.clear()


class LosesWhatItTook(Viewer):
    """Does not read again what it had taken when the log was away for a moment."""

    async def _trouble(self, error: Unavailable | IntegrityViolated) -> None:
        level, inbox = self._level, list(self._inbox)
        await super()._trouble(error)
        self._level = level
        self._inbox.extend(inbox)


@pytest.mark.parametrize(
    "bug",
    [
        LooksAfterReading,
        JoinsLater,
        TellsTwice,
        ForgetsTheIndex,
        DropsWhatDoesNotFit,
        StaysLevel,
        LosesWhatItTook,
    ],
)
def test_a_viewer_with_a_planted_bug_is_caught(bug: type[Viewer]) -> None:
    assert first_failure(EVERY_WORLD, bug) is not None
