"""The files of a run's workspace: as they are on this machine, or as of a checkpoint."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from domain.envelope import decode
from domain.errors import Rejected
from domain.events import SandboxPlaced, SnapshotTaken
from domain.ids import RunRef
from eventlog.port import Backbone
from peritus.project import Workspaces
from services.sandbox.failures import ToolError
from services.sandbox.snapshots.packs import OnlyDigests
from services.sandbox.snapshots.restore import load, read
from services.sandbox.snapshots.scan import OverLimit, Scanner
from services.sandbox.snapshots.tree import Entry, Tree, shown
from services.sandbox.workspace import Workspace

FILE_BYTES_MAX = 1024 * 1024 * 1024
"""The most of one file that is read, in bytes."""


@dataclass(frozen=True, slots=True)
class Version:
    """The files as they were or are at some time."""

    label: str
    tree: Tree
    content: Callable[[bytes], Awaitable[bytes | None]]

    def entry(self, path: str) -> Entry:
        """What is at a path.

        Raises:
            Rejected: nothing is.
        """
        found = self.tree.get(_key(path))
        if found is None:
            message = f"there is no {path!r} in {self.label}; see `peritus files RUN ls`"
            raise Rejected("no_such_file", message)
        return found

    def below(self, path: str) -> list[Entry]:
        """Everything in a folder and below it; "" is the workspace."""
        if not (prefix := _key(path)):
            return list(self.tree.values())
        if self.entry(path).kind != "folder":
            return [self.entry(path)]
        return [entry for name, entry in self.tree.items() if name.startswith(prefix + b"/")]

    async def read(self, path: str) -> bytes:
        """The content of a file.

        Raises:
            Rejected: it is no file, or its content is not there.
        """
        entry = self.entry(path)
        data = await self.content(entry.path) if entry.kind == "file" else None
        if data is None:
            why = entry.missing or f"it is a {entry.kind}"
            raise Rejected("no_content", f"{shown(entry.path)!r} cannot be read: {why}")
        return data


@dataclass(frozen=True, slots=True)
class Files:
    """The workspace of one run."""

    backbone: Backbone
    workspaces: Workspaces
    ref: RunRef

    @asynccontextmanager
    async def version(self, step: int | None) -> AsyncGenerator[Version]:
        """The files as of the checkpoint of a step; None: as they are here, or the newest.

        Raises:
            Rejected: there is no such snapshot, or no files at all.
            Unavailable: the store is away.
        """
        placed, taken = await self._history()
        folder = self._folder(placed)
        if step is None and folder is not None:
            with folder as workspace:
                yield await asyncio.to_thread(_live, workspace)
            return
        yield await self._stored(_chosen(taken, step))

    async def _stored(self, taken: SnapshotTaken) -> Version:
        if taken.manifest is None:
            message = f"step {taken.step} has no snapshot: {taken.problem}"
            raise Rejected("no_snapshot", message)
        blobs, tenant = self.backbone.blobs, self.ref.tenant
        manifest = await load(blobs, tenant, taken.manifest.digest)

        async def content(path: bytes) -> bytes | None:
            return await read(blobs, tenant, manifest, path, FILE_BYTES_MAX)

        return Version(f"step {taken.step}", manifest.tree, content)

    def _folder(self, placed: SandboxPlaced | None) -> Workspace | None:
        """The workspace on this machine, if it is here."""
        if placed is not None and placed.workspace == "isolated":
            path = self.workspaces.isolated(self.ref)
        else:
            path = self.workspaces.known(self.ref) or self.workspaces.own(self.ref)
        return Workspace(path) if path.is_dir() else None

    async def _history(self) -> tuple[SandboxPlaced | None, list[SnapshotTaken]]:
        placed: SandboxPlaced | None = None
        taken: list[SnapshotTaken] = []
        for item in await self.backbone.log.load(self.ref):
            for event in decode(item.data).events:
                if isinstance(event, SandboxPlaced):
                    placed = event
                elif isinstance(event, SnapshotTaken) and event.run == self.ref.run:
                    taken.append(event)
        return placed, taken


def _chosen(taken: list[SnapshotTaken], step: int | None) -> SnapshotTaken:
    if not taken:
        message = "the workspace is not on this machine, and no snapshot of it was taken"
        raise Rejected("no_snapshot", message)
    if step is None:
        return taken[-1]
    found = [one for one in taken if one.step == step]
    if not found:
        known = ", ".join(str(one.step) for one in taken)
        message = f"step {step} has no snapshot; these steps have: {known}"
        raise Rejected("no_snapshot", message)
    return found[-1]


def _live(workspace: Workspace) -> Version:
    try:
        scan = Scanner(OnlyDigests()).scan(workspace.fileno())
    except OverLimit as over:
        raise Rejected("too_large", over.problem.message) from None

    async def content(path: bytes) -> bytes | None:
        try:
            return await asyncio.to_thread(workspace.read, path.decode(), FILE_BYTES_MAX)
        except (ToolError, UnicodeDecodeError) as error:
            raise Rejected("no_content", str(error)) from None

    tree = {path: known.entry for path, known in scan.known.items()}
    return Version("the workspace as it is", tree, content)


def _key(path: str) -> bytes:
    parts = [part for part in path.split("/") if part not in {"", "."}]
    return "/".join(parts).encode("utf-8", "surrogateescape")
