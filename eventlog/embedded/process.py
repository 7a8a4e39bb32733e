"""A process by its number and birth: alive, ended, stop. Not the server in it.

The server must outlive whoever started it, so it is no child object of this process: it has a
session of its own, and is known by pid and start time, which together name one process for good.
"""

import asyncio
import os
import select
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

POLL_S = 0.1
STOP_S = 10.0
KILL_S = 5.0
"""How long a process may take to end when asked, and when killed, in seconds."""

STANDARD_ERROR = 2
START_FIELD = 19
STATE_FIELD = 0
THREADS_FIELD = 17
"""Places in `/proc/<pid>/stat` after the command's name: fields 22, 3 and 20 of proc(5)."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process, for good."""

    pid: int
    started: int

    def alive(self) -> bool:
        """Whether it still runs; reaps it when it was our child and does not."""
        _reap(self.pid)
        return start_of(self.pid) == self.started

    async def ended(self) -> None:
        """Return when it runs no more."""
        if not self.alive():
            return
        try:
            file = os.pidfd_open(self.pid)
        except (AttributeError, OSError):
            while self.alive():  # noqa: ASYNC110 - another process has no event to wait for
                await asyncio.sleep(POLL_S)
            return
        try:
            if self.alive():
                await _readable(file)
        finally:
            os.close(file)
        _reap(self.pid)

    def kill(self) -> None:
        """End it at once, without a chance to tidy up; gone already is fine."""
        if self.alive():
            os.kill(self.pid, signal.SIGKILL)

    async def stop(self) -> None:
        """End it: ask, wait, then kill. A process that is gone already is fine."""
        for number, wait_s in ((signal.SIGTERM, STOP_S), (signal.SIGKILL, KILL_S)):
            if not self.alive():
                return
            try:
                os.kill(self.pid, number)
                async with asyncio.timeout(wait_s):
                    await self.ended()
            except (ProcessLookupError, TimeoutError):
                continue


def spawn(command: Sequence[str], environment: dict[str, str], *, hand_on: int) -> Process:
    """Start a process in a session of its own, so that no terminal signal reaches it.

    It inherits the open file `hand_on`, so that a lock on that lives as long as the process, and no
    other: it may outlive us, and whoever reads a pipe that we were given would wait for its end.

    Raises:
        OSError: it cannot be started.
    """
    files = [
        (os.POSIX_SPAWN_OPEN, descriptor, os.devnull, os.O_RDWR, 0) for descriptor in (0, 1, 2)
    ]
    closed = [(os.POSIX_SPAWN_CLOSE, descriptor) for descriptor in _handed_to_us()]
    inherit = (os.POSIX_SPAWN_DUP2, hand_on, hand_on + 1)
    pid = os.posix_spawn(
        command[0],
        list(command),
        environment,
        file_actions=[*closed, *files, inherit],
        setsid=True,
        setsigmask=[],
        setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE],
    )
    return Process(pid, start_of(pid) or 0)


def _handed_to_us() -> list[int]:
    """The open files beyond the standard ones that a process started by us would inherit."""
    found: list[int] = []
    for name in os.listdir("/dev/fd"):  # noqa: PTH208 - pathlib would look at each of them
        try:
            if int(name) > STANDARD_ERROR and os.get_inheritable(int(name)):
                found.append(int(name))
        except OSError:
            continue  # it was the listing's own
    return found


def start_of(pid: int) -> int | None:
    """When a living process started, in clock ticks since boot; None when there is none.

    Its first thread may be over before the others are, which still hold its files and locks.
    Without `/proc` there is no start time: 0 stands for any living process of that number.
    """
    if not Path("/proc/self/stat").exists():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        return 0
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    over = fields[STATE_FIELD] in "ZX" and int(fields[THREADS_FIELD]) <= 1
    return None if over else int(fields[START_FIELD])


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


async def _readable(file: int) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(file, ready.set)
    try:
        if not select.select([file], [], [], 0)[0]:
            await ready.wait()
    finally:
        loop.remove_reader(file)
