"""Ends what a killed worker left of a sandbox in the making (C10). Never a sandbox at work.

Bubblewrap sets the parent-death signal of its inner process only once the outer one has set it up.
A worker killed in between leaves an inner process that waits for that for ever: it has begun
nothing, its workspace is mounted nowhere, and nobody will ever wake it.
"""

import os
import signal
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
MEMFD = "/memfd:peritus"
"""How the descriptors of our arguments look in /proc: nobody else's bubblewrap holds one."""

INNER = 2
"""How many pid namespaces the inner process is in, seen from ours."""


def end_orphans(bwrap: Path) -> list[int]:
    """Kill every inner bubblewrap of ours whose outer one is gone; the pids that were killed."""
    killed: list[int] = []
    for entry in PROC.iterdir():
        if not entry.name.isdecimal():
            continue
        with suppress(OSError):  # gone meanwhile, or not ours to look at
            if _orphaned(entry, bwrap):
                descriptor = os.pidfd_open(int(entry.name))
                try:
                    if _orphaned(entry, bwrap):  # still the same process
                        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                        killed.append(int(entry.name))
                finally:
                    os.close(descriptor)
    return killed


def _orphaned(entry: Path, bwrap: Path) -> bool:
    """Whether this is the first process of a sandbox of ours, and no bubblewrap is its parent."""
    if not (entry / "exe").samefile(bwrap):
        return False
    status = _status(entry)
    spaces = status.get("NSpid", "").split()
    if len(spaces) != INNER or spaces[-1] != "1":
        return False
    if not any(str(name.readlink()).startswith(MEMFD) for name in (entry / "fd").iterdir()):
        return False
    parent = PROC / status.get("PPid", "0")
    return not (parent.is_dir() and _same_program(parent, bwrap))


def _same_program(entry: Path, bwrap: Path) -> bool:
    try:
        return (entry / "exe").samefile(bwrap)
    except OSError:
        return False


def _status(entry: Path) -> dict[str, str]:
    lines = (entry / "status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
