"""Brings the files of a workspace back from a snapshot: once, by one process at a time, durably.

Not when a job changes its place or a workspace is cleared away: both are noted elsewhere.
"""

import asyncio
import fcntl
import logging
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from domain.content import BlobRef
from domain.errors import IntegrityViolated
from domain.ids import RunRef
from domain.sandbox import SandboxLimits
from services.sandbox.cleared import Cleared, Notes, write_durably
from services.sandbox.failures import SandboxUnavailable
from services.sandbox.opening import open_workspace
from services.sandbox.placement import Held
from services.sandbox.snapshots.restore import Restored
from services.sandbox.snapshots.store import SnapshotStore
from services.sandbox.syncing import Sync, sync_all

logger = logging.getLogger(__name__)

FOLDER = "restored"


class Returning:
    """The workspaces of one place."""

    def __init__(
        self, state: Path, store: SnapshotStore, limits: SandboxLimits, sync: Sync = sync_all
    ) -> None:
        """`state` is where the place notes what it brought back; `limits` are the operator's."""
        self._state = state
        self._store = store
        self._limits = limits
        self._sync = sync
        self._notes = Notes(state, sync)

    async def bring_back(self, ref: RunRef, path: Path, held: Held | None) -> str:
        """Have the files of a job in place that were lost elsewhere, or cleared away here.

        What the model is to know of that; "" when it knows, or nothing was done.

        Raises:
            SandboxUnavailable: they cannot be had now.
        """
        try:
            if await asyncio.to_thread(self._is_done, ref, path, held):
                return ""
            async with self._alone(ref, path):
                return await self._bring_back(ref, path, held)
        except (OSError, IntegrityViolated) as error:
            message = f"the files of job {ref.job} cannot be brought back: {error}"
            raise SandboxUnavailable(message) from error

    async def told(self, ref: RunRef) -> None:
        """The model knows that the files are back."""
        await asyncio.to_thread(self._notes.forget, ref)

    def _is_done(self, ref: RunRef, path: Path, held: Held | None) -> bool:
        return self._owed(ref, path, held) is None and self._notes.find(ref, path) is None

    def _owed(self, ref: RunRef, path: Path, held: Held | None) -> BlobRef | None:
        """What a change of place has yet to bring back."""
        if held is None or held.restored is None or self._done(ref, path, held).exists():
            return None
        return held.restored

    def _done(self, ref: RunRef, path: Path, held: Held) -> Path:
        return self._state / FOLDER / ref.tenant / f"{path.name}.{held.moved}"

    async def _bring_back(self, ref: RunRef, path: Path, held: Held | None) -> str:
        manifest = await asyncio.to_thread(self._owed, ref, path, held)
        if held is not None and manifest is not None:
            await self._restore(ref, path, manifest)
            await asyncio.to_thread(write_durably, self._done(ref, path, held), b"", self._sync)
            await asyncio.to_thread(self._notes.forget, ref)  # those files are newer
            return ""
        cleared = await asyncio.to_thread(self._notes.find, ref, path)
        if cleared is None:
            return ""
        if not cleared.back:
            cleared = await self._uncleared(ref, path, cleared)
        return cleared.news(ref.job)

    async def _uncleared(self, ref: RunRef, path: Path, cleared: Cleared) -> Cleared:
        missing = 0
        if cleared.manifest is not None:
            restored = await self._restore(ref, path, cleared.manifest)
            missing = len(restored.missing) + restored.skipped
        back = cleared.model_copy(update={"back": True, "missing": missing})
        await asyncio.to_thread(self._notes.write, ref, back)
        return back

    async def _restore(self, ref: RunRef, path: Path, manifest: BlobRef) -> Restored:
        """The files of a snapshot, on the disk when this returns: only then may it be noted."""
        await asyncio.to_thread(path.mkdir, mode=0o700, parents=True, exist_ok=True)
        with await open_workspace(path) as workspace:
            restored = await self._store.restore(
                ref.tenant, ref.job, manifest.digest, workspace, self._limits
            )
            await asyncio.to_thread(self._sync, workspace.fileno())
        logger.warning("the files of job %s were brought back: %s", ref.job, restored)
        return restored

    @asynccontextmanager
    async def _alone(self, ref: RunRef, path: Path) -> AsyncGenerator[None]:
        """No other process of this place brings files back into a workspace meanwhile.

        One that was stopped in the middle of it, and goes on, would write old files over new ones.

        Raises:
            SandboxUnavailable: another one is at it.
        """
        descriptor = await asyncio.to_thread(self._lock, ref, path)
        try:
            yield
        finally:
            os.close(descriptor)

    def _lock(self, ref: RunRef, path: Path) -> int:
        file = self._state / FOLDER / ref.tenant / f"{path.name}.lock"
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            message = (
                f"another worker is bringing the files of job {ref.job} back; if it is stopped, "
                "end it"
            )
            raise SandboxUnavailable(message) from None
        except OSError:
            os.close(descriptor)
            raise
        return descriptor
