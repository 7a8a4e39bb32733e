"""The name of one life of a worker process, and the proof that it ended. Not a lease."""

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")


class Epoch(NamedTuple):
    """One life of one process, as `<machine>-<boot>-<pid namespace>-<pid>-<start>`.

    `start` is the process's start time in clock ticks since boot (field 22 of /proc/<pid>/stat,
    see proc(5)): pids are used again, a pid with its start time is not.
    """

    machine: str
    boot: str
    namespace: str
    pid: int
    start: int

    def __str__(self) -> str:
        """The form used in the log and on the wire: one subject token."""
        return f"{self.machine}-{self.boot}-{self.namespace}-{self.pid}-{self.start}"

    @classmethod
    def parse(cls, text: str) -> "Epoch | None":
        """The epoch of that text; None when it is not of this form."""
        parts = text.split("-")
        if len(parts) != len(cls._fields) or not (parts[3].isdecimal() and parts[4].isdecimal()):
            return None
        return cls(parts[0], parts[1], parts[2], int(parts[3]), int(parts[4]))


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _read(path: Path, fallback: str) -> str:
    try:
        return path.read_text().strip() or fallback
    except OSError:
        return fallback


def start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None when there is no such process."""
    try:
        stat = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # the name before may hold spaces and parentheses
    if fields[0] in ("Z", "X"):  # a zombie works no more
        return None
    return int(fields[19])


def this_epoch() -> Epoch:
    """The epoch of this process."""
    pid = os.getpid()
    return Epoch(
        machine=_short(_read(Path("/etc/machine-id"), os.uname().nodename)),
        boot=_short(_read(PROC / "sys/kernel/random/boot_id", "unknown")),
        namespace=_short(str((PROC / "self/ns/pid").stat().st_ino) if PROC.is_dir() else "none"),
        pid=pid,
        start=start_ticks(pid) or 0,
    )


def proven_dead(epoch: Epoch, here: Epoch) -> bool:
    """Whether this machine can tell that the process of an epoch is gone, without waiting.

    False means "cannot tell", or alive. Another boot proves nothing: machines made from one image
    can share a machine id.
    """
    if (epoch.machine, epoch.boot, epoch.namespace) != (here.machine, here.boot, here.namespace):
        return False
    return start_ticks(epoch.pid) != epoch.start
