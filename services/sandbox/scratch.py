"""Empty folders for what needs a workspace and is nobody's job: made, and gone with their worker.

Beside the workspaces, because a sandbox's commands must get there as the user they run as.
"""

import asyncio
import os
import shutil
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from services.sandbox.bubblewrap.users import OWN_USERS, user_for
from services.sandbox.opening import open_workspace
from services.sandbox.workspace import Workspace

OPEN_TO_ALL = 0o711
"""Of folders above those that belong to users of their own."""


def passable(folder: Path) -> None:
    """Have a folder that others may pass, and those above it that are not there yet.

    Raises:
        OSError: it cannot be made.
    """
    if not folder.exists():
        passable(folder.parent)
        folder.mkdir(mode=OPEN_TO_ALL, exist_ok=True)
        folder.chmod(OPEN_TO_ALL)  # whatever our umask is


def fresh_folder(path: Path, key: str) -> Path:
    """An empty folder, new, of a user of its own where we may give it to one.

    Raises:
        OSError: it cannot be made.
    """
    passable(path.parent)
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(mode=0o700)
    if os.geteuid() == 0 and all(above.stat().st_mode & 0o001 for above in path.parents):
        number = user_for(key, OWN_USERS)
        os.chown(path, number, number)
    return path


class Scratch:
    """The empty folders of one life of a worker."""

    def __init__(self, root: Path, epoch: str) -> None:
        """`root` is the place's: other lives have theirs in it."""
        self._root = root
        self._epoch = epoch

    def make(self, name: str) -> Path:
        """A folder of that name.

        Raises:
            OSError: it cannot be made.
        """
        return fresh_folder(self._root / self._epoch / name, name)

    @asynccontextmanager
    async def opened(self, name: str) -> AsyncGenerator[Workspace]:
        """A folder of that name as a workspace, removed afterwards."""
        path = await asyncio.to_thread(self.make, name)
        try:
            with await open_workspace(path) as workspace:
                yield workspace
        finally:
            await asyncio.shield(asyncio.to_thread(remove, path))

    def close(self) -> None:
        """Remove them all."""
        remove(self._root / self._epoch)


def remove(path: Path) -> None:
    """Remove a folder with all that is in it, or a link by that name; it need not be there."""
    if path.is_symlink():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


def forget(root: Path, alive: Callable[[str], bool]) -> None:
    """Remove what dead lives left."""
    if root.is_dir():
        for left in root.iterdir():
            if not alive(left.name):
                remove(left)
