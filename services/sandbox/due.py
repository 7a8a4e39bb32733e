"""Snapshots that were begun and have not captured their files yet: who writes next waits.

Not the gate of a room, which keeps writers out while files are read. Between the beginning of a
snapshot and its turn at the gate lie awaits, in which the next step could get in first.
"""

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from domain.ids import RunRef


@dataclass(eq=False)
class _Owed:
    """One snapshot on its way."""

    ref: RunRef
    version: int
    captured: asyncio.Event = field(default_factory=asyncio.Event)


class Due:
    """The snapshots of this worker that are on their way, by job."""

    def __init__(self, apart: Callable[[RunRef], bool]) -> None:
        """`apart`: whether a run has a workspace of its own, as far as is known by now."""
        self._apart = apart
        self._owed: dict[tuple[str, str], list[_Owed]] = {}
        self.waiting = 0
        """How many calls wait for a snapshot now."""

    @contextmanager
    def begun(self, ref: RunRef, version: int) -> Generator[None]:
        """A snapshot is on its way until it is captured, or the context ends, however it does.

        To be entered before anything is awaited: work begins here in the order in which the log
        asked for it, so that a call of the next step comes later.
        """
        owed = _Owed(ref, version)
        job = self._owed.setdefault((ref.tenant, ref.job), [])
        job.append(owed)
        try:
            yield
        finally:
            self._over(owed)

    def captured(self, ref: RunRef, version: int) -> None:
        """The files are as if in a safe place: who writes next may."""
        for owed in tuple(self._owed.get((ref.tenant, ref.job), ())):
            if (owed.ref, owed.version) == (ref, version):
                self._over(owed)

    async def over(self, ref: RunRef) -> None:
        """Wait for the snapshots of a run's workspace that are on their way now.

        Not for those that begin meanwhile: a stream of them must not keep a call out.
        """
        for owed in tuple(self._owed.get((ref.tenant, ref.job), ())):
            if self._shares(owed.ref, ref):
                self.waiting += 1
                try:
                    await owed.captured.wait()
                finally:
                    self.waiting -= 1

    def _shares(self, one: RunRef, other: RunRef) -> bool:
        return one == other or not (self._apart(one) or self._apart(other))

    def _over(self, owed: _Owed) -> None:
        owed.captured.set()
        job = self._owed.get((owed.ref.tenant, owed.ref.job), [])
        if owed in job:
            job.remove(owed)
        if not job:
            self._owed.pop((owed.ref.tenant, owed.ref.job), None)
