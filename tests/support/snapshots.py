"""A worker's snapshot store and its workspaces, over BLOBS in memory. Not a test."""

import time
from dataclasses import dataclass, field
from pathlib import Path

from eventlog.memory.server import MemoryServer
from services.sandbox.snapshots.local import Captured, Look
from services.sandbox.snapshots.store import SnapshotStore
from services.sandbox.snapshots.tree import SnapshotRef
from services.sandbox.workspace import Workspace
from tests.support.trees import blobs_of

LATER_NS = 60 * 10**9


@dataclass
class Desk:
    """A worker's store and workspaces, over BLOBS that outlive it."""

    folder: Path
    server: MemoryServer
    now_ns: int = LATER_NS  # how far the clock of the store is ahead of the files
    open: list[Workspace] = field(default_factory=list[Workspace])

    def store(self, name: str = "worker") -> SnapshotStore:
        return SnapshotStore(
            self.folder / name,
            blobs_of(self.server),
            now_ns=lambda: time.time_ns() + self.now_ns,
        )

    def workspace(self, name: str) -> Workspace:
        root = self.folder / name
        root.mkdir(exist_ok=True)
        self.open.append(Workspace(root))
        return self.open[-1]


async def snapshot(
    store: SnapshotStore, workspace: Workspace, look: Look | None = None
) -> SnapshotRef:
    captured = await store.capture("acme", "job", workspace, look)
    assert isinstance(captured, Captured)
    return await store.publish(captured)
