"""How much a workspace holds, and whether that is too much. Not what is done about it.

A soft quota: commands write until somebody looks. A look is a walk over all files, so between walks
the file system itself is asked how much it has lost: while that is less than what the workspace had
left, it cannot be over. Others may free space meanwhile, so a walk is due again after a while.
"""

import os
import stat
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from domain.sandbox import SandboxLimits
from services.sandbox.paths import is_state_folder
from services.sandbox.snapshots.scan import DEPTH_MAX, FOLDER_FLAGS

BLOCK_BYTES = 512
WALK_AGE_MAX_S = 10.0
"""How long a walk is believed without another, in seconds."""


class Usage(NamedTuple):
    """What a workspace holds; `over` says in words why it is too much, or is empty.

    A file counts with its length or with the disk it takes, whichever is more, and each name of it
    counts: so what is within its quota can always be captured, and restored.
    """

    files: int  # and folders, and links
    bytes: int
    over: str


class QuotaWatch:
    """Looks after one workspace, by its descriptor, which stays the caller's. Its methods block."""

    def __init__(
        self,
        workspace: int,
        limits: SandboxLimits,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._workspace = workspace
        self._limits = limits
        self._monotonic = monotonic
        self._last: Usage | None = None
        self._walked_at = 0.0
        self._free_then = (0, 0)
        self._one_at_a_time = threading.Lock()

    def check(self, *, full: bool = False) -> Usage:
        """What the workspace holds: as of the last walk if nothing can have gone over since.

        Raises:
            OSError: the workspace cannot be read.
        """
        with self._one_at_a_time:
            if full or self._last is None or self._last.over or self._may_be_over(self._last):
                self._free_then = self._free()
                self._walked_at = self._monotonic()
                self._last = usage_of(self._workspace, self._limits)
            return self._last

    def _may_be_over(self, last: Usage) -> bool:
        if self._monotonic() - self._walked_at > WALK_AGE_MAX_S:
            return True
        bytes_free, files_free = self._free()
        return (
            self._free_then[0] - bytes_free >= self._limits.workspace_bytes - last.bytes
            or self._free_then[1] - files_free >= self._limits.workspace_files - last.files
        )

    def _free(self) -> tuple[int, int]:
        found = os.fstatvfs(self._workspace)
        return found.f_bfree * found.f_frsize, found.f_ffree


def usage_of(workspace: int, limits: SandboxLimits) -> Usage:
    """Walk a workspace and count, but not much further than its limits.

    Raises:
        OSError: the workspace cannot be read.
    """
    walk = _Walk(limits)
    top = os.open(".", FOLDER_FLAGS, dir_fd=workspace)
    try:
        walk.folder(top, 0)
    finally:
        os.close(top)
    return Usage(walk.files, walk.bytes, walk.over)


class _Walk:
    def __init__(self, limits: SandboxLimits) -> None:
        self._limits = limits
        self.files = self.bytes = 0
        self.over = ""

    def folder(self, descriptor: int, depth: int) -> None:
        deeper: list[str] = []
        with os.scandir(descriptor) as items:
            for item in items:
                if depth == 0 and is_state_folder(item.name):
                    continue
                try:
                    found = item.stat(follow_symlinks=False)
                except OSError:
                    continue
                self.files += 1
                if stat.S_ISDIR(found.st_mode):
                    deeper.append(item.name)
                else:
                    self.bytes += max(found.st_size, found.st_blocks * BLOCK_BYTES)
                if self._is_over():
                    return
        if deeper and depth >= DEPTH_MAX:
            self.over = f"its folders lie deeper than {DEPTH_MAX} in one another"
            return
        for name in deeper:
            self._subfolder(descriptor, name, depth)
            if self.over:
                return

    def _subfolder(self, parent: int, name: str, depth: int) -> None:
        try:
            descriptor = os.open(name, FOLDER_FLAGS, dir_fd=parent)
        except OSError:
            return  # gone, or closed to us: its files cannot be counted
        try:
            self.folder(descriptor, depth + 1)
        finally:
            os.close(descriptor)

    def _is_over(self) -> bool:
        if self.files > self._limits.workspace_files:
            self.over = f"it has more than {self._limits.workspace_files} files"
        elif self.bytes > self._limits.workspace_bytes:
            self.over = f"its files have more than {self._limits.workspace_bytes} bytes"
        return bool(self.over)
