"""The files of one job, from outside the sandbox: every access stays beneath one open folder.

Not the tools' wording, and not a lock: who writes at the same time is the caller's business.
"""

import errno
import os
import secrets
import stat
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Self

from services.sandbox.failures import Code, SandboxUnavailable, ToolError
from services.sandbox.paths import (
    MOUNT,
    STATE_FOLDER,
    is_state_folder,
    outside,
    relative_parts,
    state_folder_refused,
)
from services.sandbox.resolve import OpenBeneath, open_beneath

FILE_BYTES_MAX = 16 * 1024 * 1024
ENTRIES_SCANNED_MAX = 100_000
READ_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
FOLDER_FLAGS = os.O_PATH | os.O_DIRECTORY


class Entry(NamedTuple):
    """One name in a folder; a link is described as itself, never as what it leads to."""

    name: str
    type: str
    size: int
    modified_s: float


class Workspace:
    """One job's folder, held by an open descriptor, so that renaming it away changes nothing.

    The state folder inside is made when it is missing. An agent can therefore never put its own
    one there for Peritus to trust later, and a sandbox always finds a real folder to cover.
    """

    def __init__(self, root: Path, opener: OpenBeneath | None = None) -> None:
        """Open a workspace.

        Raises:
            SandboxUnavailable: the folder is missing, or its state folder is something else.
        """
        self._open_beneath = opener or open_beneath()
        try:
            self._root = os.open(root, FOLDER_FLAGS)
        except OSError as error:
            message = f"the workspace {str(root)!r} cannot be opened: {error.strerror}"
            raise SandboxUnavailable(message) from error
        try:
            self._claim_state_folder()
        except OSError as error:
            self.close()
            message = (
                f"{STATE_FOLDER!r} in the workspace {str(root)!r} must be a folder: "
                f"{error.strerror}; remove it"
            )
            raise SandboxUnavailable(message) from error

    def _claim_state_folder(self) -> None:
        try:
            os.mkdir(STATE_FOLDER, 0o700, dir_fd=self._root)
        except FileExistsError:
            flags = FOLDER_FLAGS | os.O_NOFOLLOW
            os.close(os.open(STATE_FOLDER, flags, dir_fd=self._root))
        else:
            _adopt(self._root, STATE_FOLDER)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the folder; closing twice is harmless."""
        if self._root >= 0:
            os.close(self._root)
            self._root = -1

    def fileno(self) -> int:
        """The descriptor (O_PATH) that sandboxes mount."""
        return self._root

    def owner(self) -> tuple[int, int]:
        """Who owns the folder: user and group."""
        found = os.fstat(self._root)
        return found.st_uid, found.st_gid

    def read(self, path: str, bytes_max: int = FILE_BYTES_MAX) -> bytes:
        """The content of a regular file.

        Raises:
            ToolError: no such file, not a regular file, too large, or outside.
        """
        with _named_errors(path), self._opened(path, READ_FLAGS) as descriptor:
            found = os.fstat(descriptor)
            _check_regular(path, found)
            content = _read_up_to(descriptor, bytes_max + 1)
        if len(content) > bytes_max:
            size = max(found.st_size, len(content))
            message = (
                f"{path!r} has {size} bytes, more than the {bytes_max} this tool reads; "
                "take the part you need with exec, for example sed -n 1,200p"
            )
            raise ToolError(Code.TOO_LARGE, message, size=size)
        return content

    def write(self, path: str, content: bytes) -> bool:
        """Put a whole file in place at once, with missing folders; whether it was new.

        Readers see the old file or the new one, and after a crash the disk holds one of the two.

        Raises:
            ToolError: the target is not a plain file of its own, or outside; nothing changed.
        """
        if len(content) > FILE_BYTES_MAX:
            message = f"the text has {len(content)} bytes, more than {FILE_BYTES_MAX}"
            raise ToolError(Code.TOO_LARGE, message, size=len(content))
        parts = relative_parts(path)
        if not parts or parts[-1] == "..":
            raise ToolError(Code.IS_DIRECTORY, f"{path!r} is a directory; name a file in it")
        with _named_errors(path):
            parent = self._open_or_make(path, parts[:-1])
            try:
                old = _stat_or_none(parent, parts[-1])
                _check_replaceable(path, parts[-1], parent, old)
                _replace(parent, parts[-1], content, old)
            finally:
                os.close(parent)
        return old is None

    def list(self, path: str, entries_max: int) -> tuple[list[Entry], int]:
        """The first entries of a folder by name, and how many there are in all.

        Raises:
            ToolError: no such folder, not a folder, or outside.
        """
        with (
            _named_errors(path),
            self._opened(path, os.O_RDONLY | os.O_DIRECTORY) as descriptor,
        ):
            hide = os.path.samestat(os.fstat(descriptor), os.fstat(self._root))
            names = sorted(_names(descriptor, hide_state=hide))
            found = [_entry(descriptor, name) for name in names[:entries_max]]
        return [entry for entry in found if entry is not None], len(names)

    def directory(self, path: str) -> str:
        """Where the sandbox finds a folder of the workspace.

        Raises:
            ToolError: no such folder, not a folder, or outside.
        """
        with _named_errors(path), self._opened(path, FOLDER_FLAGS):
            return "/".join((MOUNT, *relative_parts(path)))

    @contextmanager
    def _opened(self, path: str, flags: int) -> Generator[int]:
        spelled = "/".join(relative_parts(path)) or "."
        descriptor = self._open_beneath(self._root, spelled, flags)
        try:
            self._check_not_state(path, descriptor)
            yield descriptor
        finally:
            os.close(descriptor)

    def _check_not_state(self, path: str, descriptor: int) -> None:
        """Refuse what a link led into the state folder: the spelling alone does not show it."""
        root = _place_of(self._root).rstrip("/") + "/"
        place = _place_of(descriptor)
        if place.startswith(root) and is_state_folder(place[len(root) :].split("/")[0]):
            raise state_folder_refused(path)

    def _open_or_make(self, path: str, parts: tuple[str, ...]) -> int:
        """The folder of these names, with what is missing made on the way."""
        try:
            folder = self._open_beneath(self._root, "/".join(parts) or ".", FOLDER_FLAGS)
        except FileNotFoundError:
            folder = self._make_folders(path, parts)
        try:
            self._check_not_state(path, folder)
        except ToolError:
            os.close(folder)
            raise
        return folder

    def _make_folders(self, path: str, parts: tuple[str, ...]) -> int:
        folder = os.dup(self._root)
        for depth, name in enumerate(parts, start=1):
            try:
                self._check_not_state(path, folder)  # before anything is made in there
                deeper = self._open_or_make_one(folder, "/".join(parts[:depth]), name)
            finally:
                os.close(folder)
            folder = deeper
        return folder

    def _open_or_make_one(self, folder: int, so_far: str, name: str) -> int:
        try:
            return self._open_beneath(self._root, so_far, FOLDER_FLAGS)
        except FileNotFoundError:
            try:
                os.mkdir(name, dir_fd=folder)
                _adopt(folder, name)
            except FileExistsError:
                pass  # made by somebody else just now, or a link to nowhere: opening tells
        return self._open_beneath(self._root, so_far, FOLDER_FLAGS)


def _place_of(descriptor: int) -> str:
    return os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115 - a magic link, not a path


def _check_regular(path: str, found: os.stat_result) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise ToolError(Code.IS_DIRECTORY, f"{path!r} is a directory; use listDirectory")
    if not stat.S_ISREG(found.st_mode):
        raise ToolError(Code.NOT_A_FILE, f"{path!r} is a {_type_of(found)}, not a regular file")


def _check_replaceable(path: str, name: str, parent: int, old: os.stat_result | None) -> None:
    if old is None:
        return
    if stat.S_ISLNK(old.st_mode):
        target = os.readlink(name, dir_fd=parent)
        message = f"{path!r} is a symbolic link to {target!r}; write to that file instead"
        raise ToolError(Code.IS_SYMLINK, message)
    _check_regular(path, old)
    if old.st_nlink > 1:
        message = (
            f"{path!r} has {old.st_nlink} hard links, so other names would change as well or "
            "break away; delete it first or write to another name"
        )
        raise ToolError(Code.HARD_LINKED, message)


def _replace(parent: int, name: str, content: bytes, old: os.stat_result | None) -> None:
    """Write beside the target, make it durable, then rename over it."""
    temporary = f".{secrets.token_hex(8)}.tmp"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o666, dir_fd=parent)
    try:
        try:
            _write_all(descriptor, content)
            if old is not None:
                _keep_owner(descriptor, old.st_uid, old.st_gid)
                os.fchmod(descriptor, stat.S_IMODE(old.st_mode) & 0o777)
            else:
                found = os.fstat(parent)
                _keep_owner(descriptor, found.st_uid, found.st_gid)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
    except OSError:
        os.unlink(temporary, dir_fd=parent)
        raise
    folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=parent)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _keep_owner(descriptor: int, user: int, group: int) -> None:
    """Give a file to the owner of what it replaces or lies in: only root makes files for others."""
    if os.geteuid() == 0:
        os.fchown(descriptor, user, group)


def _adopt(parent: int, name: str) -> None:
    """Give a new folder to the owner of the folder it lies in, as `_keep_owner` does for files."""
    if os.geteuid() == 0:
        found = os.fstat(parent)
        os.chown(name, found.st_uid, found.st_gid, dir_fd=parent, follow_symlinks=False)


def _write_all(descriptor: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]


def _read_up_to(descriptor: int, bytes_max: int) -> bytes:
    chunks: list[bytes] = []
    left = bytes_max
    while left > 0 and (chunk := os.read(descriptor, min(left, 1024 * 1024))):
        chunks.append(chunk)
        left -= len(chunk)
    return b"".join(chunks)


def _stat_or_none(parent: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _names(descriptor: int, *, hide_state: bool) -> Iterator[str]:
    with os.scandir(descriptor) as entries:
        for scanned, entry in enumerate(entries):
            if scanned >= ENTRIES_SCANNED_MAX:
                return
            if not (hide_state and is_state_folder(entry.name)):
                yield entry.name


def _entry(parent: int, name: str) -> Entry | None:
    found = _stat_or_none(parent, name)
    if found is None:
        return None
    # Names are bytes to the file system; what is not UTF-8 is shown escaped.
    shown = os.fsencode(name).decode("utf-8", "backslashreplace")
    return Entry(shown, _type_of(found), found.st_size, found.st_mtime)


_TYPES = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}


def _type_of(found: os.stat_result) -> str:
    return _TYPES.get(stat.S_IFMT(found.st_mode), "device")


_FAILURES: dict[int, tuple[Code, str]] = {
    errno.ENOENT: (Code.NOT_FOUND, "does not exist; see what there is with listDirectory"),
    errno.ENOTDIR: (Code.NOT_A_DIRECTORY, "is not a directory, or leads through a file"),
    errno.EISDIR: (Code.IS_DIRECTORY, "is a directory"),
    errno.ELOOP: (Code.SYMLINK_LOOP, "goes through too many symbolic links"),
    errno.EACCES: (Code.PERMISSION_DENIED, "may not be accessed"),
    errno.EPERM: (Code.PERMISSION_DENIED, "may not be changed"),
    errno.EROFS: (Code.PERMISSION_DENIED, "is on a read-only file system"),
    errno.ENAMETOOLONG: (Code.INVALID_PATH, "has a name that is too long"),
    errno.ENXIO: (Code.NOT_A_FILE, "is a socket or a device, not a regular file"),
    errno.ENODEV: (Code.NOT_A_FILE, "is a device, not a regular file"),
    errno.ENOSPC: (Code.NO_SPACE, "cannot be written: the disk is full; delete something first"),
    errno.EDQUOT: (
        Code.NO_SPACE,
        "cannot be written: the quota is used up; delete something first",
    ),
}


@contextmanager
def _named_errors(path: str) -> Generator[None]:
    """Say what the operating system says in words a model can act on."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise outside(path) from None
        if error.errno not in _FAILURES:
            raise ToolError(Code.IO_ERROR, f"{path!r}: {error.strerror}") from error
        code, text = _FAILURES[error.errno]
        raise ToolError(code, f"{path!r} {text}") from None
