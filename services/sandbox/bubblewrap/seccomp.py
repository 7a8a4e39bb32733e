"""The system calls a command may not make, as a BPF program. Not a policy one can change.

What is used is the data that is shipped; running this module writes it anew.

The filter forbids what widens the kernel's surface or reaches across the sandbox: tracing, mounts,
namespaces, keyrings, BPF, io_uring, and sockets that network namespaces do not contain. A call
through a foreign architecture kills the process, or every rule here could be walked around.
"""

import errno
import platform
import struct
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

# struct seccomp_data: the call's number, the architecture, then the arguments as 64 bits each.
OFFSET_NUMBER = 0
OFFSET_ARCHITECTURE = 4
OFFSET_ARGUMENT_0 = 16
OFFSET_ARGUMENT_1 = 24

LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
JUMP_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
JUMP_AT_LEAST = 0x35  # BPF_JMP | BPF_JGE | BPF_K
JUMP_ANY_BIT = 0x45  # BPF_JMP | BPF_JSET | BPF_K
RETURN = 0x06  # BPF_RET | BPF_K

ALLOW = 0x7FFF0000
KILL_PROCESS = 0x80000000
ERRNO = 0x00050000

X32_BIT = 0x40000000
NEW_NAMESPACES = 0x7E020000  # CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}
TERMINAL_REQUESTS = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX: type into somebody's terminal
SOCKET_FAMILIES = (1, 2, 10, 16)  # AF_UNIX, AF_INET, AF_INET6, AF_NETLINK


DATA = files("services.sandbox").joinpath("data")


class Numbers(NamedTuple):
    """One architecture: its audit name, and the numbers of the calls that need a look."""

    audit: int
    clone: int
    ioctl: int
    socket: int
    denied: tuple[int, ...]


# Numbered alike everywhere since Linux 5.1. `clone3` and io_uring take their flags from memory,
# where no filter can see them; both have older ways to do the same, so they pretend not to exist.
ABSENT = (435, 425, 426, 427)  # clone3, io_uring_setup, io_uring_enter, io_uring_register
DENIED_EVERYWHERE = (
    *(428, 429, 430, 431, 432, 433, 442, 467),  # open_tree, move_mount, fs*, mount_setattr
    *(438, 443, 447),  # pidfd_getfd, quotactl_fd, memfd_secret
)

MACHINES = {
    "x86_64": Numbers(
        audit=0xC000003E,
        clone=56,
        ioctl=16,
        socket=41,
        denied=(
            *(101, 310, 311, 312),  # ptrace, process_vm_readv, process_vm_writev, kcmp
            *(248, 249, 250),  # add_key, request_key, keyctl
            *(321, 298, 323),  # bpf, perf_event_open, userfaultfd
            *(165, 166, 155, 161),  # mount, umount2, pivot_root, chroot
            *(272, 308, 304),  # unshare, setns, open_by_handle_at
            *(246, 320, 175, 313, 176),  # kexec_load, kexec_file_load, *_module
            *(135, 300, 301),  # personality, fanotify_init, fanotify_mark
            *(167, 168, 169, 103, 163),  # swapon, swapoff, reboot, syslog, acct
            *(164, 227, 305, 159),  # settimeofday, clock_settime, clock_adjtime, adjtimex
            *(179, 153, 212, 180),  # quotactl, vhangup, lookup_dcookie, nfsservctl
            *(154, 172, 173, 134, 136, 139),  # modify_ldt, iopl, ioperm, uselib, ustat, sysfs
        ),
    ),
    "aarch64": Numbers(
        audit=0xC00000B7,
        clone=220,
        ioctl=29,
        socket=198,
        denied=(
            *(117, 270, 271, 272),  # ptrace, process_vm_readv, process_vm_writev, kcmp
            *(217, 218, 219),  # add_key, request_key, keyctl
            *(280, 241, 282),  # bpf, perf_event_open, userfaultfd
            *(40, 39, 41, 51),  # mount, umount2, pivot_root, chroot
            *(97, 268, 265),  # unshare, setns, open_by_handle_at
            *(104, 294, 105, 273, 106),  # kexec_load, kexec_file_load, *_module
            *(92, 262, 263),  # personality, fanotify_init, fanotify_mark
            *(224, 225, 142, 116, 89),  # swapon, swapoff, reboot, syslog, acct
            *(170, 112, 266, 171),  # settimeofday, clock_settime, clock_adjtime, adjtimex
            *(60, 58, 18, 42),  # quotactl, vhangup, lookup_dcookie, nfsservctl
        ),
    ),
}


def compiled_filter(machine: str | None = None) -> bytes | None:
    """The program for a machine (default: this one) as shipped, or None where there is none."""
    file = files("services.sandbox").joinpath(
        "data", f"seccomp_{machine or platform.machine()}.bpf"
    )
    return file.read_bytes() if file.is_file() else None


def built_filter(machine: str) -> bytes:
    """The program for one of MACHINES, built anew: what is shipped is equal to it."""
    numbers = MACHINES[machine]
    return b"".join(
        (
            _step(LOAD, OFFSET_ARCHITECTURE),
            _step(JUMP_EQUAL, numbers.audit, 1, 0),
            _step(RETURN, KILL_PROCESS),
            _step(LOAD, OFFSET_NUMBER),
            # x32 shares the audit name of x86_64 and differs by a bit in the number.
            _step(JUMP_AT_LEAST, X32_BIT, 0, 1),
            _step(RETURN, ERRNO | errno.ENOSYS),
            *(_refuse(number, errno.ENOSYS) for number in ABSENT),
            *(_refuse(number, errno.EPERM) for number in (*numbers.denied, *DENIED_EVERYWHERE)),
            _when(numbers.clone, _deny_new_namespaces()),
            _when(numbers.ioctl, _deny_values(OFFSET_ARGUMENT_1, TERMINAL_REQUESTS)),
            _when(numbers.socket, _allow_values(OFFSET_ARGUMENT_0, SOCKET_FAMILIES)),
            _step(RETURN, ALLOW),
        )
    )


def _step(code: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """One instruction; jumps count the instructions to skip."""
    return struct.pack("=HBBI", code, if_true, if_false, operand)


def _refuse(number: int, code: int) -> bytes:
    return _step(JUMP_EQUAL, number, 0, 1) + _step(RETURN, ERRNO | code)


def _when(number: int, body: bytes) -> bytes:
    """Run `body`, which always returns, for one call; all others skip it."""
    return _step(JUMP_EQUAL, number, 0, len(body) // 8) + body


def _deny_new_namespaces() -> bytes:
    return (
        _step(LOAD, OFFSET_ARGUMENT_0)
        + _step(JUMP_ANY_BIT, NEW_NAMESPACES, 0, 1)
        + _step(RETURN, ERRNO | errno.EPERM)
        + _step(RETURN, ALLOW)
    )


def _deny_values(offset: int, values: tuple[int, ...]) -> bytes:
    tests = b"".join(_refuse(value, errno.EPERM) for value in values)
    return _step(LOAD, offset) + tests + _step(RETURN, ALLOW)


def _allow_values(offset: int, values: tuple[int, ...]) -> bytes:
    tests = b"".join(_step(JUMP_EQUAL, value, 0, 1) + _step(RETURN, ALLOW) for value in values)
    return _step(LOAD, offset) + tests + _step(RETURN, ERRNO | errno.EAFNOSUPPORT)


if __name__ == "__main__":
    for name in MACHINES:
        Path(str(DATA.joinpath(f"seccomp_{name}.bpf"))).write_bytes(built_filter(name))
