"""What differs between two trees, and between two texts. Not between what trees do not tell."""

import difflib
from collections.abc import Iterator
from itertools import islice
from typing import Literal, NamedTuple

from services.sandbox.snapshots.tree import Entry, Tree, shown, walk_key

TEXT_BYTES_MAX = 512 * 1024
LINES_MAX = 4_000
"""How many lines may differ between two texts: beyond it, comparing takes seconds."""

DIFF_BYTES_MAX = 64 * 1024
CONTEXT_LINES = 3


class Change(NamedTuple):
    """One path that is not the same in both; `mode` when nothing but its permissions differ."""

    path: bytes
    what: Literal["added", "removed", "changed", "mode"]
    before: Entry | None
    after: Entry | None


def diff(before: Tree, after: Tree) -> list[Change]:
    """What is different in `after`, in walk order."""
    paths = before.keys() | after.keys()
    changed = [path for path in paths if before.get(path) != after.get(path)]
    return [
        _change(path, before.get(path), after.get(path)) for path in sorted(changed, key=walk_key)
    ]


def _change(path: bytes, before: Entry | None, after: Entry | None) -> Change:
    if before is None:
        return Change(path, "added", None, after)
    if after is None:
        return Change(path, "removed", before, None)
    same = before._replace(mode=0) == after._replace(mode=0)
    return Change(path, "mode" if same else "changed", before, after)


def text_diff(path: bytes, before: bytes | None, after: bytes | None) -> str:
    """A unified diff of one file, None being no file; bounded, and one line when it cannot be."""
    name = shown(path)
    old, new = before or b"", after or b""
    if _is_binary(old) or _is_binary(new):
        return f"binary file {name} differs: {len(old)} and {len(new)} bytes\n"
    if max(len(old), len(new)) > TEXT_BYTES_MAX:
        return f"file {name} is too large to compare: {len(old)} and {len(new)} bytes\n"
    first, second = (text.decode().splitlines(keepends=True) for text in (old, new))
    if _differing(first, second) > LINES_MAX:
        return f"file {name} differs in too many lines: {len(first)} and {len(second)} lines\n"
    labels = ("/dev/null" if before is None else f"a/{name}", f"b/{name}")
    if after is None:
        labels = (labels[0], "/dev/null")
    return "".join(_bounded(difflib.unified_diff(first, second, *labels, n=CONTEXT_LINES)))


def _is_binary(data: bytes) -> bool:
    if b"\0" in data:
        return True
    try:
        data[:TEXT_BYTES_MAX].decode()
    except UnicodeDecodeError as error:
        return error.start < TEXT_BYTES_MAX - 4 or len(data) <= TEXT_BYTES_MAX
    return False


def _differing(first: list[str], second: list[str]) -> int:
    """How many lines are left when equal ones at both ends are taken off."""
    pairs = list(zip(first, second, strict=False))
    head = next((n for n, (a, b) in enumerate(pairs) if a != b), len(pairs))
    ends = zip(reversed(first[head:]), reversed(second[head:]), strict=False)
    tail = next((n for n, (a, b) in enumerate(ends) if a != b), len(pairs) - head)
    return max(len(first), len(second)) - head - tail


def _bounded(lines: Iterator[str]) -> Iterator[str]:
    size = 0
    for line in islice(lines, 4 * LINES_MAX):
        size += len(line.encode())
        if size > DIFF_BYTES_MAX:
            yield f"... more than {DIFF_BYTES_MAX} bytes of differences\n"
            return
        yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
