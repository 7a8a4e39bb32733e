"""The system calls that Landlock says nothing about, and a shared host cannot allow. Not the rest.

It is a second filter beside that of `bubblewrap/seccomp.py`; of two filters the stricter counts.
There is no network namespace, so there are no sockets at all but pairs; no IPC namespace, so no
System V or POSIX IPC; and no pid namespace, so no call that names another process.
"""

import errno
import platform
import struct
from typing import NamedTuple

from services.sandbox.bubblewrap.seccomp import (
    ALLOW,
    ERRNO,
    JUMP_EQUAL,
    KILL_PROCESS,
    LOAD,
    MACHINES,
    OFFSET_ARCHITECTURE,
    OFFSET_ARGUMENT_0,
    OFFSET_ARGUMENT_1,
    OFFSET_NUMBER,
    RETURN,
)

AND = 0x54  # BPF_ALU | BPF_AND | BPF_K
AF_UNIX = 1
KIND_MASK = 0xF
CONNECTED_KINDS = (1, 5)  # SOCK_STREAM, SOCK_SEQPACKET: a datagram's pair could send elsewhere
HIGH = 4  # the upper half of an argument


class Numbers(NamedTuple):
    """The numbers of one architecture."""

    socketpair: int
    setpriority: int
    utimensat: int
    own_process_only: tuple[int, ...]  # the first argument is a process, 0 the caller itself
    denied: tuple[int, ...]
    metadata: tuple[int, ...]  # modes, owners and times by path, where Landlock does not look


NEW_ATTRIBUTES = (463, 466, 469)  # setxattrat, removexattrat, file_setattr
NEW_MODES = (452,)  # fchmodat2

NUMBERS = {
    "x86_64": Numbers(
        socketpair=53,
        setpriority=141,
        utimensat=280,
        own_process_only=(302, 142, 144, 203, 314),  # prlimit64, sched_set*
        denied=(
            *(41, 254, 251),  # socket, inotify_add_watch, ioprio_set
            *(29, 30, 31, 64, 68, 240, 241),  # shm*, semget, msgget, mq_open, mq_unlink
            *(188, 189, 197, 198, *NEW_ATTRIBUTES),  # setxattr, removexattr by path
        ),
        metadata=(90, 268, 92, 94, 260, 132, 235, 261, *NEW_MODES),  # chmod, chown, utime
    ),
    "aarch64": Numbers(
        socketpair=199,
        setpriority=140,
        utimensat=88,
        own_process_only=(261, 118, 119, 122, 274),
        denied=(
            *(198, 27, 30, 194, 196, 195, 190, 186, 180, 181),
            *(5, 6, 14, 15, *NEW_ATTRIBUTES),
        ),
        metadata=(53, 54, *NEW_MODES),
    ),
}


def landlock_filter(*, own_user: bool, machine: str | None = None) -> bytes | None:
    """The program for a machine, or None where its calls are not known.

    Where commands run as the service's own user (`own_user` false), they may not change modes,
    owners and times by path either: those of the user's other files would be open.
    """
    machine = machine or platform.machine()
    numbers = NUMBERS.get(machine)
    if numbers is None:
        return None
    denied = numbers.denied if own_user else (*numbers.denied, *numbers.metadata)
    return b"".join(
        (
            _step(LOAD, OFFSET_ARCHITECTURE),
            _step(JUMP_EQUAL, MACHINES[machine].audit, 1, 0),
            _step(RETURN, KILL_PROCESS),
            _step(LOAD, OFFSET_NUMBER),
            *(_when(number, _REFUSE) for number in denied),
            *(_when(number, _only_zero(OFFSET_ARGUMENT_0)) for number in numbers.own_process_only),
            _when(numbers.setpriority, _only_zero(OFFSET_ARGUMENT_0, OFFSET_ARGUMENT_1)),
            _when(numbers.socketpair, _only_connected_pairs()),
            b""
            if own_user
            else _when(numbers.utimensat, _only_zero(OFFSET_ARGUMENT_1, OFFSET_ARGUMENT_1 + HIGH)),
            _step(RETURN, ALLOW),
        )
    )


def _step(code: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, operand)


_REFUSE = _step(RETURN, ERRNO | errno.EPERM)


def _when(number: int, body: bytes) -> bytes:
    """Run `body`, which always returns, for one call; all others skip it."""
    return _step(JUMP_EQUAL, number, 0, len(body) // 8) + body


def _only_zero(*offsets: int) -> bytes:
    """Allow the call if all of these words are zero."""
    tests = b"".join(
        _step(LOAD, offset) + _step(JUMP_EQUAL, 0, 1, 0) + _REFUSE for offset in offsets
    )
    return tests + _step(RETURN, ALLOW)


def _only_connected_pairs() -> bytes:
    kinds = b"".join(
        _step(JUMP_EQUAL, kind, 0, 1) + _step(RETURN, ALLOW) for kind in CONNECTED_KINDS
    )
    return (
        _step(LOAD, OFFSET_ARGUMENT_0)
        + _step(JUMP_EQUAL, AF_UNIX, 1, 0)
        + _REFUSE
        + _step(LOAD, OFFSET_ARGUMENT_1)
        + _step(AND, KIND_MASK)
        + kinds
        + _REFUSE
    )
