"""Changing a workspace by steps, which are plain data made elsewhere. Twice is harmless.

Not a transaction: what was cut off is planned and done again.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from services.sandbox.snapshots.contents import Contents, Part
from services.sandbox.snapshots.folders import OWNER_BITS, NewFile, Target
from services.sandbox.snapshots.tree import Entry, Tree, parent_of


class Mode(NamedTuple):
    """A path and the permission bits it is to have."""

    path: bytes
    mode: int


@dataclass(slots=True)
class Steps:
    """What is done to a workspace, in this order."""

    open_up: list[bytes] = field(default_factory=list[bytes])
    """Folders whose own mode would keep their owner out."""
    clear: list[bytes] = field(default_factory=list[bytes])
    """Taken away, with all that is in it, to make room."""
    make: list[Entry] = field(default_factory=list[Entry])
    """Made, in walk order."""
    remove: list[Entry] = field(default_factory=list[Entry])
    """Taken away, what lies deeper first; a folder only if it is empty by then."""
    modes: list[Mode] = field(default_factory=list[Mode])
    """Set at the very end, what lies deeper first."""

    def __bool__(self) -> bool:
        return bool(self.clear or self.make or self.remove or self.modes)


def open_up_for(steps: Steps, live: Tree) -> None:
    """Add the folders that must be opened up for these steps, and their modes after it."""
    touched = [*steps.clear, *(entry.path for entry in (*steps.make, *steps.remove))]
    touched += [mode.path for mode in steps.modes]
    closed: set[bytes] = set()
    for path in {parent_of(path) for path in touched}:
        above = path
        while above:
            entry = live.get(above)
            if entry is not None and entry.kind == "folder" and ~entry.mode & OWNER_BITS:
                closed.add(above)
            above = parent_of(above)
    steps.open_up = sorted(closed, key=lambda path: path.count(b"/"))
    decided = {mode.path for mode in steps.modes} | set(steps.clear)
    decided |= {entry.path for entry in steps.remove}
    steps.modes += [Mode(path, live[path].mode) for path in closed - decided]
    steps.modes.sort(key=lambda mode: mode.path.count(b"/"), reverse=True)


async def apply(steps: Steps, contents: Contents, workspace: int, *, whole: bool) -> None:
    """Do the steps. `whole` shows no file before it is complete, at the price of a rename each.

    Raises:
        Unavailable: the content cannot be had now; do it again later.
        IntegrityViolated: a content is not what it should be.
        OSError: the workspace cannot be written.
    """
    with Target(workspace) as target:
        await asyncio.to_thread(_prepare, target, steps)
        filler = _Filler(target, whole=whole)
        try:
            files = [entry for entry in steps.make if entry.kind == "file"]
            await contents.deliver(files, filler.take)
        finally:
            filler.abandon()
        await asyncio.to_thread(_finish, target, steps)


def _prepare(target: Target, steps: Steps) -> None:
    for path in steps.open_up:
        target.open_up(path)
    for path in steps.clear:
        target.remove(path)
    for entry in steps.make:
        if entry.kind == "folder":
            target.make_folder(entry.path)
        elif entry.kind == "link":
            target.make_link(entry.path, entry.target)


def _finish(target: Target, steps: Steps) -> None:
    for entry in steps.remove:
        if entry.kind == "folder":
            target.rmdir(entry.path)
        else:
            target.unlink(entry.path)
    for path, mode in steps.modes:
        target.set_mode(path, mode)


class _Filler:
    """Writes parts of files as they come; one thread at a time."""

    def __init__(self, target: Target, *, whole: bool) -> None:
        self._target = target
        self._whole = whole
        self._begun: dict[bytes, NewFile] = {}
        self._one_at_a_time = asyncio.Lock()

    async def take(self, parts: Sequence[Part]) -> None:
        async with self._one_at_a_time:
            await asyncio.to_thread(self._write, parts)

    def _write(self, parts: Sequence[Part]) -> None:
        for entry, data, first, last in parts:
            if first:
                file = self._begun[entry.path] = self._new(entry)
            else:
                file = self._begun[entry.path]
            try:
                file.write(data)
                if last:
                    file.finish()
            finally:
                if last or file.ended:
                    del self._begun[entry.path]

    def _new(self, entry: Entry) -> NewFile:
        try:
            return self._target.file(entry, replace=self._whole)
        except FileExistsError:
            self._target.remove(entry.path)  # a socket or a pipe, which no tree tells of
            return self._target.file(entry, replace=self._whole)

    def abandon(self) -> None:
        """Take away what was begun and never ended."""
        for file in self._begun.values():
            file.abandon()
        self._begun.clear()
