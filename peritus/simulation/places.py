"""Places of simulated workspaces: journals and files that outlive a worker. Not a file system."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from domain.content import BlobRef
from domain.events import SnapshotTaken
from domain.ids import RunRef
from domain.work import SnapshotWork
from eventlog.memory import Client
from eventlog.port import Backbone
from services.sandbox.journal import Journal
from services.sandbox.keeper import JobKeeper
from services.sandbox.placement import Here, Placements
from services.worker.keeper import Keeper
from services.worker.reporter import Reporter

REFUSED = 0.01
"""How likely the disk does not take a line."""

STOPPED = 0.2
"""How likely the whole process is stopped right before a line, and goes on later."""


@dataclass(slots=True)
class Place:
    """A disk: what lies on it when nobody is there."""

    name: str
    journals: dict[str, bytes] = field(default_factory=dict[str, bytes])
    fences: dict[tuple[str, str], bytes] = field(default_factory=dict[tuple[str, str], bytes])
    files: dict[str, set[str]] = field(default_factory=dict[str, set[str]])  # keys by job


@dataclass(frozen=True, slots=True)
class Passage:
    """Where an append to a journal is, for whoever wants the process to die there."""

    client: Client
    reach: Callable[[bool], None] = lambda _: None
    stopped: Callable[[], bool] = lambda: False
    stop: Callable[[], None] = lambda: None

    async def goes_on(self) -> None:
        """Wait while the process is stopped: whoever is cut off may be, and not know it later."""
        while self.stopped():  # noqa: ASYNC110 - simulated seconds
            await asyncio.sleep(0.5)

    def at(self, *, after: bool) -> None:
        """Before or after the line is on the disk.

        Raises:
            CancelledError: the process is dead; nothing of it goes on.
        """
        self.reach(after)
        self.alive()

    def alive(self) -> None:
        """Pass only while the process lives.

        Raises:
            CancelledError: it does not; nothing of it goes on.
        """
        if self.client.dead:
            raise asyncio.CancelledError


class SimJournals:
    """Fills the port `JournalStore` for one life of a worker; an append takes a while."""

    def __init__(self, place: Place, dice: random.Random, passage: Passage) -> None:
        self._place = place
        self._dice = dice
        self._passage = passage

    async def append(self, epoch: str, data: bytes) -> None:
        """Add to the journal of an epoch; when the process dies, any part of it may be there.

        Raises:
            OSError: the disk does not take it.
        """
        self._passage.at(after=False)
        if self._dice.random() < STOPPED:
            self._passage.stop()
        await self._passage.goes_on()
        if self._dice.random() < REFUSED:
            raise OSError(28, "simulated: no space left")
        await asyncio.sleep(self._dice.choice((0.0, 0.001, 0.2)))
        if self._passage.client.dead:
            data = data[: self._dice.choice((0, len(data) // 2, len(data)))]
        self._place.journals[epoch] = self._place.journals.get(epoch, b"") + data
        self._passage.at(after=True)
        await asyncio.sleep(self._dice.choice((0.0, 0.001)))
        self._passage.alive()

    async def read(self, epoch: str) -> bytes | None:
        """The journal of an epoch."""
        await asyncio.sleep(0)
        return self._place.journals.get(epoch)

    async def fence(self, ref: RunRef, data: bytes) -> None:
        """Add to the fence of a run's job.

        Raises:
            OSError: the disk does not take it.
        """
        self._passage.alive()
        if self._dice.random() < REFUSED:
            raise OSError(28, "simulated: no space left")
        job = (ref.tenant, ref.job)
        self._place.fences[job] = self._place.fences.get(job, b"") + data
        await asyncio.sleep(self._dice.choice((0.0, 0.001)))
        self._passage.alive()

    async def fences(self, ref: RunRef) -> bytes:
        """The fence of a run's job."""
        await asyncio.sleep(0)
        self._passage.alive()
        return self._place.fences.get((ref.tenant, ref.job), b"")


@dataclass(frozen=True, slots=True)
class Kept:
    """What one life of a worker needs to keep jobs at a place."""

    place: Place
    epoch: str
    dice: random.Random
    passage: Passage
    backbone: Backbone

    def keeper(self, reporter: Reporter) -> Keeper:
        """The real keeper, over simulated disks; one for each start of the worker."""
        journals = SimJournals(self.place, self.dice, self.passage)
        journal = Journal(journals, self.place.name, self.epoch)
        placements = Placements(self._here, reporter, journal, lambda _: "own")
        return JobKeeper(placements, journal, reporter, self._take)

    async def _here(self) -> Here:
        self.passage.alive()
        return Here(self.place.name, self.epoch, "simulated", "{}", snapshots=True)

    async def _take(self, ref: RunRef, work: SnapshotWork) -> SnapshotTaken | None:
        """Store the names of all files as a manifest."""
        files = sorted(self.place.files.get(ref.job, ()))
        await asyncio.sleep(self.dice.choice((0.0, 0.5)))
        self.passage.alive()
        data = "\n".join((ref.job, *files)).encode()
        digest = await self.backbone.blobs.put(ref.tenant, data)
        return SnapshotTaken(
            run=ref.run,
            step=work.step,
            version=work.version,
            manifest=BlobRef(digest=digest, size=len(data)),
            files=len(files),
        )
