"""The files of a run's workspace: as they are here, or as of a checkpoint. Never changes them."""

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from domain.envelope import decode
from domain.errors import Rejected, Unavailable
from domain.events import RunForked, SandboxPlaced, SnapshotTaken, StepEnded
from domain.ids import RunRef
from eventlog.port import Backbone, Blobs, EventLog
from peritus.places import known_place
from peritus.project import Workspaces
from services.sandbox.paths import MOUNT
from services.sandbox.snapshots.apply import apply
from services.sandbox.snapshots.contents import BlobContents, Contents, FolderContents, Part, Take
from services.sandbox.snapshots.diff import TEXT_BYTES_MAX, Change, text_diff
from services.sandbox.snapshots.packs import OnlyDigests
from services.sandbox.snapshots.restore import UNLIMITED, exact_steps, load
from services.sandbox.snapshots.scan import OverLimit, Scanner
from services.sandbox.snapshots.tree import Entry, Places, Tree, in_walk_order, shown

FOLDER_FLAGS = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC

Hear = Callable[[bytes], Awaitable[None]]
"""Takes a file's content, piece by piece."""


class Copied(NamedTuple):
    """What was put somewhere; `left_out` names what has no content, and why."""

    entries: int
    left_out: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Version:
    """The files as they were or are at some time."""

    label: str
    tree: Tree
    contents: Contents

    def find(self, path: str) -> Entry | None:
        """What is at a path, also when it is spelled as `shown` shows it."""
        found = self.tree.get(key_of(path))
        if found is None and "\\" in path:
            found = next((one for one in self.tree.values() if shown(one.path) == path), None)
        return found

    def entry(self, path: str) -> Entry:
        """What is at a path.

        Raises:
            Rejected: nothing is.
        """
        found = self.find(path)
        if found is None:
            message = f"there is no {path!r} in {self.label}; see `peritus files RUN ls`"
            raise Rejected("no_such_file", message)
        return found

    def below(self, path: str) -> list[Entry]:
        """Everything in a folder and below it, or the one file; "" is the workspace.

        Raises:
            Rejected: nothing is there.
        """
        if not key_of(path):
            return list(self.tree.values())
        top = self.entry(path)
        start = top.path + b"/"
        inside = [entry for name, entry in self.tree.items() if name.startswith(start)]
        return inside if top.kind == "folder" else [top]

    async def read(self, path: str, hear: Hear) -> None:
        """The content of a file.

        Raises:
            Rejected: it is no file, or its content is not there.
            Unavailable: the store is away.
            IntegrityViolated: the content is gone, or not what was stored.
        """
        entry = readable(self.entry(path))

        async def take(parts: Sequence[Part]) -> None:
            for part in parts:
                await hear(bytes(part.data))

        await self.contents.deliver([entry], take)

    async def copy(self, path: str, to: Path) -> Copied:
        """Put a file or a folder into a folder, or a file under a new name; nothing is replaced.

        Raises:
            Rejected: nothing is at the path, or something is where it would go.
            Unavailable: the store is away, or the folder cannot be written.
            IntegrityViolated: a content is gone, or is not what it was a moment ago.
        """
        source, folder = self._source(path, to)
        wanted = in_walk_order(entry._replace(path=name) for name, entry in source.items())
        for name in wanted:
            place = folder / os.fsdecode(name)
            if b"/" not in name and (place.is_symlink() or place.exists()):
                raise Rejected("exists", f"{str(place)!r} is there already; nothing was written")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(folder, FOLDER_FLAGS)
            try:
                contents = _Renamed(self.contents, source, wanted)
                await apply(exact_steps({}, wanted), contents, descriptor, whole=False)
            finally:
                os.close(descriptor)
        except OSError as error:
            message = f"{str(folder)!r} cannot be written: {error.strerror}"
            raise Unavailable(message) from error
        missing = [(shown(one.path), one.missing) for one in source.values() if one.missing]
        return Copied(len(source) - len(missing), tuple(missing))

    def _source(self, path: str, to: Path) -> tuple[dict[bytes, Entry], Path]:
        """What is to be copied, by its name there, and the folder it goes into."""
        if not key_of(path):
            return dict(self.tree), to
        top = self.entry(path)
        folder, name = to, top.path.rpartition(b"/")[2]
        if top.kind != "folder":
            if top.kind == "file":
                readable(top)
            if not to.is_dir():
                folder, name = to.parent, os.fsencode(to.name)
            return {name: top}, folder
        cut = len(top.path)
        return {name + one.path[cut:]: one for one in (top, *self.below(path))}, folder


