"""Advisory locks between processes by flock(2). Not locks between tasks.

They belong to an open file, so the kernel gives them back when a process ends, however it ends. A
change from one kind to the other is not atomic, and a refused change loses the lock one had.
"""

import asyncio
import fcntl
import os
from pathlib import Path

POLL_S = 0.02
PRIVATE_FILE = 0o600


class FileLock:
    """One open lock file."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)

    def try_exclusive(self) -> bool:
        """Take it for us alone, if nobody has it."""
        return self._try(fcntl.LOCK_EX)

    def try_shared(self) -> bool:
        """Take it together with others, if nobody has it alone."""
        return self._try(fcntl.LOCK_SH)

    async def exclusive(self, *, within_s: float) -> bool:
        """Take it for us alone, waiting a while."""
        return await self._wait(fcntl.LOCK_EX, within_s)

    async def shared(self, *, within_s: float) -> bool:
        """Take it together with others, waiting a while."""
        return await self._wait(fcntl.LOCK_SH, within_s)

    def release(self) -> None:
        """Give it back; not having it is fine."""
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Give it back for good."""
        os.close(self._file)

    def fileno(self) -> int:
        """The open file, to hand the lock on to a child."""
        return self._file

    def _try(self, kind: int) -> bool:
        try:
            fcntl.flock(self._file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    async def _wait(self, kind: int, within_s: float) -> bool:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within_s
        while not self._try(kind):
            if loop.time() > deadline:
                return False
            await asyncio.sleep(POLL_S)
        return True
