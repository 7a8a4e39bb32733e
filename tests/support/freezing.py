"""Stops a whole process so that it answers nothing, and lets it go on. Not for our own process."""

import os
import signal
from pathlib import Path
from time import monotonic

STOP_S = 5.0


def freeze(pid: int) -> None:
    """Every thread of the process is stopped when this returns.

    A signal reaches threads on other processors a moment after it was sent.
    """
    os.kill(pid, signal.SIGSTOP)
    deadline = monotonic() + STOP_S
    while not _stopped(pid):
        assert monotonic() < deadline, f"process {pid} did not stop"


def _stopped(pid: int) -> bool:
    return all(
        path.read_text().rpartition(")")[2].split()[0] == "T"
        for path in Path(f"/proc/{pid}/task").glob("*/stat")
    )


def thaw(pid: int) -> None:
    """It goes on."""
    os.kill(pid, signal.SIGCONT)
