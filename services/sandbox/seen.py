"""Which run changed a file last and which has seen it, so that no edit undoes another's unseen.

Advisory: it speaks of what file tools did. What a command changes shows as another stamp and stops
nobody, because nobody can be named.
"""

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
    """For each path: who changed it last, and what each run saw of it last."""

    _changed: dict[str, tuple[str, Stamp]] = field(default_factory=dict[str, tuple[str, Stamp]])
    _seen: dict[tuple[str, str], Stamp] = field(default_factory=dict[tuple[str, str], Stamp])

    def look(self, run: str, path: str, stamp: Stamp) -> None:
        """A run has read a file as it is now."""
        self._seen.pop((run, path), None)
        self._seen[run, path] = stamp
        while len(self._seen) > PATHS_MAX:
            del self._seen[next(iter(self._seen))]

    def change(self, run: str, path: str, stamp: Stamp) -> None:
        """A run has changed a file, which is now as given."""
        self._changed.pop(path, None)
        self._changed[path] = (run, stamp)
        while len(self._changed) > PATHS_MAX:
            del self._changed[next(iter(self._changed))]
        self.look(run, path, stamp)

    def conflict(self, run: str, path: str, stamp: Stamp) -> str | None:
        """The other run whose change of this file, still in place, this run has not seen."""
        found = self._changed.get(path)
        if found is None or found[0] == run or found[1] != stamp:
            return None
        return None if self._seen.get((run, path)) == stamp else found[0]
