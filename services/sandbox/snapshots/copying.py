"""Exact copies of folders: a delegate's own workspace, or a folder a person hands over.

Both ends by descriptor, no link followed, special files left out. The bytes are shared until one
side writes on file systems that can do that (reflink), else copied inside the kernel. Not a
snapshot: nothing is kept of it.
"""

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

from domain.sandbox import SandboxLimits
from services.sandbox.paths import is_state_folder
from services.sandbox.snapshots.folders import NEW_FILE_FLAGS
from services.sandbox.snapshots.scan import (
    DEPTH_MAX,
    FOLDER_FLAGS,
    GONE,
    OPEN_FLAGS,
    PERMISSIONS,
    OverLimit,
)
from services.sandbox.snapshots.tree import Problem, shown

FICLONE = 0x40049409
COPY_BYTES = 64 * 1024 * 1024
"""How much the kernel copies in one call, in bytes."""

NO_REFLINK = frozenset({errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS})


class NotEmpty(Exception):
    """The target of a copy holds something already."""


class Copied(NamedTuple):
    """What a copy came to."""

    files: int
    bytes: int
    skipped: int  # sockets, pipes, devices, and what could not be read


def clone(source: int, target: int, limits: SandboxLimits | None = None) -> Copied | Problem:
    """Copy a workspace into an empty one; both are descriptors of folders. Blocks.

    Also what imports a person's folder: what is copied belongs to the owner of the target. When a
    copy ends in a problem or an error, the target holds a part of it.

    Raises:
        NotEmpty: the target holds something besides its state folder.
        OSError: the target cannot be written, or the source not be read at all.
    """
    copier = _Copier(target, limits or SandboxLimits())
    into = os.open(".", FOLDER_FLAGS, dir_fd=target)
    try:
        if any(not is_state_folder(name) for name in os.listdir(into)):  # noqa: PTH208
            msg = "the folder to copy into is not empty"
            raise NotEmpty(msg)
        out_of = os.open(".", FOLDER_FLAGS, dir_fd=source)
        try:
            copier.folder(out_of, into, b"", 0)
        except OverLimit as over:
            return over.problem
        finally:
            os.close(out_of)
    finally:
        os.close(into)
    return Copied(copier.files, copier.bytes, copier.skipped)


import_folder = clone
"""`--workspace DIR` in copy mode: the same exact copy, of a folder from outside."""


class _Copier:
    def __init__(self, target: int, limits: SandboxLimits) -> None:
        found = os.fstat(target)
        self._owner = (found.st_uid, found.st_gid) if os.geteuid() == 0 else None
        self._limits = limits
        self._entries = 0
        self._reflink = True
        self._same_system = True
        self.files = self.bytes = self.skipped = 0

    def folder(self, source: int, target: int, prefix: bytes, depth: int) -> None:
        if depth > DEPTH_MAX:
            raise OverLimit("too_deep", f"{shown(prefix[:100])!r}... lies deeper than {DEPTH_MAX}")
        for name, found in self._items(source, top=not prefix):
            kind = stat.S_IFMT(found.st_mode)
            if kind == stat.S_IFDIR:
                self._subfolder(source, target, prefix, name, depth)
            elif kind == stat.S_IFREG:
                self._file(source, target, prefix, name)
            elif kind == stat.S_IFLNK:
                self._link(source, target, name)
            else:
                self.skipped += 1

    def _items(self, source: int, *, top: bool) -> Iterator[tuple[bytes, os.stat_result]]:
        with os.scandir(source) as items:
            for item in items:
                if top and is_state_folder(item.name):
                    continue
                self._entries += 1
                if self._entries > self._limits.workspace_files:
                    text = f"there are more than {self._limits.workspace_files} files"
                    raise OverLimit("too_many_files", text)
                try:
                    yield os.fsencode(item.name), item.stat(follow_symlinks=False)
                except OSError:
                    self.skipped += 1

    def _subfolder(self, source: int, target: int, prefix: bytes, name: bytes, depth: int) -> None:
        try:
            out_of = os.open(name, FOLDER_FLAGS, dir_fd=source)
        except OSError as error:
            self._gone_or_skipped(error)
            return
        try:
            os.mkdir(name, 0o700, dir_fd=target)
            into = os.open(name, FOLDER_FLAGS, dir_fd=target)
            try:
                self.folder(out_of, into, prefix + name + b"/", depth + 1)
                self._adopt(into)
                os.fchmod(into, os.fstat(out_of).st_mode & PERMISSIONS)
            finally:
                os.close(into)
        finally:
            os.close(out_of)

    def _link(self, source: int, target: int, name: bytes) -> None:
        try:
            leads_to = os.readlink(name, dir_fd=source)
        except OSError as error:
            self._gone_or_skipped(error)
            return
        os.symlink(leads_to, name, dir_fd=target)
        if self._owner is not None:
            os.chown(name, *self._owner, dir_fd=target, follow_symlinks=False)

    def _file(self, source: int, target: int, prefix: bytes, name: bytes) -> None:
        try:
            out_of = os.open(name, OPEN_FLAGS, dir_fd=source)
        except OSError as error:
            self._gone_or_skipped(error)
            return
        try:
            found = os.fstat(out_of)
            if not stat.S_ISREG(found.st_mode):
                return
            self._check_room(prefix + name, found.st_size)
            into = os.open(name, NEW_FILE_FLAGS, 0o600, dir_fd=target)
            try:
                self.bytes += self._content(out_of, into, prefix + name)
                self._adopt(into)
                os.fchmod(into, found.st_mode & PERMISSIONS)
            finally:
                os.close(into)
            self.files += 1
        finally:
            os.close(out_of)

    def _content(self, out_of: int, into: int, path: bytes) -> int:
        """All bytes of a file: shared if possible, else copied by the kernel, else by hand."""
        if self._reflink:
            try:
                fcntl.ioctl(into, FICLONE, out_of)
                return os.fstat(into).st_size
            except OSError as error:
                if error.errno not in NO_REFLINK:
                    raise
                self._reflink = False
        done = 0
        while copied := self._some(out_of, into):
            done += copied
            self._check_room(path, done)
        return done

    def _some(self, out_of: int, into: int) -> int:
        if self._same_system:
            try:
                return os.copy_file_range(out_of, into, COPY_BYTES)
            except OSError as error:
                if error.errno not in NO_REFLINK:
                    raise
                self._same_system = False
        return os.sendfile(into, out_of, None, COPY_BYTES)

    def _check_room(self, path: bytes, size: int) -> None:
        if size > self._limits.file_bytes:
            text = f"has {size} bytes, more than the {self._limits.file_bytes} of one file"
            raise OverLimit("file_too_large", f"{shown(path)!r} {text}")
        if self.bytes + size > self._limits.workspace_bytes:
            text = f"there are more than {self._limits.workspace_bytes} bytes"
            raise OverLimit("too_many_bytes", text)

    def _adopt(self, descriptor: int) -> None:
        if self._owner is not None:
            os.fchown(descriptor, *self._owner)

    def _gone_or_skipped(self, error: OSError) -> None:
        self.skipped += error.errno not in GONE
