"""Changes of a workspace beside writing whole files: append, move, delete, make. Not the tools.

Every function works on a name in a folder that is held open, so that no link leads it elsewhere.
"""

import errno
import os
import stat
from collections.abc import Callable

from services.sandbox.disk import (
    adopt,
    check_changeable,
    named_errors,
    shown,
    stamp_of,
    stat_or_none,
    sync_folder,
    type_of,
    write_all,
)
from services.sandbox.failures import Code, ToolError
from services.sandbox.renaming import rename_to_new
from services.sandbox.trees import remove_tree
from services.sandbox.workspace import (
    FILE_BYTES_MAX,
    Guard,
    Named,
    Workspace,
    Written,
    changed_meanwhile,
)

APPEND_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY


def append(workspace: Workspace, path: str, content: bytes, guard: Guard) -> Written:
    """Add to the end of a file that exists; what is there already is not touched.

    Raises:
        ToolError: no such file, not a plain file of its own, too large; nothing changed.
    """
    with named_errors(path), workspace.named(path) as (folder, name, place):
        _check_exists(path, stat_or_none(folder, name), name, folder)
        descriptor = os.open(name, APPEND_FLAGS | os.O_CLOEXEC, dir_fd=folder)
        try:
            found = os.fstat(descriptor)
            check_changeable(path, name, folder, found)
            guard(place, stamp_of(found))
            if found.st_size + len(content) > FILE_BYTES_MAX:
                message = f"{path!r} would have more than {FILE_BYTES_MAX} bytes"
                raise ToolError(Code.TOO_LARGE, message, size=found.st_size)
            try:
                write_all(descriptor, content)
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, found.st_size)
                raise
            return Written(created=False, place=place, stamp=stamp_of(os.fstat(descriptor)))
        finally:
            os.close(descriptor)


def _check_exists(path: str, found: os.stat_result | None, name: str, folder: int) -> None:
    if found is None:
        message = f"{path!r} does not exist; create it with writeTextFile"
        raise ToolError(Code.NOT_FOUND, message)
    check_changeable(path, name, folder, found)


def move(
    workspace: Workspace, source: str, destination: str, guard: Guard, *, overwrite: bool
) -> tuple[str, Written]:
    """Give a file, link or folder another name; where it was, and where it is.

    Raises:
        ToolError: no source, a destination that exists, or a place outside; nothing moved.
    """
    with named_errors(source), workspace.named(source) as old:
        found = stat_or_none(old.folder, old.name)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        guard(old.place, stamp_of(found))
        with named_errors(destination), workspace.named(destination, make=True) as new:
            there = stat_or_none(new.folder, new.name)
            if there is not None and overwrite:
                _check_gives_way(destination, there)
                guard(new.place, stamp_of(there))
            _rename(source, old, new, overwrite=overwrite and there is not None)
            stamp = stamp_of(os.stat(new.name, dir_fd=new.folder, follow_symlinks=False))
            sync_folder(new.folder)
            sync_folder(old.folder)
    return old.place, Written(there is None, new.place, stamp)


def _check_gives_way(path: str, there: os.stat_result) -> None:
    if stat.S_ISDIR(there.st_mode):
        raise ToolError(Code.IS_DIRECTORY, f"{path!r} is a directory; delete it first")


def _rename(source: str, old: Named, new: Named, *, overwrite: bool) -> None:
    try:
        if overwrite:
            os.rename(old.name, new.name, src_dir_fd=old.folder, dst_dir_fd=new.folder)
        else:
            rename_to_new(old.folder, old.name, new.folder, new.name)
    except OSError as error:
        if error.errno == errno.EINVAL:
            message = f"{source!r} cannot be moved into itself"
            raise ToolError(Code.INVALID_PATH, message) from None
        raise


def delete(
    workspace: Workspace,
    path: str,
    guard: Guard,
    *,
    recursive: bool,
    stopped: Callable[[], bool] = lambda: False,
) -> tuple[str, int]:
    """Remove a file or a link, or a folder with all that is in it; where it was, how many went.

    `stopped` is asked time and again whether to leave the rest of a folder as it is.

    Raises:
        ToolError: no such entry, a folder without `recursive`, one that fills up again, or a stop
                in between.
    """
    with named_errors(path), workspace.named(path) as (folder, name, place):
        found = stat_or_none(folder, name)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        guard(place, stamp_of(found))
        if not stat.S_ISDIR(found.st_mode):
            again = stat_or_none(folder, name)
            if again is None or stamp_of(again) != stamp_of(found):
                raise changed_meanwhile(path)
            os.unlink(name, dir_fd=folder)
            removed = 1
        elif recursive:
            removed = remove_tree(folder, name, stopped)
        else:
            message = f"{path!r} is a directory; give recursive to delete it with all in it"
            raise ToolError(Code.IS_DIRECTORY, message)
        sync_folder(folder)
        return place, removed


def make_folder(workspace: Workspace, path: str) -> bool:
    """Make a folder, with those above it; whether it was new.

    Raises:
        ToolError: something else has that name, or it leads outside.
    """
    with named_errors(path), workspace.named(path, make=True) as (folder, name, _):
        try:
            os.mkdir(name, dir_fd=folder)
        except FileExistsError:
            found = stat_or_none(folder, name)
            if found is not None and not stat.S_ISDIR(found.st_mode):
                message = f"{path!r} is a {type_of(found)} already"
                raise ToolError(Code.ALREADY_EXISTS, message) from None
            return False
        adopt(folder, name)
        sync_folder(folder)
    return True


def describe(workspace: Workspace, path: str) -> tuple[os.stat_result, str | None]:
    """What an entry is, and what it says if it is a link, whose target is not looked at.

    Raises:
        ToolError: no such entry, or outside.
    """
    with named_errors(path):
        if workspace.names_root(path):
            return os.fstat(workspace.fileno()), None
        with workspace.named(path) as (folder, name, _):
            found = stat_or_none(folder, name)
            if found is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            link = stat.S_ISLNK(found.st_mode)
            return found, shown(os.readlink(name, dir_fd=folder)) if link else None
