"""Which run changed a file last and which has seen it, so that no edit undoes another's unseen.

Advisory: it speaks of what file tools did. What a command changes shows as another stamp and stops
nobody, because nobody can be named.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import NamedTuple

PATHS_MAX = 100_000
"""How many paths a room remembers; beyond it the oldest are forgotten, and cannot conflict."""


class Stamp(NamedTuple):
    """What a file was when it was looked at: (inode, size, mtime_ns, ctime_ns)."""

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


@dataclass
class Seen:
    """For each path: who changed it last, and what each run saw of it last.

    Paths are places below the workspace with links resolved. File tools ask from threads.
    """

    _changed: OrderedDict[str, tuple[str, Stamp]] = field(
        default_factory=OrderedDict[str, tuple[str, Stamp]]
    )
    _seen: OrderedDict[tuple[str, str], Stamp] = field(
        default_factory=OrderedDict[tuple[str, str], Stamp]
    )
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False, compare=False)

    def look(self, run: str, path: str, stamp: Stamp) -> None:
        """A run has read a file as it is now."""
        with self._lock:
            self._seen.pop((run, path), None)
            self._seen[run, path] = stamp
            while len(self._seen) > PATHS_MAX:
                self._seen.popitem(last=False)

    def change(self, run: str, path: str, stamp: Stamp) -> None:
        """A run has changed a file, which is now as given."""
        with self._lock:
            self._changed.pop(path, None)
            self._changed[path] = (run, stamp)
            while len(self._changed) > PATHS_MAX:
                self._changed.popitem(last=False)
            self.look(run, path, stamp)

    def gone(self, path: str) -> None:
        """A file, or a folder with all that is in it, is no longer there."""
        with self._lock:
            for place in self._at_or_below(path):
                del self._changed[place]

    def moved(self, path: str, to: str) -> None:
        """What is known of a file, or of all that is in a folder, holds of another path now."""
        with self._lock:
            for place in self._at_or_below(path):
                self._changed[to + place[len(path) :]] = self._changed.pop(place)
            for run, place in [one for one in self._seen if _is_at_or_below(one[1], path)]:
                self._seen[run, to + place[len(path) :]] = self._seen.pop((run, place))

    def conflict(self, run: str, path: str, stamp: Stamp) -> str | None:
        """The other run whose change of this file, still in place, this run has not seen."""
        with self._lock:
            found = self._changed.get(path)
            if found is None or found[0] == run or found[1] != stamp:
                return None
            return None if self._seen.get((run, path)) == stamp else found[0]

    def changed_below(self, folder: str) -> list[str]:
        """The paths in a folder of which a change is known."""
        with self._lock:
            return [place for place in self._at_or_below(folder) if place != folder]

    def _at_or_below(self, path: str) -> list[str]:
        return [place for place in self._changed if _is_at_or_below(place, path)]


def _is_at_or_below(place: str, path: str) -> bool:
    return place.startswith(path) and place[len(path) :][:1] in {"", "/"}
