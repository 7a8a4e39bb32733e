"""Snapshots of this worker's rooms: captured into the local store, published to BLOBS, restored.

Three steps, because only the first needs the sandbox frozen: `capture` looks at the workspace and
copies what is new; `publish` uploads it and names it; whoever asked then records the reference. A
crash between any two loses nothing but work: what is not published is captured again.
"""

import asyncio
import hashlib
import threading
import time
from collections.abc import Callable
from pathlib import Path

from domain.errors import Unavailable
from domain.sandbox import SandboxLimits
from eventlog.port import Blobs
from services.sandbox.snapshots.local import Captured, Draft, LocalRoom, Look
from services.sandbox.snapshots.restore import Restored, load, restore
from services.sandbox.snapshots.spread import spread
from services.sandbox.snapshots.tree import Problem, SnapshotRef
from services.sandbox.workspace import Workspace

UPLOADS_AT_ONCE = 4


class SnapshotLost(Unavailable):
    """What was captured is not in the local store any more: capture again."""


class SnapshotStore:
    """The local store of one worker, in a folder of its own, and its way to BLOBS."""

    def __init__(
        self, folder: Path, blobs: Blobs, *, now_ns: Callable[[], int] = time.time_ns
    ) -> None:
        """`now_ns` is the clock that stamps files, in nanoseconds."""
        self._folder = folder
        self._blobs = blobs
        self._now_ns = now_ns
        self._rooms: dict[tuple[str, str], LocalRoom] = {}
        self._publishing: dict[tuple[str, str], asyncio.Lock] = {}
        self._opening = threading.Lock()

    async def prepare(self, tenant: str, room: str) -> None:
        """Read what is known of a room, so that a capture need not while all is frozen."""
        await asyncio.to_thread(self._room, tenant, room)

    async def capture(
        self, tenant: str, room: str, workspace: Workspace, look: Look | None = None
    ) -> Captured | Problem:
        """Look at a workspace and copy what is new; to be called while nothing changes it.

        What changes nevertheless does no harm: the next capture reads it again.

        Raises:
            OSError: the workspace cannot be read at all.
        """

        def work() -> Captured | Problem:
            local = self._room(tenant, room)
            return local.capture(tenant, room, workspace.fileno(), look or Look(), self._now_ns())

        return await asyncio.to_thread(work)

    async def publish(self, captured: Captured) -> SnapshotRef:
        """Put a capture into BLOBS, as far as it is not there. Twice is fine.

        Captures of a room are published in their order, or not at all.

        Raises:
            Unavailable: BLOBS is away; publish again later.
            SnapshotLost: its packs are gone; capture again.
        """
        name = (captured.tenant, captured.room)
        local = await asyncio.to_thread(self._room, *name)
        async with self._publishing.setdefault(name, asyncio.Lock()):
            draft = await asyncio.to_thread(local.draft, captured)
            new_bytes = await self._upload(local, captured, draft)
            root = await self._blobs.put(captured.tenant, draft.root)
            await asyncio.to_thread(local.published, captured, draft, new_bytes)
        scan = captured.scan
        return SnapshotRef(
            root=root,
            size=len(draft.root),
            tree=draft.tree,
            files=scan.files,
            bytes=scan.bytes,
            new_bytes=new_bytes,
            skipped=scan.skipped,
            withheld=scan.withheld,
        )

    async def _upload(self, local: LocalRoom, captured: Captured, draft: Draft) -> int:
        """Packs first, then the shards that name them; how many bytes it was."""
        sizes = [len(draft.root), *map(len, draft.fresh.values())]

        async def pack(name: str) -> None:
            try:
                data = await asyncio.to_thread((local.packs / name).read_bytes)
            except OSError as error:
                await asyncio.to_thread(local.forget)
                msg = f"a pack of the snapshot cannot be read any more: {error.strerror}"
                raise SnapshotLost(msg) from error
            if await self._blobs.put(captured.tenant, data) != name:
                await asyncio.to_thread(local.forget)
                msg = "a pack of the snapshot is not what was written"
                raise SnapshotLost(msg)
            sizes.append(len(data))

        async def shard(data: bytes) -> None:
            await self._blobs.put(captured.tenant, data)

        await spread(sorted(draft.packs), pack, at_once=UPLOADS_AT_ONCE)
        await spread(draft.fresh.values(), shard, at_once=UPLOADS_AT_ONCE)
        return sum(sizes)

    async def restore(
        self,
        tenant: str,
        room: str,
        root: str,
        workspace: Workspace,
        limits: SandboxLimits | None = None,
    ) -> Restored:
        """Make a workspace equal to a snapshot; the next capture then uploads only what changed.

        Raises:
            Unavailable: BLOBS is away; what was written so far stays, restore again.
            IntegrityViolated: the snapshot is not there or not whole; before anything is written
                if its manifest says so.
            OSError: the workspace cannot be read or written.
        """
        manifest = await load(self._blobs, tenant, root, limits)
        local = await asyncio.to_thread(self._room, tenant, room)
        known = local.known
        done = await restore(self._blobs, tenant, manifest, workspace.fileno(), known)
        local.learn(manifest, self._now_ns())
        return done

    async def close(self) -> None:
        """Write down what is known of every room, so that the next life reads less."""

        def save() -> None:
            for local in self._rooms.values():
                local.save()

        await asyncio.to_thread(save)

    async def release(self, tenant: str, room: str) -> None:
        """Keep a room in its file only; it is read again when it is needed.

        What was captured and not published is captured again then.
        """
        local = self._rooms.pop((tenant, room), None)
        if local is not None:
            await asyncio.to_thread(local.save)

    async def forget(self, tenant: str, room: str) -> None:
        """The room is closed for good: nothing of it stays in the local store."""
        local = await asyncio.to_thread(self._room, tenant, room)
        self._publishing.pop((tenant, room), None)
        self._rooms.pop((tenant, room), None)
        await asyncio.to_thread(local.drop)

    def _room(self, tenant: str, room: str) -> LocalRoom:
        with self._opening:
            found = self._rooms.get((tenant, room))
            if found is None:
                name = hashlib.sha256(f"{tenant}\0{room}".encode()).hexdigest()[:32]
                found = self._rooms[tenant, room] = LocalRoom(self._folder / name)
            return found
