"""Which workers of a place may have left something behind: a mark for each. Not what they left.

A mark is made before the first sandbox is, and removed when everything was closed in order.
"""

from collections.abc import Callable
from pathlib import Path

FOLDER = "lives"


def begin(state: Path, epoch: str) -> None:
    """Note that this life is going to make sandboxes."""
    folder = state / FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (folder / epoch).touch()


def end(state: Path, epoch: str) -> None:
    """Nothing of this life is left."""
    (state / FOLDER / epoch).unlink(missing_ok=True)


def begun(state: Path) -> list[str]:
    """The lives that were not closed in order, or are still at it."""
    folder = state / FOLDER
    return sorted(mark.name for mark in folder.iterdir()) if folder.is_dir() else []


def forget(state: Path, alive: Callable[[str], bool]) -> None:
    """What dead lives left was ended."""
    for epoch in begun(state):
        if not alive(epoch):
            end(state, epoch)
