"""Opening a path beneath a directory, whatever links and races say. Not what is done with the file.

Both ways give the same answers: links inside are followed, and a path that leaves the directory,
by `..`, by an absolute link or through `/proc`, fails with EXDEV.
"""

import ctypes
import errno
import functools
import os
import stat
from collections.abc import Callable

OpenBeneath = Callable[[int, str, int], int]
"""(directory, path, flags) -> descriptor, close-on-exec. Raises OSError like `os.open`."""

SYS_OPENAT2 = 437  # the same number on every architecture
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_BENEATH = 0x08
ATTEMPTS_MAX = 10_000  # EAGAIN: somebody renames around us, which can only go on for so long
LINKS_MAX = 40  # what the kernel allows


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


@functools.cache
def _syscall() -> Callable[..., int]:
    call = ctypes.CDLL(None, use_errno=True).syscall
    call.restype = ctypes.c_long
    return call


def open_by_openat2(directory: int, path: str, flags: int) -> int:
    """Let the kernel resolve, race-free (Linux 5.6 and later).

    Raises:
        OSError: as `os.open`; EXDEV when the path leaves the directory.
    """
    how = _OpenHow(flags | os.O_CLOEXEC, 0, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS)
    code = errno.EAGAIN
    for _ in range(ATTEMPTS_MAX):
        opened = _syscall()(
            ctypes.c_long(SYS_OPENAT2),
            ctypes.c_long(directory),
            ctypes.c_char_p(os.fsencode(path)),
            ctypes.byref(how),
            ctypes.c_size_t(ctypes.sizeof(how)),
        )
        if opened >= 0:
            return opened
        code = ctypes.get_errno()
        if code not in {errno.EAGAIN, errno.EINTR}:
            break
    raise OSError(code, os.strerror(code), path)


def open_by_walk(directory: int, path: str, flags: int) -> int:
    """Resolve name by name, each relative to a descriptor and never through a link.

    `..` returns to a descriptor this walk came by, so a folder that is moved away meanwhile
    leads nowhere new.

    Raises:
        OSError: as `os.open`; EXDEV when the path leaves the directory.
    """
    pending = _split(path)
    trail = [os.dup(directory)]
    links = 0
    try:
        while pending:
            name = pending.pop()
            if name == "..":
                if len(trail) == 1:
                    raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
                os.close(trail.pop())
                continue
            target = _link_target(name, trail[-1])
            if target is not None:
                links += 1
                if links > LINKS_MAX:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                if target.startswith("/"):
                    raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
                pending.extend(_split(target))
            elif pending:
                trail.append(
                    os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=trail[-1])
                )
            else:
                return os.open(name, flags | os.O_NOFOLLOW, dir_fd=trail[-1])
        return os.open(".", flags, dir_fd=trail[-1])
    finally:
        for descriptor in trail:
            os.close(descriptor)


def _split(path: str) -> list[str]:
    """The names of a path, the first one last."""
    if path.startswith("/"):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
    return [name for name in reversed(path.split("/")) if name not in {"", "."}]


def _link_target(name: str, directory: int) -> str | None:
    """What a link says, or nothing for anything that is not a link."""
    entry = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=directory)
    try:
        if not stat.S_ISLNK(os.fstat(entry).st_mode):
            return None
        return os.readlink("", dir_fd=entry)
    finally:
        os.close(entry)


@functools.cache
def open_beneath() -> OpenBeneath:
    """The best way this kernel has, chosen once: openat2, or the walk where that is missing."""
    here = os.open("/", os.O_PATH | os.O_DIRECTORY)
    try:
        os.close(open_by_openat2(here, ".", os.O_PATH))
    except OSError:  # ENOSYS on old kernels, EPERM under old seccomp filters
        return open_by_walk
    finally:
        os.close(here)
    return open_by_openat2
