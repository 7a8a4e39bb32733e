"""Patterns for paths: `*`, `?` and `[a-z]` in a name, `{a,b}`, and `**` for folders. Not the walk.

Matching takes time in proportion to pattern and path: no pattern makes it explode. Needs the
standard library only: `search.py` runs it in a process of its own.
"""

import fnmatch
import re
from collections.abc import Callable, Sequence

ALTERNATIVES_MAX = 64
ANY_FOLDERS = "**"


class TooManyAlternatives(ValueError):
    """Braces in a pattern that stand for more than ALTERNATIVES_MAX patterns."""


def matcher(pattern: str) -> Callable[[str], bool]:
    """Whether a path, relative and without `.` and `..`, is what a pattern means.

    A pattern without `/` means a name in any folder.

    Raises:
        TooManyAlternatives: as it says.
    """
    spellings = [_segments(spelling) for spelling in _alternatives(pattern)]
    return lambda path: any(_matches(segments, path.split("/")) for segments in spellings)


def _segments(spelling: str) -> list[re.Pattern[str] | None]:
    names = [name for name in spelling.split("/") if name not in {"", "."}]
    if len(names) == 1:
        names = [ANY_FOLDERS, *names]
    # fnmatch makes atomic groups of its stars: they do not backtrack into each other.
    return [None if name == ANY_FOLDERS else re.compile(fnmatch.translate(name)) for name in names]


def _matches(segments: Sequence[re.Pattern[str] | None], names: Sequence[str]) -> bool:
    """Whether the segments use up the names: the places reached so far, one segment at a time."""
    reached = {0}
    for segment in segments:
        if segment is None:
            reached = set(range(min(reached), len(names) + 1))
        else:
            reached = {
                at + 1 for at in reached if at < len(names) and segment.match(names[at]) is not None
            }
        if not reached:
            return False
    return len(names) in reached


def _alternatives(pattern: str) -> list[str]:
    """The patterns without braces that one with braces stands for; nested ones stay as they are."""
    done: list[str] = [""]
    for part in re.split(r"(\{[^{}]*,[^{}]*\})", pattern):
        choices = part[1:-1].split(",") if part.startswith("{") and part.endswith("}") else [part]
        done = [begun + choice for begun in done for choice in choices]
        if len(done) > ALTERNATIVES_MAX:
            message = f"the braces stand for more than {ALTERNATIVES_MAX} patterns"
            raise TooManyAlternatives(message)
    return done
