"""One process at a time, by a file that the kernel unlocks however its holder ends."""

import asyncio
import fcntl
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

AGAIN_S = 0.2
"""How often a lock that another process holds is tried, in seconds."""


@asynccontextmanager
async def locked(file: Path) -> AsyncGenerator[None]:
    """Hold the lock; waits as long as another process does.

    Raises:
        OSError: the file cannot be made.
    """
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while not _taken(descriptor):  # noqa: ASYNC110 - the kernel tells nobody
            await asyncio.sleep(AGAIN_S)
        yield
    finally:
        os.close(descriptor)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
