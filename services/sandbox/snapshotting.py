"""Takes a room's snapshot for a checkpoint: still for a moment, published in the background."""

import logging
from collections.abc import Callable
from typing import Protocol

from domain.content import BlobRef
from domain.events import SnapshotTaken
from domain.ids import RunRef
from domain.work import SnapshotWork
from services.sandbox.due import Due
from services.sandbox.failures import SandboxUnavailable
from services.sandbox.room import Room
from services.sandbox.rooms import Rooms, Suite, Whose
from services.sandbox.snapshots.local import Captured, Look
from services.sandbox.snapshots.store import SnapshotStore
from services.sandbox.snapshots.tree import Problem

logger = logging.getLogger(__name__)


class HowToLook(Protocol):
    """Makes the way a capture looks, as secrets and limits are now."""

    def __call__(self, *, running: bool) -> Look:
        """`running`: processes live in the sandbox."""
        ...


MANIFEST_TYPE = "application/vnd.peritus.snapshot+json"


class Snapshotting:
    """Snapshots of the rooms of this worker."""

    def __init__(
        self,
        rooms: Rooms,
        store: SnapshotStore,
        look: HowToLook,
        busy: Callable[[Room], bool],
        due: Due,
    ) -> None:
        """`look` says what is left out; `busy`, whether something runs on in a room."""
        self._rooms = rooms
        self._store = store
        self._look = look
        self._busy = busy
        self._due = due

    async def take(self, ref: RunRef, work: SnapshotWork) -> SnapshotTaken:
        """Store the files of a run's workspace as of a checkpoint.

        Raises:
            Unavailable: not now.
        """
        try:
            return await self._take(ref, work)
        except SandboxUnavailable as error:  # what is so will be so: to try again helps nobody
            logger.warning("no snapshot of run %s: %s", ref.run, error)
            return _taken(ref, work, None, problem=str(error))

    async def _take(self, ref: RunRef, work: SnapshotWork) -> SnapshotTaken:
        whose = Whose(ref, work.expert, work.definition, work.parent)
        allowance = await self._rooms.allowance(whose)
        async with self._rooms.suite(whose, allowance) as suite:
            await self._store.prepare(ref.tenant, suite.room.key)
            try:
                captured, exact = await self._capture(ref, work, suite)
            except OSError as error:
                captured, exact = Problem("no_room", str(error)), False
            self._due.captured(ref, work.version)
            if isinstance(captured, Problem):
                logger.warning("no snapshot of run %s: %s", ref.run, captured.message)
                return _taken(ref, work, None, problem=captured.message)
            stored = await self._store.publish(captured)
            manifest = BlobRef(digest=stored.root, size=stored.size, media_type=MANIFEST_TYPE)
            return _taken(ref, work, manifest).model_copy(
                update={
                    "files": stored.files,
                    "bytes": stored.bytes,
                    "new_bytes": stored.new_bytes,
                    "skipped": stored.skipped,
                    "withheld": stored.withheld,
                    "exact": exact,
                }
            )

    async def _capture(
        self, ref: RunRef, work: SnapshotWork, suite: Suite
    ) -> tuple[Captured | Problem, bool]:
        """The capture, and whether it shows the files as they were at the checkpoint."""
        room, writers = suite.room, suite.writers
        asked = writers.ended
        async with self._rooms.still(suite) as alone:
            running = self._busy(room) or not alone
            look = self._look(running=running)
            captured = await self._store.capture(ref.tenant, room.key, room.workspace, look)
            return captured, not (running or writers.since(ref.run, work.step, asked))


def _taken(
    ref: RunRef, work: SnapshotWork, manifest: BlobRef | None, problem: str = ""
) -> SnapshotTaken:
    return SnapshotTaken(
        run=ref.run, step=work.step, version=work.version, manifest=manifest, problem=problem
    )
