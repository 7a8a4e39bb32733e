"""Folders of a workspace by descriptor: found name by name, written to, emptied. Never a path.

No name is followed when it is a link, so whatever goes on in the workspace meanwhile, nothing
outside it is read or changed. Not a decision about what should be there.
"""

import errno
import hashlib
import os
import secrets
import stat
from typing import Self

from domain.errors import IntegrityViolated
from services.sandbox.paths import is_state_folder
from services.sandbox.snapshots.scan import FOLDER_FLAGS
from services.sandbox.snapshots.tree import Entry, parent_of, shown

PLACE_FLAGS = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
NEW_FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

OWNER_BITS = 0o700
"""What the owner of a folder needs to work in it."""

OPEN_FOLDERS_MAX = 256
"""How many descriptors of folders are kept for the next file in the same one."""

REMOVE_DEPTH_MAX = 100
"""Deeper folders are moved up before they are emptied: a stack frame and a descriptor each."""


class Folders:
    """The folders below one, opened as they are needed."""

    def __init__(self, workspace: int) -> None:
        """Take any descriptor of the folder; it stays the caller's."""
        self._top = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=workspace)
        self._open: dict[bytes, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go()
        os.close(self._top)

    def let_go(self) -> None:
        """Close what is kept open, because names may mean something else now."""
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()

    def where(self, path: bytes) -> tuple[int, bytes]:
        """The folder a path lies in, as a descriptor that is only lent, and its last name.

        Raises:
            OSError: there is no such folder, or a link is on the way.
        """
        if len(self._open) > OPEN_FOLDERS_MAX:
            self.let_go()
        return self._folder(parent_of(path)), path.rpartition(b"/")[2]

    def _folder(self, path: bytes) -> int:
        if not path:
            return self._top
        found = self._open.get(path)
        if found is None:
            parent = self._folder(parent_of(path))
            flags = PLACE_FLAGS | os.O_DIRECTORY
            found = os.open(path.rpartition(b"/")[2], flags, dir_fd=parent)
            self._open[path] = found
        return found


class Target(Folders):
    """A workspace that is written to. What is made belongs to the owner of the workspace."""

    def __init__(self, workspace: int) -> None:
        super().__init__(workspace)
        found = os.fstat(self._top)
        self._owner = (found.st_uid, found.st_gid) if os.geteuid() == 0 else None
        self._moved: list[bytes] = []

    def make_folder(self, path: bytes) -> None:
        """An empty folder, for its owner only until its mode is set.

        Raises:
            OSError: it cannot be made; a folder that is there is as good.
        """
        parent, name = self.where(path)
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            if stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                return
            self.remove(path)
            parent, name = self.where(path)
            os.mkdir(name, 0o700, dir_fd=parent)
        self._adopt(parent, name)

    def make_link(self, path: bytes, target: bytes) -> None:
        """A symbolic link, in place of whatever else but a folder is there.

        Raises:
            OSError: it cannot be made.
        """
        parent, name = self.where(path)
        temporary = _temporary()
        os.symlink(target, temporary, dir_fd=parent)
        self._adopt(parent, temporary)
        os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)

    def file(self, entry: Entry, *, replace: bool) -> "NewFile":
        """A file to be filled. `replace` shows it only when it is whole, in place of what is there.

        Raises:
            OSError: it cannot be made.
        """
        parent, name = self.where(entry.path)
        return NewFile(parent, name, entry, self._owner, replace=replace)

    def set_mode(self, path: bytes, mode: int) -> None:
        """The permission bits of a folder or file; a link has none, and leads nowhere.

        Raises:
            OSError: they cannot be set.
        """
        parent, name = self.where(path)
        place = os.open(name, PLACE_FLAGS, dir_fd=parent)
        try:
            if not stat.S_ISLNK(os.fstat(place).st_mode):
                os.chmod(f"/proc/self/fd/{place}", mode)  # noqa: PTH101 - a descriptor
        finally:
            os.close(place)

    def unlink(self, path: bytes) -> None:
        """Take away a file or a link, if it is there.

        Raises:
            OSError: it cannot be taken away.
        """
        parent, name = self.where(path)
        try:
            os.unlink(name, dir_fd=parent)
        except FileNotFoundError:
            return

    def rmdir(self, path: bytes) -> bool:
        """Take away an empty folder; False when something is in it.

        Raises:
            OSError: it cannot be taken away.
        """
        self.let_go()
        parent, name = self.where(path)
        try:
            os.rmdir(name, dir_fd=parent)
        except FileNotFoundError:
            return True
        except OSError as error:
            if error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
                return False
            raise
        return True

    def remove(self, path: bytes) -> None:
        """Take away whatever is there, with all that is in it.

        Raises:
            OSError: it cannot be taken away.
        """
        self.let_go()
        parent, name = self.where(path)
        self._remove(parent, name, 0)
        while self._moved:
            self._remove(self._top, self._moved.pop(), 0)

    def clear(self) -> None:
        """Take away everything but the state folder.

        Raises:
            OSError: something cannot be taken away.
        """
        for name in os.listdir(f"/proc/self/fd/{self._top}"):  # noqa: PTH208 - a descriptor
            if not is_state_folder(name):
                self.remove(os.fsencode(name))

    def _remove(self, parent: int, name: bytes, depth: int) -> None:
        try:
            os.unlink(name, dir_fd=parent)
        except FileNotFoundError:
            return
        except (IsADirectoryError, PermissionError):
            pass
        else:
            return
        if depth >= REMOVE_DEPTH_MAX:
            self._moved.append(_temporary())
            _open_up(parent, name)
            os.rename(name, self._moved[-1], src_dir_fd=parent, dst_dir_fd=self._top)
            return
        _open_up(parent, name)
        folder = os.open(name, FOLDER_FLAGS, dir_fd=parent)
        try:
            for item in os.listdir(folder):  # noqa: PTH208 - a descriptor
                self._remove(folder, os.fsencode(item), depth + 1)
        finally:
            os.close(folder)
        os.rmdir(name, dir_fd=parent)

    def open_up(self, path: bytes) -> None:
        """Let the owner work in a folder whose mode forbids it, until its mode is set again.

        Raises:
            OSError: there is no such folder, or it is not ours.
        """
        parent, name = self.where(path)
        _open_up(parent, name)

    def _adopt(self, parent: int, name: bytes) -> None:
        if self._owner is not None:
            os.chown(name, *self._owner, dir_fd=parent, follow_symlinks=False)


