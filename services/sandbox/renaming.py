"""A rename that replaces nothing, whoever creates the target meanwhile. Not the rules of a move."""

import ctypes
import errno
import functools
import os
import stat
from collections.abc import Callable

RENAME_NOREPLACE = 1
WITHOUT = (errno.ENOSYS, errno.EINVAL)  # kernels and file systems that do not know the flag


@functools.cache
def _renameat2() -> Callable[..., int] | None:
    """The C library's renameat2 (glibc 2.28 and later), if it has one."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        return None
    call.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    call.restype = ctypes.c_int
    return call


def rename_to_new(source: int, old: str, target: int, new: str) -> None:
    """Rename a name in one open folder to one in another that must not exist.

    Raises:
        OSError: as `os.rename`; EEXIST when the target exists.
    """
    call = _renameat2()
    if call is not None:
        if call(source, os.fsencode(old), target, os.fsencode(new), RENAME_NOREPLACE) == 0:
            return
        code = ctypes.get_errno()
        if code not in WITHOUT:
            raise OSError(code, os.strerror(code), old)
    rename_by_parts(source, old, target, new)


def rename_by_parts(source: int, old: str, target: int, new: str) -> None:
    """The same without the system call: what takes the new name fails if it is there.

    A folder takes the place of an empty one made for it; anything else gets a second name first.

    Raises:
        OSError: as `os.rename`; EEXIST when the target exists.
    """
    if stat.S_ISDIR(os.stat(old, dir_fd=source, follow_symlinks=False).st_mode):
        os.mkdir(new, dir_fd=target)
        try:
            os.rename(old, new, src_dir_fd=source, dst_dir_fd=target)
        except OSError:
            os.rmdir(new, dir_fd=target)
            raise
        return
    os.link(old, new, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
    os.unlink(old, dir_fd=source)
