"""What must be in a workspace before it is opened, and what runs on in it between calls."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from domain.content import BlobRef
from domain.errors import IntegrityViolated
from domain.ids import RunRef
from services.sandbox.failures import SandboxUnavailable
from services.sandbox.opening import open_workspace
from services.sandbox.placement import Held, root_of
from services.sandbox.room import Room
from services.sandbox.snapshots.store import SnapshotStore
from services.sandbox.tools.processes import Processes
from services.sandbox.workspace import Workspace

logger = logging.getLogger(__name__)


Copy = Callable[[RunRef, Workspace, Path], Awaitable[None]]
"""Makes the workspace of a run that works apart out of its caller's."""


class Residents:
    """Fills the port `rooms.Residents`."""

    def __init__(
        self,
        state: Path,
        store: SnapshotStore,
        processes: Processes,
        *,
        held: Callable[[RunRef], Held | None],
        copy: Copy,
        over: Callable[[RunRef], Awaitable[bool]],
    ) -> None:
        """`state` is where the place notes what it brought back; `over`: a run cannot go on."""
        self._state = state
        self._store = store
        self._processes = processes
        self._held = held
        self._copy = copy
        self._over = over

    async def prepare(self, ref: RunRef, path: Path) -> None:
        """Bring the files of a job back that were lost elsewhere, once.

        The root knows from which snapshot, whichever run of the job comes first; a root that was
        named by its starter knows for itself.

        Raises:
            Unavailable: they cannot be had now.
        """
        held = self._held(root_of(ref)) or self._held(ref)
        if held is not None and held.restored is not None:
            await self._bring_back(ref, path, held.moved, held.restored)

    async def copy(self, ref: RunRef, source: Workspace, path: Path) -> None:
        """Make the workspace of a run that works apart.

        Raises:
            Unavailable: it cannot be copied now.
        """
        await self._copy(ref, source, path)

    async def _bring_back(self, ref: RunRef, path: Path, moved: int, manifest: BlobRef) -> None:
        done = self._state / "restored" / ref.tenant / f"{path.name}.{moved}"
        if await asyncio.to_thread(done.exists):
            return
        await asyncio.to_thread(path.mkdir, mode=0o700, parents=True, exist_ok=True)
        with await open_workspace(path) as workspace:
            try:
                restored = await self._store.restore(
                    ref.tenant, ref.job, manifest.digest, workspace
                )
            except (OSError, IntegrityViolated) as error:
                message = f"the files of job {ref.job} cannot be brought back: {error}"
                raise SandboxUnavailable(message) from error
        logger.warning("the files of job %s were brought back: %s", ref.job, restored)
        await asyncio.to_thread(_note, done)

    def busy(self, room: Room) -> bool:
        """Whether something runs on in a room."""
        return self._processes.busy(room)

    async def sort_out(self, tenant: str, room: Room) -> None:
        """End what runs on of runs that cannot go on (C6).

        Raises:
            Unavailable: nobody can say which those are.
        """
        job = room.key.partition(".")[0]
        for run in self._processes.runs(room):
            if await self._over(RunRef(tenant, job, run)):
                await self._processes.leave(room, run)

    async def leave(self, tenant: str, room: Room) -> None:
        """End what runs on, and keep what is known of its snapshots on the disk only."""
        await self._processes.leave(room)
        await self._store.release(tenant, room.key)


def _note(done: Path) -> None:
    done.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    done.touch()