@dataclass(frozen=True, slots=True)
class Snapshot(Version):
    """The files of a snapshot: where the pieces of their contents are is known."""

    run: str
    step: int
    name: str  # equal for equal trees
    places: Places

    @classmethod
    async def load(cls, blobs: Blobs, tenant: str, taken: SnapshotTaken) -> "Snapshot":
        """That snapshot.

        Raises:
            Rejected: it could not be taken.
            Unavailable: the store is away.
            IntegrityViolated: what is stored is not what was written.
        """
        if taken.manifest is None:
            message = f"step {taken.step} has no snapshot: {taken.problem}"
            raise Rejected("no_snapshot", message)
        manifest = await load(blobs, tenant, taken.manifest.digest, UNLIMITED)
        inexact = "" if taken.exact else " (something may have written meanwhile)"
        return cls(
            f"the snapshot of step {taken.step}{inexact}",
            manifest.tree,
            BlobContents(blobs, tenant, manifest.places),
            taken.run,
            taken.step,
            manifest.digest,
            manifest.places,
        )


class _Renamed:
    """Content for entries that have another path where they are written."""

    def __init__(self, inner: Contents, source: Mapping[bytes, Entry], wanted: Tree) -> None:
        self._inner = inner
        self._source = source
        self._wanted = {source[path].path: entry for path, entry in wanted.items()}

    async def deliver(self, entries: Sequence[Entry], take: Take) -> None:
        async def renamed(parts: Sequence[Part]) -> None:
            await take([part._replace(entry=self._wanted[part.entry.path]) for part in parts])

        await self._inner.deliver([self._source[entry.path] for entry in entries], renamed)


@dataclass
class History:
    """What a run's log says of its workspace. `newest`: in the job, also one of a delegate."""

    placed: SandboxPlaced | None = None
    taken: list[SnapshotTaken] = field(default_factory=list[SnapshotTaken])
    steps: int = 0
    newest: SnapshotTaken | None = None

    def chosen(self, step: int | None) -> SnapshotTaken:
        """The newest snapshot up to a step, or of all: a step that changes nothing has none.

        Raises:
            Rejected: there is none, or no such step.
        """
        if step is not None and step > self.steps:
            message = f"step {step} has not ended; the last one that has is {self.steps}"
            raise Rejected("no_snapshot", message)
        found = [one for one in self.taken if step is None or one.step <= step]
        if found:
            return found[-1]
        if step is None:
            message = "the workspace is not on this machine, and no snapshot of it was taken"
        else:
            known = ", ".join(str(one.step) for one in self.taken) or "none"
            message = f"no snapshot was taken up to step {step}; these steps have one: {known}"
        raise Rejected("no_snapshot", message)


