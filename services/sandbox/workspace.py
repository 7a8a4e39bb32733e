"""The files of one job, from outside the sandbox: every access stays beneath one open folder.

Not the tools' wording, and not a lock: who writes at the same time is the caller's business.
"""

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Self

from services.sandbox.disk import (
    FOLDER_FLAGS,
    FOLDER_READ_FLAGS,
    READ_FLAGS,
    adopt,
    check_changeable,
    check_regular,
    named_errors,
    read_up_to,
    replace,
    shown,
    stamp_of,
    stat_or_none,
    type_of,
)
from services.sandbox.failures import Code, SandboxUnavailable, ToolError
from services.sandbox.paths import (
    MOUNT,
    STATE_FOLDER,
    is_state_folder,
    relative_parts,
    state_folder_refused,
)
from services.sandbox.resolve import OpenBeneath, open_beneath
from services.sandbox.seen import Stamp

FILE_BYTES_MAX = 16 * 1024 * 1024
ENTRIES_SCANNED_MAX = 100_000

Guard = Callable[[str, Stamp | None], None]
"""(place, what is there) -> None: raises ToolError when it must not be changed."""


class Entry(NamedTuple):
    """One name in a folder; a link is described as itself, never as what it leads to."""

    name: str
    type: str
    size: int
    modified_s: float


class Looked(NamedTuple):
    """A file that was read: `place` is its path below the workspace with all links resolved."""

    content: bytes
    place: str
    stamp: Stamp


class Written(NamedTuple):
    """A file that was written."""

    created: bool
    place: str
    stamp: Stamp


class Named(NamedTuple):
    """A name, which may not exist, in an open folder (O_PATH) of the workspace."""

    folder: int
    name: str
    place: str


