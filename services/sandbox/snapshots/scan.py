"""Looking at a whole workspace through its descriptor: what is there, and reading what is new.

Nothing is followed out of it: folders and files are opened name by name, never through a link. What
goes away meanwhile is as if it had never been. Not the decision what to do with what is found.

A file is not read again while its inode, size, mtime and ctime are those of the last look; ctime is
the one that nobody in a sandbox can set. It is coarse, so a file that changed shortly before a look
counts as changed at the next one too.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from domain.sandbox import SandboxLimits
from services.sandbox.paths import is_state_folder
from services.sandbox.snapshots.packs import OnlyDigests, Sink
from services.sandbox.snapshots.tree import (
    PACK_BYTES_MAX,
    Entry,
    Problem,
    Tree,
    Withhold,
    shown,
)

CTIME_WINDOW_NS = 10_000_000
"""How much coarser than the clock ctime may be: a tick is 1 to 10 ms long."""

MAPPED_WINDOW_NS = 40_000_000_000
"""How long writes through a shared mapping may show in no ctime: until the kernel writes the pages
back (30 s, looked at every 5). Matters only while processes run."""

DEPTH_MAX = 200
"""How deep folders may lie in one another: a descriptor and a stack frame each."""

LONGEST_BYTES = 64 * 1024
"""The longest secret, in any encoding, that is found across the chunks of a large file."""

OPEN_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW | os.O_CLOEXEC
FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.ENODEV})
"""What opening says when a name is not any more what it was."""

UNREADABLE = "unreadable"
PERMISSIONS = 0o777

Stamp = tuple[int, int, int, int]
"""(inode, size, mtime_ns, ctime_ns)."""

Wanted = Callable[[bytes, os.stat_result], bool]
"""Whether a file's digest is asked for; without one it is empty."""


class Known(NamedTuple):
    """An entry and, for a file that need not be read while it has it, its stamp."""

    stamp: Stamp | None
    entry: Entry


@dataclass(slots=True)
class Scan:
    """What was found, in walk order."""

    known: dict[bytes, Known] = field(default_factory=dict[bytes, Known])
    files: int = 0
    bytes: int = 0
    skipped: int = 0
    withheld: int = 0


class OverLimit(Exception):
    """The workspace is larger than a scan may be."""

    def __init__(
        self,
        code: Literal["too_many_files", "too_many_bytes", "file_too_large", "too_deep"],
        message: str,
    ) -> None:
        super().__init__(message)
        self.problem = Problem(code, message)


