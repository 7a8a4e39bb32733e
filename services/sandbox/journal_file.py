"""Journals as files of one folder, each append synced to the disk. Not what is in them.

A life holds a lock on its journal until its process ends: others see that it may go on.
"""

import asyncio
import fcntl
import os
from contextlib import suppress
from pathlib import Path

from domain.ids import RunRef
from services.sandbox.journal import header

FENCES = "fences"

ENDED = "ended"
"""Lists the epochs whose journals were removed when no open run could ask for them any more."""

_APPEND_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW

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
        return await asyncio.to_thread(self._read, epoch)

    async def fence(self, ref: RunRef, data: bytes) -> None:
        """Add to the fence of a run's job; every process that reads it later sees that.

        Not synced: whom it keeps out does not survive a power cut either.

        Raises:
            OSError: it may not be there.
        """
        await asyncio.to_thread(self._fence, ref, data)

    async def fences(self, ref: RunRef) -> bytes:
        """The fence of a run's job: what `fence` has added so far.

        Raises:
            OSError: it cannot be read.
        """
        try:
            return await asyncio.to_thread(self._fence_of(ref).read_bytes)
        except FileNotFoundError:
            return b""

    def close(self) -> None:
        """Let go of the files."""
        while self._open:
            os.close(self._open.popitem()[1])

    def tidy(self, now_s: float) -> list[str]:
        """Remove journals that nobody can need any more, and fences; the epochs of the journals.

        What a life may still write stays, however long it has said nothing; and while there is
        another one, nobody knows which fences keep it out.
        """
        others = [path for path in self._folder.glob("*.jsonl") if path.stem not in self._open]
        living = {path for path in others if _is_held(path)}
        fences = () if living else self._folder.glob(f"{FENCES}/*/*.jsonl")
        removed: list[Path] = []
        for path in (*others, *fences):
            if path not in living and now_s - path.stat().st_mtime > JOURNAL_AGE_S:
                path.unlink(missing_ok=True)
                removed.append(path)
        return sorted(path.stem for path in removed if path.parent == self._folder)

    def retire(self, epoch: str) -> bool:
        """Remove the journal of an epoch that has ended and that no open run may ask for.

        What is asked of it later was asked after its end, so it did not begin that: this is kept in
        mind. False when its process may go on.

        Raises:
            OSError: it is still there.
        """
        path = self._path(epoch)
        if _is_held(path):
            return False
        descriptor = os.open(self._folder / ENDED, _APPEND_FLAGS, 0o600)
        try:
            os.write(descriptor, b"\n" + epoch.encode() + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        path.unlink(missing_ok=True)
        return True

    def _read(self, epoch: str) -> bytes | None:
        with suppress(FileNotFoundError):
            return self._path(epoch).read_bytes()
        with suppress(FileNotFoundError):
            if epoch.encode() in (self._folder / ENDED).read_bytes().split(b"\n")[:-1]:
                return header("", epoch)
        return None

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
        descriptor = os.open(self._path(epoch), _APPEND_FLAGS, 0o600)
        with suppress(BlockingIOError):  # an earlier life of this very process has it
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)  # the name, too, is to survive
        finally:
            os.close(folder)
        return descriptor

    def _fence(self, ref: RunRef, data: bytes) -> None:
        path = self._fence_of(ref)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, _APPEND_FLAGS, 0o600)
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(descriptor, left) :]
        finally:
            os.close(descriptor)

    def _fence_of(self, ref: RunRef) -> Path:
        return self._folder / FENCES / ref.tenant / f"{ref.job}.jsonl"

    def _path(self, epoch: str) -> Path:
        return self._folder / f"{epoch}.jsonl"


def _is_held(path: Path) -> bool:
    """Whether a process that lives, or is stopped, has this journal open to write."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False  # gone meanwhile
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
