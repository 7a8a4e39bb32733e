"""What must be in a workspace before it is opened, and what runs on in it between calls."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from domain.content import BlobRef
from domain.errors import IntegrityViolated
from domain.ids import RunRef
from eventlog.port import Blobs
from services.sandbox.failures import SandboxUnavailable
from services.sandbox.placement import Held
from services.sandbox.room import Room
from services.sandbox.rooms import Whose
from services.sandbox.snapshots import restore
from services.sandbox.tools.processes import Processes
from services.sandbox.workspace import Workspace

logger = logging.getLogger(__name__)


class Residents:
    """Fills the port `rooms.Residents`."""

    def __init__(
        self,
        state: Path,
        blobs: Blobs,
        processes: Processes,
        *,
        held: Callable[[RunRef], Held | None],
        copy: Callable[[Whose, Path], Awaitable[None]],
    ) -> None:
        """`state` is where the place notes what it brought back; `copy` makes an isolated one."""
        self._state = state
        self._blobs = blobs
        self._processes = processes
        self._held = held
        self._copy = copy

    async def prepare(self, whose: Whose, path: Path, *, isolated: bool) -> None:
        """Bring files back that were lost elsewhere, once; copy those of an isolated run, once.

        Raises:
            Unavailable: they cannot be had now.
        """
        held = self._held(whose.ref)
        if held is not None and held.restored is not None:
            await self._bring_back(whose.ref, path, held.number, held.restored)
        elif isolated and not await asyncio.to_thread(path.exists):
            await self._copy(whose, path)

    async def _bring_back(self, ref: RunRef, path: Path, number: int, manifest: BlobRef) -> None:
        done = self._state / "restored" / ref.tenant / f"{path.name}.{number}"
        workspace = await asyncio.to_thread(_unless_done, done, path)
        if workspace is None:
            return
        with workspace:
            try:
                wanted = await restore.load(self._blobs, ref.tenant, manifest.digest)
                restored = await restore.restore(
                    self._blobs, ref.tenant, wanted, workspace.fileno()
                )
            except (OSError, IntegrityViolated) as error:
                message = f"the files of job {ref.job} cannot be brought back: {error}"
                raise SandboxUnavailable(message) from error
        logger.warning("the files of job %s were brought back: %s", ref.job, restored)
        await asyncio.to_thread(_note, done)

    def busy(self, room: Room) -> bool:
        """Whether something runs on in a room."""
        return self._processes.busy(room)

    async def leave(self, room: Room) -> None:
        """End what runs on."""
        await self._processes.leave(room)


def _unless_done(done: Path, path: Path) -> Workspace | None:
    """The workspace, made if it is missing; None when its files were brought back before."""
    if done.exists():
        return None
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Workspace(path)


def _note(done: Path) -> None:
    done.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    done.touch()
