"""Journals as files of one folder, each append synced to the disk. Not what is in them."""

import asyncio
import os
from pathlib import Path

JOURNAL_AGE_S = 7 * 24 * 3600
"""How long the journal of an ended worker is kept, in seconds."""


class JournalFiles:
    """Fills the port `JournalStore`: `<folder>/<epoch>.jsonl`, readable by the owner only."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[str, int] = {}

    async def append(self, epoch: str, data: bytes) -> None:
        """Add to the journal of an epoch; durable when it returns.

        Raises:
            OSError: it is not.
        """
        await asyncio.to_thread(self._append, epoch, data)

    async def read(self, epoch: str) -> bytes | None:
        """The journal of an epoch; None when this place has none."""
        try:
            return await asyncio.to_thread(self._path(epoch).read_bytes)
        except FileNotFoundError:
            return None

    def close(self) -> None:
        """Let go of the files."""
        while self._open:
            os.close(self._open.popitem()[1])

    def tidy(self, now_s: float) -> list[str]:
        """Remove journals that nobody can need any more; their epochs."""
        old = [
            path
            for path in self._folder.glob("*.jsonl")
            if path.stem not in self._open and now_s - path.stat().st_mtime > JOURNAL_AGE_S
        ]
        for path in old:
            path.unlink(missing_ok=True)
        return sorted(path.stem for path in old)

    def _append(self, epoch: str, data: bytes) -> None:
        descriptor = self._open.get(epoch)
        if descriptor is None:
            descriptor = self._open[epoch] = self._make(epoch)
        before = os.fstat(descriptor).st_size
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(descriptor, left) :]
            os.fdatasync(descriptor)
        except OSError:
            os.ftruncate(descriptor, before)  # half a line must not run into the next
            raise

    def _make(self, epoch: str) -> int:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self._path(epoch), flags, 0o600)
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)  # the name, too, is to survive
        finally:
            os.close(folder)
        return descriptor

    def _path(self, epoch: str) -> Path:
        return self._folder / f"{epoch}.jsonl"
