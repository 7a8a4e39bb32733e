"""Whole folders: looking through them and removing them, within limits, never along a link.

Not patterns, and not what is done with a file. Needs the standard library only: `search.py` runs
it in a process of its own.
"""

import errno
import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

DEPTH_MAX = 100
ENTRIES_MAX = 200_000
SECONDS_MAX = 5.0
ROUNDS_MAX = 1000

LIST_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
SKIPPED = ".git"
_FULL = (errno.ENOTEMPTY, errno.EEXIST)
_NO_FOLDER = (errno.ENOTDIR, errno.ELOOP)  # something else by now, or a link


class Found(NamedTuple):
    """An entry below a folder: `folder` is open only until the next one is asked for."""

    path: str
    folder: int
    name: str
    is_folder: bool
    is_file: bool


@dataclass
class Walk:
    """One look through a folder; `cut` says what limit ended it early: depth, entries or time."""

    clock: Callable[[], float]  # seconds, only ever forward
    hide: Callable[[str], bool]  # which names at the top do not exist for it
    seconds_max: float = SECONDS_MAX
    cut: str = ""
    stopped: Callable[[], bool] = lambda: False
    _seen: int = 0
    _until: float = 0.0

    def below(self, top: int) -> Iterator[Found]:
        """Every entry below an open folder, by name, each folder before what is in it."""
        self._until = self.clock() + self.seconds_max
        yield from self._below(top, "", 0)

    def _below(self, folder: int, above: str, depth: int) -> Iterator[Found]:
        for found in self._entries(folder, above):
            if self._spent():
                return
            if depth == 0 and self.hide(found.name):
                continue
            yield found
            if not found.is_folder or found.name == SKIPPED:
                continue
            if depth >= DEPTH_MAX:
                self.cut = "depth"
                continue
            try:
                deeper = os.open(found.name, LIST_FLAGS, dir_fd=folder)
            except OSError:  # gone, closed to us, or a link by now
                continue
            try:
                yield from self._below(deeper, f"{found.path}/", depth + 1)
            finally:
                os.close(deeper)

    def _entries(self, folder: int, above: str) -> list[Found]:
        """What is in a folder, sorted; a folder with too many entries is only begun."""
        found: list[Found] = []
        with os.scandir(folder) as entries:
            for entry in entries:
                self._seen += 1
                if self._spent():
                    break
                found.append(
                    Found(
                        above + entry.name,
                        folder,
                        entry.name,
                        entry.is_dir(follow_symlinks=False),
                        entry.is_file(follow_symlinks=False),
                    )
                )
        return sorted(found, key=lambda one: one.name)

    def _spent(self) -> bool:
        if self._seen > ENTRIES_MAX:
            self.cut = "entries"
        elif self.clock() > self._until or self.stopped():
            self.cut = "time"
        return self.cut in {"entries", "time"}


def remove_tree(parent: int, name: str, stopped: Callable[[], bool] = lambda: False) -> int:
    """Remove a folder in an open folder, with all that is in it; how many entries went.

    Folders too deep to hold all those above them open are moved up, then removed in a further
    round. Somebody who fills it again as fast as it is emptied wins after ROUNDS_MAX rounds.

    Raises:
        OSError: an entry cannot be removed; those before it are gone. ENOTEMPTY: it fills up.
        InterruptedError: it was stopped.
    """
    top = os.open(name, LIST_FLAGS, dir_fd=parent)
    try:
        removed = 0
        for _ in range(ROUNDS_MAX):
            removed += _empty(top, top, 0, stopped)
            try:
                os.rmdir(name, dir_fd=parent)
            except OSError as error:
                if error.errno not in _FULL:
                    raise
            else:
                return removed + 1
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=parent)
    return removed + 1


def _empty(folder: int, top: int, depth: int, stopped: Callable[[], bool]) -> int:
    with os.scandir(folder) as entries:
        names = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    removed = 0
    for name, is_folder in names:
        if stopped():
            raise InterruptedError(errno.EINTR, os.strerror(errno.EINTR))
        if not is_folder:
            removed += _unlink(folder, name)
        elif depth >= DEPTH_MAX:
            os.rename(name, secrets.token_hex(16), src_dir_fd=folder, dst_dir_fd=top)
        else:
            removed += _remove_folder(folder, name, top, depth, stopped)
    return removed


def _remove_folder(
    folder: int, name: str, top: int, depth: int, stopped: Callable[[], bool]
) -> int:
    try:
        deeper = os.open(name, LIST_FLAGS, dir_fd=folder)
    except FileNotFoundError:
        return 0
    except OSError as error:
        if error.errno not in _NO_FOLDER:
            raise
        return _unlink(folder, name)
    try:
        removed = _empty(deeper, top, depth + 1, stopped)
    finally:
        os.close(deeper)
    try:
        os.rmdir(name, dir_fd=folder)
    except FileNotFoundError:
        return removed
    except OSError as error:
        if error.errno not in _FULL:
            raise
        return removed  # filled again, or not emptied because too deep: a further round
    return removed + 1


def _unlink(folder: int, name: str) -> int:
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return 0
    except IsADirectoryError:  # a folder by now: a further round
        return 0
    return 1
