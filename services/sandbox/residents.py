"""What must be in a workspace before it is opened, and what runs on in it between calls."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from domain.ids import RunRef
from services.sandbox.placement import Held, root_of
from services.sandbox.returning import Returning
from services.sandbox.room import Room
from services.sandbox.sites import end_site
from services.sandbox.snapshots.store import SnapshotStore
from services.sandbox.tools.processes import Processes
from services.sandbox.workspace import Workspace
from services.worker.skills import SkillHost

Copy = Callable[[RunRef, Workspace, Path], Awaitable[None]]
"""Makes the workspace of a run that works apart out of its caller's."""


class Residents:
    """Fills the port `rooms.Residents`."""

    def __init__(
        self,
        returning: Returning,
        store: SnapshotStore,
        processes: Processes,
        *,
        held: Callable[[RunRef], Held | None],
        copy: Copy,
        over: Callable[[RunRef], Awaitable[bool]],
        host: SkillHost | None = None,
    ) -> None:
        """`over`: whether a run cannot go on. `host` speaks with the servers of skills."""
        self._host = host
        self._returning = returning
        self._store = store
        self._processes = processes
        self._held = held
        self._copy = copy
        self._over = over

    async def prepare(self, ref: RunRef, path: Path) -> str:
        """Bring the files of a job back that were lost elsewhere or cleared away here, once.

        The root knows from which snapshot, whichever run of the job comes first; a root that was
        named by its starter knows for itself. What its model is to know of them, or "".

        Raises:
            Unavailable: they cannot be had now.
        """
        held = self._held(root_of(ref)) or self._held(ref)
        return await self._returning.bring_back(ref, path, held)

    async def told(self, ref: RunRef) -> None:
        """The model of a job's root run knows of its files."""
        await self._returning.told(ref)

    async def copy(self, ref: RunRef, source: Workspace, path: Path) -> None:
        """Make the workspace of a run that works apart.

        Raises:
            Unavailable: it cannot be copied now.
        """
        await self._copy(ref, source, path)

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
        while room.sites and self._host is not None:
            await end_site(self._host, tenant, room.sites.pop())
        await self._processes.leave(room)
        await self._store.release(tenant, room.key)
