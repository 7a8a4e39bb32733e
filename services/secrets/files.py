"""Reads small files that hold secrets, and says who else can. Not what is in them."""

import os
import stat
from pathlib import Path

from domain.errors import Rejected

FILE_BYTES_MAX = 4 * 1024 * 1024
"""The largest file of many secrets that is read, in bytes."""


def read_private(
    path: Path, *, bytes_max: int = FILE_BYTES_MAX, code: str = "bad_secret_file"
) -> bytes | None:
    """The bytes of a file; None when there is none.

    Raises:
        Rejected: with that code: it cannot be read, is no file, or is too large.
    """
    try:
        # Without waiting: what has the name of a file may be a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Rejected(code, f"cannot read {str(path)!r}: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Rejected(code, f"cannot read {str(path)!r}: it is no file")
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(bytes_max + 1)
    if len(data) > bytes_max:
        raise Rejected(code, f"cannot read {str(path)!r}: it has more than {bytes_max} bytes")
    return data


def text_of(path: Path, data: bytes, *, code: str = "bad_secret_file") -> str:
    """The text of a file that was read.

    Raises:
        Rejected: with that code: it is not UTF-8.
    """
    try:
        return data.decode("utf-8-sig")  # some editors begin a file with a byte order mark
    except UnicodeDecodeError:
        raise Rejected(code, f"cannot read {str(path)!r}: not UTF-8") from None


def exposure(path: Path) -> str | None:
    """Who else can get at a file, in plain words; None when only its owner and group can."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return None
    can = [word for word, bit in (("read", stat.S_IROTH), ("write", stat.S_IWOTH)) if mode & bit]
    if not can:
        return None
    return f"everybody on this machine can {' and '.join(can)} {path} (mode {stat.S_IMODE(mode):o})"
