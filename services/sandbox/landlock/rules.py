"""What Landlock lets a command open: the rules, and the three calls that make them. No policy else.

Own bindings: `landlockpy` is young, and what applies the rules has to work in an interpreter that
has only the standard library. The kernel's structures below never change.
"""

import ctypes
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same on every architecture
ASK_VERSION = 1
PATH_BENEATH = 1

ABI_NEEDED = 6
"""Linux 6.12: files, devices, TCP, and neither signals nor abstract sockets to the outside."""

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
MAKE_CHAR, MAKE_BLOCK, IOCTL_DEV = 1 << 6, 1 << 11, 1 << 15
ALL_FILES = (1 << 16) - 1  # the rights of ABI 6
ALL_TCP = 0b11  # bind, connect
ALL_SCOPES = 0b11  # abstract sockets, signals

READ = EXECUTE | READ_FILE | READ_DIR
CHANGE = ALL_FILES & ~(MAKE_CHAR | MAKE_BLOCK | IOCTL_DEV)
USE_DEVICE = READ_FILE | WRITE_FILE
OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | 1 << 14 | IOCTL_DEV  # what a rule for a file may hold

DEVICES = ("null", "zero", "full", "random", "urandom")


class _Ruleset(ctypes.Structure):
    _fields_ = (
        ("files", ctypes.c_uint64),
        ("network", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


_libc = ctypes.CDLL(None, use_errno=True)


def abi() -> int:
    """The version of Landlock in this kernel; 0 where there is none."""
    found: int = _libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), ASK_VERSION)
    return max(found, 0)


def make_rules(readable: Iterable[str], changeable: Iterable[int], read_only: Iterable[int]) -> int:
    """A ruleset, for whoever restricts itself by it; the descriptor is the caller's to close.

    `readable` are places of the host, as far as they are there; the others are open folders.
    Everything that is not named is closed, and so is TCP.

    Raises:
        OSError: the kernel has no Landlock, or no descriptor is left.
    """
    wanted = _Ruleset(ALL_FILES, ALL_TCP, ALL_SCOPES)
    rules = _call(CREATE_RULESET, ctypes.byref(wanted), ctypes.c_size_t(ctypes.sizeof(wanted)), 0)
    try:
        for place in readable:
            with suppress(FileNotFoundError):
                _allow(rules, place, READ)
        for name in DEVICES:
            _allow(rules, f"/dev/{name}", USE_DEVICE)
        for folder in changeable:
            _allow_folder(rules, folder, CHANGE)
        for folder in read_only:
            _allow_folder(rules, folder, READ)
    except BaseException:
        os.close(rules)
        raise
    return rules


def _allow(rules: int, place: str, rights: int) -> None:
    descriptor = os.open(place, os.O_PATH | os.O_CLOEXEC)
    try:
        _allow_folder(rules, descriptor, rights if Path(place).is_dir() else rights & OF_FILES)
    finally:
        os.close(descriptor)


def _allow_folder(rules: int, descriptor: int, rights: int) -> None:
    _call(ADD_RULE, rules, PATH_BENEATH, ctypes.byref(_Beneath(rights, descriptor)), 0)


def _call(number: int, *arguments: object) -> int:
    result: int = _libc.syscall(number, *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