@dataclass(frozen=True, slots=True)
class Files:
    """The workspace of one run."""

    backbone: Backbone
    workspaces: Workspaces
    ref: RunRef

    @asynccontextmanager
    async def version(
        self, step: int | None, *, stored: bool = False, digests_below: str | None = None
    ) -> AsyncGenerator[Version]:
        """The files as of the checkpoint of a step; None: as they are here, or the newest.

        `stored` asks for the newest snapshot instead of what is here. Entries of what is here have
        digests only at and below `digests_below`, because that means to read it all.

        Raises:
            Rejected: there is no such snapshot, or no files at all.
            Unavailable: the store is away.
            IntegrityViolated: what is stored is not what was written.
        """
        history = await history_of(self.backbone.log, self.ref)
        descriptor = None if stored or step is not None else self._open(history.placed)
        if descriptor is None:
            taken = history.chosen(step)
            yield await Snapshot.load(self.backbone.blobs, self.ref.tenant, taken)
            return
        try:
            yield await asyncio.to_thread(_live, descriptor, digests_below)
        finally:
            os.close(descriptor)

    async def path(self) -> Path | None:
        """Where the workspace is on this machine, if it is here."""
        return self._path((await history_of(self.backbone.log, self.ref)).placed)

    def _open(self, placed: SandboxPlaced | None) -> int | None:
        path = self._path(placed)
        try:
            return None if path is None else os.open(path, FOLDER_FLAGS)
        except OSError as error:
            message = f"{str(path)!r} cannot be opened: {error.strerror}"
            raise Unavailable(message) from error

    def _path(self, placed: SandboxPlaced | None) -> Path | None:
        if placed is not None and placed.place != known_place(self.workspaces.place):
            return None  # what may still be here is from before it moved
        if placed is not None and placed.workspace == "isolated":
            path = self.workspaces.isolated(self.ref)
        else:
            path = self.workspaces.known(self.ref) or self.workspaces.own(self.ref)
        return path if path.is_dir() else None


async def history_of(log: EventLog, ref: RunRef) -> History:
    """What is known of a run's workspace.

    Raises:
        Unavailable: the log is away.
        IntegrityViolated: an envelope cannot be read.
    """
    found = History()
    for item in await log.load(ref):
        for event in decode(item.data).events:
            match event:
                case SandboxPlaced():
                    found.placed = event
                case RunForked(files=SnapshotTaken() as files, step=step):
                    found.newest = files.model_copy(update={"step": step})
                    found.taken.append(found.newest)
                    found.steps = step
                case SnapshotTaken():
                    found.newest = event if event.manifest else found.newest
                    if event.run == ref.run:
                        found.taken.append(event)
                case StepEnded():
                    found.steps = event.step
                case _:
                    pass
    return found


def _live(descriptor: int, digests_below: str | None) -> Version:
    top = None if digests_below is None else key_of(digests_below)

    def wanted(path: bytes, found: os.stat_result) -> bool:
        del found
        return top is not None and (not top or path == top or path.startswith(top + b"/"))

    try:
        scan = Scanner(OnlyDigests(), UNLIMITED, wanted=wanted).scan(descriptor)
    except OverLimit as over:
        raise Rejected("too_large", over.problem.message) from None
    tree = {path: known.entry for path, known in scan.known.items()}
    return Version("the workspace as it is", tree, FolderContents(descriptor))


def readable(entry: Entry) -> Entry:
    """The same, if it is a file whose content is there.

    Raises:
        Rejected: it is none.
    """
    if entry.kind == "file" and not entry.missing:
        return entry
    why = entry.missing or f"it is a {entry.kind}"
    raise Rejected("no_content", f"{shown(entry.path)!r} cannot be read: {why}")


def key_of(path: str) -> bytes:
    """A path as trees have it: below the workspace, however it was spelled."""
    inside = path.removeprefix(MOUNT) if path == MOUNT or path.startswith(f"{MOUNT}/") else path
    parts = [part for part in inside.split("/") if part not in {"", "."}]
    return os.fsencode("/".join(parts))


async def text_of_change(change: Change, before: Version, after: Version) -> str:
    """The lines of one file that differ, None being no file.

    Raises:
        Rejected: a content is not there.
        Unavailable: the store is away.
        IntegrityViolated: the content is gone, or not what was stored.
    """
    sizes = [0 if one is None else one.size for one in (change.before, change.after)]
    if max(sizes) > TEXT_BYTES_MAX:
        name = shown(change.path)
        return f"file {name} is too large to compare: {sizes[0]} and {sizes[1]} bytes\n"
    old = None if change.before is None else await _whole(before, change.before)
    new = None if change.after is None else await _whole(after, change.after)
    return text_diff(change.path, old, new)


async def _whole(version: Version, entry: Entry) -> bytes:
    content = bytearray()

    async def hear(data: bytes) -> None:
        content.extend(data)

    await version.read(shown(entry.path), hear)
    return bytes(content)