class Workspace:
    """One job's folder, held by an open descriptor, so that renaming it away changes nothing.

    The state folder inside is made when it is missing. An agent can therefore never put its own
    one there for Peritus to trust later, and a sandbox always finds a real folder to cover.
    """

    def __init__(self, root: Path, opener: OpenBeneath | None = None) -> None:
        """Open a workspace.

        Raises:
            SandboxUnavailable: the folder is missing, or its state folder is something else.
        """
        self._open_beneath = opener or open_beneath()
        try:
            self._root = os.open(root, FOLDER_FLAGS)
        except OSError as error:
            message = f"the workspace {str(root)!r} cannot be opened: {error.strerror}"
            raise SandboxUnavailable(message) from error
        try:
            self._claim_state_folder()
        except OSError as error:
            self.close()
            message = (
                f"{STATE_FOLDER!r} in the workspace {str(root)!r} must be a folder: "
                f"{error.strerror}; remove it"
            )
            raise SandboxUnavailable(message) from error

    def _claim_state_folder(self) -> None:
        try:
            os.mkdir(STATE_FOLDER, 0o700, dir_fd=self._root)
        except FileExistsError:
            flags = FOLDER_FLAGS | os.O_NOFOLLOW
            os.close(os.open(STATE_FOLDER, flags, dir_fd=self._root))
        else:
            adopt(self._root, STATE_FOLDER)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the folder; closing twice is harmless."""
        if self._root >= 0:
            os.close(self._root)
            self._root = -1

    def fileno(self) -> int:
        """The descriptor (O_PATH) that sandboxes mount."""
        return self._root

    def owner(self) -> tuple[int, int]:
        """Who owns the folder: user and group."""
        found = os.fstat(self._root)
        return found.st_uid, found.st_gid

    def read(self, path: str, bytes_max: int = FILE_BYTES_MAX) -> bytes:
        """The content of a regular file.

        Raises:
            ToolError: no such file, not a regular file, too large, or outside.
        """
        return self.look(path, bytes_max).content

    def look(self, path: str, bytes_max: int = FILE_BYTES_MAX) -> Looked:
        """The content of a regular file, and what tells it from what it will be later.

        Raises:
            ToolError: no such file, not a regular file, too large, or outside.
        """
        with named_errors(path), self.opened(path, READ_FLAGS) as descriptor:
            found = os.fstat(descriptor)
            check_regular(path, found)
            content = read_up_to(descriptor, bytes_max + 1)
            place = self._place_below(descriptor) or ""
        if len(content) > bytes_max:
            size = max(found.st_size, len(content))
            message = (
                f"{path!r} has {size} bytes, more than the {bytes_max} this tool reads; "
                "take the part you need with exec, for example sed -n 1,200p"
            )
            raise ToolError(Code.TOO_LARGE, message, size=size)
        return Looked(content, place, stamp_of(found))

    def write(self, path: str, content: bytes) -> bool:
        """Put a whole file in place at once, with missing folders; whether it was new.

        Raises:
            ToolError: as `put`.
        """
        return self.put(path, content).created

    def put(self, path: str, content: bytes, guard: Guard | None = None) -> Written:
        """Put a whole file in place at once, with missing folders.

        Readers see the old file or the new one, and after a crash the disk holds one of the two.
        A file that somebody else changes between the guard's look and the end is left alone.

        Raises:
            ToolError: the target is not a plain file of its own, or outside, or not what the
                guard allows; nothing changed.
        """
        if len(content) > FILE_BYTES_MAX:
            message = f"the text has {len(content)} bytes, more than {FILE_BYTES_MAX}"
            raise ToolError(Code.TOO_LARGE, message, size=len(content))
        with named_errors(path), self.named(path, make=True) as (folder, name, place):
            old = stat_or_none(folder, name)
            if old is not None:
                check_changeable(path, name, folder, old)
            before = None if old is None else stamp_of(old)
            if guard is not None:
                guard(place, before)

            def check() -> None:
                found = stat_or_none(folder, name)
                if (None if found is None else stamp_of(found)) != before:
                    raise changed_meanwhile(path)

            stamp = replace(folder, name, content, old, check)
        return Written(old is None, place, stamp)

    def list(self, path: str, entries_max: int) -> tuple[list[Entry], int]:
        """The first entries of a folder by name, and how many there are in all.

        Raises:
            ToolError: no such folder, not a folder, or outside.
        """
        with (
            named_errors(path),
            self.opened(path, FOLDER_READ_FLAGS) as descriptor,
        ):
            names = sorted(_names(descriptor, hide_state=self.is_root(descriptor)))
            found = [_entry(descriptor, name) for name in names[:entries_max]]
        return [entry for entry in found if entry is not None], len(names)

    def directory(self, path: str) -> str:
        """Where the sandbox finds a folder of the workspace.

        Raises:
            ToolError: no such folder, not a folder, or outside.
        """
        with named_errors(path), self.opened(path, FOLDER_FLAGS):
            return "/".join((MOUNT, *relative_parts(path)))

    def names_root(self, path: str) -> bool:
        """Whether a path is a spelling of the workspace itself.

        Raises:
            ToolError: the path is malformed.
        """
        return not relative_parts(path)

    def is_root(self, descriptor: int) -> bool:
        """Whether an open folder is the workspace itself, which shows no state folder."""
        return os.path.samestat(os.fstat(descriptor), os.fstat(self._root))

    @contextmanager
    def opened(self, path: str, flags: int) -> Generator[int]:
        """What a path leads to, open; links inside are followed.

        Raises:
            ToolError: the path is malformed, or belongs to Peritus.
            OSError: as `os.open`, EXDEV when it leads outside; see `named_errors`.
        """
        spelled = "/".join(relative_parts(path)) or "."
        descriptor = self._open_beneath(self._root, spelled, flags)
        try:
            self._check_not_state(path, descriptor)
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def named(self, path: str, *, make: bool = False) -> Generator[Named]:
        """The folder a path's last name is in, open; `make` adds folders that are missing.

        Raises:
            ToolError: the path is malformed, names no entry of a folder, or belongs to Peritus.
            OSError: as `os.open`, EXDEV when it leads outside; see `named_errors`.
        """
        parts = relative_parts(path)
        if not parts or parts[-1] == "..":
            raise ToolError(Code.IS_DIRECTORY, f"{path!r} is a directory; name what is in it")
        folder = self._open_folder(parts[:-1], path, make=make)
        try:
            self._check_not_state(path, folder)
            self._check_name_in(path, folder, parts[-1])
            above = self._place_below(folder)
            yield Named(folder, parts[-1], f"{above}/{parts[-1]}" if above else parts[-1])
        finally:
            os.close(folder)

    def _place_below(self, descriptor: int) -> str | None:
        """The path of something open, below the workspace: "" is itself, None is elsewhere."""
        root, place = _place_of(self._root), _place_of(descriptor)
        if place == root:
            return ""
        root = root.rstrip("/") + "/"
        return place[len(root) :] if place.startswith(root) else None

    def _check_not_state(self, path: str, descriptor: int) -> None:
        """Refuse what a link led into the state folder: the spelling alone does not show it."""
        place = self._place_below(descriptor)
        if place is not None and is_state_folder(place.split("/")[0]):
            raise state_folder_refused(path)

    def _check_name_in(self, path: str, folder: int, name: str) -> None:
        """Refuse the state folder by its name where a link led back to the top."""
        if is_state_folder(name) and self.is_root(folder):
            raise state_folder_refused(path)

    def _open_folder(self, parts: tuple[str, ...], path: str, *, make: bool) -> int:
        try:
            return self._open_beneath(self._root, "/".join(parts) or ".", FOLDER_FLAGS)
        except FileNotFoundError:
            if not make:
                raise
            return self._make_folders(path, parts)

    def _make_folders(self, path: str, parts: tuple[str, ...]) -> int:
        folder = os.dup(self._root)
        for depth, name in enumerate(parts, start=1):
            try:
                self._check_not_state(path, folder)  # before anything is made in there
                self._check_name_in(path, folder, name)
                deeper = self._open_or_make_one(folder, "/".join(parts[:depth]), name)
            finally:
                os.close(folder)
            folder = deeper
        return folder

    def _open_or_make_one(self, folder: int, so_far: str, name: str) -> int:
        try:
            return self._open_beneath(self._root, so_far, FOLDER_FLAGS)
        except FileNotFoundError:
            try:
                os.mkdir(name, dir_fd=folder)
                adopt(folder, name)
            except FileExistsError:
                pass  # made by somebody else just now, or a link to nowhere: opening tells
        return self._open_beneath(self._root, so_far, FOLDER_FLAGS)


def changed_meanwhile(path: str) -> ToolError:
    """The failure for a file that changed between a look at it and its change."""
    message = f"{path!r} was changed by a command just now; read it again, then change it"
    return ToolError(Code.CONFLICT, message)


def _place_of(descriptor: int) -> str:
    return os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115 - a magic link, not a path


def _names(descriptor: int, *, hide_state: bool) -> Iterator[str]:
    with os.scandir(descriptor) as entries:
        for scanned, entry in enumerate(entries):
            if scanned >= ENTRIES_SCANNED_MAX:
                return
            if not (hide_state and is_state_folder(entry.name)):
                yield entry.name


def _entry(parent: int, name: str) -> Entry | None:
    found = stat_or_none(parent, name)
    if found is None:
        return None
    return Entry(shown(name), type_of(found), found.st_size, found.st_mtime)
