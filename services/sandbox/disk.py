"""What the operating system does for a workspace, beneath descriptors. Not paths, and not policy.

Nothing in here follows a link: names are looked up in a folder that is held open.
"""

import errno
import os
import secrets
import stat
from collections.abc import Callable, Generator
from contextlib import contextmanager

from services.sandbox.failures import Code, ToolError
from services.sandbox.paths import outside
from services.sandbox.seen import Stamp

READ_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
FOLDER_FLAGS = os.O_PATH | os.O_DIRECTORY
FOLDER_READ_FLAGS = os.O_RDONLY | os.O_DIRECTORY


def stamp_of(found: os.stat_result) -> Stamp:
    """What tells a file from what it was before."""
    return Stamp(found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def stat_or_none(parent: int, name: str) -> os.stat_result | None:
    """What a name in a folder is: a link is itself, never what it leads to."""
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None


def check_regular(path: str, found: os.stat_result) -> None:
    """Raise ToolError for anything but a regular file."""
    if stat.S_ISDIR(found.st_mode):
        raise ToolError(Code.IS_DIRECTORY, f"{path!r} is a directory; use listDirectory")
    if not stat.S_ISREG(found.st_mode):
        raise ToolError(Code.NOT_A_FILE, f"{path!r} is a {type_of(found)}, not a regular file")


def check_changeable(path: str, name: str, parent: int, found: os.stat_result) -> None:
    """Raise ToolError for anything but a regular file that has no other name."""
    if stat.S_ISLNK(found.st_mode):
        target = os.readlink(name, dir_fd=parent)
        message = f"{path!r} is a symbolic link to {target!r}; write to that file instead"
        raise ToolError(Code.IS_SYMLINK, message)
    check_regular(path, found)
    if found.st_nlink > 1:
        message = (
            f"{path!r} has {found.st_nlink} hard links, so other names would change as well or "
            "break away; delete it first or write to another name"
        )
        raise ToolError(Code.HARD_LINKED, message)


def replace(
    parent: int,
    name: str,
    content: bytes,
    old: os.stat_result | None,
    check: Callable[[], None],
) -> Stamp:
    """Write beside the target, make it durable, then rename over it; what the file is then.

    `check` is called last before the rename, and stops it by raising.
    """
    temporary = f".{secrets.token_hex(8)}.tmp"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o666, dir_fd=parent)
    try:
        try:
            write_all(descriptor, content)
            if old is not None:
                _give(descriptor, old)
                os.fchmod(descriptor, stat.S_IMODE(old.st_mode) & 0o777)
            else:
                _give(descriptor, os.fstat(parent))
            os.fsync(descriptor)
            check()
            os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
        except (OSError, ToolError):
            os.unlink(temporary, dir_fd=parent)
            raise
        stamp = stamp_of(os.fstat(descriptor))
    finally:
        os.close(descriptor)
    sync_folder(parent)
    return stamp


def sync_folder(folder: int) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=folder)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _give(descriptor: int, owner: os.stat_result) -> None:
    """Give a file to the owner of what it replaces or lies in: only root makes files for others."""
    if os.geteuid() == 0:
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def adopt(parent: int, name: str) -> None:
    """Give a new folder to the owner of the folder it lies in."""
    if os.geteuid() == 0:
        found = os.fstat(parent)
        os.chown(name, found.st_uid, found.st_gid, dir_fd=parent, follow_symlinks=False)


def write_all(descriptor: int, content: bytes) -> None:
    """Write everything, however many writes that takes."""
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]


def read_up_to(descriptor: int, bytes_max: int) -> bytes:
    """What a file has, up to a size."""
    chunks: list[bytes] = []
    left = bytes_max
    while left > 0 and (chunk := os.read(descriptor, min(left, 1024 * 1024))):
        chunks.append(chunk)
        left -= len(chunk)
    return b"".join(chunks)


def shown(name: str) -> str:
    """A name as text: names are bytes to the file system; what is not UTF-8 is shown escaped."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


_TYPES = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}


def type_of(found: os.stat_result) -> str:
    """A word for what kind of file it is."""
    return _TYPES.get(stat.S_IFMT(found.st_mode), "device")


_FAILURES: dict[int, tuple[Code, str]] = {
    errno.ENOENT: (Code.NOT_FOUND, "does not exist; see what there is with listDirectory"),
    errno.EEXIST: (Code.ALREADY_EXISTS, "exists already"),
    errno.ENOTEMPTY: (Code.NOT_EMPTY, "is a directory that is not empty"),
    errno.ENOTDIR: (Code.NOT_A_DIRECTORY, "is not a directory, or leads through a file"),
    errno.EISDIR: (Code.IS_DIRECTORY, "is a directory"),
    errno.ELOOP: (Code.SYMLINK_LOOP, "goes through too many symbolic links"),
    errno.EACCES: (Code.PERMISSION_DENIED, "may not be accessed"),
    errno.EPERM: (Code.PERMISSION_DENIED, "may not be changed"),
    errno.EBUSY: (Code.PERMISSION_DENIED, "is in use and may not be changed"),
    errno.EROFS: (Code.PERMISSION_DENIED, "is on a read-only file system"),
    errno.ENAMETOOLONG: (Code.INVALID_PATH, "has a name that is too long"),
    errno.ENXIO: (Code.NOT_A_FILE, "is a socket or a device, not a regular file"),
    errno.ENODEV: (Code.NOT_A_FILE, "is a device, not a regular file"),
    errno.ENOSPC: (Code.NO_SPACE, "cannot be written: the disk is full; delete something first"),
    errno.EDQUOT: (
        Code.NO_SPACE,
        "cannot be written: the quota is used up; delete something first",
    ),
    errno.EFBIG: (Code.TOO_LARGE, "would become larger than a file may be"),
}


@contextmanager
def named_errors(path: str) -> Generator[None]:
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
