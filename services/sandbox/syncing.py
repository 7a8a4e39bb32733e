"""Has what was written outlast a power cut: all of a file system at once. Not one file of it."""

import ctypes
import os
from collections.abc import Callable

Sync = Callable[[int], None]
"""Has a file system written out, by any open folder of it. Raises OSError."""

_libc = ctypes.CDLL(None, use_errno=True)


def sync_all(descriptor: int) -> None:
    """Write out what the file system of an open folder still has in memory only.

    One call for many files: to sync each of them would cost as many waits for the disk.

    Raises:
        OSError: it is not all on the disk.
    """
    folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=descriptor)
    try:
        if _libc.syncfs(folder) < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(folder)