class _Withheld(Exception):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class Scanner:
    """One look at a workspace. `sink` takes the content of every file that is not known."""

    def __init__(
        self,
        sink: Sink,
        limits: SandboxLimits,
        *,
        known: Mapping[bytes, Known] | None = None,
        settled_ns: int = 0,
        withhold: Withhold | None = None,
        longest: int = LONGEST_BYTES,
        wanted: Wanted | None = None,
    ) -> None:
        """`settled_ns`: what has changed later than this (ctime) is read again the next time."""
        self._sink = sink
        self._limits = limits
        self._file_bytes_max = limits.file_bytes
        self._known = known or {}
        self._settled_ns = settled_ns
        self._withhold = withhold
        self._overlap = max(1, longest)
        self._wanted = wanted
        self._scan = Scan()
        self._buffer = memoryview(bytearray(PACK_BYTES_MAX + 1))  # one for all: fresh memory costs

    def scan(self, workspace: int) -> Scan:
        """Everything below a folder (any descriptor of it) but the state folder.

        Raises:
            OverLimit: it has more, or larger, files than the limits say.
            NoRoom: the sink is full.
            OSError: the folder itself cannot be read.
        """
        top = os.open(".", FOLDER_FLAGS, dir_fd=workspace)
        try:
            self._folder(top, b"", 0)
        finally:
            os.close(top)
        self._check_room(b"", 0)
        return self._scan

    def _folder(self, descriptor: int, prefix: bytes, depth: int) -> None:
        if depth > DEPTH_MAX:
            where = shown(prefix[:100])
            raise OverLimit("too_deep", f"{where!r}... lies deeper than {DEPTH_MAX} folders")
        for name, item in self._items(descriptor, top=not prefix):
            try:
                found = item.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            except OSError:
                self._scan.skipped += 1
                continue
            kind = stat.S_IFMT(found.st_mode)
            path = prefix + name
            if kind == stat.S_IFREG:
                stamp = _stamp_of(found)
                known = self._known.get(path)
                if known is not None and known[0] == stamp:
                    self._count(known, found.st_size)
                else:
                    self._file(descriptor, name, path, found)
            elif kind == stat.S_IFDIR:
                self._subfolder(descriptor, name, path, found, depth)
            elif kind == stat.S_IFLNK:
                self._link(descriptor, name, path)
            else:
                self._scan.skipped += 1

    def _items(self, descriptor: int, *, top: bool) -> list[tuple[bytes, os.DirEntry[str]]]:
        room = self._limits.workspace_files - len(self._scan.known)
        items: list[tuple[bytes, os.DirEntry[str]]] = []
        with os.scandir(descriptor) as found:
            for item in found:
                if top and is_state_folder(item.name):
                    continue
                if len(items) >= room:
                    most = self._limits.workspace_files
                    raise OverLimit("too_many_files", f"the workspace has more than {most} files")
                items.append((os.fsencode(item.name), item))
        items.sort()  # names differ, so the comparison never reaches the second part
        return items

    def _subfolder(
        self, parent: int, name: bytes, path: bytes, found: os.stat_result, depth: int
    ) -> None:
        try:
            descriptor = os.open(name, FOLDER_FLAGS, dir_fd=parent)
        except OSError as error:
            if error.errno in GONE:
                return
            self._scan.skipped += 1
            self._add(Entry(path, "folder", found.st_mode & PERMISSIONS, missing=UNREADABLE))
            return
        try:
            if self._name_held_back(path):
                return
            mode = os.fstat(descriptor).st_mode & PERMISSIONS
            self._add(Entry(path, "folder", mode))
            self._folder(descriptor, path + b"/", depth + 1)
        finally:
            os.close(descriptor)

    def _link(self, parent: int, name: bytes, path: bytes) -> None:
        try:
            target = os.readlink(name, dir_fd=parent)
        except OSError:
            return  # gone, or something else by now
        if not self._name_held_back(path + b"\0" + target):
            self._add(Entry(path, "link", target=target))

    def _file(self, parent: int, name: bytes, path: bytes, found: os.stat_result) -> None:
        if self._wanted is not None and not self._wanted(path, found):
            entry = Entry(path, "file", found.st_mode & PERMISSIONS, found.st_size)
            self._count(Known(None, entry), found.st_size)
        elif not self._name_held_back(path):
            self._open_and_read(parent, name, path, found)

    def _open_and_read(self, parent: int, name: bytes, path: bytes, found: os.stat_result) -> None:
        try:
            descriptor = os.open(name, OPEN_FLAGS, dir_fd=parent)
        except OSError as error:
            if error.errno not in GONE:
                self._unreadable(parent, name, path)
            return
        try:
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode):
                return
            entry = self._read(descriptor, path, before)
            after = os.fstat(descriptor)
        except OSError:
            self._unreadable(parent, name, path)
            return
        finally:
            os.close(descriptor)
        stamp = _stamp_of(found)
        settled = stamp == _stamp_of(after) and after.st_ctime_ns < self._settled_ns
        self._count(Known(stamp if settled else None, entry), entry.size)

    def _read(self, descriptor: int, path: bytes, found: os.stat_result) -> Entry:
        self._check_room(path, found.st_size)
        mode = found.st_mode & PERMISSIONS
        try:
            if found.st_size <= PACK_BYTES_MAX:
                size = os.readv(descriptor, [self._buffer[: found.st_size + 1]])
                if size <= found.st_size:
                    data = self._buffer[:size]
                    self._check(data)
                    return Entry(path, "file", mode, size, self._sink.small(data))
                os.lseek(descriptor, 0, os.SEEK_SET)  # it is growing under our hands
            sizes: list[int] = []
            digest = self._sink.large(self._chunks(descriptor, path, sizes))
        except _Withheld as held:
            return Entry(path, "file", mode, found.st_size, missing=f"withheld: {held.name}")
        return Entry(path, "file", mode, sum(sizes), digest)

    def _chunks(self, descriptor: int, path: bytes, sizes: list[int]) -> Iterator[bytes]:
        before = b""
        while chunk := os.read(descriptor, PACK_BYTES_MAX):
            sizes.append(len(chunk))
            self._check_room(path, sum(sizes))
            self._check(before + chunk)
            yield chunk
            before = (before + chunk)[-self._overlap :]

    def _check(self, data: bytes | memoryview) -> None:
        if self._withhold is not None and (name := self._withhold(bytes(data))) is not None:
            raise _Withheld(name)

    def _name_held_back(self, path: bytes) -> bool:
        """Whether a path, or a link's target, holds a secret: then it is left out altogether."""
        if self._withhold is None or self._withhold(path) is None:
            return False
        self._scan.withheld += 1
        return True

    def _check_room(self, path: bytes, size: int) -> None:
        limits = self._limits
        if size > limits.file_bytes:
            text = f"has {size} bytes, more than the {limits.file_bytes} of one file"
            raise OverLimit("file_too_large", f"{shown(path)!r} {text}")
        if self._scan.bytes + size > limits.workspace_bytes:
            text = f"the workspace has more than {limits.workspace_bytes} bytes"
            raise OverLimit("too_many_bytes", text)

    def _unreadable(self, parent: int, name: bytes, path: bytes) -> None:
        try:
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except OSError:
            return
        self._scan.skipped += 1
        entry = Entry(path, "file", found.st_mode & PERMISSIONS, missing=UNREADABLE)
        self._count(Known(None, entry), 0)

    def _count(self, known: Known, size: int) -> None:
        scan = self._scan
        entry = known.entry
        if size > self._file_bytes_max:
            self._check_room(entry.path, size)
        if not entry.missing:
            scan.bytes += size
        elif entry.missing != UNREADABLE:
            scan.withheld += 1
        scan.files += 1
        scan.known[entry.path] = known

    def _add(self, entry: Entry) -> None:
        self._scan.known[entry.path] = Known(None, entry)


def live_tree(
    workspace: int,
    limits: SandboxLimits | None = None,
    *,
    known: Mapping[bytes, Known] | None = None,
) -> Tree | Problem:
    """A workspace as a tree of what is there now; blocks while it reads all that is not known.

    Raises:
        OSError: the workspace cannot be read.
    """
    try:
        scan = Scanner(OnlyDigests(), limits or SandboxLimits(), known=known).scan(workspace)
    except OverLimit as over:
        return over.problem
    return {path: one.entry for path, one in scan.known.items()}


def _stamp_of(found: os.stat_result) -> Stamp:
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