class NewFile:
    """A file being filled; it stays only if its content is what its entry says."""

    def __init__(
        self,
        parent: int,
        name: bytes,
        entry: Entry,
        owner: tuple[int, int] | None,
        *,
        replace: bool,
    ) -> None:
        self._entry = entry
        self._owner = owner
        self._name = name
        self._made = _temporary() if replace else name
        self._parent = os.dup(parent)
        self._digest = hashlib.sha256()
        self.ended = False  # in place, or taken away again
        try:
            self._file = os.open(self._made, NEW_FILE_FLAGS, entry.mode, dir_fd=parent)
        except OSError:
            os.close(self._parent)
            raise

    def write(self, data: bytes | memoryview) -> None:
        """The next part of its content.

        Raises:
            OSError: it cannot be written; the file is gone.
        """
        self._digest.update(data)
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._file, left) :]
        except OSError:
            self.abandon()
            raise

    def finish(self) -> None:
        """Put it in place, with its owner and mode.

        Raises:
            IntegrityViolated: it has another content than its entry says; the file is gone.
            OSError: it cannot be put in place; the file is gone.
        """
        if self._digest.hexdigest() != self._entry.digest:
            self.abandon()
            msg = f"the content of {shown(self._entry.path)!r} is not what the snapshot says"
            raise IntegrityViolated(msg)
        try:
            found = os.fstat(self._file)  # a look is cheaper than a change
            if self._owner is not None and self._owner != (found.st_uid, found.st_gid):
                os.fchown(self._file, *self._owner)
            if stat.S_IMODE(found.st_mode) != self._entry.mode:
                os.fchmod(self._file, self._entry.mode)
            if self._made != self._name:
                names = (self._made, self._name)
                os.rename(*names, src_dir_fd=self._parent, dst_dir_fd=self._parent)
        except OSError:
            self.abandon()
            raise
        self._close()

    def abandon(self) -> None:
        """Take it away again."""
        os.unlink(self._made, dir_fd=self._parent)
        self._close()

    def _close(self) -> None:
        self.ended = True
        os.close(self._file)
        os.close(self._parent)


def _temporary() -> bytes:
    return f".{secrets.token_hex(8)}.tmp".encode()


def _open_up(parent: int, name: bytes) -> None:
    if os.geteuid() == 0:
        return
    place = os.open(name, PLACE_FLAGS | os.O_DIRECTORY, dir_fd=parent)
    try:
        mode = stat.S_IMODE(os.fstat(place).st_mode)
        if ~mode & OWNER_BITS:
            os.chmod(f"/proc/self/fd/{place}", mode | OWNER_BITS)  # noqa: PTH101 - a descriptor
    finally:
        os.close(place)
