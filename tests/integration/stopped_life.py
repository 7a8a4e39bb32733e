"""A life of a sandbox worker in a process of its own that stops itself at one point. Not a test.

    python -m tests.integration.stopped_life FOLDER before|after

It begins a call, is stopped before or after its line is in the journal, and says, once it goes on,
whether the call would have started.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

from domain.ids import RunRef
from services.sandbox.journal import Fenced, Journal, Name
from services.sandbox.journal_file import JournalFiles

CALL = Name(RunRef("acme", "job", "job"), "c1-0")
EPOCH = "stopped"


class Stopping(JournalFiles):
    """Stops the whole process at its second line."""

    def __init__(self, folder: Path, point: str) -> None:
        super().__init__(folder)
        self._point = point
        self._lines = 0

    async def append(self, epoch: str, data: bytes) -> None:
        """Add to the journal, and be stopped on the way."""
        self._lines += 1
        if self._lines == 2 and self._point == "before":
            os.kill(os.getpid(), signal.SIGSTOP)
        await super().append(epoch, data)
        if self._lines == 2 and self._point == "after":
            os.kill(os.getpid(), signal.SIGSTOP)


async def main(folder: str, point: str) -> None:
    """Begin the call."""
    journal = Journal(Stopping(Path(folder), point), "place", EPOCH)
    await journal.open()
    try:
        await journal.begin(CALL, 1, 1)
    except Fenced:
        sys.stdout.write("fenced\n")
    else:
        sys.stdout.write("started\n")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
